//! Looking for a file among the descriptors of a process.
//!
//! Tgid, device and inode go in as a kernel record has them; a path comes out.
//! This must not wait: `stat` on a file of an NFS server that is away does, links and
//! `fdinfo` in /proc do not. So a descriptor is first asked for its link and for the
//! inode number in its `fdinfo` (from 5.14,
//! <https://github.com/torvalds/linux/commit/3845f256a8b5>), which is the very
//! number that the record has, on btrfs and overlay too. What is open is then
//! asked by `statx` for what the kernel knows without asking a server. A path that
//! was closed since takes a walk, which may wait for a disk: that is an errand.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt as _, path::Path};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::{
    devices, mounts,
    tree::{Tree, number, text},
};

/// Descriptors looked at in one search.
const MAX_DESCRIPTORS: usize = 4096;

pub const PATH_BYTES: usize = 1024;

/// The fields of a kernel record that identify a file.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub tgid: u32,
    /// 0 where only a descriptor is known.
    pub device: u32,
    pub inode: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenFile {
    pub fd: i32,
    pub device: u32,
    pub path: String,
}

/// How a search ended without the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// None of the process's descriptors is the file.
    Closed,
    /// The process is gone, or its descriptors are not ours to see.
    Gone,
    /// The budget ended first.
    Unfinished,
}

/// Descriptors that may be looked at, so that a storm of syncs on files that
/// are closed at once cannot keep us busy. A look takes some 8 µs, hence 2 % of
/// one CPU at most.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    filled_ns: u64,
}

const BUDGET: u64 = 8192;

/// Each gives one look: 2000 a second.
const REFILL_NS: u64 = 500_000;

impl Default for Budget {
    fn default() -> Self {
        Self { left: BUDGET, filled_ns: 0 }
    }
}

impl Budget {
    pub fn refill(&mut self, now_ns: u64) {
        let looks = now_ns.saturating_sub(self.filled_ns) / REFILL_NS;
        if looks > 0 {
            self.left = (self.left + looks).min(BUDGET);
            self.filled_ns = now_ns;
        }
    }

    pub fn spend_one(&mut self) -> bool {
        let some_left = self.left > 0;
        self.spend(1);
        some_left
    }

    pub fn spend(&mut self, looks: usize) {
        self.left = self.left.saturating_sub(looks as u64);
    }
}

/// One search for one file.
pub struct Search<'a> {
    tree: &'a Tree,
    budget: &'a mut Budget,
    wanted: Wanted,
    /// The process's mounts by id, once they were needed.
    mounts: Option<HashMap<u32, MountKind>>,
}

#[derive(Clone, Copy)]
struct MountKind {
    device: u32,
    is_overlay: bool,
}

impl<'a> Search<'a> {
    pub fn new(tree: &'a Tree, budget: &'a mut Budget, wanted: Wanted) -> Self {
        Self { tree, budget, wanted, mounts: None }
    }

    /// Looks whether one descriptor is the file.
    pub fn try_descriptor(&mut self, fd: i32) -> Option<OpenFile> {
        if fd < 0 || !self.budget.spend_one() {
            return None;
        }
        let Wanted { tgid, device, inode } = self.wanted;
        let link = self.tree.at(format!("proc/{tgid}/fd/{fd}"));
        let target = fs::read_link(&link).ok()?;
        // Sockets, pipes, and what else has no path.
        let target = target.as_os_str().as_bytes();
        if !target.starts_with(b"/") {
            return None;
        }
        let path = text(target.strip_suffix(b" (deleted)").unwrap_or(target), PATH_BYTES);

        let mut buf = [0; 256];
        let info = self.tree.read(format_args!("proc/{tgid}/fdinfo/{fd}"), &mut buf).ok();
        let info = info.map(parse_fdinfo).unwrap_or_default();
        if device == 0 {
            let device = self.mount(info.mount)?.device;
            return Some(OpenFile { fd, device, path });
        }
        let is_it = match info.inode {
            Some(other) if other != inode => false,
            Some(_)
                if !devices::is_anonymous(device)
                    && known(&link, AtFlags::empty())
                        .is_some_and(|known| known.device == device) =>
            {
                true
            }
            // A file on an overlay has the inode number of the one beneath.
            Some(_) => self.mount(info.mount).is_some_and(|m| m.device == device || m.is_overlay),
            None => {
                self.mount(info.mount).is_some_and(|m| m.device == device || m.is_overlay)
                    && known(&link, AtFlags::empty()).is_some_and(|known| known.inode == inode)
            }
        };
        is_it.then_some(OpenFile { fd, device, path })
    }

    /// Looks at all descriptors of the process.
    pub fn scan(&mut self) -> Result<OpenFile, Failure> {
        if self.budget.left == 0 {
            return Err(Failure::Unfinished);
        }
        let directory = self.tree.at(format!("proc/{}/fd", self.wanted.tgid));
        let entries = fs::read_dir(directory).map_err(|_| Failure::Gone)?;
        for entry in entries.take(MAX_DESCRIPTORS).flatten() {
            if self.budget.left == 0 {
                return Err(Failure::Unfinished);
            }
            let fd = number(entry.file_name().as_bytes()).unwrap_or(-1);
            if let Some(found) = self.try_descriptor(fd) {
                return Ok(found);
            }
        }
        Err(Failure::Closed)
    }

    fn mount(&mut self, id: Option<u32>) -> Option<MountKind> {
        let mounts = self.mounts.get_or_insert_with(|| {
            let mountinfo = mounts::read(self.tree, &self.wanted.tgid.to_string());
            mounts::parse(&mountinfo.unwrap_or_default())
                .map(|mount| {
                    let is_overlay = mount.fstype == b"overlay";
                    (mount.id, MountKind { device: mount.device, is_overlay })
                })
                .collect()
        });
        mounts.get(&id?).copied()
    }
}

/// Whether a path still is the file, closed or not, as the process sees it. The
/// walk there may wait for a disk.
pub fn is_still(tree: &Tree, wanted: Wanted, path: &str) -> bool {
    let Wanted { tgid, device, inode } = wanted;
    let path = tree.at(format!("proc/{tgid}/root/{}", path.trim_start_matches('/')));
    known(&path, AtFlags::SYMLINK_NOFOLLOW) == Some(FileNumbers { device, inode })
}

/// Whether it is worth asking whether a path still is the file.
pub fn may_be_still(wanted: Wanted, path: &str) -> bool {
    !devices::is_anonymous(wanted.device) && !path.is_empty()
}

/// The numbers that the kernel knows of a file without asking whoever serves it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileNumbers {
    device: u32,
    inode: u64,
}

fn known(path: &Path, more: AtFlags) -> Option<FileNumbers> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | more;
    let found = statx(CWD, path, flags, StatxFlags::INO).ok()?;
    let device = devices::join(found.stx_dev_major, found.stx_dev_minor);
    Some(FileNumbers { device, inode: found.stx_ino })
}

/// The fields of `/proc/<tgid>/fdinfo/<fd>` that are used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Info {
    mount: Option<u32>,
    inode: Option<u64>,
}

fn parse_fdinfo(info: &[u8]) -> Info {
    let field = |name: &[u8]| {
        let line = info.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_ascii())
    };
    Info { mount: field(b"mnt_id:").and_then(number), inode: field(b"ino:").and_then(number) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fdinfo_of_new_and_old_kernels() {
        let info = parse_fdinfo(b"pos:\t0\nflags:\t02\nmnt_id:\t27\nino:\t1057\nlock:\t1: X\n");
        assert_eq!(info, Info { mount: Some(27), inode: Some(1057) });
        let info = parse_fdinfo(b"pos:\t0\nflags:\t0100000\nmnt_id:\t24\n");
        assert_eq!(info, Info { mount: Some(24), inode: None });
    }

    #[test]
    fn a_budget_is_used_up_and_refilled() {
        let mut budget = Budget::default();
        assert_eq!((0..2 * BUDGET).filter(|_| budget.spend_one()).count() as u64, BUDGET);
        budget.refill(10 * REFILL_NS);
        assert_eq!((0..20).filter(|_| budget.spend_one()).count(), 10);
        budget.refill(u64::MAX);
        assert_eq!(budget.left, BUDGET);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            parse_fdinfo(&bytes);
        }
    }
}
