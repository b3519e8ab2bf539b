//! Finds who runs while a syncing thread waits for a CPU: see [`contenders`].
//!
//! It sees every switch on the machine, so it is attached only while waits for a
//! CPU matter.
//!
//! Prototype, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/sched.h>:
//! - sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next,
//!   unsigned int prev_state); without the last until 5.17, and with it before the tasks
//!   in the first versions of 5.18

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::open_sync::Contender;

use crate::{
    cell::MapCell,
    clock::now_ns,
    contenders::{charge, of_helper},
    fields::{Kernel, Task, config},
    runs,
    submitter::Actor,
    syncs::table::sync_of_thread,
};

#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    // Only one load is in the branch. From two loads the compiler makes one at a computed
    // offset of the context, which the verifier refuses.
    let (first, second): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    let (prev, next) =
        if config!(switch_prev_arg) == 2 { (second, ctx.arg(3)) } else { (first, second) };
    let (prev, next) = (Task(Kernel(prev)), Task(Kernel(next)));
    // The task that leaves has had its CPU until now, so all of its own wait is counted.
    if let Some(contender) = contender_of(prev.tid()) {
        charge(contender, prev.run_delay());
        contender.known().set(0);
    }
    let Some(runs) = runs::of_this_cpu() else { return 0 };
    let (now_ns, is_idle) = (now_ns(), prev.tid() == 0);
    let ran_ns = runs.end_run(now_ns, is_idle, || contender(prev));
    // An idle CPU kept nobody waiting.
    if is_idle {
        return 0;
    }
    if let Some(of_next) = contender_of(next.tid()) {
        let longer = runs.longer_than(prev, ran_ns, next, now_ns);
        of_next.set(longer.unwrap_or_else(|| contender(prev)));
        of_next.run_delay().set(next.run_delay());
    }
    0
}

/// A task as the contender of another.
#[inline(always)]
fn contender(task: Task) -> Contender {
    let who = Actor::of_task(task, || task.cgroup_id());
    let kthread = u32::from(who.kthread);
    Contender { cgroup: who.cgroup, comm: who.comm, kthread, known: 1, run_delay: 0 }
}

/// The cell in which a thread notes which task kept it from its CPU: for a thread in a sync, and for
/// a helper such as the journal's thread, which waits for CPUs between its commits, too.
#[inline(always)]
fn contender_of(tid: u32) -> Option<MapCell<Contender>> {
    if let Some(contender) = of_helper(tid) {
        return Some(contender);
    }
    sync_of_thread(tid).map(MapCell::contender)
}
