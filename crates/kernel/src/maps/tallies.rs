//! Sums that the kernel programs keep by key, beside the ledger: who ran while
//! others waited for the CPU, and who reclaimed memory.
//!
//! Flows in: two small tables of the kernel's, once a second. Flows out: what
//! was added since. The kernel forgets whom it has not met for longest, so a sum
//! may begin anew; nothing is ever taken out here, so that no addition is lost
//! between a reading and a removal.

use std::{collections::HashMap, hash::Hash};

use anyhow::Result;
use aya::maps::{HashMap as KernelMap, MapData};
use tracer_ebpf::record::{ContenderKey, OwnerKey, Reclaimed, op, via};
use tracer_engine::tick::{Contender, Reclaimer};

use super::{accounts::Accounts, pods::Plain};
use crate::load::Programs;

/// The tables, and what was in them.
pub struct Tallies {
    contenders: KernelMap<MapData, Plain<ContenderKey>, u64>,
    reclaimers: KernelMap<MapData, Plain<OwnerKey>, Plain<Reclaimed>>,
    seen_rivals: HashMap<ContenderKey, [u64; 1]>,
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
            contenders: KernelMap::try_from(programs.take_map("CONTENDERS")?)?,
            reclaimers: KernelMap::try_from(programs.take_map("RECLAIMERS")?)?,
            seen_rivals: HashMap::new(),
            seen_reclaimers: HashMap::new(),
        })
    }

    /// Who ran instead, since the last reading.
    pub fn read_contenders(&mut self, accounts: &mut Accounts) -> Vec<Contender> {
        let sums = self.contenders.iter().filter_map(Result::ok).map(|(key, ns)| (key.0, [ns]));
        let grown = growth(&mut self.seen_rivals, sums);
        let contenders = grown.into_iter().map(|(key, [ns])| {
            let ContenderKey { cgroup, comm, kthread, victim_tgid } = key;
            let (op, via) = (op::CPU as u16, via::DIRECT);
            let kthread = u8::from(kthread != 0);
            let owner = accounts.intern(OwnerKey { cgroup, comm, disk: 0, op, kthread, via });
            Contender { victim_tgid, owner, ns }
        });
        contenders.collect()
    }

    /// Who reclaimed memory, since the last reading.
    pub fn read_reclaimers(&mut self, accounts: &mut Accounts) -> Vec<Reclaimer> {
        let sums = self.reclaimers.iter().filter_map(Result::ok);
        let sums = sums.map(|(key, Plain(sum))| {
            let Reclaimed { times, ns, limit_ns } = sum;
            (key.0, [times, ns, limit_ns])
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
}

/// What was added to each sum, for those to which anything was. Remembers the
/// sums that are there, and no others.
fn growth<K: Copy + Eq + Hash, const N: usize>(
    seen: &mut HashMap<K, [u64; N]>,
    sums: impl Iterator<Item = (K, [u64; N])>,
) -> Vec<(K, [u64; N])> {
    let mut grown = Vec::new();
    let mut now = HashMap::new();
    for (key, sum) in sums {
        let before = seen.get(&key).copied().unwrap_or([0; N]);
        // One that the kernel forgot has begun anew.
        let is_new = sum.iter().zip(before).any(|(sum, before)| *sum < before);
        let before = if is_new { [0; N] } else { before };
        let added: [u64; N] = std::array::from_fn(|at| sum[at] - before[at]);
        if added != [0; N] {
            grown.push((key, added));
        }
        now.insert(key, sum);
    }
    *seen = now;
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_added_is_told() {
        let mut seen = HashMap::new();
        let mut look = |sums: &[(u8, [u64; 2])]| growth(&mut seen, sums.iter().copied());
        assert_eq!(look(&[(1, [5, 50]), (2, [0, 0])]), [(1, [5, 50])]);
        assert_eq!(look(&[(1, [6, 55]), (2, [0, 0])]), [(1, [1, 5])]);
        assert_eq!(look(&[(1, [6, 55])]), []);
    }

    #[test]
    fn a_sum_that_the_kernel_forgot_counts_whole() {
        let mut seen = HashMap::new();
        let mut look = |sums: &[(u8, [u64; 1])]| growth(&mut seen, sums.iter().copied());
        look(&[(1, [50])]);
        assert_eq!(look(&[(1, [7])]), [(1, [7])]);
        look(&[]);
        assert_eq!(look(&[(1, [9])]), [(1, [9])]);
    }
}
