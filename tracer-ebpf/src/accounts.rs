//! Which account a request is charged to.

use core::ptr::{read_volatile, write_volatile};

use tracer_ebpf::{
    dropped::Dropped,
    record::{ACCOUNTS, Account, DiskLedger, OTHERS, OwnerKey},
};

use crate::{
    maps::{ACCOUNT_HINTS, ACCOUNT_OWNERS, BPF_ANY, BPF_NOEXIST, LEDGER, OWNERS, count_drop},
    submitter::Submitter,
};

/// A submitter's account, for one class of requests on the disk of this index and
/// ledger: its number, and itself.
#[inline(always)]
pub fn account(
    who: &Submitter,
    (disk, ledger): (u32, *mut DiskLedger),
    op: u32,
) -> (u32, Option<&'static mut Account>) {
    let key = OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk,
        op: op as u16,
        kthread: who.kthread as u8,
        via: who.via as u8,
    };
    let hint = ACCOUNT_HINTS.get_ptr_mut(key.hint());
    if let Some(hint) = hint {
        // SAFETY: a whole word, which is a hint only.
        let account = unsafe { *hint };
        if let Some(known) = of_ledger(ledger, account)
            && known.is_of(&key)
        {
            return (account, Some(known));
        }
    }
    // SAFETY: values of this map are only ever whole words.
    let known = unsafe { OWNERS.get(key) };
    let account = match known {
        Some(account) => *account,
        None => claim(&key),
    };
    if account == OTHERS {
        count_drop(Dropped::Others);
    } else if let Some(hint) = hint {
        // SAFETY: as above.
        unsafe { *hint = account };
    }
    (account, of_ledger(ledger, account))
}

/// An account of a disk; its words are changed by atomic adds only, but for
/// those that say whose it is: torn ones are nobody's.
#[inline(always)]
pub fn of_disk(disk: u32, account: u32) -> Option<&'static mut Account> {
    of_ledger(LEDGER.get_ptr_mut(disk)?, account)
}

#[inline(always)]
fn of_ledger(ledger: *mut DiskLedger, account: u32) -> Option<&'static mut Account> {
    // The compiler may know that it is in range and would drop the check that
    // the verifier wants to see.
    let account = core::hint::black_box(account as usize);
    if account >= ACCOUNTS {
        return None;
    }
    // SAFETY: a value of a map outlives the program's run, and the index is
    // within the array.
    Some(unsafe { &mut *ledger.cast::<Account>().add(account) })
}

/// How many accounts of a disk were ever used. In the others all is 0.
#[inline(always)]
pub fn used_accounts(ledger: *const DiskLedger) -> usize {
    // SAFETY: a value of a map; volatile because other CPUs write it.
    unsafe { read_volatile(&raw const (*ledger).used) as usize }
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
    // Where another CPU was faster, the next request tries again.
    if ACCOUNT_OWNERS.insert(place, key, BPF_NOEXIST).is_ok() {
        if OWNERS.insert(key, account, BPF_NOEXIST).is_ok() {
            take(key, account);
        } else {
            let _ = ACCOUNT_OWNERS.remove(place);
        }
    }
    // SAFETY: values of this map are only ever whole words.
    unsafe { OWNERS.get(key) }.copied().unwrap_or(OTHERS)
}

/// The first free one, so that those in use lie together: a sync looks at them
/// all.
#[inline(always)]
fn find_free(disk: u32) -> Option<u32> {
    let ledger = LEDGER.get_ptr_mut(disk)?;
    for account in 1..ACCOUNTS {
        let place = disk * ACCOUNTS as u32 + account as u32;
        // SAFETY: a value of a map, and the index is within the array; of a torn
        // reading the map of owners tells better.
        let is_free = unsafe { (*ledger).accounts[account].is_free() };
        // SAFETY: looked at, not read.
        if is_free && unsafe { ACCOUNT_OWNERS.get(place) }.is_none() {
            // By way of the map: the verifier would follow each number through
            // all that comes after. Who finds another CPU's there cannot claim
            // it.
            // SAFETY: a whole word in a value of a map.
            return unsafe {
                write_volatile(&raw mut (*ledger).candidate, account as u64);
                Some(read_volatile(&raw const (*ledger).candidate) as u32)
            };
        }
    }
    None
}

/// Syncs look at an account from here on, and see whose it is.
#[inline(always)]
fn take(key: &OwnerKey, account: u32) {
    if let Some(ledger) = LEDGER.get_ptr_mut(key.disk) {
        // SAFETY: a value of a map; what one of two that write at one time
        // hides, user space shows within a second.
        unsafe {
            if (*ledger).used <= u64::from(account) {
                (*ledger).used = u64::from(account) + 1;
            }
        }
    }
    if let Some(free) = of_disk(key.disk, account) {
        (free.cgroup, free.comm) = (key.cgroup, key.comm);
        (free.op, free.kthread, free.via) = (key.op, key.kthread, key.via);
    }
}
