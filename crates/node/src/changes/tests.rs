//! Tests with a tree of files that change.

use std::fs;

use tempfile::TempDir;

use super::*;

const MINUTE_NS: u64 = 60_000_000_000;

struct Node {
    dir: TempDir,
    changes: Changes,
    watched: Watched,
    now_ns: u64,
}

impl Node {
    /// A node with a victim, a culprit, a disk and a filesystem.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let actor = |name: &str, tgid, cgroup: &str, is_culprit| WatchedActor {
            name: name.to_owned(),
            tgid,
            cgroup: cgroup.to_owned(),
            is_culprit,
        };
        let watched = Watched {
            actors: vec![
                actor("etcd", 7, "/a.slice/etcd.service", false),
                actor("fio (noisy.service)", 42, "/noisy.service", true),
            ],
            disks: vec!["vda".to_owned()],
            devices: vec!["vda1".to_owned()],
        };
        let node = Self { changes: Changes::new(dir.path()), dir, watched, now_ns: 0 };
        node.write("sys/fs/cgroup/cgroup.controllers", "cpu io");
        node.write("sys/fs/cgroup/a.slice/io.max", "");
        node.write("sys/fs/cgroup/a.slice/etcd.service/cpu.max", "max 100000\n");
        node.write("sys/fs/cgroup/noisy.service/cgroup.events", "populated 1\nfrozen 0\n");
        node.write("sys/block/vda/queue/scheduler", "[none] mq-deadline\n");
        node.write("sys/class/block/vda1/dev", "253:1\n");
        node.mount("rw,relatime", "rw");
        node.start(42, 1000);
        node
    }

    fn write(&self, path: &str, text: &str) {
        crate::tree::put(&self.dir, path, text);
    }

    fn mount(&self, own: &str, options: &str) {
        let line = format!("30 1 253:1 / /var/lib/etcd {own} shared:1 - ext4 /dev/vda1 {options}");
        self.write("proc/1/mountinfo", &format!("{line}\n31 1 253:1 /a /b ro - ext4 x ro\n"));
    }

    fn start(&self, tgid: u32, ticks: u64) {
        let between = "S 1".to_owned() + &" 0".repeat(17);
        self.write(&format!("proc/{tgid}/stat"), &format!("{tgid} (f) o) {between} {ticks} 0"));
    }

    /// Looks a minute later.
    fn look(&mut self) -> Vec<String> {
        self.now_ns += MINUTE_NS;
        self.changes.look(self.now_ns, &self.watched)
    }
}

#[test]
fn settings_that_change_are_said_with_both_values() {
    let mut node = Node::new();
    assert!(node.look().is_empty() && node.look().is_empty());
    node.write("sys/fs/cgroup/a.slice/io.max", "253:0 wbps=1048576\n8:0 rbps=1\n");
    node.write("sys/fs/cgroup/a.slice/etcd.service/cpu.max", "20000 100000\n");
    node.write("sys/block/vda/queue/scheduler", "none [mq-deadline]\n");
    node.mount("rw,noatime", "rw,discard");
    let said = [
        "cpu.max of /a.slice/etcd.service changed from max 100000 to 20000 100000",
        "io.max of /a.slice changed from nothing to 253:0 wbps=1048576; 8:0 rbps=1",
        "mount options of /var/lib/etcd on vda1 changed from relatime to noatime,discard",
        "scheduler of vda changed from none to mq-deadline",
    ];
    assert_eq!(node.look(), said);
    assert!(node.look().is_empty());
}

#[test]
fn the_end_of_a_culprit_is_said_once() {
    let mut node = Node::new();
    assert!(node.look().is_empty());
    // Another process has the number now.
    node.start(42, 5000);
    let said = "process 42 of fio (noisy.service) ended; others in its cgroup still run";
    assert_eq!(node.look(), [said]);
    assert!(node.look().is_empty());
    node.write("sys/fs/cgroup/noisy.service/cgroup.events", "populated 0\n");
    assert_eq!(node.look(), ["all processes of the cgroup of fio (noisy.service) ended"]);
    assert!(node.look().is_empty());

    let mut node = Node::new();
    assert!(node.look().is_empty());
    fs::remove_dir_all(node.dir.path().join("proc/42")).unwrap();
    fs::remove_dir_all(node.dir.path().join("sys/fs/cgroup/noisy.service")).unwrap();
    assert_eq!(node.look(), ["fio (noisy.service) ended"]);
    assert!(node.look().is_empty());
}

#[test]
fn who_is_not_looked_at_says_nothing_and_a_return_is_a_first_look() {
    let mut node = Node::new();
    node.look();
    let watched = std::mem::take(&mut node.watched);
    node.write("sys/block/vda/queue/scheduler", "none [mq-deadline]\n");
    fs::remove_dir_all(node.dir.path().join("proc/42")).unwrap();
    assert!(node.look().is_empty());
    node.watched = watched;
    assert!(node.look().is_empty());
}

#[test]
fn what_changes_all_the_time_is_said_four_times_in_ten_minutes() {
    let mut node = Node::new();
    node.look();
    let mut said = 0;
    for n in 0..10 {
        node.write("sys/fs/cgroup/a.slice/etcd.service/cpu.max", &format!("{n} 100000\n"));
        said += node.look().len();
    }
    assert_eq!(said, 4);
    // The first of them is longer ago than that by now.
    node.write("sys/fs/cgroup/a.slice/etcd.service/cpu.max", "10 100000\n");
    assert_eq!(node.look().len(), 1);
}

#[test]
fn names_lead_nowhere_else_and_long_ones_are_cut() {
    let mut node = Node::new();
    node.write("sys/fs/secret/cpu.max", "1\n");
    node.watched.actors[0].cgroup = "/../secret".to_owned();
    node.watched.disks = vec!["../block/vda".to_owned(), "..".to_owned()];
    node.watched.devices.clear();
    node.look();
    node.write("sys/fs/secret/cpu.max", "2\n");
    node.write("sys/block/vda/queue/scheduler", "none [mq-deadline]\n");
    assert!(node.look().is_empty());
    assert_eq!(end_of(&"é".repeat(200)).len(), NAME_BYTES);
    assert_eq!(shown(&"x".repeat(200)).len(), VALUE_BYTES);
}
