//! The cache folder, and files that are whole or not there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use tracer_step::workspace;

/// Whether to ask the archive again for what is here already.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Refresh {
    No,
    Yes,
}

/// Everything that is fetched, unpacked or logged; may be removed at any time.
pub fn cache() -> PathBuf {
    workspace().join(".vm")
}

/// Holds off whoever else would fill the cache now.
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

/// Lets `make` fill a folder (or write a file) under another name, and gives it
/// its own when that went well: an interrupted run leaves nothing half done.
pub fn make_whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().context("a path in the cache has a parent")?;
    create_folder(parent)?;
    let scratch = tempfile::Builder::new().prefix(".new").tempdir_in(parent)?;
    let inside = scratch.path().join("it");
    make(&inside)?;
    remove(path)?;
    fs::rename(&inside, path).with_context(|| format!("failed to create `{}`", path.display()))
}

/// Removes a file or a folder, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    result.with_context(|| format!("failed to remove `{}`", path.display()))
}

/// A path as it is called in this workspace.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
