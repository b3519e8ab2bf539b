//! Reads what libtest and our own skips print: each test's name, how it ended and how
//! long it took, and the totals.
//!
//! A skipped test prints `skipped: <test>: why` and returns. libtest counts that as
//! passed, so it is subtracted there. Tests that libtest ignored are skipped. A test that
//! prints `final: <test>: why` has failed for good: it is not played again. This is pure:
//! bytes go in, cut anywhere, with the time since the program began.

use std::{collections::BTreeSet, fmt, mem, time::Duration};

use serde::{Deserialize, Serialize};

/// How a test ended; its text form is in the table of tests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "String", into = "String")]
pub enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed => f.write_str("failed"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl From<Outcome> for String {
    fn from(outcome: Outcome) -> Self {
        outcome.to_string()
    }
}

/// Everything except `passed` and a skip counts as failed, also an outcome that cannot be
/// parsed.
impl From<String> for Outcome {
    fn from(text: String) -> Self {
        match text.strip_prefix("skipped: ") {
            Some(why) => Self::Skipped(why.to_owned()),
            None if text == "passed" => Self::Passed,
            None => Self::Failed,
        }
    }
}

/// A test that has ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Test {
    pub name: String,
    pub outcome: Outcome,
    /// Measured from its name to its end. It is zero if tests run side by side, because libtest
    /// then names a test when it ends.
    pub seconds: f64,
}

#[derive(Default)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    unnamed: u64,
    /// The tests that said that their failure is final.
    finals: BTreeSet<String>,
    /// The incomplete line, and the time at which it began.
    line: Vec<u8>,
    line_begun: Duration,
    /// The program under way.
    program: Program,
    /// Its tests that have ended, and that the caller has not taken yet.
    ended: Vec<Test>,
}

#[derive(Default)]
struct Program {
    now: Duration,
    open: Option<Open>,
    /// Tests whose end was not recognised, because it is on a line with other text.
    undecided: Vec<Test>,
    skips: Vec<(String, String)>,
    /// Whether libtest is listing the tests that failed.
    in_failures: bool,
    failures: Vec<String>,
    /// The numbers of passed, failed and ignored tests in libtest's last line.
    result: Option<[u64; 3]>,
    /// The numbers that were recognised, and the tests that skipped themselves.
    seen: [u64; 3],
    skipped_themselves: u64,
}

/// A test that has begun.
struct Open {
    name: String,
    begun: Duration,
    /// The last line that looked like libtest's, and its time. A test may print such a line
    /// itself, but libtest's comes after it.
    verdict: Option<(Outcome, Duration)>,
}

impl Tally {
    /// Takes the next piece of a program's output, cut anywhere, `now` after
    /// the program began.
    pub fn feed(&mut self, bytes: &[u8], now: Duration) {
        for &byte in bytes {
            if self.line.is_empty() {
                self.line_begun = now;
            }
            if byte == b'\n' {
                let line = mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                self.take_line(line.trim_end_matches('\r'), self.line_begun, now);
            } else {
                self.line.push(byte);
            }
        }
    }

    /// Takes a complete line; its first byte came at `begun`, its last `now`.
    pub fn take_line(&mut self, line: &str, begun: Duration, now: Duration) {
        self.program.now = now;
        if let Some((name, rest)) = named_test(line) {
            self.close();
            self.program.open = Some(Open { name: name.to_owned(), begun, verdict: None });
            self.program.take_verdict(rest);
        } else if let Some(skip) = line.strip_prefix("skipped: ") {
            if let Some((name, why)) = skip.split_once(": ") {
                self.program.skips.push((name.to_owned(), why.to_owned()));
            }
        } else if let Some(end) = line.strip_prefix("final: ") {
            self.finals.extend(end.split_once(": ").map(|(name, _)| name.to_owned()));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.close();
            let numbers = ["passed", "failed", "ignored"].map(|word| number_of(result, word));
            self.program.result = Some(numbers);
        } else if line == "failures:" {
            self.close();
            self.program.in_failures = true;
        } else if let (true, Some(name)) = (self.program.in_failures, line.strip_prefix("    ")) {
            self.program.failures.push(name.to_owned());
        } else {
            self.program.in_failures &= line.is_empty();
            self.program.take_verdict(line);
        }
    }

    /// Returns the tests that have ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Test> {
        mem::take(&mut self.ended)
    }

    /// Notes that the program has ended; its last tests can be taken then. If it failed and no
    /// test has, it broke outside of a test: that counts as one failure.
    pub fn end(&mut self, success: bool) {
        self.feed(b"\n", self.program.now);
        self.close();
        let program = mem::take(&mut self.program);
        let is_whole = program.result.is_some();
        let mut seen = program.seen;
        for mut test in program.undecided {
            // libtest lists all that failed at its end, if it gets there.
            let failed = !is_whole || program.failures.contains(&test.name);
            test.outcome = if failed { Outcome::Failed } else { Outcome::Passed };
            seen[usize::from(failed)] += 1;
            self.ended.push(test);
        }
        let [passed, mut failed, ignored] = program.result.unwrap_or(seen);
        if !success && failed == 0 {
            failed = 1;
        }
        let named: u64 = seen.iter().sum();
        self.unnamed += (passed + failed + ignored).saturating_sub(named);
        self.passed += passed.saturating_sub(program.skipped_themselves);
        self.failed += failed;
        self.skipped += ignored + program.skipped_themselves;
    }

    /// Adds tests that were counted elsewhere.
    pub fn add(&mut self, passed: u64, failed: u64, skipped: u64) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    /// Whether a test said that its failure is final.
    pub fn is_final(&self, test: &str) -> bool {
        self.finals.contains(test)
    }

    /// Counts a failed test as passed, because it passed when it was played again.
    pub fn mend(&mut self) {
        self.failed = self.failed.saturating_sub(1);
        self.passed += 1;
    }

    pub fn passed(&self) -> u64 {
        self.passed
    }

    pub fn failed(&self) -> u64 {
        self.failed
    }

    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The number of tests that were counted without a name, and of programs that broke
    /// outside of a test.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    /// Ends the open test, because another has begun or the program has ended.
    fn close(&mut self) {
        let program = &mut self.program;
        let Some(Open { name, begun, verdict }) = program.open.take() else { return };
        let seconds = |end: Duration| end.saturating_sub(begun).as_secs_f64();
        let Some((mut outcome, end)) = verdict else {
            let seconds = seconds(program.now);
            program.undecided.push(Test { name, outcome: Outcome::Failed, seconds });
            return;
        };
        let place = match outcome {
            Outcome::Passed => 0,
            Outcome::Failed => 1,
            Outcome::Skipped(_) => 2,
        };
        program.seen[place] += 1;
        let skip = program.skips.iter().position(|(skipped, _)| *skipped == name);
        if let (Some(index), Outcome::Passed) = (skip, &outcome) {
            outcome = Outcome::Skipped(program.skips.swap_remove(index).1);
            program.skipped_themselves += 1;
        }
        self.ended.push(Test { name, outcome, seconds: seconds(end) });
    }
}

impl Program {
    fn take_verdict(&mut self, line: &str) {
        let outcome = match line.split_once(", ").unwrap_or((line, "")) {
            ("ok", "") => Outcome::Passed,
            ("FAILED", "") => Outcome::Failed,
            ("ignored", "") => Outcome::Skipped("ignored".to_owned()),
            ("ignored", why) => Outcome::Skipped(why.to_owned()),
            _ => return,
        };
        if let Some(open) = &mut self.open {
            open.verdict = Some((outcome, self.now));
        }
    }
}

/// The name in `test NAME ... `, and the text after it.
fn named_test(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    (!name.contains(' ')).then_some((name, rest))
}

/// The number before `word` in `ok. 5 passed; 0 failed; …`.
fn number_of(result: &str, word: &str) -> u64 {
    let mut words = result.split([' ', ';']).filter(|word| !word.is_empty());
    let mut before = None;
    words
        .find_map(|next| if next == word { before } else { before.replace(next).and(None) })
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
running 3 tests
test a ... ok
test live::b ... \nskipped: live::b: no loop devices
ok
test c ... ignored

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s
";

    const BAD: &str = "\
running 3 tests
test a ... noise without an end: ok
test b - should panic ... ok
test c ... 
thread 'c' panicked at x.rs:1:1:
FAILED

failures:

failures:
    c

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
";

    /// The closing line, and all tests as `NAME OUTCOME`.
    fn read(outputs: &[(&str, bool)]) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let mut tests = Vec::new();
        for (output, success) in outputs {
            // Cut where it hurts.
            for piece in output.as_bytes().chunks(7) {
                tally.feed(piece, Duration::ZERO);
                tests.extend(tally.take_ended());
            }
            tally.end(*success);
            tests.extend(tally.take_ended());
        }
        let tests = tests.iter().map(|Test { name, outcome, .. }| format!("{name} {outcome}"));
        (tally, tests.collect())
    }

    #[track_caller]
    fn check(outputs: &[(&str, bool)], closing: &str, tests: &[&str]) -> Tally {
        let (tally, found) = read(outputs);
        assert_eq!(tally.to_string(), closing);
        assert_eq!(found, tests);
        tally
    }

    #[test]
    fn a_failure_is_final_where_the_test_says_so() {
        let bad = BAD.replace("thread 'c'", "final: c: an innocent was named\nthread 'c'");
        let (mut tally, tests) = read(&[(&bad, false)]);
        assert_eq!(tests, ["b passed", "c failed", "a passed"]);
        assert!(tally.is_final("c") && !tally.is_final("a"));
        assert!(!read(&[(BAD, false)]).0.is_final("c"));
        tally.mend();
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        check(
            &[(GOOD, true)],
            "1 passed, 0 failed, 2 skipped",
            &["a passed", "live::b skipped: no loop devices", "c skipped: ignored"],
        );
    }

    #[test]
    fn a_test_that_ends_within_a_line_is_decided_by_the_list_of_failures() {
        // The undecided one comes last.
        let tests = ["b passed", "c failed", "a passed"];
        let tally = check(&[(BAD, false)], "2 passed, 1 failed, 0 skipped", &tests);
        assert_eq!(tally.unnamed(), 0);
    }

    #[test]
    fn several_programs_add_up() {
        let (tally, tests) = read(&[(GOOD, true), (BAD, false)]);
        assert_eq!(tally.to_string(), "3 passed, 1 failed, 2 skipped");
        assert_eq!(tests.len(), 6);
    }

    #[test]
    fn tests_counted_elsewhere_are_added() {
        let (mut tally, _) = read(&[(GOOD, true)]);
        tally.add(4, 1, 2);
        assert_eq!(tally.to_string(), "5 passed, 1 failed, 4 skipped");
    }

    #[test]
    fn a_program_that_breaks_is_a_failure_of_the_test_under_way() {
        let broken = "running 3 tests\ntest a ... ok\ntest b ... Segmentation";
        check(&[(broken, false)], "1 passed, 1 failed, 0 skipped", &["a passed", "b failed"]);
    }

    #[test]
    fn a_program_that_breaks_outside_of_a_test_is_a_failure_without_a_name() {
        let tally = check(&[("", false)], "0 passed, 1 failed, 0 skipped", &[]);
        assert_eq!(tally.unnamed(), 1);
        let whole = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        check(&[(whole, false)], "1 passed, 1 failed, 0 skipped", &["a passed"]);
    }

    #[test]
    fn tests_without_a_name_are_counted() {
        let tally = check(
            &[("test result: ok. 9 passed; 0 failed; 1 ignored\n", true)],
            "9 passed, 0 failed, 1 skipped",
            &[],
        );
        assert_eq!(tally.unnamed(), 10);
    }

    #[test]
    fn output_that_only_looks_like_a_result_counts_nothing() {
        check(
            &[("the test result: ok. 9 passed\nnot skipped: x\ntest of it ... ok\nok\n", true)],
            "0 passed, 0 failed, 0 skipped",
            &[],
        );
    }

    #[test]
    fn what_a_test_prints_is_not_its_end() {
        let output = "test a ... ok\nmore\nFAILED\ntest b ... FAILED\nok\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        check(&[(output, false)], "1 passed, 1 failed, 0 skipped", &["a failed", "b passed"]);
    }

    #[test]
    fn a_skip_is_for_the_test_that_it_names() {
        // Tests side by side: a skip is printed before its test has a name.
        let output = "\nskipped: b: no tape\ntest a ... ok\ntest b ... ok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored\n";
        check(
            &[(output, true)],
            "1 passed, 0 failed, 1 skipped",
            &["a passed", "b skipped: no tape"],
        );
    }

    #[test]
    fn a_test_lasts_from_its_name_to_its_end() {
        let at = Duration::from_secs;
        let mut tally = Tally::default();
        tally.feed(b"running 2 tests\n", at(1));
        tally.feed(b"test slow ", at(2));
        tally.feed(b"... something\n", at(3));
        tally.feed(b"ok\n", at(62));
        assert_eq!(tally.take_ended(), [], "it may still say more");
        tally.feed(b"test quick ... ", at(70));
        assert_eq!(tally.take_ended(), [], "the line is not whole");
        tally.feed(b"ok\n\ntest result: ok. 2 passed\n", at(71));
        tally.end(true);
        let seconds: Vec<_> = tally.take_ended().iter().map(|test| test.seconds).collect();
        assert_eq!(seconds, [60.0, 1.0]);
    }

    #[test]
    fn an_outcome_is_read_as_it_is_written() {
        let outcomes = [Outcome::Passed, Outcome::Failed, Outcome::Skipped("no: tape".to_owned())];
        for outcome in outcomes {
            assert_eq!(Outcome::from(outcome.to_string()), outcome);
        }
        assert_eq!(Outcome::from("pas".to_owned()), Outcome::Failed);
    }
}
