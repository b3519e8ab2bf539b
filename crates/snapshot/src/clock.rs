//! How the kernel's clock lies to the wall's.
//!
//! The distance is not the same forever: it changes when somebody sets the wall's
//! clock, and when the machine is suspended, since the kernel's stands meanwhile. So
//! it is taken again at each tick, and a moment is shown in the wall's time of then.

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

    /// Whether the wall's clock was stepped between the two, or the machine suspended:
    /// kernel time stands meanwhile. What adjusts a clock smoothly does less in a
    /// second, and so does what lies between two readings.
    pub fn is_stepped_from(&self, before: Self) -> bool {
        const STEP_NS: u64 = 10_000_000;
        let now = self.unix_minus_monotonic_ns;
        now.abs_diff(before.unix_minus_monotonic_ns) >= STEP_NS
    }

    /// The time in ns by which the wall's clock went ahead of the kernel's since another
    /// moment.
    pub fn ahead_of(&self, before: Self) -> i64 {
        self.unix_minus_monotonic_ns.saturating_sub(before.unix_minus_monotonic_ns)
    }

    /// This clock for kernel times to which `ns` was added.
    #[must_use]
    pub fn behind(&self, ns: i64) -> Self {
        Self { unix_minus_monotonic_ns: self.unix_minus_monotonic_ns.saturating_sub(ns) }
    }

    /// Kernel time of a moment in Unix seconds; 0 for what was before it began.
    pub fn monotonic_ns(&self, unix_seconds: f64) -> u64 {
        // A conversion keeps within the bounds of its type, and makes 0 of NaN.
        let unix_ns = (unix_seconds * 1e9) as i64;
        u64::try_from(unix_ns.saturating_sub(self.unix_minus_monotonic_ns)).unwrap_or(0)
    }

    /// Unix seconds of a moment in kernel time.
    pub fn unix_seconds(&self, monotonic_ns: u64) -> f64 {
        monotonic_ns.cast_signed().saturating_add(self.unix_minus_monotonic_ns) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    #[test]
    fn a_step_and_a_suspended_machine_are_distinguished_from_a_clock_that_is_adjusted() {
        let before = Clock::at(1_770_000_000_000_000_000, 5_000_000_000);
        let check = |unix_ns: i64, monotonic_ns, expected| {
            let now = Clock::at(1_770_000_000_000_000_000 + unix_ns, monotonic_ns);
            assert_eq!(now.is_stepped_from(before), expected, "{unix_ns} {monotonic_ns}");
        };
        check(1_000_000_000, 6_000_000_000, false);
        // NTP does 500 parts in a million at most.
        check(1_000_500_000, 6_000_000_000, false);
        check(HOUR_NS, 5_000_000_000, true);
        check(-HOUR_NS, 5_000_000_000, true);
        check(i64::MIN, u64::MAX, true);
    }

    #[test]
    fn no_clock_makes_a_moment_panic() {
        for unix_ns in [i64::MIN, 0, i64::MAX] {
            for monotonic_ns in [0, u64::MAX] {
                assert!(Clock::at(unix_ns, monotonic_ns).unix_seconds(monotonic_ns).is_finite());
            }
        }
    }
}
