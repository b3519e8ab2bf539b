//! Room for newcomers: accounts are taken back from who uses them least.
//!
//! A disk has few accounts. Owners who find none share the account `others`, and a
//! heavy one among them could not be named. So accounts are taken back in two steps,
//! a tick apart. In the first step the kernel programs no longer find the account by
//! its owner. In the second step, once none of its requests is in flight, the account
//! is free, and the programs forget which owners share `others`, so that each of those
//! looks for an account again with its next request. The owner with the most requests
//! is most likely the first to find a free one. This repeats each second, so a heavy
//! owner gets an account within a few seconds, and keeps it.
//!
//! A sync that waits through both steps sees what little the last owner did as the
//! next one's.

use std::{cmp::Reverse, time::Duration};

use tracer_ebpf::record::{ACCOUNTS, OTHERS, OwnerKey};
use tracer_engine::blame::{Owner, OwnerId};

use super::{Accounts, Seen};
use crate::maps::pods::Plain;

/// An account that did nothing for this long may be given to another owner.
const IDLE: Duration = Duration::from_secs(30);

/// Accounts are taken back only where a disk has fewer than this many free.
const FREE_WANTED: usize = 16;

/// An account is taken from an owner that works only if those who share do more than
/// this many times its work: a newcomer with little work is no reason.
const WORTH_IT: u64 = 4;

/// An account with an owner, as far as it matters who loses his.
#[derive(Clone, Copy, Debug)]
struct OwnedAccount {
    account: usize,
    is_idle: bool,
    /// Work of the last seconds, older ones less; `None` where it was not held for a
    /// whole tick.
    recent_ns: Option<u64>,
}

/// Chooses the accounts that are taken back, when `leaving` more are on their way
/// and owners without one did `shared_ns` of work.
fn choose(mut held: Vec<OwnedAccount>, leaving: usize, shared_ns: u64) -> Vec<usize> {
    let free = (ACCOUNTS - 1).saturating_sub(held.len() + leaving);
    let wanted = FREE_WANTED.saturating_sub(free + leaving);
    let may_go = |held: &OwnedAccount| {
        let is_little = |recent_ns: u64| recent_ns.saturating_mul(WORTH_IT) < shared_ns;
        held.is_idle || held.recent_ns.is_some_and(is_little)
    };
    held.retain(may_go);
    held.sort_by_key(|held| (Reverse(held.is_idle), held.recent_ns));
    held.iter().take(wanted).map(|held| held.account).collect()
}

impl Seen {
    /// Work of the last seconds, once a tick.
    pub(super) fn note_work(&mut self, work_ns: u64) {
        self.recent_ns = (self.recent_ns / 2).saturating_add(work_ns);
        self.ticks = self.ticks.saturating_add(1);
    }

    /// From here on it is somebody else's.
    pub(super) fn reset(&mut self) {
        (self.recent_ns, self.ticks) = (0, 0);
    }
}

impl Accounts {
    /// Takes accounts back where few are free, in two steps a tick apart.
    pub(super) fn make_room(&mut self, at: usize, now_ns: u64) {
        self.free_the_left(at);
        let disk = &self.disks[at];
        let mut held = Vec::with_capacity(ACCOUNTS);
        for (account, seen) in disk.seen.iter().enumerate().skip(1) {
            if disk.owners[account].id != OwnerId::NOBODY && !seen.leaving {
                let idle = Duration::from_nanos(now_ns.saturating_sub(seen.busy_ns));
                held.push(OwnedAccount {
                    account,
                    is_idle: idle >= IDLE && seen.account.word == 0,
                    recent_ns: (seen.ticks > 1).then_some(seen.recent_ns),
                });
            }
        }
        let leaving = disk.seen.iter().filter(|seen| seen.leaving).count();
        let has_free = held.len() + leaving < ACCOUNTS - 1;
        let shared = OTHERS as usize;
        let is_shared = disk.rates.iter().any(|rate| rate.owner == OwnerId::NOBODY);
        let shared_ns = if is_shared { disk.seen[shared].recent_ns } else { 0 };
        for account in choose(held, leaving, shared_ns) {
            self.take_back(at, account);
        }
        if is_shared && has_free {
            self.forget_others(self.disks[at].disk.index);
        }
    }

    /// The first step: nobody finds this account any more.
    fn take_back(&mut self, at: usize, account: usize) {
        let index = self.disks[at].disk.index;
        let key = OwnerKey { disk: index, ..self.key(self.disks[at].owners[account].id) };
        self.tables.disown(index, account);
        // The owner may have another account by now, which stays.
        let key = Plain(key);
        if self.owner_accounts.get(&key, 0).is_ok_and(|a| a as usize == account) {
            let _ = self.owner_accounts.remove(&key);
        }
        self.disks[at].seen[account].leaving = true;
    }

    /// The second step, for those that have nothing in flight.
    fn free_the_left(&mut self, at: usize) {
        let index = self.disks[at].disk.index;
        for account in 1..ACCOUNTS {
            let seen = &mut self.disks[at].seen[account];
            if !seen.leaving || seen.account.word != 0 {
                continue;
            }
            seen.leaving = false;
            seen.request_bytes = None;
            seen.zero = (seen.account.requests, seen.account.bytes);
            seen.reset();
            self.disks[at].owners[account] = Owner::default();
            let _ = self.account_owners.remove(&(index * ACCOUNTS as u32 + account as u32));
        }
    }

    /// Owners that found no account were remembered as such; now there is room.
    fn forget_others(&mut self, disk: u32) {
        let sharing: Vec<_> = self
            .owner_accounts
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, account)| key.0.disk == disk && *account == OTHERS)
            .map(|(key, _)| key)
            .collect();
        for key in sharing {
            let _ = self.owner_accounts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
