//! A drive with many hardware queues, like servers' NVMe drives: each CPU has a queue of
//! its own, with a thousand tags.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use tracer_ebpf::dropped::Dropped;
use tracer_lab::tool::Tool;

use super::{
    devices::{NullBlk, null_blk},
    need, need_guest,
};
use crate::{
    live::{block::dropped, traced},
    matrix::requests::{compare, nothing_leaks, read_direct},
    skip::skip,
};

const QUEUES: u32 = 64;
const TAGS: u32 = 1023;

/// The number of times that the tracer is started.
const STARTS: u64 = 10;

/// One in this number of requests may find no slot, with 1,000 in flight.
const ONE_IN: u64 = 1000;

const MODULES: [&str; 2] = ["configfs", "null_blk"];
const FIO: Tool = Tool { name: "fio", package: "fio" };

fn drive(delay: Duration) -> NullBlk {
    NullBlk { delay, queues: QUEUES, depth: TAGS, ..NullBlk::default() }
}

/// The number of a disk's hardware queues.
pub fn queues_of(disk: &str) -> usize {
    fs::read_dir(Path::new("/sys/block").join(disk).join("mq")).unwrap().count()
}

/// The CPUs that are online now.
fn cpus() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// Reads on each CPU in turn, and so through each queue in turn.
fn read_from_every_cpu(path: &str, reads: u64) -> Result<()> {
    for cpu in 0..cpus() {
        let path = path.to_owned();
        let reads = move || -> Result<()> {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
            read_direct(&path, reads)
        };
        thread::spawn(reads).join().expect("no panic").with_context(|| format!("on CPU {cpu}"))?;
    }
    Ok(())
}

#[test]
fn each_request_is_counted_whatever_cpu_it_comes_from() {
    need_guest!();
    need!(&MODULES, &[]);
    let device = null_blk(drive(Duration::ZERO)).unwrap();
    if queues_of(&device.name) < QUEUES as usize {
        skip!("this machine may have {} CPUs, not {QUEUES}", queues_of(&device.name));
    }
    for start in 0..STARTS {
        traced(|session| {
            let names = [device.name.as_str()];
            let (requests, short) =
                compare(session, &names, |_| read_from_every_cpu(&device.path(), 20 + start))
                    .unwrap();
            assert!(short.is_empty(), "start {start}: {short:?}");
            assert_eq!(requests, (20 + start) * cpus() as u64);
            nothing_leaks(session, &device.name).unwrap();
            assert_eq!(dropped(&session.snapshot(), Dropped::TableOverflow), 0);
        });
    }
}

#[test]
fn of_a_thousand_in_flight_hardly_one_finds_no_slot() {
    need_guest!();
    need!(&MODULES, &[FIO]);
    let device = null_blk(drive(Duration::from_millis(300))).unwrap();
    traced(|session| {
        let load = |session: &mut tracer::session::Session| -> Result<()> {
            let path = device.path();
            let mut load = Command::new("fio")
                .args(["--name=load", "--ioengine=libaio", "--rw=randread", "--bs=4k"])
                .args([
                    "--direct=1",
                    "--thread",
                    "--numjobs=8",
                    "--iodepth=125",
                    "--number_ios=2000",
                ])
                .args(["--group_reporting", "--output=/dev/null"])
                .arg(format!("--filename={path}"))
                .spawn()?;
            let mut most = 0;
            while load.try_wait()?.is_none() {
                thread::sleep(Duration::from_millis(50));
                session.poll(None, &mut Vec::new());
                most = most.max(
                    session.snapshot().disks.iter().map(|disk| disk.in_flight).max().unwrap_or(0),
                );
            }
            println!("at most {most} in flight");
            ensure!(most >= 800, "only {most} were in flight at one time");
            Ok(())
        };
        let (requests, short) = compare(session, &[&device.name], load).unwrap();
        let lost = dropped(&session.snapshot(), Dropped::TableOverflow);
        println!("{requests} requests, {lost} found no slot");
        assert!(lost * ONE_IN <= requests, "{lost} of {requests} found no slot");
        assert!(short.is_empty() || lost > 0, "{short:?}");
        nothing_leaks(session, &device.name).unwrap();
    });
}
