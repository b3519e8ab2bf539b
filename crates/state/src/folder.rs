//! The directory that the agent keeps things in, and the one file in it.
//!
//! Only the owner may look into it (0700, and the file 0600), because it names disks.
//! A file that others may write is not read, because it may lie. The file is replaced
//! as a whole: it is written under another name, and renamed.
//!
//! Nothing is synced, on purpose. A sync of its own would wait for the very disk
//! that the tracer is there to explain, and be one more sync on it. If the machine
//! loses the file with its power, the tracer learns it again in minutes; and a file
//! that was not written whole is refused by its checksum.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::geteuid};

use crate::{
    Entry,
    format::{MAX_BYTES, decode, encode},
};

/// The directory that commands read unless they are given another.
pub const USUAL: &str = "/var/lib/tracer";

const FILE: &str = "reference";
const NEW_FILE: &str = "reference.new";

/// Owner only.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Bits of a file that is not its owner's alone to write.
const OTHERS_WRITE: u32 = 0o022;
/// A directory of many.
const STICKY: u32 = 0o1000;

/// A directory to write to.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the directory where there is none.
    ///
    /// One that is there is taken as it is; but an empty one of ours, such as the
    /// kubelet makes, becomes ours alone.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is no directory.
    pub fn create(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => narrow(path)?,
            created => created?,
        }
        Ok(Self { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file, and returns how many entries there was no room for.
    ///
    /// # Errors
    ///
    /// If it cannot be written: then the file of before is still there.
    pub fn write(&self, entries: &[Entry]) -> io::Result<usize> {
        let (bytes, left_out) = encode(entries);
        let new = self.path.join(NEW_FILE);
        // A run that was killed meanwhile left it.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&new)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&new, self.path.join(FILE)));
        if written.is_err() {
            // The next writing removes it, if this does not.
            let _ = fs::remove_file(&new);
        }
        written.map(|()| left_out)
    }
}

/// Whoever made the directory did not say whose it is to be.
fn narrow(path: &Path) -> io::Result<()> {
    let now = fs::metadata(path)?;
    if !now.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    let is_ours = now.uid() == geteuid().as_raw();
    let is_shared = now.mode() & STICKY != 0;
    if is_ours && !is_shared && fs::read_dir(path)?.next().is_none() {
        fs::set_permissions(path, PermissionsExt::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

/// Reads the references in a directory; there are none where it or its file is
/// missing.
///
/// # Errors
///
/// The file is there and is refused: a sentence without the file's name.
pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
    match open(&path.join(FILE)) {
        Ok(bytes) => decode(&bytes).map_err(|refusal| refusal.to_string()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
            _ => Err(format!("it cannot be read ({error})")),
        },
    }
}

fn open(path: &Path) -> io::Result<Vec<u8>> {
    // Neither a link nor a pipe is followed to where somebody wants us.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    check(&file)?;
    let mut bytes = Vec::new();
    // One byte more shows that it is too long.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others may write it"));
    }
    Ok(())
}

/// The file that a sentence is about.
pub fn file(path: &Path) -> PathBuf {
    path.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::symlink};

    use tracer_engine::{pace::KeptPace, reference::Level, usage::Kept};
    use tracer_node::disks::{Key, Named};

    use super::*;

    fn entries() -> Vec<Entry> {
        let level = Level { ns: 90_000, batches: 60 };
        vec![Entry {
            key: Key {
                named: Named::Hardware("nvme.1b36".to_owned()),
                size_bytes: 1 << 30,
                settings: BTreeMap::new(),
            },
            at: 1_795_896_762,
            levels: vec![Kept { op: 1, class: 1, level }],
            pace: KeptPace::default(),
        }]
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn parent() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn what_is_kept_is_the_owners_alone_and_there_is_nothing_else() {
        let parent = parent();
        let path = parent.path().join("state");
        let folder = Folder::create(&path).unwrap();
        assert_eq!(read(&path), Ok(Vec::new()), "nothing is kept yet");
        assert_eq!(folder.write(&entries()).unwrap(), 0);
        assert_eq!(Folder::create(&path).unwrap().write(&entries()).unwrap(), 0, "once more");
        assert_eq!((mode(&path), mode(&file(&path))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(read(&path), Ok(entries()));
    }

    #[test]
    fn only_an_empty_directory_that_is_not_everybodys_becomes_ours_alone() {
        let parent = parent();
        let path = parent.path().join("state");
        let make = |mode| {
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        make(0o755);
        Folder::create(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::remove_dir(&path).unwrap();
        make(0o1777);
        Folder::create(&path).unwrap();
        assert_eq!(mode(&path), 0o1777);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(path.join("somebody's"), "").unwrap();
        Folder::create(&path).unwrap();
        assert_eq!(mode(&path), 0o755);
    }

    #[test]
    fn a_missing_directory_is_nothing_kept_and_cannot_be_made_without_its_parent() {
        let parent = parent();
        assert_eq!(read(&parent.path().join("a")), Ok(Vec::new()));
        assert!(Folder::create(&parent.path().join("a/b")).is_err());
        fs::write(parent.path().join("a"), "").unwrap();
        assert_eq!(read(&parent.path().join("a")), Ok(Vec::new()));
        assert!(Folder::create(&parent.path().join("a")).is_err());
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let parent = parent();
        let folder = Folder::create(parent.path()).unwrap();
        folder.write(&entries()).unwrap();
        let kept = file(parent.path());
        fs::set_permissions(&kept, PermissionsExt::from_mode(0o620)).unwrap();
        assert!(read(parent.path()).unwrap_err().contains("others may write it"));
        let moved = parent.path().join("moved");
        fs::set_permissions(&kept, PermissionsExt::from_mode(0o600)).unwrap();
        fs::rename(&kept, &moved).unwrap();
        symlink(&moved, &kept).unwrap();
        assert!(read(parent.path()).is_err(), "a link");
        fs::remove_file(&kept).unwrap();
        fs::create_dir(&kept).unwrap();
        assert!(read(parent.path()).unwrap_err().contains("it is no file"));
        fs::remove_dir(&kept).unwrap();
        fs::write(&kept, vec![b'x'; 2 << 20]).unwrap();
        assert!(read(parent.path()).unwrap_err().contains("longer than"));
    }

    #[test]
    fn what_a_killed_run_left_is_in_nobodys_way() {
        let parent = parent();
        let elsewhere = parent.path().join("elsewhere");
        let path = parent.path().join("state");
        let folder = Folder::create(&path).unwrap();
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, path.join(NEW_FILE)).unwrap();
        folder.write(&entries()).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
        assert_eq!(read(&path), Ok(entries()));
    }

    #[test]
    fn where_it_cannot_be_written_what_was_kept_stays() {
        let parent = parent();
        let folder = Folder::create(parent.path()).unwrap();
        folder.write(&entries()).unwrap();
        // Not even user 0 can remove that as a file.
        fs::create_dir(parent.path().join(NEW_FILE)).unwrap();
        assert!(folder.write(&[]).is_err());
        assert_eq!(read(parent.path()), Ok(entries()));
    }
}
