//! The agent's HTTP side, in a thread of its own.
//!
//! It answers `GET` (and `HEAD`) on a handful of paths from what the loop has
//! put into [`Shared`], and changes nothing. One request per connection; each
//! connection has a time limit, and there are so many at most, so that a client
//! that does not read costs memory and nothing else. There is no
//! authentication: what is served is what the node's `/proc` shows to root, so
//! the address is the node's own unless the user says otherwise.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    address,
    exposition::Format,
    log,
    privileges::{self, Privileges},
    shared::{Shared, Wanted},
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

/// Slow syncs in an answer that does not say how many.
const SYNCS: usize = 100;

const PAGE: &str = include_str!("page.html");

/// Nothing but the page's own script and style, and this agent's own answers.
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

/// What stands between a tag and its end.
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

/// Serves from now on, in a thread of its own that ends with the process.
///
/// # Errors
///
/// When the thread cannot be made.
pub fn serve(listener: TcpListener, shared: Arc<Shared>, privileges: Privileges) -> Result<()> {
    let run = move || {
        if let Err(error) = run(listener, &shared, privileges) {
            // Its health check fails from now on.
            log::say(&format!("nothing is served any more: {error:#}"));
        }
    };
    thread::Builder::new().name("http".into()).spawn(run).context("failed to start a thread")?;
    Ok(())
}

fn run(listener: TcpListener, shared: &Arc<Shared>, privileges: Privileges) -> Result<()> {
    if privileges == Privileges::Drop {
        privileges::drop_all().context("failed to give up the privileges of the HTTP side")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")?.block_on(accept(listener, shared))
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>) -> Result<()> {
    let listener =
        tokio::net::TcpListener::from_std(listener).context("failed to take the listener")?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.context("the places are gone")?;
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, or a client that is gone already.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&shared, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .keep_alive(false)
                .max_buf_size(HEAD_BYTES)
                .max_headers(HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            // Whatever goes wrong is the client's doing, and its to tell.
            let _ = timeout(WHOLE_TIME, connection).await;
            drop(place);
        });
    }
}

type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

fn answer(shared: &Shared, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let known = matches!(
        path,
        "/" | "/favicon.ico"
            | "/metrics"
            | "/healthz"
            | "/readyz"
            | "/api/v1/verdicts"
            | "/api/v1/syncs"
    );
    if !known {
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
        _ => match shared.picture() {
            None => return without_picture(shared, path, request),
            Some(picture) if path == "/metrics" => {
                let format = format(request);
                picture.metrics(format).map(|body| (format.content_type(), body))
            }
            Some(picture) => picture.verdicts().map(|body| (JSON, body)),
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

/// Before the first picture, and where there will be none.
fn without_picture(shared: &Shared, path: &str, request: &Request<Incoming>) -> Answer {
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
            unavailable(&format!("the loop has not come round for {} s\n", away.as_secs()))
        }
    }
}

fn readiness(shared: &Shared) -> Answer {
    // A rollout must not wait for what this node will never be.
    match shared.down() {
        _ if shared.is_ready() => plain(StatusCode::OK, "ready\n"),
        Some(down) => plain(StatusCode::OK, &cannot(down.why())),
        None => unavailable("the self-test is running\n"),
    }
}

/// Reads `min=10ms&limit=100`; either may be left out.
fn wanted(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted { min: Duration::ZERO, limit: SYNCS };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("min", value)) => {
                wanted.min = humantime::parse_duration(value)
                    .map_err(|_| "min is a duration such as 10ms\n".to_owned())?;
            }
            Some(("limit", value)) => {
                wanted.limit = value.parse().map_err(|_| "limit is a number\n".to_owned())?;
            }
            _ => return Err("the parameters are min and limit\n".to_owned()),
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
mod tests;
