//! When a sync on xfs begins to wait for the log.
//!
//! Prototype, in
//! <https://elixir.bootlin.com/linux/v6.12/source/fs/xfs/xfs_trace.h>:
//! - xfs_log_force(struct xfs_mount *, xfs_lsn_t, unsigned long), of which
//!   nothing is read

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{clock::now_ns, syncs::table::current_sync};

/// From here to the end of the sync xfs waits for its log, which its workers
/// write.
#[btf_tracepoint(function = "xfs_log_force")]
pub fn xfs_log_force(_ctx: BtfTracePointContext) -> i32 {
    force_log();
    0
}

/// The running thread's sync begins to force a log.
#[inline(always)]
fn force_log() {
    let Some(sync) = current_sync() else { return };
    if sync.log_force_ns().get() == 0 {
        sync.log_force_ns().set(now_ns());
        let own_ns = sync.own_queue_ns().get() + sync.own_device_ns().get();
        sync.own_before_force_ns().set(own_ns);
    }
}
