//! How tests ended, as it is kept for the table and for `--times`.

use anyhow::Result;
use tracer_vm::{report::Report, tally::Test};

use super::{
    state::{State, Timed},
    table::{self, ANY_KERNEL, Row},
    times::Time,
    today,
};

/// Records how a test ended.
pub fn record(
    state: Option<&mut State>,
    times: &mut Vec<Time>,
    tree: &str,
    kernel: &str,
    test: Test,
) -> Result<()> {
    let Test { name, outcome, seconds } = test;
    // Tests that run side by side have no times of their own.
    let seconds = if kernel == ANY_KERNEL { 0.0 } else { seconds };
    if seconds > 0.0 {
        times.push(time(&name, kernel, seconds));
    }
    let Some(state) = state else { return Ok(()) };
    let row = Row {
        test: name,
        commit: tree.to_owned(),
        kernel: kernel.to_owned(),
        date: today(),
        outcome,
    };
    state.add(Timed { row, seconds, played: None })
}

pub fn time(test: &str, kernel: &str, seconds: f64) -> Time {
    let name = if kernel.contains(" (") {
        format!("{test} on {}", table::kernel_key(kernel))
    } else {
        test.to_owned()
    };
    Time { name, seconds }
}

/// Records how all tests of a boot ended.
pub fn record_boot(
    mut state: Option<&mut State>,
    times: &mut Vec<Time>,
    tree: &str,
    report: &Report,
) -> Result<()> {
    let kernel = format!("{} ({})", report.boot, report.release);
    for test in &report.tests {
        record(state.as_deref_mut(), times, tree, &kernel, test.clone())?;
    }
    match state {
        Some(state) if report.has_passed() => state.finish_boot(&report.boot.to_string()),
        _ => Ok(()),
    }
}
