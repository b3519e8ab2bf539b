//! The kernel object once more, with only the programs that do nothing.
//!
//! For the bench: what the kernel takes to run any program on a hook is the
//! floor below what the tracer costs there, and two readings of the clock are
//! the floor of whatever times a request. No session loads these.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use crate::{
    facts::Facts,
    load::{OBJECT, run_stats},
    loader::{Attached, Globals, Loader},
    memlock,
    program::Program,
};

/// Each empty program, and the tracer's own on the same hook.
pub const EMPTY: [(Program, Program); 5] = [
    (Program::EmptyStart, Program::BlockIoStart),
    (Program::EmptyIssue, Program::BlockRqIssue),
    (Program::EmptyComplete, Program::BlockRqComplete),
    (Program::EmptyEnter, Program::SysEnter),
    (Program::EmptyExit, Program::SysExit),
];

/// Two programs that read the clock.
pub const CLOCK: [Program; 2] = [Program::ClockIssue, Program::ClockComplete];

/// Some of these programs, attached until this is dropped.
pub struct Floor {
    loaded: BTreeMap<Program, Attached>,
}

impl Floor {
    /// Attaches those of `programs` ([`EMPTY`], [`CLOCK`] or a part of them)
    /// whose hooks this kernel has.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of them.
    pub fn attach(programs: &[Program], facts: &Facts) -> Result<Self> {
        memlock::raise();
        let (mut loader, _maps) = Loader::create(OBJECT, &Globals::default(), &[])?;
        let mut loaded = BTreeMap::new();
        for &program in programs {
            if let Some(location) = facts.location(program) {
                let attached = loader.attach(program, location);
                loaded.insert(program, attached.map_err(|why| anyhow!("failed to attach {why}"))?);
            }
        }
        Ok(Self { loaded })
    }

    /// As [`crate::load::Programs::run_stats`].
    pub fn run_stats(&self) -> Vec<(Program, u64, u64)> {
        run_stats(&self.loaded)
    }
}
