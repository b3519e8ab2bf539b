//! Finds whose data a kernel worker writes back.
//!
//! The task that makes a clean inode dirty is remembered, and a thread that begins to
//! write the inode back writes for that task: see [`dirtier`].
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/writeback.h>:
//! - writeback_dirty_inode_enqueue(struct inode *), in the dirtier's context
//! - writeback_single_inode_start, writeback_single_inode(struct inode *,
//!   struct writeback_control *, unsigned long), around the writing of one

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::{dropped::Dropped, record::via};

use crate::{dirtier, fields::Kernel, maps::count_drop};

#[btf_tracepoint(function = "writeback_dirty_inode_enqueue")]
pub fn writeback_dirty_inode_enqueue(ctx: BtfTracePointContext) -> i32 {
    dirtier::note_dirtier(Kernel(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "writeback_single_inode_start")]
pub fn writeback_single_inode_start(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_inode(Kernel(ctx.arg(0)), u32::from(via::WRITEBACK));
    0
}

#[btf_tracepoint(function = "writeback_single_inode")]
pub fn writeback_single_inode(_ctx: BtfTracePointContext) -> i32 {
    // Its begin has made an entry, in this very thread.
    if !dirtier::end_inode() {
        count_drop(Dropped::KernelEvicted);
    }
    0
}
