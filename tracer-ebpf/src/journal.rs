//! How long each journal has been committing.
//!
//! A journal has one commit under way at a time, in its own kernel thread, so
//! one start time and one sum per journal are enough.
//!
//! Prototypes (include/trace/events/jbd2.h):
//! - jbd2_start_commit, jbd2_end_commit(journal_t *, transaction_t *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::record::Journal;

use crate::{
    clock::now_ns,
    fields::{Kernel, journal_device},
    maps::JOURNALS,
};

#[btf_tracepoint(function = "jbd2_start_commit")]
pub fn jbd2_start_commit(ctx: BtfTracePointContext) -> i32 {
    let device = journal_device(Kernel(ctx.arg(0)));
    let now = now_ns();
    match JOURNALS.get_ptr_mut(device) {
        // SAFETY: only this journal's own thread writes to its entry.
        Some(journal) => unsafe { (*journal).since_ns = now },
        None => {
            let journal = Journal { since_ns: now, busy_ns: 0, commits: 0 };
            let _ = JOURNALS.insert(device, journal, 0);
        }
    }
    0
}

#[btf_tracepoint(function = "jbd2_end_commit")]
pub fn jbd2_end_commit(ctx: BtfTracePointContext) -> i32 {
    let device = journal_device(Kernel(ctx.arg(0)));
    let Some(journal) = JOURNALS.get_ptr_mut(device) else { return 0 };
    // SAFETY: only this journal's own thread writes to its entry.
    let journal = unsafe { &mut *journal };
    if journal.since_ns != 0 {
        let now = now_ns();
        journal.busy_ns += now.saturating_sub(journal.since_ns);
        journal.commits += 1;
        journal.since_ns = 0;
    }
    0
}

/// Nanoseconds that a filesystem's journal has been committing up to `now`.
#[inline(always)]
pub fn busy_ns(device: u32, now: u64) -> u64 {
    let Some(journal) = JOURNALS.get_ptr(device) else { return 0 };
    // SAFETY: plain words. A reader between the two stores of an end is off by
    // that one commit; user space bounds the phase by the sync's own length.
    let (since, busy) = unsafe { ((*journal).since_ns, (*journal).busy_ns) };
    if since == 0 { busy } else { busy + now.saturating_sub(since) }
}
