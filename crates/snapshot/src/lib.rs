//! The snapshot that every output shows: who waits, for what, and why.
//!
//! The session makes a [`Snapshot`] from the engine, the ledger and the
//! identities; `top`, the text and the JSON outputs read it and nothing else.
//! Names in it are as the kernel gave them: outputs escape
//! (`output::escape`). All times are seconds, all sizes bytes.
//!
//! The JSON form of this is a documented interface: fields are added, not
//! changed, within one `schema`.

#![forbid(unsafe_code)]

pub mod clock;
mod filtered;
mod frozen;
mod hanging;
pub mod labels;
mod stack;
mod verdict;
mod workload;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

pub use filtered::Filtered;
pub use frozen::Frozen;
pub use hanging::{Competitor, Hanging, HangingDisk};
pub use stack::{PoolMode, StackFact, StackState, SyncAction};
pub use tracer_engine::{
    phases::{ByPhase, Phase},
    victim::BASELINE_SYNCS,
};
pub use verdict::{
    Change, Confidence, Culprit, DeviceState, Evidence, HeldHelper, HelperRole, Kind,
    LimitedResource, OwnWork, RuledOut, Shares, SlowerThan, Stop, StopHow, StoppedBy, Trigger,
    Verdict, Via,
};
pub use workload::{Workload, WorkloadKind};

/// Version of the JSON form; `docs/renamed.md` says what was called otherwise in the
/// version before.
pub const SCHEMA: u32 = 2;

/// A snapshot of the node.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub schema: u32,
    /// When it was taken, in Unix seconds.
    pub at: f64,
    /// How far back the windowed numbers reach, in seconds.
    pub window_seconds: f64,
    /// How long the tracer has been watching, in seconds.
    pub watched_seconds: f64,
    pub kernel: Kernel,
    /// Says what a filter left out; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filtered>,
    /// When the newest of the disks' kept references was last seen to hold, in Unix
    /// seconds; absent where none was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_at: Option<f64>,
    /// The slowest first (by sync seconds per second).
    pub victims: Vec<Victim>,
    pub disks: Vec<Disk>,
    /// Syncs that began a second ago or longer and have not ended, the oldest first.
    pub hanging: Vec<Hanging>,
    /// Such syncs beyond the 16 oldest.
    pub hanging_left_out: usize,
    /// Processes that wait to write to a filesystem that is frozen, the longest wait first.
    pub frozen: Vec<Frozen>,
    pub dropped: DroppedCounts,
    pub cost: Cost,
    /// The tracer's own metrics, by their Prometheus names.
    pub metrics: BTreeMap<String, f64>,
}

/// The kernel's features in brief; `tracer doctor` lists all of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Kernel {
    pub release: String,
    /// Why it is not known whether the tracer's hooks fire: a sentence without its
    /// full stop. Absent where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
    /// Each capability and the attach strategy that is selected for it.
    pub strategies: Vec<(String, String)>,
    /// One sentence for each thing that is unsupported on this kernel.
    pub unsupported: Vec<String>,
}

/// An actor: a process (or a job of many), or a kernel thread by its role.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Actor {
    pub comm: String,
    /// The last process seen; 0 where none is known.
    pub tgid: u32,
    /// Path of its cgroup, `/` for the root; empty where unknown.
    pub cgroup: String,
    /// systemd unit, where the cgroup path names one.
    pub unit: Option<String>,
    pub kernel_thread: bool,
    /// Its workload, if the node knows one; absent for a bare process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
}

/// Kinds of files whose syncs mean something of their own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileClass {
    /// A write-ahead log: somebody's commit waits for it.
    Wal,
    /// A database file.
    Db,
    /// A snapshot being written.
    Snap,
    /// A whole filesystem (syncfs, sync).
    Filesystem,
    Other,
    /// Never resolved: no file was seen, or it was gone before we looked.
    Unknown,
}

impl FileClass {
    /// In the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Wal, Self::Db, Self::Snap, Self::Filesystem, Self::Other, Self::Unknown];

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Db => "db",
            Self::Snap => "snap",
            Self::Filesystem => "filesystem",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

/// A workload and a file (or class of files) that it syncs.
#[derive(Clone, Debug, Serialize)]
pub struct Victim {
    /// Stable while the tracer runs.
    pub id: u32,
    pub actor: Actor,
    #[serde(rename = "file_class")]
    pub class: FileClass,
    /// The file, or the directory of a class of files.
    pub path: String,
    /// Name of the filesystem's device, such as `loop0` or `vda1`.
    pub device: String,
    /// Index in [`Snapshot::disks`], where the disk is known.
    pub disk: Option<usize>,
    /// The disks below that one which its syncs wait for too; empty where it is none of a
    /// stack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks_below: Vec<String>,
    /// Since the tracer started.
    pub syncs_total: u64,
    /// In the window. From here on, a sync that has not ended counts as if it ended at
    /// the last tick.
    pub syncs: u64,
    pub syncs_per_second: f64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub max_seconds: f64,
    /// p99 of its syncs with no competitor on the disk, once enough were seen.
    pub undisturbed_p99_seconds: Option<f64>,
    /// Seconds of sync time in the window, by phase.
    pub phases: Phases,
    pub verdict: Verdict,
    /// The sums since the tracer started.
    pub total: Totals,
    /// Syncs in the window that ended, by `engine::sums::SYNC_BOUNDS_NS`; the last count
    /// is of those above the last bound. Not cumulative.
    pub sync_buckets: Vec<u64>,
    /// The window without its syncs that have not ended, where it has some: for sums over several
    /// windows, in which such a sync would be counted more than once.
    #[serde(skip)]
    pub countable: Option<Box<Countable>>,
    /// Syncs since the tracer started by etcd's own bounds (1 ms · 2^k); the
    /// last count is of those above the last bound. Not cumulative.
    pub wal_buckets: Vec<u64>,
}

/// A victim's syncs that ended within the window.
#[derive(Clone, Debug)]
pub struct Countable {
    pub phases: Phases,
    pub verdict: Verdict,
}

/// Sync time by phase, in seconds. The phases add up to the syncs' duration.
pub type Phases = ByPhase<f64>;

/// How a victim's excess was divided since the tracer started, in seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    pub excess_seconds: f64,
    /// With nobody else in flight: the device's part, and the unexplained part.
    pub device_alone_seconds: f64,
    /// Waited behind its own other requests.
    pub self_seconds: f64,
    /// Waited behind others' requests, the worst first; shares are of all excess.
    pub blame: Vec<Blame>,
}

/// A culprit's part in a victim's wait.
#[derive(Clone, Debug, Serialize)]
pub struct Blame {
    pub actor: Actor,
    pub op: Op,
    /// Seconds of the victim's wait since the start.
    pub seconds: f64,
    /// The share of the victim's excess.
    pub share: f64,
}

/// An activity that others wait for: classes of block operations, and
/// others beside them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Read,
    Write,
    Discard,
    WriteZeroes,
    Flush,
    /// A driver's own command that a process passes through, such as a query of SMART.
    PassThrough,
    /// It fills the filesystem's journal.
    Metadata,
    /// It runs on the CPU that another waits for.
    Cpu,
    /// It allocates memory that others must give back.
    Memory,
    /// It had the kernel drop its caches, which others then read back.
    DropCaches,
    /// It froze the filesystem, to which others then cannot write.
    Freeze,
    /// It dirtied pages until the limit on them was reached, and others' writes are paused.
    Dirty,
    /// It traced a process (ptrace), which was stopped meanwhile.
    Trace,
    /// It has handles of the filesystem's journal open, for which commits wait.
    Handles,
}

impl Op {
    /// All operations, in the order of the codes of `record::op`.
    pub const ALL: [Self; 14] = [
        Self::Read,
        Self::Write,
        Self::Discard,
        Self::WriteZeroes,
        Self::Flush,
        Self::PassThrough,
        Self::Metadata,
        Self::Cpu,
        Self::Memory,
        Self::DropCaches,
        Self::Freeze,
        Self::Dirty,
        Self::Trace,
        Self::Handles,
    ];

    /// The one that a code of `record::op` stands for; `None` for a code that this
    /// version does not know.
    pub fn of_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its name as outputs print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Discard => "discard",
            Self::WriteZeroes => "write_zeroes",
            Self::Flush => "flush",
            Self::PassThrough => "pass_through",
            Self::Metadata => "metadata",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::DropCaches => "drop_caches",
            Self::Freeze => "freeze",
            Self::Dirty => "dirty",
            Self::Trace => "trace",
            Self::Handles => "handles",
        }
    }
}

/// A disk and who uses it.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    pub name: String,
    /// The name by which people know it: a volume of LVM, a multipath's alias, a
    /// cloud's volume, a loop device's file, or model and serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// Its IO scheduler, such as `mq-deadline`; empty where unknown.
    pub scheduler: String,
    /// Requests in flight now, by the ledger.
    pub in_flight: u64,
    /// The busiest first (by mean requests in flight).
    pub owners: Vec<OwnerRow>,
    /// Per operation, since the tracer started.
    pub latencies: Vec<Latency>,
    /// The time that requests take alone, as far as it was learnt.
    pub work: Vec<AloneTime>,
    /// When the reference that an earlier run kept of it was last seen to hold, in
    /// Unix seconds; absent where none was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_at: Option<f64>,
    /// The part of its requests, in the last minute or so, that are in no owner's
    /// counts: the tracer's table of requests in flight had no slot for them.
    pub uncounted_share: f64,
}

/// The time that a request of one class takes when it is alone on its disk.
#[derive(Clone, Debug, Serialize)]
pub struct AloneTime {
    pub op: Op,
    /// The largest requests of the class; `None` for those larger than all
    /// others.
    pub size_bytes_up_to: Option<u64>,
    /// A mean that forgets slowly.
    pub seconds: f64,
    /// Requests that were seen alone.
    pub samples: u64,
}

/// One owner's requests of one class on one disk, in the last second.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerRow {
    pub actor: Actor,
    pub op: Op,
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    /// Mean requests in flight.
    pub in_flight: f64,
    /// Since the tracer started.
    pub requests_total: u64,
    pub bytes_total: u64,
}

/// Block request latencies of one class on one disk, since the start.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub op: Op,
    pub count: u64,
    pub queue_p50_seconds: f64,
    pub queue_p99_seconds: f64,
    pub device_p50_seconds: f64,
    pub device_p99_seconds: f64,
    /// The bytes of all owners that have an account of their own.
    pub bytes_total: u64,
    pub queue: Spread,
    pub device: Spread,
}

/// Bounds of block latencies: powers of four around 1 ms, which all are edges
/// of the buckets that the kernel counts in.
pub const BLOCK_BOUNDS_NS: [u64; 11] = [
    15_625,
    62_500,
    250_000,
    1_000_000,
    4_000_000,
    16_000_000,
    64_000_000,
    256_000_000,
    1_024_000_000,
    4_096_000_000,
    16_384_000_000,
];

/// The distribution of requests' latencies since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Spread {
    /// Requests; those that are being served are in the queue's already.
    pub count: u64,
    /// Requests of at most each of [`BLOCK_BOUNDS_NS`].
    pub cumulative: Vec<u64>,
    /// All together, from the middles of the kernel's buckets: to 3 %.
    pub seconds: f64,
}

/// Everything that was dropped, unmatched, evicted, torn or unresolved: an object
/// with a count for each kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DroppedCounts {
    /// Name and count, in a fixed order; all are shown, zeros too.
    pub counters: Vec<(&'static str, u64)>,
}

impl Serialize for DroppedCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.counters.iter().copied())
    }
}

impl DroppedCounts {
    pub fn total(&self) -> u64 {
        self.counters.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }
}

/// The resources that the tracer itself used.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    pub user_cpu_seconds: f64,
    pub system_cpu_seconds: f64,
    pub resident_memory_bytes: u64,
    pub records: u64,
}

/// One slow sync, as `tracer watch` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct SlowSync {
    pub schema: u32,
    /// When it began, in Unix seconds.
    pub at: f64,
    pub actor: Actor,
    pub tid: u32,
    /// `fdatasync`, `fsync`, …
    pub kind: &'static str,
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    pub device: String,
    pub duration_seconds: f64,
    pub phases: Phases,
    /// The owners with requests in flight on the disk meanwhile, the worst first.
    pub owners: Vec<SyncOwner>,
    /// Everything that was dropped so far, added up.
    pub dropped_total: u64,
    /// As [`Kernel::unproven`] has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
}

/// An owner's part in one sync's window.
#[derive(Clone, Debug, Serialize)]
pub struct SyncOwner {
    pub actor: Actor,
    pub op: Op,
    /// Mean requests in flight while this sync waited.
    pub in_flight: f64,
    /// The share of all competitors' requests in flight; 0 for the sync's own effect.
    pub share: f64,
    /// Whether it is the victim itself, or its journal.
    pub own: bool,
}
