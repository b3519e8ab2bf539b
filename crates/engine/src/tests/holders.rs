//! Commits that wait for open handles: who has them, and which limit stops the one who has.

use tracer_ebpf::record::commit;

use super::{demands::assert_near, *};
use crate::{
    holders::{HeldUp, LimitedResource, StoppedBy},
    tick::{DiskWork, JournalWork, Limit, Load, Reclaimer, Tick},
};

const SETTING: &str = "io.max 7:0 riops=2";

/// The actors: the victim, one that fills the journal and has requests in flight, and one that has
/// handles open.
const VICTIM: u32 = 1;
const FILLER: u32 = 3;
const HOLDER: u32 = 4;

/// A sync of half a second that waits for open handles for 480 ms of it, while the filler has
/// requests in flight all the time.
fn held(in_flight: &[(usize, f64)]) -> SyncRecord {
    let mut record = SyncRecord {
        own_device_ns: MS / 2,
        own_span_ns: MS / 2,
        journal_ns: 490 * MS,
        journal_device_ns: 10 * MS,
        ..sync(500 * MS, in_flight)
    };
    record.journal_stage_ns[commit::LOCKING] = 480 * MS;
    record
}

fn work(owner: u32, blocks: u64, held_ms: u64) -> JournalWork {
    JournalWork { device: 0, owner: OwnerId(owner), blocks, held_ns: held_ms * MS }
}

fn limit(kind: LimitKind, in_kernel: bool) -> Limit {
    let cgroup = owners()[HOLDER as usize].cgroup;
    Limit { cgroup, kind, ns: 900 * MS, times: 9, setting: SETTING.to_owned(), in_kernel }
}

/// A victim after quiet syncs, and then ten seconds of two slow ones each, with these ticks after
/// them.
fn victim_after(slow: &SyncRecord, tick: &Tick) -> Victim {
    let (owners, mut engine) = (owners(), Engine::new());
    for record in quiet() {
        engine.ingest(&record, &[], 0, 0, |_| &owners);
    }
    for second in 1..=10 {
        let at_ns = 1000 * MS * second;
        for half in 0..2 {
            let begin_ns = at_ns - 1000 * MS + half * 500 * MS;
            engine.ingest(&SyncRecord { begin_ns, ..*slow }, &[], 0, 0, |_| &owners);
        }
        let tick = Tick { at_ns, cpus: 2, ..tick.clone() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    Victim::clone(&engine.victims()[0])
}

fn after(slow: &SyncRecord, tick: &Tick) -> Judgement {
    judged(&victim_after(slow, tick))
}

/// The holder dirties five blocks and the filler 2000, and the journal waits for the former.
fn works() -> Vec<JournalWork> {
    vec![work(VICTIM, 40, 2), work(FILLER, 2000, 8), work(HOLDER, 5, 940)]
}

#[test]
fn whoever_is_stopped_with_a_handle_open_answers_for_it_and_not_who_fills_the_journal() {
    let slow = held(&[(FILLER as usize, 1.0)]);
    for kind in [LimitKind::Io, LimitKind::Cpu] {
        let limits = vec![limit(kind, true)];
        let judged = after(&slow, &Tick { journals: works(), limits, ..Tick::default() });
        assert_eq!(
            (judged.kind, judged.confidence),
            (Kind::Owners, Confidence::High),
            "{judged:?}"
        );
        let worst = &judged.culprits[0];
        assert_eq!((worst.owner, worst.via), (OwnerId(HOLDER), Via::Handles), "{judged:?}");
        assert_eq!(worst.charge, 13, "the code of `handles`");
        let resource = match kind {
            LimitKind::Io => LimitedResource::Io,
            LimitKind::Cpu => LimitedResource::Cpu,
        };
        assert_eq!(worst.stopped_by, Some(StoppedBy { resource, setting: SETTING.to_owned() }));
        // 480 of 499 ms, except in the first second, whose tick first said why.
        assert!((0.84..0.97).contains(&worst.share), "{judged:?}");
    }
}

#[test]
fn whoever_is_at_its_memory_limit_with_a_handle_open_answers_for_it() {
    let reclaimers =
        vec![Reclaimer { owner: OwnerId(HOLDER), times: 9, ns: 800 * MS, limit_ns: 700 * MS }];
    let tick = Tick { journals: works(), reclaimers, ..Tick::default() };
    let judged = after(&held(&[(FILLER as usize, 1.0)]), &tick);
    let worst = &judged.culprits[0];
    assert_eq!((worst.owner, worst.via), (OwnerId(HOLDER), Via::Handles), "{judged:?}");
    let stopped_by = StoppedBy { resource: LimitedResource::Memory, setting: String::new() };
    assert_eq!(worst.stopped_by, Some(stopped_by));
}

/// Whoever has the handle waits for the device with it.
#[test]
fn without_a_limit_a_handle_on_a_device_that_is_slow_is_the_devices() {
    let tick = Tick { journals: works(), ..Tick::default() };
    let mut victim = victim_after(&held(&[]), &tick);
    let ns = victim.sum(Span::Period).parts.excess_ns;
    victim.now.circumstances.slow_ns = ns;
    victim.now.circumstances.excess_ns = ns;
    let judged = judged(&victim);
    assert_eq!(judged.kind, Kind::Device, "{judged:?}");
    assert!(judged.culprits.is_empty(), "{judged:?}");
}

/// Its reads are in flight for nearly all of the time for which it has handles open: it does as many
/// as its limit allows, each of them waits behind the filler's requests, and none is stopped.
#[test]
fn at_its_limit_and_with_reads_in_flight_a_holder_waits_for_the_disk() {
    let load = |owner: u32, reads: bool, in_flight_ms: u64| Load {
        owner: OwnerId(owner),
        submitted: 9,
        completed: 9,
        bytes: 9 * 4096,
        writes: !reads,
        reads,
        in_flight_ns: in_flight_ms * MS,
        cost_ns: 100_000,
        guessed: false,
    };
    let of_disk = |reads_ms| DiskWork {
        length_ns: 1000 * MS,
        loads: vec![load(FILLER, false, 1000), load(HOLDER, true, reads_ms)],
        ..DiskWork::default()
    };
    let judged = |kind: LimitKind, reads_ms: u64| {
        let disks = vec![of_disk(reads_ms)];
        let limits = vec![limit(kind, true)];
        let tick = Tick { journals: works(), limits, disks, ..Tick::default() };
        after(&held(&[(FILLER as usize, 1.0)]), &tick)
    };
    for (kind, reads_ms, guilty) in [
        (LimitKind::Io, 900, FILLER),
        (LimitKind::Io, 2, HOLDER),
        // A read has nothing to do with a limit on CPU time, which may stop it after each.
        (LimitKind::Cpu, 900, HOLDER),
    ] {
        let judged = judged(kind, reads_ms);
        assert_eq!(judged.culprits[0].owner, OwnerId(guilty), "{kind:?} {reads_ms}: {judged:?}");
    }
}

/// A limit that lets a task leave the kernel first is not why it sleeps there, and its handle may
/// be open because it waits for the disk behind the filler's requests.
#[test]
fn without_a_limit_requests_in_flight_come_first() {
    let slow = held(&[(FILLER as usize, 1.0)]);
    let nothing =
        [Vec::new(), vec![limit(LimitKind::Cpu, false)], vec![limit(LimitKind::Io, false)]];
    for limits in nothing {
        let judged = after(&slow, &Tick { journals: works(), limits, ..Tick::default() });
        let worst = &judged.culprits[0];
        assert_eq!((worst.owner, &worst.stopped_by), (OwnerId(FILLER), &None), "{judged:?}");
    }
}

/// Nothing is in flight that it could wait for, and what else it waits for is not known.
#[test]
fn without_a_limit_and_without_requests_whoever_has_the_handle_answers_and_never_for_sure() {
    let judged = after(&held(&[]), &Tick { journals: works(), ..Tick::default() });
    let worst = &judged.culprits[0];
    assert_eq!((worst.owner, worst.via), (OwnerId(HOLDER), Via::Handles), "{judged:?}");
    assert!(worst.stopped_by.is_none() && worst.confidence < Confidence::High, "{judged:?}");
    assert!(judged.culprits.iter().all(|culprit| culprit.owner != OwnerId(FILLER)), "{judged:?}");
}

#[test]
fn a_commit_that_waits_for_handles_of_nobody_who_is_known_is_unexplained() {
    let journals = vec![work(VICTIM, 40, 0), work(FILLER, 2000, 0)];
    let judged = after(&held(&[]), &Tick { journals, ..Tick::default() });
    assert_eq!(judged.kind, Kind::Unexplained, "{judged:?}");
    // 480 of 499 ms, and some of the rest is the filler's.
    assert!((0.9..1.0).contains(&judged.shares.unexplained), "{judged:?}");
}

#[test]
fn a_handle_of_its_own_that_its_own_limit_stops_is_the_limits() {
    let cgroup = owners()[VICTIM as usize].cgroup;
    let limits = vec![Limit { cgroup, ..limit(LimitKind::Io, true) }];
    let journals = vec![work(VICTIM, 40, 950), work(FILLER, 2000, 8)];
    let judged = after(&held(&[]), &Tick { journals, limits, ..Tick::default() });
    assert_eq!(judged.kind, Kind::Limit, "{judged:?}");
}

/// A limit of a few requests a second is reached in some seconds only.
#[test]
fn what_is_known_of_a_limit_is_used_for_some_seconds() {
    let (owners, mut engine) = (owners(), Engine::new());
    engine.ingest(&sync(MS, &[]), &[], 0, 0, |_| &owners);
    let tick = |engine: &mut Engine, second: u64, limits: Vec<Limit>| {
        let journals = vec![work(HOLDER, 1, 100)];
        let tick = Tick { at_ns: second * 1000 * MS, journals, limits, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
        engine.victims()[0].stopped_part()
    };
    assert_near(tick(&mut engine, 1, Vec::new()), 0.0);
    assert_near(tick(&mut engine, 2, vec![limit(LimitKind::Io, true)]), 1.0);
    assert_near(tick(&mut engine, 7, Vec::new()), 1.0);
    assert_near(tick(&mut engine, 8, Vec::new()), 0.0);
    let HeldUp { stopped_ns, other_ns } = engine.victims()[0].held_up_by_all(Span::Window);
    assert_near(stopped_ns, 200.0 * MS as f64);
    assert_near(other_ns, 200.0 * MS as f64);
}

#[test]
fn those_who_hold_it_up_least_make_room_and_their_time_is_nobodys() {
    let (owners, mut engine) = (owners(), Engine::new());
    engine.ingest(&sync(MS, &[]), &[], 0, 0, |_| &owners);
    let actor = |owner: OwnerId| ActorId { cgroup: owner.0.into(), ..ActorId::default() };
    let journals = (1..=9).map(|ms| work(ms, 1, ms.into())).collect();
    engine.tick(&Tick { at_ns: 1000 * MS, journals, ..Tick::default() }, actor);
    let victim = &engine.victims()[0];
    let held = |owner| victim.held_up_by(&actor(OwnerId(owner)), Span::Window).other_ns;
    let held: Vec<_> = (1..=9).map(|owner| held(owner) / MS as f64).collect();
    assert_eq!(held, [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_near(victim.held_up_by_all(Span::Window).other_ns, 45.0 * MS as f64);
}
