//! The clocks of this machine.

use nix::time::{ClockId, clock_gettime};
use tracer_snapshot::clock::Clock;

/// How both clocks lie to each other now.
pub fn read_clock() -> Clock {
    Clock::at(read(ClockId::CLOCK_REALTIME), monotonic_ns())
}

/// Now, in the time of the kernel's records (CLOCK_MONOTONIC).
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).cast_unsigned()
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux, and cannot fail with a valid pointer.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
