//! Other people's tracers, for the bench to measure beside ours.
//!
//! They come from the distribution, with the libraries that this machine lacks,
//! and are unpacked into `.tools/peers`, so the system does not know of them. If
//! one is not available the bench says so in its row, so nothing here is an error.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tracer_step::{
    self as step,
    root::{self, find_program},
    workspace,
};

use crate::setup::Talk;

/// Package, and a program of it.
const PACKAGES: [(&str, &str); 2] = [("bpftrace", "bpftrace"), ("libbpf-tools", "biolatency")];

/// The directory into which they are unpacked; it has the layout of a root directory.
pub fn folder() -> PathBuf {
    workspace().join(".tools/peers")
}

/// Fetches those that are neither installed nor unpacked, and lists those that are
/// not available.
pub fn bring(talk: Talk) {
    for (package, program) in PACKAGES {
        let unpacked = ["bin", "sbin"].map(|bin| folder().join("usr").join(bin).join(program));
        if find_program(program).is_some() || unpacked.iter().any(|file| file.is_file()) {
            talk.there(package);
        } else if let Err(error) = unpack(package) {
            eprintln!("setup: the bench goes without `{package}`: {error:#}");
        }
    }
}

fn unpack(package: &str) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("no apt-get here: install it with your own package manager");
    }
    let archives = workspace().join(".tools/peers.debs");
    // Whatever an interrupted attempt has left.
    let _ = fs::remove_dir_all(&archives);
    // apt-get would make it root's.
    fs::create_dir_all(archives.join("partial"))
        .and_then(|()| fs::create_dir_all(folder()))
        .with_context(|| format!("cannot create `{}`", archives.display()))?;
    let unpacked = download(package, &archives).or_else(|error| {
        // The lists may be of files long gone.
        eprintln!("setup: {error:#}");
        let mut update = apt_get(&["update", "--quiet"], &archives)?;
        step::run("setup: apt-get update", &mut update)?;
        download(package, &archives)
    });
    let unpacked = unpacked.and_then(|()| unpack_all(&archives));
    let _ = fs::remove_dir_all(&archives);
    unpacked
}

/// The package and what it needs that is not installed.
fn download(package: &str, archives: &Path) -> Result<()> {
    let args = ["install", "--quiet", "--yes", "--no-install-recommends", "--download-only"];
    let mut command = apt_get(&args, archives)?;
    step::run(&format!("setup: {package} into .tools"), command.arg(package))
}

fn apt_get(args: &[&str], archives: &Path) -> Result<Command> {
    let quiet = [("DEBIAN_FRONTEND", OsString::from("noninteractive"))];
    let mut command = root::command("apt-get", &quiet).context("cannot download packages")?;
    // Our directory may be closed to apt's own user; a configuration may keep
    // no packages after an installation, but nothing is installed.
    command.args(["-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300", "-o"]);
    command.arg(format!("Dir::Cache::archives={}/", archives.display())).args(args);
    Ok(command)
}

fn unpack_all(archives: &Path) -> Result<()> {
    let mut any = false;
    for entry in fs::read_dir(archives)? {
        let archive = entry?.path();
        if archive.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("-x").arg(&archive).arg(folder()).status();
        if !status.context("cannot run `dpkg-deb`")?.success() {
            bail!("cannot unpack `{}`", archive.display());
        }
        any = true;
    }
    if !any {
        bail!("apt-get has downloaded nothing");
    }
    Ok(())
}
