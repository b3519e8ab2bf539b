//! A journal's commit, which is a sync of the journal's own thread: no record is
//! made of it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::span::divide;

use super::{
    begin::begin_unnamed,
    call::Call,
    state::COMMIT,
    table::{close, current_sync},
};
use crate::clock::now_ns;

/// The running thread begins to commit a journal. The last commits of all are
/// made by who unmounts.
#[inline(always)]
pub fn begin_commit() {
    if current_sync().is_none() {
        begin_unnamed(Call { kind: COMMIT, fd: -1 }, now_ns());
    }
}

/// The running thread's commit ends: how long its requests were queued and in
/// service, as parts of the span in which they overlapped.
#[inline(always)]
pub fn end_commit() -> (u64, u64) {
    let Some(sync) = current_sync() else { return (0, 0) };
    if sync.kind().get() != COMMIT {
        return (0, 0);
    }
    let span_ns = sync.own_last_ns().get().saturating_sub(sync.own_first_ns().get());
    let (queue_ns, device_ns) =
        divide(sync.own_queue_ns().get(), sync.own_device_ns().get(), span_ns);
    // Bios that wait for requests are queued too.
    let queue_ns = queue_ns + sync.throttle_ns().get();
    close(bpf_get_current_pid_tgid() as u32);
    (queue_ns, device_ns)
}
