//! A second is compared with the victim's good ones, or with its disks' reference. The
//! numbers are worked out beside each test from the constants of `second`.

use super::{
    seconds::{SECOND, add, asks, division, jbd2, lives_with, slot, tenant, victim, waits},
    *,
};
use crate::{
    demand::{Asked, Slot},
    reference::{Grade, Level, Reference},
    second::Circumstances,
    tick::Alone,
};

/// Requests and flushes that were alone took `ms` milliseconds instead of 10.
fn alone(ms: u64, known: Grade) -> [Alone; 2] {
    [Alone { requests: 8, ns: 8 * ms * MS, reference_ns: 80 * MS, known }; 2]
}

type Change = fn(&mut Victim, &mut Slot);

/// The circumstances of a second of the tenant's, which asks for `requests` where 900
/// are usual.
fn seen(requests: f64, ms: u64, known: Grade, change: Change) -> Circumstances {
    let mut victim = victim(10);
    lives_with(&mut victim, tenant(), 900.0);
    (victim.disks.seconds, victim.well_seconds) = (59, 59);
    let mut slot = slot(&[asks(tenant(), requests)]);
    [slot.alone, slot.flushes] = alone(ms, known);
    change(&mut victim, &mut slot);
    add(&mut victim, 40, &division());
    victim.settle(&slot, SECOND);
    victim.now.circumstances
}

#[test]
fn a_device_is_slow_from_one_and_a_half_times_its_time_on() {
    let slow = seen(900.0, 15, Grade::Good, |_, _| ());
    let wanted = Circumstances {
        excess_ns: 100e6,
        slow_ns: 100e6,
        times_ns: 150e6,
        slow_seconds: 1,
        ..Circumstances::default()
    };
    assert_eq!(slow, wanted);
    let well = seen(900.0, 14, Grade::Good, |_, _| ());
    assert_eq!((well.slow_ns, well.well_ns, well.slow_seconds), (0.0, 100e6, 0));
    assert_eq!((well.excess_ns, well.times_ns), (100e6, 100e6));
    // Without requests alone it is neither.
    let unknown = seen(900.0, 14, Grade::Good, |_, slot| {
        [slot.alone, slot.flushes] = [Alone::default(); 2];
    });
    assert_eq!((unknown.slow_ns, unknown.well_ns), (0.0, 0.0));
}

/// A good reference or a minute of good seconds.
#[test]
fn a_slow_second_counts_beside_what_is_long_known() {
    let slow_seconds = |known, change: Change| seen(900.0, 40, known, change).slow_seconds;
    assert_eq!(slow_seconds(Grade::Good, |_, _| ()), 1);
    assert_eq!(slow_seconds(Grade::Young, |_, _| ()), 0);
    assert_eq!(slow_seconds(Grade::Young, |victim, _| victim.disks.seconds = 60), 1);
    // There must be an excess: this takes it away again.
    let without = slow_seconds(Grade::Good, |victim, _| {
        let less = Division { excess_ns: -100e6, ..Division::default() };
        victim.fresh.add(&less, &waits(40), Needs::default(), 40 * MS);
    });
    assert_eq!(without, 0);
}

/// Five times as slow it is the main cause also beside somebody who asks for more.
#[test]
fn beside_more_a_slow_second_counts_if_the_device_is_far_slower() {
    let slow_seconds =
        |requests, ms, change: Change| seen(requests, ms, Grade::Good, change).slow_seconds;
    assert_eq!(slow_seconds(2_250.0, 50, |_, _| ()), 1);
    assert_eq!(slow_seconds(2_250.0, 49, |_, _| ()), 0);
    let writes = |_: &mut Victim, slot: &mut Slot| slot.asked[0].writes = true;
    assert_eq!(slow_seconds(2_250.0, 50, writes), 0);
    assert_eq!(slow_seconds(900.0, 40, writes), 1, "they are no more than usual");
    // A little more makes it less sure.
    assert_eq!(slow_seconds(1_050.0, 40, |_, _| ()), 0);
}

/// A flush may be slow because of what is written more.
#[test]
fn a_second_of_slow_flushes_beside_writers_is_unsure() {
    let slow_flushes = seen(2_250.0, 10, Grade::Good, |_, slot| {
        slot.asked[0].writes = true;
        slot.flushes.ns *= 20;
    });
    assert_eq!((slow_flushes.unsure_ns, slow_flushes.slow_ns), (100e6, 0.0));
    assert_eq!(seen(2_250.0, 10, Grade::Good, |_, _| ()).unsure_ns, 0.0);
}

/// A second that is compared with the disks' reference: requests and flushes that were alone
/// took `ms` milliseconds instead of 10.
fn held(victim: &mut Victim, now_ns: u64, ms: u64) {
    let mut slot = Slot::default();
    [slot.alone, slot.flushes] = alone(ms, Grade::Good);
    victim.settle(&slot, now_ns);
}

#[test]
fn a_victim_without_a_past_is_held_against_its_disks_reference() {
    let mut known = victim(0);
    assert!(!known.is_beside_reference());
    held(&mut known, SECOND, 14);
    assert_eq!((known.device_times, known.device_times()), (0.0, 1.0));
    held(&mut known, 2 * SECOND, 30);
    assert!(known.device_times > 1.5 && known.is_beside_reference());
    // The reference is forgotten only with good seconds of its own.
    (3..9).for_each(|second| held(&mut known, second * SECOND, 10));
    assert_eq!(known.device_times, 1.0);
    known.well_seconds = 1;
    held(&mut known, 9 * SECOND, 30);
    assert_eq!(known.device_times, 0.0);
}

/// Good seconds of a victim that was met thirty seconds ago are its past, however few they are.
#[test]
fn a_victims_past_is_overruled_by_the_reference_in_its_first_thirty_seconds_alone() {
    let after = |seconds: u64| {
        let mut victim = victim(0);
        (0..seconds).for_each(|second| victim.settle(&Slot::default(), second * SECOND));
        victim.well_seconds = 1;
        held(&mut victim, seconds * SECOND, 30);
        (victim.device_times, victim.well_seconds)
    };
    assert_eq!((after(29), after(30)), ((3.0, 0), (0.0, 1)));
}

#[test]
fn one_and_a_half_times_the_reference_is_slow_and_young_ones_say_nothing() {
    let times = |ms, known| {
        let mut victim = victim(0);
        let mut slot = Slot::default();
        [slot.alone, slot.flushes] = alone(ms, known);
        victim.settle(&slot, SECOND);
        victim.device_times
    };
    assert_eq!((times(15, Grade::Good), times(14, Grade::Good)), (1.5, 0.0));
    assert_eq!((times(40, Grade::Young), times(40, Grade::Good)), (0.0, 4.0));
}

/// All samples so far were slow ones, and what was usual is another thing from then on.
#[test]
fn samples_are_forgotten_when_a_device_is_found_slow() {
    let mut known = victim(10);
    let learn = |victim: &mut Victim| (0..20).for_each(|_| victim.learn(MS, 0));
    learn(&mut known);
    held(&mut known, SECOND, 10);
    assert!(known.baseline_ns().is_some() && known.usual_wait_ns().is_some());
    held(&mut known, 2 * SECOND, 60);
    assert_eq!((known.baseline_ns(), known.usual_wait_ns()), (None, None));
    // They are learnt on the slow one then, and stay while it is slow.
    learn(&mut known);
    known.usual = Reference::kept(Level { ns: 10 * MS, batches: 100 });
    held(&mut known, 3 * SECOND, 60);
    assert!(known.baseline_ns().is_some() && known.usual_wait_ns().is_some());
    // When it recovers waits are others again, and the baseline is one of a well disk.
    (4..9).for_each(|second| held(&mut known, second * SECOND, 10));
    assert_eq!(known.device_times, 1.0);
    assert!(known.baseline_ns().is_some() && known.usual_wait_ns().is_none());
}

/// A slow flush counts as far as other requests are slow if strangers write, from a
/// hundredth of all work on.
#[test]
fn flushes_blame_no_device_while_others_write() {
    let times = |actor: ActorId, requests: f64, writes: bool| {
        let mut victim = victim(0);
        let mut slot = slot(&[Asked { writes, ..asks(actor, requests) }]);
        [slot.alone, slot.flushes] = alone(10, Grade::Good);
        slot.flushes.ns *= 20;
        slot.did.work = 1e9;
        victim.settle(&slot, SECOND);
        victim.device_times
    };
    let own = victim(0).actor();
    assert_eq!(times(tenant(), 100.0, true), 0.0);
    assert_eq!(times(tenant(), 99.0, true), 10.5);
    assert_eq!(times(tenant(), 100.0, false), 10.5);
    assert_eq!(times(own, 100.0, true), 10.5);
    assert_eq!(times(jbd2(), 100.0, true), 10.5);
}

/// While the victim was well its syncs waited 100 ns longer for each byte that others wrote. So 510
/// kB are owed 51 of 100 ms, and a flush that takes four times as long beside them is no slower
/// device. Beside 490 kB it is.
#[test]
fn where_most_of_a_second_is_owed_to_who_wrote_the_device_is_not_slow() {
    let seen = |bytes: f64| {
        let mut victim = victim(10);
        lives_with(&mut victim, tenant(), 900.0);
        (victim.disks.seconds, victim.well_seconds) = (59, 59);
        victim.debt.learn(100e6, 1e6);
        let wrote = Asked { writes: true, written: bytes, ..asks(tenant(), 1000.0) };
        let [_, flushes] = alone(40, Grade::Good);
        let division = Division {
            excess_ns: 100e6,
            device_ns: 80e6,
            unexplained_ns: 20e6,
            ..Division::default()
        };
        add(&mut victim, 40, &division);
        victim.settle(&Slot { flushes, ..slot(&[wrote]) }, SECOND);
        let Circumstances { slow_ns, times_ns, .. } = victim.now.circumstances;
        [victim.now.parts.others_ns, slow_ns, times_ns].map(|ns| (ns / 1e6).round())
    };
    assert_eq!(seen(510e3), [51.0, 0.0, 100.0]);
    assert_eq!(seen(490e3), [49.0, 100.0, 400.0]);
}
