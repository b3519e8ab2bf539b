//! Plain integers in the values, and their names.

/// Classes of block operations, kept apart everywhere.
pub mod op {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const DISCARD: u32 = 2;
    pub const WRITE_ZEROES: u32 = 3;
    pub const FLUSH: u32 = 4;
    /// A driver's own command that a process passes through (SMART, `SG_IO`).
    pub const PASS_THROUGH: u32 = 5;
    pub const COUNT: usize = 6;

    // Charges beyond block requests:

    /// Blocks put into a filesystem's journal.
    pub const METADATA: u32 = 6;
    /// Running on a CPU that another waited for.
    pub const CPU: u32 = 7;
    /// Allocating memory that others had to be reclaimed for.
    pub const MEMORY: u32 = 8;
    /// Dropping the kernel's caches (`drop_caches`), which others then read back.
    pub const DROP_CACHES: u32 = 9;
    /// Freezing a filesystem (`fsfreeze`, a snapshot), which others then cannot write to.
    pub const FREEZE: u32 = 10;
    /// Dirtying pages until the limit on them is reached, at which others' writes are paused.
    pub const DIRTY: u32 = 11;
    /// Tracing a process (ptrace), which is stopped meanwhile.
    pub const TRACE: u32 = 12;
    /// Holding up the journal's commits, which wait for handles that are open.
    pub const HANDLES: u32 = 13;

    /// A code from here on is none of these.
    pub const KNOWN: usize = 14;
}

/// How an owner's request came to be issued, where not by the owner itself.
pub mod via {
    /// The owner issued it, or nobody else is known.
    pub const DIRECT: u8 = 0;
    /// Written back by a kernel worker; the owner is who dirtied the file.
    pub const WRITEBACK: u8 = 1;
    /// Ordered data, written by a journal's commit; the owner is who dirtied it.
    pub const JOURNAL: u8 = 2;
    /// On behalf of the owner's cgroup, which the bio names.
    pub const CGROUP: u8 = 3;
    /// Discarded by a kernel thread; the owner is who freed the space.
    pub const FREED: u8 = 4;
    pub const COUNT: usize = 5;
}

/// The calls that sync a whole filesystem, beside `sync` and `syncfs`.
pub mod whole {
    /// It is unmounted, or an overlay whose upper layer is on it.
    pub const UMOUNT: u32 = 0;
    /// It is frozen.
    pub const FREEZE: u32 = 1;
    /// Something else (a remount, the end of a mount namespace), or that is not known.
    pub const OTHER: u32 = 2;
}

/// Classes of request sizes, for the service times that are learnt.
pub mod size {
    /// 0 bytes, up to 4 KiB, 16 KiB, 64 KiB, 256 KiB, 1 MiB, 16 MiB, and above.
    pub const COUNT: usize = 8;

    /// The class of a request of this size.
    #[inline(always)]
    pub const fn class(bytes: u64) -> usize {
        if bytes == 0 {
            0
        } else if bytes <= 4 << 10 {
            1
        } else if bytes <= 16 << 10 {
            2
        } else if bytes <= 64 << 10 {
            3
        } else if bytes <= 256 << 10 {
            4
        } else if bytes <= 1 << 20 {
            5
        } else if bytes <= 16 << 20 {
            6
        } else {
            7
        }
    }
}

/// Parts of a journal's commit (jbd2).
pub mod commit {
    /// It waits for the handles that are open to end.
    pub const LOCKING: usize = 0;
    /// It writes the files' data that must go first.
    pub const FLUSHING: usize = 1;
    /// It writes the log.
    pub const LOGGING: usize = 2;
    pub const COUNT: usize = 3;
}

/// Stages of a block request: before and after it was given to the driver.
pub mod stage {
    pub const QUEUE: u32 = 0;
    pub const DEVICE: u32 = 1;
    pub const COUNT: usize = 2;
}

/// Ways to sync.
pub mod kind {
    pub const FSYNC: u32 = 0;
    pub const FDATASYNC: u32 = 1;
    pub const MSYNC: u32 = 2;
    pub const SYNC_FILE_RANGE: u32 = 3;
    pub const SYNCFS: u32 = 4;
    pub const SYNC: u32 = 5;
    /// A write to a file opened with O_DSYNC or O_SYNC.
    pub const OSYNC_WRITE: u32 = 6;
    /// An fsync or a synchronous write by an io_uring worker.
    pub const IO_URING: u32 = 7;
    /// A sync by a kernel thread: nfsd, or a loop device that flushes its file.
    pub const KERNEL: u32 = 8;
    pub const COUNT: usize = 9;
}
