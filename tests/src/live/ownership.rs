//! The actors that kernel threads work for, the contents of a journal, and the time that a
//! request takes alone.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer::session::Session;
use tracer_disk_model::Model;
use tracer_ebpf::record::via;
use tracer_engine::blame::ActorId;
use tracer_kernel::capability::Capability;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk},
    process::Process,
    tool::{DD, FIO, Tool, last_line},
};
use tracer_node::devices;
use tracer_snapshot::{Op, OwnerRow};

use super::{block::in_three_plays, lab_disk, need_live, traced, traced_through};
use crate::{matrix::requests::settle, simulated::SimulatedDisk};

const WRITTEN_BYTES: u64 = 4 << 20;
const SYNC: Tool = Tool { name: "sync", package: "coreutils" };
const TOUCH: Tool = Tool { name: "touch", package: "coreutils" };
const LONG: Duration = Duration::from_secs(60);

fn run(command: Command, cgroup: &Cgroup) -> u32 {
    let process = Process::spawn(command, cgroup).unwrap();
    let ended = process.wait(LONG).expect("it ends");
    assert!(ended.status.success(), "{}", last_line(&ended.stderr));
    process.pid()
}

/// Lets time pass, and looks at what each of these seconds was like.
fn watch(session: &mut Session, time: Duration, mut look: impl FnMut(&mut Session)) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(50));
        session.poll(None, &mut Vec::new());
        look(session);
    }
}

/// Runs a process that writes to a file, and ends before anything is on the disk.
fn write_and_leave(file: &Path, cgroup: &Cgroup) -> u32 {
    let mut command = DD.command().unwrap();
    command.args(["if=/dev/zero", "bs=64k", "status=none"]);
    command.arg(format!("count={}", WRITTEN_BYTES >> 16));
    command.arg(format!("of={}", file.display()));
    run(command, cgroup)
}

/// Makes the flusher write everything back, and waits for it.
fn write_back(disk: &LoopDisk) {
    let mut command = SYNC.command().unwrap();
    command.arg("-f").arg(disk.mountpoint());
    run(command, &Cgroup::none());
}

fn is_unsupported(session: &Session, capability: Capability) -> bool {
    session.unsupported().iter().any(|unsupported| unsupported.what == capability.name())
}

fn what_is_written_back_is_who_wrote_its(filesystem: Filesystem) {
    let disk = lab_disk(filesystem);
    traced(|session| {
        assert!(!is_unsupported(session, Capability::Writeback));
        settle(session, disk.name()).unwrap();
        let tenant = Cgroup::create("writer").unwrap();
        let pid = write_and_leave(&disk.mountpoint().join("file"), &tenant);
        write_back(&disk);

        let (mut of_writer, mut of_workers) = (0, 0);
        let mut rows: Vec<OwnerRow> = Vec::new();
        // The next search through all cgroups may begin some seconds later.
        watch(session, Duration::from_secs(5), |session| {
            let snapshot = session.snapshot();
            let disk = snapshot.disks.iter().find(|d| d.name == disk.name()).unwrap();
            for row in disk.owners.iter().filter(|row| row.op == Op::Write) {
                if row.actor.comm == "dd" {
                    of_writer = row.bytes_total.max(of_writer);
                    assert!(!row.actor.kernel_thread, "{row:?}");
                    assert_eq!(row.actor.tgid, pid, "{row:?}");
                    let is_right = row.actor.cgroup.is_empty() || row.actor.cgroup == tenant.path();
                    assert!(tenant.is_none() || is_right, "{row:?}");
                } else if row.actor.comm.starts_with("kworker") {
                    of_workers = row.bytes_total.max(of_workers);
                }
                rows.push(row.clone());
            }
        });
        let keys = session.owners_of(disk.name()).into_iter();
        let mut actors = keys.filter(|key| key.comm.starts_with(b"dd\0")).map(|key| ActorId {
            cgroup: key.cgroup,
            comm: key.comm,
            kthread: false,
        });
        let known = actors.any(|actor| session.actor(&actor).cgroup == tenant.path());
        assert!(tenant.is_none() || known, "its cgroup stays unknown: {rows:#?}");
        assert!(of_writer >= WRITTEN_BYTES, "{of_writer} bytes of {WRITTEN_BYTES}: {rows:#?}");
        assert!(
            of_workers < WRITTEN_BYTES / 4,
            "{of_workers} bytes are charged to workers: {rows:#?}"
        );
        let owners = session.owners_of(disk.name());
        // On xfs a worker may write a little of the log itself.
        let mut via = owners.iter().filter(|key| key.comm.starts_with(b"dd\0")).map(|key| key.via);
        assert!(via.any(|via| via == via::WRITEBACK), "{owners:?}");
    });
}

#[test]
fn what_is_written_back_is_who_wrote_its_on_ext4() {
    need_live!();
    what_is_written_back_is_who_wrote_its(Filesystem::Ext4);
}

#[test]
fn what_is_written_back_is_who_wrote_its_on_xfs() {
    need_live!();
    what_is_written_back_is_who_wrote_its(Filesystem::Xfs);
}

/// Bytes of the file that is dirty all the time, and the most of them that may be dirty.
const REWRITTEN_BYTES: u64 = 512 << 20;
const DIRTY_BYTES: u64 = 256 << 20;

/// A file that never becomes clean: the kernel reports only who makes a clean one dirty.
#[test]
fn who_wrote_before_the_tracer_came_and_still_does_is_named() {
    need_live!();
    let simulated = SimulatedDisk::create(Filesystem::Ext4).unwrap();
    simulated.become_another(&Model { bytes_per_second: 25_000_000, ..Model::default() }).unwrap();
    let disk = simulated.disk();
    disk.limit_dirty(DIRTY_BYTES).unwrap();
    let tenant = Cgroup::create("rewriter").unwrap();
    let mut command = FIO.command().unwrap();
    command.args(["--name=rewrite", "--rw=write", "--bs=64k", "--ioengine=psync"]);
    command.args(["--time_based", "--runtime=90", "--fallocate=none"]);
    command.arg(format!("--size={REWRITTEN_BYTES}"));
    command.arg(format!("--filename={}", disk.mountpoint().join("file").display()));
    let writer = Process::spawn(command, &tenant).unwrap();
    sleep(Duration::from_secs(3));
    traced(|session| {
        let of_writer = |session: &mut Session| {
            let snapshot = session.snapshot();
            let disk = snapshot.disks.iter().find(|d| d.name == disk.name()).unwrap();
            let writes = disk.owners.iter().filter(|row| row.op == Op::Write);
            let bytes = |of: &str| {
                let rows = writes.clone().filter(|row| row.actor.comm.starts_with(of));
                rows.map(|row| row.bytes_total).sum::<u64>()
            };
            (bytes("fio"), bytes("kworker"))
        };
        // It is looked for once some requests had no owner. What was submitted by then, which is
        // a long queue, is the worker's.
        let until = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        let mut before = of_writer(session);
        while Instant::now() < until {
            watch(session, Duration::from_secs(4), |_| {});
            let now = of_writer(session);
            // An owner that is idle has no row.
            let written = now.0.saturating_sub(before.0);
            let of_workers = now.1.saturating_sub(before.1);
            if written > 32 << 20 && of_workers < written / 10 {
                assert!(writer.ended().is_none(), "fio has ended");
                return;
            }
            seen.push((written, of_workers));
            before = now;
        }
        panic!("bytes that are charged to fio and to workers, in four seconds each: {seen:?}");
    });
}

#[test]
fn who_creates_files_fills_the_journal() {
    const FILES: u32 = 300;
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    // Asked for by name, its hooks are attached though nothing waits for the journal.
    traced_through(vec!["metadata=tracepoint".parse().expect("a strategy")], |session| {
        if is_unsupported(session, Capability::Metadata) {
            crate::skip::skip!("this kernel does not show which process fills a journal");
        }
        settle(session, disk.name()).unwrap();
        let device = devices::from_stat(fs::metadata(disk.mountpoint()).unwrap().dev());
        let tenant = Cgroup::create("creator").unwrap();
        let folders = disk.mountpoint().join("many");
        fs::create_dir(&folders).unwrap();
        let mut command = TOUCH.command().unwrap();
        command.args((0..FILES).map(|n| folders.join(n.to_string())));
        run(command, &tenant);

        let (mut blocks, mut last_ns) = (0, 0);
        watch(session, Duration::from_millis(2500), |session| {
            let around = session.last_tick();
            if around.at_ns == last_ns {
                return;
            }
            last_ns = around.at_ns;
            for work in around.journals.iter().filter(|work| work.device == device) {
                let key = session.owner(work.owner);
                if key.comm.starts_with(b"touch\0") {
                    assert!(tenant.is_none() || key.cgroup == tenant.id(), "{key:?}");
                    blocks += work.blocks;
                }
            }
        });
        // A block counts once in a transaction. The inodes alone, with 256 bytes each, fill
        // this number of blocks.
        assert!(blocks >= u64::from(FILES) * 256 / 4096, "{blocks} blocks for {FILES} files");
    });
}

#[test]
fn what_a_request_takes_on_a_rested_disk_is_learnt() {
    const READS: u64 = 200;
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        settle(session, disk.name()).unwrap();
        let learnt = |session: &mut Session| {
            let snapshot = session.snapshot();
            let disk = snapshot.disks.iter().find(|d| d.name == disk.name()).unwrap().clone();
            let mut work = disk.work.iter();
            let read = work.find(|w| w.op == Op::Read && w.size_bytes_up_to == Some(4096)).cloned();
            (read, disk)
        };
        let play = || {
            let before = learnt(session).0.map_or(0, |read| read.samples);
            // With some milliseconds between them, in which the disk rests. At a rate,
            // a late fio would catch up, with reads close behind each other.
            let mut command = FIO.command().unwrap();
            command.args(["--name=reads", "--rw=read", "--bs=4k", "--direct=1"]);
            command.args(["--ioengine=psync", "--thinktime=4ms"]);
            command.arg(format!("--number_ios={READS}"));
            command.arg(format!("--filename={}", disk.device()));
            run(command, &Cgroup::none());
            watch(session, Duration::from_millis(2200), |_| {});
            let (read, disk) = learnt(session);
            let read =
                read.unwrap_or_else(|| panic!("no cost of reads was learnt: {:?}", disk.work));
            let new = read.samples - before;
            if new >= READS * 9 / 10 {
                Ok((read, disk))
            } else {
                Err(format!("{new} of {READS} reads, {read:?}"))
            }
        };
        // A request whose end was missed seems to be beside the reads until its tag is
        // used again: see `in_three_plays`.
        let (read, disk_row) = in_three_plays(play).unwrap();

        // One after another: behind a limit each would wait for its turn.
        let mut command = DD.command().unwrap();
        command.args(["iflag=direct", "bs=4k", "of=/dev/null", "status=none"]);
        command.arg(format!("count={READS}")).arg(format!("if={}", disk.device()));
        run(command, &Cgroup::none());
        watch(session, Duration::from_millis(2200), |_| {});
        let after = learnt(session).0.unwrap();
        assert!(after.samples - read.samples <= READS / 10, "{read:?}, then {after:?}");
        let usual = disk_row.latencies.iter().find(|l| l.op == Op::Read).unwrap();
        let (low, high) = (usual.device_p50_seconds / 4.0, usual.device_p99_seconds * 4.0);
        assert!((low..high).contains(&read.seconds), "{read:?} of {usual:?}");
    });
}
