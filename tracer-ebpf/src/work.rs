//! Measures the cost of requests: the device time of those that are alone on their disk.
//!
//! Beside other requests, the device time of one says as much about the others as about
//! itself. A request was alone if no other was submitted after its issue, no other
//! completed after its issue or in the millisecond before it, and no other is in flight
//! when it completes. One cache line per disk shows the first two. It is written without
//! atomic adds: if two requests are issued at the same time, both are in flight when the
//! first one completes. Flushes are not submitted, so a flush that begins beside a request
//! and ends after it is not noticed.

use tracer_ebpf::record::{ACCOUNTS, DiskLedger, RESTED_NS, op, size};

use crate::{
    accounts::used_accounts,
    cell::MapCell,
    maps::{LEDGER, Lookup as _, SOLO},
};

/// A request is submitted.
#[inline(always)]
pub fn enter(ledger: MapCell<DiskLedger>, now: u64) {
    // If two are submitted at the same time, the time of either is right.
    ledger.submitted_ns().set(now);
}

/// An issued request of this operation and size has completed, and has left its account.
#[inline(always)]
pub fn leave(disk: u32, (operation, bytes): (u32, u32), issued_ns: u64, now: u64) {
    let Some(ledger) = LEDGER.cell(disk) else { return };
    let rest_ns = if operation == op::FLUSH { 0 } else { RESTED_NS };
    let was_alone = ledger.submitted_ns().get() <= issued_ns
        && ledger.completed_ns().get().saturating_add(rest_ns) <= issued_ns;
    ledger.completed_ns().set(now);
    if !was_alone || !is_idle(disk, operation) {
        return;
    }
    let class = size::class(u64::from(bytes)) as u32;
    let index = (disk * op::COUNT as u32 + operation) * size::COUNT as u32 + class;
    if let Some(solo) = SOLO.cell(index) {
        solo.requests().add(1);
        solo.ns().add(now.saturating_sub(issued_ns));
    }
}

/// Whether nobody has a request in flight on a disk. Writes that wait for a
/// flush do not count against it.
#[inline(never)]
fn is_idle(disk: u32, operation: u32) -> bool {
    let Some(ledger) = LEDGER.cell(disk) else { return false };
    let used = used_accounts(ledger);
    for at in 0..ACCOUNTS {
        if at >= used {
            break;
        }
        let account = ledger.accounts().at(at);
        let (word, op) = (account.word().get(), account.op().get());
        if word != 0 && !(operation == op::FLUSH && u32::from(op) == op::WRITE) {
            return false;
        }
    }
    true
}
