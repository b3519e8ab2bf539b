//! The settings that one source gives: flags and the environment, or a file.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::{Deserialize, Deserializer};

use crate::{
    agent::{disk_series::Pattern, log::LogFormat, web::names},
    cli::values,
    filter::Glob,
    output::escape::bounded,
};

/// The settings that one source gives.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Serve metrics, verdicts and the page on this address [default: 127.0.0.1:9464].
    ///
    /// Without --web-config there is no authentication: whoever reaches this address can
    /// read the names of processes, cgroups and files.
    #[arg(long, env = "TRACER_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Require TLS and passwords as this file says, in the format of Prometheus' exporters.
    ///
    /// The file is checked for changes every 10 s, as are the certificates and keys that it
    /// names.
    #[arg(long, env = "TRACER_WEB_CONFIG", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Also serve /healthz and /readyz, and nothing else, on this address, without TLS or passwords.
    #[arg(long, env = "TRACER_PROBE_LISTEN", value_name = "ADDRESS:PORT")]
    pub probe_listen: Option<SocketAddr>,

    /// Also serve on this Unix socket, which only its owner can open (mode 0600), without TLS or
    /// passwords [default: none].
    ///
    /// Commands with `--agent` reach it as `unix:PATH`.
    #[arg(long, env = "TRACER_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Also answer requests for these host names and addresses [default: the address that the
    /// request was sent to, and `localhost`].
    ///
    /// A request with any other `Host` is refused with 421. Otherwise a foreign web page could
    /// make its own name point here, and read the answers (DNS rebinding).
    #[arg(
        long, env = "TRACER_ALLOWED_HOSTS", value_name = "NAME", value_delimiter = ',',
        value_parser = names::parse,
    )]
    #[serde(default, deserialize_with = "host_names")]
    pub allowed_hosts: Option<Vec<String>>,

    /// Time between verdicts, and between changes of metrics [default: 10s].
    #[arg(long, env = "TRACER_PERIOD", value_name = "DURATION", value_parser = values::parse_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub period: Option<Duration>,

    /// Number of victims with their own series; the rest are summed up [default: 50].
    #[arg(long, env = "TRACER_VICTIMS", value_name = "N")]
    pub victims: Option<usize>,

    /// Number of culprits per victim with their own series [default: 10].
    #[arg(long, env = "TRACER_CULPRITS", value_name = "N")]
    pub culprits: Option<usize>,

    /// Number of disks with their own series; the rest are summed up [default: 64].
    #[arg(long, env = "TRACER_DISKS", value_name = "N")]
    pub disks: Option<usize>,

    /// Export series only for disks whose name matches this regular expression [default: all].
    ///
    /// A disk that a victim waits for, and the disks below it, are always exported.
    #[arg(long, env = "TRACER_DISKS_INCLUDE", value_name = "PATTERN")]
    pub disks_include: Option<Pattern>,

    /// Export no series for disks whose name matches this regular expression [default:
    /// `^(loop|ram|zram|nbd|sr|fd)\d+$`, or nothing if --disks-include is given].
    ///
    /// An empty expression excludes nothing. A disk that a victim waits for, and the disks below
    /// it, are always exported, until ten minutes after the victim's last sync.
    #[arg(long, env = "TRACER_DISKS_EXCLUDE", value_name = "PATTERN")]
    pub disks_exclude: Option<Pattern>,

    /// Show only disks and filesystems whose name matches, and the victims that wait for them.
    #[arg(long, env = "TRACER_DISK", value_name = "PATTERN", value_delimiter = ',')]
    pub disk: Option<Vec<Glob>>,

    /// Show only victims in Kubernetes namespaces whose name matches.
    ///
    /// Culprits are named wherever they run.
    #[arg(long, env = "TRACER_NAMESPACE", value_name = "PATTERN", value_delimiter = ',')]
    pub namespace: Option<Vec<Glob>>,

    /// Show only victims whose name matches: process, unit, workload, or the label `victim`.
    #[arg(long, env = "TRACER_VICTIM", value_name = "PATTERN", value_delimiter = ',')]
    pub victim: Option<Vec<Glob>>,

    /// Serve only metrics whose name matches, and those about the tracer itself.
    #[arg(long, env = "TRACER_METRICS", value_name = "PATTERN", value_delimiter = ',')]
    pub metrics: Option<Vec<Glob>>,

    /// Keep syncs that took at least this long, with their phases and owners [default: 10ms].
    #[arg(long, env = "TRACER_MIN_SYNC", value_name = "DURATION", value_parser = values::parse_duration)]
    #[serde(default, deserialize_with = "duration")]
    pub min_sync: Option<Duration>,

    /// Keep this number of those slow syncs [default: 1024].
    #[arg(long, env = "TRACER_SLOW_SYNCS", value_name = "N")]
    pub slow_syncs: Option<usize>,

    /// Report this as the node's name [default: the host's name].
    #[arg(long, env = "TRACER_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Write the log on standard error as text, or as one JSON object per line [default: text].
    #[arg(long, env = "TRACER_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Keep all capabilities after the start.
    #[arg(
        long, env = "TRACER_KEEP_PRIVILEGES", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
    )]
    pub keep_privileges: Option<bool>,

    /// Record continuously into this directory, to be replayed later [default: no recording].
    ///
    /// `tracer why --at 03:12` and `tracer timeline` read it. The directory is created so
    /// that only its owner can read it, because it names everybody on the node.
    #[arg(long, env = "TRACER_RECORD", value_name = "DIR")]
    pub record: Option<PathBuf>,

    /// Keep at most this much, such as `512M` or `2G`; the oldest files are deleted first
    /// [default: 512M].
    #[arg(long, env = "TRACER_RECORD_SIZE", value_name = "SIZE", value_parser = values::parse_size)]
    #[serde(default, deserialize_with = "size")]
    pub record_size: Option<u64>,

    /// All commands have this flag, so it is not one of the agent's.
    #[arg(skip)]
    pub state_dir: Option<PathBuf>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::parse_size(&text).map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn host_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let given = Vec::<String>::deserialize(deserializer)?;
    let parsed: Result<_, _> = given.iter().map(|name| names::parse(name)).collect();
    parsed.map(Some).map_err(serde::de::Error::custom)
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has an unknown key or a bad value. The
    /// message is one line and names the line of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("failed to read `{}`", path.display()))?;
        Self::parse(&text).with_context(|| format!("failed to read `{}`", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let why = error.message().replace('\n', " ");
            let Some(span) = error.span() else { return anyhow!("{why}") };
            let before = text.get(..span.start).unwrap_or(text);
            let number = before.matches('\n').count();
            // The key stands in the line; the message may not name it.
            let key = text.lines().nth(number).unwrap_or_default();
            let key = key.split('=').next().unwrap_or_default().trim();
            anyhow!("line {}: `{}`: {why}", number + 1, bounded(key, 40))
        })
    }

    /// Fills each setting that is absent from `fallback`.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            listen: self.listen.or(fallback.listen),
            web_config: self.web_config.or(fallback.web_config),
            probe_listen: self.probe_listen.or(fallback.probe_listen),
            socket: self.socket.or(fallback.socket),
            allowed_hosts: self.allowed_hosts.or(fallback.allowed_hosts),
            period: self.period.or(fallback.period),
            victims: self.victims.or(fallback.victims),
            culprits: self.culprits.or(fallback.culprits),
            disks: self.disks.or(fallback.disks),
            disks_include: self.disks_include.or(fallback.disks_include),
            disks_exclude: self.disks_exclude.or(fallback.disks_exclude),
            disk: self.disk.or(fallback.disk),
            namespace: self.namespace.or(fallback.namespace),
            victim: self.victim.or(fallback.victim),
            metrics: self.metrics.or(fallback.metrics),
            min_sync: self.min_sync.or(fallback.min_sync),
            slow_syncs: self.slow_syncs.or(fallback.slow_syncs),
            node: self.node.or(fallback.node),
            log_format: self.log_format.or(fallback.log_format),
            keep_privileges: self.keep_privileges.or(fallback.keep_privileges),
            record: self.record.or(fallback.record),
            record_size: self.record_size.or(fallback.record_size),
            state_dir: self.state_dir.or(fallback.state_dir),
        }
    }
}
