//! `kubectl apply --dry-run=client` of every overlay. kubectl asks an API server which
//! kinds exist, so the test runs a server that knows the kinds and holds no objects.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use serde_json::{Value, json};

use super::{files_below, find_program, manifests::KUBERNETES, read_yaml, run};
use crate::skip::skip;

/// A kind, its name in paths, and whether its objects belong to a namespace.
type Kind = (&'static str, &'static str, bool);

/// Groups and their kinds.
const KINDS: [(&str, &[Kind]); 5] = [
    (
        "",
        &[
            ("Namespace", "namespaces", false),
            ("ConfigMap", "configmaps", true),
            ("ServiceAccount", "serviceaccounts", true),
        ],
    ),
    ("apps", &[("DaemonSet", "daemonsets", true)]),
    ("monitoring.coreos.com", &[("PodMonitor", "podmonitors", true)]),
    (
        "rbac.authorization.k8s.io",
        &[("ClusterRole", "clusterroles", false), ("RoleBinding", "rolebindings", true)],
    ),
    (
        "security.openshift.io",
        &[("SecurityContextConstraints", "securitycontextconstraints", false)],
    ),
];

fn resources(group: &str) -> Option<Value> {
    let (_, kinds) = KINDS.iter().find(|(name, _)| *name == group)?;
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    let resource = |(kind, name, namespaced): &Kind| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get"]});
    let resources: Vec<_> = kinds.iter().map(resource).collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}),
    )
}

/// The server's answer for a path; it has only lists of kinds.
fn answer(path: &str) -> Option<Value> {
    match path {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => {
            let group = |(name, _): &(&str, &[Kind])| {
                let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
                json!({"name": name, "versions": [version], "preferredVersion": version})
            };
            let named = KINDS.iter().filter(|(name, _)| !name.is_empty());
            let groups: Vec<_> = named.map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        "/api/v1" => resources(""),
        _ => resources(path.strip_prefix("/apis/")?.strip_suffix("/v1")?),
    }
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let missing = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
    });
    let (status, body) = match answer(path) {
        Some(body) => ("200 OK", body.to_string()),
        None => ("404 Not Found", missing.to_string()),
    };
    let length = body.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// Starts a server that runs as long as the test.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // If kubectl gets no answer, it says so itself.
            let _ = serve(&stream);
        }
    });
    address
}

#[test]
fn kubectl_would_apply_every_overlay() {
    let Some(kubectl) = find_program("kubectl") else { skip!("`kubectl` is not installed") };
    let server = format!("--server=http://{}", start());
    let home = tempfile::tempdir().unwrap();
    let cache = format!("--cache-dir={}", home.path().display());
    let mut applied = 0;
    for file in files_below(KUBERNETES, &["kustomization.yaml"]) {
        if read_yaml(&file)["kind"] == "Component" {
            continue;
        }
        let mut apply = Command::new(kubectl.get_program());
        apply.env("HOME", home.path()).args([&server, &cache, "--kubeconfig=/dev/null"]);
        // Other tests check the types; this server knows no schema.
        apply.args(["apply", "--dry-run=client", "--validate=false", "--kustomize"]);
        let said = run(apply.arg(file.parent().unwrap()));
        let lines: Vec<_> = said.lines().collect();
        assert!(lines.contains(&"daemonset.apps/tracer created (dry run)"), "{file:?}: {said}");
        assert!(lines.contains(&"namespace/tracer created (dry run)"), "{file:?}: {said}");
        assert!(lines.iter().all(|line| line.ends_with(" created (dry run)")), "{file:?}: {said}");
        applied += 1;
    }
    assert!(applied >= 5, "{applied}");
}
