//! The ledger: exact blame at O(1) per request.
//!
//! An account keeps two words, each changed only by atomic adds:
//!
//! - `word`: the submission of a request at tick `t` adds [`submission`]`(t)`, and its
//!   completion takes the same value away. So one word holds the number of requests in
//!   flight *and* the sum of their submission times, and a reader on another CPU never sees
//!   one without the other.
//! - `done`, to which the end of a request adds its age in ticks.
//!
//! Then [`Moment::integral`] gives the time-integral of "requests in flight" up to any
//! moment, without a lock. The difference of two integrals, divided by the time
//! between them, is the mean number in flight meanwhile.
//!
//! With `n` in flight, submitted at `t_i`, `word = Σ(EPOCH + t_i)`, and at `now`
//! `n·(EPOCH + now) − word = Σ(now − t_i)`, the sum of their ages. So `n` is
//! `word / (EPOCH + now)`, rounded, as long as that sum of ages stays under half of
//! `EPOCH + now`: 6 days of waiting, added up over all requests of one account. The word
//! does not overflow below 120,000 requests in flight per account in the first year of
//! uptime.
//!
//! A reader between the two adds of a completion sees one request twice, because it is
//! added to `done` first. That reading is too large by at most that request's age; the next
//! one is right again.

/// Nanoseconds of one tick, as a power of two: 256 ns.
pub const TICK_SHIFT: u32 = 8;

/// Every request in flight adds this to its account's word, beside its submission tick.
pub const EPOCH: u64 = 1 << 42;

/// The tick of a kernel monotonic time in nanoseconds.
#[inline(always)]
pub const fn tick(now_ns: u64) -> u64 {
    now_ns >> TICK_SHIFT
}

/// The nanoseconds of a number of ticks.
#[inline(always)]
pub const fn ticks_to_ns(ticks: u64) -> u64 {
    ticks << TICK_SHIFT
}

/// The value that a request submitted at tick `at` adds to its account's word.
#[inline(always)]
pub const fn submission(at: u64) -> u64 {
    EPOCH + at
}

/// When accounts are read: one division for all of them.
#[derive(Clone, Copy)]
pub struct Moment {
    /// The value that a request submitted now adds to its account's word.
    unit: u64,
    /// 2^62 / `unit`.
    inverse: u64,
}

/// The low bits of a word that are dropped before it is divided. A single request adds 2^42
/// or more, so they cannot change the quotient.
const WORD_SHIFT: u32 = 20;
const INVERSE_SHIFT: u32 = 62;

impl Moment {
    #[inline(always)]
    pub const fn at(now: u64) -> Self {
        let unit = submission(now);
        Self { unit, inverse: (1 << INVERSE_SHIFT) / unit }
    }

    /// How many requests a word holds: exact up to 10,000 in the first year of
    /// uptime.
    #[inline(always)]
    pub const fn in_flight(&self, word: u64) -> u64 {
        // Rounded; a word a little below zero is none, too.
        let high = word.wrapping_add(self.unit / 2) >> WORD_SHIFT;
        high.wrapping_mul(self.inverse) >> (INVERSE_SHIFT - WORD_SHIFT)
    }

    /// The time-integral of requests in flight up to now, in ticks (wrapping: only
    /// differences mean something).
    #[inline(always)]
    pub const fn integral(&self, word: u64, done: u64) -> u64 {
        let n = self.in_flight(word);
        done.wrapping_add(n.wrapping_mul(self.unit).wrapping_sub(word))
    }
}

#[cfg(test)]
mod tests;
