//! The key of a disk over a restart: its name and its settings. A reference that was
//! learnt of a disk holds for no other disk, and not under another scheduler.
//!
//! A disk that says who it is (a WWID, a serial number) is known again under any
//! name and after any boot. Others (loop devices, disks of a hypervisor that gives
//! none) are known by their place in the kernel's sequence, which lasts as long as
//! the machine is up.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{Queues, SECTOR_BYTES, chosen, replaced::Identity};
use crate::tree::{Tree, text};

/// Longer names are cut: none that is unique is.
const NAME_BYTES: usize = 256;
const SETTINGS: usize = 32;
const SETTING_BYTES: usize = 64;

/// Files in which disks say who they are; the first that says something counts.
const NAMES: [&str; 7] =
    ["wwid", "device/wwid", "serial", "device/serial", "device/cid", "dm/uuid", "md/uuid"];

/// Settings of a queue that change how fast the disk is. (The depth of a SCSI disk's
/// queue is left out: the kernel itself changes it under load.)
const SPEED: [&str; 10] = [
    "nr_requests",
    "rotational",
    "write_cache",
    "fua",
    "wbt_lat_usec",
    "max_sectors_kb",
    "nomerges",
    "io_poll",
    "discard_max_bytes",
    "zoned",
];

/// A name by which a disk is known again.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Named {
    /// A name of its own.
    Hardware(String),
    /// Its place in the sequence of one boot, and the file behind a loop device.
    Boot { boot: String, number: u64, file: String },
}

/// A disk as it is set up.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub named: Named,
    pub size_bytes: u64,
    pub settings: BTreeMap<String, String>,
}

impl Key {
    /// Reads the key of the disk of this name; `None` if it is gone, or
    /// cannot be distinguished from others.
    pub fn read(queues: &Queues, name: &str) -> Option<Self> {
        let tree = queues.tree();
        let line = |path: &str| tree.read_line(format!("sys/block/{name}/{path}"));
        let size_bytes = line("size")?.trim().parse::<u64>().ok()?.saturating_mul(SECTOR_BYTES);
        let named = match NAMES.iter().find_map(|path| line(path).and_then(own_name)) {
            Some(name) => Named::Hardware(name),
            None => of_this_boot(tree, name)?,
        };
        // It is not known whether a reference holds for one that does not answer.
        let speed = queues.lines(name, SPEED)?;
        let [scheduler] = queues.lines(name, ["scheduler"])?;
        let mut settings: BTreeMap<_, _> = SPEED
            .iter()
            .zip(speed)
            .filter_map(|(what, value)| Some(((*what).to_owned(), value?)))
            .map(|(what, value)| (what, text(value.trim().as_bytes(), SETTING_BYTES)))
            .collect();
        if let Some(scheduler) = scheduler {
            let scheduler = text(chosen(scheduler).as_bytes(), SETTING_BYTES);
            settings.insert("scheduler".to_owned(), scheduler);
        }
        Some(Self { named, size_bytes, settings })
    }

    /// Whether it could be one that was read: it may come out of a file.
    pub fn is_sound(&self) -> bool {
        let is_named = match &self.named {
            Named::Hardware(name) => own_name(name.clone()).as_ref() == Some(name),
            Named::Boot { boot, file, .. } => {
                !boot.is_empty() && boot.len() <= SETTING_BYTES && file.len() <= NAME_BYTES
            }
        };
        let are_short = |(name, value): (&String, &String)| {
            name.len() <= SETTING_BYTES && value.len() <= SETTING_BYTES
        };
        is_named && self.settings.len() <= SETTINGS && self.settings.iter().all(are_short)
    }

    /// Whether it will never be met again.
    pub fn is_of_another_boot(&self, boot: Option<&str>) -> bool {
        matches!(&self.named, Named::Boot { boot: then, .. } if Some(then.as_str()) != boot)
    }

    /// The differences from an earlier key of the same disk: `scheduler was none and is
    /// bfq`.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.size_bytes != before.size_bytes {
            let (was, is) = (before.size_bytes, self.size_bytes);
            changes.push(format!("its size was {was} bytes and is {is}"));
        }
        let names = self.settings.keys().chain(before.settings.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        for name in names {
            let value = |key: &Self| key.settings.get(name).cloned();
            let [was, is] = [value(before), value(self)];
            if was != is {
                let [was, is] = [was, is].map(|value| value.unwrap_or_else(|| "absent".into()));
                changes.push(format!("{name} was {was} and is {is}"));
            }
        }
        changes
    }
}

/// The kernel's number of this boot.
pub fn boot_id(root: &Path) -> Option<String> {
    let id = Tree::new(root).read_line("proc/sys/kernel/random/boot_id")?;
    Some(text(id.trim().as_bytes(), SETTING_BYTES)).filter(|id| !id.is_empty())
}

fn of_this_boot(tree: &Tree, name: &str) -> Option<Named> {
    let boot = boot_id(tree.root())?;
    let Identity { number, file } = Identity::read(tree, name)?;
    Some(Named::Boot { boot, number, file: text(file.trim_ascii(), NAME_BYTES) })
}

/// Placeholders are no names: nothing at all, a few characters, one of them over and
/// over, or the words of firmware that was given no name.
fn own_name(line: String) -> Option<String> {
    let name =
        text(line.trim_matches(|c: char| c.is_whitespace() || c == '\0').as_bytes(), NAME_BYTES);
    let mut letters: Vec<_> = name.chars().filter(|c| c.is_alphanumeric()).collect();
    let is_long = letters.len() >= 4;
    letters.sort_unstable();
    letters.dedup();
    let is_given = !["unknown", "none", "default", "to be filled by o.e.m."]
        .contains(&name.to_lowercase().as_str());
    (is_long && letters.len() > 1 && is_given && name.trim() == name).then_some(name)
}

#[cfg(test)]
mod tests {

    use super::*;

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            node.write("proc/sys/kernel/random/boot_id", "5c3b1d0e-first\n");
            for name in ["vda", "loop0"] {
                node.write(&format!("sys/block/{name}/size"), "2048\n");
                node.write(&format!("sys/block/{name}/diskseq"), "9\n");
                let queue = format!("sys/block/{name}/queue");
                node.write(&format!("{queue}/scheduler"), "[none] mq-deadline\n");
                node.write(&format!("{queue}/nr_requests"), "128\n");
                node.write(&format!("{queue}/write_cache"), "write back\n");
            }
            node
        }

        fn write(&self, path: &str, text: &str) {
            crate::tree::put(&self.0, path, text);
        }

        fn key(&self, name: &str) -> Key {
            Key::read(&Queues::new(self.0.path()), name).unwrap()
        }
    }

    #[test]
    fn a_disk_that_says_who_it_is_is_known_after_any_boot() {
        let node = Node::new();
        node.write("sys/block/vda/serial", "volume-77\n");
        let before = node.key("vda");
        assert_eq!(before.named, Named::Hardware("volume-77".into()));
        assert_eq!(before.size_bytes, 1 << 20);
        node.write("proc/sys/kernel/random/boot_id", "another\n");
        node.write("sys/block/vda/diskseq", "77\n");
        assert_eq!(node.key("vda"), before);
        assert!(!before.is_of_another_boot(Some("another")) && before.is_sound());
        // The better name counts.
        node.write("sys/block/vda/wwid", "nvme.1b36-31\n");
        assert_eq!(node.key("vda").named, Named::Hardware("nvme.1b36-31".into()));
    }

    #[test]
    fn another_is_known_while_the_machine_is_up() {
        let node = Node::new();
        node.write("sys/block/loop0/loop/backing_file", "/a\n");
        let before = node.key("loop0");
        assert!(before.is_sound());
        assert_eq!(node.key("loop0"), before);
        node.write("sys/block/loop0/loop/backing_file", "/b\n");
        assert_ne!(node.key("loop0"), before, "another file");
        node.write("sys/block/loop0/loop/backing_file", "/a\n");
        node.write("sys/block/loop0/diskseq", "10\n");
        assert_ne!(node.key("loop0"), before, "another disk");
        node.write("sys/block/loop0/diskseq", "9\n");
        node.write("proc/sys/kernel/random/boot_id", "another\n");
        assert_ne!(node.key("loop0"), before, "another boot");
        assert!(before.is_of_another_boot(boot_id(node.0.path()).as_deref()));
        assert!(before.is_of_another_boot(None));
    }

    #[test]
    fn placeholders_are_no_names() {
        for name in ["", "  ", "\0\0", "0000000000000000", "123", "naa.", "Unknown", "----"] {
            assert_eq!(own_name(name.to_owned()), None, "{name:?}");
        }
        assert_eq!(own_name(" S4EVNF0M\0\0".to_owned()).unwrap(), "S4EVNF0M");
        assert!(own_name("xy".repeat(10_000)).unwrap().len() <= NAME_BYTES);
    }

    #[test]
    fn what_has_changed_is_named() {
        let node = Node::new();
        let before = node.key("vda");
        assert_eq!(before.changes(&before), [""; 0]);
        node.write("sys/block/vda/size", "4096\n");
        node.write("sys/block/vda/queue/scheduler", "none [mq-deadline]\n");
        node.write("sys/block/vda/queue/rotational", "1\n");
        let now = node.key("vda");
        assert_ne!(now, before);
        let changes = [
            "its size was 1048576 bytes and is 2097152",
            "rotational was absent and is 1",
            "scheduler was none and is mq-deadline",
        ];
        assert_eq!(now.changes(&before), changes);
    }

    #[test]
    fn a_disk_that_is_gone_has_no_key() {
        assert_eq!(Key::read(&Queues::new(Node::new().0.path()), "sda"), None);
    }

    #[test]
    fn names_from_a_file_are_bounded() {
        let sound = Node::new().key("vda");
        let with = |named| Key { named, ..sound.clone() };
        assert!(!with(Named::Hardware("x1y2".repeat(100))).is_sound());
        assert!(!with(Named::Hardware("0000".into())).is_sound());
        let file = "f".repeat(5000);
        assert!(!with(Named::Boot { boot: "b".into(), number: 1, file }).is_sound());
        let many = (0..50).map(|n| (n.to_string(), String::new())).collect();
        assert!(!Key { settings: many, ..sound.clone() }.is_sound());
        let long = [("scheduler".to_owned(), "x".repeat(100))].into();
        assert!(!Key { settings: long, ..sound }.is_sound());
    }
}
