//! Stacks that change under a disk that stays.

use super::*;

/// dm-0 over loop0, with a spare disk beside it, as a session looks at them.
struct Watched {
    node: Node,
    layers: Layers,
}

impl Watched {
    fn new() -> Self {
        let node = Node::usual();
        node.disk("loop1", "7:1", 1, 128, "none\n");
        node.write("sys/block/dm-0/diskseq", "7\n");
        slave(&node, "dm-0", "loop0");
        let layers = Layers::read(node.0.path());
        Self { node, layers }
    }

    /// Whether a look finds something else than the one before it.
    fn has_changed(&mut self) -> bool {
        let before = std::mem::replace(&mut self.layers, Layers::read(self.node.0.path()));
        before != self.layers
    }

    fn check(&mut self, upper: &str, expected: &[&str]) {
        assert!(self.has_changed(), "{upper} on {expected:?}");
        assert!(!self.has_changed(), "{upper} on {expected:?}, a second later");
        check_stack(&self.node, upper, expected);
    }

    fn unlink(&self, path: &str) {
        fs::remove_file(self.node.0.path().join("sys/block").join(path)).unwrap();
    }
}

#[test]
fn a_stack_that_stays_has_not_changed() {
    assert!(!Watched::new().has_changed());
}

#[test]
fn a_table_that_is_reloaded_moves_the_stack_under_the_same_disk() {
    let mut watched = Watched::new();
    // Loaded, and not yet resumed: both tables hold their disks.
    slave(&watched.node, "dm-0", "loop1");
    watched.check("dm-0", &["loop0", "loop1"]);
    watched.unlink("dm-0/slaves/loop0");
    watched.check("dm-0", &["loop1"]);
}

#[test]
fn a_volume_that_is_extended_to_another_disk_lies_on_both() {
    let mut watched = Watched::new();
    slave(&watched.node, "dm-0", "sda");
    watched.check("dm-0", &["loop0", "sda"]);
}

#[test]
fn a_change_two_layers_below_is_noticed() {
    let mut watched = Watched::new();
    watched.node.disk("dm-1", "252:1", 0, 0, "");
    slave(&watched.node, "dm-1", "dm-0");
    watched.check("dm-1", &["loop0"]);
    watched.unlink("dm-0/slaves/loop0");
    slave(&watched.node, "dm-0", "nvme0n1");
    watched.check("dm-1", &["nvme0n1"]);
}

/// As `lvcreate` makes one, in three steps.
#[test]
fn a_disk_that_gets_its_table_later_is_noticed_then() {
    let mut watched = Watched::new();
    watched.node.disk("dm-1", "252:1", 0, 0, "");
    assert!(watched.has_changed());
    slave(&watched.node, "dm-1", "sda");
    watched.check("dm-1", &["sda"]);
}

#[test]
fn disks_that_come_and_go_are_noticed() {
    let mut watched = Watched::new();
    watched.node.disk("sdb", "8:16", 1, 32, "none\n");
    assert!(watched.has_changed());
    watched.node.disk("nvme0c1n1", "259:9", 1, 32, "none\n");
    assert!(watched.has_changed());
    fs::remove_dir_all(watched.node.0.path().join("sys/block/sdb")).unwrap();
    assert!(watched.has_changed() && !watched.has_changed());
}

/// An array of sda and sdc, with sdb as its spare.
fn array() -> Node {
    let node = Node::new();
    for (at, name) in ["sda", "sdb", "sdc"].iter().enumerate() {
        node.disk(name, &format!("8:{}", at * 16), 1, 32, "none\n");
    }
    node.disk("md0", "9:0", 0, 0, "");
    for name in ["sdb", "sda", "sdc"] {
        slave(&node, "md0", name);
        let member = format!("sys/block/md0/md/dev-{name}");
        fs::create_dir_all(node.0.path().join(&member)).unwrap();
        link(&node, &format!("{member}/block"), &format!("sys/block/{name}"));
    }
    role(&node, 0, "sda");
    role(&node, 1, "sdc");
    node
}

/// Gives a member a role in its array.
fn role(node: &Node, number: u32, member: &str) {
    let link = node.0.path().join(format!("sys/block/md0/md/rd{number}"));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(format!("dev-{member}"), link).unwrap();
}

#[test]
fn members_of_an_array_with_a_role_come_before_its_spares() {
    let node = array();
    check_stack(&node, "md0", &["sda", "sdc", "sdb"]);
    // The order of roles, and not of their names.
    role(&node, 2, "sdb");
    for (number, name) in [(10, "sda"), (0, "sdc")] {
        role(&node, number, name);
    }
    fs::remove_file(node.0.path().join("sys/block/md0/md/rd1")).unwrap();
    check_stack(&node, "md0", &["sdc", "sdb", "sda"]);
}

/// A member that failed stays among those that the array holds until somebody
/// takes it away.
#[test]
fn a_spare_that_takes_over_is_noticed() {
    let mut watched = {
        let node = array();
        Watched { layers: Layers::read(node.0.path()), node }
    };
    role(&watched.node, 0, "sdb");
    watched.check("md0", &["sdb", "sdc", "sda"]);
    watched.unlink("md0/slaves/sda");
    watched.check("md0", &["sdb", "sdc"]);
}

#[test]
fn links_that_lead_nowhere_and_folders_without_end_are_borne() {
    let node = array();
    std::os::unix::fs::symlink("/nowhere/..", node.0.path().join("sys/block/md0/md/rd7")).unwrap();
    node.write("sys/block/md0/md/rd8", "no link");
    node.write("sys/block/md0/md/rdx", "no number");
    check_stack(&node, "md0", &["sda", "sdc", "sdb"]);
    for number in 0..1000 {
        slave(&node, "md0", &format!("gone{number}"));
    }
    assert_eq!(Layers::read(node.0.path()), Layers::read(node.0.path()));
    check_stack(&node, "md0", &["sda", "sdc"]);
}

#[test]
fn without_sysfs_nothing_lies_on_anything() {
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(Layers::read(nothing.path()), Layers::default());
}
