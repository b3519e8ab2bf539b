//! The ids of the running thread in the PID namespace that user space shows.
//!
//! Within the programs a thread goes by the kernel's own number. Where an id leaves
//! for user space it is translated, unless that namespace is the kernel's first: then
//! the two are the same, and the branch is gone before the program is loaded.
//!
//! A thread has a number in its own namespace and in each of those around it, which
//! `struct pid` lists by level
//! (<https://elixir.bootlin.com/linux/v6.12/source/include/linux/pid.h>). Since 6.5 the list is
//! an array of unknown length (<https://github.com/torvalds/linux/commit/b69f0aeb0689>),
//! and typed programs may read all of it; before, the verifier lets
//! them read its first element alone. There a helper returns the ids of those that are
//! in the namespace itself, and not of those in namespaces below it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::{config::ABSENT, pid::ELSEWHERE};

use crate::fields::{Task, config, current_ids_in_own_namespace};

/// The running process's id.
#[inline(always)]
pub fn current_tgid() -> u32 {
    shown_tgid((bpf_get_current_pid_tgid() >> 32) as u32)
}

/// As [`current_tgid`], from the kernel's own number for the process.
#[inline(always)]
pub fn shown_tgid(tgid: u32) -> u32 {
    if config!(pid_namespace) == ABSENT {
        return tgid;
    }
    (translate(u64::from(tgid) << 32) >> 32) as u32
}

/// The ids of the running process, in the upper half, and of its thread, from the
/// kernel's own numbers for them.
#[inline(always)]
pub fn shown(pid_tgid: u64) -> u64 {
    if config!(pid_namespace) == ABSENT { pid_tgid } else { translate(pid_tgid) }
}

#[inline(never)]
fn translate(pid_tgid: u64) -> u64 {
    let (tgid, tid) = if config!(task_thread_pid) == ABSENT {
        current_ids_in_own_namespace()
    } else {
        match Task::current() {
            Some(task) => (task.leader().id_in_namespace(), task.id_in_namespace()),
            None => (0, 0),
        }
    };
    u64::from(or_elsewhere(tgid, (pid_tgid >> 32) as u32)) << 32
        | u64::from(or_elsewhere(tid, pid_tgid as u32))
}

#[inline(always)]
fn or_elsewhere(id: u32, number: u32) -> u32 {
    if id == 0 { number | ELSEWHERE } else { id }
}
