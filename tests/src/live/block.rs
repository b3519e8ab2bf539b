use std::{
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::{
    lab::disk::{Filesystem, LoopDisk},
    session::Session,
    snapshot::{Op, Snapshot},
};

use super::{lab_disk, need_live, traced};
use crate::matrix::requests::{count, mixed_load, nothing_leaks, settle, trim};

fn bytes(snapshot: &Snapshot, disk: &str, op: Op) -> u64 {
    let disk = snapshot.disks.iter().find(|d| d.name == disk).expect("the lab's disk is traced");
    disk.owners.iter().filter(|o| o.op == op).map(|o| o.bytes_total).sum()
}

#[test]
fn counts_and_bytes_of_each_operation_equal_the_kernels_own() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        settle(session, disk.name()).unwrap();
        let (before, first) = (disk.stat().unwrap(), session.snapshot());
        mixed_load(disk.mountpoint(), disk.device()).unwrap();
        trim(disk.mountpoint()).unwrap();
        settle(session, disk.name()).unwrap();
        sleep(Duration::from_millis(1100));
        let (after, last) = (disk.stat().unwrap(), session.snapshot());
        let ours = |op| count(&last, disk.name(), op) - count(&first, disk.name(), op);
        assert_eq!(ours(Op::Read), after.reads - before.reads, "reads");
        // The kernel counts write-zeroes as writes.
        let writes = ours(Op::Write) + ours(Op::WriteZeroes);
        let theirs = after.writes - before.writes;
        if session.blind().iter().any(|blind| blind.what == "flush") {
            // Flushes without data are writes to the kernel.
            assert!(writes <= theirs, "{writes} of {theirs} writes");
        } else {
            assert_eq!(writes, theirs, "writes");
        }
        assert_eq!(ours(Op::Discard), after.discards - before.discards, "discards");
        assert_eq!(ours(Op::Flush), after.flushes - before.flushes, "flushes");
        for op in [Op::Read, Op::Write, Op::Discard, Op::Flush] {
            assert!(ours(op) > 0, "the load made no {}", op.name());
        }
        let discarded = 512 * (after.discard_sectors - before.discard_sectors);
        let ours = bytes(&last, disk.name(), Op::Discard);
        // Owners are told while they are active; fstrim was, in the last second.
        assert!(ours == 0 || ours == discarded, "{ours} of {discarded} bytes discarded");
    });
}

fn fio(disk: &LoopDisk, args: &[&str]) -> Child {
    Command::new("fio")
        .args(["--name=load", "--ioengine=libaio", "--iodepth=32", "--direct=1", "--size=128m"])
        // Threads end with the process that is killed; its children would not.
        .args(["--thread", "--time_based", "--runtime=20", "--output=/dev/null"])
        .arg(format!("--directory={}", disk.mountpoint().display()))
        .args(args)
        .spawn()
        .expect("fio is installed (`cargo xtask setup`)")
}

/// Lets time pass and keeps the ring from filling meanwhile.
fn watch(session: &mut Session, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(20));
        session.poll(None, &mut Vec::new());
    }
}

#[test]
fn no_load_leaves_anything_in_flight_under_any_scheduler() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let loads: [(&str, &[&str]); 3] = [
        ("random writes", &["--rw=randwrite", "--bs=4k", "--fdatasync=8"]),
        ("random reads", &["--rw=randread", "--bs=4k"]),
        // Small sequential writes merge in a scheduler.
        ("merging writes", &["--rw=write", "--bs=4k", "--direct=0", "--fsync=256"]),
    ];
    traced(|session| {
        for scheduler in ["none", "mq-deadline", "bfq", "kyber"] {
            if disk.set_scheduler(scheduler).is_err() {
                println!("no scheduler `{scheduler}` here");
                continue;
            }
            for (name, args) in loads {
                let mut load = fio(&disk, args);
                watch(session, Duration::from_millis(1500));
                // Killed in the middle.
                load.kill().unwrap();
                load.wait().unwrap();
                nothing_leaks(session, disk.name())
                    .unwrap_or_else(|error| panic!("{name} under {scheduler}: {error:#}"));
            }
        }
        let losses = session.snapshot().losses;
        // The root disk's ends in interrupts may be missed too, and healed.
        let may = ["identity_unresolved", "file_unresolved", "hook_missed", "healed"];
        for (kind, n) in losses.counters {
            assert!(may.contains(&kind) || n == 0, "{kind}: {n}");
        }
    });
}

#[test]
fn a_scheduler_changed_under_load_heals() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        let mut load = fio(&disk, &["--rw=randwrite", "--bs=4k"]);
        for scheduler in ["mq-deadline", "none", "mq-deadline", "none"] {
            watch(session, Duration::from_millis(500));
            disk.set_scheduler(scheduler).expect("mq-deadline is in every kernel");
        }
        load.kill().unwrap();
        load.wait().unwrap();
        nothing_leaks(session, disk.name()).unwrap();
    });
}
