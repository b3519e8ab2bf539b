//! Logs that helpers of the kernel write: whose changes these are.

use super::*;

/// Account 5 is the kernel workers', 6 that of the thread that empties an xfs' log.
fn with_helpers() -> [Owner; ACCOUNTS] {
    let mut owners = owners();
    for (at, name) in (5u32..).zip(["kworker", "xfsaild/loop0"]) {
        let id = OwnerId(at);
        owners[at as usize] =
            Owner { id, cgroup: 0, comm: comm(name), kthread: true, op: 1, weight_ns: 1, via: 0 };
    }
    owners
}

/// Slow syncs of 80 ms beside one helper's requests, in eight seconds. In each second
/// these owners put these amounts into the log.
fn beside(helper: usize, amounts: &[(u32, u64)]) -> Judgement {
    let (owners, mut engine) = (with_helpers(), Engine::new());
    let slow = SyncRecord {
        own_device_ns: 5 * MS,
        own_span_ns: 5 * MS,
        journal_ns: 70 * MS,
        ..sync(80 * MS, &[(helper, 1.2)])
    };
    let work = |(owner, blocks): &(u32, u64)| tick::JournalWork {
        device: 0,
        owner: OwnerId(*owner),
        blocks: *blocks,
        held_ns: 0,
    };
    let journals: Vec<_> = amounts.iter().map(work).collect();
    quiet().iter().for_each(|record| {
        engine.ingest(record, &[], 0, 0, |_| &owners);
    });
    for second in 0..8 {
        let at_ns = 1000 * MS * (second + 1);
        let tick = Tick { at_ns, cpus: 2, journals: journals.clone(), ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
        for _ in 0..12 {
            engine.ingest(&SyncRecord { begin_ns: at_ns, ..slow }, &[], 0, 0, |_| &owners);
        }
    }
    judged(&engine.victims()[0])
}

/// Beside etcd, which makes 60 small changes a second, a tenant shuffles 5000 files a
/// second: 99 % of what is in the log are the tenant's. Another touches a few.
#[test]
fn what_a_helper_writes_is_for_those_who_filled_the_log() {
    for helper in [5, 6] {
        let verdict = beside(helper, &[(1, 60), (3, 20), (4, 8000)]);
        assert_eq!(verdict.kind, Kind::Owners, "{verdict:?}");
        let culprit = &verdict.culprits[0];
        assert_eq!((culprit.owner, culprit.via), (OwnerId(4), Via::Journal), "{verdict:?}");
        assert!((0.9..=1.0).contains(&culprit.share), "{verdict:?}");
        assert_eq!(verdict.culprits.len(), 1, "{verdict:?}");
    }
}

#[test]
fn where_nobody_is_known_a_helper_is_named_but_never_for_sure() {
    for helper in [5, 6] {
        let verdict = beside(helper, &[]);
        assert_eq!(verdict.kind, Kind::Owners, "{verdict:?}");
        assert_eq!(verdict.culprits[0].owner, OwnerId(helper as u32), "{verdict:?}");
        assert!(verdict.confidence < Confidence::High, "{verdict:?}");
    }
}

/// The victim's own changes are no neighbour's doing.
#[test]
fn what_a_helper_writes_of_the_victims_own_changes_is_its_own_doing() {
    let verdict = beside(5, &[(1, 60)]);
    assert_eq!((verdict.kind, verdict.culprits.len()), (Kind::Own, 0), "{verdict:?}");
}

#[test]
fn a_users_process_is_no_helper_by_its_name_alone() {
    let actor = |name, kthread| ActorId { cgroup: 0, comm: comm(name), kthread };
    for name in ["kworker", "xfsaild/dm-1"] {
        assert!(actor(name, true).is_helper(), "{name}");
        assert!(!actor(name, false).is_helper(), "{name}");
    }
    for name in ["jbd2/loop0-8", "nfsd", "dmcrypt_write/2", "md127_resync"] {
        assert!(!actor(name, true).is_helper(), "{name}");
    }
}
