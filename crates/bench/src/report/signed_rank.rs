//! Computes an estimate (Hodges and Lehmann's) and an interval (the exact one of
//! Wilcoxon's signed-rank test) from many paired differences.
//!
//! The estimate is the median of the means of all pairs of differences (Walsh averages,
//! which include each difference paired with itself). The ends of the interval are two of
//! these means, at a distance from the smallest and the largest that the distribution of
//! the signed-rank statistic determines: M. Hollander, D. A. Wolfe, *Nonparametric
//! Statistical Methods*, chapter 3 (estimate 3.2, interval 3.3 of the second edition). The
//! method assumes that the differences are symmetric about their middle, which holds if
//! two arms are measured equally often in both orders. It assumes no normal distribution,
//! and a few disturbed pairs move the result little.

/// The interval holds the true median with this probability or a little more.
const CONFIDENCE: f64 = 0.95;

/// The middle of paired differences, in their own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
    pub pairs: usize,
}

impl Interval {
    /// `None` for fewer than six differences, which have no such interval.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let pairs = differences.len();
        let out = find_critical(pairs)?;
        let mut means = Vec::with_capacity(pairs * (pairs + 1) / 2);
        for (at, one) in differences.iter().enumerate() {
            means.extend(differences[at..].iter().map(|other| f64::midpoint(*one, *other)));
        }
        means.sort_by(f64::total_cmp);
        let last = means.len() - 1;
        Some(Self {
            estimate: f64::midpoint(means[last / 2], means[last.div_ceil(2)]),
            low: means[out],
            high: means[last - out],
            pairs,
        })
    }

    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// The critical value of the two-sided test for this number of pairs: the largest sum of
/// positive ranks that differences without a direction stay at or below only rarely.
pub fn find_critical(pairs: usize) -> Option<usize> {
    let largest = pairs * (pairs + 1) / 2;
    // The probability of each sum: every rank is in it or not, evenly.
    let mut chances = vec![0.0; largest + 1];
    chances[0] = 1.0;
    for rank in 1..=pairs {
        for sum in (0..=largest).rev() {
            let without = chances[sum];
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = f64::midpoint(without, with);
        }
    }
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let mut below = 0.0;
    let mut is_rare = |chance: &f64| {
        below += chance;
        below <= tail
    };
    chances.iter().take_while(|chance| is_rare(chance)).count().checked_sub(1)
}
