//! Plays a recording: its lines feed a scene, as a session's kernel does.
//!
//! Time is the recording's. Every number and every string is checked before
//! anything else sees it, and everything that grows has a bound; the first line
//! that does not hold ends the replay, with what came before it intact.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use lru::LruCache;
use tracer_ebpf::{
    dropped::Dropped,
    histogram::BUCKETS,
    record::{ACCOUNTS, NO_DISK, UNDERLYING, UnderlyingWindow, op},
};

use super::{
    FORMAT, VERSION,
    breaks::{Break, Breaks, SILENCE_SECONDS, Why},
    checks::{
        LIST, MOST_LENGTH_NS, MOST_TIME_NS, TEXT_BYTES, check_actor, check_facts, check_hanging,
        check_kernel, check_texts, check_time,
    },
    line::{Account, Disk, DiskOwner, Header, Latency, Line, OwnerLine, Stamp, Sync, areas},
    reader::{Damage, Reader},
    segments::{folder, index},
};
use crate::Incomplete;
use tracer_engine::{
    blame::{Owner, OwnerId, Party},
    tick::Tick,
    usage::{Learnt, Rate},
    victim::Span,
};
use tracer_scene::{
    DiskState, Histograms, Scene, Stack, people::People, picture::Slow, stages::Taken,
};
use tracer_snapshot::{
    Hanging, SlowSync, Snapshot,
    clock::Clock,
    labels::FileNames,
    labels::{FileId, FileLabel, Labels},
};

/// Names of files and devices remembered: more than the writer trusts in.
const FILES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

const OWNERS: usize = 1 << 16;
const DISKS: usize = 4096;

/// Syncs that have not ended: a session describes 16.
const HANGING: usize = 256;

/// Counts and sizes: what JSON's readers take for whole numbers.
const MOST: u64 = 1 << 53;

/// This much before a moment is played too: a victim's baseline, and its evidence on
/// others, are learnt within some minutes.
const BEFORE_SECONDS: f64 = 900.0;

/// Parts of the same run may overlap by at most this much.
const OVERLAP_NS: u64 = 2_000_000_000;

/// Between two looks at whether the clock was set.
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
    /// This is added to the kernel's times of this part: those of another boot begin
    /// anew.
    shift_ns: i64,
    /// The clock of this part, as it is written there.
    part_clock: Clock,
    boot: Option<String>,
    /// Disks that this part has not spoken of yet.
    stale_disks: Vec<u32>,
    ticked_ns: Option<u64>,
    scene: Scene,
    names: Names,
    owners: HashMap<u32, (Party, u16)>,
    windows: Windows,
    /// Those of the tick that follows, and how many more there were.
    hanging: (Vec<Hanging>, usize),
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
        let segments =
            index::read(path).with_context(|| format!("failed to read the directory `{name}`"))?;
        let early = segments.iter().skip(1).take_while(|one| one.first <= from - BEFORE_SECONDS);
        let early = early.count();
        let paths = segments.into_iter().skip(early).map(|one| one.found.path);
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
        let header = first.header.ok_or_else(|| Refused::no_header().of(&name))?;
        let Header { started_ns, clock, kernel, boot, .. } = header;
        check_kernel(&kernel).map_err(|why| Refused::Foreign(why).of(&name))?;
        let now_ns = started_ns.min(MOST_TIME_NS);
        Ok(Self {
            reader,
            rest: None,
            breaks: Breaks::default(),
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
            stacks: Vec::new(),
            now_ns,
            ended: false,
            damage: None,
            name,
        })
    }

    /// When we are, in the recorded kernel's time.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// When we are, in Unix seconds.
    pub fn now(&self) -> f64 {
        self.scene.clock().unix_seconds(self.now_ns)
    }

    /// The times up to now of which nothing is known.
    pub fn breaks(&self) -> &[Break] {
        self.breaks.kept()
    }

    /// Goes on until `until_ns`, or this moment in Unix seconds, or to the end.
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

    /// Goes on until `until_ns`, or to the end. Syncs of at least `slow_ns` are
    /// also described one by one, in `slow`.
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
                Ok(Some(Line { header: Some(header), .. })) if is_segment => {
                    self.begin_part(header, None)
                }
                Ok(Some(_)) if self.ended => Err("something follows its end".to_owned()),
                Ok(Some(line)) => self.take(line, slow_ns, slow),
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

    /// A picture of the last seconds that were played, or of the period.
    pub fn snapshot_of(&mut self, span: Span) -> Snapshot {
        self.scene.snapshot(span, self.now_ns, &mut self.names)
    }

    /// From here on pictures of the period begin anew.
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

    /// Goes on with the next segment that can be read; false after the last.
    fn next_segment(&mut self, mut damage: Option<Damage>) -> bool {
        while let Some(path) = self.rest.as_mut().and_then(VecDeque::pop_front) {
            let opened = folder::open(&path).map_err(|error| begin(error.to_string()));
            let opened = opened.and_then(|file| {
                let mut reader = Reader::new(file)?;
                let first = reader.first_line(|stamp| match check_stamp(stamp) {
                    Ok(()) => Ok(()),
                    Err(Refused::Version(version)) => {
                        Err(begin(format!("it is in version {version}")))
                    }
                    Err(Refused::Foreign(why)) => Err(begin(why)),
                })?;
                Ok((reader, first))
            });
            match opened {
                Ok((reader, Line { header: Some(header), .. })) => {
                    self.reader = reader;
                    match self.begin_part(header, damage.take().map(|damage| damage.to_string())) {
                        Ok(()) => return true,
                        Err(why) => damage = Some(self.reader.damage(why)),
                    }
                }
                // A recorder that runs may have dropped it meanwhile.
                Ok(_) => damage = Some(begin("it has no header".to_owned())),
                Err(why) => damage = Some(why),
            }
        }
        if let Some(damage) = damage {
            let now = self.now();
            self.breaks.add(Break { from: now, to: now, why: Why::Damaged(damage.to_string()) });
        }
        false
    }

    /// Goes on with a part that names everything anew, perhaps of another boot.
    fn begin_part(&mut self, header: Header, damage: Option<String>) -> Result<(), String> {
        check_stamp(Some(Stamp { format: header.format, version: header.version }))
            .map_err(|_| "a recording of another version begins".to_owned())?;
        check_time(header.started_ns)?;
        if header.boot.as_ref().is_some_and(|boot| boot.len() > TEXT_BYTES) {
            return Err("a boot with too long a name".to_owned());
        }
        let Header { started_ns, clock, kernel, began, boot, .. } = header;
        check_kernel(&kernel)?;
        let from = self.now();
        let is_same_boot = match (&self.boot, &boot) {
            (Some(before), Some(now)) => before == now,
            _ => !clock.is_stepped_from(self.part_clock),
        };
        let went_on = started_ns
            .checked_add_signed(self.shift_ns)
            .is_some_and(|at| is_same_boot && at.saturating_add(OVERLAP_NS) >= self.now_ns);
        if !went_on {
            // The wall's clock says how much later it is.
            let later_ns = clock.ahead_of(self.part_clock).saturating_add(self.shift_ns);
            let at_ns = started_ns.checked_add_signed(later_ns).unwrap_or(0).max(self.now_ns);
            let shift_ns = at_ns.cast_signed().checked_sub(started_ns.cast_signed());
            self.shift_ns = shift_ns.unwrap_or(0);
        }
        let started_ns = shifted(started_ns, self.shift_ns)?;
        check_time(started_ns)?;
        self.now_ns = self.now_ns.max(started_ns);
        self.scene.set_clock(clock.behind(self.shift_ns));
        let to = self.scene.clock().unix_seconds(self.now_ns);
        let why = Why::of(began, is_same_boot, self.ended, damage, to - from);
        if let Some(why) = why {
            self.breaks.add(Break { from, to, why });
        }
        (self.part_clock, self.boot, self.ended) = (clock, boot, false);
        self.ticked_ns = None;
        self.scene.kernel = kernel;
        self.scene.hanging.clear();
        self.hanging = Default::default();
        self.scene.stacks.clear();
        self.stacks.clear();
        self.stale_disks = self.scene.disks.iter().map(|disk| disk.index).collect();
        self.owners.clear();
        self.names.files.clear();
        self.names.devices.clear();
        Ok(())
    }

    /// The disks as they were last.
    pub fn disks(&self) -> &[DiskState] {
        &self.scene.disks
    }

    /// Syncs that had not ended at the last tick, the oldest first.
    pub fn hanging(&self) -> &[Hanging] {
        &self.scene.hanging
    }

    /// Everybody who was named.
    pub fn people(&self) -> &People {
        &self.scene.people
    }

    fn take(
        &mut self,
        line: Line,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Result<(), String> {
        let Line { header, owner, identity, file, device, disk, sync, .. } = line;
        let Line { hanging, hanging_left_out, stack, kernel, .. } = line;
        let Line { dropped, clock, tick, end, .. } = line;
        let shift_ns = self.shift_ns;
        if header.is_some() {
            return Err("another recording begins".to_owned());
        }
        if let Some(OwnerLine { id, party, op }) = owner {
            if self.owners.len() >= OWNERS && !self.owners.contains_key(&id) {
                return Err("too many owners".to_owned());
            }
            self.owners.insert(id, (party.into(), op as u16));
        }
        if let Some(identity) = identity {
            check_actor(&identity.actor)?;
            self.scene.people.learn(identity.party.into(), identity.actor, self.now_ns);
            // Nobody asks here.
            self.scene.people.take_news(|_, _| ());
        }
        if let Some(file) = file {
            check_texts(&[&file.path])?;
            self.names.learn_file(file.id, file.class, file.path, file.device);
        }
        if let Some(device) = device {
            check_texts(&[&device.name])?;
            self.names.devices.put(device.device, device.name);
        }
        if let Some(disk) = disk {
            self.disk(disk)?;
        }
        if let Some(mut sync) = sync {
            sync.begin_ns = shifted(sync.begin_ns, shift_ns)?;
            self.sync(&sync, slow_ns, slow)?;
        }
        if let Some(one) = hanging {
            if self.hanging.0.len() >= HANGING {
                return Err("too many syncs that have not ended".to_owned());
            }
            check_hanging(&one)?;
            self.hanging.0.push(one);
        }
        if let Some(left_out) = hanging_left_out {
            self.hanging.1 = left_out;
        }
        if let Some(stack) = stack {
            if self.stacks.len() >= DISKS {
                return Err("too many stacks".to_owned());
            }
            check_facts(&stack.facts)?;
            self.stacks.push(stack);
        }
        if let Some(kernel) = kernel {
            check_kernel(&kernel)?;
            self.scene.kernel = kernel;
        }
        for (name, count) in dropped.iter().flatten() {
            // A later version may know more kinds.
            if let Some(kind) = Dropped::find(name) {
                self.scene.metrics.set_dropped(kind, (*count).min(MOST));
            }
        }
        if let Some(clock) = clock {
            self.set_clock(clock);
        }
        if let Some(mut tick) = tick {
            tick.at_ns = shifted(tick.at_ns, shift_ns)?;
            self.tick(&tick)?;
        }
        if let Some(end) = end {
            let at_ns = shifted(end.at_ns, shift_ns)?;
            check_time(at_ns)?;
            self.now_ns = self.now_ns.max(at_ns);
            self.ended = true;
        }
        Ok(())
    }

    fn sync(
        &mut self,
        sync: &Sync,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Result<(), String> {
        check_time(sync.begin_ns)?;
        let longest_ns = sync.longest_ns();
        if longest_ns > MOST_LENGTH_NS {
            return Err(format!("a sync of {longest_ns} ns"));
        }
        self.windows.fill(sync, &self.owners)?;
        let record = sync.record();
        let Windows { first, underlying, underlying_owners } = &self.windows;
        let owners = |disk| match underlying.iter().position(|w| w.disk == u64::from(disk)) {
            _ if disk == record.disk => first,
            Some(at) => &underlying_owners[at],
            None => &NOBODY,
        };
        let file = self.names.file(sync.file);
        let taken = Taken { record: &record, underlying, file, need_ns: sync.need_ns };
        let judged = self.scene.take(&taken, owners);
        self.now_ns = self.now_ns.max(sync.end_ns());
        if slow_ns.is_some_and(|slow_ns| record.duration_ns >= slow_ns) {
            let sync = Slow { sync: taken, judged: &judged, owners: first, tgid: &|_| 0 };
            slow.push(self.scene.slow_sync(&sync, &mut self.names));
        }
        Ok(())
    }

    fn tick(&mut self, tick: &Tick) -> Result<(), String> {
        check_time(tick.at_ns)?;
        let Tick { journals, contenders, reclaimers, limits, helpers, disks, .. } = tick;
        let lists = [journals.len(), contenders.len(), reclaimers.len(), limits.len()];
        let lists = lists.into_iter().chain([helpers.len(), disks.len()]);
        let loads = disks.iter().map(|disk| disk.loads.len());
        if lists.chain(loads).any(|length| length > LIST) {
            return Err("a tick of too many parties".to_owned());
        }
        let limited = limits.iter().map(|limit| limit.ns);
        let lengths = limited.chain([tick.steal_ns]);
        let shares = contenders.iter().map(|r| r.ns).chain(reclaimers.iter().map(|r| r.ns));
        let disk_ns = disks.iter().map(|disk| disk.length_ns);
        let helped =
            helpers.iter().flat_map(|one| [one.cpu_ns, one.limit_ns, one.disk_ns, one.of_ns]);
        if lengths.chain(shares).chain(disk_ns).chain(helped).any(|ns| ns > MOST_LENGTH_NS) {
            return Err("a tick of more time than there is".to_owned());
        }
        let settings: Vec<_> = limits.iter().map(|limit| limit.setting.as_str()).collect();
        check_texts(&settings)?;
        for one in helpers {
            check_texts(&[&one.comm, &one.cgroup, &one.setting, &one.own_disk])?;
        }
        if let Some(owner) = tick.owners().find(|o| !self.owners.contains_key(&o.0) && o.0 != 0) {
            return Err(format!("it speaks of owner {} and never said who that is", owner.0));
        }
        self.note_silence(tick.at_ns);
        let party = |owner: OwnerId| self.owners.get(&owner.0).map(|(party, _)| *party);
        self.scene.tick(tick, |owner| party(owner).unwrap_or_default());
        (self.scene.hanging, self.scene.hanging_left_out) = std::mem::take(&mut self.hanging);
        self.scene.stacks = std::mem::take(&mut self.stacks);
        self.now_ns = self.now_ns.max(tick.at_ns);
        let stale = std::mem::take(&mut self.stale_disks);
        self.scene.disks.retain(|disk| !stale.contains(&disk.index));
        Ok(())
    }

    /// The wall's clock was set, or the machine was suspended.
    fn set_clock(&mut self, clock: Clock) {
        let (from, before) = (self.now(), self.part_clock);
        self.part_clock = clock;
        self.scene.set_clock(clock.behind(self.shift_ns));
        let step = clock.ahead_of(before) as f64 / 1e9;
        if step.abs() > SILENCE_SECONDS {
            self.breaks.add(Break { from, to: from + step, why: Why::Clock });
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
            self.breaks.add(Break { from, to, why: Why::Silent });
        }
    }

    fn disk(&mut self, line: Disk) -> Result<(), String> {
        let known_as = line.known_as.as_deref().unwrap_or_default();
        check_texts(&[&line.name, known_as, &line.scheduler])?;
        let work = line.work.as_ref().map_or(0, Vec::len);
        if line.owners.len() > ACCOUNTS || work > LIST || line.latencies.len() > op::COUNT {
            return Err("a disk of too many owners".to_owned());
        }
        let known = self.scene.disks.iter().position(|disk| disk.index == line.index);
        let at = match known {
            Some(at) => at,
            None if self.scene.disks.len() >= DISKS => return Err("too many disks".to_owned()),
            None => {
                self.scene.disks.push(DiskState { index: line.index, ..DiskState::default() });
                self.scene.disks.len() - 1
            }
        };
        let rates: Result<Vec<_>, _> = line.owners.iter().map(|row| self.rate(row)).collect();
        let disk = &mut self.scene.disks[at];
        disk.rates = rates?;
        let is_stale = self.stale_disks.contains(&line.index);
        self.stale_disks.retain(|index| *index != line.index);
        if disk.name != line.name || is_stale {
            // Another disk has the index now, or its sums are written anew.
            disk.latencies.clear();
            disk.work.clear();
        }
        (disk.name, disk.scheduler, disk.in_flight) = (line.name, line.scheduler, line.in_flight);
        disk.known_as = line.known_as;
        disk.reference_at = line.reference_at;
        disk.uncounted_share = line.uncounted_share;
        if let Some(work) = line.work {
            let learnt = work.into_iter().map(|known| Learnt {
                op: known.op as u16,
                bytes_up_to: known.bytes_up_to,
                ns: known.ns,
                samples: known.samples,
            });
            disk.work = learnt.collect();
        }
        line.latencies.iter().try_for_each(|latency| add_latency(disk, latency))
    }

    fn rate(&self, row: &DiskOwner) -> Result<Rate, String> {
        let (party, op) = find_owner(&self.owners, row.owner)?;
        Ok(Rate {
            owner: OwnerId(row.owner),
            party,
            op,
            tgid: row.tgid,
            requests_per_second: row.requests_per_second,
            bytes_per_second: row.bytes_per_second,
            in_flight: row.in_flight,
            requests_total: row.requests_total,
            bytes_total: row.bytes_total,
        })
    }
}

static NOBODY: [Owner; ACCOUNTS] = [Owner::NOBODY; ACCOUNTS];

/// The requests in flight during one sync, in the form that the engine takes.
struct Windows {
    first: [Owner; ACCOUNTS],
    underlying: Vec<UnderlyingWindow>,
    underlying_owners: Vec<[Owner; ACCOUNTS]>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { first: NOBODY, underlying: Vec::new(), underlying_owners: Vec::new() }
    }
}

impl Windows {
    fn fill(&mut self, sync: &Sync, known: &HashMap<u32, (Party, u16)>) -> Result<(), String> {
        self.first = owners_of(&sync.in_flight, known)?;
        self.underlying.clear();
        self.underlying_owners.clear();
        if sync.underlying.len() > UNDERLYING {
            return Err("a sync on too many disks".to_owned());
        }
        for underlying in &sync.underlying {
            if Some(underlying.disk) == sync.disk || underlying.disk == NO_DISK {
                return Err("a sync that waits twice for one disk".to_owned());
            }
            self.underlying_owners.push(owners_of(&underlying.in_flight, known)?);
            let areas = areas(&underlying.in_flight);
            self.underlying.push(UnderlyingWindow { disk: underlying.disk.into(), areas });
        }
        Ok(())
    }
}

fn owners_of(
    accounts: &[Account],
    known: &HashMap<u32, (Party, u16)>,
) -> Result<[Owner; ACCOUNTS], String> {
    if accounts.len() > ACCOUNTS {
        return Err(format!("{} accounts on one disk", accounts.len()));
    }
    let mut owners = NOBODY;
    for (owner, (id, _, weight_ns)) in owners.iter_mut().zip(accounts) {
        let (Party { cgroup, comm, kthread }, op) = find_owner(known, *id)?;
        let (id, weight_ns) = (OwnerId(*id), *weight_ns);
        *owner = Owner { id, cgroup, comm, kthread, op, weight_ns };
    }
    Ok(owners)
}

/// Owner 0 is everybody who found no account.
fn find_owner(known: &HashMap<u32, (Party, u16)>, id: u32) -> Result<(Party, u16), String> {
    match known.get(&id) {
        _ if id == 0 => Ok((Party::default(), 0)),
        Some(owner) => Ok(*owner),
        None => Err(format!("it speaks of owner {id} and never said who that is")),
    }
}

fn add_latency(disk: &mut DiskState, latency: &Latency) -> Result<(), String> {
    let code = latency.op as u16;
    if usize::from(code) >= op::COUNT {
        return Err(format!("requests of the kind `{}`", latency.op.name()));
    }
    let at = disk.latencies.iter().position(|of| of.op == code).unwrap_or_else(|| {
        let fresh = Histograms { op: code, bytes: 0, queue: [0; BUCKETS], device: [0; BUCKETS] };
        disk.latencies.push(fresh);
        disk.latencies.len() - 1
    });
    let of = &mut disk.latencies[at];
    of.bytes = of.bytes.saturating_add(latency.bytes);
    for (counts, grown) in [(&mut of.queue, &latency.queue), (&mut of.device, &latency.device)] {
        for (bucket, count) in grown {
            let place = counts.get_mut(*bucket as usize);
            let place = place.ok_or_else(|| format!("a bucket {bucket} of {BUCKETS}"))?;
            *place = place.saturating_add(*count);
        }
    }
    // As a session has them.
    disk.latencies.sort_by_key(|of| of.op);
    Ok(())
}

/// Something is wrong with a file of which nothing was read.
fn begin(why: String) -> Damage {
    Damage { line: 1, byte: 0, why }
}

fn shifted(ns: u64, by_ns: i64) -> Result<u64, String> {
    ns.checked_add_signed(by_ns).ok_or_else(|| format!("a moment of {ns} ns"))
}

/// How the recording calls files and devices.
struct Names {
    labels: Labels,
    /// Ours by the recording's.
    files: LruCache<u32, FileId>,
    devices: LruCache<u32, String>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            labels: Labels::default(),
            files: LruCache::new(FILES),
            devices: LruCache::new(FILES),
        }
    }
}

impl Names {
    fn learn_file(
        &mut self,
        id: u32,
        class: tracer_snapshot::FileClass,
        path: String,
        device: u32,
    ) {
        let label = FileLabel { class, path, pattern: "recorded", device };
        self.files.put(id, self.labels.intern(label));
    }

    /// The file of an id; one that was forgotten, or was never named, is unknown.
    fn file(&mut self, id: u32) -> FileId {
        let file = self.files.get(&id).copied().unwrap_or_default();
        self.labels.touch(file);
        file
    }
}

impl FileNames for Names {
    fn label(&self, file: FileId) -> &FileLabel {
        self.labels.get(file)
    }

    fn device_name(&mut self, device: u32) -> &str {
        self.devices.get(&device).map_or("?", String::as_str)
    }
}
