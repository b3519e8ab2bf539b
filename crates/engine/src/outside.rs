//! The time for which a CPU limit stops a victim outside its syncs: before them, or on the way
//! out of the kernel. Newer kernels stop threads only there (`throttle_cfs_rq_work` in
//! <https://elixir.bootlin.com/linux/v6.18/source/kernel/sched/fair.c>), so the process waits
//! although its syncs are quick. No hook is there; the wait is estimated from how often and for
//! how long the kernel held the cgroup back.

/// The wait around `syncs` syncs that ended in one second, in ns. In that second their cgroup
/// was held back `times` times, for `held_ns` together.
///
/// A sync meets such a time with the probability of that part of the second, and then waits for
/// half of it on average.
pub fn estimate_ns(syncs: u32, held_ns: u64, times: u64) -> f64 {
    let held_ns = held_ns as f64;
    let part = (held_ns / 1e9).min(1.0);
    let each_ns = held_ns / times.max(1) as f64;
    // One thread writes a log, and can wait for no longer than that.
    (f64::from(syncs) * part * each_ns / 2.0).min(held_ns)
}
