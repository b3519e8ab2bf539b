//! A saturated disk is short of time of its servers, of requests or of bytes.
//!
//! Once a second a disk's work goes in; out comes what one of its requests takes away
//! from the others. A saturated disk completes as much of what it is short of whatever
//! is asked of it, and the rest follows the mix: if more of the requests are large ones,
//! a disk with a limit on bytes completes fewer requests, and one with a limit on requests
//! completes more bytes. So from one saturated second to the next that one of the three
//! rates moves least which is short. While the mix stays as it is all three move alike,
//! but a limit shows in that it does not move at all. Knows no clock.

use tracer_ebpf::record::op;

use super::{
    blame::OwnerId,
    tick::{DiskWork, Load},
};

/// The rates of a disk: work, requests and bytes that it completes, in this order.
const RATES: usize = 3;
const WORK: usize = 0;
const REQUESTS: usize = 1;
const BYTES: usize = 2;

/// The pairs of them that are compared.
const PAIRS: [[usize; 2]; RATES] = [[WORK, REQUESTS], [WORK, BYTES], [REQUESTS, BYTES]];

/// A disk's shortage, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Shortage {
    /// Each owner's completions in the second before, if the disk was saturated then.
    before: Vec<(OwnerId, [f64; 2])>,
    pairs: [Pair; RATES],
    /// The mean squares of the rates' moves beside those of servers whose times vary by
    /// all of a mean one.
    dispersion: [f64; RATES],
    moves: f64,
    price: Price,
}

/// The price of a request on a saturated disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Price {
    /// The time that it takes alone.
    #[default]
    Work,
    /// All up to a size have the same.
    Each {
        ns: f64,
        up_to_bytes: u64,
    },
    Byte {
        ns: f64,
    },
}

/// How two rates moved from one second to the next: sums over the moves of the first, and
/// over its distance from the second's.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    moves: f64,
    first: f64,
    apart: f64,
    both: f64,
}

/// Requests that a disk must have in flight, and how many times as long as alone they
/// must be there, if it is saturated.
const DEEP: f64 = 4.0;
const STRETCHED: f64 = 2.0;

/// Moves in memory; then the older ones count half.
const MEMORY: f64 = 256.0;

/// With fewer nothing is known.
const FEW: f64 = 8.0;

/// Standard errors for a claim, and a claim's greatest distance from what it claims.
const SIGMAS: f64 = 2.0;
const NEAR: f64 = 0.2;

/// Servers complete about as many requests more or less in a second as their times vary:
/// with a variation `c` the square of the move is `c²` divided by their number. What
/// moves as if `c` were 5 % is held by a limit. One second counts for no more than a
/// variation of 15 %.
const LEVEL: f64 = 0.05;
const MAX_DISPERSION: f64 = 0.15;
const RECENT: f64 = 16.0;

/// If a disk always has several requests in flight and yet completes less work per second
/// than this, a limit on requests per second holds it back, unless its rates have shown
/// another limit. Such a limit counts a large request as several.
const IDLE_WORK: f64 = 0.7;
const SATURATED: f64 = 2.0;
const SMALL_BYTES: u64 = 32 << 10;

impl Pair {
    /// Moves are logarithms of ratios.
    fn add(&mut self, first: f64, second: f64) {
        if self.moves >= MEMORY {
            *self = Self {
                moves: self.moves / 2.0,
                first: self.first / 2.0,
                apart: self.apart / 2.0,
                both: self.both / 2.0,
            };
        }
        let apart = first - second;
        self.moves += 1.0;
        self.first += first * first;
        self.apart += apart * apart;
        self.both += first * apart;
    }

    /// The part of the distance between the two that is the first one's doing: 0 if that
    /// stays where it is, 1 if the second does; and its standard error.
    fn part(&self) -> Option<(f64, f64)> {
        if self.moves < FEW || self.apart <= 0.0 {
            return None;
        }
        let part = self.both / self.apart;
        let rest = (self.first - part * self.both).max(0.0) / self.moves;
        Some((part, (rest / self.apart).sqrt()))
    }

    /// The one of the two that stays level, 0 or 1, if either surely does.
    fn level(&self) -> Option<usize> {
        let (part, error) = self.part()?;
        let is_near = |at: f64| (part - at).abs() <= SIGMAS * error + NEAR;
        match part < 0.5 {
            true if part + SIGMAS * error < 0.5 && is_near(0.0) => Some(0),
            false if part - SIGMAS * error > 0.5 && is_near(1.0) => Some(1),
            _ => None,
        }
    }
}

impl Shortage {
    /// Takes another second in.
    pub fn observe(&mut self, disk: &DiskWork) {
        let length_ns = disk.length_ns.max(1) as f64;
        if is_saturated(disk) {
            let now: Vec<_> =
                disk.loads.iter().map(|load| (load.owner, did(load, length_ns))).collect();
            self.compare(disk, &now);
            self.before = now;
        } else {
            self.before.clear();
        }
        self.price = self.price(disk);
    }

    /// Compares a second with the one before it.
    fn compare(&mut self, disk: &DiskWork, each: &[(OwnerId, [f64; 2])]) {
        // A cost that is learnt between the two is no move.
        let cost = |owner: OwnerId| {
            let load = disk.loads.iter().find(|load| load.owner == owner);
            load.map(|load| f64::from(load.cost_ns))
        };
        let sum = |all: &[(OwnerId, [f64; 2])]| {
            let mut sum = [0.0; RATES];
            for (owner, [requests, bytes]) in all {
                sum[WORK] += requests * cost(*owner)?;
                sum[REQUESTS] += requests;
                sum[BYTES] += bytes;
            }
            sum.iter().all(|rate| *rate > 0.0).then_some(sum)
        };
        let (Some(then), Some(now)) = (sum(&self.before), sum(each)) else { return };
        let moves: [f64; RATES] = std::array::from_fn(|at| (now[at] / then[at]).ln());
        // A few large requests have most of the bytes. The move is the difference between
        // two counts, so it has the errors of both.
        let sizes = each.iter().map(|(_, [requests, bytes])| bytes * bytes / requests.max(1.0));
        let large = now[BYTES].powi(2) / sizes.sum::<f64>();
        let number = [now[REQUESTS], now[REQUESTS], large];
        let squares: [f64; RATES] = std::array::from_fn(|at| {
            (moves[at].powi(2) * number[at] / 2.0).min(MAX_DISPERSION.powi(2))
        });
        self.moves = (self.moves + 1.0).min(RECENT);
        for (known, square) in self.dispersion.iter_mut().zip(squares) {
            *known += (square - *known) / self.moves;
        }
        for (pair, [first, second]) in self.pairs.iter_mut().zip(PAIRS) {
            pair.add(moves[first], moves[second]);
        }
    }

    /// The rate that is known to be short.
    fn short_of(&self) -> Option<usize> {
        let is_level = |rate: usize| self.moves >= FEW && self.dispersion[rate] <= LEVEL.powi(2);
        match (is_level(REQUESTS), is_level(BYTES)) {
            (true, true) => {
                let [_, _, either] = self.pairs;
                let (part, _) = either.part().unwrap_or_default();
                return Some(if part < 0.5 { REQUESTS } else { BYTES });
            }
            (true, false) => return Some(REQUESTS),
            (false, true) => return Some(BYTES),
            (false, false) => {}
        }
        let mut stays = [true; RATES];
        for (pair, [first, second]) in self.pairs.iter().zip(PAIRS) {
            match pair.level() {
                Some(0) => stays[second] = false,
                Some(_) => stays[first] = false,
                None => {}
            }
        }
        let mut left = (0..RATES).filter(|rate| stays[*rate]);
        left.next().filter(|_| left.next().is_none())
    }

    fn price(&self, disk: &DiskWork) -> Price {
        let sum = |part: fn(&Load) -> f64| disk.loads.iter().map(part).sum::<f64>();
        let length_ns = disk.length_ns as f64;
        let ended = sum(|load| load.completed as f64);
        let bytes = sum(|load| load.bytes as f64);
        let is_busy = sum(|load| load.in_flight_ns as f64) >= SATURATED * length_ns;
        if !is_busy || ended < 1.0 {
            return Price::Work;
        }
        let each_ns = length_ns / ended;
        let work_ns = sum(|load| load.completed as f64 * f64::from(load.cost_ns));
        match self.short_of().filter(|_| is_saturated(disk)) {
            Some(REQUESTS) => Price::Each { ns: each_ns, up_to_bytes: u64::MAX },
            Some(BYTES) => Price::Byte { ns: length_ns / bytes.max(1.0) },
            None if work_ns < IDLE_WORK * length_ns => {
                Price::Each { ns: each_ns, up_to_bytes: SMALL_BYTES }
            }
            _ => Price::Work,
        }
    }

    /// The weight of a request beside others: `cost_ns` is the time that one takes alone.
    /// Flushes and discards are not what disks have limits on.
    pub fn weigh(&self, op: u32, bytes: u64, cost_ns: u32) -> u32 {
        if !matches!(op, op::READ | op::WRITE) || bytes == 0 {
            return cost_ns;
        }
        let ns = match self.price {
            Price::Each { ns, up_to_bytes } if bytes <= up_to_bytes => ns as u32,
            Price::Byte { ns } => (ns * bytes as f64) as u32,
            _ => cost_ns,
        };
        ns.max(1)
    }
}

/// Requests and bytes that were completed, per second.
fn did(load: &Load, length_ns: f64) -> [f64; 2] {
    [load.completed, load.bytes].map(|done| done as f64 * 1e9 / length_ns)
}

/// It is never idle, and its requests wait for each other.
fn is_saturated(disk: &DiskWork) -> bool {
    let in_flight_ns: f64 = disk.loads.iter().map(|load| load.in_flight_ns as f64).sum();
    let work_ns: f64 =
        disk.loads.iter().map(|load| load.completed as f64 * f64::from(load.cost_ns)).sum();
    let was_idle = disk.alone.requests > 0 || disk.flushes.requests > 0;
    !was_idle && in_flight_ns >= DEEP * disk.length_ns as f64 && in_flight_ns >= STRETCHED * work_ns
}
