//! A recording contains what was seen, and its replay has the same verdict.

use std::{
    cell::RefCell,
    fs,
    io::{self, Cursor, Write},
    path::Path,
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use assert_cmd::assert::OutputAssertExt as _;
use serde_json::Value;
use tracer_engine::victim::Span;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk, default_dir},
    trim::Trim,
    wal::WalWriter,
};
use tracer_recording::replay::{Played, Replay};
use tracer_snapshot::{FileClass, Victim};

use super::{lab_disk, need_live, traced};
use crate::subject::{Tracer, as_nobody};

const PER_SECOND: u32 = 100;
const SOON: Duration = Duration::from_secs(20);

/// A buffer that the test can read while it is written.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn started(recording: &Path) {
    let end = Instant::now() + SOON;
    while fs::metadata(recording).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < end, "nothing is recorded");
        sleep(Duration::from_millis(50));
    }
}

/// The verdict on the WAL, as another user's replay of the file prints it.
fn replayed(recording: &Path, code: i32) -> Value {
    let bytes = fs::read(recording).unwrap();
    let output = as_nobody(&["replay", "-", "wal", "--json"], &bytes).assert().code(code);
    serde_json::from_slice(&output.get_output().stdout).expect("a verdict")
}

#[test]
fn a_recording_has_every_sync_and_names_the_culprit() {
    need_live!();
    let folder = default_dir().expect("a folder on a block device");
    let disk = LoopDisk::create(&folder, 4 << 30, Filesystem::Ext4).expect("a disk");
    let mut trim = Trim::prepare(&disk, &Cgroup::create("fstrim").unwrap()).expect("it discards");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("wal.rec");
    let path = file.to_str().unwrap();
    let mut record = Tracer::start(&["record", "-o", path]);
    started(&file);
    let writer = WalWriter::start(disk.mountpoint(), PER_SECOND).unwrap();
    sleep(Duration::from_secs(4));
    trim.start().unwrap();
    sleep(Duration::from_secs(6));
    trim.stop().unwrap();
    let appended = writer.stop().done;
    sleep(Duration::from_millis(500));
    record.interrupt();
    let status = record.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", record.transcript());

    let mut replay = Replay::open(&file).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    let snapshot = replay.snapshot_of(Span::Period);
    let own = snapshot.victims.iter().filter(|victim| {
        // A file may be unknown at its first sync; syncs of whole filesystems are the trim's.
        victim.actor.tgid == std::process::id() && victim.class != FileClass::Filesystem
    });
    let own: Vec<_> = own.map(|victim| (&victim.path, victim.class, victim.syncs)).collect();
    let syncs: u64 = own.iter().map(|(_, _, syncs)| syncs).sum();
    // A segment is synced once when it is made.
    assert!((appended..=appended + 2).contains(&syncs), "{own:?}, and {appended} were appended");

    let why = replayed(&file, 0);
    assert!(why["syncs"].as_u64().is_some_and(|n| n * 10 >= syncs * 9), "{why}");
    assert_eq!(why["culprits"][0]["comm"], "fstrim", "{why}");
    let cgroup = why["culprits"][0]["cgroup"].as_str().unwrap();
    assert!(cgroup.ends_with("/fstrim"), "{why}");
}

#[test]
fn a_recorder_that_is_killed_leaves_all_but_its_last_second() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let _writer = WalWriter::start(disk.mountpoint(), PER_SECOND).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("wal.rec");
    let mut record = Tracer::start(&["record", "-o", file.to_str().unwrap()]);
    started(&file);
    sleep(Duration::from_secs(5));
    record.kill();
    record.wait(SOON);
    let why = replayed(&file, 4);
    let seconds = why["to"].as_f64().unwrap() - why["from"].as_f64().unwrap();
    assert!(seconds > 2.5, "{why}");
    assert!(why["syncs"].as_u64().is_some_and(|n| n > 50), "{why}");
}

fn wal(victims: Vec<Victim>) -> Victim {
    victims.into_iter().find(|v| v.class == FileClass::Wal).expect("the log is synced")
}

#[test]
fn a_replay_comes_to_the_sessions_own_verdict() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        let file = Shared::default();
        session.begin_recording(Box::new(file.clone())).unwrap();
        // Syncs before a recording are in the session's verdict, and not in the recording.
        let _writer = WalWriter::start(disk.mountpoint(), PER_SECOND).unwrap();
        let end = Instant::now() + Duration::from_secs(7);
        while Instant::now() < end {
            sleep(Duration::from_millis(100));
            session.poll(None, &mut Vec::new());
        }
        let live = wal(session.snapshot_of(Span::Period).victims);
        let progress = session.end_recording().unwrap().expect("it was recorded");
        let bytes = file.0.borrow().clone();
        assert_eq!(progress.bytes, bytes.len() as u64);

        let mut replay = Replay::new("memory".to_owned(), Cursor::new(bytes)).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        let replayed = wal(replay.snapshot_of(Span::Period).victims);
        let ids = |victim: &Victim| (victim.syncs, victim.actor.clone(), victim.path.clone());
        assert_eq!(ids(&replayed), ids(&live));
        assert_eq!((replayed.p99_seconds, replayed.phases), (live.p99_seconds, live.phases));
        let verdict = |victim: &Victim| serde_json::to_value(&victim.verdict).unwrap();
        assert_eq!(verdict(&replayed), verdict(&live));
    });
}
