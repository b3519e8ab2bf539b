//! Running agents that show a part of the node, each next to one that shows all of it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tracer_lab::{
    cgroup::Cgroup,
    disk::{Filesystem, LoopDisk},
    process::Process,
};

use super::{
    lab_disk, need_live,
    served::{Agent, free_address},
};
use crate::{
    simulated::parts::Part,
    skip::skip,
    subject::{Tracer, tracer_bin},
};

const SECOND: Duration = Duration::from_secs(1);

/// The pod that one of the victims is in, as its cgroup and the kubelet's directory name it.
const UID: &str = "3f6b1c2d-7a4e-4b8f-9c01-5d2e8f7a6b3c";

/// The cgroup of a pod below one of ours, as a kubelet without systemd makes it.
struct PodCgroup {
    folders: Vec<PathBuf>,
    _outer: Cgroup,
}

impl PodCgroup {
    /// `None` if this machine has no cgroup2 that we may write to.
    fn create() -> Option<Self> {
        let outer = Cgroup::create("filtered").unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let is_v2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
        let hierarchy = mounts.lines().find(is_v2)?.split(' ').nth(1)?;
        if outer.is_none() {
            return None;
        }
        let mut folder = Path::new(hierarchy).join(outer.path().trim_start_matches('/'));
        let mut pod = Self { folders: Vec::new(), _outer: outer };
        for name in ["kubepods", &format!("pod{UID}"), &"a".repeat(64)] {
            folder.push(name);
            fs::create_dir(&folder).unwrap();
            pod.folders.push(folder.clone());
        }
        Some(pod)
    }

    fn add(&self, pid: u32) {
        fs::write(self.folders.last().unwrap().join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for PodCgroup {
    fn drop(&mut self) {
        for folder in self.folders.iter().rev() {
            // The last process has ended, and leaves its cgroup a moment later.
            let mut tries = 0..50;
            while fs::remove_dir(folder)
                .is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
                && tries.next().is_some()
            {
                sleep(SECOND / 50);
            }
        }
    }
}

/// Two victims on two disks: `ledger` in the pod shop/web-0, `archive` in none.
struct Node {
    _syncers: [Process; 2],
    _pod: PodCgroup,
    disks: [LoopDisk; 2],
    /// The root of the kubelet's directories; `/proc` and `/sys` are this machine's.
    root: TempDir,
}

impl Node {
    fn create() -> Option<Self> {
        let pod = PodCgroup::create()?;
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join(format!("var/log/pods/shop_web-0_{UID}/web"));
        fs::create_dir_all(&logs).unwrap();
        let disks = [lab_disk(Filesystem::Ext4), lab_disk(Filesystem::Ext4)];
        let syncers = [("ledger", &disks[0]), ("archive", &disks[1])].map(|(name, disk)| {
            let part = Part::Syncer { file: disk.mountpoint().join(name), per_second: 20 };
            part.start(name, &Cgroup::none()).unwrap()
        });
        pod.add(syncers[0].pid());
        Some(Self { _syncers: syncers, _pod: pod, disks, root })
    }

    fn start(&self, args: &[&str]) -> (Tracer, SocketAddr) {
        let address = free_address();
        let mut command = Command::new(tracer_bin());
        command.args(["agent", "--period=1s", "--log-format=json", "--victims=1000"]);
        command.arg(format!("--listen={address}")).args(args);
        command.arg(format!("--host-root={}", self.root.path().display()));
        (Tracer::spawn(command), address)
    }
}

/// Whether a process has series of its syncs.
fn has_syncs(metrics: &str, comm: &str) -> bool {
    let label = format!("comm=\"{comm}\"");
    let mut lines =
        metrics.lines().filter(|l| l.starts_with("tracer_sync_duration_seconds_count{"));
    lines.any(|line| line.contains(&label))
}

/// The value of a series without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let prefix = format!("{name} ");
    metrics.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
}

#[test]
fn each_filter_of_an_agent_leaves_out_what_it_says_and_nothing_else() {
    need_live!();
    let Some(node) = Node::create() else { skip!("there is no cgroup2 that can be written") };
    let [of_ledger, of_archive] = node.disks.each_ref().map(LoopDisk::name);
    let disk = format!("--disk={of_archive}");
    // All of them at once, so that they see the same seconds.
    let agents = [
        vec![],
        vec![disk.as_str()],
        vec!["--namespace=SH?P"],
        vec!["--victim=archiv*,nobody"],
        vec!["--metrics=tracer_block_*,tracer_victims"],
    ];
    let agents = agents.map(|args| node.start(&args));
    let [all, by_disk, by_namespace, by_name, families] =
        agents.map(|(tracer, address)| Agent::until_ready(tracer, address));

    // Whether the ledger and the archive are shown.
    for (agent, what, shown) in [
        (&all, "all", [true, true]),
        (&by_disk, "--disk", [false, true]),
        (&by_namespace, "--namespace", [true, false]),
        (&by_name, "--victim", [false, true]),
    ] {
        agent.wait_until(what, || {
            let metrics = agent.try_get("/metrics", "").filter(|answer| answer.0 == 200);
            metrics.is_some_and(|(_, _, metrics)| {
                let left_out = value(&metrics, "tracer_filtered_victims");
                ["ledger", "archive"].map(|comm| has_syncs(&metrics, comm)) == shown
                    && (what == "all" || left_out.is_some_and(|number| number >= 1.0))
            })
        });
        // It stays so while it syncs.
        for _ in 0..4 {
            sleep(SECOND / 2);
            let metrics = agent.metrics();
            let has = ["ledger", "archive"].map(|comm| has_syncs(&metrics, comm));
            assert_eq!(has, shown, "{what}: {metrics}");
            assert_eq!(metrics.contains("tracer_filter_info{"), what != "all", "{what}");
        }
    }
    let of_pod = by_namespace.metrics();
    assert!(of_pod.contains("namespace=\"shop\"") && of_pod.contains("pod=\"web-0\""), "{of_pod}");
    // A filter by disk leaves out the other's series, too; the others leave out no disk.
    let has_disk = |metrics: &str, name: &str| metrics.contains(&format!("disk=\"{name}\""));
    for (agent, both) in [(&all, true), (&by_disk, false)] {
        let metrics = agent.metrics();
        assert!(has_disk(&metrics, of_archive), "{metrics}");
        assert_eq!(has_disk(&metrics, of_ledger), both, "{metrics}");
    }

    families.wait_until("a period is over", || {
        families.try_get("/metrics", "").is_some_and(|answer| answer.0 == 200)
    });
    let names = |metrics: &str| -> Vec<String> {
        let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let (some, every) = (names(&families.metrics()), names(&all.metrics()));
    // Those about the tracer itself stay: docs/agent.md lists them.
    let stays = |name: &str| {
        let of_itself =
            ["tracer_up", "tracer_build_info", "tracer_dropped_total", "tracer_unproven"];
        of_itself.contains(&name) || name.starts_with("tracer_filter")
    };
    let wanted = |name: &str| name.starts_with("tracer_block_") || name == "tracer_victims";
    assert!(some.iter().all(|name| wanted(name) || stays(name)), "{some:?}");
    for name in every.iter().filter(|name| wanted(name)) {
        assert!(some.contains(name), "{name} is missing: {some:?}");
    }
    assert!(every.iter().any(|name| name == "tracer_sync_duration_seconds"), "{every:?}");

    for agent in [&by_disk, &by_namespace, &by_name] {
        let said = agent.tracer.transcript();
        assert!(said.contains("shows only "), "{said}");
    }
    assert!(!all.tracer.transcript().contains("shows only "));
}

/// The lines of an agent's log, each of which must be an object of the three documented fields.
fn log_lines(transcript: &str) -> Vec<Value> {
    let lines = transcript.lines().map(|line| {
        let json = line.strip_prefix("stderr: ").unwrap_or_else(|| panic!("on stdout: {line}"));
        let line: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        let mut names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["level", "msg", "time"], "{json}");
        let time = line["time"].as_str().unwrap();
        // 2026-11-30T03:12:45.678Z
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert!(["info", "warn", "error"].contains(&line["level"].as_str().unwrap()), "{json}");
        // No terminal that shows the log can be taken over by a name in it.
        assert!(json.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{json:?}");
        line
    });
    lines.collect()
}

/// A name that would end its string, its line and the colour of a terminal, and forge a line.
const HOSTILE: &str = "a\"}\n{\"time\":\"2026-01-01T00:00:00.000Z\",\"level\":\"error\",\"msg\":\"forged\u{1b}[31m\u{202e}";

#[test]
fn each_line_of_a_json_log_is_an_object_whatever_names_are_in_it() {
    need_live!();
    let folder = tempfile::tempdir().unwrap();
    // A state directory that is a file, and a configuration that a reload refuses.
    let state = folder.path().join(HOSTILE.replace('/', ""));
    fs::write(&state, "").unwrap();
    let config = folder.path().join(format!("{HOSTILE}.toml"));
    fs::write(&config, "period = \"1s\"\n").unwrap();
    let address = free_address();
    let mut command = Command::new(tracer_bin());
    command.args(["agent", "--log-format=json", "--victim", HOSTILE, "--node", HOSTILE]);
    command.arg("--config").arg(&config).arg("--state-dir").arg(&state);
    command.arg(format!("--listen={address}"));
    let mut agent = Agent::until_ready(Tracer::spawn(command), address);
    fs::write(&config, format!("{HOSTILE} = 1\n")).unwrap();
    agent.tracer.signal(Signal::SIGHUP);
    agent.tracer.wait_for(30 * SECOND, "keeps its configuration");
    agent.tracer.signal(Signal::SIGTERM);
    assert_eq!(agent.tracer.wait(30 * SECOND).code(), Some(0), "{}", agent.tracer.transcript());

    let lines = log_lines(&agent.tracer.transcript());
    let find = |words: &str| {
        let line = lines.iter().find(|line| line["msg"].as_str().unwrap().contains(words));
        line.unwrap_or_else(|| panic!("{words:?} is in none of {lines:#?}"))
    };
    // The names are whole in the string that they belong to.
    for (words, level) in [
        ("for node ", "info"),
        ("shows only ", "info"),
        ("keeps no references: ", "warn"),
        ("keeps its configuration: ", "warn"),
    ] {
        let line = find(words);
        assert_eq!(line["level"], level, "{line}");
        assert!(line["msg"].as_str().unwrap().contains("forged"), "{line}");
    }
    assert!(find("for node ")["msg"].as_str().unwrap().ends_with(HOSTILE));
    find("stops on request");
    assert!(lines.iter().all(|line| line["level"] != "error"), "{lines:#?}");

    // An error that ends the agent is a line of the log, too.
    let args = ["agent", "--log-format=json", "--listen=127.0.0.1:0", "--config"];
    let mut refused = Command::new(tracer_bin());
    refused.args(args).arg(&config);
    let mut refused = Tracer::spawn(refused);
    assert_eq!(refused.wait(30 * SECOND).code(), Some(1));
    let lines = log_lines(&refused.transcript());
    assert!(matches!(&lines[..], [one] if one["level"] == "error"), "{lines:#?}");
}
