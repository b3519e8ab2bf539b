//! The Rust tools that the build needs besides a compiler: the toolchain's
//! components, and the linker for BPF.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, read_output, workspace};

use crate::setup::Talk;

/// The version whose LLVM matches the compiler's of `rust-toolchain.toml`.
const LINKER: &str = "0.10.3";

/// The components of `rust-toolchain.toml`, each with a file that proves that it is
/// installed.
///
/// rustup installs them by itself, unless it is configured not to
/// (`RUSTUP_AUTO_INSTALL=0`) or is older than the file's key.
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml"),
    ("rustfmt", "bin/rustfmt"),
    ("clippy", "bin/cargo-clippy"),
];

pub fn ensure_components(talk: Talk) -> Result<()> {
    let sysroot = find_sysroot()?;
    let is_there = |file: &str| sysroot.join(file).exists();

    let mut missing = Vec::new();
    for (component, file) in COMPONENTS {
        if is_there(file) { talk.there(component) } else { missing.push(component) }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") else {
        bail!("this Rust has no {}, and there is no rustup to add it", missing.join(", "));
    };
    let mut command = Command::new("rustup");
    command.args(["component", "add", "--toolchain"]).arg(toolchain).args(missing);
    step::run("setup: Rust components", &mut command)
}

/// The standard library of another target.
pub fn ensure_target(target: &str, talk: Talk) -> Result<()> {
    if find_sysroot()?.join("lib/rustlib").join(target).join("lib").exists() {
        talk.there(target);
        return Ok(());
    }
    let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") else {
        bail!("this Rust has no target {target}, and there is no rustup to add it");
    };
    let mut command = Command::new("rustup");
    command.args(["target", "add", "--toolchain"]).arg(toolchain).arg(target);
    step::run(&format!("setup: Rust for {target}"), &mut command)
}

fn find_sysroot() -> Result<PathBuf> {
    let mut command = Command::new("rustc");
    command.args(["--print", "sysroot"]).current_dir(workspace());
    read_output(&mut command)
        .map(PathBuf::from)
        .context("failed to run `rustc`: install Rust with rustup, see https://rustup.rs")
}

pub fn ensure_linker(talk: Talk) -> Result<()> {
    let name = format!("bpf-linker {LINKER}");
    let tools = workspace().join(".tools");
    let installed = || read_output(Command::new(tools.join("bin/bpf-linker")).arg("--version"));
    if installed().as_ref() == Some(&name) {
        talk.there(&name);
        return Ok(());
    }
    let mut command = step::cargo("install");
    command
        // The work is done by LLVM, which is compiled already: optimising the linker's own
        // code would not make it faster.
        .args(["bpf-linker", "--version", LINKER, "--locked", "--force", "--debug", "--root"])
        .arg(&tools)
        // There it is outside of this workspace's configuration.
        .current_dir("/");
    step::run(&format!("setup: {name} into .tools"), &mut command)?;
    match installed() {
        Some(version) if version == name => Ok(()),
        Some(version) => bail!("the linker installed as `{name}` calls itself `{version}`"),
        None => bail!("{name} is installed in `.tools`, but does not run"),
    }
}
