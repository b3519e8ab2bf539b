//! Builds the tracer: for this machine, or as one file for any Linux.
//!
//! The static one is linked with musl by the linker that comes with Rust, so no
//! cross compiler is needed for another architecture. The kernel programs in it
//! are compiled for the architecture that it will run on (aya-build asks cargo for
//! the target, not the host).

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use clap::Args;
use tracer_step::{self as step, Profile, cargo};
use tracer_vm::arch::Arch;

use crate::setup::{self, Need, Talk};

/// The profile of what is released.
const RELEASE: &str = "release";

/// The profile of what tests run, which is built in half the time.
pub const QUICK: &str = "quick";

#[derive(Args)]
pub struct BuildArgs {
    /// Build with optimisations, in cargo's release profile.
    #[arg(long)]
    release: bool,
    /// Build one static file for any Linux, in the release profile, and print its path.
    #[arg(long = "static")]
    is_static: bool,
    /// Build for this architecture instead of this machine's.
    #[arg(long, value_enum, requires = "is_static")]
    arch: Option<Arch>,
}

pub fn run(args: &BuildArgs) -> Result<()> {
    setup::ensure(&[Need::Build], Talk::Changes)?;
    if args.is_static {
        let file = build_static_tracer(args.arch.unwrap_or(Arch::host()))?;
        println!("{}", file.display());
        return Ok(());
    }
    let profile = if args.release { Profile::Release } else { Profile::Debug };
    step::build_tracer(profile).map(drop)
}

pub fn build_static_tracer(arch: Arch) -> Result<PathBuf> {
    build_tracer_in(RELEASE, arch)
}

/// Builds the tests' binary from the same optimised crates as the tracer: a guest
/// emulates every instruction, so optimisation counts.
pub fn build_static_tests(arch: Arch) -> Result<PathBuf> {
    build_tests_in(RELEASE, arch)
}

/// Builds the same as [`build_static_tracer`], sooner: the program is not optimised as a
/// whole.
pub fn build_quick_tracer(arch: Arch) -> Result<PathBuf> {
    build_tracer_in(QUICK, arch)
}

/// As [`build_static_tests`], likewise.
pub fn build_quick_tests(arch: Arch) -> Result<PathBuf> {
    build_tests_in(QUICK, arch)
}

fn build_tracer_in(profile: &str, arch: Arch) -> Result<PathBuf> {
    setup::ensure_target(arch.static_target(), Talk::Changes)?;
    let mut command = for_target("build", profile, arch);
    // cargo compiles a crate again for each set of its features, and these are
    // what the selected packages ask for together. With the tests' package named
    // here, their binary is made of the same crates as the tracer.
    command.args(["--package", "tracer", "--package", "tracer-demo", "--package", "tracer-tests"]);
    command.args(["--bin", "tracer", "--bin", "tracer-demo"]);
    let name = format!("build (static, {}, {profile})", arch.name());
    step::timed(&name, || step::build_executable(&mut command, "tracer"))
}

fn build_tests_in(profile: &str, arch: Arch) -> Result<PathBuf> {
    setup::ensure_target(arch.static_target(), Talk::Changes)?;
    let mut command = for_target("test", profile, arch);
    command.args(["--package", "tracer-tests", "--test", "tests", "--no-run"]);
    let name = format!("build (static tests, {}, {profile})", arch.name());
    step::timed(&name, || step::build_executable(&mut command, "tests"))
}

/// Builds the bench of the kernel's side, to be run in a guest.
pub fn build_static_bench(arch: Arch) -> Result<PathBuf> {
    setup::ensure_target(arch.static_target(), Talk::Changes)?;
    let mut command = for_target("build", RELEASE, arch);
    command.args(["--package", "tracer-bench"]);
    step::timed("build (static bench)", || step::build_executable(&mut command, "tracer-bench"))
}

fn for_target(subcommand: &str, profile: &str, arch: Arch) -> Command {
    let target = arch.static_target();
    let mut command = cargo(subcommand);
    command.args(["--profile", profile, "--target", target]);
    let linker = format!("CARGO_TARGET_{}_LINKER", target.replace('-', "_").to_uppercase());
    command.env(linker, "rust-lld");
    command
}
