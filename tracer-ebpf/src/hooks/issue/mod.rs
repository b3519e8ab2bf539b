//! A block request is issued to its driver.
//!
//! Prototype, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/block.h>:
//! - block_rq_issue(struct request *); until 5.10.136 (struct request_queue *,
//!   struct request *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::record::{Disk, op};

use crate::{
    cell::MapCell,
    clock::now_ns,
    fields::Request,
    requests::{address, describe, has_known_submitter, open_late, request_of, with_disk},
    slots::{self, Name},
};

#[btf_tracepoint(function = "block_rq_issue")]
pub fn block_rq_issue(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_disk(request, |operation, disk| {
        let (now, name) = (now_ns(), Name::of(request, operation));
        if let Some(own) = slots::own(name, disk) {
            if own.request().get() == address(request) {
                own.issued_ns().set(now);
                return;
            }
            // Nobody submits a flush: its slot is made here.
            if operation == op::FLUSH {
                slots::occupy(own, request, now);
                describe(request, operation, disk, own, now);
                own.issued_ns().set(now);
                return;
            }
        }
        if let Some(slot) = slots::find_named(name, disk) {
            slot.issued_ns().set(now);
        } else {
            note_late_issue(request, operation, disk, now);
        }
    });
    0
}

/// Notes the issue of a request whose submission was not seen. One that found no slot then
/// is not tried again: it is counted, and who runs now may be anybody.
#[cold]
#[inline(never)]
fn note_late_issue(request: Request, operation: u32, disk: MapCell<Disk>, now: u64) {
    if slots::has_outside(disk) && !has_known_submitter(request) {
        return;
    }
    if let Some(slot) = open_late(request, operation, disk) {
        slot.issued_ns().set(now);
    }
}
