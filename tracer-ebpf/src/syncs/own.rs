//! The block requests that a sync itself waits for.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::{
    open_sync::own_work,
    record::{Disk, InFlight, NO_DISK, op},
};

use super::{
    call::miss,
    state::COMMIT,
    table::{current_sync, sync_of_syncing_thread, sync_of_thread},
    windows::watch,
};
use crate::cell::MapCell;

/// The number of the sync that a thread is in, if any; notes that the thread submitted
/// a request to a disk.
#[inline(always)]
pub fn note_submission(tid: u32, operation: u32, disk: MapCell<Disk>, now: u64) -> Option<u32> {
    // If submissions are seen late, and in another thread, the thread that syncs may be
    // closing its entry.
    let is_running = || tid == bpf_get_current_pid_tgid() as u32;
    let Some(sync) = sync_of_thread(tid) else {
        if operation == op::WRITE && is_running() {
            miss();
        }
        return None;
    };
    // Below a carrying disk the same work is seen once more.
    if sync.carried().get() != 0 && sync.disk().get() != disk.index().get() {
        return None;
    }
    if sync.own_first_ns().get() == 0 {
        sync.own_first_ns().set(now);
    }
    if is_running() {
        sync.end_throttle(now);
        // No hook has shown the disk so far (btrfs, device mapper, md, …).
        if sync.disk().get() == NO_DISK {
            if sync.kind().get() != COMMIT {
                watch(sync, disk, now);
            } else if disk.depth().get() >= Disk::ON_CARRIER {
                sync.disk().set(disk.index().get());
                sync.carried().set(1);
            }
        }
    }
    Some(sync.seq().get())
}

/// Adds a completed request to the sync that waits for it.
#[inline(always)]
pub fn credit(slot: MapCell<InFlight>, queue_ns: u64, device_ns: u64, now: u64) {
    let Some(sync) = sync_of_syncing_thread(slot.sync_tid().get()) else { return };
    if sync.seq().get() != slot.sync_seq().get() {
        return;
    }
    // If two completions race for `own_last_ns`, either value is as good, because they
    // differ by as much as the race lasts; the sums are changed by atomic adds.
    let bytes = if u32::from(slot.op().get()) == op::READ {
        sync.own_read_ns().add(queue_ns + device_ns);
        0
    } else {
        sync.own_queue_ns().add(queue_ns);
        sync.own_device_ns().add(device_ns);
        slot.bytes().get()
    };
    sync.own_work().add(own_work(bytes));
    sync.own_last_ns().set(now);
}

/// Notes that the bio that this thread submitted last has been given a request: for kernels
/// where the request's submission is seen later, or in another thread.
#[inline(always)]
pub fn end_throttle(now: u64) {
    if let Some(sync) = current_sync() {
        sync.end_throttle(now);
    }
}
