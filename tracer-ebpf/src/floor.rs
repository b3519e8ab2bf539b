//! Programs that do nothing, on the hooks where the tracer's do their work.
//!
//! What a program costs is what it does plus what the kernel takes to run any
//! program there. The bench loads these by themselves to measure the second,
//! the floor below which the tracer cannot get; the tracer loads none of them.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "block_io_start")]
pub fn empty_start(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "block_rq_issue")]
pub fn empty_issue(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "block_rq_complete")]
pub fn empty_complete(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_enter")]
pub fn empty_enter(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub fn empty_exit(_ctx: BtfTracePointContext) -> i32 {
    0
}
