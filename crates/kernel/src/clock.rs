//! The clocks of this machine.

use nix::time::{ClockId, clock_gettime};

/// Now, in the time of the kernel's records (CLOCK_MONOTONIC).
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).cast_unsigned()
}

/// Now, in Unix time.
pub fn unix_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux, and cannot fail with a valid pointer.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
