//! The agent's HTTP side, in a thread of its own.
//!
//! It answers `GET` (and `HEAD`) on a handful of paths ([`routes`]) from what the loop has
//! put into [`Shared`], and changes nothing, except that its socket takes marks. A
//! connection serves one request and has a time limit, and the number of connections is
//! bounded, so that a client that does not read costs memory and nothing else. What is
//! served is what the node's `/proc` shows to root, so the address is the node's own unless
//! the user says otherwise, and [`super::web`] decides who may ask there. A Unix socket is
//! open to its owner alone, by its mode.

pub mod routes;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    Request, StatusCode, Version, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use self::routes::{Answer, Asks, Route, plain, with};
use super::{
    address, log,
    past::{self, Past},
    privileges::{self, Privileges},
    shared::{Refusal, Shared},
    web::{
        gate::{self, Gate, Web},
        names,
        users::AT_A_TIME,
    },
};

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// A request's head comes within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Everything of a connection is over within this time, except a question about the
/// recording ([`past::WHOLE_TIME`]).
const WHOLE_TIME: Duration = Duration::from_secs(30);

/// The largest head of a request.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;

const PAGE: &str = include_str!("page.html");

/// A report runs nothing and loads nothing, and only the page shows it within itself.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                             form-action 'none'; frame-ancestors 'self'";

/// Permits only the page's own script and style, requests to this agent, and its reports.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let inside = inside(PAGE, tag).unwrap_or_default();
        STANDARD.encode(Sha256::digest(inside.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         frame-src 'self'; \
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

/// Binds the address.
///
/// # Errors
///
/// When it is in use, or is no address of this machine.
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

enum Listener {
    /// An address of the network.
    Address(TcpListener),
    /// A socket in the filesystem, for its owner alone.
    Socket(UnixListener),
}

/// The paths that a door serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serves {
    Everything,
    /// All paths, and marks are accepted, because the kernel names the user at the other end.
    Socket,
    /// The paths of probes, which cannot show a password.
    Probes,
}

/// One listener, with the paths that it serves and the gate that checks who asks.
pub struct Door {
    listener: Listener,
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
        Self { listener: Listener::Address(listener), serves, gate, allowed }
    }

    /// A socket in the filesystem, which asks for no password and has no name.
    pub fn of_socket(listener: UnixListener) -> Self {
        let (serves, gate, allowed) = (Serves::Socket, Arc::default(), Arc::default());
        Self { listener: Listener::Socket(listener), serves, gate, allowed }
    }
}

/// Serves from now on, in a thread of its own that ends with the process.
///
/// # Errors
///
/// When the thread cannot be made.
pub fn serve(
    doors: Vec<Door>,
    shared: Arc<Shared>,
    past: Past,
    privileges: Privileges,
) -> Result<()> {
    let run = move || {
        if let Err(error) = run(doors, &shared, past, privileges) {
            // Its health check fails from now on.
            log::error(&format!("nothing is served any more: {error:#}"));
        }
    };
    thread::Builder::new().name("http".into()).spawn(run).context("failed to start a thread")?;
    Ok(())
}

fn run(doors: Vec<Door>, shared: &Arc<Shared>, past: Past, privileges: Privileges) -> Result<()> {
    if privileges == Privileges::Drop {
        privileges::drop_all().context("failed to give up the privileges of the HTTP side")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Passwords are checked there, files looked at, and the recording is asked.
        .max_blocking_threads(AT_A_TIME + 1 + past::AT_A_TIME)
        .build()
        .context("failed to start the runtime")?;
    let past = Arc::new(past);
    runtime.block_on(async {
        let accept = |door| accept(door, Arc::clone(shared), Arc::clone(&past));
        let mut doors: JoinSet<_> = doors.into_iter().map(accept).collect();
        // None of them ends but by an error.
        doors.join_next().await.unwrap_or(Ok(Ok(()))).context("a door is gone")?
    })
}

async fn accept(door: Door, shared: Arc<Shared>, past: Arc<Past>) -> Result<()> {
    let Door { listener, serves, gate, allowed } = door;
    let failed = "failed to take the listener";
    if gate.has_file() {
        tokio::spawn(follow(Arc::clone(&gate), Arc::clone(&shared)));
    }
    let visit = |came_by| Visit {
        shared: Arc::clone(&shared),
        past: Arc::clone(&past),
        serves,
        web: gate.now(),
        gate: Arc::clone(&gate),
        allowed: Arc::clone(&allowed),
        came_by,
        takes_longer: AtomicBool::new(false),
    };
    match listener {
        Listener::Address(listener) => {
            let bound = listener.local_addr().context("the listener has no address")?.ip();
            let listener = tokio::net::TcpListener::from_std(listener).context(failed)?;
            attend((listener, bound), visit).await
        }
        Listener::Socket(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener).context(failed)?;
            attend(listener, visit).await
        }
    }
}

/// Connections come in one after another.
trait Entry {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and how it came in; `None` if the client is gone already.
    fn next(&self) -> impl Future<Output = io::Result<Option<(Self::Stream, CameBy)>>> + Send;
}

/// A listener, and the address that it is bound to.
impl Entry for (tokio::net::TcpListener, IpAddr) {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<Option<(TcpStream, CameBy)>> {
        let (listener, bound) = self;
        let (stream, _) = listener.accept().await?;
        let local = stream.local_addr().ok();
        Ok(local.map(|local| (stream, CameBy::Address { local: local.ip(), bound: *bound })))
    }
}

impl Entry for tokio::net::UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<Option<(UnixStream, CameBy)>> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred().ok();
        Ok(peer.map(|peer| (stream, CameBy::Socket { uid: peer.uid() })))
    }
}

/// Receives one connection after another, at most [`CONNECTIONS`] at a time.
async fn attend(entry: impl Entry, visit: impl Fn(CameBy) -> Visit) -> Result<()> {
    // Each door has places of its own, so a client that blocks one door does not block the
    // other.
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.context("the places are gone")?;
        let Ok(came) = entry.next().await else {
            // No descriptors left, or a client that is gone already.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some((stream, came_by)) = came else { continue };
        let visit = Arc::new(visit(came_by));
        tokio::spawn(async move {
            Arc::clone(&visit).within_its_time(visit.receive(stream)).await;
            drop(place);
        });
    }
}

/// Reads the web-config file and the files that it names again when they change.
async fn follow(gate: Arc<Gate>, shared: Arc<Shared>) {
    let mut said = String::new();
    loop {
        sleep(gate::LOOK).await;
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

/// How a connection came in.
enum CameBy {
    /// The address that it arrived at, and the one that is listened on.
    Address { local: IpAddr, bound: IpAddr },
    Socket {
        /// The id of the user who asks.
        uid: u32,
    },
}

/// One connection.
struct Visit {
    shared: Arc<Shared>,
    past: Arc<Past>,
    serves: Serves,
    gate: Arc<Gate>,
    web: Arc<Web>,
    allowed: Arc<[String]>,
    came_by: CameBy,
    /// Whether it asks the recording.
    takes_longer: AtomicBool,
}

impl Visit {
    /// An error in a connection is the client's, and is not logged.
    async fn within_its_time(self: Arc<Self>, all: impl Future<Output = ()>) {
        let is_late = async {
            sleep(WHOLE_TIME).await;
            if self.takes_longer.load(Relaxed) {
                sleep(past::WHOLE_TIME).await;
            }
        };
        tokio::select! {
            () = all => {}
            () = is_late => {}
        }
    }

    /// Begins with TLS if the door asks for it; a socket in the filesystem never does.
    async fn receive(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(tls) = self.web.tls.clone() else { return self.talk(stream).await };
        match timeout(HEAD_TIME, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream).await,
            _ => self.shared.refuse(Refusal::Handshake),
        }
    }

    async fn talk(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let visit = Arc::clone(&self);
            async move { Ok::<_, Infallible>(visit.answer(request).await) }
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

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mut answer = match self.turn_away(&request).await {
            Some(refusal) => refusal,
            None => match (routes::find(self.serves, &request), &self.came_by) {
                (Ok(Route::Marks), CameBy::Socket { uid }) => {
                    routes::mark(&self.shared, &self.past, *uid, request.into_body()).await
                }
                (Ok(route), _) => {
                    self.takes_longer.store(route.is_past(), Relaxed);
                    routes::answer(route, &self.shared, &self.past, self.asks(), &request).await
                }
                (Err(refusal), _) => *refusal,
            },
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

    /// Whether it is known who asks.
    fn asks(&self) -> Asks {
        match self.came_by {
            CameBy::Socket { .. } => Asks::Known,
            CameBy::Address { local, .. } if local.to_canonical().is_loopback() => Asks::Known,
            CameBy::Address { .. } if self.web.asks_who() => Asks::Known,
            CameBy::Address { .. } => Asks::Anybody,
        }
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
        // No browser speaks to a socket of the filesystem.
        let CameBy::Address { local, bound } = self.came_by else { return true };
        let is_ours = |host: &str| names::is_ours(host, local, bound, &self.allowed);
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

#[cfg(test)]
mod openapi;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod tests;
