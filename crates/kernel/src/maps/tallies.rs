//! Sums that the kernel programs keep by key, beside the ledger: who ran while
//! others waited for the CPU, and who reclaimed memory; and for whom the kernel logged a line.
//!
//! It reads two small tables of the kernel programs once a second, and returns what
//! was added since. The kernel evicts the entries that were not used for longest, so
//! a sum may begin again; nothing is ever taken out here, so that no addition is lost
//! between a reading and a removal.

use std::{collections::HashMap, hash::Hash};

use anyhow::Result;
use aya::maps::{Array, MapData};
use tracer_ebpf::record::{COMM, ContenderKey, LOGGED_BY, LoggedBy, OwnerKey, Reclaimed, op, via};
use tracer_engine::{
    blame::OwnerId,
    tick::{Contender, Reclaimer},
};

use super::{accounts::Accounts, pods::Plain, sums::Sums};
use crate::load::Programs;

/// The tables, and what was in them.
pub struct Tallies {
    logged_by: Array<MapData, Plain<LoggedBy>>,
    contenders: Sums<ContenderKey, u64>,
    reclaimers: Sums<OwnerKey, Plain<Reclaimed>>,
    seen_contenders: HashMap<ContenderKey, [u64; 1]>,
    seen_reclaimers: HashMap<OwnerKey, [u64; 3]>,
}

impl Tallies {
    /// Takes the programs' tables over.
    ///
    /// # Errors
    ///
    /// When a table was taken before.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        Ok(Self {
            logged_by: Array::try_from(programs.take_map("LOGGED_BY")?)?,
            contenders: Sums::new(programs, "CONTENDERS")?,
            reclaimers: Sums::new(programs, "RECLAIMERS")?,
            seen_contenders: HashMap::new(),
            seen_reclaimers: HashMap::new(),
        })
    }

    /// Reads which tasks ran instead of those that waited, since the last reading.
    pub fn read_contenders(&mut self, accounts: &mut Accounts) -> Vec<Contender> {
        let Some(sums) = self.contenders.read() else { return Vec::new() };
        let sums = sums.into_iter().map(|(key, ns)| (key, [ns]));
        let grown = growth(&mut self.seen_contenders, sums);
        let contenders = grown.into_iter().map(|(key, [ns])| {
            let ContenderKey { cgroup, comm, kthread, victim_tgid } = key;
            let (op, via) = (op::CPU as u16, via::DIRECT);
            let kthread = u8::from(kthread != 0);
            let owner = accounts.intern(OwnerKey { cgroup, comm, disk: 0, op, kthread, via });
            Contender { victim_tgid, owner, ns }
        });
        contenders.collect()
    }

    /// Reads who reclaimed memory since the last reading.
    pub fn read_reclaimers(&mut self, accounts: &mut Accounts) -> Vec<Reclaimer> {
        let Some(sums) = self.reclaimers.read() else { return Vec::new() };
        let sums = sums.into_iter().map(|(key, Plain(sum))| {
            let Reclaimed { times, ns, limit_ns } = sum;
            (key, [times, ns, limit_ns])
        });
        let grown = growth(&mut self.seen_reclaimers, sums);
        let reclaimers = grown.into_iter().map(|(key, [times, ns, limit_ns])| Reclaimer {
            owner: accounts.intern(key),
            times,
            ns,
            limit_ns,
        });
        reclaimers.collect()
    }

    /// The owner who dropped the kernel's caches: a thread of this name and number, of which the
    /// kernel logged a line. Without a line nobody is known, and the number is 0.
    pub fn dropper(&self, comm: &[u8], tid: u32, accounts: &mut Accounts) -> OwnerId {
        let logged_by = self.logged_by.get(&(tid % LOGGED_BY), 0).ok().map(|Plain(by)| by);
        let who = match logged_by.filter(|by| tid != 0 && by.tid == u64::from(tid)) {
            Some(by) => by.who,
            None => OwnerKey { comm: padded(comm), ..OwnerKey::default() },
        };
        accounts.intern(OwnerKey { op: op::DROP_CACHES as u16, via: via::DIRECT, ..who })
    }

    /// Sums that the kernel evicted.
    pub fn evicted(&self) -> u64 {
        self.contenders.evicted() + self.reclaimers.evicted()
    }
}

/// A name as the kernel has it.
pub fn padded(comm: &[u8]) -> [u8; COMM] {
    let mut padded = [0; COMM];
    let name = &comm[..comm.len().min(COMM - 1)];
    padded[..name.len()].copy_from_slice(name);
    padded
}

/// The growth of each sum since the last call, for those that grew. Remembers the
/// sums that are there, and no others. A key may come twice, with the same sum or a
/// later one: a reading starts over where its key was evicted.
pub(super) fn growth<K: Copy + Eq + Hash, const N: usize>(
    seen: &mut HashMap<K, [u64; N]>,
    sums: impl Iterator<Item = (K, [u64; N])>,
) -> Vec<(K, [u64; N])> {
    let mut grown: HashMap<K, [u64; N]> = HashMap::new();
    let mut now = HashMap::new();
    for (key, sum) in sums {
        let before = now.get(&key).or_else(|| seen.get(&key)).copied().unwrap_or([0; N]);
        // A sum that the kernel evicted has begun again at zero.
        let is_new = sum.iter().zip(before).any(|(sum, before)| *sum < before);
        let before = if is_new { [0; N] } else { before };
        let added: [u64; N] = std::array::from_fn(|at| sum[at] - before[at]);
        if added != [0; N] {
            let whole = grown.entry(key).or_insert([0; N]);
            *whole = std::array::from_fn(|at| whole[at] + added[at]);
        }
        now.insert(key, sum);
    }
    *seen = now;
    grown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_added_is_returned() {
        let mut seen = HashMap::new();
        let mut look = |sums: &[(u8, [u64; 2])]| growth(&mut seen, sums.iter().copied());
        assert_eq!(look(&[(1, [5, 50]), (2, [0, 0])]), [(1, [5, 50])]);
        assert_eq!(look(&[(1, [6, 55]), (2, [0, 0])]), [(1, [1, 5])]);
        assert_eq!(look(&[(1, [6, 55])]), []);
    }

    #[test]
    fn a_key_that_is_read_twice_has_grown_once() {
        let mut seen = HashMap::new();
        let mut look = |sums: &[(u8, [u64; 1])]| growth(&mut seen, sums.iter().copied());
        assert_eq!(look(&[(1, [50]), (1, [50])]), [(1, [50])]);
        assert_eq!(look(&[(1, [57]), (1, [57]), (1, [59])]), [(1, [9])]);
        // Between its two readings it was evicted, and began again.
        assert_eq!(look(&[(1, [60]), (1, [4])]), [(1, [5])]);
        assert_eq!(look(&[(1, [4])]), []);
    }

    #[test]
    fn a_sum_that_the_kernel_evicted_counts_whole() {
        let mut seen = HashMap::new();
        let mut look = |sums: &[(u8, [u64; 1])]| growth(&mut seen, sums.iter().copied());
        look(&[(1, [50])]);
        assert_eq!(look(&[(1, [7])]), [(1, [7])]);
        look(&[]);
        assert_eq!(look(&[(1, [9])]), [(1, [9])]);
    }
}
