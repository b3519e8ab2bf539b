//! The begin of a sync, and what is named of it on the way.
//!
//! A sync opens at its system call or, if no sync call asked for it (a write to an O_DSYNC
//! file, an io_uring worker, a kernel thread), at the filesystem; it closes where it was
//! opened. Hooks in between fill in the file or the disk if they know it; if none does, the
//! first block request shows the disk. So several hooks on one path count a sync once.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::record::{NO_DISK, NO_NAME, kind};

use super::{
    call::{Call, miss},
    state::{COMMIT, OpenSync},
    table::{current_sync, open},
    windows::watch,
};
use crate::{
    cell::MapCell,
    clock::now_ns,
    fields::{SyncedFile, Task},
    journals,
    maps::{ask_for_disk, described},
    pids,
    submitter::{Actor, running_workers},
};

/// A depth for `begin`: a sync that a system call opened is closed at the end of that call,
/// whatever the depth of filesystems.
pub const SYSTEM_CALL: u32 = 0;
const FILESYSTEM: u32 = 1;

/// Notes that the filesystem was asked to sync a file. It is part of the sync call under way,
/// or else begins a sync of its own, of the hook's `kind` or that of the thread.
#[inline(always)]
pub fn enter(file: SyncedFile, kind: Option<u32>) {
    let now = now_ns();
    match current_sync() {
        Some(sync) => {
            let depth = sync.depth().get();
            sync.depth().set(depth + u32::from(depth != SYSTEM_CALL));
        }
        None => {
            let call = match kind {
                Some(kind) => Call { kind, fd: -1 },
                None => Call::current().unwrap_or_else(|| Call { kind: uncalled_kind(), fd: -1 }),
            };
            begin(call, FILESYSTEM, now);
        }
    }
    locate_at(&file, now);
}

/// The kind of a sync that no sync call asked for.
#[inline(always)]
fn uncalled_kind() -> u32 {
    let (kthread, io_worker) = running_workers();
    if kthread {
        kind::KERNEL
    } else if io_worker {
        kind::IO_URING
    } else {
        kind::OSYNC_WRITE
    }
}

#[inline(never)]
pub fn begin(call: Call, depth: u32, now: u64) -> i32 {
    let (pid_tgid, task) = (bpf_get_current_pid_tgid(), Task::current());
    let Some(sync) = open_with(pid_tgid as u32, call, task, now) else { return 0 };
    sync.depth().set(depth);
    let (who, ids) = (Actor::of_running(task), pids::shown(pid_tgid));
    sync.cgroup().set(who.cgroup);
    sync.comm().set(zerocopy::transmute!(who.comm));
    sync.kthread().set(u16::from(who.kthread));
    sync.shown_tgid().set((ids >> 32) as u32);
    sync.shown_tid().set(ids as u32);
    sync.begin_ns().set(now);
    0
}

/// Opens the entry of the running thread for a journal's commit, which nobody is shown for.
#[inline(always)]
pub fn begin_unnamed(call: Call, now: u64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(sync) = open_with(tid, call, Task::current(), now) {
        sync.depth().set(SYSTEM_CALL);
        sync.begin_ns().set(now);
    }
}

#[inline(always)]
fn open_with(tid: u32, call: Call, task: Option<Task>, now: u64) -> Option<MapCell<OpenSync>> {
    let sync = open(tid, now as u32)?;
    sync.kind().set(call.kind);
    sync.fd().set(call.fd);
    if let Some(task) = task {
        sync.clocks().set(task.clocks());
    }
    Some(sync)
}

/// Notes the file, or at least the filesystem, of the sync under way. The first file that is
/// named is the one that was synced; the first with a disk is the one that is waited for.
#[inline(always)]
pub fn locate(file: &SyncedFile) {
    match current_sync() {
        Some(sync) if sync.base_device().get() == 0 => {
            locate_at(file, now_ns());
        }
        Some(_) => {}
        None => miss(),
    }
}

#[inline(never)]
fn locate_at(file: &SyncedFile, now: u64) -> i32 {
    let Some(sync) = current_sync() else { return 0 };
    let kind = sync.kind().get();
    if sync.base_device().get() != 0 || file.device == 0 || kind == COMMIT {
        return 0;
    }
    // A sync of whole filesystems also goes through the block device's own pages, and
    // sync(2) also through filesystems without a disk.
    let whole = kind == kind::SYNCFS || kind == kind::SYNC;
    if whole && file.disk_device == 0 {
        return 0;
    }
    if sync.device().get() == 0 {
        sync.inode().set(file.inode);
        sync.generation().set(file.generation);
        sync.backing().set(file.backing);
        sync.device().set(file.device);
    }
    if file.disk_device == 0 {
        return 0;
    }
    sync.base_device().set(file.device);
    sync.journal().set(journals::totals(file.device, now));
    match described(file.disk_device) {
        Some(disk) if sync.disk().get() == NO_DISK => watch(sync, disk, now),
        Some(_) => 0,
        None => {
            ask_for_disk(file.disk_device, || NO_NAME);
            0
        }
    }
}
