//! The longest run of each CPU lately: who kept a thread from its CPU.
//!
//! The task that ran last before a thread is not always the one that kept it waiting. Where a
//! real-time task has a CPU for 0.95 s of each second, the kernel's workers of that CPU run in
//! the rest, and the thread after one of them.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use tracer_ebpf::open_sync::{Contender, Runs};

use crate::{
    cell::{MapCell, fields},
    fields::Task,
    maps::Lookup as _,
};

/// How long a run is kept while only shorter ones follow: longer than the 50 ms in which other
/// tasks run between two runs of a real-time task.
const KEPT_NS: u64 = 100_000_000;

/// Written only at a switch of its own CPU, where nothing interrupts.
#[map]
static RUNS: PerCpuArray<Runs> = PerCpuArray::with_max_entries(1, 0);

fields! { Runs { switched_ns: u64, longest_ns: u64, longest_end_ns: u64, longest: Contender } }

/// This CPU's runs.
#[inline(always)]
pub fn of_this_cpu() -> Option<MapCell<Runs>> {
    RUNS.cell(0)
}

impl MapCell<Runs> {
    /// Notes that a task gives up the CPU now, and returns how long it had it.
    #[inline(always)]
    pub fn end_run(self, now_ns: u64, is_idle: bool, task: impl FnOnce() -> Contender) -> u64 {
        let begun_ns = self.switched_ns().get();
        self.switched_ns().set(now_ns);
        // The first switch that is seen ends a run of unknown length.
        if is_idle || begun_ns == 0 {
            return 0;
        }
        let ns = now_ns.saturating_sub(begun_ns);
        let is_old = self.longest_end_ns().get().saturating_add(KEPT_NS) < now_ns;
        if ns >= self.longest_ns().get() || is_old {
            self.longest_ns().set(ns);
            self.longest_end_ns().set(now_ns);
            self.longest().set(task());
        }
        ns
    }

    /// The task that kept `next` from this CPU for longer than `prev` did, whose run of `ran_ns`
    /// ends now.
    #[inline(always)]
    pub fn longer_than(
        self,
        prev: Task,
        ran_ns: u64,
        next: Task,
        now_ns: u64,
    ) -> Option<Contender> {
        let queued_ns = next.queued_after_arrival_of(prev)?;
        let waits_since_ns = now_ns.saturating_sub(ran_ns).wrapping_add(queued_ns as u64);
        let within = |end_ns: u64, ns: u64| ns.min(end_ns.saturating_sub(waits_since_ns));
        let longest_ns = within(self.longest_end_ns().get(), self.longest_ns().get());
        (longest_ns > within(now_ns, ran_ns)).then(|| self.longest().get())
    }
}
