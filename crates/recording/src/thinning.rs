//! Chooses the syncs that a flight recorder keeps one by one, and adds up the others.
//!
//! Most syncs are fast, and like each other: they would fill the recording and say
//! nothing that their sums do not. So the slowest fiftieth of a victim's syncs are kept,
//! all that took a tenth of a second or longer, and one of a hundred others. The rest is
//! added up each second, by how long they took and by who had requests in flight
//! meanwhile, since baselines, quantiles and evidence are made of that.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroUsize,
};

use lru::LruCache;
use tracer_ebpf::{ledger::ticks_to_ns, record::COMM};
use tracer_engine::victim::VictimKey;

use crate::{
    line::{Account, Sync},
    sums::Syncs,
};

/// As many victims as the engine knows.
const VICTIMS: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// Sums that wait for the end of their second. With more, all are written earlier.
const SUMS: usize = 256;

/// One of this many fast syncs is kept.
const SAMPLED: u64 = 100;

/// The part of a victim's syncs that counts as slow.
const SLOW: f64 = 0.02;

/// Syncs of this length or longer are kept whatever is usual for their victim: it can
/// have no more than ten of them a second for each of its threads.
const ALWAYS_NS: u64 = 100_000_000;

/// The bound moves by this part of itself for a sync, at the least: it follows a victim
/// that becomes ten times slower after some thousand syncs, which are all kept.
const LEAST_STEP: f64 = 0.0001;

/// Steps to each power of two, by which durations are like each other.
const STEPS: f64 = 3.0;

/// An owner is on a sync's path, and its requests are a disturbance at all: the engine's
/// own bounds, as parts of the sync's duration.
const LEVELS: [f64; 2] = [0.05, 0.01];

/// The properties that syncs of one sum have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Likeness {
    victim: VictimKey,
    kthread: bool,
    carried: bool,
    kind: u32,
    disk: Option<u32>,
    step: u32,
    /// A hash of the owners on its path.
    owners: u64,
}

/// A running estimate of the duration that only slow syncs exceed.
#[derive(Clone, Copy, Debug, Default)]
struct Bound {
    ns: f64,
    syncs: u32,
}

impl Bound {
    /// Takes a duration in, and says whether it is beyond.
    fn exceeds(&mut self, duration_ns: u64) -> bool {
        let duration_ns = duration_ns.max(1) as f64;
        self.syncs = self.syncs.saturating_add(1);
        if self.syncs == 1 {
            self.ns = duration_ns;
            return true;
        }
        let step = (1.0 / f64::from(self.syncs)).max(LEAST_STEP);
        let is_slow = duration_ns > self.ns;
        // Both ways are equally long where one of fifty is beyond.
        self.ns *= if is_slow { 1.0 + step * (1.0 - SLOW) / SLOW } else { 1.0 - step };
        is_slow
    }
}

/// How a sync is kept.
pub enum Kept {
    /// It has a line of its own.
    One,
    /// In a sum. These are full, and to be written now.
    Sums(Vec<Syncs>),
}

/// The syncs of the current second that are not kept one by one.
#[derive(Debug)]
pub struct Thinning {
    bounds: LruCache<VictimKey, Bound>,
    sums: HashMap<Likeness, Syncs>,
    /// Fast syncs so far.
    fast: u64,
}

impl Default for Thinning {
    fn default() -> Self {
        Self { bounds: LruCache::new(VICTIMS), sums: HashMap::new(), fast: 0 }
    }
}

impl Thinning {
    /// Takes a sync in, and says how it is kept.
    pub fn take_in(&mut self, sync: &Sync) -> Kept {
        let bound = self.bounds.get_or_insert_mut(victim(sync), Bound::default);
        if bound.exceeds(sync.duration_ns) || sync.duration_ns >= ALWAYS_NS {
            return Kept::One;
        }
        self.fast += 1;
        match self.fast.is_multiple_of(SAMPLED) {
            true => Kept::One,
            false => Kept::Sums(self.add(sync)),
        }
    }

    /// Adds one to the sums, and returns those that make room for it.
    fn add(&mut self, sync: &Sync) -> Vec<Syncs> {
        let likeness = likeness(sync);
        if let Some(sum) = self.sums.get_mut(&likeness) {
            if sum.has_room_for(1, sync) {
                sum.add(1, sync);
                return Vec::new();
            }
            return vec![std::mem::replace(sum, Syncs::new(sync)).rounded()];
        }
        let full = if self.sums.len() >= SUMS { self.drain() } else { Vec::new() };
        self.sums.insert(likeness, Syncs::new(sync));
        full
    }

    /// All sums so far, in the order in which their first syncs began.
    pub fn drain(&mut self) -> Vec<Syncs> {
        in_order(self.sums.drain().map(|(_, sum)| sum))
    }

    /// The sums of a second that goes on, which keeps them.
    pub fn sums_so_far(&self) -> Vec<Syncs> {
        in_order(self.sums.values().cloned())
    }
}

fn in_order(sums: impl Iterator<Item = Syncs>) -> Vec<Syncs> {
    let mut sums: Vec<_> = sums.map(Syncs::rounded).collect();
    sums.sort_by_key(|sum| sum.sum.begin_ns);
    sums
}

/// The victim that a sync is one of.
pub fn victim(sync: &Sync) -> VictimKey {
    let comm: [u8; COMM] = sync.comm.0;
    VictimKey { cgroup: sync.cgroup, comm, file: sync.file, device: sync.device }
}

fn likeness(sync: &Sync) -> Likeness {
    let duration_ns = sync.duration_ns.max(1) as f64;
    let mut owners = DefaultHasher::new();
    let mut take = |disk: u32, accounts: &[Account]| {
        for (id, ticks, _) in accounts {
            let share = ticks_to_ns(*ticks) as f64 / duration_ns;
            let level = LEVELS.iter().position(|level| share >= *level);
            if let Some(level) = level {
                (disk, id, level).hash(&mut owners);
            }
        }
    };
    take(sync.disk.unwrap_or(u32::MAX), &sync.in_flight);
    sync.underlying.iter().for_each(|below| take(below.disk, &below.in_flight));
    Likeness {
        victim: victim(sync),
        kthread: sync.kthread,
        carried: sync.carried,
        kind: sync.kind.0,
        disk: sync.disk,
        step: (duration_ns.log2() * STEPS) as u32,
        owners: owners.finish(),
    }
}
