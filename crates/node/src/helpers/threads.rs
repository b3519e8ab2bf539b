//! Kernel threads that work for one disk or one filesystem, by their names.
//!
//! `jbd2/sda1-8` commits a journal; `kworker/u8:3-loop0` did a loop device's work
//! last; `md127_raid5`, `dmcrypt_write/253:0`, `xfsaild/sda1` and the workers
//! `…-xfs-cil/sda1` say for whom they are. Other kworkers do not, and whom a softirq
//! works for nobody knows: they are not taken for anybody's.

use std::fs;

use tracer_engine::helper::Role;

use super::Place;
use crate::{
    devices,
    identity::is_kernel_thread,
    tree::{Tree, number, text},
};

/// The thread whose children all others of the kernel are.
const KTHREADD: u32 = 2;

/// Kernel threads that are listed, and bytes of a list of them.
const MAX_THREADS: usize = 8192;
const CHILDREN_BYTES: usize = 64 << 10;

/// Disks of one stack.
const NAMES: usize = 16;

/// Before Linux 5.17 longer names of kernel threads were cut:
/// <https://github.com/torvalds/linux/commit/d6986ce24fc0>.
const CUT: usize = 15;

/// A disk or a partition on the way of a sync, by its name and its number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    pub name: String,
    pub number: String,
    /// Whether the filesystem lies directly on it.
    pub is_filesystems: bool,
}

/// All kernel threads whose names may say for whom they work.
pub fn list(tree: &Tree) -> Vec<(u32, String)> {
    let children = format!("proc/{KTHREADD}/task/{KTHREADD}/children");
    let tids: Vec<u32> = match tree.read_up_to(children, CHILDREN_BYTES) {
        Ok(list) => list.split(u8::is_ascii_whitespace).filter_map(number).collect(),
        // Not every kernel has that file.
        Err(_) => {
            let all = fs::read_dir(tree.at("proc")).into_iter().flatten().flatten();
            all.filter_map(|entry| number(entry.file_name().as_encoded_bytes())).collect()
        }
    };
    let named = tids.into_iter().take(MAX_THREADS).filter_map(|tid| Some((tid, comm(tree, tid)?)));
    let named = named.filter(|(_, comm)| comm.contains(['/', '_']) || comm.starts_with("loop"));
    // Everybody may choose such a name.
    named.filter(|(tid, _)| is_kernel_thread(tree.root(), *tid)).collect()
}

/// The name of a process or a thread; a kernel worker's with the work that it does or
/// did last, which it has behind a plus meanwhile.
pub fn comm(tree: &Tree, tid: u32) -> Option<String> {
    let comm = tree.read_up_to(format!("proc/{tid}/comm"), 128).ok()?;
    let comm = text(comm.trim_ascii_end(), 128);
    Some(if comm.starts_with("kworker/") { comm.replacen('+', "-", 1) } else { comm })
}

/// The disks that a sync at a place goes through.
pub fn names(tree: &Tree, place: Place) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    let mut take = |device: u32, is_filesystems: bool| {
        let number = format!("{}:{}", devices::major(device), devices::minor(device));
        let link = fs::read_link(tree.at(format!("sys/dev/block/{number}")));
        let name = link.ok().and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
        if let Some(name) = name.filter(|name| names.iter().all(|known| known.name != *name)) {
            names.push(Name { name, number, is_filesystems });
        }
    };
    take(place.device, true);
    if let Some((_, device)) = place.disk {
        take(device, place.device == 0);
    }
    let mut at = 0;
    while at < names.len() && names.len() < NAMES {
        let slaves = tree.at(format!("sys/class/block/{}/slaves", names[at].name));
        for slave in fs::read_dir(slaves).into_iter().flatten().flatten().take(NAMES) {
            let name = slave.file_name().to_string_lossy().into_owned();
            if names.iter().all(|known| known.name != name) {
                let number = tree.read_line(format!("sys/class/block/{name}/dev"));
                let number = number.unwrap_or_default();
                names.push(Name { name, number, is_filesystems: false });
            }
        }
        at += 1;
    }
    names
}

/// Returns the threads that work for one of these disks or partitions.
pub fn of<'a>(
    threads: &'a [(u32, String)],
    names: &'a [Name],
) -> impl Iterator<Item = (Role, u32, Option<String>)> + 'a {
    threads.iter().filter_map(|(tid, comm)| {
        let role = names.iter().find_map(|name| role(comm, name))?;
        Some((role, *tid, Some(comm.clone())))
    })
}

/// The role of a thread for a disk.
fn role(comm: &str, name: &Name) -> Option<Role> {
    let Name { name, number, is_filesystems } = name;
    if let Some(journal) = comm.strip_prefix("jbd2/") {
        let is_its = is_of(journal, comm, name, "-") || journal == name;
        return (*is_filesystems && is_its).then_some(Role::Journal);
    }
    let worker = comm.strip_prefix("kworker/").and_then(|rest| rest.split_once('-'));
    if let Some((_, work)) = worker {
        if work == name {
            return Some(Role::Worker);
        }
        let (kind, of) = work.rsplit_once('/')?;
        return (kind.starts_with("xfs-") && of == name).then_some(Role::Journal);
    }
    if let Some(of) = comm.strip_prefix("xfsaild/") {
        return is_of(of, comm, name, "").then_some(Role::Journal);
    }
    if let Some(of) = comm.strip_prefix("dmcrypt_write/") {
        return is_of(of, comm, number, "").then_some(Role::Worker);
    }
    let is_array = comm.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with("_raid"));
    // Each loop device had a thread of its own before 5.14:
    // <https://github.com/torvalds/linux/commit/87579e9b7d8d>.
    (is_array || name.starts_with("loop") && comm == name).then_some(Role::Worker)
}

/// Whether `of` begins with `name` and then `end`, or ends the same where the whole
/// `comm` was cut.
fn is_of(of: &str, comm: &str, name: &str, end: &str) -> bool {
    let whole = format!("{name}{end}");
    if end.is_empty() && of == whole || !end.is_empty() && of.starts_with(&whole) {
        return true;
    }
    comm.len() == CUT && !of.is_empty() && whole.starts_with(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(comm: &str, name: &str, expected: Option<Role>) {
        let name = Name { name: name.to_owned(), number: "253:1".to_owned(), is_filesystems: true };
        assert_eq!(role(comm, &name), expected, "{comm} for {}", name.name);
    }

    #[test]
    fn a_thread_says_by_its_name_for_whom_it_works() {
        let (journal, worker) = (Some(Role::Journal), Some(Role::Worker));
        check("jbd2/loop0-8", "loop0", journal);
        check("jbd2/loop0-8", "loop", None);
        check("jbd2/loop01-8", "loop0", None);
        check("jbd2/dm-1-8", "dm-1", journal);
        check("jbd2/dm-11-8", "dm-1", None);
        check("jbd2/sdb1", "sdb1", journal);
        check("jbd2/nvme0n1p1-", "nvme0n1p1", journal);
        check("jbd2/nvme0n1p12", "nvme0n1p12", journal);
        check("kworker/u8:3-loop0", "loop0", worker);
        check("kworker/u8:3-loop01", "loop0", None);
        check("kworker/0:1-xfs-cil/loop0", "loop0", journal);
        check("kworker/0:1-xfs-cil/loop1", "loop0", None);
        check("kworker/0:1-events", "loop0", None);
        check("kworker/u8:0", "loop0", None);
        check("xfsaild/sda1", "sda1", journal);
        check("xfsaild/sda11", "sda1", None);
        check("md127_raid5", "md127", worker);
        check("md1_raid5", "md12", None);
        check("dmcrypt_write/253:1", "dm-1", worker);
        check("dmcrypt_write/253:12", "dm-1", None);
        check("dmcrypt_write/2", "dm-1", worker);
        check("loop0", "loop0", worker);
        check("ksoftirqd/0", "loop0", None);
        check("", "loop0", None);
    }

    #[test]
    fn a_journal_below_another_filesystem_is_not_its() {
        let below = Name { name: "sda1".into(), number: "8:1".into(), is_filesystems: false };
        assert_eq!(role("jbd2/sda1-8", &below), None);
        assert_eq!(role("md0_raid1", &Name { name: "md0".into(), ..below }), Some(Role::Worker));
    }
}
