//! Who runs while a syncing thread waits for a CPU.
//!
//! A thread that is switched in takes the CPU from somebody: that one is
//! remembered in its sync, and charged with the wait that has just ended. How
//! long that was, the scheduler counts by the time the thread is switched out
//! again, or its sync ends.
//!
//! It sees every switch on the machine, so it is attached only while waits for a
//! CPU matter.
//!
//! Prototypes (include/trace/events/sched.h): sched_switch(bool preempt, struct
//! task_struct *prev, *next, unsigned int prev_state); without the last until
//! 5.17, and with it before the tasks in 5.18's first versions.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use tracer_ebpf::record::{COMM, RivalKey};

use crate::{
    fields::{Kernel, Task, config},
    maps::{BPF_ANY, add},
    owner,
    sync::{self, OpenSync},
};

/// Nanoseconds that a process's syncs waited behind somebody.
#[map]
static RIVALS: LruHashMap<RivalKey, u64> = LruHashMap::with_max_entries(512, 0);

/// Whom a syncing thread took the CPU from.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rival {
    cgroup: u64,
    comm: [u8; COMM],
    kthread: u32,
    /// 1 where there is one.
    known: u32,
    /// The thread's run delay without the wait that ended then.
    run_delay: u64,
}

impl Rival {
    #[inline(always)]
    pub fn forget(&mut self) {
        self.known = 0;
    }
}

#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    // One load in the branch: of two, the compiler makes one from a place that
    // it computes, which the verifier refuses.
    let (first, second): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    let (prev, next) =
        if config!(switch_prev_arg) == 2 { (second, ctx.arg(3)) } else { (first, second) };
    let (prev, next) = (Task(Kernel(prev)), Task(Kernel(next)));
    // The one that leaves still runs, and its delay has been counted.
    if let Some(sync) = sync::of_current() {
        charge(sync, prev.run_delay());
        sync.rival.forget();
    }
    // An idle CPU kept nobody waiting.
    if prev.tid() == 0 {
        return 0;
    }
    if let Some(sync) = sync::of_thread(next.tid()) {
        let who = owner::of_task(prev, || prev.cgroup_id());
        sync.rival = Rival {
            cgroup: who.cgroup,
            comm: who.comm,
            kthread: u32::from(who.kthread),
            known: 1,
            run_delay: next.run_delay(),
        };
    }
    0
}

/// Charges the rival of the running thread's sync with the wait that ended when
/// the thread was switched in.
#[inline(always)]
pub fn charge(sync: &OpenSync, run_delay: u64) {
    let rival = &sync.rival;
    let ns = run_delay.saturating_sub(rival.run_delay);
    if rival.known == 0 || ns == 0 {
        return;
    }
    let key = RivalKey {
        cgroup: rival.cgroup,
        comm: rival.comm,
        kthread: rival.kthread,
        victim_tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
    };
    match RIVALS.get_ptr_mut(key) {
        Some(sum) => add(sum, ns),
        None => {
            let _ = RIVALS.insert(key, ns, BPF_ANY);
        }
    }
}
