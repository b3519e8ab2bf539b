//! Bios in flight on carrying disks, which stand for these disks' requests.
//!
//! A bio has no tag, so its place is in a hash map, by its address: some 400 ns for
//! both ends, beside the encryption or the parity of what it carries. An entry is
//! replaced if a bio's end was not seen and its address is used again; what stays
//! otherwise, user space takes out.

use aya_ebpf::{macros::map, maps::HashMap};
use tracer_ebpf::{
    dropped::Dropped,
    record::{Disk, InFlight, op},
};

use crate::{
    cell::MapCell,
    clock::now_ns,
    dirtier::submitter_of_bio,
    fields::{Bio, operation},
    maps::{BPF_ANY, LEDGER, Lookup as _, count_drop, observe},
    requests::{NO_ACCOUNT, REQ_FUA, REQ_PREFLUSH, charge, complete, reconcile},
    syncs::own::credit,
    work,
};

/// Bios in flight by their addresses.
#[map]
static BIOS: HashMap<u64, InFlight> = HashMap::with_max_entries(8192, 0);

/// Whether a disk's own bios stand for its requests.
#[inline(always)]
pub fn carries(disk: MapCell<Disk>) -> bool {
    disk.depth().get() == Disk::CARRIES
}

/// A bio enters a carrying disk: it is put into its submitter's account.
#[inline(always)]
pub fn open(bio: Bio, disk: MapCell<Disk>) {
    let flags = bio.flags();
    let Some(operation) = operation(flags) else { return };
    let address = bio.address();
    let now = now_ns();
    if let Some(last) = BIOS.cell(&address)
        && last.submitted_ns().get() != 0
    {
        reconcile(last, now);
    }
    let entry = InFlight {
        request: address,
        submitted_ns: now,
        issued_ns: now,
        bytes: bio.bytes(),
        account: NO_ACCOUNT,
        sync_tid: 0,
        sync_seq: 0,
        op: operation as u16,
        disk: disk.index().get() as u16,
        may_wait: u32::from(flags & (REQ_PREFLUSH | REQ_FUA) != 0),
        is_shared: 0,
        spare: [0; 3],
    };
    // It is in the table before it is charged, because [`charge`] reads its operation there.
    let placed = BIOS.insert(address, entry, BPF_ANY).ok();
    let Some(slot) = placed.and_then(|()| BIOS.cell(&address)) else {
        count_drop(Dropped::TableOverflow);
        if let Some(ledger) = LEDGER.cell(disk.index().get()) {
            ledger.unplaced().add(1);
        }
        return;
    };
    charge(slot, disk, submitter_of_bio(bio.0, now));
}

/// A bio ends that may be one of a carrying disk.
#[inline(always)]
pub fn end(bio: Bio) {
    let address = bio.address();
    let Some(slot) = BIOS.cell(&address) else { return };
    let submitted_ns = slot.submitted_ns().get();
    // One whose entry could not be taken out.
    if submitted_ns == 0 {
        return;
    }
    slot.submitted_ns().set(0);
    let now = now_ns();
    let took_ns = now.saturating_sub(submitted_ns);
    let (index, bytes) = (slot.disk().get().into(), slot.bytes().get());
    complete(slot, submitted_ns, now);
    // A write without data is the flush that it is. What flushes before or after its
    // own data teaches nothing: most of its kind do not.
    let operation = if bytes == 0 { op::FLUSH } else { slot.op().get().into() };
    let alone_since_ns = if bytes != 0 && slot.may_wait().get() != 0 { 0 } else { submitted_ns };
    observe(index, operation, 0, took_ns);
    work::leave(index, (operation, bytes), alone_since_ns, now);
    if slot.sync_tid().get() != 0 {
        credit(slot, 0, took_ns, now);
    }
    let _ = BIOS.remove(address);
}
