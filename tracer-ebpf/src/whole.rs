//! Whole filesystems that somebody has written, other than by `sync` and `syncfs`.
//!
//! An umount syncs the filesystem. That of an overlay syncs the filesystem of its upper layer, with
//! all that others left unwritten there; so starting or stopping a container does. A remount and a
//! freeze do the same. The kernel asks the flusher threads to write what is dirty, then the
//! filesystem to sync itself, and both once more to wait for it (`sync_filesystem`), all in the
//! caller's context. The first step is the begin of the call, and the last one its end so far as
//! others' data is concerned. Filesystems other than ext4 and xfs have no hook on the last one:
//! there user space looks whether the thread still waits.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::bpf_get_current_pid_tgid, macros::map, maps::Array,
};
use tracer_ebpf::{
    dropped::Dropped,
    record::{OwnerKey, WHOLE_SYNCS as PLACES, WholeSync, kind, op, step, via, whole},
};

use crate::{
    cell::{MapCell, fields},
    clock::now_ns,
    fields::{
        Flushing, Freezing, Kernel, Task, config, freezing, super_device, synced_from_sb,
        syscall_number,
    },
    maps::{Lookup as _, count_drop},
    pids,
    submitter::Actor,
    syncs::{call::Call, table::current_sync},
};

fields! {
    WholeSync {
        since_ns: u64,
        seen_ns: u64,
        device: u32,
        tid: u32,
        steps: u32,
    }
}

/// The index is `tid % WHOLE_SYNCS`. A reader that meets a torn value sees it a moment later.
#[map]
static WHOLE_SYNCS: Array<WholeSync> = Array::with_max_entries(PLACES, BPF_F_MMAPABLE);

/// A step that comes this much later belongs to another call.
const APART_NS: u64 = 1_000_000_000;

/// The flusher threads are asked to write a whole filesystem.
#[inline(always)]
pub fn begin(asked: Flushing) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(place) = WHOLE_SYNCS.cell(tid % PLACES) else { return };
    let (now, device) = (now_ns(), super_device(asked.sb));
    let waits = if asked.waits { step::WAITS } else { 0 };
    let steps = place.steps().get();
    let is_recent = now.saturating_sub(place.seen_ns().get()) < APART_NS;
    if is_open(place, tid, device) {
        // All cgroups that have dirty data there are asked one after another, and then all of them
        // a second time.
        let goes_on = if asked.waits {
            steps & step::WAITS == 0 || is_recent
        } else {
            steps == 0 && is_recent
        };
        if goes_on {
            place.seen_ns().set(now);
            place.steps().set(steps | waits);
            return;
        }
    }
    let Some(call) = call_of(asked.sb) else { return };
    let is_other = place.tid().get() != tid && steps & step::OVER == 0;
    if is_other && is_recent && place.since_ns().get() != 0 {
        count_drop(Dropped::KernelEvicted);
    }
    note(place, asked.sb, call, waits, now);
}

#[inline(always)]
fn note(place: MapCell<WholeSync>, sb: Kernel, call: u32, steps: u32, now: u64) {
    let who = Actor::running();
    if who.is_kernel() {
        return;
    }
    let (pid_tgid, file) = (bpf_get_current_pid_tgid(), synced_from_sb(sb));
    let key = OwnerKey {
        cgroup: who.cgroup,
        comm: who.comm,
        disk: 0,
        op: op::WRITE as u16,
        kthread: 0,
        via: via::DIRECT,
    };
    place.set(WholeSync {
        key,
        since_ns: now,
        seen_ns: now,
        device: file.device,
        disk_device: file.disk_device,
        tid: pid_tgid as u32,
        shown_tid: pids::shown(pid_tgid) as u32,
        call,
        steps,
    });
}

/// The filesystem is asked to sync itself: once before the caller waits for all data, and once
/// after.
#[inline(always)]
pub fn go_on(sb: Kernel) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(place) = WHOLE_SYNCS.cell(tid % PLACES) else { return };
    if is_open(place, tid, super_device(sb)) {
        let steps = place.steps().get();
        let is_over = steps & step::SYNCED != 0;
        place.seen_ns().set(now_ns());
        place.steps().set(steps | if is_over { step::OVER } else { step::SYNCED });
    }
}

#[inline(always)]
fn is_open(place: MapCell<WholeSync>, tid: u32, device: u32) -> bool {
    place.tid().get() == tid
        && place.device().get() == device
        && place.since_ns().get() != 0
        && place.steps().get() & step::OVER == 0
}

/// The call that the running thread is in, a code of [`whole`]; `None` for `sync` and `syncfs`,
/// which are records of their own.
#[inline(always)]
fn call_of(sb: Kernel) -> Option<u32> {
    if let Some(sync) = current_sync()
        && matches!(sync.kind().get(), kind::SYNC | kind::SYNCFS)
    {
        return None;
    }
    if matches!(freezing(sb), Freezing::Syncs) {
        return Some(whole::FREEZE);
    }
    let Some(registers) = Task::current().and_then(Task::registers) else {
        return Some(whole::OTHER);
    };
    let number = syscall_number(registers) as u32;
    match Call::of(number, registers) {
        Some(Call { kind: kind::SYNC | kind::SYNCFS, .. }) => None,
        _ if number == config!(nr_umount) => Some(whole::UMOUNT),
        _ => Some(whole::OTHER),
    }
}
