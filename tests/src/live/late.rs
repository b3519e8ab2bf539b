//! Disks that are attached after the start: they share their slots in the table of
//! requests in flight with all other late disks.

use std::{
    fs::File,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::session::Session;
use tracer_ebpf::dropped::Dropped;
use tracer_lab::{
    disk::{Filesystem, default_dir, read_stat},
    folder::{Folder, detach},
    tool::LOSETUP,
};
use tracer_snapshot::{Op, Snapshot};

use super::{
    block::{counts_equal, dropped, under_every_load},
    lab_disk, need_live, traced,
};
use crate::matrix::requests::{count, read_direct, settle};

const VOLUMES: usize = 200;

/// Loop devices over one file each; dropping this removes them.
struct Volumes {
    devices: Vec<String>,
    _folder: Folder,
}

impl Volumes {
    fn attach(count: usize) -> Self {
        let folder = Folder::create(&default_dir().unwrap()).unwrap();
        let attach = |at: usize| {
            let image = folder.path().join(format!("{at}.img"));
            File::create_new(&image).unwrap().set_len(1 << 20).unwrap();
            LOSETUP.run(&["--find", "--show", &image.to_string_lossy()]).unwrap()
        };
        Self { devices: (0..count).map(attach).collect(), _folder: folder }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.trim_start_matches("/dev/"))
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for device in &self.devices {
            if let Err(error) = detach(device) {
                eprintln!("`{device}` is left behind: {error:#}");
            }
        }
    }
}

/// The reads that the tracer and the kernel have counted on each disk.
fn reads(snapshot: &Snapshot, name: &str) -> (u64, u64) {
    (count(snapshot, name, Op::Read), read_stat(name).unwrap().reads)
}

/// Reads a little from each volume, which makes it known, and then more: each of these
/// reads is counted.
fn every_read_is_counted(session: &mut Session, volumes: &Volumes) {
    for device in &volumes.devices {
        read_direct(device, 1).unwrap();
        session.poll(None, &mut Vec::new());
    }
    let end = Instant::now() + Duration::from_secs(2);
    while !volumes.names().all(|name| session.snapshot().disks.iter().any(|d| d.name == name)) {
        assert!(Instant::now() < end, "a volume is not known within two seconds");
        sleep(Duration::from_millis(50));
        session.poll(None, &mut Vec::new());
    }
    let before = session.snapshot();
    let before: Vec<_> = volumes.names().map(|name| reads(&before, name)).collect();
    for (at, device) in volumes.devices.iter().enumerate() {
        read_direct(device, 1 + at as u64 % 7).unwrap();
        session.poll(None, &mut Vec::new());
    }
    sleep(Duration::from_millis(1100));
    session.poll(None, &mut Vec::new());
    let after = session.snapshot();
    for ((at, name), before) in volumes.names().enumerate().zip(before) {
        let after = reads(&after, name);
        assert_eq!(after.1 - before.1, 1 + at as u64 % 7, "{name}: reads by the kernel");
        assert_eq!(after.0 - before.0, after.1 - before.1, "{name}: reads by the tracer");
    }
    for kind in [Dropped::DiskRefused, Dropped::TableOverflow, Dropped::CompletionUnmatched] {
        assert_eq!(dropped(&after, kind), 0, "{}", kind.name());
    }
}

#[test]
fn two_hundred_volumes_that_come_late_are_followed_and_so_are_the_next_ones() {
    need_live!();
    traced(|session| {
        for _ in 0..2 {
            let volumes = Volumes::attach(VOLUMES);
            assert!(volumes.names().all(|name| Path::new("/sys/block").join(name).exists()));
            every_read_is_counted(session, &volumes);
        }
    });
}

#[test]
fn each_request_of_a_late_disk_is_counted_and_nothing_stays_in_flight() {
    need_live!();
    traced(|session| {
        let disk = lab_disk(Filesystem::Ext4);
        settle(session, disk.name()).unwrap();
        counts_equal(session, &disk);
        under_every_load(session, &disk, "none");
        let snapshot = session.snapshot();
        assert_eq!(dropped(&snapshot, Dropped::TableOverflow), 0);
        let disk = snapshot.disks.iter().find(|known| known.name == disk.name()).unwrap();
        assert_eq!(disk.uncounted_share, 0.0);
    });
}
