//! How long a task ran, by the scheduler's own account of it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A task's times, up to the scheduler's last look at it.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Clocks {
    /// `se.sum_exec_runtime`.
    pub exec_runtime: u64,
    /// `se.exec_start`: the last look, by the clock of its CPU.
    pub exec_start: u64,
    /// `sched_info.run_delay`.
    pub run_delay: u64,
    /// The CPU that the task ran on.
    pub cpu: u64,
}

impl Clocks {
    pub const NONE: Self = Self { exec_runtime: 0, exec_start: 0, run_delay: 0, cpu: 0 };

    /// Nanoseconds on a CPU between two readings by the task itself that lie so
    /// far apart.
    ///
    /// At either end `exec_runtime` lacks what ran since the scheduler last
    /// looked; on one CPU the distance to `exec_start` makes up for it, and
    /// the two clocks' offset cancels out. Each CPU's clock stands while a
    /// hypervisor has the CPU, so the offsets of two CPUs grow apart for as long
    /// as the machine is up. For a task that was moved only `exec_runtime` counts:
    /// the scheduler looked when it slept in between.
    #[inline(always)]
    pub fn cpu_since(&self, begin: &Self, elapsed_ns: u64) -> u64 {
        let ran = self.exec_runtime.wrapping_sub(begin.exec_runtime);
        if self.cpu != begin.cpu {
            return ran;
        }
        let cpu = ran
            .wrapping_add(elapsed_ns)
            .wrapping_sub(self.exec_start.wrapping_sub(begin.exec_start));
        if cpu as i64 > 0 { cpu } else { 0 }
    }

    /// Nanoseconds that it was runnable and did not run.
    #[inline(always)]
    pub fn runqueue_since(&self, begin: &Self) -> u64 {
        self.run_delay.saturating_sub(begin.run_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1000;

    fn at(cpu: u64, exec_start: u64, exec_runtime: u64) -> Clocks {
        Clocks { exec_runtime, exec_start, run_delay: 0, cpu }
    }

    /// Looked at when it began to run and when it woke, 30 us before each end.
    #[test]
    fn what_the_scheduler_has_not_seen_yet_counts_on_one_cpu() {
        let (begin, end) = (at(0, 500 * US, 100 * US), at(0, 60_500 * US, 150 * US));
        assert_eq!(end.cpu_since(&begin, 60_000 * US), 50 * US);
        let later = at(0, 60_480 * US, 150 * US);
        assert_eq!(later.cpu_since(&begin, 60_000 * US), 70 * US);
    }

    /// The clock of CPU 1 is 162 ms behind that of CPU 0, as a machine's was
    /// after twelve minutes.
    #[test]
    fn the_clocks_of_two_cpus_are_not_compared() {
        let (zero, one) = (at(0, 300_000 * US, 100 * US), at(1, 198_000 * US, 150 * US));
        assert_eq!(one.cpu_since(&zero, 60_000 * US), 50 * US);
        let back = at(0, 420_000 * US, 220 * US);
        assert_eq!(back.cpu_since(&one, 60_000 * US), 70 * US);
    }
}
