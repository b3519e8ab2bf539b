//! Workloads, and their names.

use serde::{Deserialize, Serialize};

/// The workload of a process, as people call it: a pod, a virtual machine, a
/// container, a volume, a unit. Parts that the node alone does not know are absent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Workload {
    pub kind: WorkloadKind,
    /// Short: `kube-system/etcd-node1`, `vm 101 web`, `node-exporter.service`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The object that made the pod, if the pod's name shows it: `deployment/web`, `statefulset/db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The container's name, also of one that is no pod's (LXC, nspawn).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Its number on Proxmox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The pod or virtual machine on this node that has the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The numeric user whose unit it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Workload {
    /// Every name in it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let Self {
            kind: _,
            name,
            namespace,
            pod,
            pod_uid,
            controller,
            container,
            container_id,
            vm,
            vm_id,
            volume,
            used_by,
            unit,
            user,
        } = self;
        let parts = [
            namespace,
            pod,
            pod_uid,
            controller,
            container,
            container_id,
            vm,
            vm_id,
            volume,
            used_by,
            unit,
            user,
        ];
        let parts = parts.into_iter().filter_map(|part| part.as_deref());
        std::iter::once(name.as_str()).chain(parts)
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    Pod,
    Vm,
    Container,
    Volume,
    #[default]
    Unit,
}
