//! The kernel pauses writes near the limit on dirty pages.
//!
//! It feeds verdicts with the operation `dirty`, and `paused_share` in JSON.

use anyhow::Result;
use tracer_ebpf::config::{ABSENT, Config};

use crate::{
    hook::{Hook, Layout, Strategy, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "writers",
    purpose: "whose writes are paused at the limit on dirty pages, and who dirtied these",
    is_required: false,
    without: "that writes are paused at the limit on dirty pages, and who dirtied these, is not \
              seen",
    strategies: &[
        Strategy { name: "tracepoint", steps: &[step(Program::BalanceDirtyPages)] },
        Strategy { name: "tracepoint_of_12", steps: &[step(Program::BalanceDirtyPagesOf12)] },
    ],
    find_fields,
    is_usable,
    ..Hook::PLAIN
};

/// The positions of the pause that programs know: see their prototypes.
const PAUSE: u32 = 6;
const PAUSE_OF_12: u32 = 10;

/// The arguments that follow the pause.
const BEHIND: usize = 1;

/// Finds the position of the pause, and what is read of the structs that are handed out.
fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    const AT: &str = "balance_dirty_pages";
    let types = layout.types;
    let Some(args) = types.tracepoint_args(AT) else { return Ok(()) };
    let Some(wb) = types.handed_out("bdi_writeback", &[AT]) else { return Ok(()) };
    if args.first().and_then(|arg| types.pointee(*arg)) != Some(wb) {
        return Ok(());
    }
    config.wb_bdi = types.offset(wb, "bdi");
    let pause = args.len().checked_sub(1 + BEHIND);
    // It is the only number that may be below 0.
    let signed = args.iter().position(|arg| types.is_signed(*arg));
    if let Some(pause) = pause.filter(|pause| signed == Some(*pause)) {
        config.pause_arg = pause as u32;
    }
    if let Some(control) = types.handed_out("dirty_throttle_control", &[AT]) {
        config.dtc_global = types.offset(control, "gdtc");
    }
    Ok(())
}

fn is_usable(program: Program, config: &Config) -> bool {
    let pause = if program == Program::BalanceDirtyPagesOf12 { PAUSE_OF_12 } else { PAUSE };
    config.pause_arg == pause && config.wb_bdi != ABSENT && config.bdi_id != ABSENT
}
