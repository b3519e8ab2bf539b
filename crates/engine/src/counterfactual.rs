//! The two waits that nobody saw: on the slower device without the neighbour's growth, and on the
//! well one with it.
//!
//! If a device is slower and a neighbour asks for more as well, the part of each is its Shapley
//! value. That needs the wait with either change alone, and a queue makes both together far worse
//! than their sum or their product. Two seconds were seen: a good one, and the present one.
//!
//! A sync makes one request after another. While it waits for one of `r`, the disk completes the
//! others' requests and then its own, so that `r / wait` is the rate that the others leave to it:
//! by Little's law with one request in flight, and for 1/(1 − ρ) as well. If others ask for `m`
//! requests a second less, the sync gets these: its wait is `1 / (1 / wait + m / r)`. If they ask
//! for `m` more, it loses them. Both curves pass through a wait that was seen.
//!
//! This holds where the syncs wait in a queue. There either waits vary, or the queue is always full.
//! A disk with few requests in flight whose syncs all take equally long is slow by itself, and so is
//! one whose quickest syncs are quick: bursts and stalls come and go.

use super::{
    demand::{Growth, NO_GROWTH, Slot},
    device::State,
    reference::SLOWER,
    second::Fresh,
    settle::{Blamed, Settled},
    victim::Victim,
};

/// Waits vary if those that nine of ten syncs do not exceed are this many times as long as those that
/// one of ten does not. Durations are known to a fifth.
const VARIED: f64 = 1.5;

/// A queue with as many in flight is full: a sync and the commits beside it hardly have more.
const FULL_QUEUE: f64 = 6.0;

/// Waits of a victim's syncs in a second with a slower device and a neighbour that asks for more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// The mean wait now, and the usual one.
    pub now_ns: f64,
    pub usual_ns: f64,
    /// A sync's wait on the well disk, times the slowness of requests that are alone; 0 if none was.
    pub alone_ns: f64,
    /// The requests that one sync makes, one after another.
    pub requests: f64,
    /// The requests of a sync's size that others ask for beyond the usual, per second.
    pub more: f64,
    /// The time for which one of these is in flight.
    pub each_ns: f64,
}

impl Waits {
    /// The wait beside this many more of the others' requests per second; `None` if they leave
    /// nothing to the sync.
    fn beside(&self, wait_ns: f64, more: f64) -> Option<f64> {
        let left = self.requests * 1e9 / wait_ns.max(1.0) - more;
        (left > 0.0).then(|| self.requests * 1e9 / left)
    }

    /// The part of the device in the excess: the mean of what it adds if it changes first and if
    /// it changes last.
    pub fn device_part(&self) -> f64 {
        let Self { now_ns, usual_ns, .. } = *self;
        let within = |ns: f64| ns.clamp(usual_ns, now_ns.max(usual_ns));
        let slower = self.beside(now_ns, -self.more).unwrap_or(now_ns).max(self.alone_ns);
        let busier = self.beside(usual_ns, self.more).unwrap_or(now_ns);
        let by_device = within(slower) - usual_ns + now_ns - within(busier);
        let part = by_device / (2.0 * (now_ns - usual_ns)).max(1.0);
        // In one queue others wait for as long as the syncs do. If they do not, the rest of the wait
        // is not theirs.
        let of_queue = (self.requests * self.each_ns / now_ns.max(1.0)).min(1.0);
        1.0 - of_queue * (1.0 - part.clamp(0.0, 1.0))
    }
}

impl Settled {
    /// Divides all blame between the device, which gets a part, and those who ask for more.
    pub(super) fn divide(&mut self, part: f64, blamed: &Blamed) {
        let grown = blamed.grown + blamed.own_grown + blamed.commits_grown;
        if grown <= 0.0 {
            return;
        }
        let steady = blamed.steady + blamed.own_steady + blamed.commits_steady;
        let all = grown + steady + blamed.device;
        self.device = (part * all - blamed.device).clamp(0.0, grown + steady);
        self.unexplained = 0.0;
        self.keep = (grown + steady - self.device) / grown;
    }
}

impl Victim {
    /// The waits of a second in which the device is slower and others ask for more, and in which its
    /// syncs waited in a queue. It marks who asks for more, by what is likely and not only by what is sure.
    pub(super) fn counterfactual(
        &mut self,
        slot: &Slot,
        state: &State,
        growth: &Growth,
        fresh: &Fresh,
        usual_ns: f64,
        quickest: f64,
    ) -> Option<Waits> {
        let is_slower = growth.part < NO_GROWTH || state.says(growth).times >= SLOWER;
        let (now_ns, requests) = (fresh.mean_ns(), fresh.requests_per_sync());
        if !is_slower || quickest < SLOWER || now_ns <= usual_ns || requests <= 0.0 {
            return None;
        }
        let [early, late] = [0.1, 0.9].map(|part| fresh.durations.quantile(part));
        let are_varied = late? >= VARIED * early?;
        let need_ns = fresh.need_each_ns() / requests;
        if !are_varied && slot.did.depth < FULL_QUEUE || need_ns <= 0.0 {
            return None;
        }
        let own = self.actor();
        let (mut more, mut depth, mut completed) = (0.0, 0.0, 0.0);
        for suspect in self.suspects.iter_mut().filter(|suspect| suspect.actor != own) {
            let Some(asked) = slot.of(&suspect.actor) else { continue };
            let part = suspect.lived.likely_more(asked);
            if part <= 0.0 {
                continue;
            }
            suspect.grown = suspect.grown.max(part as f32);
            // One of its requests takes as much from the syncs as one of theirs, or as its work is more.
            more += suspect.lived.more() / need_ns.min(asked.each());
            depth += asked.depth;
            completed += asked.completed;
        }
        let alone = state.alone_of_any().map_or(0.0, |times| times.min(quickest));
        (more > 0.0).then(|| Waits {
            now_ns,
            usual_ns,
            alone_ns: alone * usual_ns,
            requests,
            more,
            each_ns: depth * 1e9 / f64::max(completed, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    /// A sync of two requests takes 100 ms: the others leave it 20 requests a second. Without their
    /// 20 more it would have 40 of them, and take 50 ms. On the well disk it takes 2 ms, so it has
    /// 1000 there, and 980 with these.
    fn queue() -> Waits {
        Waits {
            now_ns: 100.0 * MS,
            usual_ns: 2.0 * MS,
            alone_ns: 0.0,
            requests: 2.0,
            more: 20.0,
            each_ns: 50.0 * MS,
        }
    }

    #[track_caller]
    fn assert_near(is: f64, should: f64) {
        assert!((is - should).abs() < 1e-6, "{is} {should}");
    }

    #[test]
    fn each_change_has_the_mean_of_what_it_adds_first_and_last() {
        // 48 ms if it changes first, 100 - 2000 / 980 ms if it changes last.
        let by_device = 48.0 + 100.0 - 2_000.0 / 980.0;
        assert_near(queue().device_part(), by_device / 2.0 / 98.0);
    }

    /// The growth alone would fill the well disk, too, so both changes have the same effect last.
    #[test]
    fn growth_that_leaves_nothing_to_the_syncs_makes_them_as_long_as_they_are() {
        // With 1980 requests a second more, a sync would take 1 ms without them: no longer than usual.
        assert_near(Waits { more: 1_980.0, ..queue() }.device_part(), 0.0);
        // With 1000 it takes 2000 / 1020 ms, and nothing is left of the well disk.
        assert_near(Waits { more: 1_000.0, ..queue() }.device_part(), 0.0);
    }

    #[test]
    fn a_device_whose_requests_are_slow_alone_has_at_least_that() {
        // 90 ms without the growth.
        let slow = Waits { alone_ns: 90.0 * MS, ..queue() };
        let by_device = 88.0 + 100.0 - 2_000.0 / 980.0;
        assert_near(slow.device_part(), by_device / 2.0 / 98.0);
        // No more than all.
        let slow = Waits { alone_ns: 900.0 * MS, ..queue() };
        let by_device = 98.0 + 100.0 - 2_000.0 / 980.0;
        assert_near(slow.device_part(), by_device / 2.0 / 98.0);
    }

    #[test]
    fn who_waits_for_a_fifth_as_long_in_the_same_queue_has_a_fifth_of_the_part() {
        let all = 1.0 - queue().device_part();
        let fifth = Waits { each_ns: 10.0 * MS, ..queue() };
        assert_near(1.0 - fifth.device_part(), all / 5.0);
        // A longer wait gives no more than all.
        assert_near(1.0 - Waits { each_ns: 70.0 * MS, ..queue() }.device_part(), all);
    }

    #[test]
    fn all_that_is_not_the_devices_goes_to_those_who_ask_for_more() {
        let blamed = Blamed {
            grown: 10.0 * MS,
            steady: 30.0 * MS,
            own_steady: 40.0 * MS,
            device: 20.0 * MS,
            ..Blamed::default()
        };
        let mut settled = Settled { unexplained: MS, ..Settled::default() };
        settled.divide(0.75, &blamed);
        // 75 of 100 ms, 20 of which it had. The others' 25 are 2.5 times what they had grown by.
        assert_eq!((settled.device, settled.unexplained), (55.0 * MS, 0.0));
        assert_near(settled.keep, 2.5);
        // It keeps what it had.
        settled.divide(0.1, &blamed);
        assert_eq!((settled.device, settled.keep), (0.0, 8.0));
        // Without growth nothing changes.
        settled.divide(0.5, &Blamed { grown: 0.0, ..blamed });
        assert_eq!((settled.device, settled.keep), (0.0, 8.0));
    }
}
