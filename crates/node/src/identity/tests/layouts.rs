//! Whole nodes as they are laid out: what everybody on them is called.

use std::os::unix::fs::symlink;

use super::*;
use tracer_snapshot::{Workload, WorkloadKind};

const UID: &str = "3f6b1c2d-0a4c-4a2b-9d3f-0123456789ab";
const STATIC_UID: &str = "9c8e3b1f00c94cb5a3ff5a3f6f2f5b6e";

/// A container's id that ends in this letter.
fn id(end: char) -> String {
    format!("{}{end}", "0123456789abcde".repeat(4) + "012")
}

fn slice(uid: &str, class: &str) -> String {
    let uid = uid.replace('-', "_");
    format!("kubepods.slice/kubepods-{class}.slice/kubepods-{class}-pod{uid}.slice")
}

impl Node {
    /// A container's log, as containerd and CRI-O write it, and the kubelet's
    /// link to it.
    fn pod_log(&self, namespace: &str, pod: &str, uid: &str, container: &str, id: &str) {
        let log = format!("var/log/pods/{namespace}_{pod}_{uid}/{container}/0.log");
        self.write(&log, "");
        let link = format!("var/log/containers/{pod}_{namespace}_{container}-{id}.log");
        self.link(&link, &format!("/{log}"));
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn command(&self, tgid: u32, comm: &str, arguments: &str, cgroup: &str) {
        self.process(tgid, comm, 5, cgroup);
        self.write(&format!("proc/{tgid}/cmdline"), &arguments.replace(' ', "\0"));
    }

    /// The workload of a process with this number and the given cgroup.
    fn workload(&self, tgid: u32, comm: &str) -> Workload {
        let actor = self.identities().actor(comm, tgid, 0, false, 0);
        actor.workload.unwrap_or_else(|| panic!("{comm} in {} has no workload", actor.cgroup))
    }

    #[track_caller]
    fn check(&self, comm: &str, cgroup: &str, kind: WorkloadKind, name: &str) -> Workload {
        self.process(70, comm, 5, cgroup);
        let workload = self.workload(70, comm);
        assert_eq!((workload.kind, workload.name.as_str()), (kind, name), "{cgroup}");
        workload
    }

    #[track_caller]
    fn check_pod(&self, comm: &str, cgroup: &str, name: &str) -> Workload {
        self.check(comm, cgroup, WorkloadKind::Pod, name)
    }

    #[track_caller]
    fn check_unit(&self, comm: &str, cgroup: &str, name: &str) -> Workload {
        self.check(comm, cgroup, WorkloadKind::Unit, name)
    }
}

#[test]
fn kubeadm_with_containerd_on_v2() {
    let node = Node::new();
    node.pod_log("kube-system", "etcd-node1", STATIC_UID, "etcd", &id('a'));
    node.pod_log("shop", "web-0", UID, "web", &id('b'));
    node.pod_log("shop", "web-0", UID, "sidecar", &id('c'));

    let etcd = format!("/{}/cri-containerd-{}.scope", slice(STATIC_UID, "burstable"), id('a'));
    let etcd = node.check_pod("etcd", &etcd, "kube-system/etcd-node1");
    assert_eq!(etcd.namespace.as_deref(), Some("kube-system"));
    assert_eq!(etcd.pod.as_deref(), Some("etcd-node1"));
    assert_eq!(etcd.container.as_deref(), Some("etcd"));
    assert_eq!(etcd.pod_uid.as_deref(), Some(STATIC_UID));
    // A static pod: nothing in the cluster made it.
    assert_eq!(etcd.controller, None);
    assert_eq!((etcd.container_id, etcd.unit), (Some(id('a')), None));

    let pod = slice(UID, "besteffort");
    let scope = |end| format!("/{pod}/cri-containerd-{}.scope", id(end));
    let web = node.check_pod("web", &scope('b'), "shop/web-0");
    assert_eq!(web.controller.as_deref(), Some("statefulset/web"));
    node.check_pod("tail", &scope('c'), "shop/web-0/sidecar");
    // With two containers, the process in neither of them has no container name.
    let paused = node.check_pod("pause", &scope('f'), "shop/web-0");
    assert_eq!(paused.container, None);
    node.check_pod("kworker", &format!("/{pod}"), "shop/web-0");
    let guaranteed = format!("kubepods-pod{}.slice", UID.replace('-', "_"));
    let guaranteed = format!("/kubepods.slice/{guaranteed}/cri-containerd-{}.scope/init", id('b'));
    node.check_pod("web", &guaranteed, "shop/web-0");
    node.check_unit("containerd", "/system.slice/containerd.service", "containerd.service");
}

#[test]
fn drivers_that_disagree_leave_a_colon() {
    let node = Node::new();
    node.pod_log("shop", "web-0", UID, "web", &id('b'));
    let uid = UID.replace('-', "_");
    let path = format!(
        "/system.slice/containerd.service/kubepods-burstable-pod{uid}.slice:cri-containerd:{}",
        id('b')
    );
    assert_eq!(node.check_pod("web", &path, "shop/web-0").container.as_deref(), Some("web"));
}

#[test]
fn kubeadm_with_docker_and_cgroupfs_on_v1() {
    let node = Node::new();
    // Without the kubelet's own links, Docker's log names the container.
    for (container, end) in [("etcd", 'a'), ("backup", 'b')] {
        let log = format!("var/log/pods/kube-system_etcd-m1_{STATIC_UID}/{container}/3.log");
        let target = format!("/var/lib/docker/containers/{0}/{0}-json.log", id(end));
        node.link(&log, &target);
    }
    let path = format!("/kubepods/burstable/pod{STATIC_UID}/{}", id('b'));
    node.process(9, "tar", 5, "/");
    node.write(
        "proc/9/cgroup",
        &format!("11:blkio:{path}\n10:cpu,cpuacct:{path}\n1:name=systemd:{path}\n"),
    );
    let backup = node.workload(9, "tar");
    assert_eq!(backup.name, "kube-system/etcd-m1/backup");
    assert_eq!(backup.container_id, Some(id('b')));
    let scope = format!("/{}/docker-{}.scope", slice(STATIC_UID, "burstable"), id('a'));
    node.check_pod("etcd", &scope, "kube-system/etcd-m1");
    node.check(
        "nginx",
        &format!("/docker/{}", id('0')),
        WorkloadKind::Container,
        "docker 0123456789ab",
    );
    let scope = format!("/system.slice/docker-{}.scope", id('0'));
    node.check("nginx", &scope, WorkloadKind::Container, "docker 0123456789ab");
    let scope = format!("/machine.slice/libpod-{}.scope/container", id('0'));
    node.check("nginx", &scope, WorkloadKind::Container, "podman 0123456789ab");
}

#[test]
fn docker_and_podman_keep_their_containers_names() {
    let node = Node::new();
    let docker = format!("var/lib/docker/containers/{}/config.v2.json", id('a'));
    node.write(&docker, r#"{"Config":{"Env":["SECRET=1"]},"Name":"/shop-db-1"}"#);
    let podman = "var/lib/containers/storage/overlay-containers";
    let list = |end, name| format!(r#"[{{"id":"{}","names":["{name}"],"flags":{{}}}}]"#, id(end));
    node.write(&format!("{podman}/containers.json"), &list('b', "web"));
    node.write(&format!("{podman}/volatile-containers.json"), &list('c', "brief"));
    let kind = WorkloadKind::Container;
    let scope = |runtime: &str, end| format!("/machine.slice/{runtime}-{}.scope", id(end));
    let db = node.check("mysqld", &scope("docker", 'a'), kind, "docker shop-db-1");
    assert_eq!((db.container.as_deref(), db.container_id), (Some("shop-db-1"), Some(id('a'))));
    node.check("web", &scope("libpod", 'b'), kind, "podman web");
    node.check("web", &scope("libpod", 'c'), kind, "podman brief");
    node.check("web", &scope("libpod", 'd'), kind, "podman 0123456789ab");
}

#[test]
fn podmans_pods_are_called_as_their_first_containers_host() {
    let node = Node::new();
    let podman = "var/lib/containers/storage/overlay-containers";
    let (db, kept, bare, infra) = (id('b'), id('c'), id('d'), id('e'));
    let named =
        [(&db, "db"), (&kept, "shop-cache"), (&bare, "bare"), (&infra, "0123456789ab-infra")];
    let list = named.map(|(id, name)| format!(r#"{{"id":"{id}","names":["{name}"]}}"#));
    node.write(&format!("{podman}/containers.json"), &format!("[{}]", list.join(",")));
    let config = |id: &str, text: &str| {
        node.write(&format!("{podman}/{id}/userdata/config.json"), text);
    };
    let member = |infra: &str| {
        let annotations = format!(r#"{{"io.kubernetes.cri-o.SandboxID":"{infra}"}}"#);
        format!(r#"{{"process":{{"env":["SECRET=1"]}},"annotations":{annotations}}}"#)
    };
    config(&infra, r#"{"hostname":"shop","annotations":{"io.container.manager":"libpod"}}"#);
    config(&db, &member(&infra));
    config(&kept, &member(&infra));
    // A pod without an infra container is named in no file.
    config(&bare, &member(&id('f')));
    let kind = WorkloadKind::Container;
    let pod = format!("machine-libpod_pod_{}.slice", id('a'));
    let within = |id: &str| format!("/machine.slice/{pod}/libpod-{id}.scope/container");
    let shop = node.check("mysqld", &within(&db), kind, "podman shop/db");
    assert_eq!((shop.pod.as_deref(), shop.container.as_deref()), (Some("shop"), Some("db")));
    assert_eq!((shop.namespace, shop.container_id), (None, Some(db.clone())));
    // Without systemd.
    let parent = format!("/libpod_parent/{}/libpod-{kept}", id('a'));
    let cache = node.check("redis", &parent, kind, "podman shop-cache");
    assert_eq!(cache.pod.as_deref(), Some("shop"));
    assert_eq!(node.check("web", &within(&bare), kind, "podman bare").pod, None);

    // Whoever starts a container can give it annotations.
    let other = id('0');
    node.write("secret/userdata/config.json", r#"{"hostname":"secret"}"#);
    config(&other, &member("../../../../../secret"));
    let path = within(&other);
    assert_eq!(node.check("web", &path, kind, "podman 0123456789ab").pod, None);
}

#[test]
fn cri_o_and_its_monitor() {
    let node = Node::new();
    node.pod_log("openshift-etcd", "etcd-master-0", UID, "etcd", &id('a'));
    let pod = slice(UID, "burstable");
    for scope in ["crio", "crio-conmon"] {
        let path = format!("/{pod}/{scope}-{}.scope", id('a'));
        node.check_pod("etcd", &path, "openshift-etcd/etcd-master-0");
    }
    node.check_pod(
        "etcd",
        &format!("/{pod}/crio-{}.scope/container", id('a')),
        "openshift-etcd/etcd-master-0",
    );
    node.check_unit("crio", "/system.slice/crio.service", "crio.service");
}

#[test]
fn k3s_has_etcd_in_its_own_process_and_rke2_a_static_pod() {
    let node = Node::new();
    node.check_unit("k3s-server", "/system.slice/k3s.service", "k3s.service");
    // Without a link, the only container it is.
    node.write(&format!("var/log/pods/kube-system_etcd-r1_{STATIC_UID}/etcd/0.log"), "");
    let path = format!("/{}/cri-containerd-{}.scope", slice(STATIC_UID, "burstable"), id('a'));
    let etcd = node.check_pod("etcd", &path, "kube-system/etcd-r1");
    assert_eq!(etcd.container.as_deref(), Some("etcd"));
    node.check_unit("rke2", "/system.slice/rke2-server.service", "rke2-server.service");
    let microk8s = "snap.microk8s.daemon-k8s-dqlite.service";
    node.check_unit("k8s-dqlite", &format!("/system.slice/{microk8s}"), microk8s);
}

#[test]
fn talos_runs_etcd_as_its_own_service() {
    let node = Node::new();
    node.pod_log("shop", "web-0", UID, "web", &id('b'));
    node.check_unit("etcd", "/podruntime/etcd", "talos etcd");
    node.check_unit("containerd", "/podruntime/runtime", "talos runtime");
    node.check_unit("iscsid", "/system/extensions/iscsi-tools", "talos iscsi-tools");
    node.check_unit("apid", "/system/apid", "talos apid");
    node.check_pod("web", &format!("/kubepods/burstable/pod{UID}/{}", id('b')), "shop/web-0");
}

#[test]
fn a_node_in_a_container_has_pods_of_its_own() {
    let node = Node::new();
    let kind = format!("/system.slice/docker-{}.scope", id('0'));
    let uid = UID.replace('-', "_");
    let path = format!(
        "{kind}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-pod{uid}.slice/cri-containerd-{}.scope",
        id('b')
    );
    // From the host, whose disk has none of the pod's names.
    let web = node.check_pod("web", &path, "pod 3f6b1c2d");
    assert_eq!((web.pod_uid.as_deref(), web.pod), (Some(UID), None));
    let within = format!("{kind}/system.slice/containerd.service");
    node.check(
        "containerd",
        &within,
        WorkloadKind::Container,
        "docker 0123456789ab containerd.service",
    );
    // From within.
    node.pod_log("shop", "web-0", UID, "web", &id('b'));
    node.check_pod("web", &path, "shop/web-0");
    let old = format!("/docker/{}/kubelet/kubepods/besteffort/pod{UID}/{}", id('0'), id('b'));
    node.check_pod("web", &old, "shop/web-0");
}

#[test]
fn proxmox() {
    let node = Node::new();
    node.command(
        5,
        "kvm",
        "/usr/bin/kvm -id 101 -name web,debug-threads=on",
        "/qemu.slice/101.scope",
    );
    let vm = node.workload(5, "kvm");
    assert_eq!((vm.kind, vm.name.as_str()), (WorkloadKind::Vm, "vm 101 web"));
    assert_eq!((vm.vm.as_deref(), vm.vm_id.as_deref()), (Some("web"), Some("101")));
    node.check("kworker", "/qemu.slice/101.scope", WorkloadKind::Vm, "vm 101");
    let lxc = WorkloadKind::Container;
    node.check("redis", "/lxc/105/ns/system.slice/redis.service", lxc, "lxc 105 redis.service");
    node.check("lxc-start", "/lxc.monitor/105", lxc, "lxc 105");
    let payload = node.check("mysqld", "/lxc.payload.db/user", lxc, "lxc db");
    assert_eq!(payload.container.as_deref(), Some("db"));
}

#[test]
fn libvirt_on_both_versions_and_machines() {
    let node = Node::new();
    let vm = WorkloadKind::Vm;
    let scope = r"/machine.slice/machine-qemu\x2d2\x2dbig\x2dweb.scope";
    node.check("qemu", &format!("{scope}/libvirt/emulator"), vm, "vm big-web");
    node.check("qemu", "/machine/qemu-2-big-web.libvirt-qemu/vcpu0", vm, "vm big-web");
    node.check("qemu", "/machine/web.libvirt-qemu", vm, "vm web");
    node.check("qemu", r"/machine.slice/machine-qemu\x2droot\x2d1\x2dweb.scope", vm, "vm web");
    // machined does not allow all characters that libvirt does; QEMU's arguments have them.
    let arguments = "/usr/bin/qemu-system-x86_64 -name guest=big_web,debug-threads=on";
    node.command(5, "qemu-system-x86", arguments, &format!("{scope}/libvirt/emulator"));
    assert_eq!(node.workload(5, "qemu-system-x86").name, "vm big_web");
    node.command(
        6,
        "qemu-system-x86",
        "qemu-system-x86_64 -name dev",
        "/user.slice/user-1000.slice/session-2.scope",
    );
    assert_eq!(node.workload(6, "qemu-system-x86").name, "vm dev");

    let machine = WorkloadKind::Container;
    let path = r"/machine.slice/systemd-nspawn@deb\x2d12.service/payload/system.slice/a.service";
    node.check("a", path, machine, "machine deb-12 a.service");
    node.check("a", "/machine.slice/machine-deb.scope", machine, "machine deb");
    node.check("a", r"/machine.slice/machine-lxc\x2d7\x2dbox.scope", machine, "lxc box");
}

#[test]
fn harvester_knows_virtual_machines_and_volumes() {
    let node = Node::new();
    let volume = "pvc-89c15dec-0a4c-4a2b-9d3f-0123456789ab";
    node.pod_log("shop", "virt-launcher-web-1-x7k2p", UID, "compute", &id('a'));
    let kubelet = "var/lib/kubelet/pods";
    node.link(&format!("{kubelet}/{UID}/volumeDevices/kubernetes.io~csi/{volume}"), "/dev/sdx");
    let launcher = format!("/{}/cri-containerd-{}.scope", slice(UID, "burstable"), id('a'));
    node.command(
        5,
        "qemu-kvm",
        "/usr/libexec/qemu-kvm -name guest=shop_web-1,debug-threads=on",
        &launcher,
    );
    let vm = node.workload(5, "qemu-kvm");
    assert_eq!((vm.kind, vm.name.as_str()), (WorkloadKind::Vm, "vm shop/web-1"));
    assert_eq!((vm.vm.as_deref(), vm.namespace.as_deref()), (Some("web-1"), Some("shop")));
    assert_eq!(vm.pod.as_deref(), Some("virt-launcher-web-1-x7k2p"));
    // A helper of the machine in its pod has the same workload.
    node.check("virtqemud", &launcher, WorkloadKind::Vm, "vm shop/web-1");

    let manager_uid = "11111111-0a4c-4a2b-9d3f-0123456789ab";
    let manager = "instance-manager-4fe3ca2fe7d7ea0c0b0f1c8d5ed2fa6a";
    node.pod_log("longhorn-system", manager, manager_uid, "instance-manager", &id('c'));
    let cgroup = format!("/{}/cri-containerd-{}.scope", slice(manager_uid, "burstable"), id('c'));
    let replica = format!(
        "/host/e/longhorn --volume-name {volume} replica /host/l/replicas/{volume}-0a1b2c3d"
    );
    node.command(6, "longhorn", &replica, &cgroup);
    let found = node.workload(6, "longhorn");
    assert_eq!(found.kind, WorkloadKind::Volume);
    assert_eq!(found.name, "replica pvc-89c15dec of vm shop/web-1");
    assert_eq!(found.volume.as_deref(), Some(volume));
    assert_eq!(found.used_by.as_deref(), Some("vm shop/web-1"));
    assert_eq!(found.namespace.as_deref(), Some("longhorn-system"));
    node.check_pod("tgtd", &cgroup, &format!("longhorn-system/{manager}"));

    // To the kernel all of one name in one cgroup are one owner.
    let mut identities = node.identities();
    node.command(7, "longhorn", "longhorn controller pvc-2 --frontend x", &cgroup);
    identities.actor("longhorn", 6, 0, false, 0);
    let other = identities.actor("longhorn", 7, 0, false, 0).workload.unwrap();
    assert_eq!(other.name, "engine pvc-2 +1");
}

#[test]
fn a_volume_belongs_to_the_pod_that_mounts_it() {
    let node = Node::new();
    node.pod_log("shop", "db-0", UID, "db", &id('a'));
    let pods = "var/lib/k0s/kubelet/pods";
    node.write(&format!("{pods}/{UID}/volumes/kubernetes.io~csi/data/vol_data.json"), "{}");
    let engine = "longhorn controller data --frontend x";
    node.command(6, "longhorn", engine, "/kubepods/pod11111111");
    assert_eq!(node.workload(6, "longhorn").name, "engine data of shop/db-0");
    // In a pod that is not Longhorn's it is nothing but a claim.
    node.command(7, "longhorn", engine, &format!("/kubepods/pod{UID}"));
    assert_eq!(node.workload(7, "longhorn").name, "shop/db-0");
}

#[test]
fn units_of_a_plain_host() {
    let node = Node::new();
    node.check_unit("a", "/system.slice/node-exporter.service", "node-exporter.service");
    node.check_unit(
        "a",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "getty@tty1.service",
    );
    node.check_unit("a", r"/system.slice/a\x2db.service", "a-b.service");
    let session = node.check_unit(
        "a",
        "/user.slice/user-1000.slice/session-2.scope",
        "session-2.scope of user 1000",
    );
    assert_eq!(session.user.as_deref(), Some("1000"));
    let user = "/user.slice/user-1000.slice/user@1000.service";
    node.check_unit("a", &format!("{user}/app.slice/b.service"), "b.service of user 1000");
    node.check_unit("a", &format!("{user}/init.scope"), "init.scope of user 1000");
    node.check_unit("a", "/system.slice/dbus-:1.2-x@0.service", "dbus-:1.2-x@0.service");
    for nowhere in ["/", "/demo/noisy", "/system.slice", "/podxyz/abc"] {
        node.process(70, "dd", 5, nowhere);
        assert_eq!(node.identities().actor("dd", 70, 0, false, 0).workload, None, "{nowhere}");
    }
}

#[test]
fn a_pod_that_starts_later_is_found_and_one_that_is_gone_remembered() {
    let node = Node::new();
    let cgroup = format!("/{}/cri-containerd-{}.scope", slice(UID, "burstable"), id('a'));
    node.process(9, "web", 5, &cgroup);
    let mut identities = node.identities();
    let mut name =
        |second| identities.actor("web", 9, 0, false, second * SECOND).workload.unwrap().name;
    assert_eq!(name(0), "pod 3f6b1c2d");
    node.pod_log("shop", "web-0", UID, "web", &id('a'));
    assert_eq!(name(1), "pod 3f6b1c2d", "too early for another scan");
    assert_eq!(name(4), "shop/web-0");
    fs::remove_dir_all(node.0.path().join("var/log")).unwrap();
    assert_eq!(name(60), "shop/web-0");
}

#[test]
fn who_has_no_names_on_the_disk_is_looked_for_a_few_times() {
    let node = Node::new();
    let cgroup = format!("/{}/cri-containerd-{}.scope", slice(UID, "burstable"), id('a'));
    node.process(9, "web", 5, &cgroup);
    let mut identities = node.identities();
    for second in 0..100 {
        identities.actor("web", 9, 0, false, second * SECOND);
    }
    node.pod_log("shop", "web-0", UID, "web", &id('a'));
    let name = |actor: Actor| actor.workload.unwrap().name;
    assert_eq!(name(identities.actor("web", 9, 0, false, 200 * SECOND)), "pod 3f6b1c2d");
    // Somebody else's scan finds it as well.
    let other = UID.replace('3', "4");
    node.process(10, "new", 5, &format!("/kubepods/pod{other}"));
    identities.actor("new", 10, 0, false, 300 * SECOND);
    assert_eq!(name(identities.actor("web", 9, 0, false, 300 * SECOND)), "shop/web-0");
}
