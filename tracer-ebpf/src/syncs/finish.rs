//! The end of a sync: its record is filled and sent.

use aya_ebpf::{bindings::BPF_RB_AVAIL_DATA, helpers::bpf_get_current_pid_tgid};
use tracer_ebpf::{
    dropped::Dropped,
    open_sync::{Totals, requests_and_bytes},
    record::{StackedRecord, SyncRecord, commit},
};

use super::{
    begin::SYSTEM_CALL,
    state::{COMMIT, OpenSync},
    table::{close, current_sync, sync_of_thread},
    windows::{fill_integrals, fill_underlying, forget_underlying},
};
use crate::{
    cell::MapCell,
    clock::now_ns,
    contenders,
    fields::Task,
    journals,
    maps::{self, FORCE_WAKEUP, NO_WAKEUP, RECORDS, count_drop},
};

/// The reader is woken when this much of the ring waits for it; otherwise it polls.
const WAKE_AT_BYTES: u64 = 256 << 10;

/// Ends the thread's sync, if it is in one.
#[inline(never)]
pub fn finish() -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(sync) = sync_of_thread(tid) else { return 0 };
    if sync.kind().get() == COMMIT {
        return 0;
    }
    let now = now_ns();
    if sync.stacked().get() == 0 {
        send(sync, now);
    } else {
        send_stacked(sync, now);
        forget_underlying(tid);
    }
    close(tid);
    0
}

/// Notes that the filesystem is done with a file.
#[inline(always)]
pub fn leave() {
    let Some(sync) = current_sync() else {
        count_drop(Dropped::SyncUnmatched);
        return;
    };
    let depth = sync.depth().get();
    if depth == SYSTEM_CALL {
        return;
    }
    sync.depth().set(depth - 1);
    if depth == 1 {
        finish();
    }
}

#[inline(never)]
fn send(sync: MapCell<OpenSync>, now: u64) -> i32 {
    maps::send(wakeup, |record| fill(record, sync, now));
    0
}

/// Sends the record of a sync that waited for more than one disk.
#[inline(never)]
fn send_stacked(sync: MapCell<OpenSync>, now: u64) -> i32 {
    maps::send(wakeup, |record: &mut StackedRecord| {
        fill(&mut record.sync, sync, now);
        fill_underlying(&mut record.underlying, now);
    });
    0
}

#[inline(always)]
fn wakeup() -> u64 {
    let waiting = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    if waiting >= WAKE_AT_BYTES { FORCE_WAKEUP } else { NO_WAKEUP }
}

/// Writes every field.
#[inline(always)]
fn fill(record: &mut SyncRecord, sync: MapCell<OpenSync>, now: u64) {
    let begin_ns = sync.begin_ns().get();
    let duration = now.saturating_sub(begin_ns);
    let (cpu, runqueue) = match Task::current() {
        Some(task) => {
            let clocks = task.clocks();
            contenders::charge(sync.contender(), clocks.run_delay);
            let then = sync.clocks().get();
            let cpu = clocks.cpu_since(&then, duration);
            (cpu.saturating_sub(sync.reclaim_cpu_ns().get()), clocks.runqueue_since(&then))
        }
        None => (0, 0),
    };
    let base_device = sync.base_device().get();
    let journal = if base_device == 0 { Totals::NONE } else { journals::totals(base_device, now) };
    let journal_then = sync.journal().get();
    record.begin_ns = begin_ns;
    record.duration_ns = duration;
    record.cpu_ns = cpu;
    record.runqueue_ns = runqueue;
    record.own_queue_ns = sync.own_queue_ns().get();
    record.own_device_ns = sync.own_device_ns().get();
    record.own_span_ns = sync.own_last_ns().get().saturating_sub(sync.own_first_ns().get());
    // The readings of a commit that ends at the same time may be torn; such negative
    // differences count as 0.
    let since = |sum: u64, then: u64| sum.saturating_sub(then);
    record.journal_ns = since(journal.busy_ns, journal_then.busy_ns) + forced_ns(sync, now);
    record.journal_queue_ns = since(journal.queue_ns, journal_then.queue_ns);
    record.journal_device_ns = since(journal.device_ns, journal_then.device_ns);
    for stage in 0..commit::COUNT {
        record.journal_stage_ns[stage] =
            since(journal.stage_ns[stage], journal_then.stage_ns[stage]);
    }
    record.throttle_ns = sync.throttle_ns().get();
    record.reclaim_ns = sync.reclaim_ns().get() + sync.own_read_ns().get();
    let (requests, bytes) = requests_and_bytes(sync.own_work().get());
    record.own_bytes = bytes;
    record.cgroup = sync.cgroup().get();
    record.inode = sync.inode().get();
    record.generation = sync.generation().get();
    record.backing = sync.backing().get();
    record.device = sync.device().get();
    record.disk = sync.disk().get();
    record.tgid = sync.shown_tgid().get();
    record.tid = sync.shown_tid().get();
    record.kind = sync.kind().get();
    record.fd = sync.fd().get();
    record.own_requests = requests;
    record.kthread = sync.kthread().get() as u8;
    record.carried = sync.carried().get() as u8;
    record.comm = zerocopy::transmute!(sync.comm().get());
    fill_integrals(record, sync, now);
}

/// The time from the first log force to the end of the sync, without its own requests.
#[inline(always)]
fn forced_ns(sync: MapCell<OpenSync>, now: u64) -> u64 {
    let force_ns = sync.log_force_ns().get();
    if force_ns == 0 {
        return 0;
    }
    let own = sync.own_queue_ns().get() + sync.own_device_ns().get();
    let own = own.saturating_sub(sync.own_before_force_ns().get());
    now.saturating_sub(force_ns).saturating_sub(own)
}
