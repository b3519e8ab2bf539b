//! Packages of the distribution that are unpacked into a directory of their own, with
//! the libraries that this machine lacks. They are not installed in the system.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use tracer_step::{
    self as step,
    root::{self, find_program},
};

/// Unpacks the packages into `folder`, which then has the layout of a root directory.
pub fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("no apt-get here: install it with your own package manager");
    }
    let archives = folder.with_extension("debs");
    // An interrupted attempt may have left something.
    let _ = fs::remove_dir_all(&archives);
    // apt-get would create it as root's.
    fs::create_dir_all(archives.join("partial"))
        .and_then(|()| fs::create_dir_all(folder))
        .with_context(|| format!("failed to create `{}`", archives.display()))?;
    let unpacked = download(packages, &archives).or_else(|error| {
        // The lists may name files that the archive no longer has.
        eprintln!("setup: {error:#}");
        let mut update = apt_get(&["update", "--quiet"], &archives)?;
        step::run("setup: apt-get update", &mut update)?;
        download(packages, &archives)
    });
    let unpacked = unpacked.and_then(|()| unpack_all(&archives, folder));
    let _ = fs::remove_dir_all(&archives);
    unpacked
}

/// Downloads the packages, and those of their dependencies that are not installed.
fn download(packages: &[&str], archives: &Path) -> Result<()> {
    let args = ["install", "--quiet", "--yes", "--no-install-recommends", "--download-only"];
    let mut command = apt_get(&args, archives)?;
    let name = format!("setup: {} into .tools", packages.join(" "));
    step::run(&name, command.args(packages))
}

fn apt_get(args: &[&str], archives: &Path) -> Result<Command> {
    let quiet = [("DEBIAN_FRONTEND", OsString::from("noninteractive"))];
    let mut command = root::command("apt-get", &quiet).context("failed to download packages")?;
    // apt's own user may have no access to our directory. A configuration may delete
    // packages after they are installed, but these are only downloaded.
    command.args(["-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300", "-o"]);
    command.arg(format!("Dir::Cache::archives={}/", archives.display())).args(args);
    Ok(command)
}

fn unpack_all(archives: &Path, folder: &Path) -> Result<()> {
    let mut any = false;
    for entry in fs::read_dir(archives)? {
        let archive = entry?.path();
        if archive.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("-x").arg(&archive).arg(folder).status();
        if !status.context("failed to run `dpkg-deb`")?.success() {
            bail!("failed to unpack `{}`", archive.display());
        }
        any = true;
    }
    if !any {
        bail!("apt-get downloaded nothing");
    }
    Ok(())
}
