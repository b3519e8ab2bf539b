//! Finds the workload of a process from all that the node knows of it.
//!
//! Joins the cgroup's [`CgroupIdentity`], the process's [`Program`] and the names on the
//! disk ([`Pods`], [`Containers`]) into one [`Workload`] with one short name. Of several
//! answers the most specific is taken: a volume or a virtual machine that a pod
//! serves, the pod, the container, the unit.

use super::{
    arguments::Program,
    cgroup_path::{CgroupIdentity, Container, Vm, bounded},
    containers::Containers,
    controller::controller,
    pods::{Pod, Pods},
};
use crate::{errand::Errands, tree::Tree};
use tracer_snapshot::{Workload, WorkloadKind};

/// Digits of an id that people know a container, a pod or a volume by.
const CONTAINER_DIGITS: usize = 12;
const UID_DIGITS: usize = 8;

/// KubeVirt `pkg/virt-controller/services/template.go` (v1.3): the pods of
/// virtual machines are called so, with the machine's name and five characters
/// behind it.
const LAUNCHER: &str = "virt-launcher-";

/// longhorn-manager `types/types.go` (v1.7): the pods of engines and replicas.
const INSTANCE_MANAGER: &str = "instance-manager-";

/// Names that lie on the node's disk.
#[derive(Debug, Default)]
pub struct Names {
    pub pods: Pods,
    pub containers: Containers,
    /// Files are read through errands, since their disk may be the one that does not answer.
    pub errands: Errands,
}

/// The workload of a process in this cgroup that runs this program; `None` if only
/// the process itself is known.
pub fn find_workload(
    names: &mut Names,
    tree: &Tree,
    identity: CgroupIdentity,
    program: Option<&Program>,
    now_ns: u64,
) -> Option<Workload> {
    let mut workload = describe(names, tree, identity, program, now_ns)?;
    workload.name = bounded(&workload.name);
    Some(workload)
}

fn describe(
    names: &mut Names,
    tree: &Tree,
    identity: CgroupIdentity,
    program: Option<&Program>,
    now_ns: u64,
) -> Option<Workload> {
    let Names { pods, containers, errands } = names;
    let container_id = identity.container.as_ref().map(|container| container.id.clone());
    let member = identity
        .pod_uid
        .as_ref()
        .and_then(|uid| pods.find(tree, errands, uid, container_id.as_deref(), now_ns));
    let pod = member.as_ref().map(|member| &member.pod);
    let mut workload = Workload {
        namespace: pod.map(|pod| pod.namespace.to_string()),
        pod: pod.map(|pod| pod.name.to_string()),
        container: member.as_ref().and_then(|m| m.container.as_deref().map(str::to_owned)),
        pod_uid: identity.pod_uid.clone(),
        container_id,
        unit: identity.unit.clone().or(identity.talos.clone()),
        user: identity.user.clone(),
        ..Workload::default()
    };
    match program {
        // Whoever is called `longhorn` in another pod could pass for any volume.
        Some(Program::Longhorn { role, volume })
            if identity.pod_uid.is_some()
                && pod.is_none_or(|pod| pod.name.starts_with(INSTANCE_MANAGER)) =>
        {
            let used_by =
                pods.find_user(tree, errands, volume, now_ns).map(|pod| describe_user(&pod));
            workload.kind = WorkloadKind::Volume;
            workload.name = name_volume(role, volume, used_by.as_deref());
            (workload.volume, workload.used_by) = (Some(volume.clone()), used_by);
            return Some(workload);
        }
        Some(Program::Qemu { name, id }) => {
            set_vm(&mut workload, &identity, name.as_ref(), id.clone());
        }
        _ => set_vm(&mut workload, &identity, None, None),
    }
    if workload.vm.is_some() || workload.vm_id.is_some() {
        workload.kind = WorkloadKind::Vm;
        workload.name = name_vm(&workload);
    } else if let Some(uid) = &identity.pod_uid {
        workload.kind = WorkloadKind::Pod;
        workload.controller = workload.pod.as_deref().and_then(|pod| controller(pod, uid));
        workload.name = name_pod(&workload, uid);
    } else if let Some(machine) = identity.machine {
        workload.kind = WorkloadKind::Container;
        workload.name = with_unit(format!("{} {}", machine.kind, machine.name), &workload);
        workload.container = Some(machine.name);
    } else if let Some(container) = identity.container {
        workload.kind = WorkloadKind::Container;
        let named = containers.find_names(tree, errands, &container);
        workload.container = named.container.map(String::from);
        workload.pod = named.pod.map(String::from);
        workload.name = with_unit(name_container(&container, &workload), &workload);
    } else if let Some(service) = identity.talos {
        workload.name = format!("talos {service}");
    } else {
        let unit = identity.unit?;
        workload.name = match &identity.user {
            // The manager's own name says it.
            Some(user) if !unit.starts_with("user@") => format!("{unit} of user {user}"),
            _ => unit,
        };
    }
    Some(workload)
}

/// A virtual machine's name: QEMU's own, whole; else what the cgroup or the
/// pod is called after.
fn set_vm(
    workload: &mut Workload,
    identity: &CgroupIdentity,
    name: Option<&String>,
    id: Option<String>,
) {
    let launched = workload.pod.as_deref().and_then(launched_vm);
    workload.vm = match (name, &identity.pod_uid, &identity.vm) {
        // KubeVirt's domains are called `<namespace>_<name>`.
        (Some(name), Some(_), _) => match name.split_once('_') {
            Some((namespace, vm))
                if workload.namespace.as_deref().is_none_or(|known| known == namespace) =>
            {
                workload.namespace = Some(namespace.to_owned());
                Some(vm.to_owned())
            }
            _ => Some(name.clone()),
        },
        (Some(name), None, _) => Some(name.clone()),
        (None, _, Some(Vm::Name(name))) => Some(name.clone()),
        (None, _, _) => launched,
    };
    workload.vm_id = match &identity.vm {
        Some(Vm::Id(id)) => Some(id.clone()),
        _ => id,
    };
}

fn launched_vm(pod: &str) -> Option<String> {
    let (vm, _) = pod.strip_prefix(LAUNCHER)?.rsplit_once('-')?;
    (!vm.is_empty()).then(|| vm.to_owned())
}

/// `vm web`, `vm default/web`, `vm 101 web`.
fn name_vm(workload: &Workload) -> String {
    let mut name = String::from("vm");
    if let Some(id) = &workload.vm_id {
        name = format!("{name} {id}");
    }
    match (&workload.namespace, &workload.vm) {
        (Some(namespace), Some(vm)) => format!("{name} {namespace}/{vm}"),
        (None, Some(vm)) => format!("{name} {vm}"),
        (_, None) => name,
    }
}

/// `kube-system/etcd-node1`, and `default/web-0/sidecar` where the pod is not
/// called after its container.
fn name_pod(workload: &Workload, uid: &str) -> String {
    let (Some(namespace), Some(pod)) = (&workload.namespace, &workload.pod) else {
        let known = uid.len().min(UID_DIGITS);
        return format!("pod {}", &uid[..uid.floor_char_boundary(known)]);
    };
    match &workload.container {
        Some(container) if !pod.starts_with(container.as_str()) => {
            format!("{namespace}/{pod}/{container}")
        }
        _ => format!("{namespace}/{pod}"),
    }
}

/// `docker shop-db-1`, and `podman shop/db` where the container is not called after its pod.
fn name_container(container: &Container, workload: &Workload) -> String {
    let id = &container.id[..CONTAINER_DIGITS.min(container.id.len())];
    let name = workload.container.as_deref().unwrap_or(id);
    let runtime = &container.runtime;
    match &workload.pod {
        Some(pod) if !name.starts_with(pod.as_str()) => format!("{runtime} {pod}/{name}"),
        _ => format!("{runtime} {name}"),
    }
}

/// `replica pvc-89c15dec of vm default/web`.
fn name_volume(role: &str, volume: &str, used_by: Option<&str>) -> String {
    let short = match volume.strip_prefix("pvc-").and_then(|uid| uid.get(..UID_DIGITS)) {
        Some(uid) => format!("pvc-{uid}"),
        None => volume.to_owned(),
    };
    match used_by {
        Some(user) => format!("{role} {short} of {user}"),
        None => format!("{role} {short}"),
    }
}

fn describe_user(pod: &Pod) -> String {
    match launched_vm(&pod.name) {
        Some(vm) => format!("vm {}/{vm}", pod.namespace),
        None => format!("{}/{}", pod.namespace, pod.name),
    }
}

/// A unit within a container that runs a system of its own.
fn with_unit(name: String, workload: &Workload) -> String {
    match &workload.unit {
        Some(unit) => format!("{name} {unit}"),
        None => name,
    }
}
