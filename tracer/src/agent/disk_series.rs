//! Chooses the disks that have series of their own, and keeps their sums.
//!
//! As for victims ([`super::series`]): the number is bounded, disks that were given
//! series keep them, the busiest newcomers get the free places, and all others are
//! summed up in `other`. So the sum over all series is the sum over all disks, except
//! for disks that a pattern excludes, and for series that have ended.
//!
//! No pattern excludes a disk for which a victim waits, or a disk that such a
//! disk is stacked on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    str::FromStr,
};

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracer_snapshot::{Disk, Latency, Op, Spread};

use super::series::IDLE_SECONDS;
use crate::session::AroundDisks;

/// The disks that are left out by default.
pub const USUALLY_EXCLUDED: &str = r"^(loop|ram|zram|nbd|sr|fd)\d+$";

/// A pattern of names. The empty one matches none.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// The disks that are left out by default.
    pub fn usually_excluded() -> Self {
        USUALLY_EXCLUDED.parse().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.regex.is_none()
    }

    pub fn matches(&self, name: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = |error: regex_lite::Error| format!("`{text}` is no regular expression: {error}");
        let regex = if text.is_empty() { None } else { Some(Regex::new(text).map_err(why)?) };
        Ok(Self { text: text.to_owned(), regex })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The disks that may have series of their own, and the most that do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskLimits {
    pub disks: usize,
    /// The empty one stands for all.
    pub include: Pattern,
    pub exclude: Pattern,
}

impl DiskLimits {
    fn wants(&self, name: &str) -> bool {
        let is_included = self.include.is_empty() || self.include.matches(name);
        is_included && !self.exclude.matches(name)
    }
}

/// The sums of one operation.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    pub count: u64,
    pub bytes: u64,
    pub queue: Spread,
    pub device: Spread,
}

impl Requests {
    fn of(latency: &Latency) -> Self {
        let Latency { count, bytes_total, queue, device, .. } = latency.clone();
        Self { count, bytes: bytes_total, queue, device }
    }

    /// The growth since an earlier look.
    fn since(mut self, before: &Self) -> Self {
        self.count = self.count.saturating_sub(before.count);
        self.bytes = self.bytes.saturating_sub(before.bytes);
        for (spread, before) in
            [(&mut self.queue, &before.queue), (&mut self.device, &before.device)]
        {
            spread.count = spread.count.saturating_sub(before.count);
            spread.seconds = (spread.seconds - before.seconds).max(0.0);
            let both = spread.cumulative.iter_mut().zip(&before.cumulative);
            both.for_each(|(count, before)| *count = count.saturating_sub(*before));
        }
        self
    }

    fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.bytes += more.bytes;
        for (spread, more) in [(&mut self.queue, &more.queue), (&mut self.device, &more.device)] {
            spread.count += more.count;
            spread.seconds += more.seconds;
            let length = spread.cumulative.len().max(more.cumulative.len());
            spread.cumulative.resize(length, 0);
            let both = spread.cumulative.iter_mut().zip(&more.cumulative);
            both.for_each(|(count, more)| *count += more);
        }
    }
}

type ByOp = BTreeMap<&'static str, Requests>;

/// Everything of one disk.
#[derive(Clone, Debug, Default)]
pub struct DiskRow {
    pub in_flight: u64,
    pub requests: ByOp,
    /// When it had requests, and when a victim waited for it.
    busy_at: f64,
    needed_at: Option<f64>,
}

impl DiskRow {
    fn update(&mut self, at: f64, one: &Newcomer<'_>) {
        self.in_flight += one.disk.in_flight;
        if one.count() > 0 {
            self.busy_at = at;
        }
        if one.is_needed {
            self.needed_at = Some(at);
        }
        for (op, requests) in &one.growth {
            self.requests.entry(op).or_default().add(requests);
        }
    }

    fn is_needed(&self, at: f64) -> bool {
        self.needed_at.is_some_and(|needed_at| at - needed_at < IDLE_SECONDS)
    }
}

/// A disk in one period.
struct Newcomer<'a> {
    disk: &'a Disk,
    growth: ByOp,
    is_needed: bool,
}

impl Newcomer<'_> {
    fn count(&self) -> u64 {
        self.growth.values().map(|requests| requests.count).sum()
    }
}

/// All disks' series.
#[derive(Clone, Debug)]
pub struct DiskSeries {
    limits: DiskLimits,
    rows: BTreeMap<String, DiskRow>,
    crowd: Option<DiskRow>,
    /// All disks' own sums at the last look.
    seen: BTreeMap<String, ByOp>,
    /// Disks that are summed up, and those that are left out.
    others: usize,
    excluded: usize,
}

impl DiskSeries {
    pub fn new(limits: DiskLimits) -> Self {
        let (rows, seen) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, rows, crowd: None, seen, others: 0, excluded: 0 }
    }

    /// Sets new limits; disks with the fewest requests lose their series if there are
    /// now too many.
    pub fn set_limits(&mut self, limits: DiskLimits) {
        self.rows.retain(|name, row| limits.wants(name) || row.needed_at.is_some());
        let count = |row: &DiskRow| row.requests.values().map(|r| r.count).sum::<u64>();
        let mut names: Vec<_> = self.rows.iter().map(|(n, row)| (count(row), n.clone())).collect();
        names.sort_by_key(|(count, _)| Reverse(*count));
        for (_, name) in names.split_off(names.len().min(limits.disks)) {
            self.rows.remove(&name);
        }
        self.limits = limits;
    }

    /// Adds a period that ended at `at` (seconds of any clock that does not go back).
    pub fn update(&mut self, at: f64, disks: &[Disk], around: &AroundDisks) {
        let names: BTreeSet<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
        self.rows.retain(|name, _| names.contains(name.as_str()));
        self.seen.retain(|name, _| names.contains(name.as_str()));
        (self.others, self.excluded) = (0, 0);
        for row in self.rows.values_mut().chain(&mut self.crowd) {
            row.in_flight = 0;
        }
        let mut newcomers = Vec::new();
        for disk in disks {
            let is_needed = around.needed.contains(&disk.name);
            let one = Newcomer { disk, growth: self.growth(disk), is_needed };
            let is_gone = around.gone.contains(&disk.name) && one.count() == 0;
            let is_wanted = self.limits.wants(&disk.name) || is_needed;
            let is_known = self.rows.get(&disk.name).map(|row| is_wanted || row.is_needed(at));
            match is_known {
                _ if is_gone => drop(self.rows.remove(&disk.name)),
                Some(true) => {
                    self.rows.entry(disk.name.clone()).or_default().update(at, &one);
                }
                Some(false) => {
                    self.rows.remove(&disk.name);
                    self.excluded += 1;
                }
                None if is_wanted => newcomers.push(one),
                None => self.excluded += 1,
            }
        }
        let all_fit = self.rows.len() + newcomers.len() <= self.limits.disks;
        newcomers.sort_by_key(|one| (!one.is_needed, Reverse(one.count()), &one.disk.name));
        for one in newcomers {
            let has_reason = all_fit || one.is_needed || one.count() > 0;
            if has_reason && (self.rows.len() < self.limits.disks || self.make_room(at, &one)) {
                let mut row = DiskRow { busy_at: at, ..DiskRow::default() };
                row.update(at, &one);
                self.rows.insert(one.disk.name.clone(), row);
            } else {
                self.crowd.get_or_insert_default().update(at, &one);
                self.others += 1;
            }
        }
    }

    /// The growth of a disk since the last look.
    fn growth(&mut self, disk: &Disk) -> ByOp {
        let now: ByOp = disk.latencies.iter().map(|l| (Op::name(l.op), Requests::of(l))).collect();
        let seen = self.seen.entry(disk.name.clone()).or_default();
        let before = mem::replace(seen, now.clone());
        let since = |(op, requests): (&'static str, Requests)| match before.get(op) {
            // The counter has begun again.
            Some(before) if before.count > requests.count => (op, requests),
            Some(before) => (op, requests.since(before)),
            None => (op, requests),
        };
        now.into_iter().map(since).collect()
    }

    /// Ends the series of one that was idle for long, or for one that a victim needs,
    /// of the one that was so longest.
    fn make_room(&mut self, at: f64, for_one: &Newcomer<'_>) -> bool {
        let can_go = |row: &DiskRow| {
            let is_idle = at - row.busy_at >= IDLE_SECONDS;
            !row.is_needed(at) && (for_one.is_needed || is_idle)
        };
        let rows = self.rows.iter().filter(|(_, row)| can_go(row));
        let longest = rows.min_by(|a, b| a.1.busy_at.total_cmp(&b.1.busy_at));
        let Some(name) = longest.map(|(name, _)| name.clone()) else { return false };
        self.rows.remove(&name).is_some()
    }

    /// The disks with series of their own.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &DiskRow)> {
        self.rows.iter().map(|(name, row)| (name.as_str(), row))
    }

    /// All others, once there were some.
    pub fn crowd(&self) -> Option<&DiskRow> {
        self.crowd.as_ref()
    }

    /// How many disks there are, by where they are found.
    pub fn disks(&self) -> [(&'static str, usize); 3] {
        [("own", self.rows.len()), ("other", self.others), ("none", self.excluded)]
    }
}

#[cfg(test)]
mod tests;
