//! A block request is issued to its driver.
//!
//! Prototype (include/trace/events/block.h):
//! - block_rq_issue(struct request *); until 5.10.136 (struct request_queue *,
//!   struct request *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    clock::now_ns,
    requests::{address, open, request_of, with_slot},
};

#[btf_tracepoint(function = "block_rq_issue")]
pub fn block_rq_issue(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_slot(request, |operation, disk, slot| {
        if slot.request().get() != address(request) {
            open(request, operation, disk, slot);
        }
        slot.issued_ns().set(now_ns());
    });
    0
}
