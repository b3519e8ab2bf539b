//! Limits on memory that are reached, and threads that wait because of one.
//!
//! A cgroup of version 2 counts how often its own limit was reached (`memory.events.local`), and one
//! of version 1 how often memory was refused (`memory.failcnt`). So a process whose cgroup has no
//! limit, on a machine that is short of memory, is at no limit. A thread that allocates above
//! `memory.high` sleeps for up to two seconds, mostly on its way out of the kernel
//! (`__mem_cgroup_handle_over_high` in
//! <https://elixir.bootlin.com/linux/v6.18/source/mm/memcontrol.c>), or is in reclaim. In which of
//! them it sleeps is shown (`wchan`), though not on x86-64 before Linux 5.16, whose `get_wchan` needs
//! frame pointers
//! (<https://elixir.bootlin.com/linux/v5.10/source/arch/x86/kernel/process.c>). A thread that is not
//! shown, or that runs in reclaim, is not seen to wait: the time in
//! which all tasks of the cgroup that had something to do waited for memory (`full` in
//! `memory.pressure`) includes that, where the kernel counts it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{PATH_BYTES, field};
use crate::{
    surroundings::{Hierarchy, hierarchies::LimitedCgroup, levels},
    tree::{number, text},
};

/// Limits and their counts are read this often.
const READ_EVERY: Duration = Duration::from_millis(900);

/// A limit counts as reached for this long after it was. A thread sleeps for up to two seconds
/// because of one, and the next look at the counts is a second later.
const LATELY: Duration = Duration::from_secs(4);

/// A process that was not looked at for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Version 1 shows the lack of a limit as a number that no machine's memory reaches.
const NO_LIMIT: u64 = 1 << 60;

/// A limit that was reached lately.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reached {
    /// The file of the limit, and its cgroup.
    pub setting: String,
    pub limit_bytes: u64,
    pub used_bytes: u64,
    /// The time since the look before for which all tasks of the process's cgroup that had
    /// something to do waited for memory; 0 where the kernel does not count it.
    pub stalled_ns: u64,
    /// Whether no task of it waited for memory since then.
    pub is_idle: bool,
}

/// The limits of the processes that are looked at.
#[derive(Debug, Default)]
pub struct Limits {
    known: BTreeMap<u32, Known>,
}

/// The limits of one process.
#[derive(Debug)]
struct Known {
    read: Instant,
    /// The cgroup of version 2, which counts stalls.
    unified: Option<PathBuf>,
    /// How often each limit was reached so far, by its file.
    counts: BTreeMap<PathBuf, u64>,
    /// The limit that was reached last, and when that was seen.
    reached: Option<(Instant, Limit)>,
    pressure: Option<Pressure>,
}

/// The time for which tasks of a cgroup waited for memory so far, in µs: some of them, and all that
/// had something to do.
#[derive(Clone, Copy, Debug)]
struct Pressure {
    some: u64,
    full: u64,
}

/// A limit in force.
#[derive(Clone, Debug)]
struct Limit {
    file: PathBuf,
    setting: String,
    bytes: u64,
    /// How often it was reached so far.
    count: u64,
    /// The file with the memory that is used.
    used: PathBuf,
}

impl Limits {
    /// The limit on the memory of a process that was reached within the last seconds. At the first
    /// look it is not known yet how often it was reached before.
    pub fn look(
        &mut self,
        tgid: u32,
        now: Instant,
        cgroups: impl FnOnce() -> Vec<LimitedCgroup>,
    ) -> Option<Reached> {
        let is_new = !self.known.contains_key(&tgid);
        if is_new {
            self.known.retain(|_, known| now.saturating_duration_since(known.read) < FORGOTTEN);
        }
        let known = self.known.entry(tgid).or_insert_with(|| Known {
            read: now,
            unified: None,
            counts: BTreeMap::new(),
            reached: None,
            pressure: None,
        });
        if is_new || now.saturating_duration_since(known.read) >= READ_EVERY {
            known.read(now, &cgroups());
        }
        if known.counts.is_empty() {
            return None;
        }
        // It is read at each look, so stalls from before the limit was reached are left out.
        let stalled = known.stalled();
        let (seen, limit) = known.reached.as_ref()?;
        if now.saturating_duration_since(*seen) >= LATELY {
            return None;
        }
        Some(Reached {
            setting: limit.setting.clone(),
            limit_bytes: limit.bytes,
            used_bytes: read_number(&limit.used).unwrap_or(0),
            stalled_ns: stalled.map_or(0, |stalled| stalled.full.saturating_mul(1000)),
            is_idle: stalled.is_some_and(|stalled| stalled.some == 0),
        })
    }
}

impl Known {
    /// Reads the limits and how often they were reached.
    fn read(&mut self, now: Instant, cgroups: &[LimitedCgroup]) {
        self.read = now;
        let unified = cgroups.iter().find(|cgroup| cgroup.hierarchy == Hierarchy::Unified);
        let unified = unified.map(|cgroup| cgroup.folder.clone());
        if self.unified != unified {
            (self.unified, self.pressure) = (unified, None);
        }
        let limits: Vec<_> = cgroups.iter().flat_map(limits).collect();
        let is_reached = |limit: &&Limit| {
            self.counts.get(&limit.file).is_some_and(|before| limit.count > *before)
        };
        if let Some(limit) = limits.iter().find(is_reached) {
            self.reached = Some((now, limit.clone()));
        }
        self.counts = limits.into_iter().map(|limit| (limit.file, limit.count)).collect();
    }

    /// The time since the look before in which tasks waited; `None` where it is not known.
    fn stalled(&mut self) -> Option<Pressure> {
        let now = self.unified.as_deref().and_then(Pressure::read);
        let before = std::mem::replace(&mut self.pressure, now);
        let (now, before) = (now?, before?);
        let (some, full) = (now.some.checked_sub(before.some)?, now.full.checked_sub(before.full)?);
        Some(Pressure { some, full })
    }
}

impl Pressure {
    /// `None` where the kernel does not count it.
    fn read(folder: &Path) -> Option<Self> {
        let pressure = read(folder, "memory.pressure");
        let total = |name: &[u8]| {
            let mut fields = field(&pressure, name)?.split(|&b| b == b' ');
            fields.find_map(|field| number::<u64>(field.strip_prefix(b"total=")?))
        };
        Some(Self { some: total(b"some ")?, full: total(b"full ")? })
    }
}

/// The limits of a cgroup and of those above it, its own first.
fn limits(cgroup: &LimitedCgroup) -> Vec<Limit> {
    let mut found = Vec::new();
    for folder in levels(cgroup) {
        let path = folder.strip_prefix(&cgroup.top).unwrap_or(folder);
        let path = text(path.as_os_str().as_encoded_bytes(), PATH_BYTES);
        let mut add = |file: &str, count: Option<u64>, used: &str| {
            let limit = read_number(&folder.join(file)).filter(|bytes| *bytes < NO_LIMIT);
            if let (Some(bytes), Some(count)) = (limit, count) {
                found.push(Limit {
                    file: folder.join(file),
                    setting: format!("{file} of /{path}"),
                    bytes,
                    count,
                    used: folder.join(used),
                });
            }
        };
        match cgroup.hierarchy {
            Hierarchy::Unified => {
                let events = read(folder, "memory.events.local");
                for (file, name) in [("memory.high", "high "), ("memory.max", "max ")] {
                    let count = field(&events, name.as_bytes()).and_then(number);
                    add(file, count, "memory.current");
                }
            }
            Hierarchy::V1 => {
                let count = read_number(&folder.join("memory.failcnt"));
                add("memory.limit_in_bytes", count, "memory.usage_in_bytes");
            }
        }
    }
    found
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    fs::read(folder.join(file)).unwrap_or_default()
}

/// The number in a file; `None` if it holds a word instead, or is not there.
fn read_number(file: &Path) -> Option<u64> {
    number(fs::read(file).ok()?.trim_ascii())
}

#[cfg(test)]
mod tests;
