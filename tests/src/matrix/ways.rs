//! The ways to sync; the tracer must see each once per call.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, opcode, types::Fd};
use tracer::session::Session;
use tracer_kernel::{capability::Capability, strategies::Selection};
use tracer_snapshot::{FileClass, SlowSync};

use super::cells::Shortfall;

/// The number of syncs in each way.
pub const ROUNDS: usize = 7;

/// All calls are hooked within a tick or two after the hooks become necessary.
const CALLS_WITHIN: Duration = Duration::from_secs(10);

/// A way to sync: its name in records, and a function that syncs a file with new data.
pub struct Way {
    pub kind: &'static str,
    sync: fn(&Path, &File) -> io::Result<()>,
    /// Whether the measured time contains only the sync.
    exact: bool,
    /// Whether ext4's own tracepoints mark its begin and end.
    by_ext4: bool,
}

pub const WAYS: [Way; 7] = [
    Way { kind: "fsync", sync: |_, file| file.sync_all(), exact: true, by_ext4: true },
    Way { kind: "fdatasync", sync: |_, file| file.sync_data(), exact: true, by_ext4: true },
    Way { kind: "sync_file_range", sync: sync_file_range, exact: true, by_ext4: false },
    Way { kind: "msync", sync: msync, exact: false, by_ext4: true },
    Way { kind: "syncfs", sync: syncfs, exact: true, by_ext4: false },
    Way { kind: "o_dsync write", sync: write_synchronously, exact: false, by_ext4: true },
    Way { kind: "io_uring", sync: io_uring_fsync, exact: false, by_ext4: true },
];

/// The ways that are one system call each.
pub const SIMPLE: usize = 5;

/// The place where files are synced, and its names in the tracer's output.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    pub filesystem: &'a str,
    pub mountpoint: &'a Path,
    /// The name that the tracer shows.
    pub device: &'a str,
}

/// Syncs a file of its own `rounds` times in one way.
///
/// # Errors
///
/// A sync fails, or the tracer contradicts what was measured.
pub fn count_way(
    session: &mut Session,
    ground: Ground<'_>,
    way: &Way,
    rounds: usize,
) -> Result<Option<Shortfall>> {
    let Ground { filesystem, mountpoint, device } = ground;
    let kind = way.kind;
    let path = mountpoint.join(kind.replace(' ', "-"));
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to make `{}`", path.display()))?;
    file.set_len(8192)?;
    await_calls(session, filesystem == "ext4" && way.by_ext4, || {
        file.write_all(&[0; 4096])?;
        (way.sync)(&path, &file)
    })
    .with_context(|| format!("before {kind} on {filesystem}"))?;
    own_syncs(session);
    let mut took = Vec::new();
    for round in 0..rounds {
        file.write_all(&[round as u8; 4096])?;
        let begin = Instant::now();
        (way.sync)(&path, &file).with_context(|| format!("{kind} on {filesystem} failed"))?;
        took.push(begin.elapsed());
    }
    let syncs = own_syncs(session);
    if syncs.len() != rounds || syncs.iter().any(|sync| sync.kind != kind) {
        let kinds: Vec<_> = syncs.iter().map(|sync| sync.kind).collect();
        let what = format!("of {rounds} {kind} calls on {filesystem}, these were seen: {kinds:?}");
        return Ok(Some(Shortfall::unseen(what, kind, filesystem)));
    }
    let mut close = 0;
    for (sync, took) in syncs.iter().zip(took) {
        let took = took.as_secs_f64();
        ensure!(phases_add_up(sync), "the phases of a {kind} do not add up: {sync:?}");
        ensure!(sync.duration_seconds <= took, "a {kind} of {took} s is too long: {sync:?}");
        let place = if kind == "syncfs" { mountpoint } else { &path };
        let class_fits = kind != "syncfs" || sync.class == FileClass::Filesystem;
        if sync.device != device || Path::new(&sync.path) != place || !class_fits {
            let shown = format!("`{}` on `{}`, {:?}", sync.path, sync.device, sync.class);
            let what =
                format!("a {kind} of `{}` on `{device}` is shown as {shown}", place.display());
            return Ok(Some(match (kind, sync.path.as_str()) {
                ("msync", "") => Shortfall::unnamed(what, filesystem),
                _ => Shortfall::wrong(what),
            }));
        }
        // On each side there are a hook and a clock reading.
        if sync.duration_seconds >= took * 0.9 - clock_slack().as_secs_f64() {
            close += 1;
        }
    }
    // Now and then the test itself is preempted between its clock reading and the call.
    ensure!(!way.exact || close + 2 >= rounds, "{kind}: {close} of {rounds} were as long as ours");
    Ok(None)
}

/// If all calls are hooked only on demand, a filesystem other than ext4, or the
/// first syncs that ext4 does not mark, make the hooks needed.
fn await_calls(
    session: &mut Session,
    by_ext4: bool,
    mut sync: impl FnMut() -> io::Result<()>,
) -> Result<()> {
    let serves =
        session.selections().iter().find(|selection| selection.capability == Capability::Sync);
    if by_ext4 || serves.and_then(Selection::selected) != Some("tracepoint") {
        return Ok(());
    }
    let begin = Instant::now();
    while !session.is_attached(Capability::Sync) {
        ensure!(
            begin.elapsed() < CALLS_WITHIN,
            "the system calls have no hook after {CALLS_WITHIN:?}"
        );
        sync()?;
        thread::sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
    }
    Ok(())
}

/// The largest time that two clock readings and the hooks may take between our clock and the
/// sync. An emulated machine is tens of times slower.
fn clock_slack() -> Duration {
    Duration::from_micros(if crate::guest::is_guest() { 1_000 } else { 20 })
}

/// The syncs of this process since the last look.
pub fn own_syncs(session: &mut Session) -> Vec<SlowSync> {
    let mut syncs = Vec::new();
    session.poll(Some(0), &mut syncs);
    let own = std::process::id();
    syncs.retain(|s| s.actor.tgid == own);
    syncs
}

/// Whether the phases of a sync add up to its length, within a hundredth.
pub fn phases_add_up(sync: &SlowSync) -> bool {
    let off = (sync.phases.total() - sync.duration_seconds).abs();
    off <= 0.01 * sync.duration_seconds
}

fn ok(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn sync_file_range(_: &Path, file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open, and the call takes no pointers.
    ok(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) })
}

fn syncfs(_: &Path, file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the call takes no pointers.
    ok(unsafe { libc::syncfs(file.as_raw_fd()) })
}

fn msync(_: &Path, file: &File) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_raw_fd();
    // SAFETY: this is a new mapping of one page of a file that is longer than that; it is
    // written to, synced and unmapped only here.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, fd, 0);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        page.cast::<u8>().write(page.cast::<u8>().read().wrapping_add(1));
        ok(libc::msync(page, 4096, libc::MS_SYNC))?;
        ok(libc::munmap(page, 4096))
    }
}

fn write_synchronously(path: &Path, _: &File) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(path);
    file?.write_all(&[7; 4096])
}

fn io_uring_fsync(_: &Path, file: &File) -> io::Result<()> {
    let mut ring = IoUring::new(2)?;
    let entry = opcode::Fsync::new(Fd(file.as_raw_fd())).build();
    // SAFETY: the file is open until the operation is waited for below.
    unsafe { ring.submission().push(&entry).map_err(io::Error::other)? };
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().ok_or_else(|| io::Error::other("no completion"))?;
    if done.result() == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-done.result())) }
}
