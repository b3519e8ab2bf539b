//! Stalls beside others that ask for more: what they add to a second's waits.

use super::{
    demands::assert_near,
    seconds::{asks, lives_with, slot, tenant, victim},
    *,
};
use crate::{
    demand::{Asked, Growth, Lived},
    phases::ByPhase,
    second::{Fresh, Needs},
};

const M: f64 = 1e6;

fn wait(fresh: &mut Fresh, ms: u64) {
    let phases = Phases { ns: ByPhase::from([(Phase::Device, ms * MS)]), ..Phases::default() };
    fresh.add(&Division::default(), &phases, Needs::default(), ms * MS);
}

/// The longest syncs of good seconds took 10 ms, which is usual. Of ten syncs one takes 30 and one
/// 100 ms: 20 and 90 of 110 ms are beyond the usual.
fn beyond(growth: Growth, written: f64) -> f64 {
    let mut victim = victim(10);
    (0..100).for_each(|_| victim.well.record(10 * MS));
    (0..60).for_each(|_| victim.debt.learn(M, 1e6));
    let mut fresh = Fresh::default();
    (0..8).for_each(|_| wait(&mut fresh, 10));
    wait(&mut fresh, 30);
    wait(&mut fresh, 100);
    victim.waits_beyond(&fresh, &growth, 10.0 * M, written)
}

/// A histogram's buckets are up to a fifth wide.
#[track_caller]
fn assert_about(is: f64, expected: f64) {
    assert!((is - expected).abs() <= 0.1, "{is} is not about {expected}");
}

#[test]
fn syncs_that_no_growth_makes_so_long_are_a_stalls() {
    let [both, one] = [1.0, 90.0 / 110.0];
    let growth = |times, held, behind_ms: f64| Growth {
        times,
        held,
        behind_ns: behind_ms * M,
        ..Growth::default()
    };
    assert_about(beyond(growth(1.0, 0.0, 0.0), 0.0), both);
    // Twice the demand may take 25 ms, four times 50.
    assert_about(beyond(growth(2.0, 0.0, 0.0), 0.0), both);
    assert_about(beyond(growth(4.0, 0.0, 0.0), 0.0), one);
    // Their own requests are in flight for four times as long.
    assert_about(beyond(growth(1.0, 4.0, 1e3), 0.0), one);
    // Nobody knows how long those of a newcomer were: three of 10 ms may take 37 ms.
    assert_about(beyond(growth(1.0, f64::INFINITY, 10.0), 0.0), one);
    assert_about(beyond(growth(1.0, f64::INFINITY, 1e3), 0.0), 0.0);
    // Four and twelve times as many bytes were written.
    assert_about(beyond(growth(1.0, 0.0, 0.0), 4e6), one);
    assert_about(beyond(growth(1.0, 0.0, 0.0), 12e6), 0.0);
}

#[test]
fn without_good_seconds_no_sync_is_a_stalls() {
    let mut fresh = Fresh::default();
    wait(&mut fresh, 1_000);
    assert_eq!(victim(10).waits_beyond(&fresh, &Growth::default(), M, 0.0), 0.0);
}

/// 5 of 1,000 a second were in flight, for 5 ms each; now they are for 20 ms. Syncs of 4 ms did not
/// wait for them.
#[test]
fn requests_are_held_for_as_many_times_longer_as_they_are_in_flight() {
    let asked = |depth| Asked { depth, completed: 1_000.0, ..asks(tenant(), 1_000.0) };
    let mut lived = Lived::default();
    assert_eq!(lived.held(&asked(20.0), 6.0 * M), f64::INFINITY);
    lived.learn(Some(&asked(5.0)), 0);
    assert_near(lived.held(&asked(20.0), 6.0 * M), 4.0);
    assert_near(lived.held(&asked(5.0), 6.0 * M), 1.0);
    assert_eq!(lived.held(&asked(20.0), 4.0 * M), f64::INFINITY);
}

/// 100 ms are the device's or nobody's, and 200 are owed. What stalls added is not.
#[test]
fn what_is_owed_to_who_wrote_leaves_the_device_its_stalls() {
    let owed = |written: f64, stalled_ms: f64| {
        let mut victim = victim(10);
        lives_with(&mut victim, tenant(), 100.0);
        (0..60).for_each(|_| victim.debt.learn(100.0 * M, 1e6));
        let slot = slot(&[Asked { writes: true, written, ..asks(tenant(), 200.0) }]);
        victim.suspects.iter_mut().for_each(|suspect| suspect.lived.pass(slot.of(&tenant())));
        let mut parts =
            Division { device_ns: 80.0 * M, unexplained_ns: 20.0 * M, ..Division::default() };
        let owed_ns = victim.owe(&slot, 0.0, &mut parts, true, stalled_ms * M);
        [owed_ns, parts.device_ns, parts.unexplained_ns].map(|ns| (ns / M).round())
    };
    assert_eq!(owed(2e6, 0.0), [100.0, 0.0, 0.0]);
    assert_eq!(owed(2e6, 50.0), [50.0, 50.0, 0.0]);
    assert_eq!(owed(0.25e6, 50.0), [25.0, 65.0, 10.0]);
    assert_eq!(owed(2e6, 500.0), [20.0, 80.0, 0.0]);
}
