//! The directory of one lab disk. It is locked while its owner runs and removed when
//! the owner ends; if the owner was killed, a later run removes it.
//!
//! A lock (flock) shows better than a pid whether the owner runs: the kernel
//! releases it with the owner, while pids are reused and differ between pid
//! namespaces. The pid in the file is for people.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, umount2},
    unistd::geteuid,
};
use tempfile::TempDir;

use crate::{
    mounts,
    tool::{FSFREEZE, LOSETUP},
};

const PREFIX: &str = "tracer-lab-";
const OWNER: &str = "owner";
/// The disk's blocks.
pub const IMAGE: &str = "disk.img";
/// The mount point of the disk.
pub const MOUNT: &str = "mnt";

/// A directory of ours.
#[derive(Debug)]
pub struct Folder {
    temp: Option<TempDir>,
    path: PathBuf,
    _owner: Flock<File>,
}

impl Folder {
    pub fn create(dir: &Path) -> Result<Folder> {
        let temp = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(dir)
            .with_context(|| format!("failed to make a folder in `{}`", dir.display()))?;
        let path = temp.path().to_owned();
        // The file is locked before it gets its name, so a sweep sees either no lock file or
        // a locked one.
        let unnamed = path.join("owner.new");
        let file = File::create(&unnamed)
            .with_context(|| format!("failed to make `{}`", unnamed.display()))?;
        let mut owner = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| anyhow!(errno))
            .with_context(|| format!("failed to lock `{}`", unnamed.display()))?;
        writeln!(owner, "{}", process::id())
            .and_then(|()| fs::rename(&unnamed, path.join(OWNER)))
            .with_context(|| format!("failed to write `{}`", unnamed.display()))?;
        Ok(Folder { temp: Some(temp), path, _owner: owner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(temp) = self.temp.take() else { return };
        if let Err(error) = temp.close() {
            eprintln!("lab: failed to remove `{}`: {error}", self.path.display());
        }
    }
}

/// Unmounts, detaches and removes what killed runs left in `dir`. What cannot be removed
/// is reported, and is not an error.
pub fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // In a directory that everybody may write to, only our own user's files are removed.
        let folder = entry.path();
        let ours = fs::symlink_metadata(&folder)
            .is_ok_and(|m| m.is_dir() && m.uid() == geteuid().as_raw());
        if !ours {
            continue;
        }
        let Ok(owner) = File::open(folder.join(OWNER)) else { continue };
        let Ok(_dead) = Flock::lock(owner, FlockArg::LockExclusiveNonblock) else { continue };
        match remove_left(&folder) {
            Ok(()) => eprintln!("lab: swept `{}`, left by a run that was killed", folder.display()),
            Err(error) => eprintln!("lab: failed to sweep `{}`: {error:#}", folder.display()),
        }
    }
}

fn remove_left(folder: &Path) -> Result<()> {
    // Mounts are undone from the last: it is on the loop device, which may be on an earlier one.
    for mount in mounts::read()?.iter().rev() {
        if mount.mountpoint.starts_with(folder) {
            thaw(&mount.mountpoint);
            unmount(&mount.mountpoint)?;
            for device in find_loops_below(folder) {
                detach(&device)?;
            }
        }
    }
    for device in find_loops_below(folder) {
        detach(&device)?;
    }
    fs::remove_dir_all(folder).context("failed to remove it")
}

/// Thaws a filesystem that a killed run left frozen: whoever waits to write to it cannot end, so it
/// would stay in use.
fn thaw(mountpoint: &Path) {
    // It fails if the filesystem is not frozen.
    let _ = FSFREEZE.run(&["--unfreeze", &mountpoint.to_string_lossy()]);
}

/// Unmounts a filesystem. If it stays in use, it is unmounted lazily: it disappears from
/// the tree at once, and the rest follows when the last user ends.
pub fn unmount(mountpoint: &Path) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match umount2(mountpoint, MntFlags::UMOUNT_NOFOLLOW) {
            // It is not mounted: another process has unmounted it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < until => thread::sleep(Duration::from_millis(50)),
            Err(Errno::EBUSY) => break,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to unmount `{}`", mountpoint.display()));
            }
        }
    }
    eprintln!("lab: `{}` is in use, so it is unmounted lazily", mountpoint.display());
    umount2(mountpoint, MntFlags::MNT_DETACH)
        .with_context(|| format!("failed to unmount `{}` lazily", mountpoint.display()))
}

/// Detaches a loop device and waits until it is free: the kernel may detach it after the
/// call has returned.
pub fn detach(device: &str) -> Result<()> {
    let name = device.trim_start_matches("/dev/");
    let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
    if !backing.exists() {
        return Ok(());
    }
    LOSETUP.run(&["--detach", device])?;
    let until = Instant::now() + Duration::from_secs(2);
    while backing.exists() {
        if Instant::now() > until {
            return Err(anyhow!("`{device}` is still in use; it will be detached when it is free"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn find_loops_below(folder: &Path) -> Vec<String> {
    let mut devices = Vec::new();
    for block in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = fs::read_to_string(block.path().join("loop/backing_file"));
        if is_backed_from(backing, folder) {
            devices.push(format!("/dev/{}", block.file_name().to_string_lossy()));
        }
    }
    devices
}

/// The name of a deleted image ends with ` (deleted)`, which does not matter here.
fn is_backed_from(backing: io::Result<String>, folder: &Path) -> bool {
    backing.is_ok_and(|backing| Path::new(&backing).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::{Folder, is_backed_from, sweep};

    #[test]
    fn a_sweep_spares_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path()).unwrap();
        sweep(dir.path());
        assert!(folder.path().join("owner").exists());
    }

    #[test]
    fn a_sweep_removes_the_dead_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join("tracer-lab-dead");
        let unowned = dir.path().join("tracer-lab-unowned");
        let other = dir.path().join("other");
        for folder in [&dead, &unowned, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(dead.join("owner"), "1\n").unwrap();
        std::fs::write(other.join("owner"), "1\n").unwrap();
        sweep(dir.path());
        assert!(!dead.exists() && unowned.exists() && other.exists());
    }

    #[test]
    fn a_loop_belongs_to_the_directory_of_its_image_even_if_that_is_deleted() {
        let folder = Path::new("/a/lab");
        let backing = |text: &str| is_backed_from(Ok(text.to_owned()), folder);
        assert!(backing("/a/lab/disk.img\n"));
        assert!(backing("/a/lab/disk.img (deleted)\n"));
        assert!(backing("/a/lab/fuse/disk.img\n"));
        assert!(!backing("/a/lab2/disk.img\n"));
        assert!(!is_backed_from(Err(io::ErrorKind::NotFound.into()), folder));
    }
}
