//! Tests with real cgroups and the io controller: owners are identified by their cgroups,
//! and nobody is blamed if a victim is slowed by its own limit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tracer::session::Session;
use tracer_ebpf::record::{OwnerKey, via};
use tracer_lab::{
    cgroup::Cgroup,
    process::Process,
    tool::{DD, Tool, last_line},
};
use tracer_snapshot::{Kind, Op, Snapshot};

use super::{
    devices::{self, Device, Mounted, NullBlk, write},
    need, need_guest,
};
use crate::{live::traced, matrix::requests::meet};

const HIERARCHY: &str = "/sys/fs/cgroup";
const SYNC: Tool = Tool { name: "sync", package: "coreutils" };
const MODULES: [&str; 2] = ["configfs", "null_blk"];
/// The service time of every request, so that there is something in flight to see.
const DELAY: Duration = Duration::from_millis(20);
/// The timeout of anything that takes seconds on an emulated machine.
const LONG: Duration = Duration::from_secs(120);

pub(super) fn folder(cgroup: &Cgroup) -> PathBuf {
    Path::new(HIERARCHY).join(cgroup.path().trim_start_matches('/'))
}

/// Makes a cgroup with the io controller and the memory controller; without the latter,
/// writeback is charged to no cgroup.
pub(super) fn cgroup_with_io(name: &str) -> Result<Cgroup> {
    let cgroup = Cgroup::create(name)?;
    ensure!(!cgroup.is_none(), "there is no cgroup2");
    let folder = folder(&cgroup);
    let run = folder.parent().context("a cgroup lies in the run's folder")?;
    for above in [Path::new(HIERARCHY), run] {
        write(&above.join("cgroup.subtree_control"), "+io +memory")?;
    }
    Ok(cgroup)
}

/// Whether cgroups can have io limits here that hold for written files.
pub(super) fn has_controllers() -> bool {
    let controllers = fs::read_to_string(format!("{HIERARCHY}/cgroup.controllers"));
    let controllers = controllers.unwrap_or_default();
    ["io", "memory"].iter().all(|name| controllers.split_whitespace().any(|have| have == *name))
}

fn slow_disk(session: &mut Session) -> (Device, Mounted) {
    let wanted = NullBlk { delay: DELAY, ..NullBlk::default() };
    let device = devices::null_blk(wanted).expect("a null_blk of our own");
    let mounted = Mounted::ext4(&device.path()).expect("ext4 on it");
    meet(session, &device.name).unwrap();
    (device, mounted)
}

/// Overwrites a file with zeros; its blocks are allocated already.
fn dd(file: &Path, flags: &str, writes: u32, cgroup: &Cgroup) -> Result<Process> {
    let mut command: Command = DD.command()?;
    command.args(["if=/dev/zero", "bs=4k", "conv=notrunc", "status=none"]);
    command.args([format!("of={}", file.display()), format!("oflag={flags}")]);
    command.arg(format!("count={writes}"));
    Process::spawn(command, cgroup)
}

fn lay_out(path: &Path) -> Result<()> {
    fs::write(path, vec![1; 1 << 20])?;
    fs::File::open(path)?.sync_all()?;
    Ok(())
}

/// Takes snapshots until the processes have ended and their last second was
/// read.
fn watch(session: &mut Session, processes: &[Process], mut look: impl FnMut(&Snapshot)) {
    let until = Instant::now() + LONG;
    let mut after = 0;
    while after < 4 {
        assert!(Instant::now() < until, "the writers do not end");
        after += u32::from(processes.iter().all(|process| process.ended().is_some()));
        // The owners' numbers are read once a second, and shown only while they change, so
        // every reading must be looked at.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            session.poll(None, &mut Vec::new());
        }
        look(&session.snapshot());
    }
    for process in processes {
        let ended = process.ended().expect("it has ended");
        assert!(ended.status.success(), "{}", last_line(&ended.stderr));
    }
}

#[test]
fn owners_are_distinguished_by_their_cgroups() {
    const WRITES: u32 = 150;
    need_guest!();
    need!(&MODULES, &[DD]);
    traced(|session| {
        let (device, mounted) = slow_disk(session);
        let tenants = ["tenant-a", "tenant-b"].map(|name| Cgroup::create(name).unwrap());
        let mut processes = Vec::new();
        for (at, tenant) in tenants.iter().enumerate() {
            let file = mounted.path().join(format!("tenant-{at}"));
            lay_out(&file).unwrap();
            processes.push(dd(&file, "direct", WRITES, tenant).unwrap());
        }
        let mut seen = [0, 0];
        watch(session, &processes, |snapshot| {
            let disk = snapshot.disks.iter().find(|d| d.name == device.name).unwrap();
            for (seen, tenant) in seen.iter_mut().zip(&tenants) {
                let rows = disk
                    .owners
                    .iter()
                    .filter(|owner| owner.actor.cgroup == tenant.path() && owner.op == Op::Write);
                for row in rows {
                    assert_eq!(row.actor.comm, "dd", "{row:?}");
                    *seen = row.requests_total.max(*seen);
                }
            }
        });
        assert_eq!(seen, [u64::from(WRITES); 2]);
    });
}

/// A victim's own limit makes it slow, while a neighbour does little.
#[test]
fn a_limit_of_its_own_is_nobodys_fault() {
    const SYNCS: u32 = 40;
    need_guest!();
    need!(&MODULES, &[DD]);
    if !has_controllers() {
        crate::skip::skip!("this kernel has no io and memory controllers for cgroups");
    }
    traced(|session| {
        // A throttled request is submitted by a kernel worker.
        if let Some(unsupported) =
            session.unsupported().iter().find(|unsupported| unsupported.what == "submitter")
        {
            crate::skip::skip!("{}", unsupported.sentence);
        }
        let (device, mounted) = slow_disk(session);
        let victim = cgroup_with_io("victim").unwrap();
        let neighbour = cgroup_with_io("neighbour").unwrap();
        let (file, other) = (mounted.path().join("victim"), mounted.path().join("other"));
        lay_out(&other).unwrap();
        // A file is charged to the cgroup that wrote to it first. After the second run, the
        // duration without a limit is known.
        for _ in 0..2 {
            let alone = dd(&file, "dsync", SYNCS, &victim).unwrap();
            watch(session, &[alone], |_| {});
        }

        let number = fs::read_to_string(format!("/sys/block/{}/dev", device.name)).unwrap();
        let limit = |of: &Cgroup, writes_per_second: &str| {
            let limit = format!("{} wiops={writes_per_second}", number.trim());
            write(&folder(of).join("io.max"), &limit).unwrap();
        };
        limit(&victim, "5");
        limit(&neighbour, "2");
        let limited = dd(&file, "dsync", SYNCS, &victim).unwrap();
        let beside = dd(&other, "direct", SYNCS / 3, &neighbour).unwrap();
        let mut last = None;
        watch(session, &[limited, beside], |snapshot| {
            let mut victims = snapshot.victims.iter();
            last = victims.find(|v| v.actor.cgroup == victim.path()).cloned().or(last.take());
        });
        let last = last.expect("the victim syncs");
        println!("limited: {:?}, {:?}", last.verdict, last.phases);
        assert!(last.p50_seconds > 0.1, "the limit was not in force: {last:?}");
        assert_ne!(last.verdict.kind, Kind::Owners, "{last:?}");
        assert!(last.verdict.culprits.iter().all(|culprit| culprit.share < 0.3), "{last:?}");
    });
}

const WRITTEN_BYTES: u64 = 1 << 20;

/// Writes to a file through the page cache, and ends before it is on the disk.
fn write_and_leave(file: &Path, cgroup: &Cgroup) {
    let mut command: Command = DD.command().unwrap();
    command.args(["if=/dev/zero", "bs=64k", "status=none"]);
    command.arg(format!("count={}", WRITTEN_BYTES >> 16));
    command.arg(format!("of={}", file.display()));
    let writer = Process::spawn(command, cgroup).unwrap();
    let ended = writer.wait(LONG).expect("it ends");
    assert!(ended.status.success(), "{}", last_line(&ended.stderr));
}

/// Keeps the flushers from writing dirty pages. A cgroup for which nothing was written back
/// so far has no share of the dirty limit, so the flushers would write its pages next.
struct LateFlushers(String);

impl LateFlushers {
    const SETTING: &str = "/proc/sys/vm/dirty_writeback_centisecs";

    fn begin() -> Result<Self> {
        let before = fs::read_to_string(Self::SETTING)?;
        fs::write(Self::SETTING, "60000")?;
        Ok(Self(before))
    }
}

impl Drop for LateFlushers {
    fn drop(&mut self) {
        // It could be written before, so it can be written now.
        let _ = fs::write(Self::SETTING, &self.0);
    }
}

/// Makes a kernel worker write everything back, and returns the bytes that each process of
/// this cgroup wrote to the disk, by name.
fn write_back(
    session: &mut Session,
    device: &Device,
    mounted: &Mounted,
    cgroup: &Cgroup,
) -> BTreeMap<String, u64> {
    let mut command: Command = SYNC.command().unwrap();
    command.arg("-f").arg(mounted.path());
    let sync = Process::spawn(command, &Cgroup::none()).unwrap();
    let mut bytes = BTreeMap::new();
    watch(session, &[sync], |snapshot| {
        let disk = snapshot.disks.iter().find(|d| d.name == device.name).unwrap();
        // An owner that ended before it was looked up has no path yet.
        let is_it = |path: &str| path.is_empty() || path == cgroup.path();
        let rows = disk.owners.iter();
        for row in rows.filter(|o| is_it(&o.actor.cgroup) && o.op == Op::Write) {
            assert!(!row.actor.kernel_thread, "{row:?}");
            let most = bytes.entry(row.actor.comm.clone()).or_insert(0);
            *most = row.bytes_total.max(*most);
        }
    });
    bytes
}

/// The bio's cgroup and the process that dirtied the file agree.
#[test]
fn what_is_written_back_is_who_wrote_its_with_the_io_controller() {
    need_guest!();
    need!(&MODULES, &[DD, SYNC]);
    if !has_controllers() {
        crate::skip::skip!("this kernel has no io and memory controllers for cgroups");
    }
    traced(|session| {
        let (device, mounted) = slow_disk(session);
        let writer = cgroup_with_io("writer").unwrap();
        write_and_leave(&mounted.path().join("file"), &writer);
        let bytes = write_back(session, &device, &mounted, &writer);
        assert!(bytes.get("dd").is_some_and(|bytes| *bytes >= WRITTEN_BYTES), "{bytes:?}");
        assert_eq!(bytes.get("kworker"), None, "{bytes:?}");
        let owners = session.owners_of(&device.name);
        let mut dd = owners.iter().filter(|key| key.comm.starts_with(b"dd\0"));
        let is_it = |key: &OwnerKey| key.cgroup == writer.id() && key.via == via::WRITEBACK;
        assert!(dd.any(is_it), "{owners:?}");
    });
}

/// The process that dirtied the file was not seen, but the bio names the cgroup.
#[test]
fn a_cgroup_is_known_by_its_bios_alone() {
    need_guest!();
    need!(&MODULES, &[DD, SYNC]);
    if !has_controllers() {
        crate::skip::skip!("this kernel has no io and memory controllers for cgroups");
    }
    let device = devices::null_blk(NullBlk { delay: DELAY, ..NullBlk::default() }).unwrap();
    let mounted = Mounted::ext4(&device.path()).unwrap();
    let writer = cgroup_with_io("writer").unwrap();
    let _late = LateFlushers::begin().unwrap();
    write_and_leave(&mounted.path().join("file"), &writer);
    traced(|session| {
        if let Some(unsupported) =
            session.unsupported().iter().find(|unsupported| unsupported.what == "process")
        {
            crate::skip::skip!("{}", unsupported.sentence);
        }
        meet(session, &device.name).unwrap();
        let bytes = write_back(session, &device, &mounted, &writer);
        assert!(bytes.get("kworker").is_some_and(|bytes| *bytes >= WRITTEN_BYTES), "{bytes:?}");
    });
}
