//! The pod for a node without an agent: the DaemonSet's, without what it keeps and
//! without a configuration file, and with an end.

use serde_json::{Value, json};

use super::cluster::Agent;

/// As the DaemonSet has them; a test compares the two.
pub const CAPABILITIES: [&str; 5] =
    ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_RESOURCE"];

/// Nobody need remember it.
const SECONDS: u32 = 900;

/// A folder of the node, at its place below `/host`.
fn folder(name: &str, path: &str, kind: &str) -> (Value, Value) {
    let mut mount = json!({"name": name, "mountPath": format!("/host{path}"), "readOnly": true});
    if kind == "Directory" {
        mount["mountPropagation"] = "HostToContainer".into();
    }
    (mount, json!({"name": name, "hostPath": {"path": path, "type": kind}}))
}

pub fn manifest(agent: &Agent, image: &str) -> Value {
    let mut mounts = Vec::new();
    let mut volumes = Vec::new();
    for (name, path, kind) in [
        ("proc", "/proc", "Directory"),
        ("sys", "/sys", "Directory"),
        ("pod-logs", "/var/log/pods", "DirectoryOrCreate"),
        ("container-logs", "/var/log/containers", "DirectoryOrCreate"),
    ] {
        let (mount, volume) = folder(name, path, kind);
        mounts.push(mount);
        volumes.push(volume);
    }
    mounts.push(json!({"name": "self-test", "mountPath": "/var/tmp"}));
    volumes.push(json!({"name": "self-test", "emptyDir": {"sizeLimit": "16Mi"}}));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": agent.pod,
            "namespace": agent.namespace,
            // Kubernetes before 1.30 has no field for it.
            "annotations": {"container.apparmor.security.beta.kubernetes.io/tracer": "unconfined"},
            // A DaemonSet would take a pod with the labels that it selects for one of its own.
            "labels": {"app.kubernetes.io/name": "tracer-visit", "app.kubernetes.io/component": "agent"},
        },
        "spec": {
            "activeDeadlineSeconds": SECONDS,
            "restartPolicy": "Never",
            "nodeName": agent.node,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "dnsPolicy": "Default",
            "hostPID": true,
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "tracer",
                "image": image,
                "args": ["agent", "--listen=[::]:9464", "--host-root=/host"],
                "ports": [{"name": "metrics", "containerPort": 9464, "protocol": "TCP"}],
                "securityContext": {
                    "privileged": false,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "runAsUser": 0,
                    "runAsGroup": 0,
                    "runAsNonRoot": false,
                    "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "appArmorProfile": {"type": "Unconfined"},
                },
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {
                    "httpGet": {"path": "/readyz", "port": "metrics"},
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}
