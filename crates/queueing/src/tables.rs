//! Verdicts held against the truth, counted and printed as tables.

use std::{collections::BTreeMap, fmt};

use tracer_engine::{
    kind::{Confidence, Kind},
    verdict::Judgement,
};
use tracer_timelines::{
    cell::Cell,
    truth::{Answer, Cause, Said},
};

/// The verdicts on some timelines, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub all: u64,
    pub right: u64,
    pub wrong: u64,
    pub undecided: u64,
    pub high: u64,
    pub high_right: u64,
    pub medium: u64,
    pub medium_right: u64,
    /// One cause has 80 % of the excess, and it was said so; for sure.
    pub clear: u64,
    pub clear_right: u64,
    pub clear_high: u64,
    /// An owner without a part in it has more than 5 % at high confidence.
    pub accused: u64,
}

impl Count {
    pub fn of(said: &Judgement, truth: Option<(f64, f64)>, answer: Answer) -> Self {
        let is_right = answer == Answer::Right;
        let has_verdict = !matches!(said.kind, Kind::None | Kind::Undecided | Kind::Unknown);
        let is = |confidence: Confidence| has_verdict && said.confidence == confidence;
        let is_clear = truth.is_some_and(|(device, load)| device.max(load) >= 0.8);
        let is_innocent = truth.is_none_or(|(_, load)| load < 0.05);
        let accused = said.culprits.iter().any(|culprit| {
            is_innocent && culprit.share > 0.05 && culprit.confidence == Confidence::High
        });
        Self {
            all: 1,
            right: is_right.into(),
            wrong: (answer == Answer::Wrong).into(),
            undecided: (said.kind == Kind::Undecided).into(),
            high: is(Confidence::High).into(),
            high_right: (is_right && is(Confidence::High)).into(),
            medium: is(Confidence::Medium).into(),
            medium_right: (is_right && is(Confidence::Medium)).into(),
            clear: is_clear.into(),
            clear_right: (is_clear && is_right && has_verdict).into(),
            clear_high: (is_clear && is_right && is(Confidence::High)).into(),
            accused: accused.into(),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.right += other.right;
        self.wrong += other.wrong;
        self.undecided += other.undecided;
        self.high += other.high;
        self.high_right += other.high_right;
        self.medium += other.medium;
        self.medium_right += other.medium_right;
        self.clear += other.clear;
        self.clear_right += other.clear_right;
        self.clear_high += other.clear_high;
        self.accused += other.accused;
    }
}

fn part(of: u64, all: u64) -> f64 {
    of as f64 / all.max(1) as f64
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |of: u64, all: u64| 100.0 * part(of, all);
        write!(
            f,
            "{} | {:.1} % | {:.1} % | {:.1} % | {} | {:.1} % | {} | {:.1} % | {:.1} % | {:.1} % | {}",
            self.all,
            percent(self.right, self.all),
            percent(self.wrong, self.all),
            percent(self.undecided, self.all),
            self.high,
            percent(self.high_right, self.high),
            self.medium,
            percent(self.medium_right, self.medium),
            percent(self.clear_right, self.clear),
            percent(self.clear_high, self.clear),
            self.accused,
        )
    }
}

/// The shares of verdicts on timelines in which the device and the neighbour have 20 % of the excess
/// each, or more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixed {
    all: u64,
    undecided: u64,
    /// Among those that are decided: both shares are within 15 points of the truth; or the device's is
    /// too large, or too small. In the rest only the neighbour's is not.
    near: u64,
    more: u64,
    less: u64,
}

/// The row of all mixed timelines.
const ALL: &str = "all";

/// Both shares are near the truth in this part of the decided mixed timelines, or more. It was 39 %
/// of 77 in two seeds that were not looked at before, and two standard errors of 300 are 6 %.
const NEAR_PART: f64 = 0.33;

impl Mixed {
    const LEAST: f64 = 0.2;
    const NEAR: f64 = 0.15;

    pub fn of(said: &Said, truth: Option<(f64, f64)>) -> Self {
        let is_mixed = |(device, load): &(f64, f64)| device.min(*load) >= Self::LEAST;
        let Some((device, load)) = truth.filter(is_mixed) else { return Self::default() };
        let is_decided = said.cause != Cause::Undecided;
        let (beyond, of_load) = (said.device - device, said.neighbour - load);
        let is_near = beyond.abs().max(of_load.abs()) <= Self::NEAR;
        Self {
            all: 1,
            undecided: (!is_decided).into(),
            near: (is_decided && is_near).into(),
            more: (is_decided && beyond > Self::NEAR).into(),
            less: (is_decided && beyond < -Self::NEAR).into(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.undecided += other.undecided;
        self.near += other.near;
        self.more += other.more;
        self.less += other.less;
    }
}

impl fmt::Display for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, undecided, near, more, less } = *self;
        let near_part = 100.0 * part(near, all - undecided);
        write!(f, "{all} | {undecided} | {near} | {near_part:.1} % | {more} | {less}")
    }
}

#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub calm: Count,
    pub all: Count,
    by_kind: BTreeMap<String, Count>,
    /// The decidable timelines, by pairs of kinds.
    by_pair: BTreeMap<[String; 2], Count>,
    mixed: BTreeMap<String, Mixed>,
}

/// A pair of kinds is listed if it has this number of timelines or more, and fewer than
/// [`RIGHT_PAIR`] of them are right.
const LISTED_PAIR: u64 = 60;
const RIGHT_PAIR: f64 = 0.97;

impl Tables {
    /// Adds a verdict on a change in a cell.
    pub fn add(&mut self, cell: &Cell, count: &Count, mixed: &Mixed) {
        self.all.add(count);
        self.mixed.entry(ALL.to_owned()).or_default().add(mixed);
        let kinds = cell.kinds();
        for (at, kind) in kinds.iter().enumerate() {
            self.by_kind.entry(kind.clone()).or_default().add(count);
            self.mixed.entry(kind.clone()).or_default().add(mixed);
            for other in kinds[at + 1..].iter().filter(|_| !cell.is_undecidable()) {
                let pair = [kind.clone(), other.clone()];
                self.by_pair.entry(pair).or_default().add(count);
            }
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| timelines | number | right | wrong | undecided | high | of these right | medium | of these right | clear and named | for sure | innocents |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        writeln!(f, "| good minutes | {} |", self.calm)?;
        writeln!(f, "| all changes | {} |", self.all)?;
        self.by_kind.iter().try_for_each(|(kind, count)| writeln!(f, "| {kind} | {count} |"))?;
        writeln!(
            f,
            "\n| mixed timelines | number | undecided | near | of those decided | device too large | too small |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let mut mixed = self.mixed.iter().filter(|(_, mixed)| mixed.all > 0);
        mixed.try_for_each(|(kind, mixed)| writeln!(f, "| {kind} | {mixed} |"))?;
        let is_listed =
            |count: &Count| count.all >= LISTED_PAIR && part(count.right, count.all) < RIGHT_PAIR;
        let mut pairs = self.by_pair.iter().filter(|(_, count)| is_listed(count));
        writeln!(f, "\n| decidable pairs below 97 % | number | right | wrong | undecided |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        pairs.try_for_each(|([one, other], count)| {
            let Count { all, right, wrong, undecided, .. } = count;
            writeln!(f, "| {one}, {other} | {all} | {right} | {wrong} | {undecided} |")
        })
    }
}

/// How likely at most `of` of `all` are right, if each is right with probability `p`:
/// the lower tail of the binomial distribution. Its normal approximation is far too
/// strict where `p` is near 1: three of fifty are wrong once in seventy times at 99 %,
/// not once in 450.
pub fn at_most(of: u64, all: u64, p: f64) -> f64 {
    let (n, odds) = (all as f64, (p / (1.0 - p)).ln());
    // Logarithms are summed, because (1 - p)^n alone may underflow to zero.
    let mut ln_each = n * (1.0 - p).ln();
    let mut sum = ln_each.exp();
    for k in 1..=of {
        ln_each += ((n - k as f64 + 1.0) / k as f64).ln() + odds;
        sum += ln_each.exp();
    }
    sum
}

/// Four throws of a coin show heads twice or less in 11 of 16 cases; the third sum
/// is written out, and the last is far beyond 20 standard errors.
#[test]
fn tails_of_the_binomial_distribution() {
    let assert_is = |(of, all, p), is: f64| {
        assert!((at_most(of, all, p) - is).abs() < 1e-4, "{of} of {all}: {}", at_most(of, all, p));
    };
    assert_is((2, 4, 0.5), 11.0 / 16.0);
    assert_is((4, 4, 0.5), 1.0);
    // 1 - 0.99^50 - 50 * 0.01 * 0.99^49 - 1225 * 0.01^2 * 0.99^48
    assert_is((47, 50, 0.99), 0.0138);
    assert_is((1400, 2000, 0.75), 0.0);
}

impl Tables {
    /// Holds what was said against what is asked of it. Few timelines may miss that,
    /// if an engine that is just good enough does so once in `1 / luck` times.
    #[track_caller]
    pub fn check(&self, luck: f64) {
        let Self { calm, all, by_kind, .. } = self;
        let is_least = |of: u64, all: u64, least: f64| {
            all == 0 || part(of, all) >= least || at_most(of, all, least) >= luck
        };
        assert!(is_least(calm.all - calm.wrong, calm.all, 0.997), "{calm}");
        assert!(is_least(all.right, all.all, 0.97), "{all}");
        assert!(is_least(all.high_right, all.high, 0.99), "{all}");
        assert!(is_least(all.medium_right, all.medium, 0.9), "{all}");
        assert!(is_least(all.high - all.accused, all.high, 0.997), "{all}");
        assert!(is_least(all.clear_right, all.clear, 0.95), "{all}");
        assert!(is_least(all.clear_high, all.clear, 0.75), "{all}");
        assert_eq!(calm.accused, 0, "{calm}");
        let both = self.mixed.get(ALL).copied().unwrap_or_default();
        assert!(is_least(both.near, both.all - both.undecided, NEAR_PART), "{both}");
        for (kind, count) in by_kind {
            let decided = count.all - count.undecided;
            assert!(is_least(decided, count.all, 0.75), "{kind}: {count}");
        }
    }
}
