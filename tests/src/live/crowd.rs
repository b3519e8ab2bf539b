//! A node with very many workloads: the agent does not grow.
//!
//! The test asserts sizes, and prints times and bytes for the README.

use std::{
    fs,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    process::Process,
    tool::{DD, Tool, last_line},
};

use tracer::session::Session;
use tracer_snapshot::OwnerRow;

use super::{agent::config, lab_disk, need_live, served::Agent, traced};
use crate::matrix::requests::settle;

const CGROUPS: usize = 2000;
/// The number of processes in each cgroup.
const PROCESSES: usize = 5;
const SHELLS_AT_ONCE: usize = 4;
const SH: Tool = Tool { name: "sh", package: "dash" };
const PERIOD: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

/// The number of victims of a busy node.
const HUNDRED: usize = 100;

/// The resident size may grow by this much after the first quarter of the crowd: by then
/// there are almost as many victims as the agent keeps.
const GROWTH_BYTES: u64 = 12 << 20;
/// The largest resident size with all of them: 1.5 times that of a release build.
const LIMIT_BYTES: u64 = 48 << 20;
const EXPOSITION_BYTES: usize = 2 << 20;

/// The time and the size of one scrape.
#[derive(Clone, Copy, Debug)]
struct Size {
    rss_bytes: u64,
    peak_bytes: u64,
    series: usize,
    exposition_bytes: usize,
    /// The first scrape of a snapshot, which renders it.
    scrape: Duration,
}

fn size_of(agent: &Agent) -> Size {
    // The next snapshot has not been rendered for anybody yet.
    sleep(PERIOD + Duration::from_millis(200));
    let start = Instant::now();
    let metrics = agent.metrics();
    let scrape = start.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.tracer.id())).unwrap();
    let bytes = |what: &str| {
        let size = status.lines().find_map(|line| line.strip_prefix(what)).expect("a size");
        size.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    Size {
        rss_bytes: bytes("VmRSS:"),
        peak_bytes: bytes("VmHWM:"),
        series: metrics.lines().filter(|line| !line.starts_with('#')).count(),
        exposition_bytes: metrics.len(),
        scrape,
    }
}

/// Starts processes in a cgroup that each sync a little, one after another.
fn write_a_little(folder: &std::path::Path, number: usize) -> Cgroup {
    let cgroup = Cgroup::create(&format!("tenant-{number}")).unwrap();
    let file = folder.join(format!("{number}"));
    let dd = DD.find().expect("dd is installed");
    let step = format!(
        "'{}' if=/dev/zero of='{}' bs=4k count=1 conv=fdatasync status=none",
        dd.display(),
        file.display()
    );
    let mut command = SH.command().unwrap();
    command.arg("-c").arg(vec![step; PROCESSES].join("; "));
    let ended = Process::spawn(command, &cgroup).unwrap().wait(LONG).expect("it ends");
    assert!(ended.status.success(), "{}", last_line(&ended.stderr));
    cgroup
}

/// Starts these victims, some at a time. Their cgroups exist until the end.
fn crowd(folder: &std::path::Path, numbers: std::ops::Range<usize>) -> Vec<Cgroup> {
    thread::scope(|scope| {
        let part = |first: usize| {
            let numbers = numbers.clone().skip(first).step_by(SHELLS_AT_ONCE);
            scope.spawn(move || numbers.map(|n| write_a_little(folder, n)).collect::<Vec<_>>())
        };
        let parts: Vec<_> = (0..SHELLS_AT_ONCE).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("it wrote")).collect()
    })
}

#[test]
fn ten_thousand_processes_in_two_thousand_cgroups_leave_the_agent_small() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let folder = disk.mountpoint().join("crowd");
    fs::create_dir(&folder).unwrap();
    let config = config(PERIOD);
    let agent = Agent::start(config.path());
    let idle = size_of(&agent);
    let mut cgroups = crowd(&folder, 0..HUNDRED);
    let hundred = size_of(&agent);
    cgroups.extend(crowd(&folder, HUNDRED..CGROUPS / 4));
    let quarter = size_of(&agent);
    cgroups.extend(crowd(&folder, CGROUPS / 4..CGROUPS));
    let whole = size_of(&agent);
    let sizes = [("idle", idle), ("a hundred", hundred), ("a quarter", quarter), ("all", whole)];
    for (when, size) in sizes {
        let Size { rss_bytes, peak_bytes, series, exposition_bytes, scrape } = size;
        println!(
            "{when}: {rss_bytes} B, at most {peak_bytes} B, \
             {series} series of {exposition_bytes} B in {scrape:?}"
        );
    }

    let metrics = agent.metrics();
    let syncs: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("tracer_sync_duration_seconds_count{"))
        .filter(|line| line.contains("comm=\"dd\"") || line.contains("victim=\"other\""))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    let made = (CGROUPS * PROCESSES) as f64;
    assert!(syncs >= made, "only {syncs} of {made} syncs are counted");
    assert!(whole.exposition_bytes < EXPOSITION_BYTES, "{whole:?}");
    // All series are in use by then.
    let most = quarter.series + quarter.series / 10;
    assert!(whole.series <= most, "series grow: {quarter:?}, {whole:?}");
    assert!(whole.rss_bytes <= quarter.rss_bytes + GROWTH_BYTES, "{quarter:?}, {whole:?}");
    assert!(whole.rss_bytes <= LIMIT_BYTES, "{whole:?}");
    drop(agent);
    drop(cgroups);
}

/// The number of writers in cgroups of their own, which is more than a disk has accounts.
const WRITERS: usize = 100;

/// Within this time a heavy writer among them must be found.
const SOON: Duration = Duration::from_secs(4);

/// Starts a script in a cgroup of its own, which runs until it is dropped.
fn go_on(name: &str, script: &str) -> (Process, Cgroup) {
    let cgroup = Cgroup::create(name).unwrap();
    let mut command = SH.command().unwrap();
    command.args(["-c", script]);
    (Process::spawn(command, &cgroup).unwrap(), cgroup)
}

/// Lets time pass, and returns what each owner on a disk did in each second of it.
fn watch(session: &mut Session, disk: &str, time: Duration) -> Vec<Vec<OwnerRow>> {
    let end = Instant::now() + time;
    let mut seconds = Vec::new();
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < next {
            session.poll(None, &mut Vec::new());
            sleep(Duration::from_millis(50));
        }
        let snapshot = session.snapshot();
        let disk = snapshot.disks.iter().find(|d| d.name == disk).expect("it is known");
        seconds.push(disk.owners.clone());
    }
    seconds
}

/// The owner with the most bytes in the last second.
fn heaviest(owners: &[OwnerRow]) -> &OwnerRow {
    owners.iter().max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second)).unwrap()
}

#[test]
fn a_heavy_writer_among_a_hundred_is_named() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let dd = DD.find().expect("dd is installed").display().to_string();
    let file = |name: &str| format!("of='{}'", disk.mountpoint().join(name).display());
    traced(|session| {
        settle(session, disk.name()).unwrap();
        let write = "bs=4k count=1 conv=fdatasync status=none";
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let of = file(&n.to_string());
                let script = format!("while :; do '{dd}' if=/dev/zero {of} {write}; sleep 1; done");
                go_on(&format!("writer-{n}"), &script)
            })
            .collect();
        let before = watch(session, disk.name(), Duration::from_secs(5));
        // Others share what is left.
        let is_shared = |owners: &Vec<OwnerRow>| owners.iter().any(|o| o.actor.comm == "(others)");
        assert!(before.last().is_some_and(is_shared), "all {WRITERS} have an account");

        let again = "bs=64k count=2000 oflag=direct conv=notrunc status=none";
        let heavy = format!("while :; do '{dd}' if=/dev/zero {} {again}; done", file("heavy"));
        let (process, cgroup) = go_on("heavy", &heavy);
        watch(session, disk.name(), SOON);
        for owners in watch(session, disk.name(), Duration::from_secs(5)) {
            let most = heaviest(&owners);
            println!("of {} owners: {most:?}", owners.len());
            assert_eq!(most.actor.cgroup, cgroup.path(), "{owners:#?}");
        }
        drop(process);
        drop(writers);
    });
}
