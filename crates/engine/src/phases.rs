//! The phases of a sync, and what it spent in each.
//!
//! The list has everything that differs from phase to phase in how it is called,
//! explained and drawn; the text above each phase is also its help in outputs and
//! documents. [`Phases::of`] divides a sync's duration between them.

use std::{
    iter::Sum,
    ops::{Index, IndexMut},
};

use serde::{Serialize, Serializer};
use tracer_ebpf::{
    record::{SyncRecord, commit},
    span::divide,
};

/// A colour of the 16 that every terminal has, by number, and the same for a
/// page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Colour {
    pub ansi: u8,
    pub hex: &'static str,
}

macro_rules! phases {
    ($($(#[doc = $help:literal])+
        $phase:ident: $name:literal, short $short:literal, letter $letter:literal,
            colour $ansi:literal $hex:literal;)+) => {
        /// A part of the duration of a sync.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Phase {
            $($(#[doc = $help])+ $phase,)+
        }

        impl Phase {
            /// In the order in which they are shown.
            pub const ALL: [Self; [$($name,)+].len()] = [$(Self::$phase,)+];

            /// Its name in every output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$phase => $name,)+
                }
            }

            /// Its name where there is little room.
            pub const fn short(self) -> &'static str {
                match self {
                    $(Self::$phase => $short,)+
                }
            }

            /// Its letter in a bar, which can be read without colours.
            pub const fn letter(self) -> char {
                match self {
                    $(Self::$phase => $letter,)+
                }
            }

            pub const fn colour(self) -> Colour {
                match self {
                    $(Self::$phase => Colour { ansi: $ansi, hex: $hex },)+
                }
            }

            /// Says what the sync, or something that it waited for, did in it.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$phase => concat!($($help),+).trim_ascii(),)+
                }
            }
        }
    };
}

phases! {
    /// The syncing thread ran on a CPU.
    Cpu: "cpu", short "cpu", letter 'c', colour 2 "#2e9d7d";
    /// The thread could run, but another task had the CPU.
    Runqueue: "runqueue", short "runq", letter 'r', colour 3 "#edae49";
    /// Its requests, or the journal's, waited to be issued.
    Queue: "queue", short "queue", letter 'q', colour 4 "#3d7ea6";
    /// Its requests, or the journal's, were at the device.
    Device: "device", short "device", letter 'D', colour 5 "#8e4c93";
    /// It waited for a request: tags, writeback throttling, iocost.
    Throttle: "throttle", short "throttle", letter 'T', colour 9 "#d1495b";
    /// It reclaimed memory, or read back what had been evicted.
    Reclaim: "reclaim", short "reclaim", letter 'M', colour 11 "#c9b458";
    /// The journal was committing, without requests in flight.
    Journal: "journal", short "journal", letter 'J', colour 6 "#4fb3bf";
    /// It waited for a lock, or for what the tracer does not see.
    Other: "other", short "other", letter 'o', colour 7 "#9aa0a6";
}

impl Phase {
    pub const COUNT: usize = Self::ALL.len();
}

/// One value for each phase.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ByPhase<T>(pub [T; Phase::COUNT]);

impl<T: Copy> ByPhase<T> {
    /// The phases in their order, each with its value.
    pub fn named(&self) -> [(Phase, T); Phase::COUNT] {
        Phase::ALL.map(|phase| (phase, self[phase]))
    }
}

impl<T: Copy + Sum> ByPhase<T> {
    /// All phases together.
    pub fn total(&self) -> T {
        self.0.iter().copied().sum()
    }
}

/// An object with a field for each phase, in their order.
impl<T: Copy + Serialize> Serialize for ByPhase<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.named().map(|(phase, value)| (phase.name(), value)))
    }
}

impl<T> Index<Phase> for ByPhase<T> {
    type Output = T;

    fn index(&self, phase: Phase) -> &T {
        &self.0[phase as usize]
    }
}

impl<T> IndexMut<Phase> for ByPhase<T> {
    fn index_mut(&mut self, phase: Phase) -> &mut T {
        &mut self.0[phase as usize]
    }
}

/// All others are zero.
impl<T: Copy + Default, const N: usize> From<[(Phase, T); N]> for ByPhase<T> {
    fn from(values: [(Phase, T); N]) -> Self {
        let mut by_phase = Self::default();
        for (phase, value) in values {
            by_phase[phase] = value;
        }
        by_phase
    }
}

/// The time of one sync or of several by its phases, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phases {
    /// They add up to the duration exactly.
    pub ns: ByPhase<u64>,
    /// The part of the queue and device phases that is due to the journal's requests.
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

    /// Time that it waited for a CPU or for memory: these waits are seen in the sync
    /// itself, and need no comparison with another time.
    pub fn short_ns(&self) -> u64 {
        self.ns[Phase::Runqueue] + self.ns[Phase::Reclaim]
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
    use std::collections::BTreeSet;

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

    #[test]
    fn phases_differ_in_each_of_their_marks() {
        let names: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        let letters: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.letter()).collect();
        let terminal: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.colour().ansi).collect();
        let page: BTreeSet<_> = Phase::ALL.iter().map(|phase| phase.colour().hex).collect();
        for marks in [names.len(), letters.len(), terminal.len(), page.len()] {
            assert_eq!(marks, Phase::COUNT);
        }
    }
}
