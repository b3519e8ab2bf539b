//! A device is compared with its own past: requests that were alone, and the levels of its
//! good seconds. The numbers are worked out beside each test from the constants of `device`.

use super::{demands::assert_near, *};
use crate::{
    demand::{Did, Growth, Slot},
    device::{Device, Slowness, State, Sure},
    reference::Grade,
    tick::{Alone, Paced},
};

const SECOND: u64 = 1_000_000_000;

/// Requests that were alone: their number, their time and the usual time in ms.
fn alone(requests: u64, ms: u64, usual_ms: u64) -> Alone {
    Alone { requests, ns: ms * MS, reference_ns: usual_ms * MS, known: Grade::Good }
}

fn slot(rested: Alone, flushes: Alone) -> Slot {
    Slot { alone: rested, flushes, ..Slot::default() }
}

fn none() -> Alone {
    Alone::default()
}

/// The state after these seconds says this of requests that were alone.
fn rested_after(seconds: &[Alone]) -> Option<f64> {
    let mut device = Device::default();
    let mut now_ns = 0;
    for second in seconds {
        now_ns += SECOND;
        device.observe(&slot(*second, none()), now_ns);
    }
    device.look(&Slot::default(), now_ns).rested
}

#[test]
fn three_requests_that_were_alone_say_something_and_two_do_not() {
    assert_eq!(rested_after(&[alone(2, 8, 2)]), None);
    assert_eq!(rested_after(&[alone(3, 12, 3)]), Some(4.0));
    assert_eq!(rested_after(&[alone(9, 12, 0)]), None, "nothing is usual");
}

/// Six are remembered, and at most six tenths of those of before.
#[test]
fn requests_of_the_seconds_before_count_less() {
    // 0.6 · 8 + 2 of 0.6 · 2 + 4 ms.
    assert_near(rested_after(&[alone(2, 8, 2), alone(2, 2, 4)]).unwrap(), 6.8 / 5.2);
    // Beside four new ones there is room for two of five: 0.4 · 10 + 4 of 0.4 · 5 + 4 ms.
    assert_near(rested_after(&[alone(5, 10, 5), alone(4, 4, 4)]).unwrap(), 8.0 / 6.0);
    // Beside seven there is none.
    assert_near(rested_after(&[alone(5, 50, 5), alone(7, 7, 7)]).unwrap(), 1.0);
    // 0.6 · 1 + 2 are fewer than three.
    assert_eq!(rested_after(&[alone(1, 8, 2), alone(2, 2, 4)]), None);
}

#[test]
fn after_three_seconds_without_any_those_of_before_are_forgotten() {
    let after = |gaps| {
        let mut seconds = vec![alone(2, 8, 2)];
        seconds.extend(vec![none(); gaps]);
        seconds.push(alone(2, 2, 4));
        rested_after(&seconds)
    };
    for gaps in 0..3 {
        assert_near(after(gaps).unwrap(), 6.8 / 5.2);
    }
    assert_eq!((after(3), after(5)), (None, None));
    // Others between them begin the gap again.
    let seconds = [alone(2, 8, 2), none(), none(), alone(1, 1, 1), none(), none(), alone(3, 2, 4)];
    // (0.6 · 2 + 1) · 0.6 + 3 of them, (0.6 · 8 + 1) · 0.6 + 2 of (0.6 · 2 + 1) · 0.6 + 4 ms.
    assert_near(rested_after(&seconds).unwrap(), 5.48 / 5.32);
}

/// The state says this `later_ns` after a second with requests alone.
fn said_later(ms: u64, later_ns: u64) -> [Option<f64>; 2] {
    let mut device = Device::default();
    device.observe(&slot(alone(4, ms, 4), alone(4, ms, 4)), SECOND);
    // A second without any is no newer word.
    device.observe(&slot(none(), none()), 2 * SECOND);
    let state = device.look(&Slot::default(), SECOND + later_ns);
    [state.rested, state.flush]
}

/// Half a second, or ten from one and a half times the usual on.
#[test]
fn a_slow_word_stays_for_longer_than_a_fast_one() {
    assert_eq!(said_later(5, SECOND / 2), [Some(1.25); 2]);
    assert_eq!(said_later(5, SECOND / 2 + 1), [None; 2]);
    assert_eq!(said_later(6, 10 * SECOND), [Some(1.5); 2]);
    assert_eq!(said_later(6, 10 * SECOND + 1), [None; 2]);
}

#[test]
fn the_worse_reference_of_those_that_were_seen_counts() {
    let graded = |requests, known| Alone { requests, known, ..Alone::default() };
    let known = |rested: Alone, flushes: Alone| {
        let mut device = Device::default();
        device.known = Grade::Young;
        device.observe(&slot(rested, flushes), SECOND);
        device.known
    };
    assert_eq!(known(graded(1, Grade::Good), graded(1, Grade::None)), Grade::None);
    assert_eq!(known(graded(0, Grade::None), graded(1, Grade::Good)), Grade::Good);
    assert_eq!(known(graded(1, Grade::Good), graded(0, Grade::None)), Grade::Good);
    assert_eq!(known(graded(0, Grade::None), graded(0, Grade::Good)), Grade::Young);
}

fn beside(rested: Alone, flushes: Alone, strangers_write: bool) -> Option<f64> {
    let mut device = Device::default();
    device.observe(&slot(rested, flushes), SECOND);
    device.beside_reference(strangers_write, SECOND).map(|beside| beside.times)
}

/// Writes of 1 ms take 3, and flushes of 4 ms take 8: 11 ms instead of 5.
#[test]
fn a_write_and_its_flush_count_by_their_times() {
    let (writes, flushes) = (alone(4, 12, 4), alone(5, 40, 20));
    assert_near(beside(writes, flushes, false).unwrap(), 11.0 / 5.0);
    assert_near(beside(writes, flushes, true).unwrap(), 11.0 / 5.0);
    // Beside strangers that write, a flush of 20 ms is no slower than a write.
    let slow = alone(5, 100, 20);
    assert_near(beside(writes, slow, false).unwrap(), 23.0 / 5.0);
    assert_near(beside(writes, slow, true).unwrap(), 3.0);
}

#[test]
fn one_of_both_is_enough_but_for_flushes_beside_strangers() {
    assert_eq!(beside(alone(4, 12, 4), none(), false), Some(3.0));
    assert_eq!(beside(alone(4, 12, 4), none(), true), Some(3.0));
    assert_eq!(beside(none(), alone(4, 12, 4), false), Some(3.0));
    assert_eq!(beside(none(), alone(4, 12, 4), true), None);
    assert_eq!(beside(none(), none(), false), None);
}

/// A disk that completes a quarter of what it has shown is four times slower. Requests that were
/// alone say better how slow it is, and so do slow flushes.
#[test]
fn what_a_disk_completes_counts_where_nothing_was_alone() {
    let after = |done: f32, rested, flushes| {
        let mut device = Device::default();
        let paced = Paced { done: Some(done), written: None };
        device.observe(&Slot { paced, ..slot(rested, flushes) }, SECOND);
        let beside = device.beside_reference(false, SECOND)?;
        Some((beside.times, beside.is_paced))
    };
    assert_eq!(after(0.25, none(), none()), Some((4.0, true)));
    assert_eq!(after(0.25, alone(4, 4, 4), none()), Some((1.0, false)));
    assert_eq!(after(0.25, none(), alone(4, 12, 4)), Some((3.0, false)));
    assert_eq!(after(0.25, none(), alone(4, 4, 4)), Some((4.0, true)));
    // Two thirds are less, and three quarters may be chance: they show nothing.
    assert_eq!(after(0.75, none(), none()), None);
}

/// The second second counts a quarter: 0.5 and a quarter of the way to 0.1 is 0.4. After four
/// seconds without a pace it is still used, and then no more.
#[test]
fn a_pace_is_the_mean_of_late_and_is_used_for_some_seconds() {
    let mut device = Device::default();
    for (at, done) in [(1, 0.5), (2, 0.1)] {
        let paced = Paced { done: Some(done), written: None };
        device.observe(&Slot { paced, ..Slot::default() }, at * SECOND);
    }
    (3..=6).for_each(|at| device.observe(&Slot::default(), at * SECOND));
    assert_near(device.beside_reference(false, 6 * SECOND).unwrap().times, 2.5);
    device.observe(&Slot::default(), 7 * SECOND);
    assert_eq!(device.beside_reference(false, 7 * SECOND), None);
}

fn did(depth: f64, work: f64, requests: f64, bytes: f64, written: f64) -> Slot {
    Slot { did: Did { depth, work, requests, bytes, written }, ..Slot::default() }
}

/// Half a request in flight and 200 ms of work a second: a stretch of 2.5.
fn lived() -> Slot {
    did(0.5, 200e6, 2_000.0, 8e6, 4e6)
}

fn learnt(slot: &Slot) -> Device {
    let mut device = Device::default();
    device.learn(slot);
    device
}

#[test]
fn a_second_is_compared_with_the_levels_of_good_ones() {
    let mut device = learnt(&lived());
    assert_eq!((device.seconds, device.asked()), (1, 200e6));
    // 3 in flight at 300 ms of work are a stretch of 10.
    let state = device.look(&did(3.0, 300e6, 2_500.0, 10e6, 6e6), SECOND);
    assert_near(state.stretch.unwrap(), 4.0);
    assert_near(state.depth, 6.0);
    assert_near(state.written, 1.5);
    assert_near(state.done, 1.5);
    assert!(state.is_saturated && !state.was_saturated);
    // Whatever rose most counts.
    let done = |work, requests, bytes| {
        learnt(&lived()).look(&did(1.0, work, requests, bytes, 0.0), SECOND).done
    };
    assert_near(done(100e6, 5_000.0, 10e6), 2.5);
    assert_near(done(100e6, 1_000.0, 24e6), 3.0);
    assert!(!learnt(&lived()).look(&did(1.9, 1.0, 1.0, 1.0, 1.0), SECOND).is_saturated);
    assert!(learnt(&lived()).look(&did(2.0, 1.0, 1.0, 1.0, 1.0), SECOND).is_saturated);
}

#[test]
fn nothing_is_usual_before_the_first_good_second() {
    let state = Device::default().look(&lived(), SECOND);
    assert_eq!(state.stretch, None);
    let guessed = Slot { guessed: true, ..lived() };
    assert_eq!(learnt(&lived()).look(&guessed, SECOND).stretch, None, "costs are of another kind");
    assert_near(learnt(&guessed).look(&guessed, SECOND).stretch.unwrap(), 1.0);
}

/// Some syncs of a second began in the one before.
#[test]
fn the_stretch_is_the_larger_one_of_two_seconds() {
    let mut device = learnt(&lived());
    let mut stretch = |slot: &Slot| device.look(slot, SECOND).stretch.map(f64::round);
    let long = did(2.0, 200e6, 1.0, 1.0, 1.0);
    assert_eq!(
        [lived(), long, lived(), lived()].map(|slot| stretch(&slot)),
        [Some(1.0), Some(4.0), Some(4.0), Some(1.0),]
    );
    assert_eq!([Slot::default(), Slot::default()].map(|slot| stretch(&slot)), [Some(1.0), None]);
}

/// Two in flight, each of them for twice its time.
#[test]
fn a_disk_was_saturated_if_its_queue_was_full_and_requests_waited() {
    let was = |depth, work| {
        learnt(&did(depth, work, 1.0, 1.0, 1.0)).look(&Slot::default(), SECOND).was_saturated
    };
    assert!(was(2.0, 1e9));
    assert!(!was(4.0, 4e9), "they were in flight as long as alone");
    assert!(!was(1.0, 0.1e9), "one was in flight");
    assert!(!was(0.5, 1e9));
}

/// Only the eighth second on end is believed.
#[test]
fn levels_of_costs_of_another_kind_are_learnt_anew_after_a_while() {
    let guessed = Slot { guessed: true, ..did(1.0, 900e6, 1.0, 1.0, 1.0) };
    let mut device = learnt(&lived());
    (0..7).for_each(|_| device.learn(&guessed));
    assert_eq!((device.asked(), device.seconds), (200e6, 1));
    device.learn(&lived());
    (0..7).for_each(|_| device.learn(&guessed));
    assert_eq!((device.asked(), device.seconds), (200e6, 2));
    device.learn(&guessed);
    assert_eq!((device.asked(), device.seconds), (900e6, 3));
    // Their stretch too: 1 in flight and 900 ms of work.
    assert_near(device.look(&guessed, SECOND).stretch.unwrap(), 1.0);
    assert_eq!(learnt(&guessed).asked(), 900e6, "the first one is believed at once");
}

#[test]
fn an_idle_second_leaves_the_stretch_alone() {
    let mut device = learnt(&lived());
    device.learn(&Slot::default());
    assert_near(device.look(&lived(), SECOND).stretch.unwrap(), 1.0);
}

/// A growth of half of all.
fn half() -> Growth {
    Growth { part: 0.5, times: 2.0, ..Growth::default() }
}

/// A state of nothing but these times, as multiples of the usual.
fn state(rested: Option<f64>, flush: Option<f64>, stretch: Option<f64>) -> State {
    let mut state = State::of_alone(1.0, 1.0);
    (state.rested, state.flush, state.stretch) = (rested, flush, stretch);
    state
}

#[track_caller]
fn assert_says(state: &State, growth: &Growth, times: f64, sure: Sure) -> Slowness {
    let said = state.says(growth);
    assert_near(said.times, times);
    assert_eq!(said.sure, sure, "{said:?}");
    said
}

#[test]
fn while_nobody_asks_for_more_the_slowest_of_all_ratios_is_the_devices() {
    let nobody = Growth { part: 0.0199, ..Growth::default() };
    let slow = state(Some(1.6), Some(4.0), Some(3.0));
    let said = assert_says(&slow, &nobody, 4.0, Sure::Yes);
    assert_eq!((said.load, said.of_flushes, said.doubtful), (f64::INFINITY, false, 4.0));
    assert_says(&state(Some(7.0), None, Some(3.0)), &nobody, 7.0, Sure::Yes);
    assert_says(&state(None, None, Some(3.0)), &nobody, 3.0, Sure::Yes);
    assert_says(&state(Some(1.5), Some(1.0), None), &nobody, 1.5, Sure::Yes);
    assert_says(&state(Some(1.49), Some(1.49), Some(1.49)), &nobody, 1.0, Sure::Yes);
    // From a 50th of all work on somebody does.
    assert_says(&state(None, None, None), &nobody, 1.0, Sure::Yes);
    let somebody = Growth { part: 0.02, ..nobody };
    assert_says(&state(None, None, None), &somebody, 1.0, Sure::Likely);
}

#[test]
fn a_little_more_makes_a_slow_device_less_sure() {
    let sure = |is_more, is_deeper, done| {
        let growth = Growth { is_more, is_deeper, ..Growth::default() };
        let mut state = state(Some(4.0), None, None);
        state.done = done;
        state.says(&growth).sure
    };
    assert_eq!(sure(false, false, 1.0), Sure::Yes);
    assert_eq!(sure(true, false, 0.0), Sure::Likely);
    assert_eq!(sure(false, true, 0.8), Sure::Likely);
    assert_eq!(sure(false, true, 0.79), Sure::Yes, "it completes less");
}

#[test]
fn a_slow_flush_beside_those_who_write_may_be_theirs() {
    let written = Growth { is_written: true, ..half() };
    // A flush of six times its time, with three times as much written, is twice as slow.
    let mut slow = state(Some(1.0), Some(6.0), None);
    slow.written = 3.0;
    let said = assert_says(&slow, &written, 1.0, Sure::No);
    assert!(said.of_flushes);
    // 1 and 2 ms instead of 1 and 1.
    assert_near(said.doubtful, 1.5);
    slow.rested = None;
    assert_near(slow.says(&written).doubtful, 2.0);
    // Less written makes no flush slower.
    slow.written = 0.5;
    assert_near(slow.says(&written).doubtful, 6.0);
    // Beside those who do not write it is the device's.
    let mut slow = state(Some(1.2), Some(3.0), None);
    slow.written = 1.0;
    let said = assert_says(&slow, &half(), 2.1, Sure::Yes);
    assert!(said.of_flushes);
    slow.rested = None;
    assert!(!assert_says(&slow, &half(), 3.0, Sure::Yes).of_flushes);
}

#[test]
fn requests_that_were_alone_say_how_slow_the_device_is() {
    assert_says(&state(Some(1.49), Some(1.49), Some(50.0)), &half(), 1.0, Sure::Yes);
    for growth in [half(), Growth { is_written: true, ..half() }] {
        // A flush that drains more is as slow as the rest at least.
        let mut slow = state(Some(4.0), Some(6.0), None);
        slow.written = 3.0;
        assert!(!assert_says(&slow, &growth, 4.0, Sure::Yes).of_flushes);
        // But no slower than it was.
        let mut slow = state(Some(3.0), Some(2.0), None);
        slow.written = 2.0;
        assert_says(&slow, &growth, 2.5, Sure::Yes);
        assert_says(&state(Some(3.0), None, None), &growth, 3.0, Sure::Yes);
        assert!(!assert_says(&state(Some(1.5), None, None), &growth, 1.5, Sure::Yes).of_flushes);
    }
}

/// A disk that was busy for 200 ms a second, in a second in which nothing was alone; it
/// completes `done` times as much and has `depth` times as much in flight.
fn busy(work: f64, stretch: f64, done: f64, depth: f64) -> State {
    let mut state = learnt(&did(0.5, work, 1.0, 1.0, 1.0)).look(&Slot::default(), SECOND);
    (state.stretch, state.done, state.depth) = (Some(stretch), done, depth);
    state
}

#[test]
fn who_completes_less_with_more_in_flight_is_slower() {
    // Twice the demand would make a stretch of 6 one of 3.
    assert_says(&busy(200e6, 6.0, 0.5, 2.0), &half(), 3.0, Sure::Likely);
    // A quarter as much is completed.
    assert_says(&busy(200e6, 2.0, 0.25, 2.0), &half(), 4.0, Sure::Likely);
    // With as much completed, or no more in flight, the demand may make it.
    assert_says(&busy(200e6, 2.0, 1.0, 2.0), &half(), 1.0, Sure::No);
    assert_says(&busy(200e6, 2.0, 0.5, 1.0), &half(), 1.0, Sure::No);
    assert_says(&busy(200e6, 1.49, 0.25, 2.0), &half(), 1.0, Sure::Likely);
}

#[test]
fn who_completes_three_times_as_much_is_well() {
    assert_says(&busy(200e6, 1e3, 3.0, 9.0), &half(), 1.0, Sure::Likely);
    let said = assert_says(&busy(200e6, 1e3, 2.9, 9.0), &half(), 600.0, Sure::Likely);
    assert!(said.load < 2.0);
}

/// 1/(1 − ρ) on twice the servers that were busy, one at least.
#[test]
fn a_queue_of_twice_the_length_that_the_demand_can_make_is_the_devices() {
    // One server, and twice 200 ms: ρ is 0.4, and requests take 5/3 of their time.
    let said = assert_says(&busy(200e6, 5.0, 1.5, 3.0), &half(), 3.0, Sure::Likely);
    assert_near(said.load, 5.0 / 3.0);
    assert_eq!((said.of_flushes, said.doubtful), (false, said.times));
    assert_says(&busy(200e6, 3.34, 1.5, 3.0), &half(), 3.34 * 0.6, Sure::Likely);
    assert_says(&busy(200e6, 3.33, 1.5, 3.0), &half(), 1.0, Sure::No);
    // Four servers, and 1.2 times 2 s: ρ is 0.6.
    let fifth = Growth { times: 1.2, ..half() };
    assert_says(&busy(2e9, 10.0, 1.5, 3.0), &fifth, 4.0, Sure::Likely);
    // At most 0.95.
    assert_says(&busy(900e6, 60.0, 1.5, 3.0), &Growth { times: 3.0, ..half() }, 3.0, Sure::Likely);
    // Somebody may keep the queue full.
    let deeper = Growth { is_deeper: true, ..half() };
    assert_says(&busy(200e6, 5.0, 1.5, 3.0), &deeper, 1.0, Sure::No);
}

/// None of the syncs is quick, and other requests are in flight for no longer than ever.
#[test]
fn flushes_are_slow_where_syncs_are_and_no_other_requests() {
    let flush = |rested, stretch, times| state(rested, None, stretch).beside_quickest(times).flush;
    assert_eq!(flush(Some(1.49), Some(9.0), 3.0), Some(3.0));
    assert_eq!(flush(Some(1.5), Some(1.0), 3.0), None, "those that were alone are slow, too");
    assert_eq!(flush(None, Some(1.49), 3.0), Some(3.0));
    assert_eq!(flush(None, Some(1.5), 3.0), None, "a queue may hold up all of them");
    assert_eq!(flush(None, None, 3.0), None);
    assert_eq!(flush(None, Some(1.0), 2.9), None);
}

/// Ten times the work at costs that are guesses, and half the requests.
#[test]
fn work_at_guessed_costs_is_not_compared_with_work_at_known_ones() {
    let slot = Slot { guessed: true, ..did(3.0, 2_000e6, 1_000.0, 4e6, 0.0) };
    assert_near(learnt(&lived()).look(&slot, SECOND).done, 0.5);
}

#[test]
fn a_device_is_measured_if_both_of_its_times_are() {
    let is = |rested, flush| state(rested, flush, None).is_measured();
    assert_eq!((is(Some(9.0), Some(9.0)), is(None, None)), (true, false));
    assert_eq!((is(Some(1.0), None), is(None, Some(1.0))), (false, false));
}

/// One of the others gets more.
fn more() -> Growth {
    Growth { is_more: true, ..Growth::default() }
}

/// A full disk that was full and completes four fifths of what it did.
fn full() -> State {
    let mut state = state(None, None, None);
    (state.is_saturated, state.was_saturated, state.done) = (true, true, 0.8);
    state
}

#[test]
fn a_full_disk_that_completes_what_it_did_is_as_fast_as_it_was() {
    assert!(full().completes_the_same() && full().is_well(&more()));
    let but = |change: fn(&mut State)| {
        let mut state = full();
        change(&mut state);
        (state.completes_the_same(), state.is_well(&more()))
    };
    assert_eq!(but(|state| state.is_saturated = false), (false, false));
    assert_eq!(but(|state| state.was_saturated = false), (false, false));
    assert_eq!(but(|state| state.done = 0.79), (false, false));
    assert_eq!(but(|state| state.rested = Some(1.5)), (false, false));
    // If requests were alone, flushes must be well too.
    assert_eq!(but(|state| state.rested = Some(1.49)), (true, false));
    // It had room for three times as much, if it is full.
    let far_more = |done: f64, is_deep: bool, is_saturated: bool| {
        let mut state = full();
        (state.was_saturated, state.is_saturated) = (false, is_saturated);
        (state.done, state.is_deep) = (done, is_deep);
        state.is_well(&more())
    };
    assert_eq!([3.0, 2.9].map(|done| far_more(done, true, true)), [true, false]);
    // A slower disk with servers enough completes three times as much, too.
    assert!(!far_more(3.0, false, true) && !far_more(3.0, true, false));
    // It may complete just what is asked for, where nobody gets more.
    assert!(!full().is_well(&Growth::default()));
    let mut state = full();
    (state.done, state.is_deep) = (3.0, true);
    assert!(state.is_well(&Growth::default()));
}

#[test]
fn a_device_is_well_if_what_was_alone_took_its_time() {
    let is = |rested, flush| state(rested, flush, None).is_well(&more());
    assert!(is(Some(1.49), Some(1.49)));
    assert!(!is(Some(1.5), Some(1.0)) && !is(Some(1.0), Some(1.5)));
    assert!(!is(Some(1.0), None) && !is(None, Some(1.0)) && !is(None, None));
}

/// Twice as many requests at a time are in flight for twice as long, and a quarter more is doubtful.
#[test]
fn requests_in_flight_for_longer_than_the_load_explains_are_held_up() {
    let held_up = |stretch, done, times, was_saturated| {
        let mut state = State::default();
        (state.stretch, state.done, state.was_saturated) = (stretch, done, was_saturated);
        state.is_held_up(&Growth { times, ..more() })
    };
    assert_eq!([2.49, 2.5].map(|now| held_up(Some(now), 2.0, 1.2, true)), [false, true]);
    // The demand may have grown by more than what is completed.
    assert_eq!([3.74, 3.75].map(|now| held_up(Some(now), 2.0, 3.0, true)), [false, true]);
    // A disk that was never full has its first queue.
    assert!(!held_up(Some(9.0), 2.0, 1.2, false) && !held_up(None, 2.0, 1.2, true));
}
