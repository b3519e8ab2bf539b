//! A block request completes, or ends in another way.
//!
//! It may be requeued, merged into another, complete in parts, or go through a
//! flush sequence.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/block.h>:
//! - block_rq_requeue, block_rq_merge(struct request *); until 5.10.136 (struct
//!   request_queue *, struct request *)
//! - block_rq_complete(struct request *, error, unsigned int nr_bytes)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{
    dropped::Dropped,
    record::{op, waits},
};

use crate::{
    clock::now_ns,
    fields::{Kernel, Request},
    maps::count_drop,
    requests::{end, end_unseen, give_back, has_known_submitter, open_late, request_of, with_disk},
    slots,
};

#[btf_tracepoint(function = "block_rq_requeue")]
pub fn block_rq_requeue(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_disk(request, |operation, disk| {
        if let Some(slot) = slots::find(request, operation, disk) {
            slot.issued_ns().set(0);
            slot.may_wait().set(slot.may_wait().get() | waits::REQUEUED);
        }
    });
    0
}

/// Fires for a request that is merged into its neighbour, and so ends here.
#[btf_tracepoint(function = "block_rq_merge")]
pub fn block_rq_merge(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_disk(request, |operation, disk| {
        if let Some(slot) = slots::find(request, operation, disk) {
            give_back(slot, now_ns());
            slots::free(slot, request);
        } else {
            slots::end_outside(disk);
        }
    });
    0
}

#[btf_tracepoint(function = "block_rq_complete")]
pub fn block_rq_complete(ctx: BtfTracePointContext) -> i32 {
    let request = Request(Kernel(ctx.arg(0)));
    let completed: u32 = ctx.arg(2);
    with_disk(request, |operation, disk| {
        let mut slot = slots::find(request, operation, disk);
        if let Some(slot) = slot {
            // Merges may have made it grow since it was submitted.
            slot.bytes().set(slot.bytes().get().max(request.bytes()));
        }
        // A step of a flush sequence, or a part of the data: the end is yet to come.
        let is_step = request.in_flush_sequence() || completed < request.bytes();
        if operation != op::FLUSH && is_step {
            return;
        }
        // A flush without data is never issued itself.
        if slot.is_none() && has_known_submitter(request) {
            slot = open_late(request, operation, disk);
        }
        if let Some(slot) = slot {
            end(request, disk, slot);
            return;
        }
        let noted_ns = request.noted_issue_ns();
        if noted_ns != 0 {
            end_unseen(disk, operation, completed, noted_ns);
        }
        // A request that the flush machinery makes itself is never submitted, and has no
        // owner.
        let is_counted =
            if operation == op::FLUSH { noted_ns != 0 } else { slots::end_outside(disk) };
        if !is_counted {
            debug!(
                (),
                "disk {}: a request completed whose submission was not seen",
                disk.index().get()
            );
            count_drop(Dropped::CompletionUnmatched);
        }
    });
    0
}
