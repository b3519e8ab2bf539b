//! The matrix: every filesystem under every scheduler, and every strategy of every
//! capability. Each cell compares syncs with the calls that were made, and block requests
//! with the kernel's own counters, and prints a line of its own.
//!
//! `TRACER_CELL_FS` and `TRACER_CELL_SCHEDULER` select the cells of one filesystem or
//! scheduler.

use std::{env, fs, process::Command};

use anyhow::{Context as _, Result, bail};
use tracer::session::Session;
use tracer_kernel::{
    capability::Capability,
    strategies::{Forced, Outcome},
};
use tracer_lab::{
    disk::{Filesystem, LoopDisk, default_dir},
    tool::{MKFS_BTRFS, MKFS_EXT4, MKFS_XFS},
};

use super::{lab_disk, need_live, traced, traced_through};
use crate::matrix::{
    cells::{Cells, Shortfall, Tally, try_twice},
    requests::{compare, meet, mixed_load, nothing_leaks, ours, read_direct, settle, trim},
    ways::{Ground, ROUNDS, SIMPLE, WAYS, Way, count_way},
};

const FILESYSTEMS: [Filesystem; 3] = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs];

/// The schedulers, and the kernel's modules that contain them.
const SCHEDULERS: [(&str, &str); 4] =
    [("none", ""), ("mq-deadline", "mq-deadline"), ("kyber", "kyber-iosched"), ("bfq", "bfq")];

const DISK_BYTES: u64 = 1 << 30;

fn is_wanted(variable: &str, name: &str) -> bool {
    env::var(variable).map_or(true, |wanted| wanted.is_empty() || wanted == name)
}

/// The programs or modules that are missing for a filesystem here.
fn lack_of(filesystem: Filesystem) -> Option<String> {
    let name = filesystem.name();
    load_module(name);
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.trim() == name) {
        return Some(format!("this kernel has no {name}"));
    }
    let mkfs = match filesystem {
        Filesystem::Ext4 => MKFS_EXT4,
        Filesystem::Xfs => MKFS_XFS,
        Filesystem::Btrfs => MKFS_BTRFS,
    };
    mkfs.find().is_none().then(|| format!("`{}` is not installed", mkfs.name))
}

/// Loads a module unless it is built in; a missing one shows when it is used.
fn load_module(name: &str) {
    let _ = Command::new("modprobe").arg("-q").arg(name).status();
}

/// Every way to sync on a disk.
fn syncs(
    session: &mut Session,
    disk: &LoopDisk,
    filesystem: Filesystem,
    (ways, rounds): (&[Way], usize),
    tally: &mut Tally,
) -> Result<()> {
    let (mountpoint, device) = (disk.mountpoint(), disk.name());
    let ground = Ground { filesystem: filesystem.name(), mountpoint, device };
    for way in ways {
        match count_way(session, ground, way, rounds)? {
            Some(short) => tally.short.push(short),
            None => tally.syncs += rounds,
        }
    }
    Ok(())
}

/// Syncs and requests of all classes.
fn cell(session: &mut Session, disk: &LoopDisk, filesystem: Filesystem) -> Result<Tally> {
    let mut tally = Tally::default();
    let (requests, short) = compare(session, &[disk.name()], |session| {
        syncs(session, disk, filesystem, (&WAYS, ROUNDS), &mut tally)?;
        mixed_load(disk.mountpoint(), disk.device())?;
        trim(disk.mountpoint())
    })?;
    tally.requests = requests;
    tally.short.extend(short);
    nothing_leaks(session, disk.name())?;
    Ok(tally)
}

/// With iostats off the kernel counts nothing; the tracer still does.
fn uncounted(session: &mut Session, disk: &LoopDisk, filesystem: Filesystem) -> Result<Tally> {
    const READS: u64 = 64;
    let iostats = format!("/sys/block/{}/queue/iostats", disk.name());
    fs::write(&iostats, "0").with_context(|| format!("failed to write `{iostats}`"))?;
    let mut tally = Tally { requests: READS, ..Tally::default() };
    let result = syncs(session, disk, filesystem, (&WAYS, ROUNDS), &mut tally).and_then(|()| {
        settle(session, disk.name())?;
        let before = ours(session, disk.name()).reads;
        read_direct(disk.device(), READS)?;
        let seen = ours(session, disk.name()).reads - before;
        if seen != READS {
            let what = format!("of {READS} reads with iostats off we count {seen}");
            tally.short.push(Shortfall::wrong(what));
        }
        nothing_leaks(session, disk.name())
    });
    fs::write(&iostats, "1").with_context(|| format!("failed to write `{iostats}`"))?;
    result.map(|()| tally)
}

#[test]
fn cells() {
    need_live!();
    let folder = default_dir().expect("a folder on a block device");
    let mut cells = Cells::default();
    traced(|session| {
        for filesystem in FILESYSTEMS {
            let name = filesystem.name();
            if !is_wanted("TRACER_CELL_FS", name) {
                continue;
            }
            if let Some(lack) = lack_of(filesystem) {
                cells.skip(name, &lack);
                continue;
            }
            let disk = LoopDisk::create(&folder, DISK_BYTES, filesystem)
                .and_then(|disk| meet(session, disk.name()).map(|()| disk));
            let disk = match disk {
                Ok(disk) => disk,
                Err(error) => {
                    cells.fail(name, &format!("{error:#}"));
                    continue;
                }
            };
            for (scheduler, module) in SCHEDULERS {
                if !is_wanted("TRACER_CELL_SCHEDULER", scheduler) {
                    continue;
                }
                let named = format!("{name}, {scheduler}");
                if !module.is_empty() {
                    load_module(module);
                }
                if disk.set_scheduler(scheduler).is_err() {
                    cells.skip(&named, &format!("this kernel has no scheduler `{scheduler}`"));
                    continue;
                }
                let tally = try_twice(session, |session| cell(session, &disk, filesystem));
                cells.report(&named, session, tally);
            }
            if filesystem == Filesystem::Ext4 && is_wanted("TRACER_CELL_SCHEDULER", "none") {
                let tally =
                    disk.set_scheduler("none").and_then(|()| uncounted(session, &disk, filesystem));
                cells.report(&format!("{name}, none, iostats off"), session, tally);
            }
        }
    });
    cells.end();
}

/// Counts through a strategy that was asked for by name.
fn forced(session: &mut Session, disk: &LoopDisk) -> Result<Tally> {
    const FEW: usize = 3;
    meet(session, disk.name())?;
    let mut tally = Tally::default();
    let (requests, short) = compare(session, &[disk.name()], |session| {
        syncs(session, disk, Filesystem::Ext4, (&WAYS[..SIMPLE], FEW), &mut tally)
    })?;
    tally.requests = requests;
    tally.short.extend(short);
    nothing_leaks(session, disk.name())?;
    Ok(tally)
}

fn outcome(session: &Session, capability: Capability, strategy: &str) -> Result<Outcome> {
    let selection =
        session.selections().iter().find(|selection| selection.capability == capability);
    let strategies = selection.map_or(&[][..], |selection| &selection.strategies);
    match strategies.iter().find(|(name, _)| *name == strategy) {
        Some((_, outcome)) => Ok(outcome.clone()),
        None => bail!("`{capability}={strategy}` was not tried"),
    }
}

#[test]
fn forced_strategies() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let mut cells = Cells::default();
    for capability in Capability::ALL {
        for strategy in capability.strategies() {
            let named = format!("forced {capability}={}", strategy.name);
            let asked = Forced { capability, strategy: strategy.name };
            traced_through(vec![asked], |session| {
                match outcome(session, capability, strategy.name) {
                    Ok(Outcome::Selected) => {
                        let tally = forced(session, &disk);
                        cells.report(&named, session, tally);
                    }
                    Ok(Outcome::Untested(why)) => cells.fail(&named, &format!("untested: {why}")),
                    Ok(other) => cells.skip(&named, &other.to_string()),
                    Err(error) => cells.fail(&named, &format!("{error:#}")),
                }
            });
        }
    }
    cells.end();
}
