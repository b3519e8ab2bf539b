//! The sync path: one record for each sync, with its phases and who else had
//! requests in flight meanwhile.
//!
//! A sync opens at its system call or, where it is none of the sync calls (a
//! write to an O_DSYNC file, an io_uring worker, a kernel thread), at the
//! filesystem; it closes where it was opened. Whatever names the file or the
//! disk in between fills it in, and if nothing does, its first block request
//! tells the disk. So several hooks on one path count it once.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::{
    clocks::Clocks,
    dropped::Dropped,
    record::{ACCOUNTS, Disk, InFlight, NO_DISK, kind, op},
    span::divide,
};

use crate::{
    clock::now_ns,
    fields::{Place, Task},
    journal::{self, Totals},
    maps::{add, ask_for_disk, described, count_drop},
    owner,
    rivals::Rival,
    throttle,
};

mod call;
mod finish;
mod hooks;
mod open;
mod windows;

use call::{Call, miss};
use finish::finish;
pub use open::{of_current, of_thread};
use open::{close, open};
use windows::watch;

/// A sync under way, or a journal's commit ([`COMMIT`]).
#[repr(C)]
pub struct OpenSync {
    begin_ns: u64,
    clocks: Clocks,
    /// The journal's sums when the filesystem became known.
    journal: Totals,
    inode: u64,
    generation: u32,
    backing: u32,
    /// Sums over its own requests; added to where they end, on any CPU. Reads
    /// apart: what it reads back had been evicted.
    own_queue_ns: u64,
    own_device_ns: u64,
    own_read_ns: u64,
    own_ios: u64,
    own_bytes: u64,
    /// Birth of its first own request, end of its last.
    own_first_ns: u64,
    own_last_ns: u64,
    /// When its last bio was submitted; 0 once that has a request.
    pub bio_ns: u64,
    /// Its bios waited to become requests.
    pub throttle_ns: u64,
    /// In direct reclaim, and of that on a CPU.
    pub reclaim_ns: u64,
    pub reclaim_cpu_ns: u64,
    /// When it first forced a log (xfs), and what its requests had taken then.
    log_force_ns: u64,
    own_before_force_ns: u64,
    pub rival: Rival,
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
    /// 1 where further disks are watched.
    stacked: u32,
    /// The thread; 0 where its place in the table is free.
    tid: u32,
    /// So many of the marks were made; the others say nothing.
    marked: u64,
    /// The accounts' integrals when the disk became known.
    marks: [u64; ACCOUNTS],
}

impl OpenSync {
    /// Leaves only the marks: they are made when a disk becomes known.
    #[inline(always)]
    fn clear(&mut self) {
        (self.begin_ns, self.clocks, self.journal) = (0, Clocks::NONE, Totals::NONE);
        (self.inode, self.generation, self.backing) = (0, 0, 0);
        (self.device, self.base_device) = (0, 0);
        (self.disk, self.stacked) = (NO_DISK, 0);
        (self.own_queue_ns, self.own_device_ns, self.own_read_ns) = (0, 0, 0);
        (self.own_ios, self.own_bytes) = (0, 0);
        (self.own_first_ns, self.own_last_ns) = (0, 0);
        (self.bio_ns, self.throttle_ns) = (0, 0);
        (self.reclaim_ns, self.reclaim_cpu_ns) = (0, 0);
        (self.log_force_ns, self.own_before_force_ns) = (0, 0);
        self.rival.forget();
        (self.kind, self.fd, self.depth) = (0, 0, 0);
    }
}

/// The kind of a journal's commit: never told.
const COMMIT: u32 = kind::COUNT as u32;

/// `begin`'s depths: the first end of all closes what a system call opened.
const SYSTEM_CALL: u32 = 0;
const FILESYSTEM: u32 = 1;

/// The filesystem was asked to sync a file: for the sync call under way, or for
/// one of its own, of the `kind` that the hook says or else of its thread's.
#[inline(always)]
fn enter(place: Place, kind: Option<u32>) {
    let now = now_ns();
    match of_current() {
        Some(sync) => sync.depth += u32::from(sync.depth != SYSTEM_CALL),
        None => {
            let call = match kind {
                Some(kind) => Call { kind, fd: -1 },
                None => Call::current().unwrap_or_else(|| Call { kind: uncalled_kind(), fd: -1 }),
            };
            begin(call, FILESYSTEM, now);
        }
    }
    locate_at(&place, now);
}

/// What a sync is that no system call of its own asked for.
#[inline(always)]
fn uncalled_kind() -> u32 {
    let who = owner::current();
    if who.kthread {
        kind::KERNEL
    } else if who.io_worker {
        kind::IO_URING
    } else {
        kind::OSYNC_WRITE
    }
}

/// The filesystem is done with a file.
#[inline(always)]
fn leave() {
    let Some(sync) = of_current() else {
        count_drop(Dropped::SyncUnmatched);
        return;
    };
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
pub fn open_sync(tid: u32, operation: u32, disk: &Disk, now: u64) -> Option<u32> {
    // Where births are seen late, in another thread, this one may be closing
    // its entry.
    let is_running = || tid == bpf_get_current_pid_tgid() as u32;
    let Some(sync) = of_thread(tid) else {
        if operation == op::WRITE && is_running() {
            miss();
        }
        return None;
    };
    if sync.own_first_ns == 0 {
        sync.own_first_ns = now;
    }
    if is_running() {
        throttle::settle(sync, now);
        // Nothing has told the disk so far (btrfs, device mapper, md, …).
        if sync.disk == NO_DISK && sync.kind != COMMIT {
            watch(sync, disk, now);
        }
    }
    Some(sync.seq)
}

/// A request that a thread's sync waits for has ended.
#[inline(always)]
pub fn credit(slot: &InFlight, queue_ns: u64, device_ns: u64, now: u64) {
    let Some(sync) = of_thread(slot.sync_tid) else { return };
    if sync.seq != slot.sync_seq {
        return;
    }
    // Of two ends that race for `own_last_ns` either is within their difference
    // of the right one; the sums are changed by atomic adds.
    if u32::from(slot.op) == op::READ {
        add(&raw mut sync.own_read_ns, queue_ns + device_ns);
    } else {
        add(&raw mut sync.own_queue_ns, queue_ns);
        add(&raw mut sync.own_device_ns, device_ns);
        add(&raw mut sync.own_bytes, u64::from(slot.bytes));
    }
    add(&raw mut sync.own_ios, 1);
    sync.own_last_ns = now;
}

/// The running thread begins to commit a journal. The last commits of all are
/// made by who unmounts.
#[inline(always)]
pub fn begin_commit() {
    if of_current().is_none() {
        begin(Call { kind: COMMIT, fd: -1 }, SYSTEM_CALL, now_ns());
    }
}

/// The running thread's commit ends: how long its requests were queued and in
/// service, as parts of the span in which they overlapped.
#[inline(always)]
pub fn end_commit() -> (u64, u64) {
    let Some(sync) = of_current() else { return (0, 0) };
    if sync.kind != COMMIT {
        return (0, 0);
    }
    let span_ns = sync.own_last_ns.saturating_sub(sync.own_first_ns);
    let (queue_ns, device_ns) = divide(sync.own_queue_ns, sync.own_device_ns, span_ns);
    // Bios that wait for requests are queued too.
    let queue_ns = queue_ns + sync.throttle_ns;
    close(bpf_get_current_pid_tgid() as u32);
    (queue_ns, device_ns)
}

/// The running thread's sync begins to force a log.
#[inline(always)]
fn force_log() {
    let Some(sync) = of_current() else { return };
    if sync.log_force_ns == 0 {
        sync.log_force_ns = now_ns();
        sync.own_before_force_ns = sync.own_queue_ns + sync.own_device_ns;
    }
}

#[inline(never)]
fn begin(call: Call, depth: u32, now: u64) -> i32 {
    let Some(sync) = open(bpf_get_current_pid_tgid() as u32, now as u32) else { return 0 };
    sync.kind = call.kind;
    sync.fd = call.fd;
    sync.depth = depth;
    if let Some(task) = Task::current() {
        sync.clocks = task.clocks();
    }
    sync.begin_ns = now;
    0
}

/// The file, or at least the filesystem, of the sync under way is known. The
/// first that is named is what was synced; the first with a disk is what is
/// waited for.
#[inline(always)]
fn locate(place: &Place) {
    match of_current() {
        Some(sync) if sync.base_device == 0 => {
            locate_at(place, now_ns());
        }
        Some(_) => {}
        None => miss(),
    }
}

#[inline(never)]
fn locate_at(place: &Place, now: u64) -> i32 {
    let Some(sync) = of_current() else { return 0 };
    if sync.base_device != 0 || place.device == 0 || sync.kind == COMMIT {
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
        sync.generation = place.generation;
        sync.backing = place.backing;
        sync.device = place.device;
    }
    if place.disk_device == 0 {
        return 0;
    }
    sync.base_device = place.device;
    sync.journal = journal::totals(place.device, now);
    match described(place.disk_device) {
        Some(disk) if sync.disk == NO_DISK => watch(sync, disk, now),
        Some(_) => 0,
        None => {
            ask_for_disk(place.disk_device);
            0
        }
    }
}
