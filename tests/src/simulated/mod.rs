//! A disk that is as slow as a test says: the time of each request is known in advance,
//! whatever this machine's own disk is doing.
//!
//! It is a FUSE file whose blocks are in memory and whose service times follow a [`Model`],
//! below a loop device that passes every request on unchanged, with a filesystem on top. The
//! server is a process of its own ([`parts`]): in the test's process it would hang if the test
//! is killed while it waits for the disk.
//!
//! As on any file, the loop device itself passes on the flushes and discards of a cgroup one at
//! a time, and nothing after them meanwhile.

/// A neighbour of a timeline.
pub mod neighbour;
pub mod parts;
mod server;
mod stuck;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk, default_dir},
    folder::{self, Folder, MOUNT},
    process::Process,
    tool::{BLOCKDEV, FSFREEZE, Tool, last_line},
};

use parts::Part;
use server::{IMAGE, MODEL, SERVED};
use tracer_disk_model::Model;

pub use server::Served;

const UMOUNT: Tool = Tool { name: "umount", package: "mount" };
const MOUNT_TOOL: Tool = Tool { name: "mount", package: "mount" };

pub const DISK_BYTES: u64 = 2 << 30;
/// The server must have begun within this time.
const BEGUN: Duration = Duration::from_secs(10);

/// A mounted disk; dropping it removes all its parts, in this order.
#[derive(Debug)]
pub struct SimulatedDisk {
    disk: LoopDisk,
    server: Server,
    _folder: Folder,
}

/// The process and its mount.
#[derive(Debug)]
struct Server {
    mountpoint: PathBuf,
    process: Process,
}

impl SimulatedDisk {
    /// Makes a disk of [`DISK_BYTES`] with the default model, after removing what killed tests
    /// left.
    pub fn create(filesystem: Filesystem) -> Result<Self> {
        Self::create_with(filesystem, &[])
    }

    /// Makes a disk with more options for mkfs.
    pub fn create_with(filesystem: Filesystem, options: &[&str]) -> Result<Self> {
        let parent = default_dir()?;
        folder::sweep(&parent);
        let folder = Folder::create(&parent)?;
        let server = Server::start(&folder.path().join("fuse"))?;
        let (image, mountpoint) = (server.mountpoint.join(IMAGE), folder.path().join(MOUNT));
        let disk = LoopDisk::over(&image, &mountpoint, filesystem, options)?;
        let largest = format!("/sys/block/{}/queue/max_sectors_kb", disk.name());
        fs::write(&largest, (server::LARGEST_BYTES >> 10).to_string())
            .with_context(|| format!("failed to write `{largest}`"))?;
        Ok(Self { disk, server, _folder: folder })
    }

    pub fn disk(&self) -> &LoopDisk {
        &self.disk
    }

    pub fn mountpoint(&self) -> &Path {
        self.disk.mountpoint()
    }

    /// `loop0`
    pub fn name(&self) -> &str {
        self.disk.name()
    }

    /// The process that serves the disk, called `sim-disk`.
    pub fn server_pid(&self) -> u32 {
        self.server.process.pid()
    }

    /// Continues as another disk.
    pub fn become_another(&self, model: &Model) -> Result<()> {
        let path = self.server.mountpoint.join(MODEL);
        fs::write(&path, serde_json::to_vec(model)?)
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Mounts it again, with an option of its filesystem.
    pub fn mount_with(&self, option: &str) -> Result<()> {
        let mountpoint = self.mountpoint().to_string_lossy();
        UMOUNT.run(&[&mountpoint])?;
        MOUNT_TOOL.run(&["-o", option, self.disk.device(), &mountpoint])?;
        Ok(())
    }

    /// Makes the kernel write everything in the journal to its place, so that it can be dropped
    /// from memory.
    pub fn settle(&self) -> Result<()> {
        let mountpoint = self.mountpoint().to_string_lossy();
        FSFREEZE.run(&["--freeze", &mountpoint])?;
        FSFREEZE.run(&["--unfreeze", &mountpoint])?;
        Ok(())
    }

    /// Drops the filesystem's own blocks from memory.
    pub fn forget(&self) -> Result<()> {
        self.settle()?;
        BLOCKDEV.run(&["--flushbufs", self.disk.device()])?;
        Ok(())
    }

    /// The requests that reached the disk so far.
    pub fn served(&self) -> Result<Served> {
        let path = self.server.mountpoint.join(SERVED);
        let text =
            fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

impl Server {
    fn start(mountpoint: &Path) -> Result<Self> {
        fs::create_dir(mountpoint)
            .with_context(|| format!("failed to make `{}`", mountpoint.display()))?;
        let part = Part::Disk { mountpoint: mountpoint.to_owned(), size_bytes: DISK_BYTES };
        let process = part.start("sim-disk", &Cgroup::none())?;
        let server = Self { mountpoint: mountpoint.to_owned(), process };
        let until = Instant::now() + BEGUN;
        while !mountpoint.join(IMAGE).exists() {
            if let Some(ended) = server.process.ended() {
                bail!("the simulated disk's server ended: {}", last_line(&ended.stderr));
            }
            if Instant::now() > until {
                bail!("the simulated disk does not answer after {BEGUN:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = folder::unmount(&self.mountpoint) {
            eprintln!("lab: {error:#}");
        }
    }
}
