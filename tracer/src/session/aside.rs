//! A process beside this one, for work on a disk that may never answer, or that takes
//! capabilities which this one gives up.
//!
//! A thread that waits for a sick disk cannot be interrupted, and its process cannot
//! exit before the disk answers. In a thread of ours such a wait would keep `tracer top`
//! from quitting. So the work is done by a forked process, which has two pipes and what
//! it was given by name, and nothing else of ours: no other descriptors (they would keep
//! the hooks attached), no other capabilities, no terminal. It ends when we do, as soon as
//! the disk lets it.

use std::{
    ffi::CStr,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl::{set_name, set_no_new_privs, set_pdeathsig},
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stdin, fork},
};

/// How long the end waits for it; one whose disk does not answer stays for `init`.
const END: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(1);

/// The niceness of work that leaves nine tenths of a busy CPU to others: each level divides its
/// weight by 1.25 (<https://man7.org/linux/man-pages/man7/sched.7.html>). With 19 it would get a
/// seventieth, and a question on an overcommitted node would stay without an answer.
const LESS_URGENT: libc::c_int = 10;

/// More than a line of it ever has.
const LINE_BYTES: usize = 64 << 10;

/// All that the process is given beside its pipes.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its name in lists of processes.
    pub name: &'a CStr,
    pub descriptors: &'a [RawFd],
    /// The capabilities that it keeps; the session has them itself.
    pub capabilities: &'a [Capability],
}

impl Given<'_> {
    const NOTHING: Self = Self { name: c"tracer-aside", descriptors: &[], capabilities: &[] };
}

/// The process, and the pipes to it.
#[derive(Debug)]
pub struct Aside {
    pid: Pid,
    /// `None` once it has no more to do.
    orders: Option<PipeWriter>,
    answers: PipeReader,
    /// Bytes that were read from the pipe, and not yet returned.
    read: Vec<u8>,
}

impl Aside {
    /// Starts a process that does `work`, and is over after that. It must print
    /// nothing, take no lock that another thread may hold and start no thread.
    ///
    /// # Errors
    ///
    /// When there can be no further process, or no pipe.
    pub fn start(work: impl FnOnce(PipeReader, PipeWriter)) -> Result<Self> {
        Self::start_with(&Given::NOTHING, work)
    }

    /// Starts a process that has more than that.
    ///
    /// # Errors
    ///
    /// As [`Aside::start`].
    pub fn start_with(
        given: &Given<'_>,
        work: impl FnOnce(PipeReader, PipeWriter),
    ) -> Result<Self> {
        let (its_orders, orders) = io::pipe().context("failed to make a pipe")?;
        let (answers, its_answers) = io::pipe().context("failed to make a pipe")?;
        let parent = nix::unistd::getpid();
        // SAFETY: the child calls the kernel and the allocator, which is usable after
        // a fork in both C libraries that we link, and leaves without unwinding into
        // what it has a copy of.
        match unsafe { fork() }.context("failed to start a process")? {
            ForkResult::Parent { child } => {
                Ok(Self { pid: child, orders: Some(orders), answers, read: Vec::new() })
            }
            ForkResult::Child => {
                let leaves = Leaves;
                let pipes = [its_orders.as_raw_fd(), its_answers.as_raw_fd()];
                if confine(parent, pipes, given).is_ok() {
                    work(its_orders, its_answers);
                }
                drop(leaves);
                unreachable!("the process has left")
            }
        }
    }

    /// Its number, as /proc has it.
    #[cfg(test)]
    fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Sends it one byte.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn order(&mut self, order: u8) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.orders.as_mut().ok_or_else(gone)?.write_all(&[order])
    }

    /// The next line that it has written, if that comes in time.
    ///
    /// # Errors
    ///
    /// When it is gone, or writes lines without end.
    pub fn line(&mut self, within: Duration) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<_> = self.read.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.read.len() > LINE_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.is_ready(until) {
                return Ok(None);
            }
            if self.read_some()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// All that it writes until it is over, if that comes in time.
    pub fn whole(&mut self, within: Duration, most_bytes: usize) -> Option<Vec<u8>> {
        let until = Instant::now() + within;
        while self.read.len() <= most_bytes && self.is_ready(until) {
            match self.read_some() {
                Ok(0) => return Some(std::mem::take(&mut self.read)),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Some of what it writes, in its order; nothing once it is over. `None` if it writes
    /// nothing in time.
    ///
    /// # Errors
    ///
    /// When its pipe cannot be read.
    pub fn some(&mut self, within: Duration) -> io::Result<Option<Vec<u8>>> {
        if self.read.is_empty() {
            if !self.is_ready(Instant::now() + within) {
                return Ok(None);
            }
            self.read_some()?;
        }
        Ok(Some(std::mem::take(&mut self.read)))
    }

    fn is_ready(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that what is left of a millisecond is not spun away.
        let left = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut wait = [PollFd::new(self.answers.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::from(left)).is_ok_and(|ready| ready > 0)
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let count = self.answers.read(&mut bytes)?;
        self.read.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.orders = None;
        // It may have ended by itself, which is as good.
        let _ = kill(self.pid, Signal::SIGKILL);
        let until = Instant::now() + END;
        let alive = nix::sys::wait::WaitStatus::StillAlive;
        while waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) == Ok(alive) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

/// Bounds what the calling process may take: memory beyond what it has by now, and time of
/// a CPU, which it leaves to others. If memory is short in its cgroup, the kernel ends this
/// process before any other of ours.
///
/// # Errors
///
/// When the kernel does not let it.
pub fn bound(memory_bytes: u64, cpu: Duration) -> Result<()> {
    let kib = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let has = std::fs::read_to_string("/proc/self/status").ok().and_then(kib);
    let most = has.context("failed to read how much memory it has")? * 1024 + memory_bytes;
    setrlimit(Resource::RLIMIT_DATA, most, most)?;
    setrlimit(Resource::RLIMIT_CPU, cpu.as_secs(), cpu.as_secs())?;
    // Both are as well as can be: a filter of system calls may forbid them.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // SAFETY: it takes three numbers, and no memory of ours.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LESS_URGENT) };
    Ok(())
}

/// Leaves the process however its work ends.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        // SAFETY: it takes any number and does not return.
        unsafe { libc::_exit(0) }
    }
}

/// Gives up all that the parent has but these two pipes and what is given.
fn confine(parent: Pid, pipes: [RawFd; 2], given: &Given<'_>) -> Result<()> {
    // The handlers are the parent's, and write to its pipes.
    SigSet::all().thread_block()?;
    set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != parent {
        anyhow::bail!("the parent is gone");
    }
    set_name(given.name)?;
    close_others(pipes, given.descriptors)?;
    let has = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet =
        given.capabilities.iter().copied().filter(|capability| has.contains(capability)).collect();
    caps::clear(None, CapSet::Inheritable)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept)?;
    }
    set_no_new_privs()?;
    Ok(())
}

/// Closes all descriptors but these. The usual three become a pipe of it: whoever
/// reads our output would wait for the last that has it open.
fn close_others(pipes: [RawFd; 2], given: &[RawFd]) -> Result<()> {
    let mut kept = [&pipes[..], given].concat();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if first < fd {
            close_range(first, fd - 1);
        }
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX);
    // SAFETY: the descriptor is open, and belongs to whoever called.
    let orders = unsafe { std::os::fd::BorrowedFd::borrow_raw(pipes[0]) };
    dup2_stdin(orders)?;
    nix::unistd::dup2_stdout(orders)?;
    nix::unistd::dup2_stderr(orders)?;
    Ok(())
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: nothing in this process uses what is closed any more: it is a copy of
    // one thread, which goes on in `work`.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed != 0 {
        // Kernels before 5.9 have no close_range
        // (<https://github.com/torvalds/linux/commit/278a5fbaed89>). Few processes have more
        // than 4096 descriptors.
        for fd in first..=last.min(4096) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread::sleep};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn answer(mut answers: &PipeWriter, text: &str) {
        let _ = answers.write_all(text.as_bytes());
    }

    #[test]
    fn it_answers_line_by_line_until_there_are_no_more_orders() {
        let mut aside = Aside::start(|mut orders, answers| {
            let mut order = [0];
            while orders.read(&mut order).is_ok_and(|count| count > 0) {
                answer(&answers, &format!("{}\n", order[0]));
            }
            answer(&answers, "bye");
        })
        .unwrap();
        assert_eq!(aside.line(Duration::ZERO).unwrap(), None);
        aside.order(7).unwrap();
        aside.order(8).unwrap();
        assert_eq!(aside.line(SOON).unwrap().unwrap(), b"7");
        assert_eq!(aside.line(SOON).unwrap().unwrap(), b"8");
        aside.orders = None;
        assert_eq!(aside.whole(SOON, 100).unwrap(), b"bye");
    }

    #[test]
    fn it_has_none_of_our_descriptors_and_no_capability() {
        let ours = fs::File::open("/proc/self/status").unwrap();
        let mut aside = Aside::start(|_, answers| {
            let count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let effective = status.lines().find(|line| line.starts_with("CapEff")).unwrap_or("");
            answer(&answers, &format!("{count} {}", effective.trim_start_matches("CapEff:\t")));
        })
        .unwrap();
        // The usual three, two pipes, and the folder that is read.
        assert_eq!(aside.whole(SOON, 100).unwrap(), b"6 0000000000000000");
        drop(ours);
    }

    #[test]
    fn one_that_is_bounded_gets_no_more_memory_than_that() {
        let mut aside = Aside::start(|_, answers| {
            bound(64 << 20, SOON).expect("it can be bounded");
            let mut small: Vec<u8> = Vec::new();
            let has_room = |bytes: &mut Vec<u8>, size| bytes.try_reserve_exact(size).is_ok();
            let got = [32 << 20, 128 << 20].map(|size| has_room(&mut small, size));
            answer(&answers, &format!("{got:?}"));
        })
        .unwrap();
        assert_eq!(aside.some(SOON).unwrap().unwrap(), b"[true, false]");
        assert_eq!(aside.some(SOON).unwrap().unwrap(), b"", "it is over");
    }

    #[test]
    fn one_that_is_busy_ends_with_us_and_is_not_waited_for() {
        let aside = Aside::start(|_, _| sleep(Duration::from_secs(600))).unwrap();
        let status = format!("/proc/{}/status", aside.pid());
        assert!(fs::exists(&status).unwrap());
        let begin = Instant::now();
        drop(aside);
        assert!(begin.elapsed() < SOON);
        assert!(!fs::exists(&status).unwrap());
    }

    #[test]
    fn one_that_panics_is_gone_and_nothing_else() {
        let mut aside = Aside::start(|_, _| panic!("as it was asked to")).unwrap();
        let error = aside.line(SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
