//! The processes that make the disk slow, each in a cgroup of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use tracer_lab::{
    cgroup::Cgroup,
    process::Process,
    tool::{FIO, FSTRIM, Tool, last_line},
};

/// The free space that a round of trimming leaves to others.
const LEFT_BYTES: u64 = 200 << 20;
/// The timeout of a program that ends by itself.
const LONG: Duration = Duration::from_secs(60);

pub const ETCDCTL: Tool = Tool { name: "etcdctl", package: "etcd-client" };

/// Runs a program to its end, as an actor.
pub fn run(tool: Tool, args: &[&str], cgroup: &Cgroup) -> Result<()> {
    let mut command = tool.command()?;
    // etcdctl 3.4 uses another version of the API by default.
    command.args(args).env("ETCDCTL_API", "3");
    command.stdout(std::process::Stdio::null());
    match Process::spawn(command, cgroup)?.wait(LONG) {
        Some(ended) if ended.status.success() => Ok(()),
        Some(ended) => bail!("`{}` failed: {}", tool.name, last_line(&ended.stderr)),
        None => bail!("`{}` did not end in time", tool.name),
    }
}

/// A round of trimming.
pub fn trim(mountpoint: &Path, cgroup: &Cgroup) -> Result<()> {
    run(FSTRIM, &[&mountpoint.to_string_lossy()], cgroup)
}

/// Uses and frees nearly all space, because ext4 does not trim free space twice.
pub fn make_due(mountpoint: &Path) -> Result<()> {
    let vfs = statvfs(mountpoint)?;
    let free = vfs.blocks_available() * vfs.fragment_size();
    let path = mountpoint.join("freed");
    let file = File::create(&path)?;
    let length = i64::try_from(free.saturating_sub(LEFT_BYTES))?;
    fallocate(&file, FallocateFlags::empty(), 0, length).context("failed to preallocate")?;
    drop(file);
    Ok(fs::remove_file(&path)?)
}

/// A `fio` on a file of its own, past the page cache.
#[derive(Clone, Copy, Debug)]
pub struct Fio {
    pub rw: &'static str,
    pub block: &'static str,
    pub depth: u32,
}

impl Fio {
    /// Lays its file out, which takes a moment.
    pub fn prepare(self, folder: &Path, name: &'static str) -> Result<PreparedFio> {
        const BYTES: u64 = 128 << 20;
        let path = folder.join(name);
        let bytes = vec![0x33; 1 << 20];
        let mut file = File::create(&path)?;
        for _ in 0..BYTES >> 20 {
            std::io::Write::write_all(&mut file, &bytes)?;
        }
        file.sync_all()?;
        Ok(PreparedFio { fio: self, path })
    }
}

#[derive(Debug)]
pub struct PreparedFio {
    fio: Fio,
    path: PathBuf,
}

impl PreparedFio {
    /// Starts it; it runs until stopped.
    pub fn start(&self, cgroup: &Cgroup) -> Result<Process> {
        self.start_with(cgroup, &[])
    }

    /// Starts it at a rate of `per_second` requests.
    pub fn start_at(&self, per_second: u32, cgroup: &Cgroup) -> Result<Process> {
        self.start_with(cgroup, &[&format!("--rate_iops={per_second}")])
    }

    fn start_with(&self, cgroup: &Cgroup, more: &[&str]) -> Result<Process> {
        let mut command = FIO.command()?;
        command.args(["--name=culprit", "--thread", "--direct=1", "--ioengine=libaio"]);
        command.args(["--time_based", "--runtime=60", "--output=/dev/null"]);
        command.args(["--overwrite=1", "--fallocate=none", "--norandommap"]);
        command.arg(format!("--rw={}", self.fio.rw));
        command.args([format!("--bs={}", self.fio.block), format!("--iodepth={}", self.fio.depth)]);
        command.arg(format!("--filename={}", self.path.display()));
        command.arg(format!("--size={}", fs::metadata(&self.path)?.len()));
        command.args(more);
        Process::spawn(command, cgroup)
    }
}
