//! Finds who freed the space that a kernel thread discards.
//!
//! A filesystem that is mounted with `discard` discards what was freed once the transaction that
//! freed it is on the disk: some seconds after somebody deleted a file, and by a kernel worker. On
//! ext4 before 5.15 it is the journal's own thread
//! (<https://github.com/torvalds/linux/commit/55cdd0af2bc5>). So whoever frees blocks is noted with
//! their place, and is looked up by it when the blocks are discarded.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::LruHashMap};
use tracer_ebpf::{
    dropped::Dropped,
    record::{COMM, DiskLedger, op, via},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    cell::MapCell,
    clock::now_ns,
    dirtier,
    maps::{BPF_ANY, Lookup as _, count_drop},
    submitter::{Submitter, in_kernel_thread},
};

/// A thread submits its discards within this time after it began with them. A worker that does
/// something else later is not mistaken.
const LASTS_NS: u64 = 10_000_000_000;

/// A disk that no sync waited for within this time has no victim to judge.
const WATCHED_NS: u64 = 60_000_000_000;

/// A place in a filesystem.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    pub filesystem: u64,
    pub at: u64,
}

/// The actor that freed blocks.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Freer {
    cgroup: u64,
    comm: [u8; COMM],
    /// Its process, or [`NOBODY`] or [`UNKNOWN`].
    tgid: u64,
    at_ns: u64,
}

/// A kernel thread freed them, and it is not known for whom it works.
const NOBODY: u64 = u64::MAX;
/// Nobody was noted for the place: they were freed before the hooks were attached, or the kernel
/// evicted the entry.
const UNKNOWN: u64 = u64::MAX - 1;

/// Beyond this number of places the kernel evicts those that were not used for longest. Their
/// discards stay the kernel thread's, and are counted then.
#[map]
static FREED: LruHashMap<Place, Freer> = LruHashMap::with_max_entries(4096, 0);

/// For whom a kernel thread discards, by tid. Only that thread writes its entry.
#[map]
static DISCARDING: LruHashMap<u32, Freer> = LruHashMap::with_max_entries(1024, 0);

impl Freer {
    /// The running task, or the one for whom a kernel thread takes a deleted file apart.
    #[inline(always)]
    pub fn current() -> Self {
        let mut who = Submitter::current(0);
        if who.is_kernel() {
            dirtier::stand_in_for_file(&mut who);
        }
        let Submitter { cgroup, comm, tgid, .. } = who;
        let tgid = if who.is_kernel() { NOBODY } else { u64::from(tgid) };
        Self { cgroup, comm, tgid, at_ns: 0 }
    }

    /// It frees blocks at this place.
    #[inline(always)]
    pub fn note(&self, place: &Place) {
        let _ = FREED.insert(*place, *self, BPF_ANY);
    }
}

/// The running thread, if it is one of the kernel, is about to discard what was freed at the
/// first of these places that is known. `fstrim` discards by itself.
#[inline(always)]
pub fn begin_discard(place: &Place, or: &Place) {
    if !in_kernel_thread() {
        return;
    }
    let mut freer = Freer { cgroup: 0, comm: [0; COMM], tgid: UNKNOWN, at_ns: 0 };
    if let Some(known) = FREED.cell(place).or_else(|| FREED.cell(or)) {
        freer = known.get();
    }
    freer.at_ns = now_ns();
    let _ = DISCARDING.insert(bpf_get_current_pid_tgid() as u32, freer, BPF_ANY);
}

/// Puts the actor that freed the space in the place of a kernel thread that discards it on a disk.
#[inline(never)]
pub fn stand_in(who: &mut Submitter, operation: u32, ledger: MapCell<DiskLedger>) -> i32 {
    if operation != op::DISCARD || !who.is_kernel() {
        return 0;
    }
    let Some(freer) = DISCARDING.cell(&who.tid) else { return 0 };
    let freer = freer.get();
    let now = who.submitted_ns;
    if freer.tgid == NOBODY || now.saturating_sub(freer.at_ns) > LASTS_NS {
        return 0;
    }
    if freer.tgid == UNKNOWN {
        if now.saturating_sub(ledger.synced_ns().get()) < WATCHED_NS {
            count_drop(Dropped::DirtierUnknown);
        }
        return 0;
    }
    who.cgroup = freer.cgroup;
    who.comm = freer.comm;
    who.tgid = freer.tgid as u32;
    who.kthread = 0;
    who.via = u32::from(via::FREED);
    0
}
