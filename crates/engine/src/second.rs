//! One second of a victim's syncs: gathered as they end, settled at the tick.

use super::{
    blame::Division,
    histogram::Evidence,
    phases::{Phase, Phases},
    reference::{Grade, SLOWER},
    settle::{Blamed, Growth, STAYS_NS, Slot, settle},
    victim::{BASELINE_SYNCS, MOST_BASELINE_NS, Victim},
};

/// The syncs since the last tick, added up.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    pub division: Division,
    pub syncs: u32,
    /// That they waited, for a CPU too.
    pub wait_ns: u64,
    /// [`Phases::short_ns`].
    short_ns: u64,
    durations: Evidence,
}

impl Fresh {
    pub fn add(&mut self, division: &Division, phases: &Phases, duration_ns: u64) {
        self.division.add(division);
        self.syncs += 1;
        let wait_ns = phases.wait_ns() + phases.ns[Phase::Runqueue];
        self.wait_ns = self.wait_ns.saturating_add(wait_ns);
        self.short_ns = self.short_ns.saturating_add(phases.short_ns());
        self.durations.record(duration_ns);
    }
}

/// How the excess of some seconds came about, in ns of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Circumstances {
    /// In seconds of which it is known.
    pub excess_ns: f64,
    /// While the device was slower than its reference, or was known not to be.
    pub slow_ns: f64,
    pub well_ns: f64,
    /// Each times the slowness.
    pub times_ns: f64,
    /// Seconds in which it was slow by a good reference.
    pub slow_seconds: u32,
}

impl Circumstances {
    pub fn add(&mut self, other: &Self) {
        let Self { excess_ns, slow_ns, well_ns, times_ns, slow_seconds } = other;
        self.excess_ns += excess_ns;
        self.slow_ns += slow_ns;
        self.well_ns += well_ns;
        self.times_ns += times_ns;
        self.slow_seconds += slow_seconds;
    }

    /// Whether the device was known to be slow for so much of the excess.
    pub fn is_slow(&self, part: f64) -> bool {
        self.slow_ns > 0.0 && self.slow_ns >= part * self.excess_ns
    }

    /// Whether it was known to be well for so much of it.
    pub fn is_well(&self, part: f64) -> bool {
        self.well_ns > 0.0 && self.well_ns >= part * self.excess_ns
    }

    /// How many times slower it was, on average over the excess.
    pub fn times(&self) -> f64 {
        if self.excess_ns > 0.0 { self.times_ns / self.excess_ns } else { 1.0 }
    }
}

/// Syncs that wait so long for a CPU or for memory, on average, are not well,
/// whatever was usual.
const SHORT_NS: u64 = 1_000_000;

/// Whether so many syncs that waited for a CPU or for memory for `short_ns`
/// together were short of it.
pub fn is_short(short_ns: u64, syncs: u64) -> bool {
    syncs > 0 && short_ns >= SHORT_NS.saturating_mul(syncs)
}

/// A party with a smaller part in all that its disks are asked for is not
/// remembered.
const LEAST_PART: f64 = 0.005;

/// Syncs of its good seconds; then the older ones count half.
const WELL_MEMORY: u64 = 8192;

impl Victim {
    /// Settles the last second, in which its disks did what is in `slot`.
    pub fn settle(&mut self, slot: &Slot, now_ns: u64) {
        let fresh = std::mem::take(&mut self.fresh);
        let is_short = is_short(fresh.short_ns, fresh.syncs.into());
        let is_lesson = fresh.syncs > 0 && !is_short;
        if is_lesson && self.usual.take(fresh.wait_ns, fresh.syncs.into()) {
            // It lived with too much then.
            (self.disks.seconds, self.well_seconds) = (0, 0);
            (self.well, self.well_p90_ns) = (Evidence::default(), None);
        }
        let mean_ns = fresh.wait_ns as f64 / f64::from(fresh.syncs.max(1));
        let usual_ns = self.usual_wait_ns();
        let is_well = !is_short && usual_ns.is_some_and(|usual_ns| mean_ns <= SLOWER * usual_ns);
        let state = self.disks.look(slot, now_ns);
        let (mut others, mut steady) = (0.0, 0.0);
        let mut blamed = Blamed {
            own_grown: fresh.division.own_behind_ns,
            device: fresh.division.device_ns,
            ..Blamed::default()
        };
        if slot.is_empty() || self.disks.seconds == 0 || usual_ns.is_none() {
            // There is nothing to hold it against.
            self.suspects.iter_mut().for_each(|suspect| suspect.settle(1.0));
        } else {
            let by_depth = state.is_saturated && state.completes_the_same();
            let growth = self.grow(slot, by_depth);
            for suspect in &self.suspects {
                others += suspect.fresh_ns();
                steady += suspect.fresh_ns() * (1.0 - f64::from(suspect.grown));
            }
            let party = self.party();
            let own = self.suspects.iter().find(|suspect| suspect.party == party);
            let own_grown = own.map_or(1.0, |own| f64::from(own.grown));
            blamed.own_steady = blamed.own_grown * (1.0 - own_grown);
            blamed.own_grown *= own_grown;
            (blamed.grown, blamed.steady) = (others - steady, steady);
            let settled = settle(&state, growth, &blamed, mean_ns, usual_ns.unwrap_or_default());
            for suspect in &mut self.suspects {
                suspect.settle(f64::from(suspect.grown) * settled.keep);
            }
            let mut parts = fresh.division;
            parts.others_ns = blamed.grown * settled.keep;
            parts.own_ns += blamed.own_grown * settled.keep - parts.own_behind_ns;
            parts.device_ns += settled.device;
            parts.unexplained_ns += settled.unexplained;
            self.now.parts.add(&parts);
            self.total.add(&parts);
            let excess_ns = fresh.division.excess_ns;
            let is_slow = settled.times >= SLOWER;
            let is_fine = now_ns.saturating_sub(self.disks.well_ns) <= STAYS_NS && !is_slow;
            self.now.circumstances.add(&Circumstances {
                excess_ns,
                slow_ns: if is_slow { excess_ns } else { 0.0 },
                well_ns: if is_fine { excess_ns } else { 0.0 },
                times_ns: excess_ns * settled.times,
                slow_seconds: u32::from(
                    is_slow && excess_ns > 0.0 && self.disks.known == Grade::Good,
                ),
            });
            if is_well {
                self.live_with(slot, &fresh);
            }
            return;
        }
        self.now.parts.add(&fresh.division);
        self.total.add(&fresh.division);
        if is_well {
            self.live_with(slot, &fresh);
        }
    }

    /// Finds out what part of what each one asks for is new.
    fn grow(&mut self, slot: &Slot, by_depth: bool) -> Growth {
        let (mut new, mut all) = (0.0, 0.0);
        let mut growth = Growth::default();
        let own = self.party();
        for suspect in &mut self.suspects {
            let Some(asked) = slot.of(&suspect.party) else { continue };
            // Its syncs are not what it does beside them, and come as often as the
            // device lets them.
            let by_depth = by_depth && suspect.party != own;
            match suspect.lived.grown(asked, by_depth) {
                Some(grown) => suspect.grown = grown as f32,
                // It waits for requests of before.
                None if suspect.lived.work > 0.0 => suspect.grown = 0.0,
                None => {}
            }
            new += asked.work * f64::from(suspect.grown);
            growth.of_writers |= asked.writes && suspect.grown > 0.5 && suspect.party != own;
        }
        for asked in &slot.asked {
            all += asked.work;
        }
        growth.part = if all > 0.0 { new / all } else { 1.0 };
        growth
    }

    /// It was well in a second: what its disks are asked for then is no harm.
    fn live_with(&mut self, slot: &Slot, fresh: &Fresh) {
        if fresh.syncs == 0 {
            return;
        }
        self.well_seconds = self.well_seconds.saturating_add(1);
        if self.well.count() >= WELL_MEMORY {
            self.well.halve();
        }
        self.well.add(&fresh.durations);
        if self.well.count() >= BASELINE_SYNCS {
            self.well_p90_ns = self.well.quantile(0.9).map(|ns| ns as u64);
        }
        if slot.is_empty() {
            return;
        }
        let all: f64 = slot.asked.iter().map(|asked| asked.work).sum();
        for asked in slot.asked.iter().filter(|asked| asked.work >= LEAST_PART * all) {
            self.suspect(asked.party, asked.owner);
        }
        let seconds = self.disks.seconds;
        for suspect in &mut self.suspects {
            suspect.lived.learn(slot.of(&suspect.party), seconds);
        }
        self.disks.learn(slot);
    }

    /// How long its syncs wait while all is well, but never more than they should
    /// on any disk.
    pub fn usual_wait_ns(&self) -> Option<f64> {
        self.usual.usual_ns().map(|ns| ns.min(MOST_BASELINE_NS as f64))
    }

    /// The p99 of its syncs while all is well.
    pub fn well_p99_ns(&self) -> Option<f64> {
        self.well.quantile(0.99)
    }

    /// Whether it is known how it is when it is well. Where it never was, nothing
    /// is sure.
    pub fn was_well(&self) -> bool {
        self.well_seconds > 0
    }

    /// Blame since the last tick is taken as it is, and nothing is learnt.
    #[cfg(test)]
    pub fn settle_all_as_it_is(&mut self) {
        self.suspects.iter_mut().for_each(|suspect| suspect.settle(1.0));
        let fresh = std::mem::take(&mut self.fresh);
        self.now.parts.add(&fresh.division);
        self.total.add(&fresh.division);
    }
}
