//! The checks that every commit must pass.

mod claims;
mod licences;
mod walls;
mod words;

use std::{env, process::Command};

use anyhow::Result;
use tracer_step::{self as step, cargo, workspace};

use crate::{
    setup::{self, Need, Talk},
    test::program::{PLAYED, played},
};

/// The gate: lints, build, documentation, and the tests that need neither root
/// nor a kernel.
pub fn run() -> Result<()> {
    setup::ensure(&[Need::Build], Talk::Changes)?;
    // This takes a second, so it comes first.
    step::timed("words", words::check)?;
    step::timed("claims", claims::check)?;
    step::timed("walls", walls::check)?;
    step::timed("licences", licences::check)?;
    lint()?;
    let mut docs = cargo("doc");
    // Private items are documented too, because most of the text is there.
    docs.args(["--workspace", "--no-deps", "--document-private-items"]);
    step::run("docs", docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    let mut build = cargo("build");
    build.arg("--workspace");
    let tracer = step::timed("build (workspace)", || step::build_executable(&mut build, "tracer"))?;
    let mut tests = cargo("test");
    tests.args(["--workspace", "--exclude", PLAYED, "--no-fail-fast"]);
    tests.args(["--", "--skip", "live::", "--skip", "guest::"]);
    step::run("tests", tests.env("TRACER_BIN", tracer))?;
    step::run("tests (timelines)", &mut played(&[]))
}

/// Checks the format and runs clippy, on user space and on the kernel programs.
fn lint() -> Result<()> {
    format()?;
    let mut host = cargo("clippy");
    host.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    step::run("clippy", &mut host)?;
    lint_ebpf()
}

/// Checks the format of user space and of the kernel programs.
pub fn format() -> Result<()> {
    step::run("format", cargo("fmt").args(["--all", "--check"]))?;
    step::run("format (eBPF)", &mut format_ebpf()?)
}

/// Runs clippy on the kernel programs.
pub fn lint_ebpf() -> Result<()> {
    step::run("clippy (eBPF)", &mut clippy_ebpf())
}

/// Makes a build fail for what clippy finds in the workspace's own crates.
///
/// clippy compiles them in rustc's place, as `cargo clippy` has it do, and here it writes code,
/// too. A check of its own before the build would read all dependencies once more, which takes two
/// CPUs two minutes and a half. Such code is optimised less than rustc's, so it is for
/// tests alone.
pub fn refuse_warnings(build: &mut Command) -> &mut Command {
    build
        .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
        // This is how `cargo clippy -- -D warnings` passes its arguments on.
        .env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__")
}

/// Checks the format of the kernel programs by the names of their files, as rustfmt does not
/// follow the `include!` that declares their modules. `rustfmt FILE` mends what it shows.
fn format_ebpf() -> Result<Command> {
    let mut command = Command::new("rustfmt");
    command.arg("--check").args(words::find_sources(&workspace().join("tracer-ebpf"))?);
    command.current_dir(workspace());
    Ok(command)
}

/// Clippy for the kernel programs, compiled the way aya-build does.
fn clippy_ebpf() -> Command {
    let mut command = cargo("clippy");
    command
        .args(["--package", "tracer-ebpf", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core"])
        // The flags differ from the host's: in one target directory, each build would
        // undo the other.
        .args(["--target-dir", "target/clippy-ebpf", "--", "-D", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        // aya-ebpf reads from this for which architecture's registers it is built.
        .env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH));
    command
}
