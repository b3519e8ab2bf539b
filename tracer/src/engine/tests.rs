use proptest::prelude::*;
use tracer_ebpf::{
    ledger::tick,
    record::{COMM, kind},
};
use zerocopy::FromZeros as _;

use super::{blame::OwnerId, *};
use crate::snapshot::Verdict;

const MS: u64 = 1_000_000;

fn comm(name: &str) -> [u8; COMM] {
    let mut comm = [0; COMM];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

/// Account 1 is etcd's, 2 its journal's, 3 fstrim's, 4 a tenant's.
fn owners() -> [Owner; ACCOUNTS] {
    let mut owners = [Owner::default(); ACCOUNTS];
    let named = [("etcd", 10, false), ("jbd2/loop0-8", 0, true), ("fstrim", 20, false)];
    for (at, (name, cgroup, kthread)) in (1u32..).zip(named) {
        owners[at as usize] =
            Owner { id: OwnerId(at), cgroup, comm: comm(name), kthread, weight_ns: 1 };
    }
    owners[4] =
        Owner { id: OwnerId(4), cgroup: 30, comm: comm("fio"), kthread: false, weight_ns: 1 };
    owners
}

/// A sync of etcd's: its length, and requests in flight on average per account.
fn sync(duration_ns: u64, in_flight: &[(usize, f64)]) -> SyncRecord {
    let mut record = SyncRecord::new_zeroed();
    record.duration_ns = duration_ns;
    record.cgroup = 10;
    record.comm = comm("etcd");
    record.kind = kind::FDATASYNC;
    record.own_device_ns = duration_ns / 2;
    record.own_span_ns = duration_ns / 2;
    for (account, mean) in in_flight {
        record.areas[*account] = tick((duration_ns as f64 * mean) as u64);
    }
    record
}

fn victim_after(syncs: &[SyncRecord]) -> Victim {
    let (owners, mut engine) = (owners(), Engine::new());
    for record in syncs {
        engine.sync(record, &[], 0, |_| &owners);
    }
    engine.victims()[0].clone()
}

fn blame_of(victim: &Victim, owner: u32) -> f64 {
    victim.blamed.iter().find(|b| b.owner == OwnerId(owner)).map_or(0.0, |b| b.total_ns)
}

#[test]
fn nobody_is_blamed_when_only_the_victim_and_its_journal_are_there() {
    let quiet = vec![sync(MS, &[(1, 0.5), (2, 0.7)]); 100];
    let victim = victim_after(&quiet);
    assert!(victim.blamed.is_empty());
    assert_eq!(victim.verdict(), Verdict::None);
}

#[test]
fn a_trim_that_makes_syncs_ten_times_slower_is_the_culprit() {
    let mut syncs = vec![sync(MS, &[(1, 0.5)]); 100];
    syncs.extend(vec![sync(10 * MS, &[(1, 2.0), (2, 1.0), (3, 1.0)]); 50]);
    let victim = victim_after(&syncs);
    assert_eq!(victim.verdict(), Verdict::Owners);
    let (excess, ..) = victim.excess_ns();
    assert!(blame_of(&victim, 3) > 0.5 * excess);
    assert_eq!(blame_of(&victim, 2), 0.0, "the journal of the sync is its effect");
    assert_eq!(blame_of(&victim, 1), 0.0, "the victim is no culprit of its own");
}

#[test]
fn two_culprits_are_blamed_by_their_work_in_flight() {
    let mut syncs = vec![sync(MS, &[]); 100];
    syncs.extend(vec![sync(20 * MS, &[(3, 1.0), (4, 3.0)]); 50]);
    let victim = victim_after(&syncs);
    let ratio = blame_of(&victim, 4) / blame_of(&victim, 3);
    assert!((2.99..3.01).contains(&ratio), "{ratio}");
}

#[test]
fn an_owner_that_stopped_gets_no_blame_from_the_next_sync_on() {
    let mut syncs = vec![sync(MS, &[]); 100];
    syncs.extend(vec![sync(10 * MS, &[(3, 1.0)]); 10]);
    let before = blame_of(&victim_after(&syncs), 3);
    syncs.extend(vec![sync(10 * MS, &[(4, 1.0)]); 10]);
    assert_eq!(blame_of(&victim_after(&syncs), 3), before);
}

#[test]
fn slow_syncs_with_nobody_else_in_flight_are_the_devices_own() {
    let mut syncs = vec![sync(MS, &[]); 100];
    syncs.extend(vec![sync(30 * MS, &[]); 30]);
    let victim = victim_after(&syncs);
    assert_eq!(victim.verdict(), Verdict::Device);
    assert!(victim.blamed.is_empty());
}

#[test]
fn slow_syncs_on_no_disk_are_nobodys_that_is_known() {
    let on_none = |duration| SyncRecord { disk: NO_DISK, ..sync(duration, &[]) };
    let mut syncs = vec![on_none(MS); 100];
    syncs.extend(vec![on_none(30 * MS); 30]);
    assert_eq!(victim_after(&syncs).verdict(), Verdict::Unseen);
    // One that met its disk is enough.
    syncs.push(sync(30 * MS, &[]));
    assert_eq!(victim_after(&syncs).verdict(), Verdict::Device);
}

#[test]
fn waiting_for_a_cpu_is_no_ones_disk() {
    let mut starved = sync(10 * MS, &[(3, 0.2)]);
    starved.runqueue_ns = 8 * MS;
    starved.own_device_ns = MS;
    starved.own_span_ns = MS;
    let mut syncs = vec![sync(MS, &[]); 100];
    syncs.extend(vec![starved; 60]);
    assert_eq!(victim_after(&syncs).verdict(), Verdict::Cpu);
}

#[test]
fn the_victims_other_requests_are_its_own_doing() {
    let mut syncs = vec![sync(MS, &[]); 100];
    syncs.extend(vec![sync(20 * MS, &[(1, 4.0)]); 50]);
    assert_eq!(victim_after(&syncs).verdict(), Verdict::Own);
}

#[test]
fn a_torn_integral_is_counted_and_blames_nobody() {
    let mut torn = sync(10 * MS, &[]);
    torn.areas[3] = u64::MAX / 4;
    let (owners, mut engine) = (owners(), Engine::new());
    engine.sync(&torn, &[], 0, |_| &owners);
    assert_eq!(engine.torn(), 1);
    assert!(engine.victims()[0].blamed.is_empty());
}

#[test]
fn the_victim_that_synced_longest_ago_makes_room() {
    let (owners, mut engine) = (owners(), Engine::new());
    for file in 0..600 {
        let mut record = sync(MS, &[]);
        record.begin_ns = u64::from(file) * MS;
        engine.sync(&record, &[], file, |_| &owners);
    }
    assert_eq!(engine.victims().len(), 512);
    assert_eq!(engine.evicted(), 88);
    assert!(engine.victims().iter().all(|v| v.key.file >= 88));
}

#[test]
fn the_window_forgets_after_two_rotations() {
    let (owners, mut engine) = (owners(), Engine::new());
    engine.sync(&sync(10 * MS, &[(3, 1.0)]), &[], 0, |_| &owners);
    engine.rotate();
    assert_eq!(engine.victims()[0].before.syncs, 1);
    engine.rotate();
    let victim = &engine.victims()[0];
    assert_eq!((victim.now.syncs, victim.before.syncs, victim.syncs_total), (0, 0, 1));
}

proptest! {
    #[test]
    fn phases_add_up_whatever_the_clocks_say(
        duration in 0u64..1 << 40,
        parts in prop::array::uniform6(any::<u64>()),
    ) {
        let mut record = SyncRecord::new_zeroed();
        record.duration_ns = duration;
        [
            record.cpu_ns,
            record.runqueue_ns,
            record.own_queue_ns,
            record.own_device_ns,
            record.own_span_ns,
            record.journal_ns,
        ] = parts;
        let p = Phases::of(&record);
        let sum = p.cpu_ns + p.runqueue_ns + p.queue_ns + p.device_ns + p.journal_ns + p.other_ns;
        prop_assert_eq!(sum, duration);
    }

    /// Blame of all competitors, its own and the device's part are the excess;
    /// who has nothing in flight gets exactly nothing.
    #[test]
    fn blame_adds_up_to_the_excess(
        duration in MS..1000 * MS,
        areas in prop::collection::vec(0.0f64..20.0, 8),
        absent in 3usize..8,
    ) {
        let mut owners = owners();
        for (at, owner) in owners.iter_mut().enumerate().skip(4) {
            *owner = Owner { id: OwnerId(at as u32), cgroup: 99, comm: comm("x"), kthread: false, weight_ns: 1 };
        }
        let in_flight: Vec<_> =
            areas.iter().enumerate().filter(|(at, _)| *at != absent).map(|(i, a)| (i, *a)).collect();
        let mut engine = Engine::new();
        let judged = engine.sync(&sync(duration, &in_flight), &[], 0, |_| &owners);
        let victim = &engine.victims()[0];
        let blamed: f64 = victim.blamed.iter().map(|b| b.total_ns).sum();
        let (excess, alone, own) = victim.excess_ns();
        prop_assert!((blamed + alone + own - excess).abs() <= 1e-6 * (excess + 1.0));
        prop_assert!(judged.division.excess_ns <= duration as f64);
        prop_assert_eq!(blame_of(victim, absent as u32), 0.0);
    }
}
