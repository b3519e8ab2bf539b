//! How far a run of all tests has come, so that it can be resumed.
//!
//! It is a file with one JSON object per line, appended to as tests end, so that
//! results survive whatever stops the run. The first line names the tree that the
//! results are of; they are not used for any other tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracer_timelines::truth::Played;
use tracer_vm::tally::Outcome;

use crate::test::table::{Row, kernel_key};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Tree(String),
    Test(Timed),
    /// All tests of a boot have ended, and none failed.
    Boot(String),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Timed {
    pub row: Row,
    pub seconds: f64,
    /// The result of a cell of the matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub played: Option<Played>,
}

pub struct State {
    file: File,
    tests: BTreeMap<(String, String), Timed>,
    boots: BTreeSet<String>,
}

impl State {
    /// Begins a new state, and discards the old one.
    pub fn begin(path: &Path, tree: &str) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
        let mut state = Self { file, tests: BTreeMap::new(), boots: BTreeSet::new() };
        state.write(&Line::Tree(tree.to_owned()))?;
        Ok(state)
    }

    /// Continues the last run of exactly this tree; `None` if there was none.
    pub fn resume(path: &Path, tree: &str) -> Result<Option<Self>> {
        let Ok(text) = fs::read_to_string(path) else { return Ok(None) };
        // The last line may have been cut off; its test is then run again.
        let mut lines = text.lines().map_while(|line| serde_json::from_str(line).ok());
        if !matches!(lines.next(), Some(Line::Tree(known)) if known == tree) {
            return Ok(None);
        }
        // The file is written again, so that nothing follows a line that was cut off.
        let mut state = Self::begin(path, tree)?;
        for line in lines {
            match line {
                Line::Tree(_) => {}
                Line::Test(test) => state.add(test)?,
                Line::Boot(name) => state.finish_boot(&name)?,
            }
        }
        Ok(Some(state))
    }

    /// Records that a test has ended; if it ended before, the last time counts.
    pub fn add(&mut self, test: Timed) -> Result<()> {
        let line = Line::Test(test.clone());
        self.tests.insert(test.row.key(), test);
        self.write(&line)
    }

    pub fn finish_boot(&mut self, name: &str) -> Result<()> {
        self.boots.insert(name.to_owned());
        self.write(&Line::Boot(name.to_owned()))
    }

    pub fn has_passed(&self, test: &str, kernel: &str) -> bool {
        let key = (test.to_owned(), kernel_key(kernel).to_owned());
        self.tests.get(&key).is_some_and(|test| test.row.outcome == Outcome::Passed)
    }

    /// Whether it ran at all, however it ended.
    pub fn has_ended(&self, test: &str, kernel: &str) -> bool {
        self.tests.contains_key(&(test.to_owned(), kernel_key(kernel).to_owned()))
    }

    pub fn has_finished(&self, boot: &str) -> bool {
        self.boots.contains(boot)
    }

    /// All that have ended, in the order of the table.
    pub fn tests(&self) -> impl Iterator<Item = &Timed> {
        self.tests.values()
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line).context("failed to write a result as JSON")?;
        // The line is written at once: a killed process leaves at most one incomplete line.
        self.file.write_all(format!("{text}\n").as_bytes()).context("failed to write the state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, kernel: &str, outcome: &str) -> Timed {
        let row = Row {
            test: name.to_owned(),
            commit: "1".to_owned(),
            kernel: kernel.to_owned(),
            date: "2000-01-01".to_owned(),
            outcome: outcome.to_owned().into(),
        };
        Timed { row, seconds: 1.5, played: None }
    }

    fn filled(path: &Path) -> State {
        let mut state = State::begin(path, "tree 1").unwrap();
        state.add(test("good", "any", "passed")).unwrap();
        state.add(test("bad", "any", "failed")).unwrap();
        state.add(test("absent", "any", "skipped: no tape")).unwrap();
        state.add(test("guest", "7-x86_64 (7.2.13)", "passed")).unwrap();
        state.finish_boot("7-x86_64").unwrap();
        state
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn what_passed_at_this_tree_is_known_when_it_is_resumed() {
        let folder = folder();
        let path = folder.path().join("state");
        drop(filled(&path));
        // Twice: what is resumed can be resumed again.
        for _ in 0..2 {
            let state = State::resume(&path, "tree 1").unwrap().unwrap();
            assert!(state.has_passed("good", "any"));
            assert!(!state.has_passed("bad", "any"), "it failed");
            assert!(state.has_ended("bad", "any") && !state.has_ended("other", "any"));
            assert!(!state.has_passed("absent", "any"), "it was skipped");
            assert!(!state.has_passed("other", "any"), "it was not run");
            assert!(!state.has_passed("good", "7-x86_64"), "it ran on another kernel");
            assert!(state.has_passed("guest", "7-x86_64"));
            assert!(state.has_finished("7-x86_64") && !state.has_finished("6.1-x86_64"));
            assert_eq!(state.tests().count(), 4);
            assert_eq!(state.tests().last(), Some(&test("guest", "7-x86_64 (7.2.13)", "passed")));
        }
    }

    #[test]
    fn another_tree_has_nothing_to_resume() {
        let folder = folder();
        let path = folder.path().join("state");
        assert!(State::resume(&path, "tree 1").unwrap().is_none(), "there is no file");
        drop(filled(&path));
        assert!(State::resume(&path, "tree 2").unwrap().is_none());
        assert!(State::resume(&path, "tree 1").unwrap().is_some(), "looking does no harm");
        drop(State::begin(&path, "tree 1").unwrap());
        assert_eq!(State::resume(&path, "tree 1").unwrap().unwrap().tests().count(), 0);
    }

    #[test]
    fn a_test_that_failed_and_then_passed_has_passed() {
        let folder = folder();
        let path = folder.path().join("state");
        let mut state = filled(&path);
        state.add(test("bad", "any", "passed")).unwrap();
        state.add(test("good", "any", "failed")).unwrap();
        let state = State::resume(&path, "tree 1").unwrap().unwrap();
        assert!(state.has_passed("bad", "any"));
        assert!(!state.has_passed("good", "any"));
        assert_eq!(state.tests().count(), 4);
    }

    #[test]
    fn a_line_that_was_cut_off_loses_that_test_alone() {
        let folder = folder();
        let path = folder.path().join("state");
        drop(filled(&path));
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let whole = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
            let Some(mut state) = State::resume(&path, "tree 1").unwrap() else {
                assert!(whole == 0, "cut at {length}");
                continue;
            };
            // The lines of the tree and of the boot are no tests; a line may be
            // whole without its end.
            let tests = state.tests().count();
            assert!(
                tests == whole.clamp(1, 5) - 1 || tests == whole.clamp(0, 4),
                "cut at {length}"
            );
            state.add(test("next", "any", "passed")).unwrap();
            let state = State::resume(&path, "tree 1").unwrap().unwrap();
            assert!(state.has_passed("next", "any"), "cut at {length}");
        }
    }
}
