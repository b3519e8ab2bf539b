//! The scenarios that one commit plays, and the cells of the matrix; the others are
//! left to the commits beside it.
//!
//! A scenario takes most of a minute, and a cell a third of one, so all of them
//! together do not fit into half an hour. Each commit plays the next twelve of each
//! in the order of their names, beginning again after the last: consecutive commits
//! play them all. Pure, but for [`Turn::find`], which asks git.

use std::{fmt, process::Command, time::SystemTime};

use tracer_step::{self as step, workspace};

/// Played by each commit, at most.
pub const PER_COMMIT: usize = 12;
/// So many consecutive commits play all scenarios, while there are no more than
/// [`PER_COMMIT`] for each.
pub const COMMITS: usize = 5;

/// The place of this commit among the others, and how it is known.
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

    /// Chooses by what git printed, where it could.
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

/// All scenarios, divided.
#[derive(Debug, Eq, PartialEq)]
pub struct Division {
    pub played: Vec<String>,
    pub left: Vec<String>,
}

/// Divides the scenarios for this turn.
pub fn divide(mut scenarios: Vec<String>, turn: &Turn) -> Division {
    scenarios.sort();
    let count = scenarios.len();
    if count > PER_COMMIT {
        // Each turn goes on where the one before it has ended. Both numbers are
        // below the count of scenarios, which is no large one.
        let turn = (turn.number() % count as u64) as usize;
        scenarios.rotate_left(turn * PER_COMMIT % count);
    }
    let mut left = scenarios.split_off(count.min(PER_COMMIT));
    scenarios.sort();
    left.sort();
    Division { played: scenarios, left }
}

/// How many consecutive commits play all of so many scenarios.
pub fn commits_for_all(scenarios: usize) -> usize {
    scenarios.div_ceil(PER_COMMIT)
}

impl Division {
    /// For people, before the first test: a line for each scenario.
    pub fn describe(&self, what: &str, turn: &Turn) -> String {
        let (played, left) = (self.played.len(), self.left.len());
        let all = played + left;
        let mut text = format!("{what}: {played} of {all} are played, chosen by {turn}\n");
        for name in &self.played {
            text += &format!("   {name}\n");
        }
        text += &format!("left to other commits: {left} {what}");
        if left > 0 {
            let commits = commits_for_all(all);
            text += &format!("; {commits} consecutive commits play all");
            if commits > COMMITS {
                text += &format!(", which are more than {COMMITS}");
            }
        }
        text.push('\n');
        for name in &self.left {
            text += &format!("   {name}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("s{index:02}")).collect()
    }

    /// The least number of consecutive turns, from any on, in which all of
    /// `count` scenarios are played.
    fn turns_for_all(count: usize) -> usize {
        let turns = |first: u64| {
            let mut missing: BTreeSet<_> = names(count).into_iter().collect();
            (0..).find(|&turns| {
                if missing.is_empty() {
                    return true;
                }
                let division = divide(names(count), &Turn::Count(first + turns));
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
            assert_eq!(commits_for_all(count), commits, "{count} scenarios");
            assert_eq!(turns_for_all(count), commits, "{count} scenarios");
        }
        let text = divide(names(61), &Turn::Count(0)).describe("scenarios", &Turn::Count(0));
        let line = "left to other commits: 49 scenarios; 6 consecutive commits play all, which are more than 5\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn every_scenario_is_either_played_or_left() {
        for (count, turn) in [(5, 3), (12, 1), (13, 7), (20, 215), (60, 4)] {
            let Division { played, left } = divide(names(count), &Turn::Count(turn));
            assert_eq!(played.len(), count.min(12));
            let mut all = [played, left].concat();
            all.sort();
            assert_eq!(all, names(count));
        }
    }

    #[test]
    fn a_division_is_described_before_it_is_played() {
        let turn = Turn::Count(1);
        insta::assert_snapshot!(divide(names(14), &turn).describe("scenarios", &turn), @r"
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
        let text = divide(names(1), &Turn::Day(0)).describe("scenarios", &Turn::Day(0));
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
}
