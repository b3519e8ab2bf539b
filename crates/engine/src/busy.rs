//! The time that syncs run on a CPU beyond what is usual for their victim. A filesystem works
//! inside the call: it looks for free blocks, compresses or encrypts. Such a sync waits for
//! nobody, and is slow all the same.

use super::{
    save::saved,
    victim::{BASELINE_SYNCS, MAX_BASELINE_NS, Victim},
};

/// A sync runs for long if it runs for more than this multiple of what is usual.
const LONG: f64 = 2.0;

/// No sync runs for long if it runs for less. On a fast disk most of a sync is CPU time, which
/// varies with caches and clocks.
const LEAST_NS: f32 = 1e6;

/// A byte that the sync writes itself may take this long: it is copied or mapped, and put into a
/// request.
const NS_PER_BYTE: f64 = 1.0;

/// A CPU time above 3 usual ones is an outlier, of which one in 32 is a sample.
const OUTLIER: f32 = 3.0;
const OUTLIERS_PER_SAMPLE: u16 = 32;

/// The mean is of about this many syncs.
const SAMPLES: u16 = 1024;

/// The usual CPU time of a victim's syncs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busy {
    samples: u16,
    outliers: u16,
    usual_ns: f32,
}

saved!(Busy { samples, outliers, usual_ns } if |it| it.samples <= SAMPLES);

impl Busy {
    /// The part of a sync's CPU time, in ns, that is beyond what is usual; the sync wrote
    /// `bytes` itself. No CPU time above 10 ms counts as usual.
    pub fn beyond_ns(&self, cpu_ns: u64, bytes: u64) -> f64 {
        if u64::from(self.samples) < BASELINE_SYNCS {
            return 0.0;
        }
        let usual_ns =
            (LONG * f64::from(self.usual_ns)).min(MAX_BASELINE_NS as f64).max(LEAST_NS.into());
        (cpu_ns as f64 - usual_ns - NS_PER_BYTE * bytes as f64).max(0.0)
    }

    /// Learns from a sync, whoever else was on its disk: they take none of this time.
    pub fn learn(&mut self, cpu_ns: u64) {
        let cpu_ns = cpu_ns as f32;
        let is_known = u64::from(self.samples) >= BASELINE_SYNCS;
        if is_known && cpu_ns > (OUTLIER * self.usual_ns).max(LEAST_NS) {
            self.outliers = self.outliers.wrapping_add(1);
            if !self.outliers.is_multiple_of(OUTLIERS_PER_SAMPLE) {
                return;
            }
        }
        self.samples = (self.samples + 1).min(SAMPLES);
        self.usual_ns += (cpu_ns - self.usual_ns) / f32::from(self.samples);
    }
}

impl Victim {
    /// Takes in the CPU time of the last second's syncs; in that second the hypervisor gave
    /// `steal_ns` of all CPUs to others. A thread whose CPU is taken away like that seems to run
    /// meanwhile, so as much of the time may be the wait for a CPU.
    pub(super) fn settle_busy(&mut self, steal_ns: u64) {
        let busy_ns = std::mem::take(&mut self.fresh.busy_ns);
        let stolen_ns = busy_ns.min(steal_ns as f32);
        self.now.stolen_ns += stolen_ns;
        self.now.busy_ns += busy_ns - stolen_ns;
    }
}
