//! Two hundred threads move through a thousand cgroups, on all CPUs of the guest
//! (`cargo xtask vm --cpus 16`): the blocks that fill the journal are charged exactly.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tracer::session::Session;
use tracer_ebpf::dropped::Dropped;
use tracer_kernel::capability::Capability;
use tracer_lab::cgroup::Cgroup;
use tracer_node::devices;

use super::{
    devices::{Mounted, loop_device, write},
    need_guest,
};
use crate::live::{block::dropped, traced_through};

const HIERARCHY: &str = "/sys/fs/cgroup";
const THREADS: usize = 200;
/// Each thread moves through this number of cgroups, one after another.
const ROUND: usize = 5;
const CGROUPS: usize = THREADS * ROUND;
const FILES: usize = 2 * ROUND;

/// Cgroups for threads of this process, which is in the cgroup above them meanwhile.
struct Threaded {
    folder: PathBuf,
    before: String,
    _run: Cgroup,
}

impl Threaded {
    fn create() -> Result<Self> {
        let run = Cgroup::create("crowd")?;
        ensure!(!run.is_none(), "there is no cgroup2");
        let folder = Path::new(HIERARCHY).join(run.path().trim_start_matches('/'));
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let before = format!("{HIERARCHY}/{}/cgroup.procs", own.context("no cgroup2")?);
        for at in 0..CGROUPS {
            let below = folder.join(at.to_string());
            fs::create_dir(&below)?;
            write(&below.join("cgroup.type"), "threaded")?;
        }
        write(&folder.join("cgroup.procs"), &std::process::id().to_string())?;
        Ok(Self { folder, before, _run: run })
    }

    /// Puts the calling thread into one of them.
    fn enter(&self, at: usize) -> Result<()> {
        let tid = nix::unistd::gettid().to_string();
        write(&self.folder.join(at.to_string()).join("cgroup.threads"), &tid)
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        let _ = write(Path::new(&self.before), &std::process::id().to_string());
        for at in 0..CGROUPS {
            let _ = fs::remove_dir(self.folder.join(at.to_string()));
        }
    }
}

/// The blocks that handles dirtied in all committed transactions, from the journal's own
/// statistics: the number of transactions, and the mean blocks of one.
fn committed(disk: &str) -> Result<u64> {
    let folder = "/proc/fs/jbd2";
    let entries = fs::read_dir(folder).context("no jbd2")?.flatten();
    let of_disk = |path: &PathBuf| path.to_string_lossy().contains(&format!("/{disk}-"));
    let path = entries.map(|entry| entry.path()).find(of_disk).context("no journal")?;
    let text = fs::read_to_string(path.join("info"))?;
    let number = |end: &str| {
        let line = text.lines().find(|line| line.contains(end));
        line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok())
    };
    let transactions = number(" transactions (").with_context(|| text.clone())?;
    let blocks = number("  blocks per transaction").or_else(|| number(" blocks per transaction"));
    Ok(transactions * blocks.with_context(|| text.clone())?)
}

/// Adds up what owners are charged with on the device until `is_over` says so.
fn charged(session: &mut Session, device: u32, is_over: impl Fn() -> bool) -> u64 {
    let (mut blocks, mut last_ns) = (0, 0);
    let mut end = None;
    while end.is_none_or(|end: Instant| Instant::now() < end) {
        session.poll(None, &mut Vec::new());
        let tick = session.last_tick();
        if tick.at_ns != last_ns {
            last_ns = tick.at_ns;
            let journals = tick.journals.iter().filter(|work| work.device == device);
            blocks += journals.map(|work| work.blocks).sum::<u64>();
        }
        if end.is_none() && is_over() {
            // One more reading is needed.
            end = Some(Instant::now() + Duration::from_secs(4));
        }
        thread::sleep(Duration::from_millis(50));
    }
    blocks
}

#[test]
fn what_a_thousand_cgroups_put_into_a_journal_is_charged_to_the_block() {
    need_guest!();
    traced_through(vec!["metadata=tracepoint".parse().expect("a strategy")], |session| {
        let metadata = session.selections().iter().find(|s| s.capability == Capability::Metadata);
        if metadata.is_none_or(|metadata| metadata.selected().is_none()) {
            crate::skip::skip!("this kernel does not show which process fills a journal");
        }
        let disk = loop_device(1 << 30).expect("a loop device of our own");
        let mounted = Mounted::ext4(&disk.path()).expect("ext4 on it");
        let device = devices::from_stat(fs::metadata(mounted.path()).unwrap().dev());
        for at in 0..THREADS {
            fs::create_dir(mounted.path().join(at.to_string())).unwrap();
        }
        nix::unistd::sync();
        let cgroups = Threaded::create().expect("threaded cgroups");
        // The sums for creating the directories were read before, and do not count.
        charged(session, device, || true);
        let before = committed(&disk.name).unwrap();
        let (ready, is_over) = (Barrier::new(THREADS), AtomicBool::new(false));
        let counted = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|at| {
                    let (cgroups, ready) = (&cgroups, &ready);
                    let folder = mounted.path().join(at.to_string());
                    scope.spawn(move || {
                        ready.wait();
                        for file in 0..FILES {
                            cgroups.enter(at + THREADS * (file % ROUND)).unwrap();
                            fs::write(folder.join(file.to_string()), "").unwrap();
                            thread::sleep(Duration::from_secs(1));
                        }
                    })
                })
                .collect();
            let is_over = &is_over;
            scope.spawn(move || {
                threads.into_iter().for_each(|thread| thread.join().unwrap());
                // This commits what is left.
                nix::unistd::sync();
                is_over.store(true, Relaxed);
            });
            charged(session, device, || is_over.load(Relaxed))
        });
        let made = committed(&disk.name).unwrap() - before;
        let evicted = dropped(&session.snapshot(), Dropped::KernelEvicted);
        let cpus = thread::available_parallelism().unwrap();
        println!("{cpus} CPUs: {counted} blocks charged, {made} made, {evicted} sums evicted");
        assert!(made > 2 * FILES as u64, "{made} blocks");
        // The journal's own figure is an average, rounded down.
        let (low, high) = (made * 97 / 100, made * 110 / 100);
        assert!((low..=high).contains(&counted), "{counted} blocks charged, {made} made");
        assert_eq!(evicted, 0, "sums evicted with {cpus} CPUs");
    });
}
