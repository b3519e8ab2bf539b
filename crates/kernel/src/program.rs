//! The kernel programs and their hooks: the list of them.
//!
//! A program's name is that of its function in `tracer-ebpf`; a test holds the
//! list to the compiled objects.

use std::fmt;

use serde::{Serialize, Serializer};

/// The place at which a program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

    /// The kernel's name of the tracepoint or the function, with the
    /// architecture's prefix.
    pub fn hook(&self) -> String {
        match self {
            Self::Tracepoint(name) | Self::Function(name) => (*name).to_owned(),
            Self::SystemCall(name) if cfg!(target_arch = "aarch64") => {
                format!("__arm64_sys_{name}")
            }
            Self::SystemCall(name) => format!("__x64_sys_{name}"),
        }
    }
}

macro_rules! programs {
    ($($(#[$doc:meta])+ $program:ident: $name:literal at $kind:ident($hook:literal),)+) => {
        /// A program in the kernel object.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Program {
            $($(#[$doc])+ $program,)+
        }

        impl Program {
            pub const ALL: &[Self] = &[$(Self::$program,)+];

            /// Its name in the kernel object and in outputs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$program => $name,)+
                }
            }

            pub const fn target(self) -> Target {
                match self {
                    $(Self::$program => Target::$kind($hook),)+
                }
            }

            /// Whether it runs when a function ends: the kernel's trampoline is on the
            /// stack of whoever sleeps in that function.
            pub fn is_exit(self) -> bool {
                !matches!(self.target(), Target::Tracepoint(_)) && self.name().ends_with("_exit")
            }
        }
    };
}

programs! {
    /// A request is submitted, in its submitter's context.
    BlockIoStart: "block_io_start" at Tracepoint("block_io_start"),
    /// A request is submitted, on kernels without that tracepoint.
    BlkAccountIoStart: "blk_account_io_start" at Function("blk_account_io_start"),
    /// A bio gets a request: its submitter is noted for [`Program::BlockRqInsert`].
    BlockGetrq: "block_getrq" at Tracepoint("block_getrq"),
    /// A request is given to a scheduler; submitted, if no earlier hook saw that.
    BlockRqInsert: "block_rq_insert" at Tracepoint("block_rq_insert"),
    /// A request is issued to its driver.
    BlockRqIssue: "block_rq_issue" at Tracepoint("block_rq_issue"),
    /// A driver gives a request back.
    BlockRqRequeue: "block_rq_requeue" at Tracepoint("block_rq_requeue"),
    /// A request becomes part of another.
    BlockRqMerge: "block_rq_merge" at Tracepoint("block_rq_merge"),
    /// A request completes, or a part of it.
    BlockRqComplete: "block_rq_complete" at Tracepoint("block_rq_complete"),

    /// A bio enters a carrying disk.
    StackBioQueue: "stack_bio_queue" at Tracepoint("block_bio_queue"),
    /// A bio of a carrying disk ends.
    StackBioComplete: "stack_bio_complete" at Tracepoint("block_bio_complete"),

    /// Any system call begins: a sync, if it is one of the sync calls.
    SysEnter: "sys_enter" at Tracepoint("sys_enter"),
    /// Any system call ends.
    SysExit: "sys_exit" at Tracepoint("sys_exit"),
    /// fsync begins.
    FsyncEntry: "fsync_entry" at SystemCall("fsync"),
    /// fsync ends.
    FsyncExit: "fsync_exit" at SystemCall("fsync"),
    /// fdatasync begins.
    FdatasyncEntry: "fdatasync_entry" at SystemCall("fdatasync"),
    /// fdatasync ends.
    FdatasyncExit: "fdatasync_exit" at SystemCall("fdatasync"),
    /// msync begins.
    MsyncEntry: "msync_entry" at SystemCall("msync"),
    /// msync ends.
    MsyncExit: "msync_exit" at SystemCall("msync"),
    /// sync_file_range begins.
    SyncFileRangeEntry: "sync_file_range_entry" at SystemCall("sync_file_range"),
    /// sync_file_range ends.
    SyncFileRangeExit: "sync_file_range_exit" at SystemCall("sync_file_range"),
    /// syncfs begins.
    SyncfsEntry: "syncfs_entry" at SystemCall("syncfs"),
    /// syncfs ends.
    SyncfsExit: "syncfs_exit" at SystemCall("syncfs"),
    /// sync begins. It takes no arguments, and so has no function that unpacks them.
    SyncEntry: "sync_entry" at Function("ksys_sync"),
    /// sync ends.
    SyncExit: "sync_exit" at Function("ksys_sync"),
    /// A filesystem is asked to sync a file, by any call.
    VfsRangeEntry: "vfs_range_entry" at Function("vfs_fsync_range"),
    /// The filesystem has synced the file.
    VfsRangeExit: "vfs_range_exit" at Function("vfs_fsync_range"),
    /// A filesystem is asked to sync a whole file.
    VfsEntry: "vfs_entry" at Function("vfs_fsync"),
    /// The filesystem has synced the file.
    VfsExit: "vfs_exit" at Function("vfs_fsync"),
    /// As [`Program::VfsRangeEntry`] if no other hook sees syncs.
    VfsOnlyEntry: "vfs_only_entry" at Function("vfs_fsync_range"),
    /// The file that is synced is named: its pages are written and waited for.
    WriteFileEntry: "write_file_entry" at Function("file_write_and_wait_range"),
    /// The file that is synced is named: pages of its mapping are written.
    WritePagesEntry: "write_pages_entry" at Function("do_writepages"),
    /// The filesystem that is synced is named: all its inodes are synced.
    SyncInodesEntry: "sync_inodes_entry" at Function("sync_inodes_sb"),
    /// ext4 begins to sync a file.
    Ext4SyncFileEnter: "ext4_sync_file_enter" at Tracepoint("ext4_sync_file_enter"),
    /// ext4 has synced the file.
    Ext4SyncFileExit: "ext4_sync_file_exit" at Tracepoint("ext4_sync_file_exit"),
    /// ext4 syncs a filesystem.
    Ext4SyncFs: "ext4_sync_fs" at Tracepoint("ext4_sync_fs"),
    /// ext4 writes pages of a file.
    Ext4Writepages: "ext4_writepages" at Tracepoint("ext4_writepages"),
    /// xfs begins to sync a file.
    XfsFileFsync: "xfs_file_fsync" at Tracepoint("xfs_file_fsync"),
    /// xfs begins to wait for its log.
    XfsLogForce: "xfs_log_force" at Tracepoint("xfs_log_force"),
    /// btrfs begins to sync a file.
    BtrfsSyncFile: "btrfs_sync_file" at Tracepoint("btrfs_sync_file"),

    /// A commit of a journal begins.
    Jbd2StartCommit: "jbd2_start_commit" at Tracepoint("jbd2_start_commit"),
    /// The commit waits for open handles.
    Jbd2CommitLocking: "jbd2_commit_locking" at Tracepoint("jbd2_commit_locking"),
    /// The commit writes the files' data.
    Jbd2CommitFlushing: "jbd2_commit_flushing" at Tracepoint("jbd2_commit_flushing"),
    /// The commit writes the log.
    Jbd2CommitLogging: "jbd2_commit_logging" at Tracepoint("jbd2_commit_logging"),
    /// The commit has ended.
    Jbd2EndCommit: "jbd2_end_commit" at Tracepoint("jbd2_end_commit"),
    /// A handle has ended: who dirtied how many blocks of the journal.
    Jbd2HandleStats: "jbd2_handle_stats" at Tracepoint("jbd2_handle_stats"),
    /// A commit begins to write the data of one file.
    Jbd2SubmitInodeData: "jbd2_submit_inode_data" at Tracepoint("jbd2_submit_inode_data"),
    /// The commit has written the data of all files.
    Jbd2DataSubmitted: "jbd2_data_submitted" at Tracepoint("jbd2_commit_logging"),

    /// A transaction of an xfs has ended: what it took of the log.
    XfsLogTicketUngrant: "xfs_log_ticket_ungrant" at Tracepoint("xfs_log_ticket_ungrant"),
    /// A step of a transaction has ended, and another follows.
    XfsLogTicketRegrant: "xfs_log_ticket_regrant" at Tracepoint("xfs_log_ticket_regrant"),
    /// A process has deleted a file of an xfs, whose blocks a kernel worker frees later.
    XfsInodeSetNeedInactive:
        "xfs_inode_set_need_inactive" at Tracepoint("xfs_inode_set_need_inactive"),
    /// The worker begins to free the file's blocks.
    XfsInodeInactivating: "xfs_inode_inactivating" at Tracepoint("xfs_inode_inactivating"),
    /// The worker has freed them.
    XfsInodeSetReclaimable:
        "xfs_inode_set_reclaimable" at Tracepoint("xfs_inode_set_reclaimable"),
    /// A kernel worker marks blocks of a file as written, once they are.
    XfsUnwrittenConvert: "xfs_unwritten_convert" at Tracepoint("xfs_unwritten_convert"),
    /// A kernel worker sets the new size of a file, once its data are written.
    XfsSetfilesize: "xfs_setfilesize" at Tracepoint("xfs_setfilesize"),

    /// A clean inode becomes dirty, in the context of the task that makes it dirty.
    WritebackDirtyInodeEnqueue:
        "writeback_dirty_inode_enqueue" at Tracepoint("writeback_dirty_inode_enqueue"),
    /// A page of an inode becomes dirty.
    WritebackMarkInodeDirty:
        "writeback_mark_inode_dirty" at Tracepoint("writeback_mark_inode_dirty"),
    /// A kernel worker begins to write an inode back.
    WritebackSingleInodeStart:
        "writeback_single_inode_start" at Tracepoint("writeback_single_inode_start"),
    /// The worker has written the inode back.
    WritebackSingleInode: "writeback_single_inode" at Tracepoint("writeback_single_inode"),

    /// Somebody frees blocks of an ext4.
    Ext4FreeBlocks: "ext4_free_blocks" at Tracepoint("ext4_free_blocks"),
    /// Blocks of an ext4 are about to be discarded.
    Ext4DiscardBlocks: "ext4_discard_blocks" at Tracepoint("ext4_discard_blocks"),
    /// Somebody frees an extent of an xfs.
    XfsExtentBusy: "xfs_extent_busy" at Tracepoint("xfs_extent_busy"),
    /// An extent of an xfs is about to be discarded.
    XfsDiscardExtent: "xfs_discard_extent" at Tracepoint("xfs_discard_extent"),
    /// As [`Program::XfsInodeSetNeedInactive`], while a kernel worker discards.
    XfsFileDeleted: "xfs_file_deleted" at Tracepoint("xfs_inode_set_need_inactive"),
    /// As [`Program::XfsInodeInactivating`], while a kernel worker discards.
    XfsFileFreeing: "xfs_file_freeing" at Tracepoint("xfs_inode_inactivating"),
    /// As [`Program::XfsInodeSetReclaimable`], while a kernel worker discards.
    XfsFileFreed: "xfs_file_freed" at Tracepoint("xfs_inode_set_reclaimable"),

    /// As [`Program::Ext4SyncFs`], for somebody who freezes it.
    Ext4Freeze: "ext4_freeze" at Tracepoint("ext4_sync_fs"),
    /// xfs syncs a filesystem, for somebody who freezes it.
    XfsFreeze: "xfs_freeze" at Tracepoint("xfs_fs_sync_fs"),
    /// The flusher threads are asked to write dirty data, in the context of the one who asks.
    WritebackQueue: "writeback_queue" at Tracepoint("writeback_queue"),

    /// The kernel pauses a write, or decides not to, near the limit on dirty pages.
    BalanceDirtyPages: "balance_dirty_pages" at Tracepoint("balance_dirty_pages"),
    /// As [`Program::BalanceDirtyPages`], on kernels whose tracepoint has the limits themselves.
    BalanceDirtyPagesOf12: "balance_dirty_pages_of_12" at Tracepoint("balance_dirty_pages"),

    /// A bio is submitted: it has no request yet.
    BlockBioQueue: "block_bio_queue" at Tracepoint("block_bio_queue"),
    /// A CPU switches tasks.
    SchedSwitch: "sched_switch" at Tracepoint("sched_switch"),
    /// Direct reclaim of the machine's memory begins.
    DirectReclaimBegin: "direct_reclaim_begin" at Tracepoint("mm_vmscan_direct_reclaim_begin"),
    /// Direct reclaim of the machine's memory ends.
    DirectReclaimEnd: "direct_reclaim_end" at Tracepoint("mm_vmscan_direct_reclaim_end"),
    /// Direct reclaim of a cgroup's own memory begins.
    MemcgReclaimBegin: "memcg_reclaim_begin" at Tracepoint("mm_vmscan_memcg_reclaim_begin"),
    /// Direct reclaim of a cgroup's own memory ends.
    MemcgReclaimEnd: "memcg_reclaim_end" at Tracepoint("mm_vmscan_memcg_reclaim_end"),
    /// The kernel logs a line.
    Console: "console" at Tracepoint("console"),

    /// Does nothing, at the hook of [`Program::BlockIoStart`].
    EmptyStart: "empty_start" at Tracepoint("block_io_start"),
    /// Does nothing, at the hook of [`Program::BlockRqIssue`].
    EmptyIssue: "empty_issue" at Tracepoint("block_rq_issue"),
    /// Does nothing, at the hook of [`Program::BlockRqComplete`].
    EmptyComplete: "empty_complete" at Tracepoint("block_rq_complete"),
    /// Does nothing, at the hook of [`Program::SysEnter`].
    EmptyEnter: "empty_enter" at Tracepoint("sys_enter"),
    /// Does nothing, at the hook of [`Program::SysExit`].
    EmptyExit: "empty_exit" at Tracepoint("sys_exit"),
    /// Reads the clock, at the hook of [`Program::BlockRqIssue`].
    ClockIssue: "clock_issue" at Tracepoint("block_rq_issue"),
    /// Reads the clock, at the hook of [`Program::BlockRqComplete`].
    ClockComplete: "clock_complete" at Tracepoint("block_rq_complete"),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
