//! A saturated disk is short of requests, of bytes or of time. Each disk here completes in every
//! second as much of one of them, and of the other two what the mix makes of that.

use tracer_ebpf::record::op;

use crate::{
    blame::OwnerId,
    currency::Shortage,
    tick::{Alone, DiskWork, Load},
};

const KIB: u64 = 1 << 10;

/// A second with 16 requests in flight: the numbers of small and large requests that completed,
/// the work of one of each in µs, and the bytes of all of them in KiB.
fn second(completed: [u64; 2], costs_us: [u32; 2], kib: u64) -> DiskWork {
    let each = [0, 1].map(|at| Load {
        owner: OwnerId(at as u32 + 1),
        completed: completed[at],
        bytes: if at == 0 { kib * KIB } else { 0 },
        in_flight_ns: 8_000_000_000,
        cost_ns: costs_us[at] * 1_000,
        ..Load::default()
    });
    DiskWork { length_ns: 1_000_000_000, loads: each.into(), ..DiskWork::default() }
}

/// The weights of a read of 4 KiB and of one of 1 MiB, each of which takes 77 ns alone, after
/// these seconds over and over.
fn weights(seconds: &[DiskWork], number: usize) -> [u32; 2] {
    let mut shortage = Shortage::default();
    seconds.iter().cycle().take(number).for_each(|second| shortage.observe(second));
    [4, 1024].map(|kib| shortage.weigh(op::READ, kib * KIB, 77))
}

/// 1000 requests a second, whatever they are: each takes a millisecond from the others.
fn thousand_requests() -> [DiskWork; 2] {
    [
        second([800, 200], [100, 1_000], 800 * 4 + 200 * 64),
        second([200, 800], [100, 1_000], 200 * 4 + 800 * 64),
    ]
}

#[test]
fn where_requests_are_short_each_has_the_same_weight() {
    assert_eq!(weights(&thousand_requests(), 20), [1_000_000; 2]);
}

/// 8000 KiB a second, of 1625 or 500 requests: 4 KiB take half a millisecond.
#[test]
fn where_bytes_are_short_a_request_weighs_by_its_size() {
    let seconds = [
        second([1_600, 25], [100, 1_000], 1_600 * 4 + 25 * 64),
        second([400, 100], [100, 1_000], 400 * 4 + 100 * 64),
    ];
    assert_eq!(weights(&seconds, 20), [500_000, 128_000_000]);
}

/// Half a second of work in every second, of 500 or 350 requests.
#[test]
fn where_time_is_short_a_request_weighs_what_it_takes_alone() {
    let seconds = [
        second([250, 250], [1_000, 1_000], 250 * 68),
        second([125, 125], [2_000, 2_000], 125 * 68),
    ];
    // Costs that change are no moves, so the numbers must.
    let moved = [
        second([250, 62], [1_000, 4_000], 250 * 4 + 62 * 64),
        second([50, 112], [1_000, 4_000], 50 * 4 + 112 * 64),
    ];
    assert_eq!(weights(&moved, 20), [77; 2]);
    // 500 and 250 requests, of which nothing is learnt: small ones weigh an equal part of the second.
    assert_eq!(weights(&seconds, 20), [4_000_000, 77]);
}

/// A flush or a request that was alone shows that the disk was idle for a moment, so what it
/// completed is what it was asked for.
#[test]
fn a_disk_that_was_idle_for_a_moment_is_short_of_nothing() {
    let one = Alone { requests: 1, ..Alone::default() };
    let changes: [fn(&mut DiskWork, Alone); 2] =
        [|disk, one| disk.alone = one, |disk, one| disk.flushes = one];
    for change in changes {
        let mut seconds = thousand_requests();
        seconds.iter_mut().for_each(|second| change(second, one));
        // 280 or 820 ms of work: it may be a limit in the first kind of second alone.
        assert_eq!(weights(&seconds, 19), [1_000_000, 77]);
        assert_eq!(weights(&seconds, 20), [77; 2]);
    }
}

/// Bytes move by 16 times each second. Work moves by a quarter up twice and down twice, and
/// requests by 1.56 times up and down in every other of these seconds: the distance between the
/// two moves as much as work does, and neither follows the other. So after twelve moves work is
/// as level as requests within an error of `1 / √12`, two of which are more than half.
#[test]
fn rates_that_move_by_chance_are_no_limit() {
    let costs_us = [100, 1_000];
    let seconds = [
        second([533, 107], costs_us, 1_000),
        second([489, 151], costs_us, 16_000),
        second([833, 167], costs_us, 1_000),
        second([889, 111], costs_us, 16_000),
    ];
    // The last second is the first of a cycle, with 640 requests.
    assert_eq!(weights(&seconds, 13), [1_562_500, 77]);
}
