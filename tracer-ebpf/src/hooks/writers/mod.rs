//! Finds whose writes the kernel pauses because too many pages are dirty, and who dirtied them.
//!
//! Near a limit on dirty pages (of the machine, of a backing device, of a cgroup) the kernel lets
//! each writer sleep now and then, before any sync. The tracepoint fires in the writer's context
//! with the length of the pause and the number of pages that this thread dirtied since the pause
//! before. It does not fire below half way between the limit and the point from which the kernel
//! writes by itself, and not for filesystems that keep no count of dirty pages, such as tmpfs.
//! Pauses are added up here, by process and backing device.
//!
//! Prototypes, of which the longer one is that of older kernels:
//! - balance_dirty_pages(struct bdi_writeback *, struct dirty_throttle_control *, unsigned long
//!   dirty_ratelimit, unsigned long task_ratelimit, unsigned long dirtied, unsigned long period,
//!   long pause, unsigned long start_time), in
//!   <https://elixir.bootlin.com/linux/v6.18/source/include/trace/events/writeback.h>
//! - balance_dirty_pages(struct bdi_writeback *, unsigned long thresh, unsigned long bg_thresh,
//!   unsigned long dirty, unsigned long bdi_thresh, unsigned long bdi_dirty, unsigned long
//!   dirty_ratelimit, unsigned long task_ratelimit, unsigned long dirtied, unsigned long period,
//!   long pause, unsigned long start_time), in
//!   <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/writeback.h>

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::{Array, LruHashMap},
    programs::BtfTracePointContext,
};
use tracer_ebpf::record::{PauseKey, Paused};

use crate::{
    cell::fields,
    fields::{Kernel, is_limit_of_cgroup, written_backing},
    maps::sum_of,
    pids,
    submitter::Actor,
};

fields! { Paused { ticks: u64, limit_ticks: u64, pages: u64, threshold: u32, last: u32 } }

/// The pauses of each process, and the pages that it dirtied.
#[map]
static PAUSES: LruHashMap<PauseKey, Paused> = LruHashMap::with_max_entries(1024, 0);
#[map]
static PAUSES_NEW: Array<u64> = Array::with_max_entries(1, 0);

#[btf_tracepoint(function = "balance_dirty_pages")]
pub fn balance_dirty_pages(ctx: BtfTracePointContext) -> i32 {
    let is_of_cgroup = is_limit_of_cgroup(Kernel(ctx.arg(1)));
    let balance =
        Balance { dirtied: ctx.arg(4), period: ctx.arg(5), pause: ctx.arg(6), start: ctx.arg(7) };
    count(Kernel(ctx.arg(0)), balance, is_of_cgroup, 0)
}

#[btf_tracepoint(function = "balance_dirty_pages")]
pub fn balance_dirty_pages_of_12(ctx: BtfTracePointContext) -> i32 {
    let threshold = ctx.arg(1);
    let balance =
        Balance { dirtied: ctx.arg(8), period: ctx.arg(9), pause: ctx.arg(10), start: ctx.arg(11) };
    count(Kernel(ctx.arg(0)), balance, false, threshold)
}

/// The end of the arguments, which both prototypes share; times are in ticks.
struct Balance {
    dirtied: u64,
    period: u64,
    /// A writer that is slower than it may be has none, or one below 0.
    pause: u64,
    start: u64,
}

#[inline(always)]
fn count(wb: Kernel, balance: Balance, is_of_cgroup: bool, threshold: u64) -> i32 {
    let Balance { dirtied, period, pause, start } = balance;
    let pause = if (pause as i64) < 0 { 0 } else { pause };
    // If there is neither, the kernel counts the same pages again with the next write.
    if pause == 0 && period == 0 {
        return 0;
    }
    let who = Actor::running();
    let key = PauseKey {
        cgroup: who.cgroup,
        comm: who.comm,
        tgid: if who.kthread { 0 } else { pids::current_tgid() },
        backing: written_backing(wb),
    };
    let zero = Paused { ticks: 0, limit_ticks: 0, pages: 0, threshold: 0, last: 0 };
    let Some(sum) = sum_of(&PAUSES, &PAUSES_NEW, &key, zero) else { return 0 };
    sum.ticks().add(pause);
    if is_of_cgroup {
        sum.limit_ticks().add(pause);
    }
    let most = u64::from(u32::MAX);
    sum.threshold().set(if threshold > most { u32::MAX } else { threshold as u32 });
    // One write may be paused over and over, each time with all that it dirtied.
    // Numbers of threads have 22 bits.
    let write = bpf_get_current_pid_tgid() as u32 ^ (start as u32) << 22;
    if sum.last().get() != write {
        sum.last().set(write);
        sum.pages().add(dirtied);
    }
    0
}
