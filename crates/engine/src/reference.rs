//! The usual time: a level that falls at once and rises slowly.
//!
//! Takes times in, gives the time that is usual: that of the tenth quickest of
//! the batches in its memory. A batch far above the usual is a baseline sample only now
//! and then, so that a slow hour does not become what is normal; a run of
//! batches far below it is a new level, so that who began in a slow hour, or
//! has a new disk, learns better in a few seconds. Knows no clock.

use serde::{Deserialize, Serialize};

use super::{
    histogram::Evidence,
    save::{Digest, MAX_SUM, Save, Source, saved},
};

/// Times of one batch.
const BATCH: u64 = 8;

/// Batches in memory; then the older ones count half.
const MEMORY: u64 = 8192;

/// The usual is what this part of all batches do not exceed, and at least [`QUICK`]
/// of them, or half of few.
const QUICK_PART: f64 = 0.1;
const QUICK: f64 = 4.0;

/// This multiple of the usual is another state.
pub const SLOWER: f64 = 1.5;

/// One of this number of batches in a slower state is learnt from.
const SLOW_PER_SAMPLE: u64 = 32;

/// This number of batches in a faster state on end become the usual.
const FASTER_BATCHES: usize = 8;

/// This number of batches makes a reference that can be relied on.
const GOOD: u64 = 60;

/// A kept reference counts for no more batches: it must be possible to unlearn it
/// within days.
const KEPT: u64 = 1024;

/// How much is known of a usual time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing.
    #[default]
    None,
    /// A few batches.
    Young,
    Good,
}

/// A usual time, and how many batches say so: a reference in the form in which it is
/// kept over a restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    pub ns: u64,
    pub batches: u64,
}

/// A usual time and the memory behind it.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    levels: Evidence,
    batches: u64,
    slow: u64,
    usual_ns: f64,
    /// The batch being filled.
    sum_ns: u64,
    count: u64,
    /// The faster batches on end.
    faster: [f32; FASTER_BATCHES],
    run: u8,
    /// It began with what an earlier run knew.
    is_kept: bool,
}

saved! {
    Reference { levels, batches, slow, usual_ns, sum_ns, count, faster, run, is_kept }
    if |it| {
        usize::from(it.run) < FASTER_BATCHES && it.batches.max(it.slow) <= MAX_SUM
    }
}

impl Save for Grade {
    fn shape(shape: &mut Digest) {
        shape.add(b"grade");
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        let mut code = 0u8;
        code.read(from)?;
        *self = [Self::None, Self::Young, Self::Good].get(usize::from(code)).copied()?;
        Some(())
    }
}

impl Reference {
    /// One that was learnt before, and is good for that: it goes on as if each of its
    /// batches had taken the usual time.
    pub fn kept(level: Level) -> Self {
        let mut kept = Self::default();
        for _ in 0..level.batches.min(KEPT) {
            kept.levels.record(level.ns);
        }
        kept.batches = level.batches.min(KEPT);
        kept.usual_ns = level.ns as f64;
        kept.is_kept = kept.batches > 0;
        kept
    }

    /// The level to keep; `None` before the first batch.
    pub fn level(&self) -> Option<Level> {
        Some(Level { ns: self.usual_ns()? as u64, batches: self.batches.min(KEPT) })
    }

    /// Takes in `count` times that are `ns` together. Returns whether the whole reference
    /// was too slow, and begins again.
    pub fn add(&mut self, ns: u64, count: u64) -> bool {
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.count = self.count.saturating_add(count);
        if self.count < BATCH {
            return false;
        }
        let mean_ns = self.sum_ns as f64 / self.count as f64;
        (self.sum_ns, self.count) = (0, 0);
        if self.batches > 0 && mean_ns * SLOWER < self.usual_ns {
            self.faster[usize::from(self.run)] = mean_ns as f32;
            self.run += 1;
            if usize::from(self.run) == FASTER_BATCHES {
                let levels = self.faster;
                *self = Self::default();
                levels.iter().for_each(|ns| self.learn(f64::from(*ns)));
                return true;
            }
        } else {
            self.run = 0;
        }
        if self.batches > 0 && mean_ns > SLOWER * self.usual_ns {
            self.slow += 1;
            if !self.slow.is_multiple_of(SLOW_PER_SAMPLE) {
                return false;
            }
        }
        self.learn(mean_ns);
        false
    }

    fn learn(&mut self, mean_ns: f64) {
        if self.batches >= MEMORY {
            self.levels.halve();
            self.batches /= 2;
        }
        self.levels.record(mean_ns as u64);
        self.batches += 1;
        let batches = self.batches as f64;
        let rank = (QUICK_PART * batches).max(QUICK.min(batches / 2.0));
        self.usual_ns = self.levels.quantile(rank / batches).unwrap_or(mean_ns);
    }

    /// The usual time, in ns.
    pub fn usual_ns(&self) -> Option<f64> {
        (self.batches > 0).then_some(self.usual_ns)
    }

    pub fn known(&self) -> Grade {
        match self.batches {
            0 => Grade::None,
            batches if batches < GOOD && !self.is_kept => Grade::Young,
            _ => Grade::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn add_batches(reference: &mut Reference, ns: u64, batches: usize) -> bool {
        (0..batches).any(|_| reference.add(BATCH * ns, BATCH))
    }

    fn assert_about(reference: &Reference, ns: u64) {
        let usual = reference.usual_ns().unwrap() / ns as f64;
        assert!((0.8..1.25).contains(&usual), "{usual} times");
    }

    #[test]
    fn a_batch_is_enough_to_begin_with_and_sixty_are_good() {
        let mut reference = Reference::default();
        reference.add(MS, BATCH - 1);
        assert_eq!((reference.usual_ns(), reference.known()), (None, Grade::None));
        reference.add(7 * MS, 1);
        assert_about(&reference, MS);
        assert_eq!(reference.known(), Grade::Young);
        add_batches(&mut reference, MS, 59);
        assert_eq!(reference.known(), Grade::Good);
    }

    #[test]
    fn a_slow_hour_after_ten_minutes_is_not_usual_and_a_day_is() {
        let mut reference = Reference::default();
        add_batches(&mut reference, MS, 600);
        add_batches(&mut reference, 20 * MS, 3600);
        assert_about(&reference, MS);
        add_batches(&mut reference, 20 * MS, 24 * 3600 * 3);
        assert_about(&reference, 20 * MS);
    }

    #[test]
    fn who_began_in_a_slow_hour_learns_better_at_once() {
        let mut reference = Reference::default();
        add_batches(&mut reference, 20 * MS, 3600);
        assert!(!add_batches(&mut reference, MS, FASTER_BATCHES - 1));
        assert!(add_batches(&mut reference, MS, 1));
        assert_about(&reference, MS);
    }

    fn kept(reference: &Reference) -> Reference {
        Reference::kept(reference.level().unwrap())
    }

    #[test]
    fn what_is_kept_is_good_and_goes_on_by_the_same_rules() {
        assert_eq!(Reference::default().level(), None);
        for batches in [20, 60, 100_000] {
            let mut reference = Reference::default();
            add_batches(&mut reference, MS, batches);
            let again = kept(&reference);
            assert_eq!(again.known(), Grade::Good);
            assert_about(&again, MS);
            let mut slow_hour = again.clone();
            add_batches(&mut slow_hour, 20 * MS, 3600);
            assert!(batches < 60 || slow_hour.usual_ns() < Some(1.25 * MS as f64));
            add_batches(&mut slow_hour, 20 * MS, 24 * 3600 * 7);
            assert_about(&slow_hour, 20 * MS);
            let mut faster = again;
            add_batches(&mut faster, MS / 5, FASTER_BATCHES);
            assert_about(&faster, MS / 5);
        }
    }

    #[test]
    fn a_hundred_restarts_change_no_level() {
        let mut reference = Reference::default();
        add_batches(&mut reference, MS, 100);
        for _ in 0..100 {
            reference = kept(&reference);
            add_batches(&mut reference, MS, 1);
        }
        assert_about(&reference, MS);
    }

    #[test]
    fn noise_around_a_level_is_not_a_state_of_its_own() {
        let mut reference = Reference::default();
        for n in 0..1000 {
            reference.add(BATCH * (MS + n * 7919 % 400_000), BATCH);
        }
        let usual = reference.usual_ns().unwrap() / MS as f64;
        assert!((0.95..1.2).contains(&usual), "{usual}");
    }
}
