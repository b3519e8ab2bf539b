use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::{devices, tree::put};

const SECOND_NS: u64 = 1_000_000_000;
const LOOP0: u32 = devices::join(7, 0);
const ON_LOOP0: Place = Place { disk: Some((3, LOOP0)), device: LOOP0 };

fn link(root: &TempDir, path: &str, target: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// Process 812 serves the file below loop0; 900 serves another mount.
fn node() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    put(
        &root,
        "proc/1/mountinfo",
        "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         40 30 0:39 / /srv/fuse rw - fuse.sim sim rw,user_id=0\n\
         41 30 0:40 / /srv/other rw - fuse.other other rw\n",
    );
    put(&root, "proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    link(&root, "sys/dev/block/7:0", "../../devices/virtual/block/loop0");
    put(&root, "sys/block/loop0/loop/backing_file", "/srv/fuse/disk.img\n");
    for (pid, connection) in [(812, 39), (900, 40)] {
        link(&root, &format!("proc/{pid}/fd/4"), "/dev/fuse");
        link(&root, &format!("proc/{pid}/fd/5"), "socket:[77]");
        put(
            &root,
            &format!("proc/{pid}/fdinfo/4"),
            &format!("pos:\t0\nfuse_connection:\t{connection}\n"),
        );
        put(&root, &format!("proc/{pid}/cgroup"), "0::/sim\n");
        put(&root, &format!("proc/{pid}/comm"), "sim-disk\n");
        schedstat(&root, pid, pid, 5, 7);
    }
    root
}

fn schedstat(root: &TempDir, pid: u32, tid: u32, ran: u64, waited: u64) {
    put(root, &format!("proc/{pid}/task/{tid}/schedstat"), &format!("{ran} {waited} 1\n"));
}

fn watch(root: &TempDir) -> Watch {
    Watch::new(Tree::new(root.path()))
}

/// A thousand victims on one disk do not hide the one on another.
#[test]
fn many_victims_of_one_disk_are_one_place() {
    let on = |minor| Place { disk: Some((minor, devices::join(7, minor))), device: 1 };
    let mut places = vec![on(0); 1000];
    places.push(on(1));
    assert_eq!(distinct(&places), [on(0), on(1)]);
    let many: Vec<_> = (0..40).map(on).collect();
    assert_eq!(distinct(&many), many[..32]);
}

#[test]
fn a_file_on_fuse_is_served_by_who_has_its_connection() {
    let root = node();
    let tree = Tree::new(root.path());
    assert_eq!(servers::find(&tree, ON_LOOP0), [812]);
    // On FUSE itself, without a disk.
    let device = devices::join(0, 40);
    assert_eq!(servers::find(&tree, Place { disk: None, device }), [900]);
    assert!(servers::find(&tree, Place { disk: None, device: devices::join(0, 41) }).is_empty());
    put(&root, "sys/block/loop0/loop/backing_file", "/srv/plain.img\n");
    assert!(servers::find(&tree, ON_LOOP0).is_empty());
}

/// Before Linux 6.16 no descriptor says to which connection it belongs
/// (<https://elixir.bootlin.com/linux/v6.16/source/fs/fuse/dev.c>, fuse_dev_show_fdinfo).
#[test]
fn without_the_connection_only_one_that_names_the_mount_point_is_taken() {
    let root = node();
    let tree = Tree::new(root.path());
    for pid in [812, 900] {
        put(&root, &format!("proc/{pid}/fdinfo/4"), "pos:\t0\n");
    }
    assert!(servers::find(&tree, ON_LOOP0).is_empty());
    put(&root, "proc/900/cmdline", "other\0/srv/other\0");
    put(&root, "proc/812/cmdline", "sim\0-f\0/srv/fuse\0");
    assert_eq!(servers::find(&tree, ON_LOOP0), [812]);
}

#[test]
fn an_nbd_is_served_by_who_holds_it_or_by_the_other_end_of_its_connection() {
    let root = node();
    let tree = Tree::new(root.path());
    link(&root, "sys/dev/block/43:0", "../../devices/virtual/block/nbd0");
    // A thread's number.
    put(&root, "sys/block/nbd0/pid", "951\n");
    put(&root, "proc/951/status", "Name:\tqemu-nbd\nTgid:\t950\n");
    let place = Place { disk: Some((1, devices::join(43, 0))), device: 0 };
    assert_eq!(servers::find(&tree, place), [950]);
    link(&root, "proc/950/fd/3", "socket:[102]");
    link(&root, "proc/960/fd/9", "socket:[101]");
    put(
        &root,
        "proc/950/net/tcp",
        "sl\n 0: 0100007F:2A2D 0100007F:C350 01 0:0 0:0 0 0 0 101 1\n \
         1: 0100007F:C350 0100007F:2A2D 01 0:0 0:0 0 0 0 102 1\n",
    );
    assert_eq!(servers::find(&tree, place), [960]);
}

#[test]
fn an_iscsi_disk_is_served_by_who_listens_and_by_the_volumes_engine() {
    let root = node();
    let tree = Tree::new(root.path());
    link(&root, "sys/dev/block/8:16", "../../devices/platform/host2/session4/target/block/sdb");
    let device = "sys/devices/platform/host2/session4/target2:0:0";
    put(&root, &format!("{device}/vendor"), "IET\n");
    link(&root, "sys/block/sdb/device", &format!("../../../{device}"));
    let session = "sys/class/iscsi_session/session4/targetname";
    put(&root, session, "iqn.2019-10.io.longhorn:pvc-1\n");
    put(&root, "sys/class/iscsi_connection/connection4:0/address", "10.0.0.5\n");
    put(&root, "sys/class/iscsi_connection/connection4:0/port", "3260\n");
    put(&root, "proc/1/net/tcp", "sl\n 0: 0500000A:0CBC 0:0 0A 0:0 0:0 0 0 0 88 1\n");
    link(&root, "proc/970/fd/3", "socket:[88]");
    let engine = |pid: u32, volume: &str| {
        put(&root, &format!("proc/{pid}/comm"), "longhorn\n");
        put(&root, &format!("proc/{pid}/cmdline"), &format!("longhorn\0controller\0{volume}\0"));
    };
    engine(980, "pvc-1");
    engine(981, "pvc-2");
    let place = Place { disk: Some((1, devices::join(8, 16))), device: 0 };
    // The target's address is another node's, or of a pod of Longhorn's.
    assert_eq!(servers::find(&tree, place), [980]);
    put(&root, "proc/1/net/fib_trie", "|-- 10.0.0.5\n  /32 host LOCAL\n");
    assert_eq!(servers::find(&tree, place), [970, 980]);
    put(&root, session, "iqn.2001-04.com.example:store\n");
    assert_eq!(servers::find(&tree, place), [970]);
}

#[test]
fn what_a_server_waited_for_is_counted_since_the_look_before() {
    let root = node();
    let mut watch = watch(&root);
    put(&root, "sys/fs/cgroup/sim/cpu.max", "1500 100000\n");
    put(&root, "sys/fs/cgroup/sim/cpu.stat", "throttled_usec 100\n");
    schedstat(&root, 812, 813, 1000, 2000);
    assert_eq!(watch.look(SECOND_NS, &[ON_LOOP0]), [], "there is none before");
    put(&root, "sys/fs/cgroup/sim/cpu.stat", "throttled_usec 600100\n");
    schedstat(&root, 812, 812, 100_000_005, 300_000_007);
    schedstat(&root, 812, 813, 100_001_000, 300_002_000);
    let seen = watch.look(2 * SECOND_NS, &[ON_LOOP0]);
    let [one] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((one.role, one.tgid, one.place), (Role::Server, 812, ON_LOOP0));
    assert_eq!(one.waited_ns, 600_000_000);
    assert_eq!((one.limited_ns, &*one.setting), (600_000_000, "cpu.max 1500 100000 of /sim"));
    // Both threads did the same.
    assert!((one.spread - 2.0).abs() < 1e-9, "{one:?}");
    // One ends, another begins with its number.
    schedstat(&root, 812, 813, 7, 9);
    assert_eq!(watch.look(3 * SECOND_NS, &[ON_LOOP0])[0].waited_ns, 9);
}

/// The kernel counts a wait for a CPU when it ends. Behind a task of real-time priority that may
/// take seconds, or never end.
#[test]
fn a_wait_for_a_cpu_counts_while_it_lasts() {
    let root = node();
    let mut watch = watch(&root);
    let mut look = |second: u64, ran: u64, waited_ms: u64, state: char| {
        schedstat(&root, 812, 812, ran, waited_ms * 1_000_000);
        put(&root, "proc/812/task/812/stat", &format!("812 (a) b) {state} 1 2"));
        watch.look(second * SECOND_NS, &[ON_LOOP0]).first().map(|one| one.waited_ns / 1_000_000)
    };
    assert_eq!(look(1, 5, 10, 'S'), None);
    // It could run at some time after the look before.
    assert_eq!(look(2, 5, 10, 'R'), Some(0));
    assert_eq!(look(3, 5, 10, 'R'), Some(1000));
    assert_eq!(look(4, 5, 10, 'R'), Some(1000));
    // It ran after 2.7 s, and waits again.
    assert_eq!(look(5, 9, 2710, 'R'), Some(700));
    assert_eq!(look(6, 9, 2710, 'R'), Some(0));
    // It runs, and sleeps.
    assert_eq!(look(7, 9, 2710, 'S'), Some(0));
    assert_eq!(look(8, 9, 2710, 'S'), Some(0));
    assert_eq!(look(9, 99, 2720, 'S'), Some(10));
}

#[test]
fn a_server_that_is_gone_is_looked_for_at_once() {
    let root = node();
    let mut watch = watch(&root);
    watch.look(SECOND_NS, &[ON_LOOP0]);
    assert_eq!(watch.look(2 * SECOND_NS, &[ON_LOOP0]).len(), 1);
    fs::remove_dir_all(root.path().join("proc/812")).unwrap();
    put(&root, "proc/900/fdinfo/4", "fuse_connection:\t39\n");
    assert_eq!(watch.look(3 * SECOND_NS, &[ON_LOOP0]), []);
    watch.look(4 * SECOND_NS, &[ON_LOOP0]);
    assert_eq!(watch.look(5 * SECOND_NS, &[ON_LOOP0])[0].tgid, 900);
    // Nobody syncs there any more.
    assert_eq!(watch.look(6 * SECOND_NS, &[]), []);
}

#[test]
fn the_journals_thread_is_found_among_the_kernels() {
    let root = node();
    let mut watch = watch(&root);
    put(&root, "proc/2/task/2/children", "20 21 22 ");
    for (tid, comm, flags) in [
        (20, "jbd2/loop0-8", 0x0020_0040),
        (21, "jbd2/loop0-8", 0x40),
        (22, "ksoftirqd/0", 0x0020_0040),
    ] {
        put(&root, &format!("proc/{tid}/comm"), comm);
        let stat = format!("{tid} ({comm}) S 2 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 5 0");
        put(&root, &format!("proc/{tid}/stat"), &stat);
        schedstat(&root, tid, tid, 5, 7);
    }
    watch.look(SECOND_NS, &[ON_LOOP0]);
    schedstat(&root, 20, 20, 6, 50);
    let seen = watch.look(2 * SECOND_NS, &[ON_LOOP0]);
    let journal: Vec<_> = seen.iter().filter(|one| one.role == Role::Journal).collect();
    // Process 21 only calls itself so.
    let [one] = journal[..] else { panic!("{seen:?}") };
    assert_eq!((one.tgid, one.waited_ns, one.tids.as_slice()), (20, 43, &[20][..]));
}

/// It may do anybody's work next.
#[test]
fn a_worker_that_is_called_otherwise_works_for_another() {
    let root = node();
    let mut watch = watch(&root);
    let called = |comm: &str| put(&root, "proc/30/comm", comm);
    put(&root, "proc/2/task/2/children", "30");
    put(&root, "proc/30/stat", "30 (kworker) S 2 0 0 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 5 0");
    schedstat(&root, 30, 30, 5, 7);
    called("kworker/u8:3-loop0\n");
    watch.look(SECOND_NS, &[ON_LOOP0]);
    let mut look = |second: u64, waited_ns: u64| {
        schedstat(&root, 30, 30, 6, waited_ns);
        let seen = watch.look(second * SECOND_NS, &[ON_LOOP0]);
        let workers: Vec<_> = seen.into_iter().filter(|one| one.role == Role::Worker).collect();
        workers.into_iter().map(|one| one.waited_ns).collect::<Vec<_>>()
    };
    called("kworker/u8:3+loop0\n");
    assert_eq!(look(2, 50), [43]);
    called("kworker/u8:3-events\n");
    assert!(look(3, 80).is_empty());
}

#[test]
fn a_node_without_anything_has_no_helpers() {
    let root = tempfile::tempdir().unwrap();
    let mut helpers = Helpers::new(root.path());
    for second in 1..4 {
        assert_eq!(helpers.look(second * SECOND_NS, &[ON_LOOP0, Place::default()]), []);
    }
}
