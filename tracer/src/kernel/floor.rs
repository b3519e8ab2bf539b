//! The kernel object once more, with only the programs that do nothing.
//!
//! For the bench: what the kernel takes to run any program on a hook is the
//! floor below what the tracer costs there, and two readings of the clock are
//! the floor of whatever times a request. No session loads these.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use super::{
    facts::Facts,
    ladder::Target,
    load::{OBJECT, raise_memlock, run_stats},
    loader::{Attached, Globals, Loader},
};

/// Each empty program, the hook it is on, which is also the name of the
/// tracer's program there.
pub const EMPTY: [(&str, &str); 5] = [
    ("empty_start", "block_io_start"),
    ("empty_issue", "block_rq_issue"),
    ("empty_complete", "block_rq_complete"),
    ("empty_enter", "sys_enter"),
    ("empty_exit", "sys_exit"),
];

/// Two programs that read the clock, and their hooks.
pub const CLOCK: [(&str, &str); 2] =
    [("clock_issue", "block_rq_issue"), ("clock_complete", "block_rq_complete")];

/// Some of these programs, attached until this is dropped.
pub struct Floor {
    loaded: BTreeMap<&'static str, Attached>,
}

impl Floor {
    /// Attaches those of `programs` ([`EMPTY`], [`CLOCK`] or a part of them)
    /// whose hooks this kernel has.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of them.
    pub fn attach(programs: &[(&'static str, &'static str)], facts: &Facts) -> Result<Self> {
        raise_memlock();
        let (mut loader, _maps) = Loader::create(OBJECT, &Globals::default(), &[])?;
        let mut loaded = BTreeMap::new();
        for &(name, hook) in programs {
            if let Some(home) = facts.home(&Target::Tracepoint(hook)) {
                let attached = loader.attach(name, hook, home);
                loaded.insert(name, attached.map_err(|why| anyhow!("failed to attach {why}"))?);
            }
        }
        Ok(Self { loaded })
    }

    /// As [`super::load::Programs::run_stats`].
    pub fn run_stats(&self) -> Vec<(String, u64, u64)> {
        run_stats(&self.loaded)
    }
}
