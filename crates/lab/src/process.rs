//! A child that never outlives us.
//!
//! The kernel is asked to kill the child when its parent dies (`PR_SET_PDEATHSIG`).
//! For the kernel, the parent is the *thread* that forked. So each child gets a
//! keeper thread, which forks it and stays until it has ended; the callers' threads
//! may end earlier. Children are in process groups of their own, so Ctrl-C reaches
//! only us, and we end them in order.
//!
//! The only unsafe code of the lab is here: it runs between fork and exec.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, getpid, getppid},
};

use crate::cgroup::Cgroup;

/// A killed child may take this long to end: one that waits for the disk ends only when
/// its request has completed.
const KILLED: Duration = Duration::from_secs(20);

/// A running child and its keeper.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    /// The cgroup, which is removed only when no process of ours is in it.
    _cgroup: Cgroup,
}

/// How a child ended, and what it wrote to standard error.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

impl Process {
    /// Starts `command` in `cgroup`. The first 64 KiB of its standard error are kept, its
    /// standard input is empty, and its standard output is the caller's choice.
    pub fn spawn(mut command: Command, cgroup: &Cgroup) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        die_with_us(&mut command);
        cgroup.enter(&mut command)?;
        command.stdin(Stdio::null()).stderr(Stdio::piped());

        let shared = Arc::new(Shared::default());
        let (sender, started) = mpsc::sync_channel(1);
        let keeper = thread::Builder::new().name("lab-keeper".into()).spawn({
            let shared = Arc::clone(&shared);
            move || match command.spawn() {
                Ok(child) => {
                    let _ = sender.send(Ok(child.id()));
                    shared.keep(child);
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
            }
        })?;
        let pid = started
            .recv()
            .map_err(|_| anyhow!("the keeper of `{name}` ended early"))?
            .with_context(|| format!("failed to start `{name}`"))?;
        Ok(Process { name, pid, shared, keeper: Some(keeper), _cgroup: cgroup.clone() })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.shared.lock().clone()
    }

    /// Waits for its end, for at most this long.
    pub fn wait(&self, at_most: Duration) -> Option<Ended> {
        let until = Instant::now() + at_most;
        let mut ended = self.shared.lock();
        while ended.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            ended = self
                .shared
                .changed
                .wait_timeout(ended, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        ended.clone()
    }

    /// Asks it to end, kills it if it has not ended after `grace`, and waits.
    pub fn stop(&mut self, grace: Duration) -> Result<Ended> {
        self.signal(Signal::SIGTERM)?;
        let mut ended = self.wait(grace);
        if ended.is_none() {
            self.signal(Signal::SIGKILL)?;
            ended = self.wait(KILLED);
        }
        let Some(ended) = ended else {
            bail!(
                "`{}` (pid {}) does not end; the kernel will kill it when this process ends",
                self.name,
                self.pid
            );
        };
        if let Some(keeper) = self.keeper.take() {
            keeper.join().map_err(|_| anyhow!("the keeper of `{}` panicked", self.name))?;
        }
        Ok(ended)
    }

    /// Holding the lock keeps the child from being reaped, so its pid cannot have been
    /// reused.
    fn signal(&self, signal: Signal) -> Result<()> {
        let ended = self.shared.lock();
        if ended.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("failed to signal `{}` (pid {pid})", self.name))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Duration::from_secs(5)) {
            eprintln!("lab: {error:#}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the child's end without reaping it, then reaps it under the lock.
    fn keep(&self, mut child: Child) {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = child.stderr.take() {
            // The pipe ends with the child, because nothing that we run leaves children
            // behind. All of it is read, so that the child does not block on a full pipe.
            let _ = pipe.by_ref().take(64 << 10).read_to_end(&mut stderr);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        if let Ok(pid) = i32::try_from(child.id()) {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(Pid::from_raw(pid)), flags) == Err(Errno::EINTR) {}
        }
        let mut ended = self.lock();
        match child.wait() {
            Ok(status) => *ended = Some(Ended { status, stderr }),
            Err(error) => eprintln!("lab: failed to wait for pid {}: {error}", child.id()),
        }
        self.changed.notify_all();
    }
}

/// Makes the kernel kill the child when the calling thread ends, and keeps the terminal's
/// signals away from it.
pub fn die_with_us(command: &mut Command) {
    let parent = getpid();
    command.process_group(0);
    // SAFETY: the closure makes two system calls and allocates nothing, which
    // is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the request was made.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
}

/// Makes the child move itself into the cgroup whose `cgroup.procs` is `procs`, before it
/// executes its program.
pub fn born_in(command: &mut Command, procs: File) {
    // SAFETY: the closure makes one system call on a descriptor that it owns
    // and allocates nothing, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || -> io::Result<()> { (&procs).write_all(b"0") });
    }
}
