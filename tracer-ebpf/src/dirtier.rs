//! For whom a kernel thread works.
//!
//! A flusher writes back what somebody dirtied a while ago, a journal's commit
//! writes the data that must go before it, a worker of a loop device or of the
//! throttling layer passes on requests of others. Two things show for whom: the
//! cgroup that the bio names (cgroup v2 with the io controller), and the task that
//! last made the clean inode dirty that this thread is writing. An inode that never
//! becomes clean keeps the first.
//!
//! The block device's own inode holds a filesystem's metadata, which is of all
//! its users: nobody is behind its writeback, whatever its cgroup.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::LruHashMap};
use tracer_ebpf::{
    dropped::Dropped,
    record::{COMM, via},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    cell::fields,
    fields::{FileKey, Kernel, Task, bio_cgroup, file_key},
    maps::{Lookup as _, count_drop},
    pids,
    submitter::{Actor, Submitter, in_kernel_thread},
};

/// The task that made a clean inode dirty.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Dirtier {
    cgroup: u64,
    /// The cgroup that its bios will name: its own, or the nearest above it for
    /// which the io controller is on. 0 where that cannot be asked.
    io_cgroup: u64,
    comm: [u8; COMM],
    tgid: u64,
}

impl Dirtier {
    /// Nobody, or a kernel thread that works for an unknown owner.
    const NOBODY: Self = Self { cgroup: 0, io_cgroup: u64::MAX, comm: [0; COMM], tgid: 0 };

    #[inline(always)]
    fn is_nobody(&self) -> bool {
        self.io_cgroup == u64::MAX
    }
}

/// The thread writes for one dirtier, if there is any.
const ONES: u16 = 0;
/// The thread writes what belongs to all users of the filesystem.
const SHARED: u16 = 1;
/// It is not known who made the file dirty: it was dirty before the tracer started, or the
/// kernel evicted the entry. [`note_writer`] finds who still writes to it.
const UNKNOWN: u16 = 2;

/// The file that a kernel thread is writing, in terms of who made it dirty.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Writing {
    dirtier: Dirtier,
    /// A code of [`via`]; `DIRECT` while nothing is known.
    via: u32,
    /// [`ONES`], [`SHARED`] or [`UNKNOWN`].
    of: u16,
    /// 1 if this holds only until the end of its next transaction.
    once: u16,
}

fields! { Writing { via: u32, of: u16, once: u16 } }

/// Takes 4 MiB of kernel memory. Beyond 32,768 inodes the kernel evicts the least recently
/// used ones, without notice. Work for an inode that is still dirty then is counted as
/// [`Dropped::DirtierUnknown`].
#[map]
static DIRTIERS: LruHashMap<FileKey, Dirtier> = LruHashMap::with_max_entries(32_768, 0);

/// The inodes being written, by tid. An entry stays and is used again: flushers are
/// few. Only its own thread reads or writes it.
#[map]
static WRITING: LruHashMap<u32, Writing> = LruHashMap::with_max_entries(1024, 0);

/// The running task makes a clean inode dirty.
#[inline(always)]
pub fn note_dirtier(inode: Kernel) {
    note_user(file_key(inode, 0));
}

/// The running task makes a page of an inode dirty that may have been dirty before.
#[inline(always)]
pub fn note_writer(inode: Kernel) {
    let file = file_key(inode, 0);
    if DIRTIERS.cell(&file).is_none() {
        note_user(file);
    }
}

/// The running task is the last user of a file, and leaves the rest of the work on it to a
/// kernel thread.
#[inline(always)]
pub fn note_user(file: FileKey) {
    if file.device == 0 || file.is_block_device() {
        return;
    }
    let who = Actor::running();
    if who.is_kernel() {
        // This may be a loop device's worker, and it is not known for whom that works.
        // Whoever dirtied the file before is no longer responsible. This is noted, because
        // a file without an entry counts as unknown.
        let _ = DIRTIERS.insert(file, Dirtier::NOBODY, 0);
        return;
    }
    let io_cgroup = match Task::current() {
        Some(task) => task.io_cgroup(),
        None => 0,
    };
    let tgid = u64::from(pids::current_tgid());
    let dirtier = Dirtier { cgroup: who.cgroup, io_cgroup, comm: who.comm, tgid };
    let _ = DIRTIERS.insert(file, dirtier, 0);
}

/// The running thread, if it is one of the kernel, writes an inode. A user's
/// task that does so waits for it, and is charged itself.
#[inline(always)]
pub fn begin_inode(inode: Kernel, via: u32) {
    begin(file_key(inode, 0), via, 0);
}

/// A kernel thread frees the blocks of a file that somebody deleted.
#[inline(always)]
pub fn begin_file(file: FileKey) {
    begin(file, u32::from(via::WRITEBACK), 0);
}

/// The next transaction of a kernel thread is for this file.
#[inline(always)]
pub fn begin_transaction(file: FileKey) {
    begin(file, u32::from(via::WRITEBACK), 1);
}

#[inline(always)]
fn begin(file: FileKey, via: u32, once: u16) {
    if !in_kernel_thread() {
        return;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    let of = if file.is_block_device() { SHARED } else { UNKNOWN };
    let mut writing = Writing { dirtier: Dirtier::NOBODY, via: u32::from(via::DIRECT), of, once };
    // An entry is replaced as a whole. A torn reading names one of two tasks that dirtied
    // the file one after the other.
    if let Some(dirtier) = DIRTIERS.cell(&file) {
        writing.dirtier = dirtier.get();
        writing.of = ONES;
        if !writing.dirtier.is_nobody() {
            writing.via = via;
        }
    }
    match WRITING.cell(&tid) {
        Some(known) => known.set(writing),
        None => {
            let _ = WRITING.insert(tid, writing, 0);
        }
    }
}

/// The running kernel thread has written the inode. Returns false if the begin was not
/// seen.
#[inline(always)]
pub fn end_inode() -> bool {
    if !in_kernel_thread() {
        return true;
    }
    let known = WRITING.cell(&(bpf_get_current_pid_tgid() as u32));
    if let Some(known) = known {
        known.via().set(u32::from(via::DIRECT));
        known.of().set(ONES);
        known.once().set(0);
    }
    known.is_some()
}

/// A transaction of the running thread has ended.
#[inline(always)]
pub fn end_transaction() {
    if in_kernel_thread()
        && let Some(known) = WRITING.cell(&(bpf_get_current_pid_tgid() as u32))
        && known.once().get() != 0
    {
        known.via().set(u32::from(via::DIRECT));
        known.of().set(ONES);
        known.once().set(0);
    }
}

/// The running task at `now`, or the one for whom it submits this bio.
#[inline(always)]
pub fn submitter_of_bio(bio: Kernel, now: u64) -> Submitter {
    let mut who = Submitter::current(now);
    if who.is_kernel() {
        stand_in(&mut who, bio);
    }
    who
}

/// Puts the one for whom a kernel thread submits a bio in its place, where
/// somebody is known.
#[inline(never)]
fn stand_in(who: &mut Submitter, bio: Kernel) -> i32 {
    let Some(writing) = WRITING.cell(&who.tid) else {
        name_cgroup(who, bio_cgroup(bio));
        return 0;
    };
    let writing = writing.get();
    if writing.of == SHARED {
        return 0;
    }
    if writing.of == UNKNOWN {
        count_drop(Dropped::DirtierUnknown);
    }
    let cgroup = bio_cgroup(bio);
    let dirtier = &writing.dirtier;
    let agrees = cgroup == 0 || cgroup == dirtier.cgroup || cgroup == dirtier.io_cgroup;
    if writing.via != u32::from(via::DIRECT) && agrees {
        name_dirtier(who, &writing);
    } else {
        name_cgroup(who, cgroup);
    }
    0
}

/// Replaces a kernel thread by the dirtier of the inode that it is writing, without a bio.
#[inline(always)]
pub fn stand_in_for_file(who: &mut Submitter) {
    if let Some(writing) = WRITING.cell(&who.tid) {
        let writing = writing.get();
        if writing.via != u32::from(via::DIRECT) {
            name_dirtier(who, &writing);
        } else if writing.of == UNKNOWN {
            count_drop(Dropped::DirtierUnknown);
        }
    }
}

#[inline(always)]
fn name_dirtier(who: &mut Submitter, writing: &Writing) {
    who.cgroup = writing.dirtier.cgroup;
    who.comm = writing.dirtier.comm;
    who.tgid = writing.dirtier.tgid as u32;
    who.kthread = 0;
    who.via = writing.via;
}

/// Sets the cgroup only: the process is not known, so the name stays the kernel thread's.
#[inline(always)]
fn name_cgroup(who: &mut Submitter, cgroup: u64) {
    if cgroup != 0 {
        who.cgroup = cgroup;
        who.tgid = 0;
        who.kthread = 0;
        who.via = u32::from(via::CGROUP);
    }
}
