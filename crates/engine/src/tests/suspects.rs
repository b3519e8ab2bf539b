//! One suspect's blame, and the evidence for and against it.

use super::{
    seconds::{actor, tenant},
    *,
};
use crate::{
    histogram::Evidence,
    suspect::{CHARGES, Change, ENOUGH, Lift, SECONDS, STRATA, Second, Suspect, last_change},
};

fn suspect() -> Suspect {
    Suspect::new(tenant(), OwnerId(1))
}

/// The evidence of `count` durations of `ms` each.
fn evidence(count: u64, ms: u64) -> Evidence {
    let mut evidence = Evidence::default();
    (0..count).for_each(|_| evidence.record(ms * MS));
    evidence
}

#[test]
fn charges_add_up_and_move_on_with_the_window() {
    let mut one = suspect();
    one.charge(2, 5.0);
    one.charge(2, 7.0);
    one.charge(7, 1.0);
    assert_eq!((one.now[2], one.now[7], one.total[2], one.total[7]), (12.0, 1.0, 12.0, 1.0));
    one.rotate();
    assert_eq!((one.now[2], one.before[2], one.past[2]), (0.0, 12.0, 0.0));
    one.charge(2, 3.0);
    one.rotate();
    assert_eq!((one.now[2], one.before[2], one.past[2]), (0.0, 3.0, 12.0));
    one.rotate();
    assert_eq!((one.now[2], one.before[2], one.past[2]), (0.0, 0.0, 15.0));
    assert_eq!((one.past[7], one.total[2]), (1.0, 15.0));
    one.charge(2, 4.0);
    one.begin_period();
    for of in [one.now, one.before, one.past] {
        assert_eq!(of, [0.0; CHARGES]);
    }
    assert_eq!(one.total[2], 19.0);
}

#[test]
fn fresh_blame_is_settled_once_and_by_its_charge() {
    let mut one = suspect();
    (one.fresh[0], one.fresh[3]) = (10.0, 30.0);
    assert_eq!(one.fresh_ns(), 40.0);
    (one.now[1], one.before[2]) = (5.0, 7.0);
    assert_eq!(one.weight(), 52.0);
    one.settle(0.5);
    assert_eq!((one.now[0], one.now[3], one.total[3]), (5.0, 15.0, 15.0));
    assert_eq!((one.fresh_ns(), one.weight()), (0.0, 32.0));
}

/// A fifth of its demand is new.
#[test]
fn who_asks_for_less_than_a_fifth_more_is_steady() {
    let is_steady = |work, grown| {
        let mut one = suspect();
        (one.lived.work, one.grown) = (work, grown);
        one.is_steady()
    };
    assert!(is_steady(1.0, 0.19) && !is_steady(1.0, 0.2));
    assert!(!is_steady(0.0, 0.19), "it is a newcomer");
}

/// 60 of the victim's syncs were disturbed, 30 of them with this one, and 100 were not.
fn strata() -> (Suspect, [Evidence; STRATA]) {
    let mut one = suspect();
    (0..30).for_each(|_| one.record_evidence(1, 40 * MS));
    let mut disturbed = evidence(30, 40);
    disturbed.add(&evidence(30, 20));
    (one, [evidence(100, 1), disturbed])
}

#[test]
fn an_uninvolved_suspect_is_compared_among_disturbed_syncs_and_the_worst_among_all() {
    let (one, all) = strata();
    let lift = one.lift(&all, false);
    assert_eq!((lift.with_n, lift.without_n), (30, 30));
    let is_about = |ns: f64, ms: f64| (ns / ms / 1e6 - 1.0).abs() <= 0.25;
    assert!(lift.with_ns.iter().all(|ns| is_about(*ns, 40.0)), "{lift:?}");
    assert!(lift.without_ns.iter().all(|ns| is_about(*ns, 20.0)), "{lift:?}");
    let lift = one.lift(&all, true);
    assert_eq!((lift.with_n, lift.without_n), (30, 130));
    assert!(is_about(lift.without_ns[0], 1.0) && is_about(lift.without_ns[1], 20.0), "{lift:?}");
    // Too few of them on one side, and it is all.
    let all = [evidence(100, 1), evidence(49, 40)];
    assert_eq!(one.lift(&all, false).without_n, 119);
    let nobody = suspect().lift(&all, false);
    assert_eq!((nobody.with_n, nobody.with_ns, nobody.z), (0, [0.0; 2], 0.0));
}

#[test]
fn merged_strata_are_one_and_a_minute_halves_them() {
    let (mut one, all) = strata();
    one.record_evidence(0, MS);
    one.record_evidence(0, MS);
    one.merge_strata();
    // 32 of all 160.
    let lift = one.lift(&all, false);
    assert_eq!((lift.with_n, lift.without_n), (32, 128));
    one.record_evidence(1, 40 * MS);
    one.record_evidence(1, 40 * MS);
    one.fade();
    assert_eq!(one.lift(&all, true).with_n, 17);
    (0..6).for_each(|_| one.fade());
    assert_eq!(one.lift(&all, true).with_n, 0);
}

fn lift(z: f64, p50: f64, p99: f64) -> Lift {
    Lift {
        with_n: ENOUGH,
        without_n: ENOUGH,
        with_ns: [100.0 * p50, 1_000.0 * p99],
        without_ns: [100.0, 1_000.0],
        mean_ns: [200.0; 2],
        z,
    }
}

/// Twenty syncs on each side.
#[test]
fn evidence_needs_twenty_syncs_with_and_twenty_without() {
    let but = |with_n, without_n| Lift { with_n, without_n, ..lift(9.0, 2.0, 2.0) };
    let is = |lift: Lift| (lift.is_enough(), lift.supports_blame(), lift.ratios().is_some());
    assert_eq!(is(but(20, 20)), (true, true, true));
    assert_eq!(is(but(19, 20)), (false, false, true));
    assert_eq!(is(but(20, 19)), (false, false, true));
    assert_eq!(is(but(0, 20)), (false, false, false));
    assert_eq!(is(but(20, 0)), (false, false, false));
    let clears = |with_n, without_n| Lift { with_n, without_n, ..lift(0.0, 1.0, 1.0) }.clears();
    assert!(clears(20, 20) && !clears(19, 20) && !clears(20, 19));
    let longer = |with_ns| Lift { mean_ns: [with_ns, 200.0], ..lift(0.0, 1.0, 1.0) }.clears();
    assert!(longer(249.0) && !longer(251.0), "a quarter longer in the mean");
    assert_eq!(lift(0.0, 2.5, 0.75).ratios(), Some([2.5, 0.75]));
    let of_nothing = Lift { without_ns: [0.0; 2], ..lift(0.0, 2.5, 0.75) };
    assert_eq!(of_nothing.ratios(), Some([250.0, 750.0]));
}

/// Three standard errors, and 1.3 times at p50 or 1.5 times at p99.
#[test]
fn longer_syncs_support_the_blame_and_equal_ones_clear() {
    for (z, p50, p99, accuses) in [
        (3.0, 1.3, 1.0, true),
        (3.0, 1.0, 1.5, true),
        (3.0, 1.29, 1.49, false),
        (2.9, 2.0, 2.0, false),
    ] {
        assert_eq!(lift(z, p50, p99).supports_blame(), accuses, "{z} {p50} {p99}");
    }
    for (z, p50, p99, clears) in [
        (1.9, 1.09, 1.24, true),
        (2.0, 1.0, 1.0, false),
        (0.0, 1.1, 1.0, false),
        (0.0, 1.0, 1.25, false),
        (-3.0, 0.5, 0.5, true),
    ] {
        assert_eq!(lift(z, p50, p99).clears(), clears, "{z} {p50} {p99}");
    }
}

/// Bits by how many seconds ago.
fn seconds_ago(ago: impl IntoIterator<Item = u32>) -> u64 {
    ago.into_iter().map(|ago| 1 << ago).sum()
}

/// Five syncs a second of 7 ns each.
fn steady() -> [Second; SECONDS] {
    [Second { syncs: 5, sum_ns: 35.0 }; SECONDS]
}

#[test]
fn means_before_and_after_are_those_of_three_seconds_each() {
    let mut seconds = steady();
    let after = [(1, 2, 10.0), (2, 3, 25.0), (3, 5, 65.0)];
    let before = [(4, 1, 40.0), (5, 1, 50.0), (6, 3, 60.0)];
    for (ago, syncs, sum_ns) in after.into_iter().chain(before) {
        seconds[ago] = Second { syncs, sum_ns };
    }
    // 100 of 10 syncs, and 150 of 5.
    let change = Change { started: true, ago: 4, before_ns: 30.0, after_ns: 10.0 };
    assert_eq!(last_change(&seconds, seconds_ago(1..4)), Some(change));
    assert_eq!(last_change(&seconds, seconds_ago(0..4)), Some(change), "this second is not over");
    let stopped = Change { started: false, ..change };
    assert_eq!(last_change(&seconds, seconds_ago(4..64)), Some(stopped));
    // Four syncs on one side are too few.
    seconds[4].syncs = 0;
    assert_eq!(last_change(&seconds, seconds_ago(1..4)), None);
    (seconds[4].syncs, seconds[3].syncs, seconds[2].syncs) = (1, 1, 1);
    assert_eq!(last_change(&seconds, seconds_ago(1..4)), None);
}

#[test]
fn only_changes_between_three_seconds_of_a_kind_count() {
    let ago = |there: u64| last_change(&steady(), there).map(|change| (change.started, change.ago));
    assert_eq!(ago(seconds_ago(0..3)), None, "of three seconds one is not over");
    assert_eq!(ago(seconds_ago(60..64)), Some((false, 60)));
    assert_eq!(ago(seconds_ago(61..64)), None, "only three seconds are known of it");
    assert_eq!(ago(seconds_ago([3])), None, "a second");
    assert_eq!(ago(seconds_ago([1, 2, 3, 5])), None, "a second before");
    assert_eq!(ago(seconds_ago([1, 2, 3, 9])), Some((true, 4)), "long before");
    assert_eq!(ago(seconds_ago([3, 5, 6, 7])), Some((true, 8)), "since then it changed too fast");
    assert_eq!(ago(seconds_ago(10..20)), Some((false, 10)), "the last one counts");
    assert_eq!((ago(0), ago(u64::MAX)), (None, None));
}

#[test]
fn suspects_are_of_an_actor_and_an_owner() {
    let one = Suspect::new(actor(30, "new"), OwnerId(9));
    assert_eq!((one.actor, one.owner, one.grown), (actor(30, "new"), OwnerId(9), 1.0));
}
