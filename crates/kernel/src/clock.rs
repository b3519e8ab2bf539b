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

/// Now in both, in Unix time first. What comes between the two readings, such as the
/// end of our turn on the CPU, shows as a distance between two of the kernel's time.
pub fn both_ns() -> (i64, u64) {
    let mut best = (u64::MAX, (0, 0));
    for _ in 0..READINGS {
        let (before, unix, after) = (monotonic_ns(), unix_ns(), monotonic_ns());
        let distance = after.saturating_sub(before);
        if distance < best.0 {
            best = (distance, (unix, before + distance / 2));
        }
    }
    best.1
}

/// The clocks are read this often, and the reading that took the least time is used.
const READINGS: usize = 3;

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux, and cannot fail with a valid pointer.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
