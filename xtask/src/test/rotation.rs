//! The tests that commits take in turns: scenarios, cells of the matrix, and the
//! longest of the other live tests.
//!
//! A scenario takes up to a minute and a cell a third of one, so all of them together
//! do not fit into half an hour. Each commit plays the next few of each [`Group`] in
//! the order of their names and begins again after the last, so consecutive commits
//! play them all. All of this is pure, except for [`Turn::find`], which runs git.

use std::{fmt, process::Command, time::SystemTime};

use anyhow::{Result, ensure};
use tracer_step::{self as step, workspace};

/// Tests that take turns with each other.
#[derive(Debug)]
pub struct Group {
    /// The group's name in a sentence.
    pub what: &'static str,
    /// The names of its tests begin with one of these.
    prefixes: &'static [&'static str],
    /// Each commit plays this many of them, at most.
    per_commit: usize,
    /// All of them should be played by this number of consecutive commits.
    commits: usize,
}

/// All groups. Every other test is played by each commit.
pub const GROUPS: [Group; 3] = [
    Group { what: "scenarios", prefixes: &["live::scenarios::"], per_commit: 12, commits: 5 },
    Group {
        what: "cells of the matrix",
        prefixes: &["live::matrix::cells::"],
        per_commit: 12,
        commits: 5,
    },
    Group { what: "long tests", prefixes: &LONG, per_commit: 5, commits: 10 },
];

/// The tests that took more than 5 s each when all were timed, and need not be played by each
/// commit: together they took ten minutes of the half hour. `cargo xtask test --times` lists
/// the times.
const LONG: [&str; 32] = [
    "live::agent::an_agent_blames_the_fstrim_serves_it_and_goes_without_a_trace",
    "live::asked::",
    "live::block::a_scheduler_changed_under_load_is_reconciled",
    "live::block::no_load_leaves_anything_in_flight_under_any_scheduler",
    "live::block::what_waits_for_a_long_flush_is_not_taken_for_ended",
    "live::block::when_a_request_was_given_to_its_driver_is_known_with_a_hook_and_without",
    "live::cells::",
    "live::container::each_listed_capability_is_needed",
    "live::crowd::a_heavy_writer_among_a_hundred_is_named",
    "live::crowd::ten_thousand_processes_in_two_thousand_cgroups_leave_the_agent_small",
    "live::demo::",
    "live::filtered::each_filter_of_an_agent_leaves_out_what_it_says_and_nothing_else",
    "live::forgotten::",
    "live::frozen::",
    "live::hanging::",
    "live::late::each_request_of_a_late_disk_is_counted_and_nothing_stays_in_flight",
    "live::late::two_hundred_volumes_that_come_late_are_followed_and_so_are_the_next_ones",
    "live::ownership::",
    "live::page::a_sync_that_has_not_ended_is_on_the_page_while_it_lasts",
    "live::page::an_open_page_says_that_the_agent_is_away_and_goes_on_with_the_next",
    "live::page::names_that_are_markup_are_text_and_run_nothing",
    "live::page::the_culprit_appears_on_the_page_while_it_is_at_work",
    "live::page::what_happened_is_asked_on_the_page_and_its_report_is_shown",
    "live::phases::nobody_asks_who_ran_for_some_microseconds",
    "live::phases::who_runs_instead_is_named_and_the_hook_goes_again",
    "live::prometheus::",
    "live::recorder::",
    "live::recording::",
    "live::seen::",
    "live::sick::a_process_that_is_stuck_in_a_page_fault_holds_nobody_up",
    "live::sick::it_starts_beside_a_disk_that_does_not_answer_and_is_proven_once_it_does",
    "live::silenced::hooks_of_syncs_that_fall_silent_are_said_within_a_minute",
];

/// With `--all`, a flight recorder is killed this number of times on each filesystem.
pub const MANY_KILLS: (&str, &str) = ("TRACER_KILLS", "20");

/// Selects which tests are this commit's turn, and says how it was found.
#[derive(Debug, Eq, PartialEq)]
pub enum Turn {
    /// The number of commits up to this one.
    Count(u64),
    /// The clone holds only the last commits, which cannot be counted then: the
    /// first digits of the commit's own name.
    Name(u64),
    /// There is no git, or no repository: days since 1970.
    Day(u64),
}

impl Turn {
    pub fn find() -> Self {
        let git = |arguments: &[&str]| {
            step::read_output(Command::new("git").args(arguments).current_dir(workspace()))
        };
        let today = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs() / (24 * 60 * 60))
        };
        let is_shallow = git(&["rev-parse", "--is-shallow-repository"]);
        let count = git(&["rev-list", "--count", "HEAD"]);
        let name = git(&["rev-parse", "HEAD"]);
        Self::choose(is_shallow.as_deref(), count.as_deref(), name.as_deref(), today())
    }

    /// Chooses by what git printed, if it ran.
    fn choose(is_shallow: Option<&str>, count: Option<&str>, name: Option<&str>, day: u64) -> Self {
        let whole = is_shallow == Some("false");
        let count = count.filter(|_| whole).and_then(|count| count.parse().ok());
        let name = name.and_then(|name| u64::from_str_radix(name.get(..8)?, 16).ok());
        match (count, name) {
            (Some(count), _) => Self::Count(count),
            (None, Some(name)) => Self::Name(name),
            (None, None) => Self::Day(day),
        }
    }

    fn number(&self) -> u64 {
        let (Self::Count(number) | Self::Name(number) | Self::Day(number)) = *self;
        number
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => write!(f, "commit number {number}"),
            Self::Name(_) => f.write_str(
                "the commit's name: a shallow clone has no count of commits, so neighbours may \
                 play the same",
            ),
            Self::Day(number) => {
                write!(f, "day number {number}: there is no git that counts commits here")
            }
        }
    }
}

/// The tests of a group, divided.
#[derive(Debug, Eq, PartialEq)]
pub struct Division {
    pub played: Vec<String>,
    pub left: Vec<String>,
}

impl Group {
    /// The tests of this group.
    ///
    /// # Errors
    ///
    /// No test has a name that begins with one of the prefixes: it was renamed.
    pub fn select(&self, tests: &[String]) -> Result<Vec<String>> {
        for prefix in self.prefixes {
            let is_there = tests.iter().any(|test| test.starts_with(prefix));
            ensure!(is_there, "no test begins with `{prefix}`: see xtask/src/test/rotation.rs");
        }
        let is_of = |test: &&String| self.prefixes.iter().any(|prefix| test.starts_with(prefix));
        Ok(tests.iter().filter(is_of).cloned().collect())
    }

    /// Divides the tests of this group for this turn.
    pub fn divide(&self, mut tests: Vec<String>, turn: &Turn) -> Division {
        tests.sort();
        let count = tests.len();
        if count > self.per_commit {
            // Each turn begins where the one before it ended. Both numbers are smaller than
            // the count of tests, so their product cannot overflow.
            let turn = (turn.number() % count as u64) as usize;
            tests.rotate_left(turn * self.per_commit % count);
        }
        let mut left = tests.split_off(count.min(self.per_commit));
        tests.sort();
        left.sort();
        Division { played: tests, left }
    }

    /// The number of consecutive commits that play all of `tests` tests.
    fn commits_for_all(&self, tests: usize) -> usize {
        tests.div_ceil(self.per_commit)
    }

    /// Describes the division for people, with a line for each test.
    pub fn describe(&self, division: &Division, turn: &Turn) -> String {
        let Self { what, .. } = self;
        let (played, left) = (division.played.len(), division.left.len());
        let all = played + left;
        let mut text = format!("{what}: {played} of {all} are played, chosen by {turn}\n");
        for name in &division.played {
            text += &format!("   {name}\n");
        }
        text += &format!("left to other commits: {left} {what}");
        if left > 0 {
            let commits = self.commits_for_all(all);
            text += &format!("; {commits} consecutive commits play all");
            if commits > self.commits {
                text += &format!(", which are more than {}", self.commits);
            }
        }
        text.push('\n');
        for name in &division.left {
            text += &format!("   {name}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SCENARIOS: &Group = &GROUPS[0];

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("s{index:02}")).collect()
    }

    /// The smallest number of consecutive turns in which all of `count` scenarios are
    /// played, whichever turn is the first.
    fn turns_for_all(count: usize) -> usize {
        let turns = |first: u64| {
            let mut missing: BTreeSet<_> = names(count).into_iter().collect();
            (0..).find(|&turns| {
                if missing.is_empty() {
                    return true;
                }
                let division = SCENARIOS.divide(names(count), &Turn::Count(first + turns));
                missing.retain(|name| !division.played.contains(name));
                false
            })
        };
        // Also where a count of turns is no longer a small number.
        let firsts = (0..60).chain(u64::MAX - 70..u64::MAX - 10);
        firsts.map(|first| turns(first).unwrap()).max().unwrap() as usize
    }

    #[test]
    fn five_consecutive_commits_play_every_scenario() {
        for count in 0..=60 {
            assert!(turns_for_all(count) <= 5, "{count} scenarios");
        }
    }

    #[test]
    fn where_it_takes_more_commits_their_number_is_known() {
        for (count, commits) in
            [(0, 0), (1, 1), (12, 1), (13, 2), (20, 2), (60, 5), (61, 6), (99, 9)]
        {
            assert_eq!(SCENARIOS.commits_for_all(count), commits, "{count} scenarios");
            assert_eq!(turns_for_all(count), commits, "{count} scenarios");
        }
        let turn = Turn::Count(0);
        let text = SCENARIOS.describe(&SCENARIOS.divide(names(61), &turn), &turn);
        let line = "left to other commits: 49 scenarios; 6 consecutive commits play all, which are more than 5\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn every_scenario_is_either_played_or_left() {
        for (count, turn) in [(5, 3), (12, 1), (13, 7), (20, 215), (60, 4)] {
            let Division { played, left } = SCENARIOS.divide(names(count), &Turn::Count(turn));
            assert_eq!(played.len(), count.min(12));
            let mut all = [played, left].concat();
            all.sort();
            assert_eq!(all, names(count));
        }
    }

    #[test]
    fn a_division_is_described_before_it_is_played() {
        let turn = Turn::Count(1);
        let division = SCENARIOS.divide(names(14), &turn);
        insta::assert_snapshot!(SCENARIOS.describe(&division, &turn), @r"
        scenarios: 12 of 14 are played, chosen by commit number 1
           s00
           s01
           s02
           s03
           s04
           s05
           s06
           s07
           s08
           s09
           s12
           s13
        left to other commits: 2 scenarios; 2 consecutive commits play all
           s10
           s11
        ");
    }

    #[test]
    fn where_all_are_played_none_are_left() {
        let turn = Turn::Day(0);
        let text = SCENARIOS.describe(&SCENARIOS.divide(names(1), &turn), &turn);
        assert!(text.ends_with("   s00\nleft to other commits: 0 scenarios\n"), "{text}");
    }

    #[test]
    fn commits_are_counted_only_in_a_whole_clone() {
        let name = Some("00000010ffffffffffffffffffffffffffffffff");
        assert_eq!(Turn::choose(Some("false"), Some("215"), name, 9), Turn::Count(215));
        assert_eq!(Turn::choose(Some("true"), Some("1"), name, 9), Turn::Name(16));
        assert_eq!(Turn::choose(None, Some("215"), name, 9), Turn::Name(16));
        assert_eq!(Turn::choose(None, None, None, 9), Turn::Day(9));
        assert_eq!(Turn::choose(Some("true"), None, Some("é"), 9), Turn::Day(9));
    }

    #[test]
    fn a_group_has_the_tests_that_its_prefixes_name() {
        let group =
            Group { what: "long tests", prefixes: &["a::", "b::one"], per_commit: 2, commits: 5 };
        let tests = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let selected = group.select(&tests(&["a::x", "b::one", "b::two", "c::a::x"])).unwrap();
        assert_eq!(selected, tests(&["a::x", "b::one"]));
        let error = group.select(&tests(&["a::x", "b::two"])).unwrap_err().to_string();
        assert!(error.contains("no test begins with `b::one`"), "{error}");
    }

    #[test]
    fn few_commits_play_all_long_tests() {
        let group = &GROUPS[2];
        // A prefix may stand for several tests: all of them for at most sixteen tests more than there
        // are prefixes.
        assert!(group.commits_for_all(group.prefixes.len() + 16) <= group.commits);
    }
}
