//! Facts that stacked disks say of themselves.

use serde::{Deserialize, Serialize};

/// Something in the state of a stacked disk that slows down or holds up whoever waits for
/// it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StackFact {
    /// The disk that says so, such as `md0` or `dm-3`.
    pub disk: String,
    /// Its name in device mapper; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(flatten)]
    pub state: StackState,
}

/// The state of a stacked disk, with its numbers. Shares are parts of a whole, from 0 to 1.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StackState {
    /// An array lacks members.
    Degraded { missing: u64, members: u64 },
    /// An array is being checked, repaired or rebuilt.
    Syncing { action: SyncAction, done: f64, bytes_per_second: u64 },
    /// An array takes no writes; the kernel's word for it.
    Array { word: String },
    /// All that is given to a mapped disk waits until somebody resumes it.
    Suspended,
    /// A thin pool that has no more room, or takes no writes.
    Pool { mode: PoolMode, data_share: f64, metadata_share: f64 },
    /// A snapshot has no more room for what changes, or is no good any more.
    Snapshot { valid: bool, used_share: f64 },
}

/// The work of an array on itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncAction {
    /// It compares its members.
    Check,
    /// It compares them, and corrects what differs.
    Repair,
    /// It brings them together after a crash.
    Resync,
    /// It fills a new member.
    Recover,
    /// It changes its layout.
    Reshape,
}

impl SyncAction {
    pub const ALL: [Self; 5] =
        [Self::Check, Self::Repair, Self::Resync, Self::Recover, Self::Reshape];

    /// The kernel's word for it, in `md/sync_action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Repair => "repair",
            Self::Resync => "resync",
            Self::Recover => "recover",
            Self::Reshape => "reshape",
        }
    }
}

/// Whether a thin pool takes writes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// It does, while there is room.
    Write,
    /// Writes that need room wait, or fail.
    OutOfDataSpace,
    ReadOnly,
    /// It takes nothing at all.
    Failed,
}

impl StackFact {
    /// Every name in it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let word = match &self.state {
            StackState::Array { word } => word.as_str(),
            _ => "",
        };
        [self.disk.as_str(), self.name.as_str(), word].into_iter()
    }

    /// Every share in it.
    pub fn shares(&self) -> impl Iterator<Item = f64> {
        let shares = match self.state {
            StackState::Syncing { done, .. } => [done, 0.0],
            StackState::Pool { data_share, metadata_share, .. } => [data_share, metadata_share],
            StackState::Snapshot { used_share, .. } => [used_share, 0.0],
            StackState::Degraded { .. } | StackState::Array { .. } | StackState::Suspended => {
                [0.0, 0.0]
            }
        };
        shares.into_iter()
    }
}
