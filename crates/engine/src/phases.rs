//! What one sync's time went to.

use tracer_ebpf::{
    record::{SyncRecord, commit},
    span::divide,
};

use crate::phase::{ByPhase, Phase};

/// The time of one sync or of several by its phases, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phases {
    /// They add up to the duration exactly.
    pub ns: ByPhase<u64>,
    /// Of queue and device, the part of the journal's requests.
    pub journal_io_ns: u64,
    /// Parts of the journal's phase, by the codes of [`commit`]: together at most
    /// as much.
    pub journal_stage_ns: [u64; commit::COUNT],
}

impl Phases {
    /// Divides a sync's duration. Each part is bounded by what the parts before
    /// it left, so that they add up whatever the clocks say.
    ///
    /// Requests may overlap: then their added-up times are more than the time
    /// that passed, and that is divided in the proportion of their waits and
    /// services.
    pub fn of(record: &SyncRecord) -> Self {
        let mut left = record.duration_ns;
        let mut take = |wanted: u64| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let mut ns = ByPhase::default();
        ns[Phase::Cpu] = take(record.cpu_ns);
        ns[Phase::Runqueue] = take(record.runqueue_ns);
        ns[Phase::Reclaim] = take(record.reclaim_ns);
        let own_sum = record.own_queue_ns.saturating_add(record.own_device_ns);
        let own = take(own_sum.min(record.own_span_ns));
        let (own_queue, own_device) = divide(record.own_queue_ns, record.own_device_ns, own);
        ns[Phase::Throttle] = take(record.throttle_ns);
        let journal = take(record.journal_ns);
        // A commit that had begun before the sync counts its requests whole.
        let (commit_queue, commit_device) =
            divide(record.journal_queue_ns, record.journal_device_ns, journal);
        ns[Phase::Journal] = journal - commit_queue - commit_device;
        ns[Phase::Queue] = own_queue + commit_queue;
        ns[Phase::Device] = own_device + commit_device;
        ns[Phase::Other] = left;
        let journal_stage_ns = stages(record.journal_stage_ns, ns[Phase::Journal]);
        Self { ns, journal_io_ns: commit_queue + commit_device, journal_stage_ns }
    }

    /// Time that it neither ran nor could have run.
    pub fn wait_ns(&self) -> u64 {
        let waits = self.ns.named().into_iter();
        let waits = waits.filter(|(phase, _)| !matches!(phase, Phase::Cpu | Phase::Runqueue));
        waits.map(|(_, ns)| ns).sum()
    }

    pub fn add(&mut self, other: &Self) {
        let Self { ns, journal_io_ns, journal_stage_ns } = other;
        for (phase, ns) in ns.named() {
            self.ns[phase] += ns;
        }
        self.journal_io_ns += journal_io_ns;
        for (sum, ns) in self.journal_stage_ns.iter_mut().zip(journal_stage_ns) {
            *sum += ns;
        }
    }

    pub fn to_seconds(self) -> ByPhase<f64> {
        ByPhase(self.ns.0.map(|ns| ns as f64 / 1e9))
    }
}

/// The stages' parts of the time that a commit's requests leave. While it waits
/// for handles (locking) it has made none, so that time stays whole.
fn stages(stage_ns: [u64; commit::COUNT], journal_ns: u64) -> [u64; commit::COUNT] {
    let locking = stage_ns[commit::LOCKING].min(journal_ns);
    let (flushing, logging) =
        divide(stage_ns[commit::FLUSHING], stage_ns[commit::LOGGING], journal_ns - locking);
    let mut stages = [0; commit::COUNT];
    stages[commit::LOCKING] = locking;
    stages[commit::FLUSHING] = flushing;
    stages[commit::LOGGING] = logging;
    stages
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_commits_requests_are_the_devices_time_and_the_rest_is_the_journals() {
        let mut record = SyncRecord::new_zeroed();
        record.duration_ns = 20 * MS;
        record.cpu_ns = MS;
        record.journal_ns = 18 * MS;
        record.journal_queue_ns = 2 * MS;
        record.journal_device_ns = 9 * MS;
        record.journal_stage_ns = [3 * MS, MS, 14 * MS];
        let phases = Phases::of(&record);
        assert_eq!((phases.ns[Phase::Queue], phases.ns[Phase::Device]), (2 * MS, 9 * MS));
        assert_eq!((phases.ns[Phase::Journal], phases.ns[Phase::Other]), (7 * MS, MS));
        assert_eq!(phases.journal_stage_ns[commit::LOCKING], 3 * MS);
        assert_eq!(phases.journal_stage_ns.iter().sum::<u64>(), 7 * MS);
    }

    #[test]
    fn a_commit_that_had_begun_before_is_bounded_by_its_time_in_the_sync() {
        let mut record = SyncRecord::new_zeroed();
        record.duration_ns = 10 * MS;
        record.journal_ns = 4 * MS;
        record.journal_queue_ns = 10 * MS;
        record.journal_device_ns = 30 * MS;
        let phases = Phases::of(&record);
        assert_eq!((phases.ns[Phase::Queue], phases.ns[Phase::Device]), (MS, 3 * MS));
        assert_eq!((phases.ns[Phase::Journal], phases.ns[Phase::Other]), (0, 6 * MS));
    }
}
