//! Measures who else has requests in flight while a sync waits: the accounts of its disk
//! are read when the disk becomes known, and at the end.
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
    record::{ACCOUNTS, Disk, DiskLedger, NO_DISK, SyncRecord, UNDERLYING, UnderlyingWindow},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::state::OpenSync;
use crate::{
    accounts::used_accounts,
    cell::{self, MapCell, fields},
    maps::{BPF_ANY, LEDGER, Lookup as _, count_drop},
};

/// The further disks of a sync, and their accounts' integrals when its first
/// disk became known.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct UnderlyingMarks {
    /// [`NO_DISK`] for none, without gaps.
    disks: [u64; UNDERLYING],
    marks: [[u64; ACCOUNTS]; UNDERLYING],
}

fields! { UnderlyingMarks { disks: [u64; UNDERLYING], marks: [[u64; ACCOUNTS]; UNDERLYING] } }

/// Those of the syncs under way, by tid. Only a thread itself has its entry.
#[map]
static UNDERLYING_MARKS: HashMap<u32, UnderlyingMarks> = HashMap::with_max_entries(256, 0);

/// An empty entry to insert: it would not fit on the stack.
#[map]
static EMPTY_UNDERLYING: Array<UnderlyingMarks> = Array::with_max_entries(1, 0);

/// The time of a disk's last sync is written down this often.
const NOTED_EVERY_NS: u64 = 1_000_000_000;

/// Notes that a sync waits for a disk. If two CPUs do so at once, either time is as good.
#[inline(always)]
fn note_sync(ledger: MapCell<DiskLedger>, now: u64) {
    if now.saturating_sub(ledger.synced_ns().get()) > NOTED_EVERY_NS {
        ledger.synced_ns().set(now);
    }
}

/// Marks the accounts of a disk, so that their integrals are measured from now on.
#[inline(never)]
pub fn watch(sync: MapCell<OpenSync>, disk: MapCell<Disk>, now: u64) -> i32 {
    let index = disk.index().get();
    let Some(ledger) = LEDGER.cell(index) else { return 0 };
    note_sync(ledger, now);
    let moment = Moment::at(tick(now));
    sync.disk().set(index);
    sync.carried().set(u16::from(disk.depth().get() >= Disk::ON_CARRIER));
    let used = used_accounts(ledger);
    sync.marked().set(used as u64);
    for account in 0..ACCOUNTS {
        if account >= used {
            break;
        }
        sync.marks().at(account).set(read_account(ledger, account, moment));
    }
    if disk.underlying().at(0).get() != NO_DISK {
        sync.stacked().set(watch_underlying(disk, now));
    }
    0
}

/// Marks the accounts of the further disks. Returns 1 if there was room for them.
#[inline(never)]
fn watch_underlying(disk: MapCell<Disk>, now: u64) -> u32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    let now = Now { ns: now, moment: Moment::at(tick(now)) };
    let Some(empty) = EMPTY_UNDERLYING.get(0) else { return 0 };
    if UNDERLYING_MARKS.insert(tid, empty, BPF_ANY).is_err() {
        count_drop(Dropped::SyncTableFull);
        return 0;
    }
    let Some(underlying) = UNDERLYING_MARKS.cell(&tid) else { return 0 };
    watch_one(underlying, disk, 0, now);
    watch_one(underlying, disk, 1, now);
    watch_one(underlying, disk, 2, now);
    1
}

// The further disks are written out one by one. If they were a loop around the loop over
// accounts, the compiler might lay it out so that its last instruction falls into its
// first, which older verifiers (seen on 5.10 and 6.1) refuse as an endless loop.
const _: () = assert!(UNDERLYING == 3);

/// One time in both forms.
#[derive(Clone, Copy)]
struct Now {
    ns: u64,
    moment: Moment,
}

#[inline(always)]
fn watch_one(underlying: MapCell<UnderlyingMarks>, disk: MapCell<Disk>, at: usize, now: Now) {
    let index = disk.underlying().at(at).get();
    let ledger = if index == NO_DISK { None } else { LEDGER.cell(index) };
    let Some(ledger) = ledger else {
        underlying.disks().at(at).set(u64::from(NO_DISK));
        return;
    };
    note_sync(ledger, now.ns);
    underlying.disks().at(at).set(u64::from(index));
    let used = used_accounts(ledger);
    for account in 0..ACCOUNTS {
        if account >= used {
            break;
        }
        underlying.marks().at(at).at(account).set(read_account(ledger, account, now.moment));
    }
}

/// Fills in the in-flight integrals on a sync's disk since it is watched, in ticks.
#[inline(always)]
pub fn fill_integrals(record: &mut SyncRecord, sync: MapCell<OpenSync>, now: u64) {
    record.unused = ACCOUNTS as u16;
    let now = Moment::at(tick(now));
    let disk = sync.disk().get();
    let ledger = if disk == NO_DISK { None } else { LEDGER.cell(disk) };
    let Some(ledger) = ledger else { return };
    let used = used_accounts(ledger);
    record.unused = ACCOUNTS.wrapping_sub(used) as u16;
    let marked = sync.marked().get();
    for (account, integral) in record.integrals.iter_mut().enumerate() {
        if account >= used {
            break;
        }
        let mark = sync.marks().at(account).get() & ones_below(marked, account);
        *integral = read_account(ledger, account, now).wrapping_sub(mark);
    }
}

/// Fills in those of the further disks, whose marks are no longer needed then.
#[inline(always)]
pub fn fill_underlying(windows: &mut [UnderlyingWindow; UNDERLYING], now: u64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let underlying = UNDERLYING_MARKS.cell(&tid);
    let now = Moment::at(tick(now));
    let [first, second, third] = windows;
    fill_one(first, underlying, 0, now);
    fill_one(second, underlying, 1, now);
    fill_one(third, underlying, 2, now);
}

#[inline(always)]
fn fill_one(
    window: &mut UnderlyingWindow,
    underlying: Option<MapCell<UnderlyingMarks>>,
    at: usize,
    now: Moment,
) {
    window.disk = u64::from(NO_DISK);
    cell::clear(&mut window.integrals);
    let Some(underlying) = underlying else { return };
    let disk = underlying.disks().at(at).get();
    window.disk = disk;
    let ledger = if disk == u64::from(NO_DISK) { None } else { LEDGER.cell(disk as u32) };
    let Some(ledger) = ledger else { return };
    let used = used_accounts(ledger);
    for account in 0..ACCOUNTS {
        if account >= used {
            break;
        }
        let mark = underlying.marks().at(at).at(account).get();
        window.integrals[account] = read_account(ledger, account, now).wrapping_sub(mark);
    }
}

/// Forgets the further disks of a sync that ends.
#[inline(always)]
pub fn forget_underlying(tid: u32) {
    let _ = UNDERLYING_MARKS.remove(tid);
}

#[inline(always)]
fn read_account(ledger: MapCell<DiskLedger>, account: usize, now: Moment) -> u64 {
    let account = ledger.accounts().at(account);
    let word = account.word().get();
    now.integral(word, account.done().get())
}

/// All bits where `at` is below the bound, or none. A branch would be one more in
/// each round of a loop that the verifier must follow.
#[inline(always)]
fn ones_below(bound: u64, at: usize) -> u64 {
    ((at as i64).wrapping_sub(bound as i64) >> 63) as u64
}
