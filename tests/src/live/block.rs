use std::{
    fs::{self, File},
    io::Write as _,
    process::{Child, Command},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use tracer::session::{Options, Session};
use tracer_disk_model::Model;
use tracer_ebpf::dropped::Dropped;
use tracer_kernel::capability::Capability;
use tracer_lab::{
    disk::{Filesystem, LoopDisk},
    node::without_schedulers,
};
use tracer_node::disks::{self, BlockDisk};
use tracer_snapshot::{Op, Snapshot};

use super::{lab_disk, need_live, traced, traced_with};
use crate::{
    matrix::requests::{count, mixed_load, nothing_leaks, read_direct, settle, trim},
    simulated::SimulatedDisk,
};

fn bytes(snapshot: &Snapshot, disk: &str, op: Op) -> u64 {
    let disk = snapshot.disks.iter().find(|d| d.name == disk).expect("the lab's disk is traced");
    disk.owners.iter().filter(|o| o.op == op).map(|o| o.bytes_total).sum()
}

/// The tracer's counter of one kind of dropped things.
pub fn dropped(snapshot: &Snapshot, kind: Dropped) -> u64 {
    let mut counters = snapshot.dropped.counters.iter();
    counters.find(|(name, _)| *name == kind.name()).expect("every kind is counted").1
}

#[test]
fn counts_and_bytes_of_each_operation_equal_the_kernels_own() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| counts_equal(session, &disk));
}

/// A mixed load and a trim: each request is counted, and each byte of the trim.
pub fn counts_equal(session: &mut Session, disk: &LoopDisk) {
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
    if session.unsupported().iter().any(|unsupported| unsupported.what == "flush") {
        // The kernel counts flushes without data as writes.
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
    // Owners are listed while they are active; fstrim was, in the last second.
    assert!(ours == 0 || ours == discarded, "{ours} of {discarded} bytes discarded");
}

fn fio(disk: &LoopDisk, args: &[&str]) -> Child {
    Command::new("fio")
        .args(["--name=load", "--ioengine=libaio", "--iodepth=32", "--direct=1", "--size=128m"])
        // Threads end with a process that is killed; its children would not.
        .args(["--thread", "--time_based", "--runtime=20", "--output=/dev/null"])
        .arg(format!("--directory={}", disk.mountpoint().display()))
        .args(args)
        .spawn()
        .expect("fio is installed (`cargo xtask setup`)")
}

/// Lets time pass, and polls so that the ring does not fill.
fn watch(session: &mut Session, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(20));
        session.poll(None, &mut Vec::new());
    }
}

/// Waits until the tracer knows a scheduler that was just selected. Before that, it takes a
/// request whose completion was missed for one that waits in the scheduler.
fn wait_for_hook(session: &mut Session, disk: &LoopDisk) {
    let end = Instant::now() + Duration::from_secs(10);
    while !session.is_attached(Capability::Issue) {
        assert!(Instant::now() < end, "issues have no hook");
        // The tracer looks only at disks with requests.
        read_direct(disk.device(), 1).unwrap();
        watch(session, Duration::from_millis(100));
    }
}

/// Arguments of fio.
const LOADS: [(&str, &[&str]); 3] = [
    ("random writes", &["--rw=randwrite", "--bs=4k", "--fdatasync=8"]),
    ("random reads", &["--rw=randread", "--bs=4k"]),
    // Small sequential writes merge in a scheduler.
    ("merging writes", &["--rw=write", "--bs=4k", "--direct=0", "--fsync=256"]),
];

/// Plays up to three times until a play is good; returns that one's result or the last one's.
///
/// Now and then the kernel runs no program for the completions of one interrupt: 31 at once
/// were seen, two tracers side by side miss the same ones, and the kernel counts none as
/// skipped. A fault of ours occurs every time.
pub fn in_three_plays<T, E>(mut play: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    play().or_else(|_| play()).or_else(|_| play())
}

/// Plays loads that are killed in the middle.
///
/// A load is played again if completions were missed, see [`in_three_plays`].
pub fn under_every_load(session: &mut Session, disk: &LoopDisk, scheduler: &str) {
    for (name, args) in LOADS {
        let mut play = || {
            let mut load = fio(disk, args);
            watch(session, Duration::from_millis(1500));
            load.kill().unwrap();
            load.wait().unwrap();
            let result = nothing_leaks(session, disk.name());
            result.inspect_err(|error| println!("{name} under {scheduler}: {error:#}"))
        };
        in_three_plays(&mut play)
            .unwrap_or_else(|error| panic!("{name} under {scheduler}: {error:#}"));
    }
}

/// A loop device keeps what its last disk was limited to, and the next disk gets the same
/// device: a test that measures writeback would measure another test's limit.
#[test]
fn a_disk_has_no_limits_of_the_one_before_it() {
    need_live!();
    let limits = |disk: &LoopDisk| {
        let number = fs::read_to_string(format!("/sys/block/{}/dev", disk.name())).unwrap();
        let read = |name| {
            let path = format!("/sys/class/bdi/{}/{name}", number.trim());
            fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap()
        };
        (read("strict_limit"), read("max_bytes"))
    };
    if !std::path::Path::new("/sys/class/bdi/7:0/max_bytes").exists() {
        crate::skip::skip!("this kernel has no limit of dirty bytes per disk");
    }
    let disk = lab_disk(Filesystem::Ext4);
    let (name, before) = (disk.name().to_owned(), limits(&disk));
    disk.limit_dirty(4 << 20).unwrap();
    let limited = limits(&disk);
    assert!(limited.0 == 1 && limited.1 < 8 << 20, "{limited:?}");
    drop(disk);
    let next = lab_disk(Filesystem::Ext4);
    assert_eq!(next.name(), name, "the first device that is free");
    let (strict, bytes) = limits(&next);
    assert_eq!(strict, 0);
    // The whole of what the kernel lets be dirty, which varies with the free memory.
    assert!(bytes > before.1 / 2 && bytes > 64 << 20, "{bytes} after {}", before.1);
}

#[test]
fn no_load_leaves_anything_in_flight_under_any_scheduler() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let node = without_schedulers(Some(disk.name())).unwrap();
    let options = Options { root: node.path().to_owned(), ..Options::default() };
    traced_with(&options, |session| {
        for scheduler in ["none", "mq-deadline", "bfq", "kyber"] {
            if disk.set_scheduler(scheduler).is_err() {
                println!("no scheduler `{scheduler}` here");
                continue;
            }
            if scheduler != "none" {
                wait_for_hook(session, &disk);
            }
            println!("{scheduler}: hooked: {}", session.is_attached(Capability::Issue));
            under_every_load(session, &disk, scheduler);
        }
        let dropped = session.snapshot().dropped;
        // The root disk's ends in interrupts may be missed too, and reconciled; and files
        // of other disks, the one below the loop device among them, are written back that
        // were dirty before the tracer came.
        let may = [
            Dropped::DirtierUnknown,
            Dropped::IdentityUnresolved,
            Dropped::FileUnresolved,
            Dropped::HookMissed,
            Dropped::Reconciled,
        ];
        let may = may.map(Dropped::name);
        for (kind, n) in dropped.counters {
            assert!(may.contains(&kind) || n == 0, "{kind}: {n}");
        }
    });
}

/// Measures through the kernel's notes, where the disk's queue keeps them, and through a
/// hook on each issue. For reads one after the other, the device's time is at least what
/// the disk takes for them, and together with the queue's at most the time that passed.
#[test]
fn when_a_request_was_given_to_its_driver_is_known_with_a_hook_and_without() {
    const READS: u32 = 200;
    const READ: Duration = Duration::from_millis(4);
    need_live!();
    let simulated = SimulatedDisk::create(Filesystem::Ext4).unwrap();
    simulated.become_another(&Model { read: READ, ..Model::default() }).unwrap();
    let disk = simulated.disk();
    let node = without_schedulers(Some(disk.name())).unwrap();
    let queues = disks::Queues::new(node.path());
    let mut disks = disks::scan(&queues, &disks::Hidden::default())
        .unwrap()
        .into_iter()
        .filter(BlockDisk::has_requests);
    let is_needed = disks.any(|disk| disks::needs_issues(&queues, &disk.name));
    for forced in [&[][..], &["issue=tracepoint"]] {
        let forced: Vec<_> = forced.iter().map(|strategy| strategy.parse().unwrap()).collect();
        let is_wanted = is_needed || !forced.is_empty();
        let options = Options { forced, root: node.path().to_owned(), ..Options::default() };
        traced_with(&options, |session| {
            settle(session, disk.name()).unwrap();
            let is_hooked = session.is_attached(Capability::Issue);
            // The hook is also there where submissions have none, or notes turn out missing.
            assert!(is_hooked || !is_wanted);
            let before = times_of_reads(&session.snapshot(), disk.name());
            let begin = Instant::now();
            read_direct(disk.device(), READS.into()).unwrap();
            let took = begin.elapsed().as_secs_f64();
            let snapshot = session.snapshot();
            assert_eq!(dropped(&snapshot, Dropped::IssueUnseen), 0);
            let after = times_of_reads(&snapshot, disk.name());
            let (queue, device) = (after.0 - before.0, after.1 - before.1);
            println!("hooked: {is_hooked}: queue {queue} s, device {device} s of {took} s");
            // Sums are right to 3 %.
            assert!(queue + device <= 1.05 * took, "{queue} s and {device} s of {took} s");
            assert!(device >= 0.95 * (READS * READ).as_secs_f64(), "{device} s of {took} s");
        });
    }
}

/// The seconds that reads spent in the queue and in the device.
fn times_of_reads(snapshot: &Snapshot, disk: &str) -> (f64, f64) {
    let disk = snapshot.disks.iter().find(|d| d.name == disk).expect("the lab's disk is traced");
    let reads = disk.latencies.iter().find(|l| l.op == Op::Read);
    reads.map_or((0.0, 0.0), |reads| (reads.queue.seconds, reads.device.seconds))
}

/// The kernel counts neither a flush as in flight nor a request that waits for one.
#[test]
fn what_waits_for_a_long_flush_is_not_taken_for_ended() {
    const FLUSH: Duration = Duration::from_secs(6);
    need_live!();
    // Without ext4's own thread, whose reads would keep the driver busy.
    let disk = SimulatedDisk::create(Filesystem::Xfs).unwrap();
    let node = without_schedulers(Some(disk.name())).unwrap();
    let options = Options { root: node.path().to_owned(), ..Options::default() };
    traced_with(&options, |session| {
        let mut file = File::create(disk.mountpoint().join("flushed")).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        settle(session, disk.name()).unwrap();
        disk.become_another(&Model { flush: FLUSH, ..Model::default() }).unwrap();
        let sync = spawn(move || file.sync_all().unwrap());
        watch(session, FLUSH.mul_f64(0.75));
        let accounts = session.accounts_of(disk.name());
        let is_in_flight = accounts.iter().any(|(_, account)| account.word != 0);
        let is_over = sync.is_finished();
        disk.become_another(&Model::default()).unwrap();
        sync.join().unwrap();
        assert!(!is_over, "the flush took no time");
        assert!(is_in_flight, "hooked: {}: {accounts:?}", session.is_attached(Capability::Issue));
    });
}

#[test]
fn a_scheduler_changed_under_load_is_reconciled() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let node = without_schedulers(Some(disk.name())).unwrap();
    let options = Options { root: node.path().to_owned(), ..Options::default() };
    traced_with(&options, |session| {
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
