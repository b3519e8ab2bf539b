//! A victim that was not seen to be well, beside the reference of its disks.
//!
//! A tracer that starts after its disks became slow knows nothing of the victim's past, and
//! takes for usual what it sees. The reference of the disks is older: if they are slower than
//! that, the seconds so far were slow ones, and the device has the part that it adds.

use super::{
    blame::Division,
    demand::Slot,
    device::BesideReference,
    histogram::Evidence,
    reference::{Grade, Reference, SLOWER},
    second::{Circumstances, Fresh, SOME_WORK},
    settle::device_part,
    victim::Victim,
};

/// Strangers write more than they did beside flushes that took their usual time, if it is this
/// multiple of it.
const MORE_WRITTEN: f32 = 1.3;

/// A past of fewer seconds may be a slow time as a whole, if the disks were never seen to be as
/// fast as their reference in it.
const LONG_PAST: u8 = 30;

impl Victim {
    /// Compares a victim that was not seen to be well with its disks' reference. If
    /// requests are `n` times slower than in the reference, the victim would wait an
    /// `n`th of the time on a well disk.
    pub(super) fn hold_against_reference(&mut self, slot: &Slot, fresh: &Fresh, now_ns: u64) {
        let past = self.well_seconds.max(self.unmet.into());
        if self.was_well() && past >= LONG_PAST.into() {
            self.device_times = 0.0;
            return;
        }
        self.unmet = self.unmet.saturating_add(1);
        let own = self.actor();
        let strangers_write = slot.asked.iter().any(|asked| {
            let is_much = asked.work >= SOME_WORK * slot.did.work;
            asked.writes && is_much && asked.actor != own && !asked.actor.kthread
        });
        let is_usual = slot.paced.written.is_some_and(|times| times <= MORE_WRITTEN);
        let beside = |strangers_write| self.disks.beside_reference(strangers_write, now_ns);
        // The last answer stays while nothing is measured.
        let Some(BesideReference { times, is_paced }) = beside(strangers_write && !is_usual) else {
            return;
        };
        if is_paced && Self::are_some_quick(fresh) {
            // More requests are in flight on average, and all of them in bursts.
            return;
        }
        let is_shown_alone = beside(strangers_write)
            .is_some_and(|beside| beside.times >= SLOWER && !beside.is_paced);
        let (was_slow, is_slow) = (self.device_times() > 1.0, times >= SLOWER);
        if !is_slow {
            self.unmet = LONG_PAST;
        }
        if is_slow && self.was_well() {
            self.forget_well_seconds();
        }
        if is_slow && !self.is_beside_reference() {
            // All its samples so far were slow ones.
            self.forget_baseline();
        }
        if is_slow != was_slow {
            self.usual = Reference::default();
        }
        if is_slow || self.is_beside_reference() {
            self.device_times = if is_slow { times as f32 } else { 1.0 };
        }
        // Once it was not, it stays so until the device is as fast as its reference.
        self.is_paced = is_slow && (self.is_paced || !is_shown_alone);
    }

    /// Forgets how it was in the seconds that seemed to be good ones.
    pub(super) fn forget_well_seconds(&mut self) {
        (self.disks.seconds, self.well_seconds) = (0, 0);
        (self.well, self.well_p90_ns) = (Evidence::default(), None);
        self.well_wait_ns = 0.0;
    }

    /// The time of the device's requests as a multiple of the time in its reference; 1
    /// once the victim's own past is known.
    pub(super) fn device_times(&self) -> f64 {
        f64::from(self.device_times).max(1.0)
    }

    /// Whether its usual wait is known only from the disks' reference.
    pub fn is_beside_reference(&self) -> bool {
        self.device_times > 0.0
    }

    /// Settles a second of a victim that was never well, on a device that is slower than
    /// its reference. Nobody's earlier demand is known, so the device gets the part that it
    /// adds.
    pub(super) fn settle_beside_reference(&mut self, usual_ns: f64, fresh: &Fresh) -> Division {
        let times = self.device_times();
        let load = fresh.mean_ns() / (times * usual_ns.max(1.0));
        let load = if load < SLOWER { 1.0 } else { load };
        let Division { others_ns, own_behind_ns, device_ns, .. } = fresh.division;
        let causes = others_ns + own_behind_ns;
        let part = device_part(times, load) * (causes + device_ns);
        let more = (part - device_ns).clamp(0.0, causes);
        let keep = if causes > 0.0 { (causes - more) / causes } else { 1.0 };
        let parts = self.keep_blame(fresh, keep);
        let excess_ns = parts.excess_ns;
        let is_good = self.disks.known == Grade::Good && !self.is_paced && excess_ns > 0.0;
        self.now.circumstances.add(&Circumstances {
            excess_ns,
            slow_ns: excess_ns,
            times_ns: excess_ns * times,
            slow_seconds: u32::from(is_good),
            ..Circumstances::default()
        });
        parts
    }
}
