//! What one sync's time went to.

use tracer_ebpf::record::SyncRecord;

use crate::snapshot;

/// Nanoseconds; they add up to the sync's duration exactly.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phases {
    pub cpu_ns: u64,
    pub runqueue_ns: u64,
    pub queue_ns: u64,
    pub device_ns: u64,
    pub journal_ns: u64,
    pub other_ns: u64,
}

impl Phases {
    /// Divides a sync's duration. Each part is bounded by what the parts before
    /// it left, so that they add up whatever the clocks say.
    ///
    /// Its own requests may overlap: then their added-up times are more than
    /// the time from the first birth to the last end, and that span counts,
    /// divided in the proportion of their waits and services.
    pub fn of(record: &SyncRecord) -> Self {
        let mut left = record.duration_ns;
        let mut take = |wanted: u64| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let cpu_ns = take(record.cpu_ns);
        let runqueue_ns = take(record.runqueue_ns);
        let own_sum = record.own_queue_ns.saturating_add(record.own_device_ns);
        let own = take(own_sum.min(record.own_span_ns));
        let journal_ns = take(record.journal_ns);
        let queue_ns = match own_sum {
            0 => 0,
            _ => (u128::from(own) * u128::from(record.own_queue_ns) / u128::from(own_sum)) as u64,
        };
        let device_ns = own - queue_ns;
        Self { cpu_ns, runqueue_ns, queue_ns, device_ns, journal_ns, other_ns: left }
    }

    /// Time that it neither ran nor could have run.
    pub fn wait_ns(&self) -> u64 {
        self.queue_ns + self.device_ns + self.journal_ns + self.other_ns
    }

    pub fn add(&mut self, other: &Self) {
        let Self { cpu_ns, runqueue_ns, queue_ns, device_ns, journal_ns, other_ns } = other;
        self.cpu_ns += cpu_ns;
        self.runqueue_ns += runqueue_ns;
        self.queue_ns += queue_ns;
        self.device_ns += device_ns;
        self.journal_ns += journal_ns;
        self.other_ns += other_ns;
    }

    pub fn to_seconds(self) -> snapshot::Phases {
        let seconds = |ns: u64| ns as f64 / 1e9;
        snapshot::Phases {
            cpu: seconds(self.cpu_ns),
            runqueue: seconds(self.runqueue_ns),
            queue: seconds(self.queue_ns),
            device: seconds(self.device_ns),
            journal: seconds(self.journal_ns),
            other: seconds(self.other_ns),
        }
    }
}
