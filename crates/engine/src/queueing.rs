//! The engine on a disk whose truth is known.
//!
//! A queueing model stands for the disk: so many servers with one queue, a time
//! for each kind of request, a limit on their number, stalls. A victim syncs on
//! it, and neighbours ask it for what a test wants. The engine gets what the
//! kernel would give: records, accounts, requests that were alone. The truth
//! follows from what was changed, and from nothing that the engine says.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use tracer_ebpf::{
    ledger::tick,
    record::{ACCOUNTS, SyncRecord, kind, op},
};
use zerocopy::FromZeros as _;

use super::{
    Engine,
    blame::{Owner, OwnerId},
    reference::Reference,
    tests::comm,
    tick::{Alone, DiskWork, Limit, LimitKind, Load, Tick},
    verdict::{Judgement, judge},
    victim::Span,
};
use crate::kind::{Confidence, Kind};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// As the disk of the measured incidents: 4 servers, 3000 requests a second.
#[derive(Clone, Copy, Debug)]
struct Disk {
    servers: usize,
    read_ns: u64,
    write_ns: u64,
    flush_ns: u64,
    discard_ns: u64,
    per_second: u64,
    /// Every so often, so long nothing is begun.
    stalls: Option<(u64, u64)>,
}

const WELL: Disk = Disk {
    servers: 4,
    read_ns: 150_000,
    write_ns: 100_000,
    flush_ns: 800_000,
    discard_ns: 40 * MS,
    per_second: 3000,
    stalls: None,
};

impl Disk {
    fn slower(self, times: u64) -> Self {
        let Self { read_ns, write_ns, flush_ns, discard_ns, .. } = self;
        Self {
            read_ns: read_ns * times,
            write_ns: write_ns * times,
            flush_ns: flush_ns * times,
            discard_ns: discard_ns * times,
            ..self
        }
    }
}

/// A neighbour's requests.
#[derive(Clone, Copy, Debug)]
struct Stream {
    op: u32,
    /// So many at a time at most.
    deep: usize,
    /// So often, all together; as fast as they are served where this is `None`.
    per_second: Option<u64>,
}

const fn reads(deep: usize, per_second: Option<u64>) -> Stream {
    Stream { op: op::READ, deep, per_second }
}

const fn writes(deep: usize, per_second: Option<u64>) -> Stream {
    Stream { op: op::WRITE, deep, per_second }
}

/// With some milliseconds between two of them, in which the groups are read.
const TRIMS: Stream = Stream { op: op::DISCARD, deep: 1, per_second: Some(20) };

/// The disk and the neighbours for a while.
#[derive(Clone, Debug)]
struct Phase {
    seconds: u64,
    disk: Disk,
    neighbours: [Option<Stream>; 2],
    /// Its own limit holds each sync of the victim's back for so long.
    held_ns: u64,
}

fn phase(seconds: u64, disk: Disk, neighbours: &[Stream]) -> Phase {
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
    born_ns: u64,
    alone: bool,
}

/// Accounts: 1 is the victim's; 2 and 3 the neighbours'.
const USED: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    in_flight: u64,
    arrived: u64,
    ended: u64,
    area_ns: u64,
}

struct World {
    now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    random: u64,
    phase: Phase,
    free_ns: Vec<u64>,
    next_start_ns: u64,
    requests: Vec<Option<Request>>,
    counted: [Counted; USED],
    seen: [Counted; USED],
    read_ns: u64,
    /// Number and time, by operation.
    alone: [(u64, u64); op::COUNT],
    references: HashMap<u32, Reference>,
    each_ns: Option<u32>,
    owners: [Owner; ACCOUNTS],
    sync: Option<(SyncRecord, [Counted; USED])>,
    syncs_due_ns: u64,
    /// The victim commits beside its syncs, too.
    commit_due_ns: u64,
    committing: usize,
    workers_due_ns: HashMap<Who, u64>,
    engine: Engine,
}

const SYNCS_PER_SECOND: u64 = 60;
const CPU_NS: u64 = 50_000;
const COMMIT_EVERY_NS: u64 = 100 * MS;
const COMMIT_WRITES: usize = 4;

impl World {
    fn new(seed: u64) -> Self {
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
        let mut world = Self {
            // Any uptime does.
            now_ns: 5_000 * SECOND,
            events: BinaryHeap::new(),
            order: 0,
            random: seed,
            phase: phase(0, WELL, &[]),
            free_ns: vec![0; WELL.servers],
            next_start_ns: 0,
            requests: Vec::new(),
            counted: Default::default(),
            seen: Default::default(),
            read_ns: 5_000 * SECOND,
            alone: Default::default(),
            references: HashMap::new(),
            each_ns: None,
            owners,
            sync: None,
            syncs_due_ns: 5_000 * SECOND,
            commit_due_ns: 5_000 * SECOND,
            committing: 0,
            workers_due_ns: HashMap::new(),
            engine: Engine::new(),
        };
        world.at(world.now_ns + SECOND, Event::Tick);
        world.at(world.now_ns, Event::Next(Who::Sync));
        world.at(world.now_ns, Event::Next(Who::Other(0)));
        world
    }

    fn at(&mut self, ns: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((ns, self.order, event)));
    }

    /// 0 to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About so long.
    fn about(&mut self, ns: u64) -> u64 {
        (ns as f64 * (0.7 + 0.6 * self.chance())) as u64
    }

    fn account(who: Who) -> usize {
        match who {
            Who::Sync | Who::Other(_) => 1,
            Who::Neighbour(at, _) => 2 + at,
        }
    }

    /// Plays a phase, and judges each half of a minute of it.
    fn play(&mut self, phase: Phase) -> Vec<Judgement> {
        let end_ns = self.now_ns + phase.seconds * SECOND;
        self.phase = phase;
        self.free_ns.resize(self.phase.disk.servers, self.now_ns);
        for (at, stream) in self.phase.neighbours.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            self.owners[2 + at].op = stream.op as u16;
            for worker in 0..stream.deep {
                let who = Who::Neighbour(at, worker);
                // Workers of before go on.
                if self.workers_due_ns.get(&who).is_none_or(|due_ns| *due_ns == u64::MAX) {
                    let due_ns = self.now_ns + (self.chance() * 20e6) as u64;
                    self.workers_due_ns.insert(who, due_ns);
                    self.at(due_ns, Event::Next(who));
                }
            }
        }
        self.engine.begin_period();
        let mut judged = Vec::new();
        // After the tick.
        let mut next_ns = self.now_ns + 30 * SECOND + MS;
        while let Some(Reverse((ns, _, event))) = self.events.pop() {
            if ns >= next_ns {
                let victim = &self.engine.victims()[0];
                judged.push(judge(victim, &victim.sum(Span::Period), Span::Period));
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

    fn issue(&mut self, who: Who, operation: u32) {
        let idle = self.requests.iter().all(Option::is_none);
        self.requests.iter_mut().flatten().for_each(|request| request.alone = false);
        let request = Request { who, op: operation, born_ns: self.now_ns, alone: idle };
        let at = match self.requests.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.requests.push(None);
                self.requests.len() - 1
            }
        };
        self.requests[at] = Some(request);
        let counted = &mut self.counted[Self::account(who)];
        counted.in_flight += 1;
        counted.arrived += 1;
        let end_ns = self.serve(operation);
        self.at(end_ns, Event::End(at));
    }

    /// When a request that comes now ends.
    fn serve(&mut self, operation: u32) -> u64 {
        let disk = self.phase.disk;
        let stops_all = operation == op::DISCARD;
        let free = self.free_ns.iter().copied();
        let free_ns = if stops_all { free.max() } else { free.min() };
        let mut start_ns = self.now_ns.max(free_ns.unwrap_or(0)).max(self.next_start_ns);
        if let Some((every, length)) = disk.stalls
            && start_ns % every < length
        {
            start_ns += length - start_ns % every;
        }
        self.next_start_ns = start_ns + SECOND / disk.per_second;
        let time_ns = match operation {
            op::READ => disk.read_ns,
            op::WRITE => disk.write_ns,
            op::FLUSH => disk.flush_ns,
            _ => disk.discard_ns,
        };
        let end_ns = start_ns + (time_ns as f64 * (0.9 + 0.2 * self.chance())) as u64;
        if stops_all {
            self.free_ns.fill(end_ns);
        } else if let Some(free) = self.free_ns.iter_mut().min() {
            *free = end_ns;
        }
        end_ns
    }

    fn end(&mut self, at: usize) {
        let request = self.requests[at].take().unwrap();
        let counted = &mut self.counted[Self::account(request.who)];
        counted.in_flight -= 1;
        counted.ended += 1;
        let took_ns = self.now_ns - request.born_ns;
        if request.alone {
            let (ios, ns) = &mut self.alone[request.op as usize];
            (*ios, *ns) = (*ios + 1, *ns + took_ns);
        }
        self.requests.iter_mut().flatten().for_each(|other| other.alone = false);
        match request.who {
            Who::Sync => self.go_on_with_sync(request.op, took_ns),
            Who::Other(_) if request.op == op::FLUSH => self.rest_from_commit(),
            Who::Other(_) => {
                self.committing -= 1;
                if self.committing == 0 {
                    self.issue(Who::Other(0), op::FLUSH);
                }
            }
            Who::Neighbour(stream, worker) => self.rest(stream, worker),
        }
    }

    /// A sync is a write and a flush.
    fn go_on_with_sync(&mut self, operation: u32, took_ns: u64) {
        let (record, _) = self.sync.as_mut().unwrap();
        record.own_device_ns += took_ns;
        record.own_requests += 1;
        if operation == op::WRITE {
            record.own_bytes = 4096;
            self.issue(Who::Sync, op::FLUSH);
            return;
        }
        let (mut record, before) = self.sync.take().unwrap();
        record.own_span_ns = record.own_device_ns;
        record.cpu_ns = CPU_NS;
        record.duration_ns = self.now_ns - record.begin_ns + CPU_NS + self.phase.held_ns;
        for (account, then) in before.iter().enumerate() {
            record.areas[account] = tick(self.counted[account].area_ns - then.area_ns);
        }
        let weights = self.weights();
        let mut owners = self.owners;
        (1..USED).for_each(|account| owners[account].weight_ns = weights[account]);
        let need_ns = u64::from(weights[1]) * 2;
        self.engine.sync(&record, &[], 0, need_ns, |_| &owners);
        self.syncs_due_ns = (self.syncs_due_ns + SECOND / SYNCS_PER_SECOND).max(self.now_ns);
        let due_ns = self.syncs_due_ns + self.phase.held_ns + (self.chance() * 4e6) as u64;
        self.at(due_ns.max(self.now_ns + CPU_NS), Event::Next(Who::Sync));
    }

    fn rest_from_commit(&mut self) {
        self.commit_due_ns = (self.commit_due_ns + COMMIT_EVERY_NS).max(self.now_ns);
        self.at(self.commit_due_ns, Event::Next(Who::Other(0)));
    }

    fn rest(&mut self, at: usize, worker: usize) {
        let who = Who::Neighbour(at, worker);
        let stream = self.phase.neighbours[at].filter(|stream| worker < stream.deep);
        let due_ns = match stream {
            None => u64::MAX,
            Some(Stream { per_second: None, .. }) => self.now_ns + 10_000,
            Some(Stream { per_second: Some(rate), deep, .. }) => {
                let each_ns = SECOND * deep as u64 / rate;
                let each_ns = self.about(each_ns);
                (self.workers_due_ns[&who] + each_ns).max(self.now_ns)
            }
        };
        self.workers_due_ns.insert(who, due_ns);
        if due_ns < u64::MAX {
            self.at(due_ns, Event::Next(who));
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
                self.issue(who, op::WRITE);
            }
            Who::Other(_) => {
                self.committing = COMMIT_WRITES;
                (0..COMMIT_WRITES).for_each(|at| self.issue(Who::Other(at), op::WRITE));
            }
            Who::Neighbour(at, worker) => match self.phase.neighbours[at] {
                Some(stream) if worker < stream.deep => self.issue(who, stream.op),
                _ => {
                    self.workers_due_ns.insert(who, u64::MAX);
                }
            },
        }
    }

    /// The cost of one request, as the tracer has learnt it.
    fn cost_ns(&self, operation: u32) -> u32 {
        let usual = self.references.get(&operation).and_then(Reference::usual_ns);
        let middling = if operation == op::DISCARD { 15e6 } else { 100e3 };
        usual.unwrap_or(middling) as u32
    }

    fn weights(&self) -> [u32; USED] {
        std::array::from_fn(|account| {
            let operation = if account == 1 { op::WRITE } else { self.owners[account].op.into() };
            match self.each_ns {
                Some(each_ns) if operation != op::DISCARD => each_ns,
                _ => self.cost_ns(operation),
            }
        })
    }

    fn tick(&mut self) {
        let (mut alone, mut flushes) = (Alone::default(), Alone::default());
        for (operation, (ios, ns)) in (0u32..).zip(std::mem::take(&mut self.alone)) {
            let reference = self.references.entry(operation).or_default();
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
            let load = Load {
                owner: self.owners[account].id,
                arrived: now.arrived - then.arrived,
                ended: now.ended - then.ended,
                bytes: (now.ended - then.ended) * 4096,
                writes: operation == op::WRITE,
                area_ns: now.area_ns - then.area_ns,
                cost_ns: self.cost_ns(operation),
                guessed: self.references.get(&operation).is_none_or(|r| r.usual_ns().is_none()),
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
        self.at(self.now_ns + SECOND, Event::Tick);
    }
}

/// The truth about a phase.
#[derive(Clone, Copy, Debug)]
enum Truth<'a> {
    Nobody,
    Device,
    /// A neighbour that asks for somewhat more has a small part in it.
    NearlyDevice,
    Throttle,
    /// Whoever it is, nobody can be sure of a culprit.
    NotSure,
    /// The parts of the device and of the load, each to 15 points.
    Both([f64; 2]),
    /// Their shares of what neighbours did, by account from 2 on; whether it must
    /// be said for sure.
    Owners(&'a [f64], bool),
}

const SEEDS: [u64; 3] = [1, 20_261_128, 0xdead_beef];

/// Plays the phases, and holds each half minute against the truth of its phase.
#[track_caller]
fn check(name: &str, phases: &[(Phase, Truth<'_>)]) {
    let mut wrong = Vec::new();
    for seed in SEEDS {
        let mut world = World::new(seed);
        for (number, (phase, truth)) in phases.iter().enumerate() {
            for (period, said) in world.play(phase.clone()).into_iter().enumerate() {
                let line = format!(
                    "{name}, seed {seed}, phase {number}, period {period}: {:?} {:?}; {:.2?}; {}",
                    said.kind,
                    said.confidence,
                    said.shares,
                    shares(&said),
                );
                println!("{line}");
                if !is_right(&said, *truth) {
                    wrong.push(format!("not {truth:?}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn shares(said: &Judgement) -> String {
    let each =
        said.culprits.iter().map(|c| format!("{} {:.2} {:?}", c.owner.0, c.share, c.confidence));
    each.collect::<Vec<_>>().join(", ")
}

fn is_right(said: &Judgement, truth: Truth<'_>) -> bool {
    let named = |account: u32| {
        let of = said.culprits.iter().filter(|c| c.owner == OwnerId(account));
        of.map(|c| c.share).sum::<f64>()
    };
    match truth {
        Truth::Nobody => said.kind == Kind::None && said.culprits.is_empty(),
        Truth::Throttle => said.kind == Kind::Limit && said.culprits.is_empty(),
        Truth::Device => {
            said.kind == Kind::Device
                && said.culprits.is_empty()
                && said.shares.unexplained < 0.1
                && said.shares.own < 0.05
        }
        Truth::NotSure => said.culprits.iter().all(|c| c.confidence < Confidence::High),
        Truth::Both([device, load]) => {
            (said.shares.device - device).abs() <= 0.15 && (said.shares.owners - load).abs() <= 0.15
        }
        Truth::NearlyDevice => said.kind == Kind::Device && said.shares.device >= 0.85,
        Truth::Owners(parts, is_sure) => {
            let all: f64 = (2..4).map(named).sum();
            said.kind == Kind::Owners
                && all >= 0.8
                && (2..)
                    .zip(parts)
                    .all(|(account, part)| (named(account) / all - part).abs() <= 0.15)
                && (!is_sure || said.confidence == Confidence::High)
        }
    }
}

/// The mean sync of a minute, in ns.
fn mean_sync_ns(disk: Disk, neighbours: &[Stream]) -> f64 {
    let mut world = World::new(SEEDS[0]);
    world.play(phase(59, disk, neighbours));
    let sum = world.engine.victims()[0].sum(Span::Period);
    sum.duration_ns as f64 / sum.syncs as f64
}

/// The parts of the device and of the load in what a sync takes longer: the mean of
/// what each adds if it comes first and if it comes last, each of the four replayed
/// by its generators.
fn parts(before: &[Stream], disk: Disk, after: &[Stream]) -> [f64; 2] {
    let [neither, device] = [WELL, disk].map(|disk| mean_sync_ns(disk, before));
    let [load, both] = [WELL, disk].map(|disk| mean_sync_ns(disk, after));
    let of_device = (device - neither + both - load) / 2.0;
    let all = both - neither;
    [of_device / all, 1.0 - of_device / all]
}

const READER: Stream = reads(1, Some(60));

/// A well minute beside neighbours, in which nobody is to blame, and a minute of
/// something else.
fn after_a_well_minute(
    name: &str,
    before: &[Stream],
    disk: Disk,
    after: &[Stream],
    truth: Truth<'_>,
) {
    check(name, &[(phase(60, WELL, before), Truth::Nobody), (phase(60, disk, after), truth)]);
}

#[test]
fn a_slower_device_is_not_a_steady_readers_fault() {
    let slow = Disk { read_ns: 8 * MS, write_ns: 8 * MS, flush_ns: 10 * MS, ..WELL };
    after_a_well_minute("slower", &[READER], slow, &[READER], Truth::Device);
}

#[test]
fn a_device_that_stalls_is_nobodys_fault_and_not_the_victims_own() {
    let stalls = Disk { stalls: Some((1_500 * MS, 250 * MS)), ..WELL };
    after_a_well_minute("stalls", &[READER], stalls, &[READER], Truth::Device);
}

#[test]
fn fewer_requests_a_second_are_the_devices_fault() {
    let capped = Disk { per_second: 130, ..WELL };
    after_a_well_minute("a cap of 130", &[READER], capped, &[READER], Truth::Device);
}

#[test]
fn slow_flushes_are_not_a_steady_writers_fault() {
    let slow = Disk { flush_ns: 25 * MS, ..WELL };
    let writer = writes(2, Some(300));
    after_a_well_minute("slow flushes", &[writer], slow, &[writer], Truth::Device);
}

#[test]
fn nobody_is_accused_of_a_healthy_minute_from_the_first_half_on() {
    check("nothing", &[(phase(120, WELL, &[READER]), Truth::Nobody)]);
    check("nothing, a writer", &[(phase(120, WELL, &[writes(2, Some(300))]), Truth::Nobody)]);
}

#[test]
fn equal_tenants_of_a_disk_limited_by_requests_are_named_half_and_half() {
    let both = [reads(16, None), writes(16, None)];
    check("16 deep each", &[(phase(60, WELL, &both), Truth::Owners(&[0.5, 0.5], false))]);
    let half = Truth::Owners(&[0.5, 0.5], false);
    after_a_well_minute("16 deep each come", &[], WELL, &both, half);
}

#[test]
fn its_own_limit_is_no_tenants_fault() {
    let held = Phase { held_ns: 60 * MS, ..phase(60, WELL, &[READER]) };
    check("its own limit", &[(phase(60, WELL, &[READER]), Truth::Nobody), (held, Truth::Throttle)]);
}

#[test]
fn who_grows_to_saturation_or_starts_is_named_for_sure() {
    let truth = Truth::Owners(&[1.0], true);
    let tenth = reads(1, Some(300));
    after_a_well_minute("a reader grows", &[tenth], WELL, &[reads(32, None)], truth);
    after_a_well_minute("a reader comes", &[], WELL, &[reads(32, None)], truth);
    after_a_well_minute("a writer comes", &[], WELL, &[writes(32, None)], truth);
}

#[test]
fn an_fstrim_is_named_for_sure() {
    after_a_well_minute("fstrim", &[], WELL, &[TRIMS], Truth::Owners(&[1.0], true));
}

#[test]
fn two_culprits_differ_by_what_they_ask_for() {
    let both = [reads(24, None), reads(8, None)];
    after_a_well_minute("3 to 1", &[], WELL, &both, Truth::Owners(&[0.75, 0.25], true));
}

#[test]
fn beside_a_newcomer_who_was_there_before_is_innocent() {
    let before = [writes(1, Some(60)), reads(1, Some(60))];
    let after = [writes(1, Some(60)), reads(32, None)];
    after_a_well_minute("a newcomer", &before, WELL, &after, Truth::Owners(&[0.0, 1.0], true));
}

#[test]
fn a_slower_device_is_not_the_fault_of_who_asks_for_less_or_a_little_more() {
    let slow = WELL.slower(20);
    for (now, truth) in [(50, Truth::Device), (200, Truth::NearlyDevice)] {
        let (before, now) = (reads(1, Some(100)), reads(1, Some(now)));
        after_a_well_minute("20 times slower", &[before], slow, &[now], truth);
    }
}

#[test]
fn a_slower_device_and_a_busier_neighbour_have_both_their_part() {
    let before = [reads(1, Some(100))];
    for (disk, after) in
        [(WELL.slower(3), reads(32, None)), (WELL.slower(3), writes(8, Some(1000)))]
    {
        let truth = parts(&before, disk, &[after]);
        println!("{after:?}: {truth:.2?}");
        after_a_well_minute("both", &before, disk, &[after], Truth::Both(truth));
    }
}

#[test]
fn who_bursts_or_comes_with_the_night_is_named() {
    let truth = Truth::Owners(&[1.0], false);
    let before = [reads(1, Some(60))];
    after_a_well_minute("8 deep", &before, WELL, &[reads(8, None)], truth);
    after_a_well_minute("64 writes deep", &before, WELL, &[writes(64, None)], truth);
}

#[test]
fn in_an_incident_from_the_first_second_on_nobody_can_be_sure() {
    let slow = Disk { read_ns: 8 * MS, write_ns: 8 * MS, flush_ns: 10 * MS, ..WELL };
    check("from the first second", &[(phase(120, slow, &[READER]), Truth::NotSure)]);
}

#[test]
fn a_kernel_thread_is_never_named_for_sure() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        world.owners[2].kthread = true;
        world.play(phase(60, WELL, &[]));
        for said in world.play(phase(60, WELL, &[reads(32, None)])) {
            assert_eq!((said.kind, said.confidence), (Kind::Owners, Confidence::Medium));
        }
    }
}
