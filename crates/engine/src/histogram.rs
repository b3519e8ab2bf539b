//! Small histograms of durations, and the rank test between two of them.
//!
//! Fixed in size: recording never allocates.

use tracer_ebpf::histogram::Scale;

/// Durations counted by the buckets of a [`Scale`].
#[derive(Clone, Debug)]
pub struct Histogram<const STEP_BITS: u32, const BUCKETS: usize> {
    counts: [u32; BUCKETS],
}

/// Durations of a victim's syncs, from 1 µs to 66 s, in buckets whose width is at most
/// 1/16 of their lower edge.
/// It takes 1.6 KiB.
pub type Latency = Histogram<4, { 26 * 16 + 2 }>;

/// Durations of the syncs that had one actor's work on their path, to compare with
/// those that had not, from 1 µs to 16 s. It is coarse, with 4 buckets to each power
/// of two, and takes 392 bytes, because each victim has one for each actor.
pub type Evidence = Histogram<2, { 24 * 4 + 2 }>;

impl<const STEP_BITS: u32, const BUCKETS: usize> Default for Histogram<STEP_BITS, BUCKETS> {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl<const STEP_BITS: u32, const BUCKETS: usize> Histogram<STEP_BITS, BUCKETS> {
    pub fn record(&mut self, ns: u64) {
        let count = &mut self.counts[Scale::<STEP_BITS, BUCKETS>::bucket(ns)];
        *count = count.saturating_add(1);
    }

    /// The counts, by bucket.
    pub(super) fn counts(&self) -> &[u32; BUCKETS] {
        &self.counts
    }

    pub(super) fn counts_mut(&mut self) -> &mut [u32; BUCKETS] {
        &mut self.counts
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

    /// Halves all counts, so that newer durations weigh more. The remainder of an
    /// odd count is carried to the next bucket: otherwise a tail of single counts
    /// would be lost.
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

    /// The sum of the parts of all durations that lie beyond this one, in ns.
    pub fn beyond(&self, ns: f64) -> f64 {
        self.of_longer(ns, ns)
    }

    /// The sum of the parts beyond `from_ns` of those durations that are longer than `ns`.
    pub fn of_longer(&self, ns: f64, from_ns: f64) -> f64 {
        let edges = (0..BUCKETS).map(Scale::<STEP_BITS, BUCKETS>::upper_edge_ns);
        let (mut lower, mut sum) = (0.0, 0.0);
        for (edge, count) in edges.zip(self.counts) {
            let upper = edge.map_or(lower, |edge| edge as f64);
            let middle = f64::midpoint(lower, upper);
            if middle > ns {
                sum += f64::from(count) * (middle - from_ns).max(0.0);
            }
            lower = upper;
        }
        sum
    }

    /// In ns; 0 for an empty one.
    pub fn mean(&self) -> f64 {
        self.beyond(0.0) / self.count().max(1) as f64
    }

    /// In ns; `None` for an empty one.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        Scale::<STEP_BITS, BUCKETS>::quantile_ns(&self.counts, q)
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

    fn histogram(values: impl IntoIterator<Item = u64>) -> Evidence {
        let mut histogram = Evidence::default();
        values.into_iter().for_each(|ns| histogram.record(ns));
        histogram
    }

    proptest! {
        #[test]
        fn what_is_taken_out_leaves_the_rest(
            part in prop::collection::vec(0u64..1 << 34, 0..50),
            rest in prop::collection::vec(0u64..1 << 34, 0..50),
        ) {
            let all = histogram(part.iter().chain(&rest).copied());
            prop_assert_eq!(all.without(&histogram(part)).counts, histogram(rest).counts);
        }

        #[test]
        fn half_of_all_is_left_and_nothing_in_the_end(
            values in prop::collection::vec(0u64..1 << 34, 0..99)
        ) {
            let count = values.len() as u64;
            let mut histogram = histogram(values);
            histogram.halve();
            prop_assert_eq!(histogram.count(), count / 2);
            (0..6).for_each(|_| histogram.halve());
            prop_assert!(histogram.is_empty());
        }
    }

    #[test]
    fn ranks_distinguish_a_shift_from_noise() {
        let quick = histogram((0..200).map(|n| 1_000_000 + n * 5_000));
        let slow = histogram((0..50).map(|n| 4_000_000 + n * 5_000));
        assert!(rank_z(&slow, &quick) > 8.0);
        assert!(rank_z(&quick, &slow) < -8.0);
        let same = histogram((0..50).map(|n| 1_000_000 + n * 20_000));
        assert!(rank_z(&same, &quick).abs() < 1.0);
        assert_eq!(rank_z(&quick, &Evidence::default()), 0.0);
    }
}
