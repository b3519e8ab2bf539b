//! The block requests that a sync itself waits for.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::record::{Disk, InFlight, NO_DISK, op};

use super::{
    call::miss,
    state::COMMIT,
    table::{of_current, of_thread},
    windows::watch,
};
use crate::maps::add;

/// Which of its syncs a thread is in, if any; notes that a request of it was
/// born on a disk.
#[inline(always)]
pub fn note_submission(tid: u32, operation: u32, disk: &Disk, now: u64) -> Option<u32> {
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
        sync.end_throttle(now);
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

/// The bio that this thread submitted last has been given a request: for kernels
/// where its submission is seen later, or elsewhere.
#[inline(always)]
pub fn end_throttle(now: u64) {
    if let Some(sync) = of_current() {
        sync.end_throttle(now);
    }
}
