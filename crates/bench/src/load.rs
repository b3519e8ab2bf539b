//! Loads that fio cannot make: many owners, many victims, many disks, a thousand
//! threads that sync at once.
//!
//! The bench starts itself again as the load, so that the load is in another process
//! than the measurement. One process acts as many owners by changing its name, because
//! an owner is a cgroup and a process name.

use std::{
    env,
    ffi::CString,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl;
use serde::{Deserialize, Serialize};
use tracer_lab::{cgroup::Cgroup, process::Process, tool::last_line};

const BLOCK: usize = 4096;
/// An appender starts a new file at this length.
const LONGEST_BYTES: u64 = 64 << 20;
/// How much of each disk or file is read.
const SPAN_BYTES: u64 = 1 << 20;

/// An action and its duration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Spec {
    pub paths: Vec<PathBuf>,
    pub action: Action,
    /// The number of names that the process takes in turn.
    pub owners: u32,
    pub threads: u32,
    pub ms: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Action {
    /// Reads 4 KiB past the page cache, from each path in turn.
    Read,
    /// Writes 4 KiB and calls fdatasync, each thread at its own offset.
    Sync,
    /// Writes and syncs at the end of the file, so that the journal must commit.
    Append,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Done {
    pub done: u64,
}

/// A running load.
pub struct Load {
    process: Process,
    output: File,
}

/// A block that is aligned as direct IO requires.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

impl Spec {
    pub fn new(paths: Vec<PathBuf>, action: Action, length: Duration) -> Self {
        let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self { paths, action, owners: 1, threads: 1, ms }
    }

    pub fn start(&self) -> Result<Load> {
        let output = tempfile::tempfile().context("failed to make a file for a load's output")?;
        let program = env::current_exe().context("failed to find this bench's own program")?;
        let mut command = Command::new(program);
        command.arg("--load").arg(serde_json::to_string(self)?).stdout(output.try_clone()?);
        Ok(Load { process: Process::spawn(command, &Cgroup::none())?, output })
    }

    pub async fn run(&self) -> Result<Done> {
        let load = self.start()?;
        while load.is_running() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load.finish()
    }
}

impl Load {
    pub fn is_running(&self) -> bool {
        self.process.ended().is_none()
    }

    /// The result of a load that has ended.
    pub fn finish(self) -> Result<Done> {
        let text = read_output("the load", &self.process, self.output)?;
        serde_json::from_str(&text).context("the load did not print its result")
    }
}

/// Reads what a process called `name`, which has ended, wrote to the file that is its
/// standard output.
pub fn read_output(name: &str, process: &Process, mut output: File) -> Result<String> {
    let Some(ended) = process.ended() else { bail!("{name} is still running") };
    if !ended.status.success() {
        bail!("{name} failed ({}): {}", ended.status, last_line(&ended.stderr));
    }
    let mut text = String::new();
    output
        .rewind()
        .and_then(|()| output.read_to_string(&mut text))
        .with_context(|| format!("failed to read the output of {name}"))?;
    Ok(text)
}

/// The load itself, in the process that [`Spec::start`] made.
pub fn act(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec).context("failed to parse the load")?;
    let files = spec.paths.iter().map(|path| open(path, spec.action));
    let files = files.collect::<Result<Vec<_>>>()?;
    if files.is_empty() {
        bail!("a load needs a file");
    }
    let until = Instant::now() + Duration::from_millis(spec.ms);
    let done = AtomicU64::new(0);
    if spec.threads <= 1 {
        work(&spec, &files, 0, until, &done)?;
    } else {
        thread::scope(|scope| {
            let (spec, files, done) = (&spec, &files, &done);
            let start = |number| {
                let worker = thread::Builder::new().stack_size(64 << 10);
                worker.spawn_scoped(scope, move || work(spec, files, number, until, done))
            };
            let workers = (0..spec.threads).map(start).collect::<Result<Vec<_>, _>>()?;
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread of the load panicked"),
            })
        })?;
    }
    println!("{}", serde_json::to_string(&Done { done: done.into_inner() })?);
    Ok(())
}

fn open(path: &PathBuf, action: Action) -> Result<File> {
    let mut options = OpenOptions::new();
    match action {
        Action::Read => options.read(true).custom_flags(libc::O_DIRECT),
        Action::Sync => options.write(true).create(true),
        // Overwriting existing blocks would commit nothing, so the file is emptied.
        Action::Append => options.write(true).create(true).truncate(true),
    };
    options.open(path).with_context(|| format!("failed to open `{}`", path.display()))
}

fn work(spec: &Spec, files: &[File], thread: u32, until: Instant, done: &AtomicU64) -> Result<()> {
    // A thread's stack may be no larger than this.
    let mut block = Box::new(Block([0x5a; BLOCK]));
    let names: Vec<_> = (0..spec.owners).map(|n| CString::new(format!("load-{n}"))).collect();
    let (mut turn, mut end) = (0_u64, 0_u64);
    while Instant::now() < until {
        if spec.owners > 1
            && let Ok(name) = &names[turn as usize % names.len()]
        {
            prctl::set_name(name)?;
        }
        let file = &files[(turn + u64::from(thread)) as usize % files.len()];
        let at = turn * BLOCK as u64;
        match spec.action {
            Action::Read => file.read_exact_at(&mut block.0, at % SPAN_BYTES)?,
            Action::Sync => {
                file.write_all_at(&block.0, u64::from(thread) * BLOCK as u64)?;
                file.sync_data()?;
            }
            Action::Append => {
                if end >= LONGEST_BYTES {
                    file.set_len(0)?;
                    end = 0;
                }
                file.write_all_at(&block.0, end)?;
                file.sync_data()?;
                end += BLOCK as u64;
            }
        }
        turn += 1;
        // Relaxed is enough: the count is read after all threads have ended.
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
