//! A tracer in a PID namespace of its own, as on a node that is itself a container.

use std::{
    fs::{self, File},
    io::Write as _,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tracer_lab::{
    disk::{Filesystem, LoopDisk},
    tool::{DD, Tool},
};

use super::{lab_disk, need_live};
use crate::{
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const UNSHARE: Tool = Tool { name: "unshare", package: "util-linux" };

/// The timeout of anything that takes seconds on an emulated machine.
const LONG: Duration = Duration::from_secs(60);

/// A script for the first process of a new PID namespace, which becomes the tracer. It starts
/// a process that writes, and another one in a nested namespace. All end with the first.
const SCRIPT: &str = r#"
dd if=/dev/zero of="$1/beside" bs=4k count=200000 oflag=dsync conv=notrunc 2>/dev/null &
unshare --pid --fork dd if=/dev/zero of="$1/below" bs=4k count=200000 oflag=dsync \
    conv=notrunc 2>/dev/null &
exec "$0" "${@:2}"
"#;

fn nested(disk: &LoopDisk, args: &[&str]) -> Tracer {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SCRIPT]);
    command.arg(tracer_bin()).arg(disk.mountpoint()).args(args);
    Tracer::spawn(command)
}

/// The ids of a writer in each namespace, from the outermost to its own.
fn ids_of(file: &str) -> Vec<u32> {
    let argument = format!("{file}\0bs=4k");
    for process in fs::read_dir("/proc").expect("has processes").flatten() {
        let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
        if read("comm") != "dd\n" || !read("cmdline").contains(&argument) {
            continue;
        }
        let status = read("status");
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        return ids.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    }
    Vec::new()
}

fn writes(disk: &Value) -> impl Iterator<Item = &Value> {
    let owners = disk["owners"].as_array().into_iter().flatten();
    owners.filter(|owner| owner["actor"]["comm"] == "dd" && owner["op"] == "write")
}

#[test]
fn in_a_pid_namespace_of_its_own_ids_are_those_of_its_proc() {
    need_live!();
    if UNSHARE.find().is_none() || DD.find().is_none() {
        skip!("`unshare` or `dd` is not installed");
    }
    let disk = lab_disk(Filesystem::Ext4);
    let mut tracer = nested(&disk, &["top", "--json", "--interval", "0.5"]);
    // A process outside of all namespaces that the tracer can see.
    let mut outside = File::create(disk.mountpoint().join("outside")).expect("can make a file");
    let end = Instant::now() + LONG;
    loop {
        outside.write_all(&[1; 4096]).and_then(|()| outside.sync_data()).expect("can sync");
        sleep(Duration::from_millis(20));
        let snapshot = tracer.json(LONG);
        let victims = snapshot["victims"].as_array().expect("has victims");
        let of = |file: &str| {
            let mut named = victims.iter();
            named.find(|victim| victim["path"].as_str().is_some_and(|path| path.ends_with(file)))
        };
        // This test's own name, or its thread's where a kernel shows no process's.
        let is_ours = |comm: &str| comm.starts_with("tests") || comm.starts_with("live::");
        let mut others = victims.iter();
        let foreign = others.find(|victim| victim["actor"]["comm"].as_str().is_some_and(is_ours));
        let (beside, below) = (ids_of("/beside"), ids_of("/below"));
        let sentences = snapshot["kernel"]["unsupported"].as_array().expect("has sentences");
        let says = |text: &str| sentences.iter().any(|s| s.as_str().unwrap().contains(text));
        // Before 6.5, and on the stable kernels of that time, typed programs cannot read
        // the ids of threads in namespaces further down:
        // <https://github.com/torvalds/linux/commit/b69f0aeb0689>.
        let is_whole = !says("in that same namespace");
        let disk = snapshot["disks"]
            .as_array()
            .and_then(|disks| disks.iter().find(|one| one["name"] == disk.name()));
        let owner = disk.and_then(|disk| writes(disk).next());
        let (Some(one), Some(foreign), Some(owner)) = (of("/beside"), foreign, owner) else {
            assert!(Instant::now() < end, "{}", tracer.transcript());
            continue;
        };
        if is_whole && of("/below").is_none() && Instant::now() < end {
            continue;
        }
        assert_eq!((beside.len(), below.len()), (2, 3), "{beside:?} {below:?}");
        assert_eq!(one["actor"]["tgid"], beside[1], "{one}");
        let inside = if is_whole { below[1] } else { 0 };
        if is_whole {
            let other = of("/below").unwrap_or_else(|| panic!("{}", tracer.transcript()));
            assert_eq!(other["actor"]["tgid"], inside, "{other}");
        }
        let tgid = &owner["actor"]["tgid"];
        assert!(*tgid == beside[1] || *tgid == inside, "{owner}: {beside:?} {below:?}");
        assert_eq!(foreign["actor"]["tgid"], 0, "it has no id there: {foreign}");
        assert!(says("a PID namespace of its own"), "{sentences:?}");
        break;
    }
    tracer.kill();
}

#[test]
fn doctor_can_do_its_main_job_in_a_pid_namespace_of_its_own() {
    need_live!();
    if UNSHARE.find().is_none() || DD.find().is_none() {
        skip!("`unshare` or `dd` is not installed");
    }
    let disk = lab_disk(Filesystem::Ext4);
    let mut doctor = nested(&disk, &["doctor"]);
    let status = doctor.wait(LONG);
    let says = doctor.transcript();
    assert_eq!(status.code(), Some(0), "{says}");
    assert!(says.contains("can find who makes syncs slow"), "{says}");
    assert!(says.contains("a PID namespace of its own"), "{says}");
    assert!(!says.contains("inlined"), "{says}");
}
