//! The arguments of `cargo xtask vm`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    arch::Arch,
    kernels::Series,
    plan::{self, Boot, Cgroup, Lockdown, Plan, Wishes},
};

#[derive(Args, Default)]
pub struct VmArgs {
    /// Boot only this kernel (`6.1`, `7`, `6.12-rt`): one of the plan's, or without a
    /// plan any that Debian has. May be repeated.
    #[arg(long = "kernel", value_name = "VERSION")]
    pub(crate) kernels: Vec<Series>,
    /// Boot only machines of this architecture.
    #[arg(long, value_enum)]
    pub(crate) arch: Option<Arch>,
    /// Boot under this lockdown of the kernel instead of the plan's.
    #[arg(long, value_enum)]
    pub(crate) lockdown: Option<Lockdown>,
    /// Boot with this number of processors instead of the plan's.
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// Mount cgroups of this version in the guest.
    #[arg(long, value_enum)]
    pub(crate) cgroup: Option<Cgroup>,
    /// Run only the tests whose name contains this. May be repeated.
    #[arg(long = "test", value_name = "FILTER")]
    pub(crate) tests: Vec<String>,
    /// Run only cells on this filesystem.
    #[arg(long, value_name = "NAME")]
    pub(crate) fs: Option<String>,
    /// Run only cells under this IO scheduler.
    #[arg(long, value_name = "NAME")]
    pub(crate) scheduler: Option<String>,
    /// Set this variable in the tests' environment. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) environment: Vec<(String, String)>,
    /// Do the boots that every change must pass [default, unless kernels are named].
    #[arg(long, conflicts_with = "all")]
    pub(crate) short: bool,
    /// Boot all kernels, under each lockdown and on each architecture.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do this number of boots at a time [default: one per processor].
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Give up a boot after this time [default: 45].
    #[arg(long, value_name = "MINUTES")]
    pub(crate) timeout: Option<u64>,
    /// Run this shell script in the guest instead of the tests, and show what it
    /// prints.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tests", "docs"])]
    pub(crate) script: Option<PathBuf>,
    /// A program that is put into the guest for that script, in the place of the tests.
    #[arg(skip)]
    pub(crate) program: Option<PathBuf>,
    /// Boot this kernel instead of one of Debian's.
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with_all = ["kernels", "short", "all"])]
    pub(crate) vmlinuz: Option<PathBuf>,
    /// Read that kernel's modules from this directory, `lib/modules/RELEASE`.
    #[arg(long, value_name = "DIR", requires = "vmlinuz")]
    pub(crate) modules: Option<PathBuf>,
    /// Use the QEMU in this directory instead of Debian's.
    #[arg(long, value_name = "DIR")]
    pub(crate) qemu: Option<PathBuf>,
    /// Look for newer packages than those fetched before.
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Write `docs/kernels.md` from the results of all boots.
    #[arg(long, requires = "all")]
    pub(crate) docs: bool,
    /// Keep the results of boots that have passed before with the same build of the
    /// tracer.
    #[arg(long, conflicts_with = "script")]
    pub(crate) resume: bool,
    /// List what would be booted, and boot nothing.
    #[arg(long)]
    pub list: bool,
    /// Print one JSON object for each boot instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl VmArgs {
    /// The boots that the arguments ask for.
    ///
    /// # Errors
    ///
    /// There is no such boot.
    pub fn plan(&self) -> Result<Vec<Boot>> {
        let plan = match (self.short, self.all) {
            (true, _) => Some(Plan::Short),
            (_, true) => Some(Plan::All),
            _ => None,
        };
        let mut kernels = self.kernels.clone();
        if let Some(modules) = &self.modules {
            // The kernel's version is in the directory's name.
            let release = modules.file_name().unwrap_or_default().to_string_lossy();
            let numbers: Vec<_> = release.split(['.', '-']).take(2).collect();
            kernels = vec![numbers.join(".").parse()?];
        }
        let wishes = Wishes {
            kernels,
            arch: self.arch,
            lockdown: self.lockdown,
            cpus: self.cpus,
            cgroup: self.cgroup,
            tests: self.tests.clone(),
        };
        let boots = plan::boots(plan, &wishes)?;
        if boots.is_empty() {
            bail!("the plan has no such boot: see `cargo xtask vm --all --list`");
        }
        Ok(boots)
    }
}
