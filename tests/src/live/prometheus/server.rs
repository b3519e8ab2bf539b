//! A real Prometheus on loopback, with its data in a directory that is removed with it, and
//! the answers of its API.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tracer_lab::{cgroup::Cgroup, histogram::Histogram, process::Process, tool::last_line};

use crate::deploy::{read, rules};

/// The interval of scrapes and of rules.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Minutes are long for a test, so in the copy of the rules that it runs, ranges and `for`
/// are shorter by this factor. Thresholds and expressions are unchanged.
const HASTE: u64 = 20;
const READY: Duration = Duration::from_secs(20);
const REQUEST: Duration = Duration::from_secs(10);

/// Fields are dropped in order: the process, then its data.
pub struct Prometheus {
    process: Process,
    client: ureq::Agent,
    url: String,
    started: SystemTime,
    folder: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `targets`, each a job and an address, with the rules of
    /// `deploy`.
    pub fn start(program: Command, targets: &[(&str, &str)], cgroup: &Cgroup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in rules::FILES {
            let rules = hasten(&read(Path::new(rules::FOLDER).join(name)));
            fs::write(folder.path().join(name), rules).unwrap();
        }
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, configuration(targets).to_string()).unwrap();

        let address = free_address();
        let mut command = program;
        command.stdout(Stdio::null()).arg(format!("--web.listen-address={address}"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg("--log.level=warn");
        let process = Process::spawn(command, cgroup).expect("prometheus starts");
        // A proxy from the environment must not stand between us and loopback.
        let client = ureq::Agent::config_builder().timeout_global(Some(REQUEST)).proxy(None);
        let client = client.http_status_as_error(false).build().into();
        let url = format!("http://{address}");
        let prometheus = Self { process, client, url, started: SystemTime::now(), folder };
        prometheus.wait_until("it is ready", || prometheus.is_ready());
        // It looks for targets once in five seconds.
        let all_up = || prometheus.query("up == 1").len() == targets.len();
        prometheus.wait_until("all targets answer it", all_up);
        prometheus
    }

    fn is_ready(&self) -> bool {
        let answer = self.client.get(format!("{}/-/ready", self.url)).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + READY;
        while !is_so() {
            if let Some(ended) = self.process.ended() {
                panic!("prometheus ended: {}", last_line(&ended.stderr));
            }
            assert!(Instant::now() < end, "not: {what}");
            sleep(Duration::from_millis(100));
        }
    }

    /// The rules, as it evaluates them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[track_caller]
    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let mut request = self.client.get(format!("{}/api/v1/{path}", self.url));
        for (name, value) in parameters {
            request = request.query(*name, *value);
        }
        let text = request.call().unwrap().body_mut().read_to_string().unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {text}");
        answer["data"].take()
    }

    #[track_caller]
    fn list(&self, path: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let Value::Array(list) = self.ask(path, parameters) else { panic!("{path}: not a list") };
        list
    }

    /// The series that a query has at this moment.
    #[track_caller]
    pub fn query(&self, expr: &str) -> Vec<Value> {
        let mut answer = self.ask("query", &[("query", expr)]);
        let Value::Array(series) = answer["result"].take() else { panic!("{expr}: {answer}") };
        series
    }

    /// The series that a query has had at some moment since the start.
    #[track_caller]
    pub fn query_range(&self, expr: &str) -> Vec<Value> {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64().to_string()
        };
        let (start, end) = (seconds(self.started), seconds(SystemTime::now()));
        let range = [("query", expr), ("start", &start), ("end", &end), ("step", "1")];
        let mut answer = self.ask("query_range", &range);
        let Value::Array(series) = answer["result"].take() else { panic!("{expr}: {answer}") };
        series
    }

    pub fn label_values(&self, selector: &str, label: &str) -> Vec<Value> {
        self.list(&format!("label/{label}/values"), &[("match[]", selector)])
    }

    /// The labels of each series of a job, its name among them.
    pub fn series(&self, job: &str) -> Vec<Value> {
        self.list("series", &[("match[]", &format!("{{job=\"{job}\"}}"))])
    }

    /// Name, type and help of each family that a job serves.
    pub fn metadata(&self, job: &str) -> Vec<Value> {
        self.list("targets/metadata", &[("match_target", &format!("{{job=\"{job}\"}}"))])
    }

    /// Returns the alerts of a name that are pending or firing, with rendered annotations.
    pub fn alerts(&self, name: &str) -> Vec<Value> {
        let mut answer = self.ask("alerts", &[]);
        let Value::Array(mut alerts) = answer["alerts"].take() else { panic!("{answer}") };
        alerts.retain(|alert| alert["labels"]["alertname"] == name);
        alerts
    }

    /// A histogram, summed over the series that `selector` selects.
    pub fn histogram(&self, name: &str, selector: &str) -> Histogram {
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse::<f64>().unwrap();
        let one = |part: &str| {
            let series = self.query(&format!("sum({name}_{part}{selector})"));
            series.first().map_or(0.0, value)
        };
        let buckets = self.query(&format!("sum by (le) ({name}_bucket{selector})"));
        let mut buckets: Vec<_> = buckets
            .iter()
            .map(|series| {
                let le = series["metric"]["le"].as_str().unwrap().parse().unwrap();
                (le, value(series) as u64)
            })
            .collect();
        buckets.sort_by(|a: &(f64, u64), b| a.0.total_cmp(&b.0));
        Histogram { buckets, sum: one("sum"), count: one("count") as u64 }
    }
}

/// JSON is YAML.
fn configuration(targets: &[(&str, &str)]) -> Value {
    let jobs: Vec<_> = targets
        .iter()
        .map(|(job, address)| {
            let instance = json!({"instance": "node-under-test"});
            json!({
                "job_name": job,
                "honor_labels": true,
                "static_configs": [{"targets": [address], "labels": instance}],
            })
        })
        .collect();
    let interval = format!("{}s", INTERVAL.as_secs());
    json!({
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": rules::FILES,
        "scrape_configs": jobs,
    })
}

fn free_address() -> SocketAddr {
    // Another process may take the port before Prometheus does, which then reports it.
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A copy of a file of rules: `[5m]` and `for: 5m` divided by [`HASTE`], and
/// `interval: 30s` become [`INTERVAL`].
fn hasten(rules: &str) -> String {
    let shorter = |minutes: u64| format!("{}s", minutes * 60 / HASTE);
    let line = |line: &str| {
        if let Some((before, minutes)) = line.split_once("for: ")
            && before.trim().is_empty()
        {
            let minutes = minutes.trim_end_matches('m').parse().expect("minutes");
            return format!("{before}for: {}", shorter(minutes));
        }
        let line = line.replace("interval: 30s", &format!("interval: {}s", INTERVAL.as_secs()));
        let mut parts = line.split('[');
        let mut hastened = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            hastened.push('[');
            let range = part.split_once("m]").and_then(|(m, rest)| Some((m.parse().ok()?, rest)));
            match range {
                Some((minutes, rest)) => hastened += &format!("{}]{rest}", shorter(minutes)),
                None => hastened += part,
            }
        }
        hastened
    };
    rules.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn hastened_rules_have_shorter_ranges_and_nothing_else() {
    let rules = "groups:\n    interval: 30s\n    expr: rate(a:b:rate5m[5m]) > 0.1\n    for: 10m\n";
    let hastened =
        "groups:\n    interval: 1s\n    expr: rate(a:b:rate5m[15s]) > 0.1\n    for: 30s\n";
    assert_eq!(hasten(rules), hastened);
    for name in rules::FILES {
        let rules = hasten(&read(Path::new(rules::FOLDER).join(name)));
        assert!(!rules.contains("m]"), "{rules}");
    }
}
