//! How long a sync's bios wait to become requests.
//!
//! Before there is a request nothing is in flight: a bio may wait for a tag, or
//! be held back by writeback throttling or iocost. All of that lies between
//! two points in the submitter's own thread. A bio that is merged into a request
//! becomes none, and the next one takes its place.
//!
//! Cgroups' own throttling (`io.max`) lies before the first point: its bios are
//! queued by a kernel worker when their time has come.
//!
//! Prototype, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/block.h>:
//! - block_bio_queue(struct bio *); until 5.10 (struct request_queue *, struct bio *)

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{clock::now_ns, syncs::table::current_sync};

/// Fires for every bio, so it must be done at once for who does not sync: one
/// look-up in a table.
#[btf_tracepoint(function = "block_bio_queue")]
pub fn block_bio_queue(_ctx: BtfTracePointContext) -> i32 {
    if let Some(sync) = current_sync() {
        sync.bio_ns().set(now_ns());
    }
    0
}
