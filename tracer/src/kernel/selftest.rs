//! The self-test: a known sync, made by the tracer itself, must be seen.
//!
//! The inliner decides which hooks fire: the obvious one may attach without an
//! error and then miss every fdatasync. So [`perform`] writes to a file of its
//! own and syncs it both ways, and [`judge`] looks for it in the records: that
//! proves the hooks of births (its requests), of issues and ends (their times)
//! and of syncs at once. Judging is pure; only performing touches a disk.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tracer_ebpf::record::{SyncRecord, kind};

/// What the self-test did.
#[derive(Clone, Copy, Debug)]
pub struct Performed {
    pub tgid: u32,
    pub inode: u64,
}

/// Why a capability's rung failed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    pub capability: &'static str,
    pub why: String,
}

/// Writes 4 KiB and fdatasyncs them, twice, and then fsyncs, in a file of its
/// own that is gone afterwards.
///
/// # Errors
///
/// When the folder cannot be written to.
pub fn perform(folder: &Path) -> Result<Performed> {
    let path = folder.display();
    let file = tempfile::tempfile_in(folder)
        .with_context(|| format!("failed to make a file for the self-test in `{path}`"))?;
    let write = |mut file: &File| -> std::io::Result<()> {
        for round in 0..3u8 {
            file.write_all(&[round; 4096])?;
            if round < 2 { file.sync_data()? } else { file.sync_all()? }
        }
        Ok(())
    };
    write(&file).with_context(|| format!("failed to write for the self-test in `{path}`"))?;
    let inode = file.metadata().context("failed to stat the self-test's own file")?.ino();
    Ok(Performed { tgid: std::process::id(), inode })
}

/// What the records say of what was performed: the capabilities whose hooks
/// did not fire.
pub fn judge(performed: Performed, records: &[SyncRecord]) -> Vec<Failure> {
    let own = |r: &&SyncRecord| r.tgid == performed.tgid && r.inode == performed.inode;
    let seen = |k: u32| records.iter().filter(own).filter(|r| r.kind == k).count();
    let (data, full) = (seen(kind::FDATASYNC), seen(kind::FSYNC));
    let mut failures = Vec::new();
    if (data, full) != (2, 1) {
        failures.push(Failure {
            capability: "sync",
            why: format!("of its own 2 fdatasync and 1 fsync the tracer saw {data} and {full}"),
        });
        return failures;
    }
    let ios: u32 = records.iter().filter(own).map(|r| r.own_ios).sum();
    let device_ns: u64 = records.iter().filter(own).map(|r| r.own_device_ns).sum();
    if ios == 0 || device_ns == 0 {
        failures.push(Failure {
            capability: "birth",
            why: "the block requests of the tracer's own sync were not seen".to_owned(),
        });
    }
    failures
}

/// A folder on a filesystem that a block device carries, for the self-test.
pub fn find_folder() -> Option<PathBuf> {
    let candidates = ["/var/lib", "/var/tmp", "/tmp", "/root", "."];
    candidates.iter().map(PathBuf::from).find(|folder| {
        let Ok(metadata) = folder.metadata() else { return false };
        let device = metadata.dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists()
            && tempfile::tempfile_in(folder).is_ok()
    })
}
