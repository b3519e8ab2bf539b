//! A victim's process that is stopped outside its syncs: by a tracer, a signal, a freezer or a
//! limit on memory.

use tracer_ebpf::record::op;

use super::{
    demands::assert_near,
    seconds::{SECOND, actor},
    *,
};
use crate::stop::{How, Stop};

const TGID: u32 = 812;

/// The process was stopped for this long in the last second.
fn stop(how: How, ms: u64) -> Stop {
    let is_traced = how == How::Traced;
    Stop {
        tgid: TGID,
        how,
        owner: if is_traced { OwnerId(4) } else { OwnerId::NOBODY },
        pid: if is_traced { 4711 } else { 0 },
        setting: match how {
            How::Freezer => "cgroup.freeze of /pod".into(),
            How::Memory => "memory.high of /pod".into(),
            How::Traced | How::Signal => String::new(),
        },
        limit_bytes: if how == How::Memory { 64 << 20 } else { 0 },
        used_bytes: if how == How::Memory { 65 << 20 } else { 0 },
        ns: ms * MS,
        at_syncs_ns: 0,
        stalled_ns: 0,
        is_halted: ms == 1000,
    }
}

/// A thread was stopped at a sync for this long, and others ran.
fn at_syncs(ms: u64) -> Stop {
    Stop { at_syncs_ns: ms * MS, ..stop(How::Traced, 0) }
}

/// The threads that sync waited at their limit on memory for `seen_ms`, and for `stalled_ms` nothing
/// else of their cgroup ran.
fn at_limit(seen_ms: u64, stalled_ms: u64) -> Stop {
    let (at_syncs_ns, stalled_ns) = (seen_ms * MS, stalled_ms * MS);
    Stop { at_syncs_ns, stalled_ns, ..stop(How::Memory, 0) }
}

/// A victim that ends ten quick syncs in each of 64 seconds, and in each second from 65 on as
/// many as are given beside a stop. Syncs of the file 1 come beside them.
fn after(seconds: impl IntoIterator<Item = (u64, u64, Option<Stop>)>) -> Engine {
    after_syncs_of(MS, seconds)
}

/// The syncs of the seconds from 65 on take `length_ns` each.
fn after_syncs_of(
    length_ns: u64,
    seconds: impl IntoIterator<Item = (u64, u64, Option<Stop>)>,
) -> Engine {
    let (owners, mut engine) = (owners(), Engine::new());
    let mut second_of = |second: u64, syncs: u64, beside: u64, stop: Option<Stop>| {
        let length_ns = if second < 64 { MS } else { length_ns };
        for (file, count) in [(0, syncs), (1, beside)] {
            for at in 0..count {
                let begin_ns = second * SECOND + at * length_ns.max(10 * MS);
                let record = SyncRecord { begin_ns, tgid: TGID, ..sync(length_ns, &[]) };
                engine.ingest(&record, &[], file, 0, |_| &owners);
            }
        }
        let stops = stop.into_iter().collect();
        let at_ns = (second + 1) * SECOND;
        let tick = Tick { at_ns, cpus: 2, stops, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    };
    (0..64).for_each(|second| second_of(second, 10, 0, None));
    for (second, (syncs, beside, stop)) in (64..).zip(seconds) {
        second_of(second, syncs, beside, stop);
    }
    engine
}

fn judgement(engine: &Engine) -> Judgement {
    judged(&engine.victims()[0])
}

/// 3 · 700 ms, and the syncs stay at 1 ms.
#[test]
fn who_traces_a_victim_that_is_stopped_at_its_syncs_is_the_culprit() {
    let judged = judgement(&after((0..3).map(|_| (10, 0, Some(at_syncs(700))))));
    assert_eq!((judged.kind, judged.confidence), (Kind::Owners, Confidence::High), "{judged:?}");
    assert_near(judged.outside_ns, 2.1e9);
    assert_near(judged.excess_ns, 2.1e9);
    assert_near(judged.shares.owners, 1.0);
    let [culprit] = judged.culprits.as_slice() else { panic!("{judged:?}") };
    assert_eq!((culprit.actor, culprit.owner), (actor(30, "fio"), OwnerId(4)));
    assert_eq!((culprit.charge, culprit.via), (op::TRACE as usize, Via::Trace));
    let stopped = judged.stopped.as_ref().expect("it was stopped");
    assert_eq!((stopped.how, stopped.pid), (How::Traced, 4711));
    assert_near(stopped.ns, 2.1e9);
    assert!(!judged.is_halted());
}

/// 10 of 40 syncs are of this file: a quarter of 5.6 s.
#[test]
fn the_stops_at_syncs_are_divided_between_the_files_of_a_process() {
    let engine = after((0..8).map(|_| (10, 30, Some(at_syncs(700)))));
    assert_near(judgement(&engine).outside_ns, 1.4e9);
    // A process that does not run at all keeps all of them waiting.
    let engine = after((0..8).map(|_| (10, 30, Some(stop(How::Signal, 700)))));
    assert_near(judgement(&engine).outside_ns, 5.6e9);
}

#[test]
fn a_signal_or_a_freezer_stops_a_victim_and_nobody_is_named() {
    for how in [How::Signal, How::Freezer] {
        let engine = after((0..3).map(|_| (0, 0, Some(stop(how, 1000)))));
        let judged = judgement(&engine);
        assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::High), "{judged:?}");
        assert!(judged.culprits.is_empty() && judged.is_halted(), "{judged:?}");
        assert_near(judged.outside_ns, 3e9);
        assert_near(judged.shares.limit, 1.0);
        let setting = if how == How::Freezer { "cgroup.freeze of /pod" } else { "" };
        assert_eq!(judged.stopped.unwrap().setting, setting);
        assert!(engine.victims()[0].is_halted());
    }
}

/// Victims that did not sync for a minute are not looked at otherwise.
#[test]
fn a_stop_of_minutes_counts_while_it_lasts() {
    let engine = after((0..150).map(|_| (0, 0, Some(stop(How::Signal, 1000)))));
    assert_near(judgement(&engine).outside_ns, 150e9);
    let over = after((0..3).map(|at| (0, 0, (at < 2).then(|| stop(How::Signal, 1000)))));
    assert!(!over.victims()[0].is_halted());
}

/// A thread that syncs was seen to wait for 600 ms of each second.
#[test]
fn a_victim_whose_threads_wait_at_their_limit_on_memory_is_slowed_by_that_limit() {
    let judged = judgement(&after((0..3).map(|_| (5, 0, Some(at_limit(600, 0))))));
    assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::High), "{judged:?}");
    assert_near(judged.outside_ns, 1.8e9);
    assert_near(judged.shares.limit, 1.0);
    assert!(judged.culprits.is_empty() && judged.is_halted(), "{judged:?}");
    let stopped = judged.stopped.expect("it waited");
    assert_eq!((stopped.how, &*stopped.setting), (How::Memory, "memory.high of /pod"));
    assert_eq!((stopped.limit_bytes, stopped.used_bytes), (64 << 20, 65 << 20));
    assert_near(stopped.seen_ns, 1.8e9);
}

/// 900 ms of each second, in which it ended two syncs of 1 ms and not ten: 3 · (900 - 2) · 0.8 ms.
#[test]
fn stalls_of_the_whole_cgroup_count_for_the_syncs_that_are_missing() {
    let judged = judgement(&after((0..3).map(|_| (2, 0, Some(at_limit(0, 900))))));
    assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::Medium), "{judged:?}");
    assert_near(judged.outside_ns, 2.1552e9);
    // Some of it was seen, and counts once.
    let judged = judgement(&after((0..3).map(|_| (2, 0, Some(at_limit(500, 900))))));
    assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::High), "{judged:?}");
    assert_near(judged.outside_ns, 2.1552e9);
    assert_near(judged.stopped.unwrap().seen_ns, 1.5e9);
}

/// Another thread of its process waits all the time.
#[test]
fn a_victim_that_ends_most_of_its_usual_syncs_is_not_slow_at_its_limit_on_memory() {
    for syncs in [6, 10, 12] {
        let judged = judgement(&after((0..8).map(|_| (syncs, 0, Some(at_limit(0, 1000))))));
        assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
    }
}

/// It is seen for the first time at its limit, so nobody knows how many syncs are usual.
#[test]
fn stalls_before_the_usual_number_of_syncs_is_known_count_for_nothing() {
    let (owners, mut engine) = (owners(), Engine::new());
    for second in 0..20 {
        for at in 0..if second == 0 { 30 } else { 2 } {
            let begin_ns = second * SECOND + at * 10 * MS;
            let record = SyncRecord { begin_ns, tgid: TGID, ..sync(MS, &[]) };
            engine.ingest(&record, &[], 0, 0, |_| &owners);
        }
        let stops = vec![at_limit(0, 900)];
        let tick = Tick { at_ns: (second + 1) * SECOND, cpus: 2, stops, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    let judged = judgement(&engine);
    assert_eq!(judged.outside_ns, 0.0, "{judged:?}");
}

/// Two syncs a second take 480 ms each, partly because they reclaim memory. Syncs thus cover 960 ms of
/// each second: 500 ms of stalls leave nothing, and 1000 ms leave 40 ms, which count for the eight syncs
/// of ten that are missing. In eight seconds that is less than a tenth of the time.
#[test]
fn what_keeps_its_syncs_is_not_counted_again_at_the_limit_on_memory() {
    for stalled_ms in [500, 1000] {
        let stop = at_limit(0, stalled_ms);
        let engine = after_syncs_of(480 * MS, (0..8).map(|_| (2, 0, Some(stop.clone()))));
        let judged = judgement(&engine);
        assert_ne!(judged.kind, Kind::Limit, "{judged:?}");
        assert_eq!(judged.outside_ns, 0.0, "{judged:?}");
    }
}

/// A limit that is reached all the time, as by a cache that takes what it can get, and that keeps
/// nobody waiting, does not keep the usual number of syncs from being learnt.
#[test]
fn the_usual_number_of_syncs_is_learnt_at_a_limit_that_hardly_matters() {
    let begin = (0..30).map(|_| (4, 0, Some(at_limit(0, 20))));
    let engine = after(begin.chain((0..3).map(|_| (4, 0, Some(at_limit(0, 900))))));
    // They have long been four a second, and no longer ten.
    assert_eq!(judgement(&engine).outside_ns, 0.0);
}

#[test]
fn other_processes_and_short_stops_make_nothing_slow() {
    let other = Stop { tgid: TGID + 1, ..at_syncs(900) };
    // 0.9 s in 67 is neither a second nor a tenth of the time.
    for stop in [other, at_syncs(300)] {
        let judged = judgement(&after((0..3).map(|_| (10, 0, Some(stop.clone())))));
        assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
        assert!(judged.culprits.is_empty() && judged.stopped.is_none(), "{judged:?}");
    }
}

#[test]
fn stops_move_on_with_the_window_and_the_period() {
    let mut engine = after((0..3).map(|_| (10, 0, Some(at_syncs(700)))));
    let said = |engine: &Engine, span| {
        let victim = &engine.victims()[0];
        judge(victim, &victim.sum(span), span).outside_ns
    };
    engine.rotate();
    assert_near(said(&engine, Span::Window), 2.1e9);
    engine.rotate();
    assert_near(said(&engine, Span::Window), 0.0);
    assert_near(said(&engine, Span::Period), 2.1e9);
    engine.begin_period();
    assert_near(said(&engine, Span::Period), 0.0);
}

#[test]
fn a_cause_for_which_there_is_no_room_is_counted() {
    let mut engine = after([]);
    for number in 0..6 {
        let at_ns = (65 + u64::from(number)) * SECOND;
        let stops = vec![Stop { owner: OwnerId(number + 1), ..stop(How::Traced, 500) }];
        let tick = Tick { at_ns, cpus: 2, stops, ..Tick::default() };
        engine.tick(&tick, |owner| actor(u64::from(owner.0), "debugger"));
    }
    assert_eq!(engine.left_out(), 2);
}
