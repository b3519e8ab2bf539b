//! The agent as a container runs it: its root has only the static binary. It has the
//! rights that the DaemonSet lists, and each of them must be needed.

/// One container of the DaemonSet, without a cluster.
mod pod;

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    process::{Output, Stdio},
    thread::sleep,
    time::Duration,
};

use caps::Capability;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk},
    process::Process,
    tool::FIO,
};

use super::{
    lab_disk, need_live,
    served::{Agent, free_address},
};
use crate::{
    skip::skip,
    subject::{Tracer, tracer_bin},
};
use pod::Pod;

const SECOND: Duration = Duration::from_secs(1);
const NOBODY: u32 = 65534;

/// A process of another user that syncs in a directory which others cannot read: the agent
/// needs capabilities to see its open files.
struct Victim {
    _fio: Process,
    cgroup: Cgroup,
    _disk: LoopDisk,
}

impl Victim {
    fn start() -> Self {
        let disk = lab_disk(Filesystem::Ext4);
        let folder = disk.mountpoint().join("closed");
        fs::create_dir(&folder).unwrap();
        super::agent::open_to_all(&folder);
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        let cgroup = Cgroup::create("victim").unwrap();
        let mut fio = FIO.command().unwrap();
        fio.args(["--name=victim", "--thread", "--rw=write", "--bs=4k", "--size=16m"]);
        fio.args(["--fdatasync=1", "--time_based", "--runtime=120", "--rate_iops=20"]);
        fio.arg("--output=/dev/null").arg(format!("--directory={}", folder.display()));
        fio.uid(NOBODY).gid(NOBODY).stdout(Stdio::null());
        Self { _fio: Process::spawn(fio, &cgroup).unwrap(), cgroup, _disk: disk }
    }

    /// The path that an agent shows for its file, once there is a verdict on it.
    fn path(&self, agent: &Agent) -> Option<String> {
        let (status, _, body) = agent.try_get("/api/v1/verdicts", "")?;
        if status != 200 {
            return None;
        }
        let verdicts: serde_json::Value = serde_json::from_str(&body).unwrap();
        let is_it = |victim: &serde_json::Value| {
            victim["comm"] == "fio" && victim["cgroup"] == self.cgroup.path()
        };
        let victims = verdicts["victims"].as_array().unwrap();
        let victim = victims.iter().map(|one| &one["victim"]).find(|victim| is_it(victim))?;
        Some(victim["path"].as_str().unwrap().to_owned())
    }
}

/// Skips unless a container can be made here.
macro_rules! need_pod {
    () => {{
        need_live!();
        if FIO.find().is_none() {
            skip!("`fio` is not installed");
        }
        let pod = Pod::create(&tracer_bin()).unwrap();
        if says_nothing(&pod) {
            skip!("the tracer under test is not the static one: `cargo xtask build --static` builds it");
        }
        pod
    }};
}

/// Whether its program cannot even start, because libraries are missing.
fn says_nothing(pod: &Pod) -> bool {
    match pod.command(&[]).arg("--version").output() {
        Ok(output) => !output.status.success(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => panic!("a container cannot be made: {error}"),
    }
}

fn start(pod: &Pod, capabilities: &[Capability], address: SocketAddr) -> Agent {
    Agent::until_ready(Tracer::spawn(pod.agent(capabilities, address)), address)
}

fn is_named(path: Option<String>) -> bool {
    path.is_some_and(|path| path.contains("closed/victim"))
}

#[test]
fn a_container_with_the_listed_rights_names_a_victim_and_its_file() {
    let pod = need_pod!();
    let victim = Victim::start();
    let agent = start(&pod, &pod.capabilities(), free_address());
    agent.wait_until("the file is named", || is_named(victim.path(&agent)));
    agent.wait_until("the victim has series", || {
        let metrics = agent.metrics();
        let mut counts =
            metrics.lines().filter(|l| l.starts_with("tracer_sync_duration_seconds_count{"));
        counts.any(|line| line.contains("comm=\"fio\""))
    });
    let says = agent.tracer.transcript();
    assert!(!says.contains("lacks CAP_"), "{says}");
}

/// The effect of a missing capability.
enum Without {
    /// The agent does not start, and names it.
    Ends,
    /// It runs, but other users' files have no names.
    Nameless,
    /// Newer kernels do not ask for it: since this one, which has what instead.
    Old { until: (u32, u32) },
}

fn without(capability: Capability) -> Without {
    match capability {
        Capability::CAP_BPF | Capability::CAP_PERFMON => Without::Ends,
        Capability::CAP_SYS_PTRACE | Capability::CAP_DAC_READ_SEARCH => Without::Nameless,
        // Maps counted against RLIMIT_MEMLOCK, until memory cgroups counted them:
        // https://github.com/torvalds/linux/commit/3ac1f01b43b6
        Capability::CAP_SYS_RESOURCE => Without::Old { until: (5, 11) },
        other => panic!("{other} is listed, but this test does not know what it is for"),
    }
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The output of `tracer doctor --agent` in the container.
fn doctor(pod: &Pod, capabilities: &[Capability]) -> Output {
    let mut doctor = pod.command(capabilities);
    doctor.args(["doctor", "--agent", "--host-root=/host", "--listen=127.0.0.1:0"]);
    doctor.output().unwrap()
}

#[test]
fn each_listed_capability_is_needed() {
    let pod = need_pod!();
    let listed = pod.capabilities();
    let victim = Victim::start();
    for &left_out in &listed {
        let others: Vec<_> = listed.iter().copied().filter(|c| *c != left_out).collect();
        let name = left_out.to_string();
        let output = doctor(&pod, &others);
        let report = String::from_utf8_lossy(&output.stdout);
        let is_listed = report.lines().any(|line| line.contains(&name))
            && report.contains(&format!("add {}", name.trim_start_matches("CAP_")));
        let address = free_address();
        let mut agent = pod.agent(&others, address);
        agent.arg("--exit-on-failure");
        let mut tracer = Tracer::spawn(agent);
        match without(left_out) {
            Without::Old { until } if kernel_version() >= until => {
                Agent::until_ready(tracer, address);
                assert!(!is_listed, "{report}");
                println!("{name}: not needed here, but before {until:?}");
            }
            Without::Ends | Without::Old { .. } => {
                assert_eq!(tracer.wait(20 * SECOND).code(), Some(3), "{name}");
                let says = tracer.transcript();
                let errors: Vec<_> = says.lines().filter(|l| l.contains("error:")).collect();
                assert!(matches!(errors[..], [one] if one.contains(&name)), "{says}");
                assert!(is_listed && output.status.code() == Some(3), "{report}");
                println!("{name}: {}", errors[0]);
            }
            Without::Nameless => {
                let agent = Agent::until_ready(tracer, address);
                agent.wait_until("the victim is seen", || victim.path(&agent).is_some());
                // This is long enough for the file to be looked up again.
                sleep(5 * SECOND);
                assert!(!is_named(victim.path(&agent)), "{name}: not needed to name files");
                let says = agent.tracer.transcript();
                let lacks: Vec<_> = says.lines().filter(|l| l.contains("lacks ")).collect();
                assert!(matches!(lacks[..], [one] if one.contains(&name)), "{says}");
                assert!(is_listed, "{report}");
                println!("{name}: {}", lacks[0]);
            }
        }
    }
}
