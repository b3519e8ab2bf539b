//! The ticks show who ran instead of the victim, its limits, and who filled the journal; no
//! single sync does.

use super::*;

/// A victim that waited for a CPU in most of its time.
fn starved() -> Vec<SyncRecord> {
    let mut starved = sync(10 * MS, &[(3, 0.1)]);
    starved.runqueue_ns = 8 * MS;
    starved.own_device_ns = MS;
    starved.own_span_ns = MS;
    starved.begin_ns = 1_000 * MS;
    starved.tgid = 812;
    let mut syncs = quiet();
    syncs.extend(vec![starved; 60]);
    syncs
}

#[test]
fn waiting_for_a_cpu_is_charged_to_who_ran() {
    let contenders = [(3, 300), (4, 100)];
    let contenders = contenders.map(|(owner, ms)| tick::Contender {
        victim_tgid: 812,
        owner: OwnerId(owner),
        ns: ms * MS,
    });
    let judged =
        after_tick(&starved(), Tick { contenders: contenders.to_vec(), ..Tick::default() });
    assert_eq!(judged.kind, Kind::Cpu);
    let shares: Vec<_> = judged.culprits.iter().map(|c| (c.owner.0, c.via)).collect();
    assert_eq!(shares[0], (3, Via::Runqueue));
    let ratio = judged.culprits[0].wait_ns / judged.culprits[1].wait_ns;
    assert!((2.5..3.5).contains(&ratio), "{ratio}");
    // If nobody is known to have run, the cause is still the CPU.
    assert_eq!(after_tick(&starved(), Tick::default()).kind, Kind::Cpu);
}

/// A victim that was short of a CPU or of memory from the first second on has
/// known no better, and its syncs wait all the same.
#[test]
fn what_was_always_short_is_never_usual() {
    let for_a_cpu = SyncRecord { runqueue_ns: 8 * MS, tgid: 812, ..sync(9 * MS, &[]) };
    let for_memory = SyncRecord { reclaim_ns: 8 * MS, tgid: 812, ..sync(9 * MS, &[]) };
    for (record, expected) in [(for_a_cpu, Kind::Cpu), (for_memory, Kind::Memory)] {
        let (owners, mut engine) = (owners(), Engine::new());
        for second in 1..=30 {
            for at in 0..40 {
                let begin_ns = second * 1_000 * MS + at * 20 * MS;
                engine.ingest(&SyncRecord { begin_ns, ..record }, &[], 0, 0, |_| &owners);
            }
            let contender = tick::Contender { victim_tgid: 812, owner: OwnerId(4), ns: 320 * MS };
            let reclaimer =
                tick::Reclaimer { owner: OwnerId(4), times: 100, ns: 700 * MS, limit_ns: 0 };
            let tick = Tick {
                at_ns: (second + 1) * 1_000 * MS,
                cpus: 2,
                contenders: vec![contender],
                reclaimers: vec![reclaimer],
                ..Tick::default()
            };
            engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
        }
        let judged = judged(&engine.victims()[0]);
        assert_eq!(judged.kind, expected, "{judged:?}");
        assert_eq!(judged.culprits[0].owner, OwnerId(4), "{judged:?}");
    }
}

fn limit(kind: LimitKind) -> Tick {
    let limit = tick::Limit {
        cgroup: 10,
        kind,
        ns: 900 * MS,
        times: 9,
        setting: "cpu.max 20000 100000".to_owned(),
        in_kernel: false,
    };
    Tick { limits: vec![limit], ..Tick::default() }
}

#[test]
fn a_limit_on_the_victim_itself_is_no_neighbours_fault() {
    let judged = after_tick(&starved(), limit(LimitKind::Cpu));
    assert_eq!((judged.kind, judged.shares.limit > 0.7), (Kind::Limit, true), "{judged:?}");
    let held = SyncRecord { own_device_ns: 0, own_span_ns: 0, ..sync(40 * MS, &[]) };
    let mut syncs = quiet();
    syncs.extend(vec![held; 40]);
    assert_eq!(after_tick(&syncs, limit(LimitKind::Io)).kind, Kind::Limit);
}

#[test]
fn what_others_put_into_the_journal_is_theirs() {
    let slow = SyncRecord {
        own_device_ns: MS / 10,
        own_span_ns: MS / 10,
        journal_ns: 19 * MS,
        journal_device_ns: 15 * MS,
        ..sync(20 * MS, &[])
    };
    let mut syncs = quiet();
    syncs.extend(vec![slow; 40]);
    let work =
        |owner, blocks| tick::JournalWork { device: 0, owner: OwnerId(owner), blocks, held_ns: 0 };
    let journals = vec![work(1, 100), work(4, 1900)];
    let judged = after_tick(&syncs, Tick { journals, ..Tick::default() });
    assert_eq!(judged.kind, Kind::Owners);
    let culprit = &judged.culprits[0];
    assert_eq!((culprit.owner, culprit.via), (OwnerId(4), Via::Journal));
    assert!((0.8..0.96).contains(&culprit.share), "{culprit:?}");
    // With nobody else in it, it is the device that is slow.
    assert_eq!(after_tick(&syncs, Tick::default()).kind, Kind::Device);
}

/// Slow syncs, each second of which ends with a tick of who filled the journal;
/// jbd2's requests weigh 3.5 ms, all others half a millisecond.
fn while_filled(slow: &[SyncRecord], blocks: &[(u32, u64)]) -> Judgement {
    let (mut owners, mut engine) = (owners(), Engine::new());
    for owner in &mut owners {
        owner.weight_ns = if owner.kthread { 3_500_000 } else { 500_000 };
    }
    let work = |(owner, blocks): &(u32, u64)| tick::JournalWork {
        device: 0,
        owner: OwnerId(*owner),
        blocks: *blocks,
        held_ns: 0,
    };
    let journals: Vec<_> = blocks.iter().map(work).collect();
    for record in quiet() {
        engine.ingest(&record, &[], 0, 0, |_| &owners);
    }
    for second in 0..8 {
        let at_ns = 1000 * MS * (second + 1);
        let tick = Tick { at_ns, cpus: 2, journals: journals.clone(), ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
        for record in slow {
            let record = SyncRecord { begin_ns: at_ns, ..*record };
            engine.ingest(&record, &[], 0, 0, |_| &owners);
        }
    }
    judged(&engine.victims()[0])
}

/// A sync that waits for a commit of 240 blocks at 20 MB/s.
fn in_a_commit(in_flight: &[(usize, f64)]) -> SyncRecord {
    SyncRecord {
        own_device_ns: 7 * MS / 10,
        own_span_ns: 7 * MS / 10,
        journal_ns: 64 * MS,
        journal_device_ns: 62 * MS,
        ..sync(65 * MS, in_flight)
    }
}

/// Beside etcd alone a transaction has 2 blocks, at 37 transactions a second, as jbd2
/// itself says in /proc/fs/jbd2; beside a tenant that shuffles files it has 240, at
/// 17 a second. So 99 % of a commit are the tenant's. Meanwhile a write of etcd's
/// database takes half a millisecond alone, and 60 ms behind such a commit.
#[test]
fn its_own_writes_that_wait_behind_what_others_committed_are_an_effect() {
    let beside_its_own = in_a_commit(&[(1, 1.6), (2, 2.2)]);
    let slow = [in_a_commit(&[(2, 2.2)]), beside_its_own].repeat(7);
    let verdict = while_filled(&slow, &[(1, 17 * 2), (4, 17 * 238)]);
    let culprit = &verdict.culprits[0];
    assert_eq!((verdict.kind, culprit.owner), (Kind::Owners, OwnerId(4)), "{verdict:?}");
    assert!((0.85..=0.99).contains(&culprit.share), "{verdict:?}");
    // If it filled the journal itself, both are its own doing.
    let verdict = while_filled(&[beside_its_own; 14], &[(1, 17 * 240)]);
    assert_eq!((verdict.kind, verdict.shares.owners), (Kind::Own, 0.0), "{verdict:?}");
}

#[test]
fn a_bystander_is_not_blamed_for_what_another_put_into_the_journal() {
    // One write in flight half of the time, behind the same commits.
    let verdict = while_filled(&[in_a_commit(&[(2, 2.2), (3, 0.5)]); 14], &[(1, 34), (4, 4046)]);
    let of = |owner| {
        verdict.culprits.iter().find(|c| c.owner == OwnerId(owner)).map_or(0.0, |c| c.share)
    };
    assert!(of(4) > 0.9 && of(3) < 0.05, "{verdict:?}");
}

/// It overwrites a file, which needs no commit.
#[test]
fn who_fills_the_journal_slows_syncs_that_do_not_wait_for_it_too() {
    let slow = SyncRecord {
        own_device_ns: 29 * MS,
        own_span_ns: 29 * MS,
        ..sync(30 * MS, &[(1, 0.97), (2, 1.0)])
    };
    let verdict = while_filled(&[slow; 30], &[(1, 34), (4, 4046)]);
    assert_eq!(
        (verdict.kind, verdict.culprits[0].owner),
        (Kind::Owners, OwnerId(4)),
        "{verdict:?}"
    );
    assert!(verdict.culprits[0].share > 0.85, "{verdict:?}");
    // Commits without strangers' blocks are no excuse for the device.
    let verdict = while_filled(&[slow; 30], &[(1, 34)]);
    assert_eq!((verdict.kind, verdict.culprits.len()), (Kind::Device, 0), "{verdict:?}");
}
