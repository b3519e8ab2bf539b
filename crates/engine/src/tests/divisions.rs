//! The requests in flight during one sync, and the division of its excess. The numbers are
//! worked out beside each test from the comments of `blame`.

use super::{
    demands::assert_near,
    seconds::{actor, jbd2},
    *,
};
use crate::phases::ByPhase;

const M: f64 = 1e6;

/// 40,000 ticks of the ledger.
const LENGTH_NS: u64 = 10_240_000;
const TICK_NS: u64 = 256;

/// A sync of etcd's with these ticks of requests in flight, by account.
fn record(ticks: &[(usize, u64)]) -> SyncRecord {
    let mut record = SyncRecord { own_device_ns: 0, own_span_ns: 0, ..sync(LENGTH_NS, &[]) };
    ticks.iter().for_each(|(account, ticks)| record.integrals[*account] = *ticks);
    record
}

/// A request of account 1 (etcd) costs 3 ns, of 2 (jbd2) 7, of 3 (fstrim) 5; the cost of 4
/// (fio) is not known.
fn weighed() -> [Owner; ACCOUNTS] {
    let mut owners = owners();
    for (at, weight_ns) in [(1, 3), (2, 7), (3, 5), (4, 0)] {
        owners[at].weight_ns = weight_ns;
    }
    owners
}

fn below(disk: u64, ticks: &[(usize, u64)]) -> UnderlyingWindow {
    let mut below = UnderlyingWindow { disk, integrals: [0; ACCOUNTS] };
    ticks.iter().for_each(|(account, ticks)| below.integrals[*account] = *ticks);
    below
}

/// Competitors by owner, in ticks and in the work of ticks.
fn competitors(window: &Window) -> Vec<(u32, u64, f64)> {
    let each = window.competitors().iter();
    each.map(|one| (one.owner.id.0, one.in_flight_ns / TICK_NS, one.work / TICK_NS as f64))
        .collect()
}

#[test]
fn requests_are_the_victims_its_journals_or_others() {
    let owners = weighed();
    let sync = SyncRecord {
        own_queue_ns: 1_000_000,
        own_device_ns: 2_000_000,
        reclaim_ns: 500_000,
        ..record(&[(1, 40_000), (2, 100), (3, 200), (4, 300)])
    };
    let window = Window::of(&sync, &[], |_| &owners);
    assert_eq!(competitors(&window), [(3, 200, 1_000.0), (4, 300, 300.0)]);
    assert_eq!((window.total_ns, window.total_work), (500 * TICK_NS, 1_300.0 * 256.0));
    assert_eq!((window.journal_ns, window.journal_work), (100 * TICK_NS, 700.0 * 256.0));
    // Its own requests took 3.5 ms of 10.24, and four ticks are nothing.
    assert_eq!(window.own_other_ns, 6_740_000 - 4 * TICK_NS);
    assert_near(window.own_work, 3.0 * window.own_other_ns as f64);
    assert_eq!(window.torn, 0);
    let none = Window::of(&record(&[(1, 4)]), &[], |_| &owners);
    assert_eq!((none.own_other_ns, none.own_work), (0, 0.0));
    assert_eq!(Window::of(&record(&[(1, 5)]), &[], |_| &owners).own_other_ns, TICK_NS);
}

#[test]
fn a_worker_issues_what_the_callers_cgroup_submitted() {
    let own = |name: &str, cgroup, kthread| {
        let mut owners = owners();
        owners[4] = Owner { comm: comm(name), cgroup, kthread, ..owners[4] };
        let window = Window::of(&record(&[(4, 1_000)]), &[], |_| &owners);
        window.own_other_ns > 0
    };
    assert!(own("kworker", 10, false) && own("etcd", 10, false));
    assert!(!own("kworker", 20, false) && !own("etcd", 20, false) && !own("fio", 10, false));
    assert!(!own("kworker", 10, true) && !own("kworkers", 10, false));
}

/// More than 2^20 requests in flight are none, and neither are fewer than none.
#[test]
fn an_integral_that_cannot_be_is_torn() {
    let owners = owners();
    let mut sync = record(&[(1, 40_000 << 20), (2, 40_000 << 20), (3, 40_000 << 20)]);
    let window = Window::of(&sync, &[], |_| &owners);
    assert_eq!((window.torn, window.competitors().len()), (0, 1));
    for account in [1, 2, 3] {
        sync.integrals[account] += 1;
    }
    let window = Window::of(&sync, &[below(7, &[(3, (40_000 << 20) + 1)])], |_| &owners);
    assert_eq!((window.torn, window.competitors().len()), (4, 0));
    let negative = Window::of(&record(&[(3, 0u64.wrapping_sub(5))]), &[], |_| &owners);
    assert_eq!((negative.torn, negative.competitors().len()), (0, 0));
    // Below a carrying disk just so.
    let carried = |ticks| {
        let sync = SyncRecord { carried: 1, ..record(&[]) };
        let window = Window::of(&sync, &[below(7, &[(3, ticks)])], |_| &owners);
        (window.torn, window.competitors().len())
    };
    assert_eq!((carried(40_000 << 20), carried((40_000 << 20) + 1)), ((0, 1), (1, 0)));
    assert_eq!((carried(0), carried(0u64.wrapping_sub(5))), ((0, 0), (0, 0)));
}

#[test]
fn below_the_first_disk_only_others_are_added() {
    let mut owners = weighed();
    owners[5] = Owner { id: OwnerId(5), comm: comm("kworker"), kthread: true, ..owners[4] };
    let ticks = [(1, 1_000), (2, 1_000), (3, 1_000), (5, 1_000)];
    let window = Window::of(&record(&[(3, 200)]), &[below(7, &ticks)], |_| &owners);
    assert_eq!(competitors(&window), [(3, 1_200, 6_000.0)]);
    assert_eq!((window.own_other_ns, window.journal_ns), (0, 0));
    // On the first one a worker is one of the others.
    let window = Window::of(&record(&[(5, 200)]), &[], |_| &owners);
    assert_eq!(competitors(&window), [(5, 200, 200.0)]);
}

/// An owner below a carrying disk has the larger of both, and the work of what is more.
#[test]
fn below_a_carrying_disk_what_is_more_counts() {
    let owners = weighed();
    let of = |above, under| {
        let sync = SyncRecord { carried: 1, ..record(&[(3, above)]) };
        competitors(&Window::of(&sync, &[below(7, &[(3, under)])], |_| &owners))
    };
    assert_eq!(of(200, 300), [(3, 300, 1_500.0)]);
    assert_eq!(of(300, 200), [(3, 300, 1_500.0)]);
    assert_eq!(of(300, 300), [(3, 300, 1_500.0)]);
    assert_eq!(of(0, 300), [(3, 300, 1_500.0)]);
    assert!(of(0, 0).is_empty());
}

/// 64 owners above take all places, and those of 64 more share the last.
#[test]
fn owners_without_a_place_share_the_last() {
    let named = |first: u32| {
        let mut owners = [Owner::NOBODY; ACCOUNTS];
        for (at, owner) in (0..).zip(&mut owners) {
            let (id, cgroup) = (OwnerId(first + at), 100 + u64::from(first + at));
            *owner = Owner { id, cgroup, comm: comm("x"), ..*owner };
        }
        owners
    };
    let (upper, lower) = (named(1), named(101));
    let all = |ticks| (0..ACCOUNTS).map(|at| (at, ticks)).collect::<Vec<_>>();
    let window = Window::of(&record(&all(10)), &[below(7, &all(1))], |disk| {
        if disk == 7 { &lower } else { &upper }
    });
    assert_eq!(window.competitors().len(), 64);
    let integrals: Vec<_> = competitors(&window).iter().map(|(_, ticks, _)| *ticks).collect();
    assert_eq!((integrals[0], integrals[62], integrals[63]), (10, 10, 74));
    assert_eq!(window.total_ns, 704 * TICK_NS);
}

/// A hundredth of the time for others, and a tenth for its own other requests.
#[test]
fn a_sync_is_undisturbed_up_to_a_hundredth_of_others() {
    let is = |total_ns, own_other_ns| {
        let mut window = Window::of(&record(&[]), &[], |_| &[Owner::NOBODY; ACCOUNTS]);
        (window.total_ns, window.own_other_ns) = (total_ns, own_other_ns);
        window.is_uncontended(10_000)
    };
    assert!(is(100, 1_000));
    assert!(!is(101, 0) && !is(0, 1_001));
}

#[test]
fn threads_of_the_kernel_are_known_by_their_names() {
    assert!(jbd2().is_journal() && !ActorId { kthread: false, ..jbd2() }.is_journal());
    let (worker, log) = (actor(0, "kworker"), actor(0, "xfsaild/vda"));
    assert!(worker.is_kworker() && worker.is_helper() && !worker.is_journal());
    assert!(log.is_helper() && !log.is_kworker() && !jbd2().is_helper());
    for actor in [worker, log] {
        let process = ActorId { kthread: false, ..actor };
        assert!(!process.is_helper() && !process.is_kworker());
    }
}

/// A window in which these were in flight: ms, and work.
fn in_flight(others: (f64, f64), own: (f64, f64), journal: (f64, f64)) -> Window {
    let mut window = Window::of(&record(&[]), &[], |_| &[Owner::NOBODY; ACCOUNTS]);
    (window.total_ns, window.total_work) = ((others.0 * M) as u64, others.1);
    (window.own_other_ns, window.own_work) = ((own.0 * M) as u64, own.1);
    (window.journal_ns, window.journal_work) = ((journal.0 * M) as u64, journal.1);
    window
}

fn nothing() -> Window {
    in_flight((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
}

/// Phases in ms, and the part of the queue and device phases that is the journal's.
fn phases(ms: &[(Phase, u64)], journal_io_ms: u64) -> Phases {
    let mut ns = ByPhase::default();
    ms.iter().for_each(|(phase, ms)| ns[*phase] = ms * MS);
    Phases { ns, journal_io_ns: journal_io_ms * MS, ..Phases::default() }
}

fn commit(journal_ms: u64) -> SyncRecord {
    SyncRecord { journal_ns: journal_ms * MS, ..record(&[]) }
}

#[track_caller]
fn assert_division(is: Division, ms: [f64; 9]) {
    let [others, own, own_behind, memory, throttle, journal, commits, device, unexplained] = ms;
    assert_near(is.others_ns / M, others);
    assert_near(is.own_ns / M, own);
    assert_near(is.own_behind_ns / M, own_behind);
    assert_near(is.memory_ns / M, memory);
    assert_near(is.throttle_ns / M, throttle);
    assert_near(is.journal_ns / M, journal);
    assert_near(is.commits_ns / M, commits);
    assert_near(is.device_ns / M, device);
    assert_near(is.unexplained_ns / M, unexplained);
}

/// 47 ms of waiting where 10 are usual, with nobody in flight: 37 ms as the phases are. Of
/// the requests' 20 ms five are the commit's; it took 30 ms, of which 16 are in the sync.
#[test]
fn an_excess_with_nobody_in_flight_is_divided_as_the_phases_are() {
    let phases = phases(
        &[
            (Phase::Cpu, 100),
            (Phase::Runqueue, 200),
            (Phase::Queue, 6),
            (Phase::Device, 14),
            (Phase::Throttle, 7),
            (Phase::Journal, 11),
            (Phase::Other, 9),
        ],
        5,
    );
    let known =
        Known { baseline_ns: 10 * MS, more_ns: 2 * MS, filled_by_others: 1.0, stopped: 0.0 };
    let part = 37.0 / 47.0;
    let division = divide(&commit(30), &nothing(), &phases, &known);
    assert_near(division.excess_ns, 37.0 * M);
    let device = 15.0 * part;
    let parts = [0.0, 2.0, 0.0, 0.0, 7.0 * part, 16.0 * part, 0.0, device - 2.0, 9.0 * part];
    assert_division(division, parts);
    // A shorter commit has less: 4 of 35.
    let part = 37.0 / 35.0;
    let device = 15.0 * part;
    let parts = [0.0, 2.0, 0.0, 0.0, 7.0 * part, 4.0 * part, 0.0, device - 2.0, 9.0 * part];
    assert_division(divide(&commit(4), &nothing(), &phases, &known), parts);
    // All of the requests' time is its own doing if it needs 99 ms more.
    let known = Known { more_ns: 99 * MS, ..known };
    let parts = [0.0, device, 0.0, 0.0, 7.0 * part, 4.0 * part, 0.0, 0.0, 9.0 * part];
    assert_division(divide(&commit(4), &nothing(), &phases, &known), parts);
}

#[test]
fn up_to_the_baseline_there_is_nothing_to_divide() {
    let known = Known { baseline_ns: 20 * MS, ..Known::default() };
    let window = in_flight((5.0, 1.0), (0.0, 0.0), (0.0, 0.0));
    let at = divide(&commit(0), &window, &phases(&[(Phase::Device, 20)], 0), &known);
    assert_eq!(at, Division::default());
    let beyond = divide(&commit(0), &window, &phases(&[(Phase::Device, 21)], 0), &known);
    assert_division(beyond, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

/// 52 ms of waiting where 12 are usual, three of them for memory.
fn beside_all() -> Phases {
    phases(
        &[
            (Phase::Reclaim, 3),
            (Phase::Queue, 10),
            (Phase::Device, 20),
            (Phase::Journal, 6),
            (Phase::Throttle, 5),
            (Phase::Other, 8),
        ],
        4,
    )
}

/// Requests of its own beside a commit take 30 − 4 − 2 ms, and the journal's were in flight
/// for 8: half of those are others' blocks, 4 ms. With 18 of others' requests and 6 of its
/// own these explain 28 of 37 ms, and have 4, 1 and half of 10 parts of the work. The other
/// 9 ms are divided by phases: 10 of the commit, 5 of throttling, 30 − 4 − 4 of the
/// requests, and 8 of others.
#[test]
fn work_in_flight_has_the_time_that_it_was_in_flight_for() {
    let known =
        Known { baseline_ns: 12 * MS, more_ns: 2 * MS, filled_by_others: 0.5, stopped: 0.0 };
    let window = in_flight((18.0, 4.0), (6.0, 1.0), (8.0, 10.0));
    let division = divide(&commit(100), &window, &beside_all(), &known);
    assert_near(division.excess_ns, 40.0 * M);
    assert_division(division, [11.2, 2.8 + 2.0, 2.8, 3.0, 1.0, 2.0, 14.0, 2.4, 1.6]);
    // No more than there is: 37 ms.
    let window = in_flight((500.0, 4.0), (6.0, 1.0), (8.0, 10.0));
    let division = divide(&commit(100), &window, &beside_all(), &known);
    assert_division(division, [14.8, 3.7, 3.7, 3.0, 0.0, 0.0, 18.5, 0.0, 0.0]);
    // A sync that needs more than its requests' time is behind no commit: of 24 ms all.
    let known = Known { more_ns: 27 * MS, ..known };
    let window = in_flight((18.0, 4.0), (6.0, 1.0), (8.0, 10.0));
    let division = divide(&commit(100), &window, &beside_all(), &known);
    assert_near(division.commits_ns / M, 12.0);
    // Commits of little work leave the requests' time to the device: 0.1 of 5.1 parts.
    let known = Known { more_ns: 0, ..known };
    let window = in_flight((18.0, 4.0), (6.0, 1.0), (8.0, 0.2));
    let division = divide(&commit(100), &window, &beside_all(), &known);
    let commits = 28.0 * 0.1 / 5.1;
    let io = 26.0 - commits;
    assert_near(division.commits_ns / M, commits);
    assert_near(division.device_ns / M, 9.0 * io / (23.0 + io));
}

#[test]
fn a_wait_without_any_phase_is_unexplained_and_one_for_memory_is_no_more_than_the_excess() {
    let known = Known { baseline_ns: 5 * MS, ..Known::default() };
    // The journal's phase of a sync that was in no commit.
    let waits = phases(&[(Phase::Journal, 12)], 0);
    let parts = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0];
    assert_division(divide(&commit(0), &nothing(), &waits, &known), parts);
    let waits = phases(&[(Phase::Reclaim, 12)], 0);
    let parts = [0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_division(divide(&commit(0), &nothing(), &waits, &known), parts);
}

#[test]
fn divisions_add_up_part_by_part() {
    let one = |n: f64| Division {
        excess_ns: n,
        others_ns: 2.0 * n,
        own_ns: 3.0 * n,
        own_behind_ns: 4.0 * n,
        memory_ns: 5.0 * n,
        throttle_ns: 6.0 * n,
        journal_ns: 7.0 * n,
        commits_ns: 8.0 * n,
        device_ns: 9.0 * n,
        unexplained_ns: 10.0 * n,
        stopped_ns: 11.0 * n,
        handles_ns: 12.0 * n,
    };
    let mut sum = Division::default();
    sum.add(&one(1.0));
    sum.add(&one(100.0));
    assert_eq!(sum, one(101.0));
}
