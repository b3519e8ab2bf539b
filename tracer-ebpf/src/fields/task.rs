//! Threads, the one that runs and any other.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_cgroup_id,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_get_ns_current_pid_tgid,
            bpf_get_smp_processor_id, bpf_task_pt_regs,
        },
    },
};
use tracer_ebpf::{cgroup, clocks::Clocks, config::ABSENT, record::COMM};

use super::{Kernel, cgroup_below_root, config, level, node_id, v1_cgroup_id};

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

    /// How long before `since` gave up its CPU for it this task began to wait: ns between the time at
    /// which `since` was given the CPU and the time at which this task was queued, negative where
    /// that was earlier. `None` where the kernel does not say.
    #[inline(always)]
    pub fn queued_after_arrival_of(self, since: Self) -> Option<i64> {
        let (queued, arrival) = (config!(task_last_queued), config!(task_last_arrival));
        if queued == ABSENT || arrival == ABSENT {
            return None;
        }
        let (queued, arrival): (u64, u64) = (self.0.load(queued), since.0.load(arrival));
        // A task that is not queued has 0 there.
        (queued != 0 && arrival != 0).then(|| queued.wrapping_sub(arrival) as i64)
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
