//! A modified view of this machine: a root whose `/proc` and `/sys` lead to the real
//! ones, except for the files that a test replaces.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

/// Makes a node whose disks all appear to have no scheduler; `but` names a disk that shows
/// its own, if any. The schedulers of the machine's own disks are not changed.
///
/// # Errors
///
/// Its links cannot be made.
pub fn without_schedulers(but: Option<&str>) -> io::Result<TempDir> {
    let root = tempfile::tempdir()?;
    let at = |path: &Path| root.path().join(path.strip_prefix("/").unwrap_or(path));
    symlink("/proc", at(Path::new("/proc")))?;
    let disks = Path::new("/sys/block");
    link_all(Path::new("/sys"), &at(Path::new("/sys")), &["block"])?;
    fs::create_dir(at(disks))?;
    for disk in fs::read_dir(disks)? {
        let disk = disk?.path();
        if but.is_some_and(|but| disk.ends_with(but)) {
            symlink(&disk, at(&disk))?;
            continue;
        }
        let queue = disk.join("queue");
        link_all(&disk, &at(&disk), &["queue"])?;
        link_all(&queue, &at(&queue), &["scheduler"])?;
        if queue.join("scheduler").exists() {
            fs::write(at(&queue.join("scheduler")), "none\n")?;
        }
    }
    Ok(root)
}

/// Makes a directory whose entries are links to those of another, except for some.
fn link_all(from: &Path, to: &Path, without: &[&str]) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !without.iter().any(|name| entry.file_name() == *name) {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
