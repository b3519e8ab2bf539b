//! Numbers and names that the kernel gives to another disk.

use super::*;

/// Disks that were found and have their places, as a session holds them.
struct Found<'a> {
    node: &'a Node,
    assigned: Vec<Assigned>,
    room: Room,
}

impl<'a> Found<'a> {
    fn new(node: &'a Node, room: Room) -> Self {
        let mut found = Self { node, assigned: Vec::new(), room };
        assert!(found.scan().is_empty());
        found
    }

    /// Gives the names of those for which there is no room.
    fn scan(&mut self) -> Vec<String> {
        assign(&mut self.assigned, &self.node.scan(), &self.room)
    }

    fn have_changed(&self) -> bool {
        let known = self.assigned.iter().map(|known| (known.name.as_str(), &known.identity));
        have_changed(self.node.0.path(), known)
    }

    /// The change is noticed, and after one look there is none any more.
    fn look_again(&mut self) {
        assert!(self.have_changed());
        assert!(self.scan().is_empty());
        assert!(!self.have_changed());
    }

    /// Name, minor number and place of those that are there.
    fn there(&self) -> Vec<(&str, u32, Disk)> {
        let there = self.assigned.iter().filter(|known| known.identity.is_some());
        there.map(|k| (k.name.as_str(), devices::minor(k.device), k.disk)).collect()
    }
}

impl Node {
    fn nvme(&self, name: &str, minor: u32, queues: u32, sequence: u64) {
        self.disk(name, &format!("259:{minor}"), queues, 1023, "[none]\n");
        self.write(&format!("sys/block/{name}/diskseq"), &format!("{sequence}\n"));
    }

    fn remove(&self, name: &str) {
        fs::remove_dir_all(self.0.path().join("sys/block").join(name)).unwrap();
    }
}

fn place(index: u32, base: u32, queues: u32) -> Disk {
    Disk { index, base, queues, depth: 1025, underlying: NONE }
}

#[test]
fn a_disk_that_stays_has_not_changed() {
    let node = Node::usual();
    node.nvme("nvme1n1", 5, 2, 40);
    let mut found = Found::new(&node, ROOM);
    let before = found.assigned.clone();
    assert!(!found.have_changed());
    found.scan();
    assert_eq!(found.assigned, before);
}

#[test]
fn the_next_disk_of_a_number_has_its_own_name() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    let mut found = Found::new(&node, ROOM);
    node.remove("nvme0n1");
    node.nvme("nvme3n1", 5, 4, 41);
    found.look_again();
    // And a place of its own: who waited for the old one still did.
    assert_eq!(found.there(), [("nvme3n1", 5, place(1, 2 * 1025, 4))]);
    assert_eq!(found.assigned[0].name, "nvme0n1");

    node.remove("nvme3n1");
    node.nvme("nvme0n1", 5, 2, 42);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 0, 2))]);
}

#[test]
fn the_next_disk_of_a_number_and_a_name_is_another() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    let mut found = Found::new(&node, ROOM);
    let before = found.assigned[0].identity.clone();
    node.nvme("nvme0n1", 5, 2, 41);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 0, 2))]);
    assert_ne!(found.assigned[0].identity, before);
}

/// Before 5.15 disks have no sequence number:
/// <https://github.com/torvalds/linux/commit/cf179948554a>.
#[test]
fn without_a_sequence_the_directory_is_another() {
    let node = Node::new();
    node.disk("sda", "8:0", 1, 32, "none\n");
    let mut found = Found::new(&node, ROOM);
    assert!(!found.have_changed());
    // Two directories that are there at one time have two inodes.
    fs::rename(node.0.path().join("sys/block/sda"), node.0.path().join("old")).unwrap();
    node.disk("sda", "8:0", 1, 32, "none\n");
    found.look_again();
}

#[test]
fn a_disk_that_is_gone_is_noticed_once_and_its_name_is_nobodys() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    node.nvme("nvme1n1", 6, 2, 41);
    let mut found = Found::new(&node, ROOM);
    node.remove("nvme0n1");
    found.look_again();
    assert_eq!(found.there(), [("nvme1n1", 6, place(1, 2 * 1025, 2))]);

    // The next one of that name, for which the kernel programs ask.
    node.nvme("nvme0n1", 9, 0, 42);
    assert!(!found.have_changed());
    node.disk("dm-0", "252:0", 0, 0, "");
    slave(&node, "dm-0", "nvme0n1");
    assert_eq!(find_stacked(node.0.path(), &node.scan(), &found.assigned), []);
}

#[test]
fn the_next_disk_of_a_name_gets_its_place_under_its_own_number() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    let mut found = Found::new(&node, ROOM);
    node.remove("nvme0n1");
    node.nvme("nvme0n1", 9, 2, 41);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 9, place(0, 0, 2))]);
    assert_eq!(found.assigned.len(), 1);
}

#[test]
fn two_disks_that_swap_their_numbers_keep_their_places() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    node.nvme("nvme1n1", 6, 4, 41);
    let mut found = Found::new(&node, ROOM);
    for name in ["nvme0n1", "nvme1n1"] {
        node.remove(name);
    }
    node.nvme("nvme0n1", 6, 2, 42);
    node.nvme("nvme1n1", 5, 4, 43);
    found.look_again();
    let places = [("nvme0n1", 6, place(0, 0, 2)), ("nvme1n1", 5, place(1, 2 * 1025, 4))];
    assert_eq!(found.there(), places);
}

#[test]
fn a_disk_that_comes_back_larger_gets_more_slots_where_there_are_some() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    let mut found = Found::new(&node, Room { own_slots: 10 * 1025, ..ROOM });
    node.nvme("nvme0n1", 5, 8, 41);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 2 * 1025, 8))]);

    // Smaller, and as large as before: the place is its own.
    node.remove("nvme0n1");
    node.nvme("nvme0n1", 5, 1, 42);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 2 * 1025, 1))]);
    node.nvme("nvme0n1", 5, 8, 43);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 2 * 1025, 8))]);

    // There are no more, so it shares those of all; and then its own are there again.
    node.nvme("nvme0n1", 5, 10, 44);
    found.look_again();
    let shared = Disk { queues: 0, depth: 0, ..place(0, 2 * 1025, 0) };
    assert_eq!(found.there(), [("nvme0n1", 5, shared)]);
    node.remove("nvme0n1");
    node.nvme("nvme0n1", 5, 8, 45);
    found.look_again();
    assert_eq!(found.there(), [("nvme0n1", 5, place(0, 2 * 1025, 8))]);
}

#[test]
fn a_new_disk_gets_the_place_of_a_gone_one_only_when_there_is_no_other() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    let mut found = Found::new(&node, Room { disks: 2, ..ROOM });
    for (minor, sequence) in (6..90).zip(41..) {
        node.remove(&format!("nvme{}n1", minor - 6));
        node.nvme(&format!("nvme{}n1", minor - 5), minor, 2, sequence);
        found.look_again();
        assert_eq!(found.there().len(), 1, "{minor}");
        // The second place is fresh, and then the first is free each time.
        let index = u32::from(minor == 6);
        assert_eq!(found.there()[0].2, place(index, index * 2 * 1025, 2), "{minor}");
    }
}

#[test]
fn no_two_places_have_one_name() {
    let node = Node::new();
    node.nvme("nvme0n1", 5, 2, 40);
    node.nvme("nvme1n1", 6, 2, 41);
    let mut found = Found::new(&node, Room { disks: 2, own_slots: 8 * 1025, ..ROOM });
    node.remove("nvme0n1");
    node.remove("nvme1n1");
    node.nvme("nvme2n1", 5, 1, 42);
    found.look_again();
    assert_eq!(found.there(), [("nvme2n1", 5, place(0, 0, 1))]);
    // The names' own places were given away, or are too small.
    node.nvme("nvme1n1", 7, 2000, 43);
    found.scan();
    node.nvme("nvme1n1", 7, 2, 44);
    found.scan();
    let names: Vec<_> = found.assigned.iter().map(|known| known.name.as_str()).collect();
    assert_eq!(names, ["nvme2n1", "nvme1n1"]);
}

#[test]
fn a_loop_device_with_another_file_is_noticed_once() {
    let node = looped();
    let mut found = Found::new(&node, ROOM);
    let look = |found: &mut Found<'_>| {
        let changed = found.have_changed();
        found.scan();
        changed
    };
    node.write("sys/block/loop0/loop/backing_file", "/data/b.img\n");
    assert_eq!([look(&mut found), look(&mut found)], [true, false]);
    fs::remove_dir_all(node.0.path().join("sys/block/loop0/loop")).unwrap();
    node.write("sys/block/loop0/size", "0\n");
    assert_eq!([look(&mut found), look(&mut found)], [true, false]);
    assert_eq!(found.there().iter().filter(|there| there.0 == "loop0").count(), 1);
}

#[test]
fn a_sequence_that_is_no_number_is_none() {
    let node = Node::new();
    for nonsense in ["", "-1\n", "99999999999999999999999\n", "\0\0\n"] {
        node.nvme("nvme0n1", 5, 2, 40);
        node.write("sys/block/nvme0n1/diskseq", nonsense);
        let found = Found::new(&node, ROOM);
        assert!(!found.have_changed(), "{nonsense:?}");
    }
}
