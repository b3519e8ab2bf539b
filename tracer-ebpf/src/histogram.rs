//! Log-linear histograms: equal linear steps in each power of two, for the kernel
//! programs and the engine alike.
//!
//! Nanoseconds are first multiplied by 4295/4096, which puts 1 ms just above
//! 2^20: then etcd's own bounds (1 ms · 2^k) and the 10 ms and 25 ms of its
//! guidance all lie on bucket edges (to within 0.001 %), and "p99 under 10 ms"
//! is counted, not interpolated.

/// Values below 2^10 scaled ns (about 1 µs) share the first bucket.
const FIRST_POWER: u32 = 10;

/// A division of time into `BUCKETS` buckets, `1 << STEP_BITS` of them in each
/// power of two from 1 µs up. The first has what is shorter, and the last what
/// is longer.
pub struct Scale<const STEP_BITS: u32, const BUCKETS: usize>;

impl<const STEP_BITS: u32, const BUCKETS: usize> Scale<STEP_BITS, BUCKETS> {
    const STEPS: u32 = 1 << STEP_BITS;
    /// The last bucket begins at this power of two.
    const LAST_POWER: u32 = FIRST_POWER + (BUCKETS as u32 - 2) / Self::STEPS;

    /// The bucket of a duration in nanoseconds.
    #[inline(always)]
    pub const fn bucket(ns: u64) -> usize {
        let scaled = if ns > 1 << 50 { u64::MAX >> 1 } else { ns * 4295 / 4096 };
        if scaled < 1 << FIRST_POWER {
            return 0;
        }
        let power = 63 - scaled.leading_zeros();
        if power >= Self::LAST_POWER {
            return BUCKETS - 1;
        }
        let step = (scaled >> (power - STEP_BITS)) as u32 & (Self::STEPS - 1);
        ((power - FIRST_POWER) * Self::STEPS + step + 1) as usize
    }

    /// The upper edge of a bucket in nanoseconds, exclusive; `None` for the last.
    pub const fn upper_edge_ns(bucket: usize) -> Option<u64> {
        if bucket + 1 >= BUCKETS {
            return None;
        }
        let power = FIRST_POWER + bucket as u32 / Self::STEPS;
        let step = bucket as u64 % Self::STEPS as u64;
        let scaled = (1u64 << power) + (step << (power - STEP_BITS));
        Some((scaled * 4096).div_ceil(4295))
    }

    /// The `q`-quantile in nanoseconds of durations that were counted by bucket,
    /// interpolated within its bucket; where that is the last, its lower edge.
    /// `None` where nothing was counted.
    pub fn quantile_ns<N: Copy + Into<u64>>(counts: &[N; BUCKETS], q: f64) -> Option<f64> {
        let total = counts.iter().fold(0.0, |sum, count| sum + (*count).into() as f64);
        if total <= 0.0 {
            return None;
        }
        let wanted = q * total;
        let (mut below, mut lower_ns) = (0.0, 0.0);
        for (bucket, count) in counts.iter().enumerate() {
            let count = (*count).into() as f64;
            let Some(upper_ns) = Self::upper_edge_ns(bucket) else { break };
            let upper_ns = upper_ns as f64;
            if count > 0.0 && below + count >= wanted {
                let part = ((wanted - below) / count).clamp(0.0, 1.0);
                return Some(lower_ns + (upper_ns - lower_ns) * part);
            }
            below += count;
            lower_ns = upper_ns;
        }
        Some(lower_ns)
    }
}

/// Buckets of the kernel's histograms: sixteen steps up to 2^37 scaled ns (about
/// 131 s), the lowest and the highest included.
pub const BUCKETS: usize = 27 * 16 + 2;

/// How the kernel programs count.
pub type BlockScale = Scale<4, BUCKETS>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The engine's finest and coarsest.
    type Fine = Scale<4, { 26 * 16 + 2 }>;
    type Coarse = Scale<2, { 24 * 4 + 2 }>;

    /// The bounds people compare with fall on edges, to within 0.001 %.
    #[test]
    fn bounds_of_etcd_are_bucket_edges() {
        let edges = || (0..BUCKETS).filter_map(BlockScale::upper_edge_ns);
        let bounds = (0..14).map(|k| 1_000_000 << k).chain([10_000_000, 25_000_000]);
        for bound in bounds {
            let off = edges().map(|edge| edge.abs_diff(bound)).min().unwrap();
            assert!(off * 100_000 <= bound, "{bound} ns is {off} ns off an edge");
        }
    }

    #[test]
    fn extremes_have_a_bucket() {
        assert_eq!(BlockScale::bucket(0), 0);
        assert_eq!(BlockScale::bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(BlockScale::upper_edge_ns(BUCKETS - 1), None);
        assert_eq!(Coarse::bucket(u64::MAX), 24 * 4 + 1);
        // 2^34 scaled ns.
        assert_eq!(Coarse::upper_edge_ns(24 * 4), Some(16_383_875_246));
    }

    #[test]
    fn quantiles_lie_within_a_buckets_width_of_the_truth() {
        let (mut fine, mut coarse) = ([0u32; 26 * 16 + 2], [0u32; 24 * 4 + 2]);
        for n in 1..=1000 {
            fine[Fine::bucket(n * 20_000)] += 1;
            coarse[Coarse::bucket(n * 20_000)] += 1;
        }
        for q in [0.1, 0.5, 0.9, 0.99] {
            let wanted = q * 20_000_000.0;
            let is_within = |is: f64, part: f64| (is / wanted - 1.0).abs() < part;
            assert!(is_within(Fine::quantile_ns(&fine, q).unwrap(), 0.01), "{q}: {wanted}");
            assert!(is_within(Coarse::quantile_ns(&coarse, q).unwrap(), 0.05), "{q}: {wanted}");
        }
        assert_eq!(Fine::quantile_ns(&[0u32; 26 * 16 + 2], 0.5), None);
        let mut long = [0u64; BUCKETS];
        long[BUCKETS - 1] = u64::MAX;
        long[0] = u64::MAX;
        assert!(BlockScale::quantile_ns(&long, 0.99).unwrap() > 130e9);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(ns in 0u64..200_000_000_000) {
            let b = BlockScale::bucket(ns);
            prop_assert!(BlockScale::upper_edge_ns(b).is_none_or(|edge| ns < edge));
            prop_assert!(b == 0 || BlockScale::upper_edge_ns(b - 1).unwrap() <= ns);
            let b = Coarse::bucket(ns);
            prop_assert!(Coarse::upper_edge_ns(b).is_none_or(|edge| ns < edge));
            prop_assert!(b == 0 || Coarse::upper_edge_ns(b - 1).unwrap() <= ns);
        }

        #[test]
        fn buckets_grow_with_the_value(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(BlockScale::bucket(low) <= BlockScale::bucket(high));
        }
    }
}
