//! Finds out who freezes a filesystem (`fsfreeze`, a snapshot of its volume): see [`frozen`].
//!
//! To freeze a filesystem the kernel syncs it, and ext4 and xfs have a tracepoint there, which runs
//! in the context of the one who freezes. The end of a freeze is seen by `writeback`.
//!
//! Prototypes, of which only the first argument is read:
//! - ext4_sync_fs(struct super_block *, int), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/ext4.h>
//! - xfs_fs_sync_fs(struct xfs_mount *, void *), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/fs/xfs/xfs_trace.h>

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    fields::{Kernel, xfs_super},
    frozen,
};

#[btf_tracepoint(function = "ext4_sync_fs")]
pub fn ext4_freeze(ctx: BtfTracePointContext) -> i32 {
    frozen::begin(Kernel(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "xfs_fs_sync_fs")]
pub fn xfs_freeze(ctx: BtfTracePointContext) -> i32 {
    frozen::begin(xfs_super(Kernel(ctx.arg(0))));
    0
}
