use std::{thread::sleep, time::Duration};

use tracer::session::Session;
use tracer_lab::{
    cgroup::Cgroup,
    disk::Filesystem,
    etcd::{Etcd, WAL_FSYNC},
    histogram::{Histogram, histogram},
    puts::Puts,
};
use tracer_snapshot::FileClass;

use super::{lab_disk, need_live, traced};

/// The counts per bucket; the last bucket is above all bounds.
fn buckets(histogram: &Histogram) -> Vec<u64> {
    let mut below = 0;
    histogram
        .buckets
        .iter()
        .map(|(_, cumulative)| {
            let count = cumulative - below;
            below = *cumulative;
            count
        })
        .collect()
}

/// The counts of all WAL syncs of a process since the start, by etcd's bounds.
fn wal_counts(session: &mut Session, tgid: u32) -> Vec<u64> {
    session.poll(None, &mut Vec::new());
    let snapshot = session.snapshot();
    let wal = snapshot.victims.iter().filter(|v| v.actor.tgid == tgid && v.class == FileClass::Wal);
    let mut counts = vec![0; 15];
    for victim in wal {
        for (sum, count) in counts.iter_mut().zip(&victim.wal_buckets) {
            *sum += count;
        }
    }
    counts
}

/// This also shows that etcd is a victim under its own process and cgroup, with one victim
/// for each kind of its files.
#[test]
fn our_count_of_wal_syncs_equals_etcds_own() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let cgroup = Cgroup::create("etcd-test").expect("this machine has cgroup2");
    let etcd = Etcd::start(&disk.mountpoint().join("etcd"), &cgroup).expect("etcd runs");
    let fsyncs = || histogram(&etcd.metrics().unwrap(), WAL_FSYNC).expect("etcd counts fsyncs");
    // etcd's own start is over by then.
    sleep(Duration::from_secs(2));
    traced(|session| {
        let (theirs, ours) = (fsyncs(), wal_counts(session, etcd.pid()));
        let puts = Puts::start(&etcd, 200, 4).expect("clients run");
        let mut syncs = Vec::new();
        for _ in 0..250 {
            sleep(Duration::from_millis(20));
            session.poll(Some(0), &mut syncs);
        }
        assert!(!syncs.is_empty());
        for sync in &syncs {
            let off = (sync.phases.total() - sync.duration_seconds).abs();
            assert!(off <= 0.01 * sync.duration_seconds, "{sync:?}");
        }
        let work = puts.stop();
        assert!(work.done > 200, "etcd took only {} puts", work.done);
        sleep(Duration::from_millis(500));
        let (theirs_now, ours_now) = (fsyncs(), wal_counts(session, etcd.pid()));
        let theirs = theirs_now.since(&theirs).expect("the same bounds");
        let ours: Vec<_> = ours_now.iter().zip(&ours).map(|(now, then)| now - then).collect();
        let snapshot = session.snapshot();
        let listed: Vec<_> = snapshot
            .victims
            .iter()
            .map(|v| (&v.actor.comm, v.actor.tgid, v.class, &v.path, v.syncs_total))
            .collect();
        let dropped = &snapshot.dropped;
        assert_eq!(ours.iter().sum::<u64>(), theirs.count, "{listed:?} {dropped:?}");

        // etcd measures around the system call, so it is now and then one bucket later.
        let theirs = buckets(&theirs);
        println!("etcd {theirs:?}\nours {ours:?}");
        let total: u64 = ours.iter().sum();
        let misplaced: u64 = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).sum::<u64>() / 2;
        assert!(misplaced * 50 <= total, "{misplaced} of {total}: etcd {theirs:?} ours {ours:?}");

        let of_etcd: Vec<_> =
            snapshot.victims.iter().filter(|v| v.actor.tgid == etcd.pid()).collect();
        assert!(of_etcd.iter().all(|v| v.actor.cgroup == cgroup.path()), "{of_etcd:?}");
        for class in [FileClass::Wal, FileClass::Db] {
            let of_class = of_etcd.iter().filter(|v| v.class == class);
            assert_eq!(of_class.count(), 1, "{class:?}: {of_etcd:?}");
        }
    });
}
