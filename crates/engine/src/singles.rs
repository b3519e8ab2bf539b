//! Single syncs of a second show what their mean does not.
//!
//! The quickest of them show the device between the waits: one that is slow by itself is
//! slow for all. The longest show what no queue explains: nobody waits for longer behind others
//! than those wait themselves.

use super::{
    demand::Growth, histogram::Evidence, reference::SLOWER, second::Fresh, settle::BEHIND,
    victim::Victim,
};

/// The quickest part of a second's syncs; fewer syncs have none.
const QUICK_PART: f64 = 0.1;
const FEW: u32 = 8;

/// A sync that takes this many times as long as the longest one behind others was held up by
/// something else. Durations are known to a fifth.
const LONGER: f64 = 1.25;

impl Victim {
    /// The quickest of a second's syncs, as a multiple of the quickest ones while it is
    /// well; 1 if there are too few to say.
    pub(super) fn quickest(&self, fresh: &Fresh) -> f64 {
        let quickest = |of: &Evidence| of.quantile(QUICK_PART);
        match (quickest(&fresh.durations), quickest(&self.well)) {
            (Some(now), Some(usual)) if fresh.syncs >= FEW => now / usual.max(1.0),
            _ => 1.0,
        }
    }

    /// Whether the quickest of a second's syncs took about as long as their requests take alone:
    /// then the disk is only slow at times, as beside bursts.
    pub(super) fn are_some_quick(fresh: &Fresh) -> bool {
        let quickest = fresh.durations.quantile(QUICK_PART).filter(|_| fresh.syncs >= FEW);
        quickest.is_some_and(|ns| ns < SLOWER * fresh.need_each_ns())
    }

    /// The part of a second's waits that stalls added to them: what those syncs took beyond the usual
    /// that took longer than any does that only waits for others.
    ///
    /// A sync waits behind those who ask for more for as many times longer than in the good seconds
    /// as their requests are in flight for longer, and for a flush as many times longer as others
    /// wrote more. The longest ones of the good seconds show how long that was.
    pub(super) fn waits_beyond(
        &self,
        fresh: &Fresh,
        growth: &Growth,
        usual_ns: f64,
        written: f64,
    ) -> f64 {
        let Some(p99_ns) = self.well_p99_ns() else { return 0.0 };
        let behind_ns = f64::min(BEHIND * growth.behind_ns, p99_ns * growth.held);
        let times = growth.times.max(self.debt.times(written));
        let longest_ns = LONGER * behind_ns.max(p99_ns * times);
        let all_ns = (fresh.mean_ns() - usual_ns) * f64::from(fresh.syncs);
        (fresh.durations.of_longer(longest_ns, usual_ns) / all_ns.max(1.0)).min(1.0)
    }
}
