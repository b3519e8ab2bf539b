//! The list of capabilities: all that the tracer observes.
//!
//! Each has its name, its purpose and what is unsupported without it here and
//! nowhere else. How it is provided, [`crate::strategies`] says.

use std::fmt;

use serde::{Serialize, Serializer};

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
    /// Owners of the blocks that are put into a journal (jbd2).
    Metadata,
}

/// All that is said of one capability.
struct About {
    name: &'static str,
    purpose: &'static str,
    is_required: bool,
    without: &'static str,
}

impl Capability {
    /// In the order in which they are attached: completions before submissions,
    /// so that no request is seen to be submitted and not to complete meanwhile.
    pub const ALL: [Self; 11] = [
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
        Self::Metadata,
    ];

    /// Its name in options and outputs.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// Its use, for `doctor`.
    pub const fn purpose(self) -> &'static str {
        self.about().purpose
    }

    /// Whether the tracer is of any use without it.
    pub const fn is_required(self) -> bool {
        self.about().is_required
    }

    /// A sentence on what is unsupported without it.
    pub const fn without(self) -> &'static str {
        self.about().without
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }

    const fn about(self) -> About {
        match self {
            Self::Complete => About {
                name: "complete",
                purpose: "when a block request ends",
                is_required: true,
                without: "block requests cannot be followed",
            },
            Self::Issue => About {
                name: "issue",
                purpose: "when a request is given to its driver (attached only where the kernel \
                          does not note it in the request, or a disk has a scheduler)",
                is_required: false,
                without: "where the kernel does not note when a request is given to its driver, \
                          waiting in the queue is shown as the device's time; where a disk has a \
                          scheduler, requests whose end was missed are in flight for a minute",
            },
            Self::Submit => About {
                name: "submit",
                purpose: "who submits a block request",
                is_required: true,
                without: "nobody can be named: block requests are not seen in their submitter's \
                          context",
            },
            Self::Sync => About {
                name: "sync",
                purpose: "each fsync and its kin, from begin to end",
                is_required: true,
                without: "syncs are not seen",
            },
            Self::Journal => About {
                name: "journal",
                purpose: "when a filesystem's journal commits (jbd2)",
                is_required: false,
                without: "time in the journal is shown as `other`",
            },
            Self::Log => About {
                name: "log",
                purpose: "when a sync on xfs begins to wait for the log",
                is_required: false,
                without: "waiting for the log of an xfs is shown as `other`",
            },
            Self::Throttle => About {
                name: "throttle",
                purpose: "when a bio begins to wait for a request (attached only where it matters)",
                is_required: false,
                without: "waiting for a request to be had is shown as `other`",
            },
            Self::Reclaim => About {
                name: "reclaim",
                purpose: "who reclaims memory itself",
                is_required: false,
                without: "reclaiming memory is shown as `cpu` and `other`, and nobody is named \
                          for it",
            },
            Self::Contender => About {
                name: "contender",
                purpose: "who runs while a sync waits for a CPU (attached only then)",
                is_required: false,
                without: "who runs while a sync waits for a CPU is not named",
            },
            Self::Writeback => About {
                name: "writeback",
                purpose: "whose data a kernel worker writes back",
                is_required: false,
                without: "data written back are charged to the kernel worker, not to who wrote \
                          them",
            },
            Self::Metadata => About {
                name: "metadata",
                purpose: "who fills a filesystem's journal (jbd2; attached only while commits \
                          are waited for)",
                is_required: false,
                without: "whose metadata and data a journal's commit writes is not known",
            },
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
