//! Counts tests from what libtest and our own skips print.
//!
//! A skipped test prints `skipped: <test>: why` and returns; libtest calls that
//! passed, so it is taken off there. Tests that libtest ignored are skipped.

use std::fmt;

#[derive(Default)]
pub struct Tally {
    pub failed: u64,
    /// What libtest calls passed.
    ok: u64,
    ignored: u64,
    skips: u64,
    /// The line that is still coming in.
    line: Vec<u8>,
    /// `failed` when the program under way was started.
    failed_before: u64,
}

impl Tally {
    /// Takes the next piece of a program's output, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.count(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(byte);
            }
        }
    }

    /// The program ended. When it failed and has counted no failure, it broke
    /// before it could: that is one.
    pub fn end(&mut self, success: bool) {
        self.feed(b"\n");
        if !success && self.failed == self.failed_before {
            self.failed += 1;
        }
        self.failed_before = self.failed;
    }

    /// Adds tests that somebody else has counted.
    pub fn add(&mut self, passed: u64, failed: u64, skipped: u64) {
        self.ok += passed;
        self.failed += failed;
        self.ignored += skipped;
        self.failed_before = self.failed;
    }

    pub fn passed(&self) -> u64 {
        self.ok.saturating_sub(self.skips)
    }

    pub fn skipped(&self) -> u64 {
        self.skips + self.ignored
    }

    fn count(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.skips += 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.ok += number_of(result, "passed");
            self.failed += number_of(result, "failed");
            self.ignored += number_of(result, "ignored");
        }
    }
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
        let (passed, failed, skipped) = (self.passed(), self.failed, self.skipped());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
running 3 tests
test a ... ok
test live::b ... \nskipped: live: b: no loop devices
ok
test c ... ignored

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s
";

    fn check(outputs: &[(&str, bool)], closing: &str) {
        let mut tally = Tally::default();
        for (output, success) in outputs {
            // Cut where it hurts.
            output.as_bytes().chunks(7).for_each(|piece| tally.feed(piece));
            tally.end(*success);
        }
        assert_eq!(tally.to_string(), closing);
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        check(&[(GOOD, true)], "1 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn several_programs_add_up() {
        let bad = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured\n";
        check(&[(GOOD, true), (bad, false)], "5 passed, 2 failed, 2 skipped");
    }

    #[test]
    fn tests_counted_elsewhere_are_added() {
        let mut tally = Tally::default();
        tally.feed(GOOD.as_bytes());
        tally.end(true);
        tally.add(4, 1, 2);
        tally.end(true);
        assert_eq!(tally.to_string(), "5 passed, 1 failed, 4 skipped");
    }

    #[test]
    fn a_program_that_breaks_is_a_failure() {
        check(
            &[(GOOD, true), ("running 1 test\ntest a ... ", false)],
            "1 passed, 1 failed, 2 skipped",
        );
        check(&[("", false)], "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn output_that_only_looks_like_a_result_counts_nothing() {
        check(
            &[("the test result: ok. 9 passed\nnot skipped: x\n", true)],
            "0 passed, 0 failed, 0 skipped",
        );
    }
}
