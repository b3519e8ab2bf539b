//! Programs whose packages would start a service.
//!
//! Debian's etcd-server and prometheus enable and start a service when they are
//! installed, and again at each boot: a database that nobody asked for, on the
//! disk that is about to be measured. A `policy-rc.d` would hold back every
//! service of every package in the meantime, and a masked unit would stay masked.
//! Each of these packages is a few programs that need only libc, so their files are
//! unpacked into `.tools`, and nothing is installed in the system.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use tracer_step::{self as step, read_output, workspace};

pub const ETCD: &str = "etcd-server";
pub const ETCDCTL: &str = "etcd-client";
pub const PROMETHEUS: &str = "prometheus";

/// A package, a program in it that we want, and the argument that prints its version.
const PROGRAMS: [(&str, &str, &str); 4] = [
    (ETCD, "etcd", "--version"),
    (ETCDCTL, "etcdctl", "version"),
    (PROMETHEUS, "promtool", "--version"),
    (PROMETHEUS, "prometheus", "--version"),
];

/// Whether a package must not be installed, but is unpacked by [`ensure`].
pub fn is_unpacked(package: &str) -> bool {
    PROGRAMS.iter().any(|(name, ..)| *name == package)
}

/// Unpacks the programs of such a package into `.tools/bin`.
pub fn ensure(package: &str) -> Result<()> {
    let tools = workspace().join(".tools");
    let scratch = tools.join(package);
    // An interrupted attempt may have left something.
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)
        .and_then(|()| fs::create_dir_all(tools.join("bin")))
        .with_context(|| format!("failed to create `{}`", scratch.display()))?;

    let mut download = Command::new("apt-get");
    // apt's own user may have no access to our directory.
    download.args(["-o", "APT::Sandbox::User=root", "--quiet", "download", package]);
    step::run(&format!("setup: {package} into .tools"), download.current_dir(&scratch))?;
    let archive = fs::read_dir(&scratch)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get did not download `{package}`"))?;
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&scratch).status();
    if !unpacked.context("failed to run `dpkg-deb`")?.success() {
        bail!("failed to unpack `{}`", archive.display());
    }

    let wanted = || PROGRAMS.iter().filter(|(name, ..)| *name == package);
    for (_, program, _) in wanted() {
        fs::rename(scratch.join("usr/bin").join(program), tools.join("bin").join(program))
            .with_context(|| format!("package `{package}` has no `{program}`"))?;
    }
    fs::remove_dir_all(&scratch)
        .with_context(|| format!("failed to remove `{}`", scratch.display()))?;
    for (_, program, version) in wanted() {
        let target = tools.join("bin").join(program);
        read_output(Command::new(&target).arg(version).env("ETCDCTL_API", "3"))
            .with_context(|| format!("`.tools/bin/{program}` does not run here"))?;
    }
    Ok(())
}
