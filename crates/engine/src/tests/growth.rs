//! The new part of what the actors of a second ask for. The numbers are worked out beside
//! each test from the constants of `demand` and `second`.

use super::{
    demands::assert_near,
    seconds::{actor, asks, busier, jbd2, lives_with, slot, tenant, victim},
    *,
};
use crate::{
    demand::{Asked, Growth, Lived, Slot},
    device::State,
};

/// The growth of a second of the victim's.
fn growth(victim: &mut Victim, slot: &Slot, requests: f64) -> Growth {
    victim.suspects.iter_mut().for_each(|suspect| suspect.lived.pass(slot.of(&suspect.actor)));
    victim.grow(slot, &State::default(), requests)
}

/// 112.5, 37.5 and 37.5 ms of 225, 150 and 150 are new.
#[test]
fn growth_is_the_new_part_of_all_work() {
    let (mut victim, slot) = busier();
    let growth = growth(&mut victim, &slot, 6.0);
    let part = 187.5 / 525.0;
    assert_near(growth.part, part);
    assert_near(growth.times, 1.0 / (1.0 - part));
    assert_near(growth.of_journal, 0.25);
    assert_near(growth.behind_ns, 12e6);
    assert_eq!((growth.is_written, growth.written), (false, 0.0));
    assert!(growth.is_more && growth.is_deeper);
}

#[test]
fn growth_is_written_as_far_as_those_who_grew_write() {
    let writes = |who: &[usize]| {
        let (mut victim, mut slot) = busier();
        who.iter().for_each(|at| slot.asked[*at].writes = true);
        let growth = growth(&mut victim, &slot, 1.0);
        (growth.is_written, (growth.written * 1_000.0).round())
    };
    assert_eq!(writes(&[0]), (true, 600.0));
    assert_eq!(writes(&[2]), (true, 200.0));
    // The victim's own writes are part of the new work, and no harm of others'.
    assert_eq!(writes(&[1]), (false, 200.0));
    assert_eq!(writes(&[0, 1, 2]), (true, 1_000.0));
    // Whoever has grown by less than a fifth writes no more than usual: of 1400 requests
    // 275, of 1407 282 are new.
    let is_written = |requests| {
        let (mut victim, mut slot) = busier();
        slot.asked[2] = Asked { writes: true, ..asks(jbd2(), requests) };
        growth(&mut victim, &slot, 1.0).is_written
    };
    assert_eq!((is_written(1_400.0), is_written(1_407.0)), (false, true));
}

/// Each waits no longer behind others than the slowest of those who have grown.
#[test]
fn one_waits_behind_the_slowest_of_those_who_grew() {
    let behind_ns = |[tenant_ms, own_ms, journal_ms]: [f64; 3], journals: f64| {
        let (mut victim, mut slot) = busier();
        slot.asked[2] = asks(jbd2(), journals);
        for (asked, ms) in slot.asked.iter_mut().zip([tenant_ms, own_ms, journal_ms]) {
            (asked.depth, asked.completed) = (ms, 1_000.0);
        }
        growth(&mut victim, &slot, 7.0).behind_ns
    };
    assert_near(behind_ns([3.0, 2.0, 1.0], 1_500.0), 21e6);
    assert_near(behind_ns([1.0, 2.0, 5.0], 1_500.0), 35e6);
    assert_near(behind_ns([1.0, 2.0, 5.0], 1_200.0), 14e6);
}

#[test]
fn somebody_asks_for_more_if_it_is_a_hundredth_of_all_and_no_chance() {
    let is_more = |actor: ActorId, requests: f64, known: Option<f64>, all: f64| {
        let mut victim = victim(10);
        if let Some(known) = known {
            lives_with(&mut victim, actor, known);
        }
        let mut slot = slot(&[asks(actor, requests)]);
        slot.did.work = all;
        growth(&mut victim, &slot, 1.0).is_more
    };
    let own = victim(10).actor();
    // 100 requests are 10 ms of 1 s.
    assert!(is_more(tenant(), 100.0, None, 1e9));
    assert!(!is_more(tenant(), 99.0, None, 1e9));
    assert!(!is_more(own, 100.0, None, 1e9));
    // The mean of 100 and 112 is more than 1.05 times 100.
    assert!(is_more(tenant(), 112.0, Some(100.0), 1e9));
    assert!(!is_more(tenant(), 108.0, Some(100.0), 1e9));
}

/// On a full disk that was full, and completes as much, depth is growth: 10 in flight where
/// 4.6 are usual.
#[test]
fn on_a_full_disk_depth_is_growth_but_for_the_victims_own() {
    let grown = |who: ActorId, is_full: bool| {
        let mut victim = victim(10);
        let mut lived = Lived::default();
        lived.learn(Some(&Asked { depth: 4.0, ..asks(who, 900.0) }), 0);
        victim.suspect(who, OwnerId(1)).lived = lived;
        let mut state = State::default();
        (state.is_saturated, state.was_saturated, state.done) = (is_full, true, 1.0);
        let slot = slot(&[Asked { depth: 10.0, ..asks(who, 900.0) }]);
        let growth = victim.grow(&slot, &state, 1.0);
        ((growth.part * 100.0).round(), growth.is_deeper)
    };
    let own = victim(10).actor();
    assert_eq!(grown(tenant(), true), (54.0, true));
    assert_eq!(grown(tenant(), false), (0.0, true));
    assert_eq!(grown(own, true), (0.0, false));
}

/// 1,000 requests and 900 before them are 950 on average, more than 1.05 times 900; 980 are not.
/// Whoever had 7 of 8 in flight cannot get 1.15 times as much.
#[test]
fn depth_is_growth_where_it_brings_more() {
    let grown = |requests: f64, lived_depth: f64, depth_of_all: f64| {
        let mut victim = victim(10);
        let mut lived = Lived::default();
        lived.learn(Some(&Asked { depth: lived_depth, ..asks(tenant(), 900.0) }), 0);
        victim.suspect(tenant(), OwnerId(1)).lived = lived;
        let mut before = slot(&[]);
        before.did.depth = depth_of_all;
        victim.disks.learn(&before);
        let now = slot(&[Asked { depth: 20.0, ..asks(tenant(), requests) }]);
        let lived = &mut victim.suspects[0].lived;
        lived.pass(now.of(&tenant()));
        let mut state = State::default();
        (state.is_saturated, state.was_saturated, state.done) = (true, true, 1.0);
        victim.grow(&now, &state, 1.0).part > 0.0
    };
    assert_eq!([980.0, 1_000.0].map(|requests| grown(requests, 4.0, 8.0)), [false, true]);
    assert_eq!([6.9, 7.0].map(|depth| grown(900.0, depth, 8.0)), [false, true]);
}

#[test]
fn one_of_several_that_is_deeper_is_enough() {
    let mut victim = victim(10);
    let (first, last) = (actor(21, "first"), actor(22, "last"));
    lives_with(&mut victim, first, 900.0);
    lives_with(&mut victim, last, 900.0);
    let slot = slot(&[Asked { depth: 9.0, ..asks(first, 900.0) }, asks(last, 900.0)]);
    assert!(growth(&mut victim, &slot, 1.0).is_deeper);
}

/// Whoever waits only for requests of before has grown by nothing; of a newcomer that is
/// not known.
#[test]
fn who_asks_for_nothing_keeps_no_growth() {
    let mut victim = victim(10);
    let newcomer = actor(30, "new");
    lives_with(&mut victim, tenant(), 900.0);
    victim.suspect(tenant(), OwnerId(1)).grown = 0.7;
    victim.suspect(newcomer, OwnerId(2)).grown = 0.7;
    growth(&mut victim, &slot(&[asks(tenant(), 0.0), asks(newcomer, 0.0)]), 1.0);
    assert_eq!([victim.suspects[0].grown, victim.suspects[1].grown], [0.0, 0.7]);
    // Without any request its last growth stays.
    victim.suspects[0].grown = 0.3;
    growth(&mut victim, &Slot::default(), 1.0);
    assert_eq!([victim.suspects[0].grown, victim.suspects[1].grown], [0.3, 0.7]);
}

#[test]
fn a_newcomer_is_measured_by_all_that_was_asked_for_before() {
    let mut victim = victim(10);
    let mut before = slot(&[]);
    before.did.work = 200e6;
    victim.disks.learn(&before);
    let now = growth(&mut victim, &slot(&[asks(tenant(), 100.0)]), 1.0);
    assert_near(now.part, 0.05);
    assert_near(now.times, 1.0 / 0.95);
    assert_eq!(now.of_journal, 0.0);
    let now = growth(&mut victim, &slot(&[asks(tenant(), 4_000.0)]), 1.0);
    assert_eq!((now.part, now.times), (1.0, 1_000.0));
}

#[test]
fn of_nothing_all_is_new() {
    let now = growth(&mut victim(10), &slot(&[asks(tenant(), 0.0)]), 1.0);
    assert_eq!((now.part, now.written), (1.0, 0.0));
}

/// A journal that nobody knew of is new.
#[test]
fn the_journals_growth_is_that_of_all_its_threads() {
    let mut victim = victim(10);
    lives_with(&mut victim, jbd2(), 900.0);
    let other = actor(0, "jbd2/vdb1-8");
    let slot = slot(&[asks(jbd2(), 1_500.0), asks(other, 500.0), asks(tenant(), 9_000.0)]);
    assert_near(growth(&mut victim, &slot, 1.0).of_journal, 0.25 * 0.75 + 0.25);
}
