//! The events that the engine learns of once a second, beside the syncs: what went on
//! around them.
//!
//! They are plain values, which come from a kernel or from a recording.

use serde::{Deserialize, Serialize};

use super::{blame::OwnerId, helper::Helper, reference::Grade, stop::Stop};

/// One second of the node, as differences since the tick before.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tick {
    /// Kernel monotonic time.
    pub at_ns: u64,
    /// The amounts that each owner put into the filesystems' journals.
    pub journals: Vec<JournalWork>,
    /// Owners that ran while syncing threads waited for that CPU.
    pub contenders: Vec<Contender>,
    /// Owners that reclaimed memory themselves, because they allocated some.
    pub reclaimers: Vec<Reclaimer>,
    /// Owners that had the kernel drop its caches, once for each drop. An owner with neither a
    /// name nor a cgroup stands for one that is not known, or not yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drops: Vec<OwnerId>,
    /// Owners of drops that were in an earlier tick's `drops` before they were known, the oldest
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_drops: Vec<OwnerId>,
    /// Filesystems that are frozen, or were in the last second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
    /// Owners that wrote near the limit on dirty pages to filesystems on which somebody syncs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// Whole filesystems that somebody has written now, or had in the last second, other than by
    /// `sync` and `syncfs`, which are records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole_syncs: Vec<WholeSync>,
    /// Processes of victims that were stopped in the last second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
    /// Limits that held a cgroup back.
    pub limits: Vec<Limit>,
    /// Processes and threads of this node that victims' syncs wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub helpers: Vec<Helper>,
    /// CPU time that the hypervisor gave to others, over all CPUs.
    pub steal_ns: u64,
    pub cpus: u32,
    pub memory: Memory,
    /// The disks that had requests.
    #[serde(default)]
    pub disks: Vec<DiskWork>,
}

impl Tick {
    /// All owners that it mentions.
    pub fn owners(&self) -> impl Iterator<Item = OwnerId> {
        let journals = self.journals.iter().map(|work| work.owner);
        let contenders = self.contenders.iter().map(|contender| contender.owner);
        let loads = self.disks.iter().flat_map(|disk| &disk.loads).map(|load| load.owner);
        let others = self.reclaimers.iter().map(|one| one.owner).chain(loads);
        let drops = self.drops.iter().chain(&self.late_drops).copied();
        let freezers = self.freezes.iter().map(|freeze| freeze.owner);
        let writers = self.pauses.iter().map(|pause| pause.owner);
        let freezers = freezers.filter(|owner| *owner != OwnerId::NOBODY);
        let callers = self.whole_syncs.iter().map(|sync| sync.owner);
        let tracers = self.stops.iter().map(|stop| stop.owner);
        let keepers = freezers.chain(writers).chain(tracers);
        let others = others.chain(drops).chain(keepers).chain(callers);
        journals.chain(contenders).chain(others)
    }
}

/// One disk's demand, and how well it did.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DiskWork {
    /// As records name it.
    pub disk: u32,
    /// The time since its tick before.
    pub length_ns: u64,
    /// Requests that were alone. Flushes are kept apart, because a flush may also have to
    /// write out the data of others.
    pub alone: Alone,
    pub flushes: Alone,
    /// The work that it completed, beside what it has shown.
    #[serde(default, skip_serializing_if = "Paced::is_unknown")]
    pub paced: Paced,
    pub loads: Vec<Load>,
}

/// One second of a disk beside what it has shown that it can complete ([`super::pace`]).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Paced {
    /// The work, requests or bytes completed, whichever is most, as a multiple of the most that
    /// was shown beside no more requests in flight. `None` while the disk is idle now and
    /// then, and where too little was shown.
    pub done: Option<f32>,
    /// Bytes written, as a multiple of what was written beside flushes that took their usual
    /// time.
    pub written: Option<f32>,
}

impl Paced {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another disk. Syncs wait for all of their disks, so the one counts that completes
    /// least.
    pub fn add(&mut self, more: &Self) {
        self.done = self.done.into_iter().chain(more.done).reduce(f32::min);
        self.written = self.written.into_iter().chain(more.written).reduce(f32::max);
    }
}

/// Requests that were alone on their disk.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alone {
    pub requests: u64,
    /// The time that they took, added up.
    pub ns: u64,
    /// The time that as many such requests take while the disk is well.
    pub reference_ns: u64,
    pub known: Grade,
}

impl Alone {
    pub fn add(&mut self, more: &Self) {
        // Only the classes that are known best count: a class that was first seen on a slow
        // disk would make that disk look as fast as ever.
        if more.requests == 0 || self.requests > 0 && more.known < self.known {
            return;
        }
        if more.known > self.known {
            *self = *more;
            return;
        }
        self.known = more.known;
        self.requests = self.requests.saturating_add(more.requests);
        self.ns = self.ns.saturating_add(more.ns);
        self.reference_ns = self.reference_ns.saturating_add(more.reference_ns);
    }
}

/// One owner's demand on a disk.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Load {
    pub owner: OwnerId,
    /// Requests that were submitted.
    pub submitted: u64,
    /// Requests that completed; `bytes` is their size, added up.
    pub completed: u64,
    pub bytes: u64,
    /// Whether its requests write to the disk.
    #[serde(default)]
    pub writes: bool,
    /// Whether its requests read from the disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
    /// Time-integral of its requests in flight.
    pub in_flight_ns: u64,
    /// The time that one such request takes alone while the disk is well.
    pub cost_ns: u32,
    /// Whether the cost is a guess, because no such request was ever seen alone on this
    /// disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guessed: bool,
}

/// One owner's part in the transactions of a filesystem's log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JournalWork {
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    pub owner: OwnerId,
    /// Metadata blocks that it dirtied; on xfs, the bytes of the log that it took. The two
    /// are never compared with each other: all amounts of one filesystem have one unit.
    pub blocks: u64,
    /// The time for which commits waited for its open handles (jbd2): of each handle the time
    /// since the handle before it ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_ns: u64,
}

/// An owner that ran while a thread of a victim was runnable on the same CPU.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Contender {
    /// The process that waited.
    pub victim_tgid: u32,
    pub owner: OwnerId,
    /// The time for which it waited behind this owner.
    pub ns: u64,
}

/// An owner that was in direct reclaim.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reclaimer {
    pub owner: OwnerId,
    pub times: u64,
    pub ns: u64,
    /// The part of `ns` for a cgroup that had reached its limit: it was taken from
    /// those within that limit, and from no others.
    #[serde(default)]
    pub limit_ns: u64,
}

/// A filesystem that is frozen, or was: nobody can write to it meanwhile.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Freeze {
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    /// The owner who froze it; nobody where that was not seen.
    pub owner: OwnerId,
    /// When it was frozen, and when it was thawed; that is 0 while it is frozen, as far as is
    /// known.
    pub since_ns: u64,
    #[serde(default)]
    pub until_ns: u64,
    /// Victims' processes of which a thread waits for the thaw at the time of the tick, as records
    /// name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<u32>,
}

/// A process that wrote near the limit on dirty pages, where the kernel pauses writes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pause {
    /// The device of a filesystem, as in a sync's record. The pages were dirtied on its backing
    /// device.
    pub device: u32,
    pub owner: OwnerId,
    /// The process, as records name it.
    pub tgid: u32,
    /// The pages that it dirtied meanwhile.
    pub pages: u64,
    /// The time for which its writes were paused; pauses of several threads add up.
    pub ns: u64,
    /// The part of `ns` at the limit of its own cgroup.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit_ns: u64,
}

/// Serde passes a reference.
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A filesystem that somebody has written as a whole, and with it what others left unwritten there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WholeSync {
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    /// Its disk, as records name it.
    pub disk: u32,
    /// The owner who asks for it.
    pub owner: OwnerId,
    pub call: WholeCall,
    pub since_ns: u64,
    /// When all data was written, or the time of the tick if it was not.
    pub until_ns: u64,
}

/// The reason why a whole filesystem is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WholeCall {
    /// It is unmounted, or an overlay whose upper layer is on it.
    Umount,
    Freeze,
    /// Another one, or that is not known.
    #[serde(other)]
    Other,
}

/// A limit that a cgroup ran into.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limit {
    /// The cgroup of a victim, or of somebody who holds up its journal (the limit may be an
    /// ancestor's).
    pub cgroup: u64,
    pub kind: LimitKind,
    /// The time for which it was held back, at most the tick's length.
    pub ns: u64,
    /// The number of times; 0 if that is not known.
    #[serde(default)]
    pub times: u64,
    /// The file and its line, such as `io.max 7:0 wbps=1048576`.
    pub setting: String,
    /// Whether it stops tasks inside the kernel too, with what they hold there: a limit on reads
    /// does, and on some kernels one on CPU time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_kernel: bool,
}

/// The resource that is limited.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    Cpu,
    Io,
}

/// The machine's memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Memory {
    /// Falls when a balloon takes some away.
    pub total_bytes: u64,
    pub available_bytes: u64,
    /// The page cache, with the blocks of devices; 0 where that is not known.
    #[serde(default)]
    pub cached_bytes: u64,
}
