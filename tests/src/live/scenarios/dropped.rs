//! A cron job that drops the kernel's caches, and a process that reads back what it had there.

use std::{thread::sleep, time::Duration};

use super::{
    memory::Store,
    need_stage, play_on,
    stage::cgroup,
    verdict::{Actor, Truth},
};
use crate::simulated::parts::Part;

/// The size of the file that the reader has in the page cache.
const CACHED_BYTES: u64 = 64 << 20;

/// The reader is as busy as ever, and reads from the disk only because its pages are gone. The
/// shell that dropped them has ended long before anybody can look at it.
#[test]
fn who_drops_the_caches_is_named_and_not_who_reads_again() {
    need_stage!();
    play_on(|| {
        let store =
            Store::build(&[("cached", CACHED_BYTES)], |victim, own| victim.start("store", own))
                .expect("a store");
        let (cron, readers, writers) = (cgroup("cron"), cgroup("reader"), cgroup("bystander"));
        let reader = Part::Reader { file: store.disk.mountpoint().join("cached"), per_second: 320 };
        let bystander = Part::Writer {
            file: store.disk.mountpoint().join("bystander"),
            file_bytes: 16 << 20,
            bytes_per_second: 1 << 20,
        };
        let _reader = reader.start("reader", &readers).unwrap();
        let _bystander = bystander.start("bystander", &writers).unwrap();
        // The reader reads its file once.
        sleep(Duration::from_secs(8));
        let seen = store.watch(|length| {
            let job = Part::Cron { every: Duration::from_secs(4) };
            let _job = job.start("cron", &cron).unwrap();
            sleep(length);
        });
        let truth = Truth {
            kinds: &["memory"],
            culprits: &[Actor { comm: "sh", cgroup: &cron }],
            innocent: &[
                Actor { comm: "reader", cgroup: &readers },
                Actor { comm: "bystander", cgroup: &writers },
            ],
            slower: 1.5,
        };
        seen.judge("a cron job that drops the caches", &truth);
        let sentence = &seen.verdict.verdict;
        assert!(sentence.contains("drop_caches"), "{sentence}");
        assert_ne!(seen.verdict.confidence, "high", "only the time speaks for it");
    });
}
