//! Chooses the victims and culprits that have series of their own, and keeps their sums.
//!
//! Pure and bounded: periods go in, sums that never fall come out. An actor that
//! was given series keeps them until it is idle for [`IDLE_SECONDS`], since a
//! counter that comes and goes has no rate. Newcomers take free places, the worst
//! first; those that find none are summed up in `other`. So the sum over all
//! series is the sum over all actors, except for series that have expired.
//!
//! Series are keyed by their labels and not by the engine's identities:
//! two identities with the same labels would make a duplicate series, which no
//! scraper accepts.

use std::collections::{BTreeMap, HashMap};

use tracer_engine::sums::SyncBuckets;
use tracer_snapshot::{Actor, Phase, Shares, Victim, Workload};

use crate::output::{escape::bounded, names};

/// An actor that did nothing for this long loses its series.
pub const IDLE_SECONDS: f64 = 600.0;

/// The label of all actors without series of their own.
pub const OTHER: &str = "other";

/// The widest label value, in columns.
pub const COLUMNS: usize = 64;

/// The greatest numbers of victims with series, and of culprits of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub victims: usize,
    pub culprits: usize,
}

/// The labels of an actor; an empty one is absent.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ActorLabels {
    pub name: String,
    pub comm: String,
    pub namespace: String,
    pub pod: String,
    pub vm: String,
}

/// A victim's labels.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VictimLabels {
    pub actor: ActorLabels,
    pub file_class: &'static str,
    pub device: String,
}

/// A culprit's labels, with what it does.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CulpritLabels {
    pub actor: ActorLabels,
    pub op: &'static str,
}

/// The labels of an actor in metrics.
pub fn labels_of(actor: &Actor) -> ActorLabels {
    let part = |part: fn(&Workload) -> &Option<String>| {
        let part = actor.workload.as_ref().and_then(|workload| part(workload).as_deref());
        bounded(part.unwrap_or_default(), COLUMNS).into_owned()
    };
    ActorLabels {
        name: names::actor(actor),
        comm: bounded(&actor.comm, COLUMNS).into_owned(),
        namespace: part(|workload| &workload.namespace),
        pod: part(|workload| &workload.pod),
        vm: part(|workload| &workload.vm),
    }
}

/// The sums of one victim, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    pub buckets: SyncBuckets,
    pub phases: [f64; Phase::COUNT],
    pub excess: f64,
    /// The parts of the excess.
    pub causes: Causes,
}

/// Seconds by cause, in the order of [`Shares::named`].
pub type Causes = [f64; Shares::COUNT];

impl Sums {
    /// Seconds of all syncs together.
    pub fn seconds(&self) -> f64 {
        self.phases.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        let Self { buckets, phases, excess, causes } = other;
        self.buckets.iter_mut().zip(buckets).for_each(|(sum, n)| *sum = sum.saturating_add(*n));
        self.phases.iter_mut().zip(phases).for_each(|(sum, s)| *sum += counted(*s));
        self.excess += counted(*excess);
        self.causes.iter_mut().zip(causes).for_each(|(sum, s)| *sum += counted(*s));
    }
}

/// Rounding may leave a part slightly below zero, and a counter must never fall.
fn counted(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

/// The verdict on a victim in the last period.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    pub kind: &'static str,
    pub confidence: &'static str,
    /// The worst culprit; empty where there is none.
    pub culprit: String,
    pub op: &'static str,
    pub shares: Shares,
    excess: f64,
}

/// One victim in one period.
#[derive(Clone, Debug)]
pub struct Observed {
    pub labels: VictimLabels,
    pub sums: Sums,
    pub blame: Vec<(CulpritLabels, f64)>,
    pub present: Present,
    pub undisturbed_p99_seconds: Option<f64>,
}

impl Observed {
    /// The numbers of the verdict that `tracer why` would print for this victim and period.
    pub fn of(victim: &Victim) -> Self {
        let verdict = &victim.verdict;
        let excess = verdict.excess_seconds;
        let shares = verdict.shares;
        let mut buckets = SyncBuckets::default();
        buckets.iter_mut().zip(&victim.sync_buckets).for_each(|(sum, count)| *sum = *count);
        // A sync that has not ended is counted in the period in which it ends.
        let countable = victim.countable.as_deref();
        let counted = countable.map_or(verdict, |countable| &countable.verdict);
        let phases = countable.map_or(victim.phases, |countable| countable.phases);
        let blame = counted.culprits.iter().map(|culprit| {
            let labels = CulpritLabels { actor: labels_of(&culprit.actor), op: culprit.op.name() };
            (labels, culprit.wait_seconds)
        });
        let worst = verdict.culprits.first();
        Self {
            labels: VictimLabels {
                actor: labels_of(&victim.actor),
                file_class: victim.class.name(),
                device: bounded(&victim.device, COLUMNS).into_owned(),
            },
            sums: Sums {
                buckets,
                phases: phases.0,
                excess: counted.excess_seconds,
                causes: counted.shares.named().map(|(_, share)| counted.excess_seconds * share),
            },
            blame: blame.collect(),
            present: Present {
                kind: verdict.kind.name(),
                confidence: verdict.confidence.name(),
                culprit: worst.map(|culprit| labels_of(&culprit.actor).name).unwrap_or_default(),
                op: worst.map_or("", |culprit| culprit.op.name()),
                shares,
                excess,
            },
            undisturbed_p99_seconds: victim.undisturbed_p99_seconds,
        }
    }
}

/// A culprit's sum.
#[derive(Clone, Copy, Debug)]
struct Blamed {
    seconds: f64,
    last_at: f64,
}

/// The sums, the blame and the verdict of one victim.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub sums: Sums,
    blame: BTreeMap<CulpritLabels, Blamed>,
    /// Seconds by operation.
    others: BTreeMap<&'static str, f64>,
    /// `None` while it does not sync, and for the crowd.
    pub present: Option<Present>,
    pub undisturbed_p99_seconds: Option<f64>,
    last_at: f64,
}

impl Row {
    /// The culprits' labels and sums; the crowd's labels have a name and an
    /// operation, and nothing else.
    pub fn blame(&self) -> impl Iterator<Item = (CulpritLabels, f64)> {
        let known = self.blame.iter().map(|(labels, blamed)| (labels.clone(), blamed.seconds));
        let others = self.others.iter().map(|(op, seconds)| {
            let actor = ActorLabels { name: OTHER.to_owned(), ..ActorLabels::default() };
            (CulpritLabels { actor, op }, *seconds)
        });
        known.chain(others)
    }

    fn update(&mut self, at: f64, culprits: usize, observed: &Observed) {
        self.sums.add(&observed.sums);
        self.last_at = at;
        // The worst first, for they may be given the last places.
        let mut blame: Vec<_> = observed.blame.iter().collect();
        blame.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (labels, seconds) in blame {
            let seconds = counted(*seconds);
            if let Some(blamed) = self.blame.get_mut(labels) {
                blamed.seconds += seconds;
                blamed.last_at = at;
            } else if self.blame.len() < culprits {
                self.blame.insert(labels.clone(), Blamed { seconds, last_at: at });
            } else {
                *self.others.entry(labels.op).or_default() += seconds;
            }
        }
    }

    fn expire(&mut self, at: f64) {
        self.blame.retain(|_, blamed| at - blamed.last_at < IDLE_SECONDS);
    }

    /// Those with the least blame lose their series.
    fn shrink(&mut self, culprits: usize) {
        let mut rows: Vec<_> = self.blame.iter().map(|(l, b)| (b.seconds, l.clone())).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, labels) in rows.split_off(rows.len().min(culprits)) {
            self.blame.remove(&labels);
        }
    }
}

/// All victims' series.
#[derive(Clone, Debug)]
pub struct Series {
    limits: Limits,
    rows: BTreeMap<VictimLabels, Row>,
    crowd: Row,
}

impl Series {
    pub fn new(limits: Limits) -> Self {
        Self { limits, rows: BTreeMap::new(), crowd: Row::default() }
    }

    /// Sets new limits; victims with the least excess lose their series if there are
    /// now too many.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let mut rows: Vec<_> =
            self.rows.iter().map(|(l, row)| (row.sums.excess, l.clone())).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, labels) in rows.split_off(rows.len().min(limits.victims)) {
            self.rows.remove(&labels);
        }
        for row in self.rows.values_mut().chain([&mut self.crowd]) {
            row.shrink(limits.culprits);
        }
    }

    /// Adds a period that ended at `at` (seconds of any clock that does not go
    /// back).
    pub fn update(&mut self, at: f64, period: impl IntoIterator<Item = Observed>) {
        self.rows.retain(|_, row| at - row.last_at < IDLE_SECONDS);
        for row in self.rows.values_mut().chain([&mut self.crowd]) {
            row.expire(at);
            row.present = None;
        }
        let mut newcomers = Vec::new();
        for one in merge(period) {
            match self.rows.get_mut(&one.labels) {
                Some(row) => put(row, at, self.limits.culprits, one),
                None => newcomers.push(one),
            }
        }
        newcomers.sort_by(|a, b| {
            let by_seconds = || b.sums.seconds().total_cmp(&a.sums.seconds());
            let by_excess = b.sums.excess.total_cmp(&a.sums.excess);
            by_excess.then_with(by_seconds).then_with(|| a.labels.cmp(&b.labels))
        });
        for one in newcomers {
            if self.rows.len() < self.limits.victims {
                let mut row = Row::default();
                let labels = one.labels.clone();
                put(&mut row, at, self.limits.culprits, one);
                self.rows.insert(labels, row);
            } else {
                self.crowd.update(at, self.limits.culprits, &one);
            }
        }
    }

    /// All rows; the crowd's labels have a name only, and it is there once
    /// somebody was in it.
    pub fn rows(&self) -> impl Iterator<Item = (VictimLabels, &Row)> {
        let crowd = (self.crowd.last_at > 0.0).then(|| {
            let actor = ActorLabels { name: OTHER.to_owned(), ..ActorLabels::default() };
            (VictimLabels { actor, ..VictimLabels::default() }, &self.crowd)
        });
        self.rows.iter().map(|(labels, row)| (labels.clone(), row)).chain(crowd)
    }
}

fn put(row: &mut Row, at: f64, culprits: usize, one: Observed) {
    row.update(at, culprits, &one);
    row.present = Some(one.present);
    row.undisturbed_p99_seconds = one.undisturbed_p99_seconds.or(row.undisturbed_p99_seconds);
}

/// Merges victims with the same labels into one, which has the verdict of the worst.
fn merge(period: impl IntoIterator<Item = Observed>) -> Vec<Observed> {
    let mut merged: HashMap<VictimLabels, Observed> = HashMap::new();
    for mut one in period {
        let Some(known) = merged.get_mut(&one.labels) else {
            merged.insert(one.labels.clone(), one);
            continue;
        };
        known.sums.add(&one.sums);
        known.blame.append(&mut one.blame);
        if one.present.excess > known.present.excess {
            known.present = one.present;
            known.undisturbed_p99_seconds =
                one.undisturbed_p99_seconds.or(known.undisturbed_p99_seconds);
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests;
