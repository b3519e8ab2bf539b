//! The sums of a victim's syncs over some time, and the bounds by which these are counted.

use super::{blame::Division, histogram::Latency, phases::Phases, second::Circumstances};

/// etcd's own bounds: 1 ms · 2^k.
pub const WAL_BOUNDS: usize = 14;

/// Bounds by which all syncs are counted: finer than etcd's below 1 ms, with
/// etcd's own, and the 10 ms and 25 ms of its guidance.
pub const SYNC_BOUNDS_NS: [u64; 19] = [
    125_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    4_000_000,
    8_000_000,
    10_000_000,
    16_000_000,
    25_000_000,
    32_000_000,
    64_000_000,
    128_000_000,
    256_000_000,
    512_000_000,
    1_024_000_000,
    2_048_000_000,
    4_096_000_000,
    8_192_000_000,
];

/// One more than there are bounds: the last is of what lies above them all.
pub type SyncBuckets = [u64; SYNC_BOUNDS_NS.len() + 1];

/// The sums over some time.
#[derive(Clone, Debug, Default)]
pub struct Half {
    latency: Latency,
    pub max_ns: u64,
    pub phases: Phases,
    pub syncs: u64,
    pub duration_ns: u64,
    /// The syncs, by [`SYNC_BOUNDS_NS`].
    pub buckets: SyncBuckets,
    /// Up to the last tick.
    pub parts: Division,
    /// Mean competing requests in flight, added up over the syncs.
    pub in_flight: f32,
    pub circumstances: Circumstances,
    /// CPU time of its syncs beyond what is usual, without `stolen_ns`, up to the last tick.
    pub busy_ns: f32,
    /// The part of that CPU time that the hypervisor may have taken.
    pub stolen_ns: f32,
    /// The time for which a CPU limit stopped it outside its syncs.
    pub held_outside_ns: f32,
    /// Ticks, and for how long a limit held the victim back.
    pub ticks: u32,
    pub limited_cpu_ns: u64,
    pub limited_io_ns: u64,
}

impl Half {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Counts a sync of this duration.
    pub(super) fn count(&mut self, duration_ns: u64) {
        self.latency.record(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
        self.syncs += 1;
        self.duration_ns += duration_ns;
        self.buckets[sync_bucket(duration_ns)] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            latency,
            max_ns,
            phases,
            syncs,
            duration_ns,
            buckets,
            parts,
            in_flight,
            circumstances,
            busy_ns,
            stolen_ns,
            held_outside_ns,
            ticks,
            limited_cpu_ns,
            limited_io_ns,
        } = other;
        self.latency.add(latency);
        self.max_ns = self.max_ns.max(*max_ns);
        self.phases.add(phases);
        self.syncs += syncs;
        self.duration_ns += duration_ns;
        self.buckets.iter_mut().zip(buckets).for_each(|(sum, count)| *sum += count);
        self.parts.add(parts);
        self.in_flight += in_flight;
        self.circumstances.add(circumstances);
        self.busy_ns += busy_ns;
        self.stolen_ns += stolen_ns;
        self.held_outside_ns += held_outside_ns;
        self.ticks += ticks;
        self.limited_cpu_ns += limited_cpu_ns;
        self.limited_io_ns += limited_io_ns;
    }

    /// CPU time of its syncs beyond what is usual, whoever had the CPU.
    pub fn long_on_cpu_ns(&self) -> f64 {
        f64::from(self.busy_ns) + f64::from(self.stolen_ns)
    }

    /// A quantile of the syncs' durations; 0 where there were none.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        self.latency.quantile(q).map_or(0, |ns| (ns as u64).min(self.max_ns))
    }
}

/// The bucket of a duration (bounds are inclusive, as etcd's are).
pub fn sync_bucket(duration_ns: u64) -> usize {
    SYNC_BOUNDS_NS.partition_point(|bound| *bound < duration_ns)
}

/// Counts by etcd's own bounds.
pub fn wal_buckets(buckets: &SyncBuckets) -> [u64; WAL_BOUNDS + 1] {
    let mut wal = [0; WAL_BOUNDS + 1];
    for (at, count) in buckets.iter().enumerate() {
        let bound_ns = SYNC_BOUNDS_NS.get(at).copied().unwrap_or(u64::MAX);
        let k = (0..WAL_BOUNDS).find(|k| bound_ns <= 1_000_000u64 << k).unwrap_or(WAL_BOUNDS);
        wal[k] += count;
    }
    wal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sync_is_in_the_first_bucket_whose_bound_it_does_not_exceed(
            duration_ns in prop_oneof![
                0u64..20_000_000_000,
                (0..SYNC_BOUNDS_NS.len(), 0u64..3).prop_map(|(at, d)| SYNC_BOUNDS_NS[at] + d - 1),
            ]
        ) {
            let mut buckets = SyncBuckets::default();
            buckets[sync_bucket(duration_ns)] = 1;
            let at = sync_bucket(duration_ns);
            prop_assert!(SYNC_BOUNDS_NS.get(at).is_none_or(|bound| duration_ns <= *bound));
            prop_assert!(at == 0 || duration_ns > SYNC_BOUNDS_NS[at - 1]);
            let of_etcd =
                (0..WAL_BOUNDS).find(|k| duration_ns <= 1_000_000 << k).unwrap_or(WAL_BOUNDS);
            let wal = wal_buckets(&buckets);
            prop_assert_eq!((wal[of_etcd], wal.iter().sum::<u64>()), (1, 1));
        }
    }
}
