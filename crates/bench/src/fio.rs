//! The loads: a disk of our own or a named one, fio on it, and the figures that fio
//! reports.
//!
//! This module knows nothing of the tracer.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk, default_dir},
    mounts,
    process::Process,
    tool::FIO,
};

use crate::load;

const DISK_BYTES: u64 = 1 << 30;
/// Files in the disk's root, which are written completely before anything is measured.
const READ_FILE: (&str, usize) = ("reads", 256 << 20);
const SYNC_FILE: (&str, usize) = ("syncs", 16 << 20);

/// The time by which fio may end later than it was asked to.
const LATE: Duration = Duration::from_secs(30);

/// The disk and the directory that loads run on.
pub struct Stand {
    folder: PathBuf,
    /// The disk's name, such as `loop0`.
    pub disk: String,
    cgroup: Cgroup,
    _own: Option<LoopDisk>,
}

/// The load that fio makes for a given time.
#[derive(Clone, Copy)]
pub enum FioWork {
    /// Random reads of 4 KiB past the page cache, 16 at a time.
    Reads,
    /// Random writes of 4 KiB, an fdatasync after each.
    Syncs,
    /// Reads and writes, at given rates.
    Both(Rates),
}

/// The rates of [`FioWork::Both`]; `None` leaves that kind of request out.
#[derive(Clone, Copy)]
pub struct Rates {
    pub reads: Option<Rate>,
    pub syncs: Option<Rate>,
    /// Reads that each reader keeps in flight.
    pub depth: u32,
    /// Threads that read, each pinned to a CPU of its own; 0 is one thread on any CPU.
    pub cpus: u32,
}

impl Rates {
    /// Rates with neither reads nor syncs.
    pub const NONE: Self = Self { reads: None, syncs: None, depth: 16, cpus: 0 };
}

/// The rate of reads or of syncs.
#[derive(Clone, Copy)]
pub enum Rate {
    PerSecond(u32),
    /// As many as the disk allows.
    Unlimited,
}

impl Rate {
    /// The rate as a number, or `unlimited`.
    pub fn per_second_or(self, unlimited: f64) -> f64 {
        match self {
            Self::PerSecond(rate) => f64::from(rate),
            Self::Unlimited => unlimited,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Unlimited => write!(f, "as fast as it goes"),
        }
    }
}

impl FioWork {
    /// Leaves most of the machine idle.
    pub const STEADY: Self = Self::Both(Rates {
        reads: Some(Rate::PerSecond(2000)),
        syncs: Some(Rate::PerSecond(200)),
        ..Rates::NONE
    });
}

/// A running load.
pub struct Load {
    process: Process,
    output: File,
    until: Instant,
}

/// The figures that fio reports for a load; zero for a kind that it did not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub reads_per_second: f64,
    pub syncs_per_second: f64,
    pub sync_p50_us: f64,
    pub sync_p99_us: f64,
}

impl Stand {
    pub fn build() -> Result<Self> {
        let own = LoopDisk::create(&memory_dir()?, DISK_BYTES, Filesystem::Ext4)?;
        let (folder, disk) = (own.mountpoint().to_owned(), own.name().to_owned());
        Self::furnish(folder, disk, Some(own))
    }

    /// Uses the filesystem that this directory is on; the files stay there.
    pub fn on(folder: &Path) -> Result<Self> {
        let mounts = mounts::read()?;
        let mount = mounts::find_mount_of(&mounts, folder).filter(|mount| mount.has_block_device());
        let disk = mount.and_then(|mount| Some(mount.source.file_name()?.to_string_lossy()));
        let disk = disk
            .with_context(|| format!("`{}` is not on a block device", folder.display()))?
            .into_owned();
        Self::furnish(folder.to_owned(), disk, None)
    }

    fn furnish(folder: PathBuf, disk: String, own: Option<LoopDisk>) -> Result<Self> {
        let stand = Self { folder, disk, cgroup: Cgroup::create("bench")?, _own: own };
        for (name, bytes) in [READ_FILE, SYNC_FILE] {
            let path = stand.path(name);
            lay_out(&path, bytes)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
        }
        Ok(stand)
    }

    /// The file that [`FioWork::Syncs`] syncs.
    pub fn sync_file(&self) -> PathBuf {
        self.path(SYNC_FILE.0)
    }

    /// The file that is read.
    pub fn read_file(&self) -> PathBuf {
        self.path(READ_FILE.0)
    }

    /// The file that a process which appends creates.
    pub fn append_file(&self) -> PathBuf {
        self.path("appends")
    }

    /// The directory in which an etcd may keep its data.
    pub fn etcd_folder(&self) -> PathBuf {
        self.path("etcd")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn start(&self, work: FioWork, length: Duration) -> Result<Load> {
        let output = tempfile::tempfile().context("failed to make a file for fio's output")?;
        let mut command = FIO.command()?;
        // fio runs in the disk's directory, so that no path needs escaping.
        command.current_dir(&self.folder);
        command.stdout(output.try_clone()?);
        command.args(["--thread", "--time_based", "--output-format=json"]);
        command.args(["--bs=4k", "--randrepeat=0", "--norandommap", "--fallocate=none"]);
        command.arg(format!("--runtime={}ms", length.as_millis()));
        let rates = match work {
            FioWork::Reads => Rates { reads: Some(Rate::Unlimited), ..Rates::NONE },
            FioWork::Syncs => Rates { syncs: Some(Rate::Unlimited), ..Rates::NONE },
            FioWork::Both(rates) => rates,
        };
        if let Some(rate) = rates.reads {
            let (file, bytes) = READ_FILE;
            command.args(["--name=reads", "--rw=randread", "--direct=1", "--ioengine=libaio"]);
            command.arg(format!("--filename={file}")).arg(format!("--size={bytes}"));
            command.arg(format!("--iodepth={}", rates.depth)).args(rate.option());
            if let Some(last) = rates.cpus.checked_sub(1) {
                command.args(["--cpus_allowed_policy=split", "--group_reporting"]);
                command.args([
                    format!("--numjobs={}", rates.cpus),
                    format!("--cpus_allowed=0-{last}"),
                ]);
            }
        }
        if let Some(rate) = rates.syncs {
            let (file, bytes) = SYNC_FILE;
            command.args(["--name=syncs", "--rw=randwrite", "--ioengine=psync", "--fdatasync=1"]);
            command.arg(format!("--filename={file}")).arg(format!("--size={bytes}"));
            command.args(rate.option());
        }
        let process = Process::spawn(command, &self.cgroup)?;
        Ok(Load { process, output, until: Instant::now() + length + LATE })
    }

    /// Runs a load to its end.
    pub async fn run(&self, work: FioWork, length: Duration) -> Result<Figures> {
        let load = self.start(work, length)?;
        while load.is_running()? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        load.finish()
    }
}

impl Rate {
    fn option(self) -> Option<String> {
        match self {
            Self::PerSecond(rate) => Some(format!("--rate_iops={rate}")),
            Self::Unlimited => None,
        }
    }
}

impl Load {
    /// # Errors
    ///
    /// It should have ended long ago.
    pub fn is_running(&self) -> Result<bool> {
        let running = self.process.ended().is_none();
        if running && Instant::now() > self.until {
            bail!("fio did not end {} s after its time: is the disk stuck?", LATE.as_secs());
        }
        Ok(running)
    }

    /// Reads the figures of a load that has ended.
    pub fn finish(self) -> Result<Figures> {
        let text = load::read_output("fio", &self.process, self.output)?;
        parse(&text).context("failed to parse fio's output (is it fio 3.x?)")
    }
}

/// A directory in memory with room for the disk, so that the machine's own disk and
/// its other users do not affect the measurement; if there is none, one on a disk.
pub fn memory_dir() -> Result<PathBuf> {
    let folder = Path::new("/dev/shm");
    let mounts = mounts::read()?;
    let is_memory =
        mounts::find_mount_of(&mounts, folder).is_some_and(|mount| mount.fstype == "tmpfs");
    let has_room = statvfs(folder)
        .is_ok_and(|vfs| vfs.blocks_available() * vfs.fragment_size() > 2 * DISK_BYTES);
    if is_memory && has_room { Ok(folder.to_owned()) } else { default_dir() }
}

/// Writes real blocks, because reads of holes would not reach the disk.
fn lay_out(path: &PathBuf, bytes: usize) -> Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0xa5; 1 << 20];
    for _ in 0..bytes / block.len() {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn parse(text: &str) -> Result<Figures> {
    // fio may print warnings before the JSON.
    let json = text.find('{').map_or("", |begin| &text[begin..]);
    let output: Value = serde_json::from_str(json)?;
    let jobs = output["jobs"].as_array().context("there are no `jobs`")?;
    let mut figures = Figures::default();
    for job in jobs {
        let number = |value: &Value| value.as_f64().context("a number is missing");
        if job["jobname"] == "reads" {
            figures.reads_per_second = number(&job["read"]["iops"])?;
        } else {
            let latency = &job["sync"]["lat_ns"];
            figures.syncs_per_second = number(&job["write"]["iops"])?;
            figures.sync_p50_us = number(&latency["percentile"]["50.000000"])? / 1e3;
            figures.sync_p99_us = number(&latency["percentile"]["99.000000"])? / 1e3;
        }
    }
    Ok(figures)
}
