//! The kernel's clock, and how it lies to the wall's.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Ties the kernel's monotonic time to Unix time, once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Clock {
    unix_minus_monotonic_ns: i64,
}

impl Clock {
    pub fn new() -> Self {
        let unix = read(ClockId::CLOCK_REALTIME);
        Self { unix_minus_monotonic_ns: unix - monotonic_ns().cast_signed() }
    }

    /// Unix seconds of a moment in kernel time.
    pub fn unix_seconds(&self, monotonic_ns: u64) -> f64 {
        monotonic_ns.cast_signed().saturating_add(self.unix_minus_monotonic_ns) as f64 / 1e9
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Now, in the time of the kernel's records (CLOCK_MONOTONIC).
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).cast_unsigned()
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux, and cannot fail with a valid pointer.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
