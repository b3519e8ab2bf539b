//! The oldest Kubernetes that the chart supports: its own types must know every field of
//! the objects that a cluster of that version is given.
//!
//! `manifests` checks the newest version. A field that a version does not know is refused
//! by its kubectl, or dropped without effect.

use k8s_openapi_1_25::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, Pod, ServiceAccount},
    rbac::v1::{ClusterRole, RoleBinding},
};
use serde_json::Value;
use tracer::commands::kubectl::{cluster::Agent, pod};

use super::{
    clusters::render,
    manifests::{kustomize, pass_through},
    read_yaml, workspace,
};
use crate::skip::skip;

const OVERLAYS: [&str; 5] =
    ["base", "overlays/control-plane", "overlays/harvester", "overlays/k3s", "overlays/openshift"];

/// The field came with Kubernetes 1.30; before that there was an annotation.
const PROFILE: &str = ".securityContext.appArmorProfile";

/// The fields of an object that Kubernetes 1.25 does not know.
fn find_unknown(document: &Value) -> Result<Vec<String>, String> {
    let word = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    match (word("apiVersion").as_str(), word("kind").as_str()) {
        ("apps/v1", "DaemonSet") => pass_through::<DaemonSet>(document),
        ("v1", "ConfigMap") => pass_through::<ConfigMap>(document),
        ("v1", "Pod") => pass_through::<Pod>(document),
        ("v1", "Namespace") => pass_through::<Namespace>(document),
        ("v1", "ServiceAccount") => pass_through::<ServiceAccount>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => pass_through::<ClusterRole>(document),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => pass_through::<RoleBinding>(document),
        // OpenShift and the Prometheus operator have versions of their own.
        ("security.openshift.io/v1" | "monitoring.coreos.com/v1", _) => Ok(Vec::new()),
        (version, kind) => Err(format!("Kubernetes 1.25 has no {version} {kind}")),
    }
}

#[test]
fn kubernetes_1_25_knows_every_field_that_it_is_given() {
    if kustomize().is_none() {
        skip!("neither kubectl nor kustomize is here");
    }
    for overlay in OVERLAYS {
        let documents = render(overlay, &["apparmor-annotation"]);
        assert!(documents.len() >= 3, "{overlay}");
        for document in &documents {
            assert_eq!(find_unknown(document), Ok(Vec::new()), "{overlay}: {}", document["kind"]);
        }
        // Without that component there is exactly one unknown field.
        let unknown: Vec<_> = render(overlay, &[])
            .iter()
            .flat_map(|document| find_unknown(document).unwrap())
            .collect();
        let [unknown] = unknown.as_slice() else { panic!("{overlay}: {unknown:?}") };
        assert!(unknown.ends_with(PROFILE), "{overlay}: {unknown}");
    }
}

/// The pod of `tracer kubectl` has both; an old cluster creates it with a warning about the
/// field.
#[test]
fn the_pod_of_a_visit_is_unconfined_by_apparmor_in_either_way() {
    let pod = pod::manifest(&Agent::of_our_own("cp1"), "r.example/tracer@sha256:0");
    let unknown = find_unknown(&pod).unwrap();
    assert_eq!(unknown, [format!(".spec.containers[0]{PROFILE}")]);
    let annotation = "container.apparmor.security.beta.kubernetes.io/tracer";
    assert_eq!(pod["metadata"]["annotations"][annotation], "unconfined");
    assert_eq!(pod["spec"]["containers"][0]["name"], "tracer");
}

#[test]
fn the_chart_takes_no_older_one() {
    let chart = read_yaml(&workspace().join("deploy/helm/tracer/Chart.yaml"));
    assert_eq!(chart["kubeVersion"], ">=1.25.0-0");
}
