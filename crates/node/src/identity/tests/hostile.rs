//! Names that somebody made up: whatever they are, they are bounded.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use proptest::prelude::*;

use super::*;
use crate::identity::{
    arguments::find_program,
    cgroup_path::{CgroupIdentity, NAME_BYTES},
};

/// Components that mean something, and what may stand in their place.
fn cgroup_path() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        "(kubelet-)?kubepods(-burstable)?(-pod[-_0-9a-f]{0,80})?(.slice)?(:[a-z-]{0,9}:[0-9a-f]{64})?",
        "pod[-0-9a-f]{0,80}",
        "((cri-containerd|crio|docker|ß)-)?[0-9a-f]{62,66}(.scope)?",
        r"machine-(qemu(\\x2d|-))?[0-9ß-]{0,4}[a-z\\]{0,300}.scope",
        r"(qemu-)?[0-9]{0,12}-?.{0,5}.libvirt-qemu",
        "lxc(.payload.?|.monitor)?",
        "[0-9]{0,12}.scope",
        "qemu.slice",
        "user[-@][0-9]{0,12}.(slice|service)",
        r"systemd-nspawn@.{0,9}\\x[0-9a-f]{0,2}.service",
        "(podruntime|system|extensions)",
        ".{0,300}",
    ];
    prop::collection::vec(component, 0..6).prop_map(|names| format!("/{}", names.join("/")))
}

fn check(workload: &Workload) {
    let Workload { name, namespace, pod, container, vm, volume, used_by, unit, user, .. } =
        workload;
    // "+1" may follow a name.
    assert!(!name.is_empty() && name.len() <= NAME_BYTES + 24, "{workload:?}");
    for part in [namespace, pod, container, vm, volume, used_by, unit, user].into_iter().flatten() {
        assert!(part.len() <= 2 * NAME_BYTES + 8, "{workload:?}");
    }
    for id in [&workload.pod_uid, &workload.container_id, &workload.vm_id].into_iter().flatten() {
        assert!(id.len() <= 64, "{workload:?}");
    }
}

#[test]
fn configuration_that_is_none_gives_no_name() {
    let node = Node::new();
    let id = "0".repeat(64);
    let config = format!("var/lib/docker/containers/{id}/config.v2.json");
    for content in ["", "{", "[]", "{\"Name\":7}", "{\"Name\":\"/\"}", &"[".repeat(10_000)] {
        node.write(&config, content);
        let identity = CgroupIdentity::of(&format!("/docker/{id}"));
        let tree = Tree::new(node.0.path());
        let workload = find_workload(&mut Names::default(), &tree, identity, None, 0).unwrap();
        assert_eq!((workload.name.as_str(), workload.container), ("docker 000000000000", None));
    }
}

proptest! {
    #[test]
    fn any_cgroup_and_arguments_give_bounded_names(
        path in cgroup_path(),
        program in "(/usr/bin/)?(qemu-kvm|kvm|qemu-system-x|longhorn|etcd)",
        arguments in prop::collection::vec(
            prop_oneof![
                "(-name|-id|--volume-name|controller|replica|sync-agent)".prop_map(String::into_bytes),
                "(guest=)?[a-z_,=ß]{0,600}".prop_map(String::into_bytes),
                any::<Vec<u8>>(),
            ],
            0..6,
        ),
    ) {
        let cmdline = [vec![program.into_bytes()], arguments].concat().join(&0);
        let program = find_program(&cmdline);
        let tree = Tree::new(Path::new("/nonexistent"));
        let identity = CgroupIdentity::of(&path);
        let found = find_workload(&mut Names::default(), &tree, identity, program.as_ref(), 0);
        if let Some(workload) = found {
            check(&workload);
        }
    }

    #[test]
    fn any_names_of_logs_and_volumes_give_bounded_names(
        logs in prop::collection::vec(prop_oneof!["[a-z_]{0,90}_[-0-9a-f]{0,40}", "[^/\0]{1,60}"], 0..4),
        links in prop::collection::vec(prop_oneof!["[a-z_]{0,90}-[0-9a-f]{64}.log", "[^/\0]{1,60}"], 0..4),
        bytes in prop::collection::vec(1u8..=255, 1..60),
    ) {
        let node = Node::new();
        let make = |directory: &str, name: &[u8]| {
            // Some names are no names of files.
            let path = node.0.path().join(directory).join(OsStr::from_bytes(name));
            let _ = fs::create_dir_all(path);
        };
        let raw = bytes.into_iter().filter(|&b| b != b'/').collect::<Vec<_>>();
        for name in logs.iter().map(String::as_bytes).chain([&raw[..]]) {
            make("var/log/pods", name);
        }
        for name in links.iter().map(String::as_bytes).chain([&raw[..]]) {
            make("var/log/containers", name);
            make("var/lib/kubelet/pods/a/volumes/kubernetes.io~csi", name);
        }
        let uids = logs.iter().filter_map(|log| log.rsplit('_').next());
        for uid in uids.chain(["12345678"]) {
            let identity = CgroupIdentity::of(&format!("/kubepods/pod{uid}/{}", "0".repeat(64)));
            let tree = Tree::new(node.0.path());
            if let Some(workload) = find_workload(&mut Names::default(), &tree, identity, None, 0) {
                check(&workload);
            }
        }
    }
}
