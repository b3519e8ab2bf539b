//! Follows kernel pointers: the one place that reads fields of kernel structs.
//!
//! Offsets come from [`CONFIG`], which user space fills from the running
//! kernel's BTF before the load. The verifier knows them as constants, checks
//! each access against the kernel's types, and makes it a direct load that
//! cannot fault. On a kernel without BTF it knows no types, and a helper reads,
//! which lockdown forbids.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_cgroup_id, bpf_probe_read_kernel,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_get_ns_current_pid_tgid,
            bpf_get_smp_processor_id, bpf_task_pt_regs,
        },
    },
};
use tracer_ebpf::{
    cgroup,
    clocks::Clocks,
    config::{ABSENT, Config},
    record::{COMM, DISK_NAME_WORDS, NO_NAME},
};

/// Set by user space before the load.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::ABSENT;

/// One word of the configuration.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: a read of a static; volatile because it is patched at load.
        unsafe { core::ptr::read_volatile(&raw const crate::fields::CONFIG.$field) }
    };
}
pub(crate) use config;

/// Whether a sync may end at the end of this system call.
#[inline(always)]
pub fn is_sync_exit(syscall: u64) -> bool {
    let word = (syscall >> 5) as usize;
    if word >= 16 {
        return false;
    }
    // SAFETY: the index was checked; volatile because it is patched at load.
    let bits = unsafe { read_volatile((&raw const CONFIG.sync_exits).cast::<u32>().add(word)) };
    bits >> (syscall & 31) & 1 == 1
}

/// A typed kernel pointer, as a hook handed it out or as a field held it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Kernel(pub *const u8);

impl Kernel {
    /// The field at an offset.
    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        let field = self.0.wrapping_add(offset as usize).cast::<T>();
        if crate::UNTYPED {
            // SAFETY: the helper checks the address; zeros are a value of all
            // that is loaded, and what a faulting direct load gives.
            return unsafe { bpf_probe_read_kernel(field).unwrap_or(core::mem::zeroed()) };
        }
        // SAFETY: the verifier checks the access against the pointer's type,
        // and the kernel turns a faulting load into a zero.
        unsafe { read_volatile(field) }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.load(offset))
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

/// `struct request`.
#[derive(Clone, Copy)]
pub struct Request(pub Kernel);

impl Request {
    #[inline(always)]
    pub fn cmd_flags(self) -> u32 {
        self.0.load(config!(request_cmd_flags))
    }

    /// Whether it is between the steps of a flush sequence.
    #[inline(always)]
    pub fn in_flush_sequence(self) -> bool {
        let flags: u32 = self.0.load(config!(request_rq_flags));
        flags >> config!(flush_seq_bit) & 1 == 1
    }

    #[inline(always)]
    pub fn bytes(self) -> u32 {
        self.0.load(config!(request_data_len))
    }

    /// When it was given to the driver, in ns, on the clock of [`now_ns`]; 0 where
    /// its queue keeps no statistics. The kernel notes it after block_rq_issue
    /// (blk_mq_start_request, <https://elixir.bootlin.com/linux/v6.12/source/block/blk-mq.c>). From
    /// 6.9 on the time may be that of an earlier request of the same plug:
    /// <https://github.com/torvalds/linux/commit/da4c8c3d0975>.
    ///
    /// [`now_ns`]: crate::clock::now_ns
    #[inline(always)]
    pub fn noted_issue_ns(self) -> u64 {
        let field = config!(request_io_start);
        if field == ABSENT { 0 } else { self.0.load(field) }
    }

    /// Its first bio; null for a flush of the flush machinery.
    #[inline(always)]
    pub fn bio(self) -> Kernel {
        self.0.follow(config!(request_bio))
    }

    /// Its tag, unique among the live requests of one hardware queue: the
    /// scheduler's where one is in charge.
    #[inline(always)]
    pub fn tag(self) -> u32 {
        let internal: i32 = self.0.load(config!(request_internal_tag));
        if internal >= 0 { internal as u32 } else { self.0.load(config!(request_tag)) }
    }

    #[inline(always)]
    pub fn hardware_queue(self) -> u32 {
        let hctx = self.0.follow(config!(request_hctx));
        if hctx.is_null() { 0 } else { hctx.load(config!(hctx_queue_num)) }
    }

    /// The device number of its whole disk; 0 where it has none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        disk_device(self.disk())
    }

    /// The name of its whole disk, as the kernel has it.
    #[inline(always)]
    pub fn disk_name(self) -> [u32; DISK_NAME_WORDS] {
        let mut name = NO_NAME;
        let disk = self.disk();
        if !disk.is_null() && config!(disk_name) != ABSENT {
            for (at, word) in name.iter_mut().enumerate() {
                *word = disk.load(config!(disk_name) + 4 * at as u32);
            }
        }
        name
    }

    /// Its whole disk, a `struct gendisk`; may be null.
    #[inline(always)]
    fn disk(self) -> Kernel {
        if config!(request_disk) != ABSENT {
            return self.0.follow(config!(request_disk));
        }
        let queue = self.0.follow(config!(request_queue));
        if queue.is_null() { queue } else { queue.follow(config!(queue_disk)) }
    }
}

/// `struct bio`.
#[derive(Clone, Copy)]
pub struct Bio(pub Kernel);

impl Bio {
    /// Its address: no two bios that are alive share one.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.0 as u64
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0.load(config!(bio_flags))
    }

    /// While it is being submitted: what has been done of it is taken away.
    #[inline(always)]
    pub fn bytes(self) -> u32 {
        self.0.load(config!(bio_bytes))
    }

    /// The device number of the whole disk that it is submitted to; 0 where it has none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        if self.0.is_null() {
            return 0;
        }
        if config!(bio_disk) != ABSENT {
            return disk_device(self.0.follow(config!(bio_disk)));
        }
        let bdev = self.0.follow(config!(bio_bdev));
        if bdev.is_null() { 0 } else { disk_device(bdev.follow(config!(bdev_disk))) }
    }
}

/// The device number of a `struct gendisk`.
#[inline(always)]
fn disk_device(disk: Kernel) -> u32 {
    if disk.is_null() {
        return 0;
    }
    let major: u32 = disk.load(config!(disk_major));
    let minor: u32 = disk.load(config!(disk_first_minor));
    major << 20 | minor
}

/// The cgroup that a bio is charged to; 0 if it names none, or one of cgroup v1, whose
/// numbers are not those of v2.
#[inline(always)]
pub fn bio_cgroup(bio: Kernel) -> u64 {
    if config!(bio_blkg) == ABSENT || bio.is_null() {
        return 0;
    }
    let group = bio.follow(config!(bio_blkg));
    if group.is_null() {
        return 0;
    }
    cgroup_below_root(group.follow(config!(blkg_blkcg)), config!(blkcg_cgroup))
}

/// The id of the cgroup that a struct points to at an offset; 0 for a root, or
/// one of v1.
#[inline(always)]
fn cgroup_below_root(of: Kernel, at: u32) -> u64 {
    if of.is_null() {
        return 0;
    }
    let cgroup = of.follow(at);
    if cgroup.is_null() {
        return 0;
    }
    let level: u32 = cgroup.load(config!(cgroup_level));
    let root = cgroup.follow(config!(cgroup_root));
    let node = cgroup.follow(config!(cgroup_node));
    if level == 0 || root.is_null() || node.is_null() {
        return 0;
    }
    let hierarchy: u32 = root.load(config!(root_hierarchy));
    if hierarchy == 0 { node.load(config!(node_id)) } else { 0 }
}

/// The number of a cgroup's directory.
#[inline(always)]
fn node_id(cgroup: Kernel) -> u64 {
    let node = cgroup.follow(config!(cgroup_node));
    if node.is_null() { 0 } else { node.load(config!(node_id)) }
}

/// How far it is below the root.
#[inline(always)]
fn level(cgroup: Kernel) -> u32 {
    cgroup.load(config!(cgroup_level))
}

/// That of version 1 in a task's set (`struct css_set`); 0 for the root.
#[inline(always)]
fn v1_cgroup_id(set: Kernel) -> u64 {
    let state = set.follow(config!(css_set_v1));
    if state.is_null() {
        return 0;
    }
    let cgroup = state.follow(config!(css_cgroup));
    if cgroup.is_null() || level(cgroup) == 0 { 0 } else { node_id(cgroup) }
}

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

/// The number of the system call that `struct pt_regs` are of.
#[inline(always)]
pub fn syscall_number(regs: Kernel) -> u64 {
    let number: u32 = regs.load(config!(regs_syscall));
    u64::from(number)
}

/// The first argument of the system call that `struct pt_regs` are of.
#[inline(always)]
pub fn syscall_arg0(regs: Kernel) -> u64 {
    regs.load(config!(regs_arg0))
}

/// The running task's cgroup v2, by a helper, for programs that cannot read its fields.
#[inline(always)]
pub fn current_cgroup_id() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The running process's and thread's ids in the PID namespace that user space shows,
/// by a helper, which answers for a thread of that very namespace; else zeros.
#[inline(always)]
pub fn current_ids_in_own_namespace() -> (u32, u32) {
    let (device, inode) = (config!(pid_namespace_device), config!(pid_namespace));
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: it writes to the eight bytes that it is given, zeros where it fails.
    unsafe {
        bpf_get_ns_current_pid_tgid(u64::from(device), u64::from(inode), &raw mut ids, 8);
    }
    (ids.tgid, ids.pid)
}

/// A thread: `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub Kernel);

/// `task_struct.flags`: an io_uring worker (PF_IO_WORKER).
const PF_IO_WORKER: u32 = 0x10;
/// A kworker (PF_WQ_WORKER).
const PF_WQ_WORKER: u32 = 0x20;
/// A kernel thread (PF_KTHREAD).
const PF_KTHREAD: u32 = 0x0020_0000;

/// PID namespaces are not nested deeper than this (MAX_PID_NS_LEVEL,
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/pid_namespace.h>).
const PID_LEVELS: u32 = 32;

impl Task {
    /// The task that runs. `None` before 5.11, where no typed program can read its own task:
    /// <https://github.com/torvalds/linux/commit/3ca1032ab7ab>.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        if config!(task_flags) == ABSENT {
            return None;
        }
        if crate::UNTYPED {
            // SAFETY: the helper has no preconditions.
            let task = unsafe { bpf_get_current_task() };
            return Some(Self(Kernel(task as *const u8)));
        }
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task_btf() };
        Some(Self(Kernel(task.cast_const().cast())))
    }

    #[inline(always)]
    fn flags(self) -> u32 {
        self.0.load(config!(task_flags))
    }

    #[inline(always)]
    pub fn is_kthread(self) -> bool {
        self.flags() & PF_KTHREAD != 0
    }

    #[inline(always)]
    pub fn is_kworker(self) -> bool {
        self.flags() & PF_WQ_WORKER != 0
    }

    #[inline(always)]
    pub fn is_io_worker(self) -> bool {
        self.flags() & PF_IO_WORKER != 0
    }

    /// The registers with which it entered the kernel (`struct pt_regs`). `None` before
    /// 5.15 (<https://github.com/torvalds/linux/commit/dd6e10fbd9fb>), and for tasks that
    /// made no system call.
    #[inline(always)]
    pub fn registers(self) -> Option<Kernel> {
        if crate::UNTYPED || config!(task_regs) != 1 || self.is_kthread() || self.is_io_worker() {
            return None;
        }
        // SAFETY: the task runs, so it is there.
        let registers = unsafe { bpf_task_pt_regs(self.0.0.cast_mut().cast()) };
        Some(Kernel(registers as *const u8))
    }

/// The name of its process, because the threads of one process are one owner.
    #[inline(always)]
    pub fn process_comm(self) -> [u8; COMM] {
        let leader = self.0.follow(config!(task_group_leader));
        let words: [u64; 2] = if leader.is_null() {
            [0; 2]
        } else {
            [leader.load(config!(task_comm)), leader.load(config!(task_comm).wrapping_add(8))]
        };
        // SAFETY: 16 plain bytes either way.
        unsafe { core::mem::transmute::<[u64; 2], [u8; COMM]>(words) }
    }

    /// Its own number; 0 for a CPU that idles.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.0.load(config!(task_pid))
    }

    /// Its process's number.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.0.load(config!(task_tgid))
    }

    /// Its process's first thread, or itself where it has none any more.
    #[inline(always)]
    pub fn leader(self) -> Self {
        let leader = self.0.follow(config!(task_group_leader));
        if leader.is_null() { self } else { Self(leader) }
    }

    /// Its number in the PID namespace that user space shows; 0 where it has none.
    #[inline(always)]
    pub fn id_in_namespace(self) -> u32 {
        let pid = self.0.follow(config!(task_thread_pid));
        if pid.is_null() {
            return 0;
        }
        let own_level: u32 = pid.load(config!(pid_level));
        for level in 1..=PID_LEVELS {
            if level > own_level {
                break;
            }
            let at = config!(pid_numbers).wrapping_add(level.wrapping_mul(config!(upid_bytes)));
            let namespace = pid.follow(at.wrapping_add(config!(upid_ns)));
            if namespace.is_null() {
                break;
            }
            let inode: u32 = namespace.load(config!(pid_ns_inode));
            if inode == config!(pid_namespace) {
                return pid.load(at.wrapping_add(config!(upid_nr)));
            }
        }
        0
    }

/// The number of its cgroup. The helper returns it only for the running task, and only
    /// for version 2; this works for any task.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        let set = self.0.follow(config!(task_cgroups));
        if set.is_null() {
            return 0;
        }
        let cgroup = set.follow(config!(css_set_dfl_cgrp));
        if cgroup.is_null() {
            return 0;
        }
        if config!(css_set_v1) != ABSENT && level(cgroup) == 0 {
            let id = v1_cgroup_id(set);
            if id != 0 {
                return id | cgroup::V1;
            }
        }
        node_id(cgroup)
    }

    /// Time in ns that it was runnable and did not run, up to when it ran last.
    #[inline(always)]
    pub fn run_delay(self) -> u64 {
        let run_delay = config!(task_run_delay);
        if run_delay == ABSENT { 0 } else { self.0.load(run_delay) }
    }

    /// The cgroup that its bios name: its own, or the nearest above it for which
    /// the io controller is on; 0 for a root.
    #[inline(always)]
    pub fn io_cgroup(self) -> u64 {
        if config!(cgroups_io) == ABSENT {
            return 0;
        }
        let cgroups = self.0.follow(config!(task_cgroups));
        if cgroups.is_null() {
            return 0;
        }
        cgroup_below_root(cgroups.follow(config!(cgroups_io)), config!(css_cgroup))
    }

    /// The task is the current one.
    #[inline(always)]
    pub fn clocks(self) -> Clocks {
        Clocks {
            exec_runtime: self.0.load(config!(task_exec_runtime)),
            exec_start: self.0.load(config!(task_exec_start)),
            run_delay: self.run_delay(),
            // SAFETY: it returns the running CPU's number.
            cpu: u64::from(unsafe { bpf_get_smp_processor_id() }),
        }
    }
}
