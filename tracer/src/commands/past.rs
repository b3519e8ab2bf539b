//! Questions about past times: which recording is asked, and for which times it has data.

pub mod answers;
pub mod ask;

use std::{
    env,
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow, bail};
use serde::Serialize;

use crate::{
    cli::{
        address::AgentUrl,
        moments::{Covered, Moment, Zone},
        recordings::{PartArgs, TimeArgs},
    },
    output::{escape::escape, names},
    timeline::{Event, GAP_SECONDS, Subject, What},
};
use tracer_recording::{
    breaks::Break,
    replay::{Played, Replay},
    segments::{index, set_back},
};
use tracer_snapshot::SlowSync;

/// The recording that is asked where none is named.
pub const USUAL: &str = "/var/lib/tracer-recording";

/// The length of time that `--at` alone is about.
const USUAL_LENGTH: Duration = Duration::from_secs(300);

/// A span of time that is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    pub from: f64,
    /// Infinite for the end of the recording.
    pub to: f64,
    pub zone: Zone,
    /// The recording's name.
    pub name: String,
}

/// A time of which nothing is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Unix seconds.
    pub from: f64,
    pub to: f64,
    /// One word.
    pub why: &'static str,
    /// A sentence.
    pub reason: String,
}

/// The question, in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct AskedAbout<'a> {
    /// Unix seconds; to the end of the recording where `to` is null.
    pub from: f64,
    pub to: Option<f64>,
    /// The zone of local times, with its offset.
    pub zone: String,
    pub recording: String,
    pub gaps: &'a [Gap],
}

/// How far a replay is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// In the recorded kernel's time.
    pub kernel_ns: u64,
    /// In Unix seconds.
    pub wall: f64,
}

impl Until {
    /// The end of the time that was asked about. If none was asked about, `length` after
    /// now, or the end of the recording without a `length`.
    pub fn of(replay: &Replay, asked: Option<&Asked>, length: Option<Duration>) -> Self {
        match asked {
            Some(asked) => Self { kernel_ns: u64::MAX, wall: asked.to },
            None => Self { kernel_ns: super::after(replay.now_ns(), length), wall: f64::INFINITY },
        }
    }

    /// Goes on by a step, to the end at most; true at the end.
    pub fn play(
        &self,
        replay: &mut Replay,
        step: Option<Duration>,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> bool {
        let kernel_ns = super::after(replay.now_ns(), step).min(self.kernel_ns);
        let played = replay.play_both(kernel_ns, self.wall, slow_ns, slow);
        played == Played::Whole || replay.now_ns() >= self.kernel_ns || replay.now() >= self.wall
    }
}

/// A recording that is asked, perhaps more than once.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// For messages.
    name: String,
    /// The zone of local times.
    pub zone: Zone,
    /// An agent's copy of what it has, and the time that it was asked for.
    copy: Option<Copy>,
}

/// A copy that an agent has given: the file is open and has no name.
#[derive(Debug)]
struct Copy {
    _file: File,
    span: [f64; 2],
}

impl Source {
    /// A file, or a directory of segments.
    pub fn at(path: PathBuf) -> Self {
        let (name, zone) = (path.display().to_string(), Zone::of_this_machine());
        Self { path, name, zone, copy: None }
    }

    /// The recording that is meant: of an agent, if there is one.
    ///
    /// # Errors
    ///
    /// When the agent does not give it.
    pub async fn find(
        named: Option<&Path>,
        agent: Option<&AgentUrl>,
        time: &TimeArgs,
        length: Option<Duration>,
    ) -> Result<Self> {
        let Some(agent) = agent else { return Ok(Self::at(recording(named))) };
        let zone = Zone::of_this_machine();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let span = time.span(&zone, Covered { first: 0.0, last: Some(now) }, length)?;
        let to = span[1].min(now);
        if span[0] >= to {
            bail!("`{agent}` cannot know of a time that is still to come");
        }
        let file = ask::recording(agent, span[0], to).await?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { path, name: agent.to_string(), zone, copy: Some(Copy { _file: file, span }) })
    }

    /// Opens it to be played from one moment to another, with some time before. If the clock
    /// was set back, so that this time occurs twice, what comes before is played already.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or is no recording.
    pub fn open_from(&self, from: f64, to: f64) -> Result<Replay> {
        let replay = self.open_at(from)?;
        let Some(place) = set_back::find(&self.path, from, to)? else { return Ok(replay) };
        let mut replay = replay;
        match replay.play_past(place) {
            true => Ok(replay),
            // The line that said so is damaged.
            false => self.open_at(from),
        }
    }

    fn open_at(&self, from: f64) -> Result<Replay> {
        let is_usual = self.path == Path::new(USUAL);
        let opened = Replay::open_from(&self.path, from).map_err(|error| match is_usual {
            true => error.context(
                "no recording was named (--recording PATH, or TRACER_RECORD), and the usual one \
                 cannot be read",
            ),
            false => error,
        });
        Ok(opened?.named(self.name.clone()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in outputs.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Ends a replay: says on standard error what it could not go on from.
///
/// # Errors
///
/// When not all of the recording could be read.
pub fn finish(replay: &Replay) -> Result<()> {
    if let Some(forgotten) = replay.forgotten() {
        // Nobody may read it.
        let _ = writeln!(io::stderr(), "{forgotten}");
    }
    replay.check()
}

/// The recording that is meant, of this machine.
fn recording(named: Option<&Path>) -> PathBuf {
    let agents = || env::var_os("TRACER_RECORD").filter(|path| !path.is_empty());
    let named = named.map(Path::to_owned);
    named.or_else(|| agents().map(Into::into)).unwrap_or_else(|| USUAL.into())
}

impl PartArgs {
    /// Opens the recording where this part begins; see [`TimeArgs::open`].
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or knows nothing of that time.
    pub fn open(&self, source: &Source) -> Result<(Replay, Option<Asked>)> {
        self.time.open(source, self.duration)
    }

    /// The text of the filter as [`names::matches`] compares it.
    pub fn text(&self) -> Option<String> {
        self.filter.as_deref().map(str::to_lowercase)
    }

    /// Leaves out events of victims that are not asked about. A tracer that saw nothing
    /// did not see these victims either, so its own events stay.
    pub fn retain(&self, events: &mut Vec<Event>) {
        let Some(text) = self.text() else { return };
        let is_meant =
            |of: &Subject| names::matches(&text, &of.actor, of.class, &of.path, &of.device);
        events.retain_mut(|event| {
            if let What::Mark { around, .. } = &mut event.what {
                around.retain(|one| is_meant(&one.victim));
            }
            event.what.victim().is_none_or(&is_meant)
        });
    }
}

impl TimeArgs {
    /// Opens the recording, and goes to where the span begins. `None` for the span where
    /// no time was asked for.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or knows nothing of that time.
    pub fn open(
        &self,
        source: &Source,
        length: Option<Duration>,
    ) -> Result<(Replay, Option<Asked>)> {
        if !self.is_asked() {
            return Ok((source.open_at(f64::NEG_INFINITY)?, None));
        }
        // A directory says in a moment which time it is of.
        let path = source.path();
        let segments = if path.is_dir() { index::read(path)? } else { Vec::new() };
        let last = segments.iter().map(|one| one.last).reduce(f64::max);
        let (replay, first) = match segments.first() {
            Some(segment) => (None, segment.first),
            None => {
                let replay = source.open_at(f64::NEG_INFINITY)?;
                let first = replay.now();
                (Some(replay), first)
            }
        };
        let [from, to] = match &source.copy {
            Some(copy) => copy.span,
            None => self.span(&source.zone, Covered { first, last }, length)?,
        };
        let was_set_back = set_back::find(path, from, to)?.is_some();
        let mut replay = match replay.filter(|_| !was_set_back) {
            Some(replay) => replay,
            None => source.open_from(from, to)?,
        };
        let asked = Asked { from, to, zone: source.zone.clone(), name: source.name.clone() };
        if first >= to && replay.now() >= to {
            bail!("{}", asked.nothing(&format!("the recording begins at {}", asked.moment(first))));
        }
        let played = replay.play_both(u64::MAX, from, None, &mut Vec::new());
        if played == Played::Whole && replay.now() < from {
            let end = asked.moment(replay.now());
            bail!("{}", asked.nothing(&format!("the recording ends at {end}")));
        }
        if replay.now() >= to {
            let gap = asked.gaps(replay.breaks()).pop();
            let why = gap.map_or_else(|| "a part is missing".to_owned(), |gap| gap.reason);
            bail!("{}", asked.nothing(&why));
        }
        replay.begin_period();
        Ok((replay, Some(asked)))
    }

    fn span(&self, zone: &Zone, covered: Covered, length: Option<Duration>) -> Result<[f64; 2]> {
        let seconds = length.map(|length| length.as_secs_f64());
        let usual = seconds.unwrap_or(USUAL_LENGTH.as_secs_f64());
        let resolve =
            |moment: &Moment| moment.resolve(zone, covered, usual).map_err(|why| anyhow!("{why}"));
        let [at, since, until] = [&self.at, &self.since, &self.until]
            .map(|moment| moment.as_ref().map(resolve).transpose());
        let (at, since, until) = (at?, since?, until?);
        let span = match (at.or(since), until) {
            (Some(from), Some(to)) => [from, to],
            (Some(from), None) if at.is_some() => [from, from + usual],
            (Some(from), None) => [from, seconds.map_or(f64::INFINITY, |length| from + length)],
            (None, Some(to)) => [seconds.map_or(covered.first.min(to), |length| to - length), to],
            (None, None) => [covered.first, f64::INFINITY],
        };
        if span[0] >= span[1] {
            let [from, to] = span.map(|at| zone.local(at));
            bail!("the span ends before it begins: it is from {from} to {to}");
        }
        Ok(span)
    }
}

impl Asked {
    /// Says on standard error which time is shown.
    pub fn say(&self) {
        // Nobody may read it.
        let _ = writeln!(io::stderr(), "shows {}", escape(&self.sentence()));
    }

    fn moment(&self, at: f64) -> String {
        self.zone.local(at)
    }

    /// `2026-11-29 03:12:00 to 03:17:00 +01:00 (Europe/Berlin)`.
    pub fn sentence(&self) -> String {
        let from = self.zone.local(self.from);
        let to = match self.to.is_finite() {
            true => self.zone.local(self.to),
            false => "the end".to_owned(),
        };
        let (day, zone) = (from.get(..11).unwrap_or_default(), self.zone.name(self.from));
        format!("{from} to {} {zone}", to.strip_prefix(day).unwrap_or(&to))
    }

    /// The question as JSON, with the times of which nothing is known.
    pub fn about<'a>(&'a self, gaps: &'a [Gap]) -> AskedAbout<'a> {
        AskedAbout {
            from: self.from,
            to: self.to.is_finite().then_some(self.to),
            zone: self.zone.name(self.from),
            recording: self.name.clone(),
            gaps,
        }
    }

    fn nothing(&self, why: &str) -> String {
        let Self { name, .. } = self;
        format!("nothing was recorded from {} in `{name}`: {why}", self.sentence())
    }

    /// Times within the span of which nothing is known.
    pub fn gaps(&self, breaks: &[Break]) -> Vec<Gap> {
        let within = breaks.iter().filter(|one| one.from < self.to && one.to > self.from);
        let long = within.filter(|one| one.to - one.from > GAP_SECONDS);
        let gap = |one: &Break| Gap {
            from: one.from.max(self.from),
            to: one.to.min(self.to),
            why: one.why.name(),
            reason: one.why.sentence(),
        };
        long.map(gap).collect()
    }

    /// All of them, with what lies before the recording begins and after it ends.
    pub fn all_gaps(&self, replay: &Replay, began: f64) -> Vec<Gap> {
        let mut gaps = self.gaps(replay.breaks());
        let covered = gaps.first().is_some_and(|gap| gap.from <= self.from + GAP_SECONDS);
        if began - self.from > GAP_SECONDS && !covered {
            let reason = "the recording begins there".to_owned();
            gaps.insert(0, Gap { from: self.from, to: began, why: "begins", reason });
        }
        let end = replay.now();
        if self.to.is_finite() && self.to - end > GAP_SECONDS {
            let reason = "the recording ends there".to_owned();
            gaps.push(Gap { from: end, to: self.to, why: "ends", reason });
        }
        gaps
    }

    /// A line for a gap: `no data  03:12:40 to 03:13:20: the tracer was killed`.
    pub fn gap_line(&self, gap: &Gap) -> String {
        let [from, to] = [gap.from, gap.to].map(|at| self.zone.time(at));
        format!("no data  {from} to {to}: {}", escape(&gap.reason))
    }
}
