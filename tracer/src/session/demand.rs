//! When it is worth to see every switch of a CPU.
//!
//! The hook runs for each switch on the machine, so it is on its hook only while
//! waits for a CPU are a share of somebody's sync time that matters. Knows no
//! clock: callers say what time it is.

use std::time::Duration;

use crate::engine::victim::Victim;

/// Below these a victim's share means nothing.
const SYNCS: u64 = 5;
const SYNC_TIME: Duration = Duration::from_millis(20);

/// Of the sync time, so many per cent in the run queue matter.
const SHARE_PERCENT: u64 = 10;

/// It stays for so long after it mattered last.
const LINGER: Duration = Duration::from_secs(10);

/// Whether the hook is wanted.
#[derive(Debug, Default)]
pub struct Demand {
    /// When waits mattered last.
    mattered_ns: Option<u64>,
}

impl Demand {
    /// Whether it is wanted at `now_ns`, given those who sync.
    pub fn is_wanted<'a>(
        &mut self,
        now_ns: u64,
        victims: impl IntoIterator<Item = &'a Victim>,
    ) -> bool {
        if victims.into_iter().any(waits_for_cpu) {
            self.mattered_ns = Some(now_ns);
        }
        let linger_ns = LINGER.as_nanos() as u64;
        self.mattered_ns.is_some_and(|then| now_ns.saturating_sub(then) < linger_ns)
    }
}

/// By either half of its window: the younger one is empty when it begins.
fn waits_for_cpu(victim: &Victim) -> bool {
    [&victim.now, &victim.before].iter().any(|half| {
        half.syncs >= SYNCS
            && half.duration_ns >= SYNC_TIME.as_nanos() as u64
            && half.phases.runqueue_ns.saturating_mul(100) >= half.duration_ns * SHARE_PERCENT
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::victim::VictimKey;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    fn victim(syncs: u64, duration_ns: u64, runqueue_ns: u64) -> Victim {
        let key = VictimKey { cgroup: 1, comm: [0; 16], file: 0, device: 0 };
        let mut victim = Victim::new(0, key);
        let half = &mut victim.now;
        (half.syncs, half.duration_ns) = (syncs, syncs * duration_ns);
        half.phases.runqueue_ns = syncs * runqueue_ns;
        victim
    }

    #[test]
    fn it_is_wanted_while_waits_for_a_cpu_matter_and_ten_seconds_more() {
        let (waits, runs) = ([victim(10, 4 * MS, MS)], [victim(10, 4 * MS, MS / 10)]);
        let mut demand = Demand::default();
        assert!(!demand.is_wanted(SECOND, &runs));
        assert!(demand.is_wanted(2 * SECOND, &waits));
        assert!(demand.is_wanted(11 * SECOND, &runs));
        assert!(!demand.is_wanted(12 * SECOND, &runs));
        assert!(demand.is_wanted(13 * SECOND, &waits));
    }

    #[test]
    fn few_or_short_syncs_mean_nothing() {
        for few in [victim(4, 10 * MS, 10 * MS), victim(19, MS, MS)] {
            assert!(!Demand::default().is_wanted(SECOND, &[few]));
        }
    }
}
