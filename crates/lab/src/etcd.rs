//! A real etcd of one member, on free loopback ports.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use ureq::Agent;

use crate::{
    cgroup::Cgroup,
    process::Process,
    tool::{self, ETCD},
};

/// How long etcd may take to answer for the first time.
const HEALTHY: Duration = Duration::from_secs(20);
/// The timeout of one request. etcd itself gives up a put after about five seconds.
const REQUEST: Duration = Duration::from_secs(10);
/// The largest page of metrics that is read.
const METRICS_BYTES: u64 = 4 << 20;

/// The name of etcd's histogram of its WAL's fsyncs.
pub const WAL_FSYNC: &str = "etcd_disk_wal_fsync_duration_seconds";

/// A running etcd. When dropped, it is ended, and its data removed if it created the
/// directory.
#[derive(Debug)]
pub struct Etcd {
    client: Client,
    // The process ends before its data is removed.
    process: Process,
    data: Data,
}

/// A client of an etcd; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    url: String,
}

#[derive(Debug)]
struct Data {
    log: PathBuf,
    /// The data directory, if we created it.
    folder: Option<PathBuf>,
}

/// Whether etcd is installed.
pub fn etcd_installed() -> bool {
    ETCD.find().is_some()
}

impl Etcd {
    /// Starts etcd and waits until it answers. Its log is written next to `data_dir`.
    pub fn start(data_dir: &Path, cgroup: &Cgroup) -> Result<Etcd> {
        let data = Data::create(data_dir)?;
        // Both ports are held until both are known, so that they differ. Another process may
        // still take one before etcd does; etcd reports that.
        let (listen, peers) =
            (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let url = format!("http://{}", listen.local_addr()?);
        let peer = format!("http://{}", peers.local_addr()?);
        drop((listen, peers));

        let mut command = ETCD.command()?;
        // The user's ETCD_* variables are removed, because they are options. etcd 3.4 starts on
        // arm64 only if that is asked for by name.
        let arch = std::env::consts::ARCH.replace("aarch64", "arm64");
        command.env_clear().env("ETCD_UNSUPPORTED_ARCH", arch);
        command.args(["--name", "lab", "--logger", "zap", "--log-level", "error"]);
        command.arg("--log-outputs").arg(&data.log).arg("--data-dir").arg(data_dir);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("lab={peer}")]);
        let process = Process::spawn(command, cgroup)?;

        // A proxy from the environment must not stand between us and loopback.
        let agent = Agent::config_builder().timeout_global(Some(REQUEST)).proxy(None).build();
        let agent = agent.into();
        let etcd = Etcd { client: Client { agent, url }, process, data };
        etcd.wait_until_healthy()?;
        Ok(etcd)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.client.put(key, value)
    }

    pub fn metrics(&self) -> Result<String> {
        self.client.metrics()
    }

    fn wait_until_healthy(&self) -> Result<()> {
        let until = Instant::now() + HEALTHY;
        loop {
            let answer = self.client.put(b"lab/first", b"");
            let Err(error) = answer else { return Ok(()) };
            if let Some(ended) = self.process.ended() {
                bail!(
                    "`etcd` ended at once ({}): {}",
                    ended.status,
                    self.last_words(&ended.stderr)
                );
            }
            if Instant::now() > until {
                return Err(error.context(format!(
                    "`etcd` did not answer within {} s: {}",
                    HEALTHY.as_secs(),
                    self.last_words(b"")
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn last_words(&self, stderr: &[u8]) -> String {
        let log = fs::read(&self.data.log).unwrap_or_default();
        tool::last_line(if log.is_empty() { stderr } else { &log })
    }
}

impl Client {
    /// The address on which etcd listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes one put through the JSON gateway.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let body = json!({
            "key": BASE64_STANDARD.encode(key),
            "value": BASE64_STANDARD.encode(value),
        });
        let url = format!("{}/v3/kv/put", self.url);
        let mut answer = self
            .agent
            .post(&url)
            .header("content-type", "application/json")
            .send(body.to_string())
            .with_context(|| format!("failed to put into etcd at `{url}`"))?;
        // The answer is read to its end, so that the connection can be used again.
        answer.body_mut().read_to_vec().with_context(|| format!("no answer from `{url}`"))?;
        Ok(())
    }

    /// Returns etcd's metrics, in Prometheus' format.
    pub fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.url);
        let mut answer =
            self.agent.get(&url).call().with_context(|| format!("failed to get `{url}`"))?;
        answer
            .body_mut()
            .with_config()
            .limit(METRICS_BYTES)
            .read_to_string()
            .with_context(|| format!("failed to read `{url}`"))
    }
}

impl Data {
    fn create(data_dir: &Path) -> Result<Data> {
        let (Some(parent), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
            bail!("`{}` cannot be etcd's data directory", data_dir.display());
        };
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to make `{}`", parent.display()))?;
        let mut log = name.to_owned();
        log.push(".log");
        let folder = (!data_dir.exists()).then(|| data_dir.to_owned());
        Ok(Data { log: parent.join(log), folder })
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let removed =
            [self.folder.as_ref().map_or(Ok(()), fs::remove_dir_all), fs::remove_file(&self.log)];
        for error in removed.into_iter().filter_map(Result::err) {
            if error.kind() != std::io::ErrorKind::NotFound {
                eprintln!("lab: failed to remove etcd's data at `{}`: {error}", self.log.display());
            }
        }
    }
}
