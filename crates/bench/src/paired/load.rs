//! One load for the whole measurement. It keeps running while tracers come and go, and
//! is measured in windows.
//!
//! Two threads take turns on the stand's files: one makes random reads of 4 KiB past the
//! page cache, 16 at a time, the other writes 4 KiB at random offsets and calls fdatasync
//! after each. Their work is counted here, request by request; fio reports its figures
//! only when it ends. This module knows nothing of tracers.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use io_uring::{IoUring, opcode, types::Fd};

use super::order::Random;
use crate::fio::Stand;

const BLOCK: usize = 4096;
/// Reads that are submitted together; the next are submitted when all of them are done.
const DEPTH: usize = 16;
/// The largest number of syncs that a window can hold.
const MAX_SYNCS: usize = 1 << 20;

/// The thread that may work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    Reads,
    Syncs,
    End,
}

/// The work that was done in a window.
pub struct Window {
    pub length: Duration,
    pub reads: u64,
    /// The duration of each fdatasync in ns, the shortest first.
    pub syncs_ns: Vec<u64>,
}

impl Window {
    pub fn reads_per_second(&self) -> f64 {
        self.reads as f64 / self.length.as_secs_f64()
    }

    pub fn syncs_per_second(&self) -> f64 {
        self.syncs_ns.len() as f64 / self.length.as_secs_f64()
    }

    /// A percentile of the syncs' times in µs, by the nearest rank.
    pub fn sync_percentile_us(&self, per_cent: usize) -> Option<f64> {
        let rank = (self.syncs_ns.len() * per_cent).div_ceil(100);
        self.syncs_ns.get(rank.checked_sub(1)?).map(|ns| *ns as f64 / 1e3)
    }
}

/// The running load; it ends when dropped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

struct Shared {
    turn: Mutex<Turn>,
    changed: Condvar,
    reads: AtomicU64,
    syncs: Mutex<Syncs>,
}

#[derive(Default)]
struct Syncs {
    is_open: bool,
    ns: Vec<u64>,
}

/// A block that is aligned as direct IO requires.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

impl Load {
    pub fn start(stand: &Stand, seed: u64) -> Result<Self> {
        let reads = open(&stand.read_file(), OpenOptions::new().read(true), libc::O_DIRECT)?;
        let syncs = open(&stand.sync_file(), OpenOptions::new().write(true), 0)?;
        let shared = Arc::new(Shared {
            turn: Mutex::new(Turn::Syncs),
            changed: Condvar::new(),
            reads: AtomicU64::new(0),
            syncs: Mutex::default(),
        });
        let mut load = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let (ours, random) = (Arc::clone(&shared), Random::new(seed));
        load.spawn("load-reads", move || read(&ours, &reads, random))?;
        let random = Random::new(!seed);
        load.spawn("load-syncs", move || sync(&shared, &syncs, random))?;
        Ok(load)
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    pub fn turn_to(&self, turn: Turn) {
        *lock(&self.shared.turn) = turn;
        self.shared.changed.notify_all();
    }

    /// Counts the work of the thread that has the turn, from now on for `length`.
    pub async fn watch(&mut self, length: Duration) -> Result<Window> {
        self.shared.open_window();
        // Relaxed is enough: no other data is read because of this count.
        let before = self.shared.reads.load(Ordering::Relaxed);
        let begin = Instant::now();
        tokio::time::sleep(length).await;
        let reads = self.shared.reads.load(Ordering::Relaxed) - before;
        let mut syncs_ns = self.shared.close_window();
        let length = begin.elapsed();
        self.check_alive()?;
        syncs_ns.sort_unstable();
        Ok(Window { length, reads, syncs_ns })
    }

    /// # Errors
    ///
    /// One of the threads has ended; the error says why.
    fn check_alive(&mut self) -> Result<()> {
        let Some(ended) = self.threads.iter().position(JoinHandle::is_finished) else {
            return Ok(());
        };
        match self.threads.swap_remove(ended).join() {
            Ok(result) => result.and(Err(anyhow!("the load has ended before its time"))),
            Err(_) => bail!("a thread of the load panicked"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.turn_to(Turn::End);
        for thread in self.threads.drain(..) {
            // Its error was returned by `check_alive`, or is not needed any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn open_window(&self) {
        let mut syncs = lock(&self.syncs);
        syncs.ns.clear();
        syncs.ns.reserve(1 << 16);
        syncs.is_open = true;
    }

    fn close_window(&self) -> Vec<u64> {
        let mut syncs = lock(&self.syncs);
        syncs.is_open = false;
        std::mem::take(&mut syncs.ns)
    }

    /// Waits for this turn, or for the end of the load.
    fn wait_for(&self, wanted: Turn) -> Turn {
        let mut turn = lock(&self.turn);
        while *turn != wanted && *turn != Turn::End {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        *turn
    }

    fn is_turn_of(&self, wanted: Turn) -> bool {
        *lock(&self.turn) == wanted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path, options: &mut OpenOptions, flags: i32) -> Result<File> {
    let file = options.custom_flags(flags).open(path);
    file.with_context(|| format!("failed to open `{}`", path.display()))
}

/// The number of blocks that fit into a file.
fn count_blocks(file: &File) -> Result<usize> {
    let blocks = usize::try_from(file.metadata()?.len())? / BLOCK;
    if blocks == 0 { bail!("a file of the load is empty") } else { Ok(blocks) }
}

fn read(shared: &Shared, file: &File, mut random: Random) -> Result<()> {
    let blocks = count_blocks(file)?;
    let mut ring = IoUring::new(2 * DEPTH as u32).context("failed to set up io_uring")?;
    // The buffer is leaked: the kernel may still write to it after the ring is closed.
    let buffers: &'static mut [Block; DEPTH] =
        Box::leak(Box::new([const { Block([0; BLOCK]) }; DEPTH]));
    let buffers: Vec<*mut u8> = buffers.iter_mut().map(|block| block.0.as_mut_ptr()).collect();
    let mut free: Vec<usize> = (0..DEPTH).collect();
    while shared.wait_for(Turn::Reads) == Turn::Reads {
        loop {
            let is_on = shared.is_turn_of(Turn::Reads);
            while is_on && let Some(slot) = free.pop() {
                let at = random.below(blocks) * BLOCK;
                let entry = opcode::Read::new(Fd(file.as_raw_fd()), buffers[slot], BLOCK as u32)
                    .offset(at as u64)
                    .build()
                    .user_data(slot as u64);
                // SAFETY: the buffer is never freed, nothing else reads or
                // writes it, and only one read at a time has it.
                unsafe { ring.submission().push(&entry).context("the ring is full")? };
            }
            if free.len() == DEPTH {
                break;
            }
            // All reads are submitted together and waited for together. With a wake-up
            // for each completion, the load would switch at random between two
            // regimes, small batches and large ones.
            ring.submit_and_wait(DEPTH - free.len())?;
            let mut done = 0;
            for entry in ring.completion() {
                if entry.result() != BLOCK as i32 {
                    bail!("a read of the load ended with {}", entry.result());
                }
                free.push(usize::try_from(entry.user_data())?);
                done += 1;
            }
            shared.reads.fetch_add(done, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn sync(shared: &Shared, file: &File, mut random: Random) -> Result<()> {
    let blocks = count_blocks(file)?;
    let block = [0x5a; BLOCK];
    while shared.wait_for(Turn::Syncs) == Turn::Syncs {
        while shared.is_turn_of(Turn::Syncs) {
            file.write_all_at(&block, (random.below(blocks) * BLOCK) as u64)?;
            let begin = Instant::now();
            file.sync_data()?;
            let ns = u64::try_from(begin.elapsed().as_nanos())?;
            let mut syncs = lock(&shared.syncs);
            if syncs.is_open {
                if syncs.ns.len() == MAX_SYNCS {
                    bail!("the syncs are too short for a window of this length");
                }
                syncs.ns.push(ns);
            }
        }
    }
    Ok(())
}
