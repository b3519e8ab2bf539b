//! The demand on a victim's disks, second by second, and the part of it that is new.
//!
//! One second's loads by owner go in; each actor's demand and the sum over all actors
//! come out. The victim remembers the demand that it lived with while its syncs were as
//! quick as usual. An actor has grown by the part of its work that goes beyond that.
//! Requests that merely stay in flight for longer are no growth.

use super::{
    blame::{ActorId, OwnerId},
    save::saved,
    tick::{Alone, DiskWork, Paced},
};

/// One actor's demand on the victim's disks, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    pub actor: ActorId,
    pub owner: OwnerId,
    /// Requests that were submitted, and the work that they are: the ns that they take
    /// alone on the well disk.
    pub requests: f64,
    pub work: f64,
    /// Mean requests in flight.
    pub depth: f64,
    /// Requests that completed.
    pub completed: f64,
    /// Some of its requests were writes with data, and the bytes of these.
    pub writes: bool,
    pub written: f64,
    /// The cost of some of its requests is a guess.
    pub guessed: bool,
}

impl Asked {
    /// The time that one of its requests is in flight, in ns.
    pub fn each_ns(&self) -> f64 {
        self.depth * 1e9 / self.completed.max(1.0)
    }

    /// The work of one request.
    pub(super) fn each(&self) -> f64 {
        self.work / self.requests.max(1.0)
    }
}

/// One second of the disks that a victim syncs on.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub asked: Vec<Asked>,
    pub alone: Alone,
    pub flushes: Alone,
    pub paced: Paced,
    /// The sum over all actors.
    pub did: Did,
    /// Too many costs are guesses to know how much work was completed.
    pub guessed: bool,
}

/// The sum over all actors, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Did {
    /// Requests in flight, on average.
    pub depth: f64,
    /// Work and requests that were completed, and bytes of both directions.
    pub work: f64,
    pub requests: f64,
    pub bytes: f64,
    pub written: f64,
}

impl Did {
    /// Its fields, in their order.
    pub fn all(&self) -> [f64; 5] {
        let Self { depth, work, requests, bytes, written } = *self;
        [depth, work, requests, bytes, written]
    }

    /// The time in flight of a mean request, as a multiple of the time that it takes
    /// alone on a well disk. By Little's law this is the number in flight divided by
    /// the work that is completed per second.
    pub fn stretch(&self) -> Option<f64> {
        (self.depth > 0.0).then(|| (self.depth * 1e9 / self.work.max(1.0)).min(MAX_STRETCH))
    }
}

/// The stretch of a disk that completes nothing.
const MAX_STRETCH: f64 = 1e4;

/// Costs may be guessed for this part of the depth.
const GUESSED_PART: f64 = 0.1;

impl Slot {
    /// Adds a disk; `actor` says who an owner is.
    pub fn add(&mut self, disk: &DiskWork, actor: impl Fn(OwnerId) -> ActorId) {
        self.add_alone(disk);
        self.add_loads(disk, actor, |_| true);
    }

    /// Adds the requests of a disk that were alone.
    pub fn add_alone(&mut self, disk: &DiskWork) {
        self.alone.add(&disk.alone);
        self.flushes.add(&disk.flushes);
        self.paced.add(&disk.paced);
    }

    /// Adds the loads of some of a disk's actors.
    pub fn add_loads(
        &mut self,
        disk: &DiskWork,
        actor: impl Fn(OwnerId) -> ActorId,
        counts: impl Fn(&ActorId) -> bool,
    ) {
        let per_second = 1e9 / (disk.length_ns.max(1) as f64);
        let mut guessed = 0.0;
        for load in &disk.loads {
            let who = actor(load.owner);
            if !counts(&who) {
                continue;
            }
            let cost = f64::from(load.cost_ns);
            let requests = load.submitted as f64 * per_second;
            let ended = load.completed as f64 * per_second;
            let bytes = load.bytes as f64 * per_second;
            let depth = load.in_flight_ns as f64 / disk.length_ns.max(1) as f64;
            self.did.depth += depth;
            self.did.work += ended * cost;
            self.did.requests += ended;
            self.did.bytes += bytes;
            self.did.written += if load.writes { bytes } else { 0.0 };
            guessed += if load.guessed { depth } else { 0.0 };
            let at = self.asked.iter().position(|asked| asked.actor == who).unwrap_or_else(|| {
                self.asked.push(Asked { actor: who, owner: load.owner, ..Asked::default() });
                self.asked.len() - 1
            });
            let asked = &mut self.asked[at];
            asked.requests += requests;
            asked.work += requests * cost;
            asked.depth += depth;
            asked.completed += ended;
            asked.writes |= load.bytes > 0 && load.writes;
            asked.written += if load.writes { bytes } else { 0.0 };
            asked.guessed |= load.guessed;
        }
        self.guessed |= guessed > GUESSED_PART * self.did.depth;
    }

    /// Bytes that others than this actor wrote, per second.
    pub fn written_by_others(&self, own: &ActorId) -> f64 {
        let others = self.asked.iter().filter(|asked| asked.actor != *own);
        others.map(|asked| asked.written).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// One actor's demand.
    pub fn of(&self, actor: &ActorId) -> Option<&Asked> {
        self.asked.iter().find(|asked| asked.actor == *actor)
    }
}

/// An actor's demand while the victim was well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lived {
    pub requests: f32,
    pub work: f32,
    pub depth: f32,
    pub guessed: bool,
    /// Seconds since it was met.
    passed: u8,
    /// The work that it was kept from while its requests were in flight for longer, and the work of
    /// the last second that made up for that, in eighths of a second of its level.
    owed: u8,
    made_up: u8,
    /// Its mean work in the last seconds, and the level of that while the victim was
    /// well.
    recent: f32,
    smooth: f32,
}

saved!(Lived { requests, work, depth, guessed, passed, owed, made_up, recent, smooth });

/// The weights of a new second in a level: it follows a rise within seconds, and a fall
/// within minutes.
const RISE: f32 = 1.0 / 8.0;
const FALL: f32 = 1.0 / 300.0;

/// Takes another second into a level that has seen `seconds` of them.
pub fn learn(known: &mut f32, now: f64, seconds: u32) {
    let step = now as f32 - *known;
    let weight = if step > 0.0 { RISE } else { FALL };
    *known += step * weight.max(1.0 / (seconds + 1) as f32);
}

impl Lived {
    /// Takes in a second, whether the victim was well in it or not.
    pub fn pass(&mut self, asked: Option<&Asked>) {
        let work = asked.map_or(0.0, |asked| asked.work) as f32;
        let eighths = (work - self.smooth) / self.eighth().max(1.0);
        self.made_up = self.owed.min(eighths as u8);
        self.owed -= self.made_up;
        // An actor that has less to do has fewer requests in flight, too.
        if asked.is_some_and(|asked| asked.depth >= f64::from(self.depth)) {
            self.owed = self.owed.saturating_add(-eighths as u8);
        }
        self.passed = self.passed.saturating_add(1);
        let weight = RISE.max(1.0 / f32::from(self.passed));
        self.recent += (work - self.recent) * weight;
    }

    /// The work of an eighth of a second, at its level while the victim was well.
    fn eighth(&self) -> f32 {
        self.smooth / 8.0
    }

    /// Another second in which the victim was well, after `seconds` of them.
    pub fn learn(&mut self, asked: Option<&Asked>, seconds: u32) {
        if let Some(asked) = asked.filter(|asked| self.was_guess(asked)) {
            // Its recent work was a multiple of the guess, too.
            self.work = (f64::from(self.requests) * asked.each()) as f32;
            (self.smooth, self.recent) = (self.work, self.work);
        }
        self.guessed = asked.map_or(self.guessed, |asked| asked.guessed);
        if self.passed == 0 {
            self.pass(asked);
        }
        learn(&mut self.requests, asked.map_or(0.0, |asked| asked.requests), seconds);
        learn(&mut self.work, asked.map_or(0.0, |asked| asked.work), seconds);
        learn(&mut self.smooth, f64::from(self.recent), seconds);
        learn(&mut self.depth, asked.map_or(0.0, |asked| asked.depth), seconds);
    }

    /// The cost of its requests was a guess and is known now. (The cost of a size that
    /// is seen for the first time is a guess too, but scaled from what is known.)
    fn was_guess(&self, asked: &Asked) -> bool {
        self.guessed && !asked.guessed
    }

    /// The seconds that its recent work is the mean of.
    fn memory(&self) -> f64 {
        f64::from(self.passed).clamp(1.0, f64::from(1.0 / RISE))
    }

    /// It asks for more than it did, perhaps by chance.
    pub fn is_more(&self) -> bool {
        f64::from(self.recent) > A_LITTLE * f64::from(self.smooth)
    }

    /// The recent work beyond the level while the victim was well.
    pub fn more(&self) -> f64 {
        f64::from(self.recent - self.smooth).max(0.0)
    }

    /// The part of its recent work beyond the level while the victim was well; 0 if that may be chance.
    /// All of it counts, not only what is beyond chance: this is an estimate of how much more it
    /// asks for.
    pub fn likely_more(&self, asked: &Asked) -> f64 {
        let smooth = f64::from(self.smooth);
        // A newcomer has no level that it was seen to be harmless at.
        if self.was_guess(asked) || smooth <= 0.0 || asked.work <= 0.0 {
            return 0.0;
        }
        let chance = LIKELY_SIGMAS * (smooth * asked.each() / self.memory()).sqrt();
        let is_likely = f64::from(self.recent) > A_LITTLE * smooth + chance;
        if is_likely { self.more() / f64::from(self.recent) } else { 0.0 }
    }

    /// The time for which one of its requests is in flight, as a multiple of what it was; infinite if
    /// the longest syncs of good seconds, of `longest_ns`, do not show how long a wait behind it
    /// was: those of a newcomer, or of one that was seldom there, are shorter than its own requests.
    pub fn held(&self, asked: &Asked, longest_ns: f64) -> f64 {
        let lived_ns = f64::from(self.depth) * 1e9 / f64::from(self.requests);
        let is_shown = lived_ns > 0.0 && lived_ns <= longest_ns;
        if is_shown { asked.each_ns() / lived_ns } else { f64::INFINITY }
    }

    /// Whether more of its requests complete than before, as for an actor whose part of a full
    /// queue grows. That is impossible if it had nearly all of the queue already.
    pub fn gets_more(&self, depth_of_all: f64) -> bool {
        self.is_more() || USUAL * f64::from(self.depth) >= depth_of_all
    }

    /// It has more requests in flight than it had, and enough of them to fill a queue.
    pub fn is_deeper(&self, asked: &Asked) -> bool {
        asked.depth >= FULL && asked.depth > 1.5 * f64::from(self.depth)
    }

    /// The part of its demand now that was not there then; `None` if it demands
    /// nothing. Depth counts only on request.
    pub fn grown(&self, asked: &Asked, with_depth: bool) -> Option<f64> {
        if asked.work <= 0.0 {
            return None;
        }
        let each = asked.each();
        // The cost was a guess then and is known now, so only the number of requests
        // can be compared.
        let was_guess = self.was_guess(asked);
        let lived = if was_guess { f64::from(self.requests) * each } else { f64::from(self.work) };
        let beyond = |work: f64, lived: f64, seconds: f64| {
            let usual = USUAL * lived + SIGMAS * (lived * each / seconds).sqrt();
            (work - usual) / work.max(1.0)
        };
        // Much growth shows at once, little growth in the mean of some seconds.
        let recent = f64::from(self.recent).min(asked.work);
        let smooth = if was_guess { lived } else { f64::from(self.smooth) };
        let by_mean = beyond(recent, smooth, self.memory());
        // Work that it makes up for is no new demand, unless it asks for more on average as well.
        let made_up = f64::from(self.made_up) * f64::from(self.eighth());
        let made_up = if by_mean > 0.0 { 0.0 } else { made_up.min(asked.work) };
        let other = asked.work - made_up;
        let by_second = beyond(other, lived, 1.0) * other / asked.work;
        let by_work = by_mean.max(by_second);
        let usual_depth = USUAL * f64::from(self.depth);
        let by_depth = (asked.depth - usual_depth) / asked.depth.max(1e-9);
        Some(if with_depth { by_work.max(by_depth) } else { by_work }.clamp(0.0, 1.0))
    }
}

/// A mean number in flight from which on a disk is never idle.
pub const FULL: f64 = 2.0;

/// From this multiple of its level on an actor asks for more, perhaps by chance.
const A_LITTLE: f64 = 1.05;

/// Demand counts as new beyond this multiple of its level, plus this many standard
/// errors of arrivals at random.
const USUAL: f64 = 1.15;
const SIGMAS: f64 = 3.0;

/// Growth is likely, and counts where a device is slower anyway, beyond [`A_LITTLE`] plus this many
/// standard errors.
const LIKELY_SIGMAS: f64 = 2.0;

/// Demand beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// The part of all work that was not there before.
    pub part: f64,
    /// The demand now, as a multiple of the demand without the new part.
    pub times: f64,
    /// The part of the journal's work that was not there before.
    pub of_journal: f64,
    /// Some of those who ask for more write, and the part of the new work that is theirs.
    pub is_written: bool,
    pub written: f64,
    /// One of the others asks for more, however little that is beside all.
    pub is_more: bool,
    /// One of them has more in flight.
    pub is_deeper: bool,
    /// A sync's own requests, one after another, wait no longer behind those who ask
    /// for more than these themselves wait.
    pub behind_ns: f64,
    /// The time in flight of those requests as a multiple of what it was; infinite if it is not
    /// known.
    pub held: f64,
}

/// If this part of the work of an actor or a disk is new, it is asked for more.
pub const MUCH_GROWTH: f64 = 0.2;

/// Less growth, as a part of all work, is none.
pub const NO_GROWTH: f64 = 0.02;
