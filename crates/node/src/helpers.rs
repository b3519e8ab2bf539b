//! Helpers: processes and threads of this node that syncs wait for, and how long
//! those waited for a CPU themselves.
//!
//! Once a second a look gets the disks and filesystems that the victims of the last
//! seconds sync on. It returns who serves these disks (a FUSE file under a loop
//! device, nbd, an iSCSI target: `servers`), which kernel threads work for them
//! (`threads`), and what the scheduler counted for each since the look before.
//! Nothing else is looked at.
//!
//! All of it is read by an errand, which is waited for no longer than a moment: a
//! search for a server takes longer on a large node, and is known a second later.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tracer_engine::helper::Role;

use crate::{
    errand::{Answer, Errand, Errands},
    surroundings::{
        cpu::read_throttled,
        hierarchies::{Controller, Hierarchies},
        levels,
    },
    tree::{Tree, number, text},
};

mod servers;
mod sockets;
mod threads;

/// Helpers are looked for again this often, and at once if one is gone.
const FIND_EVERY_NS: u64 = 10_000_000_000;

/// A search for a server may look at every descriptor of the node.
const SERVERS_EVERY_NS: u64 = 60_000_000_000;

/// At most this number of different places, and of helpers, is looked at.
const PATHS: usize = 32;
const HELPERS: usize = 32;

/// Threads of one process that are read.
const THREADS: usize = 256;

/// A look takes less than a millisecond, unless it searches for a server.
const PATIENCE: Duration = Duration::from_millis(10);

const SMALL_BYTES: usize = 4096;

/// The disk and the filesystem of a victim.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The disk's index in records and its device number; `None` for a filesystem that
    /// is on no block device of this kernel.
    pub disk: Option<(u32, u32)>,
    /// The filesystem's device.
    pub device: u32,
}

/// A helper, and how long it was held up since the previous look.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub place: Place,
    pub role: Role,
    pub tgid: u32,
    pub comm: String,
    /// The time for which its threads waited for a CPU, added up.
    pub waited_ns: u64,
    /// The number of equally busy threads that would give the same sum.
    pub spread: f64,
    /// The time for which a quota throttled its cgroup, and that quota's setting.
    pub limited_ns: u64,
    pub setting: String,
    pub tids: Vec<u32>,
}

/// Looks at helpers once a second.
#[derive(Debug)]
pub struct Helpers {
    tree: Tree,
    errands: Errands,
    at_work: Option<Errand<(Watch, Vec<Seen>)>>,
    /// `None` while an errand uses it.
    watch: Option<Watch>,
    was_late: bool,
    late: u64,
}

impl Helpers {
    /// The helpers of the node whose `/proc` and `/sys` lie below `root`.
    pub fn new(root: &Path) -> Self {
        let tree = Tree::new(root);
        let watch = Some(Watch::new(tree.clone()));
        Self { tree, errands: Errands::default(), at_work: None, watch, was_late: false, late: 0 }
    }

    /// Helpers since the last look. If the errand is not back in a moment, the
    /// next look returns what it found.
    pub fn look(&mut self, now_ns: u64, places: &[Place]) -> Vec<Seen> {
        let mut seen = Vec::new();
        if let Some(errand) = self.at_work.take() {
            self.receive(errand.look(), &mut seen);
            if self.at_work.is_some() {
                self.late += u64::from(!self.was_late);
                self.was_late = true;
                return seen;
            }
        }
        self.was_late = false;
        let places = distinct(places);
        let mut watch = self.watch.take().unwrap_or_else(|| Watch::new(self.tree.clone()));
        let errand = self.errands.send_out(move || {
            let seen = watch.look(now_ns, &places);
            (watch, seen)
        });
        match errand {
            Some(errand) => self.receive(errand.wait(PATIENCE), &mut seen),
            None => self.late += 1,
        }
        seen
    }

    fn receive(&mut self, answer: Answer<(Watch, Vec<Seen>)>, seen: &mut Vec<Seen>) {
        match answer {
            Answer::Done((watch, found)) => {
                self.watch = Some(watch);
                seen.extend(found);
            }
            Answer::Late(errand) => self.at_work = Some(errand),
            Answer::None => self.late += 1,
        }
    }

    /// Looks that did not end within a second, or not at all.
    pub fn late(&self) -> u64 {
        self.late
    }
}

/// The places of all victims, each once. Many victims may be on one disk.
fn distinct(places: &[Place]) -> Vec<Place> {
    let mut known = HashSet::new();
    let mut distinct: Vec<_> =
        places.iter().copied().filter(|place| known.insert(*place)).take(PATHS).collect();
    distinct.sort_unstable();
    distinct
}

/// All that is known between looks.
#[derive(Debug)]
struct Watch {
    tree: Tree,
    hierarchies: Hierarchies,
    /// Helpers by place.
    found: HashMap<Place, Vec<Worker>>,
    found_ns: Option<u64>,
    /// When the servers of a place were looked for.
    servers: HashMap<Place, (u64, Vec<u32>)>,
    /// At the look before, by process: the threads' counters, and for how long which
    /// cgroup had been held back.
    before: HashMap<u32, Reading>,
    /// The time of that look.
    looked_ns: u64,
}

/// A process or a thread that works for a place.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Worker {
    role: Role,
    tgid: u32,
    /// A kernel worker works for somebody else once it is called otherwise.
    comm: Option<String>,
}

/// A process's counters since its start.
#[derive(Clone, Debug, Default)]
struct Reading {
    comm: String,
    threads: HashMap<u32, Times>,
    /// The time for which each cgroup was held back, and its setting.
    throttled: HashMap<PathBuf, (u64, String)>,
}

/// A thread's times since its start, in ns.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    ran: u64,
    /// Its waits for a CPU that have ended, as the kernel counts them.
    waited: u64,
    /// The part of a wait that has not ended for which it is known to have waited.
    waits: u64,
    /// Whether it could run, and has not since the look before.
    is_runnable: bool,
}

impl Times {
    /// Adds the wait that has not ended. A thread that could run at the look before, and now, and
    /// has not run in these `elapsed_ns`, waited all the time.
    fn go_on(&mut self, before: &Self, elapsed_ns: u64, is_runnable: impl FnOnce() -> bool) {
        if (self.ran, self.waited) != (before.ran, before.waited) || !is_runnable() {
            return;
        }
        self.is_runnable = true;
        self.waits = before.waits + if before.is_runnable { elapsed_ns } else { 0 };
    }
}

impl Watch {
    fn new(tree: Tree) -> Self {
        Self {
            tree,
            hierarchies: Hierarchies::default(),
            found: HashMap::new(),
            found_ns: None,
            servers: HashMap::new(),
            before: HashMap::new(),
            looked_ns: 0,
        }
    }

    fn look(&mut self, now_ns: u64, places: &[Place]) -> Vec<Seen> {
        self.find(now_ns, places);
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now_ns;
        let mut now = HashMap::new();
        let mut seen = Vec::new();
        for place in places {
            for Worker { role, tgid, comm } in self.found.get(place).into_iter().flatten() {
                if seen.len() >= HELPERS {
                    break;
                }
                let reading = match now.get(tgid) {
                    Some(known) => known,
                    None => match self.read(*tgid, elapsed_ns) {
                        Some(reading) => now.entry(*tgid).or_insert(reading),
                        None => {
                            // Gone: another may serve in its place.
                            self.found_ns = None;
                            self.servers.remove(place);
                            continue;
                        }
                    },
                };
                if comm.as_ref().is_some_and(|comm| *comm != reading.comm) {
                    continue;
                }
                let before = self.before.get(tgid);
                seen.extend(before.map(|before| difference(*place, *role, *tgid, before, reading)));
            }
        }
        self.before = now;
        seen
    }

    /// Finds out who works for these places.
    fn find(&mut self, now_ns: u64, places: &[Place]) {
        let is_due = self.found_ns.is_none_or(|then| now_ns.saturating_sub(then) >= FIND_EVERY_NS);
        if !is_due && places.iter().all(|place| self.found.contains_key(place)) {
            return;
        }
        self.found_ns = Some(now_ns);
        self.hierarchies = Hierarchies::find(&self.tree);
        let kernel = threads::list(&self.tree);
        let mut servers = std::mem::take(&mut self.servers);
        servers.retain(|place, (then, _)| {
            places.contains(place) && now_ns.saturating_sub(*then) < SERVERS_EVERY_NS
        });
        self.found = places
            .iter()
            .map(|place| {
                let (_, server) = servers
                    .entry(*place)
                    .or_insert_with(|| (now_ns, servers::find(&self.tree, *place)));
                let server = server.iter().map(|tgid| (Role::Server, *tgid, None));
                let names = threads::names(&self.tree, *place);
                let found = server.chain(threads::of(&kernel, &names));
                let found = found.map(|(role, tgid, comm)| Worker { role, tgid, comm });
                (*place, found.collect())
            })
            .collect();
        self.servers = servers;
    }

    fn read(&self, tgid: u32, elapsed_ns: u64) -> Option<Reading> {
        let before = self.before.get(&tgid);
        let comm = threads::comm(&self.tree, tgid)?;
        let mut reading = Reading { comm, ..Reading::default() };
        let tasks = fs::read_dir(self.tree.at(format!("proc/{tgid}/task"))).ok()?;
        for task in tasks.take(THREADS) {
            let Some(tid) =
                task.ok().and_then(|task| number::<u32>(task.file_name().as_encoded_bytes()))
            else {
                continue;
            };
            let path = format!("proc/{tgid}/task/{tid}/schedstat");
            // A thread may have ended.
            let stat = self.tree.read_up_to(path, SMALL_BYTES).ok();
            if let Some(mut times) = stat.as_deref().and_then(parse_schedstat) {
                if let Some(before) = before.and_then(|before| before.threads.get(&tid)) {
                    times.go_on(before, elapsed_ns, || self.is_runnable(tgid, tid));
                }
                reading.threads.insert(tid, times);
            }
        }
        let unified = self.tree.read_up_to(format!("proc/{tgid}/cgroup"), SMALL_BYTES).ok();
        let unified = unified.as_deref().and_then(parse_unified);
        let cgroups =
            self.hierarchies.cgroups(&self.tree, Controller::Cpu, unified.as_deref(), tgid);
        for cgroup in &cgroups {
            for folder in levels(cgroup) {
                if let Some((all, mut setting)) = read_throttled(folder, cgroup.hierarchy) {
                    let path = folder.strip_prefix(&cgroup.top).unwrap_or(folder);
                    setting += &format!(" of /{}", path.display());
                    reading.throttled.insert(folder.to_path_buf(), (all.ns, setting));
                }
            }
        }
        Some(reading)
    }

    fn is_runnable(&self, tgid: u32, tid: u32) -> bool {
        let mut stat = [0; 256];
        let stat = self.tree.read(format_args!("proc/{tgid}/task/{tid}/stat"), &mut stat);
        stat.is_ok_and(|stat| state(stat) == Some(b'R'))
    }
}

/// The state of a thread, from `7 (name) S …`. The name may hold anything.
pub(crate) fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    stat.get(end + 2).copied()
}

fn difference(place: Place, role: Role, tgid: u32, before: &Reading, now: &Reading) -> Seen {
    let (mut waited_ns, mut sum, mut squares) = (0u64, 0.0, 0.0);
    for (tid, now) in &now.threads {
        let before = before.threads.get(tid).copied().unwrap_or_default();
        let (ran, waited) = match now.ran.checked_sub(before.ran) {
            Some(ran) if now.waited >= before.waited => {
                (ran, (now.waited + now.waits).saturating_sub(before.waited + before.waits))
            }
            // A thread's number may have been given to another.
            _ => (now.ran, now.waited),
        };
        waited_ns = waited_ns.saturating_add(waited);
        let work = ran as f64 + waited as f64;
        sum += work;
        squares += work * work;
    }
    let mut seen = Seen {
        place,
        role,
        tgid,
        comm: now.comm.clone(),
        waited_ns,
        spread: if squares > 0.0 { sum * sum / squares } else { 1.0 },
        limited_ns: 0,
        setting: String::new(),
        tids: now.threads.keys().copied().collect(),
    };
    for (folder, (ns, setting)) in &now.throttled {
        let then = before.throttled.get(folder).map_or(*ns, |(ns, _)| *ns);
        let held_ns = ns.saturating_sub(then);
        if held_ns > seen.limited_ns {
            (seen.limited_ns, seen.setting) = (held_ns, setting.clone());
        }
    }
    seen
}

/// `4589716 64066 1`: it ran, it could have run, so often.
fn parse_schedstat(stat: &[u8]) -> Option<Times> {
    let mut words = stat.split(u8::is_ascii_whitespace);
    let (ran, waited) = (number(words.next()?)?, number(words.next()?)?);
    Some(Times { ran, waited, waits: 0, is_runnable: false })
}

/// A process's cgroup of version 2, from the line `0::/path`.
pub(crate) fn parse_unified(cgroup: &[u8]) -> Option<String> {
    let path = cgroup.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(text(path, SMALL_BYTES))
}

#[cfg(test)]
mod tests;
