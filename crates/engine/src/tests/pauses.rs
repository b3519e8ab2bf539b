//! Writes that the kernel pauses because too many pages are dirty: the victim waits before its
//! syncs, which stay quick.

use super::{
    demands::assert_near,
    seconds::{SECOND, actor},
    *,
};
use crate::tick::Pause;

/// The victim's filesystem, and its process.
const DEVICE: u32 = 7 << 20;
const TGID: u32 = 812;

/// The victim's own owner, and a tenant's.
const OWN: OwnerId = OwnerId(1);
const TENANT: OwnerId = OwnerId(4);
/// A task that is no victim, and writes little.
const BESIDE: OwnerId = OwnerId(3);

fn pause(owner: OwnerId, pages: u64, ms: u64) -> Pause {
    let tgid = if owner == OWN { TGID } else { 4000 + owner.0 };
    Pause { device: DEVICE, owner, tgid, pages, ns: ms * MS, limit_ns: 0 }
}

/// A victim that ends ten quick syncs in each second, 64 seconds without pauses and then one for
/// each of the ticks in `pauses`.
fn after(pauses: impl IntoIterator<Item = Vec<Pause>>) -> Engine {
    let (owners, mut engine) = (owners(), Engine::new());
    let quiet = std::iter::repeat_n(Vec::new(), 64);
    for (second, pauses) in (0..).zip(quiet.chain(pauses)) {
        for at in 0..10 {
            let begin_ns = second * SECOND + at * 10 * MS;
            let record =
                SyncRecord { begin_ns, device: DEVICE, tgid: TGID, backing: 9, ..sync(MS, &[]) };
            engine.ingest(&record, &[], 0, 0, |_| &owners);
        }
        let at_ns = (second + 1) * SECOND;
        let tick = Tick { at_ns, cpus: 2, pauses, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    engine
}

fn judgement(engine: &Engine) -> Judgement {
    judged(&engine.victims()[0])
}

/// A period of `ticks` seconds that are all like this, after 64 quiet ones.
fn period_of(ticks: usize, pauses: &[Pause]) -> Judgement {
    let (owners, mut engine) = (owners(), after([]));
    engine.begin_period();
    for second in 64..64 + ticks as u64 {
        for at in 0..10 {
            let begin_ns = second * SECOND + at * 10 * MS;
            let record = SyncRecord { begin_ns, device: DEVICE, tgid: TGID, ..sync(MS, &[]) };
            engine.ingest(&record, &[], 0, 0, |_| &owners);
        }
        let at_ns = (second + 1) * SECOND;
        let tick = Tick { at_ns, cpus: 2, pauses: pauses.to_vec(), ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    judgement(&engine)
}

/// It dirties 100 pages a second beside a tenant's 1900, and is paused for 0.4 s of each.
#[test]
fn who_dirtied_the_pages_is_the_culprit() {
    let judged = period_of(10, &[pause(OWN, 100, 400), pause(TENANT, 1900, 900)]);
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert_near(judged.paused, 0.4);
    assert_near(judged.outside_ns, 4e9);
    assert_near(judged.paused_by_itself_ns, 0.05 * 4e9);
    let [culprit] = judged.culprits.as_slice() else { panic!("{judged:?}") };
    assert_eq!((culprit.actor, culprit.owner), (actor(30, "fio"), TENANT));
    assert_eq!((culprit.charge, culprit.via), (11, Via::Pause));
    assert_near(culprit.wait_ns, 0.95 * 4e9);
    // Whether the device is well is not known here.
    assert_eq!((culprit.confidence, judged.confidence), (Confidence::Medium, Confidence::Medium));
}

/// The tenant is paused too, and another task hardly writes.
#[test]
fn who_writes_little_is_not_named() {
    let pauses = [pause(OWN, 100, 400), pause(TENANT, 1900, 900), pause(BESIDE, 60, 500)];
    let judged = period_of(10, &pauses);
    let [culprit] = judged.culprits.as_slice() else { panic!("{judged:?}") };
    assert_eq!(culprit.owner, TENANT);
}

#[test]
fn a_victim_that_fills_the_limit_alone_does_so_itself() {
    let judged = period_of(10, &[pause(OWN, 4000, 700)]);
    assert_eq!(judged.kind, Kind::Own, "{judged:?}");
    assert!(judged.culprits.is_empty(), "{judged:?}");
    assert_near(judged.paused_by_itself_ns, 7e9);
    assert_near(judged.shares.own, 1.0);
}

/// The limit of its own cgroup is reached, whatever others dirty beside it.
#[test]
fn at_the_limit_of_its_own_cgroup_it_is_paused_by_itself() {
    let own = Pause { limit_ns: 700 * MS, ..pause(OWN, 10, 700) };
    let judged = period_of(10, &[own, pause(TENANT, 4000, 900)]);
    assert_eq!(judged.kind, Kind::Own, "{judged:?}");
    assert_near(judged.paused_by_itself_ns, 7e9);
    assert!(judged.culprits.is_empty(), "{judged:?}");
}

/// The tenant dirties 100,000 pages in a second and stops. While the kernel writes them out, the
/// victim is paused with 50 pages a second of its own.
#[test]
fn who_has_stopped_is_the_culprit_while_its_pages_are_written() {
    let burst = vec![pause(TENANT, 100_000, 900)];
    let later = std::iter::repeat_n(vec![pause(OWN, 50, 600)], 30);
    let judged = judgement(&after(std::iter::once(burst).chain(later)));
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert_eq!(judged.culprits[0].owner, TENANT);
    assert!(judged.culprits[0].wait_ns > 0.9 * 18e9, "{judged:?}");
}

/// Two threads of the victim are paused at a time, and a tick lasts a second.
#[test]
fn a_victim_of_many_threads_is_not_paused_for_longer_than_there_is() {
    let threads = [pause(OWN, 100, 5000), pause(TENANT, 1900, 900)];
    let judged = period_of(10, &threads);
    assert_near(judged.paused, 1.0);
    assert_near(judged.outside_ns, 20e9);
}

#[test]
fn less_than_a_tenth_of_the_time_makes_nothing_slow() {
    let pauses = |ms| [pause(OWN, 100, ms), pause(TENANT, 1900, 900)];
    let judged = period_of(10, &pauses(99));
    assert_eq!((judged.kind, judged.paused), (Kind::None, 0.0), "{judged:?}");
    assert!(judged.culprits.is_empty());
    let judged = period_of(10, &pauses(100));
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert_near(judged.paused, 0.1);
}

#[test]
fn pauses_of_others_and_on_other_filesystems_do_not_matter() {
    let elsewhere = Pause { device: DEVICE + 1, ..pause(OWN, 100, 900) };
    let judged = period_of(10, &[elsewhere, pause(TENANT, 1900, 900)]);
    assert_eq!((judged.kind, judged.outside_ns), (Kind::None, 0.0), "{judged:?}");
}

/// A sync of the tenant's filesystem names the backing device.
#[test]
fn the_backing_device_is_that_of_the_last_sync() {
    assert_eq!(after([]).victims()[0].backing(), 9);
}

/// Twenty tasks dirty a page a second each, and two dirty many.
#[test]
fn those_who_dirty_most_are_remembered() {
    let (owners, mut engine) = (owners(), after([]));
    let who = |owner: OwnerId| match owner {
        OwnerId(number @ 100..) => actor(u64::from(number), "small"),
        owner => owners[owner.0 as usize].actor(),
    };
    for second in 64..74 {
        let small = (100..120).map(|number| pause(OwnerId(number), 1, 0));
        let large = [pause(TENANT, 5000, 900), pause(OWN, 100, 500)];
        let pauses = small.chain(large).collect();
        let tick = Tick { at_ns: (second + 1) * SECOND, cpus: 2, pauses, ..Tick::default() };
        engine.tick(&tick, who);
    }
    let judged = judgement(&engine);
    assert_eq!(judged.culprits.len(), 0, "5 s of 74 are less than a tenth: {judged:?}");
    let pausers: Vec<_> = engine.victims()[0].keepers().map(|(_, owner)| owner).collect();
    assert!(pausers.contains(&TENANT) && pausers.contains(&OWN), "{pausers:?}");
    assert!(pausers.len() <= 16, "{pausers:?}");
}

#[test]
fn writers_for_whom_there_is_no_room_are_counted() {
    let mut engine = after([]);
    let pauses: Vec<_> = (1..=18).map(|number| pause(OwnerId(number), 100, 50)).collect();
    let tick = Tick { at_ns: 65 * SECOND, cpus: 2, pauses, ..Tick::default() };
    engine.tick(&tick, |owner| actor(u64::from(owner.0), "writer"));
    assert_eq!(engine.left_out(), 2);
}
