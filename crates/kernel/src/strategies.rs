//! The attach strategies of each capability, in the order in which they are tried.
//!
//! Pure data, and the words for each outcome. `load` selects one for each capability.

use std::fmt;

use serde::Serialize;

use crate::{capability::Capability, program::Program};

/// When a program is at work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attach {
    /// As long as the tracer runs.
    Always,
    /// Loaded at the start, and attached while there is something to see: what
    /// runs so often that it would cost too much.
    OnDemand,
}

/// A set of programs that together provide a capability.
pub struct Strategy {
    pub name: &'static str,
    pub steps: &'static [Step],
}

/// One program of a strategy.
pub struct Step {
    pub program: Program,
    /// Whether the strategy fails without it.
    pub required: bool,
    pub attach: Attach,
}

const fn step(program: Program) -> Step {
    Step { program, required: true, attach: Attach::Always }
}

const fn optional(step: Step) -> Step {
    Step { required: false, ..step }
}

const fn on_demand(step: Step) -> Step {
    Step { attach: Attach::OnDemand, ..step }
}

impl Capability {
    /// Its attach strategies, the best first.
    pub const fn strategies(self) -> &'static [Strategy] {
        match self {
            Self::Complete => COMPLETE,
            Self::Issue => ISSUE,
            Self::Submit => SUBMIT,
            Self::Sync => SYNC,
            Self::Journal => JOURNAL,
            Self::Log => LOG,
            Self::Throttle => THROTTLE,
            Self::Reclaim => RECLAIM,
            Self::Contender => CONTENDER,
            Self::Writeback => WRITEBACK,
            Self::Metadata => METADATA,
        }
    }
}

const COMPLETE: &[Strategy] = &[Strategy {
    name: "tracepoint",
    steps: &[
        step(Program::BlockRqComplete),
        step(Program::BlockRqRequeue),
        step(Program::BlockRqMerge),
    ],
}];

const ISSUE: &[Strategy] =
    &[Strategy { name: "tracepoint", steps: &[on_demand(step(Program::BlockRqIssue))] }];

const SUBMIT: &[Strategy] = &[
    Strategy { name: "tracepoint", steps: &[step(Program::BlockIoStart)] },
    Strategy { name: "fentry", steps: &[step(Program::BlkAccountIoStart)] },
    // The bio tells who submits; the request is met at insert or issue.
    Strategy { name: "getrq", steps: &[step(Program::BlockGetrq), step(Program::BlockRqInsert)] },
    // Where no scheduler is in charge, the issue stands in for it.
    Strategy { name: "insert", steps: &[step(Program::BlockRqInsert)] },
];

const SYNC: &[Strategy] = &[
    Strategy {
        name: "fentry",
        steps: &[
            step(Program::FsyncExit),
            step(Program::FsyncEntry),
            step(Program::FdatasyncExit),
            step(Program::FdatasyncEntry),
            step(Program::MsyncExit),
            step(Program::MsyncEntry),
            step(Program::SyncFileRangeExit),
            step(Program::SyncFileRangeEntry),
            step(Program::SyncfsExit),
            step(Program::SyncfsEntry),
            optional(step(Program::SyncExit)),
            optional(step(Program::SyncEntry)),
            optional(step(Program::VfsRangeExit)),
            optional(step(Program::VfsRangeEntry)),
            optional(step(Program::VfsExit)),
            optional(step(Program::VfsEntry)),
            optional(step(Program::WriteFileEntry)),
            optional(step(Program::WritePagesEntry)),
            optional(step(Program::SyncInodesEntry)),
        ],
    },
    Strategy {
        name: "tracepoint",
        // Those on demand are at work where ext4 is not alone.
        steps: &[
            on_demand(step(Program::SysExit)),
            on_demand(step(Program::SysEnter)),
            on_demand(optional(step(Program::Ext4Writepages))),
            // They tell of begins alone.
            on_demand(optional(step(Program::XfsFileFsync))),
            on_demand(optional(step(Program::BtrfsSyncFile))),
            optional(step(Program::Ext4SyncFileExit)),
            optional(step(Program::Ext4SyncFileEnter)),
            optional(step(Program::Ext4SyncFs)),
        ],
    },
    Strategy {
        name: "vfs",
        steps: &[
            step(Program::VfsRangeExit),
            step(Program::VfsOnlyEntry),
            optional(step(Program::WriteFileEntry)),
            optional(step(Program::WritePagesEntry)),
        ],
    },
];

const JOURNAL: &[Strategy] = &[Strategy {
    name: "tracepoint",
    steps: &[
        step(Program::Jbd2EndCommit),
        optional(step(Program::Jbd2CommitLogging)),
        optional(step(Program::Jbd2CommitFlushing)),
        optional(step(Program::Jbd2CommitLocking)),
        step(Program::Jbd2StartCommit),
    ],
}];

const LOG: &[Strategy] = &[Strategy { name: "tracepoint", steps: &[step(Program::XfsLogForce)] }];

const THROTTLE: &[Strategy] =
    &[Strategy { name: "tracepoint", steps: &[on_demand(step(Program::BlockBioQueue))] }];

const RECLAIM: &[Strategy] = &[Strategy {
    name: "tracepoint",
    steps: &[
        step(Program::DirectReclaimEnd),
        step(Program::DirectReclaimBegin),
        optional(step(Program::MemcgReclaimEnd)),
        optional(step(Program::MemcgReclaimBegin)),
    ],
}];

const CONTENDER: &[Strategy] =
    &[Strategy { name: "tracepoint", steps: &[on_demand(step(Program::SchedSwitch))] }];

const WRITEBACK: &[Strategy] = &[Strategy {
    name: "tracepoint",
    steps: &[
        step(Program::WritebackSingleInode),
        step(Program::WritebackSingleInodeStart),
        step(Program::WritebackDirtyInodeEnqueue),
    ],
}];

const METADATA: &[Strategy] = &[Strategy {
    name: "tracepoint",
    steps: &[
        on_demand(step(Program::Jbd2HandleStats)),
        optional(step(Program::Jbd2DataSubmitted)),
        optional(step(Program::Jbd2SubmitInodeData)),
    ],
}];

/// What became of one strategy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// It attached, and the self-test saw it fire.
    Selected,
    /// It attached; the self-test could not be made, for this reason.
    Untested(String),
    /// One before it was selected.
    NotNeeded,
    /// This kernel does not have the hook.
    Unsupported(String),
    /// The kernel refused the program or the attachment.
    Refused(String),
    /// It attached, but did not see the tracer's own operation.
    Silent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected => write!(f, "selected"),
            Self::Untested(why) => write!(f, "selected, but not tested: {why}"),
            Self::NotNeeded => write!(f, "not needed"),
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Silent(why) => write!(f, "silent: {why}"),
        }
    }
}

/// The strategy that was selected for a capability, and what became of each.
#[derive(Clone, Debug, Serialize)]
pub struct Selection {
    pub capability: Capability,
    pub purpose: &'static str,
    pub required: bool,
    pub without: &'static str,
    pub strategies: Vec<(&'static str, Outcome)>,
    /// Programs of the selected strategy, optional ones only where they are attached.
    pub attached: Vec<Program>,
    /// For the selected strategy: the modules that its hooks lie in, and those
    /// that are missing without making it fail.
    pub notes: Vec<String>,
}

impl Selection {
    /// The strategy that provides the capability.
    pub fn selected(&self) -> Option<&'static str> {
        self.strategies
            .iter()
            .find(|(_, o)| matches!(o, Outcome::Selected | Outcome::Untested(_)))
            .map(|(name, _)| *name)
    }
}

/// A strategy that the user asked for, as `--strategy sync=tracepoint`: it is tried
/// first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forced {
    pub capability: Capability,
    /// Its name.
    pub strategy: &'static str,
}

impl std::str::FromStr for Forced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (capability, strategy) =
            text.split_once('=').ok_or("expected CAPABILITY=STRATEGY, such as sync=tracepoint")?;
        let Some(capability) = Capability::find(capability) else {
            let names = Capability::ALL.map(Capability::name);
            return Err(format!("no such capability; there are {}", names.join(", ")));
        };
        let names: Vec<_> = capability.strategies().iter().map(|strategy| strategy.name).collect();
        let Some(strategy) = names.iter().find(|name| **name == strategy) else {
            return Err(format!("`{capability}` has the strategies {}", names.join(", ")));
        };
        Ok(Self { capability, strategy })
    }
}
