//! Finds the account that a request is charged to.

use tracer_ebpf::{
    dropped::Dropped,
    record::{ACCOUNTS, Account, DiskLedger, OTHERS, OwnerKey},
};

use crate::{
    cell::MapCell,
    maps::{
        ACCOUNT_HINTS, ACCOUNT_OWNERS, BPF_ANY, BPF_NOEXIST, LEDGER, Lookup as _, OWNERS,
        count_drop,
    },
    submitter::Submitter,
};

/// A submitter's account for one operation on the disk with this index and ledger: the
/// number of the account, and the account.
#[inline(always)]
pub fn account(
    who: &Submitter,
    (disk, ledger): (u32, MapCell<DiskLedger>),
    op: u32,
) -> (u32, Option<MapCell<Account>>) {
    let key = OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk,
        op: op as u16,
        kthread: who.kthread as u8,
        via: who.via as u8,
    };
    let hint = ACCOUNT_HINTS.cell(key.hint());
    if let Some(hint) = hint {
        let account = hint.get();
        if let Some(known) = of_ledger(ledger, account)
            && is_of(known, &key)
        {
            return (account, Some(known));
        }
    }
    let account = match OWNERS.cell(&key) {
        Some(account) => account.get(),
        None => claim(&key),
    };
    if account == OTHERS {
        count_drop(Dropped::Others);
    } else if let Some(hint) = hint {
        hint.set(account);
    }
    (account, of_ledger(ledger, account))
}

/// An account of a disk; its words are changed by atomic adds only, except for
/// those that name its owner: a torn reading of these matches no owner.
#[inline(always)]
pub fn of_disk(disk: u32, account: u32) -> Option<MapCell<Account>> {
    of_ledger(LEDGER.cell(disk)?, account)
}

#[inline(always)]
fn of_ledger(ledger: MapCell<DiskLedger>, account: u32) -> Option<MapCell<Account>> {
    ledger.accounts().find(account as usize)
}

/// Whether an account is this owner's.
#[inline(always)]
fn is_of(account: MapCell<Account>, key: &OwnerKey) -> bool {
    let words = account.words::<{ Account::WORDS }>();
    key.is_in(|at| words.at(at).get())
}

/// How many accounts of a disk were ever used. All words of the others are 0.
#[inline(always)]
pub fn used_accounts(ledger: MapCell<DiskLedger>) -> usize {
    ledger.used().get() as usize
}

/// Finds a free account for a new owner. `BPF_NOEXIST` makes the claim atomic.
#[inline(never)]
fn claim(key: &OwnerKey) -> u32 {
    let Some(account) = find_free(key.disk) else {
        // Remembered, so that the search is not repeated for each request; user
        // space forgets it once there is room.
        let _ = OWNERS.insert(key, OTHERS, BPF_ANY);
        return OTHERS;
    };
    let place = key.disk * ACCOUNTS as u32 + account;
    // If another CPU claimed the place first, the next request tries again.
    if ACCOUNT_OWNERS.insert(place, key, BPF_NOEXIST).is_ok() {
        if OWNERS.insert(key, account, BPF_NOEXIST).is_ok() {
            show_to_syncs(key, account);
        } else {
            let _ = ACCOUNT_OWNERS.remove(place);
        }
    }
    match OWNERS.cell(key) {
        Some(account) => account.get(),
        None => OTHERS,
    }
}

/// The first free account is taken, so that those in use lie together: a sync reads them
/// all.
#[inline(always)]
fn find_free(disk: u32) -> Option<u32> {
    let ledger = LEDGER.cell(disk)?;
    for account in 1..ACCOUNTS {
        let place = disk * ACCOUNTS as u32 + account as u32;
        // The map of owners decides if this reading was torn.
        let is_free = is_of(ledger.accounts().at(account), &OwnerKey::default());
        if is_free && ACCOUNT_OWNERS.cell(&place).is_none() {
            // Re-read through the map so that the verifier forgets the number's range:
            // otherwise it follows each value through all that comes after. If another CPU
            // wrote a number meanwhile, claiming it fails.
            ledger.candidate().set(account as u64);
            return Some(ledger.candidate().get() as u32);
        }
    }
    None
}

/// Shows an account with its owner to syncs, which look at used accounts only.
#[inline(always)]
fn show_to_syncs(key: &OwnerKey, account: u32) {
    if let Some(ledger) = LEDGER.cell(key.disk) {
        // If two CPUs write at the same time, one account may be hidden; user space shows
        // it within a second.
        if ledger.used().get() <= u64::from(account) {
            ledger.used().set(u64::from(account) + 1);
        }
    }
    if let Some(free) = of_disk(key.disk, account) {
        let words = free.words::<{ Account::WORDS }>();
        for (at, word) in key.name_words() {
            words.at(at).set(word);
        }
        free.op().set(key.op);
        free.kthread().set(key.kthread);
        free.via().set(key.via);
    }
}
