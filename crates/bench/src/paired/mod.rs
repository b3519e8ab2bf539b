//! A comparison that noise cannot hide behind: `cargo xtask bench --paired`.
//!
//! Arms take turns under one load that keeps running: no tracer, no tracer again (the
//! null case, which shows what the method resolves), this tree's tracer, and that of
//! another commit. Each arm is measured once in a block of some seconds, in a random
//! order, and compared with the others of the same block. Whatever slows the machine for
//! longer than a block affects all of them, and cancels out. Blocks are repeated until
//! all intervals are narrow or the time is over; [`crate::report::paired`] computes them.
//!
//! A tracer is a process, `tracer top --batch` of any build, as users run it. Once it
//! has printed its first snapshot it is watching, and has decided once which of its
//! hooks the load needs.

mod load;
pub(crate) mod order;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use aya::sys::{Stats, enable_stats};

use crate::{
    fio::Stand,
    loaded::Since,
    ours::Tracer,
    peers::kernel::count_requests,
    report::{
        paired::{Arm, Block, Blocks, Kernel, Sample},
        spread::Spread,
    },
};
use load::{Load, Turn, Window};
use order::Orders;

/// The time to wait after an arm starts or the load changes, before anything is counted.
const SETTLE: Duration = Duration::from_millis(200);
const TURN: Duration = Duration::from_millis(100);

/// The numbers of windows of reads and of syncs in an arm. Their median is used, so a
/// disturbance of fewer than half of the windows has no effect.
const WINDOW: Duration = Duration::from_millis(100);
const READ_WINDOWS: usize = 9;
const SYNC_WINDOWS: usize = 5;
/// The length of a window in which the kernel measures the time of BPF programs, which
/// costs time itself.
const KERNEL_WINDOW: Duration = Duration::from_millis(200);

/// The kernel may take this long to unload programs that nobody holds any more.
const GONE: Duration = Duration::from_secs(10);

/// Programs with fewer runs than this in a window have no row.
const FEW_RUNS: u64 = 100;

/// The builds to compare, and how.
pub struct Plan {
    pub tracer: PathBuf,
    /// Another commit's name and its tracer.
    pub against: Option<(String, PathBuf)>,
    /// Whether CPUs with nothing to do are kept from sleeping.
    pub keeps_awake: bool,
    pub at_most: Duration,
}

/// A request to the kernel to keep CPUs from sleeping; it holds until dropped.
struct Awake {
    _asked: File,
}

impl Awake {
    /// In a virtual machine a CPU that sleeps goes back to the host, and returns when the host
    /// schedules it. A sync sleeps and is woken twice: on one machine it took 58 µs with sleep
    /// and 23 without, and windows of 100 ms differed by 20 % with sleep and by 3 % without.
    fn ask() -> Result<Self> {
        let path = "/dev/cpu_dma_latency";
        let ask = || {
            let mut file = OpenOptions::new().write(true).open(path)?;
            // While the file is open, no CPU may take longer than this many µs to wake.
            file.write_all(&0_i32.to_ne_bytes())?;
            Ok::<_, io::Error>(file)
        };
        let asked = ask().with_context(|| {
            format!("failed to keep the CPUs awake by `{path}`: with `--may-sleep` they may sleep")
        })?;
        Ok(Self { _asked: asked })
    }
}

/// Measures until all intervals are narrow, or the time is over.
pub async fn measure(plan: &Plan) -> Result<Blocks> {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
    let _awake = plan.keeps_awake.then(Awake::ask).transpose()?;
    say("making a disk of our own");
    let stand = Stand::build()?;
    let load = Load::start(&stand, seed)?;
    let before = Since::now();
    let mut bench = Bench { plan, load, before };
    let against = plan.against.as_ref().map(|(name, _)| name.clone());
    let mut orders = Orders::new(Arm::all(against.is_some()), seed);
    let mut blocks = Blocks { seed, kept_awake: plan.keeps_awake, against, blocks: Vec::new() };

    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    while begin.elapsed() + longest < plan.at_most {
        let began = Instant::now();
        let mut block = Block::default();
        for arm in orders.next() {
            let (sample, kernel) = bench.visit(arm).await?;
            block.samples.insert(arm, sample);
            block.kernel.extend(kernel.map(|kernel| (arm, kernel)));
        }
        blocks.blocks.push(block);
        longest = longest.max(began.elapsed());
        say(&format!("{} s: {}", begin.elapsed().as_secs(), blocks.progress()));
        if blocks.is_done() {
            break;
        }
    }
    Ok(blocks)
}

/// Progress goes to stderr, so that stdout holds the results alone.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "bench: {what}");
}

struct Bench<'a> {
    plan: &'a Plan,
    load: Load,
    /// The BPF programs that existed before ours.
    before: Since,
}

impl Bench<'_> {
    /// Measures one arm of a block.
    async fn visit(&mut self, arm: Arm) -> Result<(Sample, Option<Kernel>)> {
        self.load.turn_to(Turn::Syncs);
        let program = match arm {
            Arm::Nobody | Arm::Again => None,
            Arm::Ours => Some(&self.plan.tracer),
            Arm::Theirs => self.plan.against.as_ref().map(|(_, program)| program),
        };
        let Some(program) = program else {
            return Ok((self.watch_load().await?, None));
        };
        let tracer = Tracer::start(program).await?;
        let sample = self.watch_load().await?;
        let kernel = self.watch_kernel(&tracer.since).await?;
        tracer.stop().with_context(|| format!("`{}` failed", program.display()))?;
        self.wait_until_gone().await?;
        Ok((sample, Some(kernel)))
    }

    async fn turn_to(&self, turn: Turn, settle: Duration) {
        self.load.turn_to(turn);
        tokio::time::sleep(settle).await;
    }

    async fn watch_load(&mut self) -> Result<Sample> {
        self.turn_to(Turn::Reads, SETTLE).await;
        let reads = self.watch_windows(READ_WINDOWS).await?;
        self.turn_to(Turn::Syncs, TURN).await;
        let syncs = self.watch_windows(SYNC_WINDOWS).await?;
        let none = "nothing was read or synced in most of an arm's windows";
        let middle = |windows: &[Window], of: &dyn Fn(&Window) -> Option<f64>| {
            let values: Vec<_> = windows.iter().map(|window| of(window).unwrap_or(0.0)).collect();
            Spread::of(&values).map(|of| of.median).filter(|median| *median > 0.0).context(none)
        };
        Ok(Sample {
            reads_per_second: middle(&reads, &|window| Some(window.reads_per_second()))?,
            syncs_per_second: middle(&syncs, &|window| Some(window.syncs_per_second()))?,
            sync_p50_us: middle(&syncs, &|window| window.sync_percentile_us(50))?,
            sync_p99_us: middle(&syncs, &|window| window.sync_percentile_us(99))?,
        })
    }

    async fn watch_windows(&mut self, count: usize) -> Result<Vec<Window>> {
        let mut windows = Vec::new();
        for _ in 0..count {
            windows.push(self.load.watch(WINDOW).await?);
        }
        Ok(windows)
    }

    /// Measures the kernel time of the programs that were loaded since.
    async fn watch_kernel(&mut self, since: &Since) -> Result<Kernel> {
        let _counting = enable_stats(Stats::RunTime)
            .context("failed to turn BPF statistics on: they need kernel 5.8 or newer")?;
        tokio::time::sleep(TURN).await;
        let before = since.by_name();
        let syncs = self.load.watch(KERNEL_WINDOW).await?;
        let of_syncs = less(since.by_name(), &before);
        self.turn_to(Turn::Reads, TURN).await;
        let (before, requests) = (since.by_name(), count_requests());
        self.load.watch(KERNEL_WINDOW).await?;
        // The requests of all disks count, because the programs run for all of them.
        let requests = count_requests().saturating_sub(requests);
        let of_reads = less(since.by_name(), &before);
        if of_reads.is_empty() || of_syncs.is_empty() {
            bail!("the tracer's programs did not run");
        }
        let total = |runs: &BTreeMap<String, (u64, u64)>| {
            runs.values().map(|(_, ns)| *ns as f64).sum::<f64>()
        };
        let per_run = |runs: BTreeMap<String, (u64, u64)>| {
            let often = runs.into_iter().filter(|(_, (runs, _))| *runs >= FEW_RUNS);
            often.map(|(name, (runs, ns))| (name, ns as f64 / runs as f64)).collect()
        };
        Ok(Kernel {
            per_request_ns: total(&of_reads) / requests.max(1) as f64,
            per_sync_ns: total(&of_syncs) / syncs.syncs_ns.len().max(1) as f64,
            per_run_of_reads_ns: per_run(of_reads),
            per_run_of_syncs_ns: per_run(of_syncs),
        })
    }

    /// Waits until the kernel has unloaded the programs of a process that has ended, which
    /// takes a moment.
    async fn wait_until_gone(&self) -> Result<()> {
        let until = Instant::now() + GONE;
        while self.before.count_programs() > 0 {
            if Instant::now() > until {
                bail!(
                    "BPF programs are still loaded {} s after the tracer has ended: is another tracer \
                     running?",
                    GONE.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Subtracts, by name, runs and ns; programs that did not run are left out.
fn less(
    now: BTreeMap<String, (u64, u64)>,
    before: &BTreeMap<String, (u64, u64)>,
) -> BTreeMap<String, (u64, u64)> {
    let less = |(name, (runs, ns)): (String, (u64, u64))| {
        let (runs_before, ns_before) = before.get(&name).copied().unwrap_or_default();
        let runs = (runs.saturating_sub(runs_before), ns.saturating_sub(ns_before));
        (runs.0 > 0).then_some((name, runs))
    };
    now.into_iter().filter_map(less).collect()
}
