//! Device numbers as the kernel keeps them, and the names they have.
//!
//! Kernel records carry the kernel's own `dev_t` (major · 2^20 + minor), which
//! is not what `stat` returns. Names come from `/sys/dev/block`; filesystems
//! without a block device of their own (btrfs, overlay, NFS) are named by what
//! they were mounted from.

use std::{
    collections::{HashMap, hash_map},
    fs,
    os::unix::ffi::OsStrExt as _,
};

use crate::{
    mounts,
    tree::{Tree, number, text},
};

const MINOR_BITS: u32 = 20;

/// Names remembered; far more than a node has filesystems at one time.
const MAX_NAMES: usize = 4096;

const NAME_BYTES: usize = 128;

/// The kernel's number of a device.
pub const fn join(major: u32, minor: u32) -> u32 {
    major << MINOR_BITS | minor & ((1 << MINOR_BITS) - 1)
}

pub const fn major(device: u32) -> u32 {
    device >> MINOR_BITS
}

pub const fn minor(device: u32) -> u32 {
    device & ((1 << MINOR_BITS) - 1)
}

/// The kernel's number of what `stat` calls `st_dev`.
pub fn from_stat(st_dev: u64) -> u32 {
    join(libc::major(st_dev), libc::minor(st_dev))
}

/// `8:1`, as mountinfo and sysfs write it.
pub fn parse(text: &[u8]) -> Option<u32> {
    let colon = text.iter().position(|&b| b == b':')?;
    Some(join(number(&text[..colon])?, number(&text[colon + 1..])?))
}

/// Whether a device number stands for a filesystem without a block device.
pub const fn is_anonymous(device: u32) -> bool {
    major(device) == 0
}

/// Names of devices, each looked up once.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<u32, String>,
}

impl Names {
    /// The name of a device: `vda1`, `loop0`, what it was mounted from, or its
    /// number.
    pub fn find(&mut self, tree: &Tree, device: u32) -> &str {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&device) {
            self.names.clear();
        }
        match self.names.entry(device) {
            hash_map::Entry::Occupied(name) => name.into_mut(),
            hash_map::Entry::Vacant(place) => place.insert(
                read_block_name(tree, device)
                    .or_else(|| read_mount_source(tree, device))
                    .unwrap_or_else(|| format!("{}:{}", major(device), minor(device))),
            ),
        }
    }
}

fn read_block_name(tree: &Tree, device: u32) -> Option<String> {
    let link = tree.at(format!("sys/dev/block/{}:{}", major(device), minor(device)));
    let target = fs::read_link(link).ok()?;
    Some(text(target.file_name()?.as_bytes(), NAME_BYTES))
}

fn read_mount_source(tree: &Tree, device: u32) -> Option<String> {
    // The host's view has most; in a container without the host's processes
    // only our own is left.
    ["1", "self"].into_iter().find_map(|process| {
        let mountinfo = mounts::read(tree, process).ok()?;
        let mount = mounts::parse(&mountinfo).find(|mount| mount.device == device)?;
        let source = mounts::unescape(mount.source);
        let source = source.strip_prefix(b"/dev/").unwrap_or(&source);
        let name = if matches!(source, b"" | b"none" | b"nodev") { mount.fstype } else { source };
        Some(text(name, NAME_BYTES))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn numbers_survive_the_way_there_and_back() {
        let device = join(259, 70_000);
        assert_eq!((major(device), minor(device)), (259, 70_000));
        assert_eq!(from_stat(libc::makedev(259, 70_000)), device);
        assert_eq!(parse(b"259:70000"), Some(device));
        for nonsense in [&b""[..], b":", b"8", b"8:", b"8:x", b"-1:1", b"\xff:1"] {
            assert_eq!(parse(nonsense), None);
        }
    }

    #[test]
    fn names_come_from_sysfs_then_from_mounts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        symlink("../../devices/pci0/block/vda/vda1", dir.path().join("sys/dev/block/254:1"))
            .unwrap();
        fs::write(
            dir.path().join("proc/self/mountinfo"),
            "1 0 0:35 / / rw - btrfs /dev/vdb2 rw\n2 1 0:36 / /t rw - tmpfs none rw\n",
        )
        .unwrap();
        let tree = Tree::new(dir.path());
        let mut names = Names::default();
        assert_eq!(names.find(&tree, join(254, 1)), "vda1");
        assert_eq!(names.find(&tree, join(0, 35)), "vdb2");
        assert_eq!(names.find(&tree, join(0, 36)), "tmpfs");
        assert_eq!(names.find(&tree, join(8, 1)), "8:1");
    }
}
