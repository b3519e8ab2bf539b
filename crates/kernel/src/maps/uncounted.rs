//! How many of a disk's requests are in no account, because the table of requests
//! in flight had no slot for them.

/// Sums are multiplied by this once a second, so half of a second's requests are
/// still in them 43 seconds later.
const KEPT: f64 = 63.0 / 64.0;

/// Sums of the last minute or so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uncounted {
    counted: f64,
    unplaced: f64,
    /// The kernel's count at the last tick.
    seen: u64,
}

impl Uncounted {
    /// Another disk has the place from now on.
    pub fn since(unplaced: u64) -> Self {
        Self { seen: unplaced, ..Self::default() }
    }

    /// Takes in a second in which `counted` requests ended that are in an account;
    /// `unplaced` is the number of the others since the start.
    pub fn tick(&mut self, counted: u64, unplaced: u64) {
        let new = unplaced.wrapping_sub(self.seen);
        self.seen = unplaced;
        self.counted = KEPT * self.counted + counted as f64;
        self.unplaced = KEPT * self.unplaced + new as f64;
    }

    /// The part of all its requests that is in no account.
    pub fn share(&self) -> f64 {
        let all = self.counted + self.unplaced;
        if all > 0.0 { self.unplaced / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_follows_the_last_minute() {
        let mut uncounted = Uncounted::default();
        assert_eq!(uncounted.share(), 0.0);
        for second in 1..=10 {
            uncounted.tick(300, 100 * second);
        }
        assert!((uncounted.share() - 0.25).abs() < 1e-9);
        // No more are lost.
        for _ in 0..300 {
            uncounted.tick(400, 1000);
        }
        assert!(uncounted.share() < 0.001, "{}", uncounted.share());
    }
}
