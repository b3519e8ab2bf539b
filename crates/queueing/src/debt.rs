//! A flush that drains what others wrote, one that is slow by itself, and a disk that stops
//! for a while look alike at first beside a neighbour that writes back in bursts.

use tracer_disk_model::Cache;
use tracer_timelines::timeline::Does;

use super::*;

/// A cache that is written out at 20 MB/s.
fn cached() -> Model {
    let cache = Some(Cache { bytes: 32 << 20, drained_per_second: 20_000_000 });
    Model { write: ms(1) / 10, flush: ms(1), iops: None, cache, ..well() }
}

/// Four servers without a cache.
fn plain() -> Model {
    Model { read: ms(1), write: ms(1) / 2, flush: ms(2), iops: None, ..well() }
}

/// Once a second the kernel writes back this many pieces of 64 KiB.
const fn bursts(pieces: u64) -> Stream {
    Stream { does: Does::BufferedWrite, bytes: 64 << 10, deep: 32, per_second: Some(pieces) }
}

#[test]
fn who_leaves_more_in_the_cache_is_named_for_what_a_flush_drains() {
    for (before, after) in [(64, 160), (96, 192), (96, 256)] {
        let [before, after] = [before, after].map(|pieces| phase(60, cached(), &[bursts(pieces)]));
        check("a cache", &[(before, Truth::Nobody), (after, Truth::Owners(&[1.0], false))]);
    }
}

#[test]
fn a_flush_that_is_slow_by_itself_is_no_debt() {
    let slow = Model { flush: ms(30), ..cached() };
    let before = phase(60, cached(), &[bursts(96)]);
    for (pieces, truth) in
        [(96, Truth::NearlyDevice), (48, Truth::NearlyDevice), (128, Truth::NotSure)]
    {
        let after = phase(60, slow, &[bursts(pieces)]);
        check("slow flushes", &[(before, Truth::Nobody), (after, truth)]);
    }
}

/// In the burst no flush is alone, and before it nobody asks for anything.
#[test]
fn nobody_is_the_cause_of_flushes_that_are_all_slow_because_it_bursts_a_little_more() {
    let slow = Model { flush: ms(60), ..plain() };
    for seed in SEEDS {
        let mut world = World::new(seed);
        world.play(phase(60, plain(), &[bursts(100)]));
        for said in world.play(phase(60, slow, &[bursts(200)])) {
            assert_ne!(said.kind, Kind::Owners, "{said:?}");
        }
    }
}

#[test]
fn a_stall_is_longer_than_the_bursts_of_who_asks_for_more() {
    let stalling = Model { stalls: stalls(1_300, 300), ..plain() };
    for (before, after) in [(100, 200), (800, 1_600)] {
        for seed in SEEDS {
            let mut world = World::new(seed);
            world.play(phase(60, plain(), &[bursts(before)]));
            for said in world.play(phase(60, stalling, &[bursts(after)])) {
                assert!(is_right(&said, Truth::NotSure), "{said:?}");
                assert!(said.shares.device >= 0.4, "{said:?}");
            }
        }
    }
}

/// Bursts of 0.2 s become bursts of 0.4 s, and the disk stops for 0.19 s within many of them.
/// Requests that were alone come between the bursts, and took their usual time.
#[test]
fn a_stall_within_the_bursts_of_who_asks_for_more_is_not_surely_its_fault() {
    let limited = Model { channels: 16, iops: Some(1_100), ..plain() };
    let stalling = Model { stalls: stalls(1_260, 190), ..limited };
    let before = phase(60, limited, &[bursts(224)]);
    for (disk, truth) in [(stalling, Truth::NotSure), (limited, Truth::Owners(&[1.0], true))] {
        let after = phase(60, disk, &[bursts(448)]);
        check("longer bursts", &[(before, Truth::Nobody), (after, truth)]);
    }
}
