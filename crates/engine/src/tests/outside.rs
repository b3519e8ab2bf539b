//! Syncs that end quickly, in a cgroup that has used up its CPU time: the process waits before
//! and after its syncs.

use super::{demands::assert_near, seconds::SECOND, *};
use crate::outside::estimate_ns;

/// Held back for nine tenths of the second in ten parts: 20 syncs wait for half of 90 ms each,
/// nine of ten of them. A single long part counts whole, and no wait is longer than all parts.
#[test]
fn a_sync_waits_for_half_of_a_part_of_the_time() {
    assert_near(estimate_ns(20, 9 * SECOND / 10, 10), 20.0 * 0.9 * 45e6);
    assert_near(estimate_ns(1, SECOND / 2, 1), 125e6);
    assert_near(estimate_ns(1000, 9 * SECOND / 10, 10), 9e8);
    assert_eq!((estimate_ns(0, SECOND, 1), estimate_ns(20, 0, 0)), (0.0, 0.0));
}

/// A second in which 20 quick syncs end, and the cgroup is held back `times` times, for `ms`.
fn held_back(ms: u64, times: u64) -> Judgement {
    let mut syncs = quiet();
    syncs.extend([sync(MS, &[]); 20]);
    let limit = tick::Limit {
        cgroup: 10,
        kind: LimitKind::Cpu,
        ns: ms * MS,
        times,
        setting: "cpu.max 20000 100000".to_owned(),
        in_kernel: false,
    };
    after_tick(&syncs, Tick { limits: vec![limit], ..Tick::default() })
}

/// 0.9 of two seconds are a limit that counts; its 810 ms are nearly all of the excess.
#[test]
fn quick_syncs_of_a_victim_without_cpu_time_are_slow_by_its_limit() {
    let judged = held_back(900, 10);
    assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::High), "{judged:?}");
    assert_near(judged.outside_ns, 810e6);
    assert_near(judged.excess_ns, 810e6);
    assert_near(judged.shares.limit, 1.0);
}

/// Less than three tenths of the two seconds.
#[test]
fn a_quota_that_is_hardly_reached_makes_nothing_slow() {
    let judged = held_back(500, 10);
    assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
}
