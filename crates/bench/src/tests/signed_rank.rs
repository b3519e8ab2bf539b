//! Expected values come from published data, tables and closed forms, not from the code.

use crate::report::signed_rank::{Interval, find_critical};

/// Two-sided, 5 %: <https://www.york.ac.uk/depts/maths/tables/wilcoxon.htm>.
#[test]
fn critical_values_are_those_of_the_tables() {
    let table = [
        (6, 0),
        (7, 2),
        (8, 3),
        (9, 5),
        (10, 8),
        (11, 10),
        (12, 13),
        (13, 17),
        (14, 21),
        (15, 25),
        (16, 29),
        (17, 34),
        (18, 40),
        (19, 46),
        (20, 52),
        (21, 58),
        (22, 65),
        (23, 73),
        (24, 81),
        (25, 89),
    ];
    for (pairs, critical) in table {
        assert_eq!(find_critical(pairs), Some(critical), "{pairs} pairs");
    }
    // Five differences all have the same sign with a probability of 2/32, more than 5 %.
    for pairs in 0..=5 {
        assert_eq!(find_critical(pairs), None, "{pairs} pairs");
    }
}

/// For many pairs the sum of ranks is nearly normal, with mean n(n+1)/4 and
/// variance n(n+1)(2n+1)/24.
#[test]
fn critical_values_of_many_pairs_are_the_normal_ones() {
    for pairs in [50, 100, 200] {
        let n = f64::from(pairs);
        let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        let normal = n * (n + 1.0) / 4.0 - 1.959_964 * deviation;
        let critical = find_critical(pairs as usize).unwrap() as f64;
        assert!((critical - normal).abs() < 2.0, "{pairs}: {critical} and {normal}");
    }
}

/// Hamilton's depression scale of nine patients before and after a session:
/// Hollander and Wolfe's examples 3.1 to 3.3, whose interval for these is one
/// of 96 %.
#[test]
fn the_interval_is_the_textbooks() {
    let differences = [-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010];
    let interval = Interval::of(&differences).unwrap();
    for (found, printed) in [
        (interval.estimate, -0.46),
        (interval.low, -0.786),
        (interval.high, -0.010),
        (interval.half_width(), 0.388),
    ] {
        assert!((found - printed).abs() < 1e-9, "{found} and {printed}");
    }
    assert_eq!(interval.pairs, 9);
}

/// With six pairs the interval reaches from the smallest difference to the largest.
#[test]
fn the_fewest_pairs_have_the_widest_interval() {
    let interval = Interval::of(&[3.0, -1.0, 2.0, 5.0, 4.0, 0.0]).unwrap();
    assert_eq!((interval.low, interval.high), (-1.0, 5.0));
    assert_eq!(Interval::of(&[1.0; 5]), None);
    assert_eq!(Interval::of(&[]), None);
}

#[test]
fn pairs_that_all_agree_have_no_width() {
    let interval = Interval::of(&[0.25; 30]).unwrap();
    assert_eq!((interval.estimate, interval.low, interval.high), (0.25, 0.25, 0.25));
}

/// A constant that is added to all differences is added to the interval.
#[test]
fn it_follows_a_shift() {
    let differences = [1.0, 2.0, 4.0, 8.0, -1.0, 0.5, 3.0];
    let interval = Interval::of(&differences).unwrap();
    let shifted = Interval::of(&differences.map(|one| one + 16.0)).unwrap();
    assert_eq!(shifted.estimate - interval.estimate, 16.0);
    assert_eq!((shifted.low - interval.low, shifted.high - interval.high), (16.0, 16.0));
}

/// A disturbed pair among many moves the middle little.
#[test]
fn one_disturbed_pair_moves_little() {
    let mut differences: Vec<f64> = (0..40).map(|n| f64::from(n % 5) - 2.0).collect();
    assert_eq!(Interval::of(&differences).unwrap().estimate, 0.0);
    differences[7] = 1e6;
    let interval = Interval::of(&differences).unwrap();
    assert!(interval.estimate.abs() <= 0.5 && interval.high < 2.0, "{interval:?}");
}
