//! Builds the tracer and its bench, and becomes the bench.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};
use clap::Args;
use tracer_step::{self as step, Profile, cargo, root, workspace};
use tracer_vm::{arch::Arch, bench_null_blk};

use crate::{
    against,
    build::{build_static_bench, build_static_tracer},
    setup::{self, Need, Talk},
    vm,
};

/// Arguments that are passed on to the bench.
#[derive(Args)]
pub struct BenchArgs {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure everything this number of times [default: 5].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Run each load for this many seconds in a round [default: 4, or 2 with --page].
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Measure everything, other tracers too, and write `docs/cost.md`.
    #[arg(long)]
    page: bool,
    /// Attach and detach the tracer in turn under one running load, until the
    /// ratios are known to within 2 % or five minutes have passed; with `--page`,
    /// write `docs/cost/paired.md` and include it in `docs/cost.md`.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    paired: bool,
    /// Let idle CPUs sleep during the measurement, as they do in normal use: this is
    /// closer to what users see, but noisier.
    #[arg(long, requires = "paired")]
    may_sleep: bool,
    /// Compare with a tracer built from this commit, too.
    #[arg(long, value_name = "COMMIT", requires = "paired")]
    against: Option<String>,
    /// Measure the kernel time of the programs on null_blk, in a virtual machine, and
    /// add it to the page.
    #[arg(long, conflicts_with_all = ["page", "json", "paired"])]
    null_blk: bool,
    /// Measure nothing: write `docs/cost.md` again from the figures of the last run.
    #[arg(long, conflicts_with_all = ["page", "rounds", "seconds", "paired"])]
    render: bool,
}

/// Returns only on failure, as the demo does.
pub fn run(args: &BenchArgs) -> Result<()> {
    setup::ensure(&[Need::Build, Need::Bench], Talk::Changes)?;
    if args.null_blk {
        measure_null_blk(args)?;
    }
    let render = args.render || args.null_blk;
    let mut variables = vec![("PATH", root::search_path())];
    let against = args.against.as_deref().map(against::build).transpose()?;
    if args.page && !args.paired {
        variables.push(("TRACER_PEERS", setup::ensure_peers(Talk::Changes).into()));
        match build_static_tracer(Arch::host()) {
            Ok(tracer) => variables.push(("TRACER_STATIC_BIN", tracer.into())),
            Err(error) => eprintln!("bench: continues without the static tracer: {error:#}"),
        }
    }
    if !render {
        let tracer = step::build_tracer(Profile::Release)?;
        variables.push(("TRACER_BIN", tracer.into()));
    }
    let mut build = cargo("build");
    build.args(["--release", "--package", "tracer-bench"]);
    let bench =
        step::timed("build (bench)", || step::build_executable(&mut build, "tracer-bench"))?;

    let mut command =
        if render { Command::new(&bench) } else { root::command(&bench, &variables)? };
    let docs = workspace().join("docs");
    if args.page {
        command.arg("--page").arg(&docs);
    }
    if args.paired {
        command.arg("--paired");
    }
    if args.may_sleep {
        command.arg("--may-sleep");
    }
    if let Some((commit, tracer)) = against {
        command.arg("--against").arg(tracer).args(["--commit", &commit]);
    }
    if render {
        command.arg("--render").arg(&docs);
    }
    if args.json {
        command.arg("--json");
    }
    if !render {
        command.args(how_long(args));
    }
    let error = command.exec();
    Err(error).with_context(|| format!("failed to run `{}`", bench.display()))
}

fn how_long(args: &BenchArgs) -> Vec<String> {
    let rounds = args.rounds.map(|rounds| ["--rounds".to_owned(), rounds.to_string()]);
    let seconds = args.seconds.map(|seconds| ["--seconds".to_owned(), seconds.to_string()]);
    rounds.into_iter().chain(seconds).flatten().collect()
}

/// Leaves the figures where the page looks for them.
fn measure_null_blk(args: &BenchArgs) -> Result<()> {
    let bench = build_static_bench(Arch::host())?;
    let json = bench_null_blk(bench, &how_long(args).join(" "), &vm::RELEASED)?;
    let path = workspace().join("docs/cost/null_blk.json");
    fs::write(&path, json + "\n").with_context(|| format!("failed to write `{}`", path.display()))
}
