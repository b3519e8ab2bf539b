//! A disk, a victim and neighbours, event by event.
//!
//! A model of a disk serves the requests of the victim's syncs and commits and of the
//! neighbours' streams, and the timeline counts what a kernel would count.

use std::{collections::BTreeMap, mem, time::Duration};

use serde::{Deserialize, Serialize};
use tracer_disk_model::{Model, Request as Asked, Service, Stalls};
use tracer_ebpf::record::{RESTED_NS, op};

use crate::dice::Dice;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// A disk like that of the measured incidents: 4 channels, 3000 requests a second.
pub fn well() -> Model {
    Model {
        channels: 4,
        read: Duration::from_micros(150),
        write: Duration::from_micros(100),
        flush: Duration::from_micros(800),
        discard: Duration::from_millis(40),
        bytes_per_second: 2_000_000_000,
        iops: Some(3000),
        ..Model::default()
    }
}

/// In each period of `every_ms`, nothing begins for `length_ms`.
pub fn stalls(every_ms: u64, length_ms: u64) -> Option<Stalls> {
    let [every, length] = [every_ms, length_ms].map(Duration::from_millis);
    Some(Stalls { every, length })
}

/// A neighbour's way to use the disk.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Does {
    Read,
    Write,
    /// Each write is followed by a flush.
    SyncingWrite,
    /// The kernel writes back once a second, as fast as it can.
    BufferedWrite,
    Discard,
}

/// A neighbour's requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stream {
    pub does: Does,
    pub bytes: u64,
    /// At most this many requests are in flight at a time.
    pub deep: usize,
    /// Requests a second of the whole stream; if `None`, as fast as they are served.
    pub per_second: Option<u64>,
}

impl Stream {
    /// The operation of its requests.
    pub fn op(self) -> u32 {
        match self.does {
            Does::Read => op::READ,
            Does::Discard => op::DISCARD,
            Does::Write | Does::SyncingWrite | Does::BufferedWrite => op::WRITE,
        }
    }
}

pub const fn reads(deep: usize, per_second: Option<u64>) -> Stream {
    Stream { does: Does::Read, bytes: 4096, deep, per_second }
}

pub const fn writes(deep: usize, per_second: Option<u64>) -> Stream {
    Stream { does: Does::Write, bytes: 4096, deep, per_second }
}

/// With some milliseconds between two of them, in which the groups are read.
pub const TRIMS: Stream =
    Stream { does: Does::Discard, bytes: 1 << 30, deep: 1, per_second: Some(20) };

/// The disk and the neighbours for a while.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    pub seconds: u64,
    pub disk: Model,
    pub neighbours: [Option<Stream>; 2],
    /// The time for which the victim's own limit holds back each of its syncs.
    pub held_ns: u64,
    /// A neighbour that was held up makes up for it later.
    pub catches_up: [bool; 2],
}

pub fn phase(seconds: u64, disk: Model, neighbours: &[Stream]) -> Phase {
    let of = |at: usize| neighbours.get(at).copied();
    Phase { seconds, disk, neighbours: [of(0), of(1)], held_ns: 0, catches_up: [false; 2] }
}

/// The owner of a request: the victim's sync, its other work, a neighbour's worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    Sync,
    Commit,
    Neighbour(u8, u8),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    End(u16),
    Next(Who),
    Second,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    who: Who,
    op: u32,
    bytes: u64,
    submitted_ns: u64,
    /// Whether the disk was idle when it arrived, and how many requests had arrived and ended
    /// by then.
    rested: bool,
    seen: (u64, u64),
}

/// A worker that makes the requests of a neighbour's stream.
#[derive(Clone, Copy, Debug)]
struct Worker {
    /// `u64::MAX` for a worker that has nothing to do.
    due_ns: u64,
    /// In its burst.
    written: u64,
}

/// A stream has at most this number of workers.
const DEEPEST: usize = 64;

/// The number of accounts: 1 is the victim's, 2 and 3 are the neighbours'.
pub const ACCOUNTS: usize = 4;

/// The counters of an account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub in_flight: u64,
    pub submitted: u64,
    pub completed: u64,
    pub bytes: u64,
    /// The time-integral of the requests in flight, up to a time.
    pub in_flight_ns: u64,
    until_ns: u64,
}

impl Counted {
    fn pass(&mut self, now_ns: u64) {
        self.in_flight_ns += self.in_flight * (now_ns - self.until_ns);
        self.until_ns = now_ns;
    }
}

/// A sync that has ended: a write and a flush.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sync {
    pub begin_ns: u64,
    pub duration_ns: u64,
    /// The time in its own requests.
    pub device_ns: u64,
    pub requests: u32,
    pub bytes: u64,
    /// The in-flight integral of each account during the sync.
    pub integrals_ns: [u64; ACCOUNTS],
}

/// The result of a step, if it has one.
#[derive(Clone, Copy, Debug)]
pub enum Happened {
    Sync(Sync),
    /// A second has passed.
    Second,
}

/// Requests that were alone on the disk: their number and their time, by operation
/// and size.
pub type Alone = BTreeMap<(u32, u64), (u64, u64)>;

/// A running disk, for as long as it is asked to go on.
#[derive(Clone, Debug)]
pub struct Timeline {
    now_ns: u64,
    /// Sorted so that the next event is last; among events of the same time, the one that was
    /// made first. There are few, and most new ones are due soon: a search from the end is short.
    events: Vec<(u64, Event)>,
    dice: Dice,
    phase: Phase,
    service: Service,
    positions: [u64; ACCOUNTS],
    last_end_ns: u64,
    came: (u64, u64),
    in_flight: u64,
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
    counted: [Counted; ACCOUNTS],
    alone: Alone,
    sync: Option<(Sync, [Counted; ACCOUNTS])>,
    syncs_due_ns: u64,
    /// The victim commits beside its syncs, too.
    commit_due_ns: u64,
    committing: usize,
    workers: [[Worker; DEEPEST]; 2],
}

/// Each timeline begins then. The uptime does not matter.
pub const BEGIN_NS: u64 = 5_000 * SECOND;
pub const SYNCS_PER_SECOND: u64 = 60;
pub const CPU_NS: u64 = 50_000;
const COMMIT_EVERY_NS: u64 = 100 * MS;
const COMMIT_WRITES: usize = 4;
pub const BLOCK: u64 = 4096;

impl Timeline {
    pub fn new(seed: u64) -> Self {
        let now_ns = BEGIN_NS;
        let mut timeline = Self {
            now_ns,
            events: Vec::new(),
            dice: Dice(seed),
            phase: phase(0, well(), &[]),
            service: Service::new(well()),
            positions: Default::default(),
            last_end_ns: 0,
            came: (0, 0),
            in_flight: 0,
            requests: Vec::new(),
            free: Vec::new(),
            counted: [Counted { until_ns: now_ns, ..Counted::default() }; ACCOUNTS],
            alone: Alone::default(),
            sync: None,
            syncs_due_ns: now_ns,
            commit_due_ns: now_ns,
            committing: 0,
            workers: [[Worker { due_ns: u64::MAX, written: 0 }; DEEPEST]; 2],
        };
        timeline.at(now_ns + SECOND, Event::Second);
        timeline.at(now_ns, Event::Next(Who::Sync));
        timeline.at(now_ns, Event::Next(Who::Commit));
        timeline
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The counters of each account up to now.
    pub fn count(&mut self) -> [Counted; ACCOUNTS] {
        self.counted.iter_mut().for_each(|counted| counted.pass(self.now_ns));
        self.counted
    }

    /// Returns the requests that were alone since the last call.
    pub fn take_alone(&mut self) -> Alone {
        mem::take(&mut self.alone)
    }

    /// Begins a phase; [`Self::step`] plays it.
    pub fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.service.become_another(phase.disk);
        for (at, stream) in phase.neighbours.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            for worker in 0..stream.deep {
                // Workers of the phase before continue.
                if self.workers[at][worker].due_ns == u64::MAX {
                    let due_ns = self.now_ns + (self.dice.chance() * 20e6) as u64;
                    self.workers[at][worker].due_ns = due_ns;
                    self.at(due_ns, Event::Next(Who::Neighbour(at as u8, worker as u8)));
                }
            }
        }
    }

    /// The time of the next event.
    pub fn next_ns(&self) -> u64 {
        self.events.last().map_or(u64::MAX, |(ns, _)| *ns)
    }

    /// Plays the next event.
    pub fn step(&mut self) -> Option<Happened> {
        let (ns, event) = self.events.pop()?;
        self.now_ns = ns;
        match event {
            Event::End(at) => return self.end(at.into()).map(Happened::Sync),
            Event::Next(who) => self.next(who),
            Event::Second => {
                self.at(self.now_ns + SECOND, Event::Second);
                return Some(Happened::Second);
            }
        }
        None
    }

    /// Plays a whole phase, and returns the durations of its syncs.
    pub fn play(&mut self, phase: Phase) -> Vec<u64> {
        let end_ns = self.now_ns + phase.seconds * SECOND;
        self.begin(phase);
        let mut durations_ns = Vec::new();
        while self.now_ns < end_ns {
            if let Some(Happened::Sync(sync)) = self.step() {
                durations_ns.push(sync.duration_ns);
            }
        }
        durations_ns
    }

    fn at(&mut self, ns: u64, event: Event) {
        let later = self.events.iter().rposition(|(other_ns, _)| *other_ns > ns);
        self.events.insert(later.map_or(0, |at| at + 1), (ns, event));
    }

    /// A random time around `ns`.
    fn about(&mut self, ns: u64) -> u64 {
        (ns as f64 * (0.7 + 0.6 * self.dice.chance())) as u64
    }

    fn account(who: Who) -> usize {
        match who {
            Who::Sync | Who::Commit => 1,
            Who::Neighbour(at, _) => 2 + usize::from(at),
        }
    }

    fn issue(&mut self, who: Who, operation: u32, bytes: u64) {
        let is_rested = self.now_ns >= self.last_end_ns + RESTED_NS || operation == op::FLUSH;
        self.came.0 += 1;
        let request = Request {
            who,
            op: operation,
            bytes,
            submitted_ns: self.now_ns,
            rested: self.in_flight == 0 && is_rested,
            seen: self.came,
        };
        self.in_flight += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.requests.push(None);
            self.requests.len() - 1
        });
        self.requests[at] = Some(request);
        let counted = &mut self.counted[Self::account(who)];
        counted.pass(self.now_ns);
        counted.in_flight += 1;
        counted.submitted += 1;
        // The victim's log and its files lie apart, and neighbours jump about.
        let position = match who {
            Who::Sync => self.positions[0] + bytes,
            _ => (self.dice.chance() * 1e12) as u64,
        };
        if who == Who::Sync {
            self.positions[0] = position;
        }
        let asked = match operation {
            op::READ => Asked::Read { at: position, bytes },
            op::WRITE => Asked::Write { at: position, bytes },
            op::FLUSH => Asked::Flush,
            _ => Asked::Discard { bytes },
        };
        let times = 0.9 + 0.2 * self.dice.chance();
        let end_ns = self.service.admit_varied(self.now_ns, asked, times);
        // There are at most as many requests as workers, plus a sync and a commit.
        self.at(end_ns, Event::End(at as u16));
    }

    /// Ends a request, and perhaps the sync that it belongs to.
    fn end(&mut self, at: usize) -> Option<Sync> {
        let Some(request) = self.requests[at].take() else { unreachable!("it ends once") };
        self.free.push(at);
        self.in_flight -= 1;
        let counted = &mut self.counted[Self::account(request.who)];
        counted.pass(self.now_ns);
        counted.in_flight -= 1;
        counted.completed += 1;
        counted.bytes += request.bytes;
        self.last_end_ns = self.now_ns;
        let took_ns = self.now_ns - request.submitted_ns;
        if request.rested && self.came == request.seen && self.in_flight == 0 {
            let class = if request.op == op::FLUSH { 0 } else { request.bytes };
            let (requests, ns) = self.alone.entry((request.op, class)).or_default();
            (*requests, *ns) = (*requests + 1, *ns + took_ns);
        }
        self.came.1 += 1;
        match request.who {
            Who::Sync => return self.go_on_with_sync(request.op, took_ns),
            Who::Commit if request.op == op::FLUSH => self.rest_from_commit(),
            Who::Commit => {
                self.committing -= 1;
                if self.committing == 0 {
                    self.issue(Who::Commit, op::FLUSH, 0);
                }
            }
            Who::Neighbour(stream, worker) => {
                let [stream, worker] = [stream, worker].map(usize::from);
                let flushes = self.phase.neighbours[stream]
                    .is_some_and(|stream| stream.does == Does::SyncingWrite);
                if flushes && request.op == op::WRITE {
                    self.issue(request.who, op::FLUSH, 0);
                } else {
                    self.rest(stream, worker);
                }
            }
        }
        None
    }

    /// Continues a sync, which is a write and a flush.
    fn go_on_with_sync(&mut self, operation: u32, took_ns: u64) -> Option<Sync> {
        let (sync, _) = self.sync.as_mut()?;
        sync.device_ns += took_ns;
        sync.requests += 1;
        if operation == op::WRITE {
            sync.bytes = BLOCK;
            self.issue(Who::Sync, op::FLUSH, 0);
            return None;
        }
        let (mut sync, before) = self.sync.take()?;
        sync.duration_ns = self.now_ns - sync.begin_ns + CPU_NS + self.phase.held_ns;
        for (account, (now, then)) in self.count().iter().zip(before).enumerate() {
            sync.integrals_ns[account] = now.in_flight_ns - then.in_flight_ns;
        }
        self.syncs_due_ns = (self.syncs_due_ns + SECOND / SYNCS_PER_SECOND).max(self.now_ns);
        let due_ns = self.syncs_due_ns + self.phase.held_ns + (self.dice.chance() * 4e6) as u64;
        self.at(due_ns.max(self.now_ns + CPU_NS), Event::Next(Who::Sync));
        Some(sync)
    }

    fn rest_from_commit(&mut self) {
        self.commit_due_ns = (self.commit_due_ns + COMMIT_EVERY_NS).max(self.now_ns);
        self.at(self.commit_due_ns, Event::Next(Who::Commit));
    }

    fn rest(&mut self, at: usize, worker: usize) {
        let stream = self.phase.neighbours[at].filter(|stream| worker < stream.deep);
        let due_ns = match stream {
            None => u64::MAX,
            Some(Stream { per_second: None, .. }) => self.now_ns + 10_000,
            Some(Stream { does: Does::BufferedWrite, per_second: Some(rate), deep, .. }) => {
                let written = &mut self.workers[at][worker].written;
                *written += 1;
                if *written < (rate / deep as u64).max(1) {
                    self.now_ns + 10_000
                } else {
                    *written = 0;
                    // All workers begin at the same time.
                    let second = self.now_ns / SECOND + 1;
                    second * SECOND + 300 * MS
                }
            }
            Some(Stream { per_second: Some(rate), deep, .. }) => {
                let each_ns = SECOND * deep as u64 / rate.max(1);
                let each_ns = self.about(each_ns);
                let due_ns = self.workers[at][worker].due_ns + each_ns;
                if self.phase.catches_up[at] { due_ns } else { due_ns.max(self.now_ns) }
            }
        };
        self.workers[at][worker].due_ns = due_ns;
        if due_ns < u64::MAX {
            self.at(due_ns.max(self.now_ns), Event::Next(Who::Neighbour(at as u8, worker as u8)));
        }
    }

    fn next(&mut self, who: Who) {
        match who {
            Who::Sync => {
                let sync = Sync { begin_ns: self.now_ns, ..Sync::default() };
                self.sync = Some((sync, self.count()));
                self.issue(who, op::WRITE, BLOCK);
            }
            Who::Commit => {
                self.committing = COMMIT_WRITES;
                (0..COMMIT_WRITES).for_each(|_| self.issue(who, op::WRITE, BLOCK));
            }
            Who::Neighbour(at, worker) => {
                let [at, worker] = [at, worker].map(usize::from);
                match self.phase.neighbours[at] {
                    Some(stream) if worker < stream.deep => {
                        self.issue(who, stream.op(), stream.bytes);
                    }
                    _ => self.workers[at][worker].due_ns = u64::MAX,
                }
            }
        }
    }
}
