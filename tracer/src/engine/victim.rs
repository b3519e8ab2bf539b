//! One victim: a workload and a file that it syncs, and what we know of it.
//!
//! Everything is fixed in size or grows only with new owners. Windowed numbers
//! are kept in two halves, the current and the one before, so that forgetting
//! is a swap.

use hdrhistogram::Histogram;
use tracer_ebpf::record::{COMM, NO_DISK};

use super::{
    blame::{Division, OwnerId, Window},
    phases::Phases,
};
use crate::snapshot::Verdict;

/// What tells victims apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VictimKey {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    /// The file, or the class of files, as the caller interned it.
    pub file: u32,
    /// The filesystem's device.
    pub device: u32,
}

/// etcd's own bounds: 1 ms · 2^k.
pub const WAL_BOUNDS: usize = 14;

/// Owners that one victim remembers blame for; the rest share the last place.
const BLAMED: usize = 64;

/// Uncontended syncs before a baseline is believed.
const BASELINE_SYNCS: u64 = 20;

/// When so many uncontended syncs are known, the older ones lose half weight.
const BASELINE_MEMORY: u64 = 4096;

/// Longest sync told apart from longer ones: 1 hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// One owner's part in this victim's waits, in ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blamed {
    pub owner: OwnerId,
    pub now_ns: f64,
    pub before_ns: f64,
    pub total_ns: f64,
}

/// One half of the window.
#[derive(Clone, Debug)]
pub struct Half {
    pub latency: Histogram<u32>,
    pub phases: Phases,
    pub syncs: u64,
    pub duration_ns: u64,
    pub excess_ns: f64,
    pub alone_ns: f64,
    pub own_ns: f64,
}

impl Half {
    fn new() -> Self {
        Self {
            latency: latency_histogram(),
            phases: Phases::default(),
            syncs: 0,
            duration_ns: 0,
            excess_ns: 0.0,
            alone_ns: 0.0,
            own_ns: 0.0,
        }
    }

    fn clear(&mut self) {
        let Self { latency, phases, syncs, duration_ns, excess_ns, alone_ns, own_ns } = self;
        latency.clear();
        *phases = Phases::default();
        (*syncs, *duration_ns) = (0, 0);
        (*excess_ns, *alone_ns, *own_ns) = (0.0, 0.0, 0.0);
    }
}

/// Two significant digits from 1 µs up: 1 % in the value, some 20 KiB.
fn latency_histogram() -> Histogram<u32> {
    match Histogram::new_with_bounds(1_000, HIGHEST_NS, 2) {
        Ok(histogram) => histogram,
        // The bounds are constants that the library accepts.
        Err(error) => unreachable!("histogram bounds: {error}"),
    }
}

/// A victim's state.
#[derive(Clone, Debug)]
pub struct Victim {
    pub id: u32,
    pub key: VictimKey,
    /// The process that synced last.
    pub tgid: u32,
    pub kthread: bool,
    /// `NO_DISK` until a sync tells.
    pub disk: u32,
    pub last_ns: u64,
    pub syncs_total: u64,
    pub now: Half,
    pub before: Half,
    pub blamed: Vec<Blamed>,
    /// Since the start: excess, the device's part, its own other work's.
    pub total_ns: [f64; 3],
    /// All of its syncs, by etcd's own bounds.
    pub wal_buckets: [u64; WAL_BOUNDS + 1],
    baseline: Histogram<u32>,
    baseline_ns: u64,
}

impl Victim {
    pub fn new(id: u32, key: VictimKey) -> Self {
        Self {
            id,
            key,
            tgid: 0,
            kthread: false,
            disk: NO_DISK,
            last_ns: 0,
            syncs_total: 0,
            now: Half::new(),
            before: Half::new(),
            blamed: Vec::with_capacity(BLAMED),
            total_ns: [0.0; 3],
            wal_buckets: [0; WAL_BOUNDS + 1],
            baseline: latency_histogram(),
            baseline_ns: 0,
        }
    }

    /// The wait that is nobody's fault: p90 of the uncontended syncs; `None`
    /// until enough of them were seen.
    pub fn baseline_ns(&self) -> Option<u64> {
        (self.baseline.len() >= BASELINE_SYNCS).then_some(self.baseline_ns)
    }

    /// p99 of the uncontended syncs.
    pub fn baseline_p99_ns(&self) -> Option<u64> {
        self.baseline_ns().map(|_| self.baseline.value_at_quantile(0.99))
    }

    pub fn record(&mut self, duration_ns: u64, phases: &Phases, division: &Division) {
        self.syncs_total += 1;
        let half = &mut self.now;
        half.latency.saturating_record(duration_ns);
        half.phases.add(phases);
        half.syncs += 1;
        half.duration_ns += duration_ns;
        half.excess_ns += division.excess_ns;
        half.alone_ns += division.alone_ns;
        half.own_ns += division.own_ns;
        let parts = [division.excess_ns, division.alone_ns, division.own_ns];
        for (total, part) in self.total_ns.iter_mut().zip(parts) {
            *total += part;
        }
        self.wal_buckets[wal_bucket(duration_ns)] += 1;
    }

    /// A sync that nobody disturbed teaches what is normal.
    pub fn learn(&mut self, wait_ns: u64) {
        if self.baseline.len() >= BASELINE_MEMORY {
            self.halve_baseline();
        }
        self.baseline.saturating_record(wait_ns);
        // The quantile walks the histogram: not for each of many.
        if self.baseline.len() < 256 || self.baseline.len().is_multiple_of(64) {
            self.baseline_ns = self.baseline.value_at_quantile(0.90);
        }
    }

    /// Halving each count would need a walk that writes; starting over from
    /// what the quantiles say keeps the shape and allocates nothing.
    fn halve_baseline(&mut self) {
        let quantiles: [u64; 100] =
            std::array::from_fn(|i| self.baseline.value_at_quantile((i as f64 + 0.5) / 100.0));
        self.baseline.clear();
        for value in quantiles {
            self.baseline.saturating_record_n(value, (BASELINE_MEMORY / 200) as u32);
        }
    }

    pub fn blame(&mut self, owner: OwnerId, ns: f64) {
        if let Some(known) = self.blamed.iter_mut().find(|b| b.owner == owner) {
            known.now_ns += ns;
            known.total_ns += ns;
            return;
        }
        let fresh = Blamed { owner, now_ns: ns, before_ns: 0.0, total_ns: ns };
        if self.blamed.len() < BLAMED {
            self.blamed.push(fresh);
            return;
        }
        // The one that matters least in the window makes room.
        let least = self
            .blamed
            .iter_mut()
            .min_by(|a, b| (a.now_ns + a.before_ns).total_cmp(&(b.now_ns + b.before_ns)));
        if let Some(least) = least {
            *least = fresh;
        }
    }

    /// Forgets the older half of the window.
    pub fn rotate(&mut self) {
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.clear();
        for blamed in &mut self.blamed {
            blamed.before_ns = blamed.now_ns;
            blamed.now_ns = 0.0;
        }
    }

    /// Seconds of excess in the window, and how they are divided: all, the
    /// device alone, its own other work.
    pub fn excess_ns(&self) -> (f64, f64, f64) {
        let (a, b) = (&self.now, &self.before);
        (a.excess_ns + b.excess_ns, a.alone_ns + b.alone_ns, a.own_ns + b.own_ns)
    }

    /// Who makes it slow, in the window.
    pub fn verdict(&self) -> Verdict {
        let syncs = self.now.syncs + self.before.syncs;
        if syncs < 5 {
            return Verdict::Unknown;
        }
        let duration = (self.now.duration_ns + self.before.duration_ns) as f64;
        let runqueue = (self.now.phases.runqueue_ns + self.before.phases.runqueue_ns) as f64;
        let (excess, alone, own) = self.excess_ns();
        let others = excess - alone - own;
        let worst = excess.max(runqueue);
        if worst < SLOW_SHARE * duration {
            return Verdict::None;
        }
        if runqueue >= excess {
            Verdict::Cpu
        } else if others >= alone.max(own) {
            Verdict::Owners
        } else if own >= alone {
            Verdict::Own
        } else if self.disk == NO_DISK {
            Verdict::Unseen
        } else {
            Verdict::Device
        }
    }
}

/// Below this share of the sync time, an excess means nothing: the slowest
/// tenth of all undisturbed syncs lies above the baseline too.
const SLOW_SHARE: f64 = 0.25;

/// Which of etcd's buckets a duration falls into (its bounds are inclusive).
pub fn wal_bucket(duration_ns: u64) -> usize {
    (0..WAL_BOUNDS).find(|k| duration_ns <= 1_000_000u64 << k).unwrap_or(WAL_BOUNDS)
}

/// Charges each competitor of a sync.
pub fn charge(
    victim: &mut Victim,
    window: &Window,
    division: &Division,
    owner_of: impl Fn(usize) -> OwnerId,
) {
    if division.per_area <= 0.0 {
        return;
    }
    for (account, area_ns) in window.competitors_ns.iter().enumerate() {
        if *area_ns > 0 {
            victim.blame(owner_of(account), division.per_area * *area_ns as f64);
        }
    }
}
