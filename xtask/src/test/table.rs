//! `docs/tested.md`: which test ended how on which kernel, and at which commit.
//!
//! There is a row for each test and kernel. A run replaces the rows of what it ran and
//! keeps all others, so each row names its commit. This is pure: text goes in, text comes
//! out. The order of rows is fixed, so that a diff shows only changed results.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::{Deserialize, Serialize};
use tracer_vm::tally::Outcome;

/// Stands for the kernel in rows of tests that are the same on every kernel.
pub const ANY_KERNEL: &str = "any";

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row {
    pub test: String,
    pub commit: String,
    /// `uname -r` and the architecture, or a boot's name with its `uname -r` in
    /// brackets, or [`ANY_KERNEL`].
    pub kernel: String,
    /// `2026-11-28`
    pub date: String,
    pub outcome: Outcome,
}

impl Row {
    /// Two rows with the same key are about the same thing. A boot stays the
    /// same when Debian has a newer kernel of its series.
    pub fn key(&self) -> (String, String) {
        (self.test.clone(), kernel_key(&self.kernel).to_owned())
    }
}

pub fn kernel_key(kernel: &str) -> &str {
    kernel.split(" (").next().unwrap_or(kernel)
}

const HEAD: &str = "| test | commit | kernel | date | result |";
const RULE: &str = "|---|---|---|---|---|";

/// The rows of a page, and the number of rows that could not be parsed.
pub fn parse(page: &str) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    let mut unread = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        match parse_row(line) {
            _ if line == HEAD || line == RULE => {}
            Some(row) => rows.push(row),
            None => unread += 1,
        }
    }
    (rows, unread)
}

fn parse_row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let &[test, commit, kernel, date, outcome] = cells.as_slice() else { return None };
    Some(Row {
        test: unescaped(test),
        commit: unescaped(commit),
        kernel: unescaped(kernel),
        date: unescaped(date),
        outcome: unescaped(outcome).into(),
    })
}

/// The old rows with the new ones in their places, in the order of the page,
/// without those of tests that are no longer `known`.
pub fn merge(old: Vec<Row>, new: Vec<Row>, known: &BTreeSet<String>) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for row in old.into_iter().chain(new) {
        if known.contains(&row.test) {
            rows.insert(row.key(), row);
        }
    }
    rows.into_values().collect()
}

/// The whole page.
pub fn render(rows: &[Row]) -> String {
    let count = |is: fn(&Outcome) -> bool| rows.iter().filter(|row| is(&row.outcome)).count();
    let passed = count(|outcome| *outcome == Outcome::Passed);
    let failed = count(|outcome| *outcome == Outcome::Failed);
    let skipped = rows.len() - passed - failed;
    let mut page = format!(
        "# Tests\n\n\
         `cargo xtask test --all` writes this page ([testing.md](testing.md)): a row for each test and each kernel\n\
         that it ran on. A row keeps the commit and the day of its run until the test is run again.\n\n\
         {passed} passed, {failed} failed, {skipped} skipped.\n\n\
         {HEAD}\n{RULE}\n"
    );
    for Row { test, commit, kernel, date, outcome } in rows {
        let cells = [test, commit, kernel, date, &outcome.to_string()].map(|cell| escaped(cell));
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
    page
}

/// Text for one cell on one line.
fn escaped(cell: &str) -> String {
    cell.replace('\\', r"\\").replace('|', r"\|").replace(['\n', '\r'], " ")
}

fn unescaped(cell: &str) -> String {
    cell.replace(r"\|", "|").replace(r"\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(test: &str, kernel: &str, commit: &str, outcome: &str) -> Row {
        Row {
            test: test.to_owned(),
            commit: commit.to_owned(),
            kernel: kernel.to_owned(),
            date: "2000-01-01".to_owned(),
            outcome: outcome.to_owned().into(),
        }
    }

    fn known(tests: &[&str]) -> BTreeSet<String> {
        tests.iter().map(|&test| test.to_owned()).collect()
    }

    #[test]
    fn a_page_has_a_line_for_each_row() {
        let rows = [
            row("engine::a", ANY_KERNEL, "0123456789", "passed"),
            row("live::b", "6.18.44 x86_64", "0123456789 and changes", "failed"),
            row("live::b", "7-x86_64 (7.2.13-amd64)", "aaaaaaaaaa", "skipped: no a|b"),
        ];
        insta::assert_snapshot!(render(&rows), @r"
        # Tests

        `cargo xtask test --all` writes this page ([testing.md](testing.md)): a row for each test and each kernel
        that it ran on. A row keeps the commit and the day of its run until the test is run again.

        1 passed, 1 failed, 1 skipped.

        | test | commit | kernel | date | result |
        |---|---|---|---|---|
        | engine::a | 0123456789 | any | 2000-01-01 | passed |
        | live::b | 0123456789 and changes | 6.18.44 x86_64 | 2000-01-01 | failed |
        | live::b | aaaaaaaaaa | 7-x86_64 (7.2.13-amd64) | 2000-01-01 | skipped: no a\|b |
        ");
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        for why in ["no: a", "a | b", r"a \| b", r"a\", r"\\|", "a\\ | \\b"] {
            let rows = vec![row("a", "any", "1", &format!("skipped: {why}"))];
            assert_eq!(parse(&render(&rows)), (rows, 0), "{why}");
        }
    }

    #[test]
    fn a_row_that_is_not_understood_is_counted() {
        let page = render(&[row("a", "any", "1", "passed")]) + "| a | b |\n|\nno row\n";
        let (rows, unread) = parse(&page);
        assert_eq!((rows.len(), unread), (1, 2));
        assert_eq!(parse(""), (Vec::new(), 0));
    }

    #[test]
    fn a_new_row_takes_the_place_of_the_old_one_and_others_stay() {
        let old = vec![
            row("a", "any", "old", "passed"),
            row("b", "6.1-x86_64 (6.1.0-50)", "old", "failed"),
            row("b", "6.18 x86_64", "old", "passed"),
            row("gone", "any", "old", "passed"),
        ];
        let new = vec![
            row("c", "any", "new", "passed"),
            row("b", "6.1-x86_64 (6.1.0-51)", "new", "passed"),
        ];
        assert_eq!(
            merge(old, new, &known(&["a", "b", "c"])),
            [
                row("a", "any", "old", "passed"),
                row("b", "6.1-x86_64 (6.1.0-51)", "new", "passed"),
                row("b", "6.18 x86_64", "old", "passed"),
                row("c", "any", "new", "passed"),
            ]
        );
    }

    #[test]
    fn the_order_of_a_page_is_not_that_of_the_runs() {
        let rows = [row("b", "any", "1", "passed"), row("a", "any", "1", "passed")];
        let known = known(&["a", "b"]);
        let [b, a] = rows.clone().map(|row| vec![row]);
        let once = merge(b.clone(), a.clone(), &known);
        assert_eq!(once, merge(a, b, &known));
        assert_eq!(once[0].test, "a");
    }
}
