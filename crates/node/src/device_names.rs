//! The names that devices have.
//!
//! They come from `/sys/dev/block`; filesystems without a block device of their
//! own (btrfs, overlay, NFS) are named by what they were mounted from.
//!
//! The kernel uses numbers again. A block device is looked at again in each round
//! that somebody asks for it; one that is gone keeps its name until its number is
//! another's. When the others are to be forgotten, the caller knows.

use std::{
    collections::{HashMap, hash_map},
    fs,
    os::unix::ffi::OsStrExt as _,
};

use crate::{
    devices::{is_anonymous, major, minor},
    mounts,
    tree::{Tree, text},
};

/// Names remembered; far more than a node has filesystems at one time.
const MAX_NAMES: usize = 4096;

const NAME_BYTES: usize = 128;

/// Names of devices, each looked up once in a round.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<u32, Name>,
}

#[derive(Debug)]
struct Name {
    name: String,
    round: u64,
}

impl Names {
    /// The name of a device: `vda1`, `loop0`, what it was mounted from, or its
    /// number.
    pub fn find(&mut self, tree: &Tree, device: u32, round: u64) -> &str {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&device) {
            self.names.clear();
        }
        let known = match self.names.entry(device) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let name = read_block_name(tree, device)
                    .or_else(|| read_mount_source(tree, device))
                    .unwrap_or_else(|| format!("{}:{}", major(device), minor(device)));
                place.insert(Name { name, round })
            }
        };
        if known.round != round {
            known.round = round;
            if let Some(name) = read_block_name(tree, device) {
                known.name = name;
            }
        }
        &known.name
    }
}

fn read_block_name(tree: &Tree, device: u32) -> Option<String> {
    if is_anonymous(device) {
        return None;
    }
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
    use crate::devices::join;

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
        assert_eq!(names.find(&tree, join(254, 1), 0), "vda1");
        assert_eq!(names.find(&tree, join(0, 35), 0), "vdb2");
        assert_eq!(names.find(&tree, join(0, 36), 0), "tmpfs");
        assert_eq!(names.find(&tree, join(8, 1), 0), "8:1");
        assert_eq!(names.find(&tree, join(0, 35), 1), "vdb2");
    }

    #[test]
    fn the_next_device_of_a_number_has_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        let link = dir.path().join("sys/dev/block/259:7");
        let tree = Tree::new(dir.path());
        let mut names = Names::default();
        symlink("../../devices/virtual/block/nvme0n1/nvme0n1p3", &link).unwrap();
        assert_eq!(names.find(&tree, join(259, 7), 0), "nvme0n1p3");

        // Gone: what was there is still spoken of.
        fs::remove_file(&link).unwrap();
        assert_eq!(names.find(&tree, join(259, 7), 1), "nvme0n1p3");
        symlink("../../devices/virtual/block/nvme4n1", &link).unwrap();
        assert_eq!(names.find(&tree, join(259, 7), 1), "nvme0n1p3", "looked at in this round");
        assert_eq!(names.find(&tree, join(259, 7), 2), "nvme4n1");
    }

    #[test]
    fn a_device_that_comes_later_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        let tree = Tree::new(dir.path());
        let mut names = Names::default();
        assert_eq!(names.find(&tree, join(8, 1), 0), "8:1");
        let link = dir.path().join("sys/dev/block/8:1");
        symlink("../../devices/virtual/block/sda/sda1", link).unwrap();
        assert_eq!(names.find(&tree, join(8, 1), 1), "sda1");
    }
}
