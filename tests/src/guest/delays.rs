//! Delays that the test itself adds are shown in the right phase: in the device, in a
//! queue, or before a request exists.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracer::session::Session;
use tracer_ebpf::dropped::Dropped;
use tracer_snapshot::{Phase, SlowSync};

use super::{
    devices::{self, Device, Mounted, NullBlk},
    need, need_guest,
};
use crate::{
    live::traced,
    matrix::{
        requests::{meet, nothing_leaks, settle},
        ways::{own_syncs, phases_add_up},
    },
};

const MODULES: [&str; 2] = ["configfs", "null_blk"];

/// The service time of every request, far longer than an emulated machine adds.
const DELAY: Duration = Duration::from_millis(40);

#[repr(align(4096))]
struct Page([u8; 4096]);

/// ext4 on a slow disk that the tracer knows.
fn slow_disk(session: &mut Session, depth: u32) -> (Device, Mounted) {
    let wanted = NullBlk { delay: DELAY, depth, ..NullBlk::default() };
    let device = devices::null_blk(wanted).expect("a null_blk of our own");
    let mounted = Mounted::ext4(&device.path()).expect("ext4 on it");
    meet(session, &device.name).unwrap();
    (device, mounted)
}

/// Makes a file whose blocks are allocated already: a write and an fdatasync make one
/// request, and need no journal.
fn lay_out(path: &Path) -> Result<PathBuf> {
    fs::write(path, [1; 64 << 10])
        .with_context(|| format!("failed to make `{}`", path.display()))?;
    File::open(path)?.sync_all()?;
    Ok(path.to_owned())
}

/// Makes `syncs` syncs of one request each, and returns how long each took.
fn overwrite(path: &Path, syncs: usize) -> Result<Vec<Duration>> {
    let mut file = File::options().write(true).open(path)?;
    let mut took = Vec::new();
    for round in 0..syncs {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[round as u8; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        took.push(begin.elapsed());
    }
    Ok(took)
}

fn mean(syncs: &[SlowSync], phase: Phase) -> f64 {
    syncs.iter().map(|sync| sync.phases[phase]).sum::<f64>() / syncs.len().max(1) as f64
}

/// The mean phases of syncs, in milliseconds.
fn mean_phases(syncs: &[SlowSync]) -> String {
    let means =
        Phase::ALL.map(|phase| format!("{} {:.1} ms", phase.name(), mean(syncs, phase) * 1e3));
    means.join(", ")
}

#[test]
fn a_delay_of_the_device_is_device_time() {
    const SYNCS: usize = 8;
    need_guest!();
    need!(&MODULES, &[]);
    traced(|session| {
        let (device, mounted) = slow_disk(session, 64);
        let path = lay_out(&mounted.path().join("data")).unwrap();
        settle(session, &device.name).unwrap();
        own_syncs(session);
        overwrite(&path, SYNCS).unwrap();
        let syncs = own_syncs(session);
        println!("a device of {DELAY:?}: {}", mean_phases(&syncs));
        assert_eq!(syncs.len(), SYNCS);
        for sync in &syncs {
            assert!(phases_add_up(sync), "{sync:?}");
            assert!(sync.phases[Phase::Device] >= 0.8 * DELAY.as_secs_f64(), "{sync:?}");
        }
        nothing_leaks(session, &device.name).unwrap();
    });
}

fn missed_runs(session: &mut Session) -> u64 {
    let dropped = session.snapshot().dropped;
    dropped
        .counters
        .iter()
        .filter(|(kind, _)| *kind == Dropped::HookMissed.name())
        .map(|(_, n)| n)
        .sum()
}

/// Several threads use a device that serves one request at a time: the wait is shown as
/// queue, the service as device.
#[test]
fn queueing_is_distinguished_from_device_time() {
    const WRITERS: usize = 4;
    const SYNCS: usize = 6;
    need_guest!();
    need!(&MODULES, &[]);
    traced(|session| {
        let (device, mounted) = slow_disk(session, 1);
        let queue = Path::new("/sys/block").join(&device.name).join("queue");
        let paths: Vec<_> = (0..WRITERS)
            .map(|writer| lay_out(&mounted.path().join(format!("writer-{writer}"))).unwrap())
            .collect();
        for scheduler in ["mq-deadline", "bfq"] {
            if let Err(lack) = devices::choose_scheduler(&queue, scheduler) {
                println!("{lack}");
                continue;
            }
            devices::deepen(&queue).unwrap();
            settle(session, &device.name).unwrap();
            own_syncs(session);
            let missed = missed_runs(session);
            thread::scope(|scope| {
                for path in &paths {
                    scope.spawn(move || overwrite(path, SYNCS).unwrap());
                }
            });
            let syncs = own_syncs(session);
            println!("{WRITERS} writers under {scheduler}: {}", mean_phases(&syncs));
            // While a program is preempted, the next one on its CPU does not run.
            let missed = missed_runs(session) - missed;
            assert!(syncs.len() as u64 + missed >= (WRITERS * SYNCS) as u64, "{}", syncs.len());
            assert!(syncs.len() * 10 >= WRITERS * SYNCS * 9, "{}", syncs.len());
            let (queue, in_device) = (mean(&syncs, Phase::Queue), mean(&syncs, Phase::Device));
            let delay = DELAY.as_secs_f64();
            assert!(in_device >= 0.8 * delay, "{scheduler}: {in_device} s in the device");
            assert!(in_device <= 2.0 * delay, "{scheduler}: {in_device} s in the device");
            assert!(queue >= 1.2 * delay, "{scheduler}: {queue} s in the queue");
            nothing_leaks(session, &device.name).unwrap();
        }
    });
}

/// All tags are in use, so the sync waits before it has a request. That time is not the
/// device's, and must not be lost.
#[test]
fn the_wait_for_a_tag_is_in_the_record() {
    const WRITERS: usize = 16;
    const TAGS: u32 = 4;
    const SYNCS: usize = 6;
    need_guest!();
    need!(&MODULES, &[]);
    traced(|session| {
        let (device, mounted) = slow_disk(session, TAGS);
        let victim = lay_out(&mounted.path().join("victim")).unwrap();
        let crowd = lay_out(&mounted.path().join("crowd")).unwrap();
        settle(session, &device.name).unwrap();
        own_syncs(session);
        let stop = AtomicBool::new(false);
        let took = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (stop, crowd) = (&stop, &crowd);
                scope.spawn(move || write_directly(crowd, writer, stop));
            }
            // Waits until all threads run.
            thread::sleep(DELAY * 10);
            let took = overwrite(&victim, SYNCS);
            stop.store(true, Relaxed);
            took
        })
        .unwrap();
        let syncs = own_syncs(session);
        println!("{WRITERS} writers for {TAGS} tags: {}", mean_phases(&syncs));
        assert_eq!(syncs.len(), SYNCS);
        for (sync, took) in syncs.iter().zip(took) {
            assert!(phases_add_up(sync), "{sync:?}");
            assert!(sync.duration_seconds >= 0.8 * took.as_secs_f64(), "{took:?}: {sync:?}");
        }
        let delay = DELAY.as_secs_f64();
        let in_device = mean(&syncs, Phase::Device);
        let waits = [Phase::Queue, Phase::Throttle, Phase::Other];
        let waiting: f64 = waits.into_iter().map(|phase| mean(&syncs, phase)).sum();
        // On a machine with one CPU, sixteen busy threads delay the device's timer.
        assert!(in_device <= 0.5 * waiting, "{in_device} s in the device, {waiting} s waiting");
        assert!(waiting >= 2.0 * delay, "{waiting} s of waiting for a tag");
        nothing_leaks(session, &device.name).unwrap();
    });
}

/// Writes its own page past the page cache, again and again, until `stop` is set.
fn write_directly(path: &Path, page: usize, stop: &AtomicBool) {
    let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let data = Page([page as u8; 4096]);
    while !stop.load(Relaxed) {
        file.write_all_at(&data.0, page as u64 * 4096).unwrap();
    }
}
