//! Checks who sets a series' labels if Prometheus overrides `honorLabels`: a real
//! Prometheus scrapes two series as the PodMonitor says.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{find_program, manifests::KUBERNETES, read_yaml, workspace};
use crate::skip::skip;

const WAIT: Duration = Duration::from_secs(30);

/// A pod's series, and one of a service of the node, which has no pod.
const SERIES: &str = "\
tracer_test{victim=\"etcd\",namespace=\"kube-system\",pod=\"etcd-cp1\"} 1
tracer_test{victim=\"k3s.service\"} 1
";

/// Ends the process, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers every connection with [`SERIES`], for as long as the tests run.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let length = SERIES.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{SERIES}"
            );
        }
    });
    address
}

/// The monitor's relabelings as Prometheus' own configuration spells them.
fn spelled(relabelings: &Value) -> Vec<Value> {
    let name = |name: &str| match name {
        "sourceLabels" => "source_labels".to_owned(),
        "targetLabel" => "target_label".to_owned(),
        other => other.to_owned(),
    };
    let one = |relabeling: &Value| {
        let fields = relabeling.as_object().unwrap();
        fields.iter().map(|(key, value)| (name(key), value.clone())).collect::<Map<_, _>>()
    };
    relabelings.as_array().unwrap().iter().map(|relabeling| one(relabeling).into()).collect()
}

/// The labels that say whom a series is about, in the order of [`SERIES`].
fn labels(client: &ureq::Agent, url: &str, job: &str) -> Option<Vec<[Option<String>; 3]>> {
    let query = format!("tracer_test{{job=\"{job}\"}}");
    let answer = client.get(format!("{url}/api/v1/query")).query("query", query).call();
    let text = answer.ok()?.body_mut().read_to_string().ok()?;
    let answer: Value = serde_json::from_str(&text).ok()?;
    let series = answer["data"]["result"].as_array()?;
    ["etcd", "k3s.service"]
        .iter()
        .map(|victim| {
            let found = series.iter().find(|one| one["metric"]["victim"] == *victim)?;
            let label = |name: &str| found["metric"][name].as_str().map(str::to_owned);
            Some(["namespace", "pod", "instance"].map(label))
        })
        .collect()
}

#[test]
fn a_victim_keeps_its_labels_where_honor_labels_is_overridden() {
    let Some(mut command) = find_program("prometheus") else {
        skip!("`prometheus` is not installed: `cargo xtask setup` installs it");
    };
    let file = workspace().join(KUBERNETES).join("components/podmonitor/podmonitor.yaml");
    let endpoint = &read_yaml(&file)["spec"]["podMetricsEndpoints"][0];
    let relabelings = spelled(&endpoint["relabelings"]);
    // Some managed Prometheus set their own labels again after the monitor's relabelings.
    let enforced = ["namespace", "pod"].map(
        |label| json!({"target_label": label, "replacement": format!("of-the-tracer-{label}")}),
    );
    let job = |name: &str, honor: bool, relabelings: &[Value]| {
        json!({
            "job_name": name,
            "honor_labels": honor,
            "static_configs": [{
                "targets": [serve().to_string()],
                "labels": {
                    "__meta_kubernetes_pod_node_name": "cp1",
                    "namespace": "tracer",
                    "pod": "tracer-x7k2p",
                    "container": "tracer",
                },
            }],
            "relabel_configs": relabelings,
            "metric_relabel_configs": spelled(&endpoint["metricRelabelings"]),
        })
    };
    let all: Vec<_> = relabelings.iter().chain(&enforced).cloned().collect();
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            job("honored", true, &relabelings),
            job("overridden", false, &relabelings),
            job("enforced", false, &all),
        ],
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, config.to_string()).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null()).arg("--log.level=error");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={address}"));
    let _running = Running(command.spawn().unwrap());

    // A proxy from the environment must not stand between us and loopback.
    let client = ureq::Agent::config_builder().timeout_global(Some(WAIT)).proxy(None);
    let client: ureq::Agent = client.http_status_as_error(false).build().into();
    let end = Instant::now() + WAIT;
    let labels_of = |job: &str| loop {
        if let Some(labels) = labels(&client, &format!("http://{address}"), job) {
            return labels;
        }
        assert!(Instant::now() < end, "prometheus has no series of {job}");
        thread::sleep(Duration::from_millis(200));
    };
    let label = |text: &str| Some(text.to_owned());
    let victims = [label("kube-system"), label("etcd-cp1"), label("cp1")];
    let service = [None, None, label("cp1")];
    assert_eq!(labels_of("honored"), [victims.clone(), service.clone()]);
    assert_eq!(labels_of("overridden"), [victims.clone(), service]);
    // A series without a namespace looks like one whose namespace was lost.
    let of_tracer = [label("of-the-tracer-namespace"), label("of-the-tracer-pod"), label("cp1")];
    assert_eq!(labels_of("enforced"), [victims, of_tracer]);
}
