//! What requests cost: how long those take that are alone on their disk.
//!
//! Beside others a request's time in service tells as much about them as about
//! itself. A request was alone when none was born and none ended after its issue,
//! and none is in flight when it ends. The first two are told by one line per disk,
//! written without atomic adds: two that are issued at one time are both in flight
//! at the first one's end. Flushes have no birth: one that begins and does not end
//! beside a request is not seen.

use core::ptr::{read_volatile, write_volatile};

use tracer_ebpf::record::{ACCOUNTS, DiskLedger, op, size};

use crate::{
    accounts::used_accounts,
    maps::{LEDGER, SOLO, add},
};

/// A request is born.
#[inline(always)]
pub fn enter(ledger: *mut DiskLedger, now: u64) {
    // SAFETY: a value of a map; whole words, of which any is a right answer.
    unsafe { write_volatile(&raw mut (*ledger).born_ns, now) };
}

/// A request of this operation and so many bytes that was issued has been served,
/// and is in its account no more.
#[inline(always)]
pub fn leave(disk: u32, (operation, bytes): (u32, u32), issued_ns: u64, now: u64) {
    let Some(ledger) = LEDGER.get_ptr_mut(disk) else { return };
    // SAFETY: as above.
    let was_alone = unsafe {
        let (born_ns, ended_ns) = (&raw const (*ledger).born_ns, &raw mut (*ledger).ended_ns);
        let was_alone = read_volatile(born_ns) <= issued_ns && read_volatile(ended_ns) <= issued_ns;
        write_volatile(ended_ns, now);
        was_alone
    };
    if !was_alone || !is_idle(disk, operation) {
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
