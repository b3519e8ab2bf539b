//! `tracer kubectl` with a script in the place of kubectl, which records its arguments.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{skip::skip, subject::tracer_bin};

/// The script answers from files, and writes down each call's arguments, one per line, and
/// its standard input.
const STAND_IN: &str = r#"#!/bin/sh
for word in "$@"; do printf '%s\n' "$word" >> "$CLUSTER/asked"; done
echo ---- >> "$CLUSTER/asked"
case "$1" in --context=*) shift ;; esac
case "$1 $2" in
"get pod") cat "$CLUSTER/pod.json" ;;
"get pods") cat "$CLUSTER/pods.json" ;;
"create --filename=-") cat > "$CLUSTER/created.json"; exit "$(cat "$CLUSTER/refuses" 2>/dev/null || echo 0)" ;;
"exec "*) echo of the pod; exit "$(cat "$CLUSTER/ends" 2>/dev/null || echo 0)" ;;
esac
"#;

const IMAGE: &str =
    "r.example/tracer@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Cluster {
    folder: TempDir,
}

impl Cluster {
    /// A pod on node `cp1`, and agents in these namespaces there.
    fn with_agents(agents: &[&str]) -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(cluster.path("kubectl"), STAND_IN).unwrap();
        fs::set_permissions(cluster.path("kubectl"), PermissionsExt::from_mode(0o755)).unwrap();
        cluster.answer("pod.json", &json!({"spec": {"nodeName": "cp1"}}));
        let agent = |namespace: &&str| {
            json!({
                "metadata": {"namespace": namespace, "name": "tracer-x7k2p"},
                "status": {"phase": "Running"},
            })
        };
        let agents: Vec<_> = agents.iter().map(agent).collect();
        cluster.answer("pods.json", &json!({"items": agents}));
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn answer(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(tracer_bin());
        command.env("TRACER_KUBECTL", self.path("kubectl")).env("CLUSTER", self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    fn tracer(&self, args: &[&str]) -> Output {
        self.command().arg("kubectl").args(args).output().unwrap()
    }

    /// Asks for a pod on `cp1` at a terminal of its own, which `script` makes, and types
    /// this, then the end of input. Returns the exit code and what the terminal showed;
    /// `None` where no `script` is installed.
    fn type_at_the_question(&self, typed: &str) -> Option<(Option<i32>, String)> {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command"]);
        script.arg("exec \"$TRACER\" kubectl top cp1 --image \"$IMAGE\"").arg("/dev/null");
        script.env("TRACER_KUBECTL", self.path("kubectl")).env("CLUSTER", self.folder.path());
        script.env("TRACER", tracer_bin()).env("IMAGE", IMAGE);
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match script.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            spawned => spawned.unwrap(),
        };
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Some((output.status.code(), text(&output.stdout).replace("\r\n", "\n")))
    }

    /// The calls so far, each as its arguments.
    fn asked(&self) -> Vec<Vec<String>> {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        let calls = asked.split("----\n").filter(|call| !call.is_empty());
        calls.map(|call| call.lines().map(str::to_owned).collect()).collect()
    }
}

const AGENTS: &str =
    "--selector=app.kubernetes.io/name in (tracer,tracer-visit),app.kubernetes.io/component=agent";
const ON_CP1: &str = "--field-selector=spec.nodeName=cp1";

fn get_agents() -> Vec<&'static str> {
    vec!["get", "pods", "--all-namespaces", AGENTS, ON_CP1, "--output=json"]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_pods_agent_is_asked_why_and_its_answer_is_printed() {
    let cluster = Cluster::with_agents(&["watch"]);
    let output = cluster.tracer(&["why", "shop/web-0", "--", "--for", "1m", "--json"]);
    assert_eq!(text(&output.stdout), "of the pod\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(
        cluster.asked(),
        [
            vec!["get", "pod", "web-0", "--namespace=shop", "--output=json"],
            get_agents(),
            vec![
                "exec",
                "tracer-x7k2p",
                "--namespace=watch",
                "--container=tracer",
                "--",
                "/tracer",
                "why",
                "shop/web-0",
                "--host-root=/host",
                "--for",
                "1m",
                "--json",
            ],
        ]
    );
}

#[test]
fn a_nodes_agent_is_asked_in_the_context_that_was_named() {
    for view in ["top", "watch", "doctor"] {
        let cluster = Cluster::with_agents(&["tracer"]);
        let output = cluster.tracer(&[view, "cp1", "--context", "far away"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let asked = cluster.asked();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|call| call[0] == "--context=far away"), "{asked:?}");
        assert_eq!(asked[1][6..], ["/tracer", view, "--host-root=/host"]);
    }
    let cluster = Cluster::with_agents(&["tracer"]);
    let output = cluster.tracer(&["page", "cp1"]);
    assert!(output.status.success() && text(&output.stderr).contains("http://127.0.0.1:9464/"));
    let forward = ["port-forward", "pod/tracer-x7k2p", "9464", "--namespace=tracer"];
    assert_eq!(cluster.asked()[1], forward);
}

#[test]
fn the_exit_code_of_the_tracer_in_the_pod_is_ours_without_a_second_message() {
    let cluster = Cluster::with_agents(&["tracer"]);
    fs::write(cluster.path("ends"), "3").unwrap();
    let output = cluster.tracer(&["doctor", "cp1"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(3), String::new()));
}

fn exec<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let first =
        ["exec", "tracer-x7k2p", "--namespace=tracer", "--container=tracer", "--", "/tracer"];
    [&first, words].concat()
}

#[test]
fn a_report_is_of_the_agents_recording_or_of_one_that_is_made_for_it() {
    let kept = Cluster::with_agents(&["tracer"]);
    let output = kept.tracer(&["report", "shop/web-0", "--", "--at", "03:00"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("of the pod\n".into(), String::new())
    );
    let asked = exec(&["report", "--filter=shop/web-0", "--at", "03:00"]);
    assert_eq!(kept.asked()[2..], [asked]);

    let fresh = Cluster::with_agents(&["tracer"]);
    let output = fresh.tracer(&["report", "cp1", "--record", "90s"]);
    assert!(text(&output.stderr).contains("90 s"), "{}", text(&output.stderr));
    let recording = "--output=/var/tmp/report.rec";
    let record = exec(&["record", recording, "--force", "--for=90s", "--host-root=/host"]);
    let report = exec(&["report", "/var/tmp/report.rec"]);
    assert_eq!(fresh.asked()[1..], [record, report]);

    // On a node without an agent nothing was recorded before.
    let made = Cluster::with_agents(&[]);
    let output = made.tracer(&["report", "cp1", "--yes", "--image", IMAGE]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let asked = made.asked();
    let verbs: Vec<_> = asked.iter().map(|call| call[0].as_str()).collect();
    assert_eq!(verbs, ["get", "create", "wait", "exec", "exec", "delete"]);
    assert_eq!(asked[3][6..], ["record", recording, "--force", "--for=120s", "--host-root=/host"]);

    // If the recording fails, there is no report.
    let failed = Cluster::with_agents(&["tracer"]);
    fs::write(failed.path("ends"), "3").unwrap();
    assert_eq!(failed.tracer(&["report", "cp1", "--record", "1m"]).status.code(), Some(3));
    assert_eq!(failed.asked().len(), 2);
    for wrong in [["report", "cp1", "--record", "11m"], ["top", "cp1", "--record", "1m"]] {
        assert_eq!(failed.tracer(&wrong).status.code(), Some(1), "{wrong:?}");
    }
}

#[test]
fn as_a_plugin_it_does_the_same() {
    let cluster = Cluster::with_agents(&["tracer"]);
    let mut command = cluster.command();
    let output = command.arg0("/usr/bin/kubectl-tracer").args(["top", "node/cp1"]).output();
    assert_eq!(text(&output.unwrap().stdout), "of the pod\n");
}

#[test]
fn where_no_agent_runs_nothing_is_made_unless_somebody_allows_it() {
    let cluster = Cluster::with_agents(&[]);
    for (args, words) in [
        (vec!["top", "cp1"], "--image NAME@sha256:"),
        // There is no terminal at which somebody could answer.
        (vec!["top", "cp1", "--image", IMAGE], "--yes"),
    ] {
        let output = cluster.tracer(&args);
        let says = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(says.contains(words) && says.contains("`cp1`"), "{says}");
        assert_eq!(says.lines().count(), 1, "{says}");
    }
    assert!(cluster.asked().iter().all(|call| call[0] == "get"), "{:?}", cluster.asked());
    assert!(!cluster.path("created.json").exists());
    // A tag may be another image tomorrow.
    let output = cluster.tracer(&["top", "cp1", "--yes", "--image", "r.example/tracer:0.1.0"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn at_a_terminal_a_pod_is_made_after_a_yes_and_after_nothing_else() {
    // The last is ^D at once: the message must not stand behind the question.
    for typed in ["n\n", "\n", "yeah\n", ""] {
        let cluster = Cluster::with_agents(&[]);
        let Some((code, shown)) = cluster.type_at_the_question(typed) else {
            skip!("`script` is not installed")
        };
        assert_eq!(code, Some(1), "{typed:?}: {shown}");
        let question = "make the pod `tracer-cp1` in namespace `tracer` there";
        assert!(shown.contains(question) && shown.contains("15 minutes? [y/N]"), "{shown}");
        if typed.is_empty() {
            assert!(shown.ends_with("\ntracer: error: nothing was made\n"), "{shown:?}");
        }
        let asked = cluster.asked();
        assert!(asked.iter().all(|call| call[0] == "get"), "{typed:?}: {asked:?}");
        assert!(!cluster.path("created.json").exists(), "{typed:?}");
    }
    for typed in ["y\n", "yes\n"] {
        let cluster = Cluster::with_agents(&[]);
        let (code, shown) = cluster.type_at_the_question(typed).unwrap();
        assert_eq!(code, Some(0), "{typed:?}: {shown}");
        assert!(shown.contains("of the pod\n"), "{shown}");
        let asked = cluster.asked();
        let verbs: Vec<_> = asked.iter().map(|call| call[0].as_str()).collect();
        assert_eq!(verbs, ["get", "create", "wait", "exec", "delete"], "{typed:?}");
        // The screen is at this terminal, too.
        assert!(asked[3].contains(&"--tty".to_owned()), "{:?}", asked[3]);
    }
}

#[test]
fn a_pod_that_was_made_is_named_with_its_removal_and_taken_away_at_the_end() {
    let cluster = Cluster::with_agents(&[]);
    // The pod is deleted also if the tracer in it fails.
    fs::write(cluster.path("ends"), "3").unwrap();
    let output = cluster.tracer(&["why", "shop/web-0", "--yes", "--image", IMAGE]);
    let says = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{says}");
    assert!(says.contains("kubectl delete pod tracer-cp1 --namespace=tracer"), "{says}");
    let asked = cluster.asked();
    let verbs: Vec<_> = asked.iter().map(|call| call[0].as_str()).collect();
    assert_eq!(verbs, ["get", "get", "create", "wait", "exec", "delete"]);
    assert_eq!(asked[3][1..4], ["pod/tracer-cp1", "--namespace=tracer", "--for=condition=Ready"]);
    assert_eq!(asked[5], ["delete", "pod", "tracer-cp1", "--namespace=tracer", "--wait=false"]);
    let created: Value =
        serde_json::from_slice(&fs::read(cluster.path("created.json")).unwrap()).unwrap();
    assert_eq!(created["spec"]["activeDeadlineSeconds"], 900);
    assert_eq!(created["spec"]["nodeName"], "cp1");
    assert_eq!(created["spec"]["containers"][0]["image"], IMAGE);

    let kept = Cluster::with_agents(&[]);
    let output = kept.tracer(&["top", "cp1", "--yes", "--keep", "--image", IMAGE]);
    assert!(output.status.success());
    assert!(kept.asked().iter().all(|call| call[0] != "delete"), "{:?}", kept.asked());
}

#[test]
fn what_goes_wrong_is_said_in_one_line() {
    let refused = Cluster::with_agents(&[]);
    fs::write(refused.path("refuses"), "1").unwrap();
    let pending = Cluster::with_agents(&["tracer"]);
    pending.answer("pod.json", &json!({"spec": {}}));
    let broken = Cluster::with_agents(&["tracer"]);
    fs::write(broken.path("pods.json"), "Error\u{1b}[31m").unwrap();
    for (cluster, args, word) in [
        (&refused, vec!["top", "cp1", "--yes", "--image", IMAGE], "pod-security"),
        (&pending, vec!["why", "shop/web-0"], "no node yet"),
        (&broken, vec!["top", "cp1"], "no JSON"),
        (&broken, vec!["why", "cp1"], "takes a pod"),
    ] {
        let output = cluster.tracer(&args);
        let says = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(says.contains(word) && says.lines().count() == 1, "{args:?}: {says}");
    }
    let missing = Cluster::with_agents(&[]);
    fs::remove_file(missing.path("kubectl")).unwrap();
    assert!(text(&missing.tracer(&["top", "cp1"]).stderr).contains("install kubectl"));
    for target in ["--all-namespaces", "shop/-n", "a b"] {
        assert_eq!(missing.tracer(&["top", target]).status.code(), Some(2), "{target}");
    }
}

/// The temporary pod has the same rights as the DaemonSet, and no more.
#[test]
#[cfg(not(target_env = "musl"))]
fn the_pod_has_the_daemonsets_rights_and_mounts() {
    use tracer::commands::kubectl::{cluster::Agent, pod};

    let pod = pod::manifest(&Agent::of_our_own("cp1"), IMAGE);
    assert_eq!(crate::deploy::find_unknown(&pod), Ok(Vec::new()));
    let daemonset = crate::deploy::read("deploy/kubernetes/base/daemonset.yaml");
    let daemonset: Value = serde_saphyr::from_str(&daemonset).unwrap();
    let theirs = &daemonset["spec"]["template"]["spec"];
    let ours = &pod["spec"];
    for field in ["hostPID", "automountServiceAccountToken", "enableServiceLinks", "dnsPolicy"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    let container = |spec: &Value| spec["containers"][0].clone();
    for field in ["name", "securityContext", "resources", "readinessProbe", "ports"] {
        assert_eq!(container(ours)[field], container(theirs)[field], "{field}");
    }
    // It keeps nothing, and has no configuration file.
    let without = |list: &Value| -> Vec<Value> {
        let left_out = |one: &Value| one["name"] == "state" || one["name"] == "config";
        list.as_array().unwrap().iter().filter(|one| !left_out(one)).cloned().collect()
    };
    assert_eq!(ours["volumes"], Value::from(without(&theirs["volumes"])));
    let mounts = container(theirs)["volumeMounts"].clone();
    assert_eq!(container(ours)["volumeMounts"], Value::from(without(&mounts)));
    let selected = daemonset["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let is_ours = |(name, value): (&String, &Value)| &pod["metadata"]["labels"][name] == value;
    assert!(!selected.iter().all(is_ours), "the DaemonSet would adopt the pod");
}
