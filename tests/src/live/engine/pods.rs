//! Podman's pods: a container in one is named with it.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::Value;
use tracer_lab::disk::Filesystem;

use super::{
    super::{
        lab_disk,
        served::{Agent, free_address},
    },
    need_live,
    podman::{Podman, said},
};
use crate::{
    skip::skip,
    subject::{Tracer, tracer_bin},
};

/// Syncs a file twenty times a second, under the name `dd`.
const SYNC: &str = "while :; do dd if=/dev/zero of=/data/$0 bs=4k count=1 conv=fdatasync 2>/dev/null; \
                    sleep 0.05; done";

#[test]
fn a_container_of_a_pod_is_named_with_the_pod() {
    need_live!();
    let disk = lab_disk(Filesystem::Ext4);
    let podman = match Podman::find() {
        Ok(podman) => podman,
        Err(why) => skip!("{why}"),
    };
    if let Err(why) = podman.import_pause() {
        skip!("{why}");
    }
    podman.create_pod("shop");
    podman.run(&["pod", "create", "--name=bare", "--infra=false"]);
    let volume = format!("--volume={}:/data", disk.mountpoint().display());
    for (name, pod) in [
        ("db", Some("shop")),
        ("shop-cache", Some("shop")),
        ("loner", Some("bare")),
        ("alone", None),
    ] {
        let root = podman.bare_root(&format!("root-{name}"));
        let mut command = podman.command(&["run", "--detach", "--name", name]);
        command.args(pod.map(|pod| format!("--pod={pod}")));
        command.args(["--volume=/usr:/usr:ro", &volume, "--rootfs"]).arg(root);
        let output = command.args(["sh", "-c", SYNC, name]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", said(&output));
    }

    // The agent looks for Podman's files where a node has them.
    let host = podman.path("host");
    fs::create_dir_all(host.join("var/lib/containers")).unwrap();
    symlink(podman.path("storage"), host.join("var/lib/containers/storage")).unwrap();
    let address = free_address();
    let mut command = Command::new(tracer_bin());
    command.args(["agent", "--period=1s"]).arg(format!("--listen={address}"));
    command.arg(format!("--host-root={}", host.display()));
    let agent = Agent::until_ready(Tracer::spawn(command), address);
    let named = |container: &str| -> Option<(String, Option<String>)> {
        let (status, _, body) = agent.try_get("/api/v1/verdicts", "")?;
        let verdicts: Value = (status == 200).then(|| serde_json::from_str(&body).unwrap())?;
        let victims = verdicts["victims"].as_array().unwrap().iter();
        let mut workloads = victims.map(|victim| &victim["victim"]["workload"]);
        let workload = workloads.find(|workload| workload["container"] == container)?;
        Some((workload["name"].as_str()?.to_owned(), workload["pod"].as_str().map(str::to_owned)))
    };
    for (container, name, pod) in [
        ("db", "podman shop/db", Some("shop")),
        ("shop-cache", "podman shop-cache", Some("shop")),
        ("loner", "podman loner", None),
        ("alone", "podman alone", None),
    ] {
        agent.wait_until(container, || named(container).is_some());
        assert_eq!(named(container), Some((name.to_owned(), pod.map(str::to_owned))));
    }
    assert!(agent.metrics().contains("pod=\"shop\""), "{}", agent.metrics());
}
