//! A small histogram of durations, one for each victim × party, and the rank
//! test between two of them.
//!
//! Four buckets per octave from 16 µs to 16 s: 80 counts. Quantiles are
//! interpolated within a bucket, so a ratio of two is right to some percent.

/// Buckets per octave, as a power of two.
const FINE: u32 = 2;
/// The lowest bucket ends here.
const LOWEST_NS: u64 = 1 << 14;
const OCTAVES: usize = 20;
pub const BUCKETS: usize = OCTAVES << FINE;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Curve {
    counts: [u32; BUCKETS],
}

impl Default for Curve {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

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

impl Curve {
    pub fn record(&mut self, ns: u64) {
        let count = &mut self.counts[bucket(ns)];
        *count = count.saturating_add(1);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    pub fn clear(&mut self) {
        self.counts = [0; BUCKETS];
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// What happened so far counts half from now on.
    pub fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
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
                let (from, to) = (edge_ns(at), edge_ns(at + 1));
                return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        Some(edge_ns(BUCKETS))
    }
}

/// How much larger the values of one sample are than those of another, in
/// standard errors (Mann-Whitney U, normal approximation with ties; Mann and
/// Whitney 1947). 0 where one is empty.
pub fn rank_z(larger: &Curve, than: &Curve) -> f64 {
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

    fn curve(values: impl IntoIterator<Item = u64>) -> Curve {
        let mut curve = Curve::default();
        values.into_iter().for_each(|ns| curve.record(ns));
        curve
    }

    proptest! {
        #[test]
        fn a_duration_lies_between_its_buckets_edges(ns in LOWEST_NS..16_000_000_000) {
            let at = bucket(ns);
            prop_assert!(edge_ns(at) <= ns as f64 && (ns as f64) < edge_ns(at + 1));
        }

        #[test]
        fn what_is_taken_out_leaves_the_rest(
            part in prop::collection::vec(0u64..1 << 34, 0..50),
            rest in prop::collection::vec(0u64..1 << 34, 0..50),
        ) {
            let all = curve(part.iter().chain(&rest).copied());
            prop_assert_eq!(all.without(&curve(part)).counts, curve(rest).counts);
        }
    }

    #[test]
    fn quantiles_are_right_to_some_percent() {
        let curve = curve((1..=1000).map(|n| n * 20_000));
        for q in [0.1, 0.5, 0.9, 0.99] {
            let (is, wanted) = (curve.quantile(q).unwrap(), q * 20_000_000.0);
            assert!((is / wanted - 1.0).abs() < 0.05, "{q}: {is} for {wanted}");
        }
        assert_eq!(Curve::default().quantile(0.5), None);
    }

    #[test]
    fn ranks_tell_a_shift_from_noise() {
        let quick = curve((0..200).map(|n| 1_000_000 + n * 5_000));
        let slow = curve((0..50).map(|n| 4_000_000 + n * 5_000));
        assert!(rank_z(&slow, &quick) > 8.0);
        assert!(rank_z(&quick, &slow) < -8.0);
        let same = curve((0..50).map(|n| 1_000_000 + n * 20_000));
        assert!(rank_z(&same, &quick).abs() < 1.0);
        assert_eq!(rank_z(&quick, &Curve::default()), 0.0);
    }
}
