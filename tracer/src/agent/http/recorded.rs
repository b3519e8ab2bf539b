//! Doors to an agent that has recorded something.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    tests::{ask, check, door, get, nobody},
    *,
};
use crate::{
    agent::{
        marks::Mark,
        past::{
            question::Question,
            tests::{BEGINS, ENDS, recorded},
        },
        socket::Socket,
    },
    commands::past::answers::answer,
};

/// A server that has recorded, on a port of its own.
fn server() -> (SocketAddr, TempDir) {
    let folder = recorded();
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    let past = Past::new(Some(folder.path().to_owned()), answer);
    serve(vec![door], Arc::new(Shared::new(4)), past, Privileges::Keep).unwrap();
    (address, folder)
}

fn json(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn what_happened_and_why_are_asked_by_time() {
    let (address, _folder) = server();
    let answer = get(address, &format!("/api/v1/timeline?from={BEGINS}&to={ENDS}"));
    check(&answer, 200);
    let timeline = json(&answer);
    let events = timeline["events"].as_array().unwrap();
    let came =
        |event: &&Value| event["event"] == "culprit_came" && event["culprit"]["comm"] == "fstrim";
    let came = events.iter().find(came).unwrap_or_else(|| panic!("{timeline}"));
    assert!(came["time"].as_str().unwrap().ends_with("+00:00"), "{came}");
    assert_eq!(
        (&timeline["asked"]["from"], &timeline["events_left_out"]),
        (&BEGINS.into(), &0.into())
    );

    assert_eq!(came["word"], "began", "{came}");
    assert!(came["line"].as_str().unwrap().contains(" discard makes "), "{came}");

    let answer = get(address, &format!("/api/v1/report?from={BEGINS}&to={ENDS}"));
    check(&answer, 200);
    assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"), "{answer:.600}");
    assert!(answer.contains("content-security-policy: default-src 'none'; style-src"), "{answer}");
    assert!(answer.contains("<svg role=\"img\"") && answer.ends_with("</html>\n"), "{answer}");

    let at = "2026-11-21T17:24:40%2B01:00";
    let answer = get(address, &format!("/api/v1/why?victim=wal&at={at}&for=5s"));
    check(&answer, 200);
    let why = json(&answer);
    assert_eq!(why["culprits"][0]["comm"], "fstrim", "{why}");
    assert_eq!(why["victim"]["file_class"], "wal");
    assert_eq!(why["asked"]["to"], BEGINS + 11.0);
}

#[test]
fn a_question_without_an_answer_is_a_sentence_in_json() {
    let (address, _folder) = server();
    let far = BEGINS + 1e6;
    for (path, status, says) in [
        ("/api/v1/why".to_owned(), 400, "`at` is missing"),
        ("/api/v1/timeline?from=03:12".to_owned(), 400, "with an offset"),
        ("/api/v1/recording?at=1".to_owned(), 400, "the parameters are from, to"),
        (format!("/api/v1/why?victim=nobody&at={BEGINS}&for=10s"), 404, "no sync of `nobody`"),
        (format!("/api/v1/why?at={far}"), 404, "the recording ends at 2026-11-21 16:24:47"),
        (format!("/api/v1/recording?from={far}&to={}", far + 1.0), 404, "nothing was recorded"),
    ] {
        let answer = get(address, &path);
        check(&answer, status);
        let why = json(&answer)["error"].as_str().unwrap().to_owned();
        assert!(why.contains(says), "{path}: {why}");
        assert!(!why.contains('\n'), "{why}");
    }
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    serve(vec![door], Arc::new(Shared::new(4)), nobody(), Privileges::Keep).unwrap();
    let answer = get(address, &format!("/api/v1/why?at={BEGINS}"));
    check(&answer, 404);
    assert!(answer.contains("this agent records nothing: start it with --record DIR"), "{answer}");
}

/// Writes until nobody takes it, and then hangs.
fn slow(_: &Path, _: &Question) -> Result<Vec<u8>> {
    thread::sleep(Duration::from_secs(600));
    Ok(Vec::new())
}

#[test]
fn two_are_answered_at_a_time_and_nobody_else_is_held_up() {
    let folder = recorded();
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    let past = Past::new(Some(folder.path().to_owned()), slow);
    serve(vec![door], Arc::new(Shared::new(4)), past, Privileges::Keep).unwrap();
    let (sender, answers) = mpsc::channel();
    let path = format!("/api/v1/why?at={BEGINS}");
    for _ in 0..3 {
        let (sender, path) = (sender.clone(), path.clone());
        thread::spawn(move || sender.send(get(address, &path)));
    }
    // The third of them, whichever that is.
    let answer = answers.recv_timeout(Duration::from_secs(10)).unwrap();
    check(&answer, 503);
    assert!(answer.contains("retry-after: 5"), "{answer}");
    assert!(json(&answer)["error"].as_str().unwrap().contains("ask again"), "{answer}");
    let began = Instant::now();
    check(&get(address, "/healthz"), 200);
    // A copy is a question too; other paths are not.
    check(&get(address, "/api/v1/recording"), 503);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_process_that_takes_too_much_memory_is_refused_and_the_next_is_answered() {
    fn greedy(_: &Path, _: &Question) -> Result<Vec<u8>> {
        Ok(vec![1; 1 << 30])
    }
    let folder = recorded();
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    let past = Past::new(Some(folder.path().to_owned()), greedy);
    serve(vec![door], Arc::new(Shared::new(4)), past, Privileges::Keep).unwrap();
    let answer = get(address, &format!("/api/v1/why?at={BEGINS}"));
    check(&answer, 500);
    assert!(answer.contains("ask about a shorter time"), "{answer}");
    check(&get(address, &format!("/api/v1/recording?from={BEGINS}&to={ENDS}")), 200);
}

/// The answer to a request through a socket.
pub(super) fn through(path: &Path, request: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_socket_answers_its_owner_by_any_name() {
    let folder = recorded();
    let path = folder.path().join("agent.sock");
    let (_socket, listener) = Socket::listen(&path).unwrap();
    let past = Past::new(Some(folder.path().to_owned()), answer);
    let shared = Arc::new(Shared::new(4));
    serve(vec![Door::of_socket(listener)], shared, past, Privileges::Keep).unwrap();
    let head = format!("GET /api/v1/recording?from={BEGINS}&to={ENDS} HTTP/1.1\r\nHost: x\r\n\r\n");
    let bytes = through(&path, &head);
    let text = String::from_utf8_lossy(&bytes);
    check(&text, 200);
    assert!(text.contains("content-type: application/gzip"), "{text:.300}");
    assert!(bytes.ends_with(b"\r\n0\r\n\r\n"), "it is whole");
}

#[test]
fn marks_are_taken_by_the_socket_alone_with_who_sets_them() {
    let folder = recorded();
    let path = folder.path().join("agent.sock");
    let (_socket, listener) = Socket::listen(&path).unwrap();
    let (address, main) = door(Serves::Everything, Arc::default(), &[]);
    let past = Past::new(Some(folder.path().to_owned()), answer);
    let shared = Arc::new(Shared::new(4));
    let doors = vec![main, Door::of_socket(listener)];
    serve(doors, Arc::clone(&shared), past, Privileges::Keep).unwrap();
    let post = |text: &str| {
        let length = text.len();
        let head = format!("POST /api/v1/marks HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
        String::from_utf8(through(&path, &format!("{head}\r\n\r\n{text}"))).unwrap()
    };
    let answer = post("stopped fstrim.service");
    check(&answer, 202);
    let uid = nix::unistd::geteuid().as_raw();
    let text = "stopped fstrim.service".to_owned();
    assert_eq!(json(&answer), serde_json::json!({ "text": text, "uid": uid }));
    assert_eq!(shared.marks.drain(), [Mark { text, uid, seen: false }]);
    for wrong in ["", "\u{1b}[2J", &"x".repeat(257), &"x".repeat(4000)] {
        let answer = post(wrong);
        check(&answer, 400);
        assert!(json(&answer)["error"].as_str().unwrap().starts_with("a mark must"), "{answer}");
    }
    let got = through(&path, "GET /api/v1/marks HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(String::from_utf8_lossy(&got).contains("\r\nallow: POST\r\n"));
    check(&get(address, "/api/v1/marks"), 404);
    // While nobody takes them, few wait.
    let codes: Vec<_> = (0..17).map(|_| post("again").starts_with("HTTP/1.1 202")).collect();
    assert_eq!(codes.iter().filter(|taken| **taken).count(), 16, "{codes:?}");
    assert_eq!(shared.marks.drain().len(), 16);
}

#[test]
fn without_a_recording_a_mark_would_be_lost_and_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let (_socket, listener) = Socket::listen(&path).unwrap();
    let doors = vec![Door::of_socket(listener)];
    serve(doors, Arc::new(Shared::new(4)), nobody(), Privileges::Keep).unwrap();
    let head = "POST /api/v1/marks HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx";
    let answer = String::from_utf8(through(&path, head)).unwrap();
    check(&answer, 404);
    assert!(answer.contains("start it with --record DIR"), "{answer}");
}

/// An address of this machine beyond loopback, if it has one. Nothing is sent.
fn address_beyond_loopback() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.254:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn beyond_loopback_a_recording_is_for_those_whose_password_was_checked() {
    let Some(ip) = address_beyond_loopback() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let folder = recorded();
    let file = folder.path().join("web.yml");
    // "secret", as crypt(3) has it.
    let users = "basic_auth_users:\n  scraper: \
                 $2y$04$SFJwR7jrVl8QhpOZ5Gh3MeUEl5aFL7s2.EoNWp5Jmk72hhmxZjkQm\n";
    fs::write(&file, users).unwrap();
    let asked = |gate: Arc<Gate>, head: &str| {
        let listener = listen(SocketAddr::from((ip, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door::new(listener, Serves::Everything, gate, Arc::default());
        let past = Past::new(Some(folder.path().to_owned()), answer);
        serve(vec![door], Arc::new(Shared::new(4)), past, Privileges::Keep).unwrap();
        let path = format!("/api/v1/why?victim=wal&at={BEGINS}&for=12s");
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n"))
    };
    let answer = asked(Arc::default(), "");
    check(&answer, 403);
    assert!(json(&answer)["error"].as_str().unwrap().contains("--web-config"), "{answer}");
    let gate = || Arc::new(Gate::new(Some(&file)).unwrap());
    check(&asked(gate(), ""), 401);
    check(&asked(gate(), "Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n"), 200);
}
