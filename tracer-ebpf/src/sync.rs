//! The sync path: one record for each sync, with its phases and who else had
//! requests in flight meanwhile.
//!
//! A sync opens at its system call or, where it is none of the sync calls (a
//! write to an O_DSYNC file, an io_uring worker, a kernel thread), at the
//! filesystem; it closes where it was opened. Whatever names the file or the
//! disk in between fills it in, and if nothing does, its first block request
//! tells the disk. So several hooks on one path count it once.

use aya_ebpf::{
    bindings::BPF_RB_AVAIL_DATA, helpers::bpf_get_current_pid_tgid, macros::map, maps::Array,
};
use tracer_ebpf::{
    ledger::{integral, tick},
    record::{ACCOUNTS, DiskLedger, NO_DISK, SyncRecord, commit, kind, loss},
};

use crate::{
    clock::now_ns,
    fields::{Clocks, Place, Task},
    journal,
    maps::{DISKS, FORCE_WAKEUP, LEDGER, NO_WAKEUP, OPEN_SYNCS, RECORDS, add, ask_for_disk, lose},
    owner,
};

mod hooks;

/// A sync under way.
#[repr(C)]
pub struct OpenSync {
    begin_ns: u64,
    clocks: Clocks,
    /// The journal's busy time when the filesystem became known.
    journal_ns: u64,
    inode: u64,
    /// Sums over its own requests; added to where they end, on any CPU.
    own_queue_ns: u64,
    own_device_ns: u64,
    own_ios: u64,
    /// Birth of its first own request, end of its last.
    own_first_ns: u64,
    own_last_ns: u64,
    /// Tells this sync from the thread's others.
    seq: u32,
    kind: u32,
    fd: i32,
    /// The filesystem of the file that was named.
    device: u32,
    /// The filesystem on the disk: another one below an overlay.
    base_device: u32,
    disk: u32,
    /// How deep it is in filesystems' own syncs; always 0 in a system call's.
    depth: u32,
    /// The accounts' integrals when the disk became known.
    marks: [u64; ACCOUNTS],
}

/// `begin`'s depths: the first end of all closes what a system call opened.
const SYSTEM_CALL: u32 = 0;
const FILESYSTEM: u32 = 1;

/// An empty entry to insert: it would not fit on the stack.
#[map]
static EMPTY_SYNC: Array<OpenSync> = Array::with_max_entries(1, 0);

/// Wake the reader when this much of the ring waits for it; else it polls.
const WAKE_AT_BYTES: u64 = 1 << 20;

/// The filesystem was asked to sync a file: for the sync call under way, or for
/// one of its own, of the `kind` that the hook says or else of its thread's.
#[inline(always)]
fn enter(place: Place, kind: Option<u32>) {
    match OPEN_SYNCS.get_ptr_mut(bpf_get_current_pid_tgid() as u32) {
        Some(sync) => {
            // SAFETY: only this thread opens and closes its entry.
            let sync = unsafe { &mut *sync };
            sync.depth += u32::from(sync.depth != SYSTEM_CALL);
        }
        None => {
            let kind = kind.unwrap_or_else(|| {
                let who = owner::current();
                if who.kthread {
                    kind::KERNEL
                } else if who.io_worker {
                    kind::IO_URING
                } else {
                    kind::OSYNC_WRITE
                }
            });
            begin(kind, -1, FILESYSTEM);
        }
    }
    locate(&place);
}

/// The filesystem is done with a file.
#[inline(always)]
fn leave() {
    let Some(sync) = OPEN_SYNCS.get_ptr_mut(bpf_get_current_pid_tgid() as u32) else {
        lose(loss::SYNC_UNMATCHED);
        return;
    };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &mut *sync };
    if sync.depth == SYSTEM_CALL {
        return;
    }
    sync.depth -= 1;
    if sync.depth == 0 {
        finish();
    }
}

/// Which of its syncs a thread is in, if any; notes that a request of it was
/// born on a disk.
#[inline(always)]
pub fn open_sync(tid: u32, disk: u32, now: u64) -> Option<u32> {
    let sync = OPEN_SYNCS.get_ptr_mut(tid)?;
    // SAFETY: the thread's own entry, or a word that only this writes.
    let sync = unsafe { &mut *sync };
    if sync.own_first_ns == 0 {
        sync.own_first_ns = now;
    }
    // Nothing has told the disk so far (btrfs, device mapper, md, …). Where
    // births are seen late, in another thread, this one may be closing its
    // entry.
    if sync.disk == NO_DISK && tid == bpf_get_current_pid_tgid() as u32 {
        watch(sync, disk, now);
    }
    Some(sync.seq)
}

/// A request that a thread's sync waits for has ended.
#[inline(always)]
pub fn credit(tid: u32, seq: u32, queue_ns: u64, device_ns: u64, now: u64) {
    let Some(sync) = OPEN_SYNCS.get_ptr_mut(tid) else { return };
    // SAFETY: the sums are changed by atomic adds; of two ends that race for
    // `own_last_ns` either is within their difference of the right one.
    unsafe {
        if (*sync).seq != seq {
            return;
        }
        add(&raw mut (*sync).own_queue_ns, queue_ns);
        add(&raw mut (*sync).own_device_ns, device_ns);
        add(&raw mut (*sync).own_ios, 1);
        (*sync).own_last_ns = now;
    }
}

#[inline(never)]
fn begin(kind: u32, fd: i32, depth: u32) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(empty) = EMPTY_SYNC.get(0) else { return 0 };
    if OPEN_SYNCS.insert(tid, empty, 0).is_err() {
        lose(loss::SYNC_TABLE_FULL);
        return 0;
    }
    let Some(sync) = OPEN_SYNCS.get_ptr_mut(tid) else { return 0 };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &mut *sync };
    sync.kind = kind;
    sync.fd = fd;
    sync.depth = depth;
    sync.disk = NO_DISK;
    if let Some(task) = Task::current() {
        sync.clocks = task.clocks();
    }
    let now = now_ns();
    sync.begin_ns = now;
    sync.seq = now as u32;
    0
}

/// The file, or at least the filesystem, of the sync under way is known. The
/// first that is named is what was synced; the first with a disk is what is
/// waited for.
#[inline(never)]
fn locate(place: &Place) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(sync) = OPEN_SYNCS.get_ptr_mut(tid) else { return 0 };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &mut *sync };
    if sync.base_device != 0 || place.device == 0 {
        return 0;
    }
    // One of whole filesystems goes through the block device's own pages too,
    // and sync(2) through filesystems of no disk.
    let whole = sync.kind == kind::SYNCFS || sync.kind == kind::SYNC;
    if whole && place.disk_device == 0 {
        return 0;
    }
    if sync.device == 0 {
        sync.inode = place.inode;
        sync.device = place.device;
    }
    if place.disk_device == 0 {
        return 0;
    }
    let now = now_ns();
    sync.base_device = place.device;
    sync.journal_ns = journal::busy_ns(place.device, now);
    // SAFETY: entries are replaced whole and only by user space.
    match unsafe { DISKS.get(place.disk_device) } {
        Some(disk) if sync.disk == NO_DISK => watch(sync, disk.index, now),
        Some(_) => 0,
        None => {
            ask_for_disk(place.disk_device);
            0
        }
    }
}

/// From here on the accounts of a disk are watched.
#[inline(never)]
fn watch(sync: &mut OpenSync, disk: u32, now: u64) -> i32 {
    let Some(ledger) = LEDGER.get_ptr(disk) else { return 0 };
    sync.disk = disk;
    for account in 0..ACCOUNTS {
        sync.marks[account] = read_account(ledger, account, now);
    }
    0
}

#[inline(always)]
fn read_account(ledger: *const DiskLedger, account: usize, now: u64) -> u64 {
    // SAFETY: callers stay within the array; a value of a map, read word by
    // word, volatile because other CPUs add to it.
    let (word, done) = unsafe {
        let account = &raw const (*ledger).accounts[account];
        let word = core::ptr::read_volatile(&raw const (*account).word);
        (word, core::ptr::read_volatile(&raw const (*account).done))
    };
    integral(word, done, tick(now))
}

/// The end of the thread's sync, if it is in one.
#[inline(never)]
fn finish() -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let Some(sync) = OPEN_SYNCS.get_ptr(tid) else { return 0 };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &*sync };
    let now = now_ns();
    let Some(mut entry) = RECORDS.reserve::<SyncRecord>(0) else {
        let _ = OPEN_SYNCS.remove(tid);
        lose(loss::RING_FULL);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is a whole record in the ring, and every field of it
    // is written below.
    unsafe {
        fill(record, sync, pid_tgid, now);
        fill_areas(record, sync, now);
    }
    let waiting = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    entry.submit(if waiting >= WAKE_AT_BYTES { FORCE_WAKEUP } else { NO_WAKEUP });
    let _ = OPEN_SYNCS.remove(tid);
    0
}

/// # Safety
///
/// `record` points to a whole record.
#[inline(always)]
unsafe fn fill(record: *mut SyncRecord, sync: &OpenSync, pid_tgid: u64, now: u64) {
    let who = owner::current();
    let duration = now.saturating_sub(sync.begin_ns);
    let (cpu, runqueue) = match Task::current() {
        Some(task) => {
            let clocks = task.clocks();
            // What ran since the scheduler last looked is not in `exec_runtime`
            // yet, at either end; the distance to `exec_start` makes up for it,
            // and the two clocks' offset cancels out.
            let cpu = clocks
                .exec_runtime
                .wrapping_sub(sync.clocks.exec_runtime)
                .wrapping_add(duration)
                .wrapping_sub(clocks.exec_start.wrapping_sub(sync.clocks.exec_start));
            let cpu = if cpu as i64 > 0 { cpu } else { 0 };
            (cpu, clocks.run_delay.saturating_sub(sync.clocks.run_delay))
        }
        None => (0, 0),
    };
    let journal = if sync.base_device == 0 {
        0
    } else {
        journal::busy_ns(sync.base_device, now).saturating_sub(sync.journal_ns)
    };
    // SAFETY: the caller's.
    let record = unsafe { &mut *record };
    record.begin_ns = sync.begin_ns;
    record.duration_ns = duration;
    record.cpu_ns = cpu;
    record.runqueue_ns = runqueue;
    record.own_queue_ns = sync.own_queue_ns;
    record.own_device_ns = sync.own_device_ns;
    record.own_span_ns = sync.own_last_ns.saturating_sub(sync.own_first_ns);
    record.journal_ns = journal;
    record.journal_queue_ns = 0;
    record.journal_device_ns = 0;
    record.journal_stage_ns = [0; commit::COUNT];
    record.throttle_ns = 0;
    record.reclaim_ns = 0;
    record.cgroup = who.cgroup;
    record.inode = sync.inode;
    record.device = sync.device;
    record.disk = sync.disk;
    record.tgid = (pid_tgid >> 32) as u32;
    record.tid = pid_tgid as u32;
    record.kind = sync.kind;
    record.fd = sync.fd;
    record.own_ios = sync.own_ios as u32;
    record.kthread = u32::from(who.kthread);
    record.comm = who.comm;
}

/// # Safety
///
/// `record` points to a whole record.
#[inline(always)]
unsafe fn fill_areas(record: *mut SyncRecord, sync: &OpenSync, now: u64) {
    let ledger = if sync.disk == NO_DISK { None } else { LEDGER.get_ptr(sync.disk) };
    for account in 0..ACCOUNTS {
        let area = match ledger {
            Some(ledger) => read_account(ledger, account, now).wrapping_sub(sync.marks[account]),
            None => 0,
        };
        // SAFETY: the caller's, and the index is within the array.
        unsafe { (*record).areas[account] = area };
    }
}
