//! Finds who fills a filesystem's journal, and whose open handles hold up its commits.
//!
//! A commit writes what all tasks put into its transaction, and a sync waits
//! for the whole of it. Each task that changes metadata does so within a handle
//! and says at its end how many blocks it dirtied: a block of one transaction
//! counts once, for the first that dirtied it.
//!
//! A commit begins by waiting for the handles of its transaction that are still open. A task
//! that sleeps with one, because a limit stops it, holds up all who sync.
//!
//! A commit writes files' data too, which must go before the transaction: those
//! are charged to who dirtied the files, see [`dirtier`].
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/jbd2.h>:
//! - jbd2_submit_inode_data(struct inode *), then jbd2_commit_logging(journal_t
//!   *, transaction_t *)
//! - jbd2_handle_stats(dev_t, tid_t, unsigned int type, unsigned int line, int
//!   interval, int sync, int requested_blocks, int dirtied_blocks)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::record::via;

use crate::{dirtier, fields::Kernel, filled::fill, journals::end_handle, submitter::Submitter};

#[btf_tracepoint(function = "jbd2_handle_stats")]
pub fn jbd2_handle_stats(ctx: BtfTracePointContext) -> i32 {
    let device: u32 = ctx.arg(0);
    let blocks: i32 = ctx.arg(7);
    // It ends only after this: the commit still waits for it.
    let held_ns = end_handle(device);
    if blocks <= 0 && held_ns == 0 {
        return 0;
    }
    let mut who = Submitter::current(0);
    if who.is_kernel() {
        dirtier::stand_in_for_file(&mut who);
    }
    fill(device, &who, blocks.max(0) as u64, held_ns);
    0
}

#[btf_tracepoint(function = "jbd2_submit_inode_data")]
pub fn jbd2_submit_inode_data(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_inode(Kernel(ctx.arg(0)), u32::from(via::JOURNAL));
    0
}

/// From here on the journal writes its own blocks.
///
/// `journal` has a program on this tracepoint, too. They are two, because each capability is
/// attached only while it is needed, and this one may be needed without the other.
#[btf_tracepoint(function = "jbd2_commit_logging")]
pub fn jbd2_data_submitted(_ctx: BtfTracePointContext) -> i32 {
    // Most commits write no inode's data: that nothing is known means nothing.
    dirtier::end_inode();
    0
}
