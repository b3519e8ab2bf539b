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
//! Prototype (include/trace/events/block.h): block_bio_queue(struct bio *);
//! until 5.10 (struct request_queue *, struct bio *).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    clock::now_ns,
    sync::{self, OpenSync},
};

/// What it takes where nothing holds a bio back.
const USUAL_NS: u64 = 2_000;

/// Fires for every bio, so it must be done at once for who does not sync: one
/// look-up in a table.
#[btf_tracepoint(function = "block_bio_queue")]
pub fn block_bio_queue(_ctx: BtfTracePointContext) -> i32 {
    if let Some(sync) = sync::of_current() {
        sync.bio_ns = now_ns();
    }
    0
}

/// The bio that this thread submitted last has been given a request: where
/// births are told later, or elsewhere.
#[inline(always)]
pub fn has_request(now: u64) {
    if let Some(sync) = sync::of_current() {
        settle(sync, now);
    }
}

/// The same where the thread's sync is at hand.
#[inline(always)]
pub fn settle(sync: &mut OpenSync, now: u64) {
    if sync.bio_ns != 0 {
        sync.throttle_ns += now.saturating_sub(sync.bio_ns).saturating_sub(USUAL_NS);
        sync.bio_ns = 0;
    }
}
