//! Builds the tracer and its bench, and becomes the bench.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    root,
    setup::{self, Need, Talk},
    step::{self, Profile, cargo},
};

/// What is passed on to the bench.
#[derive(Args)]
pub struct BenchArgs {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured (default 5).
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each load runs in a round (default 4).
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
}

/// Returns only on failure, as the demo does.
pub fn run(args: &BenchArgs) -> Result<()> {
    setup::bring(&[Need::Build, Need::Bench], Talk::Changes)?;
    let tracer = step::build_tracer(Profile::Release)?;
    let mut build = cargo("bench");
    build.args(["--package", "tracer", "--bench", "cost", "--no-run"]);
    let bench = step::timed("build (bench)", || step::build_executable(&mut build, "cost"))?;

    let variables = [("PATH", root::search_path()), ("TRACER_BIN", OsString::from(&tracer))];
    let mut command = root::command(&bench, &variables)?;
    if args.json {
        command.arg("--json");
    }
    if let Some(rounds) = args.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(seconds) = args.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run `{}`", bench.display()))
}
