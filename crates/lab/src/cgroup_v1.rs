//! Cgroups of version 1, one controller each, for limits on hybrid hosts.
//!
//! They are made at the top of the controller's hierarchy, are named after the
//! run, and go when they are dropped: processes in them must have ended by then.

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
    /// Makes one; `None` where this controller has no hierarchy of its own.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn create(controller: &str, name: &str) -> Result<Option<Self>> {
        let hierarchy = Path::new(HIERARCHIES).join(controller);
        // In version 2 there is no such file.
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
    /// When there is no such file, or the kernel refuses the value.
    pub fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value)
            .with_context(|| format!("failed to write `{value}` to `{}`", path.display()))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// Moves a process out of it, to the root of its hierarchy.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn leave(&self, pid: u32) -> Result<()> {
        self.set("../cgroup.procs", &pid.to_string())
    }

    /// Has `command` start in it.
    ///
    /// # Errors
    ///
    /// When its list of processes cannot be opened.
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
            // A process that has just died may still be counted.
            if Instant::now() >= until {
                eprintln!("lab: failed to remove `{}`: {error}", self.folder.display());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
