//! Settles the blame once a second. Until then it lies with whoever overlapped with the
//! victim; now it goes to the device, or to those who asked for more.
//!
//! When a device slows down, everybody's requests are in flight for longer,
//! and overlap grows without anybody doing more. So an actor answers only for
//! the demand that it adds to the demand of the good seconds, in which the victim's
//! syncs were quick ([`super::demand`]). If nobody asks for more, the excess is the device's, or
//! belongs to something below it. If somebody does, the excess is divided between
//! the device ([`super::device`]) and those who ask for more. Requests that only
//! pile up are an effect, and follow the causes.
//!
//! Pure: one second's loads and the blame of its syncs go in, parts come out.

use super::{
    demand::{Growth, MUCH_GROWTH, NO_GROWTH},
    device::{Slowness, State, Sure},
    reference::SLOWER,
};

/// Blame for one second's syncs, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Blamed {
    /// On others: what they asked for beyond the usual, and the rest.
    pub grown: f64,
    pub steady: f64,
    /// On the victim's own other requests, alike.
    pub own_grown: f64,
    pub own_steady: f64,
    /// On what commits wrote for others, alike.
    pub commits_grown: f64,
    pub commits_steady: f64,
    /// The blame that the device has already.
    pub device: f64,
}

/// The blame as it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settled {
    /// The blame for the growth of others, of the victim's own requests and of commits is
    /// multiplied by this.
    pub keep: f64,
    /// The amounts that are added to the part of the device, and to what is unexplained.
    pub device: f64,
    pub unexplained: f64,
    /// The factor by which the device is slower.
    pub times: f64,
    pub sure: Sure,
    /// The device may be slower, but that adds less than a tenth of the excess.
    pub is_well: bool,
}

/// A device that adds at most this part of the excess counts as well. From [`MATTERS`] on
/// it matters that it may be the device.
const NEXT_TO_NOTHING: f64 = 0.1;
const MATTERS: f64 = 0.3;

/// A request of another size, or in another queue, waits at most this many times as long.
pub const BEHIND: f64 = 3.0;

/// Settles the blame for one second, in which a sync waited for `mean_ns` where
/// `usual_ns` are usual. The part `alone` of all waits is longer than those who ask for more
/// can make a single sync wait.
pub fn settle(
    state: &State,
    growth: &Growth,
    blamed: &Blamed,
    mean_ns: f64,
    usual_ns: f64,
    alone: f64,
) -> Settled {
    let have_grown = growth.part >= NO_GROWTH;
    let slowness = state.says(growth);
    let Slowness { times, sure, .. } = slowness;
    let is_slow = times >= SLOWER;
    let mut settled = Settled { times, sure, ..Settled::default() };
    // If nobody asks for more than the victim lived with, it is the device, or what
    // is below it. If somebody does, the waits that are longer than any behind them are the
    // device's, and as large a part of what piles up meanwhile.
    let mut leave = |ns: f64| {
        let of_device = if is_slow || !have_grown { 1.0 } else { alone };
        settled.device += ns * of_device;
        settled.unexplained += ns * (1.0 - of_device);
    };
    let grown = blamed.grown + blamed.own_grown + blamed.commits_grown;
    let steady = blamed.steady + blamed.commits_steady;
    // The victim's pile-up is an effect of what the others and the device do. So is the
    // pile-up of actors that have not grown, if the load has grown enough for that.
    let is_effect = growth.part >= MUCH_GROWTH;
    let (effects, rest) = if is_effect { (steady, 0.0) } else { (0.0, steady) };
    leave(rest);
    let causes = grown + blamed.own_steady + effects;
    if !have_grown || grown <= 0.0 {
        leave(causes);
        return settled;
    }
    let wait = Wait { mean_ns, usual_ns, growth };
    let mut part = if is_slow { wait.due_to(&slowness, times) } else { 0.0 };
    let possible = wait.due_to(&slowness, slowness.doubtful);
    settled.is_well = state.is_measured() && possible < NEXT_TO_NOTHING;
    if sure == Sure::No && slowness.of_flushes && possible < MATTERS {
        settled.sure = Sure::Likely;
    }
    // The device has the part that the load cannot explain.
    let explained = (BEHIND * growth.behind_ns / wait.excess_ns()).min(1.0 - alone);
    if !growth.is_written || state.flush.is_some() {
        part = part.max(1.0 - explained);
    } else if explained < 0.5 {
        // A flush may be slow, or have more to drain.
        settled.sure = Sure::No;
    }
    let all = causes + blamed.device;
    let more = (part * all - blamed.device).clamp(0.0, causes);
    settled.device += more;
    settled.keep = (causes - more) / grown;
    settled
}

/// The device's part of an excess, if the device makes a wait `times` and the load makes
/// it `load` times as long. The two factors are multiplied, and each has the mean of what
/// it adds if it comes first and if it comes last (its Shapley value).
pub fn device_part(times: f64, load: f64) -> f64 {
    let by_device = (times - 1.0) * (1.0 + load);
    let by_load = (load - 1.0) * (1.0 + times);
    by_device / (by_device + by_load).max(1e-9)
}

/// The wait of a sync where somebody asks for more.
struct Wait<'a> {
    mean_ns: f64,
    usual_ns: f64,
    growth: &'a Growth,
}

impl Wait<'_> {
    fn excess_ns(&self) -> f64 {
        (self.mean_ns - self.usual_ns).max(1.0)
    }

    /// The part of the excess that is a device's which takes this multiple of its time.
    fn due_to(&self, slowness: &Slowness, times: f64) -> f64 {
        let load = self.mean_ns / (times * self.usual_ns.max(1.0));
        let product = device_part(times, load.max(1.0).min(slowness.load));
        if !slowness.of_flushes {
            return product;
        }
        // Slow flushes do not hold up a neighbour that never flushes: there the two
        // delays are added, not multiplied.
        let sum = ((times - 1.0) * self.usual_ns / self.excess_ns()).min(product);
        product * self.growth.written + sum * (1.0 - self.growth.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    /// A tenant fills the journal: commits write more for it, and the victim's own
    /// requests pile up behind them.
    fn fuller_journal() -> (Growth, Blamed) {
        let growth = Growth {
            part: 0.47,
            times: 1.9,
            of_journal: 1.0,
            is_written: true,
            written: 1.0,
            is_more: true,
            is_deeper: true,
            behind_ns: 150.0 * MS,
            held: 1.0,
        };
        let blamed = Blamed {
            own_steady: 130.0 * MS,
            commits_grown: 170.0 * MS,
            device: 5.0 * MS,
            ..Blamed::default()
        };
        (growth, blamed)
    }

    #[test]
    fn what_piles_up_behind_a_fuller_journal_follows_the_journal() {
        let (growth, blamed) = fuller_journal();
        let well = State::of_alone(1.0, 1.0);
        let settled = settle(&well, &growth, &blamed, 40.0 * MS, 2.0 * MS, 0.0);
        assert_eq!((settled.device, settled.unexplained), (0.0, 0.0));
        let commits = blamed.commits_grown * settled.keep;
        assert!((commits - 300.0 * MS).abs() < 1.0, "{settled:?}");
    }

    #[test]
    fn a_slower_device_has_its_part_of_longer_commits() {
        let (growth, blamed) = fuller_journal();
        let slow = State::of_alone(4.0, 4.0);
        let settled = settle(&slow, &growth, &blamed, 40.0 * MS, 2.0 * MS, 0.0);
        // Alone each of them makes a sync 4 and 5 times as long.
        let device = settled.device / (300.0 * MS);
        assert!((0.3..0.7).contains(&device), "{settled:?}");
        assert_eq!(settled.unexplained, 0.0);
    }

    #[test]
    fn commits_as_full_as_ever_take_longer_on_a_slower_device_alone() {
        let (growth, mut blamed) = fuller_journal();
        (blamed.commits_grown, blamed.commits_steady) = (0.0, blamed.commits_grown);
        let growth = Growth { part: 0.0, times: 1.0, of_journal: 0.0, ..growth };
        let slow = State::of_alone(4.0, 4.0);
        let settled = settle(&slow, &growth, &blamed, 40.0 * MS, 2.0 * MS, 0.0);
        assert_eq!(settled.device, 300.0 * MS);
    }

    /// Discards keep the disk busy, and a little is written beside them.
    fn discards() -> (Growth, Blamed) {
        let (growth, blamed) = fuller_journal();
        let growth = Growth { part: 0.96, times: 25.0, of_journal: 0.0, written: 0.02, ..growth };
        let blamed = Blamed {
            grown: 470.0 * MS,
            own_steady: MS,
            commits_grown: 0.0,
            device: 4.0 * MS,
            ..blamed
        };
        (growth, blamed)
    }

    #[test]
    fn a_flush_that_takes_twice_its_time_does_not_explain_a_wait_of_thirty_times() {
        let (growth, blamed) = discards();
        let settled =
            settle(&State::of_alone(1.3, 2.2), &growth, &blamed, 9.0 * MS, 0.35 * MS, 0.0);
        assert!(settled.sure > Sure::No && settled.is_well, "{settled:?}");
        assert_eq!((settled.device, settled.unexplained), (0.0, 0.0));
    }

    #[test]
    fn a_flush_that_takes_thirty_times_as_long_may_be_the_device_or_its_cache() {
        let (growth, blamed) = discards();
        let settled =
            settle(&State::of_alone(1.3, 40.0), &growth, &blamed, 9.0 * MS, 0.35 * MS, 0.0);
        assert!(settled.sure == Sure::No && !settled.is_well, "{settled:?}");
    }
}
