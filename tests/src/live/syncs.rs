use std::{fs::File, io::Write as _, process::Command};

use tracer_lab::disk::Filesystem;

use super::{lab_disk, need_live, traced};
use crate::matrix::ways::{Ground, ROUNDS, WAYS, count_way};

/// Each way to sync is seen once per call, with its file, and no longer than it took, except
/// for what the tracer itself reports as unsupported here.
fn every_way_is_seen_once_per_call(filesystem: Filesystem) {
    let disk = lab_disk(filesystem);
    traced(|session| {
        let ground = Ground {
            filesystem: filesystem.name(),
            mountpoint: disk.mountpoint(),
            device: disk.name(),
        };
        let unsupported = session.unsupported();
        for way in &WAYS {
            if let Some(short) = count_way(session, ground, way, ROUNDS).unwrap() {
                assert!(short.said_by(&unsupported).is_some(), "{short:?}");
            }
        }
    });
}

#[test]
fn every_way_to_sync_is_seen_once_per_call_on_ext4() {
    need_live!();
    every_way_is_seen_once_per_call(Filesystem::Ext4);
}

#[test]
fn every_way_to_sync_is_seen_once_per_call_on_xfs() {
    need_live!();
    every_way_is_seen_once_per_call(Filesystem::Xfs);
}

#[test]
fn the_sync_of_another_process_is_not_booked_on_the_victim() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        let path = disk.mountpoint().join("shared");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        file.sync_all().unwrap();
        let mut other = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", "count=3", "conv=fsync", "status=none"])
            .arg(format!("of={}", path.display()))
            .spawn()
            .expect("dd is on every Debian");
        let id = other.id();
        assert!(other.wait().unwrap().success());

        let mut syncs = Vec::new();
        session.poll(Some(0), &mut syncs);
        let count = |tgid| syncs.iter().filter(|s| s.actor.tgid == tgid).count();
        assert_eq!(count(std::process::id()), 1);
        assert_eq!(count(id), 1);
        assert!(syncs.iter().filter(|s| s.actor.tgid == id).all(|s| s.actor.comm == "dd"));
        let snapshot = session.snapshot();
        let own = std::process::id();
        let victim = snapshot.victims.iter().find(|v| v.actor.tgid == own).unwrap();
        assert_eq!(victim.syncs_total, 1);
    });
}
