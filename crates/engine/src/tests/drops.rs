//! Caches that somebody drops, and reads that follow.

use super::{
    super::{
        reference::Grade,
        tick::{Alone, DiskWork, Load, Memory},
        verdict::Cleared,
    },
    *,
};

const SECOND: u64 = 1_000 * MS;
const MIB: u64 = 1 << 20;
const CRON: OwnerId = OwnerId(3);
const READER: OwnerId = OwnerId(4);
/// Has no name.
const SOMEBODY: OwnerId = OwnerId(5);
const OTHER: OwnerId = OwnerId(6);

/// An engine, second by second.
struct World {
    engine: Engine,
    owners: [Owner; ACCOUNTS],
    seconds: u64,
    cached: u64,
}

impl World {
    /// The caches are full, and the victim has a baseline.
    fn new() -> Self {
        let mut owners = owners();
        owners[4].op = op::READ as u16;
        owners[6] = Owner { id: OTHER, cgroup: 60, comm: comm("other"), ..owners[3] };
        let mut world = Self { engine: Engine::new(), owners, seconds: 1, cached: 900 * MIB };
        (0..10).for_each(|_| world.second(0, &[]));
        world
    }

    /// A second in which the reader reads this much, and the victim waits behind it.
    fn second(&mut self, read: u64, drops: &[OwnerId]) {
        let slow = sync(30 * MS, &[(1, 0.1), (4, 4.0)]);
        let record = if read > 0 { slow } else { sync(MS, &[(1, 0.1)]) };
        self.second_of(record, 0, read, (drops, &[]));
    }

    /// A second of such syncs, in which the victim itself reads `own` bytes.
    fn second_of(
        &mut self,
        record: SyncRecord,
        own: u64,
        read: u64,
        (drops, late_drops): (&[OwnerId], &[OwnerId]),
    ) {
        for n in 0..30 {
            let begin_ns = self.seconds * SECOND + n * 31 * MS;
            // Some are as quick as ever, as they are beside a device that is well.
            let record = if n % 3 == 0 { sync(MS, &[(1, 0.1)]) } else { record };
            let record = SyncRecord { begin_ns, own_requests: 2, ..record };
            self.engine.ingest(&record, &[], 0, 0, |_| &self.owners);
        }
        self.seconds += 1;
        // A request that is alone takes as long as ever.
        let load = |owner, bytes: u64, in_flight_ns, reads: bool| Load {
            owner,
            submitted: 100,
            completed: 100,
            bytes,
            writes: !reads,
            reads,
            in_flight_ns,
            cost_ns: (in_flight_ns / 400) as u32,
            guessed: false,
        };
        let mut loads = vec![load(OwnerId(1), 100 * 4096, SECOND / 10, false)];
        if own > 0 {
            loads.push(load(OwnerId(1), own, SECOND / 10, true));
        }
        if read > 0 {
            loads.push(load(READER, read, 4 * SECOND, true));
        }
        let alone = Alone { requests: 20, ns: 20 * MS, reference_ns: 20 * MS, known: Grade::Good };
        let disks = vec![DiskWork { length_ns: SECOND, loads, alone, ..DiskWork::default() }];
        let memory =
            Memory { total_bytes: 1 << 30, available_bytes: 1 << 29, cached_bytes: self.cached };
        let (at_ns, drops, late_drops) =
            (self.seconds * SECOND, drops.to_vec(), late_drops.to_vec());
        let tick = Tick { at_ns, cpus: 2, disks, memory, drops, late_drops, ..Tick::default() };
        self.engine.tick(&tick, |owner| self.owners[owner.0 as usize].actor());
    }

    /// A second of slow syncs in which the names of earlier drops come.
    fn named(&mut self, read: u64, late: &[OwnerId]) {
        self.second_of(sync(30 * MS, &[(1, 0.1), (4, 4.0)]), 0, read, (&[], late));
    }

    /// The share of an owner among the culprits.
    fn share(&self, owner: OwnerId) -> f64 {
        let judged = self.judged();
        let its = judged.culprits.iter().filter(|finding| finding.owner == owner);
        its.map(|finding| finding.share).sum()
    }

    /// Whether the verdict speaks of an owner at all.
    fn speaks_of(&self, owner: OwnerId) -> bool {
        let judged = self.judged();
        judged.culprits.iter().chain(&judged.ruled_out).any(|finding| finding.owner == owner)
    }

    /// The caches shrink to a tenth in this second.
    fn drop_caches(&mut self, read: u64) {
        self.cached = 90 * MIB;
        self.second(read, &[CRON]);
    }

    fn judged(&self) -> Judgement {
        judge(&self.engine.victims()[0], &self.engine.victims()[0].sum(Span::Period), Span::Period)
    }

    /// The shares of who dropped the caches, and of the reader.
    fn shares(&self) -> (f64, f64) {
        (self.share(CRON), self.share(READER))
    }
}

#[test]
fn who_dropped_the_caches_is_named_and_not_who_reads_them_back() {
    let mut world = World::new();
    world.drop_caches(50 * MIB);
    (0..5).for_each(|_| world.second(50 * MIB, &[]));
    let judged = world.judged();
    assert_eq!(judged.kind, Kind::Memory, "{judged:?}");
    let worst = &judged.culprits[0];
    assert_eq!(
        (worst.owner, worst.charge, worst.via),
        (CRON, op::DROP_CACHES as usize, Via::Memory)
    );
    assert!(worst.share > 0.8 && worst.confidence < Confidence::High, "{worst:?}");
    assert_eq!(judged.culprits.len(), 1, "{judged:?}");
    let reader = judged.ruled_out.iter().find(|finding| finding.owner == READER).unwrap();
    assert_eq!(reader.cleared, Some(Cleared::ReadsBack));
}

#[test]
fn who_read_as_much_before_is_not_excused() {
    let mut world = World::new();
    (0..4).for_each(|_| world.second(50 * MIB, &[]));
    world.drop_caches(50 * MIB);
    (0..4).for_each(|_| world.second(50 * MIB, &[]));
    let (cron, reader) = world.shares();
    assert!(cron < 0.05 && reader > 0.5, "{:?}", world.judged());
}

#[test]
fn who_begins_to_read_later_is_not_excused() {
    let mut world = World::new();
    world.drop_caches(0);
    (0..6).for_each(|_| world.second(0, &[]));
    (0..4).for_each(|_| world.second(50 * MIB, &[]));
    let (cron, reader) = world.shares();
    assert!(cron < 0.05 && reader > 0.5, "{:?}", world.judged());
}

#[test]
fn no_more_is_excused_than_was_dropped() {
    let mut world = World::new();
    // The caches shrank by 810 MiB, and as much is read in three seconds.
    world.drop_caches(0);
    (0..3).for_each(|_| world.second(270 * MIB, &[]));
    let (cron, reader) = world.shares();
    assert!(cron > 0.8 && reader < 0.05, "{:?}", world.judged());
    (0..9).for_each(|_| world.second(270 * MIB, &[]));
    let (cron, reader) = world.shares();
    assert!(cron < 0.4 && reader > 0.5, "{:?}", world.judged());
}

#[test]
fn a_drop_of_some_seconds_is_known_at_its_end() {
    let mut world = World::new();
    // It is read back while the kernel still drops, which it says last.
    for cached in [600 * MIB, 300 * MIB] {
        world.cached = cached;
        world.second(50 * MIB, &[]);
    }
    world.drop_caches(50 * MIB);
    (0..7).for_each(|_| world.second(50 * MIB, &[]));
    let (cron, reader) = world.shares();
    // The first two seconds of ten had no name yet.
    assert!((0.7..0.9).contains(&cron) && reader < 0.3, "{:?}", world.judged());
}

#[test]
fn what_the_victim_itself_reads_back_is_due_to_the_drop() {
    let mut world = World::new();
    let read_back = SyncRecord { reclaim_ns: 28 * MS, ..sync(30 * MS, &[(1, 0.1)]) };
    world.cached = 90 * MIB;
    world.second_of(read_back, 10 * MIB, 0, (&[CRON], &[]));
    (0..4).for_each(|_| world.second_of(read_back, 10 * MIB, 0, (&[], &[])));
    let judged = world.judged();
    assert_eq!((judged.kind, judged.culprits[0].owner), (Kind::Memory, CRON), "{judged:?}");
}

/// A drop whose name comes `late` seconds later, in ten seconds of reading back.
fn named_after(late: u64) -> World {
    let mut world = World::new();
    world.cached = 90 * MIB;
    for second in 0..10 {
        match second {
            0 if late == 0 => world.second(50 * MIB, &[CRON]),
            0 => world.second(50 * MIB, &[SOMEBODY]),
            _ if second == late => world.named(50 * MIB, &[CRON]),
            _ => world.second(50 * MIB, &[]),
        }
    }
    world
}

#[test]
fn a_name_that_comes_later_has_all_of_the_drop() {
    let at_once = named_after(0).share(CRON);
    assert!(at_once > 0.8, "{at_once}");
    for late in 1..=8 {
        let world = named_after(late);
        let (cron, reader) = world.shares();
        assert!((cron - at_once).abs() < 1e-3, "{late}: {:?}", world.judged());
        assert!(reader < 0.05 && !world.speaks_of(SOMEBODY), "{late}: {:?}", world.judged());
        let victim = &world.engine.victims()[0];
        let charged = victim.suspects.iter().map(|one| one.total[op::DROP_CACHES as usize]);
        let at_once = named_after(0);
        let of = &at_once.engine.victims()[0].suspects;
        let expected: f64 = of.iter().map(|one| one.total[op::DROP_CACHES as usize]).sum();
        assert!((charged.sum::<f64>() - expected).abs() < 1e-3 * expected, "{late}");
    }
}

#[test]
fn a_name_that_comes_after_the_window_moved_on_has_all_of_the_drop() {
    let mut world = World::new();
    world.cached = 90 * MIB;
    world.second(50 * MIB, &[SOMEBODY]);
    (0..2).for_each(|_| world.second(50 * MIB, &[]));
    (0..2).for_each(|_| world.engine.rotate());
    (0..2).for_each(|_| world.second(50 * MIB, &[]));
    world.named(50 * MIB, &[CRON]);
    let (cron, reader) = world.shares();
    assert!(cron > 0.8 && reader < 0.05, "{:?}", world.judged());
    assert!(!world.speaks_of(SOMEBODY), "{:?}", world.judged());
}

#[test]
fn who_is_never_named_has_no_name() {
    let world = named_after(100);
    assert!(world.share(SOMEBODY) > 0.8 && world.shares() == (0.0, 0.0), "{:?}", world.judged());
}

#[test]
fn of_two_drops_the_older_one_is_named_first() {
    let mut world = World::new();
    world.cached = 90 * MIB;
    world.second(50 * MIB, &[SOMEBODY]);
    world.second(50 * MIB, &[]);
    world.second(50 * MIB, &[SOMEBODY]);
    world.second(50 * MIB, &[]);
    world.named(50 * MIB, &[CRON]);
    // Two seconds are the first one's, and three the second one's.
    let (cron, somebody) = (world.share(CRON), world.share(SOMEBODY));
    assert!((0.36..0.44).contains(&cron) && (0.54..0.64).contains(&somebody), "{cron} {somebody}");
    world.named(50 * MIB, &[OTHER]);
    let (cron, other) = (world.share(CRON), world.share(OTHER));
    assert!((0.3..0.36).contains(&cron) && (0.62..0.7).contains(&other), "{cron} {other}");
    assert!(!world.speaks_of(SOMEBODY), "{:?}", world.judged());
}

/// The caches grow to this size, then a job drops them, and the reader reads back 50 MiB a second.
fn drop_and_read_back(world: &mut World, cached: u64, by: OwnerId) {
    world.cached = cached;
    world.second(0, &[]);
    world.cached = 90 * MIB;
    world.second(50 * MIB, &[by]);
    (0..2).for_each(|_| world.second(50 * MIB, &[]));
}

#[test]
fn a_job_whose_names_come_late_each_time_is_one_culprit() {
    let mut world = World::new();
    for _ in 0..3 {
        drop_and_read_back(&mut world, 900 * MIB, SOMEBODY);
        world.named(50 * MIB, &[CRON]);
    }
    let (cron, reader) = world.shares();
    assert!(cron > 0.8 && reader < 0.05, "{:?}", world.judged());
    assert!(!world.speaks_of(SOMEBODY), "{:?}", world.judged());
}

#[test]
fn what_is_read_back_until_the_next_drop_is_read_back_again_after_it() {
    let mut world = World::new();
    for _ in 0..4 {
        // All of it is read back in three seconds, as after the drop before.
        drop_and_read_back(&mut world, 240 * MIB, CRON);
    }
    let (cron, reader) = world.shares();
    assert!(cron > 0.8 && reader < 0.05, "{:?}", world.judged());
}
