//! Measures how long a bio waits to become a request: for a tag, or held back by
//! writeback throttling or iocost.
//!
//! Every bio on the machine runs the program, so it is attached on demand. The program
//! reads no field of the kernel.
//!
//! It feeds the phase `throttle`.

use crate::{
    hook::{Hook, Strategy, on_demand, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "throttle",
    purpose: "when a bio begins to wait for a request (attached only while that takes time)",
    is_required: false,
    without: "waiting for a request to be allocated (tags, throttling) is shown as `other`",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[on_demand(step(Program::BlockBioQueue))],
    }],
    ..Hook::PLAIN
};
