//! The cache directory, and files that are either complete or absent.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use tracer_step::workspace;

/// Whether to fetch again what is in the cache already.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Refresh {
    No,
    Yes,
}

/// The directory of everything that is fetched, unpacked or logged. It may be removed at
/// any time.
pub fn cache() -> PathBuf {
    workspace().join(".vm")
}

/// Locks the cache, so that no other process fills it at the same time.
pub fn lock() -> Result<Flock<File>> {
    create_folder(&cache())?;
    let path = cache().join("lock");
    let file =
        File::create(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("failed to lock `{}`", path.display()))
}

pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to create `{}`", path.display()))
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("failed to write `{}`", path.display()))
}

/// Lets `make` fill a directory (or write a file) under another name, and renames it when
/// that has succeeded, so that an interrupted run leaves nothing incomplete.
pub fn make_whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().context("a path in the cache has a parent")?;
    create_folder(parent)?;
    let scratch = tempfile::Builder::new().prefix(".new").tempdir_in(parent)?;
    let inside = scratch.path().join("it");
    make(&inside)?;
    remove(path)?;
    fs::rename(&inside, path).with_context(|| format!("failed to create `{}`", path.display()))
}

/// Removes a file or a directory, if it exists.
pub fn remove(path: &Path) -> Result<()> {
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    result.with_context(|| format!("failed to remove `{}`", path.display()))
}

/// A path relative to this workspace.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
