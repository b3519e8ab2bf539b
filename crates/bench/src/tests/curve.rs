//! Tests of growth, and of the word for it.

use crate::report::curve::{Curve, Growth};

fn growth(points: &[(f64, f64)]) -> Option<Growth> {
    let mut curve = Curve::new("c", "", "x");
    for &(x, y) in points {
        curve.note("y", "ns", x, y);
    }
    curve.find("y")?.growth()
}

#[test]
fn what_stays_within_the_spread_of_rounds_is_flat() {
    assert_eq!(growth(&[(1.0, 100.0), (64.0, 120.0), (4096.0, 95.0)]), Some(Growth::Flat));
}

#[test]
fn growth_by_the_decade_is_logarithmic_and_by_the_factor_is_not() {
    let decades = [(1.0, 1.0), (10.0, 2.0), (100.0, 3.0), (1000.0, 4.0)];
    assert_eq!(growth(&decades), Some(Growth::Logarithmic));
    let linear = [(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)];
    assert_eq!(growth(&linear), Some(Growth::Growing));
    let after_a_constant = [(1.0, 50.0), (32.0, 65.0), (1024.0, 500.0)];
    assert_eq!(growth(&after_a_constant), Some(Growth::Growing));
}

#[test]
fn a_hump_is_no_logarithm() {
    assert_eq!(growth(&[(1.0, 1.0), (10.0, 9.0), (1000.0, 2.0)]), Some(Growth::Growing));
}

#[test]
fn points_come_in_the_order_of_x_whatever_that_of_rounds() {
    let mut curve = Curve::new("c", "", "x");
    for (x, y) in [(10.0, 1.0), (1.0, 2.0), (10.0, 3.0)] {
        curve.note("y", "ns", x, y);
    }
    let series = curve.find("y").unwrap();
    let medians: Vec<_> = series.spreads().iter().map(|(x, s)| (*x, s.median)).collect();
    assert_eq!(medians, [(1.0, 2.0), (10.0, 2.0)]);
    assert_eq!(series.near(7.0).unwrap().0, 10.0);
}
