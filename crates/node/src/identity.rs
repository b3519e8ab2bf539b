//! Resolves identities: from the numbers in kernel records to names.
//!
//! A tgid and a cgroup id go in, an [`Actor`] comes out: process, cgroup path,
//! systemd unit and the workload (pod, virtual machine, container, volume), from
//! /proc, the cgroup filesystem and what the kubelet leaves on the disk. Names are
//! remembered after the process has ended and its cgroup is gone. Everything is
//! bounded; what is evicted to make room, and what was gone before the first look,
//! is counted.
//!
//! It has no clock: callers say what time it is (any monotonic nanoseconds).
//! It never asks a container runtime or an API server: they may be down because
//! of what is being traced.

use std::path::Path;

use tracer_snapshot::{Actor, labels::Identify};

use crate::tree::Tree;

mod arguments;
mod cgroup_path;
mod cgroups;
mod containers;
mod controller;
mod pods;
mod process;
mod procfs;
mod unit;
mod workload;

pub use arguments::{Program, find_program};
pub use process::Process;
pub use unit::unit;

use cgroup_path::CgroupIdentity;
use cgroups::Cgroups;
use process::Processes;
use workload::{Names, find_workload};

/// Everybody seen so far.
#[derive(Debug)]
pub struct Identities {
    tree: Tree,
    /// The root of the node's other files, the kubelet's above all.
    host: Tree,
    processes: Processes,
    cgroups: Cgroups,
    names: Names,
}

impl Identities {
    /// Identities of the node whose `/proc` and `/sys` lie below `root`, and all
    /// its other files below `host`.
    pub fn new(root: &Path, host: &Path) -> Self {
        let tree = Tree::new(root);
        let v1_controller = find_v1_controller(&tree);
        Self {
            tree,
            host: Tree::new(host),
            processes: Processes::new(v1_controller),
            cgroups: Cgroups::new(v1_controller),
            names: Names::default(),
        }
    }

    /// The process with this tgid, or the last one that had it; `None` when it was gone
    /// before the first look.
    ///
    /// Looks at /proc the first time and every few seconds of `now_ns` from
    /// then on; otherwise it is one look-up in a table, without allocation.
    pub fn process(&mut self, tgid: u32, now_ns: u64) -> Option<&Process> {
        self.processes.find(&self.tree, tgid, now_ns)
    }

    /// The path of a cgroup by its number (see [`tracer_ebpf::cgroup`]).
    ///
    /// An id never seen may cost a walk through the cgroup filesystem, at most
    /// one every few seconds; until then it is `None`.
    pub fn cgroup(&mut self, id: u64, now_ns: u64) -> Option<&str> {
        self.cgroups.find(&self.tree, id, now_ns)
    }

    /// The number by which a process's cgroup goes (see [`tracer_ebpf::cgroup`]); 0 if that is not
    /// found.
    pub fn cgroup_of(&mut self, tgid: u32, now_ns: u64) -> u64 {
        let process = self.processes.find(&self.tree, tgid, now_ns);
        process.and_then(|process| self.cgroups.number(&self.tree, process)).unwrap_or(0)
    }

    /// Learns the path of a cgroup from a process that is still there. That saves a walk,
    /// and also finds cgroups that live for less than the time between two walks.
    fn learn_cgroup(&mut self, tgid: u32, cgroup_id: u64) {
        let process = self.processes.known(tgid);
        if let Some(path) = process.and_then(|process| process.path_for(cgroup_id)) {
            self.cgroups.learn(&self.tree, cgroup_id, path);
        }
    }

    /// Processes and cgroups that were gone before the first look.
    pub fn unresolved(&self) -> u64 {
        self.processes.unresolved() + self.cgroups.unresolved()
    }

    /// Reads that did not answer in time: of arguments, and of names on the node's disk.
    pub fn late(&self) -> u64 {
        self.processes.late() + self.names.errands.late()
    }

    /// Identities evicted to make room.
    pub fn evicted(&self) -> u64 {
        let names = self.names.pods.evicted() + self.names.containers.evicted();
        self.processes.evicted() + self.cgroups.evicted() + names
    }
}

/// The controller by whose hierarchy of cgroup v1 processes go that are in the root of
/// v2; `None` where all controllers are of v2.
pub fn find_v1_controller(tree: &Tree) -> Option<&'static str> {
    let cgroup = tree.read_up_to("proc/self/cgroup", process::CGROUP_FILE_BYTES).ok()?;
    procfs::find_v1_controller(&cgroup)
}

/// When a process was started, in clock ticks since the boot; `None` if it is gone.
pub(crate) fn start_ticks(tree: &Tree, tgid: u32) -> Option<u64> {
    let stat = tree.read_up_to(format!("proc/{tgid}/stat"), process::STAT_FILE_BYTES).ok()?;
    procfs::parse_stat(&stat).map(|stat| stat.start_ticks)
}

/// Whether a process is a kernel thread, by its flags in /proc; false if it is
/// gone. For kernels whose programs cannot read the flags.
pub fn is_kernel_thread(root: &Path, tgid: u32) -> bool {
    let stat = std::fs::read(root.join(format!("proc/{tgid}/stat")));
    stat.is_ok_and(|stat| procfs::parse_stat(&stat).is_some_and(|stat| stat.kernel_thread))
}

impl Identify for Identities {
    /// Everything known about the one whom a kernel record names.
    ///
    /// The record's own `comm` wins over the process's: that one may have
    /// executed another program since.
    fn actor(
        &mut self,
        comm: &str,
        tgid: u32,
        cgroup_id: u64,
        kernel_thread: bool,
        now_ns: u64,
    ) -> Actor {
        self.processes.find(&self.tree, tgid, now_ns);
        self.learn_cgroup(tgid, cgroup_id);
        // Since the last look another process may have got the number, with another cgroup
        // and other arguments. Threads may have names of their own.
        if self.processes.known(tgid).is_some_and(|process| {
            let path = process.path_for(cgroup_id);
            let is_there = path.is_none() || self.cgroups.known(cgroup_id) == path;
            let is_its = process.comm == comm || comm.is_empty();
            let is_as_known = is_its && is_there;
            !kernel_thread && !is_as_known
        }) {
            self.processes.check(&self.tree, tgid, now_ns);
            self.learn_cgroup(tgid, cgroup_id);
        }
        let process = self.processes.known(tgid);
        let cgroup = match self.cgroups.find(&self.tree, cgroup_id, now_ns) {
            Some(path) if path != "/" => path,
            // On hybrid hosts everybody is in the root of v2, and v1 says more.
            root => match process {
                Some(process) if !kernel_thread => &process.cgroup,
                _ if kernel_thread => "/",
                _ => root.unwrap_or_default(),
            },
        };
        let comm = match process {
            Some(process) if comm.is_empty() => &process.comm,
            _ => comm,
        };
        let identity = CgroupIdentity::of(cgroup);
        // The arguments of the known process count only if it is in that cgroup: otherwise
        // it was moved, or its number is another process's by now.
        let program = process.filter(|process| {
            process.cgroup == cgroup
                || process.path_for(cgroup_id) == Some(cgroup)
                || (!kernel_thread && CgroupIdentity::of(&process.cgroup) == identity)
        });
        let program = program.filter(|process| process.program.is_some());
        let named = program.and_then(|process| process.program.as_ref());
        let mut workload = find_workload(&mut self.names, &self.host, identity, named, now_ns);
        if let (Some(workload), Some(process)) = (&mut workload, program) {
            let others = self.processes.count_others(process);
            if others > 0 {
                workload.name.push_str(&format!(" +{others}"));
            }
        }
        Actor {
            comm: comm.to_owned(),
            tgid,
            cgroup: cgroup.to_owned(),
            unit: unit(cgroup),
            kernel_thread,
            workload,
        }
    }
}

#[cfg(test)]
mod tests;
