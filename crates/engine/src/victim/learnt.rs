//! The fields of a victim that are saved, and the bounds that must hold in them.

use super::{Victim, suspects::SUSPECTS};
use crate::save::{MAX_SUM, saved};

/// Syncs of one second, at most.
pub const MOST_SYNCS: u32 = 1 << 24;

/// Seconds in which it was well, at most: thirty years.
const MOST_SECONDS: u32 = 1 << 30;

saved! {
    Victim {
        tgid, kthread, disk, underlying, is_carried, last_ns, syncs_total, suspects, total,
        buckets_total, syncs, seconds, second, filled_by_others, worst, baseline, samples,
        baseline_ns, usual_need_ns, outliers, busy, usual, well, well_seconds, well_p90_ns,
        disks, debt, well_wait_ns, device_times, is_paced, unmet,
    }
    // A new period begins without these, and a tick empties `fresh`.
    left { id, key, now, before, past, limit, helpers, fresh, triggers }
    if |it| {
        let sums = [it.last_ns, it.syncs_total, it.samples].into_iter().chain(it.buckets_total);
        let seconds = it.well_seconds.max(it.disks.seconds);
        let are_small = sums.max().is_none_or(|most| most <= MAX_SUM) && seconds <= MOST_SECONDS;
        are_small && it.suspects.len() <= SUSPECTS
    }
}
