//! The device or the neighbour: what was laid on whoever overlapped is settled
//! once a second, by what each asked for.
//!
//! When a device slows down, everybody's requests are in flight for longer,
//! and overlap grows without anybody doing more. So a party answers only for
//! what it asks for beyond what the victim lived with while it was well: work
//! that arrives, by what it costs a disk that is well, or depth, where the
//! disk is saturated and completes what it always did. What is left is the
//! device's where that is slower than its reference, or nobody's that is
//! known; it is never another party's. The victim's own requests that pile up
//! are an effect, and follow the causes.
//!
//! Pure: one second's loads and the blame of its syncs go in, parts come out.

use super::{
    blame::{OwnerId, Party},
    reference::{Grade, SLOWER},
    tick::{Alone, DiskWork},
};

/// One party's demand on the victim's disks for, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    pub party: Party,
    pub owner: OwnerId,
    /// Requests that came, and the ns of work that they are for a disk that is
    /// well.
    pub requests: f64,
    pub work: f64,
    /// Mean requests in flight.
    pub depth: f64,
    /// Whether some of it was written.
    pub writes: bool,
}

/// One second of the disks that a victim syncs on.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub asked: Vec<Asked>,
    pub alone: Alone,
    pub flushes: Alone,
    /// Requests in flight, on average.
    depth: f64,
    /// Work and requests that were completed per second.
    work: f64,
    ended: f64,
    /// Costs are too much of a guess to know how much was completed.
    guessed: bool,
}

/// Costs may be guessed for so much of the depth.
const GUESSED_PART: f64 = 0.1;

impl Slot {
    /// Adds a disk up; `party` says who an owner is.
    pub fn add(&mut self, disk: &DiskWork, party: impl Fn(OwnerId) -> Party) {
        let per_second = 1e9 / (disk.length_ns.max(1) as f64);
        self.alone.add(&disk.alone);
        self.flushes.add(&disk.flushes);
        let mut guessed = 0.0;
        for load in &disk.loads {
            let who = party(load.owner);
            let cost = f64::from(load.cost_ns);
            let (requests, ended) =
                (load.arrived as f64 * per_second, load.ended as f64 * per_second);
            let depth = load.area_ns as f64 / disk.length_ns.max(1) as f64;
            self.depth += depth;
            self.work += ended * cost;
            self.ended += ended;
            guessed += if load.guessed { depth } else { 0.0 };
            let at = self.asked.iter().position(|asked| asked.party == who).unwrap_or_else(|| {
                self.asked.push(Asked { party: who, owner: load.owner, ..Asked::default() });
                self.asked.len() - 1
            });
            let asked = &mut self.asked[at];
            asked.requests += requests;
            asked.work += requests * cost;
            asked.depth += depth;
            asked.writes |= load.bytes > 0 && load.writes;
        }
        self.guessed |= guessed > GUESSED_PART * self.depth;
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Work, and requests, that are completed per second in which something is in
    /// flight.
    fn pace(&self) -> Option<[f64; 2]> {
        let busy = self.depth.min(1.0);
        (busy > 0.0).then(|| [self.work / 1e9 / busy, self.ended / busy])
    }

    /// One party's demand.
    pub fn of(&self, party: &Party) -> Option<&Asked> {
        self.asked.iter().find(|asked| asked.party == *party)
    }
}

/// A party's demand while the victim was well.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lived {
    pub work: f32,
    pub depth: f32,
}

/// A level of the last minutes: it is there at once, and is remembered for some
/// minutes after that.
const RISE: f32 = 1.0 / 8.0;
const FALL: f32 = 1.0 / 300.0;

impl Lived {
    /// Another second in which the victim was well, after `seconds` of them.
    pub fn learn(&mut self, asked: Option<&Asked>, seconds: u32) {
        let learn = |known: &mut f32, now: f64| {
            let step = now as f32 - *known;
            let weight = if step > 0.0 { RISE } else { FALL };
            *known += step * weight.max(1.0 / (seconds + 1) as f32);
        };
        learn(&mut self.work, asked.map_or(0.0, |asked| asked.work));
        learn(&mut self.depth, asked.map_or(0.0, |asked| asked.depth));
    }

    /// The part of its demand now that was not there then; `None` if it demands
    /// nothing. Depth counts only on request.
    pub fn grown(&self, asked: &Asked, with_depth: bool) -> Option<f64> {
        if asked.work <= 0.0 {
            return None;
        }
        let (lived, each) = (f64::from(self.work), asked.work / asked.requests.max(1.0));
        let usual = USUAL * lived + SIGMAS * (lived * each).sqrt();
        let by_work = (asked.work - usual) / asked.work;
        let usual_depth = USUAL * f64::from(self.depth);
        let by_depth = (asked.depth - usual_depth) / asked.depth.max(1e-9);
        Some(if with_depth { by_work.max(by_depth) } else { by_work }.clamp(0.0, 1.0))
    }
}

/// So much of what it asked for is still the same, and so many standard errors
/// of what comes at random.
const USUAL: f64 = 1.15;
const SIGMAS: f64 = 3.0;

/// A victim's knowledge of its disks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Device {
    /// Seconds in which the victim was well.
    pub seconds: u32,
    /// [`Slot::pace`] then.
    pace: [f32; 2],
    /// Recent seconds.
    alone: Recent,
    flushes: Recent,
    /// The last ratios from requests that were alone, and when.
    last: Option<([f64; 2], u64)>,
    /// [`State::held_up`] in the second before, without the one before that.
    held_up: Option<f64>,
    /// When it was known last that its requests take what they did.
    pub well_ns: u64,
    /// How well it is known what requests take that are alone.
    pub known: Grade,
}

/// So long these are held to be true, while none is alone.
pub const STAYS_NS: u64 = 10_000_000_000;

/// Times of requests that were alone, and what would be usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Recent {
    ios: f32,
    ns: f32,
    usual_ns: f32,
}

impl Recent {
    /// So much is left of a second's after another.
    const KEPT: f32 = 0.4;
    /// Fewer say nothing.
    const ENOUGH: f32 = 6.0;

    fn take(&mut self, alone: &Alone) {
        // A second with enough of them needs none before it.
        let kept = if alone.ios >= 32 { 0.0 } else { Self::KEPT };
        self.ios = self.ios * kept + alone.ios as f32;
        self.ns = self.ns * kept + alone.ns as f32;
        self.usual_ns = self.usual_ns * kept + alone.usual_ns as f32;
    }

    /// So many times the usual.
    fn times(parts: &[Self]) -> Option<f64> {
        let sum = |part: fn(&Self) -> f32| parts.iter().map(part).sum::<f32>();
        let usual_ns = sum(|p| p.usual_ns);
        (sum(|p| p.ios) >= Self::ENOUGH && usual_ns > 0.0)
            .then(|| f64::from(sum(|p| p.ns) / usual_ns))
    }
}

/// From here on a disk is saturated.
const SATURATED: f64 = 2.0;
/// A saturated disk that completes so much of what it did completes all of it, or
/// has become slower.
const SAME_PACE: f64 = 0.8;
const SLOW_PACE: f64 = 0.5;

/// How a device does beside what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// So many times as long as they did take requests that are alone, all in
    /// all, and without flushes.
    pub alone: Option<f64>,
    pub alone_without_flushes: Option<f64>,
    /// It completes so much of what it did, if that is known.
    pub pace: Option<f64>,
    pub is_saturated: bool,
    /// Its pace, if more is in flight than requests that come one by one explain,
    /// or was in the second before: some syncs of this one began in that.
    held_up: Option<f64>,
    /// The cost of many of its requests is not known, so they may be more work
    /// than it seems.
    is_guessed: bool,
}

impl State {
    /// How many times slower it is; 1 for one that is not, or is not known to be.
    fn times(&self, have_grown: bool, have_written_more: bool) -> f64 {
        // A flush may drain others' writes.
        let alone = if have_written_more { self.alone_without_flushes } else { self.alone };
        let alone = alone.filter(|times| *times >= SLOWER);
        // If nobody asks for more, only the device can hold requests up.
        let pace = match have_grown {
            true => self.pace.filter(|pace| self.is_saturated && *pace < SLOW_PACE),
            false => self.held_up,
        };
        let pace = pace.filter(|_| !self.is_guessed);
        match (alone, pace) {
            (Some(times), _) => times,
            // Beside it requests that are alone take what they did.
            (None, Some(_)) if have_grown && self.alone.is_some() => 1.0,
            (None, Some(pace)) => 1.0 / pace.max(1e-3),
            (None, None) => 1.0,
        }
    }

    /// Whether a saturated disk completes what it always did.
    pub fn completes_the_same(&self) -> bool {
        self.pace.is_some_and(|pace| pace >= SAME_PACE)
            && self.alone.is_none_or(|times| times < SLOWER)
    }

    /// Whether it is known to do what it always did.
    fn is_well(&self) -> bool {
        match self.alone {
            Some(times) => times < SLOWER,
            None => self.is_saturated && self.pace.is_some_and(|pace| pace >= SAME_PACE),
        }
    }
}

impl Device {
    /// Takes a second in, and returns how it did in it.
    pub fn look(&mut self, slot: &Slot, now_ns: u64) -> State {
        let seen = [&slot.alone, &slot.flushes].into_iter().filter(|alone| alone.ios > 0);
        if let Some(known) = seen.map(|alone| alone.known).min() {
            self.known = known;
        }
        self.alone.take(&slot.alone);
        self.flushes.take(&slot.flushes);
        let pace = slot.pace().filter(|_| self.seconds > 0).map(|now| {
            let ratios = now.iter().zip(&self.pace);
            ratios.map(|(now, then)| now / f64::from(*then).max(1e-9)).fold(0.0, f64::max)
        });
        // One server whose requests come at random is idle for so much of the
        // time, and has no more in flight than fits.
        let utilization = slot.work / 1e9 / f64::from(self.pace[0]).max(1e-9);
        let held_up = pace.filter(|pace| *pace < SAME_PACE * (1.0 - utilization));
        let now = [&[self.alone, self.flushes][..], &[self.alone][..]].map(Recent::times);
        if let [Some(all), without_flushes] = now {
            self.last = Some(([all, without_flushes.unwrap_or(all)], now_ns));
        }
        let last = self.last.filter(|(_, then)| now_ns.saturating_sub(*then) <= STAYS_NS);
        let mut state = State {
            alone: now[0],
            alone_without_flushes: now[1],
            pace,
            is_saturated: slot.depth >= SATURATED,
            is_guessed: slot.guessed,
            held_up: match (held_up, std::mem::replace(&mut self.held_up, held_up)) {
                (Some(now), Some(before)) => Some(now.min(before)),
                (now, before) => now.or(before),
            },
        };
        if state.is_well() {
            self.well_ns = now_ns;
        }
        if let Some((times, _)) = last {
            state.alone = state.alone.or(Some(times[0]));
            state.alone_without_flushes = state.alone_without_flushes.or(Some(times[1]));
        }
        state
    }

    /// The victim was well in this second.
    pub fn learn(&mut self, slot: &Slot) {
        let weight = (1.0 / (self.seconds + 1) as f32).max(FALL);
        if let Some(pace) = slot.pace().filter(|_| !slot.guessed) {
            for (known, now) in self.pace.iter_mut().zip(pace) {
                *known += (now as f32 - *known) * weight;
            }
        }
        self.seconds = self.seconds.saturating_add(1);
    }
}

/// Blame for one second's syncs, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Blamed {
    /// On others: what they asked for beyond the usual, and the rest.
    pub grown: f64,
    pub steady: f64,
    /// On the victim's own other requests, alike.
    pub own_grown: f64,
    pub own_steady: f64,
    /// On the device already.
    pub device: f64,
}

/// The blame as it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settled {
    /// Others and the victim's own requests answer for so many times the blame for
    /// their growth.
    pub keep: f64,
    /// More for the device, and for nobody that is known.
    pub device: f64,
    pub unexplained: f64,
    /// So many times slower the device is.
    pub times: f64,
}

/// Demand beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// The part of all work that was not there before.
    pub part: f64,
    pub of_writers: bool,
}

/// Less growth, as a part of all work, is none.
const NO_GROWTH: f64 = 0.02;

/// Settles the blame for one second, in which a sync waited for `mean_ns` where
/// `usual_ns` are usual.
pub fn settle(
    state: &State,
    growth: Growth,
    blamed: &Blamed,
    mean_ns: f64,
    usual_ns: f64,
) -> Settled {
    let have_grown = growth.part >= NO_GROWTH && blamed.grown + blamed.own_grown > 0.0;
    let times = state.times(have_grown, have_grown && growth.of_writers);
    let is_slow = times >= SLOWER;
    let mut settled = Settled { times, ..Settled::default() };
    let mut leave = |ns: f64| {
        let to = if is_slow { &mut settled.device } else { &mut settled.unexplained };
        *to += ns;
    };
    let grown = blamed.grown + blamed.own_grown;
    leave(blamed.steady);
    if !have_grown {
        leave(grown + blamed.own_steady);
        return settled;
    }
    // Its own pile-up is an effect of what the others and the device do.
    let causes = grown + blamed.own_steady;
    // A wait is the usual one, times what the device and what the load make of
    // it. Each one's part is the mean of what it adds first and what it adds last.
    let load_times = (mean_ns / (times * usual_ns.max(1.0))).max(1.0);
    let by_device = (times - 1.0) * (1.0 + load_times);
    let by_load = (load_times - 1.0) * (1.0 + times);
    let part = if is_slow { by_device / (by_device + by_load).max(1e-9) } else { 0.0 };
    let all = causes + blamed.device;
    let more = (part * all - blamed.device).clamp(0.0, causes);
    settled.device += more;
    settled.keep = (causes - more) / grown;
    settled
}
