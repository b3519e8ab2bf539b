//! Writes a recording: lines into a buffer, and once a second the buffer to the
//! file, as a gzip member of its own.
//!
//! So a recorder that is killed leaves a file that can be read up to its last second.
//! Whatever has a number is named once, before the number is first used. After an error
//! nothing more is written.

mod checkpoint;
mod half;

use std::{
    collections::HashMap,
    io::{self, Write},
    num::NonZeroUsize,
};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use lru::LruCache;
use serde::Serialize;
use tracer_ebpf::{
    histogram::BUCKETS,
    record::{ACCOUNTS, OwnerKey, via},
};

use super::{
    FORMAT, VERSION,
    line::{
        AloneTime, Began, Device, Disk, DiskOwner, End, File, Header, Identity, Latency, Mark,
        OwnerLine, Sync, Underlying, set_accounts,
    },
};
use crate::thinning::{Kept, Thinning};
use tracer_engine::{
    blame::{Owner, OwnerId},
    tick::Tick,
};
use tracer_scene::{DiskState, Scene, actors::Actors, stages::SyncInput};
use tracer_snapshot::{
    DroppedCounts, Kernel, Op,
    clock::Clock,
    labels::{FileId, FileNames},
};

/// With this many bytes waiting, they are written before the second is over.
const FULL_BYTES: usize = 1 << 20;

/// Files and devices that are not named again: fewer than a reader remembers.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");

/// How much was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    pub syncs: u64,
    pub bytes: u64,
}

/// Takes a recording's lines, about a second at a time.
pub trait Sink {
    /// Takes whole lines, and returns how many bytes it made of them.
    ///
    /// # Errors
    ///
    /// When they cannot be written: then nothing more is handed over.
    fn put(&mut self, lines: &[u8]) -> io::Result<u64>;

    /// Whether it can take lines that the next ones replace.
    fn takes_halves(&self) -> bool {
        false
    }

    /// Takes the lines of a second that is not over. The next ones begin with the same
    /// lines, and replace them. Nothing says whether they were written.
    fn put_half(&mut self, _lines: &[u8]) {}
}

/// A file, or a pipe, of one gzip member after another.
struct Packed {
    out: Box<dyn Write>,
    packed: Vec<u8>,
}

impl Sink for Packed {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        self.packed.clear();
        // More than twice as fast as the usual level, and a tenth larger.
        let mut gzip = GzEncoder::new(&mut self.packed, Compression::new(3));
        gzip.write_all(lines)?;
        gzip.finish()?;
        self.out.write_all(&self.packed)?;
        self.out.flush()?;
        Ok(self.packed.len() as u64)
    }
}

/// Whether each sync has a line of its own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Grain {
    #[default]
    Whole,
    /// Most of the fast ones are added up, second by second.
    Thinned,
}

/// The fields that only a flight recorder's header has, and what it keeps.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub began: Option<Began>,
    pub boot: Option<String>,
    pub grain: Grain,
}

/// A recording being written.
pub struct Recorder {
    sink: Box<dyn Sink>,
    lines: Vec<u8>,
    progress: Progress,
    /// The error that kept a line from being written.
    failure: Option<io::Error>,
    sync: Sync,
    thinning: Option<Thinning>,
    owners: HashMap<u32, OwnerLine>,
    files: LruCache<FileId, ()>,
    devices: LruCache<u32, String>,
    disks: HashMap<u32, DiskState>,
    kernel: Kernel,
    dropped: DroppedCounts,
    clock: Clock,
}

impl Recorder {
    /// Writes the first line. What follows is what happens from the scene's
    /// period on.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn begin(out: Box<dyn Write>, scene: &Scene) -> Result<Self> {
        let sink = Packed { out, packed: Vec::new() };
        Self::begin_part(Box::new(sink), scene, scene.period_ns(), Part::default())
    }

    /// Writes the first line of a part of a longer recording. It names all actors again if
    /// they were marked as changed before, and everything else.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn begin_part(
        sink: Box<dyn Sink>,
        scene: &Scene,
        started_ns: u64,
        Part { began, boot, grain }: Part,
    ) -> Result<Self> {
        let mut recorder = Self {
            sink,
            lines: Vec::with_capacity(FULL_BYTES + (64 << 10)),
            progress: Progress::default(),
            failure: None,
            sync: Sync::default(),
            thinning: (grain == Grain::Thinned).then(Thinning::default),
            owners: HashMap::new(),
            files: LruCache::new(REMEMBERED),
            devices: LruCache::new(REMEMBERED),
            disks: HashMap::new(),
            kernel: scene.kernel.clone(),
            dropped: DroppedCounts::default(),
            clock: scene.clock(),
        };
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            tracer: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns,
            clock: scene.clock(),
            kernel: scene.kernel.clone(),
            began,
            boot,
        };
        recorder.put("header", &header);
        recorder.flush();
        recorder.check()?;
        Ok(recorder)
    }

    /// Writes a sync, and whom and what it names for the first time.
    pub fn sync<'a>(
        &mut self,
        input: SyncInput<'_>,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
        actors: &mut Actors,
        files: &mut dyn FileNames,
    ) {
        if self.failure.is_some() {
            return;
        }
        let sync = self.describe(input, owners, actors, files);
        let full = self.thinning.as_mut().map(|thinning| thinning.take_in(&sync));
        match full.unwrap_or(Kept::One) {
            Kept::One => self.put("sync", &sync),
            Kept::Sums(full) => full.iter().for_each(|sum| self.put("syncs", sum)),
        }
        self.sync = sync;
        self.progress.syncs += 1;
        if self.lines.len() >= FULL_BYTES {
            self.flush();
        }
    }

    /// Writes a sync that has not ended at the tick that follows, with its record until then, and
    /// whom and what it names for the first time.
    pub fn unfinished<'a>(
        &mut self,
        input: SyncInput<'_>,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
        actors: &mut Actors,
        files: &mut dyn FileNames,
    ) {
        if self.failure.is_none() {
            let sync = self.describe(input, owners, actors, files);
            self.put("unfinished", &sync);
            self.sync = sync;
        }
    }

    /// A sync as it is written, in the room that `self.sync` has for its lists.
    fn describe<'a>(
        &mut self,
        input: SyncInput<'_>,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
        actors: &mut Actors,
        files: &mut dyn FileNames,
    ) -> Sync {
        let SyncInput { record, underlying, file, need_ns } = input;
        self.identities(actors);
        self.name_file(file, record.device, files);
        self.name_owners(record.integrals(), owners(record.disk));
        for window in underlying {
            self.name_owners(&window.integrals, owners(window.disk as u32));
        }
        let mut sync = std::mem::take(&mut self.sync);
        sync.set_record(record);
        (sync.file, sync.need_ns) = (file.0, need_ns);
        set_accounts(&mut sync.in_flight, record.integrals(), owners(record.disk));
        sync.underlying.clear();
        sync.underlying.extend(underlying.iter().map(|window| {
            let disk = window.disk as u32;
            let mut in_flight = Vec::new();
            set_accounts(&mut in_flight, &window.integrals, owners(disk));
            Underlying { disk, in_flight }
        }));
        sync
    }

    /// Writes what somebody did or saw, after all syncs before it.
    pub fn mark(&mut self, mark: &Mark) {
        if self.failure.is_none() {
            self.put_sums();
            self.put("mark", mark);
        }
    }

    /// Writes a tick and what the scene was like at it, and all to the file.
    pub fn tick(&mut self, tick: &Tick, scene: &mut Scene, key: impl Fn(OwnerId) -> OwnerKey) {
        if self.failure.is_some() {
            return;
        }
        self.put_sums();
        self.identities(&mut scene.actors);
        for owner in tick.owners() {
            let Some(line) = OwnerLine::of_key(owner, &key(owner)) else { continue };
            // If only /proc shows kernel threads, their accounts know better.
            let is_known = self.owners.get(&owner.0).is_some_and(|known| {
                let kthread = known.actor.kthread || line.actor.kthread;
                let mut line = line.clone();
                line.actor.kthread = kthread;
                line == *known
            });
            if !is_known {
                self.name_owner(line);
            }
        }
        for disk in &scene.disks {
            self.disk(disk);
        }
        // A tick without such lines has no sync that hangs.
        for one in &scene.hanging {
            self.put("hanging", one);
        }
        if scene.hanging_left_out > 0 {
            self.put("hanging_left_out", &scene.hanging_left_out);
        }
        for stack in &scene.stacks {
            self.put("stack", stack);
        }
        if scene.kernel != self.kernel {
            self.put("kernel", &scene.kernel);
            self.kernel.clone_from(&scene.kernel);
        }
        let dropped = scene.metrics.dropped();
        if dropped != self.dropped {
            self.put("dropped", &dropped);
            self.dropped = dropped;
        }
        let clock = scene.clock();
        if clock.is_stepped_from(self.clock) {
            self.put("clock", &clock);
            self.clock = clock;
        }
        self.put("tick", tick);
        self.flush();
    }

    /// Writes the last line.
    ///
    /// # Errors
    ///
    /// When that, or anything before it, could not be written.
    pub fn end(mut self, at_ns: u64, scene: &mut Scene) -> Result<Progress> {
        self.check()?;
        self.put_sums();
        self.identities(&mut scene.actors);
        let syncs = self.progress.syncs;
        self.put("end", &End { at_ns, syncs });
        self.flush();
        self.check()
    }

    /// How much has been written.
    ///
    /// # Errors
    ///
    /// When something could not be.
    pub fn check(&mut self) -> Result<Progress> {
        match self.failure.take() {
            None => Ok(self.progress),
            Some(error) => {
                // The recording stays failed, because a line is missing.
                self.failure = Some(io::Error::from(error.kind()));
                Err(error).context("failed to write the recording")
            }
        }
    }

    /// Writes the syncs that have no line of their own.
    fn put_sums(&mut self) {
        let sums = self.thinning.as_mut().map(Thinning::drain).unwrap_or_default();
        sums.iter().for_each(|sum| self.put("syncs", sum));
    }

    fn identities(&mut self, actors: &mut Actors) {
        actors.drain_changed(|id, actor| {
            self.put("identity", &Identity { id: (*id).into(), actor: actor.clone() });
        });
    }

    fn name_owners(&mut self, integrals: &[u64], owners: &[Owner; ACCOUNTS]) {
        for (_, owner) in
            integrals.iter().zip(owners).filter(|(integral, _)| integral.cast_signed() > 0)
        {
            OwnerLine::of_owner(owner).into_iter().for_each(|line| self.name_owner(line));
        }
    }

    fn name_owner(&mut self, line: OwnerLine) {
        let known = self.owners.get(&line.id);
        if line.id != 0 && known != Some(&line) {
            if known.is_some() {
                // Sums speak of the one before.
                self.put_sums();
            }
            self.put("owner", &line);
            self.owners.insert(line.id, line);
        }
    }

    fn name_file(&mut self, file: FileId, device: u32, files: &mut dyn FileNames) {
        let label = files.label(file);
        let of_label = label.device;
        if self.files.get(&file).is_none() {
            let (class, path) = (label.class, label.path.clone());
            self.put("file", &File { id: file.0, class, path, device: of_label });
            self.files.put(file, ());
        }
        for device in [device, of_label] {
            let name = files.device_name(device);
            if device != 0 && self.devices.get(&device).is_none_or(|known| known != name) {
                let name = name.to_owned();
                self.put("device", &Device { device, name: name.clone() });
                self.devices.put(device, name);
            }
        }
    }

    /// Writes a disk where anything has changed.
    fn disk(&mut self, disk: &DiskState) {
        // A disk with another name is another disk, whose sums begin again.
        let before = self.disks.remove(&disk.index).filter(|before| before.name == disk.name);
        if before.as_ref() != Some(disk) {
            for rate in &disk.rates {
                let actor = rate.actor.into();
                let Some(op) = Op::of_code(rate.op) else { continue };
                let via = self.owners.get(&rate.owner.0).map_or(via::DIRECT, |known| known.via);
                self.name_owner(OwnerLine { id: rate.owner.0, actor, op, via });
            }
            let line = disk_line(disk, &before.unwrap_or_default());
            self.put("disk", &line);
        }
        self.disks.insert(disk.index, disk.clone());
    }

    fn put(&mut self, what: &str, value: &impl Serialize) {
        let lines = &mut self.lines;
        let written = write!(lines, "{{\"{what}\":")
            .and_then(|()| serde_json::to_writer(&mut *lines, value).map_err(io::Error::from))
            .and_then(|()| lines.write_all(b"}\n"));
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
    }

    /// Hands over the lines so far.
    fn flush(&mut self) {
        if self.failure.is_some() {
            return;
        }
        match self.sink.put(&self.lines) {
            Ok(bytes) => self.progress.bytes += bytes,
            Err(error) => self.failure = Some(error),
        }
        self.lines.clear();
    }
}

fn disk_line(disk: &DiskState, before: &DiskState) -> Disk {
    let owners = disk.rates.iter().map(|rate| DiskOwner {
        owner: rate.owner.0,
        tgid: rate.tgid,
        requests_per_second: rate.requests_per_second,
        bytes_per_second: rate.bytes_per_second,
        in_flight: rate.in_flight,
        requests_total: rate.requests_total,
        bytes_total: rate.bytes_total,
    });
    let work = disk.work.iter().filter_map(|learnt| {
        Some(AloneTime {
            op: Op::of_code(learnt.op)?,
            bytes_up_to: learnt.bytes_up_to,
            ns: learnt.ns,
            samples: learnt.samples,
        })
    });
    let latencies = disk.latencies.iter().filter_map(|now| {
        let then = before.latencies.iter().find(|then| then.op == now.op);
        let latency = Latency {
            op: Op::of_code(now.op)?,
            bytes: now.bytes.wrapping_sub(then.map_or(0, |then| then.bytes)),
            queue: growth(&now.queue, then.map(|then| &then.queue)),
            device: growth(&now.device, then.map(|then| &then.device)),
        };
        (!latency.queue.is_empty() || !latency.device.is_empty()).then_some(latency)
    });
    Disk {
        index: disk.index,
        name: disk.name.clone(),
        known_as: disk.known_as.clone().filter(|name| !name.is_empty()),
        scheduler: disk.scheduler.clone(),
        in_flight: disk.in_flight,
        owners: owners.collect(),
        work: (disk.work != before.work).then(|| work.collect()),
        reference_at: disk.reference_at,
        uncounted_share: disk.uncounted_share,
        latencies: latencies.collect(),
    }
}

/// Buckets that grew, and by how much.
fn growth(now: &[u64; BUCKETS], then: Option<&[u64; BUCKETS]>) -> Vec<(u32, u64)> {
    let grown = now.iter().enumerate().map(|(bucket, count)| {
        (bucket as u32, count.wrapping_sub(then.map_or(0, |then| then[bucket])))
    });
    grown.filter(|(_, count)| *count > 0).collect()
}
