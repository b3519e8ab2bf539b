//! A block request is submitted, in its submitter's context.
//!
//! If submissions have no hook of their own (before 6.5), three others stand in: the
//! bio that gets a request, the request's insertion into a scheduler, and its issue.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/block.h>:
//! - block_io_start(struct request *), from 6.5
//! - blk_account_io_start(struct request *), a function, in
//!   <https://elixir.bootlin.com/linux/v6.12/source/block/blk-mq.c>
//! - block_getrq(struct bio *), from 5.11
//! - block_rq_insert(struct request *); until 5.10.136 (struct request_queue *,
//!   struct request *)

use aya_ebpf::{
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};
use tracer_ebpf::record::op;

use crate::{
    clock::now_ns,
    dirtier::submitter_of_bio,
    fields::{Kernel, Request},
    requests::{open, request_of, with_disk},
    slots,
    submitter::SUBMITTERS,
    syncs::own::end_throttle,
};

#[btf_tracepoint(function = "block_io_start")]
pub fn block_io_start(ctx: BtfTracePointContext) -> i32 {
    submit(Request(Kernel(ctx.arg(0))));
    0
}

#[fentry(function = "blk_account_io_start")]
pub fn blk_account_io_start(ctx: FEntryContext) -> i32 {
    submit(Request(Kernel(ctx.arg(0))));
    0
}

/// Fires in the submitter's context when a bio has been given a request. It does not
/// name the request: until 6.4 the first hook that does is the request's issue.
#[btf_tracepoint(function = "block_getrq")]
pub fn block_getrq(ctx: BtfTracePointContext) -> i32 {
    let bio = Kernel(ctx.arg(0));
    let now = now_ns();
    let _ = SUBMITTERS.insert(bio.0 as u64, submitter_of_bio(bio, now), 0);
    end_throttle(now);
    0
}

#[btf_tracepoint(function = "block_rq_insert")]
pub fn block_rq_insert(ctx: BtfTracePointContext) -> i32 {
    let request = request_of(&ctx);
    with_disk(request, |operation, disk| {
        if operation != op::FLUSH && slots::find(request, operation, disk).is_none() {
            open(request, operation, disk);
        }
    });
    0
}

#[inline(always)]
fn submit(request: Request) {
    with_disk(request, |operation, disk| {
        if operation != op::FLUSH {
            open(request, operation, disk);
        }
    });
}
