//! Asks an agent over HTTP: gets a recording from it, or sets a mark in it.
//!
//! The answer is kept in a file without a name, since a report reads its recording twice,
//! and is bounded: an agent may be anybody.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::{
    Request, Response, StatusCode, body::Incoming, client::conn::http1, header,
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{cli::address::AgentUrl, output::escape::bounded};

/// A connection is there within this time.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// An agent needs a minute at most for its answer to begin, and five to its end.
const WHOLE_TIME: Duration = Duration::from_secs(360);

/// More than an agent sends.
const COPY_BYTES: u64 = 512 << 20;
const ERROR_BYTES: usize = 64 << 10;

/// The longest reason that is shown.
const COLUMNS: usize = 400;

/// The agent's reason for having no answer.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Gets what an agent has recorded of this time, in Unix seconds.
///
/// # Errors
///
/// When it cannot be reached, refuses, or does not give all of it: with what to do.
pub async fn recording(agent: &AgentUrl, from: f64, to: f64) -> Result<File> {
    within_its_time(agent, ask(agent, from, to)).await
}

/// Sets a mark in an agent's recording.
///
/// # Errors
///
/// When it cannot be reached or refuses.
pub async fn mark(agent: &AgentUrl, text: &str) -> Result<()> {
    let body = Full::from(text.to_owned());
    let sending = send(agent, Request::post("/api/v1/marks"), body);
    let answer = within_its_time(agent, sending).await?;
    match answer.status() {
        StatusCode::ACCEPTED => Ok(()),
        status => bail!("{}", refused(agent, status, answer).await),
    }
}

async fn within_its_time<T>(
    agent: &AgentUrl,
    answering: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(WHOLE_TIME, answering).await {
        Ok(answer) => answer,
        Err(_) => bail!("`{agent}` did not answer within {} s", WHOLE_TIME.as_secs()),
    }
}

async fn ask(agent: &AgentUrl, from: f64, to: f64) -> Result<File> {
    let request = Request::get(format!("/api/v1/recording?from={from:.3}&to={to:.3}"));
    let answer = send(agent, request, Full::default()).await?;
    match answer.status() {
        StatusCode::OK => keep(agent, answer).await,
        status => bail!("{}", refused(agent, status, answer).await),
    }
}

async fn send(agent: &AgentUrl, request: Builder, body: Full<Bytes>) -> Result<Response<Incoming>> {
    let mut request = request.header(header::CONNECTION, "close");
    request = match agent {
        AgentUrl::Socket(_) => request.header(header::HOST, "localhost"),
        AgentUrl::Http { host, port, login } => {
            let request = request.header(header::HOST, format!("{host}:{port}"));
            match login {
                None => request,
                Some(login) => {
                    let login = format!("Basic {}", STANDARD.encode(login));
                    request.header(header::AUTHORIZATION, login)
                }
            }
        }
    };
    let request = request.body(body).context("failed to make a request")?;
    let answer = match agent {
        AgentUrl::Socket(path) => {
            speak(connect(agent, UnixStream::connect(path)).await?, request).await
        }
        AgentUrl::Http { host, port, .. } => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            speak(connect(agent, TcpStream::connect((host, *port))).await?, request).await
        }
    };
    answer.with_context(|| format!("`{agent}` gave no answer of HTTP"))
}

async fn connect<S>(
    agent: &AgentUrl,
    connecting: impl Future<Output = io::Result<S>>,
) -> Result<S> {
    let connected = timeout(CONNECT_TIME, connecting).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .with_context(|| format!("failed to connect to `{agent}` (is an agent running there?)"))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // An error of the connection shows in the answer.
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Why the agent has no answer, and what to do.
async fn refused(agent: &AgentUrl, status: StatusCode, answer: Response<Incoming>) -> String {
    let limited = Limited::new(answer.into_body(), ERROR_BYTES);
    let body = limited.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let why = match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => refusal.error,
        Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    let to_do = match status {
        StatusCode::UNAUTHORIZED => "; give the password as http://user:password@node:9464",
        StatusCode::NOT_FOUND if why.contains("no such path") => {
            "; its tracer is too old to be asked for a recording"
        }
        _ => "",
    };
    format!("`{agent}` answers {}: {}{to_do}", status.as_u16(), bounded(&why, COLUMNS))
}

/// Writes the answer to a file.
async fn keep(agent: &AgentUrl, answer: Response<Incoming>) -> Result<File> {
    let (mut file, mut body, mut size) = (nameless()?, answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.with_context(|| format!("the answer of `{agent}` is not whole"))?;
        let Ok(bytes) = frame.into_data() else { continue };
        size += bytes.len() as u64;
        if size > COPY_BYTES {
            bail!("`{agent}` sends more than {} MiB", COPY_BYTES >> 20);
        }
        file.write_all(&bytes).context("failed to write a temporary file")?;
    }
    Ok(file)
}

/// A file that goes with its descriptor.
fn nameless() -> Result<File> {
    let path = env::temp_dir().join(format!("tracer-{}.rec", process::id()));
    let name = path.display();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("failed to make the temporary file `{name}`"))?;
    fs::remove_file(&path).with_context(|| format!("failed to remove `{name}`"))?;
    Ok(file)
}
