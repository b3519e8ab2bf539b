//! The paths that the agent answers, and what it answers there.
//!
//! [`Route`] is the one list of them; `docs/openapi.yaml` describes it for others, and a
//! test holds the two against each other.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, Limited, channel::Channel};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::json;

use super::{PAGE, POLICY, REPORT_POLICY, Serves};
use crate::{
    agent::{
        exposition::Format,
        marks::{Mark, TEXT_BYTES},
        past::{Past, Refused, question::Question},
        shared::{Shared, Wanted},
    },
    output::escape::escape,
};

/// Slow syncs in an answer to a request without `limit`.
const SYNCS: usize = 100;

/// A path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    Page,
    Icon,
    Health,
    Ready,
    Metrics,
    Verdicts,
    Syncs,
    Timeline,
    Why,
    Recording,
    Report,
    Marks,
}

impl Route {
    pub const ALL: [Self; 12] = [
        Self::Page,
        Self::Icon,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Verdicts,
        Self::Syncs,
        Self::Timeline,
        Self::Why,
        Self::Recording,
        Self::Report,
        Self::Marks,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Icon => "/favicon.ico",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::Verdicts => "/api/v1/verdicts",
            Self::Syncs => "/api/v1/syncs",
            Self::Timeline => "/api/v1/timeline",
            Self::Why => "/api/v1/why",
            Self::Recording => "/api/v1/recording",
            Self::Report => "/api/v1/report",
            Self::Marks => "/api/v1/marks",
        }
    }

    /// Names of the parameters that it takes. Where there is none, a query is ignored.
    #[cfg(test)]
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Syncs => &["min", "limit", "id"],
            Self::Timeline | Self::Recording | Self::Report => &["from", "to"],
            Self::Why => &["victim", "at", "for"],
            _ => &[],
        }
    }

    /// Whether it asks the recording, which takes longer and is not for everybody.
    pub fn is_past(self) -> bool {
        matches!(self, Self::Timeline | Self::Why | Self::Recording | Self::Report)
    }

    fn find(path: &str, serves: Serves) -> Option<Self> {
        let is_served = |route: &Self| match serves {
            Serves::Socket => true,
            Serves::Everything => *route != Self::Marks,
            Serves::Probes => matches!(route, Self::Health | Self::Ready),
        };
        Self::ALL.into_iter().find(|route| route.path() == path).filter(is_served)
    }
}

/// An answer that is complete, or one whose body is still being made.
pub type Answer = Response<Either<Full<Bytes>, Channel<Bytes, io::Error>>>;

const JSON: &str = "application/json";
const GZIP: &str = "application/gzip";
const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The asker, as far as the answer depends on who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asks {
    /// Somebody on this machine, or somebody whose password or certificate was checked.
    Known,
    /// Anybody who reaches the address.
    Anybody,
}

/// Finds the route of a request that may be answered.
pub fn find(serves: Serves, request: &Request<Incoming>) -> Result<Route, Box<Answer>> {
    let Some(route) = Route::find(request.uri().path(), serves) else {
        return Err(Box::new(plain(StatusCode::NOT_FOUND, "there is no such path\n")));
    };
    let (is_good, why, allowed) = match route {
        Route::Marks => (request.method() == Method::POST, "only POST\n", "POST"),
        _ => {
            let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
            (is_get, "only GET and HEAD\n", "GET, HEAD")
        }
    };
    match is_good {
        true => Ok(route),
        false => {
            let answer = plain(StatusCode::METHOD_NOT_ALLOWED, why);
            Err(Box::new(with(answer, header::ALLOW, allowed)))
        }
    }
}

/// Takes a mark of somebody on this machine: the text is the body.
pub async fn mark(shared: &Shared, past: &Past, uid: u32, body: Incoming) -> Answer {
    let put = async {
        if !past.is_recorded() {
            return Err(Refused::nothing_is_recorded());
        }
        let body = Limited::new(body, 4 * TEXT_BYTES).collect().await.map_err(|_| {
            let why = format!("a mark must have 1 to {TEXT_BYTES} bytes");
            Refused::new(StatusCode::BAD_REQUEST, why)
        })?;
        let mark = Mark::parse(&body.to_bytes(), uid)
            .map_err(|why| Refused::new(StatusCode::BAD_REQUEST, why))?;
        let taken = json!(mark).to_string() + "\n";
        match shared.marks.put(mark) {
            true => Ok(respond(StatusCode::ACCEPTED, JSON, taken.into())),
            false => {
                let why = "marks wait that cannot be recorded: the agent's log says why";
                Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    };
    put.await.unwrap_or_else(|refused| refusal(&refused))
}

pub async fn answer(
    route: Route,
    shared: &Shared,
    past: &Past,
    asks: Asks,
    request: &Request<Incoming>,
) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    let body = match route {
        Route::Page => Ok((HTML, Bytes::from_static(PAGE.as_bytes()))),
        Route::Icon => return plain(StatusCode::NO_CONTENT, ""),
        Route::Health => return health(shared),
        Route::Ready => return readiness(shared),
        Route::Syncs => match wanted(query) {
            Ok(wanted) => shared.syncs(wanted).map(|body| (JSON, body)),
            Err(why) => return plain(StatusCode::BAD_REQUEST, &why),
        },
        // It is not asked.
        Route::Marks => return plain(StatusCode::METHOD_NOT_ALLOWED, "only POST\n"),
        Route::Timeline | Route::Why | Route::Recording | Route::Report => {
            return ask(route, query, past, asks).await.unwrap_or_else(|refused| refusal(&refused));
        }
        Route::Metrics | Route::Verdicts => match shared.published() {
            None => return without_snapshot(shared, route, request),
            Some(published) if route == Route::Metrics => {
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
            match route {
                Route::Page => with(answer, header::CONTENT_SECURITY_POLICY, &POLICY),
                _ => answer,
            }
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}\n")),
    }
}

/// Asks the recording.
async fn ask(route: Route, query: &str, past: &Past, asks: Asks) -> Result<Answer, Refused> {
    if asks == Asks::Anybody {
        let why = "the recording is given on loopback, on the agent's socket (--socket), and \
                   elsewhere where --web-config asks for passwords or client certificates";
        return Err(Refused::new(StatusCode::FORBIDDEN, why));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let question = match route {
        Route::Why => Question::why(query),
        Route::Timeline => Question::timeline(query, now),
        Route::Report => Question::report(query, now),
        _ => Question::recording(query, now),
    };
    let question = question.map_err(|why| Refused::new(StatusCode::BAD_REQUEST, why))?;
    let (stream, length) = past.ask(question).await?;
    let kind = match route {
        Route::Recording => GZIP,
        Route::Report => HTML,
        _ => JSON,
    };
    let mut answer = respond_with(StatusCode::OK, kind, Either::Right(stream));
    if route == Route::Report {
        answer = with(answer, header::CONTENT_SECURITY_POLICY, REPORT_POLICY);
    }
    Ok(match length {
        Some(length) => with(answer, header::CONTENT_LENGTH, &length.to_string()),
        None => answer,
    })
}

fn refusal(refused: &Refused) -> Answer {
    let status = StatusCode::from_u16(refused.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = json!({ "error": refused.why }).to_string();
    body.push('\n');
    let answer = respond(status, JSON, body.into());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => with(answer, header::RETRY_AFTER, "5"),
        _ => answer,
    }
}

fn format(request: &Request<Incoming>) -> Format {
    let accept = request.headers().get(header::ACCEPT);
    Format::wanted(accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default())
}

/// The answer while there is no snapshot: before the first one, and on a node that
/// cannot be traced.
fn without_snapshot(shared: &Shared, route: Route, request: &Request<Incoming>) -> Answer {
    let Some(down) = shared.down() else {
        return unavailable("the self-test is running\n");
    };
    if route != Route::Metrics {
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

pub fn plain(status: StatusCode, text: &str) -> Answer {
    respond(status, PLAIN, Bytes::copy_from_slice(text.as_bytes()))
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    respond_with(status, kind, Either::Left(Full::new(body)))
}

fn respond_with(
    status: StatusCode,
    kind: &'static str,
    body: Either<Full<Bytes>, Channel<Bytes, io::Error>>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    // Ours are all plain text.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
