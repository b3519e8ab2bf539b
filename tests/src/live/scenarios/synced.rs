//! A tenant that leaves data in the page cache, and another that calls `sync` or unmounts.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer_disk_model::Model;
use tracer_lab::{cgroup::Cgroup, disk::Filesystem, tool::Tool};

use super::{
    culprits::{Fio, run},
    need_stage, play,
    stage::cgroup,
    verdict::{Actor, Truth, watch_after},
};
use crate::simulated::parts::Part;

const SYNC: Tool = Tool { name: "sync", package: "coreutils" };
const MOUNT: Tool = Tool { name: "mount", package: "mount" };
const UMOUNT: Tool = Tool { name: "umount", package: "mount" };

const SECOND: Duration = Duration::from_secs(1);
/// The kernel would leave the data in the page cache for 30 s, which is beyond the end.
const QUIET: Duration = Duration::from_secs(8);
const BUSY: Duration = Duration::from_secs(24);
const EVERY: Duration = Duration::from_secs(8);
/// The disk takes three seconds for it.
const DIRTY_BYTES: u64 = 300 << 20;

/// Mounts an overlay whose upper layer is in this folder, and unmounts it, as the start and the
/// stop of a container do.
fn unmount_an_overlay(folder: &Path, cgroup: &Cgroup) {
    let layers =
        ["below", "upper", "work", "merged"].map(|layer| folder.join("overlay").join(layer));
    layers.iter().for_each(|layer| fs::create_dir_all(layer).unwrap());
    let [below, upper, work, merged] = layers.map(|layer| layer.to_string_lossy().into_owned());
    let options = format!("lowerdir={below},upperdir={upper},workdir={work}");
    run(MOUNT, &["-t", "overlay", "overlay", "-o", &options, &merged], cgroup).unwrap();
    run(UMOUNT, &[&merged], cgroup).unwrap();
}

/// A tenant leaves 300 MiB in the page cache every eight seconds, and two seconds later a backup
/// makes this call: the data is the tenant's, and the moment the backup's.
fn who_syncs_is_named(filesystem: Filesystem, call: &str) {
    play(filesystem, |stage| {
        let folder = stage.disk.mountpoint();
        let slow = Model { bytes_per_second: 100_000_000, ..Model::default() };
        stage.disk.become_another(&slow).unwrap();
        stage.disk.disk().keep_dirty().unwrap();
        let (tenant, backup, other) = (cgroup("dirtier"), cgroup("backup"), cgroup("bystander"));
        let bystander = Part::Syncer { file: folder.join("bystander"), per_second: 5 };
        let _bystander = bystander.start("bystander", &other).unwrap();
        let dirtier =
            Part::Dirtier { file: folder.join("dirty"), file_bytes: DIRTY_BYTES, every: EVERY };
        let folder = stage.disk.mountpoint();
        let path = folder.to_string_lossy().into_owned();
        let args: &[&str] = if call == "syncfs" { &["-f", &path] } else { &[] };
        let comm = if call == "umount" { "umount" } else { "sync" };
        let answer = watch_after(stage, QUIET, BUSY, |length| {
            let begin = Instant::now();
            let _dirtier = dirtier.start("dirtier", &tenant).unwrap();
            for round in 0..(length.as_secs() / EVERY.as_secs()) as u32 {
                let due = round * EVERY + 2 * SECOND;
                sleep(due.saturating_sub(begin.elapsed()));
                match call {
                    "umount" => unmount_an_overlay(folder, &backup),
                    _ => run(SYNC, args, &backup).unwrap(),
                }
            }
        });
        let dirtier = Actor { comm: "dirtier", cgroup: &tenant };
        let sync = Actor { comm, cgroup: &backup };
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[dirtier],
            innocent: &[sync, Actor { comm: "bystander", cgroup: &other }],
            // Most syncs lie between the calls.
            slower: 0.0,
        };
        answer.judge(&format!("{call} on {}", filesystem.name()), &truth);
        let verdict = &answer.verdict;
        assert!(verdict.max_seconds >= 0.1, "no sync met the calls: {verdict:?}");
        let worst = verdict.culprits.iter().find(|culprit| dirtier.is(culprit)).unwrap();
        let trigger = worst.trigger.as_ref().expect("who had it written");
        assert_eq!((&*trigger.comm, &*trigger.cgroup), (comm, backup.path()), "{trigger:?}");
        assert_eq!(trigger.call, call);
        // The disk alone takes three seconds for these bytes.
        assert!((2.0..20.0).contains(&trigger.seconds), "{trigger:?}");
        assert!(verdict.verdict.contains("had it written by"), "{}", verdict.verdict);
    });
}

#[test]
fn who_syncs_the_world_is_named_beside_the_one_whose_data_it_is() {
    need_stage!();
    who_syncs_is_named(Filesystem::Ext4, "sync");
}

#[test]
fn who_syncs_an_ext4_is_named_beside_the_one_whose_data_it_is() {
    need_stage!();
    who_syncs_is_named(Filesystem::Ext4, "syncfs");
}

#[test]
fn who_syncs_the_filesystem_is_named_beside_the_one_whose_data_it_is() {
    need_stage!();
    who_syncs_is_named(Filesystem::Xfs, "syncfs");
}

#[test]
fn who_syncs_the_world_is_named_beside_the_one_whose_data_is_on_an_xfs() {
    need_stage!();
    who_syncs_is_named(Filesystem::Xfs, "sync");
}

#[test]
fn who_unmounts_an_overlay_on_an_ext4_is_named_beside_the_one_whose_data_it_is() {
    need_stage!();
    who_syncs_is_named(Filesystem::Ext4, "umount");
}

#[test]
fn who_unmounts_an_overlay_on_an_xfs_is_named_beside_the_one_whose_data_it_is() {
    need_stage!();
    who_syncs_is_named(Filesystem::Xfs, "umount");
}

/// The tenant writes past the page cache, so `sync` has nothing of it written.
#[test]
fn who_syncs_beside_a_direct_writer_is_not_named() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let slow = Model { write: Duration::from_millis(2), ..Model::default() };
        stage.disk.become_another(&slow).unwrap();
        let (tenant, backup) = (cgroup("writer"), cgroup("backup"));
        let writes = Fio { rw: "randwrite", block: "4k", depth: 24 };
        let writes = writes.prepare(stage.disk.mountpoint(), "writer").unwrap();
        let answer = watch_after(stage, QUIET, EVERY, |length| {
            let _writer = writes.start(&tenant).unwrap();
            for _ in 0..length.as_secs() {
                run(SYNC, &[], &backup).unwrap();
                sleep(SECOND);
            }
        });
        let writer = Actor { comm: "fio", cgroup: &tenant };
        let truth = Truth { kinds: &["owners"], culprits: &[writer], innocent: &[], slower: 1.2 };
        answer.judge("sync beside a direct writer", &truth);
        let worst = answer.verdict.culprits.iter().find(|culprit| writer.is(culprit)).unwrap();
        assert!(worst.trigger.is_none(), "{worst:?}");
    });
}
