//! Small histograms of durations, and the rank test between two of them.
//!
//! Each octave from 1 µs up is cut into `1 << FINE` buckets, and quantiles are
//! interpolated within a bucket. Fixed in size: recording never allocates.

/// Counts of durations in so many buckets, the last of which has no end.
#[derive(Clone, Debug)]
pub struct Curve<const FINE: u32, const BUCKETS: usize> {
    counts: [u32; BUCKETS],
}

/// What a victim's syncs took: to 2 % in the middle of a bucket, from 1 µs to
/// 69 s, 1.6 KiB.
pub type Latency = Curve<4, { 26 << 4 }>;

/// What tells syncs with a party from those without it: to some percent, from
/// 1 µs to 17 s, 384 bytes, for there is one for each victim × party.
pub type Evidence = Curve<2, { 24 << 2 }>;

/// The lowest bucket ends here.
const LOWEST_NS: u64 = 1 << 10;

impl<const FINE: u32, const BUCKETS: usize> Default for Curve<FINE, BUCKETS> {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl<const FINE: u32, const BUCKETS: usize> Curve<FINE, BUCKETS> {
    fn bucket(ns: u64) -> usize {
        if ns < LOWEST_NS {
            return 0;
        }
        let octave = ns.ilog2() - LOWEST_NS.ilog2();
        let fraction = (ns >> (ns.ilog2() - FINE)) & ((1 << FINE) - 1);
        (((octave as usize) << FINE) + fraction as usize).min(BUCKETS - 1)
    }

    /// Where a bucket begins.
    fn edge_ns(bucket: usize) -> f64 {
        let (octave, fraction) = (bucket >> FINE, bucket & ((1 << FINE) - 1));
        let step = (LOWEST_NS << octave) as f64;
        step + step * fraction as f64 / f64::from(1u32 << FINE)
    }

    pub fn record(&mut self, ns: u64) {
        let count = &mut self.counts[Self::bucket(ns)];
        *count = count.saturating_add(1);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    pub fn clear(&mut self) {
        self.counts = [0; BUCKETS];
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// What happened so far counts half from now on. What is left of an odd
    /// count goes on to the next bucket, so that a thin tail is thinned and not
    /// cut off.
    pub fn halve(&mut self) {
        let mut left = 0;
        for count in &mut self.counts {
            let odd = *count % 2;
            *count = *count / 2 + odd * left;
            left ^= odd;
        }
    }

    /// Those of `self` that are not in `part`, which was taken from it.
    pub fn without(&self, part: &Self) -> Self {
        let mut rest = self.clone();
        for (count, part) in rest.counts.iter_mut().zip(part.counts) {
            *count = count.saturating_sub(part);
        }
        rest
    }

    /// In ns; `None` for an empty one.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let wanted = q * total as f64;
        let mut below = 0.0;
        for (at, count) in self.counts.iter().enumerate() {
            let count = f64::from(*count);
            if count > 0.0 && below + count >= wanted {
                let (from, to) = (Self::edge_ns(at), Self::edge_ns(at + 1));
                return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        Some(Self::edge_ns(BUCKETS))
    }
}

/// How much larger the values of one sample are than those of another, in
/// standard errors (Mann-Whitney U, normal approximation with ties; Mann and
/// Whitney 1947). 0 where one is empty.
pub fn rank_z(larger: &Evidence, than: &Evidence) -> f64 {
    let (a, b) = (larger.count() as f64, than.count() as f64);
    if a == 0.0 || b == 0.0 {
        return 0.0;
    }
    let n = a + b;
    let (mut below, mut u, mut ties) = (0.0, 0.0, 0.0);
    for (x, y) in larger.counts.iter().zip(&than.counts) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        u += x * (below + y / 2.0);
        below += y;
        ties += (x + y).powi(3) - (x + y);
    }
    let variance = a * b / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)).max(1.0));
    if variance <= 0.0 { 0.0 } else { (u - a * b / 2.0) / variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(values: impl IntoIterator<Item = u64>) -> Evidence {
        let mut curve = Evidence::default();
        values.into_iter().for_each(|ns| curve.record(ns));
        curve
    }

    proptest! {
        #[test]
        fn a_duration_lies_between_its_buckets_edges(ns in LOWEST_NS..16_000_000_000) {
            let at = Evidence::bucket(ns);
            prop_assert!(Evidence::edge_ns(at) <= ns as f64);
            prop_assert!((ns as f64) < Evidence::edge_ns(at + 1));
            let at = Latency::bucket(ns);
            prop_assert!(Latency::edge_ns(at) <= ns as f64);
            prop_assert!((ns as f64) < Latency::edge_ns(at + 1));
            prop_assert!(Latency::edge_ns(at + 1) <= Latency::edge_ns(at) * 1.07);
        }

        #[test]
        fn what_is_taken_out_leaves_the_rest(
            part in prop::collection::vec(0u64..1 << 34, 0..50),
            rest in prop::collection::vec(0u64..1 << 34, 0..50),
        ) {
            let all = curve(part.iter().chain(&rest).copied());
            prop_assert_eq!(all.without(&curve(part)).counts, curve(rest).counts);
        }

        #[test]
        fn half_of_all_is_left_and_nothing_in_the_end(
            values in prop::collection::vec(0u64..1 << 34, 0..99)
        ) {
            let count = values.len() as u64;
            let mut curve = curve(values);
            curve.halve();
            prop_assert_eq!(curve.count(), count / 2);
            (0..6).for_each(|_| curve.halve());
            prop_assert!(curve.is_empty());
        }
    }

    #[test]
    fn quantiles_are_right_to_some_percent() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|n| latency.record(n * 20_000));
        let evidence = curve((1..=1000).map(|n| n * 20_000));
        for q in [0.1, 0.5, 0.9, 0.99] {
            let wanted = q * 20_000_000.0;
            let is_within = |is: f64, part: f64| (is / wanted - 1.0).abs() < part;
            assert!(is_within(evidence.quantile(q).unwrap(), 0.05), "{q}: {wanted}");
            assert!(is_within(latency.quantile(q).unwrap(), 0.01), "{q}: {wanted}");
        }
        assert_eq!(Evidence::default().quantile(0.5), None);
    }

    #[test]
    fn ranks_tell_a_shift_from_noise() {
        let quick = curve((0..200).map(|n| 1_000_000 + n * 5_000));
        let slow = curve((0..50).map(|n| 4_000_000 + n * 5_000));
        assert!(rank_z(&slow, &quick) > 8.0);
        assert!(rank_z(&quick, &slow) < -8.0);
        let same = curve((0..50).map(|n| 1_000_000 + n * 20_000));
        assert!(rank_z(&same, &quick).abs() < 1.0);
        assert_eq!(rank_z(&quick, &Evidence::default()), 0.0);
    }
}
