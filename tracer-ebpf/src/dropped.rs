//! The list of all kinds of things that the tracer drops.
//!
//! Some are counted by the kernel programs, some by user space, a few by both;
//! all have a number here, under which the kernel's map has their counter. The
//! text above each kind is also its help in outputs and documents.

macro_rules! kinds {
    ($($(#[doc = $help:literal])+ $kind:ident: $name:literal,)+) => {
        /// Something is missing from the tracer's output, or attributed less exactly than
        /// it should be.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum Dropped {
            $($(#[doc = $help])+ $kind,)+
        }

        impl Dropped {
            /// In the order in which they are shown.
            pub const ALL: [Self; [$($name,)+].len()] = [$(Self::$kind,)+];

            /// Its name in every output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// Its meaning, in one sentence.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($help),+).trim_ascii(),)+
                }
            }
        }
    };
}

kinds! {
    /// Sync records for which the ring buffer had no room.
    RingFull: "ring_full",
    /// Runs of kernel programs that the kernel left out.
    HookMissed: "hook_missed",
    /// Requests that found no free slot in the table of requests in flight.
    TableOverflow: "table_overflow",
    /// Requests whose completion was not seen, taken out of their account later.
    Reconciled: "reconciled",
    /// Completions of requests whose submission was not seen.
    CompletionUnmatched: "completion_unmatched",
    /// Requests charged to the task that issued them, because the submitter is not known.
    SubmitterUnknown: "submitter_unknown",
    /// Work of kernel threads, where it is not known who made a file dirty, or freed what they discard.
    DirtierUnknown: "dirtier_unknown",
    /// Ends of memory reclaim whose begin is not known.
    ReclaimUnmatched: "reclaim_unmatched",
    /// Requests whose issue was not seen: all their time is the device's.
    IssueUnseen: "issue_unseen",
    /// Requests charged to the account that owners without one of their own share.
    Others: "others",
    /// Requests on a disk that user space had not described yet.
    DiskUnknown: "disk_unknown",
    /// Disks for which the tables have no room.
    DiskRefused: "disk_refused",
    /// Syncs for which there was no room beside those already in progress.
    SyncTableFull: "sync_table_full",
    /// Syncs that began before the programs were attached.
    SyncUnmatched: "sync_unmatched",
    /// Steps of syncs whose begin only a hook on their system call would have seen.
    CallUnseen: "call_unseen",
    /// Records of a length that no record of this version has.
    RecordForeign: "record_foreign",
    /// Accounts of owners with an operation that this version does not know.
    OperationUnknown: "operation_unknown",
    /// Accounts whose in-flight integral during a sync cannot be right.
    LedgerTorn: "ledger_torn",
    /// Victims removed to make room for others.
    VictimEvicted: "victim_evicted",
    /// Processes or cgroups that no name was found for.
    IdentityUnresolved: "identity_unresolved",
    /// Files that no name was found for.
    FileUnresolved: "file_unresolved",
    /// Names of processes, cgroups or files removed to make room for others.
    NameEvicted: "name_evicted",
    /// Entries of the kernel programs' own tables that the kernel evicted to make room.
    KernelEvicted: "kernel_evicted",
    /// Causes around syncs for which one victim, or the look at its threads, had no room.
    LeftOut: "left_out",
    /// Files of disks' references that were refused, or could not be written.
    ReferenceRefused: "reference_refused",
    /// Reads of the node's files that did not answer in time.
    ReadLate: "read_late",
    /// Seconds that the flight recorder did not keep: too little room, or too slow a disk.
    Unrecorded: "unrecorded",
}

impl Dropped {
    pub const COUNT: usize = Self::ALL.len();

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
