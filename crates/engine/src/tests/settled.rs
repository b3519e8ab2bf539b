//! The blame of one second is settled. The numbers are worked out beside each test from the
//! constants of `settle`, and from docs/design/blame.md.

use super::demands::assert_near;
use crate::{
    demand::Growth,
    device::{State, Sure},
    settle::{self, Blamed, Settled, device_part},
};

const MS: f64 = 1e6;

/// An amount of each kind that no sum of others is: 39 ms have grown (with the victim's own
/// and the commits'), 34 are others' and the commits' steady ones.
fn blamed() -> Blamed {
    Blamed {
        grown: 7.0 * MS,
        steady: 11.0 * MS,
        own_grown: 13.0 * MS,
        own_steady: 17.0 * MS,
        commits_grown: 19.0 * MS,
        commits_steady: 23.0 * MS,
        device: 29.0 * MS,
    }
}

/// A part of all work is new, and waits behind it take long enough to explain all.
fn growth(part: f64) -> Growth {
    Growth { part, times: 1.0 / (1.0 - part), behind_ns: 1e3 * MS, ..Growth::default() }
}

/// Syncs wait for `mean_ns` on average, where `usual_ns` is usual.
fn settle(state: &State, growth: &Growth, blamed: &Blamed, mean_ns: f64, usual_ns: f64) -> Settled {
    settle::settle(state, growth, blamed, mean_ns, usual_ns, 0.0)
}

/// A sync waits for 40 ms where 10 are usual.
fn settled(state: &State, growth: &Growth, blamed: &Blamed) -> Settled {
    settle(state, growth, blamed, 40.0 * MS, 10.0 * MS)
}

#[track_caller]
fn assert_divided(settled: &Settled, keep: f64, device_ms: f64, unexplained_ms: f64) {
    assert_near(settled.keep, keep);
    assert_near(settled.device, device_ms * MS);
    assert_near(settled.unexplained, unexplained_ms * MS);
}

fn well() -> State {
    State::of_alone(1.0, 1.0)
}

/// (d − 1)(1 + l) to (l − 1)(1 + d).
#[test]
fn a_device_and_a_load_have_the_mean_of_what_each_adds_first_and_last() {
    // 2 · 3 to 1 · 4; by the definition ((3 − 1) + (6 − 2)) / 2 of 5.
    assert_near(device_part(3.0, 2.0), 0.6);
    // 1.1 · 5 to 3 · 3.1.
    assert_near(device_part(2.1, 4.0), 5.5 / 14.8);
    assert_eq!(
        (device_part(4.0, 1.0), device_part(1.0, 4.0), device_part(1.0, 1.0)),
        (1.0, 0.0, 0.0)
    );
}

#[test]
fn where_nobody_asks_for_more_all_is_the_devices() {
    // All that is blamed goes to the device, except for what is the device's already.
    for state in [well(), State::of_alone(4.0, 4.0), State::default()] {
        let settled = settled(&state, &growth(0.0199), &blamed());
        assert_divided(&settled, 0.0, 90.0, 0.0);
    }
    let slow = settled(&State::of_alone(4.0, 3.0), &growth(0.0), &blamed());
    assert_eq!((slow.times, slow.sure, slow.is_well), (4.0, Sure::Yes, false));
}

#[test]
fn where_no_blame_is_for_what_is_new_a_device_that_is_well_has_no_part() {
    let steady = Blamed { grown: 0.0, own_grown: 0.0, commits_grown: 0.0, ..blamed() };
    // 11 + 17 + 23, whether they are an effect of the growth or not.
    for part in [0.02, 0.1, 0.2, 0.5] {
        assert_divided(&settled(&well(), &growth(part), &steady), 0.0, 0.0, 51.0);
        let slow = State::of_alone(4.0, 4.0);
        assert_divided(&settled(&slow, &growth(part), &steady), 0.0, 51.0, 0.0);
    }
}

#[test]
fn what_steady_actors_pile_up_follows_a_growth_of_a_fifth() {
    let well = well();
    // 7 + 13 + 19 + 17 are on account of those 39; 34 are nobody's that is known.
    assert_divided(&settled(&well, &growth(0.19), &blamed()), 56.0 / 39.0, 0.0, 34.0);
    assert_divided(&settled(&well, &growth(0.2), &blamed()), 90.0 / 39.0, 0.0, 0.0);
    // On a slow device, which has 18/38 (below) of the rest less what it has, these too.
    let slow = State::of_alone(4.0, 4.0);
    let settled = settle(&slow, &growth(0.1), &blamed(), 200.0 * MS, 10.0 * MS);
    let more = 18.0 / 38.0 * 85.0 - 29.0;
    assert_divided(&settled, (56.0 - more) / 39.0, 34.0 + more, 0.0);
}

/// Three quarters of the waits are longer than any behind those who ask for more.
#[test]
fn what_piles_up_behind_a_stall_is_the_devices() {
    let of = |part, alone| {
        let growth = growth(part);
        settle::settle(&well(), &growth, &blamed(), 40.0 * MS, 10.0 * MS, alone)
    };
    // 34 are steady ones', and 29 of all 85 that are left are the device's; it has 3/4.
    let more = 0.75 * 85.0 - 29.0;
    assert_divided(&of(0.1, 0.75), (56.0 - more) / 39.0, 0.75 * 34.0 + more, 0.25 * 34.0);
    // All of it where nobody asks for more, whatever is seen of a stall.
    assert_divided(&of(0.0, 0.75), 0.0, 90.0, 0.0);
}

/// Four times as long by the device, and five times by the load: (3 · 6) to (4 · 5).
#[test]
fn a_slow_device_has_its_part_less_what_it_has() {
    let slow = State::of_alone(4.0, 4.0);
    let settled = settle(&slow, &growth(0.5), &blamed(), 200.0 * MS, 10.0 * MS);
    assert_eq!((settled.times, settled.sure, settled.is_well), (4.0, Sure::Yes, false));
    let more = 18.0 / 38.0 * 119.0 - 29.0;
    assert_divided(&settled, (90.0 - more) / 39.0, more, 0.0);
    // It never gives away what it has, and never has more than all.
    let has_more = Blamed { device: 1e3 * MS, ..blamed() };
    let all = settle(&slow, &growth(0.5), &has_more, 200.0 * MS, 10.0 * MS);
    assert_divided(&all, 90.0 / 39.0, 0.0, 0.0);
    // A load that shortens the wait adds nothing.
    let all = settle(&slow, &growth(0.5), &blamed(), 20.0 * MS, 10.0 * MS);
    assert_divided(&all, 0.0, 90.0, 0.0);
}

/// Nobody waits for more than three times as long behind others as these wait: 30 ms of
/// excess behind requests of 5 ms are half explained.
#[test]
fn the_device_has_what_the_load_cannot_explain() {
    let behind = |ms: f64| Growth { behind_ns: ms * MS, ..growth(0.5) };
    let half = 0.5 * 119.0 - 29.0;
    for growth in [behind(5.0), Growth { is_written: true, ..behind(5.0) }] {
        let settled = settled(&well(), &growth, &blamed());
        assert_divided(&settled, (90.0 - half) / 39.0, half, 0.0);
        assert_eq!(settled.sure, Sure::Yes);
    }
    assert_divided(&settled(&well(), &behind(10.0), &blamed()), 90.0 / 39.0, 0.0, 0.0);
    assert_divided(&settled(&well(), &behind(0.0), &blamed()), 0.0, 90.0, 0.0);
    // Without a flush that was alone too, if those who grew do not write.
    let unknown = State::default();
    assert_divided(&settled(&unknown, &behind(5.0), &blamed()), (90.0 - half) / 39.0, half, 0.0);
    // If they do, a flush may have more to drain.
    let written = |ms| Growth { is_written: true, ..behind(ms) };
    let unsure = settled(&unknown, &written(4.99), &blamed());
    assert_divided(&unsure, 90.0 / 39.0, 0.0, 0.0);
    assert_eq!(unsure.sure, Sure::No);
    assert_eq!(settled(&unknown, &written(5.0), &blamed()).sure, Sure::Likely);
}

/// A write and its flush, of a ms each, take 1.2 and 3 of them: 2.1 times as long. The load
/// makes 84 ms of 10 four times as long. Multiplied the device has 5.5/14.8, and added up
/// 1.1 · 10 of 74 ms. A quarter of the new work is written.
#[test]
fn slow_flushes_multiply_with_writes_alone() {
    let growth = Growth { written: 0.25, ..growth(0.5) };
    let state = State::of_alone(1.2, 3.0);
    let settled = settle(&state, &growth, &blamed(), 84.0 * MS, 10.0 * MS);
    assert_near(settled.times, 2.1);
    let part = 0.25 * 5.5 / 14.8 + 0.75 * 11.0 / 74.0;
    // 24.3 of 119 ms, which are less than it has.
    assert_divided(&settled, 90.0 / 39.0, 0.0, 0.0);
    let has_less = Blamed { device: 2.0 * MS, ..blamed() };
    let settled = settle(&state, &growth, &has_less, 84.0 * MS, 10.0 * MS);
    let more = part * 92.0 - 2.0;
    assert_divided(&settled, (90.0 - more) / 39.0, more, 0.0);
    // Added up it never is more than multiplied: of 12 ms both are.
    let settled = settle(&state, &growth, &has_less, 12.0 * MS, 10.0 * MS);
    assert_divided(&settled, 0.0, 90.0, 0.0);
}

/// The load of a queue that the demand can make bounds what is the load's: a stretch of 60
/// where 20 may be the load's is three times as slow.
#[test]
fn a_load_is_no_more_than_the_queue_that_it_can_make() {
    use crate::{
        demand::{Did, Slot},
        device::Device,
    };
    let mut device = Device::default();
    let busy = Did { depth: 0.5, work: 200e6, requests: 1.0, bytes: 1.0, written: 1.0 };
    device.learn(&Slot { did: busy, ..Slot::default() });
    let mut state = device.look(&Slot::default(), 0);
    (state.stretch, state.done, state.depth) = (Some(5.0), 1.5, 3.0);
    // Three times by the device, and 5/3 by the load (see `devices`), not 100/30.
    let settled = settle(&state, &growth(0.5), &blamed(), 100.0 * MS, 10.0 * MS);
    assert_near(settled.times, 3.0);
    let by_device = 2.0 * (1.0 + 5.0 / 3.0);
    let more = by_device / (by_device + 2.0 / 3.0 * 4.0) * 119.0 - 29.0;
    assert_divided(&settled, (90.0 - more) / 39.0, more, 0.0);
}

/// A flush of twice its time, 1.5 times for a write and its flush, adds half of what is
/// usual to a wait, whatever holds others up.
#[test]
fn a_slow_flush_that_adds_little_leaves_the_device_well() {
    let growth = Growth { is_written: true, written: 0.0, ..growth(0.5) };
    let of = |usual_ms: f64, excess_ms: f64, growth: &Growth| {
        let (mean, usual) = ((usual_ms + excess_ms) * MS, usual_ms * MS);
        let settled = settle(&State::of_alone(1.0, 2.0), growth, &blamed(), mean, usual);
        assert_eq!(settled.times, 1.0);
        (settled.is_well, settled.sure)
    };
    // 5 ms of 51 are less than a tenth, and 15 of 51 less than three.
    assert_eq!(of(10.0, 51.0, &growth), (true, Sure::Likely));
    assert_eq!(of(10.0, 50.0, &growth), (false, Sure::Likely));
    assert_eq!(of(30.0, 51.0, &growth), (false, Sure::Likely));
    assert_eq!(of(30.0, 50.0, &growth), (false, Sure::No));
    // For those who write the two are multiplied: 0.5 · 5 to 3 · 2.5 are a quarter.
    let written = Growth { written: 1.0, ..growth };
    assert_eq!(of(10.0, 50.0, &written), (false, Sure::Likely));
    // 0.5 · 8/3 to 2/3 · 2.5 are four ninths.
    assert_eq!(of(30.0, 45.0, &written), (false, Sure::No));
}

#[test]
fn only_a_device_of_which_both_times_are_known_is_well() {
    assert!(settled(&well(), &growth(0.5), &blamed()).is_well);
    assert!(!settled(&State::default(), &growth(0.5), &blamed()).is_well);
    let mut flushes = well();
    flushes.rested = None;
    assert!(!settled(&flushes, &growth(0.5), &blamed()).is_well);
}

/// A usual wait of 0 and a wait that is no longer than usual divide by nothing.
#[test]
fn nothing_usual_and_nothing_beyond_it_are_no_division_by_0() {
    for (mean, usual) in [(0.0, 0.0), (10.0 * MS, 10.0 * MS)] {
        let settled = settle(&State::of_alone(4.0, 4.0), &growth(0.5), &blamed(), mean, usual);
        for part in [settled.keep, settled.device, settled.unexplained] {
            assert!(part.is_finite() && part >= 0.0, "{settled:?}");
        }
    }
}
