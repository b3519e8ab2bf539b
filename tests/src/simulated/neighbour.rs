//! Plays a neighbour of a timeline as a process: it makes the same requests at the same rate to
//! a file on the simulated disk.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tracer_timelines::{
    dice::Dice,
    timeline::{Does, Stream},
};

use super::parts::keep_pace;

const FILE_BYTES: u64 = 64 << 20;
/// The size of blocks, and the alignment of memory for requests past the page cache.
const BLOCK: usize = 4096;

/// Lays its file out, so that no request finds a hole.
pub fn prepare(path: &Path) -> Result<()> {
    let piece = vec![0x33; 1 << 20];
    let mut file = File::create(path).with_context(|| format!("no `{}`", path.display()))?;
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

/// Makes requests until it is stopped.
pub fn ask(path: &Path, stream: Stream) -> Result<()> {
    let per_second = stream.per_second.unwrap_or(u64::MAX);
    if stream.does == Does::BufferedWrite {
        return write_buffered(path, stream.bytes, per_second);
    }
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = Arc::new(options.open(path)?);
    let each = Duration::from_secs(1) * stream.deep as u32 / per_second.clamp(1, 1 << 30) as u32;
    let workers: Vec<_> = (0..stream.deep as u64)
        .map(|worker| {
            let file = Arc::clone(&file);
            thread::spawn(move || work(&file, stream, each, Dice(worker)))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a worker panicked"))??;
    }
    Ok(())
}

/// Makes one request at a time, about this far apart; a late one is not made up for.
fn work(file: &File, stream: Stream, each: Duration, mut dice: Dice) -> Result<()> {
    let length = stream.bytes as usize;
    let mut memory = vec![0x55; length + BLOCK];
    let from = memory.as_ptr().align_offset(BLOCK);
    let piece = &mut memory[from..from + length];
    let mut due = Instant::now() + each.mul_f64(dice.chance());
    loop {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = dice.throw() % (FILE_BYTES / stream.bytes) * stream.bytes;
        match stream.does {
            Does::Read => file.read_exact_at(piece, at)?,
            _ => file.write_all_at(piece, at)?,
        }
        if stream.does == Does::SyncingWrite {
            file.sync_data()?;
        }
        due = (due + each.mul_f64(dice.within(0.7, 1.3))).max(Instant::now());
    }
}

/// Writes through the page cache, from one end of the file to the other; the kernel writes the
/// data back.
fn write_buffered(path: &Path, bytes: u64, per_second: u64) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let blocks = fs::metadata(path)?.len() / bytes;
    let piece = vec![0x55; bytes as usize];
    let start = Instant::now();
    for number in 0.. {
        file.write_all_at(&piece, number % blocks * bytes)?;
        keep_pace(start, number, per_second);
    }
    Ok(())
}
