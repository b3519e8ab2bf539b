//! A replacement for etcd, if that is not installed: a thread that writes as etcd writes
//! its WAL, to files with the same names.
//!
//! Like etcd it preallocates 64 MiB, appends to the file, and calls fdatasync after each
//! record, so each sync also commits the filesystem's journal.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::fcntl::{FallocateFlags, fallocate};

use crate::pace::{Pace, PacedWork};

const SEGMENT_BYTES: u64 = 64 << 20;
const RECORD_BYTES: u64 = 2 << 10;

/// Appends that run in the background until stopped or dropped.
#[derive(Debug)]
pub struct WalWriter {
    // The thread ends before its files are removed.
    pace: Option<Pace>,
    member: PathBuf,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    sequence: u64,
    at: u64,
}

impl WalWriter {
    /// Starts to append `per_second` records to `<data_dir>/member/wal`.
    pub fn start(data_dir: &Path, per_second: u32) -> Result<WalWriter> {
        let member = data_dir.join("member");
        let folder = member.join("wal");
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make `{}`", folder.display()))?;
        let mut writer = WalWriter { pace: None, member };
        let mut segment = Segment::create(&folder, 0)?;
        let step = move || segment.append();
        writer.pace = Some(Pace::start("lab-wal", per_second, vec![step])?);
        Ok(writer)
    }

    /// Returns the appends since the last `drain`, and resets them. A latency covers the
    /// write and its fdatasync.
    pub fn drain(&self) -> PacedWork {
        self.pace.as_ref().map(Pace::drain).unwrap_or_default()
    }

    pub fn stop(mut self) -> PacedWork {
        self.pace.take().map(Pace::stop).unwrap_or_default()
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.pace = None;
        if let Err(error) = fs::remove_dir_all(&self.member) {
            eprintln!("lab: failed to remove `{}`: {error}", self.member.display());
        }
    }
}

impl Segment {
    fn create(folder: &Path, sequence: u64) -> Result<Segment> {
        // etcd's second number is the index of the first record.
        let index = sequence * (SEGMENT_BYTES / RECORD_BYTES);
        let path = folder.join(format!("{sequence:016x}-{index:016x}.wal"));
        let file =
            File::create(&path).with_context(|| format!("failed to make `{}`", path.display()))?;
        fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(SEGMENT_BYTES)?)
            .with_context(|| format!("failed to preallocate `{}`", path.display()))?;
        file.sync_all().with_context(|| format!("failed to sync `{}`", path.display()))?;
        Ok(Segment { file, path, sequence, at: 0 })
    }

    fn append(&mut self) -> Result<()> {
        if self.at + RECORD_BYTES > SEGMENT_BYTES {
            let folder = self.path.parent().context("a segment has no directory")?;
            let next = Segment::create(folder, self.sequence + 1)?;
            fs::remove_file(&self.path)
                .with_context(|| format!("failed to remove `{}`", self.path.display()))?;
            *self = next;
        }
        self.file
            .write_all_at(&[0x77; RECORD_BYTES as usize], self.at)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("failed to append to `{}`", self.path.display()))?;
        self.at += RECORD_BYTES;
        Ok(())
    }
}
