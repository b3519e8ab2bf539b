//! The agent's configuration: flags, environment, a file, defaults.
//!
//! One struct, [`settings::Settings`], serves all three sources: a setting that neither a flag nor
//! `TRACER_…` gives may come from the file, and else has a default. The file is
//! read again on SIGHUP.

pub mod settings;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use self::settings::Settings;
use super::{
    disk_series::{DiskLimits, Pattern},
    log::LogFormat,
    series::Limits,
};
use crate::{
    cli::values,
    filter::{Filter, Glob},
};
use tracer_recording::segments::Bounds;

/// The settings in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    pub listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_config: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    #[serde(serialize_with = "spell")]
    pub period: Duration,
    pub victims: usize,
    pub culprits: usize,
    pub disks: usize,
    pub disks_include: Pattern,
    pub disks_exclude: Pattern,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespace: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub victim: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Glob>,
    #[serde(serialize_with = "spell")]
    pub min_sync: Duration,
    pub slow_syncs: usize,
    pub node: String,
    pub log_format: LogFormat,
    pub keep_privileges: bool,
    /// The directory of continuous recordings; if absent, nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    #[serde(serialize_with = "spell_size")]
    pub record_size: u64,
    /// The directory of kept references; if absent, nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
}

fn spell<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

fn spell_size<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&values::spell_size(*bytes))
}

/// Shorter periods have too few syncs for a verdict, and longer ones make
/// metrics stale.
const PERIODS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

impl Config {
    /// Combines the flags and the environment, then the file, then the defaults.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a value makes no sense.
    pub fn load(flags: &Settings, file: Option<&Path>) -> Result<Self> {
        let below = file.map(Settings::read).transpose()?.unwrap_or_default();
        Self::of(flags.clone().or(below))
    }

    fn of(settings: Settings) -> Result<Self> {
        let disks_include = settings.disks_include.unwrap_or_default();
        let usually = || match disks_include.is_empty() {
            true => Pattern::usually_excluded(),
            false => Pattern::default(),
        };
        let disks_exclude = settings.disks_exclude.unwrap_or_else(usually);
        let config = Self {
            listen: settings.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9464))),
            web_config: settings.web_config,
            probe_listen: settings.probe_listen,
            socket: settings.socket,
            allowed_hosts: settings.allowed_hosts.unwrap_or_default(),
            period: settings.period.unwrap_or(Duration::from_secs(10)),
            victims: settings.victims.unwrap_or(50),
            culprits: settings.culprits.unwrap_or(10),
            disks: settings.disks.unwrap_or(64),
            disks_include,
            disks_exclude,
            disk: settings.disk.unwrap_or_default(),
            namespace: settings.namespace.unwrap_or_default(),
            victim: settings.victim.unwrap_or_default(),
            metrics: settings.metrics.unwrap_or_default(),
            min_sync: settings.min_sync.unwrap_or(Duration::from_millis(10)),
            slow_syncs: settings.slow_syncs.unwrap_or(1024),
            node: settings.node.unwrap_or_else(host_name),
            log_format: settings.log_format.unwrap_or_default(),
            keep_privileges: settings.keep_privileges.unwrap_or(false),
            record: settings.record,
            record_size: settings.record_size.unwrap_or(512 << 20),
            state_dir: settings.state_dir,
        };
        let [shortest, longest] = PERIODS;
        if !(shortest..=longest).contains(&config.period) {
            let [shortest, longest] = PERIODS.map(humantime::format_duration);
            bail!("`period` must be {shortest} to {longest}");
        }
        for (name, value, most) in [
            ("victims", config.victims, 1000),
            ("culprits", config.culprits, 100),
            ("disks", config.disks, 1000),
            ("slow-syncs", config.slow_syncs, 100_000),
        ] {
            if !(1..=most).contains(&value) {
                bail!("`{name}` must be 1 to {most}");
            }
        }
        if !(Bounds::MIN..=Bounds::MAX).contains(&config.record_size) {
            let [least, most] = [Bounds::MIN, Bounds::MAX].map(values::spell_size);
            bail!("`record-size` must be {least} to {most}");
        }
        Ok(config)
    }

    pub fn limits(&self) -> Limits {
        Limits { victims: self.victims, culprits: self.culprits }
    }

    /// Returns the filter of victims.
    pub fn filter(&self) -> Filter {
        Filter::of_agent(&self.disk, &self.namespace, &self.victim)
    }

    pub fn disk_limits(&self) -> DiskLimits {
        let (include, exclude) = (self.disks_include.clone(), self.disks_exclude.clone());
        DiskLimits { disks: self.disks, include, exclude }
    }

    /// Prints the settings as a file that would set them.
    ///
    /// # Errors
    ///
    /// When it cannot be written: never.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("failed to write the configuration")
    }
}

/// Declares the settings that only a restart can change, with their names in the file.
macro_rules! settings_of_the_start {
    ($($name:literal: $field:ident,)+) => {
        impl Config {
            /// Keeps the present values of settings that only a restart can change. The next
            /// reload names them again.
            #[must_use]
            pub fn with_what_needs_a_restart(self, now: &Self) -> Self {
                let now = now.clone();
                Self { $($field: now.$field,)+ ..self }
            }

            /// The names of settings that have changed in the file, and that only a restart can change.
            pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
                let changed = [$(($name, self.$field != new.$field),)+];
                changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
            }
        }
    };
}

settings_of_the_start! {
    "listen": listen,
    "web-config": web_config,
    "probe-listen": probe_listen,
    "socket": socket,
    "allowed-hosts": allowed_hosts,
    "node": node,
    "keep-privileges": keep_privileges,
    "record": record,
    "record-size": record_size,
    "state-dir": state_dir,
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Settings {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            settings: Settings,
        }
        <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap().settings
    }

    #[track_caller]
    fn refused(text: &str, says: &[&str]) {
        let error = Settings::parse(text).and_then(Config::of).unwrap_err();
        let error = format!("{error:#}");
        assert!(says.iter().all(|says| error.contains(says)), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }

    #[test]
    fn what_a_flag_does_not_say_the_file_may() {
        let file = Settings::parse("period = \"5s\"\nvictims = 7\nnode = \"a\"\n").unwrap();
        let config = Config::of(flags("agent --period 20s --keep-privileges").or(file)).unwrap();
        assert_eq!((config.period, config.victims), (Duration::from_secs(20), 7));
        assert_eq!((config.culprits, config.node.as_str()), (10, "a"));
        assert!(config.keep_privileges);
        assert_eq!(config.listen.to_string(), "127.0.0.1:9464");
        assert_eq!(config.log_format, LogFormat::Text);
        let json = Settings::parse("log-format = \"json\"\n").unwrap();
        assert_eq!(Config::of(json).unwrap().log_format, LogFormat::Json);
        assert_eq!(flags("agent --log-format json").log_format, Some(LogFormat::Json));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        refused("period = \"5s\"\n\nperiode = \"6s\"\n", &["line 3", "`periode`"]);
        refused("victims = \"many\"\n", &["line 1", "victims"]);
        refused("# fine\nperiod = \"soon\"\n", &["line 2", "write it like 10ms"]);
        refused("[agent]\n", &["`agent`"]);
        refused("period = \"5s\"\nperiod = \"6s\"\n", &["line 2", "duplicate"]);
        refused("nonsense", &["line 1"]);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused() {
        refused("victims = 0\n", &["`victims` must be 1 to 1000"]);
        refused("culprits = 101\n", &["`culprits`"]);
        refused("record-size = \"3M\"\n", &["`record-size` must be 4M to 64G"]);
        refused("record-size = \"much\"\n", &["line 1", "write it like 512M"]);
        refused("period = \"500ms\"\n", &["`period` must be 1s to 10m"]);
        refused("listen = \"localhost\"\n", &["line 1"]);
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let text = "min-sync = \"2ms\"\nnode = \"a\\\"b\"\nstate-dir = \"/var/lib/x\"\n\
                    record = \"/var/lib/y\"\nrecord-size = \"1536M\"\n";
        let settings = Settings::parse(text).unwrap();
        let config = Config::of(settings).unwrap();
        let printed = config.to_toml().unwrap();
        assert_eq!(Config::of(Settings::parse(&printed).unwrap()).unwrap(), config, "{printed}");
    }

    #[test]
    fn who_may_ask_is_said_by_flags_and_by_the_file() {
        let text = "web-config = \"/etc/web.yml\"\nprobe-listen = \"127.0.0.1:9465\"\n\
                    socket = \"/run/tracer.sock\"\nallowed-hosts = [\"node-1\", \"10.96.0.7\"]\n";
        let file = Config::of(Settings::parse(text).unwrap()).unwrap();
        assert_eq!(file.allowed_hosts, ["node-1", "10.96.0.7"]);
        let printed = Settings::parse(&file.to_toml().unwrap()).unwrap();
        assert_eq!(Config::of(printed).unwrap(), file);
        let line = "agent --web-config /etc/web.yml --probe-listen 127.0.0.1:9465 \
                    --socket /run/tracer.sock --allowed-hosts node-1,10.96.0.7";
        assert_eq!(Config::of(flags(line)).unwrap(), file);
        let plain = Config::of(Settings::default()).unwrap();
        let changed = ["web-config", "probe-listen", "socket", "allowed-hosts"];
        assert_eq!(plain.needs_restart(&file), changed);
        refused("period = \"5s\"\nallowed-hosts = [\"a:1\"]\n", &["line 2", "without a port"]);
    }

    #[test]
    fn patterns_of_who_and_what_is_shown_are_lists() {
        let text = "disk = [\"sd*\", \"vda\"]\nnamespace = [\"shop\"]\nvictim = [\"etcd*\"]\n\
                    metrics = [\"tracer_blame*\"]\n";
        let file = Config::of(Settings::parse(text).unwrap()).unwrap();
        let only = "disk sd* or vda, namespace shop, victim etcd*";
        assert_eq!(file.filter().only().as_deref(), Some(only));
        let printed = Settings::parse(&file.to_toml().unwrap()).unwrap();
        assert_eq!(Config::of(printed).unwrap(), file);
        let line = "agent --disk sd*,vda --namespace shop --victim etcd* --metrics tracer_blame*";
        assert_eq!(Config::of(flags(line)).unwrap(), file);
        assert!(Config::of(Settings::default()).unwrap().filter().only().is_none());
        refused("disk = [\"\"]\n", &["line 1", "must not be empty"]);
        refused("disk = \"sda\"\n", &["line 1", "`disk`"]);
    }

    #[test]
    fn nothing_is_kept_unless_a_directory_is_named() {
        assert_eq!(Config::of(Settings::default()).unwrap().state_dir, None);
        let file = Settings::parse("state-dir = \"/a\"\n").unwrap();
        let flag = Settings { state_dir: Some("/b".into()), ..Settings::default() };
        assert_eq!(Config::of(flag.or(file)).unwrap().state_dir, Some("/b".into()));
    }

    #[test]
    fn patterns_of_disks_have_defaults_that_make_sense() {
        let limits = |text: &str| Config::of(Settings::parse(text).unwrap()).unwrap().disk_limits();
        let usual = limits("");
        assert_eq!((usual.disks, usual.include.is_empty()), (64, true));
        assert!(usual.exclude.matches("loop7") && !usual.exclude.matches("sda"));
        assert!(limits("disks-exclude = \"\"\n").exclude.is_empty());
        // They are there for users who ask for them.
        let loops = limits("disks-include = \"^loop\"\n");
        assert!(loops.include.matches("loop7") && loops.exclude.is_empty());
        refused("disks-exclude = \"(\"\n", &["line 1", "`(` is no regular expression"]);
        refused("disks = 0\n", &["`disks` must be 1 to 1000"]);
        for text in ["", "disks-include = \"^loop\"\n", "disks-exclude = \"\"\n"] {
            let config = Config::of(Settings::parse(text).unwrap()).unwrap();
            let printed = Settings::parse(&config.to_toml().unwrap()).unwrap();
            assert_eq!(Config::of(printed).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn what_only_a_restart_changes_is_named() {
        let old = Config::of(Settings::default()).unwrap();
        let new = Config { victims: 3, listen: "[::]:9464".parse().unwrap(), ..old.clone() };
        assert_eq!(old.needs_restart(&new), ["listen"]);
        assert_eq!(new.with_what_needs_a_restart(&old), Config { victims: 3, ..old });
    }
}
