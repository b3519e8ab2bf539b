//! The configuration that user space gives the kernel programs before they are loaded.
//!
//! Rust emits no CO-RE relocations, so user space reads the running kernel's
//! BTF and hands the offsets over as read-only data. The verifier sees
//! constants, prunes the branches of fields that this kernel lacks, and checks
//! every access against the kernel's own types.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::places::MIN_SHARED;

/// A field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of the fields that the programs read, and what else differs
/// between kernels. [`ABSENT`] where there is no such field.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Config {
    /// `struct request`.
    pub request_queue: u32,
    pub request_cmd_flags: u32,
    pub request_rq_flags: u32,
    pub request_data_len: u32,
    pub request_tag: u32,
    pub request_internal_tag: u32,
    pub request_hctx: u32,
    pub request_bio: u32,
    pub request_io_start: u32,
    /// `request.rq_disk`, until 5.16:
    /// <https://github.com/torvalds/linux/commit/f3fa33acca9f>.
    pub request_disk: u32,
    /// `request_queue.disk`, from 5.15:
    /// <https://github.com/torvalds/linux/commit/d152c682f03c>.
    pub queue_disk: u32,
    pub hctx_queue_num: u32,
    pub disk_major: u32,
    pub disk_name: u32,
    pub disk_first_minor: u32,

    /// `struct task_struct`.
    pub task_flags: u32,
    pub task_group_leader: u32,
    pub task_comm: u32,
    pub task_exec_runtime: u32,
    pub task_exec_start: u32,
    pub task_run_delay: u32,
    /// When it was given its CPU, and since when it waits for one: `sched_info.last_arrival` and
    /// `sched_info.last_queued`, in the scheduler's own ns.
    pub task_last_arrival: u32,
    pub task_last_queued: u32,
    pub task_pid: u32,
    pub task_tgid: u32,
    /// From a task to its ids in PID namespaces: `task_struct.thread_pid`, and of the
    /// `struct pid` there the level of its own namespace and the ids by level; all or
    /// none.
    pub task_thread_pid: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    /// One such id is a `struct upid`: its size, the id in it, its namespace.
    pub upid_bytes: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    /// `pid_namespace.ns.inum`.
    pub pid_ns_inode: u32,
    /// The PID namespace whose ids are shown, by the inode and the device of its file;
    /// [`ABSENT`] for the kernel's first.
    pub pid_namespace: u32,
    pub pid_namespace_device: u32,
    /// `task_struct.cgroups`, and from there to its v2 cgroup.
    pub task_cgroups: u32,
    pub css_set_dfl_cgrp: u32,
    /// The cgroup in the hierarchy of version 1 by which a process goes that is in the
    /// root of version 2; [`ABSENT`] where there is none.
    pub css_set_v1: u32,

    /// `struct bio`: `bi_opf`, `bi_iter.bi_size`, and the way to its disk, which is
    /// `bi_disk` until 5.11 and `bi_bdev.bd_disk` since
    /// (<https://github.com/torvalds/linux/commit/309dca309fc3>). Either all are present or none.
    pub bio_flags: u32,
    pub bio_bytes: u32,
    pub bio_disk: u32,
    pub bio_bdev: u32,
    /// The position of the bio among block_bio_queue's arguments: 1 until 5.10, 0 since:
    /// <https://github.com/torvalds/linux/commit/e8a676d61c07>.
    pub bio_queue_arg: u32,

    /// From a bio to the cgroup that it is for: `bio.bi_blkg.blkcg.css.cgroup`,
    /// all or none.
    pub bio_blkg: u32,
    pub blkg_blkcg: u32,
    pub blkcg_cgroup: u32,
    /// Offsets in `struct cgroup` and in the structs that it points to.
    pub cgroup_level: u32,
    pub cgroup_root: u32,
    pub cgroup_node: u32,
    pub root_hierarchy: u32,
    pub node_id: u32,
    /// From a task to the cgroup that its bios name:
    /// `task_struct.cgroups.subsys[io_cgrp_id].cgroup`, all or none.
    pub cgroups_io: u32,
    pub css_cgroup: u32,

    pub file_inode: u32,
    /// `address_space.host`.
    pub mapping_host: u32,
    pub inode_ino: u32,
    pub inode_generation: u32,
    pub inode_mode: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
    pub sb_bdev: u32,
    /// `super_block.s_writers.frozen`.
    pub sb_frozen: u32,
    /// `bdi_writeback.bdi`.
    pub wb_bdi: u32,
    /// `dirty_throttle_control.gdtc`: absent where the tracepoint hands out no such struct.
    pub dtc_global: u32,
    /// The position of the pause among the arguments of balance_dirty_pages, whose first one is a
    /// `struct bdi_writeback`.
    pub pause_arg: u32,
    /// In `struct wb_writeback_work`: the filesystem that is to be written, whether its caller
    /// waits for the data, and why; all or none.
    pub work_sb: u32,
    pub work_mode: u32,
    pub work_reason: u32,
    /// `super_block.s_bdi` and `backing_dev_info.id`: both are there, or none.
    pub sb_bdi: u32,
    pub bdi_id: u32,
    pub bdev_disk: u32,
    pub bdev_dev: u32,
    /// `xfs_inode.i_vnode`.
    pub xfs_inode_vnode: u32,
    /// `journal_s.j_fs_dev`.
    pub journal_fs_dev: u32,
    /// From the log of an xfs to its superblock: `xlog.l_mp`, `xfs_mount.m_super`;
    /// and of `struct xlog_ticket` what was reserved and what of it is left; all or
    /// none, except that `m_super` may be there alone.
    pub xlog_mount: u32,
    pub xfs_mount_super: u32,
    pub ticket_reserved: u32,
    pub ticket_left: u32,
    /// In `struct pt_regs`: the first argument of a system call, and its number.
    pub regs_arg0: u32,
    pub regs_syscall: u32,

    /// The position of the request among the arguments of the block_rq_* tracepoints: 1
    /// until 5.10.136, 0 since (read from BTF, not from the version):
    /// <https://github.com/torvalds/linux/commit/a54895fa057c>.
    pub request_arg: u32,
    /// The position of the task that leaves among the arguments of sched_switch; the next
    /// one is the task that comes.
    pub switch_prev_arg: u32,
    /// 1 where submissions have no hook of their own, and the bio shows them.
    pub submits_by_bio: u32,
    /// 1 where a helper returns the registers with which a task entered the kernel: from 5.15,
    /// <https://github.com/torvalds/linux/commit/dd6e10fbd9fb>.
    pub task_regs: u32,
    /// The bit of `request.rq_flags` for a flush sequence (`RQF_FLUSH_SEQ`).
    pub flush_seq_bit: u32,
    /// In the table of requests in flight: slots that disks have for their own, and
    /// behind them those that all disks share, a power of two.
    pub own_slots: u32,
    pub shared_slots: u32,
    /// System call numbers of this architecture.
    pub nr_fsync: u32,
    pub nr_fdatasync: u32,
    pub nr_msync: u32,
    pub nr_sync_file_range: u32,
    pub nr_syncfs: u32,
    pub nr_sync: u32,
    pub nr_umount: u32,
    /// A bit for each system call at whose end a sync may end: those above, and
    /// the writes, for filesystems that mark only the begin of a sync.
    pub sync_exits: [u32; 16],
}

impl Config {
    /// A configuration in which this kernel has nothing.
    pub const ABSENT: Self = Self {
        own_slots: 0,
        shared_slots: MIN_SHARED,
        sync_exits: [0; 16],
        // Each field is a `u32`, or an array of them.
        ..zerocopy::transmute!([ABSENT; size_of::<Self>() / size_of::<u32>()])
    };
}
