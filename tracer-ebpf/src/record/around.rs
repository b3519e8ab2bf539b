//! The values of tables about what happens around syncs: who takes the CPU or the memory, who
//! freezes a filesystem or has it written as a whole, whose writes the kernel pauses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM, OwnerKey};

/// The task that ran while a process's syncing thread waited for that CPU.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
#[repr(C)]
pub struct ContenderKey {
    /// The number of its cgroup; 0 for a kernel thread.
    pub cgroup: u64,
    /// The name of its process (its group leader's), NUL-padded.
    pub comm: [u8; COMM],
    /// 1 for a kernel thread.
    pub kthread: u32,
    /// The process that waited, as in `pid::here`.
    pub victim_tgid: u32,
}

/// The time that one owner spent in direct reclaim.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Reclaimed {
    pub times: u64,
    pub ns: u64,
    /// The part of `ns` for the limit of a cgroup: out of that cgroup's own memory.
    pub limit_ns: u64,
}

/// Places in the table of threads that the kernel logged a line for, by `tid % LOGGED_BY`.
pub const LOGGED_BY: u32 = 256;

/// The thread for which the kernel logged a line.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct LoggedBy {
    pub who: OwnerKey,
    /// The thread, by the kernel's own number, as it is in the line.
    pub tid: u64,
}

/// Places in the table of freezes, by [`frozen_place`].
pub const FROZEN: u32 = 64;

/// The place of a filesystem's device in the table of freezes. Partitions and volumes that are
/// numbered one after another have places of their own.
#[inline(always)]
pub const fn frozen_place(device: u32) -> u32 {
    (device ^ device >> 20) % FROZEN
}

/// The last freeze of a filesystem.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Frozen {
    /// The actor that froze it.
    pub key: OwnerKey,
    /// When it began; 0 if nothing was frozen at this place yet.
    pub since_ns: u64,
    /// When it was seen to be over; 0 until then.
    pub until_ns: u64,
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    /// The thread that froze it, by the kernel's own number.
    pub tid: u32,
}

/// A process that writes near the limit on dirty pages of a backing device.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Hash, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PauseKey {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    /// As in [`SyncRecord`](super::SyncRecord); 0 for a kernel thread.
    pub tgid: u32,
    /// The lower half of the backing device's id, as in [`SyncRecord`](super::SyncRecord).
    pub backing: u32,
}

/// The pauses of such a process.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Paused {
    /// The length of its pauses, in the kernel's own ticks (jiffies).
    pub ticks: u64,
    /// The part of `ticks` that is known to be at a limit of its own cgroup.
    pub limit_ticks: u64,
    /// The pages that it dirtied.
    pub pages: u64,
    /// The last limit that it met, in pages; 0 where `limit_ticks` is known.
    pub threshold: u32,
    /// The last write that was counted: its thread, with the lowest bits of the time at which it
    /// began to wait.
    pub last: u32,
}

/// Places in the table of whole filesystems that are synced, by `tid % WHOLE_SYNCS`.
pub const WHOLE_SYNCS: u32 = 64;

/// Bits of [`WholeSync::steps`].
pub mod step {
    /// All that was dirty is written, and the caller waits for the rest.
    pub const WAITS: u32 = 1;
    /// The filesystem was asked to sync itself once.
    pub const SYNCED: u32 = 2;
    /// The filesystem was asked again, after all data: the call is over.
    pub const OVER: u32 = 4;
}

/// The last sync of a whole filesystem by a thread, where no `sync` or `syncfs` asks for it.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct WholeSync {
    /// The actor that asks for it.
    pub key: OwnerKey,
    /// When it began; 0 if there was none at this place yet.
    pub since_ns: u64,
    /// When its last step was seen.
    pub seen_ns: u64,
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    /// The whole disk's device; 0 where the filesystem has none.
    pub disk_device: u32,
    /// The thread, by the kernel's own number, and as it is shown.
    pub tid: u32,
    pub shown_tid: u32,
    /// A code of [`whole`](super::whole).
    pub call: u32,
    /// Bits of [`step`].
    pub steps: u32,
}
