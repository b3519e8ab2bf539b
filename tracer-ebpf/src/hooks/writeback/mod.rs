//! Finds whose data a kernel worker writes back.
//!
//! The task that makes a clean inode dirty is remembered, and a thread that begins to
//! write the inode back writes for that task: see [`dirtier`].
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/writeback.h>:
//! - writeback_dirty_inode_enqueue(struct inode *), in the dirtier's context
//! - writeback_single_inode_start, writeback_single_inode(struct inode *,
//!   struct writeback_control *, unsigned long), around the writing of one
//!
//! A kernel worker also discards what somebody freed, see [`freed`]. On xfs another worker takes
//! deleted files apart, for the one who deleted them.
//!
//! Prototypes, in
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/ext4.h>:
//! - ext4_free_blocks(struct inode *, __u64 block, unsigned long count, int)
//! - ext4_discard_blocks(struct super_block *, unsigned long long block, unsigned long long
//!   count), before the blocks are discarded
//!
//! And in <https://elixir.bootlin.com/linux/v6.12/source/fs/xfs/xfs_trace.h>:
//! - xfs_extent_busy, xfs_discard_extent(struct xfs_mount *, xfs_agnumber_t, xfs_agblock_t,
//!   xfs_extlen_t); in newer kernels (struct xfs_group *, xfs_agblock_t, xfs_extlen_t),
//!   <https://elixir.bootlin.com/linux/v6.18/source/fs/xfs/xfs_trace.h>. The first three arguments
//!   are one and the same for both in either case, and nothing is read through the pointer.
//! - xfs_inode_set_need_inactive, xfs_inode_inactivating, xfs_inode_set_reclaimable(struct
//!   xfs_inode *), see `tickets`

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::{dropped::Dropped, record::via};

use crate::{
    dirtier,
    fields::{FileKey, Kernel, config, file_key, super_device},
    freed::{self, Freer, Place},
    frozen,
    maps::count_drop,
};

/// Blocks of ext4 in a place, as a power of two: few enough that two who delete seldom share one.
const PLACE_BITS: u32 = 11;
/// Those of a whole group, in which a discard may begin later than what was freed did.
const GROUP_BITS: u32 = 15;
/// Distinguishes the place of a group from a small one.
const IS_GROUP: u64 = 1 << 63;

#[btf_tracepoint(function = "writeback_dirty_inode_enqueue")]
pub fn writeback_dirty_inode_enqueue(ctx: BtfTracePointContext) -> i32 {
    let inode = Kernel(ctx.arg(0));
    frozen::end_if_thawed(inode);
    dirtier::note_dirtier(inode);
    0
}

#[btf_tracepoint(function = "writeback_single_inode_start")]
pub fn writeback_single_inode_start(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_inode(Kernel(ctx.arg(0)), u32::from(via::WRITEBACK));
    0
}

#[btf_tracepoint(function = "writeback_single_inode")]
pub fn writeback_single_inode(_ctx: BtfTracePointContext) -> i32 {
    // Its begin has made an entry, in this very thread.
    if !dirtier::end_inode() {
        count_drop(Dropped::KernelEvicted);
    }
    0
}

#[btf_tracepoint(function = "ext4_free_blocks")]
pub fn ext4_free_blocks(ctx: BtfTracePointContext) -> i32 {
    let FileKey { device, .. } = file_key(Kernel(ctx.arg(0)), 0);
    let (block, count): (u64, u64) = (ctx.arg(1), ctx.arg(2));
    let last = block.wrapping_add(count).wrapping_sub(1);
    let freer = Freer::current();
    freer.note(&small(device, block));
    freer.note(&group(device, block));
    // A run may lie in two groups, and its discards begin once in each.
    if block >> PLACE_BITS != last >> PLACE_BITS {
        freer.note(&small(device, last));
        freer.note(&group(device, last));
    }
    0
}

#[btf_tracepoint(function = "ext4_discard_blocks")]
pub fn ext4_discard_blocks(ctx: BtfTracePointContext) -> i32 {
    let device = super_device(Kernel(ctx.arg(0)));
    let block = ctx.arg(1);
    freed::begin_discard(&small(device, block), &group(device, block));
    0
}

#[inline(always)]
fn small(device: u32, block: u64) -> Place {
    Place { filesystem: device.into(), at: block >> PLACE_BITS }
}

#[inline(always)]
fn group(device: u32, block: u64) -> Place {
    Place { filesystem: device.into(), at: block >> GROUP_BITS | IS_GROUP }
}

#[btf_tracepoint(function = "xfs_extent_busy")]
pub fn xfs_extent_busy(ctx: BtfTracePointContext) -> i32 {
    Freer::current().note(&extent(&ctx));
    0
}

/// The requests for an extent are made when that for the next one is prepared, so one who
/// deletes beside another may be charged with an extent of his.
#[btf_tracepoint(function = "xfs_discard_extent")]
pub fn xfs_discard_extent(ctx: BtfTracePointContext) -> i32 {
    let place = extent(&ctx);
    freed::begin_discard(&place, &place);
    0
}

#[inline(always)]
fn extent(ctx: &BtfTracePointContext) -> Place {
    let of: *const u8 = ctx.arg(0);
    let (first, second): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    Place { filesystem: of as u64, at: u64::from(first) << 32 | u64::from(second) }
}

#[btf_tracepoint(function = "xfs_inode_set_need_inactive")]
pub fn xfs_file_deleted(ctx: BtfTracePointContext) -> i32 {
    dirtier::note_user(xfs_file(&ctx));
    0
}

#[btf_tracepoint(function = "xfs_inode_inactivating")]
pub fn xfs_file_freeing(ctx: BtfTracePointContext) -> i32 {
    dirtier::begin_file(xfs_file(&ctx));
    0
}

#[btf_tracepoint(function = "xfs_inode_set_reclaimable")]
pub fn xfs_file_freed(_ctx: BtfTracePointContext) -> i32 {
    dirtier::end_inode();
    0
}

#[inline(always)]
fn xfs_file(ctx: &BtfTracePointContext) -> FileKey {
    file_key(Kernel(ctx.arg(0)), config!(xfs_inode_vnode))
}
