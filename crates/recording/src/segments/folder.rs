//! The directory of segments: their names, whose it is, and how much room there is.
//!
//! A segment is called `tracer-0000000042.rec`, by a number that only grows; nothing
//! else in the directory is touched. The directory is the owner's alone (0700, files
//! 0600), since a recording names everybody on the node. One tracer writes to it at a
//! time: it holds a lock on the directory itself.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fstatvfs};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS_WRITE: u32 = 0o022;

const PREFIX: &str = "tracer-";
const SUFFIX: &str = ".rec";
const DIGITS: usize = 10;

/// One segment's file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
    /// When it was written to last.
    pub modified: SystemTime,
}

/// The room that a filesystem has left for others than its administrator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Free {
    pub bytes: u64,
    pub of_bytes: u64,
    pub inodes: u64,
    /// 0 where the filesystem makes inodes as they are needed.
    pub of_inodes: u64,
}

impl Free {
    /// A sentence, if too little would be left after writing these bytes and files.
    pub fn lack(&self, bytes: u64, files: u64) -> Option<String> {
        let Self { bytes: free, of_bytes, inodes, of_inodes } = *self;
        let left = u128::from(free.saturating_sub(bytes));
        if left * 10 < u128::from(of_bytes) {
            let percent = free.saturating_mul(100) / of_bytes.max(1);
            return Some(match bytes {
                0 => format!("its filesystem has {percent} % of its space free, below 10 %"),
                _ => format!(
                    "its filesystem has {percent} % of its space free, and a segment of {} MiB \
                     would leave less than 10 %",
                    bytes.div_ceil(1 << 20)
                ),
            });
        }
        let left = u128::from(inodes.saturating_sub(files));
        (left * 20 < u128::from(of_inodes)).then(|| {
            let percent = inodes.saturating_mul(100) / of_inodes.max(1);
            format!("its filesystem has {percent} % of its inodes free, below 5 %")
        })
    }
}

/// A segment's number, from the name of its file.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let is_number = digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    (name_of(number) == name).then_some(number)
}

/// The name of a segment's file.
pub fn name_of(number: u64) -> String {
    format!("{PREFIX}{number:0DIGITS$}{SUFFIX}")
}

/// The segments of a directory by their numbers.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn list(path: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(number_of) else { continue };
        // Removed meanwhile, perhaps. No link is followed.
        let Ok(file) = entry.metadata() else { continue };
        if !file.is_file() {
            continue;
        }
        let modified = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Found { number, path: entry.path(), bytes: file.len(), modified });
    }
    found.sort_by_key(|one| one.number);
    Ok(found)
}

/// Opens a segment to read it; no link and no pipe.
///
/// # Errors
///
/// When it is gone, or is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// The directory that one tracer writes to.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Open for as long as the lock is to hold.
    directory: File,
}

impl Folder {
    /// Makes the directory where there is none, and takes it for this process alone.
    ///
    /// # Errors
    ///
    /// When it cannot be made, others may write to it, or another tracer has it.
    pub fn lock(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = directory.metadata()?;
        let is_ours = found.uid() == rustix::process::geteuid().as_raw();
        if is_ours && found.mode() & 0o077 != 0 && fs::read_dir(path)?.next().is_none() {
            // An empty one, such as a kubelet or a package makes.
            directory.set_permissions(fs::Permissions::from_mode(FOLDER_MODE))?;
        } else if found.mode() & OTHERS_WRITE != 0 {
            return Err(io::Error::other(
                "others may write to it: give it mode 0700, or name a directory of its own",
            ));
        }
        match directory.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), directory }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another tracer records into it"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        list(&self.path)
    }

    /// # Errors
    ///
    /// When the filesystem does not say.
    pub fn free(&self) -> io::Result<Free> {
        let stat = fstatvfs(&self.directory)?;
        Ok(Free {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            of_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            inodes: stat.f_favail,
            of_inodes: stat.f_files,
        })
    }

    /// Makes a file of this number, and reserves its blocks where the filesystem can.
    ///
    /// # Errors
    ///
    /// When it cannot be made; then it is not there.
    pub fn create(&self, number: u64, bytes: u64) -> io::Result<File> {
        let path = self.path.join(name_of(number));
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
            {
                drop(file);
                self.remove(&path)?;
                Err(error)
            }
            _ => Ok(file),
        }
    }

    /// Opens a segment to read it.
    ///
    /// # Errors
    ///
    /// When it is gone, or is no file.
    pub fn open(&self, found: &Found) -> io::Result<File> {
        open(&found.path)
    }

    /// Gives an old segment's file a new number, to be overwritten.
    ///
    /// # Errors
    ///
    /// When it is gone, or is no file.
    pub fn reuse(&self, old: &Found, number: u64) -> io::Result<File> {
        let path = self.path.join(name_of(number));
        fs::rename(&old.path, &path)?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("`{}` is no file", path.display())));
        }
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        Ok(file)
    }

    /// # Errors
    ///
    /// When it is there and cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
