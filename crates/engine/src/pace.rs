//! The pace of a disk: what it has shown that it can complete in a second beside a number of
//! requests in flight.
//!
//! Requests that were alone say how fast a disk is, but a disk that is never idle has none.
//! There its pace says it: a second's work goes in, and out comes what was completed as a
//! multiple of the most that was shown beside no more requests in flight. The number in flight
//! is the mean of the second, by Little's law from the integral that the kernel keeps. A level
//! rises where the disk does far better for some seconds on end, and falls so slowly that a
//! slow hour is not what is normal, and a slow day is. Knows no clock.

use std::cmp::Ordering;

use super::{
    reference::SLOWER,
    tick::{DiskWork, Load, Paced},
};

/// The rates that are compared: work in ns of reference time, requests, and bytes, a second.
pub const RATES: usize = 3;

/// Mean numbers in flight are distinguished by the power of two, from 1/16 to 256.
pub const OCTAVES: usize = 13;
const LOWEST: f64 = 1.0 / 16.0;

/// With fewer in flight nothing is learnt, and with fewer than [`BUSY`] nothing is compared:
/// such a disk is idle now and then, and completes what it is asked for.
const IDLE: f64 = LOWEST / 2.0;
const BUSY: f64 = 1.0;

/// Seconds are distinguished by the quarter of their bytes that is written. A disk that is as well
/// as ever may complete less of what is new to it, such as writes that its cache must drain. So
/// a second is compared with those in which about as much of the bytes was written, or more.
pub const MIXES: usize = 4;

/// The part of the work that may be neither read nor written: a discard may hold up all else.
const OTHER_WORK: f64 = 0.2;

/// This number of seconds makes a pace that can be relied on. Levels of fewer than [`SOME`] do
/// not count, and are not kept.
const GOOD: u32 = 60;
const SOME: u32 = 8;

/// A level's logarithm moves by `FIRST_STEP`, divided by the number of seconds, in the first
/// [`GOOD`] seconds, and by `LAST_STEP` later: an hour below a level lowers it by an eighth.
const FIRST_STEP: f32 = 2.0;
const MAX_STEP: f32 = 0.2;
const LAST_STEP: f32 = 4e-4;

/// The part of the seconds that exceed a level.
const ABOVE: f32 = 0.1;

/// This number of seconds of a far higher rate on end become the level.
const FASTER_SECONDS: u8 = 8;

/// The rate that a tenth of all seconds exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shown {
    level: f32,
    seconds: u32,
    /// The seconds on end in which it was far higher, and the least of these rates.
    run: u8,
    least: f32,
}

impl Shown {
    fn kept(level: u64, seconds: u32) -> Self {
        Self { level: level as f32, seconds, ..Self::default() }
    }

    fn learn(&mut self, now: f64) {
        let now = now as f32;
        if self.level <= 0.0 {
            *self = Self { level: now, seconds: 1, ..Self::default() };
            return;
        }
        self.seconds = self.seconds.saturating_add(1);
        if self.seconds <= SOME {
            // One odd second at the start must not become the level.
            self.level = self.level.min(now);
            return;
        }
        if now > SLOWER as f32 * self.level {
            self.least = if self.run == 0 { now } else { self.least.min(now) };
            self.run += 1;
            if self.run == FASTER_SECONDS {
                let seconds = FASTER_SECONDS.into();
                *self = Self { level: self.least, seconds, ..Self::default() };
                return;
            }
        } else {
            self.run = 0;
        }
        let is_new = self.seconds < GOOD;
        let step = if is_new { FIRST_STEP / self.seconds as f32 } else { LAST_STEP };
        let weight = match now.total_cmp(&self.level) {
            Ordering::Less => -ABOVE,
            Ordering::Equal => 0.0,
            Ordering::Greater => 1.0 - ABOVE,
        };
        self.level *= (step.min(MAX_STEP) * weight).exp();
    }
}

/// The rates that one disk has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    levels: [[[Shown; RATES]; OCTAVES]; MIXES],
    /// Bytes written in a second whose flushes took their usual time.
    written: Shown,
}

/// A pace in the form in which it is kept over a restart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeptPace {
    pub levels: Vec<KeptRates>,
    /// Bytes written in a second beside flushes that took their usual time, and the number of
    /// seconds that say so.
    pub written: Option<(u64, u32)>,
}

/// The rates beside a number of requests in flight.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeptRates {
    /// The quarter of the bytes that is written, below [`MIXES`], and the power of two of the
    /// number in flight, below [`OCTAVES`].
    pub mix: u16,
    pub octave: u16,
    pub seconds: u32,
    /// Work in ns of reference time, requests, and bytes, a second.
    pub rates: [u64; RATES],
}

impl Pace {
    /// Goes on from what was learnt before.
    pub fn kept(kept: &KeptPace) -> Self {
        let mut pace = Self::default();
        for &KeptRates { mix, octave, seconds, rates } in &kept.levels {
            let of_mix = pace.levels.get_mut(usize::from(mix));
            if let Some(shown) = of_mix.and_then(|levels| levels.get_mut(usize::from(octave))) {
                *shown = rates.map(|rate| Shown::kept(rate, seconds));
            }
        }
        if let Some((bytes, seconds)) = kept.written {
            pace.written = Shown::kept(bytes, seconds);
        }
        pace
    }

    /// The levels that are worth to be kept.
    pub fn to_keep(&self) -> KeptPace {
        let mut kept = KeptPace::default();
        for (mix, of_mix) in self.levels.iter().enumerate() {
            for (octave, shown) in of_mix.iter().enumerate() {
                let rates = shown.map(|shown| shown.level as u64);
                if shown[0].seconds >= SOME && rates.iter().any(|rate| *rate > 0) {
                    let (mix, octave, seconds) = (mix as u16, octave as u16, shown[0].seconds);
                    kept.levels.push(KeptRates { mix, octave, seconds, rates });
                }
            }
        }
        let Shown { level, seconds, .. } = self.written;
        kept.written = (seconds >= SOME && level >= 1.0).then_some((level as u64, seconds));
        kept
    }

    /// Takes in a second of the disk, and compares it with those before.
    pub fn observe(&mut self, work: &DiskWork) -> Paced {
        let written = written(work);
        let mut paced = Paced::default();
        if self.written.seconds >= GOOD && self.written.level > 0.0 {
            paced.written = Some((written / f64::from(self.written.level)) as f32);
        }
        let flushes = &work.flushes;
        if flushes.requests > 0 && (flushes.ns as f64) < SLOWER * flushes.reference_ns as f64 {
            self.written.learn(written);
        }
        let Some(second) = Second::of(work) else { return paced };
        if second.depth >= BUSY {
            paced.done = self.compare(&second);
        }
        let levels = &mut self.levels[second.mix][second.octave];
        for (level, rate) in levels.iter_mut().zip(second.rates) {
            level.learn(rate);
        }
        paced
    }

    /// The rate that was completed, as a multiple of what was shown, in the currency in which that
    /// is most.
    fn compare(&self, second: &Second) -> Option<f32> {
        let (mut most, mut seconds) = ([0f64; RATES], 0u32);
        for of_mix in &self.levels[second.mix.saturating_sub(1)..] {
            for (octave, shown) in of_mix[..=second.octave].iter().enumerate() {
                if shown[0].seconds < SOME {
                    continue;
                }
                seconds = seconds.saturating_add(shown[0].seconds);
                // It may have been shown beside twice as many in flight within a power of two.
                let part = (second.depth / upper_edge(octave)).min(1.0);
                for (most, shown) in most.iter_mut().zip(shown) {
                    *most = most.max(f64::from(shown.level) * part);
                }
            }
        }
        let times = second.rates.iter().zip(most).filter(|(_, most)| *most > 0.0);
        let times = times.map(|(now, most)| (now / most) as f32);
        times.reduce(f32::max).filter(|_| seconds >= GOOD)
    }
}

/// The rates of a second.
#[derive(Clone, Copy, Debug)]
struct Second {
    depth: f64,
    octave: usize,
    mix: usize,
    rates: [f64; RATES],
}

impl Second {
    fn of(work: &DiskWork) -> Option<Self> {
        let length_ns = work.length_ns.max(1) as f64;
        let (mut depth, mut other, mut read) = (0.0, 0.0, 0.0);
        let mut rates = [0.0; RATES];
        for load in &work.loads {
            depth += load.in_flight_ns as f64 / length_ns;
            let completed = load.completed as f64 * 1e9 / length_ns;
            let bytes = load.bytes as f64 * 1e9 / length_ns;
            let work = completed * f64::from(load.cost_ns);
            other += if load.reads || load.writes { 0.0 } else { work };
            read += if load.reads { bytes } else { 0.0 };
            for (rate, more) in rates.iter_mut().zip([work, completed, bytes]) {
                *rate += more;
            }
        }
        let [done, _, bytes] = rates;
        if depth < IDLE || done <= 0.0 || other > OTHER_WORK * done {
            return None;
        }
        let octave = (depth / LOWEST).log2().floor().clamp(0.0, (OCTAVES - 1) as f64) as usize;
        let written = 1.0 - read / bytes.max(1.0);
        let mix = ((written * MIXES as f64) as usize).min(MIXES - 1);
        Some(Self { depth, octave, mix, rates })
    }
}

fn upper_edge(octave: usize) -> f64 {
    LOWEST * (1u64 << (octave + 1)) as f64
}

/// Bytes written in a second.
fn written(work: &DiskWork) -> f64 {
    let writes = work.loads.iter().filter(|load: &&Load| load.writes);
    writes.map(|load| load.bytes as f64).sum::<f64>() * 1e9 / work.length_ns.max(1) as f64
}
