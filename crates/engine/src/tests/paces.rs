//! A disk's seconds are compared with what it has shown that it completes. The numbers are worked out beside each test
//! from the constants of `pace`.

use super::demands::assert_near;
use crate::{
    pace::{KeptPace, KeptRates, Pace},
    tick::{Alone, DiskWork, Load},
};

const SECOND: u64 = 1_000_000_000;

/// A second with this many writes in flight and completed, each 4 KiB and 1 ms of work.
fn writes(in_flight: f64, completed: u64) -> DiskWork {
    work(in_flight, completed, |load| load.writes = true)
}

fn work(in_flight: f64, completed: u64, change: impl Fn(&mut Load)) -> DiskWork {
    let mut load = Load {
        completed,
        bytes: completed * 4096,
        in_flight_ns: (in_flight * 1e9) as u64,
        cost_ns: 1_000_000,
        ..Load::default()
    };
    change(&mut load);
    DiskWork { length_ns: SECOND, loads: vec![load], ..DiskWork::default() }
}

fn after(second: &DiskWork, times: usize) -> Pace {
    let mut pace = Pace::default();
    (0..times).for_each(|_| _ = pace.observe(second));
    pace
}

/// Without learning from it.
fn done(pace: &Pace, second: &DiskWork) -> Option<f64> {
    pace.clone().observe(second).done.map(f64::from)
}

#[track_caller]
fn assert_within(is: Option<f64>, from: f64, to: f64) {
    assert!(is.is_some_and(|is| (from..to).contains(&is)), "{is:?}");
}

#[test]
fn a_minute_is_enough_to_compare_with_and_less_is_not() {
    assert_eq!(done(&after(&writes(4.0, 400), 59), &writes(4.0, 100)), None);
    // 4 in flight may be half of what the 400 were shown beside: they count as 200.
    assert_within(done(&after(&writes(4.0, 400), 60), &writes(4.0, 100)), 0.45, 0.55);
}

/// Beside 8 in flight and more a disk completes at least what it completes beside 4 to 8.
#[test]
fn as_many_requests_in_flight_or_more_are_compared_and_fewer_are_not() {
    let pace = after(&writes(4.0, 400), 60);
    assert_within(done(&pace, &writes(8.0, 100)), 0.23, 0.27);
    assert_within(done(&pace, &writes(300.0, 100)), 0.23, 0.27);
    assert_eq!(done(&pace, &writes(3.9, 100)), None);
}

/// A disk with less than one request in flight is idle now and then.
#[test]
fn an_idle_disk_completes_what_it_is_asked_for() {
    let pace = after(&writes(0.5, 400), 60);
    assert_eq!(done(&pace, &writes(0.9, 10)), None);
    assert_within(done(&pace, &writes(1.0, 10)), 0.02, 0.03);
}

/// A tenth of the requests, each of ten times the size: bytes are as many as ever. Costs that
/// are ten times as high make as much work as ever of a tenth of the requests.
#[test]
fn a_disk_is_slow_only_if_it_does_less_of_everything() {
    let pace = after(&writes(4.0, 400), 60);
    let large = work(8.0, 40, |load| (load.writes, load.bytes) = (true, 400 * 4096));
    assert_within(done(&pace, &large), 0.9, 1.1);
    let costly = work(8.0, 40, |load| (load.writes, load.cost_ns) = (true, 10_000_000));
    assert_within(done(&pace, &costly), 0.9, 1.1);
    assert_within(done(&pace, &writes(8.0, 40)), 0.09, 0.11);
}

/// A cache may have to drain writes, and takes nothing from reads that it was seen to serve.
#[test]
fn a_mix_with_more_writes_than_were_seen_says_nothing() {
    let reads = |in_flight, completed| work(in_flight, completed, |load| load.reads = true);
    let pace = after(&reads(4.0, 400), 60);
    assert_eq!(done(&pace, &writes(8.0, 100)), None);
    assert_within(done(&pace, &reads(8.0, 100)), 0.23, 0.27);
    let pace = after(&writes(4.0, 400), 60);
    assert_within(done(&pace, &reads(8.0, 100)), 0.23, 0.27);
}

#[test]
fn discards_are_no_pace() {
    let pace = after(&writes(4.0, 400), 60);
    assert_eq!(done(&pace, &work(8.0, 10, |_| {})), None);
    let mut beside = writes(8.0, 100);
    // A fifth of the work may be a discard's: 25 ms beside 100.
    beside.loads.extend(work(0.0, 25, |_| {}).loads);
    assert_within(done(&pace, &beside), 0.23, 0.33);
    beside.loads.extend(work(0.0, 1, |_| {}).loads);
    assert_eq!(done(&pace, &beside), None);
}

/// An hour lowers the logarithm by 3600 · 0.1 · 4e-4 = 0.144, to 87 %; a day by 3.5, to 3 %. The
/// disk is a tenth as fast then, and that is reached after 16 hours.
#[test]
fn a_slow_hour_is_not_what_is_normal_and_a_slow_day_is() {
    let mut pace = after(&writes(4.0, 400), 600);
    for _ in 0..3600 {
        pace.observe(&writes(4.0, 40));
    }
    assert_within(done(&pace, &writes(8.0, 400)), 1.1, 1.25);
    for _ in 0..23 * 3600 {
        pace.observe(&writes(4.0, 40));
    }
    assert_within(done(&pace, &writes(8.0, 40)), 0.9, 1.1);
}

/// Another disk, or one that is faster from now on, shows it in eight seconds on end.
#[test]
fn eight_faster_seconds_on_end_are_a_new_level() {
    let faster = |runs: &[usize]| {
        let mut pace = after(&writes(4.0, 400), 600);
        for run in runs {
            (0..*run).for_each(|_| _ = pace.observe(&writes(4.0, 4000)));
            pace.observe(&writes(4.0, 400));
        }
        pace.to_keep().levels[0]
    };
    assert!((380..420).contains(&faster(&[7, 7]).rates[1]), "{:?}", faster(&[7, 7]));
    let KeptRates { rates, seconds, .. } = faster(&[8]);
    assert!((3500..=4000).contains(&rates[1]) && seconds == 9, "{rates:?} {seconds}");
}

/// A tenth of the seconds have 500 and the rest 400: the level lies between.
#[test]
fn one_quick_second_in_a_hundred_is_no_level() {
    let mut pace = Pace::default();
    for at in 0..2000 {
        pace.observe(&writes(4.0, if at % 100 == 0 { 10_000 } else { 400 }));
    }
    let [requests] = [pace.to_keep().levels[0].rates[1]];
    assert!((380..440).contains(&requests), "{requests}");
}

#[test]
fn bytes_written_count_beside_flushes_that_take_their_usual_time() {
    let second = |requests: u64, flush_ms: u64| DiskWork {
        flushes: Alone {
            requests: 10,
            ns: 10 * flush_ms * 1_000_000,
            reference_ns: 10 * 2_000_000,
            ..Alone::default()
        },
        ..writes(2.0, requests)
    };
    let mut pace = after(&second(100, 2), 59);
    assert_eq!(pace.observe(&second(100, 2)).written, None);
    assert_near(pace.observe(&second(200, 9)).written.unwrap().into(), 2.0);
    // More bytes beside slow flushes change nothing.
    (0..600).for_each(|_| _ = pace.observe(&second(500, 3)));
    assert_near(pace.observe(&second(100, 9)).written.unwrap().into(), 1.0);
}

#[test]
fn what_is_kept_goes_on_as_before_and_bounds_are_kept() {
    let pace = after(&writes(4.0, 400), 60);
    let kept = pace.to_keep();
    // 4 in flight are 2^6 times 1/16, and all bytes are written.
    let rates = [400_000_000, 400, 400 * 4096];
    assert_eq!(kept.levels, [KeptRates { mix: 3, octave: 6, seconds: 60, rates }]);
    assert_eq!(Pace::kept(&kept).to_keep(), kept);
    assert_eq!(done(&Pace::kept(&kept), &writes(8.0, 100)), done(&pace, &writes(8.0, 100)));
    assert_eq!(after(&writes(4.0, 400), 7).to_keep(), KeptPace::default());
    let odd = |mix, octave| KeptRates { mix, octave, seconds: 60, rates: [1; 3] };
    let odd = KeptPace { levels: vec![odd(4, 0), odd(0, 13), odd(u16::MAX, 1)], written: None };
    assert_eq!(Pace::kept(&odd), Pace::default());
}

/// Eight seconds are worth to be kept. Each has written 400 pieces of 4 KiB beside a flush that took
/// its usual time, or 1.5 times that, which says nothing.
#[test]
fn bytes_beside_usual_flushes_are_kept_after_eight_seconds() {
    let kept = |seconds: usize, flush_ns: u64| {
        let one = Alone { requests: 1, ns: flush_ns, reference_ns: 1000, ..Alone::default() };
        after(&DiskWork { flushes: one, ..writes(4.0, 400) }, seconds).to_keep().written
    };
    assert_eq!(
        [7, 8, 60].map(|seconds| kept(seconds, 1499)),
        [None, Some((1_638_400, 8)), Some((1_638_400, 60)),]
    );
    assert_eq!(kept(60, 1500), None);
}
