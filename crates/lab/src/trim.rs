//! The first culprit: `fstrim`, again and again.
//!
//! Two preparations give each round real work. ext4 remembers which groups it has
//! trimmed, and skips them. So before each round a file that fills nearly all free
//! space is preallocated and deleted, which makes all groups due again without writing
//! data. And a discard costs nothing if its range is a hole already, and little if it
//! is a single long extent on a fast machine. So before each round the image gets
//! blocks in small pieces, as images of thin disks have after some use. Each discard
//! then frees hundreds of extents in the backing filesystem, and the loop device does
//! nothing else in that time.
//!
//! The cost of a piece differs by a factor of a hundred between machines (it is highest
//! if the backing filesystem discards too and has no journal). So `prepare` finds out
//! how small the pieces must be, and how many `fstrim` must run at once, each on its
//! part of the disk.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::{fstatvfs, statvfs},
    unistd::syncfs,
};

use crate::{
    cgroup::Cgroup,
    disk::{self, LoopDisk},
    process::Process,
    tool::{self, FSTRIM},
};

/// Sizes of pieces, from large to small; random writes of a database make pieces of 16 KiB.
const PIECES: [u64; 6] = [8 << 20, 2 << 20, 512 << 10, 128 << 10, 32 << 10, 16 << 10];
/// If a discard takes this long, smaller pieces are not tried.
const LONG: Duration = Duration::from_millis(4);
/// The wanted total service time of the discards in flight. A sync makes three or four
/// requests one after another, and each waits for this long.
const QUEUED: Duration = Duration::from_millis(16);
/// The largest number of `fstrim` at a time.
const AT_ONCE: u32 = 8;
/// Free space that the preallocated file leaves to others.
const LEFT: u64 = 512 << 20;
/// Within this time, the victims' own commits free the space of the deleted file.
const PAUSE: Duration = Duration::from_millis(50);

/// Trims one disk on request.
#[derive(Debug)]
pub struct Trim {
    rounds: Arc<Rounds>,
    running: Option<JoinHandle<Result<TrimWork>>>,
}

/// The bytes that were trimmed between start and stop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TrimWork {
    pub rounds: u32,
    pub discards: u64,
    pub discarded_bytes: u64,
    /// Sum over the discards.
    pub discarding: Duration,
}

#[derive(Debug)]
struct Rounds {
    mountpoint: PathBuf,
    image: File,
    device: String,
    cgroup: Cgroup,
    piece: u64,
    at_once: u32,
    stop: AtomicBool,
}

impl Trim {
    /// Finds out how to make discards take long on this machine. It takes a few seconds, and
    /// loads the disk.
    pub fn prepare(disk: &LoopDisk, cgroup: &Cgroup) -> Result<Trim> {
        let image = File::options()
            .write(true)
            .open(disk.image())
            .with_context(|| format!("failed to open `{}`", disk.image().display()))?;
        let vfs = fstatvfs(&image).context("failed to read the state of the image's filesystem")?;
        let (free, size) = (vfs.blocks_available() * vfs.fragment_size(), image.metadata()?.len());
        if free < size / 2 + LEFT {
            bail!("trimming needs {} MiB free below `{}`", (size / 2 + LEFT) >> 20, disk.name());
        }
        let mut rounds = Rounds {
            mountpoint: disk.mountpoint().to_owned(),
            image,
            device: disk.name().to_owned(),
            cgroup: cgroup.clone(),
            piece: 0,
            at_once: 1,
            stop: AtomicBool::new(false),
        };
        let mut discards = 0;
        for piece in PIECES {
            rounds.piece = piece;
            rounds.make_due()?;
            rounds.sync()?;
            let work = rounds.measure(|rounds| rounds.trim(&[(0, size)]))?;
            discards += work.discards;
            let at_once = QUEUED.as_micros().div_ceil(work.mean().as_micros().max(1));
            rounds.at_once = u32::try_from(at_once).unwrap_or(AT_ONCE).clamp(1, AT_ONCE);
            if work.mean() >= LONG {
                break;
            }
        }
        if discards == 0 {
            bail!(
                "`{}` accepts no discards: is its directory on tmpfs or an overlay?",
                disk.name()
            );
        }
        rounds.make_due()?;
        rounds.sync()?;
        Ok(Trim { rounds: Arc::new(rounds), running: None })
    }

    /// The size of the pieces that `prepare` chose.
    pub fn piece_bytes(&self) -> u64 {
        self.rounds.piece
    }

    /// The number of `fstrim` that run at the same time.
    pub fn at_once(&self) -> u32 {
        self.rounds.at_once
    }

    /// Starts trimming in the background, if it is not running.
    pub fn start(&mut self) -> Result<()> {
        if self.running.is_none() {
            self.rounds.stop.store(false, Relaxed);
            let rounds = Arc::clone(&self.rounds);
            let thread = thread::Builder::new().name("lab-trim".into());
            self.running = Some(thread.spawn(move || rounds.measure(Rounds::go_on))?);
        }
        Ok(())
    }

    /// Ends the running `fstrim`, and returns what was trimmed since `start`.
    pub fn stop(&mut self) -> Result<TrimWork> {
        let Some(running) = self.running.take() else { return Ok(TrimWork::default()) };
        self.rounds.stop.store(true, Relaxed);
        running.join().map_err(|_| anyhow!("the thread that trims panicked"))?
    }
}

impl Drop for Trim {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("lab: {error:#}");
        }
    }
}

impl TrimWork {
    /// The mean duration of a discard.
    pub fn mean(&self) -> Duration {
        u32::try_from(self.discards).map_or(Duration::ZERO, |n| self.discarding / n.max(1))
    }
}

impl Rounds {
    fn go_on(&self) -> Result<u32> {
        let parts = self.parts()?;
        let mut rounds = 0;
        while !self.stop.load(Relaxed) {
            let before = disk::read_stat(&self.device)?.discards;
            rounds += self.trim(&parts)?;
            let idle = disk::read_stat(&self.device)?.discards == before;
            self.make_due()?;
            if idle {
                // Nothing else commits this disk's journal now.
                self.sync()?;
            }
            thread::sleep(PAUSE);
        }
        Ok(rounds)
    }

    /// The offset and length of each `fstrim`'s part.
    fn parts(&self) -> Result<Vec<(u64, u64)>> {
        let length = self.image.metadata()?.len() / u64::from(self.at_once);
        Ok((0..u64::from(self.at_once)).map(|part| (part * length, length)).collect())
    }

    /// Measures what `work`, which returns its number of rounds, does to the disk.
    fn measure(&self, work: impl FnOnce(&Rounds) -> Result<u32>) -> Result<TrimWork> {
        let before = disk::read_stat(&self.device)?;
        let rounds = work(self)?;
        let after = disk::read_stat(&self.device)?;
        Ok(TrimWork {
            rounds,
            discards: after.discards.saturating_sub(before.discards),
            discarded_bytes: after.discard_sectors.saturating_sub(before.discard_sectors) * 512,
            discarding: Duration::from_millis(after.discard_ms.saturating_sub(before.discard_ms)),
        })
    }

    /// Runs one round: an `fstrim` for each part, all at once.
    fn trim(&self, parts: &[(u64, u64)]) -> Result<u32> {
        let mut trims = Vec::new();
        for (offset, length) in parts {
            let mut command = FSTRIM.command()?;
            command.args(["--offset", &offset.to_string(), "--length", &length.to_string()]);
            command.arg(&self.mountpoint);
            trims.push(Process::spawn(command, &self.cgroup)?);
        }
        for mut process in trims {
            let ended = loop {
                if let Some(ended) = process.wait(Duration::from_millis(20)) {
                    break Some(ended);
                }
                if self.stop.load(Relaxed) {
                    process.stop(Duration::ZERO)?;
                    break None;
                }
            };
            if let Some(ended) = ended.filter(|ended| !ended.status.success()) {
                bail!("`fstrim` failed ({}): {}", ended.status, tool::last_line(&ended.stderr));
            }
        }
        Ok(1)
    }

    /// Gives the next round work: free space that the filesystem has not trimmed yet, with
    /// blocks of the image behind it.
    fn make_due(&self) -> Result<()> {
        let vfs =
            statvfs(&self.mountpoint).context("failed to read the free space of the lab's disk")?;
        let free = vfs.blocks_available() * vfs.fragment_size();
        let length = free.saturating_sub(LEFT.min(free / 4));
        let path = self.mountpoint.join("deleted");
        let file =
            File::create(&path).with_context(|| format!("failed to make `{}`", path.display()))?;
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(length)?);
        fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
        allocated.with_context(|| format!("failed to preallocate `{}`", path.display()))?;
        drop(file);

        let size = self.image.metadata()?.len();
        let until = Instant::now() + Duration::from_secs(30);
        for at in (0..size).step_by(usize::try_from(2 * self.piece)?) {
            let length = self.piece.min(size - at);
            let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&self.image, flags, i64::try_from(at)?, i64::try_from(length)?)
                .context("failed to allocate blocks behind the lab's disk")?;
            if Instant::now() > until || self.stop.load(Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let root = File::open(&self.mountpoint).context("failed to open the lab's disk")?;
        syncfs(&root).context("failed to sync the lab's disk")
    }
}
