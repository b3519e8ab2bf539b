//! Neighbours that make etcd wait for its own disk.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use tracer_disk_model::Model;
use tracer_lab::{disk::Filesystem, process::Process};

use super::{
    culprits::{Fio, make_due, trim},
    need_stage, play,
    stage::{cgroup, repeat},
    verdict::{Actor, Truth, watch, watch_for},
};
use crate::simulated::parts::Part;

const SECOND: Duration = Duration::from_secs(1);
/// The requests are small, so that they use up the disk and not the CPUs.
const READS: Fio = Fio { rw: "randread", block: "4k", depth: 32 };

/// A disk that serves 2000 requests a second.
fn crowdable() -> Model {
    Model { read: Duration::from_millis(2), ..Model::default() }
}

fn an_fstrim_is_named(filesystem: Filesystem) {
    play(filesystem, |stage| {
        let (trimmer, writer) = (cgroup("trimmer"), cgroup("bystander"));
        let bystander = Part::Writer {
            file: stage.disk.mountpoint().join("bystander"),
            file_bytes: 16 << 20,
            bytes_per_second: 1 << 20,
        };
        let _bystander = bystander.start("bystander", &writer).unwrap();
        let answer = watch(stage, |length| {
            let round = || {
                if filesystem == Filesystem::Ext4 {
                    make_due(stage.disk.mountpoint())?;
                }
                trim(stage.disk.mountpoint(), &trimmer)
            };
            repeat(length, round).unwrap();
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "fstrim", cgroup: &trimmer }],
            innocent: &[Actor { comm: "bystander", cgroup: &writer }],
            slower: 3.0,
        };
        answer.judge(&format!("fstrim on {}", filesystem.name()), &truth);
    });
}

#[test]
fn an_fstrim_is_named_on_ext4() {
    need_stage!();
    an_fstrim_is_named(Filesystem::Ext4);
}

#[test]
fn an_fstrim_is_named_on_xfs() {
    need_stage!();
    an_fstrim_is_named(Filesystem::Xfs);
}

/// The data reaches the disk through a kernel worker.
#[test]
fn a_buffered_writer_is_named_and_not_the_kernels_worker() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        // The disk must be the bottleneck, and not the CPUs.
        let narrow = Model { bytes_per_second: 150_000_000, ..Model::default() };
        stage.disk.become_another(&narrow).unwrap();
        stage.disk.disk().limit_dirty(64 << 20).unwrap();
        let tenant = cgroup("logwriter");
        let writer = Part::Writer {
            file: stage.disk.mountpoint().join("log"),
            file_bytes: 512 << 20,
            bytes_per_second: 600_000_000,
        };
        let answer = watch(stage, |length| {
            let _writer = writer.start("logwriter", &tenant).unwrap();
            sleep(length);
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "logwriter", cgroup: &tenant }],
            innocent: &[],
            slower: 3.0,
        };
        answer.judge("a buffered writer", &truth);
    });
}

#[test]
fn a_random_reader_is_named() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let tenant = cgroup("reader");
        stage.disk.become_another(&crowdable()).unwrap();
        let reader = READS.prepare(stage.disk.mountpoint(), "reader").unwrap();
        let answer = watch(stage, |length| {
            let _reader = reader.start(&tenant).unwrap();
            sleep(length);
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "fio", cgroup: &tenant }],
            innocent: &[],
            slower: 1.2,
        };
        answer.judge("a random reader", &truth);
    });
}

/// The tenant makes no request itself: the journal writes its changes, in transactions that
/// etcd waits for.
#[test]
fn a_tenant_that_shuffles_files_is_named_through_the_journal() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let tenant = cgroup("shuffler");
        let files = Part::Files { folder: stage.disk.mountpoint().join("files"), per_second: 5000 };
        // On this disk transactions of many blocks take long, those of few do not.
        let slower = Model { bytes_per_second: 20_000_000, ..Model::default() };
        stage.disk.become_another(&slower).unwrap();
        let answer = watch(stage, |length| {
            let _files = files.start("shuffler", &tenant).unwrap();
            sleep(length);
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "shuffler", cgroup: &tenant }],
            innocent: &[],
            slower: 1.2,
        };
        answer.judge("a tenant of the journal", &truth);
        // A transaction has 2 blocks of etcd and 240 of the tenant.
        let verdict = &answer.verdict;
        let share = truth.culprits[0].share(verdict);
        assert!(share >= 0.75, "the tenant's share is larger: {verdict:?}");
    });
}

#[test]
fn two_culprits_are_distinguished_by_what_they_do() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let (more, less) = (cgroup("more"), cgroup("less"));
        let folder = stage.disk.mountpoint();
        let writes = |depth| Fio { rw: "randwrite", block: "4k", depth };
        let (first, second) = (
            writes(24).prepare(folder, "more").unwrap(),
            writes(8).prepare(folder, "less").unwrap(),
        );
        let slower = Model { write: Duration::from_millis(2), ..Model::default() };
        stage.disk.become_another(&slower).unwrap();
        let mut written: f64 = 1.0;
        let answer = watch(stage, |length| {
            let writers = (first.start(&more).unwrap(), second.start(&less).unwrap());
            sleep(length);
            written = written_bytes(&writers.0) / written_bytes(&writers.1);
        });
        let (more, less) =
            (Actor { comm: "fio", cgroup: &more }, Actor { comm: "fio", cgroup: &less });
        let ratio = more.share(&answer.verdict) / less.share(&answer.verdict).max(1e-9);
        // The shares follow either their waiting requests or their completed work: a writer
        // that is short of CPU keeps its depth and writes less.
        let depths = 3.0;
        let truths = 0.5 * written.min(depths)..=2.0 * written.max(depths);
        println!("two culprits, of 3 and {written:.2} to 1: {ratio:.2} to 1");
        let truth =
            Truth { kinds: &["owners"], culprits: &[more, less], innocent: &[], slower: 1.2 };
        answer.judge("two culprits", &truth);
        assert!(truths.contains(&ratio), "not of {truths:?}: {:?}", answer.verdict);
    });
}

/// The bytes written, as the kernel counts them.
fn written_bytes(process: &Process) -> f64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.pid())).unwrap();
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    bytes.parse().unwrap()
}

/// A cron job runs for one second in fifteen, next to a reader that never stops.
#[test]
fn a_cron_job_is_cleared_beside_a_culprit_that_never_stops() {
    const EVERY: Duration = Duration::from_secs(15);
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let (tenant, cron) = (cgroup("reader"), cgroup("cron"));
        let folder = stage.disk.mountpoint();
        stage.disk.become_another(&crowdable()).unwrap();
        let reader = READS.prepare(folder, "reader").unwrap();
        fs::write(folder.join("cron"), vec![1; 8 << 20]).unwrap();
        let job = Part::Writer {
            file: folder.join("cron"),
            file_bytes: 8 << 20,
            bytes_per_second: 4 << 20,
        };
        let answer = watch_for(stage, 19 * SECOND, |length| {
            let _reader = reader.start(&tenant).unwrap();
            let begin = Instant::now();
            for number in 0.. {
                let due = 2 * SECOND + EVERY * number;
                sleep(due.min(length).saturating_sub(begin.elapsed()));
                if due >= length {
                    break;
                }
                let _job: Process = job.start("cron", &cron).unwrap();
                sleep(SECOND);
            }
        });
        let truth = Truth {
            kinds: &["owners"],
            culprits: &[Actor { comm: "fio", cgroup: &tenant }],
            innocent: &[Actor { comm: "cron", cgroup: &cron }],
            slower: 1.2,
        };
        answer.judge("a cron job beside a reader", &truth);
    });
}
