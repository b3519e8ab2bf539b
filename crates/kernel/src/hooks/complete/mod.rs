//! A block request completes, or is no more for another reason.
//!
//! It feeds `tracer_block_requests_total`, `tracer_block_bytes_total`,
//! `tracer_block_request_duration_seconds` and the phase `device`.

use anyhow::Result;
use tracer_ebpf::config::Config;

use crate::{
    hook::{Hook, Layout, Strategy, step},
    program::Program,
};

pub const HOOK: Hook = Hook {
    name: "complete",
    purpose: "when a block request completes",
    is_required: true,
    without: "block requests cannot be followed",
    strategies: &[Strategy {
        name: "tracepoint",
        steps: &[
            step(Program::BlockRqComplete),
            step(Program::BlockRqRequeue),
            step(Program::BlockRqMerge),
        ],
    }],
    find_fields,
    ..Hook::PLAIN
};

/// The bit number of `RQF_FLUSH_SEQ` if BTF does not have it: it is a macro
/// (`1 << 4`) until 6.10, and an enumerator since:
/// <https://github.com/torvalds/linux/commit/5f89154e8e9e>.
const FLUSH_SEQ_BIT: u32 = 4;

fn find_fields(layout: &Layout<'_>, config: &mut Config) -> Result<()> {
    let types = layout.types;
    config.request_rq_flags = types.required(layout.request, "request", "rq_flags")?;
    config.flush_seq_bit = types.enumerator("__RQF_FLUSH_SEQ").unwrap_or(FLUSH_SEQ_BIT);
    Ok(())
}
