//! The CPU time and memory that a process has used so far, from `/proc`.

use std::{fs, io::ErrorKind};

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

/// The CPU time in seconds since the process began, its resident size and the largest
/// one so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// To the nanosecond.
    pub cpu_s: f64,
    /// Counted in clock ticks, which are often 10 ms.
    pub user_s: f64,
    pub system_s: f64,
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

impl Usage {
    pub fn read(pid: u32) -> Result<Self> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let status = read(&format!("/proc/{pid}/status"))?;
        let (user_s, system_s) =
            parse_stat(&stat).with_context(|| format!("`/proc/{pid}/stat` has no CPU times"))?;
        let bytes = |what| {
            parse_bytes(&status, what)
                .with_context(|| format!("`/proc/{pid}/status` has no line `{what}`"))
        };
        let (rss_bytes, peak_rss_bytes) = (bytes("VmRSS:")?, bytes("VmHWM:")?);
        Ok(Self { cpu_s: read_run_time(pid)?, user_s, system_s, rss_bytes, peak_rss_bytes })
    }
}

/// Sums all threads, because the process's own file is its main thread's only.
fn read_run_time(pid: u32) -> Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).with_context(|| format!("failed to read `{folder}`"))?;
    let mut ns = 0;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        match fs::read_to_string(&path) {
            Ok(text) => ns += text.split(' ').next().unwrap_or("").parse::<u64>().unwrap_or(0),
            // The thread has ended in the meantime.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read `{}`", path.display()));
            }
        }
    }
    Ok(ns as f64 / 1e9)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read `{path}`"))
}

/// Reads fields 14 and 15. The process name before them may contain anything, but it
/// ends at the last parenthesis.
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / ticks_per_second());
    Some((seconds()?, seconds()?))
}

fn parse_bytes(status: &str, what: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}
