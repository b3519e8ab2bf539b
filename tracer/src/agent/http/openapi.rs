//! `docs/openapi.yaml` against the server: each has what the other has.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::Value;

use super::{
    routes::Route,
    tests::{door, get, nobody},
    *,
};

fn page() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn server() -> SocketAddr {
    let (address, door) = door(Serves::Everything, Arc::default(), &[]);
    serve(vec![door], Arc::new(Shared::new(4)), nobody(), Privileges::Keep).unwrap();
    address
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
        let methods = page["paths"][route.path()].as_object().unwrap();
        let names: Vec<_> = methods.keys().collect();
        assert_eq!(names, ["get"], "{}", route.path());
        let of_route: BTreeSet<_> = route.parameters().iter().copied().collect();
        assert_eq!(parameters(&methods["get"]), of_route, "{}", route.path());
    }
}

#[test]
fn each_path_is_answered_with_a_status_that_is_described() {
    let (page, address) = (page(), server());
    for (path, methods) in page["paths"].as_object().unwrap() {
        let operation = &methods["get"];
        let described = operation["responses"].as_object().unwrap();
        let check = |query: &str| {
            let answer = get(address, &format!("{path}{query}"));
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
    let (page, address) = (page(), server());
    for (path, methods) in page["paths"].as_object().unwrap() {
        let all = methods["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let pairs = all.iter().map(|parameter| {
            let example = match &parameter["example"] {
                Value::String(text) => text.replace('/', "%2F"),
                other => other.to_string(),
            };
            format!("{}={example}", parameter["name"].as_str().unwrap())
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        let answer = get(address, &format!("{path}?{query}"));
        assert_ne!(status(&answer), 400, "{path}?{query}: {answer}");
    }
}
