//! A sync on xfs begins to wait for the log.
//!
//! It feeds the phase `journal` of syncs on xfs.

use crate::{
    hook::{Hook, Strategy, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "log",
    purpose: "when a sync on xfs begins to wait for the log",
    is_required: false,
    without: "waiting for xfs's log is shown as `other`",
    strategies: &[Strategy { name: "tracepoint", steps: &[step(Program::XfsLogForce)] }],
    ..Hook::PLAIN
};
