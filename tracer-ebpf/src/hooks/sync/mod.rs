//! The hooks that see syncs, and what each contributes.
//!
//! There are three ways to the system calls: their own functions (fentry); ext4's
//! tracepoints and, for all else, a hook on every call (tp); or the one function behind
//! most of them (vfs). Beside them are hooks that open and close the syncs that no sync
//! call asks for, and hooks that name the file. Except for the filesystems' tracepoints
//! these are in the kernel's common part, so they serve any filesystem, built in or a
//! module.
//!
//! Prototypes:
//! - sys_enter(struct pt_regs *, long id), sys_exit(struct pt_regs *, long ret)
//! - vfs_fsync_range(struct file *, loff_t, loff_t, int datasync),
//!   vfs_fsync(struct file *, int)
//! - file_write_and_wait_range(struct file *, loff_t, loff_t)
//! - do_writepages(struct address_space *, struct writeback_control *)
//! - sync_inodes_sb(struct super_block *)
//! - ext4_sync_file_enter(struct file *, int), _exit(struct inode *, int)
//! - ext4_sync_fs(struct super_block *, int), ext4_writepages(struct inode *,
//!   struct writeback_control *)
//! - xfs_file_fsync(struct xfs_inode *), btrfs_sync_file(struct file *, int)

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use tracer_ebpf::record::kind;

use crate::{
    clock::now_ns,
    fields::{
        Kernel, SyncedFile, config, is_sync_exit, synced_from_file, synced_from_inode,
        synced_from_mapping, synced_from_sb, syscall_number,
    },
    submitter::running_workers,
    syncs::{
        begin::{SYSTEM_CALL, begin, enter, locate},
        call::Call,
        finish::{finish, leave},
    },
};

#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let id: u64 = ctx.arg(1);
    if !is_sync_exit(id) {
        return 0;
    }
    if let Some(call) = Call::of(id as u32, Kernel(ctx.arg(0))) {
        begin(call, SYSTEM_CALL, now_ns());
    }
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    if is_sync_exit(syscall_number(Kernel(ctx.arg(0)))) {
        finish();
    }
    0
}

/// One pair of programs around a system call's own function, whose only
/// argument is its `struct pt_regs`. User space names the function: its prefix
/// depends on the architecture.
macro_rules! around_system_call {
    ($entry:ident, $exit:ident, $kind:expr) => {
        #[fentry]
        pub fn $entry(ctx: FEntryContext) -> i32 {
            begin(Call::with($kind, Kernel(ctx.arg(0))), SYSTEM_CALL, now_ns());
            0
        }

        #[fexit]
        pub fn $exit(_ctx: FExitContext) -> i32 {
            finish();
            0
        }
    };
}

around_system_call!(fsync_entry, fsync_exit, kind::FSYNC);
around_system_call!(fdatasync_entry, fdatasync_exit, kind::FDATASYNC);
around_system_call!(msync_entry, msync_exit, kind::MSYNC);
around_system_call!(sync_file_range_entry, sync_file_range_exit, kind::SYNC_FILE_RANGE);
around_system_call!(syncfs_entry, syncfs_exit, kind::SYNCFS);
around_system_call!(sync_entry, sync_exit, kind::SYNC);

/// Called by writes to O_DSYNC files, io_uring, aio and nfsd; fsync and
/// fdatasync have it inlined on some kernels. One filesystem on another calls
/// it again for the file below.
#[fentry(function = "vfs_fsync_range")]
pub fn vfs_range_entry(ctx: FEntryContext) -> i32 {
    enter(synced_from_file(Kernel(ctx.arg(0))), None);
    0
}

#[fexit(function = "vfs_fsync_range")]
pub fn vfs_range_exit(_ctx: FExitContext) -> i32 {
    leave();
    0
}

/// Called by loop devices and aio.
#[fentry(function = "vfs_fsync")]
pub fn vfs_entry(ctx: FEntryContext) -> i32 {
    enter(synced_from_file(Kernel(ctx.arg(0))), None);
    0
}

#[fexit(function = "vfs_fsync")]
pub fn vfs_exit(_ctx: FExitContext) -> i32 {
    leave();
    0
}

/// [`vfs_range_entry`] where no system call is hooked: then a write to an
/// O_DSYNC file looks like fdatasync.
#[fentry(function = "vfs_fsync_range")]
pub fn vfs_only_entry(ctx: FEntryContext) -> i32 {
    let datasync: i32 = ctx.arg(3);
    let kind = if datasync == 0 { kind::FSYNC } else { kind::FDATASYNC };
    enter(synced_from_file(Kernel(ctx.arg(0))), Some(kind));
    0
}

/// The first thing that most filesystems do to sync a file.
#[fentry(function = "file_write_and_wait_range")]
pub fn write_file_entry(ctx: FEntryContext) -> i32 {
    locate(&synced_from_file(Kernel(ctx.arg(0))));
    0
}

/// For what asks no filesystem to sync (sync_file_range).
#[fentry(function = "do_writepages")]
pub fn write_pages_entry(ctx: FEntryContext) -> i32 {
    locate(&synced_from_mapping(Kernel(ctx.arg(0))));
    0
}

/// For syncs of a whole filesystem.
#[fentry(function = "sync_inodes_sb")]
pub fn sync_inodes_entry(ctx: FEntryContext) -> i32 {
    locate(&synced_from_sb(Kernel(ctx.arg(0))));
    0
}

#[btf_tracepoint(function = "ext4_sync_file_enter")]
pub fn ext4_sync_file_enter(ctx: BtfTracePointContext) -> i32 {
    enter(synced_from_file(Kernel(ctx.arg(0))), None);
    0
}

#[btf_tracepoint(function = "ext4_sync_file_exit")]
pub fn ext4_sync_file_exit(_ctx: BtfTracePointContext) -> i32 {
    leave();
    0
}

#[btf_tracepoint(function = "ext4_sync_fs")]
pub fn ext4_sync_fs(ctx: BtfTracePointContext) -> i32 {
    locate(&synced_from_sb(Kernel(ctx.arg(0))));
    0
}

/// For sync_file_range, which asks no filesystem to sync.
#[btf_tracepoint(function = "ext4_writepages")]
pub fn ext4_writepages(ctx: BtfTracePointContext) -> i32 {
    locate(&synced_from_inode(Kernel(ctx.arg(0)), 0));
    0
}

#[btf_tracepoint(function = "xfs_file_fsync")]
pub fn xfs_file_fsync(ctx: BtfTracePointContext) -> i32 {
    enter_until_the_call_ends(synced_from_inode(Kernel(ctx.arg(0)), config!(xfs_inode_vnode)));
    0
}

#[btf_tracepoint(function = "btrfs_sync_file")]
pub fn btrfs_sync_file(ctx: BtfTracePointContext) -> i32 {
    enter_until_the_call_ends(synced_from_file(Kernel(ctx.arg(0))));
    0
}

/// If only the begin has a hook, the sync ends with the system call;
/// io_uring workers and kernel threads make none.
#[inline(always)]
fn enter_until_the_call_ends(file: SyncedFile) {
    let (kthread, io_worker) = running_workers();
    if !kthread && !io_worker {
        enter(file, None);
    }
}
