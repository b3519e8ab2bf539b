//! Tests of spreads: several rounds as one figure.

use crate::report::spread::{Spread, number};

#[test]
fn the_median_of_an_even_number_lies_between_the_middle_two() {
    let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
    assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
    assert_eq!(Spread::of(&[7.0]).unwrap().range(), "7");
    assert_eq!(Spread::of(&[]), None);
}

#[test]
fn numbers_have_about_three_digits() {
    let shown = [0.0, 0.001_234, 0.123_4, 1.234, 12.34, 123.4, 194_000.0, 194_000.4];
    let shown = shown.map(number);
    assert_eq!(shown, ["0", "0.0012", "0.123", "1.23", "12.3", "123", "194000", "194000"]);
}
