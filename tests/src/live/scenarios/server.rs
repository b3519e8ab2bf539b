//! A disk that is served by a process on this node, and the reasons why that process waits.
//!
//! The simulated disk is one: its server is called `sim-disk`.

use std::{fs, process::Command, thread::sleep};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use tracer_disk_model::Model;
use tracer_lab::{cgroup_v1::CgroupV1, disk::Filesystem};

use super::{
    need_stage, play,
    stage::{bystander, cgroup},
    verdict::{Actor, Answer, QUIET_TRUTH, Truth, watch},
};
use crate::{simulated::parts::Part, skip::skip};

/// A process that is in a cgroup with a limit until this is dropped.
struct Held<'a>(&'a CgroupV1, u32);

impl<'a> Held<'a> {
    fn hold(limit: &'a CgroupV1, pid: u32) -> Self {
        limit.add(pid).unwrap();
        Self(limit, pid)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1).unwrap();
    }
}

#[track_caller]
fn assert_names(seen: &Answer, what: &[&str]) {
    let said = &seen.verdict.verdict;
    println!("verdict: {said}");
    for what in what {
        assert!(said.contains(what), "`{what}` is not in: {said}");
    }
}

#[test]
fn the_quota_of_the_disks_server_is_named() {
    need_stage!();
    let Some(limit) = CgroupV1::create("cpu", "server").unwrap() else {
        skip!("there is no cgroup v1 hierarchy for cpu");
    };
    limit.set("cpu.cfs_period_us", "100000").unwrap();
    limit.set("cpu.cfs_quota_us", "1500").unwrap();
    play(Filesystem::Ext4, |stage| {
        let beside = cgroup("bystander");
        let _bystander = bystander(stage).start("bystander", &beside).unwrap();
        let server = stage.disk.server_pid();
        let seen = watch(stage, |length| {
            let _held = Held::hold(&limit, server);
            sleep(length);
        });
        let innocent = [Actor { comm: "bystander", cgroup: &beside }];
        let truth = Truth { kinds: &["limit"], innocent: &innocent, slower: 3.0, ..QUIET_TRUTH };
        seen.judge("the quota of the disk's server", &truth);
        let server = format!("sim-disk (pid {server})");
        assert_names(&seen, &[&server, "cpu.cfs_quota_us 1500"]);
    });
}

/// Pins all threads of a process to one CPU, with the same priority as others there.
fn keep_on(pid: u32, cpu: usize) {
    pin(pid, &[cpu]);
    for tid in threads(pid) {
        let said = Command::new("renice").args(["-n", "0", "-p", &tid.to_string()]).output();
        assert!(said.unwrap().status.success());
    }
}

fn threads(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| task.unwrap().file_name().to_string_lossy().parse().unwrap()).collect()
}

fn pin(pid: u32, on: &[usize]) {
    let mut cpus = CpuSet::new();
    on.iter().for_each(|cpu| cpus.set(*cpu).unwrap());
    for tid in threads(pid) {
        sched_setaffinity(Pid::from_raw(tid), &cpus).unwrap();
    }
}

#[test]
fn who_has_the_cpu_of_the_disks_server_is_named() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let (crowd, beside) = (cgroup("crowd"), cgroup("bystander"));
        let _bystander = bystander(stage).start("bystander", &beside).unwrap();
        stage.pin_etcd(0).unwrap();
        let server = stage.disk.server_pid();
        let seen = watch(stage, |length| {
            keep_on(server, 1);
            let hog = Part::Hog { cpu: 1 };
            let _hogs = [(); 6].map(|()| hog.start("hog", &crowd).unwrap());
            sleep(length);
        });
        let truth = Truth {
            kinds: &["cpu"],
            culprits: &[Actor { comm: "hog", cgroup: &crowd }],
            innocent: &[Actor { comm: "bystander", cgroup: &beside }],
            slower: 1.5,
        };
        seen.judge("the CPU of the disk's server", &truth);
        assert_names(&seen, &[&format!("sim-disk (pid {server})"), "behind hog"]);
    });
}

#[test]
fn a_slow_disk_whose_server_has_its_cpu_is_slow_itself() {
    need_stage!();
    play(Filesystem::Xfs, |stage| {
        let server = stage.disk.server_pid();
        let seen = watch(stage, |length| {
            stage.disk.become_another(&Model::default().slower(12)).unwrap();
            sleep(length);
        });
        let truth = Truth { kinds: &["device"], slower: 3.0, ..QUIET_TRUTH };
        seen.judge("a slow disk with a server", &truth);
        assert_names(&seen, &[&format!("served by sim-disk (pid {server}), which had its CPU")]);
    });
}
