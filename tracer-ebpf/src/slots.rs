//! The slots of requests in flight: finds one, claims one, frees one.
//!
//! A slot of a tag's own has one writer at a time. A shared slot may be claimed by
//! two CPUs at once, see [`MapCell::claim`].

use tracer_ebpf::{
    dropped::Dropped,
    places::{self, FLUSH_TAG},
    record::{Disk, InFlight, op},
};

use crate::{
    cell::MapCell,
    fields::{Request, config},
    maps::{IN_FLIGHT, LEDGER, Lookup as _, count_drop},
    requests::{address, reconcile},
};

/// The names of a request's slots on its disk. They are read once: each load of the queue's
/// pointer costs the verifier of newer kernels a search through all of their types.
#[derive(Clone, Copy)]
pub struct Name {
    address: u64,
    queue: u32,
    tag: u32,
}

impl Name {
    #[inline(always)]
    pub fn of(request: Request, operation: u32) -> Self {
        let tag = if operation == op::FLUSH { FLUSH_TAG } else { request.tag() };
        Self { address: address(request), queue: request.hardware_queue(), tag }
    }
}

/// The slot of the request's own tag, if its disk has such slots; another request may still
/// be in it.
#[inline(always)]
pub fn own(name: Name, disk: MapCell<Disk>) -> Option<MapCell<InFlight>> {
    let (base, queues, depth) = (disk.base().get(), disk.queues().get(), disk.depth().get());
    IN_FLIGHT.cell(places::own(base, queues, depth, name.queue, name.tag)?)
}

/// The slot of a request that has one.
#[inline(always)]
pub fn find(request: Request, operation: u32, disk: MapCell<Disk>) -> Option<MapCell<InFlight>> {
    find_named(Name::of(request, operation), disk)
}

/// As [`find`], where the name is known.
#[inline(always)]
pub fn find_named(name: Name, disk: MapCell<Disk>) -> Option<MapCell<InFlight>> {
    match own(name, disk) {
        Some(own) => Some(own).filter(|own| own.request().get() == name.address),
        None => find_shared(name.address, name.queue, name.tag, disk),
    }
}

/// Looks through the slots that the request shares with others. Like all code that few
/// requests need it is not inlined, so that the code that runs for all of them lies
/// together.
#[cold]
#[inline(never)]
fn find_shared(
    address: u64,
    queue: u32,
    tag: u32,
    disk: MapCell<Disk>,
) -> Option<MapCell<InFlight>> {
    for place in shared(queue, tag, disk) {
        let slot = IN_FLIGHT.cell(config!(own_slots) + place)?;
        if slot.request().get() == address {
            return Some(slot);
        }
    }
    None
}

/// Claims a slot for a request that is submitted, and writes its address into it. `None` if
/// all slots that it may have are taken, which is counted.
#[inline(always)]
pub fn claim(
    request: Request,
    operation: u32,
    disk: MapCell<Disk>,
    now: u64,
) -> Option<MapCell<InFlight>> {
    let name = Name::of(request, operation);
    if let Some(own) = own(name, disk) {
        occupy(own, request, now);
        return Some(own);
    }
    // An earlier request at the same address may still have a slot, if its end was not seen.
    if let Some(slot) = find_shared(name.address, name.queue, name.tag, disk) {
        reconcile(slot, now);
        return Some(slot);
    }
    claim_shared(name.address, name.queue, name.tag, disk)
}

/// Puts a request into the slot that is its tag's own.
#[inline(always)]
pub fn occupy(own: MapCell<InFlight>, request: Request, now: u64) {
    if own.request().get() != 0 {
        reconcile(own, now);
    }
    own.request().set(address(request));
}

#[cold]
#[inline(never)]
fn claim_shared(
    address: u64,
    queue: u32,
    tag: u32,
    disk: MapCell<Disk>,
) -> Option<MapCell<InFlight>> {
    let ledger = LEDGER.cell(disk.index().get())?;
    for place in shared(queue, tag, disk) {
        let slot = IN_FLIGHT.cell(config!(own_slots) + place)?;
        if slot.request().claim(address) {
            slot.is_shared().set(1);
            if ledger.shares().get() == 0 {
                ledger.shares().set(1);
            }
            return Some(slot);
        }
    }
    // A flush is in no account, and what is missing of it is counted at its completion.
    if tag != FLUSH_TAG {
        count_drop(Dropped::TableOverflow);
        ledger.unplaced().add(1);
        ledger.outside().add(1);
    }
    None
}

/// Whether this disk has requests in flight that found no slot, so that a completion
/// without a slot may be one of theirs.
#[inline(always)]
pub fn has_outside(disk: MapCell<Disk>) -> bool {
    LEDGER.cell(disk.index().get()).is_some_and(|ledger| ledger.outside().get() as i64 > 0)
}

/// Notes that a request without a slot has completed, or ended in another way. Returns
/// whether it was one of those that were counted when they found none. It is not known
/// which of several requests without a slot were counted, and it does not matter: each ends
/// once, so the count is right when all have.
#[cold]
#[inline(never)]
pub fn end_outside(disk: MapCell<Disk>) -> bool {
    let Some(ledger) = LEDGER.cell(disk.index().get()) else { return false };
    let is_one = ledger.outside().get() as i64 > 0;
    if is_one {
        ledger.outside().add(1_u64.wrapping_neg());
    }
    is_one
}

/// Frees the slot of a request that has completed.
#[inline(always)]
pub fn free(slot: MapCell<InFlight>, request: Request) {
    slot.submitted_ns().set(0);
    if slot.is_shared().get() != 0 {
        slot.request().give_up(address(request));
    } else {
        slot.request().set(0);
    }
}

#[inline(always)]
fn shared(queue: u32, tag: u32, disk: MapCell<Disk>) -> [u32; places::CANDIDATES] {
    places::shared(disk.index().get(), queue, tag, config!(shared_slots))
}
