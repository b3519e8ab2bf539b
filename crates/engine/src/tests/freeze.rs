//! A filesystem that somebody freezes: the victim cannot write, and its syncs stay quick.

use super::{
    demands::assert_near,
    seconds::{SECOND, actor},
    *,
};
use crate::tick::Freeze;

/// The victim's filesystem, and its process.
const DEVICE: u32 = 7 << 20;
const TGID: u32 = 812;

/// A freeze by the owner 4, from one ms of the test to another; 0 while it lasts. `waiting` is
/// whether a thread of the victim waits at the tick.
fn freeze(since_ms: u64, until_ms: u64, waiting: bool) -> Freeze {
    Freeze {
        device: DEVICE,
        owner: OwnerId(4),
        since_ns: since_ms * MS,
        until_ns: until_ms * MS,
        waiting: if waiting { vec![TGID] } else { Vec::new() },
    }
}

/// A victim that ends ten quick syncs in each of 64 seconds, and then none; a freeze, if any, in
/// each of the ticks from second 65 on.
fn after(freezes: impl IntoIterator<Item = Option<Freeze>>) -> Engine {
    let (owners, mut engine) = (owners(), Engine::new());
    let tick_at = |engine: &mut Engine, second: u64, freeze: Option<Freeze>| {
        let freezes = freeze.into_iter().collect();
        let tick = Tick { at_ns: second * SECOND, cpus: 2, freezes, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    };
    for second in 0..64 {
        for at in 0..10 {
            let begin_ns = second * SECOND + at * 10 * MS;
            let record = SyncRecord { begin_ns, device: DEVICE, tgid: TGID, ..sync(MS, &[]) };
            engine.ingest(&record, &[], 0, 0, |_| &owners);
        }
        tick_at(&mut engine, second + 1, None);
    }
    for (second, freeze) in (65..).zip(freezes) {
        tick_at(&mut engine, second, freeze);
    }
    engine
}

fn judgement(engine: &Engine) -> Judgement {
    judged(&engine.victims()[0])
}

/// It is frozen from 64.2 s to 66.3 s, and waits at the ticks 65 and 66.
#[test]
fn who_froze_the_filesystem_of_a_victim_that_waits_is_the_culprit() {
    let freezes = [freeze(64_200, 0, true), freeze(64_200, 0, true), freeze(64_200, 66_300, false)];
    let engine = after(freezes.map(Some));
    let judged = judgement(&engine);
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert_near(judged.outside_ns, 2.1e9);
    assert_near(judged.excess_ns, 2.1e9);
    assert_near(judged.shares.owners, 1.0);
    // The period has 67 ticks.
    assert_near(judged.frozen, 2.1 / 67.0);
    let [culprit] = judged.culprits.as_slice() else { panic!("{judged:?}") };
    assert_eq!((culprit.actor, culprit.owner), (actor(30, "fio"), OwnerId(4)));
    assert_eq!((culprit.charge, culprit.via), (10, Via::Freeze));
    assert_eq!((culprit.confidence, judged.confidence), (Confidence::High, Confidence::High));
    assert!(!engine.victims()[0].is_frozen());
}

/// Its clients have stopped, and a backup freezes the filesystem for ten seconds.
#[test]
fn a_victim_with_nothing_to_write_is_not_kept_from_it() {
    let engine = after((0..10).map(|_| Some(freeze(64_200, 0, false))));
    let judged = judgement(&engine);
    assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
    assert!(judged.culprits.is_empty() && !engine.victims()[0].is_frozen());
}

/// It has something to write only from the fourth second of the freeze on, and at the tick
/// before it did not wait yet.
#[test]
fn it_waits_only_from_when_it_wants_to_write() {
    let waits = [false, false, false, true, true];
    let engine = after(waits.map(|waits| Some(freeze(64_200, 0, waits))));
    assert_near(judgement(&engine).outside_ns, 2e9);
    assert!(engine.victims()[0].is_frozen());
}

#[test]
fn others_processes_and_other_filesystems_do_not_matter() {
    let other = Freeze { waiting: vec![TGID + 1], ..freeze(64_000, 0, true) };
    let elsewhere = Freeze { device: DEVICE + 1, ..freeze(64_000, 0, true) };
    for freeze in [other, elsewhere] {
        let judged = judgement(&after((0..5).map(|_| Some(freeze.clone()))));
        assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
    }
}

/// The filesystem was thawed unseen, because nobody wrote, and another freeze begins.
#[test]
fn the_next_freeze_does_not_go_on_with_the_one_before() {
    let freezes = [
        Some(freeze(64_000, 0, true)),
        None,
        Some(freeze(66_900, 66_950, false)),
        Some(freeze(67_500, 0, true)),
    ];
    assert_near(judgement(&after(freezes)).outside_ns, 1e9 + 0.5e9);
}

/// Victims that did not sync for a minute are not looked at otherwise.
#[test]
fn a_freeze_of_minutes_counts_while_it_lasts() {
    let engine = after((0..150).map(|_| Some(freeze(64_000, 0, true))));
    assert_near(judgement(&engine).outside_ns, 150e9);
    assert!(engine.victims()[0].is_frozen());
}

/// The freeze began 90 s before the period, in which there are ten ticks.
#[test]
fn a_new_period_has_its_own_part_of_a_freeze() {
    let mut engine = after((0..90).map(|_| Some(freeze(64_000, 0, true))));
    engine.begin_period();
    let owners = owners();
    for second in 155..165 {
        let freezes = vec![freeze(64_000, 0, true)];
        let tick = Tick { at_ns: second * SECOND, cpus: 2, freezes, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    let judged = judgement(&engine);
    assert_near(judged.outside_ns, 10e9);
    assert_near(judged.frozen, 1.0);
    assert!(engine.victims()[0].is_frozen());
}

/// Half a second in 65 is neither a second nor a tenth of the time.
#[test]
fn a_short_freeze_makes_nothing_slow() {
    let judged = judgement(&after([Some(freeze(64_500, 0, true)), None]));
    assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
}

/// Nobody was seen to freeze it, and a neighbour's requests are in flight beside its last syncs.
#[test]
fn a_freeze_by_whom_is_not_known_is_nobody_elses() {
    let unknown = |until_ms| Freeze { owner: OwnerId::NOBODY, ..freeze(64_000, until_ms, true) };
    let engine = after((0..10).map(|_| Some(unknown(0))));
    let judged = judgement(&engine);
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert!(judged.is_frozen_by_unknown && judged.culprits.is_empty(), "{judged:?}");
    assert_eq!(judged.confidence, Confidence::Low);
    assert_near(judged.outside_ns, 10e9);
    let frozen = engine.victims()[0].frozen().unwrap();
    assert!(frozen.is_unknown());
    assert_near(frozen.ns, 10e9);
}

#[test]
fn a_freeze_that_lasts_is_as_old_as_its_begin() {
    let engine = after([Some(freeze(64_200, 0, true)), Some(freeze(64_200, 0, true))]);
    let frozen = engine.victims()[0].frozen().unwrap();
    assert_eq!((frozen.actor, frozen.owner), (actor(30, "fio"), OwnerId(4)));
    assert_near(frozen.ns, 1.8e9);
    assert!(after([Some(freeze(64_200, 0, false))]).victims()[0].frozen().is_none());
}

/// Six actors, one after another; four are remembered.
#[test]
fn freezers_for_whom_there_is_no_room_are_counted() {
    let mut engine = after([]);
    for number in 0..6 {
        let at_ns = (65 + u64::from(number)) * SECOND;
        let since_ns = at_ns - SECOND / 2;
        let freezes = vec![Freeze { owner: OwnerId(number + 1), since_ns, ..freeze(0, 0, true) }];
        let tick = Tick { at_ns, cpus: 2, freezes, ..Tick::default() };
        engine.tick(&tick, |owner| actor(u64::from(owner.0), "backup"));
    }
    assert_eq!(engine.left_out(), 2);
}

/// On btrfs a sync waits for the thaw as well. It begins 0.3 s after the freeze, and ends with it
/// 0.1 s after the tick 70.
#[test]
fn a_sync_that_waits_for_the_thaw_is_no_wait_of_its_own() {
    let mut engine = after([]);
    let owners = owners();
    let begin_ns = 64_500 * MS;
    let hangs = |until_ms: u64| SyncRecord {
        begin_ns,
        device: DEVICE,
        tgid: TGID,
        ..sync(until_ms * MS - begin_ns, &[])
    };
    for second in 65..=70 {
        if second > 65 {
            engine.add_unfinished(&hangs(second * 1000), 0, 0, |_| &owners);
        }
        let freezes = vec![freeze(64_200, 0, true)];
        let tick = Tick { at_ns: second * SECOND, cpus: 2, freezes, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    let waiting = judged(engine.with_unfinished(&engine.victims()[0]).unwrap());
    engine.ingest(&hangs(70_100), &[], 0, 0, |_| &owners);
    let freezes = vec![freeze(64_200, 70_100, false)];
    let tick = Tick { at_ns: 71 * SECOND, cpus: 2, freezes, ..Tick::default() };
    engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    for (judged, frozen_ns) in [(waiting, 5.8e9), (judgement(&engine), 5.9e9)] {
        assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
        assert_near(judged.outside_ns, frozen_ns);
        // The sync's begin lies in the freeze, so that there is nothing else.
        assert_near(judged.excess_ns, frozen_ns);
        assert_eq!(judged.culprits[0].actor, actor(30, "fio"));
        assert_eq!(judged.confidence, Confidence::High);
    }
}
