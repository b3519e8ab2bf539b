//! A neighbour that holds up the journal: it sleeps with a handle open, and every commit waits for
//! that handle.
//!
//! It punches holes into a file of many extents, each where another block has the list of them. That
//! block is not in memory, and a handle is open while it is read. Blocks of bitmaps, inodes and
//! folders would not do: newer kernels let reads of them pass a limit of blk-throttle
//! (<https://git.kernel.org/linus/29390bb5661d49d10424ad8e915230de1f7074c9>).
//!
//! A bystander creates, renames and removes files all the time: it fills the journal, and is innocent.

use std::{
    fs::{self, File},
    thread::sleep,
    time::Duration,
};

use anyhow::Result;
use nix::fcntl::{FallocateFlags, fallocate};
use tracer_disk_model::Model;
use tracer_lab::{cgroup::Cgroup, cgroup_v1::CgroupV1, disk::Filesystem, process::Process};

use super::{
    need_stage, play_on,
    stage::{Stage, cgroup},
    verdict::{Actor, QUIET_TRUTH, Truth, watch_for},
};
use crate::{
    simulated::{SimulatedDisk, parts::Part},
    skip::skip,
};

/// Each extent is a block, with a hole of a block after it.
const EXTENT_BYTES: u64 = 2 * 4096;
/// A block has room for this many extents.
const STRIDE_BYTES: u64 = 340 * EXTENT_BYTES;
/// The number of such blocks, more than the holder reads while it is watched.
const STRIDES: u64 = 80;

const READS_PER_SECOND: u32 = 2;
const BUSY: Duration = Duration::from_secs(20);

/// An etcd beside a file of many extents.
fn stage() -> Result<Stage> {
    let disk = SimulatedDisk::create(Filesystem::Ext4)?;
    let file = File::create(disk.mountpoint().join("cold"))?;
    for at in (0..STRIDES * STRIDE_BYTES).step_by(EXTENT_BYTES as usize) {
        fallocate(&file, FallocateFlags::empty(), i64::try_from(at)?, 4096)?;
    }
    file.sync_all()?;
    Ok(Stage::build_on(disk))
}

fn holder(stage: &Stage) -> Part {
    Part::Puncher {
        file: stage.disk.mountpoint().join("cold"),
        stride_bytes: STRIDE_BYTES,
        strides: STRIDES,
    }
}

/// The innocent.
fn start_bystander(stage: &Stage, cgroup: &Cgroup) -> Process {
    let files = Part::Files { folder: stage.disk.mountpoint().join("files"), per_second: 200 };
    files.start("bystander", cgroup).unwrap()
}

/// The disk is idle most of the time.
#[test]
fn whoever_is_stopped_by_its_io_limit_with_the_journals_handle_open_is_named() {
    need_stage!();
    let Some(limit) = CgroupV1::create("blkio", "holder").unwrap() else {
        skip!("there is no cgroup v1 hierarchy for blkio");
    };
    play_on(|| {
        let stage = stage().expect("a file of many extents");
        let number = format!("/sys/block/{}/dev", stage.disk.name());
        let number = fs::read_to_string(number).expect("a block device has a number");
        let device = number.trim();
        let setting = format!("{device} {READS_PER_SECOND}");
        limit.set("blkio.throttle.read_iops_device", &setting).unwrap();
        let (punches, beside) = (cgroup("holder"), cgroup("bystander"));
        let _bystander = start_bystander(&stage, &beside);
        let seen = watch_for(&stage, BUSY, |length| {
            stage.disk.forget().unwrap();
            let _holder = holder(&stage).start_within(&limit, "holder", &punches).unwrap();
            sleep(length);
        });
        limit.set("blkio.throttle.read_iops_device", &format!("{device} 0")).unwrap();
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "holder", cgroup: &punches }],
            innocent: &[Actor { comm: "bystander", cgroup: &beside }],
            slower: 5.0,
        };
        println!("verdict: {}", seen.verdict.verdict);
        seen.judge("a holder of the journal at its IO limit", &truth);
        let worst = &seen.verdict.culprits[0];
        let (op, via) = (worst.op.as_deref(), worst.via.as_deref());
        assert_eq!((op, via), (Some("handles"), Some("handles")), "{worst:?}");
        assert_eq!(worst.confidence.as_deref(), Some("high"), "{worst:?}");
        let limit = format!("its own IO limit (blkio.throttle.read_iops_device {setting})");
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains(&limit), "{sentence}");
        let device = seen.verdict.shares["device"];
        assert!(device < 0.15, "it is not the device: {seen:?}");
    });
}

/// The holder has no limit: it waits for the device with the handle open.
#[test]
fn whoever_waits_for_a_slow_device_with_the_journals_handle_open_is_not_named() {
    need_stage!();
    play_on(|| {
        let stage = stage().expect("a file of many extents");
        let (punches, beside) = (cgroup("holder"), cgroup("bystander"));
        let _bystander = start_bystander(&stage, &beside);
        let seen = watch_for(&stage, BUSY, |length| {
            stage.disk.forget().unwrap();
            let slow = Model { read: Duration::from_millis(500), ..Model::default().slower(10) };
            stage.disk.become_another(&slow).unwrap();
            let _holder = holder(&stage).start("holder", &punches).unwrap();
            sleep(length);
            stage.disk.become_another(&Model::default()).unwrap();
        });
        let innocent = [
            Actor { comm: "holder", cgroup: &punches },
            Actor { comm: "bystander", cgroup: &beside },
        ];
        let truth = Truth { kinds: &["device"], innocent: &innocent, slower: 5.0, ..QUIET_TRUTH };
        println!("{}: {}", seen.verdict.confidence, seen.verdict.verdict);
        seen.judge("a holder of the journal on a slow disk", &truth);
    });
}
