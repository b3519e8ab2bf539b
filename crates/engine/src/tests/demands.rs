//! Actors ask something of a disk, and a part of that is new. The numbers are worked out
//! beside each test from the constants of `demand`.

use super::*;
use crate::{
    demand::{Asked, Did, Lived, Slot, learn},
    tick::{Alone, DiskWork, Load},
};

/// Both are equal within the precision of an `f32`.
#[track_caller]
pub fn assert_near(is: f64, wanted: f64) {
    assert!((is - wanted).abs() <= 1e-5 * wanted.abs().max(1e-6), "{is} and not {wanted}");
}

fn actor(cgroup: u64, name: &str) -> ActorId {
    ActorId { cgroup, comm: comm(name), kthread: false }
}

/// Owners 1 and 2 are one actor, 3 is another.
fn who(owner: OwnerId) -> ActorId {
    if owner.0 == 3 { actor(30, "fio") } else { actor(20, "pg_dump") }
}

fn load(owner: u32) -> Load {
    Load { owner: OwnerId(owner), ..Load::default() }
}

/// Two seconds of a disk.
fn two_seconds(loads: Vec<Load>) -> DiskWork {
    DiskWork { disk: 7, length_ns: 2_000_000_000, loads, ..DiskWork::default() }
}

#[test]
fn a_slot_has_the_loads_of_a_disk_by_second_and_by_actor() {
    let disk = two_seconds(vec![
        // 20 submitted and 30 completed a second at 250 µs: 5 and 7.5 ms of work. 4000
        // bytes a second are written, and 1.5 are in flight.
        Load {
            submitted: 40,
            completed: 60,
            bytes: 8_000,
            writes: true,
            in_flight_ns: 3_000_000_000,
            cost_ns: 250_000,
            ..load(1)
        },
        // 5 and 3 a second at 1 ms: 5 and 3 ms of work; a quarter is in flight.
        Load {
            submitted: 10,
            completed: 6,
            in_flight_ns: 500_000_000,
            cost_ns: 1_000_000,
            guessed: true,
            ..load(2)
        },
        // 50 and 45 a second at 100 µs: 5 and 4.5 ms of work; half of one is in flight.
        Load {
            submitted: 100,
            completed: 90,
            bytes: 30_000,
            in_flight_ns: 1_000_000_000,
            cost_ns: 100_000,
            ..load(3)
        },
    ]);
    let mut slot = Slot::default();
    assert!(slot.is_empty());
    slot.add(&disk, who);
    assert!(!slot.is_empty());
    let first = Asked {
        actor: actor(20, "pg_dump"),
        owner: OwnerId(1),
        requests: 25.0,
        work: 10e6,
        depth: 1.75,
        completed: 33.0,
        writes: true,
        written: 4_000.0,
        guessed: true,
    };
    let second = Asked {
        actor: actor(30, "fio"),
        owner: OwnerId(3),
        requests: 50.0,
        work: 5e6,
        depth: 0.5,
        completed: 45.0,
        writes: false,
        written: 0.0,
        guessed: false,
    };
    assert_eq!(slot.asked, [first, second]);
    assert_eq!((slot.of(&first.actor), slot.of(&second.actor)), (Some(&first), Some(&second)));
    assert_eq!(slot.of(&actor(40, "fio")), None);
    let did = Did { depth: 2.25, work: 15e6, requests: 78.0, bytes: 19_000.0, written: 4_000.0 };
    assert_eq!(slot.did, did);
    assert_eq!(did.all(), [2.25, 15e6, 78.0, 19_000.0, 4_000.0]);
    // A second disk comes on top.
    slot.add(&disk, who);
    assert_eq!(slot.did.all(), [4.5, 30e6, 156.0, 38_000.0, 8_000.0]);
    assert_eq!(slot.asked.len(), 2);
    assert_eq!((slot.asked[0].requests, slot.asked[0].completed), (50.0, 66.0));
}

#[test]
fn some_actors_of_a_disk_can_be_left_out() {
    let loads = vec![Load { submitted: 2, ..load(1) }, Load { submitted: 8, ..load(3) }];
    let mut slot = Slot::default();
    slot.add_loads(&two_seconds(loads), who, |actor| actor.cgroup == 30);
    assert_eq!(slot.asked.len(), 1);
    assert_eq!((slot.asked[0].actor.cgroup, slot.asked[0].requests), (30, 4.0));
}

#[test]
fn requests_that_were_alone_are_added_up_over_disks() {
    let alone = Alone { requests: 3, ns: 30, reference_ns: 15, ..Alone::default() };
    let flushes = Alone { requests: 5, ns: 70, reference_ns: 35, ..Alone::default() };
    let disk = DiskWork { alone, flushes, ..two_seconds(Vec::new()) };
    let mut slot = Slot::default();
    slot.add(&disk, who);
    slot.add_alone(&disk);
    assert_eq!((slot.alone.requests, slot.alone.ns, slot.alone.reference_ns), (6, 60, 30));
    assert_eq!((slot.flushes.requests, slot.flushes.ns, slot.flushes.reference_ns), (10, 140, 70));
}

/// Costs may be guessed for a tenth of the requests in flight: a quarter of one in two
/// and a half is that tenth, and in two and a quarter it is more.
#[test]
fn a_slot_is_guessed_if_more_than_a_tenth_of_its_depth_is() {
    let in_flight = |owner, quarters: u64, guessed| Load {
        in_flight_ns: quarters * 500_000_000,
        guessed,
        ..load(owner)
    };
    let is_guessed = |known| {
        let mut slot = Slot::default();
        slot.add(&two_seconds(vec![in_flight(3, known, false), in_flight(1, 1, true)]), who);
        slot.guessed
    };
    assert!(!is_guessed(9));
    assert!(is_guessed(8));
    let mut known = Slot::default();
    known.add(&two_seconds(vec![in_flight(3, 8, false)]), who);
    assert!(!known.guessed);
}

#[test]
fn only_requests_with_data_are_writes() {
    let mut slot = Slot::default();
    // A flush is of no bytes, and a read is no write.
    let flush = Load { submitted: 9, writes: true, ..load(1) };
    let read = Load { submitted: 9, bytes: 4096, ..load(3) };
    slot.add(&two_seconds(vec![flush, read]), who);
    assert_eq!((slot.asked[0].writes, slot.asked[1].writes), (false, false));
    assert_eq!((slot.did.bytes, slot.did.written), (2048.0, 0.0));
}

/// Little: 2.25 in flight and 15 ms of work a second are 150 times as long as alone.
#[test]
fn the_stretch_is_the_number_in_flight_by_the_work_done() {
    let did = |depth, work| Did { depth, work, ..Did::default() };
    assert_eq!(did(2.25, 15e6).stretch(), Some(150.0));
    assert_eq!(did(0.5, 0.0).stretch(), Some(1e4), "nothing is completed");
    assert_eq!(did(0.0, 15e6).stretch(), None);
}

#[test]
fn a_request_of_an_actor_is_in_flight_for_its_depth_by_what_it_completes() {
    let asked = |depth, completed| Asked { depth, completed, ..Asked::default() };
    assert_eq!(asked(3.0, 40.0).each_ns(), 75e6);
    assert_eq!(asked(3.0, 0.0).each_ns(), 3e9);
}

/// A level rises by an eighth of the way at least, and falls by a 300th; in its first
/// seconds it is the mean.
#[test]
fn a_level_rises_fast_and_falls_slowly() {
    for (known, now, seconds, then) in [
        (0.0f32, 24.0, 0, 24.0),
        (8.0, 16.0, 1, 12.0),
        (8.0, 24.0, 3, 12.0),
        (8.0, 16.0, 100, 9.0),
        (400.0, 100.0, 999, 399.0),
        (400.0, 100.0, 99, 397.0),
        (400.0, 100.0, 2, 300.0),
    ] {
        let mut level = known;
        learn(&mut level, now, seconds);
        assert_near(level.into(), then);
    }
}

fn asks(requests: f64, each_ns: f64, depth: f64) -> Asked {
    Asked { requests, work: requests * each_ns, depth, ..Asked::default() }
}

#[test]
fn what_a_victim_lives_with_are_levels_of_each() {
    let mut lived = Lived::default();
    lived.learn(Some(&asks(80.0, 100.0, 4.0)), 0);
    assert_eq!(
        (lived.requests, lived.work, lived.depth, lived.guessed),
        (80.0, 8_000.0, 4.0, false)
    );
    // An eighth of the way up, and a 300th of it down.
    lived.learn(Some(&asks(160.0, 200.0, 12.0)), 1_000);
    assert_eq!((lived.requests, lived.work, lived.depth), (90.0, 11_000.0, 5.0));
    lived.learn(None, 1_000);
    assert_near(lived.requests.into(), 90.0 - 0.3);
    assert_near(lived.work.into(), 11_000.0 - 11_000.0 / 300.0);
    assert_near(lived.depth.into(), 5.0 - 5.0 / 300.0);
}

/// The work of before is that of its requests at the cost that is known now.
#[test]
fn a_guess_is_mended_once_the_cost_is_known() {
    let guess = Asked { guessed: true, ..asks(10.0, 500.0, 1.0) };
    let mut lived = Lived::default();
    lived.learn(Some(&guess), 0);
    assert_eq!((lived.work, lived.guessed), (5_000.0, true));
    lived.learn(None, 1);
    assert!(lived.guessed, "who asks for nothing changes no cost");
    let mut known = lived;
    known.requests = 10.0;
    known.learn(Some(&asks(10.0, 2_000.0, 1.0)), 1);
    assert_eq!((known.work, known.guessed), (20_000.0, false));
    // Another guess mends nothing: the level goes half of the way in its second second.
    let mut still = lived;
    still.work = 5_000.0;
    still.learn(Some(&Asked { guessed: true, ..asks(10.0, 2_000.0, 1.0) }), 1);
    assert_eq!((still.work, still.guessed), (12_500.0, true));
    // Nor does a guess after what is known.
    let mut lost = Lived::default();
    lost.learn(Some(&asks(10.0, 500.0, 1.0)), 0);
    lost.learn(Some(&Asked { guessed: true, ..asks(10.0, 2_000.0, 1.0) }), 1);
    assert_eq!((lost.work, lost.guessed), (12_500.0, true));
}

/// Its recent work is a mean: of its seconds while they are few, and of about eight then.
/// Beyond 1.05 times its level it asks for more.
#[test]
fn a_twentieth_more_in_recent_seconds_is_more() {
    let after = |seconds: usize, work: f64| {
        let mut lived = Lived::default();
        lived.learn(Some(&asks(1.0, 100.0, 0.0)), 0);
        (1..seconds).for_each(|_| lived.pass(Some(&asks(1.0, 100.0, 0.0))));
        lived.pass(Some(&asks(1.0, work, 0.0)));
        lived.is_more()
    };
    // (100 + 110) / 2 and (3 · 100 + 120) / 4 are 105.
    assert_eq!((after(1, 110.0), after(1, 110.1)), (false, true));
    assert_eq!((after(3, 120.0), after(3, 120.1)), (false, true));
    // An eighth of 40 is 5.
    assert_eq!((after(30, 140.0), after(30, 140.1)), (false, true));
    let mut gone = Lived::default();
    gone.learn(Some(&asks(1.0, 100.0, 0.0)), 0);
    gone.pass(None);
    assert!(!gone.is_more());
}

/// It fills a queue from two requests in flight on, and one and a half times its level
/// is deeper.
#[test]
fn half_as_many_more_in_flight_are_deeper_if_they_fill_a_queue() {
    let is_deeper = |level, now| {
        let mut lived = Lived::default();
        lived.depth = level;
        lived.is_deeper(&asks(1.0, 1.0, now))
    };
    assert_eq!((is_deeper(2.0, 3.0), is_deeper(2.0, 3.1)), (false, true));
    assert_eq!((is_deeper(1.0, 1.9), is_deeper(1.0, 2.0)), (false, true));
    assert_eq!((is_deeper(8.0, 11.0), is_deeper(8.0, 12.5)), (false, true));
}

/// Lives with that many requests of 100 µs a second.
fn lives_with(requests: f64, depth: f64) -> Lived {
    let mut lived = Lived::default();
    lived.learn(Some(&asks(requests, 100e3, depth)), 0);
    lived
}

/// 900 requests of 100 µs are 90 ms of work. Three standard errors of 900 arrivals are 90
/// arrivals, 9 ms. So up to 1.15 · 90 + 9 = 112.5 ms are usual, half of 225 ms.
#[test]
fn what_is_beyond_the_usual_and_chance_is_new() {
    let grown = |requests| lives_with(900.0, 0.0).grown(&asks(requests, 100e3, 0.0), false);
    assert_near(grown(2_250.0).unwrap(), 0.5);
    assert_near(grown(1_500.0).unwrap(), 0.25);
    assert_near(grown(1_125.0).unwrap(), 0.0);
    assert_eq!(grown(450.0), Some(0.0));
    assert_eq!(grown(0.0), None);
    // All that a newcomer asks for is new.
    assert_eq!(Lived::default().grown(&asks(5.0, 100e3, 0.0), false), Some(1.0));
}

/// Over eight seconds 800 requests a second are off by less: three standard errors are
/// 3 · √(80 ms · 100 µs / 8) = 3 ms, and 1.15 · 80 + 3 = 95 of 100 ms are usual.
#[test]
fn a_little_more_shows_in_some_seconds() {
    let mut lived = lives_with(800.0, 0.0);
    let more = asks(1_000.0, 100e3, 0.0);
    assert_eq!(lived.grown(&more, false), Some(0.0), "in one second it may be chance");
    (0..300).for_each(|_| lived.pass(Some(&more)));
    assert_near(lived.grown(&more, false).unwrap(), 0.05);
    // Whoever asks for less again has not grown.
    assert_eq!(lived.grown(&asks(900.0, 100e3, 0.0), false), Some(0.0));
    // In two seconds they are 6 ms: of a mean of 120 ms 98 are usual.
    let mut lived = lives_with(800.0, 0.0);
    lived.pass(Some(&asks(1_600.0, 100e3, 0.0)));
    assert_near(lived.grown(&asks(1_200.0, 100e3, 0.0), false).unwrap(), 22.0 / 120.0);
}

/// Over eight seconds two standard errors of 800 requests a second are 2 · √(80 ms · 100 µs / 8) = 2 ms,
/// so up to 1.05 · 80 + 2 = 86 ms may be chance. Of 100 ms a fifth is more.
#[test]
fn what_is_likely_more_is_all_beyond_the_level() {
    let after = |requests| {
        let (mut lived, asked) = (lives_with(800.0, 0.0), asks(requests, 100e3, 0.0));
        (0..300).for_each(|_| lived.pass(Some(&asked)));
        lived.likely_more(&asked)
    };
    assert_near(after(1_000.0), 0.2);
    assert_eq!((after(855.0), after(400.0)), (0.0, 0.0));
    assert_near(after(865.0), 65.0 / 865.0);
    // A newcomer has no level.
    let mut newcomer = Lived::default();
    newcomer.pass(Some(&asks(5.0, 100e3, 0.0)));
    assert_eq!(newcomer.likely_more(&asks(5.0, 100e3, 0.0)), 0.0);
    // The level was a guess.
    let guess = Asked { guessed: true, ..asks(10.0, 1_000.0, 1.0) };
    let mut lived = Lived::default();
    lived.learn(Some(&guess), 0);
    (0..300).for_each(|_| lived.pass(Some(&asks(30.0, 1_000.0, 1.0))));
    assert_eq!(lived.likely_more(&asks(30.0, 1_000.0, 1.0)), 0.0);
}

/// 1.15 · 4 = 4.6 of 10 in flight are usual.
#[test]
fn more_in_flight_is_new_only_where_depth_counts() {
    let grown = |requests, depth, with_depth| {
        lives_with(900.0, 4.0).grown(&asks(requests, 100e3, depth), with_depth)
    };
    assert_near(grown(900.0, 10.0, true).unwrap(), 0.54);
    assert_eq!(grown(900.0, 10.0, false), Some(0.0));
    assert_near(grown(9_000.0, 10.0, true).unwrap(), (900.0 - 112.5) / 900.0);
    assert_eq!(grown(900.0, 4.5, true), Some(0.0));
}

/// The work of 900 requests was said to be 5 ms; they cost 90 ms, as is known now.
#[test]
fn beside_a_guess_only_requests_are_compared() {
    let mut guess = Lived::default();
    (guess.requests, guess.work, guess.guessed) = (900.0, 5e6, true);
    assert_near(guess.grown(&asks(2_250.0, 100e3, 0.0), false).unwrap(), 0.5);
    let guesses = Asked { guessed: true, ..asks(2_250.0, 100e3, 0.0) };
    let usual = 1.15 * 5e6 + 3.0 * (5e6f64 * 100e3).sqrt();
    assert_near(guess.grown(&guesses, false).unwrap(), (225e6 - usual) / 225e6);
}

/// Fifty requests a second are guessed at 100 µs each, and take 1 ms. The victim is well for some
/// seconds after that is known, and then for none.
#[test]
fn a_cost_that_turns_out_higher_is_no_growth_later() {
    let (guess, known) = (Asked { guessed: true, ..asks(50.0, 1e5, 0.1) }, asks(50.0, 1e6, 0.1));
    let mut lived = Lived::default();
    for second in 0..13 {
        let asked = if second < 10 { &guess } else { &known };
        lived.pass(Some(asked));
        lived.learn(Some(asked), second);
    }
    for _ in 0..30 {
        lived.pass(Some(&known));
        assert_eq!((lived.likely_more(&known), lived.grown(&known, false)), (0.0, Some(0.0)));
    }
}

/// Only 20 of 80 requests a second get through in four seconds, which leaves 240 for later, three
/// seconds of its level. In the next second 160 of 240 make up for that. In another one 80 do, and of
/// the other 160 those beyond 92 and three times the root of 80 are new.
#[test]
fn who_was_held_up_and_makes_up_for_it_asks_for_no_more() {
    let new = |depth: f64, seconds: usize| {
        let (held, more) = (asks(20.0, 100e3, depth), asks(240.0, 100e3, 1.0));
        let mut lived = lives_with(80.0, 0.1);
        (0..4).for_each(|_| lived.pass(Some(&held)));
        (0..seconds).for_each(|_| lived.pass(Some(&more)));
        lived.grown(&more, false).unwrap()
    };
    let usual = 92.0 + 3.0 * 80.0_f64.sqrt();
    assert_near(new(0.9, 1), 0.0);
    assert_near(new(0.9, 2), (160.0 - usual) / 240.0);
    assert_near(new(0.9, 3), (240.0 - usual) / 240.0);
    // Fewer in flight than ever: it had nothing to do, and comes back with more.
    assert_near(new(0.02, 1), (240.0 - usual) / 240.0);
}
