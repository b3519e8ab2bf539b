//! The mount table, as far as the lab needs it: the full paths of its own mounts.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tracer_node::mounts;

/// One line of mountinfo.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// The directory within the filesystem that is mounted.
    pub root: PathBuf,
    pub mountpoint: PathBuf,
    pub fstype: String,
    /// The device; for filesystems without one, any word.
    pub source: PathBuf,
}

impl Mount {
    pub fn has_block_device(&self) -> bool {
        self.source.starts_with("/dev") && !matches!(&*self.fstype, "tmpfs" | "devtmpfs")
    }
}

/// All mounts that we can see, in the order in which they were made.
pub fn read() -> Result<Vec<Mount>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read(path).with_context(|| format!("failed to read `{path}`"))?;
    Ok(parse(&text))
}

/// Finds the mount that `path` is on: the one with the longest mountpoint, and among equal
/// ones the last, which covers the others.
pub fn find_mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.components().count())
}

/// Parses mountinfo. Lines that cannot be parsed are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    let path =
        |field: &[u8]| PathBuf::from(OsString::from_vec(mounts::unescape(field).into_owned()));
    let own = |mount: mounts::Mount<'_>| Mount {
        root: path(mount.root),
        mountpoint: path(mount.point),
        fstype: String::from_utf8_lossy(mount.fstype).into_owned(),
        source: path(mount.source),
    };
    mounts::parse(text).map(own).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{find_mount_of, parse};

    const TEXT: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
31 22 0:28 /sub /var/a\\040b\\134c rw master:2 propagate_from:1 - tmpfs tmpfs rw
nonsense
32 22 0:29 / /var rw - btrfs /dev/sda2 rw
";

    #[test]
    fn optional_fields_may_be_none_or_many() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].fstype, "cgroup2");
        assert_eq!(mounts[2].root, Path::new("/sub"));
        assert_eq!(mounts[2].fstype, "tmpfs");
        assert_eq!(mounts[3].source, Path::new("/dev/sda2"));
    }

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(parse(TEXT)[2].mountpoint, Path::new("/var/a b\\c"));
    }

    #[test]
    fn a_path_lies_on_the_nearest_mount() {
        let mounts = parse(TEXT);
        let fstype = |path: &str| &*find_mount_of(&mounts, Path::new(path)).unwrap().fstype;
        assert_eq!(fstype("/var/tmp"), "btrfs");
        assert_eq!(fstype("/variety"), "ext4");
        assert_eq!(fstype("/var/a b\\c/d"), "tmpfs");
    }

    #[test]
    fn only_real_devices_count_as_disks() {
        let disks: Vec<bool> = parse(TEXT).iter().map(super::Mount::has_block_device).collect();
        assert_eq!(disks, [true, false, false, true]);
    }
}
