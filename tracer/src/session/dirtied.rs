//! Decides when it is looked for who writes to files that were dirty before.
//!
//! The hook runs for each page that becomes dirty, so it is attached for ten seconds at a time,
//! ten times an hour at most, and only after requests were seen for which nobody was known.

use std::{mem, time::Duration};

use tracer_kernel::{capability::Capability, strategies::Forced};

use super::demand::is_within;

/// The hook stays attached for this long. Whoever keeps a file dirty writes to it again and again.
const LOOK: Duration = Duration::from_secs(10);
/// From one time that it is attached to the next.
const EVERY: Duration = Duration::from_secs(360);

/// Fewer requests in a second matter to nobody.
const FEW: u64 = 10;

/// Whether it is looked for them.
#[derive(Debug)]
pub struct Search {
    /// The number of requests so far for which nobody was known.
    unknown: u64,
    began_ns: Option<u64>,
    /// Whether the user asked for it by name; if so, it is attached from the start.
    is_forced: bool,
    pub is_attached: bool,
}

impl Search {
    /// With what the user asked for.
    pub fn new(forced: &[Forced]) -> Self {
        let is_forced = forced.iter().any(|wish| wish.capability == Capability::Dirtied);
        Self { unknown: 0, began_ns: None, is_forced, is_attached: is_forced }
    }

    /// Whether the hook is wanted at `now_ns`, in a second after which nobody was known for
    /// `unknown` requests, of all since the start.
    pub fn is_wanted(&mut self, now_ns: u64, unknown: u64) -> bool {
        let more = unknown.saturating_sub(mem::replace(&mut self.unknown, unknown));
        if self.is_forced {
            return true;
        }
        let began_ns = self.began_ns;
        let began_within =
            |length| began_ns.is_some_and(|then_ns| is_within(length, then_ns, now_ns));
        if more >= FEW && !began_within(EVERY) {
            self.began_ns = Some(now_ns);
            return true;
        }
        began_within(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn it_looks_for_ten_seconds_of_each_six_minutes_in_which_somebody_is_unknown() {
        let mut search = Search::new(&[]);
        let mut unknown = 0;
        let mut wanted = |second: u64, more: u64| {
            unknown += more;
            search.is_wanted(second * SECOND, unknown)
        };
        assert!(!wanted(1, 9));
        assert!(wanted(2, 10));
        // Whether more are unknown meanwhile does not matter.
        let seconds: Vec<u64> = (3..800).filter(|second| wanted(*second, 500)).collect();
        let expected: Vec<u64> = (3..12).chain(362..372).chain(722..732).collect();
        assert_eq!(seconds, expected);
        assert!(!wanted(2000, 0));
        assert!(wanted(2001, 10));
    }

    #[test]
    fn if_it_is_asked_for_by_name_it_stays() {
        let forced = ["dirtied=tracepoint".parse().expect("a strategy")];
        let mut search = Search::new(&forced);
        assert!(search.is_attached && search.is_wanted(0, 0) && search.is_wanted(50 * SECOND, 0));
    }
}
