//! A hook, which is a directory below [`hooks`](crate::hooks): its names, its attach
//! strategies, the fields of the kernel that its programs read, and the gaps that are
//! left.

use std::cell::RefCell;

use anyhow::Result;
use tracer_ebpf::config::Config;

use crate::{
    program::Program,
    types::{KernelTypes, Pointers},
};

/// Everything that user space knows about a hook.
pub struct Hook {
    /// Its name in options and outputs, such as `throttle`.
    pub name: &'static str,
    /// Its use, for `doctor`: what stands after the name in a line such as
    /// "submit     who submits a block request - seen by `tracepoint`".
    pub purpose: &'static str,
    /// Whether the tracer is useless without it.
    pub is_required: bool,
    /// The gap if no strategy works: a sentence without its full stop, such as "time in the
    /// journal is shown as `other`".
    pub without: &'static str,
    /// Its attach strategies, the best first.
    pub strategies: &'static [Strategy],
    /// Finds the fields that only its programs read; an error if a field is missing
    /// without which the programs are useless.
    pub find_fields: fn(&Layout<'_>, &mut Config) -> Result<()>,
    /// Finds fields that may lie in a module's types. Called for the kernel's
    /// own types and for those of each module.
    pub find_module_fields: fn(&KernelTypes<'_>, &mut Config),
    /// Whether one of its programs can read its arguments on this kernel.
    pub is_usable: fn(Program, &Config) -> bool,
    /// Finds what is not seen although a strategy serves.
    pub find_gaps: fn(&Served<'_>) -> Vec<Gap>,
}

impl Hook {
    /// The defaults, for hooks that have only names and strategies.
    pub const PLAIN: Self = Self {
        name: "",
        purpose: "",
        is_required: false,
        without: "",
        strategies: &[],
        find_fields: |_, _| Ok(()),
        find_module_fields: |_, _| {},
        is_usable: |_, _| true,
        find_gaps: |_| Vec::new(),
    };

    /// Whether a program is in one of its strategies.
    pub fn has(&self, program: Program) -> bool {
        let mut steps = self.strategies.iter().flat_map(|strategy| strategy.steps);
        steps.any(|step| step.program == program)
    }
}

/// The structs in which a hook finds its fields.
pub struct Layout<'a> {
    pub types: &'a KernelTypes<'a>,
    pub pointers: Pointers,
    /// The type of `struct request`, which is an argument of block_rq_issue.
    pub request: u32,
    /// The type of `struct task_struct`; `None` where no program can read its own task.
    pub task: Option<u32>,
    /// Why optional fields are missing: one sentence each.
    pub doubts: &'a RefCell<Vec<String>>,
}

impl Layout<'_> {
    /// Returns what was found. If nothing was, the reason is added to `doubts`.
    pub fn doubt<T>(&self, found: Result<T>) -> Option<T> {
        found.map_err(|why| self.doubts.borrow_mut().push(format!("{why:#}"))).ok()
    }
}

/// The selected strategy, and those of its programs that are attached.
pub struct Served<'a> {
    pub strategy: &'static str,
    pub attached: &'a [Program],
}

impl Served<'_> {
    pub fn has(&self, programs: &[Program]) -> bool {
        programs.iter().all(|program| self.attached.contains(program))
    }
}

/// Something that is not seen: one word for it from a fixed set, and a sentence
/// without its full stop.
pub type Gap = (&'static str, String);

pub fn gap(what: &'static str, sentence: impl Into<String>) -> Gap {
    (what, sentence.into())
}

/// The time during which a program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attach {
    /// As long as the tracer runs.
    Always,
    /// Loaded beside the first answers, and attached only while there is something to see,
    /// because the program runs so often that it would cost too much otherwise.
    OnDemand,
}

/// A set of programs that together provide a capability.
pub struct Strategy {
    pub name: &'static str,
    pub steps: &'static [Step],
}

/// One program of a strategy.
pub struct Step {
    pub program: Program,
    /// Whether the strategy fails without it.
    pub required: bool,
    pub attach: Attach,
}

pub const fn step(program: Program) -> Step {
    Step { program, required: true, attach: Attach::Always }
}

pub const fn optional(step: Step) -> Step {
    Step { required: false, ..step }
}

pub const fn on_demand(step: Step) -> Step {
    Step { attach: Attach::OnDemand, ..step }
}
