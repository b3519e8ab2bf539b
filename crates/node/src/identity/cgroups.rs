//! Numbers of cgroups to paths.
//!
//! An id is the inode number of the cgroup's directory and is not used twice,
//! so a path once learnt stays right after the cgroup is gone, and an id that
//! a walk begun after it was seen did not find will never be found. Walks are
//! bounded, and the more directories one has met, the longer the next one has
//! to wait: at some 10 µs a directory they take about 1 % of one CPU at worst.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirEntryExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use tracer_ebpf::cgroup;

use super::{
    process::{CGROUP_BYTES, Process},
    procfs::outermost,
};
use crate::{
    mounts,
    tree::{Tree, text},
};

/// Directories visited by one walk.
const MAX_WALK: usize = 20_000;

/// Ids remembered, those without a path included.
const MAX_IDS: usize = 32_768;

/// Time between walks, and what each directory met adds to it.
const WALK_EVERY_NS: u64 = 2_000_000_000;
const WALK_DIRECTORY_NS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub struct Cgroups {
    v1_controller: Option<&'static str>,
    entries: HashMap<u64, Entry>,
    /// As the last walk found them.
    mounts: Vec<CgroupMount>,
    next_walk_ns: u64,
    walks: u64,
    unresolved: u64,
    evicted: u64,
}

#[derive(Debug)]
struct Entry {
    path: State,
    /// The number of the last walk that met it.
    walk: u64,
}

#[derive(Debug)]
enum State {
    Known(Box<str>),
    /// Asked for, not looked for yet.
    Wanted,
    /// Looked for and not found.
    Missing,
}

impl Cgroups {
    /// Numbers of version 1 are of this controller's hierarchy.
    pub fn new(v1_controller: Option<&'static str>) -> Self {
        Self { v1_controller, ..Self::default() }
    }

    /// The path of a cgroup; walks through the cgroup filesystem for an id
    /// never seen, when the last walk was long enough ago.
    pub fn find(&mut self, tree: &Tree, id: u64, now_ns: u64) -> Option<&str> {
        if id == 0 {
            return None;
        }
        let wanted = match self.entries.get(&id) {
            Some(entry) => matches!(entry.path, State::Wanted),
            None => {
                self.insert(id, State::Wanted);
                true
            }
        };
        if wanted && now_ns >= self.next_walk_ns {
            let directories = self.walk(tree) as u64;
            self.next_walk_ns = now_ns + WALK_EVERY_NS + directories * WALK_DIRECTORY_NS;
        }
        match &self.entries.get(&id)?.path {
            State::Known(path) => Some(path),
            State::Wanted | State::Missing => None,
        }
    }

    /// The path of a cgroup, where it was found before.
    pub fn known(&self, id: u64) -> Option<&str> {
        match &self.entries.get(&id)?.path {
            State::Known(path) => Some(path),
            State::Wanted | State::Missing => None,
        }
    }

    /// Remembers `path` for `id` if that is where it is.
    pub fn learn(&mut self, tree: &Tree, id: u64, path: &str) {
        let unknown = self.entries.get(&id).is_none_or(|e| matches!(e.path, State::Wanted));
        if id == 0 || !unknown {
            return;
        }
        if self.mounts.is_empty() {
            self.mounts = find_mounts(tree, self.v1_controller);
        }
        let path_is_right = self.mounts.iter().any(|mount| {
            let directory = mount.point.join(path.trim_start_matches('/'));
            fs::symlink_metadata(directory).is_ok_and(|metadata| mount.id(metadata.ino()) == id)
        });
        if path_is_right {
            self.insert(id, State::Known(path.into()));
        }
    }

    /// The number by which a process's cgroup goes; `None` where its directory is not found.
    pub fn number(&mut self, tree: &Tree, process: &Process) -> Option<u64> {
        if self.mounts.is_empty() {
            self.mounts = find_mounts(tree, self.v1_controller);
        }
        let (mark, path) = match process.unified {
            true if process.cgroup != "/" || process.v1_cgroup.is_empty() => (0, &process.cgroup),
            _ => (cgroup::V1, &process.v1_cgroup),
        };
        let id = self.mounts.iter().filter(|mount| mount.mark == mark).find_map(|mount| {
            let directory = mount.point.join(path.trim_start_matches('/'));
            fs::symlink_metadata(directory).ok().map(|metadata| mount.id(metadata.ino()))
        })?;
        self.insert(id, State::Known(path.as_str().into()));
        Some(id)
    }

    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn insert(&mut self, id: u64, path: State) {
        if self.entries.len() >= MAX_IDS && !self.entries.contains_key(&id) {
            self.make_room();
        }
        self.entries.insert(id, Entry { path, walk: self.walks });
    }

    /// Forgets those that the last walk did not meet; all, if that is nobody.
    fn make_room(&mut self) {
        let before = self.entries.len();
        let walks = self.walks;
        // A walk that is under way has not reached all cgroups yet.
        self.entries
            .retain(|_, entry| entry.walk + 1 >= walks && matches!(entry.path, State::Known(_)));
        if self.entries.len() >= MAX_IDS {
            self.entries.clear();
        }
        self.evicted += (before - self.entries.len()) as u64;
    }

    /// Visits every cgroup, breadth first; gives the number of those visited.
    fn walk(&mut self, tree: &Tree) -> usize {
        self.walks += 1;
        self.mounts = find_mounts(tree, self.v1_controller);
        let mut queue = VecDeque::new();
        for mount in std::mem::take(&mut self.mounts) {
            if let Ok(metadata) = fs::metadata(&mount.point) {
                self.meet(mount.id(metadata.ino()), mount.prefix.clone());
            }
            queue.push_back((mount.point.clone(), mount.prefix.clone(), mount.mark));
            self.mounts.push(mount);
        }
        let mut visited = 0;
        while let Some((directory, path, mark)) = queue.pop_front() {
            visited += 1;
            // A cgroup may go while we are on our way to it.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                // The entry says both; nothing is looked up for it.
                let is_cgroup = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if !is_cgroup || visited + queue.len() >= MAX_WALK {
                    continue;
                }
                let child = path.join(entry.file_name());
                self.meet(entry.ino() | mark, child.clone());
                queue.push_back((entry.path(), child, mark));
            }
        }
        for entry in self.entries.values_mut() {
            if matches!(entry.path, State::Wanted) {
                entry.path = State::Missing;
                self.unresolved += 1;
            }
        }
        visited
    }

    fn meet(&mut self, id: u64, path: PathBuf) {
        let walk = self.walks;
        match self.entries.get_mut(&id) {
            Some(Entry { path: State::Known(_), walk: last }) => *last = walk,
            _ => {
                let path = text(path.as_os_str().as_bytes(), CGROUP_BYTES);
                self.insert(id, State::Known(path.into()));
            }
        }
    }
}

/// A place where cgroups are mounted.
#[derive(Debug)]
struct CgroupMount {
    /// The place as it is for us.
    point: PathBuf,
    /// The path of the cgroup that is mounted there.
    prefix: PathBuf,
    /// Set in numbers of its hierarchy.
    mark: u64,
}

impl CgroupMount {
    /// The number by which a cgroup goes, by that of its directory.
    fn id(&self, inode: u64) -> u64 {
        inode | self.mark
    }
}

/// The mounts of cgroup v2, and those of one controller of v1: of each hierarchy that of
/// the whole if there is one, else those of parts.
fn find_mounts(tree: &Tree, v1_controller: Option<&str>) -> Vec<CgroupMount> {
    let mountinfo = mounts::read(tree, "self").unwrap_or_default();
    let mut found = mounts_of(tree, &mountinfo, 0, |mount| mount.fstype == b"cgroup2");
    if let Some(controller) = v1_controller {
        let is_one = |option: &[u8]| option == controller.as_bytes();
        found.extend(mounts_of(tree, &mountinfo, cgroup::V1, |mount| {
            mount.fstype == b"cgroup" && mount.options.split(|&b| b == b',').any(is_one)
        }));
    }
    found
}

fn mounts_of(
    tree: &Tree,
    mountinfo: &[u8],
    mark: u64,
    is_it: impl Fn(&mounts::Mount<'_>) -> bool,
) -> Vec<CgroupMount> {
    let mut found = Vec::new();
    let mut widest = 0;
    for mount in mounts::parse(mountinfo).filter(is_it) {
        // In a cgroup namespace of our own, `/` is our own part, and what
        // reaches above it is `/../..`.
        let (prefix, above) = outermost(mount.root);
        if above > widest {
            found.clear();
            widest = above;
        }
        if above == widest {
            found.push(CgroupMount {
                point: mounts::locate(tree, mount.point),
                prefix: PathBuf::from(OsStr::from_bytes(prefix)),
                mark,
            });
        }
    }
    if let Some(whole) = found.iter().position(|mount| mount.prefix == Path::new("/")) {
        found = vec![found.swap_remove(whole)];
    }
    found
}
