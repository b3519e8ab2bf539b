use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use super::*;
use crate::{
    agent::{published::Published, shared::Down},
    filter::Filter,
    output::fixture,
};

/// A server with one snapshot, on a port of its own.
fn server() -> (SocketAddr, Arc<Shared>) {
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    let shared = Arc::new(Shared::new(4));
    serve(vec![door], Arc::clone(&shared), nobody(), Privileges::Keep).unwrap();
    (address, shared)
}

pub(super) fn door(serves: Serves, gate: Arc<Gate>, allowed: &[&str]) -> (SocketAddr, Door) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let allowed: Vec<_> = allowed.iter().map(|&name| name.to_owned()).collect();
    (address, Door::new(listener, serves, gate, allowed.into()))
}

/// A recording that is not there.
pub(super) fn nobody() -> Past {
    Past::new(None, |_, _| anyhow::bail!("it is not asked"))
}

pub(super) fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // A replay takes its time beside other tests, and the server ends after its own.
    stream.set_read_timeout(Some(WHOLE_TIME + Duration::from_secs(10))).unwrap();
    // It may have answered before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[track_caller]
pub(super) fn check(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[test]
fn it_is_ready_once_the_hooks_are_proven_and_has_metrics_with_the_first_snapshot() {
    let (address, shared) = server();
    check(&get(address, "/healthz"), 200);
    check(&get(address, "/readyz"), 503);
    check(&get(address, "/metrics"), 503);
    check(&get(address, "/api/v1/verdicts"), 503);
    shared.set_ready();
    shared.publish(Published::new("node-1".into(), fixture::trimmed(), Vec::new()));
    check(&get(address, "/readyz"), 200);
    let metrics = get(address, "/metrics");
    check(&metrics, 200);
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    let accept =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n";
    let metrics = ask(address, accept);
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let verdicts = get(address, "/api/v1/verdicts");
    assert!(verdicts.contains("\"node\":\"node-1\""), "{verdicts}");
}

#[test]
fn where_a_node_cannot_be_traced_it_is_ready_and_says_why() {
    let (address, shared) = server();
    shared.set_down(Some(Down::new("kernel", "this kernel\nhas no types".into())));
    let ready = get(address, "/readyz");
    check(&ready, 200);
    assert!(
        ready.ends_with("\r\ncannot trace this node: this kernel\\x0ahas no types\n"),
        "{ready}"
    );
    check(&get(address, "/healthz"), 200);
    let metrics = get(address, "/metrics");
    check(&metrics, 200);
    assert!(metrics.contains("\ntracer_up 0\n"), "{metrics}");
    assert!(metrics.contains("tracer_cannot_run_info{reason=\"kernel\"} 1\n"), "{metrics}");
    let verdicts = get(address, "/api/v1/verdicts");
    check(&verdicts, 503);
    assert!(verdicts.contains("cannot trace this node"), "{verdicts}");
    // Once it can be traced, nothing of this is left.
    shared.set_down(None);
    check(&get(address, "/readyz"), 503);
    shared.set_ready();
    shared.publish(Published::new("node-1".into(), fixture::trimmed(), Vec::new()));
    assert!(get(address, "/readyz").ends_with("\r\nready\n"));
    check(&get(address, "/api/v1/verdicts"), 200);
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_asked_for_is_405() {
    let (address, _shared) = server();
    for path in ["/nonsense", "/metrics/", "/api/v1", "/../etc/passwd", "//"] {
        check(&get(address, path), 404);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer =
            ask(address, &format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        check(&answer, 405);
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    check(&get(address, "/favicon.ico"), 204);
    let head = ask(address, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    check(&head, 200);
    assert!(head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn slow_syncs_are_asked_for_by_length_and_number() {
    let (address, shared) = server();
    shared.push(&mut vec![fixture::slow_sync(); 3], &Filter::default());
    let two = get(address, "/api/v1/syncs?min=10ms&limit=2");
    assert_eq!(two.matches("\"duration_seconds\"").count(), 2, "{two}");
    let none = get(address, "/api/v1/syncs?min=1s");
    assert_eq!(none.matches("\"duration_seconds\"").count(), 0, "{none}");
    for query in ["min=long", "id=x", "limit=-1", "limit=x", "nonsense", "min"] {
        check(&get(address, &format!("/api/v1/syncs?{query}")), 400);
    }
}

#[test]
fn the_page_may_load_and_run_nothing_but_itself() {
    let (address, _shared) = server();
    let page = get(address, "/");
    check(&page, 200);
    let policy = page.lines().find(|l| l.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'; script-src 'sha256-"), "{policy}");
    for tag in ["script", "style"] {
        assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "one {tag}, and no attributes");
        assert!(inside(PAGE, tag).is_some_and(|text| !text.trim().is_empty()));
    }
    // Names are made text, never markup; and nothing comes from elsewhere.
    for banned in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "://"] {
        assert!(!PAGE.contains(banned), "{banned}");
    }
    for attribute in [" style=", " onclick=", " src="] {
        assert!(!PAGE.contains(attribute), "{attribute}");
    }
}

/// A bar that lacked a share would show the others as more than they are.
#[test]
fn the_page_draws_every_share() {
    let line = PAGE.lines().find(|line| line.starts_with("const SHARES")).unwrap();
    let names = tracer_snapshot::Shares::default().named().map(|(name, _)| format!("\"{name}\""));
    assert_eq!(line, format!("const SHARES = [{}];", names.join(", ")));
}

#[test]
fn a_name_that_is_not_its_own_is_refused() {
    let (address, door) = door(Serves::Everything, Arc::default(), &["node-1.example"]);
    let shared = Arc::new(Shared::new(4));
    serve(vec![door], Arc::clone(&shared), nobody(), Privileges::Keep).unwrap();
    let asked = |head: &str| ask(address, &format!("GET {head}\r\n\r\n"));
    let port = address.port();
    for host in [format!("127.0.0.1:{port}"), "localhost".into(), "node-1.example:80".into()] {
        check(&asked(&format!("/healthz HTTP/1.1\r\nHost: {host}")), 200);
    }
    assert!(asked("/healthz HTTP/1.0").starts_with("HTTP/1.0 200 "));
    check(&asked("http://localhost/healthz HTTP/1.1\r\nHost: localhost"), 200);
    for head in [
        "/healthz HTTP/1.1\r\nHost: evil.example",
        "/metrics HTTP/1.1\r\nHost: evil.example:9464",
        "/nonsense HTTP/1.1\r\nHost: 192.0.2.1",
        "/healthz HTTP/1.1",
        "/healthz HTTP/1.1\r\nHost:",
        "/healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "/healthz HTTP/1.0\r\nHost: evil.example",
        "http://evil.example/healthz HTTP/1.1\r\nHost: localhost",
    ] {
        let answer = asked(head);
        assert!(answer.contains(" 421 ") && answer.contains("--allowed-hosts"), "{head}\n{answer}");
    }
    assert_eq!(shared.refused()[0].1, 8);
}

#[test]
fn nonsense_and_giants_are_turned_away() {
    let (address, _shared) = server();
    check(&ask(address, "nonsense\r\n\r\n"), 400);
    let giant =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Giant: {}\r\n\r\n", "x".repeat(64 << 10));
    check(&ask(address, &giant), 431);
    let many: String = (0..200).map(|n| format!("X-{n}: x\r\n")).collect();
    check(&ask(address, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")), 431);
    check(&get(address, "/healthz"), 200);
}

#[test]
fn who_says_nothing_is_cut_off_and_holds_nobody_up() {
    let (address, _shared) = server();
    let began = Instant::now();
    let mut silent: Vec<_> =
        (0..CONNECTIONS - 1).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut dripping = TcpStream::connect(address).unwrap();
    dripping.write_all(b"GET / HT").unwrap();
    // All places are taken: the next waits until one is free.
    check(&get(address, "/healthz"), 200);
    let waited = began.elapsed();
    assert!(waited < HEAD_TIME + Duration::from_secs(4), "{waited:?}");
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(!String::from_utf8_lossy(&bytes).contains(" 200 "));
    }
}

#[test]
fn an_address_in_use_is_said_with_what_to_do() {
    let (address, _shared) = server();
    let error = format!("{:#}", listen(address).unwrap_err());
    assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
    assert!(error.contains("in use"), "{error}");
}
