//! `cargo xtask`: everything a developer or a CI machine does to this project.
//!
//! There is one file per command. A command installs what it needs ([`setup`]), reports
//! its progress on standard error, and ends with exit code 1 and the name of what failed
//! if something did. Standard output carries results only.

mod against;
mod bench;
mod build;
mod check;
mod demo;
mod dist;
mod matrix;
mod setup;
mod test;
mod verdicts;
mod vm;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracer_vm::args::VmArgs;

use crate::setup::{Need, Talk};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set up, build, check, test, measure."
)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, as root, what the tracer costs on this machine.
    Bench(bench::BenchArgs),
    /// Install what building, the demo, the tests and the bench need, and list what is there.
    Setup {
        /// Install only what these need [default: all].
        #[arg(value_enum)]
        needs: Vec<Need>,
    },
    /// Build the tracer and its kernel programs.
    Build(build::BuildArgs),
    /// Run the checks that every commit must pass: format, lints, build, tests without root.
    Check,
    /// Build the tracer and run its demo as root.
    Demo {
        /// Arguments for `tracer demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Make a release: packages, archives and an image for both architectures, with digests.
    Dist(dist::DistArgs),
    /// Compare verdicts with what is known to be true of each timeline of a matrix.
    #[command(after_help = matrix::EXAMPLES)]
    Matrix(matrix::MatrixArgs),
    /// Run the lints and all tests: the live ones as root, and on other kernels.
    #[command(after_help = test::EXAMPLES)]
    Test(test::TestArgs),
    /// Write what `tracer replay` prints for recordings of the scenarios into docs/verdicts.md.
    #[command(after_help = verdicts::EXAMPLES)]
    Verdicts(verdicts::VerdictsArgs),
    /// Run the live tests on other kernels, in virtual machines; needs no root.
    Vm(Box<VmArgs>),
}

fn main() -> ExitCode {
    match run(Xtask::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup { needs } if needs.is_empty() => setup::ensure(&Need::ALL, Talk::Everything),
        Command::Setup { needs } => setup::ensure(&needs, Talk::Everything),
        Command::Build(args) => build::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Check => check::run(),
        Command::Demo { args } => demo::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Matrix(args) => matrix::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Verdicts(args) => verdicts::run(&args),
        Command::Vm(args) => vm::run(&args),
    }
}
