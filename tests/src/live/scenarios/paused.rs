//! Writes that the kernel pauses because too many pages are dirty: the victim waits before its
//! syncs.

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracer_disk_model::Model;
use tracer_lab::{cgroup::Cgroup, disk::Filesystem, process::Process};

use super::{
    need_stage, play_on,
    stage::cgroup,
    verdict::{Actor, Answer, QUIET_TRUTH, Truth, Victim, watch_after},
};
use crate::simulated::{
    SimulatedDisk,
    parts::{Account, Part},
};

const SECOND: Duration = Duration::from_secs(1);
/// It syncs two or three times a second, and a baseline needs twenty syncs.
const QUIET: Duration = Duration::from_secs(12);
const BUSY: Duration = Duration::from_secs(14);

/// The kernel keeps this much dirty data for the disk.
const LIMIT: u64 = 8 << 20;
/// It is full after 0.4 s if nobody stops, and the disk is the bottleneck.
const SLOW: u64 = 20_000_000;

/// A process that writes a log through the page cache, and syncs now and then. Fields are dropped
/// in order: what runs, then what it runs on.
struct Logged {
    logger: Process,
    account: PathBuf,
    writes: PathBuf,
    cgroup: Cgroup,
    disk: SimulatedDisk,
}

impl Logged {
    fn build(filesystem: Filesystem, bytes_per_second: u64, pace: (u64, u64)) -> Result<Self> {
        let disk = SimulatedDisk::create(filesystem)?;
        disk.become_another(&Model { bytes_per_second, ..Model::default() })?;
        disk.disk().limit_dirty(LIMIT)?;
        let folder = disk.mountpoint().parent().context("a mountpoint lies in a folder")?;
        let (account, writes) = (folder.join("account"), folder.join("writes"));
        let (per_sync, per_second) = pace;
        let logger = Part::Logger {
            file: disk.mountpoint().join("store"),
            bytes: 64 << 10,
            per_sync,
            per_second,
            account: account.clone(),
            writes: writes.clone(),
        };
        let cgroup = cgroup("store");
        let logger = logger.start("store", &cgroup)?;
        sleep(SECOND);
        Ok(Self { logger, account, writes, cgroup, disk })
    }

    /// The seconds that it has spent in writes so far, as it says itself.
    fn write_seconds(&self) -> f64 {
        Account::read(&self.writes).expect("it keeps account").seconds
    }
}

impl Victim for Logged {
    fn pid(&self) -> u32 {
        self.logger.pid()
    }

    fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn sync_seconds(&self) -> f64 {
        Account::read(&self.account).expect("it keeps account").seconds
    }
}

/// Asserts that the pauses that the tracer reports agree with the seconds that the victim says it
/// spent in writes. The verdict is about a time of the length `whole`.
#[track_caller]
fn assert_paused(seen: &Answer, (write_seconds, whole): (f64, Duration)) {
    let said = seen.verdict.paused_share * whole.as_secs_f64();
    println!(
        "paused for {:.0}% of the time, {said:.2} s; its writes took {write_seconds:.2} s",
        100.0 * seen.verdict.paused_share
    );
    // A write does not only wait, and a pause ends somewhat before or after its last tick.
    assert!((0.6 * write_seconds..=1.2 * write_seconds).contains(&said), "{seen:?}");
    assert!(seen.verdict.paused_share >= 0.1, "{seen:?}");
}

/// It writes 12 MB between two syncs, as fast as it can.
fn a_victim_that_fills_it_alone(filesystem: Filesystem) {
    play_on(|| {
        let stage = Logged::build(filesystem, SLOW, (200, u64::MAX)).expect("a log");
        let (mut wrote, whole) = (0.0, QUIET + BUSY);
        let seen = watch_after(&stage, Duration::ZERO, whole, |length| {
            let before = stage.write_seconds();
            sleep(length);
            wrote = stage.write_seconds() - before;
        });
        let truth = Truth { kinds: &["self"], slower: 0.0, ..QUIET_TRUTH };
        seen.judge_verdict(&format!("its own pages on {}", filesystem.name()), &truth);
        assert_paused(&seen, (wrote, whole));
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains("fills the limit on dirty pages itself"), "{sentence}");
    });
}

#[test]
fn a_victim_that_fills_the_limit_on_dirty_pages_alone_does_so_itself() {
    need_stage!();
    a_victim_that_fills_it_alone(Filesystem::Ext4);
}

#[test]
fn a_victim_that_fills_the_limit_of_an_xfs_alone_does_so_itself() {
    need_stage!();
    a_victim_that_fills_it_alone(Filesystem::Xfs);
}

/// A writer that has always been there, and that no disk of before had to pause.
#[test]
fn a_steady_writer_is_not_named_for_sure_when_the_disk_cannot_keep_up() {
    need_stage!();
    play_on(|| {
        let fast = 200_000_000;
        let stage = Logged::build(Filesystem::Ext4, fast, (10, 50)).expect("a log");
        let steady = cgroup("steady");
        let writer = Part::Writer {
            file: stage.disk.mountpoint().join("steady"),
            file_bytes: 256 << 20,
            bytes_per_second: 6 << 20,
        };
        let _writer = writer.start("steady", &steady).unwrap();
        sleep(2 * SECOND);
        let begin = Instant::now();
        let seen = watch_after(&stage, 2 * QUIET, BUSY, |length| {
            let slow = Model { bytes_per_second: fast / 25, ..Model::default() };
            stage.disk.become_another(&slow).unwrap();
            sleep(length);
        });
        seen.print("a disk that cannot keep up");
        println!(
            "{} after {:?}: {}",
            seen.verdict.confidence,
            begin.elapsed(),
            seen.verdict.verdict
        );
        let writer = Actor { comm: "steady", cgroup: &steady };
        let is_accused =
            |culprit: &&super::verdict::Culprit| culprit.confidence.as_deref() == Some("high");
        let accused = seen.verdict.culprits.iter().filter(is_accused).find(|one| writer.is(one));
        assert!(accused.is_none(), "{seen:?}");
    });
}
