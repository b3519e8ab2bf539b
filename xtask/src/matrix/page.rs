//! The section of `docs/verdicts.md` about the cells on real disks.
//!
//! This is pure: results go in, text comes out.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};
use tracer_timelines::truth::{Answer, Cause, Played};
use tracer_vm::tally::Outcome;

use crate::test::{CELLS, state::Timed};

pub const PAGE: &str = "docs/verdicts.md";
const TITLE: &str = "## The matrix on real disks\n";

/// Cells of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u32,
    right: u32,
    unsure: u32,
    wrong: u32,
    undecided: u32,
    high: u32,
    accused: u32,
}

impl Count {
    fn add(&mut self, played: &Played) {
        self.all += 1;
        match played.answer {
            Answer::Right => self.right += 1,
            Answer::Unsure => self.unsure += 1,
            Answer::Wrong => self.wrong += 1,
        }
        let is_said =
            !matches!(played.said.cause, Cause::Nobody | Cause::Undecided | Cause::Unknown);
        self.undecided += u32::from(played.said.cause == Cause::Undecided);
        self.high += u32::from(played.said.is_high && is_said);
        self.accused += u32::from(played.has_accused);
    }
}

/// The section without its title.
pub fn render(tests: &[&Timed], cells: usize, commit: &str, kernel: &str, date: &str) -> String {
    let (mut all, mut kinds) = (Count::default(), BTreeMap::<String, Count>::new());
    for played in tests.iter().filter_map(|test| test.played.as_ref()) {
        all.add(played);
        played.cell.kinds().into_iter().for_each(|kind| kinds.entry(kind).or_default().add(played));
    }
    let mut text = format!(
        "\n`cargo xtask matrix --live` writes this section: {} of {cells} cells of the same matrix. A real etcd, a neighbour and the \
         tracer\nran on a simulated disk below a real kernel, for four seconds before the change and eight after it. The run was on\n{date}, \
         at commit {commit}, on Linux {kernel}. *Right*, *wrong* and *innocents* mean the same as above; *not sure* is the rest.\n\n\
         | cells | number | right | not sure | wrong | undecided | high | innocents |\n|---|---|---|---|---|---|---|---|\n",
        tests.len(),
    );
    for (kind, count) in [("all".to_owned(), all)].into_iter().chain(kinds) {
        let Count { all, right, unsure, wrong, undecided, high, accused } = count;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {kind} | {all} | {right} | {unsure} | {wrong} | {undecided} | {high} | {accused} |"
        );
    }
    let bad: Vec<_> = tests.iter().filter(|test| test.row.outcome != Outcome::Passed).collect();
    if bad.is_empty() {
        text += "\nAll cells passed.\n";
        return text;
    }
    let _ = writeln!(text, "\nCells that did not pass:\n");
    for test in bad {
        let _ = writeln!(text, "- `{}`: {}", name(&test.row.test), describe(test));
    }
    text
}

fn name(test: &str) -> &str {
    test.strip_prefix(CELLS).unwrap_or(test)
}

/// Describes the truth about a cell, and the verdict on it.
fn describe(test: &Timed) -> String {
    let Some(Played { truth, means_ms: [before, after], said, .. }) = &test.played else {
        return format!("it was not played to its end: {}", test.row.outcome);
    };
    let truth = truth.map_or("it is not slow".to_owned(), |(device, load)| {
        format!("the device has {:.0} % and the neighbour {:.0} %", device * 1e2, load * 1e2)
    });
    let sure = if said.is_high { " with high confidence" } else { "" };
    format!(
        "truth: {truth}; the mean sync went from {before:.1} to {after:.1} ms; verdict: {:?}{sure}, with {:.0} % \
         for the device and {:.0} % for the neighbour",
        said.cause,
        said.device * 1e2,
        said.neighbour.max(0.0) * 1e2,
    )
}

/// The page, with this section replaced.
pub fn replace(page: &str, section: &str) -> Result<String> {
    let begin = page.find(TITLE).context("the page has no such section")? + TITLE.len();
    let (before, old) = page.split_at(begin);
    let after = old.find("\n## ").map_or("", |end| &old[end..]);
    Ok(format!("{before}{section}{after}"))
}

#[cfg(test)]
mod tests {
    use tracer_timelines::{
        cell::{Cell, Device, DiskKind, Neighbour},
        timeline::Does,
        truth::Said,
    };

    use super::*;
    use crate::test::table::Row;

    fn test(name: &str, outcome: &str, answer: Answer, cause: Cause) -> Timed {
        let row = Row {
            test: format!("{CELLS}{name}"),
            commit: "1".to_owned(),
            kernel: "6".to_owned(),
            date: "2000-01-01".to_owned(),
            outcome: outcome.to_owned().into(),
        };
        let cell = Cell {
            disk: DiskKind::Head,
            device: Device::Stalls,
            neighbour: Neighbour::Gone,
            does: Does::Read,
            load: 5,
        };
        let said = Said { cause, device: 0.25, neighbour: 0.5, is_high: true };
        let played = Played {
            cell,
            truth: Some((1.0, 0.0)),
            means_ms: [1.0, 9.0],
            said,
            answer,
            has_accused: answer == Answer::Wrong,
        };
        Timed { row, seconds: 20.0, played: Some(played) }
    }

    #[test]
    fn cells_are_counted_by_kind_and_those_that_failed_are_named() {
        let right = test("a", "passed", Answer::Right, Cause::Device);
        let wrong = test("b", "failed", Answer::Wrong, Cause::Owners);
        let broken = Timed { played: None, ..test("c", "failed", Answer::Right, Cause::Device) };
        let text = render(&[&right, &wrong, &broken], 4, "0123456789", "6.18 x86_64", "2000-01-01");
        for line in [
            "| all | 2 | 1 | 0 | 1 | 0 | 2 | 1 |\n",
            "| disk: one head that seeks | 2 | 1 | 0 | 1 | 0 | 2 | 1 |\n",
            "- `b`: truth: the device has 100 % and the neighbour 0 %; the mean sync went from 1.0 to 9.0 ms; verdict: Owners with high confidence, with 25 % for the device and 50 % for the neighbour\n",
            "- `c`: it was not played to its end: failed\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(render(&[&right], 1, "1", "6", "x").ends_with("All cells passed.\n"));
    }

    #[test]
    fn a_section_is_replaced_and_all_others_stay() {
        let page = "# A\n\n## The matrix on real disks\n\nold\n\n## Next\n\nnext\n";
        let is = "# A\n\n## The matrix on real disks\n\nnew\n\n## Next\n\nnext\n";
        assert_eq!(replace(page, "\nnew\n").unwrap(), is);
        assert_eq!(replace(is, "\nnew\n").unwrap(), is);
        let last = "## The matrix on real disks\nold";
        assert_eq!(replace(last, "\nnew\n").unwrap(), "## The matrix on real disks\n\nnew\n");
        assert!(replace("# A\n", "").is_err());
    }
}
