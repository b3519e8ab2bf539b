//! The ladder: for each capability the ways to it, in order.
//!
//! Pure data, and the words in which its outcome is told. `load` climbs it.

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

/// One way to a capability.
pub struct Rung {
    pub name: &'static str,
    pub steps: &'static [Step],
}

/// One program of a rung.
pub struct Step {
    pub program: Program,
    /// Whether the rung fails without it.
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
    /// The ways to it, the best first.
    pub const fn rungs(self) -> &'static [Rung] {
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

const COMPLETE: &[Rung] = &[Rung {
    name: "tp",
    steps: &[
        step(Program::BlockRqComplete),
        step(Program::BlockRqRequeue),
        step(Program::BlockRqMerge),
    ],
}];

const ISSUE: &[Rung] = &[Rung { name: "tp", steps: &[on_demand(step(Program::BlockRqIssue))] }];

const SUBMIT: &[Rung] = &[
    Rung { name: "tp", steps: &[step(Program::BlockIoStart)] },
    Rung { name: "fentry", steps: &[step(Program::BlkAccountIoStart)] },
    // The bio tells who submits; the request is met at insert or issue.
    Rung { name: "getrq", steps: &[step(Program::BlockGetrq), step(Program::BlockRqInsert)] },
    // With the issue as its understudy, where no scheduler is in charge.
    Rung { name: "insert", steps: &[step(Program::BlockRqInsert)] },
];

const SYNC: &[Rung] = &[
    Rung {
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
    Rung {
        name: "tp",
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
    Rung {
        name: "vfs",
        steps: &[
            step(Program::VfsRangeExit),
            step(Program::VfsOnlyEntry),
            optional(step(Program::WriteFileEntry)),
            optional(step(Program::WritePagesEntry)),
        ],
    },
];

const JOURNAL: &[Rung] = &[Rung {
    name: "tp",
    steps: &[
        step(Program::Jbd2EndCommit),
        optional(step(Program::Jbd2CommitLogging)),
        optional(step(Program::Jbd2CommitFlushing)),
        optional(step(Program::Jbd2CommitLocking)),
        step(Program::Jbd2StartCommit),
    ],
}];

const LOG: &[Rung] = &[Rung { name: "tp", steps: &[step(Program::XfsLogForce)] }];

const THROTTLE: &[Rung] = &[Rung { name: "tp", steps: &[on_demand(step(Program::BlockBioQueue))] }];

const RECLAIM: &[Rung] = &[Rung {
    name: "tp",
    steps: &[
        step(Program::DirectReclaimEnd),
        step(Program::DirectReclaimBegin),
        optional(step(Program::MemcgReclaimEnd)),
        optional(step(Program::MemcgReclaimBegin)),
    ],
}];

const CONTENDER: &[Rung] = &[Rung { name: "tp", steps: &[on_demand(step(Program::SchedSwitch))] }];

const WRITEBACK: &[Rung] = &[Rung {
    name: "tp",
    steps: &[
        step(Program::WritebackSingleInode),
        step(Program::WritebackSingleInodeStart),
        step(Program::WritebackDirtyInodeEnqueue),
    ],
}];

const METADATA: &[Rung] = &[Rung {
    name: "tp",
    steps: &[
        on_demand(step(Program::Jbd2HandleStats)),
        optional(step(Program::Jbd2DataSubmitted)),
        optional(step(Program::Jbd2SubmitInodeData)),
    ],
}];

/// How one rung fared.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// It attached, and the self-test saw it fire.
    Taken,
    /// It attached; the self-test could not be made, for this reason.
    Unproven(String),
    /// A better rung serves, or the user asked for another.
    NotNeeded,
    /// This kernel does not have the hook.
    Absent(String),
    /// The kernel refused the program or the attachment.
    Refused(String),
    /// It attached, but did not see the tracer's own operation.
    Silent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => write!(f, "taken"),
            Self::Unproven(why) => write!(f, "taken, but unproven: {why}"),
            Self::NotNeeded => write!(f, "not needed"),
            Self::Absent(what) => write!(f, "absent: {what}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Silent(why) => write!(f, "silent: {why}"),
        }
    }
}

/// How a capability's ladder was climbed.
#[derive(Clone, Debug, Serialize)]
pub struct Climb {
    pub capability: Capability,
    pub purpose: &'static str,
    pub required: bool,
    pub without: &'static str,
    pub rungs: Vec<(&'static str, Outcome)>,
    /// Programs of the rung that serves, optional ones only where they are.
    pub attached: Vec<Program>,
    /// Of the rung that serves: the modules that its hooks lie in, and those
    /// that are missing without making it fail.
    pub notes: Vec<String>,
}

impl Climb {
    /// The rung that serves.
    pub fn taken(&self) -> Option<&'static str> {
        self.rungs
            .iter()
            .find(|(_, o)| matches!(o, Outcome::Taken | Outcome::Unproven(_)))
            .map(|(name, _)| *name)
    }
}

/// A rung that the user asked for, as `--hooks sync=tp`: it is tried first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forced {
    pub capability: Capability,
    /// Its name.
    pub rung: &'static str,
}

impl std::str::FromStr for Forced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (capability, rung) =
            text.split_once('=').ok_or("expected CAP=RUNG, such as sync=tp")?;
        let Some(capability) = Capability::find(capability) else {
            let names = Capability::ALL.map(Capability::name);
            return Err(format!("no such capability; there are {}", names.join(", ")));
        };
        let names: Vec<_> = capability.rungs().iter().map(|rung| rung.name).collect();
        let Some(rung) = names.iter().find(|name| **name == rung) else {
            return Err(format!("`{capability}` has the rungs {}", names.join(", ")));
        };
        Ok(Self { capability, rung })
    }
}
