//! Simulates a node's night second by second, much faster than real time and without a kernel,
//! and writes the segments that a flight recorder would have written.
//!
//! A model of a disk serves streams that follow a script. The model has no hang, so that one is
//! made here: the disk completes nothing for a while.

use std::{cell::RefCell, collections::BTreeMap, io, path::Path, rc::Rc, time::SystemTime};

use tracer_ebpf::{
    ledger::tick,
    record::{self, ACCOUNTS, COMM, OwnerKey, SyncRecord, op},
};
use tracer_engine::{
    blame::{Owner, OwnerId},
    currency::Shortage,
    reference::Reference,
    tick::{Alone, DiskWork, Limit, LimitKind, Load, Tick},
};
use tracer_recording::{
    line::Began,
    recorder::{Grain, Part, Recorder, Sink},
    segments::{
        Bounds,
        folder::{Folder, Free},
        writer::Writer,
    },
};
use tracer_scene::{DiskState, Scene, stages::SyncInput};
use tracer_snapshot::{
    Actor, FileClass, Hanging, HangingDisk, Kernel, Kind,
    clock::Clock,
    labels::{FileId, FileLabel, FileNames},
};
use tracer_timelines::timeline::{
    self, BLOCK, CPU_NS, Counted, Happened, Phase, SECOND, Stream, Sync, Timeline,
};
use zerocopy::FromZeros as _;

/// 2026-11-30 01:00:00 UTC, at which the simulated kernel is up for 5,000 s.
pub const BEGIN: i64 = 1_796_000_400;

const DEVICE: u32 = 8 << 20;

/// A tick that is made in a hang describes syncs that take at least this long.
const SHOWN_NS: u64 = 2 * SECOND;

/// Twenty minutes or so of this node.
const BOUNDS: Bounds = Bounds { bytes: 128 << 20, segment_bytes: 2 << 20 };

/// Accounts: 1 is etcd's; 2 and 3 are of those beside it.
const USED: usize = timeline::ACCOUNTS;

/// A user of account 2 or 3, and its requests.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// A number of its own; 1 is etcd's.
    pub id: u32,
    pub comm: &'static str,
    pub unit: &'static str,
    pub stream: Stream,
}

/// Writes to the segments, one member a second.
struct Members {
    writer: Rc<RefCell<Writer>>,
    now_ns: Rc<RefCell<i64>>,
}

impl Sink for Members {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        let written = self.writer.borrow_mut().write(lines, *self.now_ns.borrow());
        assert!(matches!(written, Ok(true)), "{written:?}");
        Ok(lines.len() as u64)
    }
}

/// The log, and no other file.
struct Log(FileLabel);

impl FileNames for Log {
    fn label(&self, _: FileId) -> &FileLabel {
        &self.0
    }

    fn device_name(&mut self, _: u32) -> &str {
        "sda"
    }
}

fn log() -> Log {
    let path = "/var/lib/etcd/member/wal".to_owned();
    Log(FileLabel { class: FileClass::Wal, path, pattern: "etcd wal", device: DEVICE })
}

fn comm(name: &str) -> [u8; COMM] {
    let mut comm = [0; COMM];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

fn owner(id: u32, name: &str, operation: u32) -> Owner {
    let cgroup = 10 * u64::from(id);
    Owner { id: OwnerId(id), cgroup, comm: comm(name), op: operation as u16, ..Owner::default() }
}

/// The night so far.
pub struct Night {
    timeline: Timeline,
    /// Added to the timeline's times: it stands in a hang.
    later_ns: u64,
    seen: [Counted; USED],
    read_ns: u64,
    references: BTreeMap<(u32, u64), Reference>,
    shortage: Shortage,
    owners: [Owner; ACCOUNTS],
    /// Everybody who was there: the keys of all owners, and their units.
    everybody: BTreeMap<u32, (Owner, &'static str)>,
    neighbours: [Option<Neighbour>; 2],
    writer: Rc<RefCell<Writer>>,
    now_ns: Rc<RefCell<i64>>,
    scene: Scene,
    recorder: Option<Recorder>,
    pub syncs: u64,
}

impl Night {
    /// Begins to record into a directory.
    pub fn new(path: &Path) -> Self {
        let folder = Folder::lock(path).unwrap();
        let room = |_: &Folder| {
            Ok(Free { bytes: 1 << 40, of_bytes: 1 << 40, inodes: 1 << 20, of_inodes: 1 << 20 })
        };
        let timeline = Timeline::new(20_261_130);
        let mut owners = [Owner::default(); ACCOUNTS];
        owners[1] = owner(1, "etcd", op::WRITE);
        let mut night = Self {
            later_ns: 0,
            seen: Default::default(),
            read_ns: timeline.now_ns(),
            references: BTreeMap::new(),
            shortage: Shortage::default(),
            everybody: BTreeMap::from([(1, (owners[1], "etcd.service"))]),
            owners,
            neighbours: [None; 2],
            writer: Rc::new(RefCell::new(Writer::new(folder, BOUNDS, Box::new(room)))),
            now_ns: Rc::new(RefCell::new(0)),
            scene: Self::scene(timeline.now_ns()),
            timeline,
            recorder: None,
            syncs: 0,
        };
        night.begin(Began::Start);
        night
    }

    /// That of a tracer which has just started.
    fn scene(now_ns: u64) -> Scene {
        let clock = Clock::at(BEGIN * SECOND.cast_signed(), 5000 * SECOND);
        let mut scene = Scene::new(Kernel::default(), clock, now_ns).unwrap();
        let (name, scheduler) = ("sda".to_owned(), "none".to_owned());
        scene.disks = vec![DiskState { name, scheduler, ..DiskState::default() }];
        scene
    }

    fn now(&self) -> u64 {
        self.timeline.now_ns() + self.later_ns
    }

    /// Seconds since the start of the night.
    pub fn second(&self) -> u64 {
        self.now() / SECOND - 5000
    }

    fn begin(&mut self, began: Began) {
        let now_ns = self.now();
        if let Some(before) = self.recorder.take().filter(|_| began == Began::Rotation) {
            before.end(now_ns, &mut self.scene).unwrap();
        }
        self.writer.borrow_mut().begin(SystemTime::now()).unwrap();
        self.scene.actors.mark_all_changed();
        let (writer, now) = (Rc::clone(&self.writer), Rc::clone(&self.now_ns));
        *now.borrow_mut() = (BEGIN - 5000) * SECOND.cast_signed() + now_ns.cast_signed();
        let boot = Some("simulated".to_owned());
        let part = Part { began: Some(began), boot, grain: Grain::Thinned };
        let sink = Box::new(Members { writer, now_ns: now });
        let mut recorder = Recorder::begin_part(sink, &self.scene, now_ns, part).unwrap();
        if began == Began::Rotation {
            recorder.checkpoint(&self.scene, &mut log());
        }
        self.recorder = Some(recorder);
    }

    /// The tracer is killed, and started again after some seconds, in which a hang goes on.
    fn kill(&mut self) {
        self.recorder = None;
    }

    fn start_again(&mut self) {
        self.scene = Self::scene(self.now());
        self.begin(Began::Start);
    }

    /// Lets some seconds pass in which the disk and the neighbours are like this.
    pub fn play(&mut self, phase: Phase, neighbours: [Option<Neighbour>; 2]) {
        self.neighbours = neighbours;
        for (at, one) in neighbours.iter().enumerate() {
            let Some(Neighbour { id, comm, unit, stream }) = *one else { continue };
            self.owners[2 + at] = owner(id, comm, stream.op());
            self.everybody.insert(id, (self.owners[2 + at], unit));
        }
        let streams = neighbours.map(|one| one.map(|one| one.stream));
        let end_ns = self.timeline.now_ns() + phase.seconds * SECOND;
        self.timeline.begin(Phase { neighbours: streams, ..phase });
        while self.timeline.now_ns() < end_ns {
            match self.timeline.step() {
                Some(Happened::Sync(sync)) => self.sync(&sync, 0),
                Some(Happened::Second) => self.tick(&[]),
                None => {}
            }
        }
    }

    /// The disk answers nothing for 90 s, from the middle of a sync of thread 815 on. The tracer
    /// is killed after 30 s and started again after 50 s; thread 816 syncs 2 s later, and
    /// waits to the end with it.
    pub fn hang(&mut self) {
        let sync = loop {
            match self.timeline.step() {
                Some(Happened::Sync(sync)) => break sync,
                Some(Happened::Second) => self.tick(&[]),
                None => {}
            }
        };
        let from_ns = self.now();
        let second_from = from_ns + 52 * SECOND;
        for second in 1..=90 {
            self.later_ns += SECOND;
            match second {
                30 => self.kill(),
                50 => self.start_again(),
                _ => {}
            }
            // A sync that began before the tracer is not known to it.
            let first = (815, sync.begin_ns + self.later_ns - second * SECOND);
            let begun = if second <= 30 { first } else { (816, second_from) };
            let is_begun = begun.1 < self.now();
            self.tick(if is_begun { std::slice::from_ref(&begun) } else { &[] });
        }
        let held_ns = self.now() - second_from;
        // Thread 815's sync ends as well, and has no begin.
        let ended = Sync { begin_ns: second_from - self.later_ns, ..sync };
        self.sync(&ended, held_ns - sync.duration_ns.min(held_ns));
    }

    /// A sync with this time added, in which its request was at the disk.
    fn sync(&mut self, sync: &Sync, longer_ns: u64) {
        if self.recorder.is_none() {
            return;
        }
        let held_ns = self.timeline.phase().held_ns;
        let record = self.record(sync, longer_ns, if longer_ns > 0 { 816 } else { 815 });
        let record = SyncRecord { throttle_ns: held_ns, ..record };
        let need_ns = self.usual_ns(op::WRITE, BLOCK) + self.usual_ns(op::FLUSH, 0);
        let input = SyncInput { record: &record, underlying: &[], file: FileId(1), need_ns };
        self.weigh();
        let Self { scene, recorder, owners, .. } = self;
        scene.ingest(&input, |_| &*owners);
        if let Some(recorder) = recorder {
            recorder.sync(input, |_| &*owners, &mut scene.actors, &mut log());
        }
        self.syncs += 1;
    }

    fn record(&self, sync: &Sync, longer_ns: u64, tid: u32) -> SyncRecord {
        let mut record = SyncRecord::new_zeroed();
        record.begin_ns = sync.begin_ns + self.later_ns;
        (record.cgroup, record.comm) = (self.owners[1].cgroup, self.owners[1].comm);
        (record.tgid, record.tid, record.device) = (812, tid, DEVICE);
        record.kind = record::kind::FDATASYNC;
        record.own_device_ns = sync.device_ns + longer_ns;
        record.own_span_ns = sync.device_ns + longer_ns;
        (record.own_requests, record.own_bytes) = (sync.requests, sync.bytes);
        record.cpu_ns = CPU_NS;
        record.duration_ns = sync.duration_ns + longer_ns;
        for (integral, ns) in record.integrals.iter_mut().zip(sync.integrals_ns) {
            *integral = tick(ns);
        }
        record.integrals[1] += tick(longer_ns);
        record
    }

    fn usual_ns(&self, operation: u32, bytes: u64) -> u64 {
        let known = self.references.get(&(operation, bytes)).and_then(Reference::usual_ns);
        known.map_or(0, |ns| ns as u64)
    }

    fn bytes_of(&self, account: usize) -> u64 {
        let stream = account.checked_sub(2).and_then(|at| self.timeline.phase().neighbours[at]);
        stream.map_or(BLOCK, |stream| stream.bytes)
    }

    /// The cost of one of an account's requests, and whether it is a guess.
    fn cost_ns(&self, account: usize) -> (u32, bool) {
        let operation = u32::from(self.owners[account].op);
        match self.usual_ns(operation, self.bytes_of(account)) {
            0 if operation == op::DISCARD => (15_000_000, true),
            0 => (100_000, true),
            known => (known as u32, false),
        }
    }

    fn weigh(&mut self) {
        for account in 1..USED {
            let operation = self.owners[account].op.into();
            let (cost_ns, _) = self.cost_ns(account);
            let bytes = self.bytes_of(account);
            self.owners[account].weight_ns = self.shortage.weigh(operation, bytes, cost_ns);
        }
    }

    /// A second ends, in which these threads' syncs do not: each with its begin.
    fn tick(&mut self, hanging: &[(u32, u64)]) {
        let now_ns = self.now();
        *self.now_ns.borrow_mut() = (BEGIN - 5000) * SECOND.cast_signed() + now_ns.cast_signed();
        let work = self.disk_work(now_ns, !hanging.is_empty());
        self.shortage.observe(&work);
        let held = Limit {
            cgroup: self.owners[1].cgroup,
            kind: LimitKind::Io,
            ns: SECOND,
            times: 0,
            setting: "io.max 8:0 wiops=20".to_owned(),
            in_kernel: false,
        };
        let limits = if self.timeline.phase().held_ns > 0 { vec![held] } else { Vec::new() };
        let tick = Tick { at_ns: now_ns, cpus: 2, disks: vec![work], limits, ..Tick::default() };
        if self.recorder.is_none() {
            return;
        }
        for (owner, unit) in self.everybody.values() {
            self.scene.actors.learn(owner.actor(), actor(owner, unit), now_ns);
        }
        self.unfinished(hanging, now_ns);
        let everybody = &self.everybody;
        let of = |id: OwnerId| everybody.get(&id.0).map(|(owner, _)| *owner).unwrap_or_default();
        self.scene.tick(&tick, |id| of(id).actor());
        self.scene.hanging = hanging
            .iter()
            .filter(|(_, begin_ns)| now_ns - begin_ns >= SHOWN_NS)
            .map(|(tid, begin_ns)| self.hanging(*tid, now_ns, now_ns - begin_ns))
            .collect();
        let Self { scene, recorder, .. } = self;
        if let Some(recorder) = recorder {
            recorder.tick(&tick, scene, |id| {
                let Owner { cgroup, comm, op, .. } = of(id);
                OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via: 0 }
            });
        }
        if self.writer.borrow().is_nearly_full() {
            self.begin(Began::Rotation);
        }
    }

    fn disk_work(&mut self, now_ns: u64, is_stuck: bool) -> DiskWork {
        let counted = self.timeline.count();
        let (mut alone, mut flushes) = (Alone::default(), Alone::default());
        for ((operation, bytes), (requests, ns)) in self.timeline.take_alone() {
            let reference = self.references.entry((operation, bytes)).or_default();
            if let Some(usual) = reference.usual_ns().filter(|_| requests > 0) {
                let reference_ns = (usual * requests as f64) as u64;
                let sum = if operation == op::FLUSH { &mut flushes } else { &mut alone };
                sum.add(&Alone { requests, ns, reference_ns, known: reference.known() });
            }
            reference.add(ns, requests);
        }
        let loads = (1..USED).filter_map(|account| {
            let (now, then) = (counted[account], self.seen[account]);
            let (cost_ns, guessed) = self.cost_ns(account);
            // In a hang one request of etcd's is at the disk all the time.
            let stuck_ns = if is_stuck && account == 1 { SECOND } else { 0 };
            let operation = u32::from(self.owners[account].op);
            let load = Load {
                owner: self.owners[account].id,
                submitted: now.submitted - then.submitted,
                completed: now.completed - then.completed,
                bytes: now.bytes - then.bytes,
                reads: operation == op::READ,
                writes: operation == op::WRITE,
                in_flight_ns: now.in_flight_ns - then.in_flight_ns + stuck_ns,
                cost_ns,
                guessed,
            };
            (load.in_flight_ns > 0).then_some(load)
        });
        let (length_ns, loads) = (now_ns - self.read_ns, loads.collect());
        (self.seen, self.read_ns) = (counted, now_ns);
        DiskWork { disk: 0, length_ns, alone, flushes, loads, ..DiskWork::default() }
    }

    fn unfinished(&mut self, hanging: &[(u32, u64)], now_ns: u64) {
        for (tid, begin_ns) in hanging {
            let duration_ns = now_ns - begin_ns;
            let sync = Sync { begin_ns: begin_ns - self.later_ns, ..Sync::default() };
            let record = self.record(&sync, 0, *tid);
            let mut record = SyncRecord { duration_ns, ..record };
            record.integrals[1] = tick(duration_ns);
            let input = SyncInput { record: &record, underlying: &[], file: FileId(1), need_ns: 0 };
            let Self { scene, recorder, owners, .. } = self;
            scene.add_unfinished(&input, |_| &*owners);
            if let Some(recorder) = recorder {
                recorder.unfinished(input, |_| &*owners, &mut scene.actors, &mut log());
            }
        }
    }

    /// As a session describes it.
    fn hanging(&self, tid: u32, now_ns: u64, duration_ns: u64) -> Hanging {
        let seconds = duration_ns as f64 / 1e9;
        let disk = HangingDisk {
            name: "sda".to_owned(),
            in_flight: 1,
            oldest_seconds: Some(seconds),
            completed_seconds_ago: Some(seconds),
        };
        Hanging {
            schema: 2,
            at: self.scene.clock().unix_seconds(now_ns),
            actor: actor(&self.owners[1], "etcd.service"),
            tid,
            call: "fdatasync".into(),
            class: FileClass::Wal,
            path: "/var/lib/etcd/member/wal".to_owned(),
            device: "sda".to_owned(),
            seconds,
            kind: Kind::Device,
            disk: Some(disk),
            disks_below: Vec::new(),
            stack: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The tracer is stopped in good order.
    pub fn end(mut self) {
        let now_ns = self.now();
        if let Some(recorder) = self.recorder.take() {
            recorder.end(now_ns, &mut self.scene).unwrap();
        }
    }
}

fn actor(owner: &Owner, unit: &str) -> Actor {
    Actor {
        comm: tracer_scene::comm_text(&owner.comm),
        tgid: 800 + owner.id.0,
        cgroup: format!("/system.slice/{unit}"),
        unit: Some(unit.to_owned()),
        ..Actor::default()
    }
}
