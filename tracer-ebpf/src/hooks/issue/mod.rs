//! A block request is issued to its driver.
//!
//! Prototype (include/trace/events/block.h):
//! - block_rq_issue(struct request *); until 5.10.136 (struct request_queue *,
//!   struct request *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    clock::now_ns,
    requests::{open, request_of, with_disk},
    slots,
};

#[btf_tracepoint(function = "block_rq_issue")]
pub fn block_rq_issue(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_disk(request, |operation, disk| {
        let known = slots::find(request, operation, disk);
        if let Some(slot) = known.or_else(|| open(request, operation, disk)) {
            slot.issued_ns().set(now_ns());
        }
    });
    0
}
