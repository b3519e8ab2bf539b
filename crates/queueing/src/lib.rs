//! The engine on disks whose truth is known.
//!
//! A queueing model stands for the disk. The truth follows from what was changed
//! in it, and from nothing that the engine says.
//!
//! This is a crate of tests, apart from the engine's own: its tests play thousands of hours
//! and are optimised, and to optimise all of the engine's tests with them takes a CPU minutes.

#![cfg(test)]
#![forbid(unsafe_code)]

mod currency;
mod debt;
mod innocents;
mod matrix;
mod tables;
mod world;

use std::time::Duration;

use tracer_disk_model::{Head, Model};
use tracer_timelines::timeline::{
    Does, MS, Phase, Stream, TRIMS, Timeline, phase, reads, stalls, well, writes,
};

use tracer_engine::{
    blame::{Owner, OwnerId},
    kind::{Confidence, Kind, SlowerThan},
    verdict::Judgement,
};

use world::{World, comm};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The truth about a phase.
#[derive(Clone, Copy, Debug)]
enum Truth<'a> {
    Nobody,
    Device,
    /// A neighbour that asks for somewhat more has a small part in it.
    NearlyDevice,
    Throttle,
    /// Whoever it is, nobody can be sure of a culprit.
    NotSure,
    /// The parts of the device and of the load, each to 15 points.
    Both([f64; 2]),
    /// Their shares of what neighbours did, by account from 2 on; whether it must
    /// be said for sure.
    Owners(&'a [f64], bool),
}

const SEEDS: [u64; 3] = [1, 20_261_128, 0xdead_beef];

/// Plays the phases, and holds each half minute against the truth of its phase.
#[track_caller]
fn check(name: &str, phases: &[(Phase, Truth<'_>)]) {
    let mut wrong = Vec::new();
    for seed in SEEDS {
        let mut world = World::new(seed);
        for (number, (phase, truth)) in phases.iter().enumerate() {
            for (period, said) in world.play(*phase).into_iter().enumerate() {
                let line = format!(
                    "{name}, seed {seed}, phase {number}, period {period}: {:?} {:?}; {:.2?}; {}",
                    said.kind,
                    said.confidence,
                    said.shares,
                    shares(&said),
                );
                println!("{line}");
                if !is_right(&said, *truth) {
                    wrong.push(format!("not {truth:?}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn shares(said: &Judgement) -> String {
    let each =
        said.culprits.iter().map(|c| format!("{} {:.2} {:?}", c.owner.0, c.share, c.confidence));
    each.collect::<Vec<_>>().join(", ")
}

fn is_right(said: &Judgement, truth: Truth<'_>) -> bool {
    let named = |account: u32| {
        let of = said.culprits.iter().filter(|c| c.owner == OwnerId(account));
        of.map(|c| c.share).sum::<f64>()
    };
    match truth {
        Truth::Nobody => said.kind == Kind::None && said.culprits.is_empty(),
        Truth::Throttle => said.kind == Kind::Limit && said.culprits.is_empty(),
        Truth::Device => {
            said.kind == Kind::Device
                && said.culprits.is_empty()
                && said.shares.unexplained < 0.1
                && said.shares.own < 0.05
        }
        Truth::NotSure => said.culprits.iter().all(|c| c.confidence < Confidence::High),
        Truth::Both([device, load]) => {
            (said.shares.device - device).abs() <= 0.15 && (said.shares.owners - load).abs() <= 0.15
        }
        Truth::NearlyDevice => said.kind == Kind::Device && said.shares.device >= 0.85,
        Truth::Owners(parts, is_sure) => {
            let all: f64 = (2..4).map(named).sum();
            said.kind == Kind::Owners
                && all >= 0.8
                && (2..)
                    .zip(parts)
                    .all(|(account, part)| (named(account) / all - part).abs() <= 0.15)
                && (!is_sure || said.confidence == Confidence::High)
        }
    }
}

/// The mean sync of a minute, in ns.
fn mean_sync_ns(disk: Model, neighbours: &[Stream]) -> f64 {
    let mut timeline = Timeline::new(SEEDS[0]);
    let syncs_ns = timeline.play(phase(60, disk, neighbours));
    syncs_ns.iter().sum::<u64>() as f64 / syncs_ns.len() as f64
}

/// The parts of the device and of the load in what a sync takes longer: the mean of
/// what each adds if it comes first and if it comes last, each of the four replayed
/// by its generators.
fn parts(before: &[Stream], [well, changed]: [Model; 2], after: &[Stream]) -> [f64; 2] {
    let [neither, device] = [well, changed].map(|disk| mean_sync_ns(disk, before));
    let [load, both] = [well, changed].map(|disk| mean_sync_ns(disk, after));
    let of_device = (device - neither + both - load) / 2.0;
    let all = both - neither;
    [of_device / all, 1.0 - of_device / all]
}

const READER: Stream = reads(1, Some(60));

/// A well minute beside neighbours, in which nobody is to blame, and a minute of
/// something else.
fn after_a_well_minute(
    name: &str,
    before: &[Stream],
    disk: Model,
    after: &[Stream],
    truth: Truth<'_>,
) {
    check(name, &[(phase(60, well(), before), Truth::Nobody), (phase(60, disk, after), truth)]);
}

#[test]
fn a_slower_device_is_not_a_steady_readers_fault() {
    let slow = Model { read: ms(8), write: ms(8), flush: ms(10), ..well() };
    after_a_well_minute("slower", &[READER], slow, &[READER], Truth::Device);
}

#[test]
fn a_device_that_stalls_is_nobodys_fault_and_not_the_victims_own() {
    let stalls = Model { stalls: stalls(1_500, 250), ..well() };
    after_a_well_minute("stalls", &[READER], stalls, &[READER], Truth::Device);
}

#[test]
fn fewer_requests_a_second_are_the_devices_fault() {
    let capped = Model { iops: Some(130), ..well() };
    after_a_well_minute("a cap of 130", &[READER], capped, &[READER], Truth::Device);
}

#[test]
fn slow_flushes_are_not_a_steady_writers_fault() {
    let slow = Model { flush: ms(25), ..well() };
    let writer = writes(2, Some(300));
    after_a_well_minute("slow flushes", &[writer], slow, &[writer], Truth::Device);
}

#[test]
fn nobody_is_blamed_for_a_healthy_minute_from_the_first_half_on() {
    check("nothing", &[(phase(120, well(), &[READER]), Truth::Nobody)]);
    check("nothing, a writer", &[(phase(120, well(), &[writes(2, Some(300))]), Truth::Nobody)]);
}

#[test]
fn equal_tenants_of_a_disk_limited_by_requests_are_named_half_and_half() {
    let both = [reads(16, None), writes(16, None)];
    check("16 deep each", &[(phase(60, well(), &both), Truth::Owners(&[0.5, 0.5], false))]);
    let half = Truth::Owners(&[0.5, 0.5], false);
    after_a_well_minute("16 deep each come", &[], well(), &both, half);
}

#[test]
fn its_own_limit_is_no_tenants_fault() {
    let held = Phase { held_ns: 60 * MS, ..phase(60, well(), &[READER]) };
    check(
        "its own limit",
        &[(phase(60, well(), &[READER]), Truth::Nobody), (held, Truth::Throttle)],
    );
}

#[test]
fn who_grows_to_saturation_or_starts_is_named_for_sure() {
    let truth = Truth::Owners(&[1.0], true);
    let tenth = reads(1, Some(300));
    after_a_well_minute("a reader grows", &[tenth], well(), &[reads(32, None)], truth);
    after_a_well_minute("a reader comes", &[], well(), &[reads(32, None)], truth);
    after_a_well_minute("a writer comes", &[], well(), &[writes(32, None)], truth);
}

#[test]
fn an_fstrim_is_named_for_sure() {
    after_a_well_minute("fstrim", &[], well(), &[TRIMS], Truth::Owners(&[1.0], true));
}

#[test]
fn two_culprits_differ_by_what_they_ask_for() {
    let both = [reads(24, None), reads(8, None)];
    after_a_well_minute("3 to 1", &[], well(), &both, Truth::Owners(&[0.75, 0.25], true));
}

#[test]
fn beside_a_newcomer_an_owner_that_was_there_before_is_not_blamed() {
    let before = [writes(1, Some(60)), reads(1, Some(60))];
    let after = [writes(1, Some(60)), reads(32, None)];
    after_a_well_minute("a newcomer", &before, well(), &after, Truth::Owners(&[0.0, 1.0], true));
}

#[test]
fn a_slower_device_is_not_the_fault_of_who_asks_for_less_or_a_little_more() {
    let slow = well().slower(20);
    for (now, truth) in [(50, Truth::Device), (200, Truth::NearlyDevice)] {
        let (before, now) = (reads(1, Some(100)), reads(1, Some(now)));
        after_a_well_minute("20 times slower", &[before], slow, &[now], truth);
    }
}

#[test]
fn a_slower_device_and_a_busier_neighbour_have_both_their_part() {
    let before = [reads(1, Some(100))];
    for (disk, after) in
        [(well().slower(3), reads(32, None)), (well().slower(3), writes(8, Some(1000)))]
    {
        let truth = parts(&before, [well(), disk], &[after]);
        println!("{after:?}: {truth:.2?}");
        after_a_well_minute("both", &before, disk, &[after], Truth::Both(truth));
    }
}

/// A limit just above what was asked for, and a neighbour that asks for twice as much: either change
/// alone makes syncs somewhat longer, and both fill a queue.
#[test]
fn a_limit_that_only_growth_reaches_has_its_part_and_the_growth_has_its_own() {
    let limited = Model { iops: Some(230), ..well() };
    for stream in [reads as fn(usize, Option<u64>) -> Stream, writes] {
        let (before, after) = ([stream(4, Some(40))], [stream(4, Some(100))]);
        let truth = parts(&before, [well(), limited], &after);
        println!("{after:?}: {truth:.2?}");
        let truth = Truth::Both(truth);
        let phases =
            [(phase(90, well(), &before), Truth::Nobody), (phase(60, limited, &after), truth)];
        check("a limit and growth", &phases);
    }
}

/// A neighbour writes for 200 ms of each second, and then for 400, while the disk stops for a
/// quarter of each one and a half.
#[test]
fn stalls_within_and_between_a_neighbours_longer_bursts_have_their_part() {
    let well = Model { iops: Some(1_000), channels: 16, ..well() };
    let stalling = Model { stalls: stalls(1_500, 250), ..well };
    let bursts =
        |rate| Stream { does: Does::BufferedWrite, bytes: 64 << 10, ..writes(32, Some(rate)) };
    let (before, after) = ([bursts(200)], [bursts(400)]);
    let truth = Truth::Both(parts(&before, [well, stalling], &after));
    let phases = [(phase(90, well, &before), Truth::Nobody), (phase(60, stalling, &after), truth)];
    check("stalls and bursts", &phases);
    // And no stall is seen in the bursts alone.
    let alone = (phase(60, well, &after), Truth::Owners(&[1.0], false));
    check("bursts", &[(phase(90, well, &before), Truth::Nobody), alone]);
}

/// A head that a neighbour keeps half busy falls a little below what both ask for: the
/// neighbour's requests pile up and more of them are in flight, though it asks for no more.
#[test]
fn who_piles_up_on_a_disk_that_falls_below_the_demand_is_no_culprit() {
    let head = Some(Head { seek: ms(7) });
    let short = Duration::from_micros(200);
    let well = Model { channels: 1, read: short, write: short, flush: ms(2), head, ..well() };
    let well = Model { iops: None, ..well };
    let syncing = |per_second| Stream { does: Does::SyncingWrite, ..writes(4, Some(per_second)) };
    for (rate, iops) in [(40, 140), (45, 160), (50, 150)] {
        for seed in SEEDS {
            let mut world = World::new(seed);
            world.play(phase(90, well, &[syncing(rate)]));
            let limited = Model { iops: Some(iops), ..well };
            for said in world.play(phase(60, limited, &[syncing(rate)])) {
                assert!(is_right(&said, Truth::Device), "{rate} {iops} {seed}: {said:?}");
            }
        }
    }
}

#[test]
fn who_bursts_or_comes_with_the_night_is_named() {
    let truth = Truth::Owners(&[1.0], false);
    let before = [reads(1, Some(60))];
    after_a_well_minute("8 deep", &before, well(), &[reads(8, None)], truth);
    after_a_well_minute("64 writes deep", &before, well(), &[writes(64, None)], truth);
}

#[test]
fn in_an_incident_from_the_first_second_on_nobody_can_be_sure() {
    let slow = Model { read: ms(8), write: ms(8), flush: ms(10), ..well() };
    check("from the first second", &[(phase(120, slow, &[READER]), Truth::NotSure)]);
}

#[test]
fn a_disk_that_always_needs_more_than_ten_milliseconds_is_held_against_those() {
    let slow = Model { read: ms(8), write: ms(8), flush: ms(10), ..well() };
    for seed in SEEDS {
        let always = World::new(seed).play(phase(120, slow, &[]));
        let last = always.last().unwrap();
        assert_eq!((last.kind, last.slower_than), (Kind::Device, Some(SlowerThan::Guidance)));
        assert!(last.confidence <= Confidence::Medium, "{last:?}");
        let mut world = World::new(seed);
        let before = world.play(phase(60, well(), &[]));
        assert_eq!(before.last().unwrap().slower_than, None);
        let after = world.play(phase(60, slow, &[]));
        assert_eq!(after.last().unwrap().slower_than, Some(SlowerThan::Before));
    }
}

#[test]
fn a_kernel_thread_is_never_named_for_sure() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        world.owners[2].kthread = true;
        world.play(phase(60, well(), &[]));
        for said in world.play(phase(60, well(), &[reads(32, None)])) {
            assert_eq!((said.kind, said.confidence), (Kind::Owners, Confidence::Medium));
        }
    }
}

/// It may write what others changed, which only the journal's blocks say.
#[test]
fn a_device_is_not_slow_because_the_journal_writes_more() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        world.owners[2] = Owner { comm: comm("jbd2/loop0-8"), kthread: true, ..world.owners[2] };
        world.play(phase(60, well(), &[writes(1, Some(60))]));
        for said in world.play(phase(60, well(), &[writes(8, None)])) {
            assert!(!said.circumstances.is_slow(0.01), "{said:?}");
        }
    }
}

/// A world after a restart: it has a reference of the disk, learnt in a well minute,
/// and nothing else.
fn restarted(seed: u64) -> World {
    let mut before = World::new(seed);
    before.play(phase(90, well(), &[READER]));
    let mut after = World::new(seed + 1);
    after.keep_references_of(&before);
    after
}

#[test]
fn a_device_that_is_slow_from_the_first_second_on_is_named_beside_a_kept_reference() {
    for (name, disk, neighbours) in [
        ("alone", well().slower(5), &[][..]),
        ("a reader", well().slower(5), &[READER]),
        ("a writer", well().slower(5), &[writes(2, Some(100))]),
        ("slow flushes", Model { flush: ms(8), ..well() }, &[READER]),
    ] {
        for seed in SEEDS {
            let [mut known, mut unknown] = [restarted(seed), World::new(seed + 1)];
            for said in known.play(phase(60, disk, neighbours)) {
                assert!(is_right(&said, Truth::Device), "{name}: {said:?}");
                assert_eq!(said.confidence, Confidence::High, "{name}");
                assert!(said.is_beside_reference, "{name}");
            }
            // These syncs take less than any log's may, so nothing else shows it.
            for said in unknown.play(phase(60, disk, neighbours)) {
                assert!(said.kind != Kind::Device, "{name}: {said:?}");
            }
        }
    }
}

#[test]
fn a_kept_reference_blames_no_healthy_device() {
    for (name, neighbours, truth) in [
        ("alone", &[][..], Truth::Nobody),
        ("a reader", &[READER], Truth::Nobody),
        ("a writer", &[writes(2, Some(300))], Truth::Nobody),
        ("reads without end", &[reads(32, None)], Truth::Owners(&[1.0], false)),
        ("writes without end", &[writes(32, None)], Truth::Owners(&[1.0], false)),
    ] {
        for seed in SEEDS {
            for said in restarted(seed).play(phase(60, well(), neighbours)) {
                assert!(is_right(&said, truth), "{name}: {said:?}");
                assert!(!said.is_beside_reference, "{name}: {said:?}");
            }
        }
    }
}

#[test]
fn a_device_that_recovers_is_held_against_itself_again() {
    for seed in SEEDS {
        let mut world = restarted(seed);
        world.play(phase(60, well().slower(5), &[READER]));
        let halves = world.play(phase(90, well(), &[READER]));
        let last = halves.last().unwrap();
        assert_eq!((last.kind, last.is_beside_reference), (Kind::None, false), "{last:?}");
        let said = world.play(phase(30, well().slower(5), &[READER]));
        assert!(said.iter().all(|said| is_right(said, Truth::Device)), "{said:?}");
    }
}
