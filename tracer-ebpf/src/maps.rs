//! The maps, and the few ways to touch them.
//!
//! User space sets the sizes of the tables when it loads them, from the disks
//! that it finds; those here are for none.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use tracer_ebpf::{
    histogram::{BUCKETS, BlockScale},
    disks::{self, Described, PROBES},
    dropped::Dropped,
    record::{
        Disk, DiskLedger, DiskUnknown, HINTS, InFlight, OwnerKey, Solo, op, stage,
    },
};

/// What is in flight, one slot per (disk, hardware queue, tag).
#[map]
pub static IN_FLIGHT: Array<InFlight> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The accounts, by disk index.
#[map]
pub static LEDGER: Array<DiskLedger> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Latency histograms, by [`histogram_index`]; the lowest bucket of the queue's is
/// empty.
#[map]
pub static HISTOGRAMS: Array<[u64; BUCKETS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Service times of requests that were alone: by disk, operation and class of
/// size.
#[map]
pub static SOLO: Array<Solo> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of what was dropped, by its kind.
#[map]
pub static DROPPED: Array<u64> = Array::with_max_entries(Dropped::COUNT as u32, BPF_F_MMAPABLE);

/// The disks that user space has described, see [`disks`].
#[map]
pub static DISKS: Array<Described> = Array::with_max_entries(disks::PLACES, 0);

/// Disks that user space was told about and has not described yet.
#[map]
pub static UNKNOWN_DISKS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// The account of an owner on a disk.
#[map]
pub static OWNERS: HashMap<OwnerKey, u32> = HashMap::with_max_entries(1, 0);

/// Whose an account is, by disk · ACCOUNTS + account.
#[map]
pub static ACCOUNT_OWNERS: HashMap<u32, OwnerKey> = HashMap::with_max_entries(1, 0);

/// Which account an owner may have, by [`OwnerKey::hint`]. A hint may be wrong:
/// the account tells whose it is.
#[map]
pub static ACCOUNT_HINTS: Array<u32> = Array::with_max_entries(HINTS, 0);

/// Sync records and requests to describe a disk: room for 1,450, or a tenth of
/// a second of 14,500 syncs a second; the reader has it mapped twice.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Insert or replace; insert only what is not there, atomically.
pub const BPF_ANY: u64 = 0;
pub const BPF_NOEXIST: u64 = 1;

/// Submit without waking the reader: it polls.
pub const NO_WAKEUP: u64 = 1;
/// Wake the reader now.
pub const FORCE_WAKEUP: u64 = 2;

/// `*word += value`, atomically. Without the result it is an instruction that
/// all kernels know; with it, only from 5.12.
#[inline(always)]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass a word of a map value; the verifier checks it.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
            word, value,
        );
    }
}

#[inline(always)]
pub fn count_drop(kind: Dropped) {
    if let Some(counter) = DROPPED.get_ptr_mut(kind as u32) {
        add(counter, 1);
    }
}

/// Where the histogram of a disk, operation and stage lies.
#[inline(always)]
fn histogram_index(disk: u32, operation: u32, stage: u32) -> u32 {
    (disk * op::COUNT as u32 + operation) * stage::COUNT as u32 + stage
}

/// How long a request waited in its queue and was served. Most wait for less than
/// the lowest bucket is wide: those are all that are not in another.
#[inline(always)]
pub fn observe(disk: u32, operation: u32, queue_ns: u64, device_ns: u64) {
    let queue = BlockScale::bucket(queue_ns);
    if queue != 0 {
        count(disk, operation, stage::QUEUE, queue);
    }
    count(disk, operation, stage::DEVICE, BlockScale::bucket(device_ns));
}

#[inline(always)]
fn count(disk: u32, operation: u32, stage: u32, bucket: usize) {
    // The compiler knows that it is in range and would drop the check that the
    // verifier wants to see.
    let index = core::hint::black_box(bucket);
    if index >= BUCKETS {
        return;
    }
    if let Some(histogram) = HISTOGRAMS.get_ptr_mut(histogram_index(disk, operation, stage)) {
        // SAFETY: the index was checked against the length above.
        add(unsafe { histogram.cast::<u64>().add(index) }, 1);
    }
}

/// What user space told of a disk, by its device number.
#[inline(always)]
pub fn described(device: u32) -> Option<&'static Disk> {
    for probe in 0..PROBES {
        let place = DISKS.get_ptr(disks::place(device, probe))?;
        // SAFETY: a value of a map outlives the program's run; user space writes
        // a place once, and changes it only when the disk itself changes.
        let place = unsafe { &*place };
        if place.device == device {
            return Some(&place.disk);
        }
    }
    None
}

/// Asks user space, once, to describe a disk.
#[inline(always)]
pub fn ask_for_disk(device: u32) {
    if UNKNOWN_DISKS.insert(device, 1, BPF_NOEXIST).is_err() {
        return;
    }
    match RECORDS.reserve::<DiskUnknown>(0) {
        Some(mut record) => {
            record.write(DiskUnknown { device: u64::from(device) });
            record.submit(FORCE_WAKEUP);
        }
        None => {
            let _ = UNKNOWN_DISKS.remove(device);
            count_drop(Dropped::RingFull);
        }
    }
}
