//! The end of a sync: its record is filled and sent.

use aya_ebpf::{bindings::BPF_RB_AVAIL_DATA, helpers::bpf_get_current_pid_tgid};
use tracer_ebpf::{
    dropped::Dropped,
    record::{StackedRecord, SyncRecord, commit},
};

use super::{
    begin::SYSTEM_CALL,
    state::{COMMIT, OpenSync},
    table::{close, of_current, of_thread},
    windows::{fill_areas, fill_lower, forget_lower},
};
use crate::{
    clock::now_ns,
    contenders,
    fields::Task,
    journals::{self, Totals},
    maps::{FORCE_WAKEUP, NO_WAKEUP, RECORDS, count_drop},
    submitter,
};

/// Wake the reader when this much of the ring waits for it; else it polls.
const WAKE_AT_BYTES: u64 = 256 << 10;

/// The end of the thread's sync, if it is in one.
#[inline(never)]
pub fn finish() -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let Some(sync) = of_thread(tid) else { return 0 };
    if sync.kind == COMMIT {
        return 0;
    }
    let now = now_ns();
    if sync.stacked == 0 {
        send(sync, pid_tgid, now);
    } else {
        send_stacked(sync, pid_tgid, now);
        forget_lower(tid);
    }
    close(tid);
    0
}

/// The filesystem is done with a file.
#[inline(always)]
pub fn leave() {
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

#[inline(never)]
fn send(sync: &OpenSync, pid_tgid: u64, now: u64) -> i32 {
    let Some(mut entry) = RECORDS.reserve::<SyncRecord>(0) else {
        count_drop(Dropped::RingFull);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is a whole record in the ring, and every field of it
    // is written below.
    unsafe {
        fill(record, sync, pid_tgid, now);
        fill_areas(record, sync, now);
    }
    entry.submit(wakeup());
    0
}

/// The same for a sync that waited for more than one disk.
#[inline(never)]
fn send_stacked(sync: &OpenSync, pid_tgid: u64, now: u64) -> i32 {
    let Some(mut entry) = RECORDS.reserve::<StackedRecord>(0) else {
        count_drop(Dropped::RingFull);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        fill(&raw mut (*record).sync, sync, pid_tgid, now);
        fill_areas(&raw mut (*record).sync, sync, now);
        fill_lower(&raw mut (*record).lower, now);
    }
    entry.submit(wakeup());
    0
}

#[inline(always)]
fn wakeup() -> u64 {
    let waiting = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    if waiting >= WAKE_AT_BYTES { FORCE_WAKEUP } else { NO_WAKEUP }
}

/// # Safety
///
/// `record` points to a whole record.
#[inline(always)]
unsafe fn fill(record: *mut SyncRecord, sync: &OpenSync, pid_tgid: u64, now: u64) {
    let who = submitter::current();
    let duration = now.saturating_sub(sync.begin_ns);
    let (cpu, runqueue) = match Task::current() {
        Some(task) => {
            let clocks = task.clocks();
            contenders::charge(&sync.contender, clocks.run_delay);
            let cpu = clocks.cpu_since(&sync.clocks, duration);
            (cpu.saturating_sub(sync.reclaim_cpu_ns), clocks.runqueue_since(&sync.clocks))
        }
        None => (0, 0),
    };
    let journal =
        if sync.base_device == 0 { Totals::NONE } else { journals::totals(sync.base_device, now) };
    // SAFETY: the caller's.
    let record = unsafe { &mut *record };
    record.begin_ns = sync.begin_ns;
    record.duration_ns = duration;
    record.cpu_ns = cpu;
    record.runqueue_ns = runqueue;
    record.own_queue_ns = sync.own_queue_ns;
    record.own_device_ns = sync.own_device_ns;
    record.own_span_ns = sync.own_last_ns.saturating_sub(sync.own_first_ns);
    // Readings of a commit that ends meanwhile may be torn; then it is none.
    let since = |sum: u64, then: u64| sum.saturating_sub(then);
    record.journal_ns = since(journal.busy_ns, sync.journal.busy_ns) + forced_ns(sync, now);
    record.journal_queue_ns = since(journal.queue_ns, sync.journal.queue_ns);
    record.journal_device_ns = since(journal.device_ns, sync.journal.device_ns);
    for stage in 0..commit::COUNT {
        record.journal_stage_ns[stage] =
            since(journal.stage_ns[stage], sync.journal.stage_ns[stage]);
    }
    record.throttle_ns = sync.throttle_ns;
    record.reclaim_ns = sync.reclaim_ns + sync.own_read_ns;
    record.own_bytes = sync.own_bytes;
    record.cgroup = who.cgroup;
    record.inode = sync.inode;
    record.generation = sync.generation;
    record.backing = sync.backing;
    record.device = sync.device;
    record.disk = sync.disk;
    record.tgid = (pid_tgid >> 32) as u32;
    record.tid = pid_tgid as u32;
    record.kind = sync.kind;
    record.fd = sync.fd;
    record.own_ios = sync.own_ios as u32;
    record.kthread = u16::from(who.kthread);
    record.comm = who.comm;
}

/// From the first log force to the end, without the sync's own requests.
#[inline(always)]
fn forced_ns(sync: &OpenSync, now: u64) -> u64 {
    if sync.log_force_ns == 0 {
        return 0;
    }
    let own = sync.own_queue_ns + sync.own_device_ns;
    let own = own.saturating_sub(sync.own_before_force_ns);
    now.saturating_sub(sync.log_force_ns).saturating_sub(own)
}
