//! Compares the tracer's counts of block requests with the kernel's in `/sys/block/*/stat`.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::session::Session;
use tracer_ebpf::ledger::{Moment, tick};
use tracer_kernel::clock::monotonic_ns;
use tracer_lab::disk::read_stat;
use tracer_node::disks;
use tracer_snapshot::{Op, Snapshot};

use super::cells::{Missing, Shortfall};

/// Requests of one disk by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub reads: u64,
    /// With write-zeroes: the kernel counts them as writes.
    pub writes: u64,
    pub discards: u64,
    pub flushes: u64,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            discards: self.discards - before.discards,
            flushes: self.flushes - before.flushes,
        }
    }

    fn total(self) -> u64 {
        self.reads + self.writes + self.discards + self.flushes
    }
}

/// Requests of a class that the tracer has counted on a disk.
pub fn count(snapshot: &Snapshot, disk: &str, op: Op) -> u64 {
    let disk = snapshot.disks.iter().find(|d| d.name == disk);
    let latencies = disk.map_or(&[][..], |disk| &disk.latencies);
    latencies.iter().find(|l| l.op == op).map_or(0, |l| l.count)
}

/// The tracer's counts of a disk.
pub fn ours(session: &mut Session, disk: &str) -> Counts {
    let snapshot = session.snapshot();
    let count = |op| count(&snapshot, disk, op);
    Counts {
        reads: count(Op::Read),
        writes: count(Op::Write) + count(Op::WriteZeroes),
        discards: count(Op::Discard),
        flushes: count(Op::Flush),
    }
}

/// The kernel's counts of a disk.
pub fn theirs(disk: &str) -> Result<Counts> {
    let stat = read_stat(disk)?;
    Ok(Counts {
        reads: stat.reads,
        writes: stat.writes,
        discards: stat.discards,
        flushes: stat.flushes,
    })
}

/// Makes the tracer find a disk that appeared after it started: it looks for new disks when it
/// sees a request on an unknown one.
pub fn meet(session: &mut Session, disk: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        session.poll(None, &mut Vec::new());
        if session.snapshot().disks.iter().any(|d| d.name == disk) {
            return Ok(());
        }
        read_direct(&format!("/dev/{disk}"), 1)?;
        sleep(Duration::from_millis(20));
    }
    bail!("the tracer does not find `{disk}`")
}

/// Counts the requests that `load` makes on `disks`; returns their number, and the differences
/// between the two counts.
pub fn compare(
    session: &mut Session,
    disks: &[&str],
    load: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<(u64, Vec<Shortfall>)> {
    let mut before = Vec::new();
    for disk in disks {
        before.push(both(session, disk)?);
    }
    load(session)?;
    let (mut requests, mut short) = (0, Vec::new());
    for (disk, (ours_before, theirs_before)) in disks.iter().zip(before) {
        let (ours, theirs) = both(session, disk)?;
        let (ours, theirs) = (ours.since(ours_before), theirs.since(theirs_before));
        requests += theirs.total();
        if ours != theirs {
            let dropped = dropped(session);
            let what = format!(
                "on {disk} we count {ours:?} and the kernel {theirs:?}; dropped: {dropped}"
            );
            let all_but_writes = Counts { writes: theirs.writes, ..ours } == theirs;
            let missing = match all_but_writes && ours.writes < theirs.writes {
                true => Missing::Writes,
                false => Missing::Others,
            };
            short.push(Shortfall::uncounted(what, missing));
        }
    }
    Ok((requests, short))
}

/// Our counts and the kernel's at the same moment: a filesystem's own threads, such as
/// ext4lazyinit, may make requests between two readings.
fn both(session: &mut Session, disk: &str) -> Result<(Counts, Counts)> {
    for _ in 0..20 {
        settle(session, disk)?;
        let before = theirs(disk)?;
        let ours = ours(session, disk);
        if theirs(disk)? == before {
            return Ok((ours, before));
        }
    }
    bail!("`{disk}` was never idle for two readings")
}

/// The tracer's own list of what it dropped so far.
fn dropped(session: &mut Session) -> String {
    let counters = session.snapshot().dropped.counters.into_iter().filter(|(_, n)| *n > 0);
    let counts: Vec<_> = counters.map(|(kind, n)| format!("{kind} {n}")).collect();
    if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
}

/// Waits until flushers and journals have finished.
pub fn settle(session: &mut Session, disk: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    let mut before = read_stat(disk)?;
    while Instant::now() < end {
        sleep(Duration::from_millis(300));
        session.poll(None, &mut Vec::new());
        let now = read_stat(disk)?;
        if now == before && disks::inflight(Path::new("/"), disk) == Some((0, 0)) {
            return Ok(());
        }
        before = now;
    }
    bail!("`{disk}` does not become idle: {before:?}")
}

/// Checks that every account is back at zero, as the kernel's own count is, and that requests
/// were counted at all.
///
/// The kernel runs no program inside another run of it, so a completion in an interrupt is
/// missed now and then. These are reconciled, and there are hardly any.
pub fn nothing_leaks(session: &mut Session, disk: &str) -> Result<()> {
    settle(session, disk)?;
    let accounts = session.accounts_of(disk);
    let seen: u64 = accounts.iter().map(|(_, a)| a.requests).sum();
    ensure!(seen > 0, "nothing was seen on `{disk}`");
    let now = Moment::at(tick(monotonic_ns()));
    let missed: u64 = accounts.iter().map(|(_, a)| now.in_flight(a.word)).sum();
    let end = Instant::now() + RECONCILING;
    loop {
        let now = session.accounts_of(disk);
        let kept: Vec<_> = now.iter().filter(|(_, a)| a.word != 0).collect();
        if kept.is_empty() {
            break;
        }
        ensure!(Instant::now() < end, "still in flight on `{disk}`: {kept:?}");
        sleep(Duration::from_millis(100));
        session.poll(None, &mut Vec::new());
    }
    ensure!(
        missed <= 2 + seen / 10_000,
        "{missed} of {seen} completions were missed: {accounts:?}"
    );
    Ok(())
}

/// Reconciling waits until a request has certainly completed.
const RECONCILING: Duration = Duration::from_secs(6);

/// Makes writes, small syncs, and reads past the page cache.
pub fn mixed_load(mountpoint: &Path, device: &str) -> Result<()> {
    let path = mountpoint.join("mixed");
    // The files are small, because emulated machines are slow and only requests are counted.
    std::fs::write(&path, vec![0xa5; 8 << 20])
        .with_context(|| format!("failed to fill `{}`", path.display()))?;
    let mut file = File::options().read(true).write(true).open(&path)?;
    file.sync_all()?;
    for round in 0..25u64 {
        file.seek(SeekFrom::Start(round * 300_000))?;
        file.write_all(&[round as u8; 10_000])?;
        file.sync_data()?;
    }
    drop(file);
    let mut device = File::open(device).with_context(|| format!("failed to open `{device}`"))?;
    let mut buffer = vec![0; 1 << 20];
    for at in 0..16u64 {
        device.seek(SeekFrom::Start(at * (8 << 20)))?;
        device.read_exact(&mut buffer)?;
    }
    std::fs::remove_file(&path)?;
    run("sync", &["-f", &mountpoint.display().to_string()])
}

/// Discards the free space.
pub fn trim(mountpoint: &Path) -> Result<()> {
    run("fstrim", &[&mountpoint.display().to_string()])
}

/// Makes `reads` reads of 4 KiB past the page cache: each is one request.
pub fn read_direct(device: &str, reads: u64) -> Result<()> {
    #[repr(align(4096))]
    struct Page([u8; 4096]);

    let mut page = Page([0; 4096]);
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .with_context(|| format!("failed to open `{device}`"))?;
    for at in 0..reads {
        file.seek(SeekFrom::Start(at << 16))?;
        file.read_exact(&mut page.0).with_context(|| format!("failed to read `{device}`"))?;
    }
    Ok(())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("failed to start `{program}`"))?;
    ensure!(status.success(), "`{program} {}` failed ({status})", args.join(" "));
    Ok(())
}
