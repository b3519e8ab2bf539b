//! The state of a sync that is under way: the kernel programs keep it in a
//! table, where user space finds those that do not end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    clocks::Clocks,
    record::{ACCOUNTS, COMM, commit, kind},
};

/// The kind of a journal's commit, of which no record is made.
pub const COMMIT: u32 = kind::COUNT as u32;

/// Slots for syncs in the table. The slot of a thread is its number modulo this.
pub const PLACES: u32 = 2048;

/// Slots for threads that syncs wait for, by the thread's number modulo this.
pub const HELPERS: u32 = 1024;

/// A sync under way, or a journal's commit ([`COMMIT`]).
///
/// The first line of a CPU's cache has all that the ends of its requests change, which
/// come on any CPU; the thread itself touches it at the sync's begin and end alone. The
/// second has what these ends read, and all others are the thread's own. Its size is a
/// multiple of a line's, so that no two syncs share one.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct OpenSync {
    /// Sums over its own requests; added to where they end, on any CPU. Reads
    /// apart: what it reads back had been evicted.
    pub own_queue_ns: u64,
    pub own_device_ns: u64,
    pub own_read_ns: u64,
    /// How many of its own requests ended, and the bytes of those that are not reads: see
    /// [`own_work`].
    pub own_work: u64,
    /// The end of its last own request.
    pub own_last_ns: u64,
    /// The caller, as in a [`SyncRecord`](crate::record::SyncRecord).
    pub cgroup: u64,
    /// The name of its process, in words: as bytes it would be written and read one by
    /// one.
    pub comm: [u64; COMM / 8],
    /// The thread, by the kernel's own number; 0 where its place in the table is free.
    pub tid: u32,
    /// Distinguishes this sync from the thread's others.
    pub seq: u32,
    /// When it began, in ns; 0 while that is not written yet.
    pub begin_ns: u64,
    /// When its first own request was submitted.
    pub own_first_ns: u64,
    pub clocks: Clocks,
    /// The journal's sums when the filesystem became known.
    pub journal: Totals,
    pub inode: u64,
    pub generation: u32,
    pub backing: u32,
    /// When its last bio was submitted; 0 once that has a request.
    pub bio_ns: u64,
    /// Its bios waited to become requests.
    pub throttle_ns: u64,
    /// In direct reclaim, and of that on a CPU.
    pub reclaim_ns: u64,
    pub reclaim_cpu_ns: u64,
    /// When it first forced a log (xfs), and what its requests had taken then.
    pub log_force_ns: u64,
    pub own_before_force_ns: u64,
    pub contender: Contender,
    pub kind: u32,
    pub fd: i32,
    /// The filesystem of the file that was named.
    pub device: u32,
    /// The filesystem on the disk: another one below an overlay.
    pub base_device: u32,
    pub disk: u32,
    /// The process and the thread as user space shows them.
    pub shown_tgid: u32,
    pub shown_tid: u32,
    /// How deep it is in filesystems' own syncs; always 0 in a system call's.
    pub depth: u32,
    /// 1 where further disks are watched.
    pub stacked: u32,
    /// 1 for a kernel thread.
    pub kthread: u16,
    /// 1 where its disk is a carrying one: its requests are bios there.
    pub carried: u16,
    /// The number of marks that were made; the other marks are not valid. Its type is as wide as
    /// an index's: a narrower one costs the verifier twenty times the work.
    pub marked: u64,
    /// The accounts' integrals when the disk became known.
    pub marks: [u64; ACCOUNTS],
}

const _: () = assert!(core::mem::offset_of!(OpenSync, tid) == 64);
const _: () = assert!(size_of::<OpenSync>().is_multiple_of(64));

/// Bits of [`own_work`] that are bytes: a TiB, of one sync.
const BYTES_BITS: u32 = 40;

/// The amount that one request adds to a sync's work: two sums in one word, since each of
/// the atomic adds at a request's end costs as much as some twenty other instructions.
#[inline(always)]
pub const fn own_work(bytes: u32) -> u64 {
    1 << BYTES_BITS | bytes as u64
}

/// How many requests a sync's work is of, and their bytes.
#[inline(always)]
pub const fn requests_and_bytes(work: u64) -> (u32, u64) {
    ((work >> BYTES_BITS) as u32, work & ((1 << BYTES_BITS) - 1))
}

/// Sums over a journal's commits, all in ns.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Totals {
    pub busy_ns: u64,
    pub queue_ns: u64,
    pub device_ns: u64,
    pub stage_ns: [u64; commit::COUNT],
}

impl Totals {
    pub const NONE: Self =
        Self { busy_ns: 0, queue_ns: 0, device_ns: 0, stage_ns: [0; commit::COUNT] };
}

/// The task that kept the syncing thread from the CPU.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Contender {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub kthread: u32,
    /// 1 where there is one.
    pub known: u32,
    /// The thread's run delay without the wait that ended then.
    pub run_delay: u64,
}

/// A CPU's last switch, and its longest run of late.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Runs {
    /// When it was given to another task.
    pub switched_ns: u64,
    /// Its longest run of late: how long, until when, and whose.
    pub longest_ns: u64,
    pub longest_end_ns: u64,
    pub longest: Contender,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_their_bytes_are_summed_up_apart() {
        let work = (0..100_000).fold(0, |work, _| work + own_work(4096));
        assert_eq!(requests_and_bytes(work + own_work(0)), (100_001, 409_600_000));
        assert_eq!(requests_and_bytes(own_work(u32::MAX)), (1, u64::from(u32::MAX)));
        assert_eq!(requests_and_bytes(0), (0, 0));
    }
}
