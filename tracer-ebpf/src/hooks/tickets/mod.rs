//! Hooks that say who fills the log of an xfs.
//!
//! A transaction reserves room in the log (its ticket), and what it changed takes
//! of that: what was not in the log's current checkpoint already, so that a buffer
//! counts once in a checkpoint, for the first who changed it. Whoever forces the
//! log waits for the whole checkpoint, which a kernel worker writes.
//!
//! A transaction may be a kernel worker's: it takes apart the files that somebody
//! deleted, or notes that what somebody wrote is written. Then it is theirs. Of all
//! others nothing is counted, as they stand for those who filled the log: the
//! worker that writes a checkpoint, say, has a ticket too.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/fs/xfs/xfs_trace.h>, of the first
//! two from 5.7 on, of the others from 5.14 on:
//! - xfs_log_ticket_ungrant, xfs_log_ticket_regrant(struct xlog *, struct
//!   xlog_ticket *), before what is left is given back
//! - xfs_inode_set_need_inactive(struct xfs_inode *), in the context of who deleted
//!   the file, or closed it last
//! - xfs_inode_inactivating, xfs_inode_set_reclaimable(struct xfs_inode *), around a
//!   worker's taking it apart
//! - xfs_unwritten_convert, xfs_setfilesize(struct xfs_inode *, xfs_off_t, size_t),
//!   before the transaction

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    dirtier,
    fields::{FileKey, Kernel, config, file_key, ticket_used, xlog_device},
    filled::fill,
    submitter::Submitter,
};

#[btf_tracepoint(function = "xfs_log_ticket_ungrant")]
pub fn xfs_log_ticket_ungrant(ctx: BtfTracePointContext) -> i32 {
    charge_ticket(&ctx);
    dirtier::end_transaction();
    0
}

#[btf_tracepoint(function = "xfs_log_ticket_regrant")]
pub fn xfs_log_ticket_regrant(ctx: BtfTracePointContext) -> i32 {
    charge_ticket(&ctx);
    0
}

/// Charges the running task with the room of the log that its ticket used.
#[inline(always)]
fn charge_ticket(ctx: &BtfTracePointContext) {
    let bytes = ticket_used(Kernel(ctx.arg(1)));
    if bytes == 0 {
        return;
    }
    let mut who = Submitter::current(0);
    if who.is_kernel() {
        dirtier::stand_in_for_file(&mut who);
    }
    if !who.is_helper() {
        fill(xlog_device(Kernel(ctx.arg(0))), &who, bytes, 0);
    }
}

#[btf_tracepoint(function = "xfs_inode_set_need_inactive")]
pub fn xfs_inode_set_need_inactive(ctx: BtfTracePointContext) -> i32 {
    dirtier::note_user(file_of(&ctx));
    0
}

#[btf_tracepoint(function = "xfs_inode_inactivating")]
pub fn xfs_inode_inactivating(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_file(file_of(&ctx));
    0
}

#[btf_tracepoint(function = "xfs_inode_set_reclaimable")]
pub fn xfs_inode_set_reclaimable(_ctx: BtfTracePointContext) -> i32 {
    // It fires for files that nobody had to take apart, too.
    dirtier::end_inode();
    0
}

#[btf_tracepoint(function = "xfs_unwritten_convert")]
pub fn xfs_unwritten_convert(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_transaction(file_of(&ctx));
    0
}

#[btf_tracepoint(function = "xfs_setfilesize")]
pub fn xfs_setfilesize(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_transaction(file_of(&ctx));
    0
}

#[inline(always)]
fn file_of(ctx: &BtfTracePointContext) -> FileKey {
    file_key(Kernel(ctx.arg(0)), config!(xfs_inode_vnode))
}
