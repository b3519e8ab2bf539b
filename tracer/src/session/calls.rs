//! Decides whether all system calls need a hook.
//!
//! On a kernel that refuses fentry, ext4's own tracepoints mark the begin and the
//! end of a file's sync, and the registers show which call it is in. Other filesystems
//! have fewer such tracepoints, and a disk's own device node has none. Then only a hook on
//! every system call of every process sees all syncs, which costs each call some 150 ns. So
//! it is attached only if it is needed: another filesystem is mounted, or the kernel programs
//! met steps of syncs whose call they had not seen ([`Dropped::CallUnseen`]). Once
//! attached it stays, since detaching it would leave syncs open that have begun.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::fd::AsFd as _,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracer_ebpf::dropped::Dropped;

use super::Session;
use tracer_kernel::{
    capability::Capability,
    facts::Facts,
    program::Program,
    strategies::{Forced, Selection},
};
use tracer_node::{mounts, tree::Tree};

/// The strategy that has the hooks on demand.
const STRATEGY: &str = "tracepoint";

/// Filesystems that ext4's driver serves, that lie on one of these, or that hold nobody's
/// data. Any other may have files that somebody syncs.
const SERVED: [&[u8]; 34] = [
    b"autofs",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"cramfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"erofs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"fusectl",
    b"hugetlbfs",
    b"iso9660",
    b"mqueue",
    b"nfsd",
    b"nsfs",
    b"overlay",
    b"proc",
    b"pstore",
    b"ramfs",
    b"resctrl",
    b"rootfs",
    b"rpc_pipefs",
    b"securityfs",
    b"selinuxfs",
    b"squashfs",
    b"sysfs",
    b"tmpfs",
    b"tracefs",
];

/// Unseen syncs per hundred seen ones from which on the hook is attached. On a busy
/// machine a hook's run is missed now and then.
const UNSEEN_PERCENT: u64 = 1;

/// The need of a hook on all calls, as far as is known.
pub struct Calls {
    mounts: Option<File>,
    is_needed: bool,
    pub is_attached: bool,
    /// At the last tick, once there was one: syncs seen, and steps of others.
    last: Option<(u64, u64)>,
}

impl Calls {
    /// Decides by the features of the kernel, by what is mounted, and by whether the user
    /// asked for a strategy by name.
    pub fn new(facts: &Facts, forced: &[Forced], tree: &Tree) -> Self {
        let hooks = [Program::Ext4SyncFileEnter, Program::Ext4SyncFileExit];
        let has_ext4 = hooks.into_iter().all(|program| facts.location(program).is_some());
        let mounts = ["1", "self"]
            .into_iter()
            .find_map(|process| File::open(tree.at(format!("proc/{process}/mountinfo"))).ok());
        let is_forced = forced.iter().any(|wish| wish.capability == Capability::Sync);
        let mut calls = Self {
            mounts,
            is_needed: is_forced || !has_ext4 || facts.config.task_regs != 1,
            is_attached: false,
            last: None,
        };
        calls.look_at_mounts();
        calls
    }

    pub fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Looks again if something was mounted or unmounted since.
    fn look_again(&mut self) {
        let has_changed = self.mounts.as_ref().is_some_and(|mounts| {
            // The file is always readable; only POLLPRI says that it has changed.
            let mut polled = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
            poll(&mut polled, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
        });
        if has_changed {
            self.look_at_mounts();
        }
    }

    fn look_at_mounts(&mut self) {
        let mut text = Vec::new();
        let served = self.mounts.as_mut().is_some_and(|file| {
            let rewound = file.rewind();
            let mut bounded = file.take(mounts::MAX_BYTES as u64);
            let read = rewound.and_then(|()| bounded.read_to_end(&mut text));
            read.is_ok() && are_served(&text)
        });
        self.is_needed |= !served;
    }

    /// Takes in how many syncs were seen since the start, and how many steps of
    /// others. What began before the tracer did may be among the first.
    fn compare(&mut self, seen: u64, unseen: u64) {
        if let Some((seen_then, unseen_then)) = self.last {
            let (seen, unseen) = (seen - seen_then, unseen - unseen_then);
            self.is_needed |= unseen * 100 > seen * UNSEEN_PERCENT;
        }
        self.last = Some((seen, unseen));
    }
}

/// Whether ext4's tracepoints see all syncs on these mounts.
fn are_served(mountinfo: &[u8]) -> bool {
    let mut known = mounts::parse(mountinfo).peekable();
    known.peek().is_some() && known.all(|mount| SERVED.contains(&mount.fstype))
}

/// Whether the strategy with these hooks provides the capability.
pub fn may_serve(selections: &[Selection]) -> bool {
    let sync = selections.iter().find(|selection| selection.capability == Capability::Sync);
    sync.and_then(Selection::selected) == Some(STRATEGY)
}

impl Session {
    /// Hooks all calls once that is needed.
    pub(super) fn attach_call_hooks_if_needed(&mut self) {
        if self.calls.is_attached || !may_serve(self.programs.selections()) {
            return;
        }
        let unseen = self.accounts.tables().dropped(Dropped::CallUnseen);
        self.calls.look_again();
        self.calls.compare(self.scene.engine.records(), unseen);
        if self.calls.is_needed {
            self.programs.set_attached(Capability::Sync, true);
            self.calls.is_attached = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filesystems_of_ext4s_driver_do_without_the_calls() {
        let check = |fstypes: &[&str], expected| {
            let line = |(id, fstype): (usize, &&str)| {
                format!("{id} 0 8:{id} / / rw shared:1 - {fstype} /dev/sda{id} rw\n")
            };
            let lines: String = fstypes.iter().enumerate().map(line).collect();
            assert_eq!(are_served(lines.as_bytes()), expected, "{fstypes:?}");
        };
        check(&["ext4", "proc", "overlay", "cgroup2", "tmpfs"], true);
        check(&["ext4", "xfs"], false);
        check(&["ext4", "fuse.lxcfs"], false);
        check(&["nfs4", "ext4"], false);
        // Mounts that cannot be read do not ask for the hook.
        check(&[], false);
    }

    #[test]
    fn syncs_whose_call_was_not_seen_ask_for_it() {
        let calls =
            || Calls { mounts: None, is_needed: false, is_attached: false, last: Some((100, 5)) };
        for (seen, unseen, expected) in
            [(100, 5, false), (100, 6, true), (300, 7, false), (300, 8, true)]
        {
            let mut calls = calls();
            calls.compare(seen, unseen);
            assert_eq!(calls.is_needed, expected, "{seen} {unseen}");
        }
    }

    #[test]
    fn what_began_before_the_start_does_not() {
        let mut calls = Calls { mounts: None, is_needed: false, is_attached: false, last: None };
        calls.compare(0, 9);
        assert!(!calls.is_needed);
        calls.compare(0, 10);
        assert!(calls.is_needed);
    }
}
