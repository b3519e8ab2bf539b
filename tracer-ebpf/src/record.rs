//! The layouts of values in maps and in the ring buffer.
//!
//! `repr(C)`, fixed-width integers, no padding (proved by the zerocopy
//! derives), sizes asserted below. Codes are plain integers with named
//! constants; user space converts them with checks.

mod around;
mod codes;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use self::{
    around::{
        ContenderKey, FROZEN, Frozen, LOGGED_BY, LoggedBy, PauseKey, Paused, Reclaimed,
        WHOLE_SYNCS, WholeSync, frozen_place, step,
    },
    codes::{commit, kind, op, size, stage, via, whole},
};

/// Accounts per disk. Account 0 is shared by all owners without an account of their own.
pub const ACCOUNTS: usize = 64;

/// The account of all owners without one of their own.
pub const OTHERS: u32 = 0;

/// The index that stands for no disk: no request of the sync showed one.
pub const NO_DISK: u32 = u32::MAX;

/// Further disks that one sync's window covers, below or beside its first.
pub const UNDERLYING: usize = 3;

/// Length of a kernel task name, the NUL included (`TASK_COMM_LEN`).
pub const COMM: usize = 16;

/// The owner of a request, and the kind of request.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
#[repr(C)]
pub struct OwnerKey {
    /// The number of its cgroup (see [`crate::cgroup`]); 0 for a kernel thread.
    pub cgroup: u64,
    /// The name of the process (its group leader's), NUL-padded.
    pub comm: [u8; COMM],
    /// Index of the disk. It is the first half of its word, which [`OwnerKey::is_in`]
    /// relies on.
    pub disk: u32,
    /// A code of [`op`].
    pub op: u16,
    /// 1 for a kernel thread.
    pub kthread: u8,
    /// A code of [`via`].
    pub via: u8,
}

/// Places in the table of hints, by [`OwnerKey::hint`].
pub const HINTS: u32 = 1 << HINT_BITS;

const HINT_BITS: u32 = 12;

impl OwnerKey {
    /// The index of the hint that names this owner's account.
    #[inline(always)]
    pub fn hint(&self) -> u32 {
        let [a, b, c, d] = self.words();
        // Multiplied by 2^64 over the golden ratio.
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mix(mix(mix(a, b), c), d) >> (64 - HINT_BITS)) as u32
    }

    /// Whether an account is this owner's; `word` reads one word of the account. Comparing
    /// words needs no call to a function that compares memory.
    #[inline(always)]
    pub fn is_in(&self, word: impl Fn(usize) -> u64) -> bool {
        let [a, b, c, d] = self.words();
        let rest = (word(Account::NAME + 3) ^ d) >> 32;
        (word(Account::NAME) ^ a)
            | (word(Account::NAME + 1) ^ b)
            | (word(Account::NAME + 2) ^ c)
            | rest
            == 0
    }

    /// The words of an account that name its cgroup and its process.
    #[inline(always)]
    pub fn name_words(&self) -> [(usize, u64); 3] {
        let [a, b, c, _] = self.words();
        [(Account::NAME, a), (Account::NAME + 1, b), (Account::NAME + 2, c)]
    }

    #[inline(always)]
    fn words(&self) -> [u64; 4] {
        zerocopy::transmute!(*self)
    }
}

/// One owner's account on one disk (see [`crate::ledger`]). It fills one cache line,
/// which moves as a whole between the CPUs of submissions and completions.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Account {
    /// The number of requests in flight, and the sum of their submission times.
    pub word: u64,
    /// Ages of the requests that ended, in ticks.
    pub done: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Bytes of the requests that ended.
    pub bytes: u64,
    /// The fields of its owner, as in [`OwnerKey`]; zeros while it is free.
    pub cgroup: u64,
    pub comm: [u8; COMM],
    /// The process that used the account last, as in `pid::here`. It is written without a
    /// lock: if several use the account at the same time, any of them is a right answer.
    pub tgid: u32,
    pub op: u16,
    pub kthread: u8,
    pub via: u8,
}

impl Account {
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// The first of the words that name its owner.
    const NAME: usize = core::mem::offset_of!(Self, cgroup) / 8;
}

/// All accounts of one disk.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct DiskLedger {
    pub accounts: [Account; ACCOUNTS],
    /// Accounts from this one on were never used. It is written without a lock: if one
    /// claim overwrites another, user space corrects it within a second.
    pub used: u64,
    /// A free account that is about to be claimed.
    pub candidate: u64,
    /// When the disk's last request was submitted, and when a request last completed, in
    /// ns.
    pub submitted_ns: u64,
    pub completed_ns: u64,
    /// Requests on this disk that found no slot, and so are in no account.
    pub unplaced: u64,
    /// 1 once a request on this disk was in a shared slot.
    pub shares: u64,
    /// Requests that found no slot and have not completed. While there are any, a
    /// completion without a slot is one of theirs, and was counted when it was submitted.
    /// As a signed number it may fall below 0 when two completions meet.
    pub outside: u64,
    /// When a sync last began to wait for this disk, in ns; written once a second at most, so
    /// that a CPU that only reads this cache line keeps it.
    pub synced_ns: u64,
}

/// One block request in flight, in a slot that [`crate::places`] finds.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct InFlight {
    /// The request's address; 0 when the slot is free. For the moment in which two
    /// CPUs claim one slot, the sum of both addresses.
    pub request: u64,
    /// When it was submitted, in ns; 0 while the slot is free, or is being filled.
    pub submitted_ns: u64,
    /// When it was issued, in ns; 0 while it is queued, and where the time that the kernel
    /// itself notes is used at its completion.
    pub issued_ns: u64,
    pub bytes: u32,
    /// Index of its account: disk · [`ACCOUNTS`] + account.
    pub account: u32,
    /// The thread whose sync waits for it, or 0.
    pub sync_tid: u32,
    /// The number of the sync, among that thread's.
    pub sync_seq: u32,
    /// A code of [`op`].
    pub op: u16,
    /// Index of its disk.
    pub disk: u16,
    /// Why it may wait while the driver has no request, although no scheduler holds it:
    /// bits of [`waits`].
    pub may_wait: u32,
    /// 1 for a slot that several requests may claim at once.
    pub is_shared: u32,
    /// Fills the struct up to a whole cache line.
    pub spare: [u32; 3],
}

/// Why a request may wait while its driver has nothing in flight by the kernel's count.
pub mod waits {
    /// It waits for a flush, which the kernel does not count as in flight.
    pub const FLUSH: u32 = 1;
    /// It was requeued.
    pub const REQUEUED: u32 = 2;
}

/// A disk's description, which user space writes for the kernel programs.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
#[repr(C)]
pub struct Disk {
    /// Its index in the ledger and the histograms.
    pub index: u32,
    /// Its first own slot in the table of requests in flight.
    pub base: u32,
    /// Hardware queues that have slots of their own; 0 where the disk has none.
    pub queues: u32,
    /// Own slots per hardware queue; the last one is the flush machinery's.
    /// [`Disk::CARRIES`] and [`Disk::ON_CARRIER`] for disks that have no requests.
    pub depth: u32,
    /// Indices of the other disks that a sync on this one waits for, without
    /// gaps; [`NO_DISK`] for none.
    pub underlying: [u32; UNDERLYING],
}

impl Disk {
    /// The depth of a carrying disk (dm-crypt, dm-thin, most arrays): kernel threads
    /// submit the requests that serve it, so its bios stand for its requests.
    pub const CARRIES: u32 = u32::MAX;

    /// The depth of a disk whose bios become bios of a carrying disk, in the submitter's
    /// thread. All other fields are those of the carrying disk.
    pub const ON_CARRIER: u32 = u32::MAX - 1;
}

/// The state of one journal (jbd2).
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Journal {
    /// When the commit under way began, in ns; 0 when none is.
    pub since_ns: u64,
    /// Nanoseconds spent in commits that ended.
    pub busy_ns: u64,
    pub commits: u64,
    /// The queue and device times of those commits' requests, as parts of the span in which
    /// the requests overlapped.
    pub queue_ns: u64,
    pub device_ns: u64,
    /// The part of the commit under way, a code of [`commit`]; `COUNT` for none
    /// that is known.
    pub stage: u64,
    /// When that part began, in ns.
    pub stage_since_ns: u64,
    /// Nanoseconds spent in parts that ended, by the codes of [`commit`].
    pub stage_ns: [u64; commit::COUNT],
    /// While the commit under way waits for handles: when the last of them ended, or when the
    /// wait began.
    pub handle_ended_ns: u64,
}

/// The fields of a [`SyncRecord`], each once for the kernel programs, the decoder
/// and recordings; only its last one, the accounts, is not in here. Lengths in
/// ns, times in kernel monotonic ns.
///
/// Calls the macro `$with`, with `name: type as form` for each. The form says how a
/// recording writes it: as a `number`, a `length` of time or several `lengths`; as a
/// `disk`, a `kind`, a `flag` or a `comm` if the integer stands for one. A `hidden` field
/// is not written, because accounts and files are written by what they stand for. What
/// follows the form is passed to serde.
#[macro_export]
macro_rules! sync_record_fields {
    ($with:ident) => {
        $with! {
            begin_ns: u64 as number;
            duration_ns: u64 as length;
            /// The time for which its thread ran on a CPU (`sum_exec_runtime`,
            /// `exec_start`).
            cpu_ns: u64 as length;
            /// The time for which its thread was runnable and did not run
            /// (`sched_info.run_delay`).
            runqueue_ns: u64 as length;
            /// The sum of the queue times of its own requests.
            own_queue_ns: u64 as length;
            /// The sum of the device times of its own requests.
            own_device_ns: u64 as length;
            /// The time from the first submission to the last completion of its own
            /// requests.
            own_span_ns: u64 as length;
            /// The time for which a journal commit of its filesystem was under way.
            journal_ns: u64 as length;
            /// The part in which the commits' requests were queued; in `journal_device_ns`
            /// they were at the device. Both are known at the end of a commit, so they may
            /// exceed `journal_ns`.
            journal_queue_ns: u64 as length;
            journal_device_ns: u64 as length;
            /// `journal_ns` by the stages of the commits, with the codes of
            /// `commit`.
            journal_stage_ns: [u64; $crate::record::commit::COUNT] as lengths;
            /// The time for which its own bios waited to become requests: tags, writeback
            /// throttling, iocost.
            throttle_ns: u64 as length;
            /// The time in which it reclaimed memory itself, or read back pages that had
            /// been evicted.
            reclaim_ns: u64 as length;
            /// Bytes of its own requests that completed, without reads.
            own_bytes: u64 as number, serde(default);
            /// The number of the caller's cgroup (see `cgroup`).
            cgroup: u64 as number;
            /// Inode number, or 0 where no file was seen.
            inode: u64 as number;
            /// The generation of the inode (`i_generation`). A file that gets the inode
            /// number of a deleted file has another generation. 0 where the filesystem
            /// keeps none.
            generation: u32 as hidden, serde(skip);
            /// The id of the filesystem's backing device (`s_bdi->id`), lower half. The
            /// kernel never uses an id again: a disk has one of its own, and so has each
            /// mount of btrfs, NFS or FUSE. Filesystems in memory share one.
            backing: u32 as hidden, serde(skip);
            /// The filesystem's device as the kernel numbers it (major << 20 | minor).
            device: u32 as number;
            /// Index of the disk below, or `NO_DISK`.
            disk: u32 as disk;
            /// The process and the thread, both as in `pid::here`.
            tgid: u32 as number;
            tid: u32 as number;
            /// A code of `kind`.
            kind: u32 as kind;
            /// The descriptor for a system call that names one, else -1.
            fd: i32 as number;
            /// Its own requests that completed.
            own_requests: u32 as number;
            /// 1 for a kernel thread.
            kthread: u8 as flag;
            /// 1 if its first disk is a carrying one. The disks below do the same work once
            /// more.
            carried: u8 as flag, serde(default);
            /// The number of accounts at the end of the list that were never used, and mean
            /// nothing.
            unused: u16 as hidden, serde(skip);
            /// The name of the process (its group leader's), NUL-padded.
            comm: [u8; $crate::record::COMM] as comm;
        }
    };
}

macro_rules! define {
    ($($(#[$doc:meta])* $name:ident: $type:ty as $form:ident $(, $serde:meta)?;)+) => {
        /// One sync, from begin to end: [`sync_record_fields`](crate::sync_record_fields).
        #[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
        #[repr(C)]
        pub struct SyncRecord {
            $($(#[$doc])* pub $name: $type,)+
            /// See [`SyncRecord::integrals`].
            pub integrals: [u64; ACCOUNTS],
        }
    };
}

sync_record_fields!(define);

impl SyncRecord {
    /// The in-flight integrals of the disk's accounts between begin and end, in ticks.
    /// Accounts beyond the end of the slice have 0.
    pub fn integrals(&self) -> &[u64] {
        &self.integrals[..ACCOUNTS.saturating_sub(usize::from(self.unused))]
    }
}

/// The requests in flight on a further disk during one sync.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct UnderlyingWindow {
    /// Index of the disk, or [`NO_DISK`]: then nothing follows.
    pub disk: u64,
    pub integrals: [u64; ACCOUNTS],
}

/// A sync that waited for more than one disk.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct StackedRecord {
    pub sync: SyncRecord,
    pub underlying: [UnderlyingWindow; UNDERLYING],
}

/// A request counts as alone only if its disk had been idle for this long before:
/// behind a limit on requests per second, one that comes right after another waits
/// for the limit although nobody is beside it. Flushes are exempt, because each
/// follows its own write.
pub const RESTED_NS: u64 = 1_000_000;

/// Device times of requests that were alone on their disk, by disk, operation and [`size`]
/// class.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Solo {
    pub requests: u64,
    pub ns: u64,
}

/// The amount that one owner put into one filesystem's log, and how long it held up commits.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Handles {
    pub handles: u64,
    /// Metadata blocks that they dirtied; on xfs, the bytes of the log that they took.
    pub blocks: u64,
    /// The time for which commits waited for them to end: of each handle the time since the
    /// handle before it ended.
    pub held_ns: u64,
    /// The process that held up a commit last, as in [`Account`]; 0 for none.
    pub tgid: u64,
}

/// A request to user space to describe a disk that it has not described yet.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct DiskUnknown {
    pub device: u64,
    /// The kernel's name for it, for disks whose number no file says. The bytes may be
    /// anything.
    pub name: [u32; DISK_NAME_WORDS],
}

impl DiskUnknown {
    pub fn name(&self) -> [u8; 4 * DISK_NAME_WORDS] {
        let mut bytes = [0; 4 * DISK_NAME_WORDS];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(self.name) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// The kernel's own length of a disk's name, in words.
pub const DISK_NAME_WORDS: usize = 8;

/// Stands for a disk whose name is not known.
pub const NO_NAME: [u32; DISK_NAME_WORDS] = [0; DISK_NAME_WORDS];

// `OwnerKey::is_in` compares the words of a key with those of an account, all
// except the key's disk and the account's process.
const _: () = assert!(core::mem::offset_of!(Account, cgroup) == 32);
const _: () = assert!(core::mem::offset_of!(OwnerKey, disk) == 24);
const _: () = assert!(core::mem::offset_of!(Account, tgid) == 32 + 24);

// The border's layout: a change here changes the recording format too.
const _: () = assert!(size_of::<OwnerKey>() == 32);
const _: () = assert!(size_of::<Account>() == 64);
const _: () = assert!(size_of::<DiskLedger>() == (ACCOUNTS + 1) * 64);
const _: () = assert!(size_of::<InFlight>() == 64);
const _: () = assert!(size_of::<Disk>() == 28);
const _: () = assert!(size_of::<Handles>() == 32);
const _: () = assert!(size_of::<Solo>() == 16);
const _: () = assert!(size_of::<Journal>() == 88);
const _: () = assert!(size_of::<ContenderKey>() == 32);
const _: () = assert!(size_of::<Reclaimed>() == 24);
const _: () = assert!(size_of::<Frozen>() == 56);
const _: () = assert!(size_of::<PauseKey>() == 32);
const _: () = assert!(size_of::<Paused>() == 32);
const _: () = assert!(size_of::<SyncRecord>() == 712);
const _: () = assert!(core::mem::offset_of!(SyncRecord, integrals) == 200);
const _: () = assert!(size_of::<StackedRecord>() == 712 + UNDERLYING * 520);
