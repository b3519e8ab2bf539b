//! Measures the cost of requests: the service time of those that are alone on their disk.
//!
//! Beside others, a request's service time says as much about them as about
//! itself. A request was alone if none was submitted after its issue, none ended after
//! it or in the millisecond before it, and none is in flight when it ends. One cache line
//! per disk shows the first two. It is written without atomic adds: if two are issued at
//! the same time, both are in flight when the first one ends. Flushes have no submission: one
//! that begins and does not end beside a request is not seen.

use tracer_ebpf::record::{ACCOUNTS, DiskLedger, RESTED_NS, op, size};

use crate::{
    accounts::used_accounts,
    cell::MapCell,
    maps::{LEDGER, Lookup as _, SOLO},
};

/// A request is born.
#[inline(always)]
pub fn enter(ledger: MapCell<DiskLedger>, now: u64) {
    // If two are submitted at one time, either is a right answer.
    ledger.born_ns().set(now);
}

/// An issued request of this operation and size has been served, and has left its
/// account.
#[inline(always)]
pub fn leave(disk: u32, (operation, bytes): (u32, u32), issued_ns: u64, now: u64) {
    let Some(ledger) = LEDGER.cell(disk) else { return };
    let rest_ns = if operation == op::FLUSH { 0 } else { RESTED_NS };
    let was_alone = ledger.born_ns().get() <= issued_ns
        && ledger.ended_ns().get().saturating_add(rest_ns) <= issued_ns;
    ledger.ended_ns().set(now);
    if !was_alone || !is_idle(disk, operation) {
        return;
    }
    let class = size::class(u64::from(bytes)) as u32;
    let index = (disk * op::COUNT as u32 + operation) * size::COUNT as u32 + class;
    if let Some(solo) = SOLO.cell(index) {
        solo.ios().add(1);
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
