//! Distinguishes a disk from the next one with the same number or name.
//!
//! The kernel uses numbers again (`259:N`, loop, nbd, mapper, virtio), and names
//! as well. Since 5.15 each disk also has a sequence number, which no other disk of
//! this boot had; a device that is given another medium gets a new one:
//! <https://github.com/torvalds/linux/commit/cf179948554a>. On older kernels
//! another disk is known by its directory in sysfs, which has another inode.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::tree::{Tree, number};

/// A path is no longer.
const PATH_BYTES: usize = 4096;

/// The identity of a disk among those that had, or will have, its number and name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Its place in the sequence of disks, or its directory's inode.
    pub(super) number: u64,
    /// The file behind a loop device: for a moment it has a place in the sequence,
    /// and not its file yet.
    pub(super) file: Vec<u8>,
}

impl Identity {
    /// `None` where there is no disk of that name.
    pub(super) fn read(tree: &Tree, name: &str) -> Option<Self> {
        let mut digits = [0; 24];
        let sequence = tree.read(format_args!("sys/block/{name}/diskseq"), &mut digits).ok();
        let number = match sequence.and_then(|digits| number(digits.trim_ascii())) {
            Some(sequence) => sequence,
            None => fs::metadata(tree.at(format!("sys/block/{name}"))).ok()?.ino(),
        };
        let mut path = [0; PATH_BYTES];
        let file = match name.starts_with("loop") {
            true => tree.read(format_args!("sys/block/{name}/loop/backing_file"), &mut path).ok(),
            false => None,
        };
        Some(Self { number, file: file.unwrap_or_default().to_vec() })
    }
}

/// Whether one of these disks is gone, or another one now. Of one that was gone
/// already nothing is asked: its name may be another's.
pub fn have_changed<'a>(
    root: &Path,
    mut known: impl Iterator<Item = (&'a str, &'a Option<Identity>)>,
) -> bool {
    let tree = Tree::new(root);
    known.any(|(name, identity)| identity.is_some() && Identity::read(&tree, name) != *identity)
}
