//! The usual time is learnt in batches of eight. The numbers are worked out beside each test
//! from the constants of `reference`.

use super::MS;
use crate::reference::{Grade, Level, Reference};

/// A kept reference: `batches` batches whose requests took `ns` each.
fn kept(ns: u64, batches: u64) -> Reference {
    Reference::kept(Level { ns, batches })
}

fn batches(reference: &mut Reference, ns: u64, times: u64) -> bool {
    (0..times).any(|_| reference.add(8 * ns, 8))
}

fn count(reference: &Reference) -> u64 {
    reference.level().unwrap().batches
}

#[test]
fn a_kept_level_counts_for_at_most_1024_batches() {
    assert_eq!(kept(5 * MS, 20).level(), Some(Level { ns: 5 * MS, batches: 20 }));
    assert_eq!(count(&kept(5 * MS, 1_025)), 1_024);
    let mut long = kept(5 * MS, 1_000);
    batches(&mut long, 5 * MS, 100);
    assert_eq!(count(&long), 1_024);
    assert_eq!((kept(MS, 0).level(), kept(MS, 0).known()), (None, Grade::None));
    assert_eq!((kept(MS, 1).known(), kept(MS, 1).usual_ns()), (Grade::Good, Some(1e6)));
}

/// Sixty batches are good.
#[test]
fn a_reference_is_young_until_its_sixtieth_batch() {
    let after = |times| {
        let mut reference = Reference::default();
        batches(&mut reference, MS, times);
        reference.known()
    };
    assert_eq!([0, 1, 59, 60].map(after), [Grade::None, Grade::Young, Grade::Young, Grade::Good]);
    let mut nothing = kept(MS, 0);
    batches(&mut nothing, MS, 1);
    assert_eq!(nothing.known(), Grade::Young);
}

#[test]
fn a_batch_is_the_mean_of_eight_or_more() {
    let mut reference = Reference::default();
    reference.add(30 * MS, 3);
    reference.add(4 * MS, 4);
    assert_eq!(reference.usual_ns(), None);
    // 40 ms of ten.
    reference.add(6 * MS, 3);
    assert_eq!(count(&reference), 1);
    // The bucket of 4 ms is a ms wide.
    assert!((4e6..=5e6).contains(&(reference.usual_ns().unwrap() + 100.0)));
    // Nothing of it is left for the next one.
    reference.add(28 * MS, 7);
    assert_eq!(count(&reference), 1);
}

/// One and a half times is another state, on both sides.
#[test]
fn a_batch_of_the_same_state_is_a_sample_and_a_slower_one_is_now_and_then() {
    let samples = |ns, times| {
        let mut reference = kept(6 * MS, 100);
        batches(&mut reference, ns, times);
        count(&reference) - 100
    };
    assert_eq!((samples(9 * MS, 1), samples(9 * MS + 1, 1)), (1, 0));
    assert_eq!((samples(20 * MS, 31), samples(20 * MS, 32), samples(20 * MS, 64)), (0, 1, 2));
}

#[test]
fn eight_faster_batches_on_end_are_a_new_level() {
    // 1.5 · 4 ms are not below 6.
    let mut reference = kept(6 * MS, 100);
    batches(&mut reference, 4 * MS, 1);
    assert!(!batches(&mut reference, MS, 7));
    let mut reference = kept(6 * MS, 100);
    batches(&mut reference, 4 * MS - 1, 1);
    assert!(!batches(&mut reference, MS, 6));
    assert!(batches(&mut reference, MS, 1));
    assert_eq!((count(&reference), reference.known()), (8, Grade::Young));
    // One that is not breaks the run.
    let mut reference = kept(6 * MS, 1_000);
    batches(&mut reference, MS, 7);
    batches(&mut reference, 6 * MS, 1);
    assert!(!batches(&mut reference, MS, 7));
    assert!(batches(&mut reference, MS, 1));
}

/// A tenth of all, and four of them or half of few: the usual time among quick batches and
/// those that are 1.4 times as long.
#[test]
fn the_usual_time_is_that_of_the_tenth_quickest() {
    let usual_ms = |quick, slow| {
        let mut reference = Reference::default();
        batches(&mut reference, 4 * MS, quick);
        batches(&mut reference, 11 * MS / 2, slow);
        reference.usual_ns().unwrap() / 1e6
    };
    // Rank 4 of 40 is the last quick one, and one of 31 is slow.
    assert!(usual_ms(5, 35) < 5.0 && usual_ms(3, 37) > 5.0);
    assert!(usual_ms(11, 89) < 5.0 && usual_ms(9, 91) > 5.0);
    // Half of six.
    assert!(usual_ms(4, 2) < 5.0 && usual_ms(2, 4) > 5.0);
}

/// After 8192 batches the older ones count half.
#[test]
fn old_batches_lose_half_of_their_weight() {
    let mut reference = Reference::default();
    batches(&mut reference, 4 * MS, 1_000);
    batches(&mut reference, 11 * MS / 2, 7_192);
    assert!(reference.usual_ns().unwrap() < 5e6, "1000 of 8192 are more than a tenth");
    // 500 of 5000 are a tenth, and of some more they are less.
    batches(&mut reference, 11 * MS / 2, 1);
    assert!(reference.usual_ns().unwrap() < 5e6 && count(&reference) == 1_024);
    batches(&mut reference, 11 * MS / 2, 799);
    assert!(reference.usual_ns().unwrap() < 5e6);
    batches(&mut reference, 11 * MS / 2, 200);
    assert!(reference.usual_ns().unwrap() > 5e6);
}
