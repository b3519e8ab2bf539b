//! Tests that run only in a virtual machine: they load modules, make devices of any kind
//! and throttle cgroups. `cargo xtask vm` sets `TRACER_GUEST=1`.
//!
//! Loads are small and timeouts generous, because an emulated machine is tens of times
//! slower than a real one. Speeds are only compared with delays that the test itself
//! adds, and those are long.

/// Filesystems without hooks of their own: overlay, FUSE, tmpfs, f2fs.
mod beyond;
/// Owners by their cgroups, and a victim whose own limit slows it.
mod cgroups;
/// The wall's clock is set, and the machine suspended.
mod clock;
/// A thousand cgroups that fill a journal together.
mod crowd;
/// Delays in the device, in a queue, and before a request exists.
mod delays;
/// Devices that only a virtual machine may make.
mod devices;
/// Verdicts on stacked disks.
mod judged;
/// A victim at the limit on its own memory.
mod limited;
/// Hundreds of disks beside an agent whose memory is limited.
mod many;
/// Filesystems whose modules are loaded after the tracer's start.
mod modules;
/// Stacked disks whose underlying disks change while they are used.
mod moved;
/// A disk with several paths to it, which are hidden.
mod multipath;
/// Commands that a process passes through to a disk's driver.
mod pass_through;
/// A drive with a hardware queue for each CPU.
mod queues;
/// Device mapper, md, null_blk, scsi_debug, virtio, partitions.
mod stacks;
/// A trim that stalls a device, as a user would see it.
mod stalls;
/// The verdicts of a running tracer on a log.
mod verdicts;

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

use anyhow::Result;
use tracer_lab::tool::{Tool, last_line};

/// Whether this is a virtual machine, in which a test may change anything.
pub fn is_guest() -> bool {
    std::env::var_os("TRACER_GUEST").is_some_and(|value| value == "1")
}

/// Skips outside of such a machine, or if it cannot be traced.
macro_rules! need_guest {
    () => {
        if !crate::guest::is_guest() {
            crate::skip::skip!("only in a virtual machine: cargo xtask vm");
        }
        crate::live::need_live!();
    };
}
use need_guest;

/// Skips a test if [`lack_of`] finds that something is missing.
macro_rules! need {
    ($modules:expr, $tools:expr) => {
        if let Some(lack) = crate::guest::lack_of($modules, $tools) {
            crate::skip::skip!("{lack}");
        }
    };
}
use need;

/// Writes the first page of a file and syncs it, each time with a request of its own.
fn write_and_sync(file: &mut File, times: usize) -> Result<()> {
    for round in 0..times {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[round as u8; 4096])?;
        file.sync_data()?;
    }
    Ok(())
}

const MODPROBE: Tool = Tool { name: "modprobe", package: "kmod" };

/// Finds the first of these modules and tools that this machine lacks. Modules that exist
/// are loaded.
fn lack_of(modules: &[&str], tools: &[Tool]) -> Option<String> {
    let module = modules.iter().find_map(|name| {
        let output = MODPROBE.command().ok()?.arg(name).output().ok()?;
        let lacks = !output.status.success() && !is_built_in(name);
        lacks.then(|| format!("no module `{name}`: {}", last_line(&output.stderr)))
    });
    module.or_else(|| {
        let tool = tools.iter().find(|tool| tool.find().is_none())?;
        Some(format!("`{}` is not installed: `apt install {}`", tool.name, tool.package))
    })
}

/// Not every modprobe knows: the list of these lies beside the modules, and
/// those that have parameters show.
fn is_built_in(module: &str) -> bool {
    let name = module.replace('-', "_");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = format!("/lib/modules/{}/modules.builtin", release.trim());
    let list = fs::read_to_string(list).unwrap_or_default().replace('-', "_");
    list.lines().any(|line| line.ends_with(&format!("/{name}.ko")))
        || Path::new("/sys/module").join(name).exists()
}
