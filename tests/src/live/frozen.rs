//! A filesystem that is frozen while somebody asks.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tracer::session::Session;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk},
    process::Process,
    tool::{FSFREEZE, MKFS_BTRFS, Tool},
};
use tracer_snapshot::{Kind, Op, Snapshot, Victim};

use super::{
    agent::config,
    lab_disk, need_live,
    scenarios::{culprits::run, stage::cgroup},
    served::Agent,
    traced,
};
use crate::{simulated::parts::Part, subject::Tracer};

const SYNC: Tool = Tool { name: "sync", package: "coreutils" };
const SECOND: Duration = Duration::from_secs(1);
const ENDS: Duration = Duration::from_secs(30);

/// A disk with a process that syncs a file 20 times a second.
struct Stage {
    store: Process,
    disk: LoopDisk,
    _cgroup: Cgroup,
}

impl Stage {
    fn build(filesystem: Filesystem) -> Self {
        let disk = lab_disk(filesystem);
        let cgroup = cgroup("store");
        let part = Part::Syncer { file: disk.mountpoint().join("0.wal"), per_second: 20 };
        Self { store: part.start("store", &cgroup).unwrap(), disk, _cgroup: cgroup }
    }

    fn name(&self) -> &str {
        self.disk.name()
    }
}

/// The filesystem is thawed in the end, also when a test fails.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn by(backup: &Cgroup, mountpoint: &'a Path) -> Self {
        run(FSFREEZE, &["--freeze", &mountpoint.to_string_lossy()], backup).unwrap();
        Self(mountpoint)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = FSFREEZE.run(&["--unfreeze", &self.0.to_string_lossy()]);
    }
}

/// A backup keeps an ext4 frozen, and all who may be asked meanwhile are asked.
#[test]
fn everybody_says_who_keeps_a_filesystem_frozen_while_it_lasts() {
    need_live!();
    let (stage, backup) = (Stage::build(Filesystem::Ext4), cgroup("backup"));
    let config = config(2 * SECOND);
    let agent = Agent::start(config.path());
    let frozen_seconds = || {
        let metrics = agent.metrics();
        let is_its = |line: &&str| {
            line.starts_with("tracer_frozen_seconds{") && line.contains(r#"comm="store""#)
        };
        let line = metrics.lines().find(is_its)?.to_owned();
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    agent.wait_until("the store has a series", || frozen_seconds() == Some(0.0));
    let mut watch = Tracer::start(&["watch", "--min", "1s", "--for", "14s"]);
    let mut top = Tracer::start(&["top", "--batch", "--interval", "10", "-n", "1"]);
    sleep(4 * SECOND);
    let frozen = Frozen::by(&backup, stage.disk.mountpoint());
    let begin = Instant::now();
    agent.wait_until("the metric says so", || {
        frozen_seconds().is_some_and(|seconds| {
            assert!(seconds <= begin.elapsed().as_secs_f64() + 0.2, "{seconds}");
            seconds >= 4.0
        })
    });
    let verdicts = agent.json("/api/v1/verdicts");
    let said = format!("cannot write to {}: fsfreeze ", stage.name());
    let one = &verdicts["frozen"][0];
    assert!(one["verdict"].as_str().unwrap().contains(&said), "{verdicts}");
    assert_eq!(
        (&one["by"]["cgroup"], &one["actor"]["comm"]),
        (&backup.path().into(), &"store".into())
    );
    let is_its = |victim: &&Value| victim["victim"]["comm"] == "store";
    let victims = verdicts["victims"].as_array().unwrap();
    let victim = victims.iter().find(is_its).unwrap_or_else(|| panic!("{verdicts}"));
    assert_eq!(
        (&victim["kind"], &victim["culprits"][0]["op"]),
        (&"owners".into(), &"freeze".into())
    );
    for tracer in [&mut watch, &mut top] {
        assert!(tracer.wait(ENDS).success(), "{}", tracer.transcript());
        let line = tracer.find_line(ENDS, |line| line.contains("FROZEN: "));
        assert!(line.contains(&said), "{line}");
    }
    drop(frozen);
    agent.wait_until("the metric says that it is over", || frozen_seconds() == Some(0.0));
}

fn poll(session: &mut Session, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(SECOND / 20);
        session.poll(None, &mut Vec::new());
    }
}

fn victim<'a>(s: &'a Snapshot, comm: &str) -> &'a Victim {
    s.victims.iter().find(|victim| victim.actor.comm == comm).expect("it is a victim")
}

/// btrfs has no hook on a freeze of its own. A sync waits for the thaw there, too.
#[test]
fn who_freezes_a_btrfs_is_named_while_it_lasts() {
    need_live!();
    if MKFS_BTRFS.find().is_none() {
        crate::skip::skip!("`mkfs.btrfs` is not installed");
    }
    let (stage, backup) = (Stage::build(Filesystem::Btrfs), cgroup("backup"));
    traced(|session| {
        poll(session, 6 * SECOND);
        assert!(session.snapshot().frozen.is_empty());
        let frozen = Frozen::by(&backup, stage.disk.mountpoint());
        poll(session, 8 * SECOND);
        let s = session.snapshot();
        let [one] = &*s.frozen else { panic!("{:?}", s.frozen) };
        assert_eq!((&*one.actor.comm, &*one.device), ("store", stage.name()));
        assert!((6.0..8.5).contains(&one.seconds), "{one:?}");
        let by = one.by.as_ref().expect("it is seen who froze it");
        assert_eq!((&*by.comm, &*by.cgroup), ("fsfreeze", backup.path()));
        let verdict = &victim(&s, "store").verdict;
        println!("{verdict:?}");
        assert_eq!(verdict.kind, Kind::Owners, "{verdict:?}");
        assert_eq!(verdict.culprits[0].op, Op::Freeze, "{verdict:?}");
        drop(frozen);
        poll(session, 3 * SECOND);
        assert!(session.snapshot().frozen.is_empty());
    });
}

/// Nothing is dirty when it is frozen, because the store is stopped meanwhile: nothing on btrfs
/// shows such a freeze.
#[test]
fn a_freeze_that_nobody_was_seen_to_begin_is_nobodys() {
    need_live!();
    if MKFS_BTRFS.find().is_none() {
        crate::skip::skip!("`mkfs.btrfs` is not installed");
    }
    let (stage, backup) = (Stage::build(Filesystem::Btrfs), cgroup("backup"));
    let pid = Pid::from_raw(stage.store.pid().try_into().unwrap());
    traced(|session| {
        poll(session, 6 * SECOND);
        kill(pid, Signal::SIGSTOP).unwrap();
        let mountpoint = stage.disk.mountpoint();
        for _ in 0..3 {
            SYNC.run(&["-f", &mountpoint.to_string_lossy()]).unwrap();
            poll(session, SECOND / 2);
        }
        let frozen = Frozen::by(&backup, mountpoint);
        kill(pid, Signal::SIGCONT).unwrap();
        poll(session, 8 * SECOND);
        let s = session.snapshot();
        println!("{:?}", s.frozen);
        let [one] = &*s.frozen else { panic!("{:?}", s.frozen) };
        assert_eq!((&*one.actor.comm, &*one.device), ("store", stage.name()));
        assert!((4.0..8.5).contains(&one.seconds), "{one:?}");
        let verdict = &victim(&s, "store").verdict;
        assert_eq!((verdict.kind, &one.by), (Kind::Owners, &None), "{verdict:?}");
        assert!(verdict.is_frozen_by_unknown && verdict.culprits.is_empty(), "{verdict:?}");
        drop(frozen);
        poll(session, 3 * SECOND);
        assert!(session.snapshot().frozen.is_empty());
    });
}
