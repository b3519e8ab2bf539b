//! What requests cost: how long those take that are alone on their disk.
//!
//! Beside others a request's time in service tells as much about them as about
//! itself. A request was alone when none was born and none ended after its issue,
//! and none is in flight when it ends. The first two are told by one line per disk,
//! written without atomic adds: two that are issued at one time are both in flight
//! at the first one's end. Flushes have no birth: one that begins and does not end
//! beside a request is not seen.

use core::ptr::{read_volatile, write_volatile};

use tracer_ebpf::record::{ACCOUNTS, LastSeen, op, size};

use crate::{
    maps::{LAST_SEEN, LEDGER, SOLO, add},
    owner::used_accounts,
};

/// A request is born.
#[inline(always)]
pub fn enter(disk: u32, now: u64) {
    if let Some(last) = LAST_SEEN.get_ptr_mut(disk) {
        // SAFETY: a value of a map; whole words, of which any is a right answer.
        unsafe { write_volatile(&raw mut (*last).born_ns, now) };
    }
}

/// A request of this operation and so many bytes that was issued has been served,
/// and is in its account no more.
#[inline(always)]
pub fn leave(disk: u32, (operation, bytes): (u32, u32), issued_ns: u64, now: u64) {
    let Some(last) = LAST_SEEN.get_ptr_mut(disk) else { return };
    // SAFETY: as above.
    let LastSeen { born_ns, ended_ns, .. } = unsafe { read_volatile(last) };
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*last).ended_ns, now) };
    if born_ns > issued_ns || ended_ns > issued_ns || !is_idle(disk, operation) {
        return;
    }
    let class = size::class(u64::from(bytes)) as u32;
    let index = (disk * op::COUNT as u32 + operation) * size::COUNT as u32 + class;
    if let Some(solo) = SOLO.get_ptr_mut(index) {
        // SAFETY: plain words, changed only by atomic adds.
        unsafe {
            add(&raw mut (*solo).ios, 1);
            add(&raw mut (*solo).ns, now.saturating_sub(issued_ns));
        }
    }
}

/// Whether nobody has a request in flight on a disk. Writes that wait for a
/// flush do not count against it.
#[inline(never)]
fn is_idle(disk: u32, operation: u32) -> bool {
    let Some(ledger) = LEDGER.get_ptr(disk) else { return false };
    let used = used_accounts(ledger);
    for at in 0..ACCOUNTS {
        if at >= used {
            break;
        }
        // SAFETY: a value of a map, volatile because other CPUs write it; the
        // index is within the array.
        let (word, op) = unsafe {
            let account = &raw const (*ledger).accounts[at];
            (read_volatile(&raw const (*account).word), (*account).op)
        };
        if word != 0 && !(operation == op::FLUSH && u32::from(op) == op::WRITE) {
            return false;
        }
    }
    true
}
