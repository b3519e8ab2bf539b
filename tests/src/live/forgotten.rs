//! Writeback for files and bios that no table of the kernel programs knows.
//!
//! The kernel evicts entries without notice, and no table has what happened before the
//! tracer started. A lookup that finds nothing cannot distinguish the two, so both are
//! counted. What a kernel thread did for nobody who is known is not.

use std::{
    fs::{self, File},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use tracer::session::Session;
use tracer_disk_model::Model;
use tracer_ebpf::dropped::Dropped;
use tracer_kernel::capability::Capability;
use tracer_lab::{
    disk::{Filesystem, LoopDisk, read_stat},
    tool::FSTRIM,
};

use super::{
    block::{dropped, in_three_plays},
    lab_disk, need_live, traced,
};
use crate::{matrix::requests::settle, simulated::SimulatedDisk};

/// The number of files, which is more than the table of dirtiers has entries.
const MANY: usize = 40_000;

/// A file of this size takes at least this many requests.
const BYTES: usize = 64 << 20;
const REQUESTS: u64 = 25;

fn poll(session: &mut Session, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(50));
        session.poll(None, &mut Vec::new());
    }
}

/// Makes the flusher write back all of a filesystem.
fn write_back(at: &Path) {
    nix::unistd::syncfs(File::open(at).unwrap()).unwrap();
}

fn unknown(session: &mut Session) -> u64 {
    poll(session, Duration::from_millis(1500));
    dropped(&session.snapshot(), Dropped::DirtierUnknown)
}

/// Writes back all dirty data: first the filesystems on loop devices, then the files below
/// these devices, which the first step makes dirty.
fn sync_all() {
    nix::unistd::sync();
    nix::unistd::sync();
}

/// Plays once; returns an error if other files were written back meanwhile.
fn play() -> Result<()> {
    let disk = lab_disk(Filesystem::Ext4);
    let at = disk.mountpoint();
    // Other files were dirty before the tracer started, too.
    sync_all();
    // This file is dirty before the tracer starts.
    fs::write(at.join("before"), vec![1; BYTES])?;
    let mut result = Ok(());
    traced(|session| result = count(session, disk.name(), at));
    result
}

fn count(session: &mut Session, disk: &str, at: &Path) -> Result<()> {
    let begun = unknown(session);
    let stat = read_stat(disk)?;
    write_back(at);
    let bytes = 512 * (read_stat(disk)?.write_sectors - stat.write_sectors);
    ensure!(
        bytes >= BYTES as u64,
        "only {bytes} bytes were left: the kernel wrote the rest before"
    );
    let before = unknown(session);
    ensure!(before >= begun + REQUESTS, "it is not known who it was: {begun}, {before}");
    // The dirtier of a file is known if the tracer was running.
    fs::write(at.join("since"), vec![1; BYTES])?;
    write_back(at);
    let since = unknown(session);
    ensure!(since < before + REQUESTS, "it is known who it was: {before}, {since}");
    // More files are dirty at a time than the table has entries.
    let many = at.join("many");
    fs::create_dir(&many)?;
    for n in 0..MANY {
        fs::write(many.join(n.to_string()), [1])?;
    }
    write_back(at);
    let evicted = unknown(session);
    println!("{begun} at first, {before} from before, {since}, then {evicted}");
    ensure!(evicted > since, "of {MANY} dirty files each is known: {since}, {evicted}");
    settle(session, disk)
}

/// The kernel may write back this disk's files, and others', at any time. If it did, the test
/// is played again; a fault of the tracer occurs every time.
#[test]
fn what_is_written_back_for_files_that_no_table_knows_is_counted() {
    need_live!();
    let said = || play().inspect_err(|error| println!("{error:#}"));
    in_three_plays(said).unwrap();
}

/// Extents of each file, and their length.
const EXTENTS: i64 = 400;
const EXTENT_BYTES: i64 = 64 << 10;

/// Gives two files their extents in turns, so that no two of one file lie beside each other.
fn interleave(files: [&File; 2]) -> Result<()> {
    for number in 0..EXTENTS {
        for file in files {
            let at = number * EXTENT_BYTES;
            fallocate(file, FallocateFlags::empty(), at, EXTENT_BYTES)?;
        }
    }
    Ok(files[0].sync_all()?)
}

/// Deletes a file, and waits until its space is discarded and the hooks on that are there.
fn delete(session: &mut Session, folder: &Path) -> Result<()> {
    for _ in 0..10 {
        let file = folder.join("deleted");
        fs::write(&file, vec![1; 1 << 20])?;
        write_back(folder);
        fs::remove_file(&file)?;
        write_back(folder);
        poll(session, Duration::from_secs(1));
        if session.is_attached(Capability::Writeback) {
            return Ok(());
        }
    }
    anyhow::bail!("no kernel thread was seen to discard")
}

/// A disk in a file of a filesystem that discards: `fstrim` discards what is free on it, and the
/// loop device's worker frees what the file had there.
fn discard_below(session: &mut Session, disk: &SimulatedDisk) -> Result<()> {
    let folder = disk.mountpoint();
    let (image, other) = (folder.join("image"), folder.join("other"));
    let file = File::create(&image)?;
    interleave([&file, &File::create(&other)?])?;
    file.set_len(128 << 20)?;
    delete(session, folder)?;
    let above = LoopDisk::over(&image, &folder.join("above"), Filesystem::Ext4, &[])?;
    let (before, stat) = (unknown(session), disk.disk().stat()?);
    FSTRIM.run(&[&above.mountpoint().to_string_lossy()])?;
    write_back(folder);
    let after = unknown(session);
    drop(above);
    let discards = disk.disk().stat()?.discards - stat.discards;
    println!("{discards} discards, {} of an unknown owner", after - before);
    ensure!(discards >= EXTENTS as u64 / 2, "only {discards} discards");
    ensure!(after < before + discards / 10, "{before} before, {after} after {discards} discards");
    Ok(())
}

#[test]
fn what_a_loop_devices_worker_frees_is_nobodys_and_not_counted() {
    need_live!();
    let play = || -> Result<()> {
        let disk = SimulatedDisk::create(Filesystem::Ext4)?;
        disk.become_another(&Model { discard: Duration::from_millis(1), ..Model::default() })?;
        disk.mount_with("discard")?;
        traced(|session| discard_below(session, &disk))
    };
    in_three_plays(|| play().inspect_err(|error| println!("{error:#}"))).unwrap();
}
