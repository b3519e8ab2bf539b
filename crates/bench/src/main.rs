//! Measures the cost of the tracer on this machine: `cargo xtask bench`.
//!
//! In each round every variant is measured once, and every other round goes through
//! them in reverse order, so a machine that gets slower or warmer does so for all of
//! them. Results are medians, with the smallest and largest round; nothing here asserts
//! a time. The load is fio on a loop disk whose image is in memory. That is about the
//! fastest disk there is, so the tracer's share is at its largest.
//!
//! [`programs`], [`replay`] and [`whole`] make the quick table. A page also has
//! other tracers ([`peers`]), the requirements on sizes and the start ([`sizes`]),
//! and curves ([`growth`]); [`report`] prints all of it. [`paired`] resolves
//! differences that are smaller than those between rounds.

mod allocations;
mod fio;
mod growth;
mod load;
mod loaded;
mod loops;
mod ours;
mod paired;
mod peers;
mod programs;
mod publish;
mod replay;
mod report;
mod sizes;
#[cfg(test)]
mod tests;
mod usage;
mod whole;

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tracer::{
    commands::{Stop, block_on},
    session::check_user,
};

use fio::Stand;
use ours::Tracer;
use paired::Plan;
use peers::{Peers, beside::Victim};
use report::{Report, curve::Curve, machine::Machine, paired::Paired, requirements, table::Table};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

const ROUNDS: u32 = 5;
/// Curves take longest, and this number of rounds is enough for a median.
const CURVE_ROUNDS: u32 = 3;

/// Measure what the tracer costs.
#[derive(Parser)]
#[command(name = "tracer-bench")]
struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure everything this number of times.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Run each load for this many seconds in a round [default: 4, or 2 for a page].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Measure everything, and write the page to this directory.
    #[arg(long, value_name = "FOLDER")]
    page: Option<PathBuf>,
    /// Measure only the kernel time of programs, ours and others', on the filesystem that
    /// this directory is on.
    #[arg(long, value_name = "FOLDER", conflicts_with = "page")]
    on: Option<PathBuf>,
    /// Measure nothing: write the page in this directory again from its JSON.
    #[arg(long, value_name = "FOLDER", conflicts_with = "page")]
    render: Option<PathBuf>,
    /// Attach and detach the tracer in turn under one load, until the ratios are known.
    #[arg(long, conflicts_with_all = ["on", "render", "rounds", "seconds"])]
    paired: bool,
    /// End the measurement after this many seconds at the latest.
    #[arg(long, value_name = "S", default_value_t = 300, requires = "paired")]
    at_most: u64,
    /// Let idle CPUs sleep during the measurement.
    #[arg(long, requires = "paired")]
    may_sleep: bool,
    /// Compare with this tracer, too.
    #[arg(long, value_name = "FILE", requires = "paired", requires = "commit")]
    against: Option<PathBuf>,
    /// The commit that the other tracer was built from.
    #[arg(long, value_name = "COMMIT", requires = "against")]
    commit: Option<String>,
    /// Run this load instead of measuring.
    #[arg(long, hide = true)]
    load: Option<String>,
}

/// The parameters of a round.
struct Round {
    /// When the first round began.
    began: Instant,
    length: Duration,
    number: u32,
    /// Whether the variants are measured in reverse order.
    reversed: bool,
    /// For progress: "round 1 of 5".
    name: String,
}

impl Round {
    /// Variants in the order of this round: reversed every other time, and each time with
    /// another one first, because the first variant finds all caches cold.
    fn order<T>(&self, mut variants: Vec<T>) -> Vec<T> {
        if !variants.is_empty() {
            let places = (self.number / 2) as usize * 2 % variants.len();
            variants.rotate_left(places);
        }
        if self.reversed {
            variants.reverse();
        }
        variants
    }

    /// Progress goes to stderr, so that stdout holds the results alone.
    fn say(&self, what: &str) {
        let seconds = self.began.elapsed().as_secs();
        let _ = writeln!(io::stderr(), "bench: {seconds} s: {}: {what}", self.name);
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (&args.load, &args.render) {
        (Some(spec), _) => load::act(spec),
        (None, Some(folder)) => publish::again(folder),
        (None, None) => block_on(run(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    check_user()?;
    let mut stop = Stop::new(None)?;
    if args.paired {
        return run_paired(args, stop).await;
    }
    let seconds = args.seconds.unwrap_or(if args.page.is_some() { 2 } else { 4 });
    let mut machine = Machine::read(&typed(args), args.rounds, seconds);
    let begin = Instant::now();
    // Dropping the measurement removes everything that it has made.
    let (table, curves) = tokio::select! {
        measured = measure(args, Duration::from_secs(seconds)) => measured?,
        () = stop.wait() => bail!("interrupted; everything is cleaned up"),
    };
    machine.took_seconds = begin.elapsed().as_secs();
    let mut report = Report { machine, table, curves, requirements: Vec::new() };
    if let Some(folder) = &args.page {
        report.requirements = requirements::evaluate(&report);
        publish::write(&report, folder)?;
    }
    let mut bytes = Vec::new();
    if args.json {
        report.write_json(&mut bytes)?;
    } else {
        report.write_text(&mut bytes)?;
    }
    print(&bytes)
}

async fn run_paired(args: &Args, mut stop: Stop) -> Result<()> {
    let against = args.commit.clone().zip(args.against.clone());
    let plan = Plan {
        tracer: find_tracer()?,
        against,
        keeps_awake: !args.may_sleep,
        at_most: Duration::from_secs(args.at_most),
    };
    let mut machine = Machine::read(&typed(args), 0, 0);
    let begin = Instant::now();
    // Dropping the measurement removes everything that it has made.
    let blocks = tokio::select! {
        measured = paired::measure(&plan) => measured?,
        () = stop.wait() => bail!("interrupted; everything is cleaned up"),
    };
    machine.took_seconds = begin.elapsed().as_secs();
    let paired = Paired::new(machine, blocks);
    if let Some(folder) = &args.page {
        publish::write_paired(&paired, folder)?;
    }
    let mut bytes = Vec::new();
    if args.json {
        paired.write_json(&mut bytes)?;
    } else {
        paired.write_text(&mut bytes)?;
    }
    print(&bytes)
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("failed to print")
}

/// The command line that a developer would type to get here.
fn typed(args: &Args) -> String {
    let mut command = "cargo xtask bench".to_owned();
    if args.paired {
        command.push_str(" --paired");
    }
    if args.may_sleep {
        command.push_str(" --may-sleep");
    }
    if let Some(commit) = &args.commit {
        command.push_str(&format!(" --against {commit}"));
    }
    if args.page.is_some() {
        command.push_str(" --page");
    }
    if args.on.is_some() {
        command.push_str(" --null-blk");
    }
    if args.rounds != ROUNDS {
        command.push_str(&format!(" --rounds {}", args.rounds));
    }
    if let Some(seconds) = args.seconds {
        command.push_str(&format!(" --seconds {seconds}"));
    }
    command
}

async fn measure(args: &Args, length: Duration) -> Result<(Table, Vec<Curve>)> {
    if let Some(folder) = &args.on {
        return measure_kernel(folder, args, length).await;
    }
    let tracer = find_tracer()?;
    let (mut table, mut curves) = (Table::default(), Vec::new());
    let _ = writeln!(io::stderr(), "bench: making a disk of our own");
    let stand = Stand::build()?;
    let rounds = rounds(args, length);
    if args.page.is_none() {
        for round in rounds {
            programs::measure(&stand, &round, &mut table).await?;
            replay::measure(&stand, &round, &mut table)?;
            whole::measure(&stand, &tracer, &round, &mut table).await?;
        }
        return Ok((table, curves));
    }

    let victim = Victim::start(&stand)?;
    let mut peers = Peers::find();
    curves = growth::curves();
    for (number, round) in (0..).zip(rounds) {
        programs::measure(&stand, &round, &mut table).await?;
        replay::measure(&stand, &round, &mut table)?;
        let itself = Tracer::start(&tracer).await?;
        whole::measure_itself(&stand, &itself, &round, &mut table).await?;
        itself.stop()?;
        peers::kernel::measure(&stand, &mut peers, &round, &mut table).await?;
        peers::beside::measure(&stand, &victim, &tracer, &mut peers, &round, &mut table).await?;
        sizes::measure(&stand, &tracer, &round, &mut table).await?;
        if number < CURVE_ROUNDS {
            growth::measure(&stand, &tracer, &round, &mut curves).await?;
        }
    }
    peers::hold_against_ours(&mut table);
    Ok((table, curves))
}

/// Measures the kernel time of the programs, on an existing filesystem.
async fn measure_kernel(
    folder: &Path,
    args: &Args,
    length: Duration,
) -> Result<(Table, Vec<Curve>)> {
    let mut table = Table::default();
    let mut curve = Curve::new(
        "null_blk_iops",
        "Cost against requests per second, on null_blk",
        "reads/s asked for (last: as fast as it goes)",
    );
    let (stand, mut peers) = (Stand::on(folder)?, Peers::find());
    for round in rounds(args, length) {
        peers::kernel::measure(&stand, &mut peers, &round, &mut table).await?;
        peers::kernel::measure_rates(&stand, &round, &mut curve).await?;
    }
    peers::hold_against_ours(&mut table);
    Ok((table, vec![curve]))
}

/// The rounds; the first begins now.
fn rounds(args: &Args, length: Duration) -> impl Iterator<Item = Round> {
    let (began, count) = (Instant::now(), args.rounds);
    (0..count).map(move |number| Round {
        began,
        length,
        number,
        reversed: number % 2 == 1,
        name: format!("round {} of {count}", number + 1),
    })
}

/// Finds the tracer as users run it: the one that `TRACER_BIN` names, or the one that
/// cargo built next to this program.
fn find_tracer() -> Result<PathBuf> {
    let named = env::var_os("TRACER_BIN").map(PathBuf::from);
    let beside = || Some(env::current_exe().ok()?.parent()?.join("tracer"));
    match named.or_else(beside).filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("no tracer to measure: `cargo xtask bench` builds one, or set TRACER_BIN"),
    }
}
