//! The agent's flight recorder on real filesystems: killed at any moment, on a disk that is
//! full, and what it costs.

// An emulated machine has no figures of its own.
#[cfg(not(target_env = "musl"))]
mod cost;

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::{signal::Signal, statvfs::statvfs},
};
use tracer_engine::victim::Span;
use tracer_lab::{disk::Filesystem, wal::WalWriter};
use tracer_recording::{
    breaks::{Break, Why},
    replay::{Played, Replay},
    segments::{folder, index},
};

use super::{
    lab_disk, need_live,
    served::{Agent, free_address},
};
use crate::subject::Tracer;

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);

/// The syncs per second of the log that is on the same disk as the recording.
const PER_SECOND: u32 = 400;

/// The number of kills on each filesystem; `cargo xtask test --all` sets twenty in this
/// variable.
const KILLS: usize = 6;
const KILLS_VARIABLE: &str = "TRACER_KILLS";

/// The smallest size that is allowed: four segments of 1 MiB.
const SIZE: u64 = 4 << 20;

/// No more than the last second may be lost. The recorder writes after half a second and after
/// a whole one, and its loop runs ten times a second: 0.4 s are left for a busy machine.
const MAX_LOST_SECONDS: f64 = 1.0;

/// The agent's own record of what it did, with a configuration of its own.
fn agent(folder: &Path) -> Agent {
    let address = free_address();
    let (listen, folder) = (address.to_string(), folder.to_str().unwrap().to_owned());
    let args = ["agent", "--listen", &listen, "--record", &folder, "--record-size", "4M"];
    Agent { tracer: Tracer::start(&args), address }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A random time up to three seconds.
fn some_time() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_millis(u64::from(nanos) / 1000 % 3000)
}

/// Waits for the first second that this run has written.
#[track_caller]
fn wait_until_it_records(agent: &Agent, folder: &Path, began: f64) {
    let end = Instant::now() + SOON;
    let is_written = || {
        let segments = index::read(folder).unwrap_or_default();
        segments.iter().any(|one| one.last > began)
    };
    while !is_written() {
        assert!(Instant::now() < end, "it said:\n{}", agent.tracer.transcript());
        sleep(SECOND / 20);
    }
}

/// Replays a directory, or one segment of it, to its end.
#[track_caller]
fn play(path: &Path) -> Replay {
    let mut replay = Replay::open(path).unwrap_or_else(|error| panic!("{path:?}: {error:#}"));
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    folder::list(folder).unwrap().into_iter().map(|one| one.path).collect()
}

/// Bytes that the directory occupies, whatever its files' lengths say.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

fn kill_at_random(filesystem: Filesystem) {
    let kills = env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().expect("a number"));
    let disk = lab_disk(filesystem);
    let folder = disk.mountpoint().join("recording");
    let _writer = WalWriter::start(disk.mountpoint(), PER_SECOND).unwrap();
    let mut killed = Vec::new();
    let mut worst: f64 = 0.0;
    for round in 0..kills {
        let began = unix_seconds();
        let mut agent = agent(&folder);
        wait_until_it_records(&agent, &folder, began);
        let after = some_time();
        sleep(after);
        let at = unix_seconds();
        agent.tracer.kill();
        agent.tracer.wait(SOON);
        // Every segment from before the kill still exists, and can be read.
        let replay = play(&folder);
        replay.check().unwrap_or_else(|error| panic!("kill {round}: {error:#}"));
        let lost = at - replay.now();
        println!("kill {round} {after:?} after its begin: the last {lost:.2} s are lost");
        assert!(lost < MAX_LOST_SECONDS, "kill {round}: {lost} s");
        worst = worst.max(lost);
        killed.push(at);
        for one in segments(&folder) {
            play(&one);
            assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // A file's last block of indirections is the filesystem's own.
        let (count, bytes) = (segments(&folder).len(), occupied(&folder));
        assert!(count <= 4 && bytes <= SIZE + 16 * 4096, "{count} files of {bytes} bytes");
        let all = fs::read_dir(&folder).unwrap().count();
        assert_eq!(all, count, "nothing else is left");
    }
    let began = unix_seconds();
    let mut last = agent(&folder);
    wait_until_it_records(&last, &folder, began);
    sleep(2 * SECOND);
    last.tracer.signal(Signal::SIGTERM);
    assert_eq!(last.tracer.wait(SOON).code(), Some(0), "{}", last.tracer.transcript());
    let first = Replay::open(&folder).unwrap().now();
    let mut replay = play(&folder);
    replay.check().unwrap();
    let breaks = replay.breaks().to_vec();
    let found: Vec<&Break> = breaks.iter().filter(|one| one.why == Why::Killed).collect();
    println!("at most {worst:.2} s lost at once; {} of {kills} kills are kept", found.len());
    // The oldest segments may be gone, and the kills in them.
    let kept: Vec<f64> = killed.iter().copied().filter(|at| *at > first).collect();
    assert_eq!(found.len(), kept.len(), "{kept:?}: {breaks:?}");
    assert!(kept.len() >= 4, "{kept:?}");
    for (one, at) in found.iter().zip(&kept) {
        assert!(one.from <= at + 0.1 && at - one.from < MAX_LOST_SECONDS, "{at}: {one:?}");
        assert!(one.to > *at, "the next began after it: {at}: {one:?}");
    }
    let victims = replay.snapshot_of(Span::Period).victims;
    let syncs: u64 = victims.iter().map(|victim| victim.syncs).sum();
    assert!(syncs > 1000, "{syncs}");
}

#[test]
fn killed_again_and_again_on_ext4_it_loses_a_second_each() {
    need_live!();
    kill_at_random(Filesystem::Ext4);
}

#[test]
fn killed_again_and_again_on_xfs_it_loses_a_second_each() {
    need_live!();
    kill_at_random(Filesystem::Xfs);
}

/// Fills a filesystem until this percentage is left.
fn fill_but(mountpoint: &Path, percent: u64) -> PathBuf {
    let stat = statvfs(mountpoint).unwrap();
    let [all, free] = [stat.blocks(), stat.blocks_available()].map(|n| n * stat.fragment_size());
    let path = mountpoint.join("filler");
    let file = File::create(&path).unwrap();
    let bytes = free.saturating_sub(all / 100 * percent);
    fallocate(&file, FallocateFlags::empty(), 0, bytes.cast_signed()).unwrap();
    path
}

#[test]
fn a_full_disk_stops_the_recorder_and_not_the_agent() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let folder = disk.mountpoint().join("recording");
    let _writer = WalWriter::start(disk.mountpoint(), PER_SECOND / 4).unwrap();
    let mut agent = agent(&folder);
    agent.tracer.wait_for(SOON, "records into");
    sleep(3 * SECOND);
    let full = unix_seconds();
    let filler = fill_but(disk.mountpoint(), 2);
    agent.tracer.wait_for(10 * SECOND, "the recorder has stopped");
    sleep(4 * SECOND);
    let says = agent.tracer.transcript();
    assert!(says.contains(" % of its space free, below 10 %"), "{says}");
    assert_eq!(says.matches("has stopped").count(), 1, "it is said once: {says}");
    assert_eq!(agent.get("/healthz", "").1, "alive\n");
    let verdicts = agent.json("/api/v1/verdicts");
    let is_log = |victim: &serde_json::Value| victim["victim"]["file_class"] == "wal";
    assert!(verdicts["victims"].as_array().unwrap().iter().any(is_log), "{verdicts}");
    let kind = "tracer_dropped_total{kind=\"unrecorded\"} ";
    let dropped = |agent: &Agent| {
        let metrics = agent.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(kind));
        line.unwrap_or_else(|| panic!("{metrics}")).parse::<f64>().unwrap()
    };
    agent.wait_until("the seconds are counted", || dropped(&agent) >= 3.0);

    fs::remove_file(filler).unwrap();
    let room = unix_seconds();
    agent.tracer.wait_for(10 * SECOND, "the recorder goes on");
    sleep(3 * SECOND);
    agent.tracer.signal(Signal::SIGTERM);
    assert_eq!(agent.tracer.wait(SOON).code(), Some(0), "{}", agent.tracer.transcript());
    let replay = play(&folder);
    replay.check().unwrap();
    let breaks = replay.breaks();
    println!("full at {full:.2}, room at {room:.2}: {breaks:?}");
    let [gap] = breaks else { panic!("{breaks:?}") };
    assert_eq!(gap.why, Why::Full);
    assert!((gap.from - full).abs() < 2.5 && (gap.to - room).abs() < 3.5, "{gap:?}");
    assert!(replay.now() > gap.to + 1.0, "it goes on: {}", replay.now());
}
