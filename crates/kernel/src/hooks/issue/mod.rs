//! A block request is issued to its driver.
//!
//! Most queues note the time in the request itself, and then the hook is not
//! needed.
//!
//! It feeds the division of a request's time between `queue` and `device`, in metrics
//! and phases.

use anyhow::Result;
use tracer_ebpf::config::Config;

use crate::{
    hook::{Hook, Layout, Strategy, on_demand, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "issue",
    purpose: "when a request is given to its driver (attached only if the kernel \
              does not note it in the request, or if a disk has a scheduler)",
    is_required: false,
    without: "if the kernel does not note when a request is given to its driver, \
              waiting in the queue is shown as the device's time; if a disk has a \
              scheduler, requests whose completion was missed stay in flight for a minute",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[on_demand(step(Program::BlockRqIssue))],
    }],
    find_fields,
    ..Hook::PLAIN
};

/// The kernel's own note of the issue, which a request has where its queue keeps
/// statistics.
fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    config.request_io_start = layout.types.offset(layout.request, "io_start_time_ns");
    Ok(())
}
