//! The command line: the options that exist, and how they are spelled.
//!
//! Text goes in and a [`Cli`] comes out; `main` passes each command to its
//! module. Whether the kernel has a hook, or a file exists, is checked later: bad
//! usage (exit 2) covers only what is wrong on every machine.

pub mod address;
pub mod examples;
pub mod kubectl;
pub mod moments;
pub mod recordings;
pub(crate) mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tracer_kernel::{facts::VMLINUX_BTF, strategies::Forced};

use self::{
    address::AgentUrl,
    recordings::{PastArgs, RecordArgs, ReplayArgs, ReportArgs, TimelineArgs},
};
use crate::{
    agent::config::settings::Settings,
    filter::{Filter, Narrow},
    session::Options,
};

/// Finds out who makes fsync slow.
///
/// Watches every fsync on this node and every request on its disks. For each
/// workload that waits, it reports where the time went, who else used the disk
/// meanwhile, and whether the device itself was slow.
#[derive(Debug, Parser)]
#[command(name = "tracer", version, after_long_help = examples::TRACER)]
pub struct Cli {
    #[command(flatten)]
    pub kernel: KernelArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How the kernel programs are loaded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kernel")]
pub struct KernelArgs {
    /// Print what the kernel programs log.
    #[arg(long, global = true)]
    pub kernel_log: bool,

    /// Try this attach strategy of a capability first (`tracer doctor` lists them); programs
    /// that are otherwise attached on demand are then attached from the start.
    #[arg(long = "strategy", global = true, value_name = "CAPABILITY=STRATEGY")]
    pub strategies: Vec<Forced>,

    /// Read the kernel's types from this file, on a kernel without BTF.
    ///
    /// The file must have been made from exactly this kernel; the tracer cannot check
    /// that. Types of modules are looked for in the same directory, in files named
    /// after the module, such as `ext4` and `jbd2`.
    #[arg(long, global = true, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// Find the node's files below this directory, in a container that mounts them.
    ///
    /// `/var/log/pods` and the like are read below it, and so are `/proc` and
    /// `/sys` if they are mounted there too.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TRACER_HOST_ROOT",
        default_value = "/",
        hide_default_value = true,
        hide_env_values = true,
        help_heading = "Node"
    )]
    pub host_root: PathBuf,

    /// Keep the measured speed of each disk in this directory between runs.
    ///
    /// `tracer agent` creates the directory and writes to it, if the option is given. `top`,
    /// `why`, `watch` and `record` only read it [default: /var/lib/tracer].
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TRACER_STATE_DIR",
        hide_env_values = true,
        help_heading = "Node"
    )]
    pub state_dir: Option<PathBuf>,
}

impl KernelArgs {
    /// Converts the arguments to the options of a session.
    pub fn to_options(&self) -> Options {
        Options {
            btf: self.btf.clone().unwrap_or_else(|| PathBuf::from(VMLINUX_BTF)),
            forced: self.strategies.clone(),
            kernel_log: self.kernel_log,
            state_dir: self.state_dir.clone(),
            ..Options::below(self.host_root.clone())
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show live who is slow, where the time goes and who causes it.
    #[command(after_long_help = examples::TOP)]
    Top(TopArgs),

    /// Watch for a while, then report who makes one victim slow, and how certain that is.
    ///
    /// Prints the verdict with its evidence: the culprits and their shares, the
    /// syncs with and without each of them, who was present but is ruled out, what
    /// remains unexplained, and what to do.
    #[command(after_long_help = examples::WHY)]
    Why(WhyArgs),

    /// Print each slow sync as it ends.
    #[command(after_long_help = examples::WATCH)]
    Watch(WatchArgs),

    /// Record a node's syncs and disks to a file, to be replayed later or elsewhere.
    ///
    /// The file grows by a few kilobytes a second. It holds names of processes,
    /// cgroups and files, but none of their contents. It is gzip of JSON lines. If
    /// the recorder is killed, the file can still be replayed up to its last second.
    #[command(after_long_help = examples::RECORD)]
    Record(RecordArgs),

    /// Replay a recording: print its verdict, or show another view of it.
    ///
    /// Needs neither root nor the machine that the recording was made on. Without a
    /// view it prints the verdict on the whole recording, as `tracer why` does.
    /// Durations are in the recording's time: `--for 1m` covers its first minute.
    #[command(after_long_help = examples::REPLAY)]
    Replay(Box<ReplayArgs>),

    /// Print what happened in a recording: who was slow and when, who caused it, and which
    /// syncs hung.
    ///
    /// Prints one line for each event: a victim became slow or recovered, a culprit began or
    /// stopped, a sync hung, the tracer was restarted, or some time was not recorded. Needs
    /// no root.
    #[command(after_long_help = examples::TIMELINE)]
    Timeline(TimelineArgs),

    /// Write a report on a recording, as one page for a post-mortem.
    ///
    /// The page has a summary in three sentences, the timeline, and the verdict on each
    /// period in which a victim was slow: what the excess consists of, the culprits with
    /// their evidence, who is ruled out and by which numbers, and what to do. As HTML it also
    /// plots p50 and p99, the culprits' activity, the phases and the disk's times. Needs no
    /// root.
    #[command(after_long_help = examples::REPORT)]
    Report(ReportArgs),

    /// Set a mark in an agent's recording, such as what you just changed.
    ///
    /// `tracer timeline` and `tracer report` show the mark with each victim's syncs in the minute
    /// before and after it. The agent must run with --record and --socket; it keeps the id of
    /// your user with the mark.
    #[command(after_long_help = examples::MARK)]
    Mark(MarkArgs),

    /// Run permanently on a node, and serve metrics, verdicts and a page.
    ///
    /// Flags take precedence over environment variables (named beside each flag),
    /// and those over the configuration file. SIGHUP re-reads the file; SIGTERM
    /// stops the agent.
    #[command(after_long_help = examples::AGENT)]
    Agent(Box<AgentArgs>),

    /// Report what the tracer can see on this kernel, and why the rest is missing.
    #[command(after_long_help = examples::DOCTOR)]
    Doctor(DoctorArgs),

    /// Ask the agent on a node of a cluster, through kubectl.
    ///
    /// Under the name `kubectl-tracer` this program is a plugin: `kubectl tracer why
    /// shop/web-0`. It does not need root, but needs the rights to list pods and to run
    /// commands in the agent's pod. On a node without an agent it asks, and then creates a
    /// pod that ends after 15 minutes. Arguments for the tracer's own command follow `--`.
    #[command(after_long_help = examples::KUBECTL)]
    Kubectl(kubectl::KubectlArgs),

    /// Make a disk slow in a lab of its own, and find the culprit.
    #[command(after_long_help = examples::DEMO)]
    Demo(DemoArgs),

    /// Print a completion script for a shell.
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions { shell: Shell },

    /// Print a manual page.
    #[command(after_long_help = examples::MAN)]
    Man {
        /// Print the page of this command instead of the tracer's own.
        #[arg(value_name = "COMMAND")]
        of: Option<String>,
    },
}

/// The part of the node that a view covers, and for how long.
#[derive(Args, Clone, Debug, Default)]
pub struct Scope {
    /// Stop after this long, such as `30s` or `2m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = values::parse_duration)]
    pub duration: Option<Duration>,

    /// Show only victims with this text in a name: process, pod, VM, unit, cgroup, file or device.
    #[arg(long, value_name = "TEXT", value_parser = values::parse_filter)]
    pub filter: Option<String>,

    #[command(flatten)]
    pub narrow: Narrow,
}

impl Scope {
    pub fn to_filter(&self) -> Filter {
        Filter::new(self.filter.as_deref(), &self.narrow)
    }
}

#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Print one screen after another as plain text, for logs and pipes.
    #[arg(long)]
    pub batch: bool,

    /// Print one JSON object per interval, one per line, instead of a screen.
    #[arg(long, conflicts_with = "batch")]
    pub json: bool,

    /// Time between screens, in seconds or as a duration such as `500ms`.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = values::parse_interval)]
    pub interval: Duration,

    /// Stop after this number of screens.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,

    #[command(flatten)]
    pub scope: Scope,

    #[command(flatten)]
    pub past: PastArgs,
}

#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// The victim: a process id, or text in the name of the process, pod (`namespace/name`),
    /// VM, unit, cgroup, file or device.
    ///
    /// If several victims match, the one that syncs a log (such as etcd's WAL) is chosen.
    /// Without this argument, the victim that waits longest beyond its baseline is chosen.
    #[arg(value_parser = values::parse_filter)]
    pub victim: Option<String>,

    /// Cover this much time, such as `30s` or `2m` [default: 30s, or until stopped with --every;
    /// a recording is covered to its end].
    #[arg(long = "for", value_name = "DURATION", value_parser = values::parse_duration)]
    pub duration: Option<Duration>,

    /// Print one verdict per period of this length, until stopped.
    #[arg(long, value_name = "DURATION", value_parser = values::parse_duration)]
    pub every: Option<Duration>,

    /// Print one JSON object per verdict.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub narrow: Narrow,

    #[command(flatten)]
    pub past: PastArgs,

    /// Ask a running agent for its recording: `http://node:9464`, or `unix:/run/tracer.sock`.
    ///
    /// A password is given as `http://user:password@node:9464`. It goes over the network as
    /// text.
    #[arg(long, value_name = "URL", conflicts_with = "recording", help_heading = "Afterwards")]
    pub agent: Option<AgentUrl>,
}

#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// Print syncs that took at least this long.
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = values::parse_duration)]
    pub min: Duration,

    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub scope: Scope,

    #[command(flatten)]
    pub past: PastArgs,
}

#[derive(Args, Clone, Debug)]
pub struct MarkArgs {
    /// One line of at most 256 bytes.
    pub text: String,

    /// The agent's socket.
    #[arg(long, env = "TRACER_SOCKET", value_name = "PATH", default_value = "/run/tracer.sock")]
    pub socket: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Read from this TOML file the settings that neither flags nor the environment give.
    #[arg(long, env = "TRACER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the effective settings as such a file, and exit.
    #[arg(long)]
    pub print_config: bool,

    /// Exit with code 3 if this node cannot be traced, instead of serving
    /// `tracer_up 0` with the reason and trying again.
    #[arg(long)]
    pub exit_on_failure: bool,

    /// Do not start the loader, a process that loads programs for kernel modules that are
    /// loaded later; the agent then reports what a restart would add.
    #[arg(long)]
    pub no_loader: bool,

    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Also check, item by item, whether `tracer agent` has what it needs here.
    #[arg(long)]
    pub agent: bool,

    /// Check that the agent could listen on this address.
    #[arg(
        long,
        env = "TRACER_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9464"
    )]
    pub listen: SocketAddr,
}

#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Print one JSON object with the findings.
    #[arg(long)]
    pub json: bool,

    /// Run shorter acts, which show that it works, but whose numbers vary.
    #[arg(long)]
    pub fast: bool,

    /// Make the lab's disk image in this directory instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use tracer_kernel::capability::Capability;

    use super::{recordings::View, *};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn top_alone_looks_every_second_at_everything() {
        let Command::Top(top) = parse("tracer top").unwrap().command else { panic!("not top") };
        assert_eq!(top.interval, Duration::from_secs(1));
        assert!(top.iterations.is_none() && top.scope.duration.is_none());
        assert!(top.scope.filter.is_none() && !top.json && !top.batch);
    }

    #[test]
    fn kernel_options_go_before_and_after_the_command() {
        for line in [
            "tracer --strategy sync=tracepoint --strategy complete=tracepoint doctor",
            "tracer doctor --strategy sync=tracepoint --strategy complete=tracepoint",
        ] {
            let kernel = parse(line).unwrap().kernel;
            let strategies: Vec<_> = kernel
                .strategies
                .iter()
                .map(|forced| (forced.capability, forced.strategy))
                .collect();
            let expected = [(Capability::Sync, "tracepoint"), (Capability::Complete, "tracepoint")];
            assert_eq!(strategies, expected, "{line}");
        }
    }

    #[test]
    fn the_nodes_files_may_lie_elsewhere() {
        let kernel = parse("tracer top --host-root /nonexistent").unwrap().kernel;
        let options = kernel.to_options();
        assert_eq!(options.host, PathBuf::from("/nonexistent"));
        assert_eq!(options.root, PathBuf::from("/"), "there is no /proc in it");
    }

    #[test]
    fn options_of_watch_are_read() {
        let line = "tracer watch --min 1.5s --for 2m --filter etcd --json";
        let Command::Watch(watch) = parse(line).unwrap().command else { panic!("not watch") };
        assert_eq!(watch.min, Duration::from_millis(1500));
        assert_eq!(watch.scope.duration, Some(Duration::from_secs(120)));
        assert_eq!(watch.scope.filter.as_deref(), Some("etcd"));
        assert!(watch.json);
        let Command::Top(top) = parse("tracer top --disk sd*,vda --pod shop/*").unwrap().command
        else {
            panic!("not top")
        };
        let only = top.scope.to_filter().only();
        assert_eq!(only.as_deref(), Some("disk sd* or vda, pod shop/*"));
    }

    #[test]
    fn a_replay_is_the_verdict_unless_another_view_is_named() {
        let replay = |line: &str| match parse(line).unwrap().command {
            Command::Replay(replay) => replay,
            other => panic!("{other:?}"),
        };
        let plain = replay("tracer replay slow.rec etcd --json --every 10s");
        assert!(plain.view.is_none() && plain.why.json && plain.check().is_ok());
        assert_eq!(plain.why.victim.as_deref(), Some("etcd"));
        let Some(View::Top(top)) = replay("tracer replay slow.rec top --batch -n 3").view else {
            panic!("not top");
        };
        assert!(top.batch && top.iterations == Some(3));
        assert!(matches!(replay("tracer replay - watch --min 5ms").view, Some(View::Watch(_))));
        assert!(replay("tracer replay slow.rec --json top").check().is_err());
        assert!(replay("tracer replay slow.rec --disk sdb top").check().is_err());
        assert!(replay("tracer replay slow.rec --at 03:12 top").check().is_err());
        assert!(replay("tracer replay slow.rec top --at 03:12 --for 2m").check().is_ok());
        assert!(replay("tracer replay slow.rec top --recording x").check().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "tracer",
            "tracer nonsense",
            "tracer top --batch --json",
            "tracer top -n 0",
            "tracer top --for 0s",
            "tracer top --interval 0",
            "tracer record",
            "tracer replay",
            "tracer why --at soon",
            "tracer why --at 03:12 --since 03:10",
            "tracer timeline --at 03:12 --until 03:14",
            "tracer doctor --strategy start",
            "tracer doctor --strategy =fentry",
        ] {
            assert_eq!(parse(line).map(drop).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
