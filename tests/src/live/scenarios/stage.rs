//! The stage of all scenarios: a simulated disk with an etcd under steady puts.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    etcd::{Etcd, WAL_FSYNC},
    histogram::histogram,
    puts::Puts,
};

use super::verdict::Victim;
use crate::simulated::{SimulatedDisk, parts::Part};

const PUTS_PER_SECOND: u32 = 100;
const CLIENTS: u32 = 4;

/// Fields are dropped in order: what runs, then what it runs on.
pub struct Stage {
    _puts: Puts,
    pub etcd: Etcd,
    /// etcd's own cgroup.
    pub cgroup: Cgroup,
    pub disk: SimulatedDisk,
}

impl Stage {
    pub fn build(filesystem: Filesystem) -> Self {
        Self::build_on(SimulatedDisk::create(filesystem).expect("a simulated disk"))
    }

    pub fn build_on(disk: SimulatedDisk) -> Self {
        let cgroup = cgroup("etcd");
        let etcd = Etcd::start(&disk.mountpoint().join("etcd"), &cgroup).expect("etcd runs");
        let puts = Puts::start(&etcd, PUTS_PER_SECOND, CLIENTS).expect("clients run");
        Self { _puts: puts, etcd, cgroup, disk }
    }

    /// Makes etcd's database this large, with values of 1 MiB.
    pub fn fill(&self, mib: u32) -> Result<()> {
        let value = vec![b'x'; 1 << 20];
        (0..mib).try_for_each(|number| self.etcd.put(format!("fill/{number}").as_bytes(), &value))
    }

    /// Pins etcd to one CPU, with all threads that it will create later.
    pub fn pin_etcd(&self, cpu: usize) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        let tasks = format!("/proc/{}/task", self.etcd.pid());
        for task in fs::read_dir(&tasks).with_context(|| format!("failed to list `{tasks}`"))? {
            let tid: i32 = task?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(tid), &cpus)
                .with_context(|| format!("failed to pin thread {tid} of etcd"))?;
        }
        Ok(())
    }
}

impl Victim for Stage {
    fn pid(&self) -> u32 {
        self.etcd.pid()
    }

    fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The seconds that etcd spent in syncs of its WAL, by its own count.
    fn sync_seconds(&self) -> f64 {
        let metrics = self.etcd.metrics().expect("etcd answers");
        histogram(&metrics, WAL_FSYNC).expect("it counts").sum
    }
}

/// An innocent that writes a little to the disk.
pub fn bystander(stage: &Stage) -> Part {
    Part::Writer {
        file: stage.disk.mountpoint().join("bystander"),
        file_bytes: 16 << 20,
        bytes_per_second: 1 << 20,
    }
}

/// A cgroup of its own, for one actor.
pub fn cgroup(name: &str) -> Cgroup {
    Cgroup::create(name).expect("a cgroup of cgroup2")
}

/// Repeats `step` for `length`.
pub fn repeat(length: Duration, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        step()?;
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
