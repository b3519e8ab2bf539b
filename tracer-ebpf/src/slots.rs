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

/// The slot of a request that has one.
#[inline(always)]
pub fn find(request: Request, operation: u32, disk: MapCell<Disk>) -> Option<MapCell<InFlight>> {
    let (queue, tag) = (request.hardware_queue(), tag(request, operation));
    let address = address(request);
    if let Some(own) = own(disk, queue, tag) {
        return IN_FLIGHT.cell(own).filter(|slot| slot.request().get() == address);
    }
    for place in shared(disk, queue, tag) {
        let slot = IN_FLIGHT.cell(config!(own_slots) + place)?;
        if slot.request().get() == address {
            return Some(slot);
        }
    }
    None
}

/// A slot for a request that begins, with its address in it; `None` where all that
/// it may have are taken, which is counted.
#[inline(always)]
pub fn claim(
    request: Request,
    operation: u32,
    disk: MapCell<Disk>,
    now: u64,
) -> Option<MapCell<InFlight>> {
    let (queue, tag) = (request.hardware_queue(), tag(request, operation));
    let address = address(request);
    if let Some(own) = own(disk, queue, tag) {
        let slot = IN_FLIGHT.cell(own)?;
        if slot.request().get() != 0 {
            reconcile(slot, now);
        }
        slot.request().set(address);
        return Some(slot);
    }
    // The same request from before, if its end was not seen.
    if let Some(slot) = find(request, operation, disk) {
        reconcile(slot, now);
        return Some(slot);
    }
    let ledger = LEDGER.cell(disk.index().get())?;
    for place in shared(disk, queue, tag) {
        let slot = IN_FLIGHT.cell(config!(own_slots) + place)?;
        if slot.request().claim(address) {
            slot.is_shared().set(1);
            if ledger.shares().get() == 0 {
                ledger.shares().set(1);
            }
            return Some(slot);
        }
    }
    count_drop(Dropped::TableOverflow);
    ledger.unplaced().add(1);
    None
}

/// Frees the slot of a request that has ended.
#[inline(always)]
pub fn free(slot: MapCell<InFlight>, request: Request) {
    slot.born_ns().set(0);
    if slot.is_shared().get() != 0 {
        slot.request().give_up(address(request));
    } else {
        slot.request().set(0);
    }
}

#[inline(always)]
fn tag(request: Request, operation: u32) -> u32 {
    if operation == op::FLUSH { FLUSH_TAG } else { request.tag() }
}

#[inline(always)]
fn own(disk: MapCell<Disk>, queue: u32, tag: u32) -> Option<u32> {
    places::own(disk.base().get(), disk.queues().get(), disk.depth().get(), queue, tag)
}

#[inline(always)]
fn shared(disk: MapCell<Disk>, queue: u32, tag: u32) -> [u32; places::CANDIDATES] {
    places::shared(disk.index().get(), queue, tag, config!(shared_slots))
}
