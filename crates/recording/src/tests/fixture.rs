//! Syncs, ticks and a disk like those of a session, and the recording of them.

use super::*;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

/// A file that a test can look into.
#[derive(Clone, Default)]
pub struct Shared(pub Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One file, and one device.
pub struct OneFile(pub FileLabel);

impl FileNames for OneFile {
    fn label(&self, _: FileId) -> &FileLabel {
        &self.0
    }

    fn device_name(&mut self, _: u32) -> &str {
        "loop0"
    }
}

pub fn one_file() -> OneFile {
    let path = "/var/lib/etcd/member/wal".to_owned();
    OneFile(FileLabel { class: FileClass::Wal, path, pattern: "etcd wal", device: 7 << 20 })
}

pub fn comm(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name);
    comm
}

pub fn owner(id: u32, name: &[u8], op: u32, weight_ns: u32) -> Owner {
    let (cgroup, comm) = (u64::from(id), comm(name));
    Owner { id: OwnerId(id), cgroup, comm, kthread: false, op: op as u16, weight_ns, via: 0 }
}

pub fn owners() -> [Owner; ACCOUNTS] {
    let mut owners = [Owner::default(); ACCOUNTS];
    owners[1] = owner(1, b"etcd", op::WRITE, 100_000);
    owners[2] = owner(2, b"fstrim", op::DISCARD, 20_000_000);
    owners[9] = owner(9, b"fio", op::READ, 80_000);
    owners
}

/// The `n`th sync of etcd's; from the 40th on with a discard in flight.
pub fn sync(n: u64) -> SyncRecord {
    let mut record = SyncRecord::new_zeroed();
    let slow = n >= 40;
    record.begin_ns = SECOND + n * 50 * MS;
    record.duration_ns = if slow { 40 * MS } else { MS } + n * 1000;
    record.cpu_ns = 20_000;
    record.own_device_ns = record.duration_ns / 2;
    record.own_span_ns = record.duration_ns / 2;
    record.own_requests = 2;
    record.kind = kind::FDATASYNC;
    (record.cgroup, record.comm) = (1, comm(b"etcd"));
    (record.tgid, record.tid, record.fd, record.inode) = (812, 815, 9, 131);
    record.device = 7 << 20;
    if slow {
        record.integrals[1] = record.duration_ns / 256 / 2;
        record.integrals[2] = record.duration_ns / 256;
    }
    record
}

pub fn tick(at_ns: u64) -> Tick {
    Tick {
        at_ns,
        journals: vec![JournalWork {
            device: 7 << 20,
            owner: OwnerId(9),
            blocks: 3,
            held_ns: 2 * MS,
        }],
        contenders: vec![Contender { victim_tgid: 812, owner: OwnerId(2), ns: MS }],
        reclaimers: vec![Reclaimer { owner: OwnerId(9), times: 2, ns: MS, limit_ns: MS / 2 }],
        drops: vec![OwnerId(9)],
        late_drops: Vec::new(),
        // It is another filesystem.
        freezes: vec![Freeze {
            device: 9 << 20,
            owner: OwnerId(9),
            since_ns: at_ns.saturating_sub(500 * MS),
            until_ns: 0,
            waiting: vec![812],
        }],
        // So is this.
        pauses: vec![Pause {
            device: 9 << 20,
            owner: OwnerId(9),
            tgid: 812,
            pages: 700,
            ns: 3 * MS,
            limit_ns: MS,
        }],
        whole_syncs: vec![WholeSync {
            device: 9 << 20,
            disk: 0,
            owner: OwnerId(9),
            call: WholeCall::Umount,
            since_ns: at_ns.saturating_sub(500 * MS),
            until_ns: at_ns,
        }],
        // It is another process.
        stops: vec![Stop {
            tgid: 813,
            how: How::Traced,
            owner: OwnerId(9),
            pid: 815,
            setting: String::new(),
            limit_bytes: 0,
            used_bytes: 0,
            ns: 20 * MS,
            at_syncs_ns: 100 * MS,
            stalled_ns: 0,
            is_halted: false,
        }],
        limits: vec![Limit {
            cgroup: 1,
            kind: LimitKind::Io,
            ns: 2 * MS,
            times: 3,
            setting: "io.max 7:0 wbps=1".to_owned(),
            in_kernel: true,
        }],
        helpers: vec![Helper {
            role: Role::Server,
            disk: Some(0),
            device: 7 << 20,
            tgid: 900,
            comm: "sim-disk".to_owned(),
            cgroup: "/sim".to_owned(),
            cpu_ns: 500 * MS,
            limit_ns: 480 * MS,
            setting: "cpu.max 1 2".to_owned(),
            disk_ns: 2 * MS,
            own_disk: "sdb".to_owned(),
            of_ns: 990 * MS,
        }],
        steal_ns: MS,
        cpus: 2,
        memory: Memory { total_bytes: 1 << 30, available_bytes: 1 << 29, cached_bytes: 1 << 28 },
        disks: vec![disk_work(at_ns)],
    }
}

/// Discards come when syncs get slow.
pub fn disk_work(at_ns: u64) -> DiskWork {
    let known = Grade::Good;
    let load = Load {
        owner: OwnerId(2),
        submitted: 25,
        completed: 24,
        bytes: 24 << 27,
        writes: false,
        reads: false,
        in_flight_ns: 990 * MS,
        cost_ns: 20_000_000,
        guessed: true,
    };
    let reads = Load { owner: OwnerId(9), guessed: false, writes: true, ..load };
    DiskWork {
        disk: 0,
        length_ns: SECOND,
        alone: Alone { requests: 3, ns: MS, reference_ns: MS / 2, known },
        flushes: Alone { requests: 20, ns: 16 * MS, reference_ns: 16 * MS, known },
        paced: Paced { done: Some(0.5), written: None },
        loads: if at_ns > 3 * SECOND { vec![load, reads] } else { vec![reads] },
    }
}

pub fn disk(second: u64) -> DiskState {
    let of = owners()[2];
    let mut histograms =
        Histograms { op: op::DISCARD as u16, bytes: 0, queue: [0; BUCKETS], device: [0; BUCKETS] };
    (histograms.queue[3], histograms.device[100]) = (second, 2 * second);
    DiskState {
        index: 0,
        name: "loop0".to_owned(),
        known_as: Some("/var/lib/disk.img".to_owned()),
        scheduler: "none".to_owned(),
        in_flight: 1,
        rates: vec![Rate {
            owner: of.id,
            actor: of.actor(),
            op: of.op,
            tgid: 44,
            requests_per_second: 77.5,
            bytes_per_second: 1e9 / 3.0,
            in_flight: 1.6,
            requests_total: 100 * second,
            bytes_total: second << 30,
        }],
        work: vec![Learnt { op: of.op, bytes_up_to: None, ns: 2e7, samples: second }],
        reference_at: Some(1_769_999_000.5),
        uncounted_share: 0.125,
        latencies: vec![histograms],
    }
}

/// All that a stack can say that is not well.
pub fn facts() -> Vec<StackFact> {
    let action = SyncAction::Check;
    let (mode, data_share, metadata_share) = (PoolMode::OutOfDataSpace, 1.0, 0.25);
    let states = [
        StackState::Degraded { missing: 1, members: 4 },
        StackState::Syncing { action, done: 0.5, bytes_per_second: 1 << 27 },
        StackState::Array { word: "readonly".to_owned() },
        StackState::Suspended,
        StackState::Pool { mode, data_share, metadata_share },
        StackState::Snapshot { valid: false, used_share: 1.0 },
    ];
    let fact = |state| StackFact { disk: "dm-3".to_owned(), name: "vg-pool".to_owned(), state };
    states.map(fact).into()
}

/// A sync of etcd's that has not ended, on a stack of which one disk answers nothing.
pub fn hanging() -> Hanging {
    let disk = |name: &str, completed_seconds_ago| HangingDisk {
        name: name.to_owned(),
        in_flight: 3,
        oldest_seconds: Some(46.9),
        completed_seconds_ago,
    };
    Hanging {
        schema: 2,
        at: 1_770_000_047.25,
        actor: Actor { comm: "etcd".to_owned(), tgid: 812, ..Actor::default() },
        tid: 815,
        call: "fdatasync".into(),
        class: FileClass::Wal,
        path: "/var/lib/etcd/member/wal".to_owned(),
        device: "md0".to_owned(),
        seconds: 47.0,
        kind: Kind::Device,
        disk: Some(disk("md0", Some(47.2))),
        disks_below: vec![disk("sdc", None)],
        stack: facts(),
        others: vec![Competitor { actor: Actor::default(), op: Op::Discard, share: 0.9 }],
    }
}

/// Does what a live session does with the kernel's records, and returns its recording.
pub fn record(syncs: u64) -> (Scene, Vec<u8>) {
    let kernel = Kernel {
        unproven: Some("no folder can be written to".to_owned()),
        release: "6.18.0".to_owned(),
        strategies: vec![("sync".to_owned(), "tracepoint".to_owned())],
        unsupported: vec!["some syncs are not seen".to_owned()],
    };
    let mut scene =
        Scene::new(kernel, Clock::at(1_770_000_000_000_000_000, 1_000_000_000), SECOND).unwrap();
    let file = Shared::default();
    let mut recorder = Recorder::begin(Box::new(file.clone()), &scene).unwrap();
    let (owners, mut files) = (owners(), one_file());
    for (at, cgroup) in [(1, "/system.slice/etcd.service"), (2, "/system.slice/fstrim.service")] {
        let id = owners[at].actor();
        let comm = tracer_scene::comm_text(&id.comm);
        let unit = cgroup.rsplit_once('/').map(|(_, unit)| unit.to_owned());
        let cgroup = cgroup.to_owned();
        let actor = Actor {
            comm,
            tgid: 800 + at as u32,
            cgroup,
            unit,
            kernel_thread: false,
            workload: None,
        };
        scene.actors.learn(id, actor, 0);
    }
    for n in 0..syncs {
        let record = sync(n);
        let input = SyncInput { record: &record, underlying: &[], file: FileId(4), need_ns: 0 };
        scene.ingest(&input, |_| &owners);
        let Scene { actors, .. } = &mut scene;
        recorder.sync(input, |_| &owners, actors, &mut files);
        if n % 20 == 19 {
            let tick = tick(record.begin_ns + 50 * MS);
            if n % 40 == 39 {
                let open = SyncRecord { own_device_ns: 0, own_span_ns: 0, ..record };
                let open = SyncRecord { duration_ns: tick.at_ns - record.begin_ns, ..open };
                let input = SyncInput { record: &open, ..input };
                scene.add_unfinished(&input, |_| &owners);
                recorder.unfinished(input, |_| &owners, &mut scene.actors, &mut files);
            }
            scene.tick(&tick, |id| owners[id.0 as usize].actor());
            scene.disks = vec![disk(n / 20)];
            if n >= 40 {
                scene.kernel.unproven = None;
            }
            scene.hanging = if n % 40 == 39 { vec![hanging(), hanging()] } else { Vec::new() };
            scene.hanging_left_out = (n % 40 == 39).into();
            scene.stacks = vec![Stack { device: 7 << 20, disk: 0, facts: facts() }];
            scene.metrics.set_dropped(Dropped::Reconciled, n);
            recorder.tick(&tick, &mut scene, |id| {
                let Owner { cgroup, comm, op, .. } = owners[id.0 as usize];
                OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via: 0 }
            });
        }
    }
    let progress = recorder.end(SECOND + syncs * 50 * MS, &mut scene).unwrap();
    let bytes = file.0.borrow().clone();
    assert_eq!((progress.syncs, progress.bytes), (syncs, bytes.len() as u64));
    (scene, bytes)
}

/// The recording of 60 syncs, made once.
pub fn sixty() -> &'static [u8] {
    static SIXTY: LazyLock<Vec<u8>> = LazyLock::new(|| record(60).1);
    &SIXTY
}

pub fn open(bytes: &[u8]) -> anyhow::Result<Replay> {
    Replay::new("x.rec".to_owned(), Cursor::new(bytes.to_vec()))
}

/// Plays all that can be read.
pub fn play(bytes: &[u8]) -> (Snapshot, anyhow::Result<()>) {
    let mut replay = open(bytes).unwrap();
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    (replay.snapshot_of(Span::Period), replay.check())
}

/// A snapshot without what is the process's own.
pub fn json(mut snapshot: Snapshot) -> serde_json::Value {
    snapshot.cost = Default::default();
    snapshot.metrics.clear();
    serde_json::to_value(snapshot).unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}
