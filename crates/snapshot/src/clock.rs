//! How the kernel's clock lies to the wall's.

use serde::{Deserialize, Serialize};

/// Ties the time of the kernel's records (CLOCK_MONOTONIC) to Unix time, by one
/// moment in both.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Clock {
    unix_minus_monotonic_ns: i64,
}

impl Clock {
    /// Both arguments are the same moment.
    pub fn at(unix_ns: i64, monotonic_ns: u64) -> Self {
        Self { unix_minus_monotonic_ns: unix_ns.saturating_sub(monotonic_ns.cast_signed()) }
    }

    /// Unix seconds of a moment in kernel time.
    pub fn unix_seconds(&self, monotonic_ns: u64) -> f64 {
        monotonic_ns.cast_signed().saturating_add(self.unix_minus_monotonic_ns) as f64 / 1e9
    }
}
