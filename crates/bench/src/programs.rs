//! The kernel's side: run times of the programs, from BPF statistics.
//!
//! The time that the kernel counts includes its own clock readings. The same is true of
//! empty programs on the same hooks, whose time is the floor. All requests and system
//! calls of the machine are counted, not only the load's.

use std::{
    collections::{BTreeMap, HashSet},
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use tracer::{
    commands::Wakeup,
    session::{Options, Session},
};
use tracer_kernel::{
    capability::Capability,
    facts::{Facts, VMLINUX_BTF},
    floor::{EMPTY, Floor},
    program::Program,
};
use tracer_node::disks;

use crate::{
    Round,
    fio::{FioWork, Stand},
    report::{
        rows::{READS, SNAPSHOT, SYNCS},
        table::{Section, Table},
    },
};

/// Programs with fewer runs in a phase are not reported.
const FEW_RUNS: u64 = 100;

/// Snapshots that are taken for one number.
const SNAPSHOTS: u32 = 50;

/// Runs and run time of each program.
struct Runs(BTreeMap<Program, (u64, u64)>);

pub async fn measure(stand: &Stand, round: &Round, table: &mut Table) -> Result<()> {
    let _counting = enable_stats(Stats::RunTime)
        .context("failed to turn BPF statistics on: they need kernel 5.8 or newer")?;
    // Even the slowest disk gives enough runs for a mean in that time.
    let length = (round.length / 4).max(Duration::from_millis(500));
    if round.reversed {
        measure_floor(stand, round, length, table).await?;
        measure_calls(stand, round, length, table).await?;
        measure_tracer(stand, round, length, table).await
    } else {
        measure_tracer(stand, round, length, table).await?;
        measure_calls(stand, round, length, table).await?;
        measure_floor(stand, round, length, table).await
    }
}

async fn measure_tracer(
    stand: &Stand,
    round: &Round,
    length: Duration,
    table: &mut Table,
) -> Result<()> {
    let mut session = Session::start(&Options::default())?;
    session.check_capabilities()?;
    // The ring holds records of the self-test, which are not the load's.
    session.poll(None, &mut Vec::new());

    round.say("random reads, run time of the tracer's programs");
    let runs = watch(stand, &mut session, FioWork::Reads, length).await?;
    table.note(&READS, BLOCK_PROGRAMS, "ns", runs.per_request(&block_programs()));
    for program in block_programs() {
        runs.note_run(program, &READS, table);
    }

    round.say("fdatasync, run time of the tracer's programs");
    let before = session.engine().records();
    let runs = watch(stand, &mut session, FioWork::Syncs, length).await?;
    let syncs = session.engine().records() - before;
    let programs = programs_of(&[Capability::Sync]);
    let per_sync = runs.total_ns(&programs) as f64 / syncs.max(1) as f64;
    table.note(&SYNCS, "sync programs, per sync", "ns", per_sync);
    table.note(&SYNCS, BLOCK_PROGRAMS, "ns", runs.per_request(&block_programs()));
    for program in programs.into_iter().chain(programs_of(&[Capability::Journal])) {
        runs.note_run(program, &SYNCS, table);
    }
    table.note(&SYNCS, "syncs seen, the loop device's own too", "/s", {
        syncs as f64 / length.as_secs_f64()
    });

    let begin = Instant::now();
    let mut victims = 0;
    for _ in 0..SNAPSHOTS {
        victims = black_box(session.snapshot()).victims.len();
    }
    let us = begin.elapsed().as_secs_f64() * 1e6 / f64::from(SNAPSHOTS);
    table.note(&SNAPSHOT, "snapshot", "us", us);
    table.note(&SNAPSHOT, "victims in it", "", victims as f64);
    Ok(())
}

/// Measures the hooks on all calls, which are not attached if all filesystems are ext4.
async fn measure_calls(
    stand: &Stand,
    round: &Round,
    length: Duration,
    table: &mut Table,
) -> Result<()> {
    round.say("random reads, run time of the hooks on system calls");
    let forced = vec!["sync=tracepoint".parse().map_err(anyhow::Error::msg)?];
    let mut session = Session::start(&Options { forced, ..Options::default() })?;
    let runs = watch(stand, &mut session, FioWork::Reads, length).await?;
    for (program, what) in SYSTEM_CALLS {
        if let Some(ns) = runs.per_run(program) {
            table.note(&READS, what, "ns", ns);
        }
    }
    Ok(())
}

/// Hooks on system calls, measured at calls that are no syncs.
const SYSTEM_CALLS: [(Program, &str); 2] = [
    (Program::SysEnter, "sys_enter, per system call of any kind"),
    (Program::SysExit, "sys_exit, per system call of any kind"),
];

const BLOCK_PROGRAMS: &str = "block programs, per request";

async fn measure_floor(
    stand: &Stand,
    round: &Round,
    length: Duration,
    table: &mut Table,
) -> Result<()> {
    let facts = Facts::of_this_machine(Path::new(VMLINUX_BTF), &[Path::new("/")])?;
    let floor = Floor::attach(&empty_programs()?, &facts)?;
    round.say("random reads, run time of empty programs");
    let before = Runs::of(floor.run_stats());
    stand.run(FioWork::Reads, length).await?;
    // They are noted under the names of the tracer's programs, for comparison.
    let runs = Runs::of(floor.run_stats()).since(&before).renamed();
    table.note_base(&READS, BLOCK_PROGRAMS, runs.per_request(&block_programs()));
    for program in block_programs() {
        if let Some(ns) = runs.per_run(program) {
            table.note_base(&READS, &per_run_name(program), ns);
        }
    }
    for (program, what) in SYSTEM_CALLS {
        if let Some(ns) = runs.per_run(program) {
            table.note_base(&READS, what, ns);
        }
    }
    Ok(())
}

/// The empty programs on the hooks that the tracer has on this machine: none at the
/// issue of a request where no disk needs it.
pub fn empty_programs() -> Result<Vec<Program>> {
    let queues = disks::Queues::new(Path::new("/"));
    let found = disks::scan(&queues, &disks::Hidden::default())?;
    let mut followed = found.iter().filter(|disk| disk.has_requests());
    let is_needed = followed.any(|disk| disks::needs_issues(&queues, &disk.name));
    let empty = EMPTY.into_iter().map(|(empty, _)| empty);
    Ok(empty.filter(|empty| is_needed || *empty != Program::EmptyIssue).collect())
}

/// Measures the tracer's programs under a load, while the session is polled as usual.
async fn watch(
    stand: &Stand,
    session: &mut Session,
    work: FioWork,
    length: Duration,
) -> Result<Runs> {
    let before = Runs::of(session.run_stats());
    let load = stand.start(work, length)?;
    let wakeup = Wakeup::new(session)?;
    while load.is_running()? {
        wakeup.wait().await;
        session.poll(None, &mut Vec::new());
    }
    let runs = Runs::of(session.run_stats()).since(&before);
    session.poll(None, &mut Vec::new());
    load.finish()?;
    Ok(runs)
}

/// The capabilities that follow requests.
pub const BLOCK: [Capability; 3] = [Capability::Submit, Capability::Issue, Capability::Complete];

fn block_programs() -> Vec<Program> {
    programs_of(&BLOCK)
}

/// The programs of some capabilities under any strategy. Each is listed once, even if
/// several strategies use it.
pub fn programs_of(capabilities: &[Capability]) -> Vec<Program> {
    let wanted = Capability::ALL.into_iter().filter(|c| capabilities.contains(c));
    let steps = wanted.flat_map(Capability::strategies).flat_map(|r| r.steps);
    let mut programs: Vec<_> = steps.map(|step| step.program).collect();
    let mut known = HashSet::new();
    programs.retain(|program| known.insert(*program));
    programs
}

fn per_run_name(program: Program) -> String {
    format!("{program}, per run")
}

impl Runs {
    fn of(stats: Vec<(Program, u64, u64)>) -> Self {
        Self(stats.into_iter().map(|(program, runs, ns)| (program, (runs, ns))).collect())
    }

    fn since(mut self, before: &Self) -> Self {
        for (program, (runs, ns)) in &mut self.0 {
            let (runs_before, ns_before) = before.get(*program);
            *runs = runs.saturating_sub(runs_before);
            *ns = ns.saturating_sub(ns_before);
        }
        self
    }

    fn renamed(self) -> Self {
        let twin = |of| EMPTY.into_iter().find(|(empty, _)| *empty == of);
        let renamed = |(program, runs)| (twin(program).map_or(program, |(_, ours)| ours), runs);
        Self(self.0.into_iter().map(renamed).collect())
    }

    fn get(&self, program: Program) -> (u64, u64) {
        self.0.get(&program).copied().unwrap_or_default()
    }

    fn total_ns(&self, programs: &[Program]) -> u64 {
        programs.iter().map(|program| self.get(*program).1).sum()
    }

    /// Runs per completed request. A request completes once, except for the steps of a flush.
    fn per_request(&self, programs: &[Program]) -> f64 {
        let (requests, _) = self.get(Program::BlockRqComplete);
        self.total_ns(programs) as f64 / requests.max(1) as f64
    }

    fn per_run(&self, program: Program) -> Option<f64> {
        let (runs, ns) = self.get(program);
        (runs >= FEW_RUNS).then(|| ns as f64 / runs as f64)
    }

    fn note_run(&self, program: Program, section: &Section, table: &mut Table) {
        if let Some(ns) = self.per_run(program) {
            table.note(section, &per_run_name(program), "ns", ns);
        }
    }
}
