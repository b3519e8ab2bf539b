//! Finds the owner of a cgroup by its path: the layouts of Kubernetes, container
//! runtimes, hypervisors and systemd.
//!
//! A path goes in, a [`CgroupIdentity`] comes out; nothing is read, and any text is
//! fine. Layouts nest (a pod in a node that is itself a container, a unit in a
//! machine), so components are taken from the outermost on, and what lies
//! within a pod or a machine replaces what is around it.
//!
//! Sources, each with the release that was read:
//! - pods: kubelet `pkg/kubelet/cm/pod_container_manager_linux.go`, `cgroup_manager_linux.go` (v1.31);
//!   containerd `internal/cri/server/helpers.go` `getCgroupsPath` (v2.0); CRI-O
//!   `internal/config/cgmgr/systemd_linux.go`, `cgroupfs_linux.go` (v1.31);
//! - Talos: `pkg/machinery/constants/constants.go` (v1.9);
//! - libvirt: `src/util/virsystemd.c`, `src/hypervisor/domain_driver.c`
//!   `virDomainDriverGenerateMachineName` (v10), and <https://libvirt.org/cgroups.html>;
//! - Proxmox VE: `PVE/QemuServer.pm` (scopes in `qemu.slice`), `PVE/LXC.pm` (8);
//! - LXC: `lxc.container.conf(5)`, `lxc.cgroup.dir` and the defaults of 4 and later;
//! - units: systemd.slice(5), systemd-nspawn(1), `docs/CGROUP_DELEGATION.md` (v256).

use super::unit::{is_unit, unescape};

/// The parts of a name are no longer than this.
pub const NAME_BYTES: usize = 256;

/// Digits of a container's id, as every runtime writes them.
const ID_DIGITS: usize = 64;

/// Longer than any uid that Kubernetes makes.
const UID_BYTES: usize = 64;

/// The parts of a workload that a cgroup's path names; the others are `None`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CgroupIdentity {
    /// With dashes, as in the API and in `/var/log/pods`. Of a static pod it is
    /// the hash of its manifest.
    pub pod_uid: Option<String>,
    pub container: Option<Container>,
    pub vm: Option<Vm>,
    pub machine: Option<Machine>,
    /// The innermost unit, unescaped.
    pub unit: Option<String>,
    /// The numeric user whose session or manager the unit is in.
    pub user: Option<String>,
    /// A service of Talos' own, which has no systemd.
    pub talos: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// `containerd`, `cri-o`, `docker`, `podman`, or what its scope begins with.
    pub runtime: String,
    pub id: String,
}

/// A virtual machine, as far as its cgroup names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Vm {
    /// Proxmox: a number.
    Id(String),
    /// libvirt: its name, without what machined does not allow in one.
    Name(String),
}

/// A container that runs a system of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    /// `lxc` or `machine`.
    pub kind: &'static str,
    pub name: String,
}

impl CgroupIdentity {
    /// Reads a cgroup's path, of whichever version.
    pub fn of(path: &str) -> Self {
        let mut identity = Self::default();
        let mut above = "";
        let mut is_below_kubepods = false;
        for (depth, name) in path.split('/').filter(|name| !name.is_empty()).enumerate() {
            is_below_kubepods |= name.contains("kubepods");
            identity.enter(name, above, depth, is_below_kubepods);
            above = name;
        }
        identity
    }

    fn enter(&mut self, name: &str, above: &str, depth: usize, is_below_kubepods: bool) {
        // `kubepods-….slice:cri-containerd:<id>` stands where the kubelet has
        // systemd's driver and containerd the other.
        let (slice, rest) = name.split_once(':').unwrap_or((name, ""));
        if is_below_kubepods && let Some(uid) = pod_uid(slice) {
            *self = Self { pod_uid: Some(uid), ..Self::default() };
            let (runtime, id) = rest.split_once(':').unwrap_or_default();
            if is_container_id(id) {
                self.container = Some(container(runtime, id));
            }
        } else if let Some(container) = find_container(name, above) {
            let pod_uid = self.pod_uid.take();
            *self = Self { pod_uid, container: Some(container), ..Self::default() };
        } else if let Some(vm) = find_vm(name, above) {
            // The scope stays its unit, as that of a pod's container does.
            let unit = is_unit(name).then(|| bounded(&unescape(name)));
            *self = Self { vm: Some(vm), unit, ..Self::default() };
        } else if let Some(machine) = find_machine(name, above, depth) {
            *self = Self { machine: Some(machine), ..Self::default() };
        } else if let Some(user) = user(name) {
            self.user = Some(user);
            self.unit = is_unit(name).then(|| bounded(&unescape(name)));
        } else if is_unit(name) && self.vm.is_none() {
            self.unit = Some(bounded(&unescape(name)));
        } else if self.is_talos(name, above, depth) {
            self.talos = Some(bounded(name));
        }
    }

    /// Talos' etcd is no pod: it runs in `/podruntime/etcd`.
    fn is_talos(&self, name: &str, above: &str, depth: usize) -> bool {
        let services = ["runtime", "apid", "trustd", "udevd", "dashboard", "extensions"];
        match (depth, above) {
            (1, "podruntime") => true,
            (1, "system") => services.contains(&name),
            (2, "extensions") => self.talos.is_some(),
            _ => false,
        }
    }
}

/// `kubepods-burstable-pod<uid>.slice` with underscores, below whatever slices
/// (kind has `kubelet-kubepods-…`), or `pod<uid>`.
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => name.strip_prefix("pod")?,
    };
    let is_uid = (8..=UID_BYTES).contains(&uid.len())
        && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-' || b == b'_');
    is_uid.then(|| uid.replace('_', "-"))
}

/// `cri-containerd-<id>.scope`, `crio-conmon-<id>.scope`, `libpod-<id>`, `<id>`.
fn find_container(name: &str, above: &str) -> Option<Container> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let at = name.len().checked_sub(ID_DIGITS)?;
    let (runtime, id) = name.split_at_checked(at)?;
    if !is_container_id(id) {
        return None;
    }
    match runtime.strip_suffix('-') {
        Some(runtime) => Some(container(runtime, id)),
        // The runtime that everybody has who uses cgroups without systemd.
        None if runtime.is_empty() && above == "docker" => Some(container("docker", id)),
        None if runtime.is_empty() => Some(container("", id)),
        None => None,
    }
}

fn container(scope: &str, id: &str) -> Container {
    let runtime = match scope.strip_suffix("-conmon").unwrap_or(scope) {
        "" => "container",
        "cri-containerd" => "containerd",
        "crio" => "cri-o",
        "libpod" => "podman",
        other => other,
    };
    Container { runtime: bounded(runtime), id: id.to_owned() }
}

pub(super) fn is_container_id(id: &str) -> bool {
    id.len() == ID_DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn find_vm(name: &str, above: &str) -> Option<Vm> {
    if above == "qemu.slice" {
        let id = name.strip_suffix(".scope")?;
        let is_number = !id.is_empty() && id.len() <= 10 && id.bytes().all(|b| b.is_ascii_digit());
        return is_number.then(|| Vm::Id(id.to_owned()));
    }
    let machine = match name.strip_suffix(".libvirt-qemu") {
        Some(machine) => machine.to_owned(),
        None => {
            let machine = unescape(name.strip_prefix("machine-")?.strip_suffix(".scope")?);
            machine.strip_prefix("qemu-")?;
            machine
        }
    };
    Some(Vm::Name(bounded(after_id(machine.strip_prefix("qemu-").unwrap_or(&machine)))))
}

/// The name in `<id>-<name>`, or in `<user>-<id>-<name>` of an unprivileged
/// libvirt. Without an id (libvirt before 1.3) all of it is the name.
fn after_id(machine: &str) -> &str {
    let is_id = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match machine.split_once('-') {
        Some((id, name)) if is_id(id) && !name.is_empty() => name,
        Some((_, rest)) => match rest.split_once('-') {
            Some((id, name)) if is_id(id) && !name.is_empty() => name,
            _ => machine,
        },
        None => machine,
    }
}

fn find_machine(name: &str, above: &str, depth: usize) -> Option<Machine> {
    let lxc = |name: &str| Some(Machine { kind: "lxc", name: bounded(name) });
    if depth == 1 && matches!(above, "lxc" | "lxc.payload" | "lxc.monitor") {
        return lxc(name);
    }
    for prefix in ["lxc.payload.", "lxc.monitor."] {
        if let Some(name) = name.strip_prefix(prefix) {
            return lxc(name);
        }
    }
    if let Some(name) = name.strip_suffix(".libvirt-lxc") {
        return lxc(after_id(name.strip_prefix("lxc-").unwrap_or(name)));
    }
    let nspawn = name.strip_prefix("systemd-nspawn@").and_then(|n| n.strip_suffix(".service"));
    if let Some(name) = nspawn {
        return Some(Machine { kind: "machine", name: bounded(&unescape(name)) });
    }
    let machine = unescape(name.strip_prefix("machine-")?.strip_suffix(".scope")?);
    match machine.strip_prefix("lxc-") {
        Some(name) => lxc(after_id(name)),
        None => Some(Machine { kind: "machine", name: bounded(&machine) }),
    }
}

/// `user-1000.slice`, `user@1000.service`.
fn user(name: &str) -> Option<String> {
    let id = match name.strip_prefix("user-") {
        Some(slice) => slice.strip_suffix(".slice")?,
        None => name.strip_prefix("user@")?.strip_suffix(".service")?,
    };
    let is_number = !id.is_empty() && id.len() <= 10 && id.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| id.to_owned())
}

pub(super) fn bounded(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_BYTES)].to_owned()
}
