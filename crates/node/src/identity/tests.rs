use std::{fs, os::unix::fs::MetadataExt as _};

use tempfile::TempDir;
use tracer_ebpf::cgroup;

use super::*;
use tracer_snapshot::Workload;

mod hostile;
mod layouts;

const SECOND: u64 = 1_000_000_000;

/// A node in a temporary directory, with cgroup v2 at its usual place.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        node.write(
            "proc/self/mountinfo",
            "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
             2 1 0:29 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
        );
        fs::create_dir_all(node.0.path().join("sys/fs/cgroup")).unwrap();
        node
    }

    fn write(&self, path: &str, content: &str) {
        crate::tree::put(&self.0, path, content);
    }

    fn process(&self, tgid: u32, comm: &str, start: u64, cgroup: &str) {
        let stat =
            format!("{tgid} ({comm}) S 1 2 3 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 {start} 7 2\n");
        self.write(&format!("proc/{tgid}/stat"), &stat);
        self.write(&format!("proc/{tgid}/cmdline"), &format!("/bin/{comm}\0--flag\0"));
        self.write(&format!("proc/{tgid}/cgroup"), &format!("0::{cgroup}\n"));
    }

    fn ends(&self, tgid: u32) {
        fs::remove_dir_all(self.0.path().join(format!("proc/{tgid}"))).unwrap();
    }

    /// Makes a cgroup; gives its id.
    fn cgroup(&self, path: &str) -> u64 {
        let path = self.0.path().join("sys/fs/cgroup").join(path);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    fn identities(&self) -> Identities {
        Identities::new(self.0.path(), self.0.path())
    }
}

#[test]
fn a_process_keeps_its_identity_after_its_end() {
    let node = Node::new();
    node.process(7, "etcd", 100, "/system.slice/etcd.service");
    let mut identities = node.identities();
    let seen = identities.process(7, 0).unwrap().clone();
    assert_eq!(seen.comm, "etcd");
    assert_eq!(seen.unit.as_deref(), Some("etcd.service"));

    node.ends(7);
    assert_eq!(identities.process(7, 60 * SECOND), Some(&seen));
    assert_eq!(identities.unresolved(), 0);
}

#[test]
fn a_number_used_again_is_another_process() {
    let node = Node::new();
    node.process(7, "etcd", 100, "/a.service");
    let mut identities = node.identities();
    assert_eq!(identities.process(7, 0).unwrap().comm, "etcd");

    node.process(7, "etcd", 200, "/b.service");
    // Not looked at yet.
    assert_eq!(identities.process(7, SECOND).unwrap().start_ticks, 100);
    let next = identities.process(7, 5 * SECOND).unwrap();
    assert_eq!((next.start_ticks, next.cgroup.as_str()), (200, "/b.service"));
}

/// A virtual machine in a session of a user's.
fn machine(node: &Node, tgid: u32, start: u64, name: &str, session: u32) -> u64 {
    let cgroup = format!("user.slice/user-1000.slice/session-{session}.scope");
    node.process(tgid, "qemu-system-x86", start, &format!("/{cgroup}"));
    let arguments = format!("qemu-system-x86_64\0-name\0{name}\0");
    node.write(&format!("proc/{tgid}/cmdline"), &arguments);
    node.cgroup(&cgroup)
}

fn workload(actor: &Actor) -> Option<&str> {
    actor.workload.as_ref().map(|workload| workload.name.as_str())
}

#[test]
fn a_number_used_again_in_a_cgroup_brings_no_old_arguments() {
    let node = Node::new();
    let id = machine(&node, 7, 100, "dev", 2);
    let mut identities = node.identities();
    let old = identities.actor("qemu-system-x86", 7, id, false, 0);
    assert_eq!(workload(&old), Some("vm dev"));
    // A thread of its own name is its.
    let thread = identities.actor("CPU 0/KVM", 7, id, false, 1);
    assert_eq!(workload(&thread), Some("vm dev"));

    node.process(7, "make", 200, "/user.slice/user-1000.slice/session-2.scope");
    let new = identities.actor("make", 7, id, false, SECOND);
    assert_eq!(new.cgroup, old.cgroup);
    assert_eq!(workload(&new), Some("session-2.scope of user 1000"));
}

#[test]
fn a_number_used_again_in_another_cgroup_is_found_there_at_once() {
    let node = Node::new();
    let old = machine(&node, 7, 100, "dev", 2);
    let mut identities = node.identities();
    identities.actor("qemu-system-x86", 7, old, false, 0);
    // A look at all cgroups, so that none is due for a while.
    identities.actor("gone", 8, 1, false, 0);

    let new = machine(&node, 7, 200, "prod", 3);
    let actor = identities.actor("qemu-system-x86", 7, new, false, SECOND);
    assert_eq!(actor.cgroup, "/user.slice/user-1000.slice/session-3.scope");
    assert_eq!(workload(&actor), Some("vm prod"));
}

#[test]
fn a_process_that_executes_or_moves_is_read_again() {
    let node = Node::new();
    node.process(7, "sh", 100, "/");
    let mut identities = node.identities();
    assert_eq!(identities.process(7, 0).unwrap().comm, "sh");

    node.process(7, "fstrim", 100, "/system.slice/fstrim.service");
    let moved = identities.process(7, 5 * SECOND).unwrap();
    assert_eq!(moved.comm, "fstrim");
    assert_eq!(moved.unit.as_deref(), Some("fstrim.service"));
}

#[test]
fn who_was_gone_before_the_first_look_is_counted_once_and_found_later() {
    let node = Node::new();
    let mut identities = node.identities();
    for second in 0..30 {
        assert_eq!(identities.process(7, second * SECOND), None);
    }
    assert_eq!(identities.unresolved(), 1);
    // Somebody else with that number.
    node.process(7, "new", 100, "/");
    assert_eq!(identities.process(7, 30 * SECOND).unwrap().comm, "new");
    assert_eq!(identities.process(0, 0), None);
    assert_eq!(identities.unresolved(), 1);
}

#[test]
fn the_dead_are_forgotten_before_the_living() {
    let node = Node::new();
    node.process(1, "init", 1, "/init.scope");
    let mut identities = node.identities();
    identities.process(1, 0);
    // 4096 that were gone: room for 4095 of them.
    for tgid in 2..=4097 {
        identities.process(tgid, SECOND);
    }
    assert_eq!(identities.evicted(), 1);
    node.ends(1);
    assert_eq!(identities.process(1, 2 * SECOND).unwrap().comm, "init");
}

#[test]
fn a_cgroup_is_found_by_its_id_and_remembered_after_its_end() {
    let node = Node::new();
    let id = node.cgroup("kubepods.slice/pod1/abc");
    let root = node.cgroup("");
    let mut identities = node.identities();
    assert_eq!(identities.cgroup(id, 0), Some("/kubepods.slice/pod1/abc"));
    assert_eq!(identities.cgroup(root, 0), Some("/"));
    fs::remove_dir(node.0.path().join("sys/fs/cgroup/kubepods.slice/pod1/abc")).unwrap();
    assert_eq!(identities.cgroup(id, 60 * SECOND), Some("/kubepods.slice/pod1/abc"));
    assert_eq!(identities.cgroup(0, 0), None);
}

#[test]
fn walks_are_rare_and_in_vain_only_once() {
    let node = Node::new();
    let mut identities = node.identities();
    assert_eq!(identities.cgroup(u64::MAX, 0), None);
    assert_eq!(identities.unresolved(), 1);

    let id = node.cgroup("late.service");
    assert_eq!(identities.cgroup(id, SECOND), None, "too early for another walk");
    assert_eq!(identities.cgroup(id, 3 * SECOND), Some("/late.service"));
    assert_eq!(identities.cgroup(u64::MAX, 60 * SECOND), None);
    assert_eq!(identities.unresolved(), 1);
}

#[test]
fn a_cgroup_is_learnt_from_a_process_in_it_between_walks() {
    let node = Node::new();
    let mut identities = node.identities();
    assert_eq!(identities.cgroup(u64::MAX, 0), None);
    let id = node.cgroup("brief.scope");
    node.process(9, "fio", 5, "/brief.scope");
    let actor = identities.actor("fio", 9, id, false, SECOND);
    assert_eq!(
        (actor.cgroup.as_str(), actor.unit.as_deref()),
        ("/brief.scope", Some("brief.scope"))
    );
    assert_eq!(identities.cgroup(id, SECOND), Some("/brief.scope"));
}

#[test]
fn who_takes_the_cgroup_of_the_record_before_that_of_the_process() {
    let node = Node::new();
    let id = node.cgroup("a.service");
    node.process(9, "qemu", 5, "/b.service");
    let mut identities = node.identities();
    let actor = identities.actor("vhost", 9, id, false, 0);
    assert_eq!((actor.comm.as_str(), actor.cgroup.as_str()), ("vhost", "/a.service"));
    let actor = identities.actor("", 9, 0, false, 0);
    assert_eq!((actor.comm.as_str(), actor.unit.as_deref()), ("qemu", Some("b.service")));
}

#[test]
fn who_says_more_than_the_root_of_v2_on_a_hybrid_host() {
    let node = Node::new();
    node.process(9, "etcd", 5, "/");
    node.write("proc/9/cgroup", "1:name=systemd:/system.slice/etcd.service\n0::/\n");
    let root = node.cgroup("");
    let actor = node.identities().actor("etcd", 9, root, false, 0);
    assert_eq!(actor.cgroup, "/system.slice/etcd.service");
}

#[test]
fn two_of_one_name_in_the_root_of_v2_are_distinguished_by_version_1() {
    let node = Node::new();
    let memory = "sys/fs/cgroup/memory";
    node.write(
        "proc/self/mountinfo",
        "2 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
         3 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
         4 1 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    );
    let of = |path: &str| format!("8:memory:{path}\n3:cpu,cpuacct:/\n1:name=systemd:/s\n0::/\n");
    node.write("proc/self/cgroup", &of("/"));
    let [uid, other] =
        ["0f3d2a5e-6b1c-4a7e-9d52-3c9f51f0a1b2", "1f3d2a5e-6b1c-4a7e-9d52-3c9f51f0a1b2"];
    let mut ids = Vec::new();
    for (tgid, uid) in [(7, uid), (8, other)] {
        let pod = format!("/kubepods/burstable/pod{uid}");
        let folder = node.0.path().join(memory).join(pod.trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap();
        ids.push(fs::metadata(&folder).unwrap().ino() | cgroup::V1);
        node.process(tgid, "postgres", 5, "/");
        node.write(&format!("proc/{tgid}/cgroup"), &of(&pod));
    }
    let mut identities = node.identities();
    // One by its process, the other by a walk: it has ended.
    let first = identities.actor("postgres", 7, ids[0], false, 0);
    assert_eq!(first.cgroup, format!("/kubepods/burstable/pod{uid}"));
    node.ends(8);
    let second = identities.actor("postgres", 8, ids[1], false, 5 * SECOND);
    assert_eq!(second.cgroup, format!("/kubepods/burstable/pod{other}"));
    assert_ne!(workload(&first), workload(&second));
    // In version 2 that number is another cgroup.
    assert_eq!(identities.cgroup(ids[0] & !cgroup::V1, 20 * SECOND), None);
}

#[test]
fn kernel_threads_are_in_the_root_and_the_unknown_nowhere() {
    let node = Node::new();
    let mut identities = node.identities();
    let thread = identities.actor("jbd2/vda-8", 300, 0, true, 0);
    assert_eq!((thread.cgroup.as_str(), thread.unit, thread.kernel_thread), ("/", None, true));
    let gone = identities.actor("dd", 301, 0, false, 0);
    assert_eq!((gone.comm.as_str(), gone.cgroup.as_str()), ("dd", ""));
}

#[test]
fn the_mount_that_reaches_above_our_own_namespace_is_taken() {
    let node = Node::new();
    let host = node.0.path().join("host");
    fs::create_dir_all(host.join("a.service")).unwrap();
    let id = fs::metadata(host.join("a.service")).unwrap().ino();
    node.write(
        "proc/self/mountinfo",
        "2 1 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
         3 1 0:29 /../.. /host rw - cgroup2 cgroup2 rw\n",
    );
    assert_eq!(node.identities().cgroup(id, 0), Some("/a.service"));
}
