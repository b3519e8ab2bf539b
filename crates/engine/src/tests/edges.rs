//! Edges that no other test reached: each of these fails if one operator or one body in the
//! engine is another. The expected values are worked out in the comments.

use super::{
    demands::assert_near,
    seconds::{tenant, victim},
    *,
};
use crate::{
    demand::Growth,
    device::State,
    reference::Grade,
    settle::{Blamed, settle},
    suspect::Suspect,
    tick::Alone,
};

/// At 4,096 samples the older ones lose half of their weight, so 2,049 are left after the
/// next one; fewer than 20 would be no baseline.
#[test]
fn a_baseline_stays_known_when_older_samples_lose_weight() {
    let mut victim = victim(0);
    (0..4097).for_each(|_| victim.learn(MS, 0));
    let known_ns = victim.baseline_ns().unwrap();
    assert!(known_ns.abs_diff(MS) * 10 <= MS, "{known_ns}");
}

/// Blame is kept for the current half of the window and for the one before it.
#[test]
fn whoever_was_blamed_for_a_write_in_this_window_has_written() {
    let mut suspect = Suspect::new(tenant(), OwnerId(1));
    suspect.charge(op::READ as usize, 5.0);
    assert!(!suspect.has_written());
    suspect.charge(op::WRITE as usize, 5.0);
    assert!(suspect.has_written());
    suspect.rotate();
    assert!(suspect.has_written());
    suspect.rotate();
    assert!(!suspect.has_written());
}

/// The others are behind every wait for three seconds, which would explain 30 ms of excess;
/// but two fifths of all waits are longer than they can make one sync wait. So two fifths of
/// 100 ms are the device's, and three fifths stay theirs.
#[test]
fn what_others_cannot_make_one_sync_wait_is_the_devices() {
    let ms = MS as f64;
    let state = State::of_alone(1.0, 1.0);
    let growth = Growth { part: 0.5, times: 2.0, behind_ns: 1000.0 * ms, ..Growth::default() };
    let blamed = Blamed { grown: 100.0 * ms, ..Blamed::default() };
    let settled = settle(&state, &growth, &blamed, 40.0 * ms, 10.0 * ms, 0.4);
    assert_near(settled.device, 40.0 * ms);
    assert_near(settled.keep, 0.6);
}

/// A class without requests has nothing to say, however well its reference is known.
#[test]
fn requests_are_counted_after_a_better_known_class_had_none() {
    let mut sum = Alone { requests: 0, ns: 0, reference_ns: 0, known: Grade::Good };
    let young = Alone { requests: 3, ns: 7, reference_ns: 5, known: Grade::Young };
    sum.add(&young);
    assert_eq!((sum.requests, sum.ns, sum.reference_ns), (3, 7, 5));
}
