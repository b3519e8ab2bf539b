//! The engine as a whole: a sync is taken in, and once a second what went on around it.

use super::{
    seconds::{actor, tenant},
    *,
};
use crate::{
    currency::Shortage,
    reference::Grade,
    suspect::Suspect,
    tick::{Alone, Contender, DiskWork, JournalWork, Limit, Load, Memory, Reclaimer},
};

const SECOND: u64 = 1_000_000_000;
const METADATA: usize = op::METADATA as usize;

/// The owner 1 is etcd, 2 its journal, 3 fstrim and 4 fio.
fn tick_at(engine: &mut Engine, at_ns: u64, tick: Tick) {
    let owners = owners();
    engine.tick(&Tick { at_ns, ..tick }, |owner| owners[owner.0 as usize].actor());
}

fn ingest(engine: &mut Engine, record: SyncRecord) -> Judged {
    let owners = owners();
    engine.ingest(&record, &[], 0, 0, |_| &owners)
}

/// An engine after one sync of process 77 that ended at the first second.
fn after_a_sync() -> Engine {
    let mut engine = Engine::new();
    ingest(&mut engine, SyncRecord { begin_ns: SECOND - MS, tgid: 77, ..sync(MS, &[]) });
    engine
}

fn suspect(engine: &Engine, actor: ActorId) -> Option<&Suspect> {
    engine.victims()[0].suspects.iter().find(|suspect| suspect.actor == actor)
}

#[test]
fn records_and_torn_integrals_are_counted() {
    let mut engine = Engine::new();
    let mut torn = sync(10 * MS, &[]);
    (torn.integrals[3], torn.integrals[4]) = (u64::MAX / 4, u64::MAX / 4);
    ingest(&mut engine, torn);
    ingest(&mut engine, torn);
    ingest(&mut engine, sync(MS, &[]));
    assert_eq!((engine.records(), engine.torn(), engine.evicted()), (3, 4, 0));
    assert_eq!(engine.victims()[0].last_ns, MS);
    let engine = after_a_sync();
    assert_eq!((engine.victims()[0].last_ns, engine.victims()[0].tgid), (SECOND, 77));
}

/// Half a second of two, and one and a half of four.
#[test]
fn what_the_hypervisor_took_is_a_part_of_all_cpu_time() {
    let mut engine = Engine::new();
    assert_eq!(engine.steal_share(), 0.0);
    let stolen = |steal_ns| Tick { steal_ns, cpus: 2, ..Tick::default() };
    tick_at(&mut engine, SECOND, stolen(SECOND / 2));
    assert_eq!(engine.steal_share(), 0.25);
    tick_at(&mut engine, 2 * SECOND, stolen(SECOND));
    assert_eq!(engine.steal_share(), 0.375);
    engine.begin_period();
    assert_eq!(engine.steal_share(), 0.0);
}

#[test]
fn a_machine_shrinks_from_where_its_period_began() {
    let mut engine = Engine::new();
    let mut shrank = |total_bytes| {
        let memory = Memory { total_bytes, ..Memory::default() };
        tick_at(&mut engine, SECOND, Tick { memory, ..Tick::default() });
        let shrank = engine.memory_shrank_bytes();
        if total_bytes == 5 {
            engine.begin_period();
        }
        shrank
    };
    assert_eq!([0, 10, 7, 0, 12, 5].map(&mut shrank), [0, 0, 3, 3, 0, 5]);
    assert_eq!([5, 4].map(&mut shrank), [0, 1]);
}

/// A tenth of the time in reclaim, and it is no baseline sample.
#[test]
fn only_undisturbed_syncs_are_samples() {
    let is_known = |record: SyncRecord| {
        let mut engine = Engine::new();
        (0..20).for_each(|_| _ = ingest(&mut engine, record));
        engine.victims()[0].baseline_ns().is_some()
    };
    assert!(is_known(SyncRecord { reclaim_ns: MS, ..sync(10 * MS, &[]) }));
    assert!(!is_known(SyncRecord { reclaim_ns: MS + 1, ..sync(10 * MS, &[]) }));
    assert!(!is_known(sync(10 * MS, &[(3, 0.5)])));
}

#[test]
fn without_a_baseline_only_a_disturbed_sync_has_an_excess() {
    let excess = |record| ingest(&mut Engine::new(), record).division.excess_ns;
    assert_eq!(excess(sync(10 * MS, &[])), 0.0);
    assert_eq!(excess(sync(10 * MS, &[(3, 0.5)])), 10e6);
    assert_eq!(excess(SyncRecord { reclaim_ns: 5 * MS, ..sync(10 * MS, &[]) }), 10e6);
}

/// A minute after its last sync.
#[test]
fn a_victim_that_does_not_sync_is_left_alone() {
    let ticks = |at_ns| {
        let mut engine = after_a_sync();
        tick_at(&mut engine, at_ns, Tick::default());
        tick_at(&mut engine, at_ns, Tick::default());
        engine.victims()[0].now.ticks
    };
    assert_eq!((ticks(61 * SECOND), ticks(61 * SECOND + 1)), (2, 0));
}

#[test]
fn a_journals_blocks_are_those_of_who_filled_it() {
    let mut engine = after_a_sync();
    let work =
        |device, owner, blocks| JournalWork { device, owner: OwnerId(owner), blocks, held_ns: 0 };
    let journals = vec![work(0, 1, 3), work(0, 4, 4), work(9, 4, 500), work(0, 3, 5)];
    tick_at(&mut engine, 2 * SECOND, Tick { journals, ..Tick::default() });
    // 9 of 12 are strangers'.
    assert_eq!(engine.victims()[0].filled_by_others, 0.75);
    let fio = suspect(&engine, actor(30, "fio")).unwrap();
    assert_eq!((fio.now[METADATA], fio.around_until_ns), (4.0, 3_500_000_000));
    assert_eq!(suspect(&engine, actor(10, "etcd")).unwrap().now[METADATA], 3.0);
    tick_at(&mut engine, 3 * SECOND, Tick::default());
    assert_eq!(engine.victims()[0].filled_by_others, 0.0);
}

#[test]
fn whoever_ran_while_this_process_waited_is_blamed_for_that() {
    let mut engine = after_a_sync();
    let ran = |victim_tgid, owner, ns| Contender { victim_tgid, owner: OwnerId(owner), ns };
    let contenders = vec![ran(77, 4, 30), ran(78, 3, 50)];
    tick_at(&mut engine, 2 * SECOND, Tick { contenders, ..Tick::default() });
    assert_eq!(suspect(&engine, actor(30, "fio")).unwrap().now[op::CPU as usize], 30.0);
    assert!(suspect(&engine, actor(20, "fstrim")).is_none());
}

/// Whoever is at its own limit takes from nobody else, but those within it.
#[test]
fn reclaim_at_a_limit_is_between_those_within_it() {
    let blamed = |reclaimers: &[(u32, u64, u64)]| {
        let mut engine = after_a_sync();
        let each = reclaimers.iter();
        let each = each.map(|(owner, ns, limit_ns)| Reclaimer {
            owner: OwnerId(*owner),
            times: 1,
            ns: *ns,
            limit_ns: *limit_ns,
        });
        tick_at(&mut engine, 2 * SECOND, Tick { reclaimers: each.collect(), ..Tick::default() });
        let of = |actor| suspect(&engine, actor).map(|one| one.now[op::MEMORY as usize]);
        [of(actor(30, "fio")), of(actor(20, "fstrim")), of(actor(10, "etcd"))]
    };
    assert_eq!(blamed(&[(4, 700, 600), (3, 50, 50)]), [Some(100.0), None, None]);
    // One of the victim's cgroup is at a limit.
    let all = [Some(700.0), Some(50.0), Some(20.0)];
    assert_eq!(blamed(&[(4, 700, 600), (3, 50, 50), (1, 20, 1)]), all);
    // It reclaims, but at no limit.
    let own = [Some(100.0), None, Some(20.0)];
    assert_eq!(blamed(&[(4, 700, 600), (3, 50, 50), (1, 20, 0)]), own);
}

#[test]
fn limits_of_its_cgroup_are_added_up_and_the_last_one_is_named() {
    let mut engine = after_a_sync();
    let limit = |cgroup, kind, ns, setting: &str| {
        let setting = setting.to_owned();
        Limit { cgroup, kind, ns, times: 0, setting, in_kernel: false }
    };
    let limits = vec![
        limit(10, LimitKind::Cpu, 5, "cpu.max 1"),
        limit(11, LimitKind::Cpu, 500, "cpu.max 2"),
        limit(10, LimitKind::Io, 7, "io.max"),
        limit(10, LimitKind::Cpu, 6, "cpu.max 3"),
    ];
    tick_at(&mut engine, 2 * SECOND, Tick { limits: limits.clone(), ..Tick::default() });
    tick_at(&mut engine, 3 * SECOND, Tick { limits, ..Tick::default() });
    let victim = &engine.victims()[0];
    assert_eq!((victim.now.limited_cpu_ns, victim.now.limited_io_ns), (22, 14));
    assert_eq!(victim.limit, Some(Box::new((LimitKind::Cpu, "cpu.max 3".to_owned()))));
}

#[test]
fn evidence_counts_half_after_a_minute_of_rotations() {
    let mut engine = Engine::new();
    (0..8).for_each(|_| _ = ingest(&mut engine, sync(MS, &[])));
    (0..FADE_EVERY - 1).for_each(|_| engine.rotate());
    assert_eq!(engine.victims()[0].syncs[0].count(), 8);
    engine.rotate();
    assert_eq!(engine.victims()[0].syncs[0].count(), 4);
    (0..FADE_EVERY).for_each(|_| engine.rotate());
    assert_eq!(engine.victims()[0].syncs[0].count(), 2);
}

#[test]
fn a_tick_names_all_its_owners() {
    let tick = Tick {
        journals: vec![JournalWork { device: 0, owner: OwnerId(1), blocks: 0, held_ns: 0 }],
        contenders: vec![Contender { victim_tgid: 0, owner: OwnerId(2), ns: 0 }],
        reclaimers: vec![Reclaimer { owner: OwnerId(3), times: 0, ns: 0, limit_ns: 0 }],
        disks: vec![DiskWork {
            loads: vec![Load { owner: OwnerId(4), ..Load::default() }],
            ..DiskWork::default()
        }],
        ..Tick::default()
    };
    assert_eq!(tick.owners().map(|owner| owner.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// Two requests are in flight on average, and the disk is busy for less than 70 % of the time.
#[test]
fn a_disk_that_is_limited_by_its_requests_has_one_cost_for_each() {
    let each_ns = |completed, cost_ns, in_flight_ns| {
        let load = |part: u64| Load {
            completed: completed / part,
            cost_ns,
            in_flight_ns: in_flight_ns / part,
            ..Load::default()
        };
        // Two owners have half of it each.
        let loads = vec![load(2), load(2)];
        let mut shortage = Shortage::default();
        shortage.observe(&DiskWork { length_ns: 1_000_000, loads, ..DiskWork::default() });
        // A small write that takes 1 ns alone.
        let weight = shortage.weigh(op::WRITE, 4096, 1);
        (weight != 1).then_some(weight)
    };
    assert_eq!(each_ns(100, 6_999, 2_000_000), Some(10_000));
    assert_eq!(each_ns(100, 7_000, 2_000_000), None);
    assert_eq!(each_ns(100, 6_999, 1_999_998), None);
    assert_eq!(each_ns(0, 1, 2_000_000), None);
}

#[test]
fn requests_alone_of_the_best_known_classes_are_added_up() {
    let of =
        |requests, known| Alone { requests, ns: 10 * requests, reference_ns: 3 * requests, known };
    let sum = |all: &[Alone]| {
        let mut sum = Alone::default();
        all.iter().for_each(|one| sum.add(one));
        (sum.requests, sum.ns, sum.reference_ns, sum.known)
    };
    let (young, good) = (Grade::Young, Grade::Good);
    assert_eq!(sum(&[of(2, good), of(3, good)]), (5, 50, 15, good));
    assert_eq!(sum(&[of(2, good), of(3, young)]), (2, 20, 6, good));
    assert_eq!(sum(&[of(2, young), of(3, good)]), (3, 30, 9, good));
    assert_eq!(sum(&[of(2, young), of(0, good)]), (2, 20, 6, young));
    assert_eq!(sum(&[of(0, good), of(2, young)]), (2, 20, 6, young));
    assert_eq!(sum(&[of(2, Grade::None), of(3, Grade::None)]), (5, 50, 15, Grade::None));
}

#[test]
fn a_neighbour_is_no_thread_and_none_of_the_house() {
    let engine = after_a_sync();
    assert!(engine.victims()[0].is_stranger(&tenant()));
}
