//! The sync path: one record for each sync, with its phases and who else had
//! requests in flight meanwhile.
//!
//! A sync opens at its system call or, where it is none of the sync calls (a
//! write to an O_DSYNC file, an io_uring worker, a kernel thread), at the
//! filesystem; it closes where it was opened. Whatever names the file in
//! between fills it in. So several hooks on one path count it once.
//!
//! Prototypes:
//! - sys_enter(struct pt_regs *, long id), sys_exit(struct pt_regs *, long ret)
//! - ext4_sync_file_enter(struct file *, int), _exit(struct inode *, int)
//! - ext4_sync_fs(struct super_block *, int), ext4_writepages(struct inode *,
//!   struct writeback_control *)
//! - xfs_file_fsync(struct xfs_inode *), btrfs_sync_file(struct file *, int)
//! - ext4_sync_file, xfs_file_fsync, btrfs_sync_file(struct file *, loff_t,
//!   loff_t, int) as functions

use aya_ebpf::{
    bindings::BPF_RB_AVAIL_DATA,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, fentry, fexit, map},
    maps::Array,
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use tracer_ebpf::{
    ledger::{integral, tick},
    record::{ACCOUNTS, DiskLedger, NO_DISK, SyncRecord, kind, loss},
};

use crate::{
    clock::now_ns,
    fields::{
        Clocks, Kernel, Place, Task, config, is_sync_exit, place_of_file, place_of_inode,
        place_of_sb, syscall_arg0, syscall_number,
    },
    journal,
    maps::{DISKS, FORCE_WAKEUP, LEDGER, NO_WAKEUP, OPEN_SYNCS, RECORDS, add, lose},
    owner,
};

/// A sync under way.
#[repr(C)]
pub struct OpenSync {
    begin_ns: u64,
    clocks: Clocks,
    /// The journal's busy time when the file became known.
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
    device: u32,
    disk: u32,
    opened_by: u32,
    /// The accounts' integrals when the disk became known.
    marks: [u64; ACCOUNTS],
}

/// `OpenSync::opened_by`.
const SYSTEM_CALL: u32 = 1;
const FILESYSTEM: u32 = 2;

/// An empty entry to insert: it would not fit on the stack.
#[map]
static EMPTY_SYNC: Array<OpenSync> = Array::with_max_entries(1, 0);

/// Wake the reader when this much of the ring waits for it; else it polls.
const WAKE_AT_BYTES: u64 = 1 << 20;

#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let id: u64 = ctx.arg(1);
    if !is_sync_exit(id) {
        return 0;
    }
    let id = id as u32;
    let kind = if id == config!(nr_fdatasync) {
        kind::FDATASYNC
    } else if id == config!(nr_fsync) {
        kind::FSYNC
    } else if id == config!(nr_msync) {
        kind::MSYNC
    } else if id == config!(nr_sync_file_range) {
        kind::SYNC_FILE_RANGE
    } else if id == config!(nr_syncfs) {
        kind::SYNCFS
    } else if id == config!(nr_sync) {
        kind::SYNC
    } else {
        return 0;
    };
    let fd = if names_file(kind) { syscall_arg0(Kernel(ctx.arg(0))) as i32 } else { -1 };
    begin(kind, fd, SYSTEM_CALL);
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    if is_sync_exit(syscall_number(Kernel(ctx.arg(0)))) {
        finish(None);
    }
    0
}

#[btf_tracepoint(function = "ext4_sync_file_enter")]
pub fn ext4_sync_file_enter(ctx: BtfTracePointContext) -> i32 {
    enter_file(Kernel(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "ext4_sync_file_exit")]
pub fn ext4_sync_file_exit(_ctx: BtfTracePointContext) -> i32 {
    finish(Some(FILESYSTEM));
    0
}

#[btf_tracepoint(function = "ext4_sync_fs")]
pub fn ext4_sync_fs(ctx: BtfTracePointContext) -> i32 {
    locate(&place_of_sb(Kernel(ctx.arg(0))));
    0
}

/// For sync_file_range, which asks no filesystem to sync.
#[btf_tracepoint(function = "ext4_writepages")]
pub fn ext4_writepages(ctx: BtfTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    if OPEN_SYNCS.get_ptr(tid).is_none() {
        return 0;
    }
    locate(&place_of_inode(Kernel(ctx.arg(0)), 0));
    0
}

#[btf_tracepoint(function = "xfs_file_fsync")]
pub fn xfs_file_fsync(ctx: BtfTracePointContext) -> i32 {
    enter(place_of_inode(Kernel(ctx.arg(0)), config!(xfs_inode_vnode)));
    0
}

#[btf_tracepoint(function = "btrfs_sync_file")]
pub fn btrfs_sync_file(ctx: BtfTracePointContext) -> i32 {
    enter_file(Kernel(ctx.arg(0)));
    0
}

/// One pair of programs around a filesystem's own sync function.
macro_rules! around_file_sync {
    ($entry:ident, $exit:ident, $function:literal) => {
        #[fentry(function = $function)]
        pub fn $entry(ctx: FEntryContext) -> i32 {
            enter_file(Kernel(ctx.arg(0)));
            0
        }

        #[fexit(function = $function)]
        pub fn $exit(_ctx: FExitContext) -> i32 {
            finish(Some(FILESYSTEM));
            0
        }
    };
}

around_file_sync!(ext4_file_entry, ext4_file_exit, "ext4_sync_file");
around_file_sync!(xfs_file_entry, xfs_file_exit, "xfs_file_fsync");
around_file_sync!(btrfs_file_entry, btrfs_file_exit, "btrfs_sync_file");

/// One pair of programs around a system call's own function, whose only
/// argument is its `struct pt_regs`. User space names the function: its prefix
/// depends on the architecture.
macro_rules! around_system_call {
    ($entry:ident, $exit:ident, $kind:expr) => {
        #[fentry]
        pub fn $entry(ctx: FEntryContext) -> i32 {
            let fd = if names_file($kind) { syscall_arg0(Kernel(ctx.arg(0))) as i32 } else { -1 };
            begin($kind, fd, SYSTEM_CALL);
            0
        }

        #[fexit]
        pub fn $exit(_ctx: FExitContext) -> i32 {
            finish(None);
            0
        }
    };
}

around_system_call!(fsync_entry, fsync_exit, kind::FSYNC);
around_system_call!(fdatasync_entry, fdatasync_exit, kind::FDATASYNC);
around_system_call!(msync_entry, msync_exit, kind::MSYNC);
around_system_call!(sync_file_range_entry, sync_file_range_exit, kind::SYNC_FILE_RANGE);
around_system_call!(syncfs_entry, syncfs_exit, kind::SYNCFS);
around_system_call!(sync_entry, sync_exit, kind::SYNC);

/// Whether a system call names a file by a descriptor, its first argument.
#[inline(always)]
const fn names_file(kind: u32) -> bool {
    kind != kind::MSYNC && kind != kind::SYNC
}

#[inline(always)]
fn enter_file(file: Kernel) {
    enter(place_of_file(file));
}

/// The filesystem was asked to sync a file.
#[inline(always)]
fn enter(place: Place) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if OPEN_SYNCS.get_ptr(tid).is_none() {
        let who = owner::current();
        let kind = if who.kthread {
            kind::KERNEL
        } else if who.io_worker {
            kind::IO_URING
        } else {
            kind::OSYNC_WRITE
        };
        begin(kind, -1, FILESYSTEM);
    }
    locate(&place);
}

/// Which of its syncs a thread is in, if any; notes that a request of it was
/// born.
#[inline(always)]
pub fn open_sync(tid: u32, now: u64) -> Option<u32> {
    let sync = OPEN_SYNCS.get_ptr_mut(tid)?;
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &mut *sync };
    if sync.own_first_ns == 0 {
        sync.own_first_ns = now;
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
fn begin(kind: u32, fd: i32, opened_by: u32) -> i32 {
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
    sync.opened_by = opened_by;
    sync.disk = NO_DISK;
    if let Some(task) = Task::current() {
        sync.clocks = task.clocks();
    }
    let now = now_ns();
    sync.begin_ns = now;
    sync.seq = now as u32;
    0
}

/// The file, or at least the filesystem, of the sync under way is known: from
/// here on the accounts of its disk are watched. The first to say so wins.
#[inline(never)]
fn locate(place: &Place) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(sync) = OPEN_SYNCS.get_ptr_mut(tid) else { return 0 };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &mut *sync };
    if sync.device != 0 || place.device == 0 {
        return 0;
    }
    sync.inode = place.inode;
    sync.device = place.device;
    let now = now_ns();
    sync.journal_ns = journal::busy_ns(place.device, now);
    // SAFETY: entries are replaced whole and only by user space.
    let Some(disk) = (unsafe { DISKS.get(place.disk_device) }) else { return 0 };
    let Some(ledger) = LEDGER.get_ptr(disk.index) else { return 0 };
    sync.disk = disk.index;
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

/// The end of a sync: `Some` where only one that was opened there ends.
#[inline(never)]
fn finish_opened_by(opened_by: u32) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let Some(sync) = OPEN_SYNCS.get_ptr(tid) else {
        if opened_by == FILESYSTEM {
            lose(loss::SYNC_UNMATCHED);
        }
        return 0;
    };
    // SAFETY: only this thread opens and closes its entry.
    let sync = unsafe { &*sync };
    if opened_by != 0 && sync.opened_by != opened_by {
        return 0;
    }
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

/// Ends the thread's sync: any, or only one that was opened by `by`.
#[inline(always)]
fn finish(by: Option<u32>) {
    finish_opened_by(by.unwrap_or(0));
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
    let journal = if sync.device == 0 {
        0
    } else {
        journal::busy_ns(sync.device, now).saturating_sub(sync.journal_ns)
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
