//! The one clock of the kernel programs.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

/// Kernel monotonic time in ns. A reading costs about 75 ns on a virtual
/// machine: one per hook is enough.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
