//! The Helm chart: rendered by Helm itself it makes the objects that kustomize makes.
//!
//! Without Helm (`cargo xtask setup test` brings it) only this is checked: templates
//! ask for values that there are, and for each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    clusters, files_below, find_files, find_program,
    manifests::{KUBERNETES, find_unknown, kustomize},
    parse_yaml, read, read_yaml, run, workspace,
};
use crate::skip::skip;

const CHART: &str = "deploy/helm/tracer";

/// An overlay with components, as kustomize makes it, and the values that make the
/// chart the same.
struct Same {
    resource: &'static str,
    components: &'static [&'static str],
    values: fn() -> Value,
}

const SAME: &[Same] = &[
    Same { resource: "base", components: &[], values: || json!({}) },
    Same {
        resource: "overlays/control-plane",
        components: &[],
        values: || json!({"controlPlaneOnly": true}),
    },
    Same { resource: "overlays/k3s", components: &[], values: || json!({"k3s": true}) },
    Same {
        resource: "overlays/harvester",
        components: &[],
        values: || json!({"k3s": true, "moduleHooks": true}),
    },
    Same {
        resource: "overlays/openshift",
        components: &[],
        values: || json!({"openshift": true, "podMonitor": {"create": true}}),
    },
    Same { resource: "base", components: &["selinux"], values: || json!({"selinux": "spc_t"}) },
    Same {
        resource: "base",
        components: &["bottlerocket"],
        values: || json!({"selinux": "super_t"}),
    },
    Same {
        resource: "base",
        components: &["apparmor-annotation"],
        values: || json!({"apparmor": "annotation"}),
    },
    Same {
        resource: "base",
        components: &["seccomp-unconfined"],
        values: || json!({"seccomp": {"type": "Unconfined"}}),
    },
    Same {
        resource: "base",
        components: &["seccomp-localhost"],
        values: || json!({"seccomp": {"type": "Localhost"}}),
    },
    Same {
        resource: "base",
        components: &["module-hooks"],
        values: || json!({"moduleHooks": true}),
    },
    Same { resource: "base", components: &["recorder"], values: || json!({"recorder": true}) },
    Same {
        resource: "base",
        components: &["podmonitor"],
        values: || json!({"podMonitor": {"create": true}}),
    },
    Same {
        resource: "base",
        components: &["kube-prometheus-stack"],
        values: || json!({"podMonitor": {"create": true, "labels": {"release": "kube-prometheus-stack"}}}),
    },
    Same {
        resource: "overlays/k3s",
        components: &[
            "selinux",
            "apparmor-annotation",
            "seccomp-localhost",
            "module-hooks",
            "kube-prometheus-stack",
        ],
        values: || {
            json!({
                "k3s": true, "selinux": "spc_t", "apparmor": "annotation", "moduleHooks": true,
                "seccomp": {"type": "Localhost"},
                "podMonitor": {"create": true, "labels": {"release": "kube-prometheus-stack"}},
            })
        },
    },
];

macro_rules! need_helm {
    () => {
        match find_program("helm") {
            Some(helm) => helm,
            None => skip!("no helm is here: only the templates' values are checked"),
        }
    };
}

/// Helm's command that renders the chart.
struct Template {
    command: Command,
    /// The command reads this file, which goes with it.
    _values: NamedTempFile,
}

/// Helm's command with values, for a release in a namespace.
fn template(helm: &Command, values: &Value, namespace: &str) -> Template {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, values.to_string()).unwrap();
    let mut command = Command::new(helm.get_program());
    command.args(["template", "tracer"]).arg(workspace().join(CHART));
    command.arg("--values").arg(file.path()).args(["--namespace", namespace]);
    Template { command, _values: file }
}

fn rendered(helm: &Command, values: &Value) -> Vec<Value> {
    let made = run(&mut template(helm, values, "default").command);
    let documents = parse_yaml(Path::new(CHART), &made);
    let documents: Vec<_> = documents.into_iter().filter(|one| !one.is_null()).collect();
    for document in &documents {
        assert_eq!(find_unknown(document), Ok(Vec::new()), "with {values}");
    }
    documents
}

fn by_name(documents: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |one: &Value| format!("{} {}", one["kind"], one["metadata"]["name"]);
    let count = documents.len();
    let named: BTreeMap<_, _> = documents.into_iter().map(|one| (name(&one), one)).collect();
    assert_eq!(named.len(), count, "two objects have one name");
    named
}

#[test]
fn the_chart_and_kustomize_make_the_same_objects() {
    let helm = need_helm!();
    if kustomize().is_none() {
        skip!("neither kubectl nor kustomize is here");
    }
    for Same { resource, components, values } in SAME {
        let expected = by_name(clusters::render(resource, components));
        let made = by_name(rendered(&helm, &values()));
        let kinds = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(kinds(&made), kinds(&expected), "{resource} with {components:?}");
        for (name, expected) in expected {
            assert_eq!(made[&name], expected, "{name} of {resource} with {components:?}");
        }
    }
}

#[test]
fn every_overlay_and_component_has_its_values() {
    let mut left: BTreeSet<_> = ["overlays", "components"]
        .iter()
        .flat_map(|folder| {
            let path = workspace().join(KUBERNETES).join(folder);
            path.read_dir().unwrap().map(move |entry| {
                format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap())
            })
        })
        .collect();
    for Same { resource, components, .. } in SAME {
        left.remove(*resource);
        for component in *components {
            left.remove(&format!("components/{component}"));
        }
    }
    assert_eq!(left, BTreeSet::new());
}

/// The values that no overlay has, at once.
#[test]
fn what_a_cluster_chooses_for_itself_is_where_it_belongs() {
    let helm = need_helm!();
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let documents = rendered(
        &helm,
        &json!({
            "image": {"repository": "registry.example/t", "digest": digest, "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "pull"}],
            "namespace": {"name": "watch"},
            "config": "victims = 9\n",
            "extraArgs": ["--period=5s"],
            "state": false,
            "openshift": true, "moduleHooks": true, "seccomp": {"type": "Localhost"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}],
            "nodeSelector": {"pool": "etcd"},
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"team": "storage"},
            "priorityClassName": "",
            "maxUnavailable": 1,
            "resources": {"limits": {"memory": "256Mi"}},
        }),
    );
    let objects = by_name(documents);
    let daemonset = &objects["\"DaemonSet\" \"tracer\""];
    let pod = &daemonset["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], format!("registry.example/t@{digest}"));
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(objects["\"ConfigMap\" \"tracer\""]["data"]["agent.toml"], "victims = 9\n");
    let args = container["args"].as_array().unwrap();
    assert_eq!(args.last().unwrap(), "--period=5s");
    assert!(!args.iter().any(|arg| arg.as_str().unwrap().starts_with("--state-dir")));
    for list in [&container["volumeMounts"], &pod["volumes"]] {
        assert!(list.as_array().unwrap().iter().all(|one| one["name"] != "state"));
    }
    assert_eq!(pod["tolerations"][1]["key"], "gpu");
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux", "pool": "etcd"}));
    assert_eq!(pod["affinity"], json!({"nodeAffinity": {}}));
    assert_eq!(daemonset["spec"]["template"]["metadata"]["annotations"]["team"], "storage");
    assert_eq!(pod["priorityClassName"], Value::Null);
    assert_eq!(daemonset["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
    assert_eq!(
        container["resources"],
        json!({"limits": {"memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}})
    );
    let namespaces = objects.values().filter_map(|one| one["metadata"]["namespace"].as_str());
    assert_eq!(namespaces.collect::<BTreeSet<_>>(), BTreeSet::from(["watch"]));
    // The constraints admit what the DaemonSet asks for.
    let constraints = &objects["\"SecurityContextConstraints\" \"tracer\""];
    assert_eq!(
        constraints["allowedCapabilities"],
        container["securityContext"]["capabilities"]["add"]
    );
    assert_eq!(constraints["seccompProfiles"], json!(["localhost/tracer.json"]));
    let binding = &objects["\"RoleBinding\" \"tracer-scc\""];
    assert_eq!(binding["subjects"][0]["namespace"], "watch");
}

/// The words on standard error with which Helm refuses these values.
fn refusal(helm: &Command, values: &Value, namespace: &str) -> String {
    let output = template(helm, values, namespace).command.output().unwrap();
    assert!(!output.status.success(), "{values} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_misspelled_or_impossible_value_is_refused_by_name() {
    let helm = need_helm!();
    for (values, word) in [
        (json!({"modulHooks": true}), "modulHooks"),
        (json!({"podMonitor": {"enabled": true}}), "enabled"),
        (json!({"selinux": "container_t"}), "selinux"),
        (json!({"seccomp": {"type": "unconfined"}}), "seccomp"),
        (json!({"image": {"digest": "sha256:12"}}), "digest"),
    ] {
        let said = refusal(&helm, &values, "default");
        assert!(said.contains(word), "{values}: {said}");
    }
    let said = refusal(&helm, &json!({}), "tracer");
    assert!(said.contains("namespace.create=false"), "{said}");
    let there = json!({"namespace": {"create": false}});
    let made = run(&mut template(&helm, &there, "tracer").command);
    assert!(!made.contains("kind: Namespace"), "{made}");
}

#[test]
fn helm_finds_no_fault_with_the_chart() {
    let helm = need_helm!();
    let mut lint = Command::new(helm.get_program());
    let said = run(lint.args(["lint", "--strict"]).arg(workspace().join(CHART)));
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

/// All paths below a value that lead to no object, or to one that is empty.
fn leaves(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            for (name, value) in fields {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                leaves(&path, value, found);
            }
        }
        None => {
            found.insert(prefix.to_owned());
        }
    }
}

/// The values that a template names.
fn asked(text: &str) -> BTreeSet<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let after = text.split(".Values.").skip(1);
    let paths = after.map(|rest| {
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').to_owned()
    });
    paths.collect()
}

#[test]
fn templates_ask_for_values_that_there_are_and_for_each_of_them() {
    let mut there = BTreeSet::new();
    leaves("", &read_yaml(&workspace().join(CHART).join("values.yaml")), &mut there);
    // These are taken as they are, whole.
    there.retain(|path| !path.starts_with("resources."));
    there.insert("resources".to_owned());
    let texts = find_files(&format!("{CHART}/templates"), &[".yaml", ".tpl"]);
    let text: String = texts.iter().map(read).collect();
    assert_eq!(text.matches("{{").count(), text.matches("}}").count());
    let mut asked = asked(&text);
    // A helper takes the image by its parts.
    assert!(asked.remove("image") && text.contains("$image.digest"));
    asked.extend(["repository", "tag", "digest"].map(|part| format!("image.{part}")));
    assert_eq!(asked, there);
    // The schema knows each, and so refuses all others.
    let schema: Value = serde_json::from_str(&read(format!("{CHART}/values.schema.json"))).unwrap();
    for path in &there {
        let known = path.split('.').fold(&schema, |schema, part| &schema["properties"][part]);
        assert!(known.is_object(), "the schema does not know {path}");
    }
}

#[test]
fn the_chart_is_of_the_workspaces_version() {
    let chart = read_yaml(&workspace().join(CHART).join("Chart.yaml"));
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
    assert!(!files_below(CHART, &[".yaml"]).is_empty());
}
