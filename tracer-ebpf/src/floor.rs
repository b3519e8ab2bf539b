//! Programs that do nothing, on the hooks where the tracer's do their work.
//!
//! The cost of a program is its own work plus what the kernel takes to run any
//! program there. The bench loads these by themselves to measure the second part,
//! the floor below which the tracer cannot get; the tracer loads none of them.
//! The two that read the clock are the least that can time a request.

use core::hint::black_box;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::clock::now_ns;

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

#[btf_tracepoint(function = "block_rq_issue")]
pub fn clock_issue(_ctx: BtfTracePointContext) -> i32 {
    read_clock()
}

#[btf_tracepoint(function = "block_rq_complete")]
pub fn clock_complete(_ctx: BtfTracePointContext) -> i32 {
    read_clock()
}

#[inline(always)]
fn read_clock() -> i32 {
    // The helper is known to do nothing else; its reading must look used.
    black_box(now_ns());
    0
}
