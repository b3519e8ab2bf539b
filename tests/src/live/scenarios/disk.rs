//! The simulated disk behaves as its model says, through the loop device and a filesystem:
//! parallel and sequential requests, discards and flushes take the right time.

use std::{
    fs::{self, File},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tracer_disk_model::Model;
use tracer_lab::{
    disk::Filesystem,
    tool::{FIO, FSTRIM},
};

use super::need_stage;
use crate::{matrix::requests::read_direct, simulated::SimulatedDisk};

const MS: Duration = Duration::from_millis(1);

/// Reads at random for three seconds, and returns the median time of a read in seconds, which
/// a moment without a CPU does not change.
fn fio(device: &str, depth: u32, block: &str) -> Result<f64> {
    let said = FIO.run(&[
        "--name=reads",
        "--thread",
        "--rw=randread",
        "--direct=1",
        "--ioengine=libaio",
        "--time_based",
        "--runtime=3",
        "--readonly",
        &format!("--iodepth={depth}"),
        &format!("--bs={block}"),
        &format!("--filename={device}"),
        "--output-format=json",
    ])?;
    let said: Value = serde_json::from_str(&said).context("fio printed no JSON")?;
    let median = &said["jobs"][0]["read"]["clat_ns"]["percentile"]["50.000000"];
    Ok(median.as_f64().context("fio reports no median")? / 1e9)
}

#[track_caller]
fn assert_between(what: &str, value: f64, least: f64, most: f64) {
    println!("{what}: {value:.6} (of {least:.6} to {most:.6})");
    assert!((least..=most).contains(&value), "{what}: {value}, not of {least} to {most}");
}

fn seconds_of(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

#[test]
fn a_simulated_disk_takes_as_long_as_its_model_says() {
    need_stage!();
    let disk = SimulatedDisk::create(Filesystem::Ext4).expect("a simulated disk");
    let device = disk.disk().device();
    // Upper bounds leave room for a machine that does other things too.
    let one_by_one = seconds_of(|| read_direct(device, 500).unwrap()) / 500.0;
    assert_between("one read", one_by_one, 150e-6, 1e-3);

    // Four at a time, each 8 ms: 500 a second, and 32 wait eight times as long.
    disk.become_another(&Model { read: 8 * MS, ..Model::default() }).unwrap();
    let alone = fio(device, 1, "4k").unwrap();
    assert_between("a read alone", alone, 8e-3, 30e-3);
    let crowded = fio(device, 32, "4k").unwrap();
    assert_between("a read of 32", crowded, 60e-3, 240e-3);

    // The bus has 40 MB/s for all together: 16 MiB take 0.42 s.
    disk.become_another(&Model { bytes_per_second: 40_000_000, ..Model::default() }).unwrap();
    let large = fio(device, 16, "1m").unwrap();
    assert_between("a read of 1 MiB of 16", large, 0.38, 1.6);
}

fn sync(file: &Path) {
    fs::write(file, [1; 4096]).unwrap();
    File::open(file).unwrap().sync_all().unwrap();
}

#[test]
fn flushes_and_discards_reach_the_simulated_disk() {
    need_stage!();
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs] {
        let disk = SimulatedDisk::create(filesystem).expect("a simulated disk");
        let file = disk.mountpoint().join("synced");
        sync(&file);
        disk.become_another(&Model { flush: 50 * MS, ..Model::default() }).unwrap();
        let before = disk.served().unwrap();
        assert_between("a sync with a slow flush", seconds_of(|| sync(&file)), 50e-3, 250e-3);
        let flushes = disk.served().unwrap().flushes - before.flushes;
        assert!((1..=4).contains(&flushes), "{flushes} flushes for a sync");

        disk.become_another(&Model::default()).unwrap();
        let mountpoint = disk.mountpoint().display().to_string();
        let (stat, before) = (disk.disk().stat().unwrap(), disk.served().unwrap());
        FSTRIM.run(&[&mountpoint]).unwrap();
        // xfs does not wait for the last discards, which are served one after another.
        let mut served = disk.served().unwrap();
        loop {
            sleep(200 * MS);
            let more = disk.served().unwrap();
            if std::mem::replace(&mut served, more) == more {
                break;
            }
        }
        let after = disk.disk().stat().unwrap();
        let discards = served.discards - before.discards;
        assert_eq!(discards, after.discards - stat.discards, "of {filesystem:?}");
        assert!(discards > 0 && served.discarded_bytes - before.discarded_bytes > 1 << 30);
        // They are served one after another, whatever else is sent.
        let each = (after.discard_ms - stat.discard_ms) as f64 / discards as f64 / 1e3;
        assert_between("a discard", each, 40e-3, 40e-3 * discards as f64);
    }
}
