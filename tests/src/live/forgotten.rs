//! Work for files and bios that no table of the kernel programs knows.
//!
//! The kernel evicts entries without notice, and no table has what happened before the
//! tracer came. A lookup that finds nothing cannot distinguish the two, so it counts both.

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

/// More files than the table of who made files dirty has entries.
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

/// Has the flusher write back all of a filesystem.
fn write_back(at: &Path) {
    nix::unistd::syncfs(File::open(at).unwrap()).unwrap();
}

fn unknown(session: &mut Session) -> u64 {
    poll(session, Duration::from_millis(1500));
    dropped(&session.snapshot(), Dropped::DirtierUnknown)
}

/// Writes back all that is dirty: first the filesystems of loop devices, then the files
/// below these, which that has made dirty.
fn sync_all() {
    nix::unistd::sync();
    nix::unistd::sync();
}

/// One play; an error where anything else's files were written back meanwhile.
fn play() -> Result<()> {
    let disk = lab_disk(Filesystem::Ext4);
    let at = disk.mountpoint();
    // Others' files are older than the tracer as well.
    sync_all();
    // Dirty before anybody looked.
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
    ensure!(bytes >= BYTES as u64, "only {bytes} bytes were left: the kernel came first");
    let before = unknown(session);
    ensure!(before >= begun + REQUESTS, "it is not known who it was: {begun}, {before}");
    // One that was made dirty since is known.
    fs::write(at.join("since"), vec![1; BYTES])?;
    write_back(at);
    let since = unknown(session);
    ensure!(since < before + REQUESTS, "it is known who it was: {before}, {since}");
    // More at a time than there are entries.
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

/// The kernel writes back files of other disks, and this one's, when it likes to. So a
/// play in which it did is not the last; what the tracer does wrong comes each time.
#[test]
fn what_is_written_back_for_files_that_no_table_knows_is_counted() {
    need_live!();
    let said = || play().inspect_err(|error| println!("{error:#}"));
    in_three_plays(said).unwrap();
}
