//! Decides when hooks that run often are worth their cost.
//!
//! Hooks on every switch of a CPU, on every bio and on every change of a journal
//! are attached only while what they explain is at least a tenth of some victim's
//! sync time. It knows no clock: callers pass the time.

use std::time::Duration;

use tracer_engine::{phases::Phase, sums::Half, victim::Victim};
use tracer_kernel::{capability::Capability, strategies::Forced};

/// Below these a victim's share means nothing.
const WAKEUPS: u64 = 5;
const SYNC_TIME: Duration = Duration::from_millis(20);

/// The share of sync time, in percent, from which on a hook is worth its cost.
const SHARE_PERCENT: u64 = 10;

/// A hook stays attached for this long after it was last worth its cost.
const LINGER: Duration = Duration::from_secs(10);

/// One capability of the kernel programs, and whether it is wanted.
#[derive(Debug)]
pub struct Demand {
    pub capability: Capability,
    /// The time that it explains, in ns.
    explains: fn(&Half) -> u64,
    /// With fewer syncs in the window the time that it explains is not looked at.
    least_syncs: u64,
    /// The last time at which that explained enough to be worth the cost of the hook, in ns.
    mattered_ns: Option<u64>,
    /// Whether the user asked for it by name; if so, it is attached from the start.
    is_forced: bool,
    /// Whether it is attached now.
    pub is_attached: bool,
}

impl Demand {
    /// Finds who runs while a sync waits for a CPU, or while its helper does.
    pub fn contenders() -> Self {
        Self::new(Capability::Contender, WAKEUPS, |half| half.phases.ns[Phase::Runqueue])
    }

    /// Finds what a sync waits for before it has a request. While it is not attached,
    /// that time is part of `other`. A single sync may wait for seconds.
    pub fn throttle() -> Self {
        Self::new(Capability::Throttle, 1, |half| {
            half.phases.ns[Phase::Throttle] + half.phases.ns[Phase::Other]
        })
    }

    /// Finds who fills the journal whose commits a sync waits for.
    pub fn metadata() -> Self {
        Self::new(Capability::Metadata, 1, log_ns)
    }

    /// Finds who fills xfs's log, for which a sync waits there.
    pub fn tickets() -> Self {
        Self::new(Capability::Tickets, 1, log_ns)
    }

    fn new(capability: Capability, least_syncs: u64, explains: fn(&Half) -> u64) -> Self {
        Self {
            capability,
            explains,
            least_syncs,
            mattered_ns: None,
            is_forced: false,
            is_attached: false,
        }
    }

    /// With what the user asked for.
    pub fn with(self, forced: &[Forced]) -> Self {
        let is_forced = forced.iter().any(|wish| wish.capability == self.capability);
        Self { is_forced, is_attached: is_forced, ..self }
    }

    /// Whether it is wanted at `now_ns`, given those who sync.
    pub fn is_wanted<'a>(
        &mut self,
        now_ns: u64,
        victims: impl IntoIterator<Item = &'a Victim>,
    ) -> bool {
        if victims.into_iter().any(|victim| self.matters_to(victim)) {
            self.mattered_ns = Some(now_ns);
        }
        let linger_ns = LINGER.as_nanos() as u64;
        self.is_forced
            || self.mattered_ns.is_some_and(|then| now_ns.saturating_sub(then) < linger_ns)
    }

    /// Looks at both halves of the window: the younger one is empty when it begins.
    fn matters_to(&self, victim: &Victim) -> bool {
        if self.capability == Capability::Contender && victim.is_held_up() {
            return true;
        }
        [&victim.now, &victim.before].into_iter().any(|half| {
            half.syncs >= self.least_syncs
                && half.duration_ns >= SYNC_TIME.as_nanos() as u64
                && (self.explains)(half).saturating_mul(100) >= half.duration_ns * SHARE_PERCENT
        })
    }
}

/// The time in which a sync waited for a filesystem's log.
fn log_ns(half: &Half) -> u64 {
    half.phases.ns[Phase::Journal] + half.phases.journal_io_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_engine::victim::VictimKey;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    fn victim(syncs: u64, duration_ns: u64, runqueue_ns: u64) -> Victim {
        let key = VictimKey { cgroup: 1, comm: [0; 16], file: 0, device: 0 };
        let mut victim = Victim::new(0, key);
        let half = &mut victim.now;
        (half.syncs, half.duration_ns) = (syncs, syncs * duration_ns);
        half.phases.ns[Phase::Runqueue] = syncs * runqueue_ns;
        victim
    }

    #[test]
    fn it_is_wanted_while_waits_for_a_cpu_matter_and_ten_seconds_more() {
        let (waits, runs) = ([victim(10, 4 * MS, MS)], [victim(10, 4 * MS, MS / 10)]);
        let mut demand = Demand::contenders();
        assert!(!demand.is_wanted(SECOND, &runs));
        assert!(demand.is_wanted(2 * SECOND, &waits));
        assert!(demand.is_wanted(11 * SECOND, &runs));
        assert!(!demand.is_wanted(12 * SECOND, &runs));
        assert!(demand.is_wanted(13 * SECOND, &waits));
    }

    #[test]
    fn what_is_not_explained_calls_for_who_holds_requests_back() {
        let mut waits = victim(1, 50 * MS, 0);
        assert!(!Demand::throttle().is_wanted(SECOND, [&waits]));
        waits.now.phases.ns[Phase::Other] = 40 * MS;
        assert!(Demand::throttle().is_wanted(SECOND, [&waits]));
        assert!(!Demand::contenders().is_wanted(SECOND, [&waits]));
    }

    #[test]
    fn commits_that_are_waited_for_call_for_who_fills_the_journal() {
        let mut waits = victim(1, 50 * MS, 0);
        waits.now.phases.ns[Phase::Journal] = 2 * MS;
        assert!(!Demand::metadata().is_wanted(SECOND, [&waits]));
        waits.now.phases.journal_io_ns = 3 * MS;
        assert!(Demand::metadata().is_wanted(SECOND, [&waits]));
        assert!(Demand::tickets().is_wanted(SECOND, [&waits]));
    }

    #[test]
    fn few_or_short_syncs_mean_nothing() {
        for few in [victim(4, 10 * MS, 10 * MS), victim(19, MS, MS)] {
            assert!(!Demand::contenders().is_wanted(SECOND, &[few]));
        }
    }
}
