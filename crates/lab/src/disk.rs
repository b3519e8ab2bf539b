//! A disk of our own: a sparse file behind a loop device, with a filesystem
//! mounted in a private directory.
//!
//! A loop device is the one disk that every machine can provide, and it behaves
//! like one: discards punch holes in the file, flushes are an fsync of the file,
//! and requests reach the machine's own disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
};

use crate::{
    folder::{self, Folder, IMAGE, MOUNT},
    mounts,
    tool::{LOSETUP, MKFS_BTRFS, MKFS_EXT4, MKFS_XFS, Tool},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
}

/// The disk; unmounted, detached and removed when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    mountpoint: PathBuf,
    image: PathBuf,
    mounted: bool,
    device: Option<String>,
    // This is removed last.
    _folder: Option<Folder>,
}

/// Whether the image's requests go through the page cache of its filesystem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caching {
    Buffered,
    Direct,
}

/// The counters of `/sys/block/<name>/stat`. Fields that an older kernel lacks are 0.
/// A sector has 512 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BlockStat {
    pub reads: u64,
    pub reads_merged: u64,
    pub read_sectors: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub writes_merged: u64,
    pub write_sectors: u64,
    pub write_ms: u64,
    pub inflight: u64,
    pub io_ms: u64,
    pub weighted_ms: u64,
    pub discards: u64,
    pub discards_merged: u64,
    pub discard_sectors: u64,
    pub discard_ms: u64,
    pub flushes: u64,
    pub flush_ms: u64,
}

/// Returns the first of /var/tmp and /tmp that is on a disk, not in memory or on
/// an overlay.
pub fn default_dir() -> Result<PathBuf> {
    let mounts = mounts::read()?;
    for dir in ["/var/tmp", "/tmp"] {
        let Ok(dir) = fs::canonicalize(dir) else { continue };
        if mounts::find_mount_of(&mounts, &dir).is_some_and(mounts::Mount::has_block_device) {
            return Ok(dir);
        }
    }
    bail!("neither `/var/tmp` nor `/tmp` is on a disk: name a directory that is")
}

impl LoopDisk {
    /// Makes a disk of `size_bytes` in a new directory in `dir`, after it has removed what
    /// killed runs left there.
    pub fn create(dir: &Path, size_bytes: u64, fs: Filesystem) -> Result<LoopDisk> {
        let dir = fs::canonicalize(dir)
            .with_context(|| format!("failed to find the directory `{}`", dir.display()))?;
        folder::sweep(&dir);
        let vfs = statvfs(&dir)
            .with_context(|| format!("failed to read the free space of `{}`", dir.display()))?;
        let free = vfs.blocks_available() * vfs.fragment_size();
        if free < size_bytes {
            bail!(
                "a disk of {} MiB has no room in `{}`: {} MiB are free",
                size_bytes >> 20,
                dir.display(),
                free >> 20
            );
        }

        let folder = Folder::create(&dir)?;
        let (image, mountpoint) = (folder.path().join(IMAGE), folder.path().join(MOUNT));
        File::create_new(&image)
            .and_then(|image| image.set_len(size_bytes))
            .with_context(|| format!("failed to make `{}`", image.display()))?;
        let mut disk =
            LoopDisk { mountpoint, image, mounted: false, device: None, _folder: Some(folder) };
        disk.set_up(fs, &[], Caching::Buffered)?;
        Ok(disk)
    }

    /// Makes a disk of the caller's file, which every request reaches unchanged. It is
    /// mounted at `mountpoint`, which is created here and removed by the caller;
    /// `options` are further ones for mkfs.
    pub fn over(
        image: &Path,
        mountpoint: &Path,
        fs: Filesystem,
        options: &[&str],
    ) -> Result<LoopDisk> {
        let (image, mountpoint) = (image.to_owned(), mountpoint.to_owned());
        let mut disk = LoopDisk { mountpoint, image, mounted: false, device: None, _folder: None };
        disk.set_up(fs, options, Caching::Direct)?;
        Ok(disk)
    }

    /// Sets the disk up; the drop undoes every step that was done.
    fn set_up(&mut self, fs: Filesystem, more: &[&str], caching: Caching) -> Result<()> {
        fs::create_dir(&self.mountpoint)
            .with_context(|| format!("failed to make `{}`", self.mountpoint.display()))?;
        let image = self.image.to_string_lossy().into_owned();
        let direct: &[&str] = match caching {
            Caching::Buffered => &[],
            Caching::Direct => &["--direct-io=on"],
        };
        let device = LOSETUP.run(&[direct, &["--find", "--show", &image]].concat())?;
        self.device = Some(device.clone());
        // A reused loop device keeps the scheduler and the limits of its last disk.
        self.set_scheduler("none")?;
        self.lift_dirty_limits()?;
        let (mkfs, options) = fs.mkfs();
        mkfs.run(&[options, more, &[&device]].concat())?;
        let (none, flags): (Option<&str>, _) = (None, MsFlags::MS_NODEV | MsFlags::MS_NOSUID);
        mount(Some(device.as_str()), &self.mountpoint, Some(fs.name()), flags, none)
            .with_context(|| format!("failed to mount `{device}` as {}", fs.name()))?;
        self.mounted = true;
        Ok(())
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The file that holds the disk's blocks.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// `/dev/loop0`
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }

    /// `loop0`
    pub fn name(&self) -> &str {
        self.device().trim_start_matches("/dev/")
    }

    pub fn stat(&self) -> Result<BlockStat> {
        read_stat(self.name())
    }

    /// The requests in flight: reads, discards and flushes in the first number, writes in the
    /// second.
    pub fn inflight(&self) -> Result<(u64, u64)> {
        let path = format!("/sys/block/{}/inflight", self.name());
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(reads)), Some(Ok(writes))) => Ok((reads, writes)),
            _ => bail!("`{path}` does not hold two numbers"),
        }
    }

    /// Sets the scheduler: `none`, `mq-deadline` …
    pub fn set_scheduler(&self, scheduler: &str) -> Result<()> {
        let path = format!("/sys/block/{}/queue/scheduler", self.name());
        fs::write(&path, scheduler)
            .with_context(|| format!("failed to write `{scheduler}` to `{path}`"))
    }

    /// Limits the dirty data that the kernel keeps for this disk.
    pub fn limit_dirty(&self, bytes: u64) -> Result<()> {
        self.write_limit("strict_limit", 1)?;
        self.write_limit("max_bytes", bytes)
    }

    /// Lets the kernel keep this disk's dirty data in memory until they are old. Without this, data
    /// on a disk that had been written little were written within some five seconds.
    pub fn keep_dirty(&self) -> Result<()> {
        self.write_limit("min_ratio", 50)
    }

    /// Restores the limits of a new disk: a loop device keeps those of its last disk until
    /// the node is rebooted.
    fn lift_dirty_limits(&self) -> Result<()> {
        if self.limits()?.join("strict_limit").exists() {
            self.write_limit("strict_limit", 0)?;
        }
        self.write_limit("min_ratio", 0)?;
        self.write_limit("max_ratio", 100)
    }

    fn write_limit(&self, name: &str, value: u64) -> Result<()> {
        let path = self.limits()?.join(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    fn limits(&self) -> Result<PathBuf> {
        let path = format!("/sys/block/{}/dev", self.name());
        let number =
            fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
        Ok(Path::new("/sys/class/bdi").join(number.trim()))
    }

    /// Undoes everything except the directory; what was undone before is not tried again.
    fn close(&mut self) -> Result<()> {
        if self.mounted {
            folder::unmount(&self.mountpoint)?;
            self.mounted = false;
        }
        if let Some(device) = &self.device {
            folder::detach(device)?;
            self.device = None;
        }
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            eprintln!("lab: {error:#}");
        }
    }
}

impl Filesystem {
    pub fn name(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "ext4",
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
        }
    }

    /// The command that makes it. It leaves no work for the background, which would be seen
    /// on the disk, and discards nothing.
    fn mkfs(self) -> (Tool, &'static [&'static str]) {
        match self {
            Filesystem::Ext4 => {
                (MKFS_EXT4, &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
            }
            Filesystem::Xfs => (MKFS_XFS, &["-q", "-K"]),
            Filesystem::Btrfs => (MKFS_BTRFS, &["-q", "-K"]),
        }
    }
}

/// The counters of the disk called `name`.
pub fn read_stat(name: &str) -> Result<BlockStat> {
    let path = format!("/sys/block/{name}/stat");
    fs::read_to_string(&path)
        .and_then(|text| {
            parse_stat(&text).ok_or_else(|| io::Error::other("it does not contain the counters"))
        })
        .with_context(|| format!("failed to read `{path}`"))
}

fn parse_stat(text: &str) -> Option<BlockStat> {
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    if numbers.len() < 11 {
        return None;
    }
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    Some(BlockStat {
        reads: at(0),
        reads_merged: at(1),
        read_sectors: at(2),
        read_ms: at(3),
        writes: at(4),
        writes_merged: at(5),
        write_sectors: at(6),
        write_ms: at(7),
        inflight: at(8),
        io_ms: at(9),
        weighted_ms: at(10),
        discards: at(11),
        discards_merged: at(12),
        discard_sectors: at(13),
        discard_ms: at(14),
        flushes: at(15),
        flush_ms: at(16),
    })
}

#[cfg(test)]
mod tests {
    use super::{BlockStat, parse_stat};

    #[test]
    fn all_counters_are_in_their_places() {
        let text = "  1 2 3 4   5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        let stat = BlockStat {
            reads: 1,
            reads_merged: 2,
            read_sectors: 3,
            read_ms: 4,
            writes: 5,
            writes_merged: 6,
            write_sectors: 7,
            write_ms: 8,
            inflight: 9,
            io_ms: 10,
            weighted_ms: 11,
            discards: 12,
            discards_merged: 13,
            discard_sectors: 14,
            discard_ms: 15,
            flushes: 16,
            flush_ms: 17,
        };
        assert_eq!(parse_stat(text), Some(stat));
    }

    #[test]
    fn old_kernels_have_fewer_counters_but_never_fewer_than_eleven() {
        let stat = parse_stat("1 2 3 4 5 6 7 8 9 10 11").unwrap();
        assert_eq!((stat.weighted_ms, stat.discards, stat.flush_ms), (11, 0, 0));
        assert_eq!(parse_stat("1 2 3"), None);
        assert_eq!(parse_stat("a b c d e f g h i j k"), None);
    }
}
