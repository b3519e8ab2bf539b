//! One second of a victim is settled. The numbers are worked out beside each test from the
//! constants of `second`, and from docs/design/blame.md.

use super::{demands::assert_near, *};
use crate::{
    demand::{Asked, Lived, Slot},
    phases::ByPhase,
    reference::{Grade, Level, Reference},
    second::{Circumstances, is_short},
    victim::{MAX_BASELINE_NS, VictimKey},
};

pub(super) const SECOND: u64 = 1_000_000_000;
const M: f64 = 1e6;

pub(super) fn actor(cgroup: u64, name: &str) -> ActorId {
    ActorId { cgroup, comm: comm(name), kthread: cgroup == 0 }
}

pub(super) fn tenant() -> ActorId {
    actor(20, "fio")
}

pub(super) fn jbd2() -> ActorId {
    actor(0, "jbd2/vda1-8")
}

/// A victim that is known to wait for `usual_ms` while it is well.
pub(super) fn victim(usual_ms: u64) -> Victim {
    let key = VictimKey { cgroup: 10, comm: comm("etcd"), file: 0, device: 0 };
    let mut victim = Victim::new(0, key);
    if usual_ms > 0 {
        victim.usual = Reference::kept(Level { ns: usual_ms * MS, batches: 100 });
    }
    victim
}

/// Requests of 100 µs each.
pub(super) fn asks(actor: ActorId, requests: f64) -> Asked {
    Asked { actor, requests, work: requests * 100e3, ..Asked::default() }
}

pub(super) fn slot(asked: &[Asked]) -> Slot {
    Slot { asked: asked.to_vec(), ..Slot::default() }
}

/// The victim lives with this number of requests of an actor.
pub(super) fn lives_with(victim: &mut Victim, actor: ActorId, requests: f64) {
    let mut lived = Lived::default();
    lived.learn(Some(&asks(actor, requests)), 0);
    victim.suspect(actor, OwnerId(1)).lived = lived;
}

/// One sync that waited for `wait_ms`.
pub(super) fn waits(wait_ms: u64) -> Phases {
    Phases { ns: ByPhase::from([(Phase::Device, wait_ms * MS)]), ..Phases::default() }
}

fn needs(ns: u64, requests: u64) -> Needs {
    Needs { ns, requests }
}

/// A sync of the last second with this division.
pub(super) fn add(victim: &mut Victim, wait_ms: u64, division: &Division) {
    victim.fresh.add(division, &waits(wait_ms), Needs::default(), wait_ms * MS);
}

/// 70 of 100 ms are blamed on others and on the victim's own requests.
pub(super) fn division() -> Division {
    Division {
        excess_ns: 100.0 * M,
        others_ns: 50.0 * M,
        own_ns: 30.0 * M,
        own_behind_ns: 20.0 * M,
        device_ns: 6.0 * M,
        unexplained_ns: 14.0 * M,
        ..Division::default()
    }
}

/// The parts of what was settled so far, in ms.
#[track_caller]
fn assert_parts(victim: &Victim, [others, own, commits, device, unexplained]: [f64; 5]) {
    let parts = victim.now.parts;
    assert_near(parts.others_ns / M, others);
    assert_near(parts.own_ns / M, own);
    assert_near(parts.commits_ns / M, commits);
    assert_near(parts.device_ns / M, device);
    assert_near(parts.unexplained_ns / M, unexplained);
    assert_eq!(*victim.total, parts);
}

#[test]
fn a_commit_waits_for_three_requests_more() {
    let of = |own_requests, journal_ns| {
        Needs::of(&SyncRecord { own_requests, journal_ns, ..sync(MS, &[]) }, 77)
    };
    assert_eq!(of(4, 0), needs(77, 4));
    assert_eq!(of(4, 1), needs(77, 7));
}

fn circumstances() -> Circumstances {
    Circumstances {
        excess_ns: 100.0,
        slow_ns: 50.0,
        well_ns: 30.0,
        times_ns: 250.0,
        slow_seconds: 3,
        unsure_ns: 20.0,
    }
}

#[test]
fn circumstances_add_up_and_count_by_their_part_of_the_excess() {
    let mut sum = circumstances();
    sum.add(&circumstances());
    sum.add(&Circumstances::default());
    let twice = Circumstances {
        excess_ns: 200.0,
        slow_ns: 100.0,
        well_ns: 60.0,
        times_ns: 500.0,
        slow_seconds: 6,
        unsure_ns: 40.0,
    };
    assert_eq!(sum, twice);
    for (part, is) in [(0.51, false), (0.5, true), (0.3, true)] {
        assert_eq!(sum.is_slow(part), is);
    }
    assert_eq!((sum.is_well(0.31), sum.is_well(0.3), sum.is_well(0.2)), (false, true, true));
    assert_eq!((sum.is_unsure(0.21), sum.is_unsure(0.2), sum.is_unsure(0.1)), (false, true, true));
    assert_eq!(sum.times(), 2.5);
    let none = Circumstances::default();
    assert_eq!((none.is_slow(0.5), none.is_well(0.5), none.is_unsure(0.5)), (false, false, false));
    assert_eq!(none.times(), 1.0);
}

/// A ms for each.
#[test]
fn syncs_are_short_of_a_cpu_or_of_memory_from_a_ms_each_on() {
    assert!(is_short(3 * MS, 3) && !is_short(3 * MS - 1, 3));
    assert!(!is_short(3 * MS, 0) && !is_short(0, 0));
}

#[test]
fn the_mean_wait_of_eight_syncs_is_usual_unless_they_were_short() {
    let usual = |device_times: f32, short: u64, syncs: usize| {
        let mut victim = victim(0);
        victim.device_times = device_times;
        let ns = [(Phase::Device, (20 - short) * MS), (Phase::Reclaim, short * MS)];
        let phases = Phases { ns: ByPhase::from(ns), ..Phases::default() };
        for _ in 0..syncs {
            victim.fresh.add(&Division::default(), &phases, Needs::default(), 25 * MS);
        }
        victim.settle(&Slot::default(), SECOND);
        victim.usual_wait_ns()
    };
    // Evidence is coarse: its buckets are a quarter wide.
    let is_about = |usual: Option<f64>, ms: f64| (usual.unwrap() / ms / M - 1.0).abs() < 0.25;
    assert!(is_about(usual(0.0, 0, 8), 20.0));
    assert!(is_about(usual(2.0, 0, 8), 10.0), "it would wait half as long on a well disk");
    assert_eq!((usual(0.0, 0, 7), usual(0.0, 1, 8)), (None, None));
    // It waits for a CPU too.
    let mut waits_too = victim(0);
    let ns = ByPhase::from([(Phase::Device, 10 * MS), (Phase::Runqueue, MS / 2)]);
    let phases = Phases { ns, ..Phases::default() };
    let mut by = |division: &Division| {
        waits_too.fresh.add(division, &phases, Needs::default(), 20 * MS);
    };
    (0..3).for_each(|_| by(&Division::default()));
    assert_eq!((waits_too.fresh.wait_ns, waits_too.fresh.syncs), (63 * MS / 2, 3));
}

#[test]
fn eight_quicker_batches_on_end_begin_its_good_seconds_anew() {
    let mut victim = victim(20);
    let syncs = |victim: &mut Victim| {
        (0..8).for_each(|_| add(victim, 1, &Division::default()));
        victim.settle(&Slot::default(), SECOND);
    };
    (victim.disks.seconds, victim.well_seconds) = (5, 5);
    (0..7).for_each(|_| syncs(&mut victim));
    assert_eq!((victim.disks.seconds, victim.well_seconds), (5, 12));
    assert_eq!((victim.well.count(), victim.well_p90_ns.is_some()), (56, true));
    syncs(&mut victim);
    assert_eq!((victim.disks.seconds, victim.well_seconds), (0, 1));
    assert_eq!((victim.well.count(), victim.well_p90_ns), (8, None));
}

/// One and a half times the usual wait is well.
#[test]
fn a_second_is_good_up_to_half_as_long_again() {
    let is_good = |change: fn(&mut Victim), phases: Phases| {
        let mut victim = victim(10);
        change(&mut victim);
        victim.fresh.add(&Division::default(), &phases, Needs::default(), 15 * MS);
        victim.settle(&Slot::default(), SECOND);
        victim.was_well()
    };
    assert!(is_good(|_| (), waits(15)));
    let mut longer = waits(15);
    longer.ns[Phase::Device] += 1;
    assert!(!is_good(|_| (), longer));
    let mut short = waits(1);
    short.ns[Phase::Reclaim] = MS;
    assert!(!is_good(|_| (), short), "it is short of memory");
    assert!(!is_good(|victim| victim.device_times = 2.0, waits(15)), "the device is slow");
    assert!(is_good(|victim| victim.device_times = 1.0, waits(15)));
    assert!(!is_good(|victim| victim.usual = Reference::default(), waits(15)));
    // The mean of two counts: 10 and 20 ms.
    let mut two = victim(10);
    add(&mut two, 10, &Division::default());
    add(&mut two, 20, &Division::default());
    two.settle(&Slot::default(), SECOND);
    assert_eq!((two.well_seconds, two.well.count()), (1, 2));
    // A second without a sync is none.
    two.settle(&slot(&[asks(tenant(), 10.0)]), 2 * SECOND);
    assert_eq!((two.well_seconds, two.disks.seconds), (1, 0));
}

/// 8192 syncs of good seconds are remembered, and their p90 counts from 20 on.
#[test]
fn its_good_syncs_are_kept_and_halved() {
    let mut known = victim(10);
    let settle = |victim: &mut Victim, syncs: usize| {
        (0..syncs).for_each(|_| add(victim, 10, &Division::default()));
        victim.settle(&Slot::default(), SECOND);
        (victim.well.count(), victim.well_p90_ns.is_some())
    };
    assert_eq!(settle(&mut known, 19), (19, false));
    assert_eq!(settle(&mut known, 1), (20, true));
    assert_eq!(settle(&mut known, 8_171), (8_191, true));
    assert_eq!(settle(&mut known, 1), (8_192, true));
    assert_eq!(settle(&mut known, 1), (4_097, true));
    for ns in [known.well_p90_ns.unwrap() as f64, known.well_p99_ns().unwrap()] {
        assert!((ns / 10.0 / M - 1.0).abs() < 0.25, "{ns}");
    }
    assert_eq!(
        (victim(0).well_p99_ns(), victim(0).was_well(), known.was_well()),
        (None, false, true)
    );
}

/// A thousandth of all that its disks are asked for: 1 of 1000 requests.
#[test]
fn a_good_second_teaches_what_it_lives_with() {
    let mut victim = victim(10);
    let (small, least) = (actor(30, "small"), actor(31, "least"));
    let others = [asks(tenant(), 998.0), asks(least, 1.0), asks(small, 0.9)];
    let own = asks(victim.actor(), 0.1);
    add(&mut victim, 10, &Division::default());
    let mut seen = slot(&[&others[..], &[own]].concat());
    seen.did.work = 70e6;
    victim.settle(&seen, SECOND);
    let known: Vec<_> = victim.suspects.iter().map(|suspect| suspect.actor).collect();
    assert_eq!(known, [tenant(), least, victim.actor()]);
    let work: Vec<_> = victim.suspects.iter().map(|suspect| suspect.lived.work).collect();
    assert_eq!(work, [99.8e6, 0.1e6, 0.01e6]);
    assert_eq!((victim.disks.seconds, victim.disks.asked()), (1, 70e6));
    // The level of the second second is the mean of both.
    add(&mut victim, 10, &Division::default());
    victim.settle(&slot(&[asks(tenant(), 1_198.0)]), 2 * SECOND);
    assert_near(victim.suspects[0].lived.work.into(), 109.8e6);
    assert_near(victim.suspects[1].lived.work.into(), 0.05e6);
    // Nothing is learnt from one in which it waited for long.
    add(&mut victim, 16, &Division::default());
    victim.settle(&slot(&[asks(tenant(), 9_998.0)]), 3 * SECOND);
    assert_near(victim.suspects[0].lived.work.into(), 109.8e6);
    assert!(victim.suspects[0].lived.is_more(), "but its work of late is known");
}

#[test]
fn without_good_seconds_blame_stays_with_those_who_were_there() {
    let blamed = |change: fn(&mut Victim), slot: &Slot| {
        let mut victim = victim(10);
        (victim.disks.seconds, victim.well_seconds) = (5, 5);
        change(&mut victim);
        victim.suspect(tenant(), OwnerId(1)).fresh[op::WRITE as usize] = 50e6;
        add(&mut victim, 40, &division());
        victim.settle(slot, SECOND);
        victim
    };
    let asked = slot(&[asks(tenant(), 10.0)]);
    let as_it_is = [50.0, 30.0, 0.0, 6.0, 14.0];
    for known in [
        blamed(|victim| victim.usual = Reference::default(), &asked),
        blamed(|victim| victim.disks.seconds = 0, &asked),
        blamed(|_| (), &Slot::default()),
    ] {
        assert_parts(&known, as_it_is);
        assert_eq!(known.now.circumstances, Circumstances::default());
        assert_eq!(known.suspects[0].now[op::WRITE as usize], 50e6);
    }
    let known = blamed(|_| (), &asked);
    assert_eq!(known.now.circumstances.excess_ns, 100e6);
}

/// Beside a device that is twice as slow, 10 ms are usual on a well one. The blame is 70
/// ms, and the device has 6 already.
fn beside_reference(wait_ms: u64, known: Grade, division: &Division) -> Victim {
    let mut victim = victim(10);
    (victim.device_times, victim.disks.known) = (2.0, known);
    victim.suspect(tenant(), OwnerId(1)).fresh[op::READ as usize] = 50e6;
    add(&mut victim, wait_ms, division);
    victim.settle(&slot(&[asks(tenant(), 10.0)]), SECOND);
    victim
}

#[test]
fn beside_a_reference_the_device_has_its_part() {
    // Twice by the device and three times by the load: 1 · 4 to 2 · 3, of 76 ms.
    let victim = beside_reference(60, Grade::Good, &division());
    let keep = (70.0 - (0.4 * 76.0 - 6.0)) / 70.0;
    assert_parts(&victim, [50.0 * keep, 30.0 - 20.0 * (1.0 - keep), 0.0, 0.4 * 76.0, 14.0]);
    assert_near(victim.suspects[0].now[op::READ as usize].into(), 50.0 * M * keep);
    let now = Circumstances {
        excess_ns: 100e6,
        slow_ns: 100e6,
        times_ns: 200e6,
        slow_seconds: 1,
        ..Circumstances::default()
    };
    assert_eq!(victim.now.circumstances, now);
    assert_eq!(beside_reference(60, Grade::Young, &division()).now.circumstances.slow_seconds, 0);
    let none = Division { excess_ns: 0.0, ..division() };
    assert_eq!(beside_reference(60, Grade::Good, &none).now.circumstances.slow_seconds, 0);
}

#[test]
fn beside_a_reference_a_load_of_less_than_half_as_long_again_is_none() {
    assert_parts(&beside_reference(29, Grade::Good, &division()), [0.0, 10.0, 0.0, 76.0, 14.0]);
    // At one and a half times it has 1 · 2.5 to 0.5 · 3: 5/8 of 76.
    let keep = (70.0 - (0.625 * 76.0 - 6.0)) / 70.0;
    let parts = [50.0 * keep, 30.0 - 20.0 * (1.0 - keep), 0.0, 0.625 * 76.0, 14.0];
    assert_parts(&beside_reference(30, Grade::Good, &division()), parts);
    // The device never gives away what it has.
    let has_all = Division { device_ns: 600e6, ..division() };
    let parts = [50.0, 30.0, 0.0, 600.0, 14.0];
    assert_parts(&beside_reference(30_000, Grade::Good, &has_all), parts);
    // With nobody to blame there is nothing to divide.
    let alone = Division { others_ns: 0.0, own_ns: 10e6, own_behind_ns: 0.0, ..division() };
    assert_parts(&beside_reference(60, Grade::Good, &alone), [0.0, 10.0, 0.0, 6.0, 14.0]);
}

#[test]
fn only_a_device_that_is_slower_than_its_reference_has_such_a_part() {
    let mut victim = victim(10);
    victim.device_times = 1.0;
    add(&mut victim, 60, &division());
    victim.settle(&Slot::default(), SECOND);
    assert_parts(&victim, [50.0, 30.0, 0.0, 6.0, 14.0]);
    assert_eq!(victim.now.circumstances, Circumstances::default());
    assert!(victim.is_beside_reference() && !seconds::victim(10).is_beside_reference());
}

/// Two syncs that take 10 ms each, as always, need 5 ms alone: three quarters of the blame
/// stay.
#[test]
fn as_slow_as_ever_the_device_has_what_its_own_requests_need() {
    let standing = |usual_ns: u64, wait_ms: u64, need_ms: u64, known: Grade| {
        let mut victim = victim(0);
        victim.usual = Reference::kept(Level { ns: usual_ns, batches: 100 });
        (victim.disks.seconds, victim.well_seconds, victim.disks.known) = (5, 5, known);
        victim.suspect(tenant(), OwnerId(1)).fresh[op::READ as usize] = 50e6;
        let none = Division::default();
        victim.fresh.add(&none, &waits(wait_ms), needs(need_ms * MS / 2, 2), 20 * MS);
        victim.fresh.add(&division(), &waits(wait_ms), needs(need_ms * MS / 2, 2), 20 * MS);
        victim.settle(&slot(&[asks(tenant(), 10.0)]), SECOND);
        victim
    };
    let keeps = |victim: &Victim, keep: f64| {
        let device = 6.0 + 70.0 * (1.0 - keep);
        assert_parts(victim, [50.0 * keep, 30.0 - 20.0 * (1.0 - keep), 0.0, device, 14.0]);
        assert_near(victim.suspects[0].now[op::READ as usize].into(), 50.0 * M * keep);
        assert_eq!(victim.now.circumstances, Circumstances::default());
    };
    for known in [Grade::Young, Grade::Good] {
        keeps(&standing(20 * MS, 10, 5, known), 0.75);
    }
    keeps(&standing(20 * MS, 10, 30, Grade::Good), 0.0);
    keeps(&standing(20 * MS, 10, 5, Grade::None), 1.0);
    keeps(&standing(MAX_BASELINE_NS + 1, 10, 5, Grade::Good), 0.75);
    // Up to the guidance of 10 ms its own past counts.
    let own_past = standing(MAX_BASELINE_NS, 10, 5, Grade::Good);
    assert_eq!(own_past.now.circumstances.excess_ns, 100e6);
    // It counts for a wait beyond the usual one too.
    let own_past = standing(20 * MS, 31, 5, Grade::Good);
    assert_eq!(own_past.now.circumstances.excess_ns, 100e6);
}

/// A sync waits for 40 ms where 10 are usual. The tenant asks for 225 ms of work, of which
/// half are new (see `demands`), and has 48 ms of blame; a quarter of the victim's own work
/// is new, and a quarter of the journal's.
pub(super) fn busier() -> (Victim, Slot) {
    let mut victim = victim(10);
    let own = victim.actor();
    lives_with(&mut victim, tenant(), 900.0);
    lives_with(&mut victim, own, 900.0);
    lives_with(&mut victim, jbd2(), 900.0);
    (victim.disks.seconds, victim.well_seconds) = (5, 5);
    let fresh = &mut victim.suspect(tenant(), OwnerId(1)).fresh;
    (fresh[op::WRITE as usize], fresh[op::READ as usize]) = (40e6, 8e6);
    let busy = Asked { depth: 4.0, completed: 2_000.0, ..asks(tenant(), 2_250.0) };
    let slot = slot(&[busy, asks(own, 1_500.0), asks(jbd2(), 1_500.0)]);
    (victim, slot)
}

/// 48 + 30 + 12 ms are blamed, 20 of the 30 on the victim's own requests.
fn busy_division() -> Division {
    Division {
        excess_ns: 200e6,
        others_ns: 48e6,
        own_ns: 30e6,
        own_behind_ns: 20e6,
        commits_ns: 12e6,
        device_ns: 4e6,
        unexplained_ns: 1e6,
        ..Division::default()
    }
}

/// Two syncs make `requests` requests each, and wait for 40 ms.
fn busier_with(requests: u64) -> (Victim, Slot) {
    let (mut victim, slot) = busier();
    victim.fresh.add(&busy_division(), &waits(40), needs(0, requests), 50 * MS);
    victim.fresh.add(&Division::default(), &waits(40), needs(0, requests), 50 * MS);
    (victim, slot)
}

#[test]
fn blame_goes_to_those_who_ask_for_more_by_the_new_part_of_it() {
    // 24 of 48, 5 of 20 and 3 of 12 ms are new, and take the 80 on them: each 2.5 times.
    let (mut victim, slot) = busier_with(100);
    victim.settle(&slot, SECOND);
    assert_parts(&victim, [60.0, 10.0 + 12.5, 7.5, 4.0, 1.0]);
    let tenant = victim.suspects.iter().find(|suspect| suspect.actor == tenant()).unwrap();
    assert_near(tenant.now[op::WRITE as usize].into(), 50e6);
    assert_near(tenant.now[op::READ as usize].into(), 10e6);
    let now = Circumstances { excess_ns: 200e6, times_ns: 200e6, ..Circumstances::default() };
    assert_eq!(victim.now.circumstances, now);
}

/// Four in flight at 2000 completed a second are 2 ms each. Behind three of them for each
/// request 18 of 30 ms can be waited for, and the device has four tenths of 84 ms.
#[test]
fn the_device_has_what_waiting_behind_requests_cannot_explain() {
    let (mut victim, slot) = busier_with(3);
    victim.settle(&slot, SECOND);
    let keep = (80.0 - (0.4 * 84.0 - 4.0)) / 32.0;
    let parts = [24.0 * keep, 10.0 + 5.0 * keep, 3.0 * keep, 0.4 * 84.0, 1.0];
    assert_parts(&victim, parts);
    // If somebody writes and no flush was alone, it is not known.
    let (mut victim, mut slot) = busier_with(2);
    slot.asked[0].writes = true;
    victim.settle(&slot, SECOND);
    assert_parts(&victim, [60.0, 22.5, 7.5, 4.0, 1.0]);
    assert_eq!(victim.now.circumstances.unsure_ns, 200e6);
}

/// All ask for far less than they did.
#[test]
fn what_is_steady_is_not_blamed_on_the_load() {
    let (mut victim, slot) = busier_with(3);
    lives_with(&mut victim, tenant(), 9_000.0);
    let own = victim.actor();
    lives_with(&mut victim, own, 9_000.0);
    lives_with(&mut victim, jbd2(), 9_000.0);
    victim.settle(&slot, SECOND);
    assert_parts(&victim, [0.0, 10.0, 0.0, 84.0, 1.0]);
}

/// Evidence and blame of a second are gathered again in the next.
#[test]
fn a_second_is_settled_once() {
    let mut victim = victim(0);
    add(&mut victim, 40, &division());
    victim.settle(&Slot::default(), SECOND);
    victim.settle(&Slot::default(), 2 * SECOND);
    assert_parts(&victim, [50.0, 30.0, 0.0, 6.0, 14.0]);
    assert_eq!((victim.fresh.syncs, victim.fresh.wait_ns), (0, 0));
}
