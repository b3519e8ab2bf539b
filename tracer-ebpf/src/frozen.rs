//! Filesystems that somebody has frozen: whoever writes there waits, before any sync.
//!
//! A freeze is seen where the filesystem is synced for it, in the context of the one who freezes.
//! It is over when the kernel's own state says so, which is looked at when an inode there becomes
//! dirty: after a freeze all are clean, so the first write makes one dirty. If nobody writes, a
//! freeze that is over stays open here; user space counts one only for those whose threads wait
//! for its end.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::bpf_get_current_pid_tgid, macros::map, maps::Array,
};
use tracer_ebpf::{
    config::ABSENT,
    record::{FROZEN as PLACES, Frozen, OwnerKey, frozen_place, op, via},
};

use crate::{
    cell::{MapCell, fields},
    clock::now_ns,
    fields::{Freezing, Kernel, config, freezing, inode_super, super_device},
    maps::Lookup as _,
    submitter::Actor,
};

fields! { Frozen { since_ns: u64, until_ns: u64, device: u32, tid: u32 } }

/// The index is [`frozen_place`]. Only one task at a time freezes a filesystem, and a later freeze of another
/// one that has the same place takes it. A reader that meets a torn value sees the freeze a
/// moment later, or names the one who froze before.
#[map]
static FROZEN: Array<Frozen> = Array::with_max_entries(PLACES, BPF_F_MMAPABLE);

/// A filesystem is synced: if that is a step of freezing it, the running task freezes it. The step
/// may come twice.
#[inline(always)]
pub fn begin(sb: Kernel) {
    // Once it is frozen, anybody may sync it.
    if !matches!(freezing(sb), Freezing::Syncs) {
        return;
    }
    let device = super_device(sb);
    let Some(place) = FROZEN.cell(frozen_place(device)) else { return };
    let tid = bpf_get_current_pid_tgid() as u32;
    if is_open(place, device) && place.tid().get() == tid {
        return;
    }
    let who = Actor::running();
    let key = OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk: 0,
        op: op::FREEZE as u16,
        kthread: u8::from(who.kthread),
        via: via::DIRECT,
    };
    place.set(Frozen { key, since_ns: now_ns(), until_ns: 0, device, tid });
}

/// An inode becomes dirty: if its filesystem was frozen, it is no more.
#[inline(always)]
pub fn end_if_thawed(inode: Kernel) {
    if config!(sb_frozen) == ABSENT {
        return;
    }
    let sb = inode_super(inode);
    let device = super_device(sb);
    if let Some(place) = FROZEN.cell(frozen_place(device))
        && is_open(place, device)
        && matches!(freezing(sb), Freezing::No)
    {
        place.until_ns().set(now_ns());
    }
}

#[inline(always)]
fn is_open(place: MapCell<Frozen>, device: u32) -> bool {
    device != 0
        && place.device().get() == device
        && place.since_ns().get() != 0
        && place.until_ns().get() == 0
}
