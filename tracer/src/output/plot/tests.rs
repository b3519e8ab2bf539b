//! Tests of plots.

use super::{
    Chart, Column, Lane, Measure,
    axis::{decades, levels, moments, step},
    draw,
    steps::{area, runs},
};
use crate::cli::moments::Zone;
use tracer_snapshot::{Phase, Phases};

const HOSTILE: &str = "</text><script>alert(1)</script>";

/// Twenty seconds, of which five are missing, with a culprit in the second half.
pub fn chart() -> Chart {
    let start = 1_772_366_400.0;
    let column = |n: u32| {
        let slow = if n >= 10 { 20.0 } else { 1.0 };
        let phases = [(Phase::Cpu, 0.01), (Phase::Queue, 0.1 * slow), (Phase::Device, 0.1 * slow)];
        Column {
            from: start + f64::from(n),
            to: start + f64::from(n + 1),
            syncs: 50,
            p50_seconds: 0.002 * slow,
            p99_seconds: 0.005 * slow,
            phases: Phases::from(phases),
            queue_seconds: Some(0.001 * slow),
            device_seconds: (n != 3).then_some(0.002 * slow),
        }
    };
    let columns: Vec<_> = (0..20).filter(|n| !(4..9).contains(n)).map(column).collect();
    let values = columns.iter().map(|one| f64::from(u8::from(one.p99_seconds > 0.05))).collect();
    Chart {
        victim: format!("etcd {HOSTILE} wal"),
        disk: HOSTILE.to_owned(),
        from: start,
        to: start + 20.0,
        columns,
        lanes: vec![Lane { name: HOSTILE.to_owned(), measure: Measure::InFlight, values }],
        slow: vec![[start + 10.0, start + 50.0]],
        gaps: vec![[start + 4.0, start + 9.0]],
        marks: vec![start + 15.0, start + 300.0],
    }
}

#[test]
fn a_picture_says_without_colours_what_is_what() {
    let svg = draw(&chart(), &Zone::utc()).unwrap();
    for text in [
        "p99 ▲",
        "p50 ●",
        "slow",
        "no data",
        "mark",
        "up to 1.0 requests in flight",
        "from the top: device, queue, cpu",
        "10.0 ms",
        "12:00:10",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
    assert_eq!(svg.matches("\nmark\n").count(), 1, "the other mark is later: {svg}");
    assert!(svg.starts_with("<svg role=\"img\" aria-label=\"etcd ") && svg.ends_with("</svg>\n"));
}

#[test]
fn names_in_a_picture_are_text() {
    let svg = draw(&chart(), &Zone::utc()).unwrap();
    assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;alert(1)"), "{svg}");
    assert_eq!(svg.matches("<style>").count(), 1);
}

#[test]
fn a_picture_of_nothing_can_be_drawn() {
    let empty = Chart { from: 5.0, to: 6.0, ..Chart::default() };
    let svg = draw(&empty, &Zone::utc()).unwrap();
    assert!(svg.contains("no sync") && !svg.contains("NaN"), "{svg}");
    let mut still = chart();
    for column in &mut still.columns {
        *column = Column { from: column.from, to: column.to, syncs: 1, ..Column::default() };
    }
    assert!(!draw(&still, &Zone::utc()).unwrap().contains("NaN"));
}

#[test]
fn labels_of_time_are_those_of_a_clock() {
    assert_eq!(step(3600.0, 9), 600.0);
    assert_eq!(step(13.0, 180), 1.0);
    assert_eq!(moments([61.0, 200.0], 5), [90.0, 120.0, 150.0, 180.0]);
}

#[test]
fn values_lie_between_powers_of_ten_and_below_round_levels() {
    assert_eq!(decades([0.0, 0.002, 0.05].into_iter()), [1e-3, 1e-1]);
    assert_eq!(decades([0.01].into_iter()), [1e-2, 1e-1]);
    assert_eq!(decades([0.0].into_iter()), [1e-3, 1e-2]);
    assert_eq!(levels(8.0), [2.0, 4.0, 6.0, 8.0]);
    assert_eq!(levels(9.5), [5.0]);
    assert_eq!(levels(2.5), [1.0, 2.0]);
}

#[test]
fn a_line_is_broken_where_nothing_was_recorded() {
    let columns = chart().columns;
    let found = runs(&columns, |_| true);
    assert_eq!(found, [vec![0, 1, 2, 3], (4..15).collect()]);
    let corners = area(&columns, &[0, 1], |_| 0.0, |at| at as f64 + 1.0);
    let corners: Vec<_> = corners.iter().map(|(x, y)| (x - columns[0].from, *y)).collect();
    let around = [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0), (2.0, 2.0)];
    let back = [(2.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 0.0)];
    assert_eq!(corners, [around, back].concat());
}
