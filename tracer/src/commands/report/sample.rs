//! Plays a part of a recording once more, for plots of it.
//!
//! A column of a plot is a period of its own, so its percentiles are exact. What others
//! had in flight is known for each second and averaged over the column. All lists are bounded:
//! a plot has at most [`COLUMNS`] columns, and a column keeps only the busiest owners.

use std::collections::{HashMap, VecDeque};

use tracer_engine::{blame::ActorId, victim::Span};
use tracer_recording::replay::{Played, Replay};
use tracer_snapshot::{Actor, FileClass, Op, Snapshot, Victim};

use crate::{
    output::{
        names,
        plot::{Chart, Column, Lane, Measure, step},
        timeline,
    },
    timeline::Subject,
};

/// The largest number of columns of a plot; a column is a second or longer.
const COLUMNS: usize = 180;

/// A column keeps the requests in flight of this number of owners at most.
const OWNERS: usize = 32;
/// Within one second, this number of owners is followed at most.
const SEEN: usize = 4096;

/// At most this number of a victim's culprits is kept, and at most that many have a lane.
const CULPRITS: usize = 32;
const CULPRIT_LANES: usize = 4;

/// At most this number of other owners on the disk has a lane, each with at least this mean
/// number of requests in flight.
const OTHER_LANES: usize = 2;
const LEAST_IN_FLIGHT: f64 = 0.05;

/// A culprit with a smaller part of the blame has no lane.
const LEAST_SHARE: f64 = 0.02;

/// An actor's requests of one operation on one disk.
type Key = (u32, ActorId, u16);

/// One victim while it is sampled.
struct Course {
    subject: Subject,
    columns: Vec<Column>,
    /// For each column, its index in `owners`.
    places: Vec<usize>,
    disks: Vec<String>,
    culprits: Vec<Blamed>,
    /// The number of its disk's requests so far and the sum of their times in seconds: in the
    /// queue, and at the device.
    requests: Option<[(u64, f64); 2]>,
}

struct Blamed {
    actor: Actor,
    op: Op,
    /// Seconds of blame per second, one value for each column.
    values: Vec<f64>,
}

/// Plays from where the replay is to `to`, and makes a plot of each victim that synced.
pub fn sample(replay: &mut Replay, to: f64, wanted: &[Subject]) -> Vec<Chart> {
    let start = replay.now();
    let step = step((to - start).max(1.0), COLUMNS).max(1.0);
    let mut courses: Vec<_> = wanted.iter().cloned().map(Course::new).collect();
    let mut owners: Vec<Vec<(Key, f64)>> = Vec::new();
    let mut disks: HashMap<u32, String> = HashMap::new();
    let s = replay.snapshot_of(Span::Period);
    courses.iter_mut().for_each(|course| course.begin(&s));
    replay.begin_period();
    while replay.now() < to {
        let began = replay.now();
        // Columns stay on the same grid, also where ticks are late.
        let end = (start + (((began - start) / step).floor() + 1.0) * step).min(to);
        let mut seen = HashMap::new();
        let mut seconds = 0.0;
        let mut is_whole = false;
        while replay.now() < end && !is_whole {
            let until = (replay.now() + 1.0).min(end);
            is_whole = replay.play_both(u64::MAX, until, None, &mut Vec::new()) == Played::Whole;
            seconds += 1.0;
            for disk in replay.disks() {
                for rate in disk.rates.iter().filter(|rate| rate.in_flight > 0.0) {
                    let key = (disk.index, rate.actor, rate.op);
                    if seen.len() < SEEN || seen.contains_key(&key) {
                        *seen.entry(key).or_insert(0.0) += rate.in_flight;
                    }
                }
            }
        }
        for disk in replay.disks() {
            disks.entry(disk.index).or_default().clone_from(&disk.name);
        }
        let mut busiest: Vec<_> =
            seen.into_iter().map(|(key, sum)| (key, sum / f64::max(seconds, 1.0))).collect();
        busiest.sort_by(|a, b| b.1.total_cmp(&a.1));
        busiest.truncate(OWNERS);
        owners.push(busiest);
        // If nothing was recorded, the time goes on far beyond the column's end.
        let ended = replay.now().min(began + step + 1.0).min(to).max(began);
        let s = replay.snapshot_of(Span::Period);
        replay.begin_period();
        for course in &mut courses {
            course.add([began, ended], owners.len() - 1, &s);
        }
        if is_whole {
            break;
        }
    }
    let chart = |course: Course| course.chart([start, to], replay, &owners, &disks);
    courses.into_iter().filter(Course::has_synced).map(chart).collect()
}

/// Whether a subject is this victim. The process that was seen last may be another one.
pub fn is_of(subject: &Subject, actor: &Actor, class: FileClass, path: &str, device: &str) -> bool {
    names::is_same(&subject.actor, actor)
        && (subject.class, &*subject.path, &*subject.device) == (class, path, device)
}

impl Course {
    fn new(subject: Subject) -> Self {
        Self {
            subject,
            columns: Vec::new(),
            places: Vec::new(),
            disks: Vec::new(),
            culprits: Vec::new(),
            requests: None,
        }
    }

    fn has_synced(&self) -> bool {
        self.columns.iter().any(|column| column.syncs > 0)
    }

    /// Finds the victim in a snapshot, and notes its disks.
    fn find<'a>(&mut self, s: &'a Snapshot) -> Option<&'a Victim> {
        let is_it =
            |one: &&Victim| is_of(&self.subject, &one.actor, one.class, &one.path, &one.device);
        let victim = s.victims.iter().find(is_it)?;
        if let Some(disk) = victim.disk.and_then(|at| s.disks.get(at)) {
            self.disks = vec![disk.name.clone()];
            self.disks.extend(victim.disks_below.iter().cloned());
        }
        Some(victim)
    }

    /// Notes the state of its disk before the first column, if the disk is known by then.
    fn begin(&mut self, s: &Snapshot) {
        if self.find(s).is_some() {
            self.request_times(s);
        }
    }

    fn add(&mut self, [from, to]: [f64; 2], place: usize, s: &Snapshot) {
        if to <= from {
            return;
        }
        let victim = self.find(s);
        let mut column = Column { from, to, ..Column::default() };
        (column.queue_seconds, column.device_seconds) = self.request_times(s);
        if let Some(victim) = victim {
            column.syncs = victim.syncs;
            (column.p50_seconds, column.p99_seconds) = (victim.p50_seconds, victim.p99_seconds);
            column.phases = victim.phases;
        }
        let at = self.columns.len();
        self.columns.push(column);
        self.places.push(place);
        self.culprits.iter_mut().for_each(|one| one.values.push(0.0));
        let Some(verdict) = victim.map(|victim| &victim.verdict) else { return };
        let has_room = self.culprits.len() + verdict.culprits.len() <= CULPRITS;
        for culprit in &verdict.culprits {
            let known = self.culprits.iter_mut().find(|known| {
                names::is_same(&known.actor, &culprit.actor) && known.op == culprit.op
            });
            let value = verdict.excess_seconds * culprit.share / (to - from);
            match known {
                Some(known) => known.values[at] += value,
                None if has_room => {
                    let mut values = vec![0.0; at + 1];
                    values[at] = value;
                    let (actor, op) = (culprit.actor.clone(), culprit.op);
                    self.culprits.push(Blamed { actor, op, values });
                }
                None => {}
            }
        }
    }

    /// The mean times of the disk's requests since the column before.
    fn request_times(&mut self, s: &Snapshot) -> (Option<f64>, Option<f64>) {
        let name = self.disks.first();
        let disk = s.disks.iter().find(|disk| Some(&disk.name) == name);
        let Some(disk) = disk else { return (None, None) };
        let mut now = [(0, 0.0); 2];
        for latency in &disk.latencies {
            for (sum, spread) in now.iter_mut().zip([&latency.queue, &latency.device]) {
                *sum = (sum.0 + spread.count, sum.1 + spread.seconds);
            }
        }
        let Some(before) = self.requests.replace(now) else { return (None, None) };
        let mean = |at: usize| {
            let ((count, seconds), (was, were)): ((u64, f64), (u64, f64)) = (now[at], before[at]);
            // After a restart of the tracer, they begin again.
            let count = count.checked_sub(was).filter(|count| *count > 0)?;
            Some(((seconds - were) / count as f64).max(0.0))
        };
        (mean(0), mean(1))
    }

    fn chart(
        mut self,
        [from, to]: [f64; 2],
        replay: &Replay,
        owners: &[Vec<(Key, f64)>],
        disks: &HashMap<u32, String>,
    ) -> Chart {
        let lanes = self.lanes(replay, owners, disks);
        Chart {
            victim: timeline::subject(&self.subject),
            disk: self.disks.into_iter().next().unwrap_or_default(),
            from,
            to,
            columns: self.columns,
            lanes,
            ..Chart::default()
        }
    }

    /// The culprits, those blamed most first, and then others that were on its disks.
    fn lanes(
        &mut self,
        replay: &Replay,
        owners: &[Vec<(Key, f64)>],
        disks: &HashMap<u32, String>,
    ) -> Vec<Lane> {
        let mut blamed = std::mem::take(&mut self.culprits);
        let sum = |one: &Blamed| one.values.iter().sum::<f64>();
        blamed.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
        let all: f64 = blamed.iter().map(sum).sum();
        blamed.retain(|one| sum(one) >= LEAST_SHARE * all);
        blamed.truncate(CULPRIT_LANES);
        // The busiest first: what they had in flight in each column.
        let mut present: HashMap<(ActorId, u16), Vec<f64>> = HashMap::new();
        for (column, place) in self.places.iter().enumerate() {
            for ((disk, actor, op), in_flight) in owners.get(*place).into_iter().flatten() {
                if disks.get(disk).is_some_and(|name| self.disks.contains(name)) {
                    let of = present.entry((*actor, *op));
                    of.or_insert_with(|| vec![0.0; self.places.len()])[column] += in_flight;
                }
            }
        }
        let mut present: Vec<_> = present
            .into_iter()
            .map(|((id, op), values)| (replay.actors().actor(&id), Op::of_code(op), values))
            .collect();
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        present.sort_by(|a, b| sum(&b.2).total_cmp(&sum(&a.2)));
        let mut present: VecDeque<_> = present.into();
        let mut lanes = Vec::new();
        for Blamed { actor, op, values } in blamed {
            let is_it = |one: &&(Actor, Option<Op>, Vec<f64>)| {
                names::is_same(&one.0, &actor) && one.1 == Some(op)
            };
            let requests: Vec<_> = present.iter().filter(is_it).map(|one| &one.2).collect();
            let summed = (0..values.len()).map(|at| requests.iter().map(|of| of[at]).sum::<f64>());
            let (measure, values) = match requests.is_empty() {
                true => (Measure::Blamed, values.clone()),
                false => (Measure::InFlight, summed.collect()),
            };
            lanes.push(Lane { name: name(&actor, op), measure, values });
            present.retain(|one| !is_it(&one));
        }
        let own = &self.subject.actor;
        let columns = self.places.len().max(1) as f64;
        let others = present.into_iter().filter_map(|(actor, op, values)| {
            let is_much = sum(&values) / columns >= LEAST_IN_FLIGHT;
            let is_other = !names::is_same(&actor, own) && !actor.kernel_thread;
            (is_much && is_other).then_some((actor, op?, values))
        });
        lanes.extend(others.take(OTHER_LANES).map(|(actor, op, values)| Lane {
            name: format!("also on its disk: {}", name(&actor, op)),
            measure: Measure::InFlight,
            values,
        }));
        lanes
    }
}

fn name(actor: &Actor, op: Op) -> String {
    format!("{} {}", names::actor(actor), op.name())
}
