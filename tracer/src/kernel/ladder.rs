//! The ladder: for each capability the ways to it, in order.
//!
//! Pure data, and the words in which its outcome is told. `load` climbs it.

use std::fmt;

use serde::Serialize;

/// Something that the tracer needs to see.
pub struct Capability {
    pub name: &'static str,
    /// What it is for, for `doctor`.
    pub purpose: &'static str,
    /// Whether the tracer is of any use without it.
    pub required: bool,
    /// What is blind without it, as a sentence.
    pub without: &'static str,
    pub rungs: &'static [Rung],
}

/// When a program is at work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attach {
    /// As long as the tracer runs.
    Always,
    /// Loaded at the start, and attached while there is something to see: what
    /// runs so often that it would cost too much.
    OnDemand,
}

/// One way to see it.
pub struct Rung {
    pub name: &'static str,
    pub steps: &'static [Step],
}

/// One program on one hook.
pub struct Step {
    /// Name of the program in the kernel object.
    pub program: &'static str,
    pub target: Target,
    /// Whether the rung fails without it.
    pub required: bool,
    pub attach: Attach,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A BTF tracepoint.
    Tracepoint(&'static str),
    /// Entry or exit of a function.
    Function(&'static str),
    /// Entry or exit of a system call's own function.
    SystemCall(&'static str),
}

/// Filesystems and their journal, which most distributions build as modules.
/// The names of their hooks begin with theirs.
pub const MODULES: [&str; 4] = ["btrfs", "ext4", "jbd2", "xfs"];

impl Target {
    /// The module that has this hook, where the kernel itself has not.
    pub fn module(&self) -> Option<&'static str> {
        let (Self::Tracepoint(name) | Self::Function(name)) = self else { return None };
        let (first, _) = name.split_once('_')?;
        MODULES.into_iter().find(|module| *module == first)
    }

    /// The kernel's name of the function, with the architecture's prefix.
    pub fn function_name(&self) -> String {
        match self {
            Self::Tracepoint(name) | Self::Function(name) => (*name).to_owned(),
            Self::SystemCall(name) if cfg!(target_arch = "aarch64") => {
                format!("__arm64_sys_{name}")
            }
            Self::SystemCall(name) => format!("__x64_sys_{name}"),
        }
    }
}

const fn tp(name: &'static str) -> Step {
    step(name, name)
}

/// A tracepoint whose program goes by a shorter name.
const fn step(program: &'static str, tracepoint: &'static str) -> Step {
    Step { program, target: Target::Tracepoint(tracepoint), required: true, attach: Attach::Always }
}

const fn optional(step: Step) -> Step {
    Step { required: false, ..step }
}

const fn on_demand(step: Step) -> Step {
    Step { attach: Attach::OnDemand, ..step }
}

const fn function(program: &'static str, name: &'static str) -> Step {
    Step { target: Target::Function(name), ..step(program, name) }
}

const fn system_call(program: &'static str, name: &'static str) -> Step {
    Step { target: Target::SystemCall(name), ..step(program, name) }
}

/// All capabilities, in the order in which they are attached: ends before
/// births, so that no request is born seen and ends unseen meanwhile.
pub const CAPABILITIES: &[Capability] = &[
    Capability {
        name: "block",
        purpose: "when a block request ends",
        required: true,
        without: "block requests cannot be followed",
        rungs: &[Rung {
            name: "tp",
            steps: &[tp("block_rq_complete"), tp("block_rq_requeue"), tp("block_rq_merge")],
        }],
    },
    Capability {
        name: "issue",
        purpose: "when a request is given to its driver (attached only where the kernel does not \
                  note it in the request, or a disk has a scheduler)",
        required: false,
        without: "where the kernel does not note when a request is given to its driver, waiting \
                  in the queue is shown as the device's time; where a disk has a scheduler, \
                  requests whose end was missed are in flight for a minute",
        rungs: &[Rung { name: "tp", steps: &[on_demand(tp("block_rq_issue"))] }],
    },
    Capability {
        name: "birth",
        purpose: "who submits a block request",
        required: true,
        without: "nobody can be named: block requests are not seen in their submitter's context",
        rungs: &[
            Rung { name: "tp", steps: &[tp("block_io_start")] },
            Rung {
                name: "fentry",
                steps: &[function("blk_account_io_start", "blk_account_io_start")],
            },
            // The bio tells who submits; the request is met at insert or issue.
            Rung { name: "getrq", steps: &[tp("block_getrq"), tp("block_rq_insert")] },
            // With the issue as its understudy, where no scheduler is in charge.
            Rung { name: "insert", steps: &[tp("block_rq_insert")] },
        ],
    },
    Capability {
        name: "sync",
        purpose: "each fsync and its kin, from begin to end",
        required: true,
        without: "syncs are not seen",
        rungs: &[
            Rung {
                name: "fentry",
                steps: &[
                    system_call("fsync_exit", "fsync"),
                    system_call("fsync_entry", "fsync"),
                    system_call("fdatasync_exit", "fdatasync"),
                    system_call("fdatasync_entry", "fdatasync"),
                    system_call("msync_exit", "msync"),
                    system_call("msync_entry", "msync"),
                    system_call("sync_file_range_exit", "sync_file_range"),
                    system_call("sync_file_range_entry", "sync_file_range"),
                    system_call("syncfs_exit", "syncfs"),
                    system_call("syncfs_entry", "syncfs"),
                    // It takes no arguments, and so has no function that unpacks them.
                    optional(function("sync_exit", "ksys_sync")),
                    optional(function("sync_entry", "ksys_sync")),
                    optional(function("vfs_range_exit", "vfs_fsync_range")),
                    optional(function("vfs_range_entry", "vfs_fsync_range")),
                    optional(function("vfs_exit", "vfs_fsync")),
                    optional(function("vfs_entry", "vfs_fsync")),
                    optional(function("write_file_entry", "file_write_and_wait_range")),
                    optional(function("write_pages_entry", "do_writepages")),
                    optional(function("sync_inodes_entry", "sync_inodes_sb")),
                ],
            },
            Rung {
                name: "tp",
                // Those on demand are at work where ext4 is not alone.
                steps: &[
                    on_demand(tp("sys_exit")),
                    on_demand(tp("sys_enter")),
                    on_demand(optional(tp("ext4_writepages"))),
                    // They tell of begins alone.
                    on_demand(optional(tp("xfs_file_fsync"))),
                    on_demand(optional(tp("btrfs_sync_file"))),
                    optional(tp("ext4_sync_file_exit")),
                    optional(tp("ext4_sync_file_enter")),
                    optional(tp("ext4_sync_fs")),
                ],
            },
            Rung {
                name: "vfs",
                steps: &[
                    function("vfs_range_exit", "vfs_fsync_range"),
                    function("vfs_only_entry", "vfs_fsync_range"),
                    optional(function("write_file_entry", "file_write_and_wait_range")),
                    optional(function("write_pages_entry", "do_writepages")),
                ],
            },
        ],
    },
    Capability {
        name: "journal",
        purpose: "when a filesystem's journal commits (jbd2)",
        required: false,
        without: "time in the journal is shown as `other`",
        rungs: &[Rung {
            name: "tp",
            steps: &[
                tp("jbd2_end_commit"),
                optional(tp("jbd2_commit_logging")),
                optional(tp("jbd2_commit_flushing")),
                optional(tp("jbd2_commit_locking")),
                tp("jbd2_start_commit"),
            ],
        }],
    },
    Capability {
        name: "log",
        purpose: "when a sync on xfs begins to wait for the log",
        required: false,
        without: "waiting for the log of an xfs is shown as `other`",
        rungs: &[Rung { name: "tp", steps: &[tp("xfs_log_force")] }],
    },
    Capability {
        name: "throttle",
        purpose: "when a bio begins to wait for a request (attached only where it matters)",
        required: false,
        without: "waiting for a request to be had is shown as `other`",
        rungs: &[Rung { name: "tp", steps: &[on_demand(tp("block_bio_queue"))] }],
    },
    Capability {
        name: "reclaim",
        purpose: "who reclaims memory itself",
        required: false,
        without: "reclaiming memory is shown as `cpu` and `other`, and nobody is named for it",
        rungs: &[Rung {
            name: "tp",
            steps: &[
                step("direct_reclaim_end", "mm_vmscan_direct_reclaim_end"),
                step("direct_reclaim_begin", "mm_vmscan_direct_reclaim_begin"),
                optional(step("memcg_reclaim_end", "mm_vmscan_memcg_reclaim_end")),
                optional(step("memcg_reclaim_begin", "mm_vmscan_memcg_reclaim_begin")),
            ],
        }],
    },
    Capability {
        name: "rivals",
        purpose: "who runs while a sync waits for a CPU (attached only then)",
        required: false,
        without: "who runs while a sync waits for a CPU is not named",
        rungs: &[Rung { name: "tp", steps: &[on_demand(tp("sched_switch"))] }],
    },
    Capability {
        name: "writeback",
        purpose: "whose data a kernel worker writes back",
        required: false,
        without: "data written back are charged to the kernel worker, not to who wrote them",
        rungs: &[Rung {
            name: "tp",
            steps: &[
                tp("writeback_single_inode"),
                tp("writeback_single_inode_start"),
                tp("writeback_dirty_inode_enqueue"),
            ],
        }],
    },
    Capability {
        name: "metadata",
        purpose: "who fills a filesystem's journal (jbd2; attached only while commits are waited for)",
        required: false,
        without: "whose metadata and data a journal's commit writes is not known",
        rungs: &[Rung {
            name: "tp",
            steps: &[
                on_demand(tp("jbd2_handle_stats")),
                optional(step("jbd2_data_submitted", "jbd2_commit_logging")),
                optional(tp("jbd2_submit_inode_data")),
            ],
        }],
    },
];

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
    pub capability: &'static str,
    pub purpose: &'static str,
    pub required: bool,
    pub without: &'static str,
    pub rungs: Vec<(&'static str, Outcome)>,
    /// Programs of the rung that serves, optional ones only where they are.
    pub attached: Vec<&'static str>,
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forced {
    pub capability: String,
    pub rung: String,
}

impl std::str::FromStr for Forced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (capability, rung) =
            text.split_once('=').ok_or("expected CAP=RUNG, such as sync=tp")?;
        let Some(known) = CAPABILITIES.iter().find(|c| c.name == capability) else {
            let names: Vec<_> = CAPABILITIES.iter().map(|c| c.name).collect();
            return Err(format!("no such capability; there are {}", names.join(", ")));
        };
        if !known.rungs.iter().any(|r| r.name == rung) {
            let names: Vec<_> = known.rungs.iter().map(|r| r.name).collect();
            return Err(format!("`{capability}` has the rungs {}", names.join(", ")));
        }
        Ok(Self { capability: capability.to_owned(), rung: rung.to_owned() })
    }
}
