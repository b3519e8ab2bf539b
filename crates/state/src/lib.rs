//! The agent's memory from one run to the next, in one directory: how long each
//! disk's requests take alone while it is well, and what it has shown that it can complete.
//!
//! [`mod@format`] makes bytes of that and reads them, trusting nothing; [`folder`] is
//! the directory. Which disk is meant [`tracer_node::disks::Key`] says. Knows no
//! kernel, no clock and nobody who learns or uses a reference.

#![forbid(unsafe_code)]

pub mod folder;
pub mod format;

use tracer_engine::{pace::KeptPace, usage::Kept};
use tracer_node::disks::Key;

/// Whether something kept fits a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fit<'e> {
    Whole(&'e Entry),
    /// It is this disk's, set up otherwise: the differences.
    Changed(Vec<String>),
    None,
}

/// Looks for a disk's reference.
pub fn find<'e>(entries: &'e [Entry], key: &Key) -> Fit<'e> {
    let mut of_disk = entries.iter().filter(|entry| entry.key.named == key.named);
    match of_disk.clone().find(|entry| entry.key == *key) {
        Some(entry) => Fit::Whole(entry),
        None => of_disk.next().map_or(Fit::None, |entry| Fit::Changed(key.changes(&entry.key))),
    }
}

/// References as they are now, and the kept ones of disks that are not here but may
/// come back: those that are known by their place in another boot cannot.
pub fn merge(mut now: Vec<Entry>, kept: &[Entry], boot: Option<&str>) -> Vec<Entry> {
    let others = kept.iter().filter(|entry| {
        let is_here = now.iter().any(|new| new.key == entry.key);
        !is_here && !entry.key.is_of_another_boot(boot)
    });
    let others: Vec<_> = others.cloned().collect();
    now.extend(others);
    now
}

/// One disk's reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub key: Key,
    /// When it was last seen to hold, in Unix seconds.
    pub at: u64,
    pub levels: Vec<Kept>,
    pub pace: KeptPace,
}

#[cfg(test)]
mod tests {
    use tracer_node::disks::Named;

    use super::*;

    fn entry(name: &str, scheduler: &str, at: u64) -> Entry {
        let settings = [("scheduler".to_owned(), scheduler.to_owned())].into();
        let named = match name.split_once('@') {
            Some((file, boot)) => {
                Named::Boot { boot: boot.to_owned(), number: 7, file: file.to_owned() }
            }
            None => Named::Hardware(name.to_owned()),
        };
        let key = Key { named, size_bytes: 1, settings };
        Entry { key, at, levels: Vec::new(), pace: KeptPace::default() }
    }

    #[test]
    fn a_reference_fits_its_own_disk_under_the_same_settings_alone() {
        let kept =
            [entry("disk-1", "none", 1), entry("disk-1", "bfq", 2), entry("/a@x", "none", 3)];
        let found = |name: &str, scheduler: &str| find(&kept, &entry(name, scheduler, 0).key);
        assert_eq!(found("disk-1", "none"), Fit::Whole(&kept[0]));
        assert_eq!(found("disk-1", "bfq"), Fit::Whole(&kept[1]));
        let changed = vec!["scheduler was none and is kyber".to_owned()];
        assert_eq!(found("disk-1", "kyber"), Fit::Changed(changed));
        assert_eq!(found("disk-2", "none"), Fit::None);
        assert_eq!(found("/a@x", "none"), Fit::Whole(&kept[2]));
        assert_eq!(found("/a@y", "none"), Fit::None, "another boot");
    }

    #[test]
    fn disks_that_may_come_back_are_not_forgotten() {
        let kept =
            [entry("disk-1", "none", 1), entry("disk-2", "none", 1), entry("/a@x", "none", 1)];
        let now = vec![entry("disk-1", "none", 9), entry("disk-1", "bfq", 9)];
        let of_this_boot = merge(now.clone(), &kept, Some("x"));
        assert_eq!(of_this_boot[..2], now);
        assert_eq!(of_this_boot[2..], kept[1..]);
        assert_eq!(merge(now, &kept, Some("y"))[2..], kept[1..2]);
    }
}
