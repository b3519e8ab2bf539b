//! One victim: a workload and a file that it syncs, and what we know of it.
//!
//! A victim takes 11 KiB, and between 272 bytes and 1 KiB for each actor that it remembers
//! (`suspects`). Windowed numbers are kept in two halves, the current and the one before,
//! so that forgetting is a swap; what leaves the window is added to the period's past.

mod learnt;
mod suspects;

pub(super) use learnt::MOST_SYNCS;
use tracer_ebpf::record::{COMM, NO_DISK, SyncRecord, UNDERLYING, UnderlyingWindow, op, via};

use super::{
    blame::{ActorId, Competitor, Division, Window},
    busy::Busy,
    debt::Debt,
    device::Device,
    helper::Helpers,
    histogram::{Evidence, Latency},
    phases::Phases,
    reference::Reference,
    second::{Fresh, Needs},
    sums::{Half, SyncBuckets, sync_bucket},
    suspect::{SECONDS, STRATA, Second, Suspect},
    tick::LimitKind,
    triggers::Triggers,
};

/// The key of a victim.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VictimKey {
    pub cgroup: u64,
    pub comm: [u8; COMM],
    /// The file, or the class of files, as the caller interned it.
    pub file: u32,
    /// The filesystem's device.
    pub device: u32,
}

impl VictimKey {
    /// The key of a sync's victim.
    pub fn of(record: &SyncRecord, file: u32) -> Self {
        Self { cgroup: record.cgroup, comm: record.comm, file, device: record.device }
    }
}

/// The root cgroup. It may hold processes of everybody, so two actors in it have nothing in
/// common.
pub(super) const ROOT_CGROUP: u64 = 1;

/// Uncontended syncs before a baseline is believed.
pub const BASELINE_SYNCS: u64 = 20;

/// Victims that synced only a few times are forgotten after this time.
const FORGOTTEN_NS: u64 = 600_000_000_000;

/// With this number of uncontended syncs, the older ones lose half their weight.
const BASELINE_MEMORY: u64 = 4096;

/// A wait above 3 baselines is an outlier, of which only one in 32 becomes a baseline
/// sample: otherwise a device that became slow would raise the baseline that it is compared
/// with.
const OUTLIER_BASELINES: u64 = 3;
const OUTLIERS_PER_SAMPLE: u32 = 32;

/// A sync writes much if its own requests need more than this multiple of the usual time.
const LARGE_NEED: f64 = 2.0;
/// The usual need is known after this number of uncontended syncs.
const NEED_SAMPLES: u64 = 64;

/// No baseline is above this: it is etcd's guidance for the sync of a WAL. A device that
/// was never faster than this is slow all the same.
pub const MAX_BASELINE_NS: u64 = 10_000_000;

/// An actor is on a sync's path if its requests were in flight for this part of it.
const ON_THE_PATH: f64 = 0.05;

/// How far back a number looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Span {
    /// The last seconds.
    Window,
    /// Since the period began.
    Period,
}

/// A victim's state.
#[derive(Clone, Debug)]
pub struct Victim {
    pub id: u32,
    pub key: VictimKey,
    /// The process that synced last.
    pub tgid: u32,
    pub kthread: bool,
    /// Its disk; `NO_DISK` until a sync shows it.
    pub disk: u32,
    /// Those below it that its last sync waited for.
    underlying: [u32; UNDERLYING],
    /// Whether its disk is a carrying one.
    pub is_carried: bool,
    pub last_ns: u64,
    pub syncs_total: u64,
    pub now: Half,
    pub before: Half,
    /// The sums from the begin of the period to the begin of the window.
    past: Half,
    pub suspects: Vec<Suspect>,
    /// Since the start.
    pub total: Box<Division>,
    /// All of its syncs, by [`super::sums::SYNC_BOUNDS_NS`].
    pub buckets_total: SyncBuckets,
    /// All of its syncs, as those of the suspects are kept.
    pub syncs: [Evidence; STRATA],
    /// The last seconds, 0 the current one.
    pub seconds: [Second; SECONDS],
    second: u64,
    /// The setting of the limit that held it back last.
    pub limit: Option<Box<(LimitKind, String)>>,
    pub(super) helpers: Box<Helpers>,
    /// The part of the blocks put into its journal in the last second that was others';
    /// 0 if that is not known.
    pub filled_by_others: f64,
    /// The suspect with the most blame, by position in `suspects`.
    worst: Option<u32>,
    baseline: Latency,
    /// Syncs in it, and its p90.
    samples: u64,
    baseline_ns: u64,
    /// The mean time that the requests of an uncontended sync need.
    usual_need_ns: f32,
    /// The number of outliers among the undisturbed syncs.
    outliers: u32,
    /// The usual CPU time of its syncs.
    pub(super) busy: Busy,
    /// Since the last tick.
    pub(super) fresh: Fresh,
    pub(super) triggers: Box<Triggers>,
    /// The mean wait of its syncs by the second, while all is well.
    pub(super) usual: Reference,
    /// Its syncs of the seconds in which it was well, and its disks then.
    pub(super) well: Evidence,
    pub(super) well_seconds: u32,
    /// Their p90, once there are enough of them.
    pub(super) well_p90_ns: Option<u64>,
    pub(super) disks: Device,
    pub(super) debt: Box<Debt>,
    /// The mean wait of a sync of those seconds.
    pub(super) well_wait_ns: f32,
    /// The time of the device's requests as a multiple of the time in its reference, while
    /// nothing else is known of it (see [`Victim::is_beside_reference`]); 0 if it was never
    /// compared with one.
    pub(super) device_times: f32,
    /// Whether that follows from what the disks have shown that they complete or take in, and not
    /// from requests that were alone.
    pub(super) is_paced: bool,
    /// Seconds in which the disks were not seen to be as fast as their reference; many if they
    /// were at some time.
    pub(super) unmet: u8,
}

impl Victim {
    pub fn new(id: u32, key: VictimKey) -> Self {
        Self {
            id,
            key,
            tgid: 0,
            kthread: false,
            disk: NO_DISK,
            underlying: [NO_DISK; UNDERLYING],
            is_carried: false,
            last_ns: 0,
            syncs_total: 0,
            now: Half::default(),
            before: Half::default(),
            past: Half::default(),
            suspects: Vec::new(),
            total: Box::default(),
            buckets_total: SyncBuckets::default(),
            syncs: Default::default(),
            seconds: [Second::default(); SECONDS],
            second: 0,
            limit: None,
            helpers: Box::default(),
            filled_by_others: 0.0,
            worst: None,
            baseline: Latency::default(),
            samples: 0,
            baseline_ns: 0,
            usual_need_ns: 0.0,
            outliers: 0,
            busy: Busy::default(),
            fresh: Fresh::default(),
            triggers: Box::default(),
            usual: Reference::default(),
            well: Evidence::default(),
            well_seconds: 0,
            well_p90_ns: None,
            disks: Device::default(),
            debt: Box::default(),
            well_wait_ns: 0.0,
            device_times: 0.0,
            is_paced: false,
            unmet: 0,
        }
    }

    /// Remembers the last sync's process and disks.
    pub fn meet(&mut self, record: &SyncRecord, underlying: &[UnderlyingWindow]) {
        self.tgid = record.tgid;
        self.helpers.stoppers.meet(record.tid);
        self.kthread = record.kthread != 0;
        self.meet_backing(record.backing);
        // A sync that made no request may not know its disk.
        if record.disk != NO_DISK {
            self.disk = record.disk;
            self.is_carried = record.carried != 0;
            self.underlying = [NO_DISK; UNDERLYING];
            for (known, window) in self.underlying.iter_mut().zip(underlying) {
                // Indices are narrower than the word they travel in.
                *known = window.disk as u32;
            }
        }
    }

    /// Whether its syncs wait for this disk.
    pub fn is_on(&self, disk: u32) -> bool {
        disk != NO_DISK && (self.disk == disk || self.underlying.contains(&disk))
    }

    /// The disks below its first one that its last sync waited for.
    pub fn below(&self) -> impl Iterator<Item = u32> {
        self.underlying.iter().copied().filter(|&disk| disk != NO_DISK)
    }

    pub fn actor(&self) -> ActorId {
        ActorId { cgroup: self.key.cgroup, comm: self.key.comm, kthread: self.kthread }
    }

    /// Whether an actor is in the victim's own cgroup, such as a backup within its pod: such an
    /// actor is no neighbour.
    pub fn shares_cgroup(&self, actor: &ActorId) -> bool {
        actor.cgroup == self.key.cgroup && actor.cgroup > ROOT_CGROUP
    }

    /// Whether an actor is a neighbour. A kernel thread that works for an unknown owner is none.
    pub fn is_stranger(&self, actor: &ActorId) -> bool {
        !actor.kthread && *actor != self.actor() && !self.shares_cgroup(actor)
    }

    /// The baseline: p90 of the waits of the undisturbed syncs, or of the syncs of its good
    /// seconds if others are always on its disk, but at most [`MAX_BASELINE_NS`]. `None`
    /// until enough of them were seen.
    pub fn baseline_ns(&self) -> Option<u64> {
        let known_ns = if self.has_baseline() { Some(self.baseline_ns) } else { self.well_p90_ns };
        known_ns.map(|ns| ns.min(MAX_BASELINE_NS))
    }

    /// A quantile of the uncontended syncs' waits, or of the syncs of its good
    /// seconds.
    pub fn baseline_quantile_ns(&self, q: f64) -> Option<u64> {
        let known = match self.has_baseline() {
            true => self.baseline.quantile(q),
            false => self.well.quantile(q).filter(|_| self.well_p90_ns.is_some()),
        };
        known.map(|ns| ns as u64)
    }

    /// Whether it may be removed: its last sync is long ago, and it synced too rarely to
    /// learn from.
    pub fn is_forgettable(&self, now_ns: u64) -> bool {
        self.syncs_total < BASELINE_SYNCS && now_ns.saturating_sub(self.last_ns) > FORGOTTEN_NS
    }

    /// Whether there is anything to compare its syncs with. Otherwise a verdict would be a
    /// guess.
    pub fn has_history(&self) -> bool {
        self.syncs_total >= BASELINE_SYNCS || self.baseline_ns().is_some()
    }

    fn has_baseline(&self) -> bool {
        self.samples >= BASELINE_SYNCS
    }

    pub fn record(
        &mut self,
        end_ns: u64,
        duration_ns: u64,
        phases: &Phases,
        window: &Window,
        division: &Division,
        needs: Needs,
    ) {
        self.syncs_total += 1;
        self.advance(end_ns);
        let half = &mut self.now;
        half.count(duration_ns);
        half.phases.add(phases);
        half.in_flight += (window.total_ns as f64 / duration_ns.max(1) as f64) as f32;
        self.fresh.add(division, phases, needs, duration_ns);
        self.triggers.fresh.add(division, end_ns.saturating_sub(duration_ns), end_ns);
        self.buckets_total[sync_bucket(duration_ns)] += 1;
        let second = &mut self.seconds[0];
        second.syncs += 1;
        second.sum_ns += duration_ns as f32;
        self.record_evidence(end_ns, duration_ns, window, division);
    }

    /// Charges the competitors, and adds the duration of the sync to the evidence of each.
    fn record_evidence(
        &mut self,
        end_ns: u64,
        duration_ns: u64,
        window: &Window,
        division: &Division,
    ) {
        let is_there = |c: &Competitor| c.in_flight_ns as f64 >= ON_THE_PATH * duration_ns as f64;
        let worst = self.worst().map(|worst| worst.actor);
        let disturbed =
            window.competitors().iter().any(|c| is_there(c) && Some(c.owner.actor()) == worst);
        let stratum = usize::from(disturbed);
        self.syncs[stratum].record(duration_ns);
        // It is only compared for equality, so it may wrap around.
        let sync = self.syncs_total as u32;
        for competitor in window.competitors() {
            let charge = usize::from(competitor.owner.op).min(op::COUNT - 1);
            let part = competitor.work / window.total_work.max(f64::MIN_POSITIVE);
            let ns = division.others_ns * part;
            self.triggers.blame(&competitor.owner, ns);
            let suspect = self.suspect(competitor.owner.actor(), competitor.owner.id);
            if window.total_work > 0.0 {
                suspect.fresh[charge] += ns as f32;
            }
            if charge == op::DISCARD as usize {
                suspect.frees = competitor.owner.via == via::FREED;
            }
            if is_there(competitor) {
                suspect.seconds |= 1;
                if suspect.seen_in != sync {
                    suspect.seen_in = sync;
                    suspect.record_evidence(stratum, duration_ns);
                }
            }
        }
        // These are blamed for something that leaves no requests of their own on the disk.
        for suspect in &mut self.suspects {
            if suspect.around_until_ns >= end_ns && suspect.seen_in != sync {
                suspect.seen_in = sync;
                suspect.record_evidence(stratum, duration_ns);
            }
        }
    }

    /// Goes on to the second that `now_ns` lies in.
    pub fn advance(&mut self, now_ns: u64) {
        let second = now_ns / 1_000_000_000;
        let passed = second.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        self.second = second;
        let passed = usize::try_from(passed).unwrap_or(SECONDS).min(SECONDS);
        self.seconds.rotate_right(passed);
        self.seconds[..passed].fill(Second::default());
        for suspect in &mut self.suspects {
            suspect.seconds = suspect.seconds.checked_shl(passed as u32).unwrap_or(0);
        }
    }

    /// The time that a sync's own requests need beyond what is usual.
    pub fn needs_more_ns(&self, need_ns: u64) -> u64 {
        need_ns.saturating_sub((LARGE_NEED * f64::from(self.usual_need_ns)) as u64)
    }

    /// Forgets all samples, because they were not normal.
    pub(super) fn forget_baseline(&mut self) {
        self.baseline = Latency::default();
        (self.samples, self.baseline_ns, self.usual_need_ns, self.outliers) = (0, 0, 0.0, 0);
    }

    /// Adds an undisturbed sync to the baseline.
    pub fn learn(&mut self, wait_ns: u64, need_ns: u64) {
        let wait_ns = (wait_ns as f64 / self.device_times()) as u64;
        if self.has_baseline() && wait_ns > self.baseline_ns.saturating_mul(OUTLIER_BASELINES) {
            self.outliers = self.outliers.wrapping_add(1);
            if !self.outliers.is_multiple_of(OUTLIERS_PER_SAMPLE) {
                return;
            }
        }
        if self.samples >= BASELINE_MEMORY {
            self.baseline.halve();
            self.samples /= 2;
        }
        self.baseline.record(wait_ns);
        self.samples += 1;
        let samples = self.samples.min(NEED_SAMPLES) as f32;
        self.usual_need_ns += (need_ns as f32 - self.usual_need_ns) / samples;
        // The quantile walks the histogram, so with many samples it is computed only now and then.
        if self.samples < 256 || self.samples.is_multiple_of(64) {
            self.baseline_ns = self.baseline.quantile(0.90).map_or(0, |ns| ns as u64);
        }
    }

    /// Forgets the older half of the window.
    pub fn rotate(&mut self) {
        self.past.add(&self.before);
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.clear();
        self.suspects.iter_mut().for_each(Suspect::rotate);
        self.helpers.rotate();
        self.triggers.rotate();
        self.choose_worst();
    }

    /// A new period begins with an empty window.
    pub fn begin_period(&mut self) {
        self.now.clear();
        self.before.clear();
        self.past.clear();
        self.limit = None;
        self.suspects.iter_mut().for_each(Suspect::begin_period);
        self.helpers.begin_period();
        self.triggers.begin_period();
    }

    /// Halves the weight of all evidence so far.
    pub fn fade(&mut self) {
        self.syncs.iter_mut().for_each(Evidence::halve);
        self.suspects.iter_mut().for_each(Suspect::fade);
    }

    /// All that was added up over a span.
    pub fn sum(&self, span: Span) -> Half {
        let mut sum = self.now.clone();
        sum.add(&self.before);
        if span == Span::Period {
            sum.add(&self.past);
        }
        sum
    }
}
