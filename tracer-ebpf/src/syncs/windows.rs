//! Who else has requests in flight while a sync waits: the accounts of its disk
//! when that became known, and at its end.
//!
//! A disk may name others that a sync on it waits for too (what lies below a
//! loop device, the further disks of a volume). Their marks are kept apart, so
//! that a sync on a plain disk has none to pay for.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap},
};
use tracer_ebpf::{
    dropped::Dropped,
    ledger::{Moment, tick},
    record::{ACCOUNTS, Disk, DiskLedger, LOWER, LowerWindow, NO_DISK, SyncRecord},
};

use super::state::OpenSync;
use crate::{
    accounts::used_accounts,
    maps::{BPF_ANY, LEDGER, count_drop},
};

/// The further disks of a sync, and their accounts' integrals when its first
/// disk became known.
#[repr(C)]
pub struct LowerMarks {
    /// [`NO_DISK`] for none, without gaps.
    disks: [u64; LOWER],
    marks: [[u64; ACCOUNTS]; LOWER],
}

/// Those of the syncs under way, by tid.
#[map]
static LOWER_MARKS: HashMap<u32, LowerMarks> = HashMap::with_max_entries(256, 0);

/// An empty entry to insert: it would not fit on the stack.
#[map]
static EMPTY_LOWER: Array<LowerMarks> = Array::with_max_entries(1, 0);

/// From here on the accounts of a disk are watched.
#[inline(never)]
pub fn watch(sync: &mut OpenSync, disk: &Disk, now: u64) -> i32 {
    let Some(ledger) = LEDGER.get_ptr(disk.index) else { return 0 };
    let moment = Moment::at(tick(now));
    sync.disk = disk.index;
    let used = used_accounts(ledger);
    sync.marked = used as u64;
    for account in 0..ACCOUNTS {
        if account >= used {
            break;
        }
        sync.marks[account] = read_account(ledger, account, moment);
    }
    if disk.lower[0] != NO_DISK {
        sync.stacked = watch_lower(disk, now);
    }
    0
}

/// 1 where there was a place for them.
#[inline(never)]
fn watch_lower(disk: &Disk, now: u64) -> u32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let now = Moment::at(tick(now));
    let Some(empty) = EMPTY_LOWER.get(0) else { return 0 };
    if LOWER_MARKS.insert(tid, empty, BPF_ANY).is_err() {
        count_drop(Dropped::SyncTableFull);
        return 0;
    }
    let Some(lower) = LOWER_MARKS.get_ptr_mut(tid) else { return 0 };
    // SAFETY: only this thread has this entry.
    let lower = unsafe { &mut *lower };
    for at in 0..LOWER {
        let index = disk.lower[at];
        let ledger = if index == NO_DISK { None } else { LEDGER.get_ptr(index) };
        let Some(ledger) = ledger else {
            lower.disks[at] = u64::from(NO_DISK);
            continue;
        };
        lower.disks[at] = u64::from(index);
        let used = used_accounts(ledger);
        for account in 0..ACCOUNTS {
            if account >= used {
                break;
            }
            lower.marks[at][account] = read_account(ledger, account, now);
        }
    }
    1
}

/// What was in flight on a sync's disk since it is watched, in ticks.
///
/// # Safety
///
/// `record` points to a whole record.
#[inline(always)]
pub unsafe fn fill_areas(record: *mut SyncRecord, sync: &OpenSync, now: u64) {
    // SAFETY: the caller's.
    let record = unsafe { &mut *record };
    record.unused = ACCOUNTS as u16;
    let now = Moment::at(tick(now));
    let ledger = if sync.disk == NO_DISK { None } else { LEDGER.get_ptr(sync.disk) };
    let Some(ledger) = ledger else { return };
    let used = used_accounts(ledger);
    record.unused = ACCOUNTS.wrapping_sub(used) as u16;
    for (account, area) in record.areas.iter_mut().enumerate() {
        if account >= used {
            break;
        }
        let mark = sync.marks[account] & ones_below(sync.marked, account);
        *area = read_account(ledger, account, now).wrapping_sub(mark);
    }
}

/// The same for the further disks, whose marks are no longer needed then.
///
/// # Safety
///
/// `windows` points to a whole array.
#[inline(always)]
pub unsafe fn fill_lower(windows: *mut [LowerWindow; LOWER], now: u64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let lower = LOWER_MARKS.get_ptr(tid);
    let now = Moment::at(tick(now));
    for at in 0..LOWER {
        // SAFETY: the caller's, and the index is within the array.
        let window = unsafe { &mut (*windows)[at] };
        window.disk = u64::from(NO_DISK);
        clear(&mut window.areas);
        let Some(lower) = lower else { continue };
        // SAFETY: only this thread has this entry.
        let lower = unsafe { &*lower };
        window.disk = lower.disks[at];
        let known = lower.disks[at] != u64::from(NO_DISK);
        let ledger = if known { LEDGER.get_ptr(lower.disks[at] as u32) } else { None };
        let Some(ledger) = ledger else { continue };
        let used = used_accounts(ledger);
        for account in 0..ACCOUNTS {
            if account >= used {
                break;
            }
            let mark = lower.marks[at][account];
            window.areas[account] = read_account(ledger, account, now).wrapping_sub(mark);
        }
    }
}

/// The further disks of a sync that ends are forgotten.
#[inline(always)]
pub fn forget_lower(tid: u32) {
    let _ = LOWER_MARKS.remove(tid);
}

/// Word by word: what the compiler makes of an assignment is a call that writes
/// byte by byte.
#[inline(always)]
fn clear(words: &mut [u64; ACCOUNTS]) {
    for word in words {
        // SAFETY: a reference; volatile only to keep it a loop of words.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
}

#[inline(always)]
fn read_account(ledger: *const DiskLedger, account: usize, now: Moment) -> u64 {
    // SAFETY: callers stay within the array; a value of a map, read word by
    // word, volatile because other CPUs add to it.
    let (word, done) = unsafe {
        let account = &raw const (*ledger).accounts[account];
        let word = core::ptr::read_volatile(&raw const (*account).word);
        (word, core::ptr::read_volatile(&raw const (*account).done))
    };
    now.integral(word, done)
}

/// All bits where `at` is below the bound, or none. A branch would be one more in
/// each round of a loop that the verifier must follow.
#[inline(always)]
fn ones_below(bound: u64, at: usize) -> u64 {
    ((at as i64).wrapping_sub(bound as i64) >> 63) as u64
}
