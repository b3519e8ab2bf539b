//! One second of a victim's syncs: gathered as they end, settled at the tick.

use tracer_ebpf::record::SyncRecord;

use super::{
    blame::Division,
    demand::{Asked, Growth, MUCH_GROWTH, Slot},
    device::{State, Sure},
    histogram::Evidence,
    phases::{Phase, Phases},
    reference::{Grade, SLOWER},
    settle::{Blamed, Settled, settle},
    victim::{BASELINE_SYNCS, MAX_BASELINE_NS, Victim},
};

/// The syncs since the last tick, added up.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    pub division: Division,
    pub syncs: u32,
    /// The time that they waited, for a CPU too.
    pub wait_ns: u64,
    /// [`Phases::short_ns`].
    short_ns: u64,
    /// The time that their requests would take alone, one after another, and their number.
    need_ns: u64,
    requests: u64,
    pub durations: Evidence,
    /// Their CPU time beyond what is usual.
    pub busy_ns: f32,
}

impl Fresh {
    pub fn add(&mut self, division: &Division, phases: &Phases, needs: Needs, duration_ns: u64) {
        self.need_ns = self.need_ns.saturating_add(needs.ns);
        self.requests += needs.requests;
        self.division.add(division);
        self.syncs += 1;
        let wait_ns = phases.wait_ns() + phases.ns[Phase::Runqueue];
        self.wait_ns = self.wait_ns.saturating_add(wait_ns);
        self.short_ns = self.short_ns.saturating_add(phases.short_ns());
        self.durations.record(duration_ns);
    }
}

impl Fresh {
    /// The mean wait of one sync.
    pub fn mean_ns(&self) -> f64 {
        self.wait_ns as f64 / f64::from(self.syncs.max(1))
    }

    /// The time that the requests of one sync would take alone, one after another.
    pub fn need_each_ns(&self) -> f64 {
        self.need_ns as f64 / f64::from(self.syncs.max(1))
    }

    pub(super) fn requests_per_sync(&self) -> f64 {
        self.requests as f64 / f64::from(self.syncs.max(1))
    }
}

/// The requests that one sync waits for, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// The time that they would take alone.
    pub ns: u64,
    pub requests: u64,
}

impl Needs {
    pub fn of(record: &SyncRecord, ns: u64) -> Self {
        let commits = if record.journal_ns > 0 { COMMIT_REQUESTS } else { 0 };
        Self { ns, requests: u64::from(record.own_requests) + commits }
    }
}

/// A commit waits for data, for its blocks, and for the block that ends it.
const COMMIT_REQUESTS: u64 = 3;

/// The excess of some seconds by what is known of the device in them, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Circumstances {
    /// Excess in seconds in which the device's state is known.
    pub excess_ns: f64,
    /// Excess while the device was known to be slower than its reference, and while it was
    /// known not to be.
    pub slow_ns: f64,
    pub well_ns: f64,
    /// The excess of each second, times the device's slowness in it.
    pub times_ns: f64,
    /// The number of seconds in which it was slow by a good reference.
    pub slow_seconds: u32,
    /// Excess in seconds in which either the device or the load may have changed.
    pub unsure_ns: f64,
}

impl Circumstances {
    pub fn add(&mut self, other: &Self) {
        let Self { excess_ns, slow_ns, well_ns, times_ns, slow_seconds, unsure_ns } = other;
        self.excess_ns += excess_ns;
        self.slow_ns += slow_ns;
        self.well_ns += well_ns;
        self.times_ns += times_ns;
        self.slow_seconds += slow_seconds;
        self.unsure_ns += unsure_ns;
    }

    /// Whether the device was known to be slow for this part of the excess.
    pub fn is_slow(&self, part: f64) -> bool {
        self.slow_ns > 0.0 && self.slow_ns >= part * self.excess_ns
    }

    /// Whether it is not known, for this part of the excess, if the device or the load
    /// changed.
    pub fn is_unsure(&self, part: f64) -> bool {
        self.unsure_ns > 0.0 && self.unsure_ns >= part * self.excess_ns
    }

    /// Whether the device was known to be well for this part of the excess.
    pub fn is_well(&self, part: f64) -> bool {
        self.well_ns > 0.0 && self.well_ns >= part * self.excess_ns
    }

    /// How many times slower it was, on average over the excess.
    pub fn times(&self) -> f64 {
        if self.excess_ns > 0.0 { self.times_ns / self.excess_ns } else { 1.0 }
    }
}

/// If syncs wait this long for a CPU or for memory, on average, the victim is not well,
/// whatever its usual wait is.
const SHORT_NS: u64 = 1_000_000;

/// Whether `syncs` syncs that waited for a CPU or for memory for `short_ns`
/// together were short of it.
pub fn is_short(short_ns: u64, syncs: u64) -> bool {
    syncs > 0 && short_ns >= SHORT_NS.saturating_mul(syncs)
}

/// An actor with a smaller part in all that its disks are asked for is not
/// remembered.
const LEAST_PART: f64 = 0.001;

/// An actor with this part of all work matters to a disk.
pub(super) const SOME_WORK: f64 = 0.01;

/// A device that is slower by this factor is the main cause, also if somebody asks for
/// more.
const FAR_SLOWER: f64 = 5.0;

/// The device is well where this part of the excess, or more, is owed to those who wrote.
const MUCH_OWED: f64 = 0.5;

/// The device is not known to be well where this part of the waits, or more, is beyond
/// what those who ask for more explain.
const MUCH_ALONE: f64 = 0.3;

/// After 60 good seconds it is known how long requests are in flight.
const LONG: u32 = 60;

/// After this many syncs in good seconds, those that are already known count half.
const WELL_MEMORY: u64 = 8192;

impl Victim {
    /// Settles the last second, in which its disks did what is in `slot`.
    pub fn settle(&mut self, slot: &Slot, now_ns: u64) {
        let fresh = std::mem::take(&mut self.fresh);
        let is_short = is_short(fresh.short_ns, fresh.syncs.into());
        let is_sample = fresh.syncs > 0 && !is_short;
        self.disks.observe(slot, now_ns);
        self.hold_against_reference(slot, &fresh, now_ns);
        let wait_ns = (fresh.wait_ns as f64 / self.device_times()) as u64;
        if is_sample && self.usual.add(wait_ns, fresh.syncs.into()) {
            // The usual wait so far was too long, so the load in those seconds does not count
            // as normal.
            self.forget_well_seconds();
        }
        let state = self.disks.look(slot, now_ns);
        for suspect in &mut self.suspects {
            suspect.lived.pass(slot.of(&suspect.actor));
        }
        let is_well = |usual_ns: f64| !is_short && fresh.mean_ns() <= SLOWER * usual_ns;
        let parts = match self.usual_wait_ns() {
            Some(usual_ns) if !slot.is_empty() && self.disks.seconds > 0 => {
                if is_well(usual_ns) && usual_ns > MAX_BASELINE_NS as f64 {
                    self.settle_standing(&fresh)
                } else {
                    self.settle_beside(usual_ns, slot, &state, &fresh)
                }
            }
            Some(usual_ns) if self.device_times() > 1.0 => {
                self.settle_beside_reference(usual_ns, &fresh)
            }
            // There is nothing to compare the second with.
            _ => {
                self.suspects.iter_mut().for_each(|suspect| suspect.settle(1.0));
                fresh.division
            }
        };
        self.now.parts.add(&parts);
        self.total.add(&parts);
        if self.device_times() == 1.0 && self.usual_wait_ns().is_some_and(is_well) {
            self.live_with(slot, &fresh);
        }
    }

    /// Settles a second of a victim that is as slow as ever, and slower than any disk
    /// should be. The time that its own requests need alone is the device's; the wait
    /// beyond that is divided by work.
    fn settle_standing(&mut self, fresh: &Fresh) -> Division {
        let need = fresh.need_ns as f64 / fresh.wait_ns.max(1) as f64;
        let keep = if self.disks.known == Grade::None { 1.0 } else { (1.0 - need).max(0.0) };
        self.keep_blame(fresh, keep)
    }

    /// Others and the victim's own requests keep this part of their blame. The device has
    /// the rest.
    pub(super) fn keep_blame(&mut self, fresh: &Fresh, keep: f64) -> Division {
        self.suspects.iter_mut().for_each(|suspect| suspect.settle(keep));
        let mut parts = fresh.division;
        parts.others_ns *= keep;
        parts.own_ns -= parts.own_behind_ns * (1.0 - keep);
        parts.device_ns += (fresh.division.others_ns + parts.own_behind_ns) * (1.0 - keep);
        parts
    }

    /// Settles a second by comparing it with the seconds in which the victim was well.
    fn settle_beside(
        &mut self,
        usual_ns: f64,
        slot: &Slot,
        state: &State,
        fresh: &Fresh,
    ) -> Division {
        // The quickest of its syncs show the device as it is between the waits.
        let quickest = self.quickest(fresh);
        let state = &state.beside_quickest(quickest);
        let growth = self.grow(slot, state, fresh.requests_per_sync());
        let waits = self.counterfactual(slot, state, &growth, fresh, usual_ns, quickest);
        let (mut others, mut steady) = (0.0, 0.0);
        for suspect in &self.suspects {
            others += suspect.fresh_ns();
            steady += suspect.fresh_ns() * (1.0 - f64::from(suspect.grown));
        }
        let actor = self.actor();
        let own = self.suspects.iter().find(|suspect| suspect.actor == actor);
        let own_grown = own.map_or(1.0, |own| f64::from(own.grown));
        let behind_ns = fresh.division.own_behind_ns;
        let commits_ns = fresh.division.commits_ns;
        let blamed = Blamed {
            grown: others - steady,
            steady,
            own_grown: behind_ns * own_grown,
            own_steady: behind_ns * (1.0 - own_grown),
            commits_grown: commits_ns * growth.of_journal,
            commits_steady: commits_ns * (1.0 - growth.of_journal),
            device: fresh.division.device_ns,
        };
        let alone = self.waits_beyond(fresh, &growth, usual_ns, slot.written_by_others(&actor));
        let mut settled = settle(state, &growth, &blamed, fresh.mean_ns(), usual_ns, alone);
        if let Some(waits) = waits {
            settled.divide(waits.device_part(), &blamed);
        }
        let (mut parts, excess_ns) = (fresh.division, fresh.division.excess_ns);
        parts.device_ns += settled.device;
        parts.unexplained_ns += settled.unexplained;
        let kept_ns = (blamed.grown + blamed.own_grown + blamed.commits_grown) * settled.keep;
        for suspect in &mut self.suspects {
            suspect.settle(f64::from(suspect.grown) * settled.keep);
        }
        let is_well = state.rested.is_none_or(|times| times < SLOWER) && quickest < SLOWER;
        let stalled_ns = alone * excess_ns;
        let owed_ns = self.owe(slot, kept_ns, &mut parts, is_well, stalled_ns);
        let is_owed = owed_ns > 0.0 && owed_ns >= MUCH_OWED * excess_ns;
        if is_owed {
            (settled.times, settled.sure) = (1.0, settled.sure.max(Sure::Likely));
        }
        // The part for which a limit stopped somebody says nothing of the device.
        let of_device_ns = excess_ns - parts.stopped_ns;
        let mut circumstances = self.circumstances(state, &growth, &settled, of_device_ns);
        circumstances.excess_ns = excess_ns;
        circumstances.times_ns += parts.stopped_ns;
        if alone >= MUCH_ALONE && !is_owed {
            circumstances.well_ns = 0.0;
        }
        self.now.circumstances.add(&circumstances);
        parts.others_ns = blamed.grown * settled.keep + owed_ns;
        parts.own_ns += blamed.own_grown * settled.keep - behind_ns;
        parts.commits_ns = blamed.commits_grown * settled.keep;
        parts
    }

    fn circumstances(
        &self,
        state: &State,
        growth: &Growth,
        settled: &Settled,
        excess_ns: f64,
    ) -> Circumstances {
        let only = |holds: bool| if holds { excess_ns } else { 0.0 };
        let is_slow = settled.times >= SLOWER;
        let is_long_known = self.is_long_known();
        // Requests that were alone come between bursts, and a stall may be within them.
        let is_stalled = growth.is_written && state.is_held_up(growth);
        let is_well = !is_slow && !is_stalled && (state.is_well(growth) || settled.is_well);
        let is_alone = !growth.is_more || settled.times >= FAR_SLOWER;
        let is_sure = settled.sure == Sure::Yes && !growth.is_written && is_alone;
        Circumstances {
            excess_ns,
            slow_ns: only(is_slow),
            well_ns: only(is_well),
            times_ns: excess_ns * settled.times,
            slow_seconds: u32::from(is_slow && is_sure && is_long_known && excess_ns > 0.0),
            unsure_ns: only(settled.sure == Sure::No),
        }
    }

    /// Finds out what part of what each one asks for is new.
    pub(super) fn grow(&mut self, slot: &Slot, state: &State, requests: f64) -> Growth {
        let (mut new, mut all) = (0.0, 0.0);
        let (mut new_journal, mut journal, mut new_written) = (0.0, 0.0, 0.0);
        let (mut each_ns, mut held) = (0.0, 0.0_f64);
        let (mut is_written, mut is_more, mut is_deeper) = (false, false, false);
        let own = self.actor();
        let by_depth = state.completes_the_same();
        let longest_ns = self.well_p99_ns().unwrap_or(0.0);
        for suspect in &mut self.suspects {
            let Some(asked) = slot.of(&suspect.actor) else { continue };
            // The victim's syncs come as often as the device lets them, so their number
            // shows no demand.
            let by_depth =
                by_depth && suspect.actor != own && suspect.lived.gets_more(self.disks.depth());
            is_deeper |= suspect.actor != own && suspect.lived.is_deeper(asked);
            match suspect.lived.grown(asked, by_depth) {
                Some(grown) => suspect.grown = grown as f32,
                // It only waits for requests that it made before.
                None if suspect.lived.work > 0.0 => suspect.grown = 0.0,
                None => {}
            }
        }
        // The journal's requests are a demand too, and may be others' blocks.
        for asked in &slot.asked {
            let suspect = self.suspects.iter().find(|suspect| suspect.actor == asked.actor);
            let grown = suspect.map_or(1.0, |suspect| f64::from(suspect.grown));
            new += asked.work * grown;
            all += asked.work;
            if asked.writes {
                new_written += asked.work * grown;
            }
            if asked.actor.is_journal() {
                new_journal += asked.work * grown;
                journal += asked.work;
            }
            let has_more = suspect.is_none_or(|suspect| suspect.lived.is_more());
            is_more |= has_more && asked.actor != own && asked.work >= SOME_WORK * slot.did.work;
            if grown >= MUCH_GROWTH {
                is_written |= asked.writes && asked.actor != own;
                each_ns = f64::max(each_ns, asked.each_ns());
                let is_held = suspect.map(|suspect| suspect.lived.held(asked, longest_ns));
                held = held.max(is_held.unwrap_or(f64::INFINITY));
            }
        }
        // A newcomer is no growth if it is little beside all that was there before.
        let all = f64::max(all, self.disks.asked());
        let part = if all > 0.0 { new / all } else { 1.0 };
        Growth {
            part,
            times: 1.0 / (1.0 - part).max(1e-3),
            of_journal: if journal > 0.0 { new_journal / journal } else { 0.0 },
            is_written,
            written: if new > 0.0 { new_written / new } else { 0.0 },
            is_more,
            is_deeper,
            behind_ns: requests * each_ns,
            held,
        }
    }

    /// Learns from a second in which the victim was well: the load on its disks was harmless then.
    fn live_with(&mut self, slot: &Slot, fresh: &Fresh) {
        if fresh.syncs == 0 {
            return;
        }
        self.well_seconds = self.well_seconds.saturating_add(1);
        if self.well.count() >= WELL_MEMORY {
            self.well.halve();
        }
        self.well.add(&fresh.durations);
        let weight = f64::from(fresh.syncs) / self.well.count().max(1) as f64;
        let step = fresh.mean_ns() - f64::from(self.well_wait_ns);
        self.well_wait_ns += (step * weight.min(1.0)) as f32;
        self.debt.learn(fresh.division.excess_ns, slot.written_by_others(&self.actor()));
        if self.well.count() >= BASELINE_SYNCS {
            self.well_p90_ns = self.well.quantile(0.9).map(|ns| ns as u64);
        }
        if slot.is_empty() {
            return;
        }
        let all: f64 = slot.asked.iter().map(|asked| asked.work).sum();
        let own = self.actor();
        let is_remembered = |asked: &&Asked| asked.work >= LEAST_PART * all || asked.actor == own;
        for asked in slot.asked.iter().filter(is_remembered) {
            self.suspect(asked.actor, asked.owner);
        }
        let seconds = self.disks.seconds;
        for suspect in &mut self.suspects {
            suspect.lived.learn(slot.of(&suspect.actor), seconds);
        }
        self.disks.learn(slot);
    }

    /// How long its syncs wait while all is as well as it was ever seen to be.
    pub fn usual_wait_ns(&self) -> Option<f64> {
        self.usual.usual_ns()
    }

    /// As [`Self::usual_wait_ns`], and no less than the mean of its good seconds: some
    /// are quicker than others.
    pub fn lived_wait_ns(&self) -> Option<f64> {
        self.usual_wait_ns().map(|usual_ns| usual_ns.max(self.well_wait_ns.into()))
    }

    /// The p99 of its syncs while all is well.
    pub fn well_p99_ns(&self) -> Option<f64> {
        self.well.quantile(0.99)
    }

    /// Whether its disks were seen for long enough to know what is usual there.
    pub(super) fn is_long_known(&self) -> bool {
        self.disks.known == Grade::Good || self.has_long_past()
    }

    /// Whether it was seen to be well for long enough to know what others ask for meanwhile. A
    /// kept reference says nothing of that.
    pub(super) fn has_long_past(&self) -> bool {
        self.disks.seconds >= LONG
    }

    /// Whether it was ever seen to be well. If not, no verdict on it is certain.
    pub fn was_well(&self) -> bool {
        self.well_seconds > 0
    }

    /// Keeps the blame since the last tick as it is, and learns nothing.
    #[cfg(test)]
    pub fn settle_all_as_it_is(&mut self) {
        self.suspects.iter_mut().for_each(|suspect| suspect.settle(1.0));
        self.settle_busy(0);
        let fresh = std::mem::take(&mut self.fresh);
        self.now.parts.add(&fresh.division);
        self.total.add(&fresh.division);
    }
}
