//! Watches the node's mounts. The kernel reports changes once to each opener of
//! a mountinfo file, and only those of that file's mount namespace.

use std::{fs::File, os::fd::AsFd as _};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::tree::Tree;

/// The processes whose mounts are watched: the node's first, and ourselves, who
/// may be in another mount namespace.
const WATCHED: [&str; 2] = ["1", "self"];

/// The mountinfo files of the [`WATCHED`] processes, open for polling.
#[derive(Debug)]
pub struct MountWatch {
    files: [Option<File>; WATCHED.len()],
}

impl MountWatch {
    pub fn new(tree: &Tree) -> Self {
        let open = |process| File::open(tree.at(format!("proc/{process}/mountinfo"))).ok();
        Self { files: WATCHED.map(open) }
    }

    /// Whether changes of the mounts are reported that a process sees, whose name
    /// in /proc is given.
    pub fn watches(&self, process: &str) -> bool {
        WATCHED.iter().zip(&self.files).any(|(name, file)| *name == process && file.is_some())
    }

    /// Whether mounts have changed since the last call.
    pub fn have_changed(&self) -> bool {
        // All files are polled: each reports a change only once.
        let changed = self.files.iter().flatten().filter(|mounts| {
            let mut wait = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
            poll(&mut wait, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
        });
        changed.count() > 0
    }
}
