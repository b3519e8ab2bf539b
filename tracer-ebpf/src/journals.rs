//! How long each journal has been committing, and what its commits waited for.
//!
//! A journal has one commit under way at a time, in its own kernel thread, so
//! one start time and one sum per journal are enough.

use aya_ebpf::{macros::map, maps::HashMap};
use tracer_ebpf::{
    open_sync::Totals,
    record::{Journal, commit},
};

use crate::{
    cell::{MapCell, fields},
    clock::now_ns,
    maps::Lookup as _,
};

/// The journals, by the device number of their filesystem.
#[map]
pub static JOURNALS: HashMap<u32, Journal> = HashMap::with_max_entries(256, 0);

/// No part of a commit that is known.
pub const NO_STAGE: u64 = commit::COUNT as u64;

fields! {
    Journal {
        since_ns: u64,
        busy_ns: u64,
        commits: u64,
        queue_ns: u64,
        device_ns: u64,
        stage: u64,
        stage_since_ns: u64,
        stage_ns: [u64; commit::COUNT],
        handle_ended_ns: u64,
    }
}

/// The part of the commit that is under way ends. Only the journal's own thread
/// writes to its entry.
#[inline(always)]
pub fn end_stage(journal: MapCell<Journal>, now: u64) {
    let ns = now.saturating_sub(journal.stage_since_ns().get());
    let ended = journal.stage().get();
    // Compared one by one: an index from a map is any number to the verifier.
    for stage in 0..commit::COUNT {
        if ended == stage as u64 {
            journal.stage_ns().at(stage).add_alone(ns);
        }
    }
}

/// A handle of a filesystem's journal ends: returns for how long the commit under way waited for
/// it alone, or for it and those that end later. A commit waits for the last of all open handles,
/// and no new ones begin meanwhile, so each answers for the time since the one before it ended.
#[inline(always)]
pub fn end_handle(device: u32) -> u64 {
    let Some(journal) = JOURNALS.cell(&device) else { return 0 };
    if journal.stage().get() != commit::LOCKING as u64 {
        return 0;
    }
    // If two end at once, both may count the same time, which is as short as they are close.
    let now = now_ns();
    let before = journal.handle_ended_ns().get();
    journal.handle_ended_ns().set(now);
    now.saturating_sub(before)
}

/// The time that a filesystem's journal spent in commits up to `now`.
#[inline(always)]
pub fn totals(device: u32, now: u64) -> Totals {
    // A reader between two stores of an end is off by that one commit; user space
    // bounds the phase by the sync's own length.
    let Some(journal) = JOURNALS.cell(&device) else { return Totals::NONE };
    let mut totals = Totals {
        busy_ns: journal.busy_ns().get(),
        queue_ns: journal.queue_ns().get(),
        device_ns: journal.device_ns().get(),
        stage_ns: journal.stage_ns().get(),
    };
    let since_ns = journal.since_ns().get();
    if since_ns != 0 {
        totals.busy_ns += now.saturating_sub(since_ns);
        let ns = now.saturating_sub(journal.stage_since_ns().get());
        let under_way = journal.stage().get();
        for stage in 0..commit::COUNT {
            if under_way == stage as u64 {
                totals.stage_ns[stage] += ns;
            }
        }
    }
    totals
}
