//! A tenant that deletes files of a filesystem that is mounted with `discard`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread::sleep,
    time::Duration,
};

use anyhow::Result;
use tracer_lab::disk::Filesystem;

use super::{
    need_stage, play_on,
    stage::{Stage, cgroup},
    verdict::{Actor, Truth, watch_for},
};
use crate::simulated::{SimulatedDisk, parts::Part};

/// Half of them are deleted, and no two beside each other.
const FILES: u32 = 640;
const FILE_BYTES: usize = 128 << 10;
/// Each is discarded for 40 ms, in which nobody else is served.
const PER_SECOND: u64 = 15;
const LENGTH: Duration = Duration::from_secs(16);

/// A kernel worker discards the space of a file some time after it was deleted.
fn who_deletes_is_named(filesystem: Filesystem) {
    play_on(|| {
        let disk = SimulatedDisk::create(filesystem).expect("a simulated disk");
        disk.mount_with("discard").unwrap();
        let folder = disk.mountpoint().join("deleted");
        lay_out(&folder).unwrap();
        disk.settle().unwrap();
        let stage = &Stage::build_on(disk);
        let (tenant, writers) = (cgroup("deleter"), cgroup("bystander"));
        let bystander = Part::Writer {
            file: stage.disk.mountpoint().join("bystander"),
            file_bytes: 16 << 20,
            bytes_per_second: 1 << 20,
        };
        let _bystander = bystander.start("bystander", &writers).unwrap();
        let deleter = Part::Deleter { folder, per_second: PER_SECOND };
        let answer = watch_for(stage, LENGTH, |length| {
            let _deleter = deleter.start("deleter", &tenant).unwrap();
            sleep(length);
        });
        let deleter = Actor { comm: "deleter", cgroup: &tenant };
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[deleter],
            innocent: &[Actor { comm: "bystander", cgroup: &writers }],
            slower: 3.0,
        };
        answer.judge(&format!("a deleter on {}", filesystem.name()), &truth);
        let worst = answer.verdict.culprits.iter().find(|culprit| deleter.is(culprit)).unwrap();
        assert_eq!((worst.op.as_deref(), worst.frees), (Some("discard"), true), "{worst:?}");
    });
}

#[test]
fn who_deletes_on_an_xfs_that_discards_is_named() {
    need_stage!();
    who_deletes_is_named(Filesystem::Xfs);
}

#[test]
fn who_deletes_on_an_ext4_that_discards_is_named() {
    need_stage!();
    who_deletes_is_named(Filesystem::Ext4);
}

fn lay_out(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let piece = vec![0x55; FILE_BYTES];
    for number in 0..FILES {
        File::create(folder.join(format!("{number:04}")))?.write_all(&piece)?;
    }
    Ok(File::open(folder)?.sync_all()?)
}
