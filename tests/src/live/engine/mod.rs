//! The image, as `cargo xtask dist` writes it, loaded by real container engines: with the
//! engine's own seccomp filter, with ours, and next to other containers.

mod containerd;
mod podman;
mod pods;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tracer_dist::{Machine, image, layout};
use tracer_lab::{disk::Filesystem, tool::ETCD};

use super::{
    need_live,
    served::{Agent, free_address},
};
use crate::{
    deploy::{read, release, workspace},
    simulated::SimulatedDisk,
    skip::skip,
    subject::{Tracer, tracer_bin},
};
use podman::{Podman, said};

const PROFILE: &str = "deploy/seccomp/tracer.json";
const DAEMONSET: &str = "deploy/kubernetes/base/daemonset.yaml";
const SECOND: Duration = Duration::from_secs(1);

/// All that an fsync of etcd and an fstrim take to meet.
const MEETING: Duration = Duration::from_secs(60);

/// The image with the tracer under test, in a file.
fn image_archive() -> Vec<u8> {
    let parts = layout::Parts {
        tracer: fs::read(tracer_bin()).unwrap(),
        licences: vec![("LICENSE-MIT".to_owned(), read("LICENSE-MIT").into_bytes())],
        ..layout::Parts::default()
    };
    let machine = if std::env::consts::ARCH == "aarch64" { Machine::Arm } else { Machine::X86 };
    let other = if machine == Machine::X86 { Machine::Arm } else { Machine::X86 };
    // The engine must choose the manifest of its own architecture.
    let wrong = layout::Parts { tracer: b"of another machine".to_vec(), ..parts.clone() };
    let roots = [(other, layout::image(&wrong)), (machine, layout::image(&parts))];
    image::write(&release(), &roots).unwrap().archive
}

/// Returns an engine and the name of the image in it; skips if no engine can run.
macro_rules! need_engine {
    () => {{
        need_live!();
        let podman = match Podman::find() {
            Ok(podman) => podman,
            Err(why) => skip!("{why}"),
        };
        let archive = podman.path("image.tar");
        fs::write(&archive, image_archive()).unwrap();
        let image = podman.load(&archive);
        assert_eq!(image, concat!("docker.io/library/tracer:", env!("CARGO_PKG_VERSION")));
        let version = podman.command(&["run", "--rm", &image, "--version"]).output().unwrap();
        if !version.status.success() {
            skip!("the tracer under test is not the static one: `cargo xtask build --static` builds it");
        }
        assert_eq!(said(&version), concat!("tracer ", env!("CARGO_PKG_VERSION")));
        (podman, image)
    }};
}

/// A container of the image with only the two capabilities that tracing needs.
fn with_two_capabilities(podman: &Podman, profile: &str, image: &str, args: &[&str]) -> Command {
    let mut command = podman.command(&["run", "--rm", "--cap-drop=ALL", "--read-only"]);
    command.args(["--cap-add=BPF", "--cap-add=PERFMON", "--pid=host"]);
    command.arg(format!("--security-opt=seccomp={profile}"));
    command.arg(image).args(args);
    command
}

#[test]
fn an_engines_own_filter_is_named_and_with_ours_two_capabilities_are_enough() {
    let (podman, image) = need_engine!();
    let own = podman.default_profile();
    let shut = with_two_capabilities(&podman, own.to_str().unwrap(), &image, &["doctor"]);
    let mut doctor = Tracer::spawn(shut);
    let status = doctor.wait(60 * SECOND);
    let says = doctor.transcript();
    if status.success() {
        skip!("this engine's own filter lets bpf() pass");
    }
    assert_eq!(status.code(), Some(3), "{says}");
    let errors: Vec<_> = says.lines().filter(|line| line.contains("error:")).collect();
    let [error] = errors[..] else { panic!("{says}") };
    for word in ["seccomp filter", "deploy/seccomp", "seccomp=tracer.json"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    for word in ["locked memory", "ulimit", "SELinux", "AppArmor", "report this"] {
        assert!(!error.contains(word), "{word:?} in {error}");
    }

    let profile = workspace().join(PROFILE);
    let args = ["top", "--batch", "-n", "1"];
    let open = with_two_capabilities(&podman, profile.to_str().unwrap(), &image, &args);
    let mut top = Tracer::spawn(open);
    assert_eq!(top.wait(90 * SECOND).code(), Some(0), "{}", top.transcript());
    assert!(top.transcript().contains("watched"), "{}", top.transcript());
}

/// Options of `podman run` that make a container what the DaemonSet's pod says.
fn of_daemonset(podman: &Podman) -> Vec<String> {
    let daemonset: Value = serde_saphyr::from_str(&read(DAEMONSET)).unwrap();
    let pod = &daemonset["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    let mut options = vec!["--memory=128m".to_owned()];
    assert_eq!(pod["hostPID"], true);
    options.push("--pid=host".to_owned());
    assert_eq!(security["readOnlyRootFilesystem"], true);
    options.push("--read-only".to_owned());
    assert_eq!(security["allowPrivilegeEscalation"], false);
    options.push("--security-opt=no-new-privileges".to_owned());
    options.push(format!("--security-opt=seccomp={}", workspace().join(PROFILE).display()));
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    for (option, list) in [("drop", "drop"), ("add", "add")] {
        let capabilities = names(&security["capabilities"][list]);
        options.extend(capabilities.iter().map(|name| format!("--cap-{option}={name}")));
    }
    for mount in container["volumeMounts"].as_array().unwrap() {
        let [name, target] = ["name", "mountPath"].map(|field| mount[field].as_str().unwrap());
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == name).unwrap();
        let read_only = mount["readOnly"] == true;
        let source = match volume["hostPath"]["path"].as_str() {
            Some(path) if read_only && fs::exists(path).unwrap() => path.into(),
            // The test writes to none of the host's own.
            _ => {
                let own = podman.path(name);
                fs::create_dir_all(&own).unwrap();
                if volume["configMap"].is_object() {
                    fs::write(own.join("agent.toml"), "victims = 50\n").unwrap();
                }
                own
            }
        };
        let mode = if read_only { "ro,rslave" } else { "rw" };
        options.push(format!("--volume={}:{target}:{mode}", source.display()));
    }
    // Podman keeps its containers' names here; the test's Podman keeps them in a directory.
    let storage = podman.path("storage");
    options.push(format!("--volume={}:/host/var/lib/containers/storage:ro", storage.display()));
    options
}

/// docs/deploy.md says that Podman 4.3 refuses the DaemonSet. If that Podman accepts it, the
/// page must be changed.
#[test]
fn podman_says_of_the_daemonset_what_the_page_says() {
    need_live!();
    let podman = match Podman::find() {
        Ok(podman) => podman,
        Err(why) => skip!("{why}"),
    };
    let version = podman.run(&["--version"]);
    if version != "podman version 4.3.1" {
        skip!("the page is not about {version}");
    }
    let daemonset = workspace().join(DAEMONSET);
    let output = podman.command(&["kube", "play", daemonset.to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success());
    let refusal = "YAML document does not contain any supported kube kind";
    assert!(said(&output).ends_with(refusal), "{}", said(&output));
    let page = read("docs/deploy.md");
    assert!(page.contains(refusal) && page.contains("Podman 4.3.1"));
}

/// A pod and a container in it.
type Names = (String, String);

fn names(pod: &str, container: &str) -> Names {
    (pod.to_owned(), container.to_owned())
}

/// The culprits that an agent's verdicts name for this container, if it is a victim.
fn culprits_of(agent: &Agent, victim: &Names) -> Option<Vec<Names>> {
    let (status, _, body) = agent.try_get("/api/v1/verdicts", "")?;
    if status != 200 {
        return None;
    }
    let verdicts: Value = serde_json::from_str(&body).unwrap();
    let names = |who: &Value| -> Option<Names> {
        let workload = &who["workload"];
        Some(names(workload["pod"].as_str()?, workload["container"].as_str()?))
    };
    let victims = verdicts["victims"].as_array().unwrap();
    let mut of_it = victims.iter().filter(|one| names(&one["victim"]).as_ref() == Some(victim));
    let verdict = of_it.find(|verdict| verdict["kind"] == "owners")?;
    Some(verdict["culprits"].as_array()?.iter().filter_map(names).collect())
}

/// Each is in a pod that is made by hand, as this Podman plays no DaemonSet.
#[test]
fn an_agent_in_a_pod_names_the_pod_and_container_whose_fstrim_hurts_anothers_etcd() {
    need_live!();
    let Some(etcd) = ETCD.find() else { skip!("`etcd` is not installed") };
    let tools = etcd.parent().unwrap();
    if !tools.join("etcdctl").is_file() {
        skip!("`etcdctl` is not beside `etcd`");
    }
    // It is dropped after the containers that use it.
    let disk = SimulatedDisk::create(Filesystem::Ext4).unwrap();
    let (podman, image) = need_engine!();
    if let Err(why) = podman.import_pause() {
        skip!("{why}");
    }
    fs::create_dir(disk.mountpoint().join("etcd")).unwrap();
    let start = |(pod, name): &Names, data: &str, more: &[&str], script: &str| {
        podman.create_pod(pod);
        let root = podman.bare_root(&format!("root-{name}"));
        let data = format!("--volume={data}:/data");
        let tools = format!("--volume={}:/tools:ro", tools.display());
        let mut command = podman.command(&["run", "--rm", "--detach", "--name", name]);
        command.arg(format!("--pod={pod}"));
        command.args(["--volume=/usr:/usr:ro", &data, &tools]).args(more);
        command.arg("--rootfs").arg(root).args(["sh", "-c", script]);
        let output = command.stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", said(&output));
    };
    let [client, peer] =
        [free_address(), free_address()].map(|address| format!("http://{address}"));
    let etcd = format!(
        "/tools/etcd --data-dir=/data/member-data --listen-client-urls={client} \
         --advertise-client-urls={client} --listen-peer-urls={peer} \
         --initial-advertise-peer-urls={peer} --initial-cluster=default={peer} >/dev/null 2>&1 & \
         export ETCDCTL_API=3; \
         while :; do /tools/etcdctl --endpoints={client} put key value >/dev/null 2>&1; done"
    );
    let mountpoint = disk.mountpoint().to_str().unwrap().to_owned();
    let (shop, night) = (names("shop", "etcd"), names("night", "trimmer"));
    start(&shop, &format!("{mountpoint}/etcd"), &[], &etcd);

    let address = free_address();
    let options = of_daemonset(&podman);
    podman.create_pod("tracer");
    let mut command = podman.command(&["run", "--rm", "--pod=tracer", "--name=agent"]);
    command.arg("--env=TRACER_PERIOD=2s");
    command.args(&options).arg(&image).args(["agent", "--config=/etc/tracer/agent.toml"]);
    command.args(["--host-root=/host", "--state-dir=/var/lib/tracer"]);
    command.arg(format!("--listen={address}"));
    let agent = Agent::until_ready(Tracer::spawn(command), address);

    // The space is used and freed again, because ext4 does not trim free space twice.
    let trim = "while :; do fallocate -l 1500M /data/freed && rm /data/freed; fstrim /data; done";
    start(&night, &mountpoint, &["--privileged"], trim);
    let end = Instant::now() + MEETING;
    loop {
        let culprits = culprits_of(&agent, &shop).unwrap_or_default();
        if culprits.first() == Some(&night) {
            break;
        }
        let verdicts = || agent.try_get("/api/v1/verdicts", "").map(|(_, _, body)| body);
        assert!(Instant::now() < end, "it names {culprits:?}: {:?}", verdicts());
        std::thread::sleep(SECOND);
    }
}
