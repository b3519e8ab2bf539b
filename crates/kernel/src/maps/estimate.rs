//! An estimate of the cost of requests that are never alone on their disk.
//!
//! A second of a disk goes in; the time that one load's requests took of it, at least, comes
//! out. A kernel worker discards what was freed right after the commit that freed it, and the
//! next sync comes meanwhile: its discards are never alone, and a guess at their cost may be
//! wrong by a factor of twenty. Knows no clock and no map.

use tracer_engine::{
    reference::SLOWER,
    tick::{Alone, DiskWork, Load},
};

/// Requests, and the time that they took of the disk's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Estimate {
    pub requests: u64,
    pub ns: u64,
}

impl Estimate {
    /// Estimates the cost of the requests of one of a disk's loads in a second, if it is more than
    /// was guessed. Requests that are made one at a time wait at most for all that the others had
    /// done in that second, and the rest of their time is their own. That holds on a disk that is
    /// idle now and then, and takes its usual time.
    pub fn of(work: &DiskWork, at: usize) -> Option<Self> {
        let load = work.loads.get(at)?;
        let is_slow = |alone: &Alone| alone.ns as f64 > SLOWER * alone.reference_ns as f64;
        let is_one_at_a_time = load.in_flight_ns <= work.length_ns;
        let is_idle = work.alone.requests > 0;
        if !is_one_at_a_time || !is_idle || is_slow(&work.alone) || is_slow(&work.flushes) {
            return None;
        }
        let ns = |load: &Load| load.completed.saturating_mul(load.cost_ns.into());
        let others = work.loads.iter().enumerate().filter(|(other, _)| *other != at);
        let others_ns: u64 = others.map(|(_, load)| ns(load)).sum();
        let own_ns = load.in_flight_ns.saturating_sub(others_ns);
        (own_ns > ns(load)).then_some(Self { requests: load.completed, ns: own_ns })
    }
}

#[cfg(test)]
mod tests {
    use tracer_engine::reference::Grade;

    use super::*;

    /// A second in which 100 writes of 1 ms are made beside 15 discards, one at a time, that are
    /// in flight for 700 ms together.
    fn beside_discards() -> DiskWork {
        let usual = Alone { requests: 20, ns: 20, reference_ns: 20, known: Grade::Good };
        let writes = Load { completed: 100, cost_ns: 1_000_000, ..Load::default() };
        let discards = Load {
            completed: 15,
            in_flight_ns: 700_000_000,
            cost_ns: 2_000_000,
            guessed: true,
            ..Load::default()
        };
        DiskWork {
            length_ns: 1_000_000_000,
            alone: usual,
            flushes: usual,
            loads: vec![writes, discards],
            ..DiskWork::default()
        }
    }

    #[test]
    fn what_the_others_cannot_have_held_up_is_the_requests_own_time() {
        let known = Estimate { requests: 15, ns: 600_000_000 };
        assert_eq!(Estimate::of(&beside_discards(), 1), Some(known));
    }

    #[test]
    fn on_a_slow_or_busy_disk_nothing_is_estimated() {
        let none = |change: fn(&mut DiskWork)| {
            let mut work = beside_discards();
            change(&mut work);
            assert_eq!(Estimate::of(&work, 1), None, "{work:?}");
        };
        none(|work| work.alone.ns = 31);
        none(|work| work.flushes.ns = 31);
        none(|work| work.alone = Alone::default());
        none(|work| work.loads[1].in_flight_ns = 1_000_000_001);
        // The others, or the guess itself, explain all of it.
        none(|work| work.loads[0].cost_ns = 7_000_000);
        none(|work| work.loads[1].in_flight_ns = 130_000_000);
        assert_eq!(Estimate::of(&beside_discards(), 2), None);
    }
}
