//! Disks whose number is in no file, as before Linux 6.1 (diskstats_show,
//! <https://elixir.bootlin.com/linux/v6.1/source/block/genhd.c>).

use super::*;

/// A namespace with two paths, of which diskstats says nothing.
fn multipath() -> Node {
    let node = Node::new();
    node.disk("nvme0n1", "259:0", 0, 0, "");
    for (at, path) in ["nvme0c0n1", "nvme0c1n1"].into_iter().enumerate() {
        node.disk(path, "", 2, 1023, "[none]\n");
        node.write(&format!("sys/block/{path}/diskseq"), &format!("{}\n", 40 + at));
        fs::remove_file(node.0.path().join(format!("sys/block/{path}/dev"))).unwrap();
    }
    node.write("proc/diskstats", " 259 0 nvme0n1 0 0\n 0 0 nvme0c0n1 3 4\n 0 0 nvme0c1n1 3 4\n");
    node
}

/// A name as the kernel keeps it.
fn kernel_name(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn found(node: &Node, hidden: &Hidden) -> Vec<(String, u32)> {
    let disks = scan(&Queues::new(node.0.path()), hidden).unwrap();
    disks.into_iter().map(|disk| (disk.name, devices::minor(disk.device))).collect()
}

fn note(node: &Node, hidden: &mut Hidden, name: &[u8], minor: u32) {
    hidden.note(node.0.path(), name, devices::join(259, minor));
}

#[test]
fn a_path_is_found_by_the_name_that_the_kernel_says() {
    let node = multipath();
    let mut hidden = Hidden::default();
    assert!(has_hidden(node.0.path()));
    assert_eq!(found(&node, &hidden), [("nvme0n1".to_owned(), 0)]);
    note(&node, &mut hidden, &kernel_name("nvme0c1n1"), 2);
    note(&node, &mut hidden, &kernel_name("nvme0c0n1"), 1);
    let all = [("nvme0c0n1", 1), ("nvme0c1n1", 2), ("nvme0n1", 0)];
    assert_eq!(found(&node, &hidden), all.map(|(name, minor)| (name.to_owned(), minor)));

    // And the namespace lies on both.
    let disks = scan(&Queues::new(node.0.path()), &hidden).unwrap();
    let mut assigned = Vec::new();
    assign(&mut assigned, &disks, &ROOM);
    let stacked = find_stacked(node.0.path(), &disks, &assigned);
    let [head] = &stacked[..] else { panic!("{stacked:?}") };
    let paths = [head.underlying.index, head.underlying.underlying[0]];
    let name = |index: u32| assigned.iter().find(|a| a.disk.index == index).unwrap().name.as_str();
    assert_eq!(paths.map(name), ["nvme0c0n1", "nvme0c1n1"]);
}

#[test]
fn another_disk_of_that_name_is_not_taken_for_it() {
    let node = multipath();
    let mut hidden = Hidden::default();
    note(&node, &mut hidden, &kernel_name("nvme0c0n1"), 1);
    node.write("sys/block/nvme0c0n1/diskseq", "77\n");
    assert_eq!(found(&node, &hidden), [("nvme0n1".to_owned(), 0)]);
    // Its number is another's by now.
    note(&node, &mut hidden, &kernel_name("nvme0c1n1"), 1);
    assert_eq!(found(&node, &hidden), [("nvme0c1n1".to_owned(), 1), ("nvme0n1".to_owned(), 0)]);
    node.disk("sdb", "259:1", 1, 32, "none\n");
    assert_eq!(found(&node, &hidden), [("nvme0n1".to_owned(), 0), ("sdb".to_owned(), 1)]);
}

#[test]
fn names_that_are_no_hidden_disks_are_no_files_to_look_at() {
    let node = multipath();
    let mut hidden = Hidden::default();
    node.write("sys/secret/size", "2048\n");
    let names = ["", "nvme0n1", "../secret", "nvme0c0", "/", ".", "..", "nvme0c0n1x"];
    for name in names.map(kernel_name) {
        note(&node, &mut hidden, &name, 7);
    }
    note(&node, &mut hidden, &[0xff; 32], 7);
    assert_eq!(found(&node, &hidden), [("nvme0n1".to_owned(), 0)]);
    assert!(!has_hidden(Node::usual().0.path()));
}
