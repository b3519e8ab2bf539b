//! The kind of a verdict and its confidence. A victim waits for 10 ms a sync while it is
//! well; in all cases 100 syncs took 10 s together, so 2.5 s of excess and of waiting beyond
//! the usual second make it slow. The numbers are worked out beside each test from the
//! constants of `verdict`.

use super::{
    seconds::{actor, tenant, victim},
    *,
};
use crate::{
    helper::{Helper, Role},
    kind::SlowerThan,
    phases::ByPhase,
    reference::{Grade, Level, Reference},
    second::Circumstances,
    sums::Half,
    verdict::{Cleared, are_slow, is_slow_tail},
};

const M: f64 = 1e6;

/// A victim with a past: it was well for a second.
fn known() -> Victim {
    let mut victim = victim(10);
    (victim.well_seconds, victim.syncs_total, victim.disk) = (1, 100, 3);
    (0..20).for_each(|_| victim.learn(MS, 0));
    victim
}

/// 100 syncs that take 10 s together. They waited for `wait_ms`, of which `excess_ms` is excess.
fn waited(wait_ms: u64, excess_ms: u64) -> Half {
    let mut sum = Half::default();
    (sum.syncs, sum.duration_ns, sum.ticks) = (100, 10_000 * MS, 10);
    sum.phases.ns = ByPhase::from([(Phase::Device, wait_ms * MS)]);
    sum.parts.excess_ns = excess_ms as f64 * M;
    sum.parts.device_ns = sum.parts.excess_ns;
    sum
}

fn verdict(victim: &Victim, sum: &Half) -> Judgement {
    judge(victim, sum, Span::Window)
}

fn kind_of(victim: &Victim, sum: &Half) -> Kind {
    verdict(victim, sum).kind
}

/// A quarter of the time, or a tenth with a slow tail.
#[test]
fn an_excess_of_a_quarter_is_slow() {
    assert!(are_slow(25.0, 100.0, || false) && !are_slow(24.9, 100.0, || false));
    assert!(are_slow(10.0, 100.0, || true) && !are_slow(9.9, 100.0, || true));
    // Three times the undisturbed p99, of 100 syncs.
    assert!(is_slow_tail(100, 6.0, Some(2.0)));
    assert!(!is_slow_tail(100, 5.9, Some(2.0)) && !is_slow_tail(99, 6.0, Some(2.0)));
    assert!(!is_slow_tail(100, 6.0, None));
}

/// 700 syncs in twelve seconds: 75 of 10 ms in each, and 50 of `slow_ms` in each of the last `slow`
/// seconds. The sums are those of eight slow seconds: 41 % is beyond the usual 10 ms.
#[test]
fn the_good_seconds_before_a_change_do_not_hide_it() {
    let kind = |slow: usize, slow_ms: f32, ticks: u32| {
        let mut victim = known();
        for (at, second) in victim.seconds[..12].iter_mut().enumerate() {
            let (syncs, ms) = if at < slow { (50, slow_ms) } else { (75, 10.0) };
            (second.syncs, second.sum_ns) = (syncs, syncs as f32 * ms * 1e6);
        }
        let mut sum = waited(11_800, 100);
        (sum.syncs, sum.duration_ns, sum.ticks) = (700, 11_800 * MS, ticks);
        kind_of(&victim, &sum)
    };
    assert_eq!(kind(8, 22.0, 12), Kind::Device);
    assert_eq!([5, 6].map(|slow| kind(slow, 22.0, 12)), [Kind::None, Kind::Device]);
    assert_eq!([19.9, 20.1].map(|ms| kind(8, ms, 12)), [Kind::None, Kind::Device]);
    // Two slow seconds may be chance.
    assert_eq!([2, 3].map(|slow| kind(slow, 22.0, 4)), [Kind::None, Kind::Device]);
}

#[test]
fn both_the_excess_and_the_wait_beyond_the_usual_must_be_a_quarter() {
    let victim = known();
    assert_eq!(kind_of(&victim, &waited(3_500, 2_500)), Kind::Device);
    assert_eq!(kind_of(&victim, &waited(3_499, 2_500)), Kind::None);
    assert_eq!(kind_of(&victim, &waited(3_500, 2_499)), Kind::None);
    // Waiting for a CPU counts to both.
    let mut sum = waited(3_000, 2_000);
    sum.phases.ns[Phase::Runqueue] = 500 * MS;
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.excess_ns), (Kind::Device, 2_500.0 * M));
    assert_eq!((said.shares.cpu, said.shares.device), (0.2, 0.8));
    // Half of the time beyond the usual is slow, whatever the excess.
    assert_eq!(kind_of(&victim, &waited(6_000, 1)), Kind::Device);
    assert_eq!(kind_of(&victim, &waited(5_999, 1)), Kind::None);
    assert_eq!(kind_of(&victim, &waited(6_000, 0)), Kind::None);
}

/// Half of 2.5 s of waiting for memory are no comparison with what is usual.
#[test]
fn syncs_that_are_short_of_memory_are_slow_by_themselves() {
    let kind = |reclaim_ms, syncs| {
        let mut sum = waited(2_600 - reclaim_ms, 2_600);
        sum.phases.ns[Phase::Reclaim] = reclaim_ms * MS;
        sum.syncs = syncs;
        (sum.parts.device_ns, sum.parts.memory_ns) = (0.0, 2_600.0 * M);
        kind_of(&known(), &sum)
    };
    assert_eq!((kind(2_500, 100), kind(2_499, 100)), (Kind::Memory, Kind::None));
    // A ms each: 2501 syncs are not short.
    assert_eq!((kind(2_500, 2_500), kind(2_500, 2_501)), (Kind::Memory, Kind::None));
}

#[test]
fn what_was_always_slow_is_held_against_ten_ms() {
    let mut always = known();
    always.usual = Reference::kept(Level { ns: 20 * MS, batches: 100 });
    let said = verdict(&always, &waited(3_500, 2_500));
    assert_eq!((said.kind, said.slower_than), (Kind::Device, Some(SlowerThan::Guidance)));
    assert!(said.is_standing);
    assert_eq!(kind_of(&always, &waited(3_499, 2_500)), Kind::None);
    let said = verdict(&always, &waited(4_500, 2_500));
    assert_eq!((said.slower_than, said.is_standing), (Some(SlowerThan::Before), false));
    let said = verdict(&known(), &waited(3_500, 2_500));
    assert_eq!((said.slower_than, said.is_standing), (Some(SlowerThan::Before), false));
    // A victim that was never well has no past.
    let mut never = known();
    never.well_seconds = 0;
    assert!(verdict(&never, &waited(3_500, 2_500)).is_standing);
    never.device_times = 2.0;
    let said = verdict(&never, &waited(3_500, 2_500));
    assert!(!said.is_standing && said.is_beside_reference);
    let mut unusual = known();
    unusual.usual = Reference::default();
    let said = verdict(&unusual, &waited(2_500, 2_500));
    assert_eq!((said.kind, said.slower_than), (Kind::Device, Some(SlowerThan::Before)));
    assert_eq!(verdict(&known(), &waited(0, 0)).slower_than, None);
}

/// A tenth of the time is slow if p99 is three times the undisturbed.
#[test]
fn a_slow_tail_needs_less() {
    let kind = |excess_ms, tail_ms| {
        let mut victim = known();
        // Good syncs took what they take alone.
        (0..100).for_each(|_| victim.well.record(10 * MS));
        (0..80).for_each(|_| victim.learn(10 * MS / 4, 0));
        let (phases, nobody) = (Phases::default(), window());
        for at in 0..100 {
            let duration_ns = if at < 90 { MS } else { tail_ms * MS };
            let none = Division::default();
            victim.record(0, duration_ns, &phases, &nobody, &none, Needs::default());
        }
        let mut sum = victim.sum(Span::Window);
        let like = waited(1_000 + excess_ms, excess_ms);
        (sum.duration_ns, sum.phases, sum.parts) = (like.duration_ns, like.phases, like.parts);
        kind_of(&victim, &sum)
    };
    assert_eq!((kind(1_000, 60), kind(999, 60)), (Kind::Device, Kind::None));
    assert_eq!(kind(1_000, 20), Kind::None, "its good seconds had such a tail");
}

/// Nobody in flight.
fn window() -> Window {
    Window::of(&sync(MS, &[]), &[], |_| &[Owner::NOBODY; ACCOUNTS])
}

#[test]
fn a_few_syncs_or_no_history_are_no_verdict() {
    let few = |syncs, excess_ms| {
        let mut sum = waited(excess_ms, excess_ms);
        (sum.syncs, sum.duration_ns) = (syncs, excess_ms * MS);
        sum
    };
    assert_eq!(kind_of(&known(), &few(5, 999)), Kind::Device);
    let said = verdict(&known(), &few(4, 999));
    assert_eq!((said.kind, said.slower_than), (Kind::Unknown, None));
    // One that waits for a second is no accident.
    let said = verdict(&known(), &few(1, 1_000));
    assert_eq!((said.kind, said.confidence), (Kind::Device, Confidence::Low));
    let mut new = victim(10);
    new.syncs_total = 19;
    assert_eq!(kind_of(&new, &waited(6_000, 6_000)), Kind::Unknown);
    new.syncs_total = 20;
    assert_eq!(kind_of(&new, &waited(6_000, 6_000)), Kind::Device);
}

/// A second's excess of 6 s is divided so, in s.
fn divided(own: f64, device: f64, unexplained: f64) -> Half {
    let mut sum = waited(7_000, 6_000);
    let parts = &mut sum.parts;
    (parts.own_ns, parts.device_ns) = (own * 1e9, device * 1e9);
    parts.unexplained_ns = unexplained * 1e9;
    sum
}

#[test]
fn the_largest_share_is_the_kind() {
    let mut victim = known();
    assert_eq!(kind_of(&victim, &divided(3.0, 2.0, 1.0)), Kind::Own);
    assert_eq!(kind_of(&victim, &divided(1.0, 3.0, 2.0)), Kind::Device);
    assert_eq!(kind_of(&victim, &divided(1.0, 2.0, 3.0)), Kind::Unexplained);
    assert_eq!(kind_of(&victim, &divided(3.0, 3.0, 0.0)), Kind::Own, "the first of equals");
    victim.disk = NO_DISK;
    assert_eq!(kind_of(&victim, &divided(1.0, 2.0, 3.0)), Kind::Unseen);
    assert_eq!(kind_of(&victim, &divided(1.0, 3.0, 2.0)), Kind::Device);
}

fn circumstances(slow: f64, slow_seconds: u32, well: f64, unsure: f64) -> Circumstances {
    Circumstances {
        excess_ns: 100.0,
        slow_ns: slow,
        slow_seconds,
        well_ns: well,
        unsure_ns: unsure,
        ..Circumstances::default()
    }
}

/// Half of the excess in seconds in which it may be the device or the load.
#[test]
fn an_unsure_half_makes_a_verdict_undecided() {
    let with = |mut sum: Half, unsure| {
        sum.circumstances = circumstances(0.0, 0, 0.0, unsure);
        verdict(&known(), &sum)
    };
    for sum in [divided(6.0, 0.0, 0.0), divided(0.0, 6.0, 0.0), divided(0.0, 0.0, 6.0)] {
        assert_eq!(with(sum.clone(), 50.0).kind, Kind::Undecided);
        assert_ne!(with(sum, 49.0).kind, Kind::Undecided);
    }
    let mut memory = divided(0.0, 0.0, 0.0);
    memory.parts.memory_ns = 6e9;
    assert_eq!(with(memory, 100.0).kind, Kind::Memory, "it is seen in the syncs");
}

/// Undecided seconds count as the load's. With 24 % of them the load has 52 % of its 76 % for
/// sure, and the device 24 % and perhaps another 24 %.
#[test]
fn a_verdict_that_undecided_seconds_could_turn_is_undecided() {
    // The excess is 6 s.
    let with = |owners: f64, device: f64, unsure| {
        let (mut victim, mut sum) = with_suspect(tenant(), 80);
        victim.suspect(tenant(), OwnerId(4)).now[op::WRITE as usize] = (owners * 1e9) as f32;
        (sum.parts.others_ns, sum.parts.device_ns) = (owners * 1e9, device * 1e9);
        sum.circumstances = circumstances(0.0, 0, 0.0, unsure);
        verdict(&victim, &sum).kind
    };
    assert_eq!(with(4.56, 1.44, 24.0), Kind::Owners);
    assert_eq!(with(4.56, 1.44, 27.0), Kind::Undecided, "49 % to 51 %");
    // Shares of 51 % and 49 % are turned by a fifth of the excess, and by no less.
    assert_eq!(with(3.06, 2.94, 19.0), Kind::Owners);
    assert_eq!(with(3.06, 2.94, 20.0), Kind::Undecided);
    assert_eq!(with(2.94, 3.06, 49.0), Kind::Device, "they could only be the device's, too");
}

/// Three fifths of the excess, half of it with the device as slow, and three such seconds.
#[test]
fn a_device_that_was_seen_to_be_slow_is_sure() {
    let of = |device: f64, slow, seconds, change: fn(&mut Victim, &mut Half)| {
        let mut sum = divided(0.0, device, 6.0 - device);
        sum.circumstances = circumstances(slow, seconds, 0.0, 0.0);
        let mut victim = known();
        change(&mut victim, &mut sum);
        let said = verdict(&victim, &sum);
        assert_eq!(said.kind, Kind::Device);
        said.confidence
    };
    let (high, medium) = (Confidence::High, Confidence::Medium);
    assert_eq!(of(3.6, 50.0, 3, |_, _| ()), high);
    assert_eq!(of(3.5, 50.0, 3, |_, _| ()), medium);
    assert_eq!(of(3.6, 49.0, 3, |_, _| ()), medium);
    assert_eq!(of(3.6, 50.0, 2, |_, _| ()), medium);
    assert_eq!(of(3.6, 50.0, 3, |victim, _| victim.well_seconds = 0), medium);
    // Twenty syncs at least, and a baseline.
    assert_eq!(of(3.6, 50.0, 3, |_, sum| sum.syncs = 20), high);
    assert_eq!(of(3.6, 50.0, 3, |_, sum| sum.syncs = 19), Confidence::Low);
    let forgets = |victim: &mut Victim, _: &mut Half| victim.forget_baseline();
    assert_eq!(of(3.6, 50.0, 3, forgets), medium);
}

/// The victim's own doing is sure on a device that was seen to be well.
#[test]
fn its_own_doing_is_sure_beside_a_device_that_is_well() {
    let of = |own: f64, well, seconds| {
        let mut sum = divided(own, 0.0, 6.0 - own);
        sum.circumstances = circumstances(0.0, 0, well, 0.0);
        let mut victim = known();
        // A kept reference says nothing of what was asked for.
        (victim.disks.seconds, victim.disks.known) = (seconds, Grade::Good);
        let said = verdict(&victim, &sum);
        (said.kind, said.confidence)
    };
    assert_eq!(of(3.6, 50.0, 60), (Kind::Own, Confidence::High));
    assert_eq!(of(3.6, 50.0, 59), (Kind::Own, Confidence::Medium), "less than a minute is known");
    assert_eq!(of(3.6, 49.0, 60), (Kind::Own, Confidence::Medium));
    assert_eq!(of(3.5, 50.0, 60), (Kind::Own, Confidence::Medium));
}

#[test]
fn other_kinds_are_as_sure_as_there_are_syncs() {
    let of = |syncs| {
        let mut sum = divided(0.0, 0.0, 6.0);
        sum.syncs = syncs;
        let said = verdict(&known(), &sum);
        (said.kind, said.confidence)
    };
    assert_eq!(of(20), (Kind::Unexplained, Confidence::Medium));
    assert_eq!(of(19), (Kind::Unexplained, Confidence::Low));
}

/// The victim and its sums, with an actor that is charged for most of the excess: 40 syncs
/// of 10 ms without this actor are known, and 30 of `ms` with it.
fn with_suspect(who: ActorId, ms: u64) -> (Victim, Half) {
    let mut victim = known();
    victim.disks.seconds = 60;
    (0..40).for_each(|_| victim.syncs[0].record(10 * MS));
    for _ in 0..30 {
        victim.syncs[0].record(ms * MS);
        victim.suspect(who, OwnerId(4)).record_evidence(0, ms * MS);
    }
    victim.suspect(who, OwnerId(4)).now[op::WRITE as usize] = 5e9;
    let mut sum = divided(0.0, 1.0, 0.0);
    sum.parts.others_ns = 5e9;
    (victim, sum)
}

#[test]
fn the_culprits_confidence_is_the_verdicts() {
    let (victim, mut sum) = with_suspect(tenant(), 80);
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.in_house), (Kind::Owners, false));
    // Nothing is known of the device.
    assert_eq!(
        (said.confidence, said.culprits[0].confidence),
        (Confidence::Medium, Confidence::Medium)
    );
    for (well, confidence) in [(50.0, Confidence::High), (49.0, Confidence::Medium)] {
        sum.circumstances = circumstances(0.0, 0, well, 0.0);
        assert_eq!(verdict(&victim, &sum).confidence, confidence);
    }
    sum.circumstances = circumstances(0.0, 0, 50.0, 50.0);
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.culprits[0].confidence), (Kind::Undecided, Confidence::Low));
}

#[test]
fn a_culprit_of_its_own_house_is_its_own_doing() {
    let (victim, mut sum) = with_suspect(actor(10, "backup"), 80);
    sum.circumstances = circumstances(0.0, 0, 50.0, 0.0);
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.in_house, said.confidence), (Kind::Own, true, Confidence::High));
    // A smaller part is not the kind.
    let (mut victim, mut sum) = with_suspect(actor(10, "backup"), 80);
    victim.suspect(actor(10, "backup"), OwnerId(4)).now[op::WRITE as usize] = 1e9;
    (sum.parts.others_ns, sum.parts.device_ns) = (1e9, 5e9);
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.in_house), (Kind::Device, false));
}

/// A fifth of the excess on a slow device makes comparisons worthless.
#[test]
fn evidence_clears_only_where_the_device_was_the_same() {
    let (victim, mut sum) = with_suspect(tenant(), 10);
    for (slow, kind) in [(19.0, Kind::Unexplained), (20.0, Kind::Owners)] {
        sum.circumstances = circumstances(slow, 0, 0.0, 0.0);
        assert_eq!(kind_of(&victim, &sum), kind, "{slow}");
    }
}

#[test]
fn what_is_not_slow_has_no_culprits() {
    let (mut victim, mut sum) = with_suspect(tenant(), 80);
    // It is blamed for something, but was beside no sync.
    victim.suspect(actor(40, "absent"), OwnerId(5)).now[op::WRITE as usize] = 5e9;
    sum.duration_ns = 100_000 * MS;
    let said = verdict(&victim, &sum);
    assert_eq!((said.kind, said.slower_than, said.culprits.len()), (Kind::None, None, 0));
    let ruled_out: Vec<_> = said.ruled_out.iter().map(|one| (one.actor, one.cleared)).collect();
    assert_eq!(ruled_out, [(tenant(), Some(Cleared::Share))]);
}

/// The server of its disk, seen for ten seconds: it was held up for `cpu_s` of them, and
/// for `limit_s` of these by its own limit.
fn server(cpu_s: u64, limit_s: u64) -> Helper {
    Helper {
        role: Role::Server,
        disk: Some(3),
        device: 0,
        tgid: 812,
        comm: "sim-disk".into(),
        cgroup: "/".into(),
        cpu_ns: cpu_s * 1_000 * MS,
        limit_ns: limit_s * 1_000 * MS,
        setting: String::new(),
        disk_ns: 0,
        own_disk: String::new(),
        of_ns: 10_000 * MS,
    }
}

/// 3.5 of 10 s held up are less than the device's 4 of 6 s of excess.
#[test]
fn a_server_that_was_held_up_is_no_device() {
    let of = |helper: Helper, device: f64| {
        let mut victim = known();
        victim.help(&helper, 0, 0);
        let mut sum = divided(0.0, device, 6.0 - device);
        sum.phases.ns = ByPhase::from([(Phase::Device, 7_000 * MS)]);
        let said = verdict(&victim, &sum);
        (said.kind, said.confidence)
    };
    assert_eq!(of(server(4, 0), 6.0), (Kind::Cpu, Confidence::Medium));
    assert_eq!(of(server(4, 3), 6.0), (Kind::Limit, Confidence::High));
    assert_eq!(of(server(3, 0), 6.0).0, Kind::Device, "three tenths of the time");
    let worker = Helper { role: Role::Worker, ..server(4, 0) };
    assert_eq!(of(worker, 6.0).0, Kind::Device, "2.8 of 6 s");
    assert_eq!(of(server(4, 0), 0.0), (Kind::Unexplained, Confidence::Medium));
}

/// Its limits held it back for `cpu_s` and `io_s` of ten seconds.
#[test]
fn the_time_that_a_limit_held_is_a_part_of_all_time() {
    let of = |cpu_s: u64, io_s: u64, ticks| {
        let mut sum = divided(0.0, 0.0, 6.0);
        (sum.limited_cpu_ns, sum.limited_io_ns) = (cpu_s * 1_000 * MS, io_s * 1_000 * MS);
        sum.ticks = ticks;
        let said = verdict(&known(), &sum);
        (said.kind, said.confidence, said.limited)
    };
    assert_eq!(of(1, 4, 10), (Kind::Limit, Confidence::High, 0.4));
    assert_eq!(of(5, 4, 10), (Kind::Limit, Confidence::High, 0.5));
    assert_eq!(of(1, 40, 10).2, 1.0);
    assert_eq!(of(1, 2, 10), (Kind::Unexplained, Confidence::Medium, 0.2));
    assert_eq!(of(1, 4, 0), (Kind::Unexplained, Confidence::Medium, 0.0));
}

/// Nobody is known for a wait for a CPU or for memory.
#[test]
fn without_a_name_a_wait_for_memory_is_of_low_confidence() {
    let mut memory = divided(0.0, 0.0, 0.0);
    memory.parts.memory_ns = 6e9;
    let said = verdict(&known(), &memory);
    assert_eq!((said.kind, said.confidence), (Kind::Memory, Confidence::Low));
    let mut cpu = divided(0.0, 0.0, 0.0);
    cpu.phases.ns[Phase::Runqueue] = 7_000 * MS;
    let said = verdict(&known(), &cpu);
    assert_eq!((said.kind, said.confidence), (Kind::Cpu, Confidence::Low));
}
