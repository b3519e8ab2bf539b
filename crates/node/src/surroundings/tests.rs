use tempfile::TempDir;

use super::*;
use crate::{devices, tree::put};

const SECOND_NS: u64 = 1_000_000_000;
const LOOP0: u32 = devices::join(7, 0);

/// A hybrid host: cgroup v2, and the cpu and blkio controllers in v1.
fn node() -> (TempDir, Surroundings) {
    let root = tempfile::tempdir().unwrap();
    put(
        &root,
        "proc/self/mountinfo",
        "30 1 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
         31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
         32 1 0:28 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n",
    );
    put(&root, "proc/7/cgroup", "5:cpu,cpuacct:/pod/one\n4:blkio:/pod/one\n0::/pod/one\n");
    put(&root, "proc/stat", "cpu  0 0 0 0 0 0 0 100 0 0\ncpu0 0 0 0 0 0 0 0 100 0 0\n");
    put(&root, "proc/meminfo", "MemTotal: 2 kB\nMemAvailable: 1 kB\n");
    let surroundings = Surroundings::new(root.path(), false);
    (root, surroundings)
}

fn subject(path: Option<&str>) -> Subject {
    Subject {
        cgroup: 5,
        path: path.map(str::to_owned),
        tgid: 7,
        devices: vec![LOOP0],
        is_holder: false,
    }
}

fn limit(kind: LimitKind, ns: u64, setting: &str) -> Limit {
    Limit { cgroup: 5, kind, ns, times: 0, setting: setting.to_owned(), in_kernel: false }
}

#[test]
fn a_limit_is_named_with_the_ancestor_that_has_it() {
    let (root, mut surroundings) = node();
    let pod = "sys/fs/cgroup/unified/pod";
    put(&root, &format!("{pod}/cpu.max"), "20000 100000\n");
    put(&root, &format!("{pod}/cpu.stat"), "throttled_usec 1000\n");
    put(&root, &format!("{pod}/one/cpu.max"), "max 100000\n");
    put(&root, &format!("{pod}/one/io.max"), "7:0 rbps=max wbps=1000 riops=max wiops=max\n");
    put(&root, &format!("{pod}/one/io.stat"), "7:0 rbytes=0 wbytes=5000 rios=0 wios=1\n");
    let subjects = [subject(Some("/pod/one"))];
    assert!(surroundings.look(SECOND_NS, &subjects).limits.is_empty(), "there is none before");
    put(&root, &format!("{pod}/cpu.stat"), "throttled_usec 301000\n");
    put(&root, &format!("{pod}/one/io.stat"), "7:0 rbytes=0 wbytes=5990 rios=0 wios=2\n");
    let limits = surroundings.look(2 * SECOND_NS, &subjects).limits;
    let cpu = limit(LimitKind::Cpu, 300_000_000, "cpu.max 20000 100000 of /pod");
    let io = limit(LimitKind::Io, SECOND_NS, "io.max 7:0 wbps=1000");
    assert_eq!(limits, [cpu, io]);
    assert!(surroundings.look(3 * SECOND_NS, &subjects).limits.is_empty(), "nothing happened");
}

#[test]
fn limits_of_the_first_version_are_found_by_the_process() {
    let (root, mut surroundings) = node();
    let cpu = "sys/fs/cgroup/cpu/pod/one";
    let blkio = "sys/fs/cgroup/blkio/pod/one";
    put(&root, &format!("{cpu}/cpu.cfs_quota_us"), "20000\n");
    put(&root, &format!("{cpu}/cpu.stat"), "nr_throttled 1\nthrottled_time 0\n");
    put(&root, &format!("{blkio}/blkio.throttle.write_iops_device"), "7:0 10\n");
    put(&root, &format!("{blkio}/blkio.throttle.io_service_bytes"), "7:0 Write 0\n");
    put(&root, &format!("{blkio}/blkio.throttle.io_serviced"), "7:0 Write 0\n");
    // There are two subjects, because two victims of one cgroup are reported once.
    let subjects = [subject(Some("/")), subject(None)];
    surroundings.look(SECOND_NS, &subjects);
    put(&root, &format!("{cpu}/cpu.stat"), "nr_throttled 9\nthrottled_time 8000000000\n");
    put(&root, &format!("{blkio}/blkio.throttle.io_serviced"), "7:0 Write 10\n");
    let limits = surroundings.look(2 * SECOND_NS, &subjects).limits;
    // It was held back once before.
    let cpu = Limit { times: 8, ..limit(LimitKind::Cpu, SECOND_NS, "cpu.cfs_quota_us 20000") };
    let io = limit(LimitKind::Io, SECOND_NS, "blkio.throttle.write_iops_device 7:0 10");
    assert_eq!(limits, [cpu, io]);
}

/// The kernel lets tasks without CPU time leave it first, so that limit stops nobody with a handle
/// open; nor does one on writes.
#[test]
fn of_those_who_hold_up_a_journal_only_limits_that_stop_them_in_the_kernel_count() {
    let (root, _) = node();
    let group = "sys/fs/cgroup/unified/pod/one";
    put(&root, &format!("{group}/cpu.max"), "20000 100000\n");
    put(&root, &format!("{group}/io.max"), "7:0 rbps=max wbps=1000 riops=10 wiops=max\n");
    let used = |usec: u64, writes: u64, reads: u64| {
        put(&root, &format!("{group}/cpu.stat"), &format!("throttled_usec {usec}\n"));
        let stat = format!("7:0 rbytes=0 wbytes={writes} rios={reads} wios=1\n");
        put(&root, &format!("{group}/io.stat"), &stat);
    };
    let holder = [Subject { is_holder: true, ..subject(Some("/pod/one")) }];
    let io = |setting| Limit { in_kernel: true, ..limit(LimitKind::Io, SECOND_NS, setting) };
    let cpu = limit(LimitKind::Cpu, 400_000_000, "cpu.max 20000 100000");
    let cpu = Limit { in_kernel: true, ..cpu };
    for stops_in_kernel in [false, true] {
        let mut surroundings = Surroundings::new(root.path(), stops_in_kernel);
        used(0, 0, 0);
        surroundings.look(SECOND_NS, &holder);
        used(400_000, 1000, 5);
        let mut expected = if stops_in_kernel { vec![cpu.clone()] } else { Vec::new() };
        assert_eq!(surroundings.look(2 * SECOND_NS, &holder).limits, expected);
        used(800_000, 2000, 15);
        expected.push(io("io.max 7:0 riops=10"));
        assert_eq!(surroundings.look(3 * SECOND_NS, &holder).limits, expected);
    }
}

#[test]
fn stolen_time_is_counted_since_the_last_look() {
    let (root, mut surroundings) = node();
    let first = surroundings.look(SECOND_NS, &[]);
    assert_eq!((first.steal_ns, first.cpus), (0, 1));
    assert_eq!(first.memory, Memory { total_bytes: 2048, available_bytes: 1024, cached_bytes: 0 });
    put(&root, "proc/stat", "cpu  0 0 0 0 0 0 0 125 0 0\ncpu0 0 0 0 0 0 0 0 125 0 0\n");
    assert_eq!(surroundings.look(2 * SECOND_NS, &[]).steal_ns, 250_000_000);
}

#[test]
fn a_node_without_anything_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    let mut surroundings = Surroundings::new(root.path(), false);
    assert_eq!(surroundings.look(SECOND_NS, &[subject(Some("/pod"))]), Around::default());
}
