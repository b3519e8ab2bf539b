//! A trim that stalls a device, as a user would see it: the tracer's executable names the
//! process that trims while a write-ahead log waits.
//!
//! A discard is split into many pieces, which fill the scheduler's queue. The device serves
//! one request at a time, and each piece takes long, so a sync waits behind them.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tracer_lab::{
    cgroup::Cgroup,
    process::Process,
    tool::{FSTRIM, Tool, last_line},
    wal::WalWriter,
};

use super::{
    devices::{self, Device, Mounted, NullBlk, write},
    need, need_guest,
};
use crate::subject::Tracer;

const DMESG: Tool = Tool { name: "dmesg", package: "util-linux" };
/// The service time of every request.
const DELAY: Duration = Duration::from_millis(20);
/// The time between two snapshots; an emulated machine may be late.
const SNAPSHOT: Duration = Duration::from_secs(120);
/// The numbers of snapshots before and during the trim; each covers ten seconds.
const BEFORE: usize = 8;
const DURING: usize = 30;

/// The warnings in the kernel's log.
fn complaints() -> Vec<String> {
    let log = DMESG.run(&[]).expect("the kernel's log can be read");
    let words =
        ["WARNING:", "BUG:", "Oops", "INFO: task", "rcu_", "Lockdown:", "general protection"];
    log.lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .map(ToOwned::to_owned)
        .collect()
}

/// The victim that waits for its log, if it is listed.
fn log_of(snapshot: &Value) -> Option<&Value> {
    snapshot["victims"].as_array()?.iter().find(|victim| victim["file_class"] == "wal")
}

fn share_of_fstrim(victim: &Value) -> f64 {
    let culprits = victim["verdict"]["culprits"].as_array();
    let blame = culprits.and_then(|culprits| culprits.first());
    let first =
        blame.filter(|blame| blame["actor"]["comm"] == "fstrim" && blame["op"] == "discard");
    first.and_then(|blame| blame["share"].as_f64()).unwrap_or(0.0)
}

fn discards_of_fstrim(snapshot: &Value, disk: &str) -> u64 {
    let disks = snapshot["disks"].as_array().map_or(&[][..], Vec::as_slice);
    let owners = disks.iter().filter(|d| d["name"] == disk).filter_map(|d| d["owners"].as_array());
    let discards =
        owners.flatten().filter(|o| o["actor"]["comm"] == "fstrim" && o["op"] == "discard");
    discards.filter_map(|owner| owner["requests_total"].as_u64()).max().unwrap_or(0)
}

fn the_trim_is_named(device: &Device) {
    let queue = Path::new("/sys/block").join(&device.name).join("queue");
    write(&queue.join("discard_max_bytes"), &(512 << 10).to_string()).unwrap();
    devices::choose_scheduler(&queue, "mq-deadline").unwrap();
    devices::deepen(&queue).unwrap();
    let mounted = Mounted::ext4(&device.path()).expect("ext4 on the device");
    let before = complaints();

    let wal = WalWriter::start(&mounted.path().join("etcd"), 20).expect("a log is written");
    let mut top = Tracer::start(&["top", "--json", "--interval", "1"]);
    for _ in 0..BEFORE {
        top.json(SNAPSHOT);
    }
    let mut command = FSTRIM.command().unwrap();
    command.arg("-v").arg(mounted.path());
    let fstrim = Process::spawn(command, &Cgroup::create("trim").unwrap()).unwrap();
    let (mut share, mut discards) = (0.0, 0);
    for _ in 0..DURING {
        let snapshot = top.json(SNAPSHOT);
        discards = discards.max(discards_of_fstrim(&snapshot, &device.name));
        // A window with too few syncs has no verdict.
        if let Some(victim) =
            log_of(&snapshot).filter(|victim| victim["verdict"]["kind"] == "owners")
            && share_of_fstrim(victim) > share
        {
            share = share_of_fstrim(victim);
            let ms = victim["max_seconds"].as_f64().unwrap_or(0.0) * 1e3;
            println!("{}: fstrim {share:.2}, worst sync {ms:.0} ms", device.name);
        }
        if fstrim.ended().is_some() && share > 0.5 {
            break;
        }
    }
    top.interrupt();
    assert_eq!(top.wait(SNAPSHOT).code(), Some(0), "{}", top.transcript());
    let ended = fstrim.wait(Duration::from_secs(60)).expect("fstrim ends");
    assert!(ended.status.success(), "{}", last_line(&ended.stderr));
    drop(wal);

    assert!(discards > 20, "only {discards} discards of fstrim are seen");
    assert!(share > 0.5, "fstrim has a share of {share}: {}", top.transcript());
    assert_eq!(complaints(), before);
}

#[test]
fn a_trim_that_stalls_a_disk_is_named() {
    need_guest!();
    need!(&["configfs", "null_blk"], &[FSTRIM, DMESG]);
    let wanted = NullBlk { delay: DELAY, depth: 1, ..NullBlk::default() };
    the_trim_is_named(&devices::null_blk(wanted).expect("a null_blk of our own"));
}

#[test]
fn a_trim_that_stalls_a_scsi_disk_is_named() {
    need_guest!();
    need!(&["sd_mod"], &[FSTRIM, DMESG]);
    the_trim_is_named(&devices::scsi_debug(DELAY, 1).expect("a scsi_debug of our own"));
}
