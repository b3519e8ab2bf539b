//! Actors are named as culprits, cleared or ruled out, with a confidence.

use tracer_ebpf::record::via;

use super::{
    seconds::{actor, tenant, victim},
    shares::{BASIS, RUNQUEUE, assert_shares, charged, charges, divided, findings, other, sum},
    *,
};
use crate::{
    account::{Basis, DividedExcess},
    histogram::Evidence,
    phases::ByPhase,
    sums::Half,
    suspect::Second,
    verdict::{Cleared, Finding},
};

/// Records `syncs` syncs of `ms` each with an actor, in the first stratum.
fn record_evidence(victim: &mut Victim, actor: ActorId, syncs: u64, ms: u64) {
    for _ in 0..syncs {
        victim.syncs[0].record(ms * MS);
        victim.suspect(actor, OwnerId(1)).record_evidence(0, ms * MS);
    }
}

/// Records `syncs` syncs of `ms` each without anybody.
fn without(victim: &mut Victim, syncs: u64, ms: u64) {
    (0..syncs).for_each(|_| victim.syncs[0].record(ms * MS));
}

#[test]
fn whom_the_evidence_clears_is_blamed_for_nothing() {
    let mut victim = charged();
    // The tenant's syncs are as long as those without it, the other's longer.
    without(&mut victim, 40, 10);
    record_evidence(&mut victim, tenant(), 30, 10);
    record_evidence(&mut victim, other(), 30, 80);
    let mut account = divided(&victim, &sum(), &[]);
    account.clear_suspects();
    let owners = 50.0 + 7.0 + 6.0;
    let unexplained = 17.0 + 30.0 + 21.0 + 18.0;
    assert_shares(&account, [owners, 32.0, 30.0, 0.0, 19.0, 40.0, unexplained]);
    // It ran and took memory all the same.
    let (_, ruled_out) = account.findings(1_000.0, &sum(), BASIS);
    let tenants = ruled_out.iter().find(|one| one.actor == tenant()).unwrap();
    assert_eq!((tenants.wait_ns, tenants.cleared), (11.75, Some(Cleared::Lift)));
}

/// A twentieth of the excess makes a culprit: 80.75 of 1615.
#[test]
fn culprits_have_a_twentieth_and_the_rest_is_ruled_out() {
    let victim = charged();
    let account = divided(&victim, &sum(), &[]);
    let of = |total: f64| {
        let (culprits, ruled_out) = account.findings(total, &sum(), BASIS);
        let owners = |found: Vec<Finding>| found.iter().map(|one| one.owner.0).collect::<Vec<_>>();
        (owners(culprits), owners(ruled_out))
    };
    assert_eq!(of(1_615.0), (vec![2, 1], vec![4]));
    assert_eq!(of(1_616.0), (vec![2], vec![1, 4]));
    assert_eq!(of(1_966.0), (vec![], vec![1, 2, 4]));
}

#[test]
fn those_who_were_not_there_are_not_even_ruled_out() {
    let mut victim = victim(0);
    let (absent, seen, charged) = (actor(31, "absent"), actor(32, "seen"), actor(33, "charged"));
    victim.suspect(absent, OwnerId(1));
    record_evidence(&mut victim, seen, 3, 10);
    victim.suspect(charged, OwnerId(3)).now = charges(&[(op::METADATA, 1.0)]);
    let own = victim.actor();
    victim.suspect(own, OwnerId(4)).now = charges(&[(op::WRITE, 1.0)]);
    let (culprits, ruled_out) =
        DividedExcess::new(&victim, Span::Window).findings(100.0, &sum(), BASIS);
    let found: Vec<_> = ruled_out.iter().map(|one| (one.actor, one.lift.with_n)).collect();
    assert_eq!((culprits.len(), found), (0, vec![(seen, 3), (charged, 0)]));
    // Without any request the first class stands for all.
    assert!(ruled_out.iter().all(|one| one.charge == op::READ as usize));
}

/// The reasons for which one is ruled out.
#[test]
fn one_is_cleared_by_its_syncs_or_its_demand_or_its_share() {
    let cleared = |syncs: u64, ms: u64, work: f32, was_well: bool, basis: Basis| {
        let mut victim = victim(0);
        without(&mut victim, 40, 10);
        record_evidence(&mut victim, tenant(), syncs, ms);
        victim.well_seconds = u32::from(was_well);
        let suspect = victim.suspect(tenant(), OwnerId(1));
        (suspect.lived.work, suspect.grown) = (work, 0.1);
        let (_, ruled_out) =
            DividedExcess::new(&victim, Span::Window).findings(100.0, &sum(), basis);
        ruled_out[0].cleared
    };
    let without_lifts = Basis { has_lifts: false, ..BASIS };
    assert_eq!(cleared(30, 10, 1.0, true, BASIS), Some(Cleared::Lift));
    assert_eq!(cleared(30, 80, 1.0, true, BASIS), Some(Cleared::Steady));
    assert_eq!(cleared(30, 10, 1.0, true, without_lifts), Some(Cleared::Steady));
    assert_eq!(cleared(30, 80, 1.0, false, BASIS), Some(Cleared::Share));
    assert_eq!(cleared(30, 80, 0.0, true, BASIS), Some(Cleared::Share));
}

/// The one finding on a tenant that was charged so.
fn found(now: &[(u32, f32)], sum: &Half) -> Finding {
    let mut victim = victim(0);
    victim.suspect(tenant(), OwnerId(1)).now = charges(now);
    let mut account = DividedExcess::new(&victim, Span::Window);
    account.divide(&victim, sum, RUNQUEUE, &[]);
    let (mut culprits, _) = account.findings(100.0, sum, BASIS);
    culprits.remove(0)
}

#[test]
fn a_culprit_is_met_where_it_did_most_harm() {
    let mut sum = sum();
    let of = |sum: &Half, now: &[(u32, f32)]| {
        let found = found(now, sum);
        (found.via, found.charge as u32)
    };
    let requests = [(op::READ, 20.0), (op::DISCARD, 60.0), (op::WRITE, 19.0)];
    // The queue's 3 and the throttle's 4 are more than the device's 6.
    let phases = |queue, throttle, device| {
        ByPhase::from([(Phase::Queue, queue), (Phase::Throttle, throttle), (Phase::Device, device)])
    };
    sum.phases.ns = phases(3, 4, 6);
    assert_eq!(of(&sum, &requests), (Via::Queue, op::DISCARD));
    sum.phases.ns = phases(3, 4, 7);
    assert_eq!(of(&sum, &requests), (Via::Device, op::DISCARD));
    sum.phases.ns = phases(1, 4, 4);
    assert_eq!(of(&sum, &requests), (Via::Queue, op::DISCARD));
    // 64 of the journal and its commits, 32 of the CPU, 30 of memory.
    assert_eq!(of(&sum, &[(op::METADATA, 1.0), (op::WRITE, 63.0)]), (Via::Journal, op::METADATA));
    assert_eq!(of(&sum, &[(op::METADATA, 1.0), (op::WRITE, 65.0)]), (Via::Queue, op::WRITE));
    assert_eq!(of(&sum, &[(op::CPU, 1.0), (op::WRITE, 31.0)]), (Via::Runqueue, op::CPU));
    assert_eq!(of(&sum, &[(op::MEMORY, 1.0), (op::WRITE, 29.0)]), (Via::Memory, op::MEMORY));
    assert_eq!(of(&sum, &[(op::MEMORY, 1.0), (op::CPU, 1.0)]), (Via::Runqueue, op::CPU));
}

/// A suspect with a share of the excess, evidence, and a change of the victim's syncs.
struct Case {
    actor: ActorId,
    charge: u32,
    total: f64,
    ms: u64,
    /// The syncs without it, in ms.
    quick_ms: u64,
    /// Its syncs' mean after and before it came, in ms, or those of its leaving.
    change: Option<(bool, u64, u64)>,
    basis: Basis,
}

fn case() -> Case {
    Case {
        actor: tenant(),
        charge: op::WRITE,
        total: 64.0,
        ms: 80,
        quick_ms: 10,
        change: None,
        basis: BASIS,
    }
}

/// Its charge is 32 in all cases: of requests, or all of the CPU's wait.
fn confidence(case: Case) -> Confidence {
    let mut victim = victim(0);
    without(&mut victim, 40, case.quick_ms);
    record_evidence(&mut victim, case.actor, 30, case.ms);
    if let Some((started, after, before)) = case.change {
        for (ago, second) in victim.seconds.iter_mut().enumerate() {
            let ms = if ago < 10 { after } else { before };
            *second = Second { syncs: 10, sum_ns: (10 * ms * MS) as f32 };
        }
        let there = if started { (1 << 10) - 1 } else { u64::MAX << 10 };
        victim.suspect(case.actor, OwnerId(1)).seconds = there;
    }
    let amount = if case.charge == op::WRITE { 32.0 } else { 1.0 };
    victim.suspect(case.actor, OwnerId(1)).now = charges(&[(case.charge, amount)]);
    let mut sum = sum();
    sum.parts = Division { journal_ns: 32.0, memory_ns: 32.0, ..Division::default() };
    let mut account = DividedExcess::new(&victim, Span::Window);
    account.divide(&victim, &sum, RUNQUEUE, &[]);
    let (culprits, _) = account.findings(case.total, &sum, case.basis);
    culprits[0].confidence
}

#[test]
fn two_opinions_that_agree_are_sure_on_a_device_that_is_well() {
    use Confidence::{High, Low, Medium};
    assert_eq!(confidence(case()), High, "half of the excess");
    assert_eq!(confidence(Case { total: 65.0, ..case() }), Medium);
    let kernels = ActorId { kthread: true, ..tenant() };
    assert_eq!(confidence(Case { actor: kernels, ..case() }), Medium);
    let but = |basis: Basis, charge| confidence(Case { basis, charge, ..case() });
    assert_eq!(but(Basis { is_standing: true, ..BASIS }, op::WRITE), Medium);
    let standing = Basis { is_standing: true, was_well: false, ..BASIS };
    assert_eq!((but(standing, op::WRITE), but(standing, op::METADATA)), (Low, Medium));
    let unknown = Basis { is_device_well: false, ..BASIS };
    let young = Basis { has_long_past: false, ..BASIS };
    assert_eq!((but(unknown, op::WRITE), but(young, op::WRITE)), (Medium, Medium));
    // Whoever fills the journal or takes memory needs no device for that.
    assert_eq!((but(unknown, op::METADATA), but(unknown, op::MEMORY)), (High, High));
    // Without comparisons it is the share alone.
    let without_lifts = Basis { has_lifts: false, ..BASIS };
    assert_eq!(but(without_lifts, op::WRITE), Medium);
    assert_eq!(confidence(Case { basis: without_lifts, total: 65.0, ..case() }), Low);
    // Syncs as long without it contradict the share.
    assert_eq!(confidence(Case { ms: 10, ..case() }), Low);
    assert_eq!(confidence(Case { ms: 12, ..case() }), Medium, "neither accused nor cleared");
    assert_eq!(confidence(Case { ms: 12, total: 65.0, ..case() }), Low);
}

/// A victim that was never well waits behind others' requests on a slow disk, too.
#[test]
fn beside_a_victim_that_was_never_well_quick_syncs_without_it_are_needed() {
    let never_well = |quick_ms| {
        let basis = Basis { is_standing: true, was_well: false, ..BASIS };
        confidence(Case { quick_ms, basis, ..case() })
    };
    assert_eq!([never_well(9), never_well(11)], [Confidence::Medium, Confidence::Low]);
}

/// One and a half times as long with it as without.
#[test]
fn a_change_when_it_came_or_went_is_an_opinion() {
    let changed = |started, after, before, basis| {
        let change = Some((started, after, before));
        confidence(Case { ms: 10, change, basis, ..case() })
    };
    assert_eq!(changed(true, 15, 10, BASIS), Confidence::Medium);
    assert_eq!(changed(true, 14, 10, BASIS), Confidence::Low);
    assert_eq!(changed(false, 10, 15, BASIS), Confidence::Medium);
    assert_eq!(changed(false, 10, 14, BASIS), Confidence::Low);
    assert_eq!(changed(false, 15, 10, BASIS), Confidence::Low, "it left, and they were longer");
    let small = Basis { has_lifts: false, ..BASIS };
    let change = Some((true, 15, 10));
    let of = confidence(Case { ms: 10, change, basis: small, total: 65.0, ..case() });
    assert_eq!(of, Confidence::Low, "another device was compared");
}

#[test]
fn whoever_had_the_cpu_was_seen_to_have_it() {
    let unknown = Basis { has_lifts: false, is_standing: true, is_device_well: false, ..BASIS };
    let of = |total| confidence(Case { charge: op::CPU, ms: 10, basis: unknown, total, ..case() });
    assert_eq!((of(64.0), of(65.0)), (Confidence::High, Confidence::Medium));
}

/// It has half of the excess, and a twentieth of the time of all syncs or less.
#[test]
fn who_runs_before_each_sync_for_a_moment_is_no_culprit() {
    let mut victim = victim(0);
    without(&mut victim, 40, 10);
    victim.suspect(tenant(), OwnerId(1)).now = charges(&[(op::CPU, 1.0)]);
    let of = |duration_ns| {
        let mut sum = sum();
        sum.duration_ns = duration_ns;
        let account = divided(&victim, &sum, &[]);
        let (culprits, ruled_out) = account.findings(2.0 * RUNQUEUE, &sum, BASIS);
        (culprits.len(), ruled_out.len())
    };
    let twentieth = 20 * RUNQUEUE as u64;
    assert_eq!((of(twentieth), of(twentieth + 1)), ((1, 0), (0, 1)));
}

/// 32 of 64 ns are no more than the half.
#[test]
fn half_of_a_wait_is_not_most_of_it() {
    let of = |cpu: f64, basis: Basis| {
        let mut victim = victim(0);
        without(&mut victim, 40, 10);
        record_evidence(&mut victim, tenant(), 30, 10);
        victim.suspect(tenant(), OwnerId(1)).now = charges(&[(op::CPU, 1.0), (op::METADATA, 1.0)]);
        let mut sum = sum();
        sum.parts = Division { journal_ns: 32.0, ..Division::default() };
        let mut account = DividedExcess::new(&victim, Span::Window);
        account.divide(&victim, &sum, cpu, &[]);
        account.findings(64.0, &sum, basis).0[0].confidence
    };
    assert_eq!(of(33.0, BASIS), Confidence::High);
    assert_eq!(of(32.0, BASIS), Confidence::Low, "its syncs are as long without it");
    // Requests that are half of it need no device that is well.
    let mut victim = victim(0);
    without(&mut victim, 40, 10);
    record_evidence(&mut victim, tenant(), 30, 80);
    let confidence = |victim: &mut Victim, requests: f32| {
        let now = charges(&[(op::WRITE, requests), (op::METADATA, 1.0)]);
        victim.suspect(tenant(), OwnerId(1)).now = now;
        let mut sum = sum();
        sum.parts = Division { journal_ns: 32.0, ..Division::default() };
        let mut account = DividedExcess::new(victim, Span::Window);
        account.divide(victim, &sum, 0.0, &[]);
        let unknown = Basis { is_device_well: false, ..BASIS };
        account.findings(64.0, &sum, unknown).0[0].confidence
    };
    assert_eq!(confidence(&mut victim, 32.0), Confidence::High);
    assert_eq!(confidence(&mut victim, 33.0), Confidence::Medium);
}

/// The worst by requests is compared among all syncs, others among those it disturbed.
#[test]
fn the_worst_of_a_span_is_compared_among_all_syncs() {
    let mut victim = victim(0);
    victim.syncs = [Evidence::default(), Evidence::default()];
    for _ in 0..60 {
        victim.syncs[0].record(MS);
        victim.syncs[1].record(40 * MS);
    }
    for (who, requests) in [(tenant(), 5.0), (other(), 9.0)] {
        let suspect = victim.suspect(who, OwnerId(1));
        suspect.now = charges(&[(op::WRITE, requests), (op::METADATA, 99.0 - requests)]);
        (0..30).for_each(|_| suspect.record_evidence(1, 40 * MS));
    }
    let found = findings(&DividedExcess::new(&victim, Span::Window), 10.0);
    let without: Vec<_> = found.iter().map(|one| (one.actor, one.lift.without_n)).collect();
    assert_eq!(without, [(other(), 90), (tenant(), 30)]);
}

#[test]
fn what_a_worker_discards_is_not_divided_by_blocks() {
    let (mut victim, worker) = (charged(), actor(0, "kworker"));
    let now = charges(&[(op::WRITE, 16.0), (op::DISCARD, 20.0)]);
    victim.suspect(worker, OwnerId(4)).now = now;
    let mut account = DividedExcess::new(&victim, Span::Window);
    account.divide(&victim, &sum(), RUNQUEUE, &[]);
    let (culprits, _) = account.findings(258.0, &sum(), BASIS);
    let found = culprits.iter().find(|one| one.actor == worker).expect("it is named");
    assert_eq!((found.charge as u32, found.wait_ns), (op::DISCARD, 20.0));
    assert!(found.confidence < Confidence::High, "it has no name: {found:?}");
}

#[test]
fn whoever_freed_what_is_discarded_is_no_one_who_discards() {
    for (of, frees) in [(via::FREED, true), (via::DIRECT, false)] {
        let mut owners = owners();
        (owners[3].op, owners[3].via) = (op::DISCARD as u16, of);
        let mut engine = Engine::new();
        engine.ingest(&sync(30 * MS, &[(1, 0.1), (3, 1.0)]), &[], 0, 0, |_| &owners);
        let mut victim = Victim::clone(&engine.victims()[0]);
        victim.settle_all_as_it_is();
        let account = DividedExcess::new(&victim, Span::Window);
        let (culprits, _) = account.findings(1e6, &sum(), BASIS);
        let found = culprits.iter().find(|one| one.owner == OwnerId(3)).expect("it is named");
        assert_eq!((found.charge as u32, found.frees), (op::DISCARD, frees));
    }
}
