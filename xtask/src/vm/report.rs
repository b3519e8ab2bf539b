//! What became of a boot, and how it is told.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use serde::Serialize;

use crate::vm::{
    console::{Cell, Console},
    plan::Boot,
};

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Verdict {
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The boot's name.
    pub boot: String,
    /// What `uname -r` says.
    pub release: String,
    pub verdict: Verdict,
    pub duration_seconds: f64,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Names of tests that failed.
    pub failures: Vec<String>,
    pub cells: Vec<Cell>,
    pub remarks: Vec<String>,
}

impl Report {
    pub fn new(boot: &Boot, release: &str, verdict: Verdict) -> Self {
        let skipped = u64::from(matches!(verdict, Verdict::Skipped(_)));
        Self {
            boot: boot.to_string(),
            release: release.to_owned(),
            verdict,
            duration_seconds: 0.0,
            passed: 0,
            failed: 0,
            skipped,
            failures: Vec::new(),
            cells: Vec::new(),
            remarks: Vec::new(),
        }
    }

    pub fn take(&mut self, console: Console, duration: Duration) {
        self.duration_seconds = duration.as_secs_f64();
        self.passed = console.tally.passed();
        self.failed = console.tally.failed;
        self.skipped = console.tally.skipped();
        self.failures = console.failures;
        self.cells = console.cells;
        self.remarks = console.remarks;
    }

    fn counts(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }

    /// One line for the progress.
    pub fn line(&self) -> String {
        let counts = self.counts();
        let verdict = match &self.verdict {
            Verdict::Passed => format!("ok: {counts}"),
            Verdict::Failed(why) => format!("FAILED: {why}: {counts}"),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        format!("{} ({}): {:.0} s, {verdict}", self.boot, self.release, self.duration_seconds)
    }
}

/// The table of boots, what failed, and the closing line.
pub fn summary(reports: &[Report]) -> String {
    let width = reports.iter().map(|report| report.boot.len()).max().unwrap_or(0);
    let mut text = String::new();
    for report in reports {
        let result = match &report.verdict {
            Verdict::Passed => "ok".to_owned(),
            Verdict::Failed(why) => format!("FAILED: {why}"),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        let (passed, failed, skipped) = (report.passed, report.failed, report.skipped);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {:5.0} s  {passed:3} {failed:3} {skipped:3}  {result}",
            report.boot, report.duration_seconds
        );
    }
    let mut where_failed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for report in reports {
        for test in &report.failures {
            where_failed.entry(test).or_default().push(&report.boot);
        }
    }
    for (test, boots) in where_failed {
        let _ = writeln!(text, "failed: {test}: {}", boots.join(", "));
    }
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let (passed, failed) = (sum(|r| r.passed), sum(|r| r.failed));
    let _ = writeln!(text, "{passed} passed, {failed} failed, {} skipped", sum(|r| r.skipped));
    text
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 60;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let shown = lines.len().saturating_sub(LINES);
    let mut tail = format!("-- end of `{}`\n", log.display());
    for line in &lines[shown..] {
        let _ = writeln!(tail, "   {line}");
    }
    tail
}
