//! Writeback for files and bios that no table of the kernel programs knows.
//!
//! The kernel evicts entries without notice, and no table has what happened before the
//! tracer started. A lookup that finds nothing cannot distinguish the two, so both are
//! counted.

use std::{
    fs::{self, File},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tracer::session::Session;
use tracer_ebpf::dropped::Dropped;
use tracer_lab::disk::{Filesystem, read_stat};

use super::{
    block::{dropped, in_three_plays},
    lab_disk, need_live, traced,
};
use crate::matrix::requests::settle;

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
