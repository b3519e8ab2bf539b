//! Finds the tasks that run while a sync waits for a CPU.
//!
//! It feeds `tracer_blame_seconds_total` with the operation `cpu`.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Hook, Layout, Strategy, on_demand, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "contender",
    purpose: "who runs while a sync waits for a CPU (attached only then)",
    is_required: false,
    without: "who runs while a sync waits for a CPU is not named",
    strategies: &[Strategy { name: "tracepoint", steps: &[on_demand(step(Program::SchedSwitch))] }],
    find_fields,
    is_usable: |_, config| sees_switches(config),
    ..Hook::PLAIN
};

/// Finds the position of the two tasks among the arguments of sched_switch.
fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let Some(task) = layout.task else { return Ok(()) };
    let args = layout.types.tracepoint_args("sched_switch").unwrap_or_default();
    if let Some(prev) = args.iter().position(|arg| layout.types.pointee(*arg) == Some(task)) {
        config.switch_prev_arg = prev as u32;
    }
    Ok(())
}

/// Whether programs can read which task leaves a CPU and which one comes, and how long
/// the latter had waited.
fn sees_switches(config: &Config) -> bool {
    // The program knows two positions: the usual one, and that of the first versions of 5.18:
    // <https://github.com/torvalds/linux/commit/9c2136be0878>.
    matches!(config.switch_prev_arg, 1 | 2)
        && [config.task_run_delay, config.task_pid, config.node_id].iter().all(|at| *at != ABSENT)
}
