//! Syncs that do not end while somebody asks.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use serde_json::Value;
use tracer_disk_model::Model;
use tracer_lab::{disk::Filesystem, node::without_schedulers};
use tracer_snapshot::{FileClass, Kind};

use super::{need_live, traced_with};
use crate::{simulated::SimulatedDisk, subject::Tracer};

/// A request takes so long on the disk that hangs; it is made well before.
const DEAD: Duration = Duration::from_secs(14);

/// For a tracer to start, and to end after its time.
const STARTS: Duration = Duration::from_secs(20);
const ENDS: Duration = Duration::from_secs(30);

fn dead() -> Model {
    Model { write: DEAD, flush: DEAD, ..Model::default() }
}

/// Ends the hang also when a test fails.
struct Hung<'a>(&'a SimulatedDisk);

impl<'a> Hung<'a> {
    fn new(disk: &'a SimulatedDisk) -> Self {
        disk.become_another(&dead()).unwrap();
        Self(disk)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.become_another(&Model::default()).unwrap();
    }
}

#[test]
fn a_sync_on_a_disk_that_completes_nothing_is_shown_while_it_lasts() {
    need_live!();
    let simulated = SimulatedDisk::create(Filesystem::Xfs).unwrap();
    let disk = simulated.disk();
    let node = without_schedulers(Some(disk.name())).unwrap();
    let options = tracer::session::Options { root: node.path().to_owned(), ..Default::default() };
    let mut file = File::create(disk.mountpoint().join("0.wal")).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file.sync_all().unwrap();
    traced_with(&options, |session| {
        let poll = |session: &mut tracer::session::Session, time: Duration| {
            let end = Instant::now() + time;
            while Instant::now() < end {
                sleep(Duration::from_millis(50));
                session.poll(None, &mut Vec::new());
            }
        };
        poll(session, Duration::from_millis(1500));
        assert!(session.snapshot().hanging.is_empty(), "{:?}", session.snapshot().hanging);
        let hung = Hung::new(&simulated);
        file.write_all_at(&[2; 4096], 0).unwrap();
        let begin = Instant::now();
        let sync = spawn(move || file.sync_data().unwrap());
        poll(session, Duration::from_secs(6));
        let snapshot = session.snapshot();
        let shown: Vec<_> = snapshot.hanging.iter().filter(|one| one.call == "fdatasync").collect();
        assert!(!sync.is_finished(), "the disk did not hang");
        let [one] = shown[..] else { panic!("{:?}", snapshot.hanging) };
        let waited = begin.elapsed().as_secs_f64();
        assert!(one.seconds > 4.0 && one.seconds <= waited, "{} of {waited} s", one.seconds);
        assert_eq!((one.kind, one.actor.tgid), (Kind::Device, std::process::id()));
        // Logs go by their directory.
        assert_eq!(
            (one.class, &*one.path),
            (FileClass::Wal, &*disk.mountpoint().to_string_lossy())
        );
        let its = one.disk.as_ref().unwrap();
        assert_eq!(its.name, disk.name());
        assert!(its.in_flight > 0 && its.oldest_seconds.unwrap() > 4.0, "{its:?}");
        assert!(its.completed_seconds_ago.is_none_or(|ago| ago > 4.0), "{its:?}");
        drop(hung);
        sync.join().unwrap();
        poll(session, Duration::from_millis(2200));
        let left = session.snapshot().hanging;
        assert!(left.iter().all(|one| one.call != "fdatasync"), "{left:?}");
    });
}

/// As a user asks, with a tracer that was started during the hang as well as before.
#[test]
fn why_names_a_sync_that_has_not_ended_and_the_disk() {
    need_live!();
    let simulated = SimulatedDisk::create(Filesystem::Xfs).unwrap();
    let disk = simulated.disk();
    let mut file = File::create(disk.mountpoint().join("0.wal")).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file.sync_all().unwrap();
    let me = std::process::id().to_string();
    let place = tempfile::tempdir().unwrap();
    let recording = place.path().join("hang.rec");
    let recording = recording.to_str().unwrap();
    let mut why = Tracer::start(&["why", &me, "--for", "9s", "--json"]);
    let mut watch = Tracer::start(&["watch", "--for", "9s"]);
    let mut record = Tracer::start(&["record", "-o", recording, "--for", "9s"]);
    why.wait_for(STARTS, "watching");
    let begun = Instant::now();
    // Its first line is written at once.
    while fs::metadata(recording).map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < STARTS, "{}", record.transcript());
        sleep(Duration::from_millis(10));
    }
    // Quick syncs, so that it is known how long one takes.
    for _ in 0..50 {
        sleep(Duration::from_millis(30));
        file.write_all_at(&[2; 4096], 0).unwrap();
        file.sync_data().unwrap();
    }
    let hung = Hung::new(&simulated);
    file.write_all_at(&[2; 4096], 0).unwrap();
    let sync = spawn(move || file.sync_data().unwrap());
    for tracer in [&mut why, &mut watch, &mut record] {
        assert!(tracer.wait(ENDS).success(), "{}", tracer.transcript());
    }
    assert!(!sync.is_finished(), "the disk did not hang");
    drop(hung);
    sync.join().unwrap();
    // As it was seen, and again as it was recorded.
    let replayed = |view: &[&str]| {
        let mut replay = Tracer::start(&[&["replay", recording], view].concat());
        assert!(replay.wait(ENDS).success(), "{}", replay.transcript());
        replay
    };
    let pairs = [(why, watch), (replayed(&["why", &me, "--json"]), replayed(&["watch"]))];
    for (why, watch) in pairs {
        let json: Value = why.json(ENDS);
        let one = &json["hanging"][0];
        assert_eq!((&one["call"], &one["kind"]), (&"fdatasync".into(), &"device".into()), "{json}");
        assert_eq!(one["disk"]["name"], disk.name(), "{json}");
        // The quick ones do not say that all is well.
        assert_eq!(json["kind"], "device", "{json}");
        assert!(json["excess_seconds"].as_f64().unwrap() > 2.0, "{json}");
        let line = watch.find_line(ENDS, |line| line.contains("HANGS: "));
        assert!(line.contains("has been in fdatasync of") && line.contains(disk.name()), "{line}");
    }
}

/// The kernel does not count a flush as in flight. It must not be taken for one whose end was
/// missed, however long it takes, and neither must the request that waits for it.
#[test]
fn a_flush_that_hangs_for_longer_than_a_minute_stays_in_flight() {
    const FLUSH: Duration = Duration::from_secs(74);
    need_live!();
    let simulated = SimulatedDisk::create(Filesystem::Ext4).unwrap();
    let disk = simulated.disk();
    let mut file = File::create(disk.mountpoint().join("0.wal")).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file.sync_all().unwrap();
    traced_with(&tracer::session::Options::default(), |session| {
        // Writes and reads go on.
        simulated.become_another(&Model { flush: FLUSH, ..Model::default() }).unwrap();
        file.write_all_at(&[2; 4096], 0).unwrap();
        let begin = Instant::now();
        let sync = spawn(move || file.sync_data().unwrap());
        while begin.elapsed() < FLUSH - Duration::from_secs(6) {
            sleep(Duration::from_millis(100));
            session.poll(None, &mut Vec::new());
        }
        let snapshot = session.snapshot();
        assert!(!sync.is_finished(), "the flush did not hang");
        simulated.become_another(&Model::default()).unwrap();
        let shown = snapshot.hanging.iter().find(|one| one.call == "fdatasync");
        let its = shown.and_then(|one| one.disk.as_ref());
        let its = its.unwrap_or_else(|| panic!("{:?}", snapshot.hanging));
        assert!(its.in_flight > 0 && its.oldest_seconds.unwrap() > 62.0, "{its:?}");
        assert_eq!(shown.unwrap().kind, Kind::Device);
        sync.join().unwrap();
    });
}
