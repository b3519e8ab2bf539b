//! Many cheap disks: loop devices over small files in memory.
//!
//! Each device is marked to be detached by the kernel when its last user closes it. This
//! process holds it open, and the files have been unlinked, so a bench that is killed
//! leaves nothing behind.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use tracer_lab::tool::LOSETUP;

use crate::fio::memory_dir;

const BYTES: usize = 2 << 20;

pub struct Loops {
    pub devices: Vec<PathBuf>,
    _held: Vec<File>,
}

impl Loops {
    pub fn create(count: usize) -> Result<Self> {
        let folder = tempfile::tempdir_in(memory_dir()?).context("failed to make a folder")?;
        let mut loops = Self { devices: Vec::new(), _held: Vec::new() };
        for number in 0..count {
            let image = folder.path().join(number.to_string());
            fs::write(&image, vec![0xa5; BYTES])
                .with_context(|| format!("failed to write `{}`", image.display()))?;
            let device = LOSETUP.run(&["--find", "--show", &image.to_string_lossy()])?;
            let held = File::open(&device);
            // If it could not be opened, it is detached at once; otherwise when it is closed.
            LOSETUP.run(&["--detach", &device])?;
            loops._held.push(held.with_context(|| format!("failed to open `{device}`"))?);
            loops.devices.push(device.into());
        }
        Ok(loops)
    }
}
