//! Data that one actor left in the page cache, and another that calls `sync` or unmounts.

use tracer_ebpf::record::via;

use super::{seconds::SECOND, *};
use crate::{
    tick::{WholeCall, WholeSync},
    triggers::{Call, Way},
};

const SYNCER: u64 = 40;

/// A call that begins in this second, after `from_ms`, and takes `ms`.
fn call(kind: u32, second: u64, from_ms: u64, ms: u64) -> SyncRecord {
    let mut record = SyncRecord::new_zeroed();
    (record.kind, record.cgroup, record.comm, record.tid) = (kind, SYNCER, comm("sync"), 7);
    record.begin_ns = second * SECOND + from_ms * MS;
    record.duration_ns = ms * MS;
    record.disk = NO_DISK;
    record
}

/// Ten quick seconds, and one in which ten syncs of 100 ms each are behind the tenant's writes,
/// which reach the disk in such a way; then one that is quick. `calls` end in the slow second.
fn after(via: u8, calls: &[SyncRecord]) -> Engine {
    after_all(via, calls, &[])
}

/// As [`after`], with whole filesystems that are written: each is in the tick at the end of a second in
/// which it was under way.
fn after_all(via: u8, calls: &[SyncRecord], whole_syncs: &[WholeSync]) -> Engine {
    let mut owners = owners();
    owners[4].via = via;
    let mut engine = Engine::new();
    for second in 0..12 {
        let is_slow = second == 10;
        for n in 0..10 {
            let slow = sync(100 * MS, &[(1, 0.1), (4, 4.0)]);
            let record = if is_slow { slow } else { sync(MS, &[(1, 0.1)]) };
            let begin_ns = second * SECOND + n * 100 * MS;
            engine.ingest(&SyncRecord { begin_ns, ..record }, &[], 0, 0, |_| &owners);
        }
        if is_slow {
            calls.iter().for_each(|call| {
                engine.ingest(call, &[], 1, 0, |_| &owners);
            });
        }
        let at_ns = (second + 1) * SECOND;
        let is_now = |sync: &&WholeSync| {
            sync.since_ns < at_ns && sync.until_ns > at_ns.saturating_sub(SECOND)
        };
        let until =
            |sync: &WholeSync| WholeSync { until_ns: sync.until_ns.min(at_ns), ..sync.clone() };
        let whole_syncs = whole_syncs.iter().filter(is_now).map(until).collect();
        let tick = Tick { at_ns, cpus: 2, whole_syncs, ..Tick::default() };
        engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
    }
    engine
}

/// The tenant's part is the same, whoever had its data written.
fn trigger(engine: &Engine) -> Option<Call> {
    let judged = judged(&engine.victims()[0]);
    assert_eq!(judged.kind, Kind::Owners, "{judged:?}");
    assert_eq!(judged.culprits.len(), 1, "{judged:?}");
    assert_eq!(judged.culprits[0].owner, OwnerId(4));
    assert!(judged.culprits[0].share > 0.9, "{judged:?}");
    judged.culprits[0].trigger
}

#[test]
fn who_called_sync_is_named_beside_the_one_whose_data_was_written() {
    for by in [via::WRITEBACK, via::JOURNAL] {
        let found = trigger(&after(by, &[call(kind::SYNC, 10, 50, 900)])).unwrap();
        assert_eq!((found.who.cgroup, found.way), (SYNCER, Way::Sync));
        assert_eq!((found.begin_ns, found.end_ns), (10_050 * MS, 10_950 * MS));
    }
}

#[test]
fn who_writes_past_the_page_cache_has_no_trigger() {
    for by in [via::DIRECT, via::CGROUP] {
        assert_eq!(trigger(&after(by, &[call(kind::SYNC, 10, 50, 900)])), None);
    }
}

/// Half of the slow second is 500 ms.
#[test]
fn a_call_for_less_than_half_of_the_time_is_no_trigger() {
    let of = |calls: &[SyncRecord]| trigger(&after(via::WRITEBACK, calls));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[call(kind::SYNC, 10, 0, 450)]), None);
    assert!(of(&[call(kind::SYNC, 10, 0, 550)]).is_some());
    // Two together are there for long enough, and the longer one is named.
    let two = [call(kind::SYNC, 10, 0, 250), call(kind::SYNC, 10, 500, 350)];
    assert_eq!(of(&two).unwrap().begin_ns, 10_500 * MS);
    // Time that is covered twice counts once.
    let twice = [call(kind::SYNC, 10, 0, 300), call(kind::SYNC, 10, 1, 299)];
    assert_eq!(of(&twice), None);
}

#[test]
fn the_sync_of_a_file_or_of_another_filesystem_is_no_trigger() {
    let of = |record| trigger(&after(via::WRITEBACK, &[record]));
    assert_eq!(of(call(kind::FSYNC, 10, 0, 1000)), None);
    let whole = call(kind::SYNCFS, 10, 0, 1000);
    assert_eq!(of(SyncRecord { device: 9, ..whole }), None);
    assert!(of(whole).is_some());
}

#[test]
fn whoever_has_its_own_data_written_needs_no_trigger() {
    let tenant = SyncRecord { cgroup: 30, comm: comm("fio"), ..call(kind::SYNC, 10, 0, 1000) };
    assert_eq!(trigger(&after(via::WRITEBACK, &[tenant])), None);
}

/// One by the owner 3, from one ms of the test to another.
fn umount(since_ms: u64, until_ms: u64) -> WholeSync {
    WholeSync {
        device: 0,
        disk: NO_DISK,
        owner: OwnerId(3),
        call: WholeCall::Umount,
        since_ns: since_ms * MS,
        until_ns: until_ms * MS,
    }
}

#[test]
fn who_unmounts_is_named_beside_the_one_whose_data_was_written() {
    // The second one lasts over two ticks, and is one call.
    for (since, until) in [(10_050, 10_950), (10_050, 11_400)] {
        let engine = after_all(via::WRITEBACK, &[], &[umount(since, until)]);
        let found = trigger(&engine).unwrap();
        assert_eq!((found.who, found.way.name()), (owners()[3].actor(), "umount"));
        assert_eq!((found.begin_ns, found.end_ns), (since * MS, until * MS));
    }
}

#[test]
fn an_umount_elsewhere_or_at_another_time_is_no_trigger() {
    let of = |sync| trigger(&after_all(via::WRITEBACK, &[], &[sync]));
    assert!(of(umount(10_000, 11_000)).is_some());
    assert_eq!(of(WholeSync { device: 9, ..umount(10_000, 11_000) }), None);
    assert_eq!(of(umount(7_000, 8_000)), None);
    // Another filesystem on the victim's disk.
    assert!(of(WholeSync { device: 9, disk: 0, ..umount(10_000, 11_000) }).is_some());
    assert_eq!(of(WholeSync { device: 9, disk: 3, ..umount(10_000, 11_000) }), None);
}

#[test]
fn whoever_has_its_own_data_written_by_an_umount_needs_no_trigger() {
    let own = WholeSync { owner: OwnerId(4), ..umount(10_000, 11_000) };
    assert_eq!(trigger(&after_all(via::WRITEBACK, &[], &[own])), None);
}
