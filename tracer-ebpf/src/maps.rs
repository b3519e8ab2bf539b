//! The maps, and the few ways to touch them.
//!
//! User space sets the sizes of most tables when it loads them, from the disks that it
//! finds; the sizes here are placeholders.

use core::ptr::NonNull;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_ebpf::{
    disks::{self, Described, PROBES},
    dropped::Dropped,
    histogram::{BUCKETS, BlockScale},
    record::{
        ACCOUNTS, Account, DISK_NAME_WORDS, Disk, DiskLedger, DiskUnknown, HINTS, InFlight,
        OwnerKey, Solo, UNDERLYING, op, stage,
    },
};

use crate::cell::{MapCell, Plain, fields};

fields! { Described { device: u32, disk: Disk } }
fields! { Disk { index: u32, base: u32, queues: u32, depth: u32, underlying: [u32; UNDERLYING] } }
fields! { Solo { requests: u64, ns: u64 } }
fields! {
    DiskLedger {
        accounts: [Account; ACCOUNTS],
        used: u64,
        candidate: u64,
        submitted_ns: u64,
        completed_ns: u64,
        unplaced: u64,
        shares: u64,
        outside: u64,
        synced_ns: u64,
    }
}
fields! {
    Account {
        word: u64,
        done: u64,
        requests: u64,
        bytes: u64,
        tgid: u32,
        op: u16,
        kthread: u8,
        via: u8,
    }
}
fields! {
    InFlight {
        request: u64,
        submitted_ns: u64,
        issued_ns: u64,
        bytes: u32,
        account: u32,
        sync_tid: u32,
        sync_seq: u32,
        op: u16,
        disk: u16,
        may_wait: u32,
        is_shared: u32,
    }
}

/// The requests in flight, see [`tracer_ebpf::places`].
#[map]
pub static IN_FLIGHT: Array<InFlight> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The accounts, by disk index.
#[map]
pub static LEDGER: Array<DiskLedger> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Latency histograms, by [`histogram_index`]; the lowest bucket of the queue's histogram
/// is not counted (see [`observe`]).
#[map]
pub static HISTOGRAMS: Array<[u64; BUCKETS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Device times of requests that were alone, by disk, operation and class of size.
#[map]
pub static SOLO: Array<Solo> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of what was dropped, by its kind.
#[map]
pub static DROPPED: Array<u64> = Array::with_max_entries(Dropped::COUNT as u32, BPF_F_MMAPABLE);

/// The disks that user space has described, see [`disks`].
#[map]
pub static DISKS: Array<Described> = Array::with_max_entries(disks::PLACES, 0);

/// Disks that were reported to user space, and that it has not described yet.
#[map]
pub static UNKNOWN_DISKS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// The account of an owner on a disk.
#[map]
pub static OWNERS: HashMap<OwnerKey, u32> = HashMap::with_max_entries(1, 0);

/// The owners of accounts, by disk · ACCOUNTS + account.
#[map]
pub static ACCOUNT_OWNERS: HashMap<u32, OwnerKey> = HashMap::with_max_entries(1, 0);

/// The account that an owner may have, by [`OwnerKey::hint`]. A hint may be wrong:
/// the account itself names its owner.
#[map]
pub static ACCOUNT_HINTS: Array<u32> = Array::with_max_entries(HINTS, 0);

/// Sync records and requests to describe a disk. There is room for 1,450 records, which is
/// a tenth of a second at 14,500 syncs a second. The reader has the ring mapped twice.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Insert or replace; insert only what is not there, atomically.
pub const BPF_ANY: u64 = 0;
pub const BPF_NOEXIST: u64 = 1;

/// Submit without waking the reader: it polls.
pub const NO_WAKEUP: u64 = 1;
/// Wake the reader now.
pub const FORCE_WAKEUP: u64 = 2;

/// A map that is looked up by a key.
pub trait Lookup<K> {
    type Value;

    /// The value of a key. In a hash map it is valid only until somebody removes the key.
    fn cell(&self, key: K) -> Option<MapCell<Self::Value>>;
}

impl<T> Lookup<u32> for Array<T> {
    type Value = T;

    #[inline(always)]
    fn cell(&self, key: u32) -> Option<MapCell<T>> {
        found(self.get_ptr_mut(key))
    }
}

/// The running CPU's own value.
impl<T> Lookup<u32> for PerCpuArray<T> {
    type Value = T;

    #[inline(always)]
    fn cell(&self, key: u32) -> Option<MapCell<T>> {
        found(self.get_ptr_mut(key))
    }
}

impl<K, V> Lookup<&K> for HashMap<K, V> {
    type Value = V;

    #[inline(always)]
    fn cell(&self, key: &K) -> Option<MapCell<V>> {
        found(self.get_ptr_mut(key))
    }
}

impl<K, V> Lookup<&K> for LruHashMap<K, V> {
    type Value = V;

    #[inline(always)]
    fn cell(&self, key: &K) -> Option<MapCell<V>> {
        found(self.get_ptr_mut(key))
    }
}

/// The sum of a key; if there is none, one begins at `zero`. The kernel evicts sums to make
/// room for others, without notice. So `begun` counts how many were ever begun, and user
/// space compares that number with the sums that it finds.
#[inline(always)]
pub fn sum_of<K, V: Copy>(
    sums: &LruHashMap<K, V>,
    begun: &Array<u64>,
    key: &K,
    zero: V,
) -> Option<MapCell<V>> {
    if let Some(sum) = sums.cell(key) {
        return Some(sum);
    }
    // Another CPU may begin it at the same time; only one of the two inserts it, and counts
    // it.
    if sums.insert(key, zero, BPF_NOEXIST).is_ok()
        && let Some(begun) = begun.cell(0)
    {
        begun.add(1);
    }
    let sum = sums.cell(key);
    if sum.is_none() {
        count_drop(Dropped::KernelEvicted);
    }
    sum
}

#[inline(always)]
fn found<T>(value: Option<*mut T>) -> Option<MapCell<T>> {
    // SAFETY: a look-up in a map returned it.
    value.and_then(NonNull::new).map(|at| unsafe { MapCell::new(at) })
}

/// Sends a record: reserves room for it in the ring, and has it filled there.
#[inline(always)]
pub fn send<T: Plain>(wakeup: impl FnOnce() -> u64, fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        count_drop(Dropped::RingFull);
        return;
    };
    // SAFETY: the entry is as large as a record, belongs to this program alone until it is
    // submitted, and any bytes are a valid record.
    fill(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(wakeup());
}

#[inline(always)]
pub fn count_drop(kind: Dropped) {
    if let Some(counter) = DROPPED.cell(kind as u32) {
        counter.add(1);
    }
}

/// The index of the histogram of a disk, operation and stage.
#[inline(always)]
fn histogram_index(disk: u32, operation: u32, stage: u32) -> u32 {
    (disk * op::COUNT as u32 + operation) * stage::COUNT as u32 + stage
}

/// Counts how long a request was in the queue and at the device. Most wait in the queue for
/// less than the width of the lowest bucket, so that bucket is not counted: user space
/// takes it for all requests that are in no other.
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
    if let Some(histogram) = HISTOGRAMS.cell(histogram_index(disk, operation, stage))
        && let Some(count) = histogram.find(bucket)
    {
        count.add(1);
    }
}

/// User space's description of a disk, by its device number.
#[inline(always)]
pub fn described(device: u32) -> Option<MapCell<Disk>> {
    for probe in 0..PROBES {
        // User space writes a place once, and changes it only when the disk itself
        // changes.
        let place = DISKS.cell(disks::place(device, probe))?;
        if place.device().get() == device {
            return Some(place.disk());
        }
    }
    None
}

/// Asks user space, once, to describe a disk.
#[inline(always)]
pub fn ask_for_disk(device: u32, name: impl FnOnce() -> [u32; DISK_NAME_WORDS]) {
    if UNKNOWN_DISKS.insert(device, 1, BPF_NOEXIST).is_err() {
        return;
    }
    let Some(mut entry) = RECORDS.reserve::<DiskUnknown>(0) else {
        let _ = UNKNOWN_DISKS.remove(device);
        count_drop(Dropped::RingFull);
        return;
    };
    entry.write(DiskUnknown { device: u64::from(device), name: name() });
    entry.submit(FORCE_WAKEUP);
}
