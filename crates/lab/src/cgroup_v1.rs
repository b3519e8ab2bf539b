//! Cgroups of version 1, one controller each, for limits on hybrid hosts.
//!
//! They are created at the top of the controller's hierarchy, are named after the run,
//! and are removed when dropped. Processes in them must have ended by then.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::process::born_in;

const HIERARCHIES: &str = "/sys/fs/cgroup";

/// A cgroup of ours, removed when dropped.
#[derive(Debug)]
pub struct CgroupV1 {
    folder: PathBuf,
}

impl CgroupV1 {
    /// Creates one; `None` if this controller has no hierarchy of its own.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn create(controller: &str, name: &str) -> Result<Option<Self>> {
        let hierarchy = Path::new(HIERARCHIES).join(controller);
        // Version 2 has no such file.
        if !hierarchy.join("release_agent").exists() {
            return Ok(None);
        }
        let folder = hierarchy.join(format!("tracer-lab-{}-{name}", process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("failed to make cgroup `{}`", folder.display()))?;
        Ok(Some(Self { folder }))
    }

    /// Writes one of its files.
    ///
    /// # Errors
    ///
    /// There is no such file, or the kernel refuses the value.
    pub fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value)
            .with_context(|| format!("failed to write `{value}` to `{}`", path.display()))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// Moves a process out of it, to the root of its hierarchy.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn leave(&self, pid: u32) -> Result<()> {
        self.set("../cgroup.procs", &pid.to_string())
    }

    /// Makes `command` start in the cgroup.
    ///
    /// # Errors
    ///
    /// The cgroup's list of processes cannot be opened.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let path = self.folder.join("cgroup.procs");
        let procs = fs::File::options().write(true).open(&path);
        let procs = procs.with_context(|| format!("failed to open `{}`", path.display()))?;
        born_in(command, procs);
        Ok(())
    }
}

impl Drop for CgroupV1 {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(2);
        while let Err(error) = fs::remove_dir(&self.folder) {
            // A process that has just ended may still be counted.
            if Instant::now() >= until {
                eprintln!("lab: failed to remove `{}`: {error}", self.folder.display());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
