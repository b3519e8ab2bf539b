//! Tests of the requirements against measurements.

use crate::report::{
    Report, curve::Curve, machine::Machine, requirements::*, rows::*, table::Table,
};

fn report() -> Report {
    let machine = Machine::read("", 1, 1);
    Report { machine, table: Table::default(), curves: Vec::new(), requirements: Vec::new() }
}

fn find(report: &Report, asked: &str) -> Requirement {
    let mut found = evaluate(report);
    found.retain(|requirement| requirement.asked.contains(asked));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn what_was_not_measured_is_neither_reached_nor_missed() {
    assert!(evaluate(&report()).iter().all(|requirement| requirement.reached.is_none()));
}

#[test]
fn a_ratio_is_reached_at_its_bound() {
    let mut report = report();
    report.table.note(&REQUEST, OURS, "ns", 55.0);
    report.table.note(&REQUEST, BIOLATENCY, "ns", 100.0);
    let found = find(&report, BIOLATENCY);
    assert_eq!((found.reached, found.measured.as_str()), (Some(true), "0.55 × (55 to 100 ns)"));
    report.table.note(&REQUEST, OURS, "ns", 57.0);
    assert_eq!(find(&report, BIOLATENCY).reached, Some(false));
}

#[test]
fn where_biosnoop_does_not_run_the_same_on_tracepoints_stands_for_it() {
    let mut report = report();
    report.table.note(&REQUEST, OURS, "ns", 10.0);
    report.table.note(&REQUEST, BPFTRACE_LINES, "ns", 100.0);
    let found = find(&report, "biosnoop.bt does not run here");
    assert_eq!(found.reached, Some(true), "{found:?}");
}

#[test]
fn noise_is_what_the_rounds_without_anybody_span() {
    let mut report = report();
    for us in [50.0, 60.0, 70.0] {
        report.table.note(&BESIDE_P99, NOBODY, "µs", us);
        report.table.note(&BESIDE_P99, TRACER, "µs", us + 9.0);
    }
    assert_eq!(find(&report, "fdatasync p99").reached, Some(true));
    report.table.note(&BESIDE_P99, TRACER, "µs", 99.0);
    report.table.note(&BESIDE_P99, TRACER, "µs", 99.0);
    assert_eq!(find(&report, "fdatasync p99").reached, Some(false));
}

#[test]
fn only_peers_that_name_owners_are_compared() {
    let mut report = report();
    for (who, reads) in [(NOBODY, 100.0), (TRACER, 90.0), (BIOLATENCY, 95.0)] {
        report.table.note(&BESIDE_READS, who, "/s", reads);
    }
    assert_eq!(find(&report, "reads nearer").reached, None);
    report.table.note(&BESIDE_READS, BPFTRACE_LINES, "/s", 60.0);
    assert_eq!(find(&report, "reads nearer").reached, Some(true));
    assert_eq!(find(&report, "reads per second").reached, Some(false));
}

#[test]
fn the_highest_rate_is_held_against_two_thousand() {
    let mut report = report();
    let mut curve = Curve::new(IOPS, "", "");
    for (x, y) in [(1000.0, 9.0), (2000.0, 1.0), (190_000.0, 1.1)] {
        curve.note(USER_CPU, "% of a core", x, y);
    }
    report.curves.push(curve);
    assert_eq!(find(&report, "highest request rate").reached, Some(true));
}
