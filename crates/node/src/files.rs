//! Which file: from the device and inode in a kernel record to a path, a class
//! and an id to tell victims apart by.
//!
//! A file is looked for among the descriptors of the process that synced it,
//! once, and then again from time to time: files are renamed into place (etcd's
//! `0.tmp` becomes a WAL segment) and inodes are used again. In between it is
//! one look-up in a table, without allocation. What it cannot find is counted,
//! and so is what it forgets.
//!
//! It has no clock and knows neither syncs nor who is slow.

use std::{fs::File, num::NonZeroUsize, os::fd::AsFd as _, path::Path};

use lru::LruCache;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracer_snapshot::{
    FileClass,
    labels::{FileId, FileLabel, FileNames, Labels},
};

use crate::{
    device_names::Names,
    devices, mounts,
    tree::{Tree, text},
};

mod classes;
mod descriptors;

pub use classes::{Classified, classify};

use descriptors::{Budget, Failure, Found, Search, Wanted};

/// Files remembered, at about 200 bytes each.
const MAX_FILES: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

const SECOND_NS: u64 = 1_000_000_000;

/// How long a file that another process syncs, or whose name says nothing
/// yet, is believed to be what it was.
const UNDECIDED_NS: u64 = SECOND_NS;

/// How long a file of a known class is.
const DECIDED_NS: u64 = 5 * SECOND_NS;

/// How long a mount point is, unless the kernel tells that mounts changed.
const MOUNT_NS: u64 = 60 * SECOND_NS;

/// Each search in vain doubles the time to the next, up to a minute.
const MAX_DOUBLINGS: u32 = 6;

/// All files seen so far.
#[derive(Debug)]
pub struct Files {
    tree: Tree,
    entries: LruCache<Key, Entry>,
    labels: Labels,
    names: Names,
    /// The node's mounts, open to be told of changes.
    mounts: Option<File>,
    budget: Budget,
    unresolved: u64,
    evicted: u64,
}

/// What a record says of the file. Without a device (no filesystem has 0) it
/// is tgid and descriptor; without an inode it is the whole filesystem.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key {
    device: u32,
    inode: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    file: FileId,
    /// Where it was found; empty for the unknown.
    path: String,
    /// By whom, and at which descriptor.
    tgid: u32,
    fd: i32,
    checked_ns: u64,
    due_ns: u64,
    /// Searches in vain, one after the other.
    failures: u32,
}

impl Files {
    /// Files of the node whose `/proc` and `/sys` lie below `root`.
    pub fn new(root: &Path) -> Self {
        let tree = Tree::new(root);
        let open = |process| File::open(tree.at(format!("proc/{process}/mountinfo"))).ok();
        Self {
            mounts: ["1", "self"].into_iter().find_map(open),
            tree,
            entries: LruCache::new(MAX_FILES),
            labels: Labels::default(),
            names: Names::default(),
            budget: Budget::default(),
            unresolved: 0,
            evicted: 0,
        }
    }

    /// The file that a process syncs, as the record names it: by device and
    /// inode, and `fd` where a system call named one (else -1). Without an
    /// inode it is the descriptor's file if the device is 0 too, else the whole
    /// filesystem.
    pub fn resolve(&mut self, tgid: u32, device: u32, inode: u64, fd: i32, now_ns: u64) -> FileId {
        let key = match (device, inode) {
            (0, _) if fd < 0 => return self.labels.intern(FileLabel::unknown(0)),
            (0, _) => Key { device, inode: u64::from(tgid) << 32 | u64::from(fd.cast_unsigned()) },
            (_, 0) => return self.filesystem(tgid, device, fd, now_ns),
            _ => Key { device, inode },
        };
        if let Some(file) = self.remembered(key, tgid, now_ns) {
            return file;
        }
        let wanted = Wanted { tgid, device, inode };
        let entry = self.look(key, wanted, fd, now_ns);
        self.remember(key, entry)
    }

    /// The whole filesystem that a process syncs (syncfs), by device or, where
    /// that is 0, by descriptor; every filesystem (sync) where that is -1 too.
    pub fn filesystem(&mut self, tgid: u32, device: u32, fd: i32, now_ns: u64) -> FileId {
        self.forget_old_mounts();
        let device = if device == 0 && fd >= 0 {
            let file = self.resolve(tgid, 0, 0, fd, now_ns);
            match self.labels.get(file).device {
                0 => return file,
                device => device,
            }
        } else {
            device
        };
        let key = Key { device, inode: 0 };
        if let Some(file) = self.remembered(key, tgid, now_ns) {
            return file;
        }
        let (path, pattern) = match device {
            0 => (String::new(), "every filesystem"),
            _ => (self.read_mount_point(tgid, device), "filesystem"),
        };
        let label = FileLabel { class: FileClass::Filesystem, path, pattern, device };
        let file = self.labels.intern(label);
        let due_ns = now_ns.saturating_add(MOUNT_NS);
        // The mount point is the same whoever asks.
        self.remember(key, Entry { file, tgid, checked_ns: due_ns, due_ns, ..Entry::default() })
    }

    /// What is known of a file; "unknown" for one that was forgotten.
    pub fn label(&self, file: FileId) -> &FileLabel {
        self.labels.get(file)
    }

    /// The name of a device: `vda1`, `loop0`, or what it was mounted from.
    pub fn device_name(&mut self, device: u32) -> &str {
        if devices::is_anonymous(device) {
            self.forget_old_mounts();
        }
        self.names.find(&self.tree, device)
    }

    /// Files that could not be found when they were first looked for.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Files and labels forgotten for want of room.
    pub fn evicted(&self) -> u64 {
        self.evicted + self.labels.evicted()
    }

    /// Device numbers are used again: what is mounted may be another filesystem
    /// by now, and lie elsewhere.
    fn forget_old_mounts(&mut self) {
        let Some(mounts) = &self.mounts else { return };
        // The kernel tells each opener once of each change.
        let mut wait = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        if poll(&mut wait, PollTimeout::ZERO).is_ok_and(|changed| changed > 0) {
            self.names = Names::default();
            let whole = |key: &Key| key.inode == 0;
            let old: Vec<_> = self.entries.iter().map(|(key, _)| *key).filter(whole).collect();
            for key in old {
                self.entries.pop(&key);
            }
        }
    }

    /// The file, if it need not be looked for again.
    fn remembered(&mut self, key: Key, tgid: u32, now_ns: u64) -> Option<FileId> {
        let entry = self.entries.get(&key)?;
        let fresh = now_ns < entry.due_ns
            && (tgid == entry.tgid || now_ns < entry.checked_ns.saturating_add(UNDECIDED_NS));
        (fresh && self.labels.touch(entry.file)).then_some(entry.file)
    }

    fn remember(&mut self, key: Key, entry: Entry) -> FileId {
        let file = entry.file;
        let replaced = self.entries.push(key, entry);
        self.evicted += u64::from(replaced.is_some_and(|(other, _)| other != key));
        file
    }

    /// Looks for a file, the likely places first.
    fn look(&mut self, key: Key, wanted: Wanted, fd: i32, now_ns: u64) -> Entry {
        self.budget.refill(now_ns);
        let before = self.entries.peek(&key).cloned();
        let first_look = before.is_none();
        let before = before.unwrap_or_default();
        let same_process = before.tgid == wanted.tgid;

        let mut search = Search::new(&self.tree, &mut self.budget, wanted);
        let mut found = search.try_descriptor(fd).ok_or(Failure::Closed);
        if found.is_err() && same_process && before.fd != fd {
            found = search.try_descriptor(before.fd).ok_or(Failure::Closed);
        }
        if found.is_err() && wanted.device != 0 {
            found = match search.is_still(&before.path) {
                true => {
                    Ok(Found { fd: before.fd, device: wanted.device, path: before.path.clone() })
                }
                false => search.scan(),
            };
        }
        // Then what it was is still the best that can be said of it: its path
        // could not be checked, or it has none any more.
        // A descriptor alone may have been another file's.
        let is_named = wanted.device != 0;
        let is_believed = |failure| match failure {
            Failure::Gone | Failure::Unfinished => is_named,
            Failure::Closed => is_named && devices::is_anonymous(wanted.device),
        };
        match found {
            Ok(found) => self.found(wanted, found, now_ns),
            Err(failure) if same_process && before.failures == 0 && is_believed(failure) => {
                Entry { checked_ns: now_ns, due_ns: now_ns.saturating_add(UNDECIDED_NS), ..before }
            }
            Err(failure) => {
                self.unresolved += u64::from(first_look);
                let failures = match failure {
                    Failure::Unfinished => before.failures,
                    Failure::Closed | Failure::Gone => before.failures + 1,
                };
                let wait_ns = match is_named {
                    true => UNDECIDED_NS << failures.saturating_sub(1).min(MAX_DOUBLINGS),
                    false => 0,
                };
                Entry {
                    file: self.labels.intern(FileLabel::unknown(wanted.device)),
                    path: String::new(),
                    tgid: wanted.tgid,
                    fd: -1,
                    checked_ns: now_ns,
                    due_ns: now_ns.saturating_add(wait_ns),
                    failures: failures.max(1),
                }
            }
        }
    }

    fn found(&mut self, wanted: Wanted, found: Found, now_ns: u64) -> Entry {
        let classified = classify(&found.path);
        // A descriptor alone may be another file's at the next sync.
        let believed_ns = match (wanted.device, classified.class) {
            (0, _) => 0,
            (_, FileClass::Other) => UNDECIDED_NS,
            _ => DECIDED_NS,
        };
        Entry {
            file: self.labels.intern(classified.label(found.device)),
            tgid: wanted.tgid,
            fd: found.fd,
            checked_ns: now_ns,
            due_ns: now_ns.saturating_add(believed_ns),
            failures: 0,
            path: found.path,
        }
    }

    /// Where a filesystem is mounted: the host's view first, the process's
    /// own last; of several places the one of its root, the shortest.
    fn read_mount_point(&self, tgid: u32, device: u32) -> String {
        ["1", "self", &tgid.to_string()]
            .into_iter()
            .find_map(|process| {
                let mountinfo = mounts::read(&self.tree, process).ok()?;
                let mount = mounts::parse(&mountinfo)
                    .filter(|mount| mount.device == device)
                    .min_by_key(|mount| (mount.root != b"/", mount.point.len()))?;
                Some(text(&mounts::unescape(mount.point), descriptors::PATH_BYTES))
            })
            .unwrap_or_default()
    }
}

impl FileNames for Files {
    fn label(&self, file: FileId) -> &FileLabel {
        Files::label(self, file)
    }

    fn device_name(&mut self, device: u32) -> &str {
        Files::device_name(self, device)
    }
}

#[cfg(test)]
mod tests;
