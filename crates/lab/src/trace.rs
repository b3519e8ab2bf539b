//! A debugger that stops a process at its syncs, as `strace -e trace=fdatasync` does.
//!
//! One thread serves all threads of the process, one after another, so all that are stopped
//! meanwhile wait for it.

use std::{collections::BTreeSet, fs, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// The system calls, as this program's own architecture numbers them.
const SYNCS: [i64; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];

/// Traces a process until it ends. Each sync waits for `pause` on its way into the kernel, and
/// again on its way out.
///
/// # Errors
///
/// The kernel refuses, or there is no such process.
pub fn trace(pid: u32, pause: Duration) -> Result<()> {
    let mut traced = BTreeSet::new();
    // Threads may be created while others are attached to.
    loop {
        let new: Vec<_> = threads(pid)?.difference(&traced).copied().collect();
        if new.is_empty() {
            break;
        }
        for tid in new {
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
            match ptrace::seize(Pid::from_raw(tid), options) {
                Ok(()) => ptrace::interrupt(Pid::from_raw(tid)).context("failed to interrupt")?,
                // It has ended, or it was created by a traced thread.
                Err(Errno::ESRCH | Errno::EPERM) if !traced.is_empty() => {}
                Err(error) => return Err(error).context(format!("failed to trace thread {tid}")),
            }
            traced.insert(tid);
        }
    }
    loop {
        let (tid, signal) = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceSyscall(tid)) => {
                if is_at_sync(tid) {
                    sleep(pause);
                }
                (tid, None)
            }
            Ok(WaitStatus::PtraceEvent(tid, ..)) => (tid, None),
            Ok(WaitStatus::Stopped(tid, signal)) => (tid, Some(signal)),
            Ok(_) => continue,
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error).context("failed to wait for a traced thread"),
        };
        match ptrace::syscall(tid, signal) {
            // It was killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("failed to let a thread go on"),
        }
    }
}

fn threads(pid: u32) -> Result<BTreeSet<i32>> {
    let tasks = format!("/proc/{pid}/task");
    let listed = fs::read_dir(&tasks).with_context(|| format!("failed to list `{tasks}`"))?;
    listed.map(|task| Ok(task?.file_name().to_string_lossy().parse()?)).collect()
}

fn is_at_sync(tid: Pid) -> bool {
    let call = fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap_or_default();
    let call = call.split(' ').next().and_then(|call| call.parse().ok());
    call.is_some_and(|call| SYNCS.contains(&call))
}
