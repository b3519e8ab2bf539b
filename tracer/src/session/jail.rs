//! A filter on the system calls of a process (seccomp): what it may still ask for.
//!
//! A process that keeps capabilities after it has given up its files, its network and
//! its terminal shall not get any of them back.

use std::env::consts::ARCH;

use anyhow::{Context as _, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// System calls that reach nothing beyond what the process has already: memory, locks, its
/// own descriptors, the time, its own end.
const HARMLESS: [libc::c_long; 17] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// From here on the calling thread may use these commands of `bpf`, memory that holds
/// no instructions, and what reaches nothing. All else is refused (EPERM), and that for
/// good.
///
/// # Errors
///
/// When the kernel knows no such filters.
pub fn enter(bpf_commands: &[u32]) -> Result<()> {
    let mut rules: Vec<_> = HARMLESS.into_iter().map(|call| (call, Vec::new())).collect();
    let commands: Result<Vec<_>, _> =
        bpf_commands.iter().map(|command| rule(0, SeccompCmpOp::Eq, u64::from(*command))).collect();
    rules.push((libc::SYS_bpf, commands?));
    let duplicate = rule(1, SeccompCmpOp::Eq, libc::F_DUPFD_CLOEXEC as u64)?;
    rules.push((libc::SYS_fcntl, vec![duplicate]));
    let no_code = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    rules.push((libc::SYS_mmap, vec![rule(2, no_code, 0)?]));
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        ARCH.try_into().context("failed to name this architecture")?,
    )
    .context("failed to make a filter of system calls")?;
    let program: BpfProgram = filter.try_into().context("failed to compile a filter")?;
    apply_filter(&program).context("failed to filter system calls")
}

/// Permits a call where an argument compares so.
fn rule(argument: u8, comparison: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, net::TcpListener, process::Command, time::Duration};

    use super::*;
    use crate::session::Aside;

    // The kernel knows neither command: one that the filter lets through fails with EINVAL.
    const ALLOWED: u32 = 0x7fff_0001;
    const FORBIDDEN: u32 = 0x7fff_0002;

    fn bpf(command: u32) -> i32 {
        // SAFETY: the kernel reads no attributes where there are none.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, 0, 0) };
        assert_eq!(result, -1);
        std::io::Error::last_os_error().raw_os_error().unwrap()
    }

    /// Code in memory that was not there before.
    fn maps_code() -> bool {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: a new mapping touches none that is there.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        at != libc::MAP_FAILED
    }

    #[test]
    fn nothing_but_memory_and_some_commands_is_left() {
        let mut aside = Aside::start(|_, mut answers| {
            let before = [File::open("/proc/self/status").is_ok(), maps_code()];
            let unknown = bpf(FORBIDDEN);
            let entered = enter(&[ALLOWED]).is_ok();
            let after = [
                File::open("/proc/self/status").is_ok(),
                maps_code(),
                TcpListener::bind("127.0.0.1:0").is_ok(),
                Command::new("true").status().is_ok(),
            ];
            let grown = vec![7_u8; 8 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>();
            let commands = [bpf(ALLOWED) == unknown, bpf(FORBIDDEN) == libc::EPERM];
            let said = format!("{before:?} {entered} {after:?} {grown} {commands:?}");
            let _ = answers.write_all(said.as_bytes());
        })
        .unwrap();
        let said = String::from_utf8(aside.whole(Duration::from_secs(20), 1000).unwrap()).unwrap();
        let expected = "[true, true] true [false, false, false, false] 58720256 [true, true]";
        assert_eq!(said, expected);
    }
}
