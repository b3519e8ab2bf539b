use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::sys::signal::Signal;
use tracer_kernel::program::Program;
use tracer_lab::{disk::Filesystem, process::Process, tool::FIO};

use super::{
    program::loaded,
    scenarios::{
        culprits::{make_due, trim},
        need_stage, play,
        stage::{cgroup, repeat},
    },
    served::Agent,
};
use crate::{simulated::parts::Part, subject::Tracer};

const SECOND: Duration = Duration::from_secs(1);

/// A configuration with a short period.
pub fn config(period: Duration) -> tempfile::NamedTempFile {
    let config = tempfile::NamedTempFile::new().unwrap();
    let period = period.as_secs();
    fs::write(&config, format!("period = \"{period}s\"\nnode = \"node-under-test\"\n")).unwrap();
    config
}

/// The sum of all series of a family whose line holds all of `labels`.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = metrics.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Prometheus's own linter, where it is installed.
pub(super) fn lint(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut promtool) = command.stderr(Stdio::piped()).spawn() else {
        println!("promtool is not installed: the metrics are not linted");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_agent_blames_the_fstrim_serves_it_and_goes_without_a_trace() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let before = loaded(Program::BlockRqIssue);
        let config = config(3 * SECOND);
        let mut agent = Agent::start(config.path());
        sleep(6 * SECOND);
        let trimmer = cgroup("trimmer");
        let round = || {
            make_due(stage.disk.mountpoint())?;
            trim(stage.disk.mountpoint(), &trimmer)
        };
        repeat(9 * SECOND, round).unwrap();
        let verdicts = agent.json("/api/v1/verdicts");
        sleep(4 * SECOND);

        let metrics = agent.metrics();
        lint(&metrics);
        let blame = sum(
            &metrics,
            "tracer_blame_seconds_total",
            &["culprit_comm=\"fstrim\"", "file_class=\"wal\""],
        );
        let excess = sum(&metrics, "tracer_sync_excess_seconds_total", &["file_class=\"wal\""]);
        println!("fstrim is blamed for {blame:.2} s of {excess:.2} s");
        assert!(blame > 0.5 * excess && excess > 0.0, "{metrics}");
        assert!(metrics.contains("op=\"discard\""), "{metrics}");
        let count = |name| sum(&metrics, name, &["comm=\"etcd\"", "file_class=\"wal\""]);
        assert!(count("tracer_sync_duration_seconds_count") > 300.0, "{metrics}");
        let phases = count("tracer_sync_phase_seconds_total");
        let durations = count("tracer_sync_duration_seconds_sum");
        assert!((phases - durations).abs() <= 1e-6 * durations, "{phases} {durations}");

        assert_eq!(verdicts["node"], "node-under-test");
        let victims = verdicts["victims"].as_array().unwrap().iter();
        let wal = victims
            .clone()
            .find(|v| v["victim"]["comm"] == "etcd" && v["victim"]["file_class"] == "wal");
        let wal = wal.unwrap_or_else(|| panic!("{verdicts}"));
        let culprits = wal["culprits"].as_array().unwrap();
        assert!(culprits.iter().any(|c| c["comm"] == "fstrim"), "{wal}");
        let syncs = agent.json("/api/v1/syncs?min=10ms&limit=5");
        let syncs = syncs["syncs"].as_array().unwrap();
        assert!(!syncs.is_empty() && syncs.len() <= 5, "{syncs:?}");
        assert!(syncs.iter().all(|s| s["duration_seconds"].as_f64().unwrap() >= 0.01));

        let (head, open) = agent.get("/metrics", "application/openmetrics-text");
        assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE tracer_blame_seconds counter"));
        assert!(agent.get("/", "").1.contains("<title>tracer</title>"));
        assert_eq!(agent.get("/healthz", "").1, "alive\n");

        // A bad file only changes a counter; a good one is applied.
        fs::write(&config, "periode = \"1s\"\n").unwrap();
        agent.tracer.signal(Signal::SIGHUP);
        let failures = || agent.metrics().contains("tracer_config_reload_failures_total 1\n");
        agent.wait_until("the bad file is counted", failures);
        assert!(agent.tracer.transcript().contains("line 1"), "{}", agent.tracer.transcript());
        fs::write(&config, "period = \"1s\"\nnode = \"another\"\n").unwrap();
        agent.tracer.signal(Signal::SIGHUP);
        let reloads = || agent.metrics().contains("tracer_config_reloads_total 1\n");
        agent.wait_until("the good file is read", reloads);
        assert!(agent.tracer.transcript().contains("needs a restart for the new node"));

        let of_agent = &loaded(Program::BlockRqIssue) - &before;
        assert_eq!(of_agent.len(), 1);
        agent.tracer.signal(Signal::SIGTERM);
        let status = agent.tracer.wait(10 * SECOND);
        assert_eq!(status.code(), Some(0), "{}", agent.tracer.transcript());
        for _ in 0..50 {
            if (&of_agent & &loaded(Program::BlockRqIssue)).is_empty() {
                return;
            }
            sleep(SECOND / 10);
        }
        panic!("still loaded: {of_agent:?}");
    });
}

/// Effective capabilities and `NoNewPrivs` of each thread, by its name.
fn privileges(pid: u32) -> Vec<(String, u64, bool)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = tasks.map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let effective = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
        (field("Name:"), effective, field("NoNewPrivs:") == "1")
    });
    threads.collect()
}

/// Lets every user reach a directory of the lab.
pub(super) fn open_to_all(folder: &Path) {
    for folder in folder.ancestors() {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        if mode & 0o001 == 0 {
            fs::set_permissions(folder, PermissionsExt::from_mode(mode | 0o011)).unwrap();
        }
    }
}

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_BPF.
const KEPT: u64 = 1 << 2 | 1 << 19 | 1 << 39;

#[test]
fn without_its_privileges_it_still_names_newcomers_and_who_takes_the_cpu() {
    need_stage!();
    play(Filesystem::Ext4, |stage| {
        let config = config(3 * SECOND);
        let agent = Agent::start(config.path());
        let threads = privileges(agent.tracer.id());
        println!("{threads:?}");
        let has = |wanted: &str| threads.iter().any(|(name, ..)| name == wanted);
        assert!(has("tracer") && has("http"), "{threads:?}");
        for (name, effective, no_new) in threads {
            // The thread `errand` reads files for the loop, and does not always run.
            assert!(["tracer", "http", "errand"].contains(&&*name), "{name}");
            assert_eq!(effective, if name == "http" { 0 } else { KEPT }, "{name}");
            assert!(no_new, "{name}");
        }
        let says = agent.tracer.transcript();
        assert!(says.contains("gave up all capabilities but CAP_BPF"), "{says}");

        // The files of another user's process: both capabilities are needed to see its descriptors.
        let folder = stage.disk.mountpoint().join("newcomer");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
        open_to_all(&folder);
        let newcomers = cgroup("newcomers");
        let mut fio = FIO.command().unwrap();
        fio.args(["--name=newcomer", "--thread", "--rw=write", "--bs=4k", "--size=16m"]);
        fio.args(["--fdatasync=1", "--time_based", "--runtime=20", "--output=/dev/null"]);
        fio.arg(format!("--directory={}", folder.display())).uid(65534).gid(65534);
        let _fio = Process::spawn(fio, &newcomers).unwrap();
        let crowd = cgroup("crowd");
        stage.pin_etcd(0).unwrap();
        let hog = Part::Hog { cpu: 0 };
        let _hogs = [(); 4].map(|()| hog.start("hog", &crowd).unwrap());

        agent.wait_until("the newcomer and its file are named", || {
            let verdicts = agent.json("/api/v1/verdicts");
            verdicts["victims"].as_array().unwrap().iter().any(|v| {
                let victim = &v["victim"];
                let path = victim["path"].as_str().unwrap();
                victim["comm"] == "fio"
                    && path.contains("newcomer")
                    && victim["cgroup"] == newcomers.path()
            })
        });
        agent.wait_until("who takes the CPU is blamed", || {
            let labels = ["culprit_comm=\"hog\"", "op=\"cpu\""];
            sum(&agent.metrics(), "tracer_blame_seconds_total", &labels) > 0.0
        });
    });
}

#[test]
fn doctor_says_one_by_one_whether_an_agent_could_run_here() {
    super::need_live!();
    let mut doctor = Tracer::start(&["doctor", "--agent", "--listen", "127.0.0.1:0"]);
    let status = doctor.wait(30 * SECOND);
    let says = doctor.transcript();
    assert_eq!(status.code(), Some(0), "{says}");
    for what in ["CAP_BPF", "CAP_SYS_PTRACE", "pid namespace", "cgroups", "address"] {
        assert!(says.contains(what), "{what}: {says}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut doctor = Tracer::start(&["doctor", "--agent", "--listen", &address]);
    assert_eq!(doctor.wait(30 * SECOND).code(), Some(3), "{}", doctor.transcript());
    assert!(doctor.transcript().contains("TRACER_LISTEN"), "{}", doctor.transcript());
}

/// The value of a series without labels, or with these.
fn has_line(agent: &Agent, line: &str) -> bool {
    // While it starts, there are none: 503.
    let metrics = agent.try_get("/metrics", "").filter(|answer| answer.0 == 200);
    metrics.is_some_and(|answer| answer.2.contains(&format!("\n{line}\n")))
}

#[test]
fn an_agent_that_may_not_trace_stays_and_says_why() {
    super::need_live!();
    let address = super::served::free_address();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"]);
    command.arg(crate::subject::tracer_bin()).args(["agent", "--listen", &address.to_string()]);
    if !Command::new("setpriv").arg("--version").output().is_ok_and(|out| out.status.success()) {
        crate::skip::skip!("setpriv is not here");
    }
    let mut agent = Agent::until_ready(Tracer::spawn(command), address);
    let ready = agent.get("/readyz", "").1;
    println!("{ready}");
    assert!(ready.starts_with("cannot trace this node: ") && ready.contains("CAP_BPF"), "{ready}");
    assert!(has_line(&agent, "tracer_up 0"), "{}", agent.metrics());
    assert!(has_line(&agent, "tracer_cannot_run_info{reason=\"privileges\"} 1"));
    lint(&agent.metrics());
    assert_eq!(agent.get("/healthz", "").1, "alive\n");
    assert_eq!(agent.try_get("/api/v1/verdicts", "").unwrap().0, 503);
    agent.tracer.signal(Signal::SIGTERM);
    assert_eq!(agent.tracer.wait(10 * SECOND).code(), Some(0), "{}", agent.tracer.transcript());
}

#[test]
fn an_agent_traces_once_the_node_lets_it() {
    super::need_live!();
    let folder = tempfile::tempdir().unwrap();
    let btf = folder.path().join("vmlinux");
    let address = super::served::free_address();
    let args = ["agent", "--listen", &address.to_string(), "--btf", btf.to_str().unwrap()];
    let agent = Agent::until_ready(Tracer::start(&args), address);
    assert!(has_line(&agent, "tracer_cannot_run_info{reason=\"kernel\"} 1"), "{}", agent.metrics());
    assert!(agent.get("/readyz", "").1.contains("vmlinux"));
    fs::copy("/sys/kernel/btf/vmlinux", folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), &btf).unwrap();
    agent.wait_until("it traces", || has_line(&agent, "tracer_up 1"));
    assert_eq!(agent.get("/readyz", "").1, "ready\n");
    assert!(!agent.metrics().contains("tracer_cannot_run_info"), "{}", agent.metrics());
}
