//! From records to blame: pure state that takes records in and answers with judgements.
//!
//! Knows no aya, no clock, no files and no terminal: a recording feeds it as
//! well as a kernel does. From a record to a victim's histogram, phases, blame
//! and baseline nothing is allocated, except for a victim or an owner that was
//! never seen before.

#![forbid(unsafe_code)]

mod account;
pub mod blame;
pub mod carried;
pub mod currency;
mod debt;
pub mod demand;
pub mod device;
pub mod helper;
mod histogram;
pub mod kind;
pub mod phases;
pub mod reference;
pub mod second;
pub mod settle;
mod singles;
pub mod sums;
pub mod suspect;
pub mod tick;
pub mod usage;
pub mod verdict;
pub mod victim;

use std::collections::HashMap;

use tracer_ebpf::record::{ACCOUNTS, SyncRecord, UnderlyingWindow, op};

use blame::{ActorId, Division, Known, Owner, OwnerId, Window, divide};
use phases::{Phase, Phases};
use second::Needs;
use tick::{LimitKind, Tick};
use victim::{Victim, VictimKey};

/// Victims that are kept, at most. Beyond that, the one whose last sync is the oldest is removed.
const VICTIMS: usize = 512;

/// Evidence counts half after this many rotations: a minute, at 5 s each.
const FADE_EVERY: u64 = 12;

/// The longest time between two ticks, with room for a late one.
const TICK_NS: u64 = 1_500_000_000;

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
    steal: Steal,
    memory: Option<(tick::Memory, tick::Memory)>,
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
        let phases = Phases::of(record);
        let window = Window::of(record, underlying, owners);
        self.torn += u64::from(window.torn);

        let index = self.victim_index(record, file);
        let victim = &mut self.victims[index];
        victim.meet(record, underlying);
        let end_ns = record.begin_ns + record.duration_ns;
        victim.last_ns = end_ns;
        self.now_ns = self.now_ns.max(end_ns);

        // A sync that waited for memory is no baseline sample either: others use that memory.
        let short_of_memory = phases.ns[Phase::Reclaim].saturating_mul(10) > record.duration_ns;
        let contended = short_of_memory || !window.is_uncontended(record.duration_ns);
        // Without a baseline an undisturbed sync is no excess: it is the first
        // baseline sample.
        let division = match victim.baseline_ns() {
            Some(baseline_ns) => {
                let more_ns = victim.needs_more_ns(need_ns);
                let filled_by_others = victim.filled_by_others;
                divide(record, &window, &phases, &Known { baseline_ns, more_ns, filled_by_others })
            }
            None if contended => divide(record, &window, &phases, &Known::default()),
            None => Division::default(),
        };
        let needs = Needs::of(record, need_ns);
        victim.record(end_ns, record.duration_ns, &phases, &window, &division, needs);
        if !contended {
            victim.learn(phases.wait_ns(), need_ns);
        }
        Judged { victim: index, phases, window, division }
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
        let until_ns = tick.at_ns + TICK_NS;
        for victim in &mut self.victims {
            if tick.at_ns.saturating_sub(victim.last_ns) > 60_000_000_000 {
                continue;
            }
            let (device, tgid, cgroup) = (victim.key.device, victim.tgid, victim.key.cgroup);
            victim.advance(tick.at_ns);
            let slot = victim.slot(&tick.disks, &actor);
            let waited_ns = victim.fresh.wait_ns;
            victim.settle(&slot, tick.at_ns);
            victim.now.ticks += 1;
            let (mut all, mut others) = (0.0, 0.0);
            for work in tick.journals.iter().filter(|work| work.device == device) {
                let (who, blocks) = (actor(work.owner), work.blocks as f64);
                victim.blame_around(who, work.owner, op::METADATA, blocks, until_ns);
                all += blocks;
                others += if victim.is_stranger(&who) { blocks } else { 0.0 };
            }
            victim.filled_by_others = if all > 0.0 { others / all } else { 0.0 };
            for helper in &tick.helpers {
                victim.help(helper, waited_ns);
            }
            for contender in &tick.contenders {
                let waited = contender.victim_tgid;
                if waited != tgid && !victim.is_held_up_by(waited) {
                    continue;
                }
                let who = actor(contender.owner);
                victim.blame_around(who, contender.owner, op::CPU, contender.ns as f64, 0);
            }
            // It is not known which limit the others ran into. But members of a cgroup that is
            // at its limit run into that limit now and then.
            let is_at_limit = |one: &tick::Reclaimer| {
                one.limit_ns > 0 && actor(one.owner).cgroup == victim.key.cgroup
            };
            let at_limit = tick.reclaimers.iter().any(is_at_limit);
            for one in &tick.reclaimers {
                let ns = if at_limit { one.ns } else { one.ns.saturating_sub(one.limit_ns) };
                if ns > 0 {
                    let who = actor(one.owner);
                    victim.blame_around(who, one.owner, op::MEMORY, ns as f64, until_ns);
                }
            }
            for limit in tick.limits.iter().filter(|limit| limit.cgroup == cgroup) {
                match limit.kind {
                    LimitKind::Cpu => victim.now.limited_cpu_ns += limit.ns,
                    LimitKind::Io => victim.now.limited_io_ns += limit.ns,
                }
                let known = victim.limit.as_ref().is_some_and(|(_, s)| *s == limit.setting);
                if !known {
                    victim.limit = Some((limit.kind, limit.setting.clone()));
                }
            }
        }
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

    /// Accounts with an impossible integral, which are torn readings.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn victim_index(&mut self, record: &SyncRecord, file: u32) -> usize {
        let key =
            VictimKey { cgroup: record.cgroup, comm: record.comm, file, device: record.device };
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
mod queueing;
#[cfg(test)]
mod tests;
