//! Files, and the filesystems and journals that they are in.

use tracer_ebpf::config::ABSENT;

use super::{Kernel, block::disk_device, config};

/// The key that distinguishes a file from all others of the node; zeros if not known.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FileKey {
    pub inode: u64,
    /// The filesystem's device.
    pub device: u32,
    /// `i_mode`'s type of file.
    kind: u32,
}

/// `S_IFMT` and `S_IFBLK` of
/// <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/stat.h>.
const KIND_MASK: u16 = 0o170_000;
const BLOCK_DEVICE: u32 = 0o060_000;

impl FileKey {
    #[inline(always)]
    pub fn is_block_device(&self) -> bool {
        self.kind == BLOCK_DEVICE
    }
}

/// Makes the key of a `struct inode` that lies `within` bytes into the given struct, which
/// newer verifiers want to be shown is not null.
#[inline(always)]
pub fn file_key(inode: Kernel, within: u32) -> FileKey {
    let mut key = FileKey { inode: 0, device: 0, kind: 0 };
    if config!(inode_ino) == ABSENT || inode.is_null() {
        return key;
    }
    key.inode = inode.load(within.wrapping_add(config!(inode_ino)));
    let mode: u16 = inode.load(within.wrapping_add(config!(inode_mode)));
    key.kind = u32::from(mode & KIND_MASK);
    let sb = inode.follow(within.wrapping_add(config!(inode_sb)));
    if !sb.is_null() {
        key.device = sb.load(config!(sb_dev));
    }
    key
}

/// The device of a `struct super_block`; 0 if not known.
#[inline(always)]
pub fn super_device(sb: Kernel) -> u32 {
    if config!(sb_dev) == ABSENT || sb.is_null() { 0 } else { sb.load(config!(sb_dev)) }
}

/// How far a freeze of a filesystem has come.
pub enum Freezing {
    /// It is not frozen, or that is not known.
    No,
    /// The task that freezes it has stopped all writers, and syncs it: nobody else can meanwhile,
    /// because it holds the filesystem's lock alone.
    Syncs,
    /// Any other step, up to the thaw.
    Other,
}

/// `SB_UNFROZEN` and `SB_FREEZE_PAGEFAULT` of
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/fs.h>, with the same values in all
/// versions from 5.10 to 6.18.
const UNFROZEN: u16 = 0;
const FREEZE_PAGEFAULT: u16 = 2;

/// The state of a `struct super_block`: a number of 16 bits, or of 32 on older kernels, of which
/// only the lower half is ever used.
#[inline(always)]
pub fn freezing(sb: Kernel) -> Freezing {
    if config!(sb_frozen) == ABSENT || sb.is_null() {
        return Freezing::No;
    }
    match sb.load::<u16>(config!(sb_frozen)) {
        UNFROZEN => Freezing::No,
        FREEZE_PAGEFAULT => Freezing::Syncs,
        _ => Freezing::Other,
    }
}

/// A request to the kernel's flusher threads.
#[derive(Clone, Copy)]
pub struct Flushing {
    /// The superblock that is to be written as a whole.
    pub sb: Kernel,
    /// Whether the caller waits for the data itself.
    pub waits: bool,
}

/// `WB_REASON_SYNC` of
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/backing-dev-defs.h>, with one
/// value from 5.10 to 6.18.
const REASON_SYNC: u32 = 2;
/// `WB_SYNC_ALL` of <https://elixir.bootlin.com/linux/v6.12/source/include/linux/writeback.h>.
const SYNC_ALL: u32 = 1;

/// Reads a `struct wb_writeback_work`: one that writes a whole filesystem because that is to be
/// synced. Its superblock is null for any other.
#[inline(always)]
pub fn flushing(work: Kernel) -> Flushing {
    let none = Flushing { sb: Kernel(core::ptr::null()), waits: false };
    if config!(work_sb) == ABSENT || work.is_null() {
        return none;
    }
    if work.load::<u32>(config!(work_reason)) != REASON_SYNC {
        return none;
    }
    let waits = work.load::<u32>(config!(work_mode)) == SYNC_ALL;
    Flushing { sb: work.follow(config!(work_sb)), waits }
}

/// The superblock of a `struct xfs_mount`.
#[inline(always)]
pub fn xfs_super(mount: Kernel) -> Kernel {
    if config!(xfs_mount_super) == ABSENT || mount.is_null() {
        return Kernel(core::ptr::null());
    }
    mount.follow(config!(xfs_mount_super))
}

/// The superblock of a `struct inode`.
#[inline(always)]
pub fn inode_super(inode: Kernel) -> Kernel {
    if config!(inode_sb) == ABSENT || inode.is_null() {
        return Kernel(core::ptr::null());
    }
    inode.follow(config!(inode_sb))
}

/// The file that is being synced, as far as it is known; zeros for unknown fields.
///
/// No `Option`: the verifier forgets that a pointer was null, and so would see
/// its fields read before they are written.
#[derive(Clone, Copy)]
pub struct SyncedFile {
    pub inode: u64,
    /// See [`SyncRecord::generation`](tracer_ebpf::record::SyncRecord::generation).
    pub generation: u32,
    /// See [`SyncRecord::backing`](tracer_ebpf::record::SyncRecord::backing).
    pub backing: u32,
    /// The filesystem's device.
    pub device: u32,
    /// The whole disk's device; 0 where the filesystem has none.
    pub disk_device: u32,
}

impl SyncedFile {
    const UNKNOWN: Self = Self { inode: 0, generation: 0, backing: 0, device: 0, disk_device: 0 };
}

/// Reads the synced file from a `struct file`.
///
/// This function and the next check for null, because newer verifiers (6.12.y, 6.13)
/// require it for pointers from a module's tracepoint.
#[inline(always)]
pub fn synced_from_file(file: Kernel) -> SyncedFile {
    if config!(file_inode) == ABSENT || file.is_null() {
        return SyncedFile::UNKNOWN;
    }
    let inode = file.follow(config!(file_inode));
    if inode.is_null() {
        return SyncedFile::UNKNOWN;
    }
    synced_from_inode(inode, 0)
}

/// Reads the synced file from a `struct inode` that lies `within` bytes into the given struct.
#[inline(always)]
pub fn synced_from_inode(inode: Kernel, within: u32) -> SyncedFile {
    if config!(inode_ino) == ABSENT || inode.is_null() {
        return SyncedFile::UNKNOWN;
    }
    let number: u64 = inode.load(within.wrapping_add(config!(inode_ino)));
    let mut synced = synced_from_sb(inode.follow(within.wrapping_add(config!(inode_sb))));
    synced.inode = number;
    if config!(inode_generation) != ABSENT {
        synced.generation = inode.load(within.wrapping_add(config!(inode_generation)));
    }
    synced
}

/// Reads the synced file from a `struct address_space`: the file whose pages it holds.
#[inline(always)]
pub fn synced_from_mapping(mapping: Kernel) -> SyncedFile {
    if config!(mapping_host) == ABSENT {
        return SyncedFile::UNKNOWN;
    }
    let inode = mapping.follow(config!(mapping_host));
    if inode.is_null() {
        return SyncedFile::UNKNOWN;
    }
    synced_from_inode(inode, 0)
}

/// Reads the synced file from a `struct super_block`: a whole filesystem.
#[inline(always)]
pub fn synced_from_sb(sb: Kernel) -> SyncedFile {
    let mut synced = SyncedFile::UNKNOWN;
    if config!(sb_dev) == ABSENT || sb.is_null() {
        return synced;
    }
    synced.device = sb.load(config!(sb_dev));
    synced.backing = backing(sb);
    let bdev = sb.follow(config!(sb_bdev));
    if !bdev.is_null() {
        synced.disk_device = disk_device(bdev.follow(config!(bdev_disk)));
    }
    synced
}

/// The lower half of the id of a filesystem's backing device; 0 where it is not
/// known.
#[inline(always)]
fn backing(sb: Kernel) -> u32 {
    if config!(sb_bdi) == ABSENT {
        return 0;
    }
    let bdi = sb.follow(config!(sb_bdi));
    if bdi.is_null() { 0 } else { bdi.load::<u64>(config!(bdi_id)) as u32 }
}

/// The lower half of the id of the backing device that a `struct bdi_writeback` is for; 0 where it
/// is not known.
#[inline(always)]
pub fn written_backing(wb: Kernel) -> u32 {
    if config!(wb_bdi) == ABSENT || config!(bdi_id) == ABSENT || wb.is_null() {
        return 0;
    }
    let bdi = wb.follow(config!(wb_bdi));
    if bdi.is_null() { 0 } else { bdi.load::<u64>(config!(bdi_id)) as u32 }
}

/// Whether a `struct dirty_throttle_control` is of a cgroup's own limit: only such a one points to
/// that of the whole machine.
#[inline(always)]
pub fn is_limit_of_cgroup(dtc: Kernel) -> bool {
    config!(dtc_global) != ABSENT && !dtc.is_null() && !dtc.follow(config!(dtc_global)).is_null()
}

/// The device of the filesystem that a `journal_t` belongs to; 0 for none.
#[inline(always)]
pub fn journal_device(journal: Kernel) -> u32 {
    if config!(bdev_dev) == ABSENT || journal.is_null() {
        return 0;
    }
    let bdev = journal.follow(config!(journal_fs_dev));
    if bdev.is_null() { 0 } else { bdev.load(config!(bdev_dev)) }
}

/// The device of the filesystem that a `struct xlog` belongs to; 0 for none.
#[inline(always)]
pub fn xlog_device(log: Kernel) -> u32 {
    if log.is_null() {
        return 0;
    }
    let mount = log.follow(config!(xlog_mount));
    if mount.is_null() { 0 } else { sb_device(mount.follow(config!(xfs_mount_super))) }
}

/// Bytes that were taken of the reservation of a `struct xlog_ticket`.
#[inline(always)]
pub fn ticket_used(ticket: Kernel) -> u64 {
    if ticket.is_null() {
        return 0;
    }
    let reserved: i32 = ticket.load(config!(ticket_reserved));
    let left: i32 = ticket.load(config!(ticket_left));
    // A transaction overruns its reservation rather than fail.
    i64::from(reserved).saturating_sub(i64::from(left)).max(0) as u64
}

/// The device of a `struct super_block`.
#[inline(always)]
fn sb_device(sb: Kernel) -> u32 {
    if config!(sb_dev) == ABSENT || sb.is_null() { 0 } else { sb.load(config!(sb_dev)) }
}
