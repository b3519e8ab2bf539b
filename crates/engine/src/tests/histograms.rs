//! Sums of histograms, and the rank test between two of them.

use super::*;
use crate::histogram::{Evidence, Latency, rank_z};

/// Durations that lie in different buckets, from 1 ms on by fours.
const STEPS: [u64; 3] = [MS, 4 * MS, 16 * MS];

fn evidence(counts: [u64; 3]) -> Evidence {
    let mut evidence = Evidence::default();
    for (ns, count) in STEPS.into_iter().zip(counts) {
        (0..count).for_each(|_| evidence.record(ns));
    }
    evidence
}

/// How many are in each of the three buckets.
fn counts(evidence: &Evidence) -> [u64; 3] {
    STEPS.map(|ns| {
        let mut others = evidence.clone();
        let mut one = Evidence::default();
        // Takes all out that lie in this one's bucket.
        (0..evidence.count()).for_each(|_| one.record(ns));
        others = others.without(&one);
        evidence.count() - others.count()
    })
}

#[test]
fn the_sum_of_two_has_the_counts_of_both_and_a_cleared_one_none() {
    let mut sum = evidence([2, 0, 3]);
    sum.add(&evidence([1, 5, 0]));
    assert_eq!((counts(&sum), sum.count(), sum.is_empty()), ([3, 5, 3], 11, false));
    sum.clear();
    assert_eq!((sum.count(), sum.is_empty(), sum.quantile(0.5)), (0, true, None));
}

/// 5 + 3 + 4: the remainder of the first odd count goes to the next odd one.
#[test]
fn a_half_has_half_of_each_bucket_and_the_remainders_in_pairs() {
    let mut half = evidence([5, 3, 4]);
    half.halve();
    assert_eq!(counts(&half), [2, 2, 2]);
    half.halve();
    assert_eq!(counts(&half), [1, 1, 1]);
    half.halve();
    assert_eq!(counts(&half), [0, 1, 0]);
    let mut even = evidence([2, 7, 6]);
    even.halve();
    assert_eq!(counts(&even), [1, 3, 3]);
}

/// A victim's quantiles are exact to a 16th, those of evidence to a quarter.
#[test]
fn quantiles_lie_within_the_bucket_of_their_value() {
    let (mut fine, mut coarse) = (Latency::default(), Evidence::default());
    for _ in 0..100 {
        fine.record(10 * MS);
        coarse.record(10 * MS);
    }
    for q in [0.01, 0.5, 1.0] {
        let of = |ns: Option<f64>| ns.unwrap() / (10 * MS) as f64;
        assert!((of(fine.quantile(q)) - 1.0).abs() <= 1.0 / 16.0, "{q}");
        assert!((of(coarse.quantile(q)) - 1.0).abs() <= 1.0 / 4.0, "{q}");
    }
}

/// They reach to 66 s and 16 s.
#[test]
fn the_longest_durations_have_a_bucket_of_their_own() {
    let last = |ns: u64| {
        let (mut fine, mut coarse) = (Latency::default(), Evidence::default());
        fine.record(ns);
        coarse.record(ns);
        (fine.quantile(0.5).unwrap() / 1e9, coarse.quantile(0.5).unwrap() / 1e9)
    };
    let (fine, coarse) = last(3_600_000_000_000);
    assert!((65.0..66.0).contains(&fine) && (16.3..16.4).contains(&coarse), "{fine} {coarse}");
    let (fine, coarse) = last(12_000_000_000);
    assert!((11.0..13.0).contains(&fine) && (9.0..15.0).contains(&coarse), "{fine} {coarse}");
    assert!(last(40_000_000_000).0 < 45.0);
}

/// Mann and Whitney, by hand. Of the larger sample 2 lie at 1 ms, 3 at 4 ms and 5 at
/// 16 ms, of the other 6, 4 and 2.
///
/// U counts the pairs in which the first is larger, and ties by half: 2·(0 + 3) +
/// 3·(6 + 2) + 5·(10 + 1) = 85. The mean is 10·12/2 = 60.
///
/// Ties are 8, 7 and 7 at a value: (512 − 8) + (343 − 7) + (343 − 7) = 1176. With n = 22
/// the variance is 10·12/12 · (23 − 1176/(22·21)) = 204.545…, and z is 25/14.30.
#[test]
fn ranks_are_those_of_mann_and_whitney() {
    let (larger, other) = (evidence([2, 3, 5]), evidence([6, 4, 2]));
    let variance: f64 = 10.0 * (23.0 - 1176.0 / 462.0);
    let z = 25.0 / variance.sqrt();
    assert!((rank_z(&larger, &other) - z).abs() < 1e-12);
    assert!((rank_z(&other, &larger) + z).abs() < 1e-12);
    assert!((1.74..1.76).contains(&z), "{z}");
}

#[test]
fn ranks_of_nothing_and_of_equals_are_0() {
    let (some, none) = (evidence([2, 3, 5]), Evidence::default());
    assert_eq!((rank_z(&some, &none), rank_z(&none, &some), rank_z(&none, &none)), (0.0, 0.0, 0.0));
    assert_eq!(rank_z(&evidence([4, 0, 0]), &evidence([9, 0, 0])), 0.0, "all are tied");
    assert_eq!(rank_z(&evidence([1, 0, 0]), &evidence([1, 0, 0])), 0.0);
}
