//! One module per command: a session goes in, lines and screens come out, and
//! [`exit`] turns the result into an exit code.

pub mod agent;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod kubectl;
pub mod mark;
mod marks;
pub mod past;
pub mod record;
pub mod replay;
pub mod report;
pub mod timeline;
pub mod top;
pub mod watch;
pub mod why;

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tracer_state::folder::USUAL;

use crate::{
    agent::{log, recall::Reading},
    session::{Options, Session, StartStep},
};

/// How long a record may lie in the ring before anybody looks.
pub const POLL: Duration = Duration::from_millis(100);

/// The time between two looks at the kernel programs' log.
const LOG_PERIOD: Duration = Duration::from_millis(10);

/// A loaded and tested tracer with the disks' references that an agent has kept.
///
/// # Errors
///
/// `CannotRun` where this machine cannot be traced.
pub fn start_beside_references(options: &Options) -> Result<Session> {
    let path = options.state_dir.as_deref().unwrap_or(Path::new(USUAL));
    let reading = Reading::begin(path);
    let mut session = start(options)?;
    reading.end(&mut session, log::say);
    Ok(session)
}

/// A loaded and tested tracer, or why there is none.
///
/// # Errors
///
/// `CannotRun` where this machine cannot be traced.
pub fn start(options: &Options) -> Result<Session> {
    start_by_steps(options, &mut StartStep::default())
}

/// Starts it, and says at which step it is.
///
/// # Errors
///
/// As [`start`]; the step is the one that went wrong.
pub fn start_by_steps(options: &Options, step: &mut StartStep) -> Result<Session> {
    let session = Session::start_by_steps(options, step)?;
    session.check_capabilities()?;
    if options.kernel_log {
        let mut log = session.kernel_log()?;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOG_PERIOD).await;
                log.print();
            }
        });
    }
    Ok(session)
}

/// Wakes a command's loop when there may be something to poll.
pub struct Wakeup(AsyncFd<OwnedFd>);

impl Wakeup {
    /// # Errors
    ///
    /// When the session's descriptor cannot be watched.
    pub fn new(session: &Session) -> Result<Self> {
        let ring = session.wakeup()?;
        // SAFETY: the descriptor is owned here, and nothing closes or replaces it
        // before it is deregistered.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self(ring.context("failed to watch the ring of records")?))
    }

    /// Waits until the kernel asks to be read, at most for [`POLL`].
    pub async fn wait(&self) {
        if let Ok(Ok(mut guard)) = tokio::time::timeout(POLL, self.0.readable()).await {
            guard.clear_ready();
        }
    }
}

/// Runs a command's loop; one thread is enough for all of it.
///
/// # Errors
///
/// When the command fails, or the runtime cannot be made.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?
        .block_on(future)
}

/// The signals that ask to stop, and the end of the time that was asked for.
pub struct Stop {
    signals: [Signal; 3],
    deadline: Option<Instant>,
}

impl Stop {
    /// # Errors
    ///
    /// When the signals cannot be watched.
    pub fn new(after: Option<Duration>) -> Result<Self> {
        let watch = |kind| signal(kind).context("failed to watch for signals");
        Ok(Self {
            signals: [
                watch(SignalKind::interrupt())?,
                watch(SignalKind::terminate())?,
                watch(SignalKind::hangup())?,
            ],
            deadline: after.map(|after| Instant::now() + after),
        })
    }

    /// Waits until it is time to stop.
    pub async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = deadline => {}
        }
    }
}

/// The time that is `time` after `now_ns`; never, if no time is given.
fn after(now_ns: u64, time: Option<Duration>) -> u64 {
    let ns = time.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    now_ns.saturating_add(ns)
}
