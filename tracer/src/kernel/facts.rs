//! What a kernel offers, as a value.
//!
//! [`Facts::of_this_machine`] asks the running kernel; tests and `--btf` make
//! the same value from files. Everything after this decides from the value.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use tracer_ebpf::config::{ABSENT, Config};

use super::{
    ladder::{CAPABILITIES, Target},
    offsets,
    types::KernelTypes,
};

/// Where the running kernel keeps its own BTF.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What a kernel offers to the ladder.
#[derive(Clone, Debug)]
pub struct Facts {
    pub release: String,
    /// `none`, `integrity`, `confidentiality`, or `unknown`.
    pub lockdown: String,
    /// Of all hooks on the ladder, those that exist here.
    pub tracepoints: BTreeSet<&'static str>,
    pub functions: BTreeSet<String>,
    pub config: Config,
}

impl Facts {
    /// Asks the running kernel.
    ///
    /// # Errors
    ///
    /// When it has no BTF, or its BTF lacks what the block path needs.
    pub fn of_this_machine(btf: &Path) -> Result<Self> {
        let bytes = fs::read(btf).with_context(|| {
            format!(
                "failed to read the kernel's types from `{}`: it must be built with \
                 CONFIG_DEBUG_INFO_BTF=y, or give its BTF with --btf FILE",
                btf.display()
            )
        })?;
        Self::from_btf(&bytes, release(), lockdown())
    }

    /// From the bytes of a BTF blob.
    ///
    /// # Errors
    ///
    /// As [`Facts::of_this_machine`].
    pub fn from_btf(bytes: &[u8], release: String, lockdown: String) -> Result<Self> {
        let types = KernelTypes::parse(bytes)?;
        let config = offsets::config(&types)?;
        let mut tracepoints = BTreeSet::new();
        let mut functions = BTreeSet::new();
        let steps = CAPABILITIES.iter().flat_map(|c| c.rungs).flat_map(|r| r.steps);
        for step in steps {
            match step.target {
                // Until 5.10 it hands out other things.
                Target::Tracepoint("block_getrq") if config.request_bio == ABSENT => {}
                Target::Tracepoint(name) if types.tracepoint(name).is_some() => {
                    tracepoints.insert(name);
                }
                Target::Tracepoint(_) => {}
                Target::Function(_) | Target::SystemCall(_) => {
                    let name = step.target.function_name();
                    if types.has_function(&name) {
                        functions.insert(name);
                    }
                }
            }
        }
        Ok(Self { release, lockdown, tracepoints, functions, config })
    }

    /// A kernel that offers no hook at all, with this layout.
    #[cfg(test)]
    pub fn with_config(config: Config) -> Self {
        let unknown = || "unknown".to_owned();
        let (tracepoints, functions) = Default::default();
        Self { release: unknown(), lockdown: unknown(), tracepoints, functions, config }
    }

    pub fn has(&self, target: &Target) -> bool {
        match target {
            Target::Tracepoint(name) => self.tracepoints.contains(name),
            Target::Function(_) | Target::SystemCall(_) => {
                self.functions.contains(&target.function_name())
            }
        }
    }

    /// Whether programs can read the fields of the task that they run in.
    pub fn sees_tasks(&self) -> bool {
        self.config.task_flags != ABSENT
    }

    pub fn sees_run_delay(&self) -> bool {
        self.sees_tasks() && self.config.task_run_delay != ABSENT
    }
}

fn release() -> String {
    read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
}

/// The mode in brackets, as in `none [integrity] confidentiality`.
fn lockdown() -> String {
    let line = read_line("/sys/kernel/security/lockdown");
    line.as_deref()
        .and_then(|line| Some(line.split_once('[')?.1.split_once(']')?.0))
        .unwrap_or("unknown")
        .to_owned()
}

fn read_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
