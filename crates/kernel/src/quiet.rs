//! Keeps aya from asking what a locked down kernel writes down.
//!
//! Once in a process, aya tries what the kernel can do. One of its questions
//! is whether a program may read kernel memory, and under
//! lockdown=confidentiality that leaves a line in the kernel's log at each
//! start, though none of our programs does. Without CAP_PERFMON the kernel says
//! no before it looks at the program, and the questions whose answers we need
//! are not about tracing. The programs go without a name then, because aya asks
//! with a tracing program whether they may have one.

use caps::{CapSet, Capability};

/// Has aya ask its questions now, in this thread, without the capabilities
/// that tracing takes.
pub fn probe_features() {
    let tracing = [Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];
    let held: Vec<_> = tracing
        .into_iter()
        .filter(|capability| caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false))
        .collect();
    // If they cannot be given up, or there is no CAP_BPF without them, a line
    // in the kernel's log is the lesser evil.
    let asks = caps::has_cap(None, CapSet::Effective, Capability::CAP_BPF).unwrap_or(false)
        && held.iter().all(|held| caps::drop(None, CapSet::Effective, *held).is_ok());
    if asks {
        let _ = aya::features();
    }
    for capability in held {
        // The capabilities are still permitted, so this cannot fail.
        let _ = caps::raise(None, CapSet::Effective, capability);
    }
}
