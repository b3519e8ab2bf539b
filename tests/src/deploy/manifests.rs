//! The Kubernetes manifests: typed, complete, and with no rights beyond those
//! that are argued for.
//!
//! A manifest is read into Kubernetes' own types and written again. A field that these
//! do not know is missing afterwards, which shows it. Kinds that are not Kubernetes' own
//! are described here as far as they are used.

use std::{path::Path, process::Command};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, Pod, SELinuxOptions, ServiceAccount},
    rbac::v1::{ClusterRole, RoleBinding},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{files_below, find_program, parse_yaml, read, read_yaml, run, workspace};
use crate::skip::skip;

pub const KUBERNETES: &str = "deploy/kubernetes";
const STATE: &str = "/var/lib/tracer";

/// The file of kustomize, as far as it is used.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    api_version: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    patches: Vec<Patch>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: String,
}

/// The Prometheus operator's kind, as far as it is used.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodMonitor {
    api_version: String,
    kind: String,
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<PodMonitorSpec>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodMonitorSpec {
    selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
    scrape_timeout: String,
    honor_labels: bool,
    relabelings: Vec<Relabeling>,
    metric_relabelings: Vec<Relabeling>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Relabeling {
    #[serde(skip_serializing_if = "Option::is_none")]
    source_labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
}

/// OpenShift's kind, as far as it is used.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecurityContextConstraints {
    api_version: String,
    kind: String,
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    pub allow_privileged_container: bool,
    pub allow_privilege_escalation: bool,
    #[serde(rename = "allowHostPID")]
    pub allow_host_pid: bool,
    #[serde(rename = "allowHostIPC")]
    pub allow_host_ipc: bool,
    pub allow_host_network: bool,
    pub allow_host_ports: bool,
    pub allow_host_dir_volume_plugin: bool,
    pub volumes: Vec<String>,
    pub read_only_root_filesystem: bool,
    pub required_drop_capabilities: Vec<String>,
    pub default_add_capabilities: Vec<String>,
    pub allowed_capabilities: Vec<String>,
    pub run_as_user: Strategy,
    pub se_linux_context: Strategy,
    fs_group: Strategy,
    supplemental_groups: Strategy,
    pub seccomp_profiles: Vec<String>,
    pub users: Vec<String>,
    pub groups: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Strategy {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub se_linux_options: Option<SELinuxOptions>,
}

/// The fields of a document that its type does not have, as paths.
pub fn find_unknown(document: &Value) -> Result<Vec<String>, String> {
    let document = &present(document);
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("apps/v1", "DaemonSet") => pass_through::<DaemonSet>(document),
        ("v1", "ConfigMap") => pass_through::<ConfigMap>(document),
        ("v1", "Pod") => pass_through::<Pod>(document),
        ("v1", "Namespace") => pass_through::<Namespace>(document),
        ("v1", "ServiceAccount") => pass_through::<ServiceAccount>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => pass_through::<ClusterRole>(document),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => pass_through::<RoleBinding>(document),
        ("security.openshift.io/v1", "SecurityContextConstraints") => {
            pass_through::<SecurityContextConstraints>(document)
        }
        ("monitoring.coreos.com/v1", "PodMonitor") => pass_through::<PodMonitor>(document),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization")
        | ("kustomize.config.k8s.io/v1alpha1", "Component") => {
            pass_through::<Kustomization>(document)
        }
        (version, kind) => Err(format!("no type is known for {version} {kind}")),
    }
}

/// A null in a patch removes an object. A type would silently drop the null, so it is
/// replaced by an empty object, which a type that knows the field keeps.
fn present(document: &Value) -> Value {
    match document {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), present(value))).collect()
        }
        Value::Array(values) => values.iter().map(present).collect(),
        other => other.clone(),
    }
}

/// The paths in a document that a type does not know.
pub fn pass_through<T: DeserializeOwned + Serialize>(
    document: &Value,
) -> Result<Vec<String>, String> {
    let typed: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    compare("", document, &again, &mut lost);
    Ok(lost)
}

/// Checks that everything in `before` is in `after`. `after` may have more, because a patch
/// leaves out all fields that it does not change, and its type fills them in.
fn compare(path: &str, before: &Value, after: &Value, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}.{key}");
                match after.get(key) {
                    Some(after) => compare(&path, value, after, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}[{index}]"), before, after, lost);
            }
        }
        _ if before == after => {}
        _ => lost.push(path.to_owned()),
    }
}

/// The program that renders a directory, if one is installed.
pub fn kustomize() -> Option<Command> {
    if let Some(mut kubectl) = find_program("kubectl") {
        kubectl.arg("kustomize");
        return Some(kubectl);
    }
    let mut kustomize = find_program("kustomize")?;
    kustomize.arg("build");
    Some(kustomize)
}

#[test]
fn every_manifest_survives_its_type() {
    for file in files_below(KUBERNETES, &[".yaml"]) {
        for document in parse_yaml(&file, &read(&file)) {
            assert_eq!(find_unknown(&document), Ok(Vec::new()), "in {file:?}");
        }
    }
}

#[test]
fn a_misspelled_field_is_found() {
    let manifest = "
apiVersion: apps/v1
kind: DaemonSet
spec:
  template:
    spec:
      containers:
        - name: tracer
          securityContext:
            readOnlyRootFileSystem: true
";
    let document = &parse_yaml(Path::new("inline"), manifest)[0];
    let lost = ".spec.template.spec.containers[0].securityContext.readOnlyRootFileSystem";
    assert_eq!(find_unknown(document), Ok(vec![lost.to_owned()]));
    // The name of a field that is removed must be right, too.
    let patch = |field: &str| {
        let patch = manifest.replace("readOnlyRootFileSystem: true", &format!("{field}: null"));
        find_unknown(&parse_yaml(Path::new("inline"), &patch)[0])
    };
    assert_eq!(patch("appArmorProfile"), Ok(Vec::new()));
    assert_eq!(patch("apparmorProfile").map(|lost| lost.len()), Ok(1));
}

#[test]
fn kustomizations_name_what_is_there_and_leave_nothing_out() {
    for file in files_below(KUBERNETES, &["kustomization.yaml"]) {
        let folder = file.parent().unwrap();
        let kustomization: Kustomization = serde_json::from_value(read_yaml(&file)).unwrap();
        let patches = kustomization.patches.iter().map(|patch| &patch.path);
        let mut files = vec!["kustomization.yaml"];
        let names = kustomization.resources.iter().chain(&kustomization.components).chain(patches);
        for name in names {
            let path = folder.join(name);
            assert!(path.is_file() || path.join("kustomization.yaml").is_file(), "{path:?}");
            files.push(name);
        }
        for entry in folder.read_dir().unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(files.contains(&name.as_str()), "{file:?} leaves out {name}");
        }
    }
}

#[test]
fn the_daemonset_has_the_rights_that_are_argued_for_and_no_more() {
    let file = workspace().join(KUBERNETES).join("base/daemonset.yaml");
    let daemonset: DaemonSet = serde_json::from_value(read_yaml(&file)).unwrap();
    let pod = daemonset.spec.template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!((pod.host_network, pod.host_ipc), (None, None));
    let [container] = pod.containers.try_into().unwrap();

    let rights = container.security_context.unwrap();
    let capabilities = rights.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    let added = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_RESOURCE"];
    assert_eq!(capabilities.add.unwrap(), added);
    assert_eq!(rights.privileged, Some(false));
    assert_eq!(rights.allow_privilege_escalation, Some(false));
    assert_eq!(rights.read_only_root_filesystem, Some(true));

    let args = container.args.unwrap();
    // The kubelet probes the pod's address, which may be of IPv6 alone.
    for arg in [format!("--state-dir={STATE}"), "--listen=[::]:9464".to_owned()] {
        assert!(args.contains(&arg), "{arg} is not in {args:?}");
    }
    let mounts = container.volume_mounts.unwrap();
    assert!(mounts.iter().any(|mount| mount.name == "state"));
    for volume in pod.volumes.unwrap() {
        let mount = mounts.iter().find(|mount| mount.name == volume.name).unwrap();
        let Some(host) = volume.host_path else { continue };
        if volume.name == "state" {
            // The only one that it writes to, at the path at which commands look.
            assert_eq!((host.path.as_str(), mount.mount_path.as_str()), (STATE, STATE));
            assert_eq!(host.type_.as_deref(), Some("DirectoryOrCreate"));
            assert_eq!(mount.read_only, None);
            continue;
        }
        assert_eq!(mount.mount_path, format!("/host{}", host.path));
        assert_eq!(mount.read_only, Some(true), "{}", host.path);
        assert!(!host.path.starts_with("/var/lib/kubelet"), "the pods' secrets lie there");
    }
}

#[test]
fn what_kustomize_makes_of_it_survives_its_types_too() {
    if kustomize().is_none() {
        skip!("neither kubectl nor kustomize is here");
    }
    for file in files_below(KUBERNETES, &["kustomization.yaml"]) {
        let folder = file.parent().unwrap();
        let is_component = read_yaml(&file)["kind"] == "Component";
        if is_component {
            continue;
        }
        let made = run(kustomize().unwrap().arg(folder));
        let documents = parse_yaml(folder, &made);
        assert!(documents.iter().any(|document| document["kind"] == "DaemonSet"), "{folder:?}");
        for document in documents {
            assert_eq!(find_unknown(&document), Ok(Vec::new()), "of {folder:?}");
        }
    }
}
