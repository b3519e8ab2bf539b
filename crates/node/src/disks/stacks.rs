//! Stacked disks, and the disks that underlie them.
//!
//! Device mapper and md pass bios on, and so are never seen on the block path;
//! a sync on them waits for the disks below. sysfs names those
//! ([`super::layers`]), partitions by their whole disk, a multipath NVMe namespace by
//! the names of its paths. If there are several, the first stands for the stacked disk,
//! and the others are its underlying ones. A loop device has requests of its own, and
//! waits for the disk below the filesystem that holds its file.
//!
//! Some have bios that stand for requests (`carrying`): such a disk is the
//! first itself, and what lies below it is underlying.
//!
//! On an underlying disk, requests that serve the upper one come from kernel
//! threads (loop's, dm-crypt's) with no known owner: they are not competitors, but the
//! same work seen twice. Callers leave them out.

use std::{fs, path::Path};

use tracer_ebpf::record::{Disk, NO_DISK, UNDERLYING};

use super::{Assigned, BlockDisk, Identity, MAX_MEMBERS, layers};
use crate::{
    devices, mounts,
    tree::{Tree, text},
};

/// No path is longer (PATH_MAX).
const PATH_BYTES: usize = 4096;

/// A disk without requests of its own, and the first disk that underlies it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stacked {
    pub name: String,
    pub device: u32,
    pub identity: Option<Identity>,
    pub underlying: Disk,
}

/// All of `disks` that lie on one of the `assigned`.
pub fn find_stacked(root: &Path, disks: &[BlockDisk], assigned: &[Assigned]) -> Vec<Stacked> {
    let below = Below::new(root, assigned);
    let stacked = disks.iter().filter(|disk| disk.queues == 0 && !disk.carries);
    stacked
        .filter_map(|disk| {
            let mut underlying = below.place(&disk.name)?;
            if underlying.depth == Disk::CARRIES {
                underlying.depth = Disk::ON_CARRIER;
            }
            let (name, identity) = (disk.name.clone(), disk.identity.clone());
            Some(Stacked { name, device: disk.device, identity, underlying })
        })
        .collect()
}

/// Fills in what lies below each of the `assigned` itself.
pub fn connect(root: &Path, assigned: &mut [Assigned]) {
    let below = Below::new(root, assigned);
    let places: Vec<_> = assigned.iter().map(|disk| below.place(&disk.name)).collect();
    let there = assigned.iter_mut().zip(places).filter(|(disk, _)| disk.identity.is_some());
    for (disk, place) in there {
        disk.disk = place.unwrap_or(disk.disk);
    }
}

/// Finds what is below.
struct Below<'a> {
    tree: Tree,
    mountinfo: Vec<u8>,
    assigned: &'a [Assigned],
}

impl<'a> Below<'a> {
    fn new(root: &Path, assigned: &'a [Assigned]) -> Self {
        let tree = Tree::new(root);
        // The host's view; in a container without the host's processes only our
        // own is left.
        let mountinfo = ["1", "self"].into_iter().find_map(|p| mounts::read(&tree, p).ok());
        Self { tree, mountinfo: mountinfo.unwrap_or_default(), assigned }
    }

    /// The disks that are there. The name of one that is gone may be another's by now.
    fn there(&self) -> impl Iterator<Item = &'a Assigned> {
        self.assigned.iter().filter(|known| known.identity.is_some())
    }

    /// The first assigned disk from this one on downwards, with the next ones
    /// as its underlying.
    fn place(&self, name: &str) -> Option<Disk> {
        let mut names = vec![name.to_owned()];
        let mut found: Vec<Disk> = Vec::new();
        let mut at = 0;
        // Level by level: members come before what lies below them.
        while at < names.len() && found.len() <= UNDERLYING {
            found.extend(self.there().find(|k| k.name == names[at]).map(|k| k.disk));
            for member in self.members(&names[at]) {
                if !names.contains(&member) && names.len() < MAX_MEMBERS {
                    names.push(member);
                }
            }
            at += 1;
        }
        let (first, others) = found.split_first()?;
        let mut underlying = [NO_DISK; UNDERLYING];
        for (underlying, other) in underlying.iter_mut().zip(others) {
            *underlying = other.index;
        }
        Some(Disk { underlying, ..*first })
    }

    /// The whole disks directly below one.
    fn members(&self, name: &str) -> Vec<String> {
        if name.starts_with("loop") {
            return self.file_disk(name).into_iter().collect();
        }
        let links = layers::links(&self.tree, name);
        let members = links.iter().filter_map(|link| whole_disk(link));
        members.chain(self.nvme_paths(name)).collect()
    }

    /// The paths `nvme0c1n1` of `nvme0n1`; an NVMe that has none has requests
    /// of its own.
    fn nvme_paths(&self, name: &str) -> impl Iterator<Item = String> {
        let ids = name.strip_prefix("nvme").and_then(|rest| rest.split_once('n'));
        self.there().map(|known| &known.name).filter_map(move |path| {
            let (subsystem, namespace) = ids?;
            let rest = path.strip_prefix("nvme")?.strip_prefix(subsystem)?.strip_prefix('c')?;
            let (_, of) = rest.split_once('n')?;
            (of == namespace).then(|| path.clone())
        })
    }

    /// The disk below the filesystem that holds a loop device's file.
    fn file_disk(&self, name: &str) -> Option<String> {
        let file = format!("sys/block/{name}/loop/backing_file");
        let file = self.tree.read_up_to(file, PATH_BYTES).ok()?;
        let file = file.strip_suffix(b"\n").unwrap_or(&file);
        // If several mounts are on one place, the last hides the others.
        let mounts = mounts::parse(&self.mountinfo).filter_map(|mount| {
            let point = mounts::unescape(mount.point);
            is_below(file, &point).then_some((point.len(), mount))
        });
        let (_, mount) = mounts.max_by_key(|(length, _)| *length)?;
        if devices::is_anonymous(mount.device) {
            // btrfs names a device of its own; what it was mounted from may be
            // a link of device mapper's.
            let source = text(&mounts::unescape(mount.source), PATH_BYTES);
            let node =
                fs::canonicalize(self.tree.at(source.strip_prefix("/dev/").map(|_| &source)?));
            let node = node.ok()?;
            let name = node.file_name()?.to_str()?;
            return whole_disk(&self.tree.at(format!("sys/class/block/{name}")));
        }
        let (major, minor) = (devices::major(mount.device), devices::minor(mount.device));
        whole_disk(&self.tree.at(format!("sys/dev/block/{major}:{minor}")))
    }
}

/// The name of the disk that a link in sysfs leads to, or that the partition is
/// on to which it leads.
pub(super) fn whole_disk(link: &Path) -> Option<String> {
    let place = fs::canonicalize(link).ok()?;
    let whole = if place.join("partition").exists() { place.parent()? } else { &place };
    Some(whole.file_name()?.to_str()?.to_owned())
}

/// Whether a path lies at or below a mount point.
fn is_below(path: &[u8], point: &[u8]) -> bool {
    let point = point.strip_suffix(b"/").unwrap_or(point);
    path.strip_prefix(point).is_some_and(|rest| rest.first() == Some(&b'/'))
}
