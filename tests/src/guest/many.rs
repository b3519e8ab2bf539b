//! A node with 256 disks, 24 of which have 64 hardware queues: the agent starts and runs
//! within the memory limit of its DaemonSet.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracer_lab::cgroup::Cgroup;

use super::{
    MODPROBE,
    devices::{Device, NullBlk, null_blk, write},
    need, need_guest,
    queues::queues_of,
};
use crate::{
    live::{agent::config, served::Agent},
    matrix::requests::read_direct,
    skip::skip,
};

const HIERARCHY: &str = "/sys/fs/cgroup";
const DAEMONSET: &str = include_str!("../../../deploy/kubernetes/base/daemonset.yaml");

const DRIVES: usize = 24;
const QUEUES: u32 = 64;
const TAGS: u32 = 128;
/// The disks with one queue each.
const PLAIN: usize = 256 - DRIVES;

/// The number of reads on each drive.
const READS: u64 = 20;

/// The limit that the DaemonSet sets, the last of its two amounts of memory.
fn limit_bytes() -> u64 {
    let mut amounts = DAEMONSET.lines().filter_map(|line| line.trim().strip_prefix("memory: "));
    let last = amounts.next_back().expect("a limit of memory");
    last.strip_suffix("Mi").expect("MiB").parse::<u64>().expect("a number") << 20
}

/// A cgroup whose memory is limited, with everything that the kernel allocates for it.
struct Limited {
    folder: PathBuf,
    _cgroup: Cgroup,
}

impl Limited {
    fn create(bytes: u64) -> Result<Self> {
        let cgroup = Cgroup::create("daemonset")?;
        let folder = Path::new(HIERARCHY).join(cgroup.path().trim_start_matches('/'));
        let run = folder.parent().context("the run's cgroup")?;
        for above in [Path::new(HIERARCHY), run] {
            write(&above.join("cgroup.subtree_control"), "+memory")?;
        }
        write(&folder.join("memory.max"), &bytes.to_string())?;
        Ok(Self { folder, _cgroup: cgroup })
    }

    /// Runs something whose children shall be in the cgroup.
    fn within<T>(&self, run: impl FnOnce() -> T) -> Result<T> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup2")?;
        let pid = std::process::id().to_string();
        write(&self.folder.join("cgroup.procs"), &pid)?;
        let result = run();
        write(&Path::new(HIERARCHY).join(own).join("cgroup.procs"), &pid)?;
        Ok(result)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))
    }

    /// The most memory that was in use at one time.
    fn peak_bytes(&self) -> Result<u64> {
        self.read("memory.peak")?.trim().parse().context("`memory.peak` holds no number")
    }
}

/// Loads null_blk with disks of its own.
fn plain_disks(count: usize) -> Result<()> {
    let _ = MODPROBE.run(&["-r", "null_blk"]);
    let count = format!("nr_devices={count}");
    MODPROBE.run(&["null_blk", &count, "gb=1", "queue_mode=2", "submit_queues=1"]).map(drop)
}

/// Makes the drives one by one, and says how far it is: a guest that stalls shows where.
fn drives() -> Result<Vec<Device>> {
    let drive = NullBlk { queues: QUEUES, depth: TAGS, size_mib: 16, ..NullBlk::default() };
    let make = |at| {
        let made = null_blk(drive)?;
        println!("drive {at} of {DRIVES} made: {} s since the boot", uptime());
        Ok(made)
    };
    (1..=DRIVES).map(make).collect()
}

fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn disks() -> usize {
    fs::read_dir("/sys/block").unwrap().count()
}

#[test]
fn an_agent_beside_256_disks_stays_within_the_daemonsets_limit() {
    need_guest!();
    need!(&["configfs", "null_blk"], &[]);
    println!("{} s since the boot", uptime());
    plain_disks(PLAIN).unwrap();
    println!("{} disks: {} s since the boot", disks(), uptime());
    let drives = drives().unwrap();
    assert!(disks() >= PLAIN + DRIVES, "there are {} disks", disks());
    let queues = drives.iter().map(|drive| queues_of(&drive.name)).min().unwrap();
    if queues < QUEUES as usize {
        drop(drives);
        skip!("a drive has {queues} queues here, not {QUEUES}");
    }
    let limit = limit_bytes();
    let cgroup = Limited::create(limit).unwrap();
    if cgroup.peak_bytes().is_err() {
        skip!("this kernel does not say how much memory a cgroup used at most");
    }
    let config = config(Duration::from_secs(2));
    println!("the agent starts: {} s since the boot", uptime());
    let agent = cgroup.within(|| Agent::start(config.path())).unwrap();
    println!("it is ready: {} s since the boot", uptime());
    let started = cgroup.peak_bytes().unwrap();
    for drive in &drives {
        read_direct(&drive.path(), READS).unwrap();
    }
    sleep(Duration::from_secs(10));
    let metrics = agent.metrics();
    let peak = cgroup.peak_bytes().unwrap();
    let events = cgroup.read("memory.events").unwrap();
    let parts = cgroup.read("memory.stat").unwrap();
    let now = |part: &str| parts.lines().find_map(|line| line.strip_prefix(part)).unwrap_or("?");
    println!(
        "{} disks: {started} B at most until it was ready, {peak} B afterwards; now: processes{} B, kernel{} B",
        disks(),
        now("anon"),
        now("kernel")
    );
    assert!(metrics.contains("\ntracer_up 1\n"), "{metrics}");
    let dropped = metrics.lines().filter(|line| line.starts_with("tracer_dropped_total{"));
    // A process that ends before it is looked up leaves a file without a name, however much
    // room there is.
    let is_named = |line: &&str| !line.contains("\"file_unresolved\"");
    let dropped: Vec<_> = dropped.filter(|line| !line.ends_with(" 0")).filter(is_named).collect();
    assert!(dropped.is_empty(), "{dropped:?}");
    // Nothing was refused, and no memory was taken back to stay below the limit.
    for event in ["max 0", "oom 0", "oom_kill 0"] {
        assert!(events.lines().any(|line| line == event), "{events}");
    }
    assert!(peak < limit, "{peak} of {limit} B");
    // All drives' requests were counted.
    let read: f64 = metrics
        .lines()
        .filter(|line| {
            line.starts_with("tracer_block_requests_total{") && line.contains("op=\"read\"")
        })
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    let made = (READS * DRIVES as u64) as f64;
    assert!(read >= made, "only {read} of {made} reads are counted");
    drop(agent);
    drop(drives);
    let _ = MODPROBE.run(&["-r", "null_blk"]);
}
