//! From records to blame: pure state that takes records in and answers with judgements.
//!
//! It knows no aya, no clock, no files and no terminal, so a recording can feed it as a
//! kernel does. From a record to a victim's histogram, phases, blame and baseline nothing
//! is allocated, except for a victim or an owner that was never seen before.

#![forbid(unsafe_code)]

mod account;
mod beside;
pub mod blame;
mod busy;
pub mod carried;
pub mod checkpoint;
mod counterfactual;
pub mod currency;
mod debt;
pub mod demand;
pub mod device;
mod drops;
mod freeze;
pub mod helper;
mod histogram;
pub mod holders;
mod inputs;
pub mod kind;
mod outside;
pub mod pace;
mod pauses;
pub mod phases;
pub mod reference;
mod save;
pub mod second;
pub mod settle;
mod singles;
mod spans;
pub mod stop;
pub mod sums;
pub mod suspect;
pub mod tick;
pub mod triggers;
mod unfinished;
pub mod usage;
pub mod verdict;
pub mod victim;

use std::collections::HashMap;

use tracer_ebpf::record::{ACCOUNTS, SyncRecord, UnderlyingWindow};

use blame::{ActorId, Division, Owner, OwnerId, Window};
use drops::Drops;
use phases::Phases;
use stop::Stop;
use tick::Tick;
use triggers::Calls;
use unfinished::Unfinished;
use victim::{Victim, VictimKey};

/// Victims that are kept, at most. Beyond that, the one whose last sync is the oldest is removed.
const VICTIMS: usize = 512;

/// Evidence counts half after this many rotations: a minute, at 5 s each.
const FADE_EVERY: u64 = 12;

/// A victim that has not synced for longer is left out of the ticks.
const WATCHED_NS: u64 = 60_000_000_000;

/// The judgement on one sync.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Index of its victim in [`Engine::victims`].
    pub victim: usize,
    pub phases: Phases,
    pub window: Window,
    pub division: Division,
}

/// All victims.
#[derive(Debug, Default)]
pub struct Engine {
    /// Each has its own allocation, because a growing vector of such large values would
    /// leave holes as large in the heap.
    victims: Vec<Box<Victim>>,
    by_key: HashMap<VictimKey, usize>,
    next_id: u32,
    records: u64,
    rotations: u64,
    /// The latest time in any record or tick.
    now_ns: u64,
    evicted: u64,
    torn: u64,
    left_out: u64,
    steal: Steal,
    memory: Option<(tick::Memory, tick::Memory)>,
    drops: Drops,
    calls: Calls,
    unfinished: Unfinished,
}

/// The CPU time that the hypervisor took since the period began.
#[derive(Clone, Copy, Debug, Default)]
struct Steal {
    stolen_ns: u64,
    /// Over all CPUs.
    of_ns: u64,
}

impl Engine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one sync in. `file` is the caller's name for the file or class of
    /// files, `owners` gives those of a disk's accounts; `underlying` is what was in
    /// flight on further disks; `need_ns` what its own requests would take alone,
    /// one after another.
    pub fn ingest<'a>(
        &mut self,
        record: &SyncRecord,
        underlying: &[UnderlyingWindow],
        file: u32,
        need_ns: u64,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) -> Judged {
        self.records += 1;
        self.calls.add(record);
        let phases = Phases::of(record);
        let window = Window::of(record, underlying, owners);
        self.torn += u64::from(window.torn);
        let index = self.victim_index(record, file);
        let victim = &mut self.victims[index];
        victim.meet(record, underlying);
        let division = victim.ingest(record, &phases, &window, need_ns);
        self.now_ns = self.now_ns.max(victim.last_ns);
        Judged { victim: index, phases, window, division }
    }

    /// Takes in a sync that has not ended at the tick that follows, with its record until
    /// then. From that tick to the next its victim is judged as if it ended there. A victim
    /// that never ended a sync has none to compare it with, and is left out.
    pub fn add_unfinished<'a>(
        &mut self,
        record: &SyncRecord,
        file: u32,
        need_ns: u64,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) {
        self.calls.add(record);
        if let Some(index) = self.by_key.get(&VictimKey::of(record, file)) {
            self.unfinished.add(&self.victims[*index], record, need_ns, owners);
        }
    }

    /// A victim with its syncs that had not ended at the last tick, as if they ended there,
    /// for a verdict; `None` where it has none. Whatever is summed up is the victim's own.
    pub fn with_unfinished(&self, victim: &Victim) -> Option<&Victim> {
        self.unfinished.find(victim.id)
    }

    /// Takes in what went on around the syncs in the last second; `actor` says
    /// who an owner is.
    pub fn tick(&mut self, tick: &Tick, actor: impl Fn(OwnerId) -> ActorId) {
        self.steal.stolen_ns += tick.steal_ns;
        self.steal.of_ns += u64::from(tick.cpus) * 1_000_000_000;
        if tick.memory.total_bytes > 0 {
            let first = self.memory.map_or(tick.memory, |(first, _)| first);
            self.memory = Some((first, tick.memory));
        }
        self.now_ns = self.now_ns.max(tick.at_ns);
        self.drops.tick(tick, &actor);
        let stops = self.stops(tick);
        self.calls.tick(tick, &actor);
        let (drops, calls) = (&self.drops, &self.calls);
        for victim in &mut self.victims {
            let is_watched = tick.at_ns.saturating_sub(victim.last_ns) <= WATCHED_NS;
            if is_watched || victim.is_frozen() || victim.is_halted() {
                self.left_out += victim.stop(&stops, &actor);
                self.left_out += victim.tick(tick, &actor, drops, calls);
            }
        }
        // They are copies, and what they leave out was counted above.
        self.unfinished.tick(|victim| {
            victim.stop(&stops, &actor);
            victim.tick(tick, &actor, drops, calls);
        });
    }

    /// The stops of a tick, each with the number of syncs that the process ended in that second.
    fn stops(&self, tick: &Tick) -> Vec<(Stop, u64)> {
        let syncs_of = |tgid| {
            let its = self.victims.iter().filter(|victim| victim.tgid == tgid);
            its.map(|victim| u64::from(victim.fresh.syncs)).sum()
        };
        tick.stops.iter().map(|stop| (stop.clone(), syncs_of(stop.tgid))).collect()
    }

    /// Forgets the older half of every victim's window.
    pub fn rotate(&mut self) {
        self.victims.iter_mut().for_each(|v| v.rotate());
        self.rotations += 1;
        if self.rotations.is_multiple_of(FADE_EVERY) {
            self.victims.iter_mut().for_each(|v| v.fade());
            self.forget();
        }
    }

    fn forget(&mut self) {
        let before = self.victims.len();
        self.victims.retain(|victim| !victim.is_forgettable(self.now_ns));
        if self.victims.len() < before {
            self.by_key = self.victims.iter().enumerate().map(|(at, v)| (v.key, at)).collect();
            self.victims.shrink_to_fit();
        }
    }

    /// Begins a new period to judge. Baselines, evidence and victims are kept.
    pub fn begin_period(&mut self) {
        self.victims.iter_mut().for_each(|v| v.begin_period());
        self.unfinished = Unfinished::default();
        self.steal = Steal::default();
        self.memory = self.memory.map(|(_, last)| (last, last));
    }

    /// The share of all CPU time of this machine that its hypervisor gave to others in
    /// the period.
    pub fn steal_share(&self) -> f64 {
        self.steal.stolen_ns as f64 / self.steal.of_ns.max(1) as f64
    }

    /// Bytes by which the machine's memory shrank in the period: a balloon.
    pub fn memory_shrank_bytes(&self) -> u64 {
        self.memory.map_or(0, |(then, now)| then.total_bytes.saturating_sub(now.total_bytes))
    }

    /// Those whose calls had the data of others written of late.
    pub fn callers(&self) -> impl Iterator<Item = ActorId> {
        self.calls.callers()
    }

    pub fn victims(&self) -> &[Box<Victim>] {
        &self.victims
    }

    /// Records taken in.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Victims that made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of things around the syncs for which there was no room: freezers of one victim's
    /// filesystem, what stops its process, writers beside it near the limit on dirty pages, drops of
    /// the caches without a name, reads after them.
    pub fn left_out(&self) -> u64 {
        self.left_out + self.drops.left_out()
    }

    /// Accounts with an impossible integral, which are torn readings.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn victim_index(&mut self, record: &SyncRecord, file: u32) -> usize {
        let key = VictimKey::of(record, file);
        if let Some(index) = self.by_key.get(&key) {
            return *index;
        }
        let fresh = Box::new(Victim::new(self.next_id, key));
        self.next_id += 1;
        let oldest = (self.victims.len() >= VICTIMS)
            .then(|| self.victims.iter().enumerate().min_by_key(|(_, v)| v.last_ns))
            .flatten()
            .map(|(index, _)| index);
        let index = match oldest {
            Some(index) => {
                self.evicted += 1;
                self.by_key.remove(&self.victims[index].key);
                self.victims[index] = fresh;
                index
            }
            None => {
                self.victims.push(fresh);
                self.victims.len() - 1
            }
        };
        self.by_key.insert(key, index);
        index
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
