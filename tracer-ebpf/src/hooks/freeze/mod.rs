//! Finds out who freezes a filesystem (`fsfreeze`, a snapshot of its volume), see [`frozen`]. It also
//! finds out who has all dirty data of a filesystem written, as `umount` does, see [`whole`].
//!
//! To freeze a filesystem the kernel syncs it, and ext4 and xfs have a tracepoint there, which runs
//! in the context of the one who freezes. The end of a freeze is seen by `writeback`. Before that
//! the flusher threads are asked to write its dirty data, on any filesystem and in that context too.
//!
//! Prototypes, of which only the first argument is read, and the second of the last:
//! - ext4_sync_fs(struct super_block *, int), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/ext4.h>
//! - xfs_fs_sync_fs(struct xfs_mount *, void *), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/fs/xfs/xfs_trace.h>
//! - writeback_queue(struct bdi_writeback *, struct wb_writeback_work *), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/writeback.h>

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    fields::{Kernel, flushing, xfs_super},
    frozen, whole,
};

#[btf_tracepoint(function = "ext4_sync_fs")]
pub fn ext4_freeze(ctx: BtfTracePointContext) -> i32 {
    synced(Kernel(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "xfs_fs_sync_fs")]
pub fn xfs_freeze(ctx: BtfTracePointContext) -> i32 {
    synced(xfs_super(Kernel(ctx.arg(0))));
    0
}

/// A filesystem is asked to sync itself.
#[inline(always)]
fn synced(sb: Kernel) {
    frozen::begin(sb);
    whole::go_on(sb);
}

/// Dirty data is to be written. If a filesystem has none, nobody waits for its writing either.
#[btf_tracepoint(function = "writeback_queue")]
pub fn writeback_queue(ctx: BtfTracePointContext) -> i32 {
    let asked = flushing(Kernel(ctx.arg(1)));
    if !asked.sb.is_null() {
        frozen::begin(asked.sb);
        whole::begin(asked);
    }
    0
}
