//! The result of a boot, and the text that describes it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    console::{Cell, Console},
    files,
    plan::Boot,
    tally::Test,
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
    /// The boot; JSON has its name.
    #[serde(serialize_with = "serialize_name")]
    pub boot: Boot,
    /// The release that `uname -r` prints.
    pub release: String,
    pub verdict: Verdict,
    pub duration_seconds: f64,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub tests: Vec<Test>,
    /// The names of tests that failed.
    pub failures: Vec<String>,
    pub cells: Vec<Cell>,
    pub remarks: Vec<String>,
}

fn serialize_name<S: Serializer>(boot: &Boot, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(boot)
}

impl Report {
    pub fn new(boot: &Boot, release: &str, verdict: Verdict) -> Self {
        let skipped = u64::from(matches!(verdict, Verdict::Skipped(_)));
        Self {
            boot: boot.clone(),
            release: release.to_owned(),
            verdict,
            duration_seconds: 0.0,
            passed: 0,
            failed: 0,
            skipped,
            tests: Vec::new(),
            failures: Vec::new(),
            cells: Vec::new(),
            remarks: Vec::new(),
        }
    }

    pub fn has_passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }

    pub fn read_console(&mut self, mut console: Console, duration: Duration) {
        self.duration_seconds = duration.as_secs_f64();
        self.passed = console.tally.passed();
        self.failed = console.tally.failed();
        self.skipped = console.tally.skipped();
        self.tests = console.tally.take_ended();
        self.failures = console.failures;
        self.cells = console.cells;
        self.remarks = console.remarks;
    }

    fn counts(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }

    /// The line about this boot in the progress.
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

/// The table of boots, what failed where, and the closing line.
pub fn summary(reports: &[Report]) -> String {
    let names: Vec<_> = reports.iter().map(|report| report.boot.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:width$} SECONDS PASSED FAILED SKIPPED\n", "BOOT");
    let mut where_failed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (report, name) in reports.iter().zip(&names) {
        let why = match &report.verdict {
            Verdict::Passed => "ok".to_owned(),
            Verdict::Failed(why) => format!("FAILED: {why}"),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        let (passed, failed, skipped) = (report.passed, report.failed, report.skipped);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:width$} {:7.0} {passed:6} {failed:6} {skipped:7}  {why}",
            report.duration_seconds
        );
        for test in &report.failures {
            where_failed.entry(test).or_default().push(name);
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

#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Part {
    Whole,
    End,
}

/// Reads the log of a guest, and formats it for people.
pub fn read(log: &Path, part: Part) -> String {
    const END_LINES: usize = 60;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let (title, from) = match part {
        // The first line is QEMU's command.
        Part::Whole => ("", 1.min(lines.len())),
        Part::End => ("the end of ", lines.len().saturating_sub(END_LINES)),
    };
    let mut shown = format!("-- {title}`{}`\n", files::shown(log));
    for line in &lines[from..] {
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "   {line}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Wishes, boots},
        tally::Outcome,
    };

    fn reports() -> Vec<Report> {
        let wishes = Wishes {
            kernels: ["5.10", "6.12-rt", "7"].map(|kernel| kernel.parse().unwrap()).into(),
            arch: Some(crate::arch::Arch::X86),
            ..Wishes::default()
        };
        let boots = boots(None, &wishes).unwrap();
        let mut ok = Report::new(&boots[0], "5.10.0-32-amd64", Verdict::Passed);
        (ok.passed, ok.skipped, ok.duration_seconds) = (12, 1, 61.2);
        let broken = Verdict::Failed("tests failed".into());
        let mut bad = Report::new(&boots[1], "6.12.1-rt-amd64", broken);
        (bad.passed, bad.failed, bad.duration_seconds) = (11, 1, 80.0);
        bad.failures = vec!["live::syncs::x".into()];
        bad.tests =
            vec![Test { name: "live::syncs::x".into(), outcome: Outcome::Failed, seconds: 2.0 }];
        let none = Verdict::Skipped("Debian has no kernel 7 for amd64 now".into());
        vec![ok, bad, Report::new(&boots[2], "", none)]
    }

    #[test]
    fn a_summary_ends_with_the_sums() {
        insta::assert_snapshot!(summary(&reports()), @r"
        BOOT           SECONDS PASSED FAILED SKIPPED
        5.10-x86_64         61     12      0       1  ok
        6.12-rt-x86_64      80     11      1       0  FAILED: tests failed
        7-x86_64             0      0      0       1  skipped: Debian has no kernel 7 for amd64 now
        failed: live::syncs::x: 6.12-rt-x86_64
        23 passed, 1 failed, 2 skipped
        ");
    }

    #[test]
    fn json_calls_a_boot_by_its_name() {
        let json = serde_json::to_value(&reports()[1]).unwrap();
        assert_eq!(json["boot"], "6.12-rt-x86_64");
        assert_eq!(json["verdict"]["failed"], "tests failed");
        assert_eq!(json["tests"][0]["outcome"], "failed");
    }
}
