//! Waits for nobody's requests: the filesystem's own work on a CPU, the victim's own limit
//! outside its syncs, and a filesystem that is frozen.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use tracer_lab::{
    cgroup::Cgroup, cgroup_v1::CgroupV1, disk::Filesystem, process::Process, tool::FSFREEZE,
};

use super::{
    culprits::run,
    need_stage, play, play_on,
    stage::cgroup,
    verdict::{Actor, QUIET_TRUTH, Truth, Victim, watch, watch_for},
};
use crate::{
    simulated::{
        SimulatedDisk,
        parts::{Account, Part},
    },
    skip::skip,
};

const SECOND: Duration = Duration::from_secs(1);

/// The filesystem is thawed in the end, also when a test fails.
struct Thaw<'a>(&'a str);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        // It fails if the filesystem is not frozen.
        let _ = FSFREEZE.run(&["--unfreeze", self.0]);
    }
}

/// A backup keeps the filesystem frozen for four seconds in ten. Nobody can write meanwhile, so
/// etcd waits before its syncs, which are few and quick.
fn who_freezes_is_named(filesystem: Filesystem) {
    play(filesystem, |stage| {
        let (backup, beside) = (cgroup("backup"), cgroup("bystander"));
        let bystander = Part::Writer {
            file: stage.disk.mountpoint().join("bystander"),
            file_bytes: 16 << 20,
            bytes_per_second: 1 << 20,
        };
        let _bystander = bystander.start("bystander", &beside).unwrap();
        let mountpoint = stage.disk.mountpoint().to_string_lossy().into_owned();
        let mut frozen = Duration::ZERO;
        let seen = watch_for(stage, 20 * SECOND, |length| {
            let _thaw = Thaw(&mountpoint);
            let begin = Instant::now();
            for round in 0..2 {
                sleep((round * 10 * SECOND).saturating_sub(begin.elapsed()));
                let freeze = Instant::now();
                run(FSFREEZE, &["--freeze", &mountpoint], &backup).unwrap();
                sleep(4 * SECOND);
                run(FSFREEZE, &["--unfreeze", &mountpoint], &backup).unwrap();
                frozen += freeze.elapsed();
            }
            sleep(length.saturating_sub(begin.elapsed()));
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "fsfreeze", cgroup: &backup }],
            innocent: &[Actor { comm: "bystander", cgroup: &beside }],
            slower: 0.0,
        };
        seen.judge_verdict(&format!("a frozen {}", filesystem.name()), &truth);
        let (said, frozen) = (seen.verdict.outside_seconds, frozen.as_secs_f64());
        println!("frozen for {frozen:.2} s, of which it says {said:.2} s");
        assert!((0.8 * frozen..=1.02 * frozen).contains(&said), "{seen:?}");
        // 8 s of 24.
        assert!((0.26..=0.4).contains(&seen.verdict.frozen_share), "{seen:?}");
        let culprit = &seen.verdict.culprits[0];
        let (op, via) = (culprit.op.as_deref(), culprit.via.as_deref());
        assert_eq!((op, via), (Some("freeze"), Some("freeze")), "{culprit:?}");
        assert_eq!(culprit.confidence.as_deref(), Some("high"), "{culprit:?}");
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains("froze its filesystem, and it could not write"), "{sentence}");
    });
}

#[test]
fn who_freezes_the_filesystem_is_named() {
    need_stage!();
    who_freezes_is_named(Filesystem::Ext4);
}

#[test]
fn who_freezes_an_xfs_is_named() {
    need_stage!();
    who_freezes_is_named(Filesystem::Xfs);
}

/// The kernel stops a thread whose quota is used up when it returns to the process, so the
/// syncs themselves stay as quick as before, and etcd does not.
#[test]
fn a_quota_that_holds_etcd_back_outside_its_syncs_is_named() {
    need_stage!();
    let Some(limit) = CgroupV1::create("cpu", "etcd").unwrap() else {
        skip!("there is no cgroup v1 hierarchy for cpu");
    };
    limit.set("cpu.cfs_period_us", "100000").unwrap();
    limit.set("cpu.cfs_quota_us", "5000").unwrap();
    play(Filesystem::Ext4, |stage| {
        let seen = watch(stage, |length| {
            limit.add(stage.etcd.pid()).unwrap();
            sleep(length);
            limit.leave(stage.etcd.pid()).unwrap();
        });
        let truth = Truth { kinds: &["limit"], slower: 0.0, ..QUIET_TRUTH };
        seen.judge_verdict("the quota of etcd", &truth);
        let felt = seen.own_seconds - seen.said_seconds();
        let said = seen.verdict.outside_seconds;
        println!("etcd felt {felt:.2} s after its syncs; said {said:.2} s outside of them");
        // etcd is held back before its syncs too, which it does not count. At most it was so all
        // the time.
        assert!((0.8 * felt..=BUSY_SECONDS).contains(&said), "etcd felt {felt}: {seen:?}");
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains("cpu.cfs_quota_us 5000"), "{sentence}");
    });
}

/// The time for which a scenario has its culprit, with room for a busy machine.
const BUSY_SECONDS: f64 = 9.0;

const BLOCK: i64 = 1024;
/// Every second block of this part of the disk is free, and no other.
const HOLED_BYTES: i64 = 224 << 20;
/// Free space in one piece, for the victim while it is well.
const WHOLE_BYTES: i64 = 160 << 20;
/// The number of free extents that the allocator looks at for each one that it takes.
const SCANNED: &str = "5000";

/// Fields are dropped in order: what runs, then what it runs on.
struct Fragmented {
    victim: Process,
    account: PathBuf,
    cgroup: Cgroup,
    disk: SimulatedDisk,
}

impl Fragmented {
    fn build() -> Result<Self> {
        let disk = SimulatedDisk::create_with(Filesystem::Ext4, &["-b", "1024", "-m", "0"])?;
        for (file, value) in [("mb_max_to_scan", SCANNED), ("mb_min_to_scan", SCANNED)] {
            let path = format!("/sys/fs/ext4/{}/{file}", disk.name());
            fs::write(&path, value).with_context(|| format!("failed to write `{path}`"))?;
        }
        let holed = File::create(disk.mountpoint().join("holed"))?;
        preallocate(&holed, free_bytes(disk.mountpoint())? - WHOLE_BYTES)?;
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for number in 0..HOLED_BYTES / BLOCK / 2 {
            fallocate(&holed, hole, number * 2 * BLOCK, BLOCK).context("failed to punch a hole")?;
        }
        disk.settle()?;
        let folder = disk.mountpoint().parent().context("a mountpoint lies in a folder")?;
        let account = folder.join("account");
        let cgroup = cgroup("store");
        let appender = Part::Appender {
            file: disk.mountpoint().join("store"),
            bytes: 512 << 10,
            per_second: 8,
            account: account.clone(),
        };
        let victim = appender.start("store", &cgroup)?;
        Ok(Self { victim, account, cgroup, disk })
    }

    /// Takes all free space that is in one piece.
    fn take_what_is_whole(&self) -> Result<()> {
        let file = File::create(self.disk.mountpoint().join("taken"))?;
        preallocate(&file, free_bytes(self.disk.mountpoint())? - HOLED_BYTES / 2 - (1 << 20))
    }
}

impl Victim for Fragmented {
    fn pid(&self) -> u32 {
        self.victim.pid()
    }

    fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn sync_seconds(&self) -> f64 {
        Account::read(&self.account).expect("it keeps account").seconds
    }
}

fn free_bytes(mountpoint: &Path) -> Result<i64> {
    let vfs = statvfs(mountpoint)?;
    Ok(i64::try_from(vfs.blocks_free() * vfs.fragment_size())?)
}

fn preallocate(file: &File, bytes: i64) -> Result<()> {
    fallocate(file, FallocateFlags::empty(), 0, bytes).context("failed to preallocate")
}

/// Free space is left in single blocks, and the allocator looks at many for each.
#[test]
fn an_allocator_that_burns_cpu_in_a_full_filesystem_is_named() {
    need_stage!();
    play_on(|| {
        let fragmented = Fragmented::build().expect("a fragmented filesystem");
        let seen = watch(&fragmented, |length| {
            fragmented.take_what_is_whole().unwrap();
            sleep(length);
        });
        let truth = Truth { kinds: &["filesystem"], slower: 3.0, ..QUIET_TRUTH };
        seen.judge("an allocator that searches", &truth);
        let share = seen.verdict.shares["filesystem"];
        assert!(share >= 0.5, "its share is larger: {:?}", seen.verdict);
    });
}
