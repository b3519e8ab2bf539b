//! When hooks on demand are attached, second by second: the times are worked out by hand.

use super::*;

const US: u64 = 1000;
const MS: u64 = 1000 * US;
const SECOND: u64 = 1000 * MS;

/// A victim in the second second of its window, before its twentieth sync.
fn victim(syncs: u64, duration_ns: u64, runqueue_ns: u64) -> Victim {
    let key = VictimKey { cgroup: 1, comm: [0; 16], file: 0, device: 0 };
    let mut victim = Victim::new(0, key);
    let half = &mut victim.now;
    (half.syncs, half.duration_ns, half.ticks) = (syncs, syncs * duration_ns, 1);
    half.phases.ns[Phase::Runqueue] = syncs * runqueue_ns;
    victim
}

/// The seconds, of those up to `until`, in which it is wanted while a victim waits all the
/// time.
fn wanted(demand: &mut Demand, victim: &Victim, until: u64) -> Vec<u64> {
    (0..until).filter(|second| demand.is_wanted(second * SECOND, [victim])).collect()
}

/// Whether it is wanted in the second second of asking; it never is in the first.
fn is_wanted(mut demand: Demand, victim: &Victim) -> bool {
    match *wanted(&mut demand, victim, 2) {
        [] => false,
        [1] => true,
        ref other => panic!("{other:?}"),
    }
}

/// Attached in the second second of waiting, for ten seconds after the last; and then not
/// before a minute has passed since.
#[test]
fn it_is_wanted_while_waits_for_a_cpu_matter_and_ten_seconds_more() {
    let (waits, runs) = ([victim(10, 4 * MS, MS)], [victim(10, 4 * MS, MS / 10)]);
    let mut demand = Demand::contenders();
    assert!(!demand.is_wanted(SECOND, &runs));
    assert!(!demand.is_wanted(2 * SECOND, &waits));
    assert!(demand.is_wanted(3 * SECOND, &waits));
    assert!(demand.is_wanted(12 * SECOND, &runs));
    assert!(!demand.is_wanted(13 * SECOND, &runs));
    assert!((14..63).all(|second| !demand.is_wanted(second * SECOND, &waits)));
    assert!(demand.is_wanted(63 * SECOND, &waits));
}

#[test]
fn a_single_second_and_the_first_one_of_a_victim_call_for_nothing() {
    let (waits, runs) = (victim(10, 4 * MS, MS), victim(10, 4 * MS, 0));
    let mut demand = Demand::contenders();
    let is_wanted = |second: &u64| {
        let victim = if second.is_multiple_of(2) { &waits } else { &runs };
        demand.is_wanted(second * SECOND, [victim])
    };
    assert_eq!((0..100).filter(is_wanted).count(), 0);

    let mut demand = Demand::contenders();
    let mut new = victim(10, 4 * MS, MS);
    new.now.ticks = 0;
    let is_wanted = [(1, &new), (2, &waits), (3, &waits)]
        .map(|(second, victim)| demand.is_wanted(second * SECOND, [victim]));
    assert_eq!(is_wanted, [false, false, true]);
}

/// The older half has 100 ms of syncs, the younger one 20, and 12 of all are a tenth.
#[test]
fn it_is_the_whole_window_that_counts() {
    for (runqueue_ns, expected) in [(12 * MS, true), (12 * MS - 1, false)] {
        let mut waits = victim(5, 4 * MS, 0);
        waits.now.phases.ns[Phase::Runqueue] = runqueue_ns;
        (waits.before.syncs, waits.before.duration_ns) = (25, 100 * MS);
        assert_eq!(is_wanted(Demand::contenders(), &waits), expected);
    }
}

/// A quarter of the sync time is the least excess that makes a victim slow.
#[test]
fn nobody_asks_who_ran_where_no_sync_is_slow() {
    for (runqueue_ns, expected) in [(250 * US, true), (249 * US, false)] {
        let mut waits = victim(1000, MS, runqueue_ns);
        waits.syncs_total = 1000;
        assert_eq!(is_wanted(Demand::contenders(), &waits), expected);
    }
}

#[test]
fn what_is_not_explained_calls_for_who_holds_requests_back() {
    let mut waits = victim(1, 50 * MS, 0);
    assert!(!is_wanted(Demand::throttle(), &waits));
    waits.now.phases.ns[Phase::Other] = 40 * MS;
    assert!(is_wanted(Demand::throttle(), &waits));
    assert!(!is_wanted(Demand::contenders(), &waits));
}

#[test]
fn commits_that_are_waited_for_call_for_who_fills_the_journal() {
    let mut waits = victim(1, 50 * MS, 0);
    waits.now.phases.ns[Phase::Journal] = 2 * MS;
    assert!(!is_wanted(Demand::metadata(), &waits));
    waits.now.phases.journal_io_ns = 3 * MS;
    assert!(is_wanted(Demand::metadata(), &waits));
    assert!(is_wanted(Demand::tickets(), &waits));
}

/// Ten come each second, and stay for two.
#[test]
fn victims_that_come_and_go_are_forgotten() {
    let mut demand = Demand::contenders();
    for second in 0..300u64 {
        let jobs: Vec<_> = (10 * second.saturating_sub(1)..10 * (second + 1))
            .map(|cgroup| {
                let mut job = victim(10, 4 * MS, MS);
                job.key.cgroup = cgroup;
                job
            })
            .collect();
        assert_eq!(demand.is_wanted(second * SECOND, &jobs), second > 0);
        assert!(demand.askers.len() <= MOST_ASKERS, "{} at {second}", demand.askers.len());
    }
}

/// 19.9 µs of each sync of 100 µs are a fifth of it, and nobody's question; 20 are.
#[test]
fn some_microseconds_of_each_sync_call_for_nothing() {
    for (runqueue_ns, expected) in [(20 * US - 100, false), (20 * US, true)] {
        let waits = victim(1000, 100 * US, runqueue_ns);
        assert_eq!(is_wanted(Demand::contenders(), &waits), expected);
    }
    let mut waits = victim(1000, 100 * US, 0);
    (waits.now.phases.ns[Phase::Other], waits.now.phases.ns[Phase::Journal]) = (19 * MS, 19 * MS);
    let demands = [Demand::throttle, Demand::metadata, Demand::tickets];
    assert!(!demands.iter().any(|demand| is_wanted(demand(), &waits)));
    (waits.now.phases.ns[Phase::Other], waits.now.phases.ns[Phase::Journal]) = (20 * MS, 20 * MS);
    assert!(demands.iter().all(|demand| is_wanted(demand(), &waits)));
}

/// The victim waits for 10 ms in its window, and somebody ran for 0.9 of them.
#[test]
fn a_hook_that_explains_less_than_a_tenth_rests_and_each_time_for_longer() {
    let mut waits = victim(10, 4 * MS, MS);
    let suspect = Suspect::default;
    waits.suspects.push(suspect());
    waits.suspects[0].now[op::CPU as usize] = 0.9 * MS as f32;
    let attached = wanted(&mut Demand::contenders(), &waits, 500);
    // Ten seconds; a minute without; ten more; two minutes without; ten more; four.
    let expected: Vec<u64> = (1..11).chain(71..81).chain(201..211).chain(451..461).collect();
    assert_eq!(attached, expected);
    // With 1 ms, half of it in the older half of the window, it explains a tenth, and stays.
    waits.suspects[0].now[op::CPU as usize] = 0.5 * MS as f32;
    waits.suspects.push(suspect());
    waits.suspects[1].before[op::CPU as usize] = 0.5 * MS as f32;
    assert_eq!(wanted(&mut Demand::contenders(), &waits, 100).len(), 99);
}

/// It is attached again a minute after it was attached first, in second 1.
#[test]
fn twice_the_wait_ends_a_rest_and_another_victim_does_not_rest() {
    let mut demand = Demand::contenders();
    assert_eq!(wanted(&mut demand, &victim(10, 4 * MS, MS), 12).len(), 10);
    let waits = |runqueue_ns| victim(10, 4 * MS, runqueue_ns);
    let mut is_wanted = |second, runqueue_ns| {
        let victim = waits(runqueue_ns);
        demand.is_wanted(second * SECOND, [&victim])
    };
    assert!((12..70).all(|second| !is_wanted(second, 2 * MS - 1)));
    assert!(is_wanted(70, 2 * MS));

    let mut demand = Demand::contenders();
    wanted(&mut demand, &waits(MS), 12);
    let mut other = waits(MS);
    other.key.file = 1;
    let is_wanted = |second: &u64| demand.is_wanted(second * SECOND, [&waits(MS), &other]);
    let attached: Vec<u64> = (12..80).filter(is_wanted).collect();
    assert_eq!(attached, (61..71).collect::<Vec<_>>());
}

/// A bio that waits is `throttle` once the hook is there; what stays in `other` is none.
#[test]
fn a_hook_that_finds_no_bio_waiting_rests() {
    let mut waits = victim(1, 50 * MS, 0);
    waits.now.phases.ns[Phase::Other] = 40 * MS;
    assert_eq!(wanted(&mut Demand::throttle(), &waits, 70), (1..11).collect::<Vec<_>>());
    waits.now.phases.ns[Phase::Other] = 36 * MS;
    waits.now.phases.ns[Phase::Throttle] = 4 * MS;
    assert_eq!(wanted(&mut Demand::throttle(), &waits, 70).len(), 69);
}

/// A wait of two seconds every two minutes: ten seconds, then one minute, then two.
#[test]
fn a_hook_that_comes_again_and_again_stays_for_longer() {
    let (waits, runs) = (victim(10, 4 * MS, MS), victim(10, 4 * MS, 0));
    let mut demand = Demand::contenders();
    let is_wanted = |second: &u64| {
        let victim = if second % 120 < 2 { &waits } else { &runs };
        demand.is_wanted(second * SECOND, [victim])
    };
    let attached: Vec<u64> = (0..3600).filter(is_wanted).collect();
    // The third time it lingers until the next wait.
    assert_eq!(attached, (1..11).chain(121..181).chain(241..3600).collect::<Vec<_>>());
}

#[test]
fn few_or_short_syncs_mean_nothing() {
    for few in [victim(4, 10 * MS, 10 * MS), victim(19, MS, MS)] {
        assert!(!is_wanted(Demand::contenders(), &few));
    }
}
