//! Waits for memory.

use super::*;

#[test]
fn waiting_for_memory_is_charged_to_who_takes_it() {
    let mut syncs = quiet();
    syncs.extend(vec![SyncRecord { reclaim_ns: 28 * MS, ..sync(30 * MS, &[]) }; 40]);
    let reclaimers =
        vec![tick::Reclaimer { owner: OwnerId(4), times: 100, ns: 700 * MS, limit_ns: 0 }];
    let judged = after_tick(&syncs, Tick { reclaimers, ..Tick::default() });
    assert_eq!(judged.kind, Kind::Memory);
    assert_eq!((judged.culprits[0].owner, judged.culprits[0].via), (OwnerId(4), Via::Memory));
}

#[test]
fn what_a_sync_reads_back_is_no_other_work_of_its_own() {
    let read_back = SyncRecord { reclaim_ns: 20 * MS, ..sync(30 * MS, &[(1, 0.9)]) };
    let mut syncs = quiet();
    syncs.extend(vec![read_back; 40]);
    let judged = judged(&victim_after(&syncs));
    assert_eq!(judged.kind, Kind::Memory);
    assert!(judged.shares.own < 0.05, "{judged:?}");
}

#[test]
fn a_wait_for_memory_never_becomes_normal() {
    let short = SyncRecord { reclaim_ns: 4 * MS, ..sync(6 * MS, &[]) };
    assert_eq!(kind(&victim_after(&vec![short; 300])), Kind::Memory);
}

#[test]
fn syncs_with_a_tenant_that_takes_memory_are_compared_with_those_without() {
    let (owners, mut engine) = (owners(), Engine::new());
    let mut at_ns = 1_000 * MS;
    let mut second = |record: SyncRecord, reclaimers: Vec<tick::Reclaimer>| {
        for _ in 0..40 {
            at_ns += 25 * MS;
            engine.ingest(&SyncRecord { begin_ns: at_ns, ..record }, &[], 0, 0, |_| &owners);
        }
        let tick = Tick { at_ns: at_ns + 25 * MS, cpus: 2, reclaimers, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    };
    (0..4).for_each(|_| second(sync(MS, &[]), Vec::new()));
    let short = SyncRecord { reclaim_ns: 18 * MS, ..sync(20 * MS, &[]) };
    let reclaimers = [tick::Reclaimer { owner: OwnerId(4), times: 100, ns: 300 * MS, limit_ns: 0 }];
    (0..6).for_each(|_| second(short, reclaimers.to_vec()));
    let judged = judged(&engine.victims()[0]);
    let culprit = &judged.culprits[0];
    assert_eq!((culprit.owner, culprit.confidence), (OwnerId(4), Confidence::High));
    assert!(culprit.lift.supports_blame() && culprit.share > 0.9, "{culprit:?}");
}

#[test]
fn who_wants_the_memory_itself_is_not_charged_to_others() {
    let mut syncs = quiet();
    syncs.extend(vec![SyncRecord { reclaim_ns: 28 * MS, ..sync(30 * MS, &[]) }; 40]);
    let reclaimer =
        |owner, ms| tick::Reclaimer { owner: OwnerId(owner), times: 1, ns: ms * MS, limit_ns: 0 };
    let reclaimers = vec![reclaimer(1, 960), reclaimer(4, 20)];
    let judged = after_tick(&syncs, Tick { reclaimers, ..Tick::default() });
    assert_eq!((judged.kind, judged.culprits.len()), (Kind::Memory, 0), "{judged:?}");
    assert!(judged.shares.memory > 0.9, "{judged:?}");
}

#[test]
fn who_is_at_a_limit_takes_from_those_within_it_alone() {
    let mut syncs = quiet();
    syncs.extend(vec![SyncRecord { reclaim_ns: 28 * MS, ..sync(30 * MS, &[]) }; 40]);
    let at_limit = |owner, ms| tick::Reclaimer {
        owner: OwnerId(owner),
        times: 100,
        ns: ms * MS,
        limit_ns: ms * MS,
    };
    let after = |reclaimers| after_tick(&syncs, Tick { reclaimers, ..Tick::default() });
    let alone = after(vec![at_limit(4, 700)]);
    assert_eq!((alone.kind, alone.culprits.len()), (Kind::Memory, 0), "{alone:?}");
    let shared = after(vec![at_limit(1, 20), at_limit(4, 700)]);
    assert_eq!(shared.culprits[0].owner, OwnerId(4), "{shared:?}");
}
