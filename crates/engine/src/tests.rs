use proptest::prelude::*;
use tracer_ebpf::{
    ledger::tick,
    record::{COMM, NO_DISK, kind, op},
};
use zerocopy::FromZeros as _;

use super::{
    blame::{Known, divide},
    phases::Phase,
    second::Needs,
    tick::LimitKind,
    verdict::{Judgement, Shares, judge},
    victim::Span,
    *,
};
use crate::kind::{Confidence, Kind, Via};

mod around;
mod busy;
mod checkpoints;
mod compared;
mod currency;
mod demands;
mod devices;
mod divisions;
mod drops;
mod edges;
mod findings;
mod freeze;
mod growth;
mod helped;
mod helper;
mod histograms;
mod holders;
mod layers;
mod logs;
mod memory;
mod outside;
mod paces;
mod pauses;
mod references;
mod seconds;
mod settled;
mod shares;
mod stalls;
mod stop;
mod suspects;
mod ticks;
mod triggers;
mod unfinished;
mod verdicts;
mod victims;

const MS: u64 = 1_000_000;

pub(super) fn comm(name: &str) -> [u8; COMM] {
    let mut comm = [0; COMM];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

/// Account 1 is etcd's, 2 its journal's, 3 fstrim's, 4 a tenant's.
fn owners() -> [Owner; ACCOUNTS] {
    let mut owners = [Owner::default(); ACCOUNTS];
    let named = [("etcd", 10, false), ("jbd2/loop0-8", 0, true), ("fstrim", 20, false)];
    for (at, (name, cgroup, kthread)) in (1u32..).zip(named) {
        owners[at as usize] = Owner {
            id: OwnerId(at),
            cgroup,
            comm: comm(name),
            kthread,
            op: 1,
            weight_ns: 1,
            via: 0,
        };
    }
    owners[4] = Owner {
        id: OwnerId(4),
        cgroup: 30,
        comm: comm("fio"),
        kthread: false,
        op: 1,
        weight_ns: 1,
        via: 0,
    };
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
        record.integrals[*account] = tick((duration_ns as f64 * mean) as u64);
    }
    record
}

fn victim_after(syncs: &[SyncRecord]) -> Victim {
    let (owners, mut engine) = (owners(), Engine::new());
    for record in syncs {
        engine.ingest(record, &[], 0, 0, |_| &owners);
    }
    Victim::clone(&engine.victims()[0])
}

fn blame_of(victim: &Victim, owner: u32) -> f64 {
    let suspects = victim.suspects.iter().filter(|s| s.owner == OwnerId(owner));
    suspects.map(|s| s.total.iter().sum::<f64>() + s.fresh_ns()).sum()
}

fn judged(victim: &Victim) -> Judgement {
    let mut victim = victim.clone();
    victim.settle_all_as_it_is();
    judge(&victim, &victim.sum(Span::Period), Span::Period)
}

fn kind(victim: &Victim) -> Kind {
    judged(victim).kind
}

/// Quiet syncs that teach the baseline.
fn quiet() -> Vec<SyncRecord> {
    vec![sync(MS, &[]); 100]
}

/// The engine after these syncs and one tick, and one after those that are quiet.
fn after_tick(syncs: &[SyncRecord], tick: Tick) -> Judgement {
    let (owners, mut engine) = (owners(), Engine::new());
    let (quiet, rest) = syncs.split_at(quiet().len());
    for record in quiet {
        engine.ingest(record, &[], 0, 0, |_| &owners);
    }
    engine.tick(&Tick { at_ns: 500 * MS, ..Tick::default() }, |_| ActorId::default());
    for record in rest {
        engine.ingest(record, &[], 0, 0, |_| &owners);
    }
    let tick = Tick { at_ns: 1_500 * MS, cpus: 2, ..tick };
    engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    judged(&engine.victims()[0])
}

#[test]
fn nobody_is_blamed_when_only_the_victim_and_its_journal_are_there() {
    let quiet = vec![sync(MS, &[(1, 0.5), (2, 0.7)]); 100];
    let victim = victim_after(&quiet);
    assert!(victim.suspects.is_empty());
    assert_eq!(kind(&victim), Kind::None);
}

#[test]
fn a_trim_that_makes_syncs_ten_times_slower_is_the_culprit() {
    let mut syncs = vec![sync(MS, &[(1, 0.5)]); 100];
    syncs.extend(vec![sync(10 * MS, &[(1, 0.5), (2, 1.0), (3, 1.0)]); 50]);
    let victim = victim_after(&syncs);
    let judged = judged(&victim);
    assert_eq!(judged.kind, Kind::Owners);
    let culprit = &judged.culprits[0];
    // Nothing is known of the device here.
    assert_eq!((culprit.owner, culprit.confidence), (OwnerId(3), Confidence::Medium));
    assert!(culprit.share > 0.9 && culprit.lift.supports_blame(), "{culprit:?}");
    assert_eq!(blame_of(&victim, 2), 0.0, "the journal of the sync is its effect");
    assert_eq!(blame_of(&victim, 1), 0.0, "the victim is no culprit of its own");
}

/// Two syncs in a hundred are a seventh of all the time, and p99.
#[test]
fn a_slow_tail_is_slow() {
    let trimmed = |count| {
        let mut syncs = vec![sync(MS, &[]); 980];
        syncs.extend(vec![sync(10 * MS, &[(3, 1.0)]); count]);
        judged(&victim_after(&syncs))
    };
    let judged = trimmed(20);
    assert_eq!((judged.kind, judged.culprits[0].owner), (Kind::Owners, OwnerId(3)));
    assert_eq!(trimmed(4).kind, Kind::None, "neither the sum nor p99 is slow");
}

#[test]
fn two_culprits_are_blamed_by_their_work_in_flight() {
    let mut syncs = quiet();
    syncs.extend(vec![sync(20 * MS, &[(3, 1.0), (4, 3.0)]); 50]);
    let victim = victim_after(&syncs);
    let ratio = blame_of(&victim, 4) / blame_of(&victim, 3);
    assert!((2.99..3.01).contains(&ratio), "{ratio}");
}

#[test]
fn one_long_discard_outweighs_thirty_small_reads_and_those_an_idle_write() {
    let mut owners = owners();
    let weigh = |owners: &mut [Owner; ACCOUNTS], at: usize, op, weight_ns| {
        (owners[at].op, owners[at].weight_ns) = (op, weight_ns);
    };
    weigh(&mut owners, 3, op::DISCARD as u16, 40_000_000);
    weigh(&mut owners, 4, op::READ as u16, 100_000);
    let ratio = |owners: &[Owner; ACCOUNTS], in_flight: &[(usize, f64)]| {
        let mut engine = Engine::new();
        engine.ingest(&sync(20 * MS, in_flight), &[], 0, 0, |_| owners);
        let victim = &engine.victims()[0];
        blame_of(victim, 3) / blame_of(victim, 4)
    };
    assert!(ratio(&owners, &[(3, 1.0), (4, 30.0)]) > 10.0);
    weigh(&mut owners, 3, op::WRITE as u16, 100_000);
    assert!(ratio(&owners, &[(3, 1.0), (4, 30.0)]) < 0.1);
}

#[test]
fn an_owner_that_stopped_gets_no_blame_from_the_next_sync_on() {
    let mut syncs = quiet();
    syncs.extend(vec![sync(10 * MS, &[(3, 1.0)]); 10]);
    let before = blame_of(&victim_after(&syncs), 3);
    syncs.extend(vec![sync(10 * MS, &[(4, 1.0)]); 10]);
    assert_eq!(blame_of(&victim_after(&syncs), 3), before);
}

#[test]
fn work_in_flight_explains_no_more_than_its_own_time() {
    let mut syncs = quiet();
    syncs.extend(vec![sync(50 * MS, &[(3, 0.1)]); 40]);
    let victim = victim_after(&syncs);
    let per_sync = blame_of(&victim, 3) / 40.0;
    assert!((per_sync / (5.0 * MS as f64) - 1.0).abs() < 0.01, "{per_sync}");
    assert_eq!(kind(&victim), Kind::Device);
}

#[test]
fn slow_syncs_with_nobody_else_in_flight_are_the_devices_own() {
    let mut syncs = quiet();
    let slow = SyncRecord { own_device_ns: 29 * MS, own_span_ns: 29 * MS, ..sync(30 * MS, &[]) };
    syncs.extend(vec![slow; 300]);
    let victim = victim_after(&syncs);
    let judged = judged(&victim);
    assert_eq!(judged.kind, Kind::Device);
    assert!(judged.shares.device > 0.9 && judged.culprits.is_empty(), "{judged:?}");
}

#[test]
fn a_device_that_was_never_fast_is_slow_all_the_same() {
    let slow =
        SyncRecord { own_device_ns: 900 * MS, own_span_ns: 900 * MS, ..sync(1000 * MS, &[]) };
    assert_eq!(kind(&victim_after(&vec![slow; 60])), Kind::Device);
}

#[test]
fn slow_syncs_on_no_disk_are_nobodys_that_is_known() {
    let on_none = |duration| SyncRecord { disk: NO_DISK, own_span_ns: 0, ..sync(duration, &[]) };
    let mut syncs = vec![on_none(MS); 100];
    syncs.extend(vec![on_none(30 * MS); 30]);
    assert_eq!(kind(&victim_after(&syncs)), Kind::Unseen);
}

#[test]
fn what_no_phase_accounts_for_stays_unexplained() {
    let locked = SyncRecord { own_device_ns: 0, own_span_ns: 0, ..sync(30 * MS, &[]) };
    let mut syncs = quiet();
    syncs.extend(vec![locked; 30]);
    let judged = judged(&victim_after(&syncs));
    assert_eq!(judged.kind, Kind::Unexplained);
    assert!(judged.shares.unexplained > 0.9);
}

#[test]
fn the_victims_other_requests_are_its_own_doing() {
    let mut syncs = quiet();
    syncs.extend(vec![sync(20 * MS, &[(1, 4.0)]); 50]);
    assert_eq!(kind(&victim_after(&syncs)), Kind::Own);
}

#[test]
fn more_to_write_is_its_own_doing_and_a_slower_disk_is_not() {
    let owners = owners();
    for (need_ns, then) in [(20 * MS, Kind::Own), (MS, Kind::Device)] {
        let mut engine = Engine::new();
        let mut ingest = |length, need_ns| {
            engine.ingest(&sync(length, &[]), &[], 0, need_ns, |_| &owners);
        };
        (0..100).for_each(|_| ingest(MS, MS));
        (0..40).for_each(|_| ingest(20 * MS, need_ns));
        assert_eq!(kind(&engine.victims()[0]), then);
    }
}

#[test]
fn what_is_of_the_victims_own_cgroup_is_no_neighbour() {
    let (mut owners, mut engine) = (owners(), Engine::new());
    owners[4].cgroup = 10;
    let mut syncs = quiet();
    syncs.extend(vec![sync(20 * MS, &[(4, 4.0)]); 50]);
    for record in &syncs {
        engine.ingest(record, &[], 0, 0, |_| &owners);
    }
    let judged = judged(&engine.victims()[0]);
    assert_eq!((judged.kind, judged.in_house), (Kind::Own, true), "{judged:?}");
    assert_eq!(judged.culprits[0].owner, OwnerId(4), "it is named all the same");
}

#[test]
fn a_periodic_suspect_beside_a_continuous_culprit_is_cleared() {
    let (owners, mut engine) = (owners(), Engine::new());
    let mut at = 0;
    let mut ingest = |record: SyncRecord, times: usize, engine: &mut Engine| {
        for _ in 0..times {
            at += record.duration_ns;
            engine.ingest(&SyncRecord { begin_ns: at, ..record }, &[], 0, 0, |_| &owners);
        }
        engine.rotate();
    };
    ingest(sync(MS, &[]), 100, &mut engine);
    for _ in 0..6 {
        ingest(sync(20 * MS, &[(3, 1.0)]), 100, &mut engine);
        ingest(sync(20 * MS, &[(3, 1.0), (4, 1.0)]), 15, &mut engine);
    }
    let judged = judged(&engine.victims()[0]);
    assert_eq!(judged.culprits.len(), 1, "{judged:?}");
    assert_eq!(judged.culprits[0].owner, OwnerId(3));
    assert_eq!(judged.ruled_out[0].owner, OwnerId(4));
    assert_eq!(judged.ruled_out[0].cleared, Some(verdict::Cleared::Lift));
}

#[test]
fn on_disks_below_workers_carry_and_others_compete() {
    let mut owners = owners();
    let worker = Owner { id: OwnerId(5), comm: comm("kworker"), kthread: true, ..owners[3] };
    owners[5] = worker;
    let mut below = UnderlyingWindow { disk: 7, integrals: [0; ACCOUNTS] };
    below.integrals[5] = tick(20 * MS);
    let mut engine = Engine::new();
    engine.ingest(&sync(20 * MS, &[]), &[below], 0, 0, |_| &owners);
    assert!(engine.victims()[0].suspects.is_empty());
    below.integrals[4] = tick(20 * MS);
    engine.ingest(&sync(20 * MS, &[]), &[below], 0, 0, |_| &owners);
    assert!(blame_of(&engine.victims()[0], 4) > 0.0);
}

#[test]
fn a_torn_integral_is_counted_and_blames_nobody() {
    let mut torn = sync(10 * MS, &[]);
    torn.integrals[3] = u64::MAX / 4;
    let (owners, mut engine) = (owners(), Engine::new());
    engine.ingest(&torn, &[], 0, 0, |_| &owners);
    assert_eq!(engine.torn(), 1);
    assert!(engine.victims()[0].suspects.is_empty());
}

#[test]
fn the_victim_that_synced_longest_ago_makes_room() {
    let (owners, mut engine) = (owners(), Engine::new());
    for file in 0..600 {
        let mut record = sync(MS, &[]);
        record.begin_ns = u64::from(file) * MS;
        engine.ingest(&record, &[], file, 0, |_| &owners);
    }
    assert_eq!(engine.victims().len(), 512);
    assert_eq!(engine.evicted(), 88);
    assert!(engine.victims().iter().all(|v| v.key.file >= 88));
}

#[test]
fn the_window_forgets_after_two_rotations() {
    let (owners, mut engine) = (owners(), Engine::new());
    engine.ingest(&sync(10 * MS, &[(3, 1.0)]), &[], 0, 0, |_| &owners);
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
        parts in prop::collection::vec(any::<u64>(), 13),
    ) {
        let mut record = SyncRecord::new_zeroed();
        record.duration_ns = duration;
        let fields = [
            &mut record.cpu_ns,
            &mut record.runqueue_ns,
            &mut record.own_queue_ns,
            &mut record.own_device_ns,
            &mut record.own_span_ns,
            &mut record.journal_ns,
            &mut record.journal_queue_ns,
            &mut record.journal_device_ns,
            &mut record.throttle_ns,
            &mut record.reclaim_ns,
        ];
        for (field, part) in fields.into_iter().zip(&parts) {
            *field = *part;
        }
        record.journal_stage_ns.copy_from_slice(&parts[10..]);
        let p = Phases::of(&record);
        prop_assert_eq!(p.ns[Phase::Cpu] + p.ns[Phase::Runqueue] + p.wait_ns(), duration);
        prop_assert!(p.journal_io_ns <= p.ns[Phase::Queue] + p.ns[Phase::Device]);
        let stages: u64 = p.journal_stage_ns.iter().sum();
        prop_assert!(stages <= p.ns[Phase::Journal] + p.journal_io_ns);
    }

    /// Blame of all competitors and all other parts are the excess; who has
    /// nothing in flight gets exactly nothing.
    #[test]
    fn blame_adds_up_to_the_excess(
        duration in MS..1000 * MS,
        integrals in prop::collection::vec(0.0f64..20.0, 8),
        weights in prop::collection::vec(0u32..50_000_000, 8),
        parts in prop::array::uniform4(0u64..500 * MS),
        absent in 3usize..8,
    ) {
        let mut owners = owners();
        for (at, owner) in owners.iter_mut().enumerate().take(8) {
            let comm = if at < 4 { owner.comm } else { comm(&format!("x{at}")) };
            let id = OwnerId(at as u32);
            *owner = Owner { id, cgroup: owner.cgroup.max(10), comm, ..*owner };
            owner.weight_ns = weights[at];
        }
        let in_flight: Vec<_> =
            integrals.iter().enumerate().filter(|(at, _)| *at != absent).map(|(i, a)| (i, *a)).collect();
        let mut record = sync(duration, &in_flight);
        [record.journal_ns, record.journal_device_ns, record.throttle_ns, record.reclaim_ns] = parts;
        let mut engine = Engine::new();
        let judged = engine.ingest(&record, &[], 0, 0, |_| &owners);
        let victim = &engine.victims()[0];
        let blamed: f64 = victim.suspects.iter().map(suspect::Suspect::fresh_ns).sum();
        let d = judged.division;
        prop_assert!((blamed - d.others_ns).abs() <= 1e-5 * (d.others_ns + 1.0));
        let parts = d.others_ns + d.own_ns + d.memory_ns + d.throttle_ns + d.stopped_ns + d.handles_ns + d.journal_ns + d.commits_ns
            + d.device_ns + d.unexplained_ns;
        prop_assert!((parts - d.excess_ns).abs() <= 1e-6 * (d.excess_ns + 1.0));
        prop_assert!(d.excess_ns <= duration as f64);
        prop_assert_eq!(blame_of(victim, absent as u32), 0.0);

        let shares = tests::judged(victim).shares;
        let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } = shares;
        let sum = owners + cpu + memory + limit + filesystem + own + device + unexplained;
        prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-6, "{:?}", shares);
    }
}

#[test]
fn a_victim_takes_eleven_kib_and_little_for_each_actor() {
    assert!(size_of::<Victim>() <= 11 << 10, "{}", size_of::<Victim>());
    assert!(size_of::<suspect::Suspect>() <= 344, "{}", size_of::<suspect::Suspect>());
}

#[test]
fn who_synced_a_few_times_long_ago_is_forgotten_and_the_others_are_found_again() {
    let (owners, mut engine) = (owners(), Engine::new());
    let file_at = |engine: &mut Engine, file: u32, begin_ns: u64| {
        let record = SyncRecord { begin_ns, ..sync(MS, &[]) };
        engine.ingest(&record, &[], file, 0, |_| &owners).victim
    };
    file_at(&mut engine, 0, 0);
    for n in 0..30 {
        file_at(&mut engine, 1, n * MS);
    }
    let later_ns = 700_000 * MS;
    file_at(&mut engine, 2, later_ns);
    (0..FADE_EVERY).for_each(|_| engine.rotate());
    let files: Vec<_> = engine.victims().iter().map(|victim| victim.key.file).collect();
    assert_eq!(files, [1, 2]);
    assert_eq!(file_at(&mut engine, 1, later_ns), 0);
    assert_eq!(file_at(&mut engine, 2, later_ns), 1);
    assert_eq!(file_at(&mut engine, 0, later_ns), 2);
}

#[test]
fn the_first_syncs_of_all_are_no_verdict() {
    let disturbed = |count| vec![sync(20 * MS, &[(3, 1.0)]); count];
    assert_eq!(kind(&victim_after(&disturbed(19))), Kind::Unknown);
    assert_eq!(kind(&victim_after(&disturbed(20))), Kind::Owners);
    let mut known = quiet();
    known.extend(disturbed(19));
    assert_eq!(kind(&victim_after(&known)), Kind::Owners, "it has a past");
}
