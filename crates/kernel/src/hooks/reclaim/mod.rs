//! Tasks reclaim memory themselves (direct reclaim), or have the kernel drop its caches.
//!
//! It feeds the phase `reclaim`, and `tracer_blame_seconds_total` with the operation
//! `memory`.

use crate::{
    hook::{Gap, Hook, Served, Strategy, gap, optional, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "reclaim",
    purpose: "who reclaims memory (direct reclaim), or drops the kernel's caches",
    is_required: false,
    without: "direct reclaim is shown as `cpu` and `other`, and its culprits are not \
              named",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            step(Program::DirectReclaimEnd),
            step(Program::DirectReclaimBegin),
            optional(step(Program::MemcgReclaimEnd)),
            optional(step(Program::MemcgReclaimBegin)),
            optional(step(Program::Console)),
        ],
    }],
    find_gaps,
    ..Hook::PLAIN
};

fn find_gaps(served: &Served<'_>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    if !served.has(&[Program::MemcgReclaimBegin, Program::MemcgReclaimEnd]) {
        gaps.push(gap("memcg", "reclaiming memory for a cgroup's own limit is not seen"));
    }
    if !served.has(&[Program::Console]) {
        gaps.push(gap("drop_caches", "the cgroup of who drops the kernel's caches is not seen"));
    }
    gaps
}
