//! Finds the actors that a sync waited for.
//!
//! The accounts of the disks that a sync waits for belong to its own process,
//! to the journal of its filesystem, or to others. The requests that the sync
//! itself waits for (its own, its journal's) are the effect, not a cause. What
//! is left of its process's account is its own other work; the rest are
//! competitors. On the disks below its first one, kernel workers without an
//! owner carry the requests of the disk above, and are an effect too. If the first one
//! is a carrying disk, all kernel threads below it are, and what is known of its bios
//! counts once (see [`super::carried`]).
//!
//! Blame divides the *excess*: the wait beyond the victim's baseline. Work
//! that was in flight can explain no more of it than the time that it was in
//! flight for. That part is divided by work, not by counts: a request weighs
//! what one of its class takes when it is alone on its disk. So one discard
//! outweighs thirty small reads, and the victim's own requests, which pile up
//! behind a culprit, do not outweigh it. The rest is divided by the sync's own
//! phases (see [`Division`]).
//!
//! A commit first waits for the handles that are open. If a limit stops those who have them, that
//! time is theirs before all else (see [`super::holders`]).
//!
//! A commit writes the blocks of all who changed the filesystem. As far as these
//! are others', its requests are no effect but a cause, and have their part by
//! work beside all else that is in flight.

use serde::{Deserialize, Serialize};
use tracer_ebpf::{
    ledger::ticks_to_ns,
    record::{ACCOUNTS, COMM, SyncRecord, UnderlyingWindow, commit, op, via},
};

use super::{
    carried::is_carried,
    phases::{Phase, Phases},
    save::{Digest, Save, Source, saved},
};

/// An owner and one class of its requests, interned by the caller.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct OwnerId(pub u32);

impl Save for OwnerId {
    fn shape(shape: &mut Digest) {
        shape.add(b"owner");
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(&mut self, from: &mut Source<'_>) -> Option<()> {
        self.0.read(from)
    }
}

impl OwnerId {
    /// The owner of an account that nobody has, and of `others`.
    pub const NOBODY: Self = Self(0);
}

/// The fields that identify an actor, as the kernel has them: an owner without the operation
/// of its requests.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ActorId {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub kthread: bool,
}

saved!(ActorId { cgroup, comm, kthread });

impl ActorId {
    /// Whether it is a kernel worker that works for an unknown owner.
    pub fn is_kworker(&self) -> bool {
        self.kthread && self.comm.starts_with(b"kworker")
    }

    /// A kernel thread that works for all users of a filesystem: a kernel worker, or a
    /// thread of the filesystem's own. It writes what the users changed, so if a user is
    /// known, the user is named and the thread is not.
    pub fn is_helper(&self) -> bool {
        let begins = |name: &[u8]| self.comm.starts_with(name);
        self.is_kworker() || self.kthread && begins(b"xfsaild/")
    }

    /// The thread that commits a filesystem's journal for those who sync.
    pub fn is_journal(&self) -> bool {
        self.kthread && self.comm.starts_with(b"jbd2/")
    }
}

/// The facts that the engine needs about an account's owner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    pub id: OwnerId,
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub kthread: bool,
    /// A code of [`tracer_ebpf::record::op`].
    pub op: u16,
    /// The cost of one of its requests: the time in ns that a request of this
    /// class takes alone on the disk.
    pub weight_ns: u32,
    /// A code of [`tracer_ebpf::record::via`].
    pub via: u8,
}

impl Owner {
    /// The owner of a free account, and of `others`.
    pub const NOBODY: Self = Self {
        id: OwnerId::NOBODY,
        cgroup: 0,
        comm: [0; COMM],
        kthread: false,
        op: 0,
        weight_ns: 1,
        via: 0,
    };

    pub fn actor(&self) -> ActorId {
        ActorId { cgroup: self.cgroup, comm: self.comm, kthread: self.kthread }
    }

    /// Whether a worker or a commit writes what the owner, or somebody who is not known, left in
    /// the page cache: then others may have asked for it to be written now.
    pub(super) fn is_written_back(&self) -> bool {
        let by_another = matches!(self.via, via::WRITEBACK | via::JOURNAL);
        u32::from(self.op) == op::WRITE && (by_another || self.actor().is_helper())
    }

    /// Whether the request is the caller's. It is also if a kernel worker issues it for the
    /// caller's cgroup, because that cgroup's limit (`io.max`) held it back.
    fn is_caller(&self, record: &SyncRecord) -> bool {
        // Kernel threads have no cgroup (0), so no process is mistaken for one.
        let issued_for = !self.kthread && self.comm.starts_with(b"kworker\0");
        self.cgroup == record.cgroup && (self.comm == record.comm || issued_for)
    }
}

impl From<&SyncRecord> for ActorId {
    /// The actor that synced.
    fn from(record: &SyncRecord) -> Self {
        Self { cgroup: record.cgroup, comm: record.comm, kthread: record.kthread != 0 }
    }
}

/// A place in the stack of disks that a sync waits for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Layer {
    /// The sync's own requests go there first.
    Upper,
    /// It serves the requests of an upper disk.
    Underlying,
}

/// One competitor's requests in flight during one sync.
#[derive(Clone, Copy, Debug, Default)]
pub struct Competitor {
    pub owner: Owner,
    /// Time-integral of its requests in flight.
    pub in_flight_ns: u64,
    /// The integral weighed by the requests' costs, in ns of service.
    pub work: f64,
}

/// Competitors that one sync distinguishes.
const COMPETITORS: usize = ACCOUNTS;

/// Requests in flight during one sync.
#[derive(Clone, Debug)]
pub struct Window {
    competitors: [Competitor; COMPETITORS],
    count: usize,
    /// All competitors together: their integral in ns, and their work.
    pub total_ns: u64,
    pub total_work: f64,
    /// The victim's own other requests.
    pub own_other_ns: u64,
    pub own_work: f64,
    /// The journal's, whoever filled it.
    pub journal_ns: u64,
    pub journal_work: f64,
    /// Accounts with an impossible integral: more requests than any disk has in flight.
    pub torn: u32,
}

/// More requests in flight than any device takes; an integral above is torn.
const MAX_IN_FLIGHT: u64 = 1 << 20;

impl Window {
    /// Sorts the accounts of a record's disks by whose they are; `owners` gives
    /// those of a disk.
    pub fn of<'a>(
        record: &SyncRecord,
        underlying: &[UnderlyingWindow],
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) -> Self {
        let mut window = Self {
            competitors: [Competitor::default(); COMPETITORS],
            count: 0,
            total_ns: 0,
            total_work: 0.0,
            own_other_ns: 0,
            own_work: 0.0,
            journal_ns: 0,
            journal_work: 0.0,
            torn: 0,
        };
        let mut own = Own::default();
        window.add_disk(record, Layer::Upper, record.integrals(), owners(record.disk), &mut own);
        let upper = window.count;
        for below in underlying {
            // Indices are narrower than the word they travel in.
            let owners = owners(below.disk as u32);
            if record.carried == 0 {
                window.add_disk(record, Layer::Underlying, &below.integrals, owners, &mut own);
            } else {
                window.add_carrier(record, upper, &below.integrals, owners);
            }
        }
        // Pages that it read back are in `reclaim_ns`, and are the sync's own wait too.
        let effect_ns = record.own_queue_ns.saturating_add(record.own_device_ns);
        let effect_ns = effect_ns.saturating_add(record.reclaim_ns);
        // The integral is in ticks and the duration in ns, so less than a tick is noise.
        let other_ns = own.in_flight_ns.saturating_sub(effect_ns.saturating_add(ticks_to_ns(4)));
        window.own_other_ns = other_ns;
        if own.in_flight_ns > 0 {
            window.own_work = own.work * (other_ns as f64 / own.in_flight_ns as f64);
        }
        window
    }

    fn add_disk(
        &mut self,
        record: &SyncRecord,
        layer: Layer,
        integrals: &[u64],
        owners: &[Owner; ACCOUNTS],
        own: &mut Own,
    ) {
        let most = record.duration_ns.saturating_mul(MAX_IN_FLIGHT);
        for (integral, owner) in integrals.iter().zip(owners) {
            // A request that ends while an account is read makes the earlier integral larger by
            // less than the request's age. The difference is then negative, and counts as 0.
            if (*integral as i64) <= 0 {
                continue;
            }
            let in_flight_ns = ticks_to_ns(*integral);
            let work = in_flight_ns as f64 * f64::from(owner.weight_ns.max(1));
            if in_flight_ns > most {
                self.torn += 1;
            } else if owner.is_caller(record) {
                // An underlying disk carries the same requests once more.
                if layer == Layer::Upper {
                    own.in_flight_ns = own.in_flight_ns.saturating_add(in_flight_ns);
                    own.work += work;
                }
            } else if owner.actor().is_journal() {
                // On an underlying disk it is another filesystem's.
                if layer == Layer::Upper {
                    self.journal_ns = self.journal_ns.saturating_add(in_flight_ns);
                    self.journal_work += work;
                }
            } else if !(layer == Layer::Underlying && owner.actor().is_kworker()) {
                self.add(Competitor { owner: *owner, in_flight_ns, work });
            }
        }
    }

    /// Adds what reaches a disk below a carrying one by another way. An owner with bios
    /// among the first `upper` competitors has the larger of both.
    fn add_carrier(
        &mut self,
        record: &SyncRecord,
        upper: usize,
        integrals: &[u64],
        owners: &[Owner; ACCOUNTS],
    ) {
        let most = record.duration_ns.saturating_mul(MAX_IN_FLIGHT);
        for (integral, owner) in
            integrals.iter().zip(owners).filter(|(integral, _)| integral.cast_signed() > 0)
        {
            let in_flight_ns = ticks_to_ns(*integral);
            if in_flight_ns > most {
                self.torn += 1;
                continue;
            }
            let above = self.competitors[..upper].iter().map(|known| known.owner.actor());
            if is_carried(&owner.actor(), &ActorId::from(record), above) {
                continue;
            }
            let known = self.competitors().iter().find(|known| known.owner.id == owner.id);
            let more_ns = in_flight_ns.saturating_sub(known.map_or(0, |known| known.in_flight_ns));
            let work = more_ns as f64 * f64::from(owner.weight_ns.max(1));
            if more_ns > 0 {
                self.add(Competitor { owner: *owner, in_flight_ns: more_ns, work });
            }
        }
    }

    /// An owner may have requests on several disks.
    fn add(&mut self, one: Competitor) {
        self.total_ns = self.total_ns.saturating_add(one.in_flight_ns);
        self.total_work += one.work;
        let known = &mut self.competitors[..self.count];
        // If there are more competitors than places, they share the last one.
        let place = match known.iter_mut().find(|c| c.owner.id == one.owner.id) {
            Some(place) => place,
            None if self.count < COMPETITORS => {
                self.count += 1;
                let place = &mut self.competitors[self.count - 1];
                place.owner = one.owner;
                place
            }
            None => &mut self.competitors[COMPETITORS - 1],
        };
        place.in_flight_ns = place.in_flight_ns.saturating_add(one.in_flight_ns);
        place.work += one.work;
    }

    pub fn competitors(&self) -> &[Competitor] {
        &self.competitors[..self.count]
    }

    /// Whether nobody else had a request in flight for more than 1 % of the
    /// time, and the victim's other work none for more than 10 %: such a sync
    /// shows what the disk does by itself.
    pub fn is_uncontended(&self, duration_ns: u64) -> bool {
        self.total_ns.saturating_mul(100) <= duration_ns
            && self.own_other_ns.saturating_mul(10) <= duration_ns
    }
}

/// The caller's own account.
#[derive(Default)]
struct Own {
    in_flight_ns: u64,
    work: f64,
}

/// The parts of a sync's excess, in ns. All parts, with those of the
/// competitors, add up to the excess, except for rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Division {
    pub excess_ns: f64,
    /// Behind competitors' requests.
    pub others_ns: f64,
    /// Behind the victim's own other requests, and for what it had to write
    /// itself beyond the usual.
    pub own_ns: f64,
    /// The part of `own_ns` behind those requests.
    pub own_behind_ns: f64,
    /// In reclaim, or for what it had evicted.
    pub memory_ns: f64,
    /// Before its requests existed, with nobody else in flight.
    pub throttle_ns: f64,
    /// In a commit that waited for handles which are open because a limit stops their owners. The
    /// ticks name these owners.
    pub stopped_ns: f64,
    /// In a commit that waited for handles, with nobody else in flight.
    pub handles_ns: f64,
    /// In the rest of the journal's commit, with nobody else in flight: whose blocks these
    /// were, the ticks say.
    pub journal_ns: f64,
    /// Behind what commits wrote for strangers, beside other requests that were
    /// in flight: theirs alone.
    pub commits_ns: f64,
    /// At the device, with nobody else in flight.
    pub device_ns: f64,
    /// None of these.
    pub unexplained_ns: f64,
}

saved! {
    Division {
        excess_ns, others_ns, own_ns, own_behind_ns, memory_ns, throttle_ns, stopped_ns,
        handles_ns, journal_ns, commits_ns, device_ns, unexplained_ns,
    }
}

impl Division {
    /// Takes a part of the excess out that is accounted for elsewhere: first out of what no
    /// competitor explains.
    pub fn take_out(&mut self, ns: f64) {
        let mut left_ns = ns.min(self.excess_ns);
        let parts = [
            &mut self.unexplained_ns,
            &mut self.device_ns,
            &mut self.journal_ns,
            &mut self.throttle_ns,
            &mut self.own_ns,
            &mut self.memory_ns,
            &mut self.commits_ns,
            &mut self.others_ns,
        ];
        for part in parts {
            let taken_ns = part.min(left_ns).max(0.0);
            *part -= taken_ns;
            left_ns -= taken_ns;
            self.excess_ns -= taken_ns;
        }
        self.own_behind_ns = self.own_behind_ns.min(self.own_ns);
    }

    pub fn add(&mut self, other: &Self) {
        let Self {
            excess_ns,
            others_ns,
            own_ns,
            own_behind_ns,
            memory_ns,
            throttle_ns,
            stopped_ns,
            handles_ns,
            journal_ns,
            commits_ns,
            device_ns,
            unexplained_ns,
        } = other;
        self.excess_ns += excess_ns;
        self.others_ns += others_ns;
        self.own_ns += own_ns;
        self.own_behind_ns += own_behind_ns;
        self.memory_ns += memory_ns;
        self.throttle_ns += throttle_ns;
        self.stopped_ns += stopped_ns;
        self.handles_ns += handles_ns;
        self.journal_ns += journal_ns;
        self.commits_ns += commits_ns;
        self.device_ns += device_ns;
        self.unexplained_ns += unexplained_ns;
    }
}

/// The engine's knowledge of a victim when a sync of it is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The baseline, in ns.
    pub baseline_ns: u64,
    /// The amount by which the sync's own requests need more than usual, because it
    /// has more to write.
    pub more_ns: u64,
    /// Strangers' part of the blocks that its journal was given last.
    pub filled_by_others: f64,
    /// The part of the last waits for open handles that was due to those whom a limit stopped.
    pub stopped: f64,
}

/// Divides a wait beyond its baseline.
pub fn divide(record: &SyncRecord, window: &Window, phases: &Phases, known: &Known) -> Division {
    let wait_ns = phases.wait_ns();
    let excess_ns = wait_ns.saturating_sub(known.baseline_ns) as f64;
    if excess_ns <= 0.0 {
        return Division::default();
    }
    let mut division = Division { excess_ns, ..Division::default() };
    division.memory_ns = excess_ns.min(phases.ns[Phase::Reclaim] as f64);
    let left = excess_ns - division.memory_ns;
    // While the holder of a handle is stopped by its own limit, requests in flight are no reason.
    let locking_ns = phases.journal_stage_ns[commit::LOCKING] as f64;
    division.stopped_ns = left.min(locking_ns) * known.stopped;
    let left = left - division.stopped_ns;

    // Work in flight explains at most the time that it was in flight for. The
    // commit that a sync waits for has a phase of its own; a commit that its own
    // requests are served beside has none.
    let io_ns = phases.ns[Phase::Queue] + phases.ns[Phase::Device];
    let io_ns = io_ns.saturating_sub(phases.journal_io_ns) as f64;
    let behind_ns = (io_ns - known.more_ns as f64).max(0.0).min(window.journal_ns as f64);
    let behind_ns = behind_ns * known.filled_by_others;
    let in_flight_ns = window.total_ns.saturating_add(window.own_other_ns) as f64 + behind_ns;
    let contended = left.min(in_flight_ns);
    let commits_work = window.journal_work * known.filled_by_others;
    let work = window.total_work + window.own_work + commits_work;
    if work > 0.0 {
        division.others_ns = contended * window.total_work / work;
        division.own_behind_ns = contended * window.own_work / work;
        division.own_ns = division.own_behind_ns;
        division.commits_ns = contended * commits_work / work;
    }

    // The rest is divided as the sync's own phases are.
    let explained = division.others_ns + division.own_ns + division.commits_ns;
    let alone = (left - explained).max(0.0);
    let journal_ns = record.journal_ns.min(phases.ns[Phase::Journal] + phases.journal_io_ns) as f64;
    let journal_ns = (journal_ns - locking_ns).max(0.0);
    let locking_ns = locking_ns * (1.0 - known.stopped);
    let throttle_ns = phases.ns[Phase::Throttle] as f64;
    let io_ns = io_ns - behind_ns.min(division.commits_ns);
    let other_ns = phases.ns[Phase::Other] as f64;
    let all = locking_ns + journal_ns + throttle_ns + io_ns + other_ns;
    if all > 0.0 {
        division.handles_ns = alone * locking_ns / all;
        division.journal_ns = alone * journal_ns / all;
        division.throttle_ns = alone * throttle_ns / all;
        let device_ns = alone * io_ns / all;
        let more_ns = device_ns.min(known.more_ns as f64);
        division.own_ns += more_ns;
        division.device_ns = device_ns - more_ns;
        division.unexplained_ns = alone * other_ns / all;
    } else {
        division.unexplained_ns = alone;
    }
    division
}
