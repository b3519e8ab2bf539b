//! A sync that has not ended is judged as if it ended at the last tick.

use super::*;
use crate::tick::{DiskWork, Load};

const SECOND: u64 = 1_000_000_000;

/// A busy etcd: a hundred syncs of a millisecond in each second, on a disk that a tenant
/// writes to all the time.
struct Played {
    owners: [Owner; ACCOUNTS],
    engine: Engine,
    seconds: u64,
}

impl Played {
    /// After half a minute in which all is well.
    fn well() -> Self {
        let mut played = Self { owners: owners(), engine: Engine::new(), seconds: 0 };
        for _ in 0..30 {
            for n in 0..100 {
                let begin_ns = played.now_ns() + n * 10 * MS;
                let record = SyncRecord { begin_ns, ..sync(MS, &[(1, 1.0), (4, 0.5)]) };
                played.engine.ingest(&record, &[], 0, 0, |_| &played.owners);
            }
            played.end_second(100, 50);
        }
        played
    }

    fn now_ns(&self) -> u64 {
        self.seconds * SECOND
    }

    /// Ends a second in which these numbers of requests were completed.
    fn end_second(&mut self, own: u64, tenants: u64) {
        self.seconds += 1;
        let load = |owner, ended| Load {
            owner: OwnerId(owner),
            submitted: ended,
            completed: ended,
            bytes: ended * 4096,
            writes: true,
            in_flight_ns: ended * MS,
            cost_ns: 500_000,
            ..Load::default()
        };
        let disks = vec![DiskWork {
            disk: 0,
            length_ns: SECOND,
            loads: vec![load(1, own), load(4, tenants)],
            ..DiskWork::default()
        }];
        let tick = Tick { at_ns: self.now_ns(), disks, ..Tick::default() };
        let Self { engine, owners, .. } = self;
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }

    /// Further seconds of a sync that began at the end of the last, while nothing completes.
    fn hang(&mut self, seconds: u64) {
        let begin_ns = self.now_ns();
        for second in 1..=seconds {
            let record = hanging(begin_ns, second * SECOND);
            self.add_unfinished(&record);
            self.end_second(0, 0);
        }
    }

    fn add_unfinished(&mut self, record: &SyncRecord) {
        self.engine.add_unfinished(record, 0, 0, |_| &self.owners);
    }

    /// The victim, with its syncs that have not ended.
    fn victim(&self) -> &Victim {
        let victim = &self.engine.victims()[0];
        self.engine.with_unfinished(victim).unwrap_or(victim)
    }

    fn judged(&self) -> Judgement {
        let victim = self.victim();
        judge(victim, &victim.sum(Span::Period), Span::Period)
    }
}

/// One request of its own and one of the tenant's are in flight for all of the time. None
/// has ended, so the record counts none.
fn hanging(begin_ns: u64, duration_ns: u64) -> SyncRecord {
    let record = sync(duration_ns, &[(1, 1.0), (4, 1.0)]);
    SyncRecord { begin_ns, own_device_ns: 0, own_span_ns: 0, ..record }
}

#[test]
fn a_disk_that_completes_nothing_is_named_while_the_sync_hangs() {
    let mut played = Played::well();
    assert_eq!(played.judged().kind, Kind::None);
    played.engine.begin_period();
    played.hang(7);
    let judged = played.judged();
    assert_eq!(judged.kind, Kind::Device, "{judged:?}");
    assert!(judged.excess_ns > 6.9e9 && judged.excess_ns < 7.0e9, "{judged:?}");
    assert!(judged.culprits.is_empty(), "{judged:?}");
}

/// A sync that is seen at seven ticks and then ends is counted once.
#[test]
fn a_sync_that_ended_is_counted_once() {
    let mut played = Played::well();
    let (begin_ns, before) = (played.now_ns(), played.engine.records());
    played.hang(7);
    let victim = &played.engine.victims()[0];
    assert_eq!((victim.syncs_total, played.engine.records()), (3000, before));
    assert_eq!(played.victim().sum(Span::Period).syncs, 3001);
    let ended = SyncRecord { begin_ns, ..sync(7 * SECOND, &[(1, 1.0), (4, 1.0)]) };
    played.engine.ingest(&ended, &[], 0, 0, |_| &played.owners);
    played.end_second(1, 1);
    let victim = &played.engine.victims()[0];
    assert!(played.engine.with_unfinished(victim).is_none());
    assert_eq!(victim.sum(Span::Period).syncs, 3001);
}

/// Two syncs of one victim, and one of somebody who never ended any.
#[test]
fn all_syncs_of_a_victim_are_added_and_strangers_are_left_out() {
    let mut played = Played::well();
    let begin_ns = played.now_ns();
    for _ in 0..2 {
        played.add_unfinished(&hanging(begin_ns, SECOND));
    }
    let stranger = SyncRecord { cgroup: 77, ..hanging(begin_ns, SECOND) };
    played.add_unfinished(&stranger);
    played.end_second(0, 0);
    assert_eq!(played.engine.victims().len(), 1);
    assert_eq!(played.victim().sum(Span::Period).syncs, 3002);
    // A period begins without what is behind it.
    played.engine.begin_period();
    assert_eq!(played.victim().sum(Span::Period).syncs, 0);
}

/// A request in flight has no phase in the record yet: the victim's own is at the device,
/// and where it has none, the journal's are what it waits for.
#[test]
fn requests_in_flight_are_the_phase_that_a_sync_is_in() {
    let waits = |accounts: &[(usize, f64)]| {
        let mut played = Played::well();
        played.engine.begin_period();
        let record = SyncRecord { begin_ns: played.now_ns(), ..sync(10 * SECOND, accounts) };
        let record = SyncRecord { own_device_ns: 0, own_span_ns: 0, ..record };
        played.add_unfinished(&record);
        played.end_second(0, 0);
        let sum = played.victim().sum(Span::Period);
        let ns = sum.phases.ns;
        [Phase::Device, Phase::Journal, Phase::Other].map(|phase| (ns[phase] + SECOND / 2) / SECOND)
    };
    assert_eq!(waits(&[(1, 1.0)]), [10, 0, 0]);
    assert_eq!(waits(&[(1, 0.4)])[..1], [4]);
    assert_eq!(waits(&[]), [0, 0, 10]);
    // A commit's requests are at the device, too.
    assert_eq!(waits(&[(2, 1.0)]), [10, 0, 0]);
}
