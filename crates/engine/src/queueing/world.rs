//! A disk, a victim and neighbours, second by second.
//!
//! A model of a disk serves what the victim's syncs and commits and the neighbours'
//! streams ask for. The engine gets what the kernel would give: records, accounts,
//! requests that were alone.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use tracer_disk_model::{Model, Request as Asked, Service, Stalls};
use tracer_ebpf::{
    ledger::tick,
    record::{ACCOUNTS, RESTED_NS, SyncRecord, kind, op},
};
use zerocopy::FromZeros as _;

use crate::{
    Engine,
    blame::{Owner, OwnerId},
    reference::Reference,
    tests::comm,
    tick::{Alone, DiskWork, Limit, LimitKind, Load, Tick},
    verdict::{Judgement, judge},
    victim::Span,
};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// As the disk of the measured incidents: 4 servers, 3000 requests a second.
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

/// Nothing begins for so many ms of every so many.
pub fn stalls(every_ms: u64, length_ms: u64) -> Option<Stalls> {
    let [every, length] = [every_ms, length_ms].map(Duration::from_millis);
    Some(Stalls { every, length })
}

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub fn chance(&mut self) -> f64 {
        (self.throw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A neighbour's way to use the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub does: Does,
    pub bytes: u64,
    /// So many at a time at most.
    pub deep: usize,
    /// So often, all together; as fast as they are served where this is `None`.
    pub per_second: Option<u64>,
}

impl Stream {
    fn op(self) -> u32 {
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
    /// Its own limit holds each sync of the victim's back for so long.
    pub held_ns: u64,
}

pub fn phase(seconds: u64, disk: Model, neighbours: &[Stream]) -> Phase {
    let of = |at: usize| neighbours.get(at).copied();
    Phase { seconds, disk, neighbours: [of(0), of(1)], held_ns: 0 }
}

/// The owner of a request: the victim's sync, its other work, a neighbour's worker.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Who {
    Sync,
    Other(usize),
    Neighbour(usize, usize),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    End(usize),
    Next(Who),
    Tick,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    who: Who,
    op: u32,
    bytes: u64,
    born_ns: u64,
    /// Nobody was there when it came, and so many had come and ended then.
    rested: bool,
    seen: (u64, u64),
}

/// One of those who ask for a neighbour's stream.
#[derive(Clone, Copy, Debug)]
struct Worker {
    /// `u64::MAX` for one that does not work.
    due_ns: u64,
    /// In its burst.
    written: u64,
}

/// A stream has no more of them.
const DEEPEST: usize = 64;

/// Accounts: 1 is the victim's; 2 and 3 the neighbours'.
const USED: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    in_flight: u64,
    arrived: u64,
    ended: u64,
    bytes: u64,
    area_ns: u64,
}

pub struct World {
    now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    dice: Dice,
    phase: Phase,
    service: Service,
    positions: [u64; USED],
    last_end_ns: u64,
    came: (u64, u64),
    in_flight: u64,
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
    counted: [Counted; USED],
    seen: [Counted; USED],
    read_ns: u64,
    /// Number and time, by operation and size.
    alone: HashMap<(u32, u64), (u64, u64)>,
    references: HashMap<(u32, u64), Reference>,
    each_ns: Option<u32>,
    pub owners: [Owner; ACCOUNTS],
    sync: Option<(SyncRecord, [Counted; USED])>,
    syncs_due_ns: u64,
    /// The victim commits beside its syncs, too.
    commit_due_ns: u64,
    committing: usize,
    workers: [[Worker; DEEPEST]; 2],
    pub engine: Engine,
    /// Syncs of the phase.
    pub durations_ns: Vec<u64>,
    /// Without it only durations are known.
    pub is_judged: bool,
}

pub const SYNCS_PER_SECOND: u64 = 60;
const CPU_NS: u64 = 50_000;
const COMMIT_EVERY_NS: u64 = 100 * MS;
const COMMIT_WRITES: usize = 4;
const BLOCK: u64 = 4096;

impl World {
    pub fn new(seed: u64) -> Self {
        let mut owners = [Owner::default(); ACCOUNTS];
        let names = ["etcd", "tenant", "second"];
        for (at, name) in (1..).zip(names) {
            owners[at] = Owner {
                id: OwnerId(at as u32),
                cgroup: 10 * at as u64,
                comm: comm(name),
                ..Owner::default()
            };
        }
        // Any uptime does.
        let now_ns = 5_000 * SECOND;
        let mut world = Self {
            now_ns,
            events: BinaryHeap::new(),
            order: 0,
            dice: Dice(seed),
            phase: phase(0, well(), &[]),
            service: Service::new(well()),
            positions: Default::default(),
            last_end_ns: 0,
            came: (0, 0),
            in_flight: 0,
            requests: Vec::new(),
            free: Vec::new(),
            counted: Default::default(),
            seen: Default::default(),
            read_ns: now_ns,
            alone: HashMap::new(),
            references: HashMap::new(),
            each_ns: None,
            owners,
            sync: None,
            syncs_due_ns: now_ns,
            commit_due_ns: now_ns,
            committing: 0,
            workers: [[Worker { due_ns: u64::MAX, written: 0 }; DEEPEST]; 2],
            engine: Engine::new(),
            durations_ns: Vec::new(),
            is_judged: true,
        };
        world.at(now_ns + SECOND, Event::Tick);
        world.at(now_ns, Event::Next(Who::Sync));
        world.at(now_ns, Event::Next(Who::Other(0)));
        world
    }

    fn at(&mut self, ns: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((ns, self.order, event)));
    }

    /// About so long.
    fn about(&mut self, ns: u64) -> u64 {
        (ns as f64 * (0.7 + 0.6 * self.dice.chance())) as u64
    }

    fn account(who: Who) -> usize {
        match who {
            Who::Sync | Who::Other(_) => 1,
            Who::Neighbour(at, _) => 2 + at,
        }
    }

    /// Plays a phase, and judges each half of a minute of it.
    pub fn play(&mut self, phase: Phase) -> Vec<Judgement> {
        let end_ns = self.now_ns + phase.seconds * SECOND;
        self.phase = phase;
        self.service.become_another(phase.disk);
        self.durations_ns.clear();
        for (at, stream) in phase.neighbours.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            self.owners[2 + at].op = stream.op() as u16;
            for worker in 0..stream.deep {
                // Workers of before go on.
                if self.workers[at][worker].due_ns == u64::MAX {
                    let due_ns = self.now_ns + (self.dice.chance() * 20e6) as u64;
                    self.workers[at][worker].due_ns = due_ns;
                    self.at(due_ns, Event::Next(Who::Neighbour(at, worker)));
                }
            }
        }
        self.engine.begin_period();
        let mut judged = Vec::new();
        // After the tick.
        let mut next_ns = self.now_ns + 30 * SECOND + MS;
        while let Some(Reverse((ns, _, event))) = self.events.pop() {
            if ns >= next_ns {
                if self.is_judged {
                    let victim = &self.engine.victims()[0];
                    judged.push(judge(victim, &victim.sum(Span::Period), Span::Period));
                }
                self.engine.begin_period();
                next_ns += 30 * SECOND;
            }
            self.pass(ns);
            match event {
                Event::End(at) => self.end(at),
                Event::Next(who) => self.next(who),
                Event::Tick => self.tick(),
            }
            if ns >= end_ns && next_ns > end_ns + MS {
                break;
            }
        }
        judged
    }

    fn pass(&mut self, ns: u64) {
        let passed_ns = ns - self.now_ns;
        for counted in &mut self.counted {
            counted.area_ns += counted.in_flight * passed_ns;
        }
        self.now_ns = ns;
    }

    fn issue(&mut self, who: Who, operation: u32, bytes: u64) {
        let is_rested = self.now_ns >= self.last_end_ns + RESTED_NS || operation == op::FLUSH;
        self.came.0 += 1;
        let request = Request {
            who,
            op: operation,
            bytes,
            born_ns: self.now_ns,
            rested: self.in_flight == 0 && is_rested,
            seen: self.came,
        };
        self.in_flight += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.requests.push(None);
            self.requests.len() - 1
        });
        self.requests[at] = Some(request);
        let account = Self::account(who);
        let counted = &mut self.counted[account];
        counted.in_flight += 1;
        counted.arrived += 1;
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
        self.at(end_ns, Event::End(at));
    }

    fn end(&mut self, at: usize) {
        let Some(request) = self.requests[at].take() else { unreachable!("it ends once") };
        self.free.push(at);
        self.in_flight -= 1;
        let counted = &mut self.counted[Self::account(request.who)];
        counted.in_flight -= 1;
        counted.ended += 1;
        counted.bytes += request.bytes;
        self.last_end_ns = self.now_ns;
        let took_ns = self.now_ns - request.born_ns;
        if request.rested && self.came == request.seen && self.in_flight == 0 {
            let class = if request.op == op::FLUSH { 0 } else { request.bytes };
            let (ios, ns) = self.alone.entry((request.op, class)).or_default();
            (*ios, *ns) = (*ios + 1, *ns + took_ns);
        }
        self.came.1 += 1;
        match request.who {
            Who::Sync => self.go_on_with_sync(request.op, took_ns),
            Who::Other(_) if request.op == op::FLUSH => self.rest_from_commit(),
            Who::Other(_) => {
                self.committing -= 1;
                if self.committing == 0 {
                    self.issue(Who::Other(0), op::FLUSH, 0);
                }
            }
            Who::Neighbour(stream, worker) => {
                let flushes = self.phase.neighbours[stream]
                    .is_some_and(|stream| stream.does == Does::SyncingWrite);
                if flushes && request.op == op::WRITE {
                    self.issue(request.who, op::FLUSH, 0);
                } else {
                    self.rest(stream, worker);
                }
            }
        }
    }

    /// A sync is a write and a flush.
    fn go_on_with_sync(&mut self, operation: u32, took_ns: u64) {
        let Some((record, _)) = self.sync.as_mut() else { unreachable!("a sync goes on") };
        record.own_device_ns += took_ns;
        record.own_requests += 1;
        if operation == op::WRITE {
            record.own_bytes = BLOCK;
            self.issue(Who::Sync, op::FLUSH, 0);
            return;
        }
        let Some((mut record, before)) = self.sync.take() else { return };
        record.own_span_ns = record.own_device_ns;
        record.cpu_ns = CPU_NS;
        record.duration_ns = self.now_ns - record.begin_ns + CPU_NS + self.phase.held_ns;
        self.durations_ns.push(record.duration_ns);
        for (account, then) in before.iter().enumerate() {
            record.areas[account] = tick(self.counted[account].area_ns - then.area_ns);
        }
        if self.is_judged {
            let weights = self.weights();
            let mut owners = self.owners;
            (1..USED).for_each(|account| owners[account].weight_ns = weights[account]);
            let usual = |op, bytes| self.references.get(&(op, bytes)).and_then(Reference::usual_ns);
            let need_ns = [(op::WRITE, BLOCK), (op::FLUSH, 0)]
                .map(|(op, bytes)| usual(op, bytes).unwrap_or(0.0))
                .iter()
                .sum::<f64>() as u64;
            self.engine.sync(&record, &[], 0, need_ns, |_| &owners);
        }
        self.syncs_due_ns = (self.syncs_due_ns + SECOND / SYNCS_PER_SECOND).max(self.now_ns);
        let due_ns = self.syncs_due_ns + self.phase.held_ns + (self.dice.chance() * 4e6) as u64;
        self.at(due_ns.max(self.now_ns + CPU_NS), Event::Next(Who::Sync));
    }

    fn rest_from_commit(&mut self) {
        self.commit_due_ns = (self.commit_due_ns + COMMIT_EVERY_NS).max(self.now_ns);
        self.at(self.commit_due_ns, Event::Next(Who::Other(0)));
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
                (self.workers[at][worker].due_ns + each_ns).max(self.now_ns)
            }
        };
        self.workers[at][worker].due_ns = due_ns;
        if due_ns < u64::MAX {
            self.at(due_ns, Event::Next(Who::Neighbour(at, worker)));
        }
    }

    fn next(&mut self, who: Who) {
        match who {
            Who::Sync => {
                let mut record = SyncRecord::new_zeroed();
                record.begin_ns = self.now_ns;
                record.cgroup = 10;
                record.comm = comm("etcd");
                record.tgid = 7;
                record.kind = kind::FDATASYNC;
                self.sync = Some((record, self.counted));
                self.issue(who, op::WRITE, BLOCK);
            }
            Who::Other(_) => {
                self.committing = COMMIT_WRITES;
                (0..COMMIT_WRITES).for_each(|at| self.issue(Who::Other(at), op::WRITE, BLOCK));
            }
            Who::Neighbour(at, worker) => match self.phase.neighbours[at] {
                Some(stream) if worker < stream.deep => self.issue(who, stream.op(), stream.bytes),
                _ => {
                    self.workers[at][worker].due_ns = u64::MAX;
                }
            },
        }
    }

    /// Stands for ten minutes of the same.
    pub fn age(&mut self) {
        for reference in self.references.values_mut() {
            let Some(usual_ns) = reference.usual_ns() else { continue };
            (0..60).for_each(|_| _ = reference.take(8 * usual_ns as u64, 8));
        }
    }

    fn bytes_of(&self, account: usize) -> u64 {
        let stream = account.checked_sub(2).and_then(|at| self.phase.neighbours[at]);
        stream.map_or(BLOCK, |stream| stream.bytes)
    }

    /// The cost of one of an account's requests, as the tracer has learnt it, and
    /// whether it is a guess.
    fn cost_ns(&self, account: usize) -> (u32, bool) {
        let operation = if account == 1 { op::WRITE } else { self.owners[account].op.into() };
        let usual = |op, bytes| self.references.get(&(op, bytes)).and_then(Reference::usual_ns);
        let middling = if operation == op::DISCARD { 15e6 } else { 100e3 };
        let flushes = account >= 2
            && self.phase.neighbours[account - 2].is_some_and(|s| s.does == Does::SyncingWrite);
        let Some(one) = usual(operation, self.bytes_of(account)) else {
            return (middling as u32, true);
        };
        let flush = usual(op::FLUSH, 0).filter(|_| flushes);
        (flush.map_or(one, |flush| f64::midpoint(one, flush)) as u32, false)
    }

    fn weights(&self) -> [u32; USED] {
        std::array::from_fn(|account| match self.each_ns {
            Some(each_ns) if u32::from(self.owners[account].op) != op::DISCARD => each_ns,
            _ => self.cost_ns(account).0,
        })
    }

    fn tick(&mut self) {
        self.at(self.now_ns + SECOND, Event::Tick);
        if !self.is_judged {
            return;
        }
        let (mut alone, mut flushes) = (Alone::default(), Alone::default());
        for ((operation, bytes), (ios, ns)) in std::mem::take(&mut self.alone) {
            let reference = self.references.entry((operation, bytes)).or_default();
            if let Some(usual) = reference.usual_ns().filter(|_| ios > 0) {
                let usual_ns = (usual * ios as f64) as u64;
                let sum = if operation == op::FLUSH { &mut flushes } else { &mut alone };
                sum.add(&Alone { ios, ns, usual_ns, known: reference.known() });
            }
            reference.take(ns, ios);
        }
        let loads = (1..USED).filter_map(|account| {
            let (now, then) = (self.counted[account], self.seen[account]);
            let operation = u32::from(self.owners[account].op);
            let operation = if account == 1 { op::WRITE } else { operation };
            let (cost_ns, guessed) = self.cost_ns(account);
            let load = Load {
                owner: self.owners[account].id,
                arrived: now.arrived - then.arrived,
                ended: now.ended - then.ended,
                bytes: now.bytes - then.bytes,
                writes: operation == op::WRITE,
                area_ns: now.area_ns - then.area_ns,
                cost_ns,
                guessed,
            };
            (load.area_ns > 0).then_some(load)
        });
        let work = DiskWork {
            disk: 0,
            length_ns: self.now_ns - self.read_ns,
            alone,
            flushes,
            loads: loads.collect(),
        };
        self.each_ns = work.each_ns();
        (self.seen, self.read_ns) = (self.counted, self.now_ns);
        let held = Limit {
            cgroup: 10,
            kind: LimitKind::Io,
            ns: SECOND,
            setting: "io.max 7:0 wiops=20".to_owned(),
        };
        let limits = if self.phase.held_ns > 0 { vec![held] } else { Vec::new() };
        let at_ns = self.now_ns;
        let tick = Tick { at_ns, cpus: 2, disks: vec![work], limits, ..Tick::default() };
        let owners = self.owners;
        self.engine.tick(&tick, |owner| owners[owner.0 as usize].party());
        if (self.now_ns / SECOND).is_multiple_of(5) {
            self.engine.rotate();
        }
    }
}
