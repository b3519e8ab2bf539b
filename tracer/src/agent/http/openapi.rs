//! `docs/openapi.yaml` against the server: each has what the other has.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{recorded::through, routes::Route, tests::nobody, *};
use crate::agent::socket::Socket;

fn page() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A server that is asked through its socket, where it answers all paths.
fn server() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let (socket, listener) = Socket::listen(&path).unwrap();
    // It goes with its folder.
    std::mem::forget(socket);
    let door = Door::of_socket(listener);
    serve(vec![door], Arc::new(Shared::new(4)), nobody(), Privileges::Keep).unwrap();
    (folder, path)
}

fn asked(socket: &Path, what: &str) -> String {
    let request = format!("{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    String::from_utf8_lossy(&through(socket, &request)).into_owned()
}

/// The one method of a path, and what is said of it.
#[track_caller]
fn operation(path: &Value) -> (&str, &Value) {
    let methods: Vec<_> = path.as_object().unwrap().iter().collect();
    let [(method, operation)] = methods[..] else { panic!("{path}") };
    (method, operation)
}

/// Names of the parameters of an operation.
fn parameters(operation: &Value) -> BTreeSet<&str> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    all.map(|parameter| parameter["name"].as_str().unwrap()).collect()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn each_path_and_parameter_of_the_server_is_described_and_no_other() {
    let page = page();
    let described: BTreeSet<_> = page["paths"].as_object().unwrap().keys().cloned().collect();
    let served: BTreeSet<_> = Route::ALL.map(|route| route.path().to_owned()).into();
    assert_eq!(described, served);
    for route in Route::ALL {
        let (method, operation) = operation(&page["paths"][route.path()]);
        let expected = if route == Route::Marks { "post" } else { "get" };
        assert_eq!(method, expected, "{}", route.path());
        let of_route: BTreeSet<_> = route.parameters().iter().copied().collect();
        assert_eq!(parameters(operation), of_route, "{}", route.path());
    }
}

#[test]
fn each_path_is_answered_with_a_status_that_is_described() {
    let (page, (_folder, socket)) = (page(), server());
    for (path, methods) in page["paths"].as_object().unwrap() {
        let (method, operation) = operation(methods);
        let described = operation["responses"].as_object().unwrap();
        let check = |query: &str| {
            let method = method.to_uppercase();
            let answer = asked(&socket, &format!("{method} {path}{query}"));
            let status = status(&answer);
            assert!(described.contains_key(&status.to_string()), "{path}{query}: {answer}");
            status
        };
        check("");
        // A parameter that is described is read: its nonsense is refused.
        for name in parameters(operation) {
            assert_eq!(check(&format!("?{name}=%zz")), 400, "{path}: {name}");
        }
        // One that is not described is no parameter.
        if !parameters(operation).is_empty() {
            assert_eq!(check("?nonsense=1"), 400, "{path}");
        }
    }
}

#[test]
fn an_example_of_each_parameter_is_taken() {
    let (page, (_folder, socket)) = (page(), server());
    for (path, methods) in page["paths"].as_object().unwrap() {
        let all = operation(methods).1["parameters"].as_array().cloned().unwrap_or_default();
        let pairs = all.iter().map(|parameter| {
            let example = match &parameter["example"] {
                Value::String(text) => text.replace('/', "%2F"),
                other => other.to_string(),
            };
            format!("{}={example}", parameter["name"].as_str().unwrap())
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        let answer = asked(&socket, &format!("GET {path}?{query}"));
        assert_ne!(status(&answer), 400, "{path}?{query}: {answer}");
    }
}
