//! Causes other than a neighbour on the disk: nobody, the disk itself, etcd itself, a crowded
//! CPU.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use tracer_disk_model::Model;
use tracer_lab::disk::Filesystem;

use super::{
    culprits::{ETCDCTL, Fio, run},
    need_stage, play,
    stage::{Stage, cgroup, repeat},
    verdict::{Actor, QUIET_TRUTH, Truth, watch, watch_for},
};
use crate::simulated::{SimulatedDisk, parts::Part};

#[test]
fn nobody_is_named_where_nothing_is_slow() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let answer = watch_for(stage, Duration::from_secs(4), sleep);
        answer.judge("quiet", &QUIET_TRUTH);
    });
}

#[test]
fn a_crowd_on_another_disk_is_not_blamed() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let other = SimulatedDisk::create(Filesystem::Ext4).expect("another disk");
        let tenant = cgroup("elsewhere");
        let writes = Fio { rw: "randwrite", block: "128k", depth: 16 };
        let writer = writes.prepare(other.mountpoint(), "elsewhere").unwrap();
        // The CPUs have room for this load.
        let calm = Model { bytes_per_second: 50_000_000, ..Model::default() };
        other.become_another(&calm).unwrap();
        let answer = watch(stage, |length| {
            let _writer = writer.start(&tenant).unwrap();
            sleep(length);
        });
        let innocent = [Actor { comm: "fio", cgroup: &tenant }];
        answer.judge("another disk", &Truth { innocent: &innocent, ..QUIET_TRUTH });
    });
}

#[test]
fn a_disk_that_becomes_slow_by_itself_is_nobodys_fault() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let answer = watch(stage, |length| {
            stage.disk.become_another(&Model::default().slower(12)).unwrap();
            sleep(length);
        });
        let truth = Truth { kinds: &["device"], slower: 3.0, ..QUIET_TRUTH };
        answer.judge("a slow device", &truth);
    });
}

/// etcd shares its only CPU with processes that do not use its disk.
#[test]
fn a_crowded_cpu_is_named_and_who_crowds_it() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let crowd = cgroup("crowd");
        stage.pin_etcd(0).unwrap();
        // The disk is so fast that a sync consists almost entirely of wake-ups.
        let fast = Model {
            write: Duration::from_micros(50),
            flush: Duration::from_micros(100),
            ..Model::default()
        };
        stage.disk.become_another(&fast).unwrap();
        let answer = watch(stage, |length| {
            let hog = Part::Hog { cpu: 0 };
            let _hogs = [(); 4].map(|()| hog.start("hog", &crowd).unwrap());
            sleep(length);
        });
        let truth = Truth {
            kinds: &["cpu"],
            culprits: &[Actor { comm: "hog", cgroup: &crowd }],
            innocent: &[],
            slower: 1.2,
        };
        answer.judge("a crowded CPU", &truth);
    });
}

/// Makes etcd do something with a database of some size.
fn etcd_does(
    scenario: &str,
    kinds: &[&str],
    slower: f64,
    work: impl Fn(&Stage, &str) -> Result<()>,
) {
    const MIB: u32 = 128;
    play(Filesystem::Ext4, |stage| {
        stage.fill(MIB).expect("etcd accepts values of 1 MiB");
        let endpoint = format!("--endpoints={}", stage.etcd.client().url());
        let answer = watch(stage, |length| repeat(length, || work(stage, &endpoint)).unwrap());
        answer.judge(scenario, &Truth { kinds, slower, ..QUIET_TRUTH });
    });
}

/// Beside the data, by who keeps etcd's own house.
#[test]
fn a_snapshot_of_etcd_is_its_own_doing() {
    need_stage!();
    etcd_does("a snapshot", &["self"], 1.2, |stage, endpoint| {
        let file = stage.disk.mountpoint().join("snapshot");
        let file = file.to_string_lossy();
        run(ETCDCTL, &[endpoint, "snapshot", "save", &file], &stage.cgroup)
    });
}

/// Values of 1 MiB, which etcd writes at once to its WAL and to its database.
#[test]
fn large_values_are_etcds_own_doing() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let slower = Model { bytes_per_second: 50_000_000, ..Model::default() };
        stage.disk.become_another(&slower).unwrap();
        let answer = watch(stage, |length| repeat(length, || stage.fill(1)).unwrap());
        answer.judge("large values", &Truth { kinds: &["self"], slower: 1.2, ..QUIET_TRUTH });
    });
}

/// Puts wait in etcd meanwhile, so few syncs are disturbed.
#[test]
fn a_defragmentation_of_etcd_is_its_own_doing() {
    need_stage!();
    etcd_does("a defragmentation", &["self", "none"], 0.0, |stage, endpoint| {
        // Blocks that a round freed can be allocated again after the journal's next commit.
        sleep(Duration::from_secs(1));
        run(ETCDCTL, &[endpoint, "--command-timeout=60s", "defrag"], &stage.cgroup)
    });
}
