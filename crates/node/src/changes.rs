//! Changes on a node that may explain why a victim's syncs change: a culprit ended; a limit of a
//! cgroup, a disk's scheduler or a mount's options were changed.
//!
//! Each look gets the victims and culprits of the last minutes, and returns a sentence for each
//! difference from the previous look. Only their cgroups, disks and filesystems are looked at,
//! and all lists are bounded. A read about a disk that hangs may block forever, so only a thread
//! that may wait looks. All files are read below a root, and their bytes are not trusted. Changed
//! limits are found in cgroup v2 only.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use crate::{
    devices,
    disks::chosen,
    identity::start_ticks,
    mounts,
    tree::{Tree, text},
};

/// Settings of a cgroup that hold its processes back.
const LIMITS: [&str; 6] =
    ["cpu.max", "io.max", "io.latency", "io.weight", "memory.high", "memory.max"];

/// Settings of a disk's queue, beside its scheduler.
const QUEUE: [&str; 3] = ["nr_requests", "wbt_lat_usec", "write_cache"];

/// Settings that begin like this are long lists; a mark shows only what changed in them.
const MOUNT: &str = "mount options of ";

/// A cgroup is looked at together with those above it, up to this number of levels; at most this
/// number of cgroups, and of disks, is looked at.
const DEPTH: usize = 4;
const CGROUPS: usize = 32;
const DISKS: usize = 16;

/// The longest value in a sentence, and the longest name.
const VALUE_BYTES: usize = 64;
const NAME_BYTES: usize = 100;

/// No file that is read here is longer.
const FILE_BYTES: usize = 4096;

/// A setting is marked at most this often within [`QUIET_NS`], so that one that changes all the
/// time does not fill a recording.
const SAID: usize = 4;
const QUIET_NS: u64 = 600_000_000_000;

/// An actor whose cgroup is looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WatchedActor {
    /// As outputs show it.
    pub name: String,
    /// The process seen last; 0 where none is known.
    pub tgid: u32,
    /// The path of its cgroup; empty where unknown.
    pub cgroup: String,
    /// Whether its end sets a mark.
    pub is_culprit: bool,
}

/// The actors, disks and filesystems that are looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watched {
    pub actors: Vec<WatchedActor>,
    /// Names of disks, as in `/sys/block`.
    pub disks: Vec<String>,
    /// Names of the block devices of filesystems.
    pub devices: Vec<String>,
}

/// The settings and the culprits as they were at the last look.
#[derive(Debug)]
pub struct Changes {
    tree: Tree,
    /// The last value of each setting.
    settings: BTreeMap<String, String>,
    culprits: HashMap<(String, u32), Culprit>,
    /// When each setting was marked.
    said: HashMap<String, Vec<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Culprit {
    /// When its process started; `None` once that has ended.
    started: Option<u64>,
    /// Whether its cgroup has a process; `None` where that is not known.
    is_populated: Option<bool>,
}

impl Changes {
    /// The changes of the node whose `/proc` and `/sys` lie below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            tree: Tree::new(root),
            settings: BTreeMap::new(),
            culprits: HashMap::new(),
            said: HashMap::new(),
        }
    }

    /// Looks again, and returns the differences. The first look at a setting returns nothing about
    /// it, because there is no earlier one to compare it with.
    pub fn look(&mut self, now_ns: u64, watched: &Watched) -> Vec<String> {
        let mut found = self.ended(&watched.actors);
        let settings = self.read_settings(watched);
        for (of, now) in &settings {
            if let Some(before) = self.settings.get(of).filter(|before| *before != now) {
                let (before, now) = match of.starts_with(MOUNT) {
                    true => (without(before, now), without(now, before)),
                    false => (before.clone(), now.clone()),
                };
                let sentence = format!("{of} changed from {} to {}", shown(&before), shown(&now));
                found.push((of.clone(), sentence));
            }
        }
        self.settings = settings;
        self.said.retain(|_, times| {
            times.retain(|then| now_ns.saturating_sub(*then) < QUIET_NS);
            !times.is_empty()
        });
        found.retain(|(of, _)| {
            let times = self.said.entry(of.clone()).or_default();
            let has_room = times.len() < SAID;
            times.extend(has_room.then_some(now_ns));
            has_room
        });
        found.into_iter().map(|(_, sentence)| sentence).collect()
    }

    /// Culprits of which a process, or all of the cgroup, has ended.
    fn ended(&mut self, actors: &[WatchedActor]) -> Vec<(String, String)> {
        let mut now = HashMap::new();
        let mut found = Vec::new();
        for actor in actors.iter().filter(|actor| actor.is_culprit) {
            let key = (actor.name.clone(), actor.tgid);
            let is_populated = self.is_populated(&actor.cgroup);
            let started = start_ticks(&self.tree, actor.tgid);
            let Some(before) = self.culprits.get(&key) else {
                now.insert(key, Culprit { started, is_populated });
                continue;
            };
            let has_ended = before.started.is_some() && started != before.started;
            let is_empty = before.is_populated == Some(true) && is_populated == Some(false);
            let WatchedActor { name, tgid, .. } = actor;
            let goes_on = is_populated == Some(true);
            let sentence = match (has_ended, is_empty) {
                (true, _) if goes_on => {
                    Some(format!("process {tgid} of {name} ended; others in its cgroup still run"))
                }
                (true, _) => Some(format!("{name} ended")),
                (false, true) => Some(format!("all processes of the cgroup of {name} ended")),
                (false, false) => None,
            };
            found.extend(sentence.map(|sentence| (format!("the end of {name}"), sentence)));
            // If the start time differs, another process has the number now.
            let started = before.started.filter(|_| !has_ended);
            now.insert(key, Culprit { started, is_populated });
        }
        self.culprits = now;
        found
    }

    fn is_populated(&self, cgroup: &str) -> Option<bool> {
        let folder = folder(cgroup)?;
        if !self.tree.at(V2_FILE).exists() {
            return None;
        }
        let events = self.tree.read_up_to(format!("{folder}/cgroup.events"), FILE_BYTES);
        // If that cannot be read, the cgroup was removed.
        let Ok(events) = events else { return Some(false) };
        Some(events.split(|&b| b == b'\n').any(|line| line == b"populated 1"))
    }

    fn read_settings(&self, watched: &Watched) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let read = |of: String, path: String| {
            let bytes = self.tree.read_up_to(path, FILE_BYTES).ok()?;
            Some((of, text(bytes.trim_ascii(), FILE_BYTES)))
        };
        for cgroup in cgroups(&watched.actors) {
            for limit in LIMITS {
                let of = format!("{limit} of {}", end_of(&cgroup));
                settings.extend(read(of, format!("{V2}{cgroup}/{limit}")));
            }
        }
        for disk in watched.disks.iter().take(DISKS).filter(|name| is_name(name)) {
            let queue = format!("sys/block/{disk}/queue");
            for file in QUEUE {
                settings.extend(read(format!("{file} of {disk}"), format!("{queue}/{file}")));
            }
            let scheduler = self.tree.read_line(format!("{queue}/scheduler"));
            settings.extend(scheduler.map(|all| (format!("scheduler of {disk}"), chosen(all))));
        }
        self.read_mounts(&watched.devices, &mut settings);
        settings
    }

    /// The options of the first mount of each filesystem.
    fn read_mounts(&self, names: &[String], settings: &mut BTreeMap<String, String>) {
        let mut wanted = HashMap::new();
        for name in names.iter().take(DISKS).filter(|name| is_name(name)) {
            let line = self.tree.read_line(format!("sys/class/block/{name}/dev"));
            let number = line.and_then(|line| devices::parse(line.trim().as_bytes()));
            wanted.extend(number.map(|number| (number, name)));
        }
        if wanted.is_empty() {
            return;
        }
        let read = |process| mounts::read(&self.tree, process).ok();
        let table = ["1", "self"].into_iter().find_map(read).unwrap_or_default();
        let mut seen = BTreeSet::new();
        for mount in mounts::parse(&table) {
            let Some(name) = wanted.get(&mount.device) else { continue };
            if !seen.insert(mount.device) {
                continue;
            }
            let point = text(&mounts::unescape(mount.point), FILE_BYTES);
            let of = format!("{MOUNT}{} on {name}", end_of(&point));
            let of_both = [mount.own_options, mount.options].map(|part| text(part, FILE_BYTES));
            settings.insert(of, of_both.join(" "));
        }
    }
}

const V2: &str = "sys/fs/cgroup";
const V2_FILE: &str = "sys/fs/cgroup/cgroup.controllers";

/// The cgroups of these, and those above them, each once.
fn cgroups(actors: &[WatchedActor]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for actor in actors.iter().filter(|actor| folder(&actor.cgroup).is_some()) {
        let mut path = actor.cgroup.as_str();
        for _ in 0..DEPTH {
            if path.len() <= 1 || found.len() >= CGROUPS {
                break;
            }
            found.insert(path.to_owned());
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
    found
}

/// The directory of a cgroup of version 2, if that is below the root of all.
fn folder(cgroup: &str) -> Option<String> {
    let is_path = cgroup.starts_with('/') && cgroup.len() > 1;
    let leads_out = cgroup.split('/').any(|part| part == "..");
    (is_path && !leads_out).then(|| format!("{V2}{cgroup}"))
}

/// Whether it is the name of a file, and no path.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// A value in a sentence: one line, bounded, and `nothing` for an empty one.
fn shown(value: &str) -> String {
    let line = value.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    match line.as_str() {
        "" => "nothing".to_owned(),
        line => text(line.as_bytes(), VALUE_BYTES),
    }
}

/// The options of one list that another lacks.
fn without(options: &str, others: &str) -> String {
    let split = |list: &str| -> Vec<String> { list.split([',', ' ']).map(str::to_owned).collect() };
    let others = split(others);
    let mut left = split(options);
    left.retain(|option| !others.contains(option));
    left.join(",")
}

/// The end of a path, which distinguishes it.
fn end_of(path: &str) -> &str {
    let from = path.len().saturating_sub(NAME_BYTES);
    let from = (from..=path.len()).find(|at| path.is_char_boundary(*at));
    &path[from.unwrap_or_default()..]
}

#[cfg(test)]
mod tests;
