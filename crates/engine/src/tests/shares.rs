//! The excess of a victim is divided between its causes and actors. The numbers are worked
//! out beside each test from the comments of `account`.

use super::{
    demands::assert_near,
    seconds::{actor, tenant, victim},
    *,
};
use crate::{
    account::{Basis, DividedExcess},
    helper::{Held, Role},
    phases::ByPhase,
    second::Circumstances,
    sums::Half,
    suspect::CHARGES,
    verdict::Finding,
};

pub(super) fn other() -> ActorId {
    actor(30, "restic")
}

fn worker() -> ActorId {
    actor(0, "kworker")
}

/// Charges by what for.
pub(super) fn charges(of: &[(u32, f32)]) -> [f32; CHARGES] {
    let mut charges = [0.0; CHARGES];
    of.iter().for_each(|(charge, amount)| charges[*charge as usize] = *amount);
    charges
}

/// The tenant has 30 of requests, the other 50, and a kernel worker 16 for whoever filled
/// the journal: 3 : 1 : 4 blocks of theirs and of the victim's. They ran for 4 and 12, and
/// took memory for 5, 15 and 20.
pub(super) fn charged() -> Victim {
    let mut victim = victim(0);
    let own = victim.actor();
    let all = [
        (op::READ, 20.0),
        (op::WRITE, 10.0),
        (op::METADATA, 3.0),
        (op::CPU, 4.0),
        (op::MEMORY, 5.0),
    ];
    victim.suspect(tenant(), OwnerId(1)).now = charges(&all);
    let all = [(op::WRITE, 50.0), (op::METADATA, 1.0), (op::CPU, 12.0), (op::MEMORY, 15.0)];
    victim.suspect(other(), OwnerId(2)).now = charges(&all);
    let all = [(op::METADATA, 4.0), (op::CPU, 100.0), (op::MEMORY, 20.0)];
    victim.suspect(own, OwnerId(3)).now = charges(&all);
    victim.suspect(worker(), OwnerId(4)).now = charges(&[(op::WRITE, 16.0)]);
    victim
}

/// Ten seconds of it.
pub(super) fn sum() -> Half {
    let mut sum = Half::default();
    sum.ticks = 10;
    sum.parts = Division {
        excess_ns: 238.0,
        others_ns: 96.0,
        own_ns: 11.0,
        memory_ns: 30.0,
        throttle_ns: 7.0,
        journal_ns: 40.0,
        commits_ns: 24.0,
        device_ns: 13.0,
        unexplained_ns: 17.0,
        ..Division::default()
    };
    sum
}

pub(super) const RUNQUEUE: f64 = 32.0;

/// The shares of owners, cpu, memory, limit, own, device and unexplained.
fn all(shares: Shares) -> [f64; 7] {
    let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } = shares;
    assert_eq!(filesystem, 0.0);
    [owners, cpu, memory, limit, own, device, unexplained]
}

#[track_caller]
pub(super) fn assert_shares(account: &DividedExcess<'_>, wanted: [f64; 7]) {
    for (is, wanted) in all(account.shares(2.0)).into_iter().zip(wanted) {
        assert_near(is, wanted / 2.0);
    }
}

pub(super) fn divided<'a>(victim: &'a Victim, sum: &Half, helpers: &[Held]) -> DividedExcess<'a> {
    let mut account = DividedExcess::new(victim, Span::Window);
    account.divide(victim, sum, RUNQUEUE, helpers);
    account
}

/// Each part by its owners: the journal's 40 and the worker's 16 by blocks, and the commits'
/// 24 by strangers' blocks. The device has the victim's half of 40, and throttling.
#[test]
fn each_part_goes_to_those_who_were_charged_for_it() {
    let victim = charged();
    let account = divided(&victim, &sum(), &[]);
    let owners = (30.0 + 21.0 + 18.0) + (50.0 + 7.0 + 6.0);
    let (own, device) = (11.0 + 8.0, 13.0 + 20.0 + 7.0);
    assert_shares(&account, [owners, 32.0, 30.0, 0.0, own, device, 17.0]);
    let found = findings(&account, 2.0);
    let waits: Vec<_> = found.iter().map(|one| (one.owner.0, one.wait_ns)).collect();
    // 63 + 24 + 11.25 of the other's and 69 + 8 + 3.75 of the tenant's; 15 of the memory it
    // takes itself.
    assert_eq!(waits, [(2, 98.25), (1, 80.75)]);
    assert_near(found[0].share, 98.25 / 2.0);
}

#[test]
fn a_commit_on_a_slow_device_is_as_long_as_the_device_makes_it() {
    let victim = charged();
    let mut slow = sum();
    slow.circumstances = Circumstances { excess_ns: 200.0, slow_ns: 100.0, ..slow.circumstances };
    // The blocks have the worker's 16, and nothing of the journal's time.
    let owners = (30.0 + 6.0 + 18.0) + (50.0 + 2.0 + 6.0);
    let device = 13.0 + 40.0 + 7.0;
    let parts = [owners, 32.0, 30.0, 0.0, 19.0, device, 17.0];
    assert_shares(&divided(&victim, &slow, &[]), parts);
    slow.circumstances.slow_ns = 99.0;
    assert_near(divided(&victim, &slow, &[]).shares(1.0).device, 40.0);
}

#[test]
fn a_span_has_its_own_charges() {
    let mut victim = victim(0);
    let suspect = victim.suspect(tenant(), OwnerId(1));
    (suspect.now, suspect.before) = (charges(&[(1, 5.0)]), charges(&[(1, 20.0), (0, 3.0)]));
    suspect.past = charges(&[(1, 100.0), (2, 70.0)]);
    let owners = |span| DividedExcess::new(&victim, span).shares(1.0).owners;
    assert_eq!((owners(Span::Window), owners(Span::Period)), (28.0, 198.0));
}

/// Three seconds of ten.
#[test]
fn a_limit_that_held_for_three_tenths_of_the_time_has_what_nobody_explains() {
    let victim = charged();
    let held = |cpu_ns, io_ns, ticks| {
        let mut held = sum();
        (held.limited_cpu_ns, held.limited_io_ns, held.ticks) = (cpu_ns, io_ns, ticks);
        all(divided(&victim, &held, &[]).shares(1.0))
    };
    let (owners, device) = (132.0, 40.0);
    let nobody = [owners, 32.0, 30.0, 0.0, 19.0, device, 17.0];
    assert_eq!(held(2_999_999_999, 2_999_999_999, 10), nobody);
    assert_eq!(held(3_000_000_000, 0, 10), [owners, 0.0, 30.0, 32.0, 19.0, device, 17.0]);
    assert_eq!(held(0, 3_000_000_000, 10), [owners, 32.0, 30.0, 24.0, 19.0, device - 7.0, 0.0]);
    assert_eq!(held(0, 0, 0), nobody, "no time was seen at all");
}

#[test]
fn without_charges_each_part_stays_where_it_arose() {
    let mut victim = victim(0);
    victim.suspect(worker(), OwnerId(4)).now = charges(&[(op::WRITE, 16.0)]);
    let account = divided(&victim, &sum(), &[]);
    let device = 13.0 + 40.0 + 24.0 + 7.0;
    assert_shares(&account, [16.0, 32.0, 30.0, 0.0, 11.0, device, 17.0]);
    // The commits' time is no kernel thread's and not the victim's.
    let own = victim.actor();
    victim.suspect(own, OwnerId(3)).now = charges(&[(op::METADATA, 4.0)]);
    let account = divided(&victim, &sum(), &[]);
    assert_shares(&account, [0.0, 32.0, 30.0, 0.0, 11.0 + 16.0, device, 17.0]);
}

fn held(role: Role, cpu: f64, limit: f64) -> Held {
    Held {
        role,
        tgid: 7,
        comm: String::new(),
        cgroup: String::new(),
        cpu,
        limit,
        disk: 0.0,
        setting: String::new(),
        own_disk: String::new(),
        is_cause: true,
    }
}

/// Held up for four tenths of 150 ns, 60: the 17 that are unexplained, the journal's 40 and
/// 3 of the commits' 24. A quarter of that is its limit's, and who ran has the rest.
#[test]
fn a_journals_thread_that_was_held_up_has_its_part_of_what_waits_for_it() {
    let victim = charged();
    let mut sum = sum();
    sum.phases.ns = ByPhase::from([(Phase::Other, 150)]);
    let account = divided(&victim, &sum, &[held(Role::Journal, 0.3, 0.1)]);
    // 12 and 4 of the worker's 16, and the commits' 21.
    let owners = 80.0 + (6.0 + 2.0) + 21.0;
    assert_shares(&account, [owners, 32.0 + 45.0, 30.0, 15.0, 19.0, 13.0 + 7.0, 0.0]);
    let as_ever = all(divided(&victim, &sum, &[]).shares(1.0));
    for other in [
        held(Role::Server, 0.3, 0.1),
        held(Role::Worker, 0.3, 0.1),
        Held { is_cause: false, ..held(Role::Journal, 0.3, 0.1) },
    ] {
        assert_eq!(all(divided(&victim, &sum, &[other]).shares(1.0)), as_ever);
    }
}

fn held_up<'a>(victim: &'a Victim, helper: Held, wait_ns: f64) -> DividedExcess<'a> {
    let mut account = divided(victim, &sum(), &[]);
    account.hold_up_the_disk(&[helper], wait_ns);
    account
}

#[test]
fn a_worker_of_the_disk_that_was_held_up_has_the_devices_part() {
    let victim = charged();
    // Half of 60 ns is of the device's 40; a fifth of it is the limit's.
    let account = held_up(&victim, held(Role::Worker, 0.4, 0.1), 60.0);
    assert_shares(&account, [132.0, 32.0 + 24.0, 30.0, 6.0, 19.0, 10.0, 17.0]);
    // Half of 100 is all of it, and 10 that are unexplained.
    let account = held_up(&victim, held(Role::Worker, 0.4, 0.1), 100.0);
    assert_shares(&account, [132.0, 32.0 + 40.0, 30.0, 10.0, 19.0, 0.0, 7.0]);
    // Others' requests do not wait for it.
    let account = held_up(&victim, held(Role::Worker, 0.4, 0.1), 1_000.0);
    assert_shares(&account, [132.0, 32.0 + 57.0 * 0.8, 30.0, 57.0 * 0.2, 19.0, 0.0, 0.0]);
    for other in
        [held(Role::Journal, 0.4, 0.1), Held { is_cause: false, ..held(Role::Worker, 0.4, 0.1) }]
    {
        let account = held_up(&victim, other, 60.0);
        assert_shares(&account, [132.0, 32.0, 30.0, 0.0, 19.0, 40.0, 17.0]);
    }
}

/// Half of 156 ns is 78: the device's 40, 17 that are unexplained, and 21 of 99 behind
/// requests, 30 and 50 of others' and 19 of its own.
#[test]
fn requests_wait_for_a_server_that_was_held_up() {
    let victim = charged();
    let keep = 78.0 / 99.0;
    let account = held_up(&victim, held(Role::Server, 0.5, 0.0), 156.0);
    let owners = 52.0 + 80.0 * keep;
    assert_shares(&account, [owners, 32.0 + 78.0, 30.0, 0.0, 19.0 * keep, 0.0, 0.0]);
    let found = findings(&account, 2.0);
    // 39 of the journal's, and 8 + 78/4 of CPU; 13 of the journal's, and 24 + 78 · 3/4.
    let tenants = found.iter().find(|one| one.owner == OwnerId(1)).unwrap().wait_ns;
    assert_near(tenants, 30.0 * keep + 39.0 + 27.5 + 3.75);
    // No more than all of it.
    let account = held_up(&victim, held(Role::Server, 0.5, 0.0), 1e6);
    assert_shares(&account, [52.0, 32.0 + 57.0 + 99.0, 30.0, 0.0, 0.0, 0.0, 0.0]);
    // Without others' requests its own wait, if there are any.
    let idle = victim_of_nobody();
    let account = held_up(&idle, held(Role::Server, 0.5, 0.0), 1e6);
    assert_shares(&account, [0.0, 32.0 + 101.0 + 11.0, 30.0, 0.0, 0.0, 0.0, 0.0]);
    let mut none = sum();
    none.parts.own_ns = 0.0;
    let mut account = divided(&idle, &none, &[]);
    account.hold_up_the_disk(&[held(Role::Server, 0.5, 0.0)], 1e6);
    assert_shares(&account, [0.0, 32.0 + 101.0, 30.0, 0.0, 0.0, 0.0, 0.0]);
}

fn victim_of_nobody() -> Victim {
    victim(0)
}

pub(super) const BASIS: Basis = Basis {
    has_lifts: true,
    is_standing: false,
    was_well: true,
    is_device_well: true,
    has_long_past: true,
};

/// All but the victim's own, culprits or not.
pub(super) fn findings(account: &DividedExcess<'_>, total: f64) -> Vec<Finding> {
    let (mut culprits, ruled_out) = account.findings(total, &sum(), BASIS);
    culprits.extend(ruled_out);
    // The worker's requests are others' blocks.
    culprits.retain(|one| one.actor != worker());
    culprits
}
