//! The values of a verdict: the kind of cause, the place where the victim waited
//! for it, and the confidence. Metrics, JSON and text take their names from here.

use serde::{Deserialize, Serialize};

/// The main cause of a victim's slow syncs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing was slower than the victim's own baseline.
    #[default]
    None,
    /// Too few syncs to say.
    Unknown,
    /// Others on its disk or in its journal.
    Owners,
    /// It waited for a CPU.
    Cpu,
    /// It reclaimed memory, or read back what had been evicted.
    Memory,
    /// A limit that is set on itself.
    Limit,
    /// The filesystem's own work on a CPU, inside the sync.
    Filesystem,
    /// Its own other requests.
    #[serde(rename = "self")]
    Own,
    /// The device, or what is below it: nobody on this node competed, or those who
    /// did asked for no more than before.
    Device,
    /// Its files are not on a disk of this kernel, but on a FUSE process, a server
    /// or in memory.
    Unseen,
    /// None of these: locks, or what this kernel does not show.
    Unexplained,
    /// A neighbour asks for more, and it is not known whether that or a slower device
    /// is the cause.
    Undecided,
}

impl Kind {
    /// In the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::None,
        Self::Unknown,
        Self::Owners,
        Self::Cpu,
        Self::Memory,
        Self::Limit,
        Self::Filesystem,
        Self::Own,
        Self::Device,
        Self::Unseen,
        Self::Unexplained,
        Self::Undecided,
    ];

    /// Its name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "unknown",
            Self::Owners => "owners",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Limit => "limit",
            Self::Filesystem => "filesystem",
            Self::Own => "self",
            Self::Device => "device",
            Self::Unseen => "unseen",
            Self::Unexplained => "unexplained",
            Self::Undecided => "undecided",
        }
    }
}

/// The reason to call syncs slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum SlowerThan {
    /// They were quicker while the victim was well.
    #[serde(rename = "before")]
    Before,
    /// They take longer than the 10 ms that etcd asks of a disk for its WAL, for as long
    /// as the victim has been watched. Nobody has seen it quicker, so nobody is blamed for
    /// sure.
    #[serde(rename = "10ms")]
    Guidance,
}

/// The place where the victim waited for its culprit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Queue,
    Device,
    Journal,
    Runqueue,
    Memory,
    /// Before its syncs, to write to a filesystem that is frozen.
    Freeze,
    /// Before its syncs, in a write that the kernel paused because too many pages were dirty.
    Pause,
    /// Outside its syncs, while it was stopped by the one who traces it.
    Trace,
    /// In the journal, whose commit waits for handles that are open.
    Handles,
}

#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    #[default]
    Low,
    Medium,
    High,
}

impl Confidence {
    /// Its name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
