//! How long each journal has been committing, and what its commits waited for.
//!
//! A journal has one commit under way at a time, in its own kernel thread, so
//! one start time and one sum per journal are enough.

use aya_ebpf::{macros::map, maps::HashMap};
use tracer_ebpf::record::{Journal, commit};

/// The journals, by the device number of their filesystem.
#[map]
pub static JOURNALS: HashMap<u32, Journal> = HashMap::with_max_entries(256, 0);

/// No part of a commit that is known.
pub const NO_STAGE: u64 = commit::COUNT as u64;

/// The part of the commit that is under way ends.
#[inline(always)]
pub fn end_stage(journal: &mut Journal, now: u64) {
    let ns = now.saturating_sub(journal.stage_since_ns);
    // Compared one by one: an index from a map is any number to the verifier.
    for stage in 0..commit::COUNT {
        if journal.stage == stage as u64 {
            journal.stage_ns[stage] += ns;
        }
    }
}

/// Sums over a journal's commits, all in ns.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Totals {
    pub busy_ns: u64,
    pub queue_ns: u64,
    pub device_ns: u64,
    pub stage_ns: [u64; commit::COUNT],
}

impl Totals {
    pub const NONE: Self =
        Self { busy_ns: 0, queue_ns: 0, device_ns: 0, stage_ns: [0; commit::COUNT] };
}

/// What a filesystem's journal spent in commits up to `now`.
#[inline(always)]
pub fn totals(device: u32, now: u64) -> Totals {
    let Some(journal) = JOURNALS.get_ptr(device) else { return Totals::NONE };
    // SAFETY: plain words. A reader between two stores of an end is off by that
    // one commit; user space bounds the phase by the sync's own length.
    let journal = unsafe { &*journal };
    let mut totals = Totals {
        busy_ns: journal.busy_ns,
        queue_ns: journal.queue_ns,
        device_ns: journal.device_ns,
        stage_ns: journal.stage_ns,
    };
    if journal.since_ns != 0 {
        totals.busy_ns += now.saturating_sub(journal.since_ns);
        let ns = now.saturating_sub(journal.stage_since_ns);
        for stage in 0..commit::COUNT {
            if journal.stage == stage as u64 {
                totals.stage_ns[stage] += ns;
            }
        }
    }
    totals
}
