//! Plays a recording: its lines feed a scene, as the kernel does in a session.
//!
//! Time is the recording's. Every number and every string is checked before
//! anything else sees it, and everything that grows has a bound; the first line
//! that does not hold ends the replay, with what came before it intact.

mod checkpoint;
mod disk;
mod lines;
pub mod marks;
mod names;
mod parts;
mod set_back;
mod windows;

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tracer_ebpf::dropped::Dropped;
use tracer_engine::victim::Span;
use tracer_scene::{DiskState, Scene, Stack, actors::Actors};
use tracer_snapshot::{Frozen, Hanging, SlowSync, Snapshot, clock::Clock};

use self::{
    checkpoint::Checkpoints,
    disk::DISKS,
    marks::Marks,
    names::Names,
    windows::{KnownOwner, Windows},
};
use super::{
    FORMAT, VERSION,
    breaks::{Break, Breaks, SILENCE_SECONDS, Why},
    checks::{
        MAX_TIME_NS, check_actor, check_facts, check_hanging, check_kernel, check_texts, check_time,
    },
    line::{Header, Line, Stamp},
    reader::{Damage, Reader},
    segments::{folder, index},
};
use crate::Incomplete;

const OWNERS: usize = 1 << 16;

/// Syncs that have not ended: a session describes 16.
const HANGING: usize = 256;

/// Counts and sizes: what JSON's readers take for whole numbers.
const MAX_COUNT: u64 = 1 << 53;

/// Parts of the same run may overlap by at most this much.
const OVERLAP_NS: u64 = 2_000_000_000;

/// The time between two looks at whether the clock was set.
const CLOCK_NS: u64 = 10_000_000_000;

/// Why a replay stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Played {
    /// The time was reached that was asked for.
    Until,
    /// There is no more to be read.
    Whole,
}

/// Why a file is not played at all.
enum Refused {
    /// It is not a recording, for this reason.
    Foreign(String),
    /// It is a recording of this version, which is another than ours.
    Version(u32),
}

impl Refused {
    fn no_header() -> Self {
        Self::Foreign("its first line is not a recording's header".to_owned())
    }

    /// The one sentence for the user of the file.
    fn of(self, name: &str) -> Incomplete {
        Incomplete(match self {
            Self::Foreign(why) => format!("`{name}` is not a recording of tracer's: {why}"),
            Self::Version(version) => format!(
                "`{name}` is a recording in version {version} of the format, and this tracer reads \
                 version {VERSION} only: replay it with the tracer that recorded it, or record \
                 again with this one"
            ),
        })
    }
}

impl From<Damage> for Refused {
    fn from(damage: Damage) -> Self {
        Self::Foreign(damage.to_string())
    }
}

fn check_stamp(stamp: Option<Stamp>) -> Result<(), Refused> {
    match stamp {
        Some(Stamp { format, version: VERSION }) if format == FORMAT => Ok(()),
        Some(Stamp { format, version }) if format == FORMAT => Err(Refused::Version(version)),
        _ => Err(Refused::no_header()),
    }
}

/// A recording being played, or the segments of a directory one after another.
pub struct Replay {
    /// For messages.
    name: String,
    reader: Reader,
    /// The segments that follow; `None` for a single file.
    rest: Option<VecDeque<PathBuf>>,
    breaks: Breaks,
    checkpoints: Checkpoints,
    marks: Marks,
    /// This is added to the kernel's times of this part: those of another boot begin
    /// again.
    shift_ns: i64,
    /// The clock of this part, as it is written there.
    part_clock: Clock,
    boot: Option<String>,
    /// Disks that this part has not spoken of yet.
    stale_disks: Vec<u32>,
    ticked_ns: Option<u64>,
    scene: Scene,
    names: Names,
    owners: HashMap<u32, KnownOwner>,
    windows: Windows,
    /// The hanging syncs of the next tick, and how many more there were.
    hanging: (Vec<Hanging>, usize),
    /// The number of syncs that have not ended before the next tick.
    unfinished: usize,
    stacks: Vec<Stack>,
    now_ns: u64,
    ended: bool,
    damage: Option<Damage>,
}

impl Replay {
    /// Opens a recording, or a directory of segments; `-` is standard input.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, and [`Incomplete`] when it is none.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_from(path, f64::NEG_INFINITY)
    }

    /// Opens it likewise; segments that end long before this moment, in Unix seconds, are left
    /// out. Some time before it is played too, so that what is usual is known.
    ///
    /// # Errors
    ///
    /// As [`Replay::open`].
    pub fn open_from(path: &Path, from: f64) -> Result<Self> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Self::new(name, io::stdin());
        }
        if !path.is_dir() {
            let file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
            return Self::new(name, file);
        }
        let segments = index::since(path, from)
            .with_context(|| format!("failed to read the directory `{name}`"))?;
        let paths = segments.into_iter().map(|one| one.found.path);
        Self::of_segments(name, paths.collect())
    }

    fn of_segments(name: String, mut paths: VecDeque<PathBuf>) -> Result<Self> {
        let mut refused = None;
        while let Some(path) = paths.pop_front() {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let of = format!("{name}/{file}");
            match folder::open(&path).map_err(Into::into).and_then(|file| Self::new(of, file)) {
                Ok(replay) => return Ok(Self { name, rest: Some(paths), ..replay }),
                Err(error) => refused = Some(error),
            }
        }
        let none = || {
            Incomplete(format!(
                "there is no recording in `{name}`: `tracer agent --record {name}` keeps one there"
            ))
        };
        Err(refused.unwrap_or_else(|| none().into()))
    }

    /// Replays anything that can be read.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] when it is not a recording.
    pub fn new(name: String, source: impl Read + 'static) -> Result<Self> {
        let mut reader =
            Reader::new(source).map_err(|damage| Refused::Foreign(damage.why).of(&name))?;
        let first = reader.first_line(check_stamp).map_err(|refused| refused.of(&name))?;
        let Line::Header(header) = first else { return Err(Refused::no_header().of(&name).into()) };
        let Header { started_ns, clock, kernel, boot, .. } = header;
        check_kernel(&kernel).map_err(|why| Refused::Foreign(why).of(&name))?;
        let now_ns = started_ns.min(MAX_TIME_NS);
        Ok(Self {
            reader,
            rest: None,
            breaks: Breaks::default(),
            checkpoints: Checkpoints::default(),
            marks: Marks::default(),
            shift_ns: 0,
            part_clock: clock,
            boot,
            stale_disks: Vec::new(),
            ticked_ns: None,
            scene: Scene::new(kernel, clock, now_ns)?,
            names: Names::default(),
            owners: HashMap::new(),
            windows: Windows::default(),
            hanging: Default::default(),
            unfinished: 0,
            stacks: Vec::new(),
            now_ns,
            ended: false,
            damage: None,
            name,
        })
    }

    /// Calls it by another name than that of its file, in messages.
    #[must_use]
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// The present time of the replay, in the recorded kernel's time.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The present time of the replay, in Unix seconds.
    pub fn now(&self) -> f64 {
        self.scene.clock().unix_seconds(self.now_ns)
    }

    /// The times up to now of which nothing is known.
    pub fn breaks(&self) -> &[Break] {
        self.breaks.kept()
    }

    /// Plays until `until_ns`, or until the time `until` in Unix seconds, or to the end.
    pub fn play_both(
        &mut self,
        until_ns: u64,
        until: f64,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Played {
        loop {
            // The clock may be set on the way.
            let end_ns = self.scene.clock().monotonic_ns(until).min(until_ns);
            if self.now_ns >= end_ns {
                return Played::Until;
            }
            let soon_ns = self.now_ns.saturating_add(CLOCK_NS).min(end_ns);
            if self.play(soon_ns, slow_ns, slow) == Played::Whole {
                return Played::Whole;
            }
        }
    }

    /// Plays until `until_ns`, or to the end. Syncs of at least `slow_ns` are also
    /// described one by one, in `slow`.
    pub fn play(
        &mut self,
        until_ns: u64,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Played {
        while self.damage.is_none() {
            if self.now_ns >= until_ns {
                return Played::Until;
            }
            let is_segment = self.reader.is_segment();
            let taken = match self.reader.next_line() {
                Ok(Some(Line::Header(header))) if is_segment => self.begin_part(header, None),
                Ok(Some(line)) if self.ended && !matches!(line, Line::Copied(_)) => {
                    Err("something follows its end".to_owned())
                }
                Ok(Some(line)) => self.ingest_line(line, slow_ns, slow),
                Ok(None) if self.ended || self.rest.is_some() => match self.next_segment(None) {
                    true => continue,
                    false => break,
                },
                Ok(None) => Err("it has no end: the recorder was stopped".to_owned()),
                Err(damage) if self.rest.is_some() => match self.next_segment(Some(damage)) {
                    true => continue,
                    false => break,
                },
                Err(damage) => {
                    self.damage = Some(damage);
                    break;
                }
            };
            let damage = taken.err().map(|why| self.reader.damage(why));
            match damage {
                Some(damage) if self.rest.is_some() => {
                    if !self.next_segment(Some(damage)) {
                        break;
                    }
                }
                damage => self.damage = damage,
            }
        }
        Played::Whole
    }

    /// A snapshot of the last seconds that were played, or of the period.
    pub fn snapshot_of(&mut self, span: Span) -> Snapshot {
        self.scene.snapshot(span, self.now_ns, &mut self.names)
    }

    /// Begins a new period for snapshots.
    pub fn begin_period(&mut self) {
        self.scene.begin_period(self.now_ns);
    }

    /// Whether all of it was read and nothing was wrong.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] when it ends too early or something in it cannot be.
    pub fn check(&self) -> Result<()> {
        match &self.damage {
            None => Ok(()),
            Some(damage) => {
                let Self { name, .. } = self;
                Err(Incomplete(format!("`{name}` was read only in part: {damage}")).into())
            }
        }
    }

    /// The disks as they were last.
    pub fn disks(&self) -> &[DiskState] {
        &self.scene.disks
    }

    /// Syncs that had not ended at the last tick, the oldest first.
    pub fn hanging(&self) -> &[Hanging] {
        &self.scene.hanging
    }

    /// Processes that waited at the last tick to write to a frozen filesystem, the longest wait first.
    pub fn frozen(&mut self) -> Vec<Frozen> {
        self.scene.frozen(self.now_ns, &mut self.names)
    }

    /// Everybody who was named.
    pub fn actors(&self) -> &Actors {
        &self.scene.actors
    }

    fn ingest_line(
        &mut self,
        line: Line,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Result<(), String> {
        let shift_ns = self.shift_ns;
        if matches!(line, Line::Sync(_) | Line::Syncs(_) | Line::Tick(_)) {
            self.checkpoints.end();
        }
        match line {
            Line::Header(_) => return Err("another recording begins".to_owned()),
            Line::Owner(line) => {
                if self.owners.len() >= OWNERS && !self.owners.contains_key(&line.id) {
                    return Err("too many owners".to_owned());
                }
                self.owners.insert(line.id, KnownOwner::of(&line));
            }
            Line::Identity(identity) => {
                check_actor(&identity.actor)?;
                self.scene.actors.learn(identity.id.into(), identity.actor, self.now_ns);
                // A replay writes no names, so it does not need the changed ones.
                self.scene.actors.drain_changed(|_, _| ());
            }
            Line::File(file) => {
                check_texts(&[&file.path])?;
                self.names.learn_file(file.id, file.class, file.path, file.device);
            }
            Line::Device(device) => {
                check_texts(&[&device.name])?;
                self.names.devices.put(device.device, device.name);
            }
            Line::Disk(disk) => self.disk(disk)?,
            Line::Sync(mut sync) => {
                sync.begin_ns = shifted(sync.begin_ns, shift_ns)?;
                self.sync(&sync, slow_ns, slow)?;
            }
            Line::Syncs(mut syncs) => {
                syncs.sum.begin_ns = shifted(syncs.sum.begin_ns, shift_ns)?;
                self.syncs(&syncs)?;
            }
            Line::Unfinished(mut sync) => {
                sync.begin_ns = shifted(sync.begin_ns, shift_ns)?;
                self.unfinished(&sync)?;
            }
            Line::Hanging(one) => {
                if self.hanging.0.len() >= HANGING {
                    return Err("too many syncs that have not ended".to_owned());
                }
                check_hanging(&one)?;
                self.hanging.0.push(*one);
            }
            Line::HangingLeftOut(left_out) => self.hanging.1 = left_out,
            Line::Stack(stack) => {
                if self.stacks.len() >= DISKS {
                    return Err("too many stacks".to_owned());
                }
                check_facts(&stack.facts)?;
                self.stacks.push(stack);
            }
            Line::Kernel(kernel) => {
                check_kernel(&kernel)?;
                self.scene.kernel = kernel;
            }
            Line::Dropped(counts) => {
                for (name, count) in counts {
                    // A later version may know more kinds.
                    if let Some(kind) = Dropped::find(&name) {
                        self.scene.metrics.set_dropped(kind, count.min(MAX_COUNT));
                    }
                }
            }
            Line::Clock(clock) => self.set_clock(clock),
            Line::Mark(mark) => self.mark(mark)?,
            Line::ReachedNs(at_ns) => {
                let at_ns = shifted(at_ns, shift_ns)?;
                check_time(at_ns)?;
                self.now_ns = self.now_ns.max(at_ns);
            }
            Line::Checkpoint(one) => self.checkpoint(&one),
            Line::CheckpointsLeftOut(count) => self.checkpoints.leave_out(count),
            Line::Tick(mut tick) => {
                tick.at_ns = shifted(tick.at_ns, shift_ns)?;
                self.tick(&tick)?;
            }
            // The recording goes on, but this copy of it is whole.
            Line::Copied(_) => self.ended = true,
            Line::End(end) => {
                let at_ns = shifted(end.at_ns, shift_ns)?;
                check_time(at_ns)?;
                self.now_ns = self.now_ns.max(at_ns);
                self.ended = true;
            }
            Line::Unknown => {}
        }
        Ok(())
    }

    /// The wall clock was set, or the machine was suspended.
    fn set_clock(&mut self, clock: Clock) {
        let (from, before) = (self.now(), self.part_clock);
        self.part_clock = clock;
        self.scene.set_clock(clock.behind(self.shift_ns));
        let step = clock.ahead_of(before) as f64 / 1e9;
        if step.abs() > SILENCE_SECONDS {
            let (at_ns, to) = (self.now_ns, from + step);
            self.breaks.add(Break { at_ns, from, to, why: Why::Clock });
        }
    }

    /// Ticks come once a second, unless the tracer is held up.
    fn note_silence(&mut self, at_ns: u64) {
        let before_ns = self.ticked_ns.replace(at_ns);
        let clock = self.scene.clock();
        let between = before_ns.map(|before_ns| (before_ns, at_ns));
        if let Some([from, to]) = between.map(|(a, b)| [a, b].map(|ns| clock.unix_seconds(ns)))
            && to - from > SILENCE_SECONDS
        {
            self.breaks.add(Break { at_ns, from, to, why: Why::Silent });
        }
    }
}

/// The damage of a file from which nothing could be read.
fn begin(why: String) -> Damage {
    Damage { line: 1, byte: 0, why }
}

fn shifted(ns: u64, by_ns: i64) -> Result<u64, String> {
    ns.checked_add_signed(by_ns).ok_or_else(|| format!("a moment of {ns} ns"))
}
