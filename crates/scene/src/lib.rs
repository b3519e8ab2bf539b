//! The state that snapshots are made from: the engine, names, the ledger's last reading, and
//! the begin of the window and of the period.
//!
//! A session fills a [`Scene`] from a kernel, a replay from a recording; both
//! get the same snapshots from it. So nothing here asks the machine for
//! anything, neither the time nor the name of a process.

#![forbid(unsafe_code)]

pub mod actors;
mod frozen;
pub mod hanging;
pub mod metrics;
mod reasons;
pub mod snapshot;
pub mod stages;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tracer_ebpf::histogram::BUCKETS;
use tracer_engine::{
    Engine,
    usage::{Learnt, Rate},
};
use tracer_snapshot::{Hanging, Kernel, StackFact, clock::Clock};

use actors::Actors;
use metrics::Metrics;

pub use snapshot::comm_text;

/// Half of the window that windowed numbers look back on.
const HALF_WINDOW: Duration = Duration::from_secs(5);

/// Ticks are about a second apart, so a half of the window ends with the nearest tick.
const HALF_A_TICK: Duration = Duration::from_millis(500);

/// A disk as it was at the last tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskState {
    /// As records name it.
    pub index: u32,
    pub name: String,
    /// The name by which people know it; empty if there is none, and absent until it was
    /// looked up.
    pub known_as: Option<String>,
    pub scheduler: String,
    pub in_flight: u64,
    pub rates: Vec<Rate>,
    pub work: Vec<Learnt>,
    /// When the reference that an earlier run kept was last seen to hold, in Unix
    /// seconds.
    pub reference_at: Option<f64>,
    /// The part of its requests, in the last minute or so, for which the table of
    /// requests in flight had no slot.
    pub uncounted_share: f64,
    /// Latencies of the operations that the disk has had.
    pub latencies: Vec<Histograms>,
}

/// Latencies of one operation's requests on one disk, since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Histograms {
    pub op: u16,
    /// Bytes of the requests that ended.
    pub bytes: u64,
    pub queue: [u64; BUCKETS],
    pub device: [u64; BUCKETS],
}

/// The reports of the disks below a filesystem that are not well. A stack that is well has none.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stack {
    /// The filesystem's device.
    pub device: u32,
    /// The disk that its syncs wait for, as records name it.
    pub disk: u32,
    pub facts: Vec<StackFact>,
}

/// The state that snapshots are made from.
pub struct Scene {
    pub engine: Engine,
    pub actors: Actors,
    pub disks: Vec<DiskState>,
    /// Syncs that had not ended at the last tick, the oldest first.
    pub hanging: Vec<Hanging>,
    /// How many more there were.
    pub hanging_left_out: usize,
    /// Stacks that somebody waits for and that were not well at the last tick.
    pub stacks: Vec<Stack>,
    pub metrics: Metrics,
    pub kernel: Kernel,
    clock: Clock,
    started_ns: u64,
    rotated_ns: u64,
    /// Start of the older half of the window.
    window_ns: u64,
    /// Start of the period.
    period_ns: u64,
}

impl Scene {
    /// An empty scene that begins at `now_ns`.
    ///
    /// # Errors
    ///
    /// When the metrics cannot be made: never, as their names are constants.
    pub fn new(kernel: Kernel, clock: Clock, now_ns: u64) -> Result<Self> {
        Ok(Self {
            engine: Engine::new(),
            actors: Actors::default(),
            disks: Vec::new(),
            hanging: Vec::new(),
            hanging_left_out: 0,
            stacks: Vec::new(),
            metrics: Metrics::new()?,
            kernel,
            clock,
            started_ns: now_ns,
            rotated_ns: now_ns,
            window_ns: now_ns,
            period_ns: now_ns,
        })
    }

    /// Begins a new period.
    pub fn begin_period(&mut self, now_ns: u64) {
        self.engine.begin_period();
        (self.period_ns, self.window_ns, self.rotated_ns) = (now_ns, now_ns, now_ns);
    }

    /// Forgets the older half of the window once a half has passed.
    fn rotate_if_due(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.rotated_ns);
        if passed >= (HALF_WINDOW - HALF_A_TICK).as_nanos() as u64 {
            self.engine.rotate();
            self.window_ns = self.rotated_ns;
            self.rotated_ns = now_ns;
        }
    }

    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Sets the clock by which moments are shown.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }
}
