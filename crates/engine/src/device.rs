//! Is the device as fast as it was while the victim was well?
//!
//! Three measurements are compared with their own past: the time of requests that come to
//! an idle disk and stay alone, the time of flushes, and the *stretch*, the time in flight
//! per unit of completed work (Little's law). The first two contain no queue. The stretch
//! contains the queue, too, so it is evidence against the device only if nobody asks for
//! more, if the disk completes less than it did, or if the present work could not make a
//! queue of that length.

use super::{
    demand::{FULL, Growth, NO_GROWTH, Slot, learn},
    reference::{Grade, SLOWER},
    save::saved,
    tick::Alone,
};

/// A victim's knowledge of its disks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Device {
    /// Seconds in which the victim was well.
    pub seconds: u32,
    /// The levels of [`super::demand::Did`] then, in the order of its fields, and of its stretch.
    levels: [f32; 5],
    stretch: f32,
    /// These levels contain costs that were guessed.
    guessed: bool,
    /// Consecutive seconds in which that was otherwise.
    others: u8,
    /// Requests that were alone in recent seconds.
    rested: Recent,
    flushes: Recent,
    /// The last ratios of these, and when; 0 before the first.
    last: [f32; 2],
    last_ns: [u64; 2],
    /// The stretch of the second before: some syncs of this one began in that.
    before: Option<f32>,
    /// Completed of late, as a multiple of what was shown, and the seconds since.
    paced: f32,
    paced_gap: u8,
    /// The quality of the reference for requests that are alone.
    pub known: Grade,
}

saved! {
    Device {
        seconds, levels, stretch, guessed, others, rested, flushes, last, last_ns, before, paced,
        paced_gap, known,
    }
    if |it| it.others < MANY_OTHERS
}

/// If the costs are of the other kind (guessed or not) for this many seconds on end,
/// the levels are learnt again.
const MANY_OTHERS: u8 = 8;

/// A ratio is used for this long while no newer one is measured: a slow device's for longer
/// than a fast one's, since busy disks rarely have a request that is alone.
const SLOW_STAYS_NS: u64 = 10_000_000_000;
const WELL_STAYS_NS: u64 = 500_000_000;

/// A second's weight in the pace of late, and the number of seconds for which that is used.
const PACE_WEIGHT: f32 = 0.25;
const PACE_STAYS: u8 = 4;
/// No disk counts as slower than by this, however little it completes.
const MIN_PACE: f32 = 1e-4;

/// Times of requests that were alone, and what would be usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Recent {
    requests: f32,
    ns: f32,
    usual_ns: f32,
    gap: u32,
}

saved!(Recent { requests, ns, usual_ns, gap });

impl Recent {
    /// With fewer requests there is no ratio.
    const FEW: f32 = 3.0;
    /// At most this many are remembered, and this part of them after a second with others.
    const ENOUGH: f32 = 6.0;
    const KEPT: f32 = 0.6;

    /// After this many seconds without any, the earlier ones are forgotten.
    const GAP: u32 = 3;

    fn add(&mut self, alone: &Alone) {
        self.gap = if alone.requests > 0 { 0 } else { self.gap.saturating_add(1) };
        if self.gap >= Self::GAP {
            *self = Self::default();
            return;
        }
        let room = (Self::ENOUGH - alone.requests as f32) / self.requests.max(1.0);
        let kept = if alone.requests > 0 { room.clamp(0.0, Self::KEPT) } else { 1.0 };
        self.requests = self.requests * kept + alone.requests as f32;
        self.ns = self.ns * kept + alone.ns as f32;
        self.usual_ns = self.usual_ns * kept + alone.reference_ns as f32;
    }

    /// The usual time of one of them, in ns.
    fn each_ns(&self) -> f64 {
        f64::from(self.usual_ns) / f64::from(self.requests).max(1.0)
    }

    /// Their time as a multiple of the usual time.
    fn times(&self) -> Option<f64> {
        let is_known = self.requests >= Self::FEW && self.usual_ns > 0.0;
        is_known.then(|| f64::from(self.ns / self.usual_ns))
    }
}

/// A saturated disk that completes this part of what it did is as fast as it was.
const SAME: f64 = 0.8;
/// A disk that completes this multiple of what it did is well: it had room for that.
const FAR_MORE: f64 = 3.0;

/// A disk with one queue is given at most this many requests at a time (SATA's NCQ).
const DEEP: f64 = 32.0;

/// Requests of a saturated disk that are in flight for this many times as long as its load
/// explains were held up by something else.
const HELD_UP: f64 = 1.25;

/// From this multiple on none of a victim's syncs is as quick as they are while it is well.
const NONE_QUICK: f64 = 3.0;

/// A device in one second, compared with the seconds in which the victim was well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// The time of requests that were alone, and of flushes, as multiples of the usual.
    pub rested: Option<f64>,
    pub flush: Option<f64>,
    /// The usual time of one of each, in ns.
    usual_ns: [f64; 2],
    /// The stretch as a multiple of the usual one.
    pub stretch: Option<f64>,
    /// Work, requests or bytes completed, whichever rose most, as a multiple of before.
    pub done: f64,
    /// The number in flight, and the bytes written, likewise.
    pub depth: f64,
    pub written: f64,
    /// Servers that were busy while the victim was well.
    busy: f64,
    pub is_saturated: bool,
    /// More are in flight than a slow disk would serve at a time.
    pub is_deep: bool,
    /// It was so while the victim was well.
    pub was_saturated: bool,
}

/// A device beside its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BesideReference {
    /// The factor by which it is slower.
    pub times: f64,
    /// This is what it completed less than it has shown, and nothing was alone.
    pub is_paced: bool,
}

/// The certainty of a statement about a device.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sure {
    /// It may be the device or the load.
    #[default]
    No,
    Likely,
    Yes,
}

/// The judgement on a device for one second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowness {
    /// The device takes this multiple of its usual time; 1 if it is not known to be
    /// slower.
    pub times: f64,
    pub sure: Sure,
    /// The load makes a wait at most this multiple of the usual one.
    pub load: f64,
    /// Flushes alone are slower.
    pub of_flushes: bool,
    /// It takes this multiple if flushes are slower by themselves, and not because of
    /// others' writes.
    pub doubtful: f64,
}

impl Slowness {
    fn of(times: f64, sure: Sure) -> Self {
        Self { times, sure, load: f64::INFINITY, of_flushes: false, doubtful: times }
    }
}

impl State {
    /// Requests and flushes that were alone took these multiples of the usual time.
    #[cfg(test)]
    pub fn of_alone(requests: f64, flushes: f64) -> Self {
        let (rested, flush) = (Some(requests), Some(flushes));
        Self { rested, flush, usual_ns: [1e6; 2], ..Self::default() }
    }

    /// Judges the device in a second in which the demand has grown so.
    pub fn says(&self, growth: &Growth) -> Slowness {
        let slower = |times: Option<f64>| times.filter(|times| *times >= SLOWER);
        if growth.part < NO_GROWTH {
            // Nobody asks for more: only the device can hold requests up.
            let all = [self.rested, self.flush, self.stretch].into_iter().filter_map(slower);
            // But on a disk that takes no more, little may be much.
            let is_sure = !(growth.is_more || growth.is_deeper && self.done >= SAME);
            let sure = if is_sure { Sure::Yes } else { Sure::Likely };
            return Slowness::of(all.fold(1.0, f64::max), sure);
        }
        // A flush may drain others' writes.
        let flush = self.flush.map(|times| times / self.written.max(1.0));
        match (slower(self.rested), slower(flush)) {
            // A cache that is nearly full takes far longer for a little more.
            (None, Some(_)) if growth.is_written => {
                let doubtful = self.alone(flush);
                return Slowness { of_flushes: true, doubtful, ..Slowness::of(1.0, Sure::No) };
            }
            (None, None) if self.rested.is_none() => {}
            (None, None) => return Slowness::of(1.0, Sure::Yes),
            (rested, _) => {
                // But it is as slow as the rest.
                let at_least = rested.unwrap_or(0.0).min(self.flush.unwrap_or(0.0));
                let flush = flush.map(|times| times.max(at_least));
                let of_flushes = self.rested.is_some_and(|times| times < SLOWER);
                return Slowness { of_flushes, ..Slowness::of(self.alone(flush), Sure::Yes) };
            }
        }
        match slower(self.stretch) {
            // More requests wait, and fewer are completed.
            Some(stretch) if self.done < 1.0 && self.depth > 1.0 => {
                let times = (stretch / growth.times.max(1.0)).max(1.0 / self.done.max(1e-3));
                Slowness::of(times, Sure::Likely)
            }
            _ if self.done >= FAR_MORE => Slowness::of(1.0, Sure::Likely),
            // The present work cannot make a queue of half this length, unless there is
            // a limit on requests or bytes, or somebody keeps the queue full.
            Some(stretch) if stretch >= 2.0 * self.waits(growth) && !growth.is_deeper => {
                let load = self.waits(growth);
                Slowness { load, ..Slowness::of(stretch / load, Sure::Likely) }
            }
            Some(_) => Slowness::of(1.0, Sure::No),
            None => Slowness::of(1.0, Sure::Likely),
        }
    }

    /// Takes into account how many times as long as in good seconds the quickest syncs of
    /// this second took. If no sync was quick, other requests are well and no flush was
    /// alone, then the flushes are slow. Other requests are well if those that were alone
    /// were, or, where none was, if requests were in flight for no longer than in good seconds
    /// on average: a queue would hold up all of them alike.
    pub fn beside_quickest(mut self, times: f64) -> Self {
        let is_well = self.rested.or(self.stretch).is_some_and(|times| times < SLOWER);
        if is_well && self.flush.is_none() && times >= NONE_QUICK {
            self.flush = Some(times);
            let [of_rested, of_flush] = &mut self.usual_ns;
            *of_flush = of_flush.max(*of_rested);
        }
        self
    }

    /// The time of both is measured.
    pub fn is_measured(&self) -> bool {
        self.rested.is_some() && self.flush.is_some()
    }

    /// The time of requests and flushes that were alone, as a multiple of the usual, if any were.
    pub fn alone_of_any(&self) -> Option<f64> {
        (self.rested.is_some() || self.flush.is_some()).then(|| self.alone(self.flush))
    }

    /// The time of a write and its flush that are alone, as a multiple of the usual.
    fn alone(&self, flush: Option<f64>) -> f64 {
        let [of_rested, of_flush] = self.usual_ns;
        match (self.rested, flush) {
            (Some(rested), Some(flush)) => {
                (rested * of_rested + flush * of_flush) / (of_rested + of_flush).max(1.0)
            }
            (rested, flush) => rested.or(flush).unwrap_or(1.0),
        }
    }

    /// The stretch that the present work would have on a disk with twice the servers
    /// that were busy before, and at least one, if requests come at random: 1/(1 − ρ).
    fn waits(&self, growth: &Growth) -> f64 {
        let servers = f64::max(1.0, 2.0 * self.busy);
        1.0 / (1.0 - (self.busy * growth.times / servers).min(0.95))
    }

    /// It was saturated, still is, and completes what it did.
    pub fn completes_the_same(&self) -> bool {
        self.is_saturated
            && self.was_saturated
            && self.done >= SAME
            && self.rested.is_none_or(|times| times < SLOWER)
    }

    /// Requests are in flight for longer than the load explains. Assume bursts that saturate the
    /// disk. If they only last longer, each request stays in flight for as long as before. If a
    /// burst has twice as many requests in flight, each stays in flight for twice as long.
    pub fn is_held_up(&self, growth: &Growth) -> bool {
        let explained = HELD_UP * growth.times.max(self.done);
        self.was_saturated && self.stretch.is_some_and(|stretch| stretch >= explained)
    }

    /// The device is known to be as fast as it was. Three times as much completed shows this only
    /// beside a long queue: by Little's law a slower disk without a queue would need as many
    /// servers as requests are in flight. An unchanged completion rate shows it only if a neighbour
    /// gets more: else it may be all that is asked for.
    pub fn is_well(&self, growth: &Growth) -> bool {
        let completes_enough =
            self.done >= FAR_MORE && self.is_deep || growth.is_more && self.completes_the_same();
        // Syncs end with a flush.
        let are_alone_well =
            [self.rested, self.flush].iter().all(|times| times.is_some_and(|times| times < SLOWER));
        are_alone_well || self.rested.is_none() && self.is_saturated && completes_enough
    }
}

impl Device {
    /// Takes in the requests of a second that were alone.
    pub fn observe(&mut self, slot: &Slot, now_ns: u64) {
        let seen = [&slot.alone, &slot.flushes].into_iter().filter(|alone| alone.requests > 0);
        if let Some(known) = seen.map(|alone| alone.known).min() {
            self.known = known;
        }
        self.rested.add(&slot.alone);
        self.flushes.add(&slot.flushes);
        let now = [(&slot.alone, &self.rested), (&slot.flushes, &self.flushes)];
        let now = now.map(|(new, recent)| recent.times().filter(|_| new.requests > 0));
        match slot.paced.done {
            Some(done) => {
                let done = done.clamp(MIN_PACE, 1.0 / MIN_PACE);
                let weight = if self.paced().is_some() { PACE_WEIGHT } else { 1.0 };
                self.paced += (done - self.paced) * weight;
                self.paced_gap = 0;
            }
            None => self.paced_gap = self.paced_gap.saturating_add(1),
        }
        for (at, now) in now.into_iter().enumerate() {
            let Some(times) = now else { continue };
            (self.last[at], self.last_ns[at]) = (times as f32, now_ns);
        }
    }

    /// The times of requests that were alone and of flushes, as multiples of the
    /// usual, as far as they are known now.
    fn alone(&self, now_ns: u64) -> [Option<f64>; 2] {
        std::array::from_fn(|at| {
            let (times, then) = (f64::from(self.last[at]), self.last_ns[at]);
            let stays_ns = if times >= SLOWER { SLOW_STAYS_NS } else { WELL_STAYS_NS };
            (times > 0.0 && now_ns.saturating_sub(then) <= stays_ns).then_some(times)
        })
    }

    /// The pace of late, as far as it is known.
    fn paced(&self) -> Option<f64> {
        let is_known = self.paced > 0.0 && self.paced_gap <= PACE_STAYS;
        is_known.then(|| self.paced.into())
    }

    /// The usual time of one of each, in ns.
    fn alone_usual_ns(&self) -> [f64; 2] {
        [self.rested, self.flushes].map(|recent| recent.each_ns())
    }

    /// The time of a write and its flush that are alone, as a multiple of the time in the
    /// reference, or, where none was alone, what the disks completed less than they have shown;
    /// `None` where neither is known. Where strangers write, a flush may drain their data, and
    /// it counts as no slower than other requests.
    pub fn beside_reference(&self, strangers_write: bool, now_ns: u64) -> Option<BesideReference> {
        let usual_ns = self.alone_usual_ns();
        let [rested, flush] = match self.known {
            Grade::Good => self.alone(now_ns),
            _ => [None; 2],
        };
        let flush = match strangers_write {
            true => rested.and_then(|rested| flush.map(|flush| flush.min(rested))),
            false => flush,
        };
        let state = State { rested, usual_ns, ..State::default() };
        let times = (rested.is_some() || flush.is_some()).then(|| state.alone(flush));
        let alone = times.map(|times| BesideReference { times, is_paced: false });
        // Flushes that are as quick as ever say nothing of other requests.
        let is_enough = |beside: &BesideReference| rested.is_some() || beside.times >= SLOWER;
        let less = self.paced().filter(|done| done * SLOWER <= 1.0);
        let paced = less.map(|done| BesideReference { times: 1.0 / done, is_paced: true });
        alone.filter(is_enough).or(paced).or(alone)
    }

    /// Looks at a second that was taken in: how it did in it.
    pub fn look(&mut self, slot: &Slot, now_ns: u64) -> State {
        let [rested, flush] = self.alone(now_ns);
        let did = slot.did;
        let levels = self.levels.map(|level| f64::from(level).max(1e-9));
        let [depth, work, requests, bytes, written] = levels;
        let stretch = did.stretch().filter(|_| self.seconds > 0 && slot.guessed == self.guessed);
        let stretch = stretch.map(|now| now / f64::from(self.stretch).max(1e-9));
        let now = stretch.map(|stretch| stretch as f32);
        let before = std::mem::replace(&mut self.before, now).map(f64::from);
        // Work at costs of another kind is no more and no less work.
        let done = if slot.guessed == self.guessed { did.work / work } else { 0.0 };
        State {
            rested,
            flush,
            usual_ns: self.alone_usual_ns(),
            stretch: stretch.into_iter().chain(before).reduce(f64::max),
            done: done.max(did.requests / requests).max(did.bytes / bytes),
            depth: did.depth / depth,
            written: did.written / written,
            busy: work / 1e9,
            is_saturated: did.depth >= FULL,
            is_deep: did.depth >= DEEP,
            was_saturated: depth >= FULL && f64::from(self.stretch) >= FULL,
        }
    }

    /// The requests in flight while the victim was well.
    pub fn depth(&self) -> f64 {
        f64::from(self.levels[0])
    }

    /// The work that the disks were asked for while the victim was well.
    pub fn asked(&self) -> f64 {
        f64::from(self.levels[1])
    }

    /// The victim was well in this second.
    pub fn learn(&mut self, slot: &Slot) {
        if slot.guessed == self.guessed {
            self.others = 0;
        } else {
            // Its requests have another cost, for a moment or from now on.
            self.others += 1;
            if self.others < MANY_OTHERS && self.seconds > 0 {
                return;
            }
            (self.others, self.guessed) = (0, slot.guessed);
            self.levels = slot.did.all().map(|now| now as f32);
            self.stretch = slot.did.stretch().unwrap_or_default() as f32;
        }
        for (known, now) in self.levels.iter_mut().zip(slot.did.all()) {
            learn(known, now, self.seconds);
        }
        if let Some(stretch) = slot.did.stretch() {
            learn(&mut self.stretch, stretch, self.seconds);
        }
        self.seconds = self.seconds.saturating_add(1);
    }
}
