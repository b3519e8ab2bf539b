//! A process at the limit on its memory, in a directory of files.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tracer_engine::stop::How;

use crate::stopped::{Stopped, Stops};

const SECOND: Duration = Duration::from_secs(1);
const V2: &str = "30 24 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw\n";
const V1: &str = "31 24 0:27 / /v1 rw shared:5 - cgroup cgroup rw,memory\n";

/// The process 7 in `/pod/db`, and the looks at it.
struct Stage {
    root: TempDir,
    stops: Stops,
    now: Instant,
}

impl Stage {
    fn new(mounts: &str, membership: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let stops = Stops::new(root.path());
        let stage = Self { root, stops, now: Instant::now() };
        stage.write("proc/self/mountinfo", mounts);
        stage.write("proc/7/status", "Name:\tetcd\nState:\tS (sleeping)\nTracerPid:\t0\n");
        stage.write("proc/7/cgroup", membership);
        stage
    }

    /// It and the cgroup above it have limits, which were reached some times before.
    fn with_limits() -> Self {
        let stage = Self::new(V2, "0::/pod/db\n");
        stage.write("cg/pod/db/memory.high", "67108864\n");
        stage.write("cg/pod/db/memory.max", "max\n");
        stage.write("cg/pod/db/memory.current", "68157440\n");
        stage.write("cg/pod/memory.high", "max\n");
        stage.write("cg/pod/memory.max", "1073741824\n");
        stage.write("cg/pod/memory.current", "1073737728\n");
        stage.events("pod/db", 5, 0);
        stage.events("pod", 5, 7);
        stage
    }

    fn write(&self, path: &str, text: &str) {
        crate::tree::put(&self.root, path, text);
    }

    fn events(&self, cgroup: &str, high: u64, max: u64) {
        let events = format!("low 0\nhigh {high}\nmax {max}\noom 0\noom_kill 0\n");
        self.write(&format!("cg/{cgroup}/memory.events.local"), &events);
    }

    fn pressure(&self, full_us: u64) {
        let line =
            |name: &str, us| format!("{name} avg10=9.00 avg60=1.00 avg300=0.00 total={us}\n");
        let text = line("some", 2 * full_us) + &line("full", full_us);
        self.write("cg/pod/db/memory.pressure", &text);
    }

    /// A thread in this function of the kernel, and in this system call.
    fn thread(&self, tid: u32, wchan: &str, call: &str) {
        self.write(&format!("proc/7/task/{tid}/wchan"), wchan);
        self.write(&format!("proc/7/task/{tid}/syscall"), call);
    }

    /// Looks at it a second later; the thread 8 syncs.
    fn look(&mut self) -> Option<Stopped> {
        self.now += SECOND;
        self.stops.look_at(self.now, 7, &[8])
    }
}

#[test]
fn a_limit_counts_once_it_is_reached_and_for_some_seconds() {
    let mut stage = Stage::with_limits();
    assert_eq!(stage.look(), None, "how often it was reached before is not known");
    assert_eq!(stage.look(), None);
    stage.events("pod/db", 6, 0);
    for _ in 0..4 {
        let stopped = stage.look().expect("it was reached");
        assert_eq!((stopped.how, &*stopped.setting), (How::Memory, "memory.high of /pod/db"));
        assert_eq!((stopped.limit_bytes, stopped.used_bytes), (67_108_864, 68_157_440));
        assert_eq!((stopped.is_halted, stopped.at_syncs, stopped.stalled_ns), (false, 0, 0));
    }
    assert_eq!(stage.look(), None);
}

#[test]
fn the_limit_of_a_cgroup_above_it_is_found() {
    let mut stage = Stage::with_limits();
    stage.look();
    stage.events("pod", 5, 8);
    let stopped = stage.look().expect("it was reached");
    assert_eq!(&*stopped.setting, "memory.max of /pod");
    assert_eq!((stopped.limit_bytes, stopped.used_bytes), (1_073_741_824, 1_073_737_728));
}

/// The machine is short of memory, so its threads wait, and the kernel counts that.
#[test]
fn who_has_no_limit_is_at_none() {
    let mut stage = Stage::new(V2, "0::/pod/db\n");
    for file in ["memory.high", "memory.max"] {
        stage.write(&format!("cg/pod/db/{file}"), "max\n");
    }
    stage.thread(8, "reclaim_throttle", "-1 0x7ffc 0x7f25");
    for second in 0..5 {
        stage.events("pod/db", second, second);
        stage.pressure(900_000 * second);
        assert_eq!(stage.look(), None);
    }
    // A limit that others reach is not its own.
    stage.write("cg/other/memory.high", "4096\n");
    stage.events("other", 9, 0);
    assert_eq!(stage.look(), None);
}

#[test]
fn stalls_are_those_since_the_look_before() {
    let mut stage = Stage::with_limits();
    stage.pressure(5_000_000);
    stage.look();
    stage.pressure(5_100_000);
    stage.look();
    stage.events("pod/db", 6, 0);
    stage.pressure(5_900_000);
    assert_eq!(stage.look().unwrap().stalled_ns, 800_000_000);
    stage.pressure(6_100_000);
    assert_eq!(stage.look().unwrap().stalled_ns, 200_000_000);
    // The kernel does not count it any more.
    fs::remove_file(stage.root.path().join("cg/pod/db/memory.pressure")).unwrap();
    assert_eq!(stage.look().unwrap().stalled_ns, 0);
}

/// The thread 8 was the last to sync.
#[test]
fn a_thread_that_waits_for_memory_keeps_a_sync_waiting_if_it_syncs_or_writes_a_file() {
    let mut stage = Stage::with_limits();
    fs::create_dir_all(stage.root.path().join("proc/7/fd")).unwrap();
    symlink("/var/lib/etcd/0.wal", stage.root.path().join("proc/7/fd/10")).unwrap();
    symlink("socket:[4711]", stage.root.path().join("proc/7/fd/11")).unwrap();
    stage.look();
    let mut times = 5;
    let mut check = |tid, wchan: &str, call: &str, at_syncs: u32| {
        let _ = fs::remove_dir_all(stage.root.path().join("proc/7/task"));
        stage.thread(9, "futex_wait_queue", "202 0x7");
        stage.thread(tid, wchan, call);
        times += 1;
        stage.events("pod/db", times, 0);
        assert_eq!(stage.look().unwrap().at_syncs, at_syncs, "{tid} {wchan} {call}");
    };
    let call =
        |number: i64, fd: u64| format!("{number} {fd:#x} 0x7f25 0x1000 0x0 0x0 0x0 0x7ffc 0x7f25");
    let (sync, write) = (call(libc::SYS_fdatasync, 10), call(libc::SYS_write, 10));
    let fault = "-1 0x7ffc 0x7f25";
    let over_high = ["mem_cgroup_handle_over_high", "__mem_cgroup_handle_over_high"];
    for wchan in over_high {
        check(8, wchan, &sync, 1);
        check(8, wchan, &write, 1);
        check(8, wchan, fault, 1);
        // Another thread comes from a sync or from a write of a file, or it keeps nobody waiting.
        check(10, wchan, &sync, 1);
        check(10, wchan, &write, 1);
        check(10, wchan, &call(libc::SYS_write, 11), 0);
        check(10, wchan, fault, 0);
    }
    for wchan in ["reclaim_throttle", "congestion_wait", "wait_iff_congested"] {
        check(8, wchan, &write, 1);
        check(8, wchan, fault, 1);
        // It is a part of the sync.
        check(8, wchan, &sync, 0);
    }
    check(8, "0", "running", 0);
    check(8, "folio_wait_bit_common", &sync, 0);
}

/// The kernel counts that nobody waits, so nobody is looked at.
#[test]
fn threads_are_looked_at_only_while_somebody_waits_for_memory() {
    let mut stage = Stage::with_limits();
    stage.thread(8, "__mem_cgroup_handle_over_high", "-1 0x7ffc 0x7f25");
    stage.pressure(5_000);
    stage.look();
    stage.events("pod/db", 6, 0);
    assert_eq!(stage.look().unwrap().at_syncs, 0);
    stage.pressure(6_000);
    assert_eq!(stage.look().unwrap().at_syncs, 1);
}

/// Only those that sync are looked at.
#[test]
fn the_threads_of_a_large_process_are_not_all_looked_at() {
    let mut stage = Stage::with_limits();
    for tid in 100..170 {
        stage.thread(tid, "__mem_cgroup_handle_over_high", "75 0x7");
    }
    stage.thread(8, "__mem_cgroup_handle_over_high", "-1 0x7");
    stage.look();
    stage.events("pod/db", 6, 0);
    assert_eq!(stage.look().unwrap().at_syncs, 1);
}

#[test]
fn a_limit_of_version_1_is_found_and_version_2_counts_its_stalls() {
    let mut stage = Stage::new(&format!("{V2}{V1}"), "4:memory:/limit\n0::/pod/db\n");
    stage.write("v1/limit/memory.limit_in_bytes", "67108864\n");
    stage.write("v1/limit/memory.usage_in_bytes", "67104768\n");
    stage.write("v1/limit/memory.failcnt", "3\n");
    stage.pressure(1_000);
    stage.look();
    stage.write("v1/limit/memory.failcnt", "4\n");
    stage.pressure(301_000);
    let stopped = stage.look().expect("it was reached");
    assert_eq!(&*stopped.setting, "memory.limit_in_bytes of /limit");
    assert_eq!((stopped.limit_bytes, stopped.used_bytes), (67_108_864, 67_104_768));
    assert_eq!(stopped.stalled_ns, 300_000_000);
    // This one stands for no limit.
    stage.write("v1/limit/memory.limit_in_bytes", "9223372036854771712\n");
    for failed in 5..12 {
        stage.write("v1/limit/memory.failcnt", &format!("{failed}\n"));
        stage.look();
    }
    assert_eq!(stage.look(), None);
}
