//! A victim's own sums: its window, its baseline, the actors that it remembers.

use super::{
    demands::assert_near,
    seconds::{actor, jbd2, tenant, victim},
    *,
};
use crate::{
    histogram::Evidence,
    phases::ByPhase,
    second::Circumstances,
    sums::{Half, SYNC_BOUNDS_NS, SyncBuckets, wal_buckets},
    suspect::{SECONDS, Second},
    victim::{BASELINE_SYNCS, MAX_BASELINE_NS},
};

const SECOND: u64 = 1_000_000_000;

/// 40,000 ticks of the ledger.
const LENGTH_NS: u64 = 10_240_000;

/// The requests in flight during such a sync, in ticks by account. Account 5 are other
/// requests of 4's actor, and those of 6 are of a class that is none of a disk's.
fn window(ticks: &[(usize, u64)]) -> Window {
    let mut owners = owners();
    owners[5] = Owner { id: OwnerId(5), op: op::READ as u16, ..owners[4] };
    owners[6] = Owner { id: OwnerId(6), cgroup: 60, op: 7, ..owners[4] };
    let mut record = sync(LENGTH_NS, &[]);
    ticks.iter().for_each(|(account, ticks)| record.integrals[*account] = *ticks);
    Window::of(&record, &[], |_| &owners)
}

fn others(ns: f64) -> Division {
    Division { excess_ns: ns, others_ns: ns, ..Division::default() }
}

/// A sync beside these requests, of whose wait 90 ns are others'.
fn beside(victim: &mut Victim, end_ns: u64, ticks: &[(usize, u64)]) {
    let phases = Phases::default();
    victim.record(end_ns, LENGTH_NS, &phases, &window(ticks), &others(90.0), Needs::default());
}

/// The syncs that an actor was with.
fn with(victim: &Victim, actor: &ActorId) -> u64 {
    let suspect = victim.suspects.iter().find(|suspect| suspect.actor == *actor).unwrap();
    suspect.lift(&victim.syncs, true).with_n
}

#[test]
fn a_sync_is_in_all_sums() {
    let mut victim = victim(0);
    let phases = Phases { ns: ByPhase::from([(Phase::Device, 7)]), ..Phases::default() };
    let needs = Needs { ns: 3, requests: 2 };
    // 1.5 and 0.5 in flight.
    let window = window(&[(3, 60_000)]);
    victim.record(5 * SECOND, LENGTH_NS, &phases, &window, &others(40.0), needs);
    victim.record(5 * SECOND, 3 * LENGTH_NS, &phases, &window, &others(2.0), needs);
    let now = &victim.now;
    assert_eq!((now.syncs, now.duration_ns, now.max_ns), (2, 4 * LENGTH_NS, 3 * LENGTH_NS));
    assert_eq!((now.phases.ns[Phase::Device], now.in_flight), (14, 2.0));
    // 10.24 and 30.72 ms: up to 16 and 32 ms.
    let mut buckets = SyncBuckets::default();
    (buckets[8], buckets[10]) = (1, 1);
    assert_eq!((now.buckets, victim.buckets_total), (buckets, buckets));
    assert_eq!(victim.syncs_total, 2);
    let second = victim.seconds[0];
    assert_eq!((second.syncs, second.sum_ns), (2, 40.96e6));
    let fresh = &victim.fresh;
    assert_eq!((fresh.syncs, fresh.division.others_ns, fresh.wait_ns), (2, 42.0, 14));
}

#[test]
fn no_quantile_is_above_the_longest() {
    assert_eq!(Half::default().quantile_ns(0.5), 0);
    let mut victim = victim(0);
    let mut record_sync = |duration_ns| {
        let (phases, window) = (Phases::default(), window(&[]));
        victim.record(0, duration_ns, &phases, &window, &Division::default(), Needs::default());
    };
    (0..9).for_each(|_| record_sync(2 * MS));
    record_sync(10 * MS);
    assert_eq!(victim.now.quantile_ns(1.0), 10 * MS);
    let median = victim.now.quantile_ns(0.5) as f64 / 2e6;
    assert!((1.0..=1.0625).contains(&median), "{median}");
    victim.rotate();
    assert_eq!(victim.sum(Span::Window).quantile_ns(1.0), 10 * MS);
}

/// A half whose sums are all this number.
fn half(of: u64) -> Half {
    let mut half = Half::default();
    let n = of as f64;
    half.max_ns = of;
    half.phases.ns = ByPhase::from([(Phase::Other, of)]);
    (half.syncs, half.duration_ns, half.buckets[3]) = (of, of, of);
    (half.parts, half.in_flight) = (others(n), n as f32);
    half.circumstances = Circumstances { slow_ns: n, ..Circumstances::default() };
    (half.ticks, half.limited_cpu_ns, half.limited_io_ns) = (of as u32, of, of);
    half
}

#[track_caller]
fn assert_all(half: &Half, of: u64, max_ns: u64) {
    let n = of as f64;
    let counts = [half.syncs, half.duration_ns, half.buckets[3], half.phases.ns[Phase::Other]];
    assert_eq!(counts, [of; 4]);
    assert_eq!([u64::from(half.ticks), half.limited_cpu_ns, half.limited_io_ns], [of; 3]);
    let in_flight = f64::from(half.in_flight);
    assert_eq!((half.parts, in_flight, half.circumstances.slow_ns), (others(n), n, n));
    assert_eq!(half.max_ns, max_ns);
}

#[test]
fn a_window_has_two_halves_and_a_period_all_of_them() {
    let mut victim = victim(0);
    for of in [1, 300, 20] {
        victim.now = half(of);
        victim.rotate();
    }
    victim.now = half(4_000);
    assert_all(&victim.sum(Span::Window), 4_020, 4_000);
    assert_all(&victim.sum(Span::Period), 4_321, 4_000);
    victim.rotate();
    assert_all(&victim.sum(Span::Window), 4_000, 4_000);
    assert_all(&victim.sum(Span::Period), 4_321, 4_000);
    assert_all(&victim.now, 0, 0);
    victim.now = half(5);
    victim.limit = Some(Box::new((LimitKind::Io, "io.max".to_owned())));
    victim.suspect(tenant(), OwnerId(1)).charge(1, 5.0);
    victim.begin_period();
    for span in [Span::Window, Span::Period] {
        assert_all(&victim.sum(span), 0, 0);
    }
    assert_eq!((victim.limit, victim.suspects[0].now[1]), (None, 0.0));
}

fn below(disk: u64) -> UnderlyingWindow {
    UnderlyingWindow { disk, integrals: [0; ACCOUNTS] }
}

#[test]
fn a_victim_is_on_the_disks_of_its_last_sync_that_knew_them() {
    let mut victim = victim(0);
    assert!(!victim.is_on(NO_DISK) && !victim.is_on(3));
    let record = SyncRecord { disk: 3, tgid: 77, kthread: 1, carried: 1, ..sync(MS, &[]) };
    victim.meet(&record, &[below(7), below(8)]);
    assert_eq!((victim.tgid, victim.kthread, victim.is_carried), (77, true, true));
    assert!([3, 7, 8].iter().all(|disk| victim.is_on(*disk)));
    assert!(!victim.is_on(9) && !victim.is_on(NO_DISK));
    assert_eq!(victim.below().collect::<Vec<_>>(), [7, 8]);
    // A sync that made no request.
    victim.meet(&SyncRecord { disk: NO_DISK, kthread: 0, carried: 0, ..record }, &[]);
    assert_eq!((victim.disk, victim.kthread, victim.is_carried), (3, false, true));
    assert_eq!(victim.below().count(), 2);
    victim.meet(&SyncRecord { disk: 4, carried: 0, ..record }, &[below(9)]);
    assert_eq!((victim.disk, victim.is_carried), (4, false));
    assert_eq!(victim.below().collect::<Vec<_>>(), [9]);
    assert!(!victim.is_on(3) && !victim.is_on(7));
}

#[test]
fn neighbours_are_of_another_cgroup_and_no_threads_of_the_kernel() {
    let mut victim = victim(0);
    let (own, backup) = (victim.actor(), actor(10, "backup"));
    assert!(victim.shares_cgroup(&own) && victim.shares_cgroup(&backup));
    assert!(!victim.shares_cgroup(&tenant()));
    assert!(victim.is_stranger(&tenant()));
    for actor in [own, backup, jbd2(), ActorId { kthread: true, ..tenant() }] {
        assert!(!victim.is_stranger(&actor), "{actor:?}");
    }
    // The root is everybody's house.
    victim.key.cgroup = 1;
    assert!(!victim.shares_cgroup(&actor(1, "backup")));
    assert!(victim.is_stranger(&actor(1, "backup")) && !victim.is_stranger(&victim.actor()));
}

/// A victim after `syncs` undisturbed syncs that waited for `ns` each.
fn taught(syncs: u64, ns: u64) -> Victim {
    let mut victim = victim(0);
    (0..syncs).for_each(|_| victim.learn(ns, 0));
    victim
}

#[test]
fn twenty_undisturbed_syncs_are_a_baseline_of_ten_ms_at_most() {
    assert_eq!(taught(BASELINE_SYNCS - 1, 5 * MS).baseline_ns(), None);
    assert_eq!(taught(BASELINE_SYNCS - 1, 5 * MS).baseline_quantile_ns(0.5), None);
    let known = taught(BASELINE_SYNCS, 5 * MS);
    let is_five = |ns: Option<u64>| (5 * MS..=5_312_500).contains(&ns.unwrap());
    assert!(is_five(known.baseline_ns()) && is_five(known.baseline_quantile_ns(0.5)));
    let slow = taught(BASELINE_SYNCS, 20 * MS);
    assert_eq!(slow.baseline_ns(), Some(MAX_BASELINE_NS));
    assert!(slow.baseline_quantile_ns(0.5).unwrap() >= 20 * MS);
    // On a device that is twice as slow, they would be half as long.
    let mut twice = victim(0);
    twice.device_times = 2.0;
    (0..BASELINE_SYNCS).for_each(|_| twice.learn(10 * MS, 0));
    assert!(is_five(twice.baseline_ns()));
}

#[test]
fn without_undisturbed_syncs_those_of_good_seconds_are_the_baseline() {
    let mut known = taught(BASELINE_SYNCS - 1, 5 * MS);
    (0..20).for_each(|_| known.well.record(2 * MS));
    assert_eq!((known.baseline_ns(), known.baseline_quantile_ns(0.5)), (None, None));
    assert!(!known.has_history());
    known.well_p90_ns = Some(4 * MS);
    assert_eq!(known.baseline_ns(), Some(4 * MS));
    let median = known.baseline_quantile_ns(0.5).unwrap();
    assert!((2 * MS..=5 * MS / 2).contains(&median), "{median}");
    assert!(known.has_history());
    known.learn(5 * MS, 0);
    assert!(known.baseline_ns() > Some(4 * MS), "its own come first");
    let mut seen = victim(0);
    seen.syncs_total = BASELINE_SYNCS - 1;
    assert!(!seen.has_history());
    seen.syncs_total += 1;
    assert!(seen.has_history());
}

/// Ten minutes after the last of 19 syncs.
#[test]
fn who_synced_a_few_times_is_forgettable_after_ten_minutes() {
    let is = |syncs_total, passed_ns| {
        let mut victim = victim(0);
        (victim.syncs_total, victim.last_ns) = (syncs_total, SECOND);
        victim.is_forgettable(SECOND + passed_ns)
    };
    assert!(is(19, 600 * SECOND + 1) && !is(19, 600 * SECOND));
    assert!(!is(20, 601 * SECOND));
}

/// Beyond three baselines a wait is a baseline sample once in 32 times.
#[test]
fn a_device_that_became_slow_is_not_its_own_excuse() {
    let known = taught(BASELINE_SYNCS, MS);
    let baseline_ns = known.baseline_ns().unwrap();
    let longest_ms = |wait_ns, times: u32| {
        let mut known = known.clone();
        (0..times).for_each(|_| known.learn(wait_ns, 0));
        known.baseline_quantile_ns(1.0).unwrap() / MS
    };
    assert_eq!(longest_ms(3 * baseline_ns, 1), 3);
    assert_eq!(longest_ms(3 * baseline_ns + 1, 31), 1);
    assert_eq!(longest_ms(3 * baseline_ns + 1, 32), 3);
    assert_eq!(longest_ms(90 * MS, 31), 1);
    // The 20th is a baseline sample as well, since nothing was usual before.
    let mut young = taught(BASELINE_SYNCS - 1, MS);
    young.learn(90 * MS, 0);
    assert!(young.baseline_quantile_ns(1.0).unwrap() >= 90 * MS);
}

/// After 4096 samples the older ones count half: 2048 of 1 ms and 2100 of 2.5 ms.
#[test]
fn old_samples_lose_half_of_their_weight() {
    let mut known = taught(4_096, MS);
    (0..2_100).for_each(|_| known.learn(5 * MS / 2, 0));
    let quantile_ms = |q| known.baseline_quantile_ns(q).unwrap() as f64 / 1e6;
    assert!(quantile_ms(0.51) >= 2.5, "{}", quantile_ms(0.51));
    assert!(quantile_ms(0.48) < 1.1, "{}", quantile_ms(0.48));
    // Up to then none is lost: 96 of 4096 are of 1 ms.
    let mut known = taught(96, MS);
    (0..4_000).for_each(|_| known.learn(5 * MS / 2, 0));
    let part = known.baseline_quantile_ns(0.023).unwrap() as f64 / 1e6;
    assert!(part < 1.1, "{part}");
}

/// Up to 256 samples each one counts at once, and then the 64th.
#[test]
fn the_baseline_of_many_samples_is_taken_now_and_then() {
    let mut known = taught(256, MS);
    let mut after = |samples: u64| {
        (0..samples).for_each(|_| known.learn(2 * MS, 0));
        known.baseline_ns().unwrap() / MS
    };
    // 31 of 287 are more than a tenth, but only the 320th is looked at.
    assert_eq!((after(31), after(32), after(1)), (1, 1, 2));
    let mut young = taught(200, MS);
    (0..25).for_each(|_| young.learn(2 * MS, 0));
    assert_eq!(young.baseline_ns().unwrap() / MS, 2);
}

/// Twice the usual need is nothing unusual, and 64 syncs say what is usual.
#[test]
fn a_sync_needs_more_beyond_twice_the_usual() {
    let mut known = victim(0);
    assert_eq!(known.needs_more_ns(7), 7);
    known.learn(MS, 10);
    assert_eq!((known.needs_more_ns(20), known.needs_more_ns(25)), (0, 5));
    // The mean of 10 and 20.
    known.learn(MS, 20);
    assert_eq!((known.needs_more_ns(29), known.needs_more_ns(31)), (0, 1));
    let mut known = victim(0);
    (0..80).for_each(|_| known.learn(MS, 10));
    known.learn(MS, 10 + 64 * 5);
    assert_eq!(known.needs_more_ns(100), 70);
}

#[test]
fn seconds_move_on_by_the_clock() {
    let mut victim = victim(0);
    victim.suspect(tenant(), OwnerId(1)).seconds = 0b101;
    victim.seconds[0] = Second { syncs: 3, sum_ns: 9.0 };
    victim.advance(SECOND - 1);
    assert_eq!((victim.seconds[0].syncs, victim.suspects[0].seconds), (3, 0b101));
    victim.advance(5 * SECOND);
    assert_eq!((victim.seconds[0].syncs, victim.seconds[5].syncs), (0, 3));
    assert_eq!(victim.suspects[0].seconds, 0b1010_0000);
    // Nothing moves within a second, or back.
    victim.advance(6 * SECOND - 1);
    victim.advance(2 * SECOND);
    assert_eq!(victim.seconds[5].syncs, 3);
    victim.advance(5 * SECOND + 60 * SECOND);
    assert!(victim.seconds.iter().all(|second| second.syncs == 0));
    victim.suspects[0].seconds = 1;
    victim.advance(65 * SECOND + SECONDS as u64 * SECOND);
    assert_eq!(victim.suspects[0].seconds, 0);
}

#[test]
fn who_matters_least_makes_room() {
    let mut victim = victim(0);
    let fill = |victim: &mut Victim, numbers: std::ops::Range<u64>| {
        for n in numbers {
            let amount = if n == 3 { 0.5 } else { 1.0 + n as f64 };
            victim.suspect(actor(100 + n, "x"), OwnerId(n as u32)).charge(1, amount);
        }
    };
    // Sixteen before its twentieth sync, and 48 then.
    fill(&mut victim, 0..16);
    victim.syncs_total = 19;
    fill(&mut victim, 16..17);
    assert_eq!((victim.suspects.len(), victim.suspects[3].actor), (16, actor(116, "x")));
    victim.syncs_total = 20;
    fill(&mut victim, 17..60);
    assert_eq!(victim.suspects.len(), 48);
    assert!(!victim.suspects.iter().any(|suspect| suspect.actor == actor(100, "x")));
    // A known one stays where it is, under its newest owner.
    let at = victim.suspects.iter().position(|one| one.actor == actor(116, "x"));
    assert_eq!(victim.suspect(actor(116, "x"), OwnerId(7)).owner, OwnerId(7));
    assert_eq!((victim.suspects.len(), at), (48, Some(3)));
}

/// 10, 20 and 30 thousand ticks of work share 90 ns.
#[test]
fn competitors_share_the_blame_of_a_sync_by_their_work() {
    let mut victim = victim(0);
    beside(&mut victim, SECOND, &[(3, 10_000), (4, 20_000), (5, 30_000), (6, 0)]);
    let [fstrim, fio] = &victim.suspects[..] else { panic!("{:?}", victim.suspects) };
    assert_eq!((fstrim.actor, fio.actor), (actor(20, "fstrim"), actor(30, "fio")));
    assert_eq!(fstrim.fresh, [0.0, 15.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(fio.fresh, [45.0, 30.0, 0.0, 0.0, 0.0, 0.0]);
    beside(&mut victim, SECOND, &[(3, 10_000)]);
    assert_eq!(victim.suspects[0].fresh[1], 105.0);
    // Those of no known class are counted as the last.
    beside(&mut victim, SECOND, &[(6, 10_000)]);
    assert_eq!(victim.suspects[2].fresh, [0.0, 0.0, 0.0, 0.0, 0.0, 90.0]);
}

/// A twentieth of a sync is 2000 ticks.
#[test]
fn an_actor_is_on_the_path_from_a_twentieth_of_the_time_on() {
    let fio = actor(30, "fio");
    let mut known = victim(0);
    beside(&mut known, SECOND, &[(4, 1_999)]);
    assert_eq!((with(&known, &fio), known.suspects[0].seconds), (0, 0));
    known.suspects[0].seconds = 0b100;
    beside(&mut known, SECOND, &[(4, 2_000)]);
    assert_eq!((with(&known, &fio), known.suspects[0].seconds), (1, 0b101));
    // Two classes of its requests are one actor.
    beside(&mut known, SECOND, &[(4, 9_000), (5, 9_000)]);
    assert_eq!(with(&known, &fio), 2);
    assert_eq!([known.syncs[0].count(), known.syncs[1].count()], [3, 0]);
}

#[test]
fn syncs_that_the_worst_disturbed_are_apart() {
    let mut victim = victim(0);
    victim.suspect(actor(20, "fstrim"), OwnerId(3)).charge(1, 10.0);
    victim.rotate();
    let mut strata = |ticks: &[(usize, u64)]| {
        beside(&mut victim, SECOND, ticks);
        [victim.syncs[0].count(), victim.syncs[1].count()]
    };
    assert_eq!(strata(&[(3, 2_000)]), [0, 1]);
    assert_eq!(strata(&[(4, 9_000)]), [1, 1]);
    assert_eq!(strata(&[(3, 1_999), (4, 9_000)]), [2, 1]);
    assert_eq!(strata(&[(3, 9_000), (4, 9_000)]), [2, 2]);
}

#[test]
fn whoever_leaves_no_requests_was_there_for_a_while() {
    let mut victim = victim(0);
    victim.suspect(tenant(), OwnerId(1)).seconds = 0b10;
    victim.blame_around(tenant(), OwnerId(9), op::MEMORY, 5.0, 3 * SECOND);
    let suspect = &victim.suspects[0];
    assert_eq!((suspect.owner, suspect.seconds), (OwnerId(9), 0b11));
    let memory = op::MEMORY as usize;
    let taken = (suspect.now[memory], suspect.total[memory]);
    assert_eq!((taken, suspect.around_until_ns), ((5.0, 5.0), 3 * SECOND));
    let mut counted = |end_ns| {
        beside(&mut victim, end_ns, &[]);
        with(&victim, &tenant())
    };
    assert_eq!((counted(3 * SECOND), counted(3 * SECOND + 1)), (1, 1));
    // Its requests beside that are no second time.
    let fio = actor(30, "fio");
    victim.blame_around(fio, OwnerId(4), op::MEMORY, 5.0, 9 * SECOND);
    beside(&mut victim, 4 * SECOND, &[(4, 9_000)]);
    assert_eq!(with(&victim, &fio), 1);
}

/// One and a half times the blame of who was the worst.
#[test]
fn another_is_the_worst_once_it_is_blamed_for_half_as_much_again() {
    let mut victim = victim(0);
    let names = [actor(20, "fstrim"), actor(30, "fio"), actor(40, "filler")];
    // The last fills the journal, which is no request.
    let mut is_new = |[first, second, journal, fresh]: [f64; 4]| {
        victim.syncs = [Evidence::default(), Evidence::default()];
        victim.syncs[1].record(MS);
        victim.suspect(names[0], OwnerId(3)).charge(1, first);
        victim.suspect(names[1], OwnerId(4)).charge(0, second);
        victim.suspect(names[2], OwnerId(5)).charge(op::METADATA as usize, journal);
        victim.suspects[1].fresh[2] = fresh as f32;
        victim.rotate();
        let counts = [victim.syncs[0].count(), victim.syncs[1].count()];
        assert!(counts == [0, 1] || counts == [1, 0]);
        counts == [1, 0]
    };
    assert!(!is_new([0.0, 0.0, 100.0, 0.0]), "nobody is");
    assert!(is_new([10.0, 0.0, 0.0, 0.0]));
    assert!(!is_new([10.0, 0.0, 100.0, 0.0]));
    assert!(!is_new([10.0, 15.0, 0.0, 0.0]));
    assert!(!is_new([10.0, 10.0, 0.0, 5.0]));
    assert!(is_new([10.0, 15.1, 0.0, 0.0]));
    assert!(is_new([16.0, 10.0, 0.0, 0.0]));
    assert!(is_new([10.0, 10.0, 0.0, 5.1]));
}

/// The one that was the worst makes room for another, which is nobody that is known.
#[test]
fn who_takes_the_place_of_the_worst_is_not_the_worst() {
    let mut victim = victim(0);
    victim.suspect(actor(20, "fstrim"), OwnerId(3)).charge(1, 10.0);
    (0..3).for_each(|_| victim.rotate());
    for n in 0..15 {
        victim.suspect(actor(100 + n, "x"), OwnerId(9)).charge(1, 1.0);
    }
    beside(&mut victim, SECOND, &[(4, 9_000)]);
    assert_eq!(victim.suspects[0].actor, actor(30, "fio"));
    beside(&mut victim, SECOND, &[(4, 9_000)]);
    assert_eq!([victim.syncs[0].count(), victim.syncs[1].count()], [2, 0]);
}

#[test]
fn evidence_fades_for_all_and_each() {
    let mut victim = victim(0);
    (0..4).for_each(|_| beside(&mut victim, SECOND, &[(4, 9_000)]));
    victim.fade();
    assert_eq!((victim.syncs[0].count(), with(&victim, &actor(30, "fio"))), (2, 2));
}

/// Bounds below 1 ms are within etcd's first, 10 within 16 and 25 within 32.
#[test]
fn etcds_buckets_are_sums_of_ours() {
    let buckets: SyncBuckets = std::array::from_fn(|at| 1 << at);
    let of = |bounds: &[usize]| bounds.iter().map(|at| 1u64 << at).sum::<u64>();
    let sums: [&[usize]; 15] = [
        &[0, 1, 2, 3],
        &[4],
        &[5],
        &[6],
        &[7, 8],
        &[9, 10],
        &[11],
        &[12],
        &[13],
        &[14],
        &[15],
        &[16],
        &[17],
        &[18],
        &[19],
    ];
    assert_eq!(wal_buckets(&buckets), sums.map(of));
    assert_eq!((SYNC_BOUNDS_NS[7], SYNC_BOUNDS_NS[9]), (10 * MS, 25 * MS));
    assert_near(SYNC_BOUNDS_NS[18] as f64, 8_192e6);
}
