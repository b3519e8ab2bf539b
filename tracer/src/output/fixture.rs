//! Snapshots for tests: a disk that is being trimmed, an empty one, one full
//! of hostile names, one with more of everything than fits.

use std::collections::BTreeMap;

use tracer_snapshot::{
    Actor, Change, Competitor, Confidence, Cost, Culprit, DeviceState, Disk, DroppedCounts,
    Evidence, FileClass, Frozen, Hanging, HangingDisk, Kernel, Kind, Op, OwnWork, OwnerRow, Phase,
    Phases, PoolMode, RuledOut, SCHEMA, Shares, SlowSync, SlowerThan, Snapshot, StackFact,
    StackState, SyncOwner, Totals, Trigger, Verdict, Via, Victim,
};

const AT: f64 = 1_772_366_400.25;

/// Nothing seen yet.
pub fn empty() -> Snapshot {
    Snapshot {
        schema: SCHEMA,
        at: AT,
        window_seconds: 10.0,
        watched_seconds: 3.0,
        kernel: Kernel { release: "6.12.0-test".into(), ..Kernel::default() },
        reference_at: None,
        victims: Vec::new(),
        disks: Vec::new(),
        hanging: Vec::new(),
        hanging_left_out: 0,
        frozen: Vec::new(),
        filter: None,
        dropped: DroppedCounts { counters: vec![("ring_full", 0), ("reconciled", 0)] },
        cost: Cost::default(),
        metrics: BTreeMap::new(),
    }
}

/// An etcd whose WAL waits for an fstrim, and two bystanders.
pub fn trimmed() -> Snapshot {
    let etcd = unit("etcd", 812, "etcd.service");
    let trim = unit("fstrim", 4242, "demo-trim.service");
    let exporter = unit("node_exporter", 900, "node-exporter.service");
    let jbd2 = Actor { comm: "jbd2/vda1-8".into(), kernel_thread: true, ..Actor::default() };
    let culprits = vec![
        Culprit {
            evidence: Evidence {
                with_n: 210,
                without_n: 640,
                with_p50_seconds: 41e-3,
                with_p99_seconds: 50e-3,
                without_p50_seconds: 1.1e-3,
                without_p99_seconds: 1.9e-3,
                lift_p50: Some(37.3),
                lift_p99: Some(26.3),
                change: Some(Change {
                    started: true,
                    seconds_ago: 21,
                    before_seconds: 1.2e-3,
                    after_seconds: 39e-3,
                }),
            },
            ..culprit(trim.clone(), Op::Discard, 0.83)
        },
        Culprit { confidence: Confidence::Low, ..culprit(exporter.clone(), Op::Read, 0.07) },
    ];
    let backup = RuledOut {
        actor: unit("restic", 77, "backup.service"),
        op: Op::Read,
        share: 0.004,
        evidence: Evidence { with_n: 300, without_n: 550, ..Evidence::default() },
        reason: "syncs with it are x1.02 at p50 and x0.97 at p99 (300 with, 550 without)".into(),
    };
    let wal = Victim {
        path: "/var/lib/etcd/member/wal".into(),
        syncs_per_second: 85.2,
        p50_seconds: 1.3e-3,
        p99_seconds: 48.1e-3,
        max_seconds: 0.12,
        undisturbed_p99_seconds: Some(2.1e-3),
        verdict: Verdict {
            kind: Kind::Owners,
            slower_than: Some(SlowerThan::Before),
            confidence: Confidence::High,
            confidence_reason: "its share and the syncs with and without it agree".into(),
            excess_seconds: 12.1,
            shares: Shares {
                owners: 0.9,
                own: 0.05,
                device: 0.03,
                unexplained: 0.02,
                ..Shares::default()
            },
            culprits,
            ruled_out: vec![backup],
            own_work: vec![OwnWork {
                class: FileClass::Db,
                path: "/var/lib/etcd/member/snap/db".into(),
                syncs: 98,
                sync_seconds: 0.6,
            }],
            ..Verdict::default()
        },
        ..victim(7, etcd.clone(), FileClass::Wal)
    };
    let db = Victim {
        path: "/var/lib/etcd/member/snap/db".into(),
        syncs_per_second: 9.8,
        p50_seconds: 4.2e-3,
        p99_seconds: 11.2e-3,
        max_seconds: 0.019,
        ..victim(8, etcd.clone(), FileClass::Db)
    };
    let journald = Victim {
        path: "/var/log/journal/system.journal".into(),
        device: "nvme0n1p1".into(),
        disk: Some(1),
        syncs_per_second: 0.3,
        p50_seconds: 412e-6,
        p99_seconds: 2.1,
        max_seconds: 2.1,
        phases: Phases::from([(Phase::Device, 2.0), (Phase::Other, 0.1)]),
        verdict: Verdict {
            kind: Kind::Device,
            slower_than: Some(SlowerThan::Before),
            confidence: Confidence::Medium,
            confidence_reason: "nobody else had requests in flight meanwhile".into(),
            excess_seconds: 2.0,
            shares: Shares { device: 1.0, ..Shares::default() },
            device: DeviceState {
                wait_seconds: 0.7,
                undisturbed_wait_seconds: Some(3e-3),
                competing_in_flight: 0.0,
                ..DeviceState::default()
            },
            ..Verdict::default()
        },
        ..victim(9, unit("systemd-journald", 301, "systemd-journald.service"), FileClass::Other)
    };
    let owners = vec![
        row(trim, Op::Discard, 12.0, 805.3e6, 3.2),
        row(etcd, Op::Write, 180.0, 1.2e6, 0.41),
        row(jbd2, Op::Write, 85.0, 0.9e6, 0.2),
    ];
    let disk = |name: &str, in_flight, owners| Disk {
        name: name.into(),
        known_as: None,
        scheduler: "none".into(),
        in_flight,
        owners,
        latencies: Vec::new(),
        work: Vec::new(),
        reference_at: None,
        uncounted_share: 0.0,
    };
    Snapshot {
        watched_seconds: 125.0,
        hanging: Vec::new(),
        hanging_left_out: 0,
        frozen: Vec::new(),
        filter: None,
        victims: vec![wal, db, journald],
        disks: vec![disk("vda", 4, owners), disk("nvme0n1", 0, Vec::new())],
        ..empty()
    }
}

/// Names that want to do harm to a terminal, and all that can go wrong.
pub fn hostile() -> Snapshot {
    let mut s = trimmed();
    s.kernel.release = "6.12\x1b[2J\n".into();
    s.kernel.unsupported = vec![
        "no journal hooks on this\nkernel: waits for a commit count as other".into(),
        "no run delay".into(),
    ];
    s.dropped.counters = vec![("ring_full", 3), ("reconciled", 0), ("completion_unmatched", 12)];
    let evil = Actor {
        comm: "\x1b]0;pwned\x07\x1b[31m".into(),
        tgid: 66,
        cgroup: "/a\nb/\u{202e}gnp.exe".into(),
        ..Actor::default()
    };
    let long = Actor {
        comm: "very-long-".repeat(30),
        tgid: u32::MAX,
        cgroup: format!("/{}", "x".repeat(4000)),
        unit: Some(format!("docker-{}.scope", "ab12".repeat(16))),
        kernel_thread: false,
        ..Actor::default()
    };
    let wide = Actor { comm: "日本語\u{200d}👩\u{9b}2J".into(), ..evil.clone() };
    s.victims[0].actor = evil.clone();
    s.victims[0].path = "/data/\r\nwal\u{7f}\u{feff}/".repeat(50);
    s.victims[0].device = "dm-\x1b[0m\u{2066}long-device-name".into();
    s.victims[0].verdict.culprits[0].actor = long.clone();
    s.victims[0].verdict.ruled_out[0].actor = evil.clone();
    s.victims[0].verdict.limit = Some("io.max\x1b[2J".into());
    s.victims[1].actor = long.clone();
    s.victims[1].p50_seconds = f64::NAN;
    s.victims[1].max_seconds = f64::INFINITY;
    s.victims[2].actor = wide.clone();
    s.disks[0].name = "vda\x1b[5m".into();
    s.disks[0].owners[0].actor = long;
    s.disks[0].owners[1].actor = evil;
    s.disks[0].owners[2].actor = wide;
    s
}

/// More victims and owners than any view has lines.
pub fn crowd() -> Snapshot {
    let mut s = trimmed();
    s.victims = (0..40).map(|id| Victim { id, ..s.victims[0].clone() }).collect();
    s.disks[0].owners = vec![s.disks[0].owners[0].clone(); 40];
    s
}

/// A WAL sync that waited for a discard.
pub fn slow_sync() -> SlowSync {
    let s = trimmed();
    let owner = |index: usize, in_flight, share, own| {
        let row: &OwnerRow = &s.disks[0].owners[index];
        SyncOwner { actor: row.actor.clone(), op: row.op, in_flight, share, own }
    };
    SlowSync {
        schema: SCHEMA,
        at: AT,
        actor: s.victims[0].actor.clone(),
        tid: 820,
        kind: "fdatasync",
        class: FileClass::Wal,
        path: "/var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal".into(),
        device: "vda1".into(),
        duration_seconds: 48.1e-3,
        phases: s.victims[0].phases,
        owners: vec![owner(0, 3.1, 0.97, false), owner(1, 0.2, 0.0, true)],
        dropped_total: 3,
        unproven: None,
    }
}

fn unit(comm: &str, tgid: u32, unit: &str) -> Actor {
    Actor {
        comm: comm.into(),
        tgid,
        cgroup: format!("/system.slice/{unit}"),
        unit: Some(unit.into()),
        kernel_thread: false,
        ..Actor::default()
    }
}

/// A victim on `vda1` with nothing to complain about.
fn victim(id: u32, actor: Actor, class: FileClass) -> Victim {
    Victim {
        id,
        actor,
        class,
        path: String::new(),
        device: "vda1".into(),
        disk: Some(0),
        disks_below: Vec::new(),
        syncs_total: 10_000,
        syncs: 850,
        syncs_per_second: 0.0,
        p50_seconds: 0.0,
        p99_seconds: 0.0,
        max_seconds: 0.0,
        undisturbed_p99_seconds: None,
        phases: Phases::from([
            (Phase::Cpu, 0.3),
            (Phase::Runqueue, 0.1),
            (Phase::Queue, 0.5),
            (Phase::Device, 6.1),
            (Phase::Journal, 2.0),
            (Phase::Other, 1.0),
        ]),
        verdict: Verdict::default(),
        total: Totals::default(),
        sync_buckets: vec![0; 20],
        countable: None,
        wal_buckets: vec![0; 15],
    }
}

fn row(actor: Actor, op: Op, requests: f64, bytes: f64, in_flight: f64) -> OwnerRow {
    OwnerRow {
        actor,
        op,
        requests_per_second: requests,
        bytes_per_second: bytes,
        in_flight,
        requests_total: 1000,
        bytes_total: 1 << 30,
    }
}

/// Somebody who has a share of 12.1 s.
fn culprit(actor: Actor, op: Op, share: f64) -> Culprit {
    Culprit {
        actor,
        op,
        via: Via::Device,
        share,
        trigger: None,
        frees: false,
        stopped_by: None,
        wait_seconds: 12.1 * share,
        evidence: Evidence::default(),
        confidence: Confidence::High,
    }
}

/// A call of `sync` for 2.1 s.
pub fn syncer() -> Trigger {
    let actor = Actor {
        comm: "sync".into(),
        unit: Some("backup.service".into()),
        cgroup: "/system.slice/backup.service".into(),
        ..Actor::default()
    };
    Trigger { actor, call: "sync", at: 1_795_896_762.25, seconds: 2.1 }
}

/// A thin pool that has no room left.
pub fn out_of_space() -> StackFact {
    let (mode, data_share, metadata_share) = (PoolMode::OutOfDataSpace, 1.0, 0.12);
    let state = StackState::Pool { mode, data_share, metadata_share };
    StackFact { disk: "dm-3".into(), name: "vg-pool-tpool".into(), state }
}

/// etcd that cannot write to its log, because a backup keeps the filesystem frozen.
pub fn frozen() -> Frozen {
    let s = trimmed();
    let etcd = s.victims.iter().find(|victim| victim.id == 7).expect("etcd is a victim");
    Frozen {
        schema: SCHEMA,
        at: AT,
        actor: etcd.actor.clone(),
        class: etcd.class,
        path: etcd.path.clone(),
        device: etcd.device.clone(),
        seconds: 47.0,
        by: Some(unit("fsfreeze", 950, "backup.service")),
    }
}

/// etcd in a fdatasync of its log that a dead disk does not end.
pub fn hanging() -> Hanging {
    let s = trimmed();
    let etcd = s.victims.iter().find(|victim| victim.id == 7).expect("etcd is a victim");
    Hanging {
        schema: SCHEMA,
        at: AT,
        actor: etcd.actor.clone(),
        tid: 815,
        call: "fdatasync".into(),
        class: etcd.class,
        path: etcd.path.clone(),
        device: etcd.device.clone(),
        seconds: 47.0,
        kind: Kind::Device,
        disk: Some(HangingDisk {
            name: "vda".into(),
            in_flight: 3,
            oldest_seconds: Some(46.9),
            completed_seconds_ago: Some(47.2),
        }),
        disks_below: Vec::new(),
        stack: Vec::new(),
        others: vec![Competitor {
            actor: unit("fstrim", 900, "fstrim.service"),
            op: Op::Discard,
            share: 0.9,
        }],
    }
}
