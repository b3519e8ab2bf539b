//! Finds out who writes to a file that was dirty before the tracer came.
//!
//! It feeds `tracer_blame_seconds_total`: what is written back of such a file is charged to the
//! process that writes to it now.

use crate::{
    hook::{Hook, Strategy, on_demand, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "dirtied",
    purpose: "who writes to a file that was dirty before (attached only then)",
    is_required: false,
    without: "who wrote to a file before the tracer came, and does so still, is not named",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[on_demand(step(Program::WritebackMarkInodeDirty))],
    }],
    ..Hook::PLAIN
};
