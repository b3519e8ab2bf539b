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

    /// As the kernel names a file of this node's filesystem.
    fn handle(&self, inode: u64) -> Handle {
        Handle { device: self.device, inode, generation: 1, backing: 1 }
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
        ids.push(files.resolve(TGID, fd, node.handle(inode), 0));
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
        let file = files.resolve(TGID, fd, node.handle(inode), 0);
        assert_eq!(files.label(file).class, Db);
    }
}

#[test]
fn a_file_on_another_filesystem_with_the_same_inode_is_another() {
    let node = Node::new();
    let inode = node.file("x.wal");
    node.open(TGID, 3, "x.wal");
    let mut files = node.files();
    let file =
        files.resolve(TGID, 3, Handle { device: devices::join(8, 77), ..node.handle(inode) }, 0);
    assert_eq!(files.label(file), &FileLabel::unknown(devices::join(8, 77)));
}

/// Before 5.14 `fdinfo` has no inode number:
/// <https://github.com/torvalds/linux/commit/3845f256a8b5>.
#[test]
fn without_inode_numbers_in_fdinfo_the_mount_and_stat_find_the_file() {
    let node = Node::new();
    let inode = node.file("x.wal");
    node.open(TGID, 3, "x.wal");
    fs::write(node.at(&format!("proc/{TGID}/fdinfo/3")), "pos:\t0\nmnt_id:\t27\n").unwrap();
    let mut files = node.files();
    let file = files.resolve(TGID, -1, node.handle(inode), 0);
    assert_eq!(files.label(file).class, Wal);
    let file = files.resolve(TGID, 3, node.handle(inode + 1), 0);
    assert_eq!(files.label(file).class, Unknown);
}

#[test]
fn a_file_renamed_into_place_is_seen_as_what_it_became() {
    let node = Node::new();
    let inode = node.file("ssd/0.tmp");
    node.open(TGID, 3, "ssd/0.tmp");
    let mut files = node.files();
    let before = files.resolve(TGID, 3, node.handle(inode), 0);
    assert_eq!(files.label(before).class, Other);

    let segment = "ssd/0000000000000001-00000000000003e8.wal";
    fs::rename(node.at("ssd/0.tmp"), node.at(segment)).unwrap();
    node.open(TGID, 3, segment);
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), SECOND / 2), before);
    let after = files.resolve(TGID, 3, node.handle(inode), SECOND);
    assert_eq!(files.label(after).class, Wal);
}

#[test]
fn a_file_of_another_process_is_not_a_wal_for_long() {
    let node = Node::new();
    let inode = node.file("member/wal/0-0.wal");
    node.open(TGID, 3, "member/wal/0-0.wal");
    let mut files = node.files();
    let wal = files.resolve(TGID, 3, node.handle(inode), 0);

    // It is moved, and its process closes it.
    fs::rename(node.at("member/wal/0-0.wal"), node.at("log")).unwrap();
    node.close(TGID, 3);
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 2 * SECOND), wal, "still believed");
    let other = files.resolve(TGID + 1, 4, node.handle(inode), 2 * SECOND);
    assert_eq!(files.label(other).class, Unknown);
    node.open(TGID + 1, 4, "log");
    let other = files.resolve(TGID + 1, 4, node.handle(inode), 4 * SECOND);
    assert_eq!(files.label(other).path, node.at("log").to_str().unwrap());
}

#[test]
fn a_file_that_was_closed_keeps_its_label() {
    let node = Node::new();
    let inode = node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let file = files.resolve(TGID, 3, node.handle(inode), 0);
    node.close(TGID, 3);
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 10 * SECOND), file);
    fs::remove_dir_all(node.at(&format!("proc/{TGID}"))).unwrap();
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 20 * SECOND), file);
}

#[test]
fn a_deleted_file_has_the_path_it_had() {
    let node = Node::new();
    let inode = node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let file = files.resolve(TGID, 3, node.handle(inode), 0);
    // As the kernel shows it; the link leads to the file all the same.
    fs::rename(node.at("a.db"), node.at("a.db (deleted)")).unwrap();
    node.open(TGID, 3, "a.db (deleted)");
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 10 * SECOND), file);
}

#[test]
fn what_is_not_found_is_counted_once_and_looked_for_more_and_more_rarely() {
    let node = Node::new();
    let inode = node.file("a.db");
    let mut files = node.files();
    // Searches at 0, 1, 3, 7, 15, 31 s.
    for second in 0..=30 {
        let file = files.resolve(TGID, -1, node.handle(inode), second * SECOND);
        assert_eq!(files.label(file), &FileLabel::unknown(node.device));
    }
    assert_eq!(files.unresolved(), 1);
    node.open(TGID, 3, "a.db");
    let file = files.resolve(TGID, -1, node.handle(inode), 30 * SECOND);
    assert_eq!(files.label(file).class, Unknown);
    let file = files.resolve(TGID, -1, node.handle(inode), 31 * SECOND);
    assert_eq!(files.label(file).class, Db);
}

#[test]
fn a_descriptor_alone_names_a_file() {
    let node = Node::new();
    node.file("member/snap/db");
    node.open(TGID, 3, "member/snap/db");
    let mut files = node.files();
    let file = files.resolve(TGID, 3, Handle::default(), 0);
    assert_eq!((files.label(file).class, files.label(file).device), (Db, node.device));
    let nothing = files.resolve(TGID, -1, Handle::default(), 0);
    assert_eq!(files.label(nothing).class, Unknown);
}

#[test]
fn a_filesystem_is_called_by_its_mount_point() {
    let node = Node::new();
    node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let whole = files.resolve(TGID, 3, node.handle(0), 0);
    assert_eq!(files.label(whole).class, Filesystem);
    assert_eq!(files.label(whole).path, "/data dir");
    assert_eq!(files.filesystem(TGID, 3, Handle::default(), 0), whole);
    let every = files.filesystem(TGID, -1, Handle::default(), 0);
    assert_eq!(
        (files.label(every).class, files.label(every).pattern),
        (Filesystem, "every filesystem")
    );
    let unknown = files.filesystem(TGID, 99, Handle::default(), 0);
    assert_eq!(files.label(unknown).class, Unknown);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_counted() {
    let node = Node::new();
    let mut files = node.files();
    for inode in 1..=8193 {
        files.resolve(TGID, -1, node.handle(inode), 0);
    }
    assert_eq!(files.evicted(), 1);
    assert_eq!(files.unresolved(), 8193);
}

// Numbers are used again: none may bring an old name.

/// A file is deleted and another one made within a second: the same number on the
/// same filesystem, by the same process.
#[test]
fn an_inode_number_used_again_has_the_new_files_name_at_once() {
    let node = Node::new();
    let inode = node.file("member/wal/0-0.wal");
    node.open(TGID, 3, "member/wal/0-0.wal");
    let mut files = node.files();
    let wal = files.resolve(TGID, 3, node.handle(inode), 0);
    assert_eq!(files.label(wal).class, Wal);

    fs::rename(node.at("member/wal/0-0.wal"), node.at("log")).unwrap();
    node.open(TGID, 3, "log");
    let again = Handle { generation: 2, ..node.handle(inode) };
    let log = files.resolve(TGID, 3, again, 1);
    assert_eq!(files.label(log).path, node.at("log").to_str().unwrap());
    // And where it is closed before anybody looks, it has no name rather than
    // the old one.
    node.close(TGID, 3);
    let third = files.resolve(TGID, 3, Handle { generation: 3, ..node.handle(inode) }, 2);
    assert_eq!(files.label(third), &FileLabel::unknown(node.device));
    assert_eq!(files.unresolved(), 1);
}

/// A filesystem is unmounted and another one mounted within a second, with the
/// same device number and inode numbers; of both the kernel says no more.
#[test]
fn a_device_number_used_again_has_no_old_names() {
    for same_process in [true, false] {
        let node = Node::new();
        let inode = node.file("old.db");
        node.open(TGID, 3, "old.db");
        let mut files = node.files();
        let old = files.resolve(TGID, 3, node.handle(inode), 0);
        assert_eq!(files.label(old).class, Db);

        node.close(TGID, 3);
        fs::rename(node.at("old.db"), node.at("new.db")).unwrap();
        files.forget_mounts();
        let tgid = if same_process { TGID } else { TGID + 1 };
        let unnamed = files.resolve(tgid, 3, node.handle(inode), 1);
        assert_eq!(files.label(unnamed), &FileLabel::unknown(node.device));

        node.open(tgid, 3, "new.db");
        files.forget_mounts();
        let new = files.resolve(tgid, 3, node.handle(inode), 2);
        assert_eq!(files.label(new).path, node.at("new.db").to_str().unwrap());

        // Once the process is gone, nothing shows which file it was.
        fs::remove_dir_all(node.at(&format!("proc/{tgid}"))).unwrap();
        fs::remove_file(node.at("new.db")).unwrap();
        let gone = files.resolve(tgid, 3, node.handle(inode), 10 * SECOND);
        assert_eq!(gone, new);
        files.forget_mounts();
        let gone = files.resolve(tgid, 3, node.handle(inode), 11 * SECOND);
        assert_eq!(files.label(gone), &FileLabel::unknown(node.device));
    }
}

/// In a container's own mounts no change is reported, but each mount has a backing
/// device of its own.
#[test]
fn a_device_number_used_again_out_of_sight_has_no_old_names() {
    let node = Node::new();
    let inode = node.file("fsync");
    node.open(TGID, 3, "fsync");
    let mut files = node.files();
    let old = files.resolve(TGID, 3, node.handle(inode), 0);
    assert_eq!(files.label(old).path, node.at("fsync").to_str().unwrap());

    fs::create_dir(node.at("other")).unwrap();
    fs::rename(node.at("fsync"), node.at("other/fsync")).unwrap();
    node.open(TGID, 3, "other/fsync");
    let new = files.resolve(TGID, 3, Handle { backing: 2, ..node.handle(inode) }, 1);
    assert_eq!(files.label(new).path, node.at("other/fsync").to_str().unwrap());
}

#[test]
fn what_mounts_do_not_touch_keeps_its_name() {
    let node = Node::new();
    let inode = node.file("a.db");
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let file = files.resolve(TGID, 3, node.handle(inode), 0);
    files.forget_mounts();
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 1), file);
    // Closed, it is still what its path leads to.
    node.close(TGID, 3);
    files.forget_mounts();
    assert_eq!(files.resolve(TGID, 3, node.handle(inode), 2), file);
    assert_eq!(files.unresolved(), 0);
}

/// This is so on FUSE, NFS and overlay.
#[test]
fn where_inodes_have_no_generation_the_file_of_each_sync_is_looked_for() {
    let node = Node::new();
    let handle = Handle { generation: 0, ..node.handle(node.file("a.db")) };
    node.open(TGID, 3, "a.db");
    let mut files = node.files();
    let old = files.resolve(TGID, 3, handle, 0);
    assert_eq!(files.label(old).class, Db);
    assert_eq!(files.resolve(TGID, 3, handle, 0), old);

    fs::rename(node.at("a.db"), node.at("b.db")).unwrap();
    node.open(TGID, 3, "b.db");
    let new = files.resolve(TGID, 3, handle, 0);
    assert_eq!(files.label(new).path, node.at("b.db").to_str().unwrap());
    // Its name is lost, which counts.
    node.close(TGID, 3);
    fs::rename(node.at("b.db"), node.at("c.db")).unwrap();
    let lost = files.resolve(TGID, 3, handle, 0);
    assert_eq!(files.label(lost), &FileLabel::unknown(node.device));
    assert_eq!(files.unresolved(), 1);
}

/// A process ends and another one has its number within a second, and syncs
/// through the same descriptor.
#[test]
fn a_process_number_used_again_brings_no_old_names() {
    let node = Node::new();
    let inode = node.file("member/wal/0-0.wal");
    node.open(TGID, 3, "member/wal/0-0.wal");
    let mut files = node.files();
    let wal = files.resolve(TGID, 3, node.handle(inode), 0);
    let alone = files.resolve(TGID, 3, Handle::default(), 0);
    assert_eq!((files.label(wal).class, files.label(alone).class), (Wal, Wal));

    fs::remove_dir_all(node.at(&format!("proc/{TGID}/fd"))).unwrap();
    fs::create_dir(node.at(&format!("proc/{TGID}/fd"))).unwrap();
    let other = node.file("other");
    node.open(TGID, 3, "other");
    for handle in [node.handle(other), Handle::default()] {
        let file = files.resolve(TGID, 3, handle, 1);
        assert_eq!(files.label(file).path, node.at("other").to_str().unwrap());
    }
    // The old file itself keeps its name, whoever has it open.
    assert_eq!(files.resolve(TGID, 4, node.handle(inode), 1), wal);
}

#[test]
fn a_descriptor_used_again_is_another_file_at_once() {
    let node = Node::new();
    let (first, second) = (node.file("first"), node.file("second"));
    node.open(TGID, 3, "first");
    let mut files = node.files();
    files.resolve(TGID, 3, node.handle(first), 0);
    files.resolve(TGID, 3, Handle::default(), 0);
    node.open(TGID, 3, "second");
    for handle in [node.handle(second), Handle::default()] {
        let file = files.resolve(TGID, 3, handle, 0);
        assert_eq!(files.label(file).path, node.at("second").to_str().unwrap());
    }
    node.close(TGID, 3);
    let closed = files.resolve(TGID, 3, Handle::default(), 0);
    assert_eq!(files.label(closed).class, Unknown);
}

/// The kernel reports no changes of mounts that only the process itself sees.
#[test]
fn a_mount_point_of_a_process_of_its_own_is_read_each_time() {
    let node = Node::new();
    let mounts = |point: &str| {
        let (major, minor) = (devices::major(node.device), devices::minor(node.device));
        format!("27 1 {major}:{minor} / {point} rw - ext4 /dev/vda1 rw\n")
    };
    let own = node.at(&format!("proc/{TGID}/mountinfo"));
    let mut files = node.files();
    let old = files.resolve(TGID, 3, node.handle(0), 0);
    assert_eq!(files.label(old).path, "/data dir");
    fs::write(&own, mounts("/mnt")).unwrap();
    let new = files.resolve(TGID, 3, node.handle(0), 0);
    assert_eq!(files.label(new).path, "/mnt");

    // One that the node's first process sees is watched.
    fs::create_dir_all(node.at("proc/1")).unwrap();
    fs::write(node.at("proc/1/mountinfo"), mounts("/host")).unwrap();
    let mut files = node.files();
    let watched = files.resolve(TGID, 3, node.handle(0), 0);
    assert_eq!(files.label(watched).path, "/host");
    fs::write(node.at("proc/1/mountinfo"), mounts("/moved")).unwrap();
    assert_eq!(files.resolve(TGID, 3, node.handle(0), 0), watched);
    files.forget_mounts();
    let moved = files.resolve(TGID, 3, node.handle(0), 0);
    assert_eq!(files.label(moved).path, "/moved");
}

/// A storm of whole filesystems that are synced costs no more than one of files.
#[test]
fn mounts_are_not_read_without_end() {
    let node = Node::new();
    let mut files = node.files();
    let named = (0..9000).filter(|_| {
        let file = files.resolve(TGID, 3, node.handle(0), 0);
        !files.label(file).path.is_empty()
    });
    // Three looks each: the first two find no such file.
    assert_eq!(named.count(), 8192 / 3);

    // Eight more for a file of eight times 4 KiB.
    let own = node.at(&format!("proc/{TGID}/mountinfo"));
    let mut long = fs::read_to_string(&own).unwrap();
    long.push_str(&"x".repeat(8 * 4096 - long.len()));
    fs::write(own, long).unwrap();
    let mut files = node.files();
    let named = (0..9000).filter(|_| {
        let file = files.resolve(TGID, 3, node.handle(0), 0);
        !files.label(file).path.is_empty()
    });
    // The last one is read all the same.
    assert_eq!(named.count(), (8192usize).div_ceil(3 + 8));
}
