//! Finds who had the kernel drop its caches (`drop_caches`), and who reads back what was in them.
//!
//! The kernel marks the pages that it evicts when memory is short, and counts a page that comes
//! back as a refault. It does not mark the pages that it was asked to drop. So time and amount
//! decide: an actor that starts to read from a disk soon after the drop, or reads more than before,
//! is taken to read back what was dropped, until as many bytes were read as the caches had shrunk
//! by. Such evidence never makes a verdict of high confidence.
//!
//! A drop is often known some seconds before its owner is. Until then its charges are an unknown
//! actor's; a victim notes how much they are, and they go to the owner when its name comes.

use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    suspect::{READ_BACK, Suspect},
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

/// Drops of unknown owners that are remembered; a name that comes later than a minute is not
/// assigned any more.
const UNNAMED: usize = 16;
const NAMED_WITHIN_NS: u64 = LASTS_NS;

const CHARGE: usize = op::DROP_CACHES as usize;

/// A drop of the caches.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    number: u32,
    by: OwnerId,
    at_ns: u64,
}

/// The caches, and those who read.
#[derive(Debug, Default)]
pub struct Drops {
    last: Option<Dropped>,
    /// The number of drops so far.
    count: u32,
    /// Drops whose owner is not known, the oldest first.
    unnamed: Vec<Dropped>,
    /// Numbers of such drops, and the owners that became known at the last tick.
    named: Vec<(u32, OwnerId)>,
    /// Bytes that were dropped and not read back.
    left: u64,
    /// The part of what was read back in the last tick that is not beyond what was dropped.
    excused: f64,
    /// The size of the caches at the last ticks, the latest first.
    cached: [u64; TICKS],
    readers: Vec<Reader>,
    /// Drops whose owner cannot become known, and reads of those that are not remembered.
    left_out: u64,
}

#[derive(Debug)]
struct Reader {
    disk: u32,
    actor: ActorId,
    /// Bytes that it read in the last ticks, the latest first.
    bytes: [u64; TICKS],
    /// Those of them that it did not read back.
    own: [u64; TICKS],
    /// How much it read in a tick before the caches were dropped, once it reads back.
    before: Option<u64>,
}

impl Reader {
    /// It reads back from this number of ticks ago on, if it does not do so already.
    fn read_back_since(&mut self, ago: usize) {
        let before = || self.own[ago..].iter().skip(1).copied().max().unwrap_or(0);
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
        self.close(tick.at_ns);
        self.read(tick, actor);
        self.name(&tick.late_drops);
        for by in &tick.drops {
            self.begin(*by, tick.at_ns, actor(*by) == ActorId::default());
        }
        if let Some(last) = self.last
            && tick.at_ns.saturating_sub(last.at_ns) <= BEGINS_NS
        {
            // Some find only later that their pages are gone.
            self.readers.iter_mut().for_each(|reader| reader.read_back_since(0));
        }
        let read: u64 = self.readers.iter().map(Reader::back).sum();
        self.excused = self.left.min(read) as f64 / read.max(1) as f64;
        self.left = self.left.saturating_sub(read);
        for reader in &mut self.readers {
            let back = (reader.back() as f64 * self.excused) as u64;
            reader.own[0] = reader.bytes[0].saturating_sub(back);
        }
    }

    /// Forgets the last drop if all of it was read back, or if it is too long ago.
    fn close(&mut self, now_ns: u64) {
        let is_over = |at_ns: u64, ns: u64| now_ns.saturating_sub(at_ns) > ns;
        self.unnamed.retain(|one| !is_over(one.at_ns, NAMED_WITHIN_NS));
        if self.left == 0 || self.last.is_some_and(|last| is_over(last.at_ns, LASTS_NS)) {
            self.last = None;
            self.readers.iter_mut().for_each(|reader| reader.before = None);
        }
    }

    /// Assigns owners to the oldest drops that have none.
    fn name(&mut self, owners: &[OwnerId]) {
        self.named.clear();
        for by in owners.iter().take(self.unnamed.len()) {
            let Dropped { number, .. } = self.unnamed[self.named.len()];
            self.named.push((number, *by));
            if let Some(last) = self.last.as_mut().filter(|last| last.number == number) {
                last.by = *by;
            }
        }
        self.unnamed.drain(..self.named.len());
    }

    fn read(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) {
        for reader in &mut self.readers {
            reader.bytes.rotate_right(1);
            reader.own.rotate_right(1);
            (reader.bytes[0], reader.own[0]) = (0, 0);
        }
        for work in &tick.disks {
            for load in work.loads.iter().filter(|load| load.reads && load.bytes > 0) {
                let who = (work.disk, actor(load.owner));
                let is_it = |reader: &Reader| (reader.disk, reader.actor) == who;
                let at = match self.readers.iter().position(is_it) {
                    Some(at) => at,
                    None if self.readers.len() < READERS => {
                        let (disk, actor) = who;
                        let (bytes, own) = ([0; TICKS], [0; TICKS]);
                        self.readers.push(Reader { disk, actor, bytes, own, before: None });
                        self.readers.len() - 1
                    }
                    None => {
                        self.left_out += 1;
                        continue;
                    }
                };
                self.readers[at].bytes[0] += load.bytes;
            }
        }
        let is_open = self.last.is_some();
        self.readers.retain(|reader| is_open || reader.bytes.iter().any(|bytes| *bytes > 0));
    }

    /// The caches were dropped since they were largest.
    fn begin(&mut self, by: OwnerId, at_ns: u64, is_unnamed: bool) {
        let (ago, largest) = (0..TICKS)
            .map(|ago| (ago, self.cached[ago]))
            .fold((0, 0), |most, one| if one.1 > most.1 { one } else { most });
        let since = |reader: &Reader| reader.bytes[..ago].iter().sum::<u64>();
        let read: u64 = self.readers.iter().map(since).sum();
        let fell = (largest - self.cached[0]).saturating_add(read);
        self.left = self.left.max(fell);
        let dropped = Dropped { number: self.count, by, at_ns };
        self.count = self.count.wrapping_add(1);
        self.last = Some(dropped);
        if is_unnamed && self.unnamed.len() < UNNAMED {
            self.unnamed.push(dropped);
        } else if is_unnamed {
            self.left_out += 1;
        }
        self.readers.iter_mut().for_each(|reader| reader.read_back_since(ago));
    }

    /// The number of drops and of reads, one a second for each reader, for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The last drop, while it is read back.
    fn is_read_back(&self) -> Option<Dropped> {
        self.last
    }

    /// Whether the owner of a drop may still become known.
    fn is_unnamed(&self, number: u32) -> bool {
        self.unnamed.iter().any(|one| one.number == number)
    }

    /// The part of what an actor read from such disks in the last second that it read back.
    fn part(&self, actor: &ActorId, is_its: impl Fn(u32) -> bool) -> f64 {
        let its = self.readers.iter().filter(|one| one.actor == *actor && is_its(one.disk));
        let sums = its.map(|one| (one.back(), one.bytes[0]));
        let (back, all) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if all > 0 { self.excused * back as f64 / all as f64 } else { 0.0 }
    }
}

/// The charges for a drop whose owner is not known yet, in ns of wait, as [`Suspect`] has them.
#[derive(Clone, Debug, Default)]
pub struct Unnamed {
    number: u32,
    now: f32,
    before: f32,
    past: f32,
    total: f64,
}

impl Unnamed {
    pub fn rotate(&mut self) {
        self.past += self.before;
        self.before = std::mem::take(&mut self.now);
    }

    pub fn begin_period(&mut self) {
        (self.now, self.before, self.past) = Default::default();
    }

    /// Moves the charges from one suspect to another.
    fn move_charges(&self, from: &mut Suspect, to: &mut Suspect) {
        let moved = [
            (&mut from.now[CHARGE], &mut to.now[CHARGE], self.now),
            (&mut from.before[CHARGE], &mut to.before[CHARGE], self.before),
            (&mut from.past[CHARGE], &mut to.past[CHARGE], self.past),
        ];
        for (from, to, ns) in moved {
            *from = (*from - ns).max(0.0);
            *to += ns;
        }
        from.total[CHARGE] = (from.total[CHARGE] - self.total).max(0.0);
        to.total[CHARGE] += self.total;
    }
}

/// The blame for a second's reads, before it is settled.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    dropped: Dropped,
    /// The wait for the victim's own reads that read back.
    memory_ns: f64,
    read_back: f64,
}

impl Victim {
    /// Gives the charges for drops to the owners that became known.
    pub(super) fn name_drops(&mut self, drops: &Drops, actor: &impl Fn(OwnerId) -> ActorId) {
        for (number, owner) in &drops.named {
            let Some(at) = self.triggers.unnamed.iter().position(|one| one.number == *number)
            else {
                continue;
            };
            let charges = self.triggers.unnamed.remove(at);
            let Some(mut unknown) = self.take_suspect(&ActorId::default()) else { continue };
            charges.move_charges(&mut unknown, self.suspect(actor(*owner), *owner));
            if unknown.weight() > 0.0 || unknown.past.iter().any(|amount| *amount > 0.0) {
                let (actor, owner) = (unknown.actor, unknown.owner);
                *self.suspect(actor, owner) = unknown;
            } else {
                self.suspect(actor(*owner), *owner).take_over(unknown);
            }
        }
        self.triggers.unnamed.retain(|one| drops.is_unnamed(one.number));
    }

    /// Notes which part of everybody's reads reads back what was dropped; the second is settled
    /// next.
    pub(super) fn note_drops(&mut self, drops: &Drops) -> Option<Before> {
        let last = drops.is_read_back();
        let (disk, own) = (self.is_on_any(), self.actor());
        for suspect in &mut self.suspects {
            let part = if last.is_some() && suspect.actor != own {
                drops.part(&suspect.actor, &disk)
            } else {
                0.0
            };
            suspect.reads_back = part as f32;
        }
        let memory_ns = self.fresh.division.memory_ns * drops.part(&own, &disk);
        last.map(|dropped| Before { dropped, memory_ns, read_back: self.read_back() })
    }

    /// Charges who dropped the caches with the waits for what was read back.
    pub(super) fn charge_drops(
        &mut self,
        before: Before,
        drops: &Drops,
        actor: &impl Fn(OwnerId) -> ActorId,
        until_ns: u64,
    ) {
        let Before { dropped: Dropped { number, by, .. }, memory_ns, .. } = before;
        let read_back = (self.read_back() - before.read_back).max(0.0);
        let ns = memory_ns + read_back;
        if ns <= 0.0 {
            return;
        }
        self.blame_around(actor(by), by, op::DROP_CACHES, ns, until_ns);
        if drops.is_unnamed(number) {
            let at = self.triggers.unnamed.iter().position(|one| one.number == number);
            let at = at.unwrap_or_else(|| {
                self.triggers.unnamed.push(Unnamed { number, ..Unnamed::default() });
                self.triggers.unnamed.len() - 1
            });
            self.triggers.unnamed[at].now += ns as f32;
            self.triggers.unnamed[at].total += ns;
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
