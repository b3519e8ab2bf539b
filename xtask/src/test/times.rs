//! The times of the last run: tests, and the steps around them.
//!
//! Every run saves its times in a file, so that they can be listed without another run.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

const TESTS: usize = 25;
const STEPS: usize = 15;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Time {
    pub name: String,
    pub seconds: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Times {
    /// The command as it was typed.
    pub command: String,
    pub commit: String,
    /// When it ended.
    pub date: String,
    pub seconds: f64,
    /// Tests that ran one at a time.
    pub tests: Vec<Time>,
    /// Builds, programs of tests, boots.
    pub steps: Vec<Time>,
}

impl Times {
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec(self).context("failed to write the times as JSON")?;
        fs::write(path, json).with_context(|| format!("failed to write `{}`", path.display()))
    }

    pub fn load(path: &Path) -> Result<Self> {
        let json = fs::read(path).context("no run has saved its times: run `cargo xtask test`")?;
        serde_json::from_slice(&json).with_context(|| format!("`{}` has no times", path.display()))
    }

    /// The slowest first.
    pub fn describe(&self) -> String {
        let Self { command, commit, date, seconds, tests, steps } = self;
        let mut text = format!("{command}: {seconds:.0} s, ended {date}, commit {commit}\n");
        list(&mut text, "TEST", tests, TESTS);
        list(&mut text, "STEP", steps, STEPS);
        text
    }
}

fn list(text: &mut String, title: &str, times: &[Time], most: usize) {
    let mut times: Vec<_> = times.iter().collect();
    times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
    let sum: f64 = times.iter().map(|time| time.seconds).sum();
    let (count, shown) = (times.len(), times.len().min(most));
    // Writing to a string cannot fail. Steps are nested and run in parallel, so a sum of
    // them would mean nothing.
    let _ = match title {
        "STEP" => writeln!(text, "\nSECONDS {title} (the slowest {shown} of {count})"),
        _ => writeln!(text, "\nSECONDS {title} (the slowest {shown} of {count}; all: {sum:.0} s)"),
    };
    for Time { name, seconds } in times.into_iter().take(most) {
        let _ = writeln!(text, "{seconds:7.1} {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(name: &str, seconds: f64) -> Time {
        Time { name: name.to_owned(), seconds }
    }

    fn times() -> Times {
        Times {
            command: "cargo xtask test --no-vm".to_owned(),
            commit: "0123456789".to_owned(),
            date: "2000-01-01T00:00:00Z".to_owned(),
            seconds: 301.4,
            tests: vec![time("live::b", 61.0), time("live::c", 0.25), time("live::a", 61.0)],
            steps: vec![time("clippy", 12.0), time("build (tests)", 93.96)],
        }
    }

    #[test]
    fn the_slowest_come_first() {
        insta::assert_snapshot!(times().describe(), @r"
        cargo xtask test --no-vm: 301 s, ended 2000-01-01T00:00:00Z, commit 0123456789

        SECONDS TEST (the slowest 3 of 3; all: 122 s)
           61.0 live::a
           61.0 live::b
            0.2 live::c

        SECONDS STEP (the slowest 2 of 2)
           94.0 build (tests)
           12.0 clippy
        ");
    }

    #[test]
    fn a_list_is_cut_and_says_of_how_many() {
        let tests = (0..100).map(|index| time(&format!("t{index:02}"), f64::from(index))).collect();
        let text = Times { tests, ..times() }.describe();
        assert!(text.contains("SECONDS TEST (the slowest 25 of 100; all: 4950 s)\n   99.0 t99\n"));
        assert!(text.contains("   75.0 t75\n") && !text.contains("t74"));
    }

    #[test]
    fn times_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("times.json");
        assert!(Times::load(&path).is_err(), "there was no run");
        times().save(&path).unwrap();
        assert_eq!(Times::load(&path).unwrap(), times());
    }
}
