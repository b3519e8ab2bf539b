//! The table of syncs under way.
//!
//! Most threads have a slot of their own there, by their number, and need no
//! hash map, whose inserts and deletes cost more than all else that a sync
//! takes. A counter per slot says how many syncs want it. So a thread that is in no
//! sync finds that out from one word, and a thread that adds to the counter and reads 1
//! has the slot to itself. A thread whose slot is taken uses a hash map.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap},
};
use tracer_ebpf::{dropped::Dropped, open_sync::PLACES};

use super::state::OpenSync;
use crate::{
    cell::MapCell,
    maps::{BPF_ANY, Lookup as _, count_drop},
};

/// How many syncs want each slot.
#[map]
static SYNCING: Array<u64> = Array::with_max_entries(PLACES, BPF_F_MMAPABLE);

/// The syncs of the threads that have a slot to themselves. Nobody maps this table, but the
/// values of a table that can be mapped begin on a page, and so lie on whole cache lines.
#[map]
static PLACED_SYNCS: Array<OpenSync> = Array::with_max_entries(PLACES, BPF_F_MMAPABLE);

/// The syncs of all other threads, by tid.
#[map]
static OTHER_SYNCS: HashMap<u32, OpenSync> = HashMap::with_max_entries(512, 0);

/// An empty entry to insert: it would not fit on the stack.
#[map]
static EMPTY_SYNC: Array<OpenSync> = Array::with_max_entries(1, 0);

/// The entry of a thread, if it is in a sync or a commit. Only that thread opens and closes
/// it. Words that other CPUs write, too, are changed by atomic adds, or are right whichever
/// write comes last.
#[inline(always)]
pub fn sync_of_thread(tid: u32) -> Option<MapCell<OpenSync>> {
    if SYNCING.cell(tid % PLACES)?.get() == 0 {
        return None;
    }
    let placed = PLACED_SYNCS.cell(tid % PLACES)?;
    if placed.tid().get() == tid { Some(placed) } else { OTHER_SYNCS.cell(&tid) }
}

/// As [`sync_of_thread`], for a thread that was in a sync a moment ago. It looks at the
/// thread's own slot first, because the completion of a request changes that cache line
/// anyway. The counter, which is written on another CPU, is read only if the slot is
/// another thread's by now.
#[inline(always)]
pub fn sync_of_syncing_thread(tid: u32) -> Option<MapCell<OpenSync>> {
    let placed = PLACED_SYNCS.cell(tid % PLACES)?;
    if placed.tid().get() == tid {
        return Some(placed);
    }
    if SYNCING.cell(tid % PLACES)?.get() == 0 {
        return None;
    }
    OTHER_SYNCS.cell(&tid)
}

/// The entry of the running thread.
#[inline(always)]
pub fn current_sync() -> Option<MapCell<OpenSync>> {
    sync_of_thread(bpf_get_current_pid_tgid() as u32)
}

/// Opens an empty entry for a thread. If it has one, that sync is over, and its end was not
/// seen.
#[inline(always)]
pub fn open(tid: u32, seq: u32) -> Option<MapCell<OpenSync>> {
    let sync = match sync_of_thread(tid) {
        Some(known) => known,
        None => claim(tid)?,
    };
    // The number is set first, so that late completions of an earlier sync's requests are
    // not added.
    sync.seq().set(seq);
    sync.clear();
    sync.tid().set(tid);
    Some(sync)
}

/// Closes the entry of a thread.
#[inline(always)]
pub fn close(tid: u32) {
    let Some(placed) = PLACED_SYNCS.cell(tid % PLACES) else { return };
    // The slot stays this thread's while its entry says so, and is given to another only
    // when the counter is back at 0.
    if placed.tid().get() == tid {
        placed.tid().set(0);
    } else if OTHER_SYNCS.remove(tid).is_err() {
        return;
    }
    count(tid, u64::MAX);
}

/// A new entry for a thread that has none.
#[inline(always)]
fn claim(tid: u32) -> Option<MapCell<OpenSync>> {
    if count(tid, 1) == 1 {
        // No other thread has this slot.
        return PLACED_SYNCS.cell(tid % PLACES);
    }
    let empty = EMPTY_SYNC.get(0)?;
    if OTHER_SYNCS.insert(tid, empty, BPF_ANY).is_err() {
        count(tid, u64::MAX);
        count_drop(Dropped::SyncTableFull);
        return None;
    }
    OTHER_SYNCS.cell(&tid)
}

/// Adds `more` (modulo 2^64) to the number of syncs that want a thread's slot, and returns
/// the sum. It is 1 for a thread that has the slot to itself, and never for two threads at
/// the same time.
#[inline(always)]
fn count(tid: u32, more: u64) -> u64 {
    let Some(syncing) = SYNCING.cell(tid % PLACES) else { return 0 };
    syncing.add(more);
    syncing.get()
}
