//! The self-test: known syncs, made by the tracer itself, must be seen.
//!
//! The inliner decides which hooks fire: the obvious one may attach without an
//! error and then miss every fdatasync. So [`perform`] writes to a file of its
//! own and syncs it in three ways, and [`judge`] looks for them in the records:
//! that tests the hooks of submissions (its requests), of issues and ends (their
//! times) and of syncs at once. Judging is pure; only performing touches a disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    statfs::{BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, statfs},
};
use serde::{Deserialize, Serialize};
use tracer_ebpf::record::{SyncRecord, kind};

use crate::capability::Capability;

/// Folders that the self-test may be made in, the likeliest first.
pub const FOLDERS: [&str; 5] = ["/var/lib", "/var/tmp", "/tmp", "/root", "."];

/// The place of the self-test.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ground {
    pub folder: PathBuf,
    /// The name of its disk, where the kernel gives one.
    pub disk: Option<String>,
    /// Whether its writes surely reach a disk of this kernel: an overlay may
    /// lie on memory.
    pub on_disk: bool,
}

/// The syncs that the self-test made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Performed {
    /// The thread, as `/proc` numbers it: others of this process may sync meanwhile.
    pub tid: u32,
    pub inode: u64,
}

/// The result of comparing the records with the syncs that were made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TestResult {
    /// The first capability whose hooks did not fire, and why we think so.
    pub failure: Option<(Capability, String)>,
    /// Whether the file was named in the kernel.
    pub named: bool,
    /// Whether a write to an O_DSYNC file was seen.
    pub o_dsync: bool,
}

/// Writes 4 KiB and fdatasyncs them, twice, then fsyncs, then writes to the
/// file opened with O_DSYNC; it is gone afterwards. Waits for the disk.
///
/// # Errors
///
/// When the folder cannot be written to, or `proc`, whose ids records bear, does not
/// know this thread.
pub fn perform(ground: &Ground, proc: &Path) -> io::Result<Performed> {
    let file = tempfile::tempfile_in(&ground.folder)?;
    sync_in_all_ways(&file)?;
    let inode = file.metadata()?.ino();
    Ok(Performed { tid: find_tid(proc)?, inode })
}

/// Makes the test on a file in memory, which keeps no disk busy: only hooks on calls
/// see that, and there are no requests.
///
/// # Errors
///
/// As [`perform`].
pub fn perform_in_memory(proc: &Path) -> io::Result<Performed> {
    let file = File::from(memfd_create(c"self-test", MFdFlags::MFD_CLOEXEC)?);
    sync_in_all_ways(&file)?;
    Ok(Performed { tid: find_tid(proc)?, inode: file.metadata()?.ino() })
}

/// This thread's id in the PID namespace that a `/proc` is of: it may be another than
/// ours.
///
/// # Errors
///
/// When it has none there.
pub fn find_tid(proc: &Path) -> io::Result<u32> {
    let link = proc.join("thread-self");
    let thread = fs::read_link(&link)?;
    let tid = thread.file_name().and_then(|tid| tid.to_str()?.parse().ok());
    tid.ok_or_else(|| io::Error::other(format!("`{}` names no thread", link.display())))
}

fn sync_in_all_ways(mut file: &File) -> io::Result<()> {
    for round in 0..3u8 {
        file.write_all(&[round; 4096])?;
        if round < 2 { file.sync_data()? } else { file.sync_all()? }
    }
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DSYNC).open(again)?.write_all(&[3; 4096])
}

/// Looks for the syncs that were performed; their block requests are asked for only where
/// the writes must have reached a disk.
pub fn judge(ground: &Ground, performed: Performed, records: &[SyncRecord]) -> TestResult {
    // If no hook in the kernel names a file, records have no inode.
    let own: Vec<_> = records
        .iter()
        .filter(|r| r.tid == performed.tid && (r.inode == performed.inode || r.inode == 0))
        .collect();
    let seen = |k: u32| own.iter().filter(|r| r.kind == k).count();
    let mut result = TestResult {
        failure: None,
        named: own.iter().all(|r| r.inode == performed.inode),
        o_dsync: seen(kind::OSYNC_WRITE) == 1,
    };
    let (data, full) = (seen(kind::FDATASYNC), seen(kind::FSYNC));
    // A hook below the system calls counts an O_DSYNC write as an fdatasync.
    if !(data == 2 || data == 3 && !result.o_dsync) || full != 1 {
        let why = format!("of its own 2 fdatasync and 1 fsync the tracer saw {data} and {full}");
        result.failure = Some((Capability::Sync, why));
        return result;
    }
    let requests: u32 = own.iter().map(|r| r.own_requests).sum();
    let device_ns: u64 = own.iter().map(|r| r.own_device_ns).sum();
    if ground.on_disk && (requests == 0 || device_ns == 0) {
        let why = "the block requests of the tracer's own sync were not seen".to_owned();
        result.failure = Some((Capability::Submit, why));
    }
    result
}

/// Whether the hooks must have seen all of a sync: its begin, its end, and a request's
/// submission, issue and completion. It is an fdatasync, since that is what a hook may miss
/// while it sees others.
pub fn is_proof(record: &SyncRecord) -> bool {
    record.kind == kind::FDATASYNC && record.own_requests > 0 && record.own_device_ns > 0
}

impl Ground {
    /// The one of [`perform_in_memory`].
    pub fn memory() -> Self {
        Self { folder: PathBuf::from("memory"), disk: None, on_disk: false }
    }

    /// Looks at a folder; `None` where it lies neither on a disk nor on an overlay.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at.
    pub fn find(folder: &Path) -> io::Result<Option<Self>> {
        let device = folder.metadata()?.dev();
        let ground = |on_disk, disk| Some(Self { folder: folder.to_owned(), disk, on_disk });
        let (major, minor) = (libc::major(device), libc::minor(device));
        let link = format!("/sys/dev/block/{major}:{minor}");
        if let Ok(place) = fs::canonicalize(link) {
            return Ok(ground(true, disk_name(&place)));
        }
        // btrfs has a device number for each subvolume, and no disk has that.
        Ok(match statfs(folder)?.filesystem_type() {
            BTRFS_SUPER_MAGIC => ground(true, None),
            OVERLAYFS_SUPER_MAGIC => ground(false, None),
            _ => None,
        })
    }
}

/// The disk by its place below /sys/devices; of a partition the one that it is on.
fn disk_name(place: &Path) -> Option<String> {
    let is_part = place.join("partition").exists();
    let disk = if is_part { place.parent()? } else { place };
    Some(disk.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    const DONE: Performed = Performed { tid: 7, inode: 12 };

    fn record(kind: u32, inode: u64, requests: u32) -> SyncRecord {
        let device_ns = u64::from(requests) * 1000;
        SyncRecord {
            tid: 7,
            inode,
            kind,
            own_requests: requests,
            own_device_ns: device_ns,
            ..SyncRecord::new_zeroed()
        }
    }

    fn check(
        on_disk: bool,
        kinds: &[u32],
        inode: u64,
        requests: u32,
        expected: (Option<Capability>, bool),
    ) {
        let ground = Ground { folder: PathBuf::new(), disk: None, on_disk };
        let records: Vec<_> = kinds.iter().map(|kind| record(*kind, inode, requests)).collect();
        let result = judge(&ground, DONE, &records);
        assert_eq!((result.failure.map(|(capability, _)| capability), result.o_dsync), expected);
        assert_eq!(result.named, inode != 0);
    }

    const ALL: [u32; 4] = [kind::FDATASYNC, kind::FDATASYNC, kind::FSYNC, kind::OSYNC_WRITE];

    #[test]
    fn everything_seen_proves_everything() {
        check(true, &ALL, 12, 1, (None, true));
    }

    #[test]
    fn an_unseen_fdatasync_is_a_failure() {
        check(true, &ALL[1..], 12, 1, (Some(Capability::Sync), true));
        check(true, &[], 12, 1, (Some(Capability::Sync), false));
    }

    #[test]
    fn an_fdatasync_with_its_requests_proves_the_hooks_and_nothing_else_does() {
        let check = |kind, requests, device_ns, expected| {
            let record = SyncRecord { own_device_ns: device_ns, ..record(kind, 12, requests) };
            assert_eq!(is_proof(&record), expected, "{kind} {requests} {device_ns}");
        };
        check(kind::FDATASYNC, 1, 1000, true);
        check(kind::FDATASYNC, 1, 0, false);
        check(kind::FDATASYNC, 0, 1000, false);
        check(kind::FSYNC, 1, 1000, false);
    }

    #[test]
    fn an_unseen_o_dsync_write_is_no_failure() {
        check(true, &ALL[..3], 12, 1, (None, false));
    }

    #[test]
    fn an_o_dsync_write_taken_for_an_fdatasync_is_no_failure() {
        check(true, &[ALL[0], ALL[1], ALL[2], ALL[0]], 12, 1, (None, false));
    }

    #[test]
    fn files_that_nothing_names_are_known_by_their_process() {
        check(true, &ALL[..3], 0, 1, (None, false));
    }

    #[test]
    fn submissions_are_proven_only_where_there_must_be_some() {
        check(true, &ALL, 12, 0, (Some(Capability::Submit), true));
        check(false, &ALL, 12, 0, (None, true));
    }
}
