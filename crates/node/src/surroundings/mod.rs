//! Reads the surroundings of syncs: limits that hold victims back, CPU time that
//! the hypervisor takes, and memory.
//!
//! Once a second it gets the victims of the last seconds, and returns the changes
//! since the previous look, as the engine takes them. Everything is read below a
//! root, so that tests can use a directory of files. It knows neither the kernel
//! programs nor names of workloads. Files of cgroups are read for
//! victims and those who hold up their journals, and usage only where there is a limit.

pub mod cpu;
pub mod hierarchies;
pub mod io;
pub mod machine;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use cpu::Throttled;
use hierarchies::{Controller, Hierarchies, LimitedCgroup};
use io::{Reached, Usage};
use tracer_engine::tick::{Limit, LimitKind, Memory};

use crate::tree::Tree;

/// No file that is looked at here is longer.
const FILE_BYTES: usize = 64 << 10;

/// At most this number of nested cgroups is looked at.
const MAX_DEPTH: usize = 16;

/// The mounts of cgroups are read again this often; they hardly ever change.
const MOUNTS_EVERY_NS: u64 = 60_000_000_000;

/// The version of cgroups that a file belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hierarchy {
    Unified,
    V1,
}

/// A victim of the last seconds, or somebody who holds up the journal of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// cgroup v2 id.
    pub cgroup: u64,
    /// The path of that, where it is known.
    pub path: Option<String>,
    pub tgid: u32,
    /// Its disks, as the kernel numbers devices.
    pub devices: Vec<u32>,
    /// Whether it is no victim: then only limits that stop it inside the kernel matter.
    pub is_holder: bool,
}

/// The changes since the previous look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Around {
    pub limits: Vec<Limit>,
    pub steal_ns: u64,
    pub cpus: u32,
    pub memory: Memory,
}

/// Looks around once a second.
#[derive(Debug)]
pub struct Surroundings {
    tree: Tree,
    /// Whether a limit on CPU time stops a task wherever it is, and not only on its way out of
    /// the kernel.
    cpu_stops_in_kernel: bool,
    hierarchies: Hierarchies,
    found_ns: Option<u64>,
    looked_ns: u64,
    steal_ticks: Option<u64>,
    /// The throttled time so far, by the cgroup's directory.
    throttled: HashMap<PathBuf, Throttled>,
    /// The usage so far, by the cgroup's directory and the disk.
    used: HashMap<(PathBuf, u32), Usage>,
}

impl Surroundings {
    /// The surroundings on the node whose `/proc` and `/sys` lie below `root`. Its kernel stops
    /// tasks that have used up their CPU time inside the kernel too, or only outside.
    pub fn new(root: &Path, cpu_stops_in_kernel: bool) -> Self {
        Self {
            tree: Tree::new(root),
            cpu_stops_in_kernel,
            hierarchies: Hierarchies::default(),
            found_ns: None,
            looked_ns: 0,
            steal_ticks: None,
            throttled: HashMap::new(),
            used: HashMap::new(),
        }
    }

    /// Reads what there is to read. The first look at anything reports nothing,
    /// because there is none to compare it with.
    pub fn look(&mut self, now_ns: u64, subjects: &[Subject]) -> Around {
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now_ns;
        let mut around = Around::default();
        let (steal_ns, cpus) = self.steal();
        (around.steal_ns, around.cpus) = (steal_ns, cpus);
        let meminfo = self.tree.read_up_to("proc/meminfo", FILE_BYTES).unwrap_or_default();
        around.memory = machine::parse_memory(&meminfo).unwrap_or_default();
        if subjects.is_empty() {
            self.throttled.clear();
            self.used.clear();
            return around;
        }
        if self.found_ns.is_none_or(|then| now_ns.saturating_sub(then) >= MOUNTS_EVERY_NS) {
            self.hierarchies = Hierarchies::find(&self.tree);
            self.found_ns = Some(now_ns);
        }
        let mut look = Look {
            elapsed_ns,
            cpu_stops_in_kernel: self.cpu_stops_in_kernel,
            throttled: std::mem::take(&mut self.throttled),
            used: std::mem::take(&mut self.used),
            now_throttled: HashMap::new(),
            now_used: HashMap::new(),
            limits: &mut around.limits,
        };
        for subject in subjects {
            let cgroups = |controller| {
                let path = subject.path.as_deref();
                self.hierarchies.cgroups(&self.tree, controller, path, subject.tgid)
            };
            if look.cpu_stops_in_kernel || !subject.is_holder {
                cgroups(Controller::Cpu).iter().for_each(|cgroup| look.cpu(subject, cgroup));
            }
            cgroups(Controller::Io).iter().for_each(|cgroup| look.io(subject, cgroup));
        }
        (self.throttled, self.used) = (look.now_throttled, look.now_used);
        around
    }

    fn steal(&mut self) -> (u64, u32) {
        let stat = self.tree.read_up_to("proc/stat", FILE_BYTES).unwrap_or_default();
        let Some((ticks, cpus)) = machine::parse_steal(&stat) else { return (0, 0) };
        let before = self.steal_ticks.replace(ticks).unwrap_or(ticks);
        // USER_HZ is part of the kernel's interface.
        (ticks.saturating_sub(before).saturating_mul(1_000_000_000 / 100), cpus)
    }
}

/// One look at the cgroups of all subjects. What was seen of each is kept for the next
/// look; cgroups of no subject are removed.
struct Look<'a> {
    elapsed_ns: u64,
    cpu_stops_in_kernel: bool,
    throttled: HashMap<PathBuf, Throttled>,
    used: HashMap<(PathBuf, u32), Usage>,
    now_throttled: HashMap<PathBuf, Throttled>,
    now_used: HashMap<(PathBuf, u32), Usage>,
    limits: &'a mut Vec<Limit>,
}

impl Look<'_> {
    fn cpu(&mut self, subject: &Subject, cgroup: &LimitedCgroup) {
        for folder in levels(cgroup) {
            let Some((all, setting)) = cpu::read_throttled(folder, cgroup.hierarchy) else {
                continue;
            };
            let before = self.throttled.get(folder).copied().unwrap_or(all);
            self.now_throttled.insert(folder.to_path_buf(), all);
            // CPUs are held back one by one, so their times add up to more.
            let ns = all.ns.saturating_sub(before.ns).min(self.elapsed_ns);
            let times = all.times.saturating_sub(before.times);
            if ns > 0 {
                let (kind, in_kernel) = (LimitKind::Cpu, self.cpu_stops_in_kernel);
                let limit = Limit { cgroup: subject.cgroup, kind, ns, times, setting, in_kernel };
                self.report(limit, cgroup, folder);
            }
        }
    }

    fn io(&mut self, subject: &Subject, cgroup: &LimitedCgroup) {
        // In version 1 the kernel throttles each cgroup as if it had no parents.
        let depth = if cgroup.hierarchy == Hierarchy::V1 { 1 } else { MAX_DEPTH };
        for folder in levels(cgroup).take(depth) {
            for device in &subject.devices {
                let Some(limits) = io::read_limits(folder, cgroup.hierarchy, *device) else {
                    continue;
                };
                let Some(usage) = io::read_usage(folder, cgroup.hierarchy, *device) else {
                    continue;
                };
                let key = (folder.to_path_buf(), *device);
                let before = self.used.get(&key).copied().unwrap_or(usage);
                self.now_used.insert(key, usage);
                let used = std::array::from_fn(|kind| usage[kind].saturating_sub(before[kind]));
                let reached = limits.reached(&used, self.elapsed_ns, subject.is_holder);
                if let Some(Reached { setting, of_reads }) = reached {
                    let limit = Limit {
                        cgroup: subject.cgroup,
                        kind: LimitKind::Io,
                        ns: self.elapsed_ns,
                        times: 0,
                        setting: setting.to_owned(),
                        in_kernel: of_reads,
                    };
                    self.report(limit, cgroup, folder);
                }
            }
        }
    }

    /// Reports a limit in a `folder` of a cgroup, or of one above it.
    fn report(&mut self, mut limit: Limit, cgroup: &LimitedCgroup, folder: &Path) {
        if folder != cgroup.folder {
            let above = folder.strip_prefix(&cgroup.top).unwrap_or(folder);
            limit.setting += &format!(" of /{}", above.display());
        }
        // Several victims may be in one cgroup.
        let is_same = |known: &&mut Limit| {
            (known.cgroup, known.kind, &known.setting) == (limit.cgroup, limit.kind, &limit.setting)
        };
        match self.limits.iter_mut().find(is_same) {
            Some(known) => known.ns = known.ns.max(limit.ns),
            None => self.limits.push(limit),
        }
    }
}

/// A cgroup and those above it, without the root, which has no limits.
pub(crate) fn levels(cgroup: &LimitedCgroup) -> impl Iterator<Item = &Path> {
    cgroup.folder.ancestors().take_while(|folder| **folder != cgroup.top).take(MAX_DEPTH)
}

/// A file of a cgroup; `None` where it is not there.
fn read(folder: &Path, file: &str) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(folder.join(file)).ok()?;
    file.take(FILE_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
