//! Sums that the kernel programs keep by key, in a table from which the kernel
//! evicts whom it has not met for longest.
//!
//! An eviction is silent. The programs count how many sums were ever begun; what is
//! neither there nor was removed here has been evicted, and with it what was added
//! since the reading before.

use std::{collections::HashSet, hash::Hash};

use anyhow::Result;
use aya::{
    Pod,
    maps::{Array, HashMap as KernelMap, MapData},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::pods::Plain;
use crate::load::Programs;

/// No table has more entries. A reading starts over when the kernel evicts the
/// key that it has reached; this bound ends it if that happens again and again.
const MAX_STEPS: usize = 1 << 17;

/// One table, and how many of its sums are gone.
pub struct Sums<K, V> {
    sums: KernelMap<MapData, Plain<K>, V>,
    begun: Array<MapData, u64>,
    count: Count,
}

impl<K, V> Sums<K, V>
where
    K: Copy + Eq + Hash + FromBytes + Immutable + IntoBytes + 'static,
    V: Pod,
{
    /// Takes a table over, and the counter beside it.
    ///
    /// # Errors
    ///
    /// When it was taken before.
    pub fn new(programs: &mut Programs, name: &str) -> Result<Self> {
        Ok(Self {
            sums: KernelMap::try_from(programs.take_map(name)?)?,
            begun: Array::try_from(programs.take_map(&format!("{name}_NEW"))?)?,
            count: Count::default(),
        })
    }

    /// All sums that are there; a key may be among them twice. `None` where the table
    /// could not be read to its end: half a reading says nothing of the others.
    pub fn read(&mut self) -> Option<Vec<(K, V)>> {
        // Before the sums: one that begins meanwhile must not look evicted.
        let begun = self.begun.get(&0, 0).ok();
        let sums: Result<Vec<_>, _> = self.sums.iter().take(MAX_STEPS).collect();
        let sums = sums.ok().filter(|sums| sums.len() < MAX_STEPS)?;
        let sums: Vec<_> = sums.into_iter().map(|(key, sum)| (key.0, sum)).collect();
        if let Some(begun) = begun {
            let there: HashSet<_> = sums.iter().map(|(key, _)| *key).collect();
            self.count.look(begun, there.len() as u64);
        }
        Some(sums)
    }

    /// Takes a sum out.
    pub fn remove(&mut self, key: K) {
        // If the kernel evicted it first, it counts as evicted.
        self.count.removed += u64::from(self.sums.remove(&Plain(key)).is_ok());
    }

    /// Sums that the kernel evicted.
    pub const fn evicted(&self) -> u64 {
        self.count.evicted
    }
}

#[derive(Default)]
struct Count {
    removed: u64,
    evicted: u64,
}

impl Count {
    /// Compares the number of sums that were ever begun with the number that are there.
    fn look(&mut self, begun: u64, there: u64) {
        let evicted = begun.saturating_sub(there + self.removed);
        // Sums that begin between the two readings hide others until the next one.
        self.evicted = self.evicted.max(evicted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_there_nor_removed_was_evicted() {
        let mut count = Count::default();
        count.look(5, 5);
        assert_eq!(count.evicted, 0);
        // Two were taken out here, and one more has begun.
        count.removed = 2;
        count.look(6, 4);
        assert_eq!(count.evicted, 0);
        // Three of four have gone by themselves; one of them has begun again.
        count.look(7, 2);
        assert_eq!(count.evicted, 3);
    }

    #[test]
    fn what_begins_while_it_is_read_makes_the_count_no_smaller() {
        let mut count = Count::default();
        count.look(100, 60);
        count.look(100, 75);
        assert_eq!(count.evicted, 40);
        count.look(0, 3);
        assert_eq!(count.evicted, 40);
    }
}
