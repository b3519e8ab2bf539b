//! Syncs that use a CPU for longer than is usual, and wait for nobody.

use super::{demands::assert_near, *};
use crate::busy::Busy;

/// A sync that runs for `cpu_ms` and waits for its own request of half a millisecond.
fn runs(cpu_ms: u64) -> SyncRecord {
    SyncRecord {
        cpu_ns: cpu_ms * MS,
        own_device_ns: MS / 2,
        own_span_ns: MS / 2,
        own_requests: 1,
        own_bytes: 4096,
        ..sync(cpu_ms * MS + MS / 2, &[])
    }
}

fn after(syncs: &[SyncRecord]) -> Judgement {
    judged(&victim_after(&[quiet(), syncs.to_vec()].concat()))
}

/// 60 syncs of 40 ms, which have 1 ms each that is no excess.
#[test]
fn syncs_that_burn_a_cpu_are_slow_by_the_filesystems_own_work() {
    let judged = after(&[runs(40); 60]);
    assert_eq!(judged.kind, Kind::Filesystem, "{judged:?}");
    assert_near(judged.excess_ns, 60.0 * (39e6 - 4096.0));
    assert_near(judged.shares.filesystem, 1.0);
    // No good second was seen here.
    assert_eq!((judged.confidence, judged.culprits.len()), (Confidence::Medium, 0), "{judged:?}");
}

/// 60 syncs of 40 ms have 2.34 s beyond what is usual. A hypervisor that took 4 s of two CPUs may
/// have taken all of them; one that took 0.5 s, no more than that.
#[test]
fn a_cpu_that_the_hypervisor_took_is_not_the_filesystems_work() {
    let judged = |steal_ns| {
        let syncs = [quiet(), vec![runs(40); 60]].concat();
        after_tick(&syncs, Tick { steal_ns, ..Tick::default() })
    };
    let all = judged(4_000 * MS);
    assert_eq!((all.kind, all.shares.filesystem), (Kind::Cpu, 0.0), "{all:?}");
    assert_near(all.shares.cpu, 1.0);
    let some = judged(500 * MS);
    assert_near(some.shares.cpu * some.excess_ns, 0.5e9);
    assert_near(some.shares.filesystem * some.excess_ns, 60.0 * (39e6 - 4096.0) - 0.5e9);
}

/// Waiting for a CPU is another cause.
#[test]
fn who_cannot_run_is_not_busy() {
    let waits = SyncRecord { cpu_ns: 0, runqueue_ns: 40 * MS, ..runs(40) };
    let judged = after(&[waits; 60]);
    assert_eq!((judged.kind, judged.shares.filesystem), (Kind::Cpu, 0.0), "{judged:?}");
}

/// On a fast disk the time on a CPU is most of a sync.
#[test]
fn a_millisecond_on_a_cpu_is_nothing() {
    let quick = |cpu_ns| SyncRecord { cpu_ns, ..sync(cpu_ns + MS / 10, &[]) };
    let syncs = [vec![quick(MS / 20); 100], vec![quick(MS); 100]].concat();
    assert_eq!(kind(&victim_after(&syncs)), Kind::None);
}

/// A MiB that it writes itself takes a millisecond and 49 µs.
#[test]
fn a_sync_that_writes_much_may_run_for_long() {
    let mut busy = Busy::default();
    (0..20).for_each(|_| busy.learn(MS));
    assert_near(busy.beyond_ns(10 * MS, 0), 8e6);
    assert_near(busy.beyond_ns(10 * MS, 1 << 20), 8e6 - 1_048_576.0);
    assert_near(busy.beyond_ns(10 * MS, 100 << 20), 0.0);
}

#[test]
fn what_is_usual_is_known_after_twenty_syncs_and_changes_slowly() {
    let mut busy = Busy::default();
    (0..19).for_each(|_| busy.learn(MS));
    assert_near(busy.beyond_ns(100 * MS, 0), 0.0);
    busy.learn(MS);
    assert_near(busy.beyond_ns(100 * MS, 0), 98e6);
    // 31 outliers are no samples, and one more is: (20 * 1 ms + 22 ms) / 21 = 2 ms.
    (0..31).for_each(|_| busy.learn(22 * MS));
    assert_near(busy.beyond_ns(100 * MS, 0), 98e6);
    busy.learn(22 * MS);
    assert_near(busy.beyond_ns(100 * MS, 0), 96e6);
}

/// Nobody has seen it quicker, so nothing is sure.
#[test]
fn one_that_always_ran_for_long_is_held_against_ten_milliseconds() {
    let judged = judged(&victim_after(&[runs(60); 100]));
    assert_eq!(judged.kind, Kind::Filesystem, "{judged:?}");
    // 80 syncs after those that it learnt from.
    assert_near(judged.excess_ns, 80.0 * (50e6 - 4096.0));
}
