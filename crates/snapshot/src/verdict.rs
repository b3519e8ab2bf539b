//! The part of a snapshot that says who makes a victim slow, and how that is
//! known.

use serde::Serialize;

use super::{Actor, FileClass, Op, StackFact};

pub use tracer_engine::helper::{Held as HeldHelper, Role as HelperRole};
pub use tracer_engine::holders::{LimitedResource, StoppedBy};
pub use tracer_engine::kind::{Confidence, Kind, SlowerThan, Via};
pub use tracer_engine::stop::How as StopHow;
use tracer_engine::stop::is_mostly_seen;

/// The verdict on one victim: what is blamed, and what speaks for it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    pub kind: Kind,
    /// `null` if its syncs are not slow.
    pub slower_than: Option<SlowerThan>,
    pub confidence: Confidence,
    /// Why no more, or no less.
    pub confidence_reason: String,
    /// Seconds beyond its baseline, with those for a CPU: what there is to
    /// blame for. All shares are of these.
    pub excess_seconds: f64,
    /// The part of them outside its syncs: while its own CPU limit stopped it before or after
    /// them, which is an estimate, while it waited to write to a filesystem that was frozen, while
    /// the kernel paused its writes because too many pages were dirty, and while its process was
    /// stopped or at its limit on memory.
    pub outside_seconds: f64,
    /// The part of the time for which it waited to write to a filesystem that was frozen, and
    /// whether it does so now.
    pub frozen_share: f64,
    pub is_frozen: bool,
    /// The part of the time for which the kernel paused its writes because too many pages were
    /// dirty, and the time for which it did so because of what the victim dirtied itself.
    pub paused_share: f64,
    pub paused_by_itself_seconds: f64,
    /// That has most of the excess, and it is not known who froze the filesystem; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_frozen_by_unknown: bool,
    /// The reason for which its process was stopped most; absent if it was not for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The shares by kind of cause; they add up to 1, or are all 0.
    pub shares: Shares,
    /// The worst first.
    pub culprits: Vec<Culprit>,
    pub ruled_out: Vec<RuledOut>,
    /// Its own other syncs, by class of files, most sync time first.
    pub own_work: Vec<OwnWork>,
    /// The state of the device.
    pub device: DeviceState,
    /// The setting of a limit that held the victim itself back, and for which
    /// part of the time.
    pub limit: Option<String>,
    pub limit_share: f64,
    /// Facts that the disks of its stack say of themselves, if they are not well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFact>,
    /// Processes and threads of this node that it waits for, those most held up first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub helpers: Vec<HeldHelper>,
    /// The share of all CPU time that the hypervisor gave to others.
    pub steal_share: f64,
    /// The amount by which the machine's memory shrank (a balloon).
    pub memory_shrank_bytes: u64,
}

/// A process was stopped, by something that is not its own doing.
#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    pub how: StopHow,
    /// The process that traces it; 0 where nobody does.
    pub pid: u32,
    /// The file that freezes its cgroup or limits its memory, and that cgroup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// The limit on memory, and how much of it was used last.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub used_bytes: u64,
    /// For how long, and for which part of the time.
    pub seconds: f64,
    pub share: f64,
    /// The seconds in which threads were seen to be stopped. The others follow from what the kernel
    /// counts of the cgroup.
    pub seen_seconds: f64,
    /// Whether none of its threads can run now; at a limit on memory, whether one that syncs cannot.
    pub is_halted: bool,
}

impl Stop {
    /// Whether threads were seen to be stopped for most of that time.
    pub fn is_seen(&self) -> bool {
        is_mostly_seen(self.seen_seconds, self.seconds)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The shares of the excess by kind of cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    pub owners: f64,
    pub cpu: f64,
    pub memory: f64,
    pub limit: f64,
    /// The filesystem's own work on a CPU, inside the syncs.
    pub filesystem: f64,
    #[serde(rename = "self")]
    pub own: f64,
    pub device: f64,
    pub unexplained: f64,
}

impl Shares {
    pub const COUNT: usize = 8;

    /// Each with its name in metrics and JSON.
    pub fn named(&self) -> [(&'static str, f64); Self::COUNT] {
        let Self { owners, cpu, memory, limit, filesystem, own, device, unexplained } = *self;
        [
            ("owners", owners),
            ("cpu", cpu),
            ("memory", memory),
            ("limit", limit),
            ("filesystem", filesystem),
            ("self", own),
            ("device", device),
            ("unexplained", unexplained),
        ]
    }
}

/// Somebody who is blamed, with the evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Culprit {
    pub actor: Actor,
    /// The operation with which it does most harm.
    pub op: Op,
    pub via: Via,
    /// Its share of the excess.
    pub share: f64,
    pub wait_seconds: f64,
    pub evidence: Evidence,
    pub confidence: Confidence,
    /// The caller who had its data written just then; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// A kernel thread discards the space that it freed, because the filesystem is mounted with
    /// `discard`; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub frees: bool,
    /// The limit that stops it while it has a handle of the journal open; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<StoppedBy>,
}

/// A call that had a culprit's data written while the victim waited, because it syncs a whole
/// filesystem: `sync`, `syncfs`, `umount`, `freeze` or, for any other, `filesystem_sync`. Its caller
/// has no share of the excess.
#[derive(Clone, Debug, Serialize)]
pub struct Trigger {
    pub actor: Actor,
    pub call: &'static str,
    /// When it began, in Unix seconds.
    pub at: f64,
    /// How long it took, or has taken so far.
    pub seconds: f64,
}

/// How the victim's syncs were with somebody's work on their path, and without.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Evidence {
    pub with_n: u64,
    pub without_n: u64,
    pub with_p50_seconds: f64,
    pub with_p99_seconds: f64,
    pub without_p50_seconds: f64,
    pub without_p99_seconds: f64,
    /// With, divided by without; `None` where one of them has no sync.
    pub lift_p50: Option<f64>,
    pub lift_p99: Option<f64>,
    pub change: Option<Change>,
}

/// The victim's mean sync around a start or a stop.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    /// Else it stopped.
    pub started: bool,
    pub seconds_ago: u32,
    pub before_seconds: f64,
    pub after_seconds: f64,
}

/// Somebody who was there, and is not to blame.
#[derive(Clone, Debug, Serialize)]
pub struct RuledOut {
    pub actor: Actor,
    pub op: Op,
    pub share: f64,
    pub evidence: Evidence,
    pub reason: String,
}

/// Other syncs of a victim's own process.
#[derive(Clone, Debug, Serialize)]
pub struct OwnWork {
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    pub syncs: u64,
    pub sync_seconds: f64,
}

/// The victim's device, now and in its own history.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DeviceState {
    /// Mean wait per sync, now.
    pub wait_seconds: f64,
    /// p50 of the waits with nobody else on the disk, of all that was watched.
    pub undisturbed_wait_seconds: Option<f64>,
    /// Mean competing requests in flight during the victim's syncs.
    pub competing_in_flight: f64,
    /// The time of the disk's requests as a multiple of the time in its reference, where
    /// only the reference says how the disk was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_times: Option<f64>,
    /// When that reference was last seen to hold, in Unix seconds, where an earlier
    /// run kept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_at: Option<f64>,
    /// The part of the disk's requests, in the last minute or so, that are in no
    /// owner's counts.
    pub uncounted_share: f64,
}
