//! The temporary folder of tests: what they leave in it is found and removed.
//!
//! It is a folder of its own, because others put files into the machine's all the time.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The variable that names the temporary folder to a program.
pub const VARIABLE: &str = "TMPDIR";

/// Longer lists are cut.
const MAX_NAMES: usize = 10;

pub struct Scratch {
    folder: TempDir,
    /// Its path, for [`VARIABLE`].
    path: String,
}

impl Scratch {
    /// Makes an empty folder in the machine's temporary one.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, or its path is no text.
    pub fn make() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("tracer-tests-").tempdir().with_context(|| {
                format!("failed to make a folder in `{}`", env::temp_dir().display())
            })?;
        // Programs of live tests give up their rights and read here all the same, as they do
        // in /tmp.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777))
            .context("failed to open the tests' temporary folder to all")?;
        let path = folder.path().to_str().context("the temporary folder's path is no text")?;
        Ok(Self { path: path.to_owned(), folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The variable with the path, for a program that runs as root.
    pub fn variable(&self) -> (&'static str, &str) {
        (VARIABLE, &self.path)
    }

    /// Removes what is in the folder; returns the first names of it, quoted.
    ///
    /// # Errors
    ///
    /// The folder cannot be read. That something of root's cannot be removed is none.
    pub fn clear(&self) -> Result<Vec<String>> {
        let cannot = || format!("failed to read `{}`", self.path);
        let entries = fs::read_dir(self.path()).with_context(cannot)?;
        let left = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>();
        let mut left = left.with_context(cannot)?;
        left.sort();
        left.iter().for_each(|path| remove(path));
        let names = left.iter().take(MAX_NAMES).map(|path| format!("{:?}", name(path)));
        let mut names: Vec<_> = names.collect();
        if left.len() > MAX_NAMES {
            names.push(format!("and {} more", left.len() - MAX_NAMES));
        }
        Ok(names)
    }
}

fn name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

fn remove(path: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    if let Err(error) = removed {
        eprintln!("failed to remove {path:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_removed() {
        let scratch = Scratch::make().unwrap();
        assert_eq!(scratch.clear().unwrap(), [""; 0]);
        fs::create_dir_all(scratch.path().join("b/c")).unwrap();
        fs::write(scratch.path().join("a\n"), "").unwrap();
        assert_eq!(scratch.clear().unwrap(), [r#""a\n""#, r#""b""#]);
        assert_eq!(scratch.clear().unwrap(), [""; 0]);
        for number in 0..12 {
            fs::write(scratch.path().join(format!("{number:02}")), "").unwrap();
        }
        let names = scratch.clear().unwrap();
        assert_eq!(
            (names.len(), names[9].as_str(), names[10].as_str()),
            (11, "\"09\"", "and 2 more")
        );
    }

    #[test]
    fn all_may_use_the_folder_and_it_goes_with_its_owner() {
        let scratch = Scratch::make().unwrap();
        let (path, mode) = (scratch.path().to_owned(), scratch.path().metadata().unwrap());
        assert_eq!(mode.permissions().mode() & 0o7777, 0o1777);
        assert_eq!(scratch.variable(), ("TMPDIR", path.to_str().unwrap()));
        drop(scratch);
        assert!(!path.exists());
    }
}
