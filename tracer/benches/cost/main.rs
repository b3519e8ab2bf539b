//! What the tracer costs, on this machine and now: `cargo xtask bench`.
//!
//! In each round every variant is measured once, and the order of variants
//! turns around from round to round, so that a machine that gets slower or
//! warmer does so for all. Results are medians with the smallest and largest
//! round beside them; nothing here asserts a time. The load is fio on a loop
//! disk whose image is in the page cache: about the fastest disk there is, so
//! the share of the tracer is at its largest.

mod allocations;
mod fio;
mod programs;
mod replay;
mod table;
mod usage;
mod whole;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tracer::{
    commands::{Stop, block_on},
    session::check_user,
};

use fio::Stand;
use table::{Machine, Table};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Measure what the tracer costs.
#[derive(Parser)]
#[command(name = "cost")]
struct Args {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each load runs in a round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// What `cargo bench` says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a round is told.
struct Round {
    length: Duration,
    /// Whether the variants are measured in reverse order.
    reversed: bool,
    /// For progress: "round 1 of 5".
    name: String,
}

impl Round {
    /// Progress goes to stderr, so that stdout holds the results alone.
    fn say(&self, what: &str) {
        let _ = writeln!(io::stderr(), "bench: {}: {what}", self.name);
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match block_on(run(&args)) {
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
    // Dropping the measurement cleans up what it has made.
    let table = tokio::select! {
        table = measure(args) => table?,
        () = stop.wait() => bail!("interrupted; everything is cleaned up"),
    };
    let machine = Machine::read(args.rounds, args.seconds);
    let mut bytes = Vec::new();
    if args.json {
        table.write_json(&mut bytes, &machine)?;
    } else {
        table.write_text(&mut bytes, &machine)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).context("cannot print")
}

async fn measure(args: &Args) -> Result<Table> {
    let tracer = find_tracer()?;
    let mut table = Table::default();
    let _ = writeln!(io::stderr(), "bench: making a disk of our own");
    let stand = Stand::build()?;
    for number in 0..args.rounds {
        let round = Round {
            length: Duration::from_secs(args.seconds),
            reversed: number % 2 == 1,
            name: format!("round {} of {}", number + 1, args.rounds),
        };
        programs::measure(&stand, &round, &mut table).await?;
        replay::measure(&stand, &round, &mut table)?;
        whole::measure(&stand, &tracer, &round, &mut table).await?;
    }
    Ok(table)
}

/// The tracer as users run it: what `TRACER_BIN` names, or what cargo built
/// beside this.
fn find_tracer() -> Result<PathBuf> {
    let named = env::var_os("TRACER_BIN").map(PathBuf::from);
    let beside = || Some(env::current_exe().ok()?.parent()?.parent()?.join("tracer"));
    match named.or_else(beside).filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("no tracer to measure: `cargo xtask bench` builds one, or set TRACER_BIN"),
    }
}
