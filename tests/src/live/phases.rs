use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::Command,
    sync::mpsc::channel,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, gettid},
};
use tracer::session::Session;
use tracer_disk_model::Model;
use tracer_engine::{
    phases::Phase,
    tick::{Limit, LimitKind, Tick},
    victim::{Span, Victim},
};
use tracer_kernel::capability::Capability;
use tracer_lab::{
    cgroup::Cgroup,
    cgroup_v1::CgroupV1,
    disk::{Filesystem, LoopDisk},
    process::Process,
    tool::{DD, FIO},
};

use super::{
    lab_disk, need_live,
    scenarios::{machine::play_undisturbed, need_stage},
    traced,
};
use crate::{
    matrix::ways::{own_syncs, phases_add_up},
    simulated::SimulatedDisk,
};

/// The time that the kernel and two ticks need to show a limit or a contender.
const LONG: Duration = Duration::from_secs(15);

/// Skips where this kernel does not show something, with the sentence that every output
/// has for that.
macro_rules! need_seen {
    ($session:expr, $capability:expr) => {
        let mut unsupported = $session.unsupported().into_iter();
        if let Some(missing) = unsupported.find(|it| it.what == $capability.name()) {
            crate::skip::skip!("{}", missing.sentence);
        }
    };
}

/// Lets the session tick until a tick, or what is known by then, is as wanted.
fn watch_until(session: &mut Session, mut is_it: impl FnMut(&Session, &Tick) -> bool) -> bool {
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
        if is_it(session, session.last_tick()) {
            return true;
        }
    }
    false
}

/// Writes 4 KiB after 4 KiB with O_DSYNC until it is killed, as `prefix` has it.
fn syncing(disk: &LoopDisk, prefix: &[&str]) -> Command {
    let file = disk.mountpoint().join("victim");
    std::fs::write(&file, vec![1; 1 << 20]).unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    let mut words = prefix.iter().copied().chain([DD.name]);
    let mut command = Command::new(words.next().expect("dd at least"));
    command.args(words).args(["if=/dev/zero", "bs=4k", "conv=notrunc", "oflag=dsync"]);
    command.args(["count=1000000", "status=none", &format!("of={}", file.display())]);
    command
}

/// The victim of a process, as the engine knows it.
fn victim_of(session: &Session, tgid: u32) -> Option<&Victim> {
    session.engine().victims().iter().map(Box::as_ref).find(|victim| victim.tgid == tgid)
}

fn device_number(disk: &LoopDisk) -> String {
    let number = std::fs::read_to_string(format!("/sys/block/{}/dev", disk.name()));
    number.expect("a block device has a number").trim().to_owned()
}

/// A cgroup of version 1, or the reason why this machine has none.
macro_rules! need_v1 {
    ($controller:literal) => {
        match CgroupV1::create($controller, "victim").unwrap() {
            Some(cgroup) => cgroup,
            None => crate::skip::skip!("no cgroup v1 for `{}`", $controller),
        }
    };
}

/// Lets a process sync under a limit until a tick has a limit as wanted; if none comes,
/// returns the last tick's.
fn watch_limits(
    session: &mut Session,
    disk: &LoopDisk,
    limited: &CgroupV1,
    own: &Cgroup,
    is_it: impl Fn(&Limit) -> bool,
) -> Result<Vec<Limit>, Vec<Limit>> {
    let mut command = syncing(disk, &[]);
    limited.enter(&mut command).unwrap();
    let mut victim = Process::spawn(command, own).unwrap();
    let mut seen = Vec::new();
    let is_seen = watch_until(session, |_, tick| {
        seen.clone_from(&tick.limits);
        seen.iter().any(|limit| limit.cgroup == own.id() && is_it(limit))
    });
    victim.stop(Duration::ZERO).unwrap();
    let known = victim_of(session, victim.pid()).map(|v| (v.now.phases, v.before.phases));
    println!("{seen:?}, {known:?}");
    if is_seen { Ok(seen) } else { Err(seen) }
}

#[test]
fn an_io_limit_that_is_reached_is_named() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = need_v1!("blkio");
    let limit = format!("{} {}", device_number(&disk), 256 << 10);
    cgroup.set("blkio.throttle.write_bps_device", &limit).unwrap();
    let own = Cgroup::create("limited").unwrap();
    traced(|session| {
        let seen = watch_limits(session, &disk, &cgroup, &own, |l| l.kind == LimitKind::Io);
        let seen = seen.expect("a limit is seen");
        let setting = format!("blkio.throttle.write_bps_device {limit}");
        assert!(seen.iter().any(|l| l.setting == setting), "{seen:?}");
    });
}

#[test]
fn a_cpu_quota_that_is_used_up_is_named() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = need_v1!("cpu");
    cgroup.set("cpu.cfs_quota_us", "2000").unwrap();
    let own = Cgroup::create("starved").unwrap();
    traced(|session| {
        // The first second may have only a part of it.
        let held = |l: &Limit| l.kind == LimitKind::Cpu && l.ns > 100_000_000;
        let seen = watch_limits(session, &disk, &cgroup, &own, held);
        let seen = seen.expect("a limit is seen, one that holds it back");
        assert_eq!(seen[0].setting, "cpu.cfs_quota_us 2000");
        // A container on this machine may have a quota of its own.
        assert!(session.last_tick().memory.total_bytes > 1 << 20);
        assert!(session.last_tick().cpus > 0);
    });
}

#[test]
fn who_runs_instead_is_named_and_the_hook_goes_again() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        need_seen!(session, Capability::Contender);
        assert!(!session.is_attached(Capability::Contender));
        // On one core, where everybody else comes first. Behind the hogs it would take minutes
        // to start in an emulated machine, so it begins before them.
        let pinned = ["taskset", "-c", "0", "nice", "-n", "19"];
        let mut victim = Process::spawn(syncing(&disk, &pinned), &Cgroup::none()).unwrap();
        let begun = watch_until(session, |session, _| victim_of(session, victim.pid()).is_some());
        assert!(begun, "it syncs");
        let hogs: Vec<_> = (0..2)
            .map(|_| {
                let mut command = Command::new("taskset");
                command.args(["-c", "0", "yes"]).stdout(std::process::Stdio::null());
                Process::spawn(command, &Cgroup::none()).unwrap()
            })
            .collect();
        let mut contenders = Vec::new();
        let named = watch_until(session, |session, tick| {
            let of_victim = tick.contenders.iter().filter(|r| r.victim_tgid == victim.pid());
            contenders.extend(of_victim.map(|r| (session.owner_comm(r.owner), r.ns)));
            contenders.iter().any(|(comm, ns)| comm == "yes" && *ns > 100_000_000)
        });
        println!("{contenders:?}");
        let phases = victim_of(session, victim.pid()).expect("it syncs").sum(Span::Window).phases;
        drop(hogs);
        victim.stop(Duration::ZERO).unwrap();
        assert!(named, "the hogs are not named: {contenders:?}");
        assert!(session.is_attached(Capability::Contender));
        assert!(
            phases.ns[Phase::Runqueue] > phases.wait_ns() + phases.ns[Phase::Cpu],
            "{phases:?}"
        );
        // It lingers for ten seconds, beside the window.
        let gone = (0..2).any(|_| {
            watch_until(session, |session, _| !session.is_attached(Capability::Contender))
        });
        assert!(gone, "the hook stays on");
    });
}

/// A disk in memory, a reader, and somebody who syncs before all others of this machine: nothing
/// is wrong. Each sync wakes the loop device's thread, which waits for a CPU for some
/// microseconds; only a hook on all switches of the CPUs would show who ran then.
#[test]
fn nobody_asks_who_ran_for_some_microseconds() {
    need_live!();
    if FIO.find().is_none() {
        crate::skip::skip!("`{}` is not installed", FIO.name);
    }
    play_undisturbed(|| {
        let memory = Path::new("/dev/shm");
        let disk = LoopDisk::create(memory, 1 << 30, Filesystem::Ext4).expect("a loop device");
        traced(|session| {
            need_seen!(session, Capability::Contender);
            watch_a_plain_load(session, &disk);
        });
    });
}

fn watch_a_plain_load(session: &mut Session, disk: &LoopDisk) {
    const LOAD: Duration = Duration::from_secs(60);
    let job = |before: &[&str], job: &str| {
        let mut words = before.iter().copied().chain([FIO.name]);
        let mut command = Command::new(words.next().expect("fio at least"));
        command.args(words).args(job.split(' ')).current_dir(disk.mountpoint());
        command.args("--thread --bs=4k --time_based --runtime=600 --minimal".split(' '));
        command.stdout(std::process::Stdio::null());
        Process::spawn(command, &Cgroup::none()).unwrap()
    };
    let syncs = "--name=syncs --size=32M --rw=randwrite --ioengine=psync --fdatasync=1";
    let mut victim = job(&["chrt", "-f", "1"], syncs);
    let reader = job(&[], "--name=reads --size=64M --rw=randread --ioengine=psync --direct=1");
    let (begin, mut looks, mut attached) = (Instant::now(), 0, 0);
    while begin.elapsed() < LOAD {
        sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
        looks += 1;
        attached += u32::from(session.is_attached(Capability::Contender));
    }
    let its = |known: &&Victim| known.tgid == victim.pid();
    let all = session.engine().victims().iter().map(Box::as_ref).filter(its);
    let known = all.max_by_key(|known| known.sum(Span::Window).syncs).expect("it syncs");
    let (sum, held_ns) = (known.sum(Span::Window), known.held_up_ns());
    println!(
        "attached at {attached} of {looks} looks; {} syncs took {:?}, helpers waited for {:?}",
        sum.syncs,
        Duration::from_nanos(sum.duration_ns),
        Duration::from_nanos(held_ns as u64)
    );
    drop(reader);
    victim.stop(Duration::ZERO).unwrap();
    assert!(sum.syncs > 1000, "it is quick: {} syncs", sum.syncs);
    assert_eq!(attached, 0, "{:?}", sum.phases);
}

#[test]
fn a_commits_requests_are_the_devices_and_the_rest_is_the_journals() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    traced(|session| {
        need_seen!(session, Capability::Journal);
        grow(&disk.mountpoint().join("first"), 1);
        own_syncs(session);
        grow(&disk.mountpoint().join("grown"), 100);
        let syncs = own_syncs(session);
        assert_eq!(syncs.len(), 100);
        for sync in &syncs {
            assert!(phases_add_up(sync), "{sync:?}");
        }
        let victim = victim_of(session, std::process::id()).expect("it syncs");
        let mut phases = victim.now.phases;
        phases.add(&victim.before.phases);
        println!("{phases:?}");
        // The sync itself writes nothing: what is served is the commit's.
        assert!(phases.ns[Phase::Device] > 0, "{phases:?}");
        let stages: u64 = phases.journal_stage_ns.iter().sum();
        assert!(stages > 0 && stages <= phases.ns[Phase::Journal], "{phases:?}");
        assert!(
            phases.ns[Phase::Other] < phases.ns[Phase::Device] + phases.ns[Phase::Journal],
            "{phases:?}"
        );
    });
}

/// Syncs a file that has only changed in size: a commit, and no data.
fn grow(path: &Path, rounds: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    for round in 1..rounds {
        file.set_len(4096 * round).unwrap();
        file.sync_all().unwrap();
    }
}

fn pin(thread: Pid, cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).unwrap();
    sched_setaffinity(thread, &cpus).unwrap();
}

/// Each CPU has a clock of its own, that stands while a hypervisor has the CPU.
#[test]
fn a_thread_that_wakes_on_another_cpu_did_not_run_meanwhile() {
    const FLUSH: Duration = Duration::from_millis(60);
    need_stage!();
    if thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        crate::skip::skip!("there is one CPU");
    }
    let disk = SimulatedDisk::create(Filesystem::Ext4).expect("a simulated disk");
    let path = disk.mountpoint().join("moved");
    std::fs::write(&path, [1; 4096]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    disk.become_another(&Model { flush: FLUSH, ..Model::default() }).unwrap();
    traced(|session| {
        own_syncs(session);
        for (from, to) in [(0, 1), (1, 0)].repeat(3) {
            let (sender, receiver) = channel();
            let file = File::options().write(true).open(&path).unwrap();
            let syncing = thread::spawn(move || {
                pin(gettid(), from);
                (&file).write_all(&[2; 4096]).unwrap();
                sender.send(gettid()).unwrap();
                file.sync_data().unwrap();
            });
            let thread = receiver.recv().unwrap();
            sleep(FLUSH / 3);
            pin(thread, to);
            syncing.join().unwrap();
        }
        let syncs = own_syncs(session);
        assert_eq!(syncs.len(), 6);
        for sync in &syncs {
            println!("{:.4} s, {:?}", sync.duration_seconds, sync.phases);
            assert!(sync.duration_seconds >= FLUSH.as_secs_f64(), "{sync:?}");
            assert!(sync.phases[Phase::Cpu] < 0.25 * sync.duration_seconds, "{sync:?}");
        }
    });
}
