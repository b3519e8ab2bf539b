//! The list of capabilities: all that the tracer observes.
//!
//! All that is said of one is in its folder below [`hooks`].

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    hook::{Hook, Strategy},
    hooks,
};

/// Something that the tracer observes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Capability {
    /// Completions of block requests.
    Complete,
    /// Issues of block requests to their drivers.
    Issue,
    /// Submissions of block requests, in the submitter's context.
    Submit,
    /// Syncs, from begin to end.
    Sync,
    /// Commits of journals (jbd2).
    Journal,
    /// Log forces of xfs.
    Log,
    /// Bios that wait to become requests.
    Throttle,
    /// Direct reclaim.
    Reclaim,
    /// Tasks that run while a sync waits for a CPU.
    Contender,
    /// Owners of the data that kernel workers write back.
    Writeback,
    /// Owners of data of files that were dirty before.
    Dirtied,
    /// Owners of the blocks that are put into a journal (jbd2).
    Metadata,
    /// Bios of disks whose requests kernel threads submit.
    Bio,
    /// Owners of what is put into the log of an xfs.
    Tickets,
    /// Filesystems that somebody freezes.
    Freeze,
    /// Writers at the limit on dirty pages.
    Writers,
}

impl Capability {
    /// In the order in which they are attached: completions before submissions,
    /// so that no request is seen to be submitted and not to complete meanwhile.
    pub const ALL: [Self; 16] = [
        Self::Complete,
        Self::Issue,
        Self::Submit,
        Self::Sync,
        Self::Journal,
        Self::Log,
        Self::Throttle,
        Self::Reclaim,
        Self::Contender,
        Self::Writeback,
        Self::Dirtied,
        Self::Metadata,
        Self::Bio,
        Self::Tickets,
        Self::Freeze,
        Self::Writers,
    ];

    /// Its name in options and outputs.
    pub const fn name(self) -> &'static str {
        self.hook().name
    }

    /// Its use, for `doctor`.
    pub const fn purpose(self) -> &'static str {
        self.hook().purpose
    }

    /// Whether the tracer is of any use without it.
    pub const fn is_required(self) -> bool {
        self.hook().is_required
    }

    /// A sentence on what is unsupported without it.
    pub const fn without(self) -> &'static str {
        self.hook().without
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }

    /// Its attach strategies, the best first.
    pub const fn strategies(self) -> &'static [Strategy] {
        self.hook().strategies
    }

    /// All that is said of it.
    pub const fn hook(self) -> &'static Hook {
        match self {
            Self::Complete => &hooks::complete::HOOK,
            Self::Issue => &hooks::issue::HOOK,
            Self::Submit => &hooks::submit::HOOK,
            Self::Bio => &hooks::bio::HOOK,
            Self::Sync => &hooks::sync::HOOK,
            Self::Journal => &hooks::journal::HOOK,
            Self::Log => &hooks::log::HOOK,
            Self::Throttle => &hooks::throttle::HOOK,
            Self::Reclaim => &hooks::reclaim::HOOK,
            Self::Contender => &hooks::contender::HOOK,
            Self::Writeback => &hooks::writeback::HOOK,
            Self::Dirtied => &hooks::dirtied::HOOK,
            Self::Metadata => &hooks::metadata::HOOK,
            Self::Tickets => &hooks::tickets::HOOK,
            Self::Freeze => &hooks::freeze::HOOK,
            Self::Writers => &hooks::writers::HOOK,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
