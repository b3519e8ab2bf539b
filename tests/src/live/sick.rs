//! A node in trouble: when the tracer starts, its disk does not answer, is full, or may not
//! be written to; or a process is stuck waiting for it.
//!
//! All directories that the self-test may use are on such a disk, in the tracer's own mount
//! namespace.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tracer_disk_model::Model;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk, default_dir},
    tool::FSFREEZE,
};

use super::{need_live, served};
use crate::{
    simulated::{SimulatedDisk, parts::Part},
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const SECOND: Duration = Duration::from_secs(1);

/// The first screen or `/metrics` must be there within this time, whatever the disk does.
const START: Duration = Duration::from_secs(5);

/// The sick disk takes this long for each request.
const LATENCY: Duration = Duration::from_secs(15);

/// `/var/tmp` comes last, because the directory that is bound may be in it.
const BELOW: &str = "mount --bind \"$0\" /var/lib && mount --bind /var/lib /root && \
                     mount --bind /var/lib /tmp && mount --bind /var/lib /var/tmp && \
                     cd /var/lib && exec /proc/self/fd/9 \"$@\"";

/// The tracer, with this directory mounted over all that the self-test may use.
fn tracer_on(folder: &Path, before: &str, args: &[&str]) -> Command {
    let script = format!("exec 9<'{}' && {before} {BELOW}", tracer_bin().display());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(folder).args(args);
    // Programs and libraries may be searched for in directories on the sick disk: cargo names
    // some below /root, and `mount` itself then waited for that disk.
    command.env_remove("LD_LIBRARY_PATH").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn can_unshare() -> bool {
    Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success())
}

fn check_unwritable(folder: &Path, before: &str, why: &str) {
    let begin = Instant::now();
    let args = ["top", "--batch", "-n", "1"];
    let mut top = Tracer::spawn(tracer_on(folder, before, &args));
    let line = top.line(START);
    println!("{:?}: {line}", begin.elapsed());
    assert!(line.starts_with("unproven: the self-test found no folder"), "{line}");
    assert!(line.contains(why) && line.contains("/var/lib"), "{line}");
    assert_eq!(top.wait(START).code(), Some(0), "{}", top.transcript());

    let top = Tracer::spawn(tracer_on(folder, before, &["top", "--json", "-n", "1"]));
    let snapshot = top.json(START);
    assert!(snapshot["kernel"]["unproven"].as_str().unwrap().contains(why), "{snapshot}");
    assert_eq!(snapshot["metrics"]["tracer_unproven{why=\"no_folder\"}"], 1.0);

    let mut doctor = Tracer::spawn(tracer_on(folder, before, &["doctor"]));
    assert_eq!(doctor.wait(START).code(), Some(0), "{}", doctor.transcript());
    assert!(doctor.transcript().starts_with("unproven: "), "{}", doctor.transcript());
}

#[test]
fn it_starts_beside_a_disk_that_is_full_and_says_so() {
    need_live!();
    if !can_unshare() {
        skip!("a mount namespace cannot be created here");
    }
    let disk = LoopDisk::create(&default_dir().unwrap(), 8 << 20, Filesystem::Ext4).unwrap();
    let mut file = File::create(disk.mountpoint().join("filler")).unwrap();
    while file.write_all(&[0x55; 4096]).is_ok() {}
    check_unwritable(disk.mountpoint(), "", "No space left on device");
}

#[test]
fn it_starts_beside_a_disk_that_may_not_be_written_and_says_so() {
    need_live!();
    if !can_unshare() {
        skip!("a mount namespace cannot be created here");
    }
    let disk = LoopDisk::create(&default_dir().unwrap(), 8 << 20, Filesystem::Ext4).unwrap();
    let before = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" &&";
    check_unwritable(disk.mountpoint(), before, "Read-only file system");
}

#[test]
fn it_starts_beside_a_disk_that_does_not_answer_and_is_proven_once_it_does() {
    need_live!();
    if !can_unshare() || !Path::new("/dev/fuse").exists() {
        skip!("a mount namespace cannot be created here, or there is no /dev/fuse");
    }
    let disk = SimulatedDisk::create(Filesystem::Ext4).unwrap();
    let slow = Model { read: LATENCY, write: LATENCY, flush: LATENCY, ..Model::default() };
    disk.become_another(&slow).unwrap();
    let late =
        format!("the disk of the self-test ({}, /var/lib) has not answered for", disk.name());

    // The tracer can be stopped before the disk answers.
    let begin = Instant::now();
    let args = ["top", "--batch", "-n", "1"];
    let mut top = Tracer::spawn(tracer_on(disk.mountpoint(), "", &args));
    let line = top.line(START);
    println!("the first line after {:?}: {line}", begin.elapsed());
    assert!(line.starts_with(&format!("unproven: {late} ")), "{line}");
    assert_eq!(top.wait(2 * SECOND).code(), Some(0), "{}", top.transcript());
    assert!(begin.elapsed() < LATENCY / 2, "it waited for the disk");

    let mut doctor = Tracer::spawn(tracer_on(disk.mountpoint(), "", &["doctor", "--json"]));
    let report = doctor.json(START);
    assert!(report["unproven"].as_str().unwrap().starts_with(&late), "{report}");
    assert_eq!(report["can_run"], true, "{report}");
    assert_eq!(doctor.wait(2 * SECOND).code(), Some(0), "{}", doctor.transcript());

    let address = served::free_address();
    let listen = address.to_string();
    let args = ["agent", "--listen", &listen, "--state-dir", "/var/lib/tracer"];
    let begin = Instant::now();
    let tracer = Tracer::spawn(tracer_on(disk.mountpoint(), "", &args));
    let agent = served::Agent::until_ready(tracer, address);
    let metrics = agent.metrics();
    println!("ready and /metrics after {:?}", begin.elapsed());
    assert!(begin.elapsed() < START, "{}", agent.tracer.transcript());
    assert!(metrics.contains("tracer_unproven{why=\"disk_late\"} 1\n"), "{metrics}");
    let verdicts = agent.json("/api/v1/verdicts");
    assert!(verdicts["kernel"]["unproven"].as_str().unwrap().starts_with(&late), "{verdicts}");

    // A request that is under way takes its time.
    disk.become_another(&Model::default()).unwrap();
    let proven = || agent.metrics().contains("tracer_unproven{why=\"disk_late\"} 0\n");
    agent.wait_until("it is proven", proven);
    println!("proven after {:?}", begin.elapsed());
    let verdicts = agent.json("/api/v1/verdicts");
    assert_eq!(verdicts["kernel"].get("unproven"), None, "{verdicts}");
    // The tracer's own syncs have no victim.
    let victims = verdicts["victims"].as_array().unwrap();
    assert!(victims.iter().all(|v| v["victim"]["comm"] != "tracer-aside"), "{verdicts}");
    assert!(fs::exists(disk.mountpoint().join("tracer")).unwrap(), "the state directory is made");
}

/// Thaws the filesystem however the test ends.
struct Frozen<'a>(&'a LoopDisk);

impl<'a> Frozen<'a> {
    fn freeze(disk: &'a LoopDisk) -> Self {
        FSFREEZE.run(&["--freeze", &disk.mountpoint().to_string_lossy()]).unwrap();
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = FSFREEZE.run(&["--unfreeze", &self.0.mountpoint().to_string_lossy()]);
    }
}

/// Whether the arguments of a process can be read within a second.
fn can_read_arguments(tgid: u32) -> bool {
    let (answers, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = answers.send(fs::read(format!("/proc/{tgid}/cmdline")).is_ok());
    });
    answer.recv_timeout(SECOND) == Ok(true)
}

#[test]
fn a_process_that_is_stuck_in_a_page_fault_holds_nobody_up() {
    need_live!();
    let (sick, well) = (super::lab_disk(Filesystem::Ext4), super::lab_disk(Filesystem::Ext4));
    let mapped = sick.mountpoint().join("mapped");
    fs::write(&mapped, [0x55; 8192]).unwrap();
    let go = well.mountpoint().join("go");
    let part = Part::Stuck { mapped, synced: well.mountpoint().join("wal"), go: go.clone() };
    // The tracer reads the arguments of a process with this name.
    let machine = part.start("qemu-system-x86", &Cgroup::none()).unwrap();
    let until = Instant::now() + 10 * SECOND;
    while !fs::exists(well.mountpoint().join("wal")).unwrap() && Instant::now() < until {
        std::thread::sleep(SECOND / 10);
    }
    std::thread::sleep(SECOND / 2);
    assert!(can_read_arguments(machine.pid()), "nothing is wrong with it yet");
    let frozen = Frozen::freeze(&sick);
    File::create(&go).unwrap();
    std::thread::sleep(SECOND);
    assert!(!can_read_arguments(machine.pid()), "it is stuck");

    let top = Tracer::start(&["top", "--json", "--interval", "0.5"]);
    let mut last = top.json(60 * SECOND);
    for _ in 0..8 {
        let next = top.json(3 * SECOND);
        let passed = next["at"].as_f64().unwrap() - last["at"].as_f64().unwrap();
        assert!(passed < 2.0, "{passed} s between two screens");
        last = next;
    }
    let victims = last["victims"].as_array().unwrap();
    let it = victims.iter().find(|v| v["actor"]["tgid"] == machine.pid());
    let it = it.unwrap_or_else(|| panic!("{last}"));
    println!("{} syncs/s of {}", it["syncs_per_second"], it["actor"]);
    assert!(it["syncs_per_second"].as_f64().unwrap() > 5.0, "{it}");
    // The read that did not end is counted, once.
    assert_eq!(last["dropped"]["read_late"], 1, "{}", last["dropped"]);
    drop(frozen);
}
