//! Verdicts on stacked disks: nobody is named while the stack is idle, the tenant is named
//! while it writes, and the device while the disk below is slow. A kernel thread that does
//! others' work is never named.

use std::{process::Command, time::Duration};

use anyhow::Result;
use tracer_lab::{cgroup::Cgroup, process::Process, wal::WalWriter};

use super::{
    devices::{self, DMSETUP, Device, MDADM, Mounted, NullBlk, write},
    need, need_guest,
    verdicts::{SNAPSHOT, Wrong, start_top, watch},
};

/// The time of each request of the disk, which serves one at a time.
const EACH: Duration = Duration::from_millis(1);
/// The delay of each bio while the disk below is slow.
const SLOW: Duration = Duration::from_millis(30);
const PER_SECOND: u32 = 20;
/// Snapshots of ten seconds' window, one a second.
const LEARNING: usize = 25;
const IDLE: usize = 10;
const LOADED: usize = 20;
const AFTER: usize = 14;
const WRITERS: usize = 6;

const MODULES: [&str; 4] = ["configfs", "null_blk", "dm-mod", "dm-delay"];

/// A disk that serves one request at a time, below a layer that can hold it up.
fn slow_disk(name: &str) -> Result<Device> {
    let wanted = NullBlk { delay: EACH, depth: 1, size_mib: 224, ..NullBlk::default() };
    devices::delayed(name, devices::null_blk(wanted)?)
}

fn slow_disks(count: usize) -> Result<Vec<Device>> {
    (0..count).map(|at| slow_disk(&format!("tracer-slow-{at}"))).collect()
}

/// Kernel threads that do the work of a stack.
fn is_carrier(name: &str) -> bool {
    name.starts_with("dmcrypt")
        || name.starts_with("kworker")
        || name.starts_with("kcryptd")
        || name.starts_with("kdelayd")
        || name.starts_with("md")
        || name.starts_with("dm-")
        || name.starts_with("loop")
}

/// Several processes that write to a file in turn, until they are dropped.
fn tenant(path: &str, cgroup: &Cgroup, direct: bool) -> Vec<Process> {
    let flags = if direct { "oflag=direct" } else { "" };
    (0..WRITERS)
        .map(|at| {
            let line = format!(
                "while :; do dd if=/dev/zero of={path}-{at} bs=64k count=64 conv=notrunc {flags} \
                 status=none || exit 1; done"
            );
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &line]);
            Process::spawn(command, cgroup).expect("a tenant")
        })
        .collect()
}

/// Makes the kernel write dirty pages soon.
fn write_back_soon() {
    for (file, value) in [("dirty_bytes", "8388608"), ("dirty_background_bytes", "2097152")] {
        write(&std::path::Path::new("/proc/sys/vm").join(file), value).unwrap();
    }
}

/// Plays the stack without a neighbour, with one, and with a slow disk below it.
fn judge(device: &Device, slow: &str, below: &[&str]) {
    write_back_soon();
    let mounted = Mounted::ext4(&device.path()).expect("ext4 on the device");
    let wal = WalWriter::start(&mounted.path().join("etcd"), PER_SECOND).expect("a log");
    let mut top = start_top();
    let mut wrong = Wrong::default();

    let learning = watch(&mut top, LEARNING);
    wrong.check("learning", &learning, 0, |said| said.worst.is_none());
    let idle = watch(&mut top, IDLE);
    wrong.check("idle", &idle, 0, |said| said.kind == "none" && said.has_baseline);

    for direct in [true, false] {
        let name = if direct { "direct tenant" } else { "buffered tenant" };
        let path = mounted.path().join(if direct { "direct" } else { "buffered" });
        let cgroup = Cgroup::create("tenant").unwrap();
        let tenants = tenant(&path.to_string_lossy(), &cgroup, direct);
        let snapshots = watch(&mut top, LOADED);
        drop(tenants);
        let settled = &snapshots[snapshots.len() / 2..];
        wrong.check(name, settled, settled.len() / 5, |said| {
            said.worst.as_ref().is_some_and(|(name, share)| name == "dd" && *share > 0.5)
        });
        wrong.check(&format!("carriers beside a {name}"), &snapshots, 0, |said| {
            !said.behind.iter().any(|name| is_carrier(name))
        });
        let after = watch(&mut top, AFTER);
        wrong.check(&format!("carriers after a {name}"), &after, 0, |said| {
            !said.behind.iter().any(|name| is_carrier(name))
        });
    }

    devices::set_delay(slow, SLOW).unwrap();
    let snapshots = watch(&mut top, LOADED);
    devices::set_delay(slow, Duration::ZERO).unwrap();
    let settled = &snapshots[snapshots.len() / 2..];
    wrong.check("slow device", settled, 1, |said| said.kind == "device");
    wrong.check("its name", settled, 0, |said| {
        below.iter().all(|disk| said.disks_below.contains(disk))
    });
    top.interrupt();
    let ended = top.wait(SNAPSHOT);
    drop(wal);
    assert_eq!(ended.code(), Some(0), "{}", top.transcript());
    wrong.end();
}

#[test]
fn dm_crypt() {
    need_guest!();
    need!(&["dm-crypt", "xts"], &[DMSETUP]);
    need!(&MODULES, &[]);
    let device = devices::crypt_on(slow_disk("tracer-slow-0").unwrap()).unwrap();
    judge(&device, "tracer-slow-0", &["dm-", "nullb"]);
}

/// A volume of LVM in an encrypted disk.
#[test]
fn dm_linear_on_dm_crypt() {
    need_guest!();
    need!(&["dm-crypt", "xts"], &[DMSETUP]);
    need!(&MODULES, &[]);
    let encrypted = devices::crypt_on(slow_disk("tracer-slow-0").unwrap()).unwrap();
    let device = devices::linear_on(encrypted).unwrap();
    judge(&device, "tracer-slow-0", &["dm-", "nullb"]);
}

#[test]
fn dm_thin() {
    need_guest!();
    need!(&["dm-thin-pool"], &[DMSETUP]);
    need!(&MODULES, &[]);
    let device = devices::thin_on(slow_disk("tracer-slow-0").unwrap()).unwrap();
    judge(&device, "tracer-slow-0", &["dm-", "nullb"]);
}

#[test]
fn md_raid1() {
    need_guest!();
    need!(&["md-mod", "raid1"], &[DMSETUP, MDADM]);
    need!(&MODULES, &[]);
    let device = devices::raid1_on(slow_disks(2).unwrap()).unwrap();
    judge(&device, "tracer-slow-1", &["dm-", "nullb"]);
}

#[test]
fn md_raid5() {
    need_guest!();
    need!(&["md-mod", "raid456"], &[DMSETUP, MDADM]);
    need!(&MODULES, &[]);
    let device = devices::raid5_on(slow_disks(3).unwrap()).unwrap();
    // A sync's record has room for three disks below, and there are three members.
    judge(&device, "tracer-slow-1", &["dm-"]);
}
