//! Tests of charts.

use crate::report::{curve::Curve, plot::draw};

#[test]
fn each_series_has_a_panel_and_zeros_can_be_drawn() {
    let mut curve = Curve::new("c", "a curve", "requests/s");
    for x in [1000.0, 2000.0, 100_000.0] {
        curve.note("cost", "ns", x, 500.0);
        curve.note("nothing", "MiB", x, 0.0);
    }
    curve.note("alone", "ns", 1.0, 5.0);
    let svg = draw(&curve).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    for text in ["cost, ns", "nothing, MiB", "alone, ns", "requests/s"] {
        assert!(svg.contains(text), "{text}");
    }
}
