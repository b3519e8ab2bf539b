//! Resolves files: from the device and inode in a kernel record to a path, a class
//! and an id that victims are keyed by.
//!
//! A file is looked for among the descriptors of the process that synced it,
//! once, and then again from time to time: files are renamed into place (etcd's
//! `0.tmp` becomes a WAL segment). In between it is one look-up in a table,
//! without allocation. What it cannot find is counted, and so is what it
//! forgets.
//!
//! The kernel uses numbers of inodes and devices again, some within a second,
//! and a file must never get the name of another one that had its numbers
//! before. So a name is remembered with everything that distinguishes its file
//! from the next one with the same numbers (see [`Handle`]), and it is believed
//! only until mounts change. On a filesystem whose inodes have no generation
//! nothing distinguishes them: there the file of each sync is looked for.
//!
//! It has no clock and knows neither syncs nor who is slow.

use std::{num::NonZeroUsize, path::Path};

use lru::LruCache;
use tracer_ebpf::record::SyncRecord;
use tracer_snapshot::{
    FileClass,
    labels::{FileId, FileLabel, FileNames, Labels},
};

use crate::{
    device_names::Names,
    devices,
    errand::{Answer, Errands},
    mounts,
    tree::{Tree, text},
};

mod classes;
mod descriptors;
mod volumes;
mod watch;

pub use classes::{Classified, classify};

use descriptors::{Budget, Failure, OpenFile, Search, Wanted, is_still, may_be_still};
use volumes::Volumes;
use watch::MountWatch;

/// Files remembered, at about 200 bytes each.
const MAX_FILES: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

const SECOND_NS: u64 = 1_000_000_000;

/// How long a file that another process syncs, or whose name says nothing
/// yet, is believed to be what it was.
const UNDECIDED_NS: u64 = SECOND_NS;

/// How long a file of a known class is believed to be what it was.
const DECIDED_NS: u64 = 5 * SECOND_NS;

/// A mount point is believed for this long, unless the kernel signals that mounts changed.
const MOUNT_NS: u64 = 60 * SECOND_NS;

/// Reading this much of a mountinfo file costs as much as a look at one
/// descriptor.
const MOUNT_BYTES_PER_LOOK: usize = 4096;

/// Each search that finds nothing doubles the time to the next, up to a minute.
const MAX_DOUBLINGS: u32 = 6;

/// All files seen so far.
#[derive(Debug)]
pub struct Files {
    tree: Tree,
    entries: LruCache<Key, Entry>,
    labels: Labels,
    names: Names,
    mounts: MountWatch,
    volumes: Volumes,
    /// Changes of mounts so far. What was found before the last one is not
    /// believed.
    changes: u64,
    /// The number of looks at the mounts so far. The name of a device is believed until the
    /// next look.
    looks: u64,
    /// Until this time all changes of mounts are known.
    mounts_as_of_ns: u64,
    budget: Budget,
    errands: Errands,
    unresolved: u64,
    evicted: u64,
}

/// A file, as the kernel identifies it. Without an inode it is the whole
/// filesystem; without a device (no filesystem has 0) only the descriptor is
/// known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Handle {
    pub device: u32,
    pub inode: u64,
    /// Distinguishes the inode from the next one with the same number; 0 where
    /// the filesystem keeps no generations.
    pub generation: u32,
    /// Distinguishes the device from the next one with the same number; all
    /// filesystems in memory share one value.
    pub backing: u32,
}

impl Handle {
    /// Whether the next inode with these numbers will have another handle.
    fn is_unique(&self) -> bool {
        self.device != 0 && self.inode != 0 && self.generation != 0
    }
}

impl From<&SyncRecord> for Handle {
    fn from(record: &SyncRecord) -> Self {
        let SyncRecord { device, inode, generation, backing, .. } = *record;
        Self { device, inode, generation, backing }
    }
}

/// Names are remembered by numbers that may be used again: device and inode, or
/// without a device tgid and descriptor.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key {
    device: u32,
    inode: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    file: FileId,
    handle: Handle,
    /// The changes of mounts that there had been when it was found.
    changes: u64,
    /// The path at which it was found; empty for the unknown.
    path: String,
    /// The process and the descriptor through which it was found.
    tgid: u32,
    fd: i32,
    checked_ns: u64,
    due_ns: u64,
    /// Consecutive searches that found nothing.
    failures: u32,
}

impl Files {
    /// Files of the node whose `/proc` and `/sys` lie below `root`.
    pub fn new(root: &Path) -> Self {
        let tree = Tree::new(root);
        Self {
            mounts: MountWatch::new(&tree),
            volumes: Volumes::default(),
            changes: 0,
            looks: 0,
            mounts_as_of_ns: 0,
            tree,
            entries: LruCache::new(MAX_FILES),
            labels: Labels::default(),
            names: Names::default(),
            budget: Budget::default(),
            errands: Errands::default(),
            unresolved: 0,
            evicted: 0,
        }
    }

    /// Asks the kernel whether mounts have changed, so that it is not asked again
    /// for each sync that ended before `now_ns`.
    pub fn look_at_mounts(&mut self, now_ns: u64) {
        if self.mounts.have_changed() {
            self.forget_mounts();
        }
        self.looks += 1;
        self.mounts_as_of_ns = now_ns;
    }

    /// Reads which volumes of pods are mounted, if mounts have changed; returns whether
    /// a volume has come or gone.
    pub fn look_at_volumes(&mut self, now_ns: u64) -> bool {
        self.volumes.look(&self.tree, self.changes, now_ns)
    }

    /// The volume of a pod whose filesystem is on the device with this number.
    pub fn volume(&self, device: u32) -> Option<&str> {
        self.volumes.find(device)
    }

    /// The file that a process synced at some time, as the kernel names it, and
    /// `fd` where a system call named one (else -1). Without an inode it is the
    /// descriptor's file if the device is 0 too, else the whole filesystem.
    pub fn resolve(&mut self, tgid: u32, fd: i32, handle: Handle, now_ns: u64) -> FileId {
        let Handle { device, inode, .. } = handle;
        let key = match (device, inode) {
            (0, _) if fd < 0 => return self.labels.intern(FileLabel::unknown(0)),
            (0, _) => Key { device, inode: u64::from(tgid) << 32 | u64::from(fd.cast_unsigned()) },
            (_, 0) => return self.filesystem(tgid, fd, handle, now_ns),
            _ => Key { device, inode },
        };
        self.look_at_mounts_of(now_ns);
        if let Some(file) = self.remembered(key, handle, tgid, now_ns) {
            return file;
        }
        let entry = self.look(key, handle, tgid, fd, now_ns);
        self.remember(key, entry)
    }

    /// The whole filesystem that a process synced (syncfs), by device or, where
    /// that is 0, by descriptor; every filesystem (sync) where that is -1 too.
    pub fn filesystem(&mut self, tgid: u32, fd: i32, handle: Handle, now_ns: u64) -> FileId {
        self.look_at_mounts_of(now_ns);
        let device = if handle.device == 0 && fd >= 0 {
            let file = self.resolve(tgid, fd, Handle::default(), now_ns);
            match self.labels.get(file).device {
                0 => return file,
                device => device,
            }
        } else {
            handle.device
        };
        let key = Key { device, inode: 0 };
        let handle = Handle { device, inode: 0, generation: 0, ..handle };
        if let Some(file) = self.remembered(key, handle, tgid, now_ns) {
            return file;
        }
        self.budget.refill(now_ns);
        let is_first_look = self.entries.peek(&key).is_none();
        let (point, pattern) = match device {
            0 => (Some(MountPoint::default()), "every filesystem"),
            _ => (self.read_mount_point(tgid, device), "filesystem"),
        };
        self.unresolved += u64::from(is_first_look && point.is_none());
        let MountPoint { path, is_watched } = point.unwrap_or_default();
        let label = FileLabel { class: FileClass::Filesystem, path, pattern, device };
        let file = self.labels.intern(label);
        // The kernel does not report changes of other processes' mounts.
        let believed_ns = if is_watched || device == 0 { MOUNT_NS } else { 0 };
        let due_ns = now_ns.saturating_add(believed_ns);
        let changes = self.changes;
        // The mount point is the same whoever asks.
        let entry =
            Entry { file, handle, changes, tgid, checked_ns: due_ns, due_ns, ..Entry::default() };
        self.remember(key, entry)
    }

    /// The label of a file; "unknown" for one that was evicted.
    pub fn label(&self, file: FileId) -> &FileLabel {
        self.labels.get(file)
    }

    /// The name of a device: `vda1`, `loop0`, or what it was mounted from.
    pub fn device_name(&mut self, device: u32) -> &str {
        if devices::is_anonymous(device) && self.mounts.have_changed() {
            self.forget_mounts();
        }
        self.names.find(&self.tree, device, self.looks)
    }

    /// Files that could not be found when they were first looked for.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Paths that could not be checked in time.
    pub fn late(&self) -> u64 {
        self.errands.late()
    }

    /// Files and labels evicted to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted + self.labels.evicted()
    }

    /// Asks the kernel whether mounts have changed, unless all changes until then
    /// are known.
    fn look_at_mounts_of(&mut self, time_ns: u64) {
        if time_ns >= self.mounts_as_of_ns && self.mounts.have_changed() {
            self.forget_mounts();
        }
    }

    /// A device number may belong to another filesystem by now, or its filesystem
    /// may be mounted elsewhere.
    fn forget_mounts(&mut self) {
        self.changes += 1;
        self.names = Names::default();
    }

    /// The file, if it need not be looked for again.
    fn remembered(&mut self, key: Key, handle: Handle, tgid: u32, now_ns: u64) -> Option<FileId> {
        let entry = self.entries.get(&key)?;
        let fresh = entry.handle == handle
            && entry.changes == self.changes
            && now_ns < entry.due_ns
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
    fn look(&mut self, key: Key, handle: Handle, tgid: u32, fd: i32, now_ns: u64) -> Entry {
        self.budget.refill(now_ns);
        let wanted = Wanted { tgid, device: handle.device, inode: handle.inode };
        // Another file that had the same numbers before does not matter.
        let before = self.entries.peek(&key).filter(|entry| entry.handle == handle).cloned();
        let before = before.unwrap_or_default();
        let same_process = before.tgid == tgid;
        let is_the_same = handle.is_unique() && before.changes == self.changes;

        let mut search = Search::new(&self.tree, &mut self.budget, wanted);
        let mut found = search.try_descriptor(fd).ok_or(Failure::Closed);
        if found.is_err() && same_process && before.fd != fd {
            found = search.try_descriptor(before.fd).ok_or(Failure::Closed);
        }
        if found.is_err() && wanted.device != 0 {
            found = match ask_whether_still(&self.tree, &mut self.errands, wanted, &before.path) {
                Still::Yes => {
                    Ok(OpenFile { fd: before.fd, device: wanted.device, path: before.path.clone() })
                }
                Still::No => search.scan(),
                Still::Unanswered => Err(Failure::Unfinished),
            };
        }
        // The earlier name is still the best one: the path could not be checked, or the file has
        // none any more.
        let is_believed = |failure| match failure {
            Failure::Gone | Failure::Unfinished => true,
            Failure::Closed => devices::is_anonymous(wanted.device),
        };
        match found {
            Ok(found) => self.found(handle, tgid, found, now_ns),
            Err(failure)
                if is_the_same && same_process && before.failures == 0 && is_believed(failure) =>
            {
                Entry { checked_ns: now_ns, due_ns: now_ns.saturating_add(UNDECIDED_NS), ..before }
            }
            Err(failure) => {
                // The file was never found, or its earlier name does not hold any more.
                self.unresolved += u64::from(before.failures == 0);
                let failures = match failure {
                    Failure::Unfinished => before.failures,
                    Failure::Closed | Failure::Gone => before.failures + 1,
                };
                // A descriptor alone may be another file's at the next sync.
                let wait_ns = match wanted.device {
                    0 => 0,
                    _ => UNDECIDED_NS << failures.saturating_sub(1).min(MAX_DOUBLINGS),
                };
                Entry {
                    file: self.labels.intern(FileLabel::unknown(wanted.device)),
                    handle,
                    changes: self.changes,
                    path: String::new(),
                    tgid,
                    fd: -1,
                    checked_ns: now_ns,
                    due_ns: now_ns.saturating_add(wait_ns),
                    failures: failures.max(1),
                }
            }
        }
    }

    fn found(&mut self, handle: Handle, tgid: u32, found: OpenFile, now_ns: u64) -> Entry {
        let classified = classify(&found.path);
        let believed_ns = match classified.class {
            // At the next sync it may be another file.
            _ if !handle.is_unique() => 0,
            FileClass::Other => UNDECIDED_NS,
            _ => DECIDED_NS,
        };
        Entry {
            file: self.labels.intern(classified.label(found.device)),
            handle,
            changes: self.changes,
            tgid,
            fd: found.fd,
            checked_ns: now_ns,
            due_ns: now_ns.saturating_add(believed_ns),
            failures: 0,
            path: found.path,
        }
    }

    /// The mount point of a filesystem: the host's view first, the process's
    /// own last; of several mounts the one of its root, with the shortest path.
    fn read_mount_point(&mut self, tgid: u32, device: u32) -> Option<MountPoint> {
        let Self { tree, budget, mounts, .. } = self;
        ["1", "self", &tgid.to_string()].into_iter().find_map(|process| {
            if !budget.spend_one() {
                return None;
            }
            let mountinfo = mounts::read(tree, process).ok()?;
            budget.spend(mountinfo.len() / MOUNT_BYTES_PER_LOOK);
            let mount = mounts::parse(&mountinfo)
                .filter(|mount| mount.device == device)
                .min_by_key(|mount| (mount.root != b"/", mount.point.len()))?;
            let path = text(&mounts::unescape(mount.point), descriptors::PATH_BYTES);
            Some(MountPoint { path, is_watched: mounts.watches(process) })
        })
    }
}

/// Whether a file is where it was.
enum Still {
    Yes,
    No,
    /// The disk does not answer.
    Unanswered,
}

fn ask_whether_still(tree: &Tree, errands: &mut Errands, wanted: Wanted, path: &str) -> Still {
    if !may_be_still(wanted, path) {
        return Still::No;
    }
    let (tree, path) = (tree.clone(), path.to_owned());
    match errands.run(move || is_still(&tree, wanted, &path)) {
        Answer::Done(true) => Still::Yes,
        Answer::Done(false) => Still::No,
        Answer::Late(_) | Answer::None => Still::Unanswered,
    }
}

/// The mount point of a filesystem.
#[derive(Debug, Default)]
struct MountPoint {
    path: String,
    /// Whether the kernel reports it when this changes.
    is_watched: bool,
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
