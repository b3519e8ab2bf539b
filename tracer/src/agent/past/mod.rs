//! Questions about what was recorded, answered by a process beside the agent.
//!
//! A replay takes a CPU, memory and reads of a disk that may be the one in trouble. So the
//! thread that speaks HTTP starts a process for each question, which has bounds of its own,
//! leaves the CPU to everybody else and ends with its answer. Two are answered at a time.
//! How a verdict or a timeline is made is the commands' to know: the process does what they
//! do.

pub mod question;

use std::{
    io::{self, PipeWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
    time::{Instant as Moment, timeout_at},
};
use tracer_recording::segments::copy::Copy;

use self::question::Question;
use crate::session::{Aside, bound};

/// Questions that are answered at a time; threads wait for their answers.
pub const AT_A_TIME: usize = 2;

/// An answer begins within this time.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// An answer is given to its end within this time.
pub const WHOLE_TIME: Duration = Duration::from_secs(300);

/// A replay's own memory, and its time of a CPU. Two of them and the agent have room in the
/// 128 MiB that its unit and its pod may take, with the kernel programs' tables.
const MEMORY_BYTES: u64 = 32 << 20;
const CPU_TIME: Duration = ANSWER_TIME;

/// The longest copy of a recording.
const COPY_BYTES: u64 = 256 << 20;

/// Pieces of an answer that wait for a client to take them.
const PIECES: usize = 4;

/// The process writes this after its answer; without it, the answer is not whole.
const WHOLE: &[u8] = b"\0whole\0\n";

/// An answer while it is made.
pub type Stream = Channel<Bytes, io::Error>;

/// Answers a question about a directory of segments, in JSON.
pub type Answerer = fn(&Path, &Question) -> Result<Vec<u8>>;

/// Why there is no answer: a status of HTTP, and a sentence.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refused {
    pub status: u16,
    pub why: String,
}

impl Refused {
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status: status.as_u16(), why: why.into() }
    }

    pub fn nothing_is_recorded() -> Self {
        let why = "this agent records nothing: start it with --record DIR";
        Self::new(StatusCode::NOT_FOUND, why)
    }
}

/// The first line that the process writes.
#[derive(Deserialize, Serialize)]
enum Head {
    /// With its length, where that is known.
    Answer(Option<u64>),
    Refused(Refused),
}

/// The recording that is asked, if there is one.
pub struct Past {
    folder: Option<PathBuf>,
    answerer: Answerer,
    places: Arc<Semaphore>,
}

impl Past {
    pub fn new(folder: Option<PathBuf>, answerer: Answerer) -> Self {
        Self { folder, answerer, places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Whether anything is recorded.
    pub fn is_recorded(&self) -> bool {
        self.folder.is_some()
    }

    /// Asks a question. The answer comes with its length, where that is known, and ends with an
    /// error if it cannot be given to its end.
    ///
    /// # Errors
    ///
    /// When nothing is recorded, others ask already, or there is no answer.
    pub async fn ask(&self, question: Question) -> Result<(Stream, Option<u64>), Refused> {
        let Some(folder) = self.folder.clone() else {
            return Err(Refused::nothing_is_recorded());
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!(
                "{AT_A_TIME} questions about the recording are being answered: ask again in a \
                 moment"
            );
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why));
        };
        let (begins, begun) = oneshot::channel();
        let (sender, stream) = Channel::new(PIECES);
        let (runtime, answerer) = (Handle::current(), self.answerer);
        spawn_blocking(move || {
            let _place = place;
            let started = Aside::start(|_, out| work(&folder, &question, answerer, out));
            match started.map_err(|error| internal(format!("{error:#}"))).and_then(begin) {
                Ok((aside, length)) => {
                    // A client that is gone shows at the first piece.
                    let _ = begins.send(Ok(length));
                    pass_on(aside, sender, &runtime);
                }
                Err(refused) => drop(begins.send(Err(refused))),
            }
        });
        match begun.await {
            Ok(Ok(length)) => Ok((stream, length)),
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(internal("the thread that asks is gone".to_owned())),
        }
    }
}

fn internal(why: String) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// Waits until the process has an answer.
fn begin(mut aside: Aside) -> Result<(Aside, Option<u64>), Refused> {
    let line = match aside.line(ANSWER_TIME) {
        Ok(Some(line)) => line,
        Ok(None) => {
            let seconds = ANSWER_TIME.as_secs();
            let why = format!("the answer took longer than {seconds} s: ask about a shorter time");
            return Err(Refused::new(StatusCode::GATEWAY_TIMEOUT, why));
        }
        Err(_) => {
            let why = format!(
                "the answer took more than {} MiB of memory or {} s of a CPU: ask about a shorter \
                 time",
                MEMORY_BYTES >> 20,
                CPU_TIME.as_secs()
            );
            return Err(internal(why));
        }
    };
    match serde_json::from_slice(&line) {
        Ok(Head::Answer(length)) => Ok((aside, length)),
        Ok(Head::Refused(refused)) => Err(refused),
        Err(error) => Err(internal(error.to_string())),
    }
}

/// Hands an answer over as fast as the client takes it.
fn pass_on(mut aside: Aside, mut sender: Sender<Bytes, io::Error>, runtime: &Handle) {
    let until = Instant::now() + WHOLE_TIME;
    let mut rest = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(Some(more)) = aside.some(left) else { break };
        if more.is_empty() {
            if rest == WHOLE {
                return;
            }
            break;
        }
        rest.extend(more);
        let ready = rest.len().saturating_sub(WHOLE.len());
        let piece: Vec<_> = rest.drain(..ready).collect();
        let sending = timeout_at(Moment::from_std(until), sender.send_data(piece.into()));
        match runtime.block_on(sending) {
            Ok(Ok(())) => {}
            // The client is gone.
            Ok(Err(_)) => return,
            Err(_) => break,
        }
    }
    sender.abort(io::Error::other("the answer is not whole"));
}

/// The process's work.
fn work(folder: &Path, question: &Question, answerer: Answerer, mut out: PipeWriter) {
    let answer = bound(MEMORY_BYTES, CPU_TIME)
        .map_err(|error| internal(format!("{error:#}")))
        .and_then(|()| answer(folder, question, answerer));
    // Nobody may read any longer what is written.
    let _ = match answer {
        Ok(answer) => {
            let head = Head::Answer(answer.length());
            write_head(&mut out, &head).and_then(|()| answer.write_to(&mut out))
        }
        Err(refused) => write_head(&mut out, &Head::Refused(refused)),
    };
}

fn write_head(out: &mut PipeWriter, head: &Head) -> io::Result<()> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    out.write_all(&line)
}

enum Answer {
    Text(Vec<u8>),
    Copy(Copy),
}

impl Answer {
    /// `None` for a copy: damaged parts are left out.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Text(bytes) => Some(bytes.len() as u64),
            Self::Copy(_) => None,
        }
    }

    fn write_to(&self, out: &mut PipeWriter) -> io::Result<()> {
        match self {
            Self::Text(bytes) => out.write_all(bytes)?,
            Self::Copy(copy) => copy.write_to(out)?,
        }
        out.write_all(WHOLE)
    }
}

fn answer(folder: &Path, question: &Question, answerer: Answerer) -> Result<Answer, Refused> {
    let &Question::Recording { from, to } = question else {
        return answerer(folder, question).map(Answer::Text).map_err(|error| {
            let is_failure = error.chain().any(<dyn std::error::Error>::is::<io::Error>);
            let status = match is_failure {
                true => StatusCode::INTERNAL_SERVER_ERROR,
                // There is no such victim, or nothing is known of that time.
                false => StatusCode::NOT_FOUND,
            };
            Refused::new(status, format!("{error:#}"))
        });
    };
    let copy = Copy::of(folder, from, to).map_err(|error| {
        let name = folder.display();
        internal(format!("failed to read the directory `{name}`: {error}"))
    })?;
    if copy.is_empty() {
        let why = "nothing was recorded at that time";
        return Err(Refused::new(StatusCode::NOT_FOUND, why));
    }
    let bytes = copy.bytes();
    if bytes > COPY_BYTES {
        let why = format!(
            "that time takes {} MiB, and at most {} are sent at once: ask for a shorter time",
            bytes >> 20,
            COPY_BYTES >> 20
        );
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(Answer::Copy(copy))
}

#[cfg(test)]
pub(super) mod tests;
