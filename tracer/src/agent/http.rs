//! The agent's HTTP side, in a thread of its own.
//!
//! It answers `GET` (and `HEAD`) on a handful of paths from what the loop has
//! put into [`Shared`], and changes nothing. A connection serves one request and has
//! a time limit, and the number of connections is bounded, so that a client
//! that does not read costs memory and nothing else. What is served is what the
//! node's `/proc` shows to root, so the address is the node's own unless the user
//! says otherwise, and who may ask there is [`super::web`]'s to say.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    address,
    exposition::Format,
    log,
    privileges::{self, Privileges},
    shared::{Refusal, Shared, Wanted},
    web::{
        gate::{self, Gate, Web},
        names,
        users::AT_A_TIME,
    },
};
use crate::output::escape::escape;

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// A request's head comes within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Everything of a connection is over within this time.
const WHOLE_TIME: Duration = Duration::from_secs(30);

/// The largest head of a request.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;

/// Slow syncs in an answer to a request without `limit`.
const SYNCS: usize = 100;

const PAGE: &str = include_str!("page.html");

/// Permits only the page's own script and style, and requests to this agent.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let inside = inside(PAGE, tag).unwrap_or_default();
        STANDARD.encode(Sha256::digest(inside.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// The text between an opening tag and its closing tag.
fn inside<'a>(page: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once(&format!("</{tag}>"))?.0)
}

/// Takes the address.
///
/// # Errors
///
/// When it is taken already, or not this machine's.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = address::bind(address).with_context(|| {
        format!(
            "failed to listen on `{address}` (is another agent running? --listen takes another \
             address)"
        )
    })?;
    listener.set_nonblocking(true).context("failed to set up the listener")?;
    Ok(listener)
}

/// A door leads to these paths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serves {
    Everything,
    /// Whether the agent is alive and ready: for those that cannot show a password.
    Probes,
}

/// One address, and who may come in there.
pub struct Door {
    listener: TcpListener,
    serves: Serves,
    gate: Arc<Gate>,
    /// Names that it answers to beside its addresses.
    allowed: Arc<[String]>,
}

impl Door {
    pub fn new(
        listener: TcpListener,
        serves: Serves,
        gate: Arc<Gate>,
        allowed: Arc<[String]>,
    ) -> Self {
        Self { listener, serves, gate, allowed }
    }
}

/// Serves from now on, in a thread of its own that ends with the process.
///
/// # Errors
///
/// When the thread cannot be made.
pub fn serve(doors: Vec<Door>, shared: Arc<Shared>, privileges: Privileges) -> Result<()> {
    let run = move || {
        if let Err(error) = run(doors, &shared, privileges) {
            // Its health check fails from now on.
            log::error(&format!("nothing is served any more: {error:#}"));
        }
    };
    thread::Builder::new().name("http".into()).spawn(run).context("failed to start a thread")?;
    Ok(())
}

fn run(doors: Vec<Door>, shared: &Arc<Shared>, privileges: Privileges) -> Result<()> {
    if privileges == Privileges::Drop {
        privileges::drop_all().context("failed to give up the privileges of the HTTP side")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Passwords are checked there, and files looked at.
        .max_blocking_threads(AT_A_TIME + 1)
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let mut doors: JoinSet<_> =
            doors.into_iter().map(|door| accept(door, Arc::clone(shared))).collect();
        // None of them ends but by an error.
        doors.join_next().await.unwrap_or(Ok(Ok(()))).context("a door is gone")?
    })
}

async fn accept(door: Door, shared: Arc<Shared>) -> Result<()> {
    let Door { listener, serves, gate, allowed } = door;
    let bound = listener.local_addr().context("the listener has no address")?.ip();
    let listener =
        tokio::net::TcpListener::from_std(listener).context("failed to take the listener")?;
    if gate.has_file() {
        tokio::spawn(follow(Arc::clone(&gate), Arc::clone(&shared)));
    }
    // Each door has its own: who blocks one is in nobody's way at the other.
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.context("the places are gone")?;
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, or a client that is gone already.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // A client that is gone has none.
        let Ok(local) = stream.local_addr() else { continue };
        let visit = Visit {
            shared: Arc::clone(&shared),
            serves,
            web: gate.now(),
            gate: Arc::clone(&gate),
            allowed: Arc::clone(&allowed),
            local: local.ip(),
            bound,
        };
        tokio::spawn(async move {
            // Whatever goes wrong is the client's doing, and its to say.
            let _ = timeout(WHOLE_TIME, visit.receive(stream)).await;
            drop(place);
        });
    }
}

/// Takes over what the web-config file and those it names say, as they change.
async fn follow(gate: Arc<Gate>, shared: Arc<Shared>) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(gate::LOOK).await;
        // A file may lie on a disk that does not answer.
        let looking = Arc::clone(&gate);
        let Ok(looked) = spawn_blocking(move || looking.follow()).await else { return };
        match looked {
            Ok(false) => {}
            Ok(true) => {
                said.clear();
                shared.count_web_reload(true);
                log::say("has read its web-config file again");
            }
            Err(error) => {
                shared.count_web_reload(false);
                let why = format!("{error:#}");
                if why != said {
                    log::warn(&format!("keeps its TLS and passwords as they are: {why}"));
                    said = why;
                }
            }
        }
    }
}

/// One connection.
struct Visit {
    shared: Arc<Shared>,
    serves: Serves,
    gate: Arc<Gate>,
    web: Arc<Web>,
    allowed: Arc<[String]>,
    /// The address that it came in by.
    local: IpAddr,
    bound: IpAddr,
}

impl Visit {
    async fn receive(self, stream: TcpStream) {
        let Some(tls) = self.web.tls.clone() else { return self.talk(stream).await };
        match timeout(HEAD_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream).await,
            _ => self.shared.refuse(Refusal::Handshake),
        }
    }

    async fn talk(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let visit = Arc::new(self);
        let service = service_fn(move |request| {
            let visit = Arc::clone(&visit);
            async move { Ok::<_, Infallible>(visit.answer(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .keep_alive(false)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let _ = connection.await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let mut answer = match self.turn_away(request).await {
            Some(refusal) => refusal,
            None => answer(&self.shared, self.serves, request),
        };
        let headers = self.web.headers.iter();
        for (name, value) in headers {
            // The page's own policy is the narrower one.
            if !answer.headers().contains_key(name) {
                answer.headers_mut().insert(name.clone(), value.clone());
            }
        }
        answer
    }

    /// Answers somebody who may not ask.
    async fn turn_away(&self, request: &Request<Incoming>) -> Option<Answer> {
        if !self.calls_us_by_name(request) {
            self.shared.refuse(Refusal::Host);
            let why = "this is not a name of this agent: ask it by its address, or start it \
                       with --allowed-hosts\n";
            return Some(plain(StatusCode::MISDIRECTED_REQUEST, why));
        }
        if self.web.users.is_empty() {
            return None;
        }
        let given = request.headers().get(header::AUTHORIZATION);
        if self.gate.users.are_asked_by(&self.web.users, given).await {
            return None;
        }
        self.shared.refuse(Refusal::Password);
        let answer = plain(StatusCode::UNAUTHORIZED, "the password is missing or wrong\n");
        Some(with(answer, header::WWW_AUTHENTICATE, "Basic realm=\"tracer\""))
    }

    /// HTTP/1.0 knows no `Host`, and no browser speaks it.
    fn calls_us_by_name(&self, request: &Request<Incoming>) -> bool {
        let is_ours = |host: &str| names::is_ours(host, self.local, self.bound, &self.allowed);
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().is_ok_and(is_ours),
            (None, _) => request.version() == Version::HTTP_10,
            (Some(_), Some(_)) => false,
        };
        // `GET http://…` names one too.
        host && request.uri().authority().is_none_or(|named| is_ours(named.as_str()))
    }
}

type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

fn answer(shared: &Shared, serves: Serves, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let is_known = match path {
        "/healthz" | "/readyz" => true,
        "/" | "/favicon.ico" | "/metrics" | "/api/v1/verdicts" | "/api/v1/syncs" => {
            serves == Serves::Everything
        }
        _ => false,
    };
    if !is_known {
        return plain(StatusCode::NOT_FOUND, "there is no such path\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        return with(answer, header::ALLOW, "GET, HEAD");
    }
    let body = match path {
        "/" => Ok((HTML, Bytes::from_static(PAGE.as_bytes()))),
        "/favicon.ico" => return plain(StatusCode::NO_CONTENT, ""),
        "/healthz" => return health(shared),
        "/readyz" => return readiness(shared),
        "/api/v1/syncs" => match wanted(request.uri().query().unwrap_or_default()) {
            Ok(wanted) => shared.syncs(wanted).map(|body| (JSON, body)),
            Err(why) => return plain(StatusCode::BAD_REQUEST, &why),
        },
        _ => match shared.published() {
            None => return without_snapshot(shared, path, request),
            Some(published) if path == "/metrics" => {
                let format = format(request);
                published
                    .metrics(format, || shared.exemplars())
                    .map(|body| (format.content_type(), body))
            }
            Some(published) => published.verdicts().map(|body| (JSON, body)),
        },
    };
    match body {
        Ok((kind, body)) => {
            let answer = respond(StatusCode::OK, kind, body);
            match path {
                "/" => with(answer, header::CONTENT_SECURITY_POLICY, &POLICY),
                _ => answer,
            }
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}\n")),
    }
}

fn format(request: &Request<Incoming>) -> Format {
    let accept = request.headers().get(header::ACCEPT);
    Format::wanted(accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default())
}

/// The answer while there is no snapshot: before the first one, and on a node that
/// cannot be traced.
fn without_snapshot(shared: &Shared, path: &str, request: &Request<Incoming>) -> Answer {
    let Some(down) = shared.down() else {
        return unavailable("the self-test is running\n");
    };
    if path != "/metrics" {
        return unavailable(&cannot(down.why()));
    }
    let format = format(request);
    match down.metrics(format) {
        Ok(body) => respond(StatusCode::OK, format.content_type(), body),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}\n")),
    }
}

fn cannot(why: &str) -> String {
    format!("cannot trace this node: {}\n", escape(why))
}

fn health(shared: &Shared) -> Answer {
    match shared.stuck() {
        None => plain(StatusCode::OK, "alive\n"),
        Some(away) => {
            unavailable(&format!("the agent's loop has been stuck for {} s\n", away.as_secs()))
        }
    }
}

fn readiness(shared: &Shared) -> Answer {
    // A rollout must not wait for a node that can never be traced.
    match shared.down() {
        _ if shared.is_ready() => plain(StatusCode::OK, "ready\n"),
        Some(down) => plain(StatusCode::OK, &cannot(down.why())),
        None => unavailable("the self-test is running\n"),
    }
}

/// Reads `min=10ms&limit=100`, or `id=17`; each may be left out.
fn wanted(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted { min: Duration::ZERO, limit: SYNCS, id: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("min", value)) => {
                wanted.min = humantime::parse_duration(value)
                    .map_err(|_| "min must be a duration such as 10ms\n".to_owned())?;
            }
            Some(("limit", value)) => {
                wanted.limit = value.parse().map_err(|_| "limit must be a number\n".to_owned())?;
            }
            Some(("id", value)) => {
                let id = value.parse().map_err(|_| "id is a number\n".to_owned())?;
                wanted.id = Some(id);
            }
            _ => return Err("the parameters are min, limit and id\n".to_owned()),
        }
    }
    Ok(wanted)
}

fn unavailable(why: &str) -> Answer {
    plain(StatusCode::SERVICE_UNAVAILABLE, why)
}

fn plain(status: StatusCode, text: &str) -> Answer {
    respond(status, PLAIN, Bytes::copy_from_slice(text.as_bytes()))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    // Ours are all plain text.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

#[cfg(test)]
mod secure;
#[cfg(test)]
mod tests;
