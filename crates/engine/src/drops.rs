//! Finds who had the kernel drop its caches (`drop_caches`), and who reads back what was in them.
//!
//! The kernel marks the pages that it evicts when memory is short, and counts a page that comes
//! back as a refault. It does not mark the pages that it was asked to drop. So time and amount
//! decide: an actor that starts to read from a disk soon after the drop, or reads more than before,
//! is taken to read back what was dropped, until as many bytes were read as the caches had shrunk
//! by. Such evidence never makes a verdict of high confidence.

use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    suspect::READ_BACK,
    tick::Tick,
    victim::Victim,
};

/// Ticks that are looked back on: caches of many gigabytes are dropped for some seconds, and
/// the kernel says so at the end.
const TICKS: usize = 8;

/// An actor that reads back begins within this time.
const BEGINS_NS: u64 = 5_000_000_000;

/// Reads later than this after the last drop are nobody else's doing.
const LASTS_NS: u64 = 60_000_000_000;

/// Actors that are remembered, with a disk each.
const READERS: usize = 256;

/// The caches, and those who read.
#[derive(Debug, Default)]
pub struct Drops {
    /// The owner who dropped the caches last, and when.
    last: Option<(OwnerId, u64)>,
    /// Bytes that were dropped and not read back.
    left: u64,
    /// The size of the caches at the last ticks, the latest first.
    cached: [u64; TICKS],
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    disk: u32,
    actor: ActorId,
    /// Bytes that it read in the last ticks, the latest first.
    bytes: [u64; TICKS],
    /// How much it read in a tick before the caches were dropped, once it reads back.
    before: Option<u64>,
}

impl Reader {
    /// It reads back from this number of ticks ago on, if it does not do so already.
    fn read_back_since(&mut self, ago: usize) {
        let before = || self.bytes[ago..].iter().skip(1).copied().max().unwrap_or(0);
        self.before = self.before.or_else(|| Some(before()));
    }

    /// Bytes that it read back in the last tick.
    fn back(&self) -> u64 {
        self.before.map_or(0, |before| self.bytes[0].saturating_sub(before))
    }
}

impl Drops {
    /// Takes in what was read in the last second, and who dropped the caches.
    pub fn tick(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) {
        self.cached.rotate_right(1);
        self.cached[0] = tick.memory.cached_bytes;
        self.read(tick, actor);
        if let Some(by) = tick.drops.last() {
            self.begin(*by, tick.at_ns);
        }
        let Some((_, at_ns)) = self.last else { return };
        let ago_ns = tick.at_ns.saturating_sub(at_ns);
        let read: u64 = self.readers.iter().map(Reader::back).sum();
        self.left = self.left.saturating_sub(read);
        if self.left == 0 || ago_ns > LASTS_NS {
            self.last = None;
            self.readers.iter_mut().for_each(|reader| reader.before = None);
        } else if ago_ns <= BEGINS_NS {
            // Some find only later that their pages are gone.
            self.readers.iter_mut().for_each(|reader| reader.read_back_since(0));
        }
    }

    fn read(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) {
        for reader in &mut self.readers {
            reader.bytes.rotate_right(1);
            reader.bytes[0] = 0;
        }
        for work in &tick.disks {
            for load in work.loads.iter().filter(|load| load.reads && load.bytes > 0) {
                let who = (work.disk, actor(load.owner));
                let is_it = |reader: &Reader| (reader.disk, reader.actor) == who;
                let at = match self.readers.iter().position(is_it) {
                    Some(at) => at,
                    None if self.readers.len() < READERS => {
                        let (disk, actor) = who;
                        let bytes = [0; TICKS];
                        self.readers.push(Reader { disk, actor, bytes, before: None });
                        self.readers.len() - 1
                    }
                    None => continue,
                };
                self.readers[at].bytes[0] += load.bytes;
            }
        }
        let is_open = self.last.is_some();
        self.readers.retain(|reader| is_open || reader.bytes.iter().any(|bytes| *bytes > 0));
    }

    /// The caches were dropped since they were largest.
    fn begin(&mut self, by: OwnerId, at_ns: u64) {
        let (ago, largest) = (0..TICKS)
            .map(|ago| (ago, self.cached[ago]))
            .fold((0, 0), |most, one| if one.1 > most.1 { one } else { most });
        let since = |reader: &Reader| reader.bytes[..ago].iter().sum::<u64>();
        let read: u64 = self.readers.iter().map(since).sum();
        let fell = (largest - self.cached[0]).saturating_add(read);
        self.left = self.left.max(fell);
        self.last = Some((by, at_ns));
        self.readers.iter_mut().for_each(|reader| reader.read_back_since(ago));
    }

    /// The owner who dropped the caches, while they are read back.
    fn by(&self) -> Option<OwnerId> {
        self.last.map(|(by, _)| by)
    }

    /// The part of what an actor read from such disks in the last second that it read back.
    fn part(&self, actor: &ActorId, is_its: impl Fn(u32) -> bool) -> f64 {
        let its = self.readers.iter().filter(|one| one.actor == *actor && is_its(one.disk));
        let sums = its.map(|one| (one.back(), one.bytes[0]));
        let (back, all) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if all > 0 { back as f64 / all as f64 } else { 0.0 }
    }
}

/// The blame for a second's reads, before it is settled.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    pub by: OwnerId,
    /// The wait for the victim's own reads that read back.
    memory_ns: f64,
    read_back: f64,
}

impl Victim {
    /// Notes which part of everybody's reads reads back what was dropped; the second is settled
    /// next.
    pub(super) fn note_drops(&mut self, drops: &Drops) -> Option<Before> {
        let by = drops.by();
        let (disk, own) = (self.is_on_any(), self.actor());
        for suspect in &mut self.suspects {
            let part = if by.is_some() && suspect.actor != own {
                drops.part(&suspect.actor, &disk)
            } else {
                0.0
            };
            suspect.reads_back = part as f32;
        }
        let memory_ns = self.fresh.division.memory_ns * drops.part(&own, &disk);
        by.map(|by| Before { by, memory_ns, read_back: self.read_back() })
    }

    /// Charges who dropped the caches with the waits for what was read back.
    pub(super) fn charge_drops(&mut self, before: Before, actor: ActorId, until_ns: u64) {
        let read_back = (self.read_back() - before.read_back).max(0.0);
        let ns = before.memory_ns + read_back;
        if ns > 0.0 {
            self.blame_around(actor, before.by, op::DROP_CACHES, ns, until_ns);
        }
    }

    /// The wait behind others who read back, so far.
    fn read_back(&self) -> f64 {
        self.suspects.iter().map(|suspect| suspect.total[READ_BACK]).sum()
    }

    /// Whether a disk is one of its own.
    fn is_on_any(&self) -> impl Fn(u32) -> bool + use<> {
        let disks: Vec<_> = self.below().chain([self.disk]).collect();
        move |disk| disks.contains(&disk)
    }
}
