//! The submitter: the task that runs where a request is submitted.
//!
//! A request is charged to that task, because its issue may happen in a kworker, and
//! its completion anywhere. If a kernel thread submits it,
//! [`dirtier`](crate::dirtier) may know for whom.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::map,
    maps::LruHashMap,
};
use tracer_ebpf::{
    config::ABSENT,
    record::{COMM, via},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    fields::{Task, config, current_cgroup_id},
    pids,
};

/// The submitter of each bio that has been given a request, by the bio's address: for
/// kernels where that request itself is first seen when it is issued. Where the kernel
/// evicted the entry, the request is charged to the thread that issues it, and is counted
/// as `Dropped::SubmitterUnknown`.
#[map]
pub static SUBMITTERS: LruHashMap<u64, Submitter> = LruHashMap::with_max_entries(4096, 0);

/// All kworkers are one owner: which of them it is means nothing.
const KWORKER: [u8; COMM] = *b"kworker\0\0\0\0\0\0\0\0\0";

/// The names of io_uring's workers begin with this; it is used if their flags cannot be
/// read.
const IO_WORKER: &[u8; 8] = b"iou-wrk-";

/// A task as the tracer names it: cgroup, process name, whether it is a kernel thread.
#[derive(Clone, Copy)]
pub struct Actor {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub kthread: bool,
}

impl Actor {
    /// The running task.
    #[inline(always)]
    pub fn running() -> Self {
        Self::of_running(Task::current())
    }

    /// The running task, given its [`Task::current`].
    #[inline(always)]
    pub fn of_running(task: Option<Task>) -> Self {
        let Some(task) = task else {
            let cgroup = current_cgroup_id();
            let comm = bpf_get_current_comm().unwrap_or([0; COMM]);
            return Self { cgroup, comm, kthread: false };
        };
        Self::of_task(task, || current_cgroup(task))
    }

    /// Any task; the cgroup of a kernel thread is not looked up.
    #[inline(always)]
    pub fn of_task(task: Task, cgroup: impl FnOnce() -> u64) -> Self {
        if task.is_kthread() {
            let comm = if task.is_kworker() { KWORKER } else { task.process_comm() };
            return Self { cgroup: 0, comm, kthread: true };
        }
        Self { cgroup: cgroup(), comm: task.process_comm(), kthread: false }
    }

    /// Whether this is a kernel thread, as far as is known.
    #[inline(always)]
    pub fn is_kernel(&self) -> bool {
        self.kthread || config!(task_flags) == ABSENT && has_kernel_name(&self.comm)
    }
}

/// If a task's flags are out of reach, the threads that do others' work are
/// recognised by their names.
#[inline(always)]
fn has_kernel_name(comm: &[u8; COMM]) -> bool {
    comm.first_chunk() == Some(b"kworker/") || comm.first_chunk() == Some(b"jbd2/")
}

/// Whether a kernel thread runs.
#[inline(always)]
pub fn in_kernel_thread() -> bool {
    match Task::current() {
        Some(task) => task.is_kthread(),
        None => has_kernel_name(&bpf_get_current_comm().unwrap_or([0; COMM])),
    }
}

/// Whether a kernel thread runs, and whether a worker of io_uring does. An [`Actor`] says
/// it, too, but has more to load.
#[inline(always)]
pub fn running_workers() -> (bool, bool) {
    match Task::current() {
        Some(task) => (task.is_kthread(), task.is_io_worker()),
        None => {
            let comm = bpf_get_current_comm().unwrap_or([0; COMM]);
            (false, comm.first_chunk() == Some(IO_WORKER))
        }
    }
}

/// The running task's cgroup. The helper knows version 2 alone. Where that is all there is, it
/// spares the verifier three loads through a task's pointers, for each of which newer kernels
/// search through all of their types.
#[inline(always)]
fn current_cgroup(task: Task) -> u64 {
    if config!(css_set_v1) == ABSENT { current_cgroup_id() } else { task.cgroup_id() }
}

/// The submitter of a request, and the time.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Submitter {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub submitted_ns: u64,
    /// The thread that submitted it, by the kernel's own number.
    pub tid: u32,
    /// The process that it is charged to, as user space shows it; 0 where only its
    /// cgroup is known.
    pub tgid: u32,
    pub kthread: u32,
    /// A code of [`via`].
    pub via: u32,
}

impl Submitter {
    /// The running task at `now`.
    #[inline(always)]
    pub fn current(now: u64) -> Self {
        let task = Task::current();
        let who = Actor::of_running(task);
        let (tid, tgid) = match task {
            Some(task) => (task.tid(), task.tgid()),
            None => {
                let pid_tgid = bpf_get_current_pid_tgid();
                (pid_tgid as u32, (pid_tgid >> 32) as u32)
            }
        };
        Self {
            cgroup: who.cgroup,
            comm: who.comm,
            submitted_ns: now,
            tid,
            tgid: pids::shown_tgid(tgid),
            kthread: u32::from(who.kthread),
            via: u32::from(via::DIRECT),
        }
    }

    /// Whether this is a kernel thread, as far as is known.
    #[inline(always)]
    pub fn is_kernel(&self) -> bool {
        self.kthread != 0 || config!(task_flags) == ABSENT && has_kernel_name(&self.comm)
    }

    /// Whether this is a kernel thread that works for all users of a filesystem: a kernel
    /// worker, or a thread of the filesystem itself. nfsd, for example, is not: nothing
    /// else on this node stands for its clients.
    #[inline(always)]
    pub fn is_helper(&self) -> bool {
        let begins = self.comm.first_chunk::<7>();
        self.is_kernel() && (begins == Some(b"kworker") || begins == Some(b"xfsaild"))
    }
}
