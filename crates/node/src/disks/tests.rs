use std::collections::BTreeSet;

use tempfile::TempDir;

use super::*;

mod hidden;
mod layers;
mod reused;

const NONE: [u32; UNDERLYING] = [NO_DISK; UNDERLYING];

/// A node with disks in a temporary directory.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(node.0.path().join("sys/block")).unwrap();
        node
    }

    fn write(&self, path: &str, content: &str) {
        crate::tree::put(&self.0, path, content);
    }

    fn disk(&self, name: &str, dev: &str, queues: u32, nr_tags: u32, scheduler: &str) {
        self.write(&format!("sys/block/{name}/dev"), &format!("{dev}\n"));
        self.write(&format!("sys/block/{name}/size"), "2048\n");
        if name.starts_with("nvme") || name.starts_with("sd") {
            self.write(&format!("sys/block/{name}/device/model"), "");
        }
        self.write(&format!("sys/block/{name}/queue/iostats"), "1\n");
        for queue in 0..queues {
            let tags = format!("sys/block/{name}/mq/{queue}/nr_tags");
            self.write(&tags, &format!("{nr_tags}\n"));
        }
        if queues > 0 {
            self.write(&format!("sys/block/{name}/queue/nr_requests"), &format!("{nr_tags}\n"));
            self.write(&format!("sys/block/{name}/queue/scheduler"), scheduler);
        }
    }

    /// A node with the disks that a server might have.
    fn usual() -> Self {
        let node = Self::new();
        node.disk("sda", "8:0", 1, 32, "none [mq-deadline] kyber bfq\n");
        node.write("sys/block/sda/queue/nr_requests", "64\n");
        node.write("sys/block/sda/queue/discard_granularity", "4096\n");
        node.write("sys/block/sda/inflight", "       3       14\n");
        node.disk("nvme0n1", "259:0", 8, 1023, "[none] mq-deadline\n");
        node.disk("dm-0", "252:0", 0, 0, "");
        node.disk("loop0", "7:0", 1, 128, "none\n");
        node.disk("zram0", "253:0", 0, 0, "");
        node
    }

    fn scan(&self) -> Vec<BlockDisk> {
        scan(&Queues::new(self.0.path()), &Hidden::default()).unwrap()
    }
}

/// dm-1 on dm-0 on sda's second partition, md0 on what is not there.
fn stacked() -> Node {
    let node = Node::usual();
    node.write("sys/block/sda/sda2/partition", "2\n");
    node.disk("dm-1", "252:1", 0, 0, "");
    node.disk("md0", "9:0", 0, 0, "");
    for (upper, underlying) in [("dm-0", "sda/sda2"), ("dm-1", "dm-0"), ("md0", "gone")] {
        slave(&node, upper, underlying);
    }
    node
}

#[test]
fn a_disk_without_requests_is_stacked_on_the_one_below() {
    let node = stacked();
    let disks = node.scan();
    let mut assigned = Vec::new();
    assign(&mut assigned, &disks, &ROOM);
    let sda = assigned.iter().find(|known| known.name == "sda").unwrap().disk;
    let stacked = find_stacked(node.0.path(), &disks, &assigned);
    let stacked: Vec<_> =
        stacked.iter().map(|c| (c.name.as_str(), c.device, c.underlying)).collect();
    let dm = |minor| devices::join(252, minor);
    assert_eq!(stacked, [("dm-0", dm(0), sda), ("dm-1", dm(1), sda)]);
}

/// Links a disk to another one below it.
fn slave(node: &Node, upper: &str, underlying: &str) {
    let slaves = node.0.path().join(format!("sys/block/{upper}/slaves"));
    fs::create_dir_all(&slaves).unwrap();
    let name = underlying.rsplit('/').next().unwrap();
    std::os::unix::fs::symlink(format!("../../{underlying}"), slaves.join(name)).unwrap();
}

/// Links a device number, or a name, to its place in sysfs.
fn link(node: &Node, from: &str, to: &str) {
    let from = node.0.path().join(from);
    fs::create_dir_all(from.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(node.0.path().join(to), from).unwrap();
}

/// The disks that each one waits for, by name: itself or its underlying first.
fn stacks(node: &Node) -> Vec<(String, Vec<String>)> {
    let disks = node.scan();
    let mut assigned = Vec::new();
    assign(&mut assigned, &disks, &ROOM);
    connect(node.0.path(), &mut assigned);
    let name = |index: &u32| assigned.iter().find(|a| a.disk.index == *index).map(|a| &a.name);
    let own = assigned.iter().map(|a| (a.name.clone(), a.disk));
    let stacked = find_stacked(node.0.path(), &disks, &assigned);
    let stacked = stacked.into_iter().map(|c| (c.name, c.underlying));
    let all = own.chain(stacked).map(|(upper, disk)| {
        let indices = [disk.index].into_iter().chain(disk.underlying);
        (upper, indices.map_while(|index| name(&index).cloned()).collect())
    });
    all.collect()
}

fn check_stack(node: &Node, upper: &str, expected: &[&str]) {
    let stacks = stacks(node);
    let found = stacks.iter().find(|(name, _)| name == upper).map(|(_, below)| below);
    assert_eq!(found.unwrap(), expected, "{upper} of {stacks:?}");
}

#[test]
fn all_members_of_an_array_are_waited_for() {
    let node = Node::new();
    for (at, name) in ["sda", "sdb", "sdc", "sdd", "sde"].iter().enumerate() {
        node.disk(name, &format!("8:{}", at * 16), 1, 32, "none\n");
    }
    node.write("sys/block/sdb/sdb1/partition", "1\n");
    node.disk("md0", "9:0", 0, 0, "");
    node.disk("dm-0", "252:0", 0, 0, "");
    for underlying in ["sda", "sdb/sdb1", "sdc", "sdd", "sde"] {
        slave(&node, "md0", underlying);
    }
    slave(&node, "dm-0", "md0");
    // There is room for three beside the underlying.
    check_stack(&node, "md0", &["sda", "sdb", "sdc", "sdd"]);
    check_stack(&node, "dm-0", &["sda", "sdb", "sdc", "sdd"]);
    check_stack(&node, "sda", &["sda"]);
}

/// A loop device over a file on the second partition of sda.
fn looped() -> Node {
    let node = Node::usual();
    node.write("sys/block/sda/sda2/partition", "2\n");
    link(&node, "sys/dev/block/8:2", "sys/block/sda/sda2");
    link(&node, "sys/dev/block/259:0", "sys/block/nvme0n1");
    node.write(
        "proc/1/mountinfo",
        "1 0 8:2 / / rw - ext4 /dev/sda2 rw\n\
         2 1 259:0 / /data rw - xfs /dev/nvme0n1 rw\n\
         3 1 0:40 / /my\\040pool rw - btrfs /dev/mapper/pool rw\n\
         4 1 0:41 / /run rw - tmpfs tmpfs rw\n",
    );
    node.write("sys/block/loop0/loop/backing_file", "/var/images/a.img\n");
    node
}

#[test]
fn a_loop_device_waits_for_the_disk_of_its_file_too() {
    let node = looped();
    check_stack(&node, "loop0", &["loop0", "sda"]);
    let file = |path: &str| node.write("sys/block/loop0/loop/backing_file", path);
    file("/data/a.img\n");
    check_stack(&node, "loop0", &["loop0", "nvme0n1"]);
    file("/database/a.img (deleted)\n");
    check_stack(&node, "loop0", &["loop0", "sda"]);
    // In memory.
    file("/run/a.img\n");
    check_stack(&node, "loop0", &["loop0"]);
    // The file belongs to another mount namespace.
    file("\n");
    check_stack(&node, "loop0", &["loop0"]);
}

#[test]
fn stacks_are_followed_through_loop_devices_and_mapper() {
    let node = looped();
    node.disk("dm-1", "252:1", 0, 0, "");
    slave(&node, "dm-1", "loop0");
    check_stack(&node, "dm-1", &["loop0", "sda"]);
    // The file now lies on btrfs on a mapper's device on the NVMe.
    slave(&node, "dm-0", "nvme0n1");
    node.write("dev/dm-0", "");
    link(&node, "dev/mapper/pool", "dev/dm-0");
    link(&node, "sys/class/block/dm-0", "sys/block/dm-0");
    node.write("sys/block/loop0/loop/backing_file", "/my pool/a.img\n");
    check_stack(&node, "dm-1", &["loop0", "nvme0n1"]);
}

#[test]
fn a_file_on_its_own_loop_device_ends() {
    let node = looped();
    link(&node, "sys/dev/block/7:0", "sys/block/loop0");
    node.write("proc/1/mountinfo", "1 0 7:0 / / rw - ext4 /dev/loop0 rw\n");
    check_stack(&node, "loop0", &["loop0"]);
}

#[test]
fn the_paths_of_a_multipath_nvme_carry_it() {
    let node = Node::new();
    node.disk("nvme1n2", "259:1", 0, 0, "");
    for (path, dev) in [("nvme1c0n2", "259:2"), ("nvme1c3n2", "259:3"), ("nvme1c3n21", "259:4")] {
        node.disk(path, dev, 1, 64, "none\n");
    }
    check_stack(&node, "nvme1n2", &["nvme1c0n2", "nvme1c3n2"]);
}

#[test]
fn a_stack_in_a_circle_ends() {
    let node = Node::new();
    node.disk("dm-0", "252:0", 0, 0, "");
    let slaves = node.0.path().join("sys/block/dm-0/slaves");
    fs::create_dir_all(&slaves).unwrap();
    std::os::unix::fs::symlink("../../dm-0", slaves.join("dm-0")).unwrap();
    assert_eq!(find_stacked(node.0.path(), &node.scan(), &[]), []);
}

const ROOM: Room = Room { disks: 16, own_slots: 65_536, shared_slots: 16_384 };

#[test]
fn sysfs_is_read_whole() {
    let disks = Node::usual().scan();
    let names: Vec<_> = disks.iter().map(|disk| (disk.name.as_str(), disk.queues)).collect();
    assert_eq!(names, [("dm-0", 0), ("loop0", 1), ("nvme0n1", 8), ("sda", 1), ("zram0", 0)]);
    assert_eq!(
        disks[3],
        BlockDisk {
            carries: false,
            name: "sda".into(),
            device: devices::join(8, 0),
            is_hidden: false,
            identity: disks[3].identity.clone(),
            size_bytes: 1 << 20,
            hardware: true,
            queues: 1,
            nr_tags: 32,
            nr_requests: 64,
            scheduler: "mq-deadline".into(),
            iostats: true,
            discard_granularity_bytes: 4096,
        }
    );
    assert_eq!((disks[1].scheduler.as_str(), disks[2].scheduler.as_str()), ("none", "none"));
}

#[test]
fn disks_with_requests_get_consecutive_places() {
    let mut assigned = Vec::new();
    assert!(assign(&mut assigned, &Node::usual().scan(), &ROOM).is_empty());
    let places: Vec<_> = assigned.iter().map(|a| (a.name.as_str(), a.disk)).collect();
    let place = |index, base, queues, depth| Disk { index, base, queues, depth, underlying: NONE };
    let wanted = [
        ("nvme0n1", place(0, 0, 8, 1025)),
        ("sda", place(1, 8 * 1025, 1, 257)),
        ("loop0", place(2, 8 * 1025 + 257, 1, 257)),
    ];
    assert_eq!(places, wanted);
}

#[test]
fn a_place_is_kept_when_disks_come_and_go() {
    let node = Node::usual();
    let mut assigned = Vec::new();
    assign(&mut assigned, &node.scan(), &ROOM);
    let before = assigned.clone();

    fs::remove_dir_all(node.0.path().join("sys/block/loop0")).unwrap();
    node.disk("sdb", "8:16", 1, 32, "none\n");
    assert!(assign(&mut assigned, &node.scan(), &ROOM).is_empty());
    assert_eq!(assigned[..2], before[..2]);
    assert_eq!((assigned[2].disk, &assigned[2].identity), (before[2].disk, &None));
    let last = before[2].disk;
    let place = Disk { index: 3, base: last.base + 257, queues: 1, depth: 257, underlying: NONE };
    assert_eq!(assigned[3].disk, place);
}

#[test]
fn a_loop_device_gets_its_place_once_it_has_a_file() {
    let node = Node::usual();
    node.write("sys/block/loop0/size", "0\n");
    let mut assigned = Vec::new();
    assign(&mut assigned, &node.scan(), &ROOM);
    assert_eq!(assigned.len(), 2);
    node.write("sys/block/loop0/size", "2048\n");
    assign(&mut assigned, &node.scan(), &ROOM);
    assert_eq!((assigned.len(), assigned[2].name.as_str()), (3, "loop0"));
}

#[test]
fn a_disk_of_many_queues_has_no_slots_of_its_own() {
    let node = Node::new();
    let own = |queues, tags| {
        node.disk("nvme0n1", "259:0", queues, tags, "[none]\n");
        let mut assigned = Vec::new();
        assert!(assign(&mut assigned, &node.scan(), &ROOM).is_empty());
        (assigned[0].disk.queues, assigned[0].disk.depth)
    };
    assert_eq!(own(8, 1023), (8, 1025));
    for (queues, tags) in [(9, 1023), (64, 1023), (128, 1023), (1, 10_000), (3000, 1)] {
        assert_eq!(own(queues, tags), (0, 0), "{queues} queues of {tags} tags");
    }
}

#[test]
fn a_disk_that_does_not_fit_in_the_ledger_is_named() {
    let disks = Node::usual().scan();
    let mut assigned = Vec::new();
    let room = Room { disks: 1, ..ROOM };
    assert_eq!(assign(&mut assigned, &disks, &room), ["sda", "loop0"]);
    // There is no room for its own slots, so it shares.
    assigned.clear();
    let room = Room { own_slots: 650, ..ROOM };
    assert!(assign(&mut assigned, &disks, &room).is_empty());
    let own: Vec<_> = assigned.iter().map(|known| known.disk.slots() > 0).collect();
    assert_eq!(own, [false, true, true]);
}

#[test]
fn numbers_beyond_reason_do_not_overflow() {
    let mut disk = Node::usual().scan().remove(2);
    for (queues, tags) in [(u32::MAX, u32::MAX), (1, u32::MAX), (u32::MAX, 1)] {
        (disk.queues, disk.nr_tags) = (queues, tags);
        let disks = [disk.clone(), disk.clone()];
        let room = Room::of(&disks);
        assert_eq!((room.own_slots, room.shared_slots), (0, 262_144));
        let mut assigned = Vec::new();
        assert!(assign(&mut assigned, &disks[..1], &room).is_empty());
        assert_eq!(assigned[0].disk.slots(), 0);
    }
}

#[test]
fn there_is_room_for_two_hundred_volumes_that_come_later() {
    let node = Node::usual();
    let room = Room::of(&node.scan());
    let mut assigned = Vec::new();
    assert!(assign(&mut assigned, &node.scan(), &room).is_empty());
    // They have the same names at first, and then others, which get the places of
    // those that are gone.
    for names in ["vd", "vd", "sd"] {
        for at in 0..200 {
            let name = format!("{names}{}", at + 10);
            node.disk(&name, &format!("253:{}", at + 10), 1, 256, "[none]\n");
        }
        assert!(assign(&mut assigned, &node.scan(), &room).is_empty(), "{names}");
        let there = assigned.iter().filter(|known| known.identity.is_some());
        let indices: BTreeSet<_> = there.map(|known| known.disk.index).collect();
        assert_eq!(indices.len(), 203, "{names}");
        assert!(indices.last().is_some_and(|index| *index < room.disks), "{indices:?}");
        for at in 0..200 {
            let name = format!("sys/block/{names}{}", at + 10);
            fs::remove_dir_all(node.0.path().join(name)).unwrap();
        }
        assign(&mut assigned, &node.scan(), &room);
        let there = assigned.iter().filter(|known| known.identity.is_some());
        assert_eq!(there.count(), 3, "{names}");
    }
}

#[test]
fn the_table_holds_24_drives_of_64_queues_in_16_mib() {
    let node = Node::new();
    for at in 0..24 {
        node.disk(&format!("nvme{at}n1"), &format!("259:{at}"), 64, 1023, "[none]\n");
    }
    for at in 0..232 {
        node.disk(&format!("vd{at}"), &format!("253:{at}"), 1, 256, "[none]\n");
    }
    let room = Room::of(&node.scan());
    let mut assigned = Vec::new();
    assert!(assign(&mut assigned, &node.scan(), &room).is_empty());
    // 16 MiB for the drives, 64 bytes each, and less than 5 MiB for the volumes.
    assert_eq!(room.shared_slots, 262_144);
    assert!(room.own_slots < 80_000, "{room:?}");
    let own = assigned.iter().filter(|known| known.disk.slots() > 0);
    assert_eq!(own.count(), 232);
}

#[test]
fn a_hidden_disk_is_found_in_diskstats() {
    let node = Node::new();
    node.disk("nvme0c0n1", "", 2, 1023, "[none]\n");
    fs::remove_file(node.0.path().join("sys/block/nvme0c0n1/dev")).unwrap();
    assert!(node.scan().is_empty());
    node.write("proc/diskstats", "   0       0 nvme0c0n1 3 4\n");
    assert!(node.scan().is_empty());
    node.write("proc/diskstats", " 259       0 nvme0n1 1 2\n 259       1 nvme0c0n1 3 4\n");
    assert_eq!(node.scan()[0].device, devices::join(259, 1));
}

#[test]
fn requests_in_flight_are_reads_and_writes() {
    let node = Node::usual();
    assert_eq!(inflight(node.0.path(), "sda"), Some((3, 14)));
    assert_eq!(inflight(node.0.path(), "sdz"), None);
}

#[test]
fn issues_are_needed_where_none_are_noted_and_where_requests_may_wait() {
    let node = Node::usual();
    for (name, wbt, needed) in [
        ("nvme0n1", "2000\n", false),
        ("nvme0n1", "0\n", true),
        ("sda", "75000\n", true),
        ("sdz", "", false),
    ] {
        if !wbt.is_empty() {
            node.write(&format!("sys/block/{name}/queue/wbt_lat_usec"), wbt);
        }
        assert_eq!(needs_issues(&Queues::new(node.0.path()), name), needed, "{name} {wbt}");
    }
    // A kernel without writeback throttling.
    assert!(needs_issues(&Queues::new(node.0.path()), "loop0"));
}

#[test]
fn without_sysfs_it_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = scan(&Queues::new(dir.path()), &Hidden::default()).unwrap_err().to_string();
    assert!(error.contains("is sysfs mounted?"), "{error}");
}

/// A queue whose lock somebody holds, as who changes the scheduler of a disk that hangs.
struct Locked(std::path::PathBuf);

impl Locked {
    fn attribute(node: &Node, path: &str) -> Self {
        let path = node.0.path().join(path);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Self(path)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Its reader waits until somebody writes.
        let _ = fs::OpenOptions::new().read(true).write(true).open(&self.0);
    }
}

#[test]
fn a_queue_that_does_not_answer_holds_nobody_up() {
    let node = Node::usual();
    let _locked = Locked::attribute(&node, "sys/block/sda/queue/scheduler");
    let _tags = Locked::attribute(&node, "sys/block/nvme0n1/mq/3/nr_tags");
    let queues = Queues::new(node.0.path());
    let begin = std::time::Instant::now();
    let disks = scan(&queues, &Hidden::default()).unwrap();
    // They are followed as well as may be.
    let names: Vec<_> = disks.iter().map(|disk| &*disk.name).collect();
    assert_eq!(names, ["dm-0", "loop0", "nvme0n1", "sda", "zram0"]);
    let nvme = disks.iter().find(|disk| disk.name == "nvme0n1").unwrap();
    assert_eq!((nvme.queues, nvme.nr_tags), (8, DEFAULT_TAGS));
    for _ in 0..10 {
        assert_eq!(scheduler(&queues, "sda"), "");
        assert!(!needs_issues(&queues, "sda"));
        assert_eq!(completed(&queues, "sda"), None);
        assert_eq!(Key::read(&queues, "sda"), None);
    }
    // While all CPUs are busy, a disk that is well may be late as well.
    while scheduler(&queues, "loop0") != "none" {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "others answer");
    }
    assert!(queues.late() >= 30, "what does not answer is counted: {}", queues.late());
}
