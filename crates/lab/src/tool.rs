//! The system's programs that the lab runs, and the Debian package of each.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A program, and the Debian package that contains it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub name: &'static str,
    pub package: &'static str,
}

pub const BLOCKDEV: Tool = Tool { name: "blockdev", package: "util-linux" };
pub const DD: Tool = Tool { name: "dd", package: "coreutils" };
pub const ETCD: Tool = Tool { name: "etcd", package: "etcd-server" };
pub const FIO: Tool = Tool { name: "fio", package: "fio" };
pub const FSFREEZE: Tool = Tool { name: "fsfreeze", package: "util-linux" };
pub const FSTRIM: Tool = Tool { name: "fstrim", package: "util-linux" };
pub const LOSETUP: Tool = Tool { name: "losetup", package: "mount" };
pub const MKFS_BTRFS: Tool = Tool { name: "mkfs.btrfs", package: "btrfs-progs" };
pub const MKFS_EXT4: Tool = Tool { name: "mkfs.ext4", package: "e2fsprogs" };
pub const MKFS_XFS: Tool = Tool { name: "mkfs.xfs", package: "xfsprogs" };

impl Tool {
    /// Finds the program. It looks in the sbin directories too, because `su` without a login
    /// shell leaves them out of `PATH`.
    pub fn find(&self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
            .map(|folder| folder.join(self.name))
            .find(|file| is_program(file))
    }

    pub fn command(&self) -> Result<Command> {
        match self.find() {
            Some(path) => Ok(Command::new(path)),
            None => bail!("`{}` is not installed: `apt install {}`", self.name, self.package),
        }
    }

    /// Runs it to its end and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command()?;
        command.args(args);
        process::die_with_us(&mut command);
        let output =
            command.output().with_context(|| format!("failed to start `{}`", self.name))?;
        if !output.status.success() {
            bail!(
                "`{} {}` failed ({}): {}",
                self.name,
                args.join(" "),
                output.status,
                last_line(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The last line that a program printed, short and free of control characters.
pub fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it printed nothing").chars().filter(|c| !c.is_control()).take(300).collect()
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::{Tool, last_line};

    #[test]
    fn a_missing_tool_names_its_package() {
        let tool = Tool { name: "no-such-program-here", package: "its-package" };
        let error = tool.run(&[]).unwrap_err();
        assert!(error.to_string().contains("apt install its-package"), "{error}");
    }

    #[test]
    fn the_last_words_are_one_short_line() {
        assert_eq!(last_line(b"first\nsec\x1bond\n\n"), "second");
        assert_eq!(last_line(b""), "it printed nothing");
        assert_eq!(last_line(&[b'x'; 5000]).len(), 300);
    }
}
