//! Processes and threads that a victim waits for, which wait themselves.

use super::*;
use crate::helper::{Helper, Role};

/// The server of the victims' disk, held up for some milliseconds of a second in which
/// the disk always had requests in flight.
fn server(cpu_ms: u64, limit_ms: u64) -> Helper {
    Helper {
        role: Role::Server,
        disk: Some(0),
        device: 0,
        tgid: 812,
        comm: "sim-disk".into(),
        cgroup: "/".into(),
        cpu_ns: cpu_ms * MS,
        limit_ns: limit_ms * MS,
        setting: "cpu.cfs_quota_us 1500".into(),
        disk_ns: 0,
        own_disk: String::new(),
        of_ns: 1000 * MS,
    }
}

fn journal(cpu_ms: u64) -> Helper {
    let comm = "jbd2/loop0-8".into();
    Helper { role: Role::Journal, tgid: 77, comm, of_ns: 0, ..server(cpu_ms, 0) }
}

/// 100 ms of quiet syncs, then 400 ms of syncs at the device: 90 % of these, 360 ms,
/// are excess, and what holds the server up for 62 % of the time is 310 ms of it.
fn slow() -> Vec<SyncRecord> {
    let mut syncs = quiet();
    let at_device =
        SyncRecord { own_device_ns: 10 * MS, own_span_ns: 10 * MS, ..sync(10 * MS, &[]) };
    syncs.extend(vec![at_device; 40]);
    syncs
}

fn with(syncs: &[SyncRecord], helpers: Vec<Helper>, contenders: Vec<tick::Contender>) -> Judgement {
    after_tick(syncs, Tick { helpers, contenders, ..Tick::default() })
}

fn hog(of: u32, ms: u64) -> tick::Contender {
    tick::Contender { victim_tgid: of, owner: OwnerId(4), ns: ms * MS }
}

#[test]
fn a_servers_quota_is_the_limit_and_no_device() {
    let judged = with(&slow(), vec![server(620, 600)], vec![]);
    assert_eq!((judged.kind, judged.confidence), (Kind::Limit, Confidence::High), "{judged:?}");
    assert!((0.84..0.88).contains(&judged.shares.limit), "{:?}", judged.shares);
    assert!(judged.helpers[0].is_cause && judged.helpers[0].limit > 0.61);
}

#[test]
fn who_had_the_cpu_of_a_server_is_named() {
    let judged = with(&slow(), vec![server(620, 0)], vec![hog(812, 600)]);
    assert_eq!((judged.kind, judged.confidence), (Kind::Cpu, Confidence::High), "{judged:?}");
    assert_eq!((judged.culprits[0].owner, judged.culprits[0].via), (OwnerId(4), Via::Runqueue));
    // Whoever had the CPU of another process did the victim no harm.
    let other = with(&slow(), vec![server(620, 0)], vec![hog(813, 600)]);
    assert_eq!((other.kind, other.culprits.len()), (Kind::Cpu, 0), "{other:?}");
}

#[test]
fn a_server_that_waits_for_less_than_a_third_of_the_time_is_not_the_cause() {
    for (ms, kind) in [(320, Kind::Device), (345, Kind::Cpu)] {
        let judged = with(&slow(), vec![server(ms, 0)], vec![hog(812, ms)]);
        assert_eq!(judged.kind, kind, "{ms} ms: {judged:?}");
        assert_eq!(judged.helpers[0].is_cause, kind == Kind::Cpu);
    }
    let well = with(&slow(), vec![server(20, 0)], vec![hog(812, 20)]);
    assert_eq!((well.kind, well.shares.cpu), (Kind::Device, 0.0), "{well:?}");
}

#[test]
fn a_server_of_another_disk_plays_no_part() {
    let judged =
        with(&slow(), vec![Helper { disk: Some(5), ..server(900, 0) }], vec![hog(812, 900)]);
    assert_eq!(judged.kind, Kind::Device);
    assert!(judged.helpers.is_empty() && judged.culprits.is_empty(), "{judged:?}");
}

/// Requests of others wait for the server just as well.
#[test]
fn a_tenant_of_a_starved_server_is_not_blamed_for_it() {
    let mut syncs = quiet();
    syncs.extend(vec![sync(10 * MS, &[(3, 1.0)]); 40]);
    let alone = with(&syncs, vec![], vec![]);
    assert_eq!(alone.culprits[0].owner, OwnerId(3));
    let judged = with(&syncs, vec![server(950, 0)], vec![hog(812, 900)]);
    assert_eq!((judged.kind, judged.culprits[0].owner), (Kind::Cpu, OwnerId(4)), "{judged:?}");
    assert!(judged.culprits.iter().all(|one| one.owner != OwnerId(3)), "{judged:?}");
}

#[test]
fn who_has_the_cpu_of_the_journals_thread_is_named_and_no_toucher() {
    let mut syncs = quiet();
    let commit =
        SyncRecord { journal_ns: 18 * MS, own_device_ns: 0, own_span_ns: 0, ..sync(20 * MS, &[]) };
    syncs.extend(vec![commit; 40]);
    let journals =
        vec![tick::JournalWork { device: 0, owner: OwnerId(3), blocks: 200, held_ns: 0 }];
    let tick = Tick { journals, ..Tick::default() };
    assert_eq!(after_tick(&syncs, tick.clone()).culprits[0].owner, OwnerId(3));
    let contenders = vec![hog(77, 650)];
    let judged = after_tick(&syncs, Tick { helpers: vec![journal(680)], contenders, ..tick });
    assert_eq!((judged.kind, judged.culprits[0].owner), (Kind::Cpu, OwnerId(4)), "{judged:?}");
    let toucher = judged.culprits.iter().find(|one| one.owner == OwnerId(3));
    assert!(toucher.is_none_or(|one| one.share < 0.2), "{judged:?}");
    assert!(judged.shares.cpu > 0.75, "{judged:?}");
}

#[test]
fn a_servers_own_disk_is_named_beside_the_device() {
    let waits = Helper { disk_ns: 800 * MS, own_disk: "sdb".into(), ..server(10, 0) };
    let judged = with(&slow(), vec![waits], vec![]);
    let one = &judged.helpers[0];
    assert_eq!((judged.kind, &*one.own_disk, one.disk), (Kind::Device, "sdb", 0.8), "{judged:?}");
}

proptest! {
    #[test]
    fn shares_add_up_whatever_helpers_say(
        role in prop_oneof![Just(Role::Server), Just(Role::Journal), Just(Role::Worker)],
        cpu_ns in 0..u64::MAX / 4,
        limit_ns in 0..u64::MAX / 4,
        of_ns in prop_oneof![Just(0), 0..2_000 * MS],
        others in 0.0..4.0,
        journal_ns in 0..20 * MS,
    ) {
        let mut syncs = quiet();
        let record = SyncRecord { journal_ns, ..sync(20 * MS, &[(3, others)]) };
        syncs.extend(vec![record; 40]);
        let helper = Helper { role, cpu_ns, limit_ns, of_ns, ..server(0, 0) };
        let judged = with(&syncs, vec![helper], vec![hog(812, 100)]);
        let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } = judged.shares;
        let parts = [owners, cpu, memory, limit, filesystem, own, device, unexplained];
        prop_assert!(parts.iter().all(|part| *part >= -1e-9), "{parts:?}");
        prop_assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{parts:?}");
    }
}
