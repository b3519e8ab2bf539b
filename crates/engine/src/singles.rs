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

    /// The part of a second's waits that lies beyond what a single sync could wait for
    /// those who ask for more: behind their requests, or as it does now and then while it
    /// is well, as often as they ask now.
    pub(super) fn waits_beyond(&self, fresh: &Fresh, growth: &Growth, usual_ns: f64) -> f64 {
        let Some(p99_ns) = self.well_p99_ns() else { return 0.0 };
        let longest_ns = f64::max(BEHIND * growth.behind_ns, p99_ns * growth.times);
        fresh.durations.beyond(longest_ns) / fresh.durations.beyond(usual_ns).max(1.0)
    }
}
