//! When a filesystem's journal commits.
//!
//! A commit is like a sync of the journal's own thread: its requests are credited
//! to it, and when it ends they go into the journal's sums, as parts of the span
//! in which they overlapped.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/jbd2.h>:
//! - jbd2_start_commit, jbd2_commit_locking, jbd2_commit_flushing,
//!   jbd2_commit_logging, jbd2_end_commit(journal_t *, transaction_t *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::record::{Journal, commit};

use crate::{
    clock::now_ns,
    fields::{Kernel, journal_device},
    journals::{JOURNALS, NO_STAGE, end_stage},
    maps::Lookup as _,
    syncs::commit::{begin_commit, end_commit},
};

#[btf_tracepoint(function = "jbd2_start_commit")]
pub fn jbd2_start_commit(ctx: BtfTracePointContext) -> i32 {
    let device = journal_device(Kernel(ctx.arg(0)));
    let now = now_ns();
    begin_commit();
    match JOURNALS.cell(&device) {
        Some(journal) => journal.since_ns().set(now),
        None => {
            let journal = Journal {
                since_ns: now,
                busy_ns: 0,
                commits: 0,
                queue_ns: 0,
                device_ns: 0,
                stage: NO_STAGE,
                stage_since_ns: 0,
                stage_ns: [0; commit::COUNT],
                handle_ended_ns: 0,
            };
            let _ = JOURNALS.insert(device, journal, 0);
        }
    }
    0
}

#[btf_tracepoint(function = "jbd2_commit_locking")]
pub fn jbd2_commit_locking(ctx: BtfTracePointContext) -> i32 {
    enter(Kernel(ctx.arg(0)), commit::LOCKING)
}

#[btf_tracepoint(function = "jbd2_commit_flushing")]
pub fn jbd2_commit_flushing(ctx: BtfTracePointContext) -> i32 {
    enter(Kernel(ctx.arg(0)), commit::FLUSHING)
}

#[btf_tracepoint(function = "jbd2_commit_logging")]
pub fn jbd2_commit_logging(ctx: BtfTracePointContext) -> i32 {
    enter(Kernel(ctx.arg(0)), commit::LOGGING)
}

#[btf_tracepoint(function = "jbd2_end_commit")]
pub fn jbd2_end_commit(ctx: BtfTracePointContext) -> i32 {
    let device = journal_device(Kernel(ctx.arg(0)));
    let (queue_ns, device_ns) = end_commit();
    let Some(journal) = JOURNALS.cell(&device) else { return 0 };
    let since_ns = journal.since_ns().get();
    if since_ns != 0 {
        let now = now_ns();
        end_stage(journal, now);
        journal.stage().set(NO_STAGE);
        journal.queue_ns().add_alone(queue_ns);
        journal.device_ns().add_alone(device_ns);
        journal.busy_ns().add_alone(now.saturating_sub(since_ns));
        journal.commits().add_alone(1);
        journal.since_ns().set(0);
    }
    0
}

/// The commit's next part begins.
#[inline(always)]
fn enter(journal: Kernel, stage: usize) -> i32 {
    let Some(journal) = JOURNALS.cell(&journal_device(journal)) else { return 0 };
    // One that had begun before the programs were attached is not counted.
    if journal.since_ns().get() != 0 {
        let now = now_ns();
        end_stage(journal, now);
        journal.handle_ended_ns().set(now);
        journal.stage().set(stage as u64);
        journal.stage_since_ns().set(now);
    }
    0
}
