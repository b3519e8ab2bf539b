//! Kernel threads that a sync waits for, and that get no CPU: another task keeps the one busy that
//! they may run on, or ran on last.

use std::{fs, process::Command, thread::sleep};

use tracer_lab::disk::Filesystem;

use super::{
    need_stage, play,
    stage::cgroup,
    verdict::{Actor, Truth, watch},
};
use crate::simulated::parts::Part;

/// The kernel thread of this name.
fn kernel_thread(name: &str) -> u32 {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let is_it = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name
    };
    pids.find(is_it).unwrap_or_else(|| panic!("there is no thread `{name}`"))
}

/// Has a tool of util-linux change how a thread is scheduled.
fn run(tool: &str, arguments: &[&str]) {
    let said = Command::new(tool).args(arguments).output().unwrap();
    assert!(said.status.success(), "{tool}: {said:?}");
}

/// The journal's thread may run on CPU 1 only, which a real-time task has. etcd runs on the other
/// one. Ten tasks of normal priority there make nothing slow: the scheduler runs a thread that
/// sleeps most of the time soon.
#[test]
fn a_real_time_task_on_the_cpu_of_the_journals_thread_is_named() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let (crowd, beside) = (cgroup("crowd"), cgroup("toucher"));
        let folder = stage.disk.mountpoint().join("touched");
        let toucher = Part::Files { folder, per_second: 20 }.start("toucher", &beside).unwrap();
        stage.pin_etcd(0).unwrap();
        run("taskset", &["-apc", "0", &toucher.pid().to_string()]);
        run("taskset", &["-apc", "0", &stage.disk.server_pid().to_string()]);
        let journal = kernel_thread(&format!("jbd2/{}-8", stage.disk.name())).to_string();
        let seen = watch(stage, |length| {
            run("taskset", &["-pc", "1", &journal]);
            let hog = Part::Hog { cpu: 1 }.start("hog", &crowd).unwrap();
            run("chrt", &["--fifo", "--all-tasks", "--pid", "1", &hog.pid().to_string()]);
            sleep(length);
        });
        println!("verdict: {}", seen.verdict.verdict);
        let truth = Truth {
            kinds: &["cpu"],
            culprits: &[Actor { comm: "hog", cgroup: &crowd }],
            innocent: &[Actor { comm: "toucher", cgroup: &beside }],
            slower: 1.5,
        };
        seen.judge("the CPU of the journal's thread", &truth);
        let said = &seen.verdict.verdict;
        assert!(said.contains("[jbd2/") && said.contains("behind hog"), "{said}");
    });
}
