//! Doors to an agent that has recorded something.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    tests::{check, door, get, nobody},
    *,
};
use crate::{
    agent::{
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
    let body = match head.contains("transfer-encoding: chunked") {
        true => joined(body),
        false => body.to_owned(),
    };
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// A body that comes in pieces, each after a line with its length.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole += &rest[..length];
        body = &rest[length + 2..];
    }
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

#[test]
fn a_socket_answers_its_owner_by_any_name() {
    let folder = recorded();
    let path = folder.path().join("agent.sock");
    let (_socket, listener) = Socket::listen(&path).unwrap();
    let past = Past::new(Some(folder.path().to_owned()), answer);
    let shared = Arc::new(Shared::new(4));
    serve(vec![Door::of_socket(listener)], shared, past, Privileges::Keep).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET /api/v1/recording?from={BEGINS}&to={ENDS} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    check(&text, 200);
    assert!(text.contains("content-type: application/gzip"), "{text:.300}");
    assert!(bytes.ends_with(b"\r\n0\r\n\r\n"), "it is whole");
}
