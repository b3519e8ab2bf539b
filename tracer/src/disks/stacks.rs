//! Disks on disks: who carries one that has no requests of its own.
//!
//! Device mapper and md pass bios on, and so are never seen on the block path;
//! a sync on them waits for the disk below. sysfs tells which that is
//! (`slaves`), partitions by their whole disk. Of several, the first stands for
//! all.

use std::{fs, path::Path};

use tracer_ebpf::record::Disk;

use super::{Assigned, BlockDisk};
use crate::tree::Tree;

/// Deeper stacks than any that were seen.
const MAX_DEPTH: usize = 8;

/// A disk without requests of its own, and the one that carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Carried {
    pub name: String,
    pub device: u32,
    pub carrier: Disk,
}

/// All of `disks` that one of the `assigned` carries.
pub fn carried(root: &Path, disks: &[BlockDisk], assigned: &[Assigned]) -> Vec<Carried> {
    let tree = Tree::new(root);
    let stacked = disks.iter().filter(|disk| disk.queues == 0);
    stacked
        .filter_map(|disk| {
            let carrier = find(&tree, &disk.name, assigned, 0)?;
            Some(Carried { name: disk.name.clone(), device: disk.device, carrier })
        })
        .collect()
}

fn find(tree: &Tree, name: &str, assigned: &[Assigned], depth: usize) -> Option<Disk> {
    if let Some(found) = assigned.iter().find(|known| known.name == name) {
        return Some(found.disk);
    }
    if depth == MAX_DEPTH {
        return None;
    }
    let slaves = fs::read_dir(tree.at(format!("sys/block/{name}/slaves"))).ok()?;
    let mut slaves: Vec<_> = slaves.flatten().map(|slave| slave.path()).collect();
    slaves.sort();
    slaves.iter().find_map(|slave| {
        let slave = fs::canonicalize(slave).ok()?;
        let whole = if slave.join("partition").exists() { slave.parent()? } else { &slave };
        find(tree, whole.file_name()?.to_str()?, assigned, depth + 1)
    })
}
