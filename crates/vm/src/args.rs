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
    /// Only this kernel (`6.1`, `7`, `6.12-rt`); without a plan, any that
    /// Debian has. May be repeated.
    #[arg(long = "kernel", value_name = "VERSION")]
    pub(crate) kernels: Vec<Series>,
    #[arg(long, value_enum)]
    pub(crate) arch: Option<Arch>,
    #[arg(long, value_enum)]
    pub(crate) lockdown: Option<Lockdown>,
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    #[arg(long, value_enum)]
    pub(crate) cgroup: Option<Cgroup>,
    /// Only tests whose name contains this. May be repeated.
    #[arg(long = "test", value_name = "FILTER")]
    pub(crate) tests: Vec<String>,
    /// Only cells on this filesystem.
    #[arg(long, value_name = "NAME")]
    pub(crate) fs: Option<String>,
    /// Only cells under this scheduler.
    #[arg(long, value_name = "NAME")]
    pub(crate) scheduler: Option<String>,
    /// For the tests' environment. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) environment: Vec<(String, String)>,
    /// The boots for every change (the default, unless kernels are named).
    #[arg(long, conflicts_with = "all")]
    pub(crate) short: bool,
    /// All kernels, lockdowns and machines.
    #[arg(long)]
    pub(crate) all: bool,
    /// Boots at a time (default: one per processor).
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// How long a boot may take (default 45).
    #[arg(long, value_name = "MINUTES")]
    pub(crate) timeout: Option<u64>,
    /// Run this shell script in the guest instead of the tests, and show what
    /// it says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tests", "docs"])]
    pub(crate) script: Option<PathBuf>,
    /// In the tests' place beside such a script.
    #[arg(skip)]
    pub(crate) program: Option<PathBuf>,
    /// A kernel of your own instead of Debian's; its modules go with it.
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with_all = ["kernels", "short", "all"])]
    pub(crate) vmlinuz: Option<PathBuf>,
    /// Its folder `lib/modules/RELEASE`.
    #[arg(long, value_name = "FOLDER", requires = "vmlinuz")]
    pub(crate) modules: Option<PathBuf>,
    /// The folder of a QEMU to use instead of Debian's.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) qemu: Option<PathBuf>,
    /// Ask the archive for newer packages than those fetched before.
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Write `docs/kernels.md` from the results of all boots.
    #[arg(long, requires = "all")]
    pub(crate) docs: bool,
    /// Take the results of boots that have passed before, where the tracer is
    /// still the same.
    #[arg(long, conflicts_with = "script")]
    pub(crate) resume: bool,
    /// Only say what would be booted.
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
    /// The boots that they ask for.
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
            // Only for its name.
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
