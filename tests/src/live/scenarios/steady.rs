//! A disk that gets slow while its neighbour does what it always did.

use std::{thread::sleep, time::Duration};

use tracer_disk_model::{Model, Stalls};
use tracer_lab::disk::Filesystem;

use super::{
    culprits::Fio,
    need_stage, play,
    stage::cgroup,
    verdict::{Actor, QUIET_TRUTH, Truth, watch},
};

/// The neighbour runs for this long before the tracer starts to watch.
const SETTLES: Duration = Duration::from_secs(2);

/// A small cloud disk.
pub(super) fn small() -> Model {
    Model {
        write: Duration::from_micros(100),
        flush: Duration::from_micros(800),
        iops: Some(3000),
        ..Model::default()
    }
}

/// The neighbour runs all the time; the disk changes to another, on which p99 is at least
/// `slower` times as long.
fn nobody_is_blamed(scenario: &str, (neighbour, per_second): (Fio, u32), then: Model, slower: f64) {
    play(Filesystem::Ext4, |stage| {
        stage.disk.become_another(&small()).unwrap();
        let tenant = cgroup("steady");
        let file = neighbour.prepare(stage.disk.mountpoint(), "steady").unwrap();
        let _neighbour = file.start_at(per_second, &tenant).unwrap();
        sleep(SETTLES);
        let seen = watch(stage, |length| {
            stage.disk.become_another(&then).unwrap();
            sleep(length);
            stage.disk.become_another(&small()).unwrap();
        });
        let innocent = [Actor { comm: "fio", cgroup: &tenant }];
        let truth = Truth { kinds: &["device"], innocent: &innocent, slower, ..QUIET_TRUTH };
        seen.judge(scenario, &truth);
    });
}

const READS: Fio = Fio { rw: "randread", block: "4k", depth: 1 };

#[test]
fn a_steady_reader_is_not_blamed_for_a_disk_that_becomes_slow() {
    need_stage!();
    let slow = Duration::from_millis(8);
    let then = Model { read: slow, write: slow, flush: Duration::from_millis(10), ..small() };
    nobody_is_blamed("a slow disk beside a reader", (READS, 60), then, 3.0);
}

#[test]
fn a_steady_reader_is_not_blamed_for_a_disk_that_stalls() {
    need_stage!();
    let stalls = Stalls { every: Duration::from_millis(1500), length: Duration::from_millis(250) };
    let then = Model { stalls: Some(stalls), ..small() };
    // A stall holds up one sync, which is less than one in a hundred.
    nobody_is_blamed("stalls beside a reader", (READS, 60), then, 1.2);
}

#[test]
fn a_steady_writer_is_not_blamed_for_slow_flushes() {
    need_stage!();
    let writes = Fio { rw: "randwrite", block: "4k", depth: 2 };
    let then = Model { flush: Duration::from_millis(25), ..small() };
    nobody_is_blamed("slow flushes beside a writer", (writes, 300), then, 3.0);
}
