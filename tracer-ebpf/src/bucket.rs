//! Log-linear histogram buckets: sixteen linear steps in each power of two.
//!
//! Nanoseconds are first multiplied by 4295/4096, which puts 1 ms just above
//! 2^20: then etcd's own bounds (1 ms · 2^k) and the 10 ms and 25 ms of its
//! guidance all lie on bucket edges (to within 0.001 %), and "p99 under 10 ms"
//! is counted, not interpolated.

/// Values below 2^10 scaled ns (about 1 µs) share the first bucket.
const FIRST_POWER: u32 = 10;

/// Values from 2^37 scaled ns (about 131 s) share the last bucket.
const LAST_POWER: u32 = 37;

const STEPS: u32 = 16;

/// Buckets of one histogram, the lowest and the highest included.
pub const BUCKETS: usize = ((LAST_POWER - FIRST_POWER) * STEPS + 2) as usize;

/// The bucket of a duration in nanoseconds.
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    let scaled = if ns > 1 << 50 { u64::MAX >> 1 } else { ns * 4295 / 4096 };
    if scaled < 1 << FIRST_POWER {
        return 0;
    }
    let power = 63 - scaled.leading_zeros();
    if power >= LAST_POWER {
        return BUCKETS - 1;
    }
    let step = (scaled >> (power - 4)) as u32 & (STEPS - 1);
    ((power - FIRST_POWER) * STEPS + step + 1) as usize
}

/// The upper edge of a bucket in nanoseconds, exclusive; `None` for the last.
pub const fn upper_edge_ns(bucket: usize) -> Option<u64> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let power = FIRST_POWER + bucket as u32 / STEPS;
    let step = bucket as u64 % STEPS as u64;
    let scaled = (1u64 << power) + (step << (power - 4));
    Some((scaled * 4096).div_ceil(4295))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bounds people compare with fall on edges, to within 0.001 %.
    #[test]
    fn bounds_of_etcd_are_bucket_edges() {
        let edges = || (0..BUCKETS).filter_map(upper_edge_ns);
        let bounds = (0..14).map(|k| 1_000_000 << k).chain([10_000_000, 25_000_000]);
        for bound in bounds {
            let off = edges().map(|edge| edge.abs_diff(bound)).min().unwrap();
            assert!(off * 100_000 <= bound, "{bound} ns is {off} ns off an edge");
        }
    }

    #[test]
    fn extremes_have_a_bucket() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_edge_ns(BUCKETS - 1), None);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(ns in 0u64..200_000_000_000) {
            let b = bucket(ns);
            prop_assert!(upper_edge_ns(b).is_none_or(|edge| ns < edge));
            prop_assert!(b == 0 || upper_edge_ns(b - 1).unwrap() <= ns);
        }

        #[test]
        fn buckets_grow_with_the_value(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(bucket(low) <= bucket(high));
        }
    }
}
