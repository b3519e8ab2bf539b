//! Finds who reclaims memory in direct reclaim, because it allocates and none is free.
//!
//! The time is counted for every owner. If the thread is in a sync, it is a part of the
//! time of that sync, too.
//!
//! It also finds who makes the kernel drop its caches (`drop_caches`). The kernel logs that by
//! name and number alone, in the context of who asked for it, and such a process is mostly gone
//! before anybody can look at it. So who runs is noted for each line of the kernel's log, and
//! user space reads the line.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/vmscan.h>
//! (no argument is read):
//! - mm_vmscan_direct_reclaim_begin(int order, gfp_t, …), _end(unsigned long)
//! - mm_vmscan_memcg_reclaim_begin(int order, gfp_t, …), _end(unsigned long)
//!
//! And in <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/printk.h>
//! (no argument is read):
//! - console(const char *text, size_t len)

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::{Array, LruHashMap},
    programs::BtfTracePointContext,
};
use tracer_ebpf::{
    clocks::Clocks,
    dropped::Dropped,
    record::{LOGGED_BY as PLACES, LoggedBy, OwnerKey, Reclaimed, op, via},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    cell::fields,
    clock::now_ns,
    fields::Task,
    maps::{BPF_ANY, Lookup as _, count_drop, sum_of},
    submitter::Actor,
    syncs::table::current_sync,
};

/// A thread in direct reclaim.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Reclaiming {
    since_ns: u64,
    clocks: Clocks,
}

/// The memory that is reclaimed.
#[derive(Clone, Copy)]
enum Whose {
    Machine,
    /// Memory of a cgroup that has reached its limit.
    Cgroup,
}

fields! { Reclaimed { times: u64, ns: u64, limit_ns: u64 } }

/// Threads in direct reclaim, by tid. Only a thread itself writes its entry. If the kernel
/// evicted the entry meanwhile, the end is counted as [`Dropped::ReclaimUnmatched`].
#[map]
static RECLAIMING: LruHashMap<u32, Reclaiming> = LruHashMap::with_max_entries(1024, 0);

/// The time that each owner spent in it; the disk in the key means nothing.
#[map]
static RECLAIMERS: LruHashMap<OwnerKey, Reclaimed> = LruHashMap::with_max_entries(256, 0);
#[map]
static RECLAIMERS_NEW: Array<u64> = Array::with_max_entries(1, 0);

/// The threads that ran when the kernel logged its last lines. The kernel logs in any context, so
/// this is a table without locks. An interrupt may tear a value, which then names another thread
/// than the one that is looked for, or the same one.
#[map]
static LOGGED_BY: Array<LoggedBy> = Array::with_max_entries(PLACES, 0);

/// The kernel logs a line.
#[btf_tracepoint(function = "console")]
pub fn console(_ctx: BtfTracePointContext) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(logged_by) = LOGGED_BY.cell(tid % PLACES) {
        logged_by.set(LoggedBy { who: running(op::DROP_CACHES), tid: tid.into() });
    }
    0
}

#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_begin")]
pub fn direct_reclaim_begin(_ctx: BtfTracePointContext) -> i32 {
    begin()
}

#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_end")]
pub fn direct_reclaim_end(_ctx: BtfTracePointContext) -> i32 {
    end(Whose::Machine)
}

/// For a cgroup's own limit.
#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_begin")]
pub fn memcg_reclaim_begin(_ctx: BtfTracePointContext) -> i32 {
    begin()
}

#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_end")]
pub fn memcg_reclaim_end(_ctx: BtfTracePointContext) -> i32 {
    end(Whose::Cgroup)
}

#[inline(always)]
fn begin() -> i32 {
    let clocks = match Task::current() {
        Some(task) => task.clocks(),
        None => Clocks::NONE,
    };
    let reclaiming = Reclaiming { since_ns: now_ns(), clocks };
    let _ = RECLAIMING.insert(bpf_get_current_pid_tgid() as u32, reclaiming, BPF_ANY);
    0
}

#[inline(always)]
fn end(whose: Whose) -> i32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(begun) = RECLAIMING.cell(&tid) else {
        count_drop(Dropped::ReclaimUnmatched);
        return 0;
    };
    let begun = begun.get();
    let ns = now_ns().saturating_sub(begun.since_ns);
    if let Some(sync) = current_sync() {
        let (cpu, runqueue) = match Task::current() {
            Some(task) => {
                let clocks = task.clocks();
                (clocks.cpu_since(&begun.clocks, ns), clocks.runqueue_since(&begun.clocks))
            }
            None => (0, 0),
        };
        // Hunting for memory keeps a CPU busy: that time is reclaim, not the
        // sync's own `cpu`; a wait for the CPU stays `runqueue`.
        sync.reclaim_ns().add_alone(ns.saturating_sub(runqueue));
        sync.reclaim_cpu_ns().add_alone(cpu);
    }
    let _ = RECLAIMING.remove(tid);
    count(ns, whose);
    0
}

#[inline(always)]
fn count(ns: u64, whose: Whose) {
    let limit_ns = match whose {
        Whose::Machine => 0,
        Whose::Cgroup => ns,
    };
    let zero = Reclaimed { times: 0, ns: 0, limit_ns: 0 };
    if let Some(sum) = sum_of(&RECLAIMERS, &RECLAIMERS_NEW, &running(op::MEMORY), zero) {
        sum.times().add(1);
        sum.ns().add(ns);
        sum.limit_ns().add(limit_ns);
    }
}

/// The running task, as the owner of such an operation.
#[inline(always)]
fn running(op: u32) -> OwnerKey {
    let who = Actor::running();
    OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk: 0,
        op: op as u16,
        kthread: u8::from(who.kthread),
        via: via::DIRECT,
    }
}
