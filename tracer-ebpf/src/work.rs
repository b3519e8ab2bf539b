//! What requests cost: how long those take that are alone on their disk.
//!
//! Beside others a request's time in service tells as much about them as about
//! itself. A request is alone when none was in service at its issue and none
//! was issued until its end; two counters per disk tell both.

use core::ptr::read_volatile;

use tracer_ebpf::record::{InFlight, InService, op, size};

use crate::maps::{IN_SERVICE, SOLO, add};

/// A request is given to the driver. Returns the mark by which [`leave`] knows
/// whether it was alone.
#[inline(always)]
pub fn enter(disk: u32) -> u32 {
    let Some(counters) = IN_SERVICE.get_ptr_mut(disk) else { return 0 };
    // SAFETY: plain words, changed only by atomic adds. Of two that are issued
    // at one time each may find the disk idle, but then neither finds its own
    // mark again at its end.
    unsafe {
        let (issued, ended) = read(counters);
        add(&raw mut (*counters).issued, 1);
        // No mark is 0.
        if issued == ended { (issued as u32).wrapping_add(1) | MARKED } else { 0 }
    }
}

/// A request that was issued is no more with the driver, and was not served.
#[inline(always)]
pub fn withdraw(disk: u32) {
    if let Some(counters) = IN_SERVICE.get_ptr_mut(disk) {
        // SAFETY: as above.
        unsafe { add(&raw mut (*counters).ended, 1) };
    }
}

/// A request that was issued has been served in so long.
#[inline(always)]
pub fn leave(slot: &InFlight, device_ns: u64) {
    let disk = u32::from(slot.disk);
    let Some(counters) = IN_SERVICE.get_ptr_mut(disk) else { return };
    // SAFETY: as above.
    let issued = unsafe {
        add(&raw mut (*counters).ended, 1);
        read(counters).0
    };
    if slot.solo == 0 || slot.solo != issued as u32 | MARKED {
        return;
    }
    let class = size::class(u64::from(slot.bytes)) as u32;
    let index = (disk * op::COUNT as u32 + u32::from(slot.op)) * size::COUNT as u32 + class;
    if let Some(solo) = SOLO.get_ptr_mut(index) {
        // SAFETY: plain words, changed only by atomic adds.
        unsafe {
            add(&raw mut (*solo).ios, 1);
            add(&raw mut (*solo).ns, device_ns);
        }
    }
}

/// Set in every mark.
const MARKED: u32 = 1 << 31;

/// # Safety
///
/// `counters` is a value of the map.
#[inline(always)]
unsafe fn read(counters: *const InService) -> (u64, u64) {
    // SAFETY: the caller's; volatile because other CPUs add to them. The ends
    // first: what is issued in between makes a disk busy that was idle.
    unsafe {
        let ended = read_volatile(&raw const (*counters).ended);
        (read_volatile(&raw const (*counters).issued), ended)
    }
}
