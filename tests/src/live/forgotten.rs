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

use tracer::session::Session;
use tracer_ebpf::dropped::Dropped;
use tracer_lab::disk::Filesystem;

use super::{block::dropped, lab_disk, need_live, traced};
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

#[test]
fn what_is_written_back_for_files_that_no_table_knows_is_counted() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let at = disk.mountpoint();
    // Others' files are older than the tracer as well.
    nix::unistd::sync();
    // Dirty before anybody looked.
    fs::write(at.join("before"), vec![1; BYTES]).unwrap();
    traced(|session| {
        let begun = unknown(session);
        write_back(at);
        let before = unknown(session);
        assert!(before >= begun + REQUESTS, "it is not known who it was: {begun}, {before}");
        // One that was made dirty since is known.
        fs::write(at.join("since"), vec![1; BYTES]).unwrap();
        write_back(at);
        let since = unknown(session);
        assert!(since < before + REQUESTS, "it is known who it was: {before}, {since}");
        // More at a time than there are entries.
        let many = at.join("many");
        fs::create_dir(&many).unwrap();
        for n in 0..MANY {
            fs::write(many.join(n.to_string()), [1]).unwrap();
        }
        write_back(at);
        let evicted = unknown(session);
        println!("{begun} at first, {before} from before, {since}, then {evicted}");
        assert!(evicted > since, "of {MANY} dirty files each is known: {since}, {evicted}");
        settle(session, disk.name()).unwrap();
    });
}
