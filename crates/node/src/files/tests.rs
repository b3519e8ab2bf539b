use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::PathBuf,
};

use tempfile::TempDir;

use super::*;
use tracer_snapshot::FileClass::{Db, Filesystem, Other, Unknown, Wal};

const TGID: u32 = 42;
const SECOND: u64 = SECOND_NS;

/// A node in a temporary directory, and real files in it that its processes
/// have open.
struct Node {
    dir: TempDir,
    device: u32,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = devices::from_stat(fs::metadata(dir.path()).unwrap().dev());
        let node = Self { dir, device };
        for tgid in [TGID, TGID + 1] {
            let process = node.at(&format!("proc/{tgid}"));
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::create_dir_all(process.join("fdinfo")).unwrap();
            symlink("/", process.join("root")).unwrap();
            let (major, minor) = (devices::major(device), devices::minor(device));
            let mounts = format!("27 1 {major}:{minor} / /data\\040dir rw - ext4 /dev/vda1 rw\n");
            fs::write(process.join("mountinfo"), mounts).unwrap();
        }
        node
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Makes a file; gives its inode number.
    fn file(&self, path: &str) -> u64 {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::metadata(path).unwrap().ino()
    }

    fn open(&self, tgid: u32, fd: i32, path: &str) {
        let inode = fs::metadata(self.at(path)).unwrap().ino();
        self.close(tgid, fd);
        symlink(self.at(path), self.at(&format!("proc/{tgid}/fd/{fd}"))).unwrap();
        let info = format!("pos:\t0\nflags:\t02\nmnt_id:\t27\nino:\t{inode}\n");
        fs::write(self.at(&format!("proc/{tgid}/fdinfo/{fd}")), info).unwrap();
    }

    fn close(&self, tgid: u32, fd: i32) {
        let _ = fs::remove_file(self.at(&format!("proc/{tgid}/fd/{fd}")));
    }

    fn files(&self) -> Files {
        Files::new(self.dir.path())
    }
}

#[test]
fn all_segments_of_a_wal_are_one_file() {
    let node = Node::new();
    let mut files = node.files();
    let mut ids = Vec::new();
    for (fd, name) in [(7, "0-0.wal"), (8, "1-9.wal"), (9, "1.tmp")] {
        let path = format!("etcd/member/wal/{name}");
        let inode = node.file(&path);
        node.open(TGID, fd, &path);
        ids.push(files.resolve(TGID, node.device, inode, fd, 0));
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    let label = files.label(ids[0]);
    assert_eq!((label.class, label.pattern, label.device), (Wal, "etcd wal", node.device));
    assert_eq!(label.path, node.at("etcd/member/wal").to_str().unwrap());
    assert_eq!(files.unresolved(), 0);
}

#[test]
fn a_file_is_found_without_its_descriptor_and_with_a_wrong_one() {
    let node = Node::new();
    let inode = node.file("member/snap/db");
    node.file("other");
    node.open(TGID, 3, "other");
    node.open(TGID, 5, "member/snap/db");
    for fd in [-1, 3, 99] {
        let mut files = node.files();
        let file = files.resolve(TGID, node.device, inode, fd, 0);
        assert_eq!(files.label(file).class, Db);
    }
}

#[test]
fn a_file_on_another_filesystem_with_the_same_inode_is_another() {
    let node = Node::new();
    let inode = node.file("x.wal");
    node.open(TGID, 3, "x.wal");
    let mut files = node.files();
    let file = files.resolve(TGID, devices::join(8, 77), inode, 3, 0);
    assert_eq!(files.label(file), &FileLabel::unknown(devices::join(8, 77)));
}

/// Before 5.14 `fdinfo` has no inode number.
#[test]
fn without_inode_numbers_in_fdinfo_the_mount_and_stat_tell() {
    let node = Node::new();
    let inode = node.file("x.wal");
    node.open(TGID, 3, "x.wal");
    fs::write(node.at(&format!("proc/{TGID}/fdinfo/3")), "pos:\t0\nmnt_id:\t27\n").unwrap();
    let mut files = node.files();
    let file = files.resolve(TGID, node.device, inode, -1, 0);
    assert_eq!(files.label(file).class, Wal);
    let file = files.resolve(TGID, node.device, inode + 1, 3, 0);
    assert_eq!(files.label(file).class, Unknown);
}

#[test]
fn a_file_renamed_into_place_is_seen_as_what_it_became() {
    let node = Node::new();
    let inode = node.file("ssd/0.tmp");
    node.open(TGID, 3, "ssd/0.tmp");
    let mut files = node.files();
    let before = files.resolve(TGID, node.device, inode, 3, 0);
    assert_eq!(files.label(before).class, Other);

    let segment = "ssd/0000000000000001-00000000000003e8.wal";
    fs::rename(node.at("ssd/0.tmp"), node.at(segment)).unwrap();
    node.open(TGID, 3, segment);
    assert_eq!(files.resolve(TGID, node.device, inode, 3, SECOND / 2), before);
    let after = files.resolve(TGID, node.device, inode, 3, SECOND);
    assert_eq!(files.label(after).class, Wal);
}

#[test]
fn an_inode_used_again_by_another_process_is_not_a_wal_for_long() {
    let node = Node::new();
    let inode = node.file("member/wal/0-0.wal");
    node.open(TGID, 3, "member/wal/0-0.wal");
    let mut files = node.files();
    let wal = files.resolve(TGID, node.device, inode, 3, 0);

    // The same inode, elsewhere.
    fs::rename(node.at("member/wal/0-0.wal"), node.at("log")).unwrap();
    node.close(TGID, 3);
    assert_eq!(files.resolve(TGID, node.device, inode, 3, 2 * SECOND), wal, "still believed");
    let other = files.resolve(TGID + 1, node.device, inode, 4, 2 * SECOND);
    assert_eq!(files.label(other).class, Unknown);
    node.open(TGID + 1, 4, "log");
    let other = files.resolve(TGID + 1, node.device, inode, 4, 4 * SECOND);
    assert_eq!(files.label(other).path, node.at("log").to_str().unwrap());
}

#[test]
fn a_file_that_was_closed_keeps_its_label() {
    let node = Node::new();
    let inode = node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let file = files.resolve(TGID, node.device, inode, 3, 0);
    node.close(TGID, 3);
    assert_eq!(files.resolve(TGID, node.device, inode, 3, 10 * SECOND), file);
    fs::remove_dir_all(node.at(&format!("proc/{TGID}"))).unwrap();
    assert_eq!(files.resolve(TGID, node.device, inode, 3, 20 * SECOND), file);
}

#[test]
fn a_deleted_file_has_the_path_it_had() {
    let node = Node::new();
    let inode = node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let file = files.resolve(TGID, node.device, inode, 3, 0);
    // As the kernel shows it; the link leads to the file all the same.
    fs::rename(node.at("a.db"), node.at("a.db (deleted)")).unwrap();
    node.open(TGID, 3, "a.db (deleted)");
    assert_eq!(files.resolve(TGID, node.device, inode, 3, 10 * SECOND), file);
}

#[test]
fn what_is_not_found_is_counted_once_and_looked_for_more_and_more_rarely() {
    let node = Node::new();
    let inode = node.file("a.db");
    let mut files = node.files();
    // Searches at 0, 1, 3, 7, 15, 31 s.
    for second in 0..=30 {
        let file = files.resolve(TGID, node.device, inode, -1, second * SECOND);
        assert_eq!(files.label(file), &FileLabel::unknown(node.device));
    }
    assert_eq!(files.unresolved(), 1);
    node.open(TGID, 3, "a.db");
    let file = files.resolve(TGID, node.device, inode, -1, 30 * SECOND);
    assert_eq!(files.label(file).class, Unknown);
    let file = files.resolve(TGID, node.device, inode, -1, 31 * SECOND);
    assert_eq!(files.label(file).class, Db);
}

#[test]
fn a_descriptor_alone_names_a_file() {
    let node = Node::new();
    node.file("member/snap/db");
    node.open(TGID, 3, "member/snap/db");
    let mut files = node.files();
    let file = files.resolve(TGID, 0, 0, 3, 0);
    assert_eq!((files.label(file).class, files.label(file).device), (Db, node.device));
    let nothing = files.resolve(TGID, 0, 0, -1, 0);
    assert_eq!(files.label(nothing).class, Unknown);
}

#[test]
fn a_filesystem_is_called_by_its_mount_point() {
    let node = Node::new();
    node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let whole = files.resolve(TGID, node.device, 0, 3, 0);
    assert_eq!(files.label(whole).class, Filesystem);
    assert_eq!(files.label(whole).path, "/data dir");
    assert_eq!(files.filesystem(TGID, 0, 3, 0), whole);
    let every = files.filesystem(TGID, 0, -1, 0);
    assert_eq!(
        (files.label(every).class, files.label(every).pattern),
        (Filesystem, "every filesystem")
    );
    let unknown = files.filesystem(TGID, 0, 99, 0);
    assert_eq!(files.label(unknown).class, Unknown);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_counted() {
    let node = Node::new();
    let mut files = node.files();
    for inode in 1..=8193 {
        files.resolve(TGID, node.device, inode, -1, 0);
    }
    assert_eq!(files.evicted(), 1);
    assert_eq!(files.unresolved(), 8193);
}
