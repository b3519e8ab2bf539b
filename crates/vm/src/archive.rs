//! Initial root filesystems: cpio archives, which the kernel unpacks one after
//! the other.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use cpio::newc;

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// An archive that is being written. A directory must be added before its contents.
pub struct Archive {
    file: BufWriter<File>,
    inode: u32,
}

impl Archive {
    pub fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
        Ok(Self { file: BufWriter::new(file), inode: 0 })
    }

    pub fn folder(&mut self, name: &str) -> Result<()> {
        self.entry(name, FOLDER, b"")
    }

    pub fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.entry(name, LINK, target.as_bytes())
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, name: &str, permissions: u32, bytes: &[u8]) -> Result<()> {
        self.entry(name, REGULAR | permissions, bytes)
    }

    /// Adds a copy of a file on this disk.
    pub fn copy(&mut self, name: &str, from: &Path) -> Result<()> {
        let read =
            || anyhow::Ok((fs::metadata(from)?.permissions().mode() & 0o777, fs::read(from)?));
        let (mode, bytes) =
            read().with_context(|| format!("failed to read `{}`", from.display()))?;
        self.file(name, mode, &bytes)
    }

    /// Adds a directory with everything below it.
    pub fn tree(&mut self, name: &str, from: &Path) -> Result<()> {
        self.folder(name)?;
        let read = || fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect();
        let entries: std::io::Result<Vec<_>> = read();
        let mut entries =
            entries.with_context(|| format!("failed to read `{}`", from.display()))?;
        entries.sort();
        for path in entries {
            let inside = format!("{name}/{}", path.file_name().unwrap_or_default().display());
            if path.is_dir() { self.tree(&inside, &path)? } else { self.copy(&inside, &path)? }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len()).with_context(|| format!("`{name}` is too large"))?;
        // Files with the same inode number would be taken for one file.
        self.inode += 1;
        let mut entry = newc::Builder::new(name)
            .ino(self.inode)
            .nlink(1)
            .mode(mode)
            .write(&mut self.file, size);
        entry.write_all(bytes)?;
        entry.finish()?;
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        newc::trailer(&mut self.file)?;
        self.file.flush().context("failed to write the archive")
    }
}
