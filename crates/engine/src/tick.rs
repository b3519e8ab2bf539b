//! What the engine is told once a second beside the syncs: what went on around
//! them.
//!
//! Plain values, so that a recording holds them as well as a kernel gives them.

use serde::{Deserialize, Serialize};

use super::blame::OwnerId;

/// One second of the node, as differences since the tick before.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tick {
    /// Kernel monotonic time.
    pub at_ns: u64,
    /// What each owner put into the filesystems' journals.
    pub journals: Vec<JournalWork>,
    /// Who ran while syncing threads waited for that CPU.
    pub rivals: Vec<Rival>,
    /// Who reclaimed memory itself because it wanted some.
    pub reclaimers: Vec<Reclaimer>,
    /// Limits that held a cgroup back.
    pub limits: Vec<Limit>,
    /// CPU time that the hypervisor gave to others, over all CPUs.
    pub steal_ns: u64,
    pub cpus: u32,
    pub memory: Memory,
}

impl Tick {
    /// Everybody whom it speaks of.
    pub fn owners(&self) -> impl Iterator<Item = OwnerId> {
        let journals = self.journals.iter().map(|work| work.owner);
        let rivals = self.rivals.iter().map(|rival| rival.owner);
        journals.chain(rivals).chain(self.reclaimers.iter().map(|one| one.owner))
    }
}

/// One owner's part in a journal's transactions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JournalWork {
    /// The filesystem's device, as in a sync's record.
    pub device: u32,
    pub owner: OwnerId,
    /// Metadata blocks that it dirtied.
    pub blocks: u64,
}

/// Somebody who ran while a thread of a victim was runnable on the same CPU.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rival {
    /// The process that waited.
    pub victim_tgid: u32,
    pub owner: OwnerId,
    /// So long it waited behind this owner.
    pub ns: u64,
}

/// Somebody in direct reclaim.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reclaimer {
    pub owner: OwnerId,
    pub times: u64,
    pub ns: u64,
    /// Of `ns`, because a cgroup had reached its limit: then it took from those
    /// within that limit, and from nobody else.
    #[serde(default)]
    pub limit_ns: u64,
}

/// A limit that a cgroup ran into.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limit {
    /// The victim's cgroup (the limit may be an ancestor's).
    pub cgroup: u64,
    pub kind: LimitKind,
    /// So long it was held back, at most the tick's length.
    pub ns: u64,
    /// The file and its line, such as `io.max 7:0 wbps=1048576`.
    pub setting: String,
}

/// What a limit is on.
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
}
