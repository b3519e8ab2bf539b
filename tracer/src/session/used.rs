//! The CPU time and memory that this process has used.

use std::fs;

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
    unistd::{SysconfVar, sysconf},
};
use tracer_scene::metrics::Used;

/// Asks the kernel; zero for what it does not say.
pub fn read_used() -> Used {
    let seconds = |t: TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    Used {
        user_cpu_seconds: usage.map_or(0.0, |usage| seconds(usage.user_time())),
        system_cpu_seconds: usage.map_or(0.0, |usage| seconds(usage.system_time())),
        resident_memory_bytes: read_rss_bytes().unwrap_or(0),
    }
}

/// The second number of /proc/self/statm, in pages.
fn read_rss_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}
