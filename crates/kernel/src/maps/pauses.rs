//! Writers near the limit on dirty pages: the kernel programs' table of their pauses, once a second.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_getres};
use tracer_ebpf::record::{OwnerKey, PauseKey, Paused, op, via};
use tracer_engine::tick::Pause;

use super::{accounts::Accounts, pods::Plain, sums::Sums, tallies::growth};
use crate::load::Programs;

/// The table, and what was in it.
pub struct Pauses {
    sums: Sums<PauseKey, Plain<Paused>>,
    seen: HashMap<PauseKey, [u64; 3]>,
    tick_ns: u64,
}

/// The pauses of one process in the last second.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The lower half of the id of the backing device that it wrote to.
    pub backing: u32,
    /// The last limit that it met, in pages; 0 where [`Pause::limit_ns`] is known.
    pub threshold: u32,
    /// Its filesystem is left out: it is 0.
    pub pause: Pause,
}

impl Pauses {
    /// Takes the programs' table over.
    ///
    /// # Errors
    ///
    /// When it was taken before, or the kernel does not say how long its ticks are.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        // This clock is moved on once in each tick:
        // <https://elixir.bootlin.com/linux/v6.12/source/kernel/time/posix-timers.c>
        let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .context("failed to read the resolution of CLOCK_MONOTONIC_COARSE")?;
        let tick_ns = u64::try_from(tick.tv_sec() * 1_000_000_000 + tick.tv_nsec())?;
        Ok(Self { sums: Sums::new(programs, "PAUSES")?, seen: HashMap::new(), tick_ns })
    }

    /// Reads who wrote since the last reading.
    pub fn read(&mut self, accounts: &mut Accounts) -> Vec<Written> {
        let Some(sums) = self.sums.read() else { return Vec::new() };
        let thresholds: HashMap<_, _> =
            sums.iter().map(|(key, Plain(sum))| (*key, sum.threshold)).collect();
        let sums = sums.into_iter().map(|(key, Plain(sum))| {
            let Paused { ticks, limit_ticks, pages, .. } = sum;
            (key, [ticks, limit_ticks, pages])
        });
        let grown = growth(&mut self.seen, sums);
        let written = grown.into_iter().map(|(key, [ticks, limit_ticks, pages])| {
            let PauseKey { cgroup, comm, tgid, backing } = key;
            let (op, via) = (op::DIRTY as u16, via::DIRECT);
            let kthread = u8::from(tgid == 0);
            let owner = accounts.intern(OwnerKey { cgroup, comm, disk: 0, op, kthread, via });
            let [ns, limit_ns] = [ticks, limit_ticks].map(|ticks| ticks * self.tick_ns);
            Written {
                backing,
                threshold: thresholds.get(&key).copied().unwrap_or(0),
                pause: Pause { device: 0, owner, tgid, pages, ns, limit_ns },
            }
        });
        written.collect()
    }

    /// Sums that the kernel evicted.
    pub const fn evicted(&self) -> u64 {
        self.sums.evicted()
    }
}
