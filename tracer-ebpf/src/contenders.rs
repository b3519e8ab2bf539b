//! Charges tasks for the CPU time that a syncing thread waited for.
//!
//! When a thread is switched in, whoever ran longest on that CPU while it waited is charged
//! with the wait that has just ended ([`runs`](crate::runs)). The scheduler counts how long that was by the
//! time the thread is switched out again, or its sync ends.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap},
};
use tracer_ebpf::{
    open_sync::{Contender, HELPERS as PLACES},
    record::ContenderKey,
};

use crate::{
    cell::{MapCell, fields},
    maps::{Lookup as _, sum_of},
    pids,
};

/// The nanoseconds for which the syncs of a process waited behind each contender.
#[map]
static CONTENDERS: LruHashMap<ContenderKey, u64> = LruHashMap::with_max_entries(512, 0);
#[map]
static CONTENDERS_NEW: Array<u64> = Array::with_max_entries(1, 0);

/// Helper threads that syncs wait for, by slot; user space sets them.
#[map]
static HELPERS: Array<u32> = Array::with_max_entries(PLACES, 0);
#[map]
static HELPER_CONTENDERS: Array<Contender> = Array::with_max_entries(PLACES, 0);

/// The contender of a thread that syncs wait for.
#[inline(always)]
pub fn of_helper(tid: u32) -> Option<MapCell<Contender>> {
    // A slot without a thread holds 0, which is also the tid of an idle CPU.
    if tid == 0 || HELPERS.cell(tid % PLACES)?.get() != tid {
        return None;
    }
    HELPER_CONTENDERS.cell(tid % PLACES)
}

fields! { Contender { known: u32, run_delay: u64 } }

/// Charges the contender of the running thread's sync with the wait that ended when
/// the thread was switched in.
#[inline(always)]
pub fn charge(contender: MapCell<Contender>, run_delay: u64) {
    if contender.known().get() == 0 {
        return;
    }
    let contender = contender.get();
    let ns = run_delay.saturating_sub(contender.run_delay);
    if ns == 0 {
        return;
    }
    let key = ContenderKey {
        cgroup: contender.cgroup,
        comm: contender.comm,
        kthread: contender.kthread,
        victim_tgid: pids::current_tgid(),
    };
    if let Some(sum) = sum_of(&CONTENDERS, &CONTENDERS_NEW, &key, 0) {
        sum.add(ns);
    }
}
