//! A bio enters a carrying disk (dm-crypt, dm-thin, most arrays), in its submitter's
//! context, and ends.
//!
//! Kernel threads submit the requests below such a disk, and nobody is seen behind them.
//! So its bios stand for its requests: they have owners, and are what a sync waits for.
//!
//! The end is seen of bios alone that became no request, which are those of carrying
//! disks; the kernel says nothing of a bio a second time when it is split or passed on.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/block.h>:
//! - block_bio_queue(struct bio *); until 5.10 (struct request_queue *, struct bio *)
//! - block_bio_complete(struct request_queue *, struct bio *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    bios,
    fields::{Bio, Kernel, config},
    maps::described,
};

/// Fires for every bio, so it must be done at once for those of other disks: one
/// look-up in a table.
#[btf_tracepoint(function = "block_bio_queue")]
pub fn stack_bio_queue(ctx: BtfTracePointContext) -> i32 {
    // Both branches name a constant; the verifier follows only one.
    let bio = Bio(Kernel(if config!(bio_queue_arg) == 1 { ctx.arg(1) } else { ctx.arg(0) }));
    if let Some(disk) = described(bio.device())
        && bios::carries(disk)
    {
        bios::open(bio, disk);
    }
    0
}

#[btf_tracepoint(function = "block_bio_complete")]
pub fn stack_bio_complete(ctx: BtfTracePointContext) -> i32 {
    bios::end(Bio(Kernel(ctx.arg(1))));
    0
}
