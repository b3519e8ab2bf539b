//! The arguments that are about recordings: which one, which part of it, and what is made of it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Subcommand, ValueEnum, error::ErrorKind};

use super::{Cli, TopArgs, WatchArgs, WhyArgs, address::AgentUrl, moments::Moment, values};

/// The part of a recording, by times, that a command is asked about.
#[derive(Args, Clone, Debug, Default)]
pub struct TimeArgs {
    /// Look at a recording from this time on: `03:12`, "2026-11-29 03:12", RFC 3339, or `2h` (ago).
    ///
    /// Five minutes from then on are covered, or as much as --for says. A time without an
    /// offset is local time (TZ, or /etc/localtime); the output names the zone. A time
    /// of day is its latest occurrence in the recording.
    #[arg(long, value_name = "TIME", conflicts_with = "since", help_heading = "Afterwards")]
    pub at: Option<Moment>,

    /// Start at this time, and continue to the end of the recording.
    #[arg(long, value_name = "TIME", help_heading = "Afterwards")]
    pub since: Option<Moment>,

    /// Stop at this time.
    #[arg(long, value_name = "TIME", conflicts_with = "at", help_heading = "Afterwards")]
    pub until: Option<Moment>,
}

impl TimeArgs {
    pub fn is_asked(&self) -> bool {
        let Self { at, since, until } = self;
        at.is_some() || since.is_some() || until.is_some()
    }
}

/// The recording that is asked, and the time that it is asked about.
#[derive(Args, Clone, Debug, Default)]
pub struct PastArgs {
    #[command(flatten)]
    pub time: TimeArgs,

    /// Read this recording: a file, or the directory of an agent's flight recorder
    /// [default: TRACER_RECORD, or /var/lib/tracer-recording].
    #[arg(long, value_name = "PATH", help_heading = "Afterwards")]
    pub recording: Option<PathBuf>,
}

impl PastArgs {
    /// Whether it is about a recording, and not about now.
    pub fn is_asked(&self) -> bool {
        self.time.is_asked() || self.recording.is_some()
    }
}

#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    /// Write to this file; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Stop after this long, such as `30s` or `10m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = values::parse_duration)]
    pub duration: Option<Duration>,

    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The recording: a file, `-` for standard input, or a directory of segments.
    pub file: PathBuf,

    #[command(flatten)]
    pub why: WhyArgs,

    #[command(subcommand)]
    pub view: Option<View>,
}

impl ReplayArgs {
    /// # Errors
    ///
    /// Returns bad usage for options of the verdict before the name of another view.
    pub fn check(&self) -> Result<(), clap::Error> {
        let WhyArgs { victim, duration, every, json, narrow, past, agent } = &self.why;
        let is_asked = victim.is_some()
            || duration.is_some()
            || every.is_some()
            || *json
            || !narrow.is_empty()
            || past.is_asked()
            || agent.is_some();
        let refuse = |message| Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
        if self.view.is_some() && is_asked {
            return refuse("options go after the view: `tracer replay FILE top --json`");
        }
        let agent = match &self.view {
            None => agent,
            Some(View::Why(args)) => &args.agent,
            Some(View::Top(_) | View::Watch(_)) => &None,
        };
        match (&self.past().recording, agent) {
            (None, None) => Ok(()),
            _ => refuse("the recording is FILE: --recording and --agent are for other commands"),
        }
    }

    fn past(&self) -> &PastArgs {
        match &self.view {
            None => &self.why.past,
            Some(View::Why(args)) => &args.past,
            Some(View::Top(args)) => &args.past,
            Some(View::Watch(args)) => &args.past,
        }
    }
}

/// Views of a recording.
#[derive(Clone, Debug, Subcommand)]
pub enum View {
    /// Print the verdict on one victim (the default).
    Why(WhyArgs),
    /// Show one screen after another, ten times faster than real time.
    Top(TopArgs),
    /// Print each slow sync.
    Watch(WatchArgs),
}

/// The part of a recording that is asked about.
#[derive(Args, Clone, Debug)]
pub struct PartArgs {
    /// Stop after this much of the recording, such as `30m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = values::parse_duration)]
    pub duration: Option<Duration>,

    /// Show only victims with this text in a name: process, pod, VM, unit, cgroup, file or device.
    #[arg(long, value_name = "TEXT", value_parser = values::parse_filter)]
    pub filter: Option<String>,

    #[command(flatten)]
    pub time: TimeArgs,

    /// Ask a running agent for its recording: `http://node:9464`, or `unix:/run/tracer.sock`.
    ///
    /// A password is given as `http://user:password@node:9464`. It goes over the network as
    /// text.
    #[arg(long, value_name = "URL", conflicts_with = "path", help_heading = "Afterwards")]
    pub agent: Option<AgentUrl>,
}

#[derive(Args, Clone, Debug)]
pub struct TimelineArgs {
    /// The recording: a file, `-` for standard input, or the directory of an agent's flight
    /// recorder [default: TRACER_RECORD, or /var/lib/tracer-recording].
    pub path: Option<PathBuf>,

    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub part: PartArgs,
}

#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The recording: a file, or the directory of an agent's flight recorder [default:
    /// TRACER_RECORD, or /var/lib/tracer-recording].
    pub path: Option<PathBuf>,

    /// HTML in one file that loads nothing else, or Markdown.
    #[arg(long, value_enum, default_value_t = Format::Html)]
    pub format: Format,

    /// Write to this file; `-` is standard output, which is the default.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub part: PartArgs,
}

/// A form of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    Html,
    Md,
}
