//! The requirements on the tracer's cost, compared with the measurements.
//!
//! The bounds are requirements, and not what this machine reaches: nothing fails when
//! one is missed, but the page says so.

use serde::Serialize;

use super::{
    Report,
    rows::{
        ALLOCATIONS, BESIDE_P99, BESIDE_PUT_P99, BESIDE_READS, BESIDE_SYNCS, BINARY, BIOLATENCY,
        BIOSNOOP_BT, BPFTRACE_FDATASYNC, BPFTRACE_LINES, CLOCK_FLOOR, CPU, CROWD, FIRST_ANSWER,
        NAME_OWNERS, NOBODY, OURS, OURS_NOTED, OURS_SYNC, PEAK, REPLAY, REQUEST, RSS, START,
        STATIC_BINARY, SYNC, THOUSAND, TRACER,
    },
    spread::{Spread, number},
    table::{Section, Table},
};

/// The curve and its series that the CPU in user space is read from.
pub const IOPS: &str = "iops";
pub const USER_CPU: &str = "CPU in user space";

#[derive(Debug, Serialize)]
pub struct Requirement {
    pub asked: String,
    pub measured: String,
    /// Absent if it could not be measured.
    pub reached: Option<bool>,
}

/// Evaluates all requirements, in the order in which they were set.
pub fn evaluate(report: &Report) -> Vec<Requirement> {
    let table = &report.table;
    let per_request =
        |of, at_most| at_most_times(table, &REQUEST, OURS, of, at_most, "per block request");
    let mut all = vec![per_request(BIOLATENCY, 0.55)];
    all.push(match table.spread(&REQUEST, BIOSNOOP_BT) {
        Some(_) => per_request(BIOSNOOP_BT, 0.15),
        // biosnoop hooks kernel functions; the nearest replacement is the same on tracepoints.
        None => Requirement {
            asked: format!(
                "BPF run time per block request ≤ 0.15 × that of bpftrace's biosnoop, replaced by \
                 `{BPFTRACE_LINES}`: {BIOSNOOP_BT} does not run here"
            ),
            ..per_request(BPFTRACE_LINES, 0.15)
        },
    });
    all.push(per_request(CLOCK_FLOOR, 1.5));
    if table.spread(&REQUEST, OURS_NOTED).is_some() {
        for (of, at_most) in [(BIOLATENCY, 0.55), (CLOCK_FLOOR, 1.5)] {
            let what = "per block request, on a node whose disks have no scheduler";
            all.push(at_most_times(table, &REQUEST, OURS_NOTED, of, at_most, what));
        }
    }
    let what = "per sync, begin and end with snapshots";
    all.push(at_most_times(table, &SYNC, OURS_SYNC, BPFTRACE_FDATASYNC, 1.0, what));
    all.push(user_cpu(report));
    let bounded = |section, what, bound, asked: &str| at_most(table, section, what, bound, asked);
    all.push(bounded(&THOUSAND, CPU, 1.0, "CPU at 1,000 syncs/s ≤ 1 % of a core"));
    all.push(bounded(&REPLAY, ALLOCATIONS, 0.0, "no heap allocation per record"));
    all.push(bounded(
        &CROWD,
        RSS,
        16.0,
        "resident size ≤ 16 MiB with 1,000 owners and 100 victims",
    ));
    all.push(bounded(&CROWD, PEAK, 16.0, "… and never more since its start"));
    all.push(within_noise(table, &BESIDE_P99, "fdatasync p99 within the noise"));
    all.push(within_noise(table, &BESIDE_PUT_P99, "etcd put p99 within the noise"));
    for (section, what) in [(&BESIDE_READS, "reads"), (&BESIDE_SYNCS, "fdatasyncs")] {
        all.push(keeps(table, section, what));
        all.push(nearer_than_peers(table, section, what));
    }
    all.push(bounded(&START, FIRST_ANSWER, 0.5, "start to the first correct answer ≤ 0.5 s"));
    all.push(bounded(&START, BINARY, 8.0, "binary ≤ 8 MB, stripped"));
    all.push(bounded(&START, STATIC_BINARY, 8.0, "… and the static one"));
    all
}

fn unknown(asked: String) -> Requirement {
    Requirement { asked, measured: "not measured".to_owned(), reached: None }
}

fn at_most_times(
    table: &Table,
    section: &Section,
    ours: &str,
    theirs: &str,
    bound: f64,
    what: &str,
) -> Requirement {
    let asked = format!("BPF run time {what} ≤ {bound} × that of {theirs}");
    let (Some(ours), Some(theirs)) = (table.spread(section, ours), table.spread(section, theirs))
    else {
        return unknown(asked);
    };
    let ratio = ours.median / theirs.median;
    let (ours, theirs) = (number(ours.median), number(theirs.median));
    let measured = format!("{ratio:.2} × ({ours} to {theirs} ns)");
    Requirement { asked, measured, reached: Some(ratio <= bound) }
}

fn at_most(table: &Table, section: &Section, what: &str, bound: f64, asked: &str) -> Requirement {
    let asked = asked.to_owned();
    let Some(row) = table.find(section, what) else { return unknown(asked) };
    let Some(spread) = row.spread() else { return unknown(asked) };
    let measured = format!("{} {} ({})", number(spread.median), row.unit, spread.range());
    Requirement { asked, measured, reached: Some(spread.median <= bound) }
}

fn user_cpu(report: &Report) -> Requirement {
    let asked =
        "CPU in user space at the highest request rate ≤ 1.2 × that at 2,000/s, at the same \
         sync rate"
            .to_owned();
    let series = report.curves.iter().find(|curve| curve.name == IOPS);
    let Some(series) = series.and_then(|curve| curve.find(USER_CPU)) else {
        return unknown(asked);
    };
    let spreads = series.spreads();
    let (Some((_, slow)), Some((_, fast))) = (series.near(2000.0), spreads.last()) else {
        return unknown(asked);
    };
    let ratio = fast.median / slow.median;
    let (fast, slow) = (number(fast.median), number(slow.median));
    let measured = format!("{ratio:.2} × ({fast} % of a core to {slow} %)");
    Requirement { asked, measured, reached: Some(ratio <= 1.2) }
}

/// Checks that it is no slower than the slowest round without a tracer.
fn within_noise(table: &Table, section: &Section, asked: &str) -> Requirement {
    let asked = asked.to_owned();
    let (Some(bare), Some(ours)) = (table.spread(section, NOBODY), table.spread(section, TRACER))
    else {
        return unknown(asked);
    };
    let median = number(ours.median);
    let measured = format!("{median} µs; with nobody {} ({})", number(bare.median), bare.range());
    Requirement { asked, measured, reached: Some(ours.median <= bare.max) }
}

fn keeps(table: &Table, section: &Section, what: &str) -> Requirement {
    let asked = format!("{what} per second ≥ 0.98 × those with nobody beside");
    let (Some(bare), Some(ours)) = (table.spread(section, NOBODY), table.spread(section, TRACER))
    else {
        return unknown(asked);
    };
    let ratio = ours.median / bare.median;
    let measured = format!("{ratio:.3} × ({} to {})", number(ours.median), number(bare.median));
    Requirement { asked, measured, reached: Some(ratio >= 0.98) }
}

fn nearer_than_peers(table: &Table, section: &Section, what: &str) -> Requirement {
    let asked = format!("… and {what} nearer to it than beside any peer that names owners");
    let ratio = |who: &str| {
        let bare: Spread = table.spread(section, NOBODY)?;
        Some(table.spread(section, who)?.median / bare.median)
    };
    let peers = NAME_OWNERS.iter().filter_map(|peer| Some((ratio(peer)?, *peer)));
    let best = peers.max_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(ours), Some((theirs, peer))) = (ratio(TRACER), best) else { return unknown(asked) };
    let measured = format!("{ours:.3} ×; {peer} {theirs:.3} ×");
    Requirement { asked, measured, reached: Some(ours >= theirs) }
}
