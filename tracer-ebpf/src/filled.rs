//! The sums of what each owner puts into the filesystems' logs.
//!
//! A log is written as a whole: whoever syncs waits for what all others put into
//! it since. The amounts of one filesystem are of one unit, which differs between
//! kinds of filesystems: they are only ever compared with each other.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap},
};
use tracer_ebpf::record::{Handles, OwnerKey, op, via};

use crate::{cell::fields, maps::sum_of, submitter::Submitter};

/// With the filesystem's device in the place of the disk.
#[map]
static HANDLES: LruHashMap<OwnerKey, Handles> = LruHashMap::with_max_entries(1024, 0);
#[map]
static HANDLES_NEW: Array<u64> = Array::with_max_entries(1, 0);

fields! { Handles { handles: u64, blocks: u64, held_ns: u64, tgid: u64 } }

/// Adds the blocks that an actor put into the log of a filesystem, and for how long it held up
/// a commit.
#[inline(always)]
pub fn fill(device: u32, who: &Submitter, blocks: u64, held_ns: u64) {
    // Its own changes, and those made when its data were written back, count for one
    // owner.
    let key = OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk: device,
        op: op::METADATA as u16,
        kthread: who.kthread as u8,
        via: via::DIRECT,
    };
    let zero = Handles { handles: 0, blocks: 0, held_ns: 0, tgid: 0 };
    if let Some(handles) = sum_of(&HANDLES, &HANDLES_NEW, &key, zero) {
        handles.handles().add(1);
        handles.blocks().add(blocks);
        if held_ns > 0 {
            handles.held_ns().add(held_ns);
            handles.tgid().set(who.tgid.into());
        }
    }
}
