//! Finds who fills the filesystems' journals, and who holds up their commits.
//!
//! The kernel programs' sums by owner and filesystem come in, once a second;
//! what each owner added in that second goes out. Idle owners are removed,
//! here and in the kernel's table.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use tracer_ebpf::record::{Handles, OwnerKey};

use super::{pods::Plain, sums::Sums};
use crate::load::Programs;

/// An owner whose sums did not change for this long has no entry any more.
const IDLE: Duration = Duration::from_secs(30);

/// The sums, and what they were a second ago.
pub struct Journals {
    sums: Sums<OwnerKey, Plain<Handles>>,
    known: JournalSums,
}

impl Journals {
    /// Takes the programs' sums over.
    ///
    /// # Errors
    ///
    /// When they were taken before.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        Ok(Self { sums: Sums::new(programs, "HANDLES")?, known: JournalSums::default() })
    }

    /// The amounts that each owner added since the last reading; the disk in a key is the
    /// filesystem's device.
    pub fn read(&mut self, now_ns: u64) -> Vec<(OwnerKey, Added)> {
        let Some(sums) = self.sums.read() else { return Vec::new() };
        let sums = sums.into_iter().map(|(key, handles)| (key, handles.0));
        let sums: Vec<_> = sums.collect();
        let (grown, idle) = self.known.read_growth(&sums, now_ns);
        for key in idle {
            self.sums.remove(key);
        }
        grown
    }

    /// Sums that the kernel evicted.
    pub fn evicted(&self) -> u64 {
        self.sums.evicted()
    }

    /// All owners that have an entry.
    pub fn owners(&self) -> impl Iterator<Item = OwnerKey> {
        self.known.sums.keys().copied()
    }
}

/// The amounts that an owner added in a second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Added {
    pub blocks: u64,
    /// The time for which commits waited for its handles to end.
    pub held_ns: u64,
    /// Its process that held up a commit last.
    pub tgid: u32,
}

#[derive(Default)]
struct JournalSums {
    sums: HashMap<OwnerKey, Known>,
}

/// The sums of an owner, and when they last changed.
struct Known {
    blocks: u64,
    held_ns: u64,
    changed_ns: u64,
}

impl JournalSums {
    /// Reads the owners that added blocks, and those that have been idle for too long.
    fn read_growth(
        &mut self,
        sums: &[(OwnerKey, Handles)],
        now_ns: u64,
    ) -> (Vec<(OwnerKey, Added)>, Vec<OwnerKey>) {
        let mut grown = Vec::new();
        let mut idle = Vec::new();
        for (key, Handles { blocks, held_ns, tgid, .. }) in sums {
            let none = Known { blocks: 0, held_ns: 0, changed_ns: now_ns };
            let known = self.sums.entry(*key).or_insert(none);
            // A smaller sum is a new one: the kernel made room in between.
            if *blocks < known.blocks || *held_ns < known.held_ns {
                (known.blocks, known.held_ns) = (0, 0);
            }
            let added = Added {
                blocks: blocks - known.blocks,
                held_ns: held_ns - known.held_ns,
                // The kernel's own numbers are narrower than the word.
                tgid: *tgid as u32,
            };
            if added.blocks > 0 || added.held_ns > 0 {
                *known = Known { blocks: *blocks, held_ns: *held_ns, changed_ns: now_ns };
                grown.push((*key, added));
            } else if Duration::from_nanos(now_ns.saturating_sub(known.changed_ns)) >= IDLE {
                idle.push(*key);
            }
        }
        let idle_set: HashSet<_> = idle.iter().collect();
        let there: HashSet<_> = sums.iter().map(|(key, _)| key).collect();
        self.sums.retain(|key, _| there.contains(key) && !idle_set.contains(key));
        (grown, idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn owner(name: u8) -> OwnerKey {
        OwnerKey { comm: [name; 16], ..OwnerKey::default() }
    }

    fn sum(name: u8, blocks: u64) -> (OwnerKey, Handles) {
        (owner(name), Handles { handles: 1, blocks, ..Handles::default() })
    }

    fn blocks(blocks: u64) -> Added {
        Added { blocks, ..Added::default() }
    }

    #[test]
    fn each_second_has_its_own_blocks() {
        let mut known = JournalSums::default();
        assert_eq!(known.read_growth(&[sum(1, 5)], SECOND).0, [(owner(1), blocks(5))]);
        assert_eq!(
            known.read_growth(&[sum(1, 5), sum(2, 1)], 2 * SECOND).0,
            [(owner(2), blocks(1))]
        );
        assert_eq!(
            known.read_growth(&[sum(1, 9), sum(2, 1)], 3 * SECOND).0,
            [(owner(1), blocks(4))]
        );
    }

    #[test]
    fn an_entry_that_the_kernel_gave_away_begins_anew() {
        let mut known = JournalSums::default();
        known.read_growth(&[sum(1, 50)], SECOND);
        assert_eq!(known.read_growth(&[sum(1, 3)], 2 * SECOND).0, [(owner(1), blocks(3))]);
        known.read_growth(&[], 3 * SECOND);
        assert_eq!(known.read_growth(&[sum(1, 3)], 4 * SECOND).0, [(owner(1), blocks(3))]);
    }

    #[test]
    fn an_entry_that_is_read_twice_has_its_blocks_once() {
        let mut known = JournalSums::default();
        let (grown, _) = known.read_growth(&[sum(1, 50), sum(1, 50), sum(1, 52)], SECOND);
        assert_eq!(grown.iter().map(|(_, added)| added.blocks).sum::<u64>(), 52);
        let (grown, _) = known.read_growth(&[sum(1, 52), sum(1, 52)], 2 * SECOND);
        assert_eq!(grown, []);
    }

    #[test]
    fn whoever_holds_up_a_commit_need_not_fill_it() {
        let mut known = JournalSums::default();
        let held = |held_ns| [(owner(1), Handles { handles: 1, blocks: 5, held_ns, tgid: 7 })];
        let added = |blocks, held_ns| [(owner(1), Added { blocks, held_ns, tgid: 7 })];
        assert_eq!(known.read_growth(&held(0), SECOND).0, added(5, 0));
        assert_eq!(known.read_growth(&held(SECOND), 2 * SECOND).0, added(0, SECOND));
        assert_eq!(known.read_growth(&held(SECOND), 3 * SECOND).0, []);
        // The kernel made room in between.
        assert_eq!(known.read_growth(&held(9), 4 * SECOND).0, added(5, 9));
    }

    #[test]
    fn the_idle_are_forgotten() {
        let mut known = JournalSums::default();
        known.read_growth(&[sum(1, 5)], SECOND);
        assert_eq!(known.read_growth(&[sum(1, 5)], 30 * SECOND), (vec![], vec![]));
        assert_eq!(known.read_growth(&[sum(1, 5)], 31 * SECOND), (vec![], vec![owner(1)]));
        assert!(known.sums.is_empty());
    }
}
