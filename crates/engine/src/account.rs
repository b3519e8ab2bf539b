//! Divides a victim's excess between its causes: the share of each actor with the evidence
//! for it, and the part that nothing explains.
//!
//! Pure: a victim's sums go in, [`Shares`] and [`Finding`]s come out.

use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, Division},
    freeze::Kept,
    helper::{Held, Role},
    holders::{HeldUp, StoppedBy},
    pauses::Paused,
    phases::Phase,
    sums::Half,
    suspect::{CHARGES, Change, Lift, READ_BACK, Suspect, last_change},
    triggers::Call,
    verdict::{Cleared, Finding, Shares},
    victim::{Span, Victim},
};
use crate::kind::{Confidence, Via};

/// A limit that held for this part of the time is the reason for a wait that
/// nothing else explains.
const LIMITED: f64 = 0.3;

/// Whether a limit held for long enough within `tick_ns` of ticks.
pub fn is_limited(limited_ns: u64, tick_ns: f64) -> bool {
    tick_ns > 0.0 && limited_ns as f64 >= LIMITED * tick_ns
}

/// An actor with a smaller share of the excess is no culprit.
pub(super) const CULPRIT_SHARE: f64 = 0.05;

/// At most this number of threads is taken to wait for one handle.
const WAITERS: f64 = 10.0;

/// If the device was slow in this part of the excess, commits waited for it.
const SLOW_DEVICE: f64 = 0.5;

/// With a smaller share of the excess no actor is certain to be the cause.
pub(super) const SURE_SHARE: f64 = 0.5;

/// The conditions for evidence to count.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// Syncs with and without an actor, before and after it came, can be compared:
    /// the device was the same.
    pub has_lifts: bool,
    pub is_standing: bool,
    /// The victim was seen to be well, and is slower than that.
    pub was_well: bool,
    /// Requests that were alone took their usual time, or as much was completed as before.
    pub is_device_well: bool,
    /// A minute of good seconds says what others ask for while the victim is well.
    pub has_long_past: bool,
}

/// Takes at most `wanted_ns` out of the parts, in their order; returns the amount taken.
fn deduct<const N: usize>(wanted_ns: f64, parts: [&mut f64; N]) -> f64 {
    let mut taken_ns = 0.0;
    for part in parts {
        let one = part.min(wanted_ns - taken_ns).max(0.0);
        *part -= one;
        taken_ns += one;
    }
    taken_ns
}

/// The excess, divided, in ns.
pub struct DividedExcess<'a> {
    victim: &'a Victim,
    span: Span,
    /// The charges of each suspect over the span, in the victim's order.
    charges: Vec<[f64; CHARGES]>,
    lifts: Vec<Lift>,
    /// Wait by suspect: behind its requests, its blocks, its running, its
    /// allocations.
    waits: Vec<Waits>,
    /// For how long each suspect held up commits.
    held_up: Vec<HeldUp>,
    kept: Vec<Kept>,
    paused: Paused,
    cpu_ns: f64,
    memory_ns: f64,
    limit_ns: f64,
    filesystem_ns: f64,
    own_ns: f64,
    device_ns: f64,
    unexplained_ns: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    requests: f64,
    journal: f64,
    /// For its open handles: while a limit stopped it, and else.
    stopped: f64,
    handles: f64,
    cpu: f64,
    memory: f64,
    is_cleared: bool,
}

impl Waits {
    fn total(&self) -> f64 {
        self.requests + self.journal + self.held() + self.cpu + self.memory
    }

    /// The waits for its open handles.
    fn held(&self) -> f64 {
        self.stopped + self.handles
    }
}

impl<'a> DividedExcess<'a> {
    pub fn new(victim: &'a Victim, span: Span) -> Self {
        let charges: Vec<_> = victim.suspects.iter().map(|s| charged(s, span)).collect();
        let requests = charges
            .iter()
            .map(|c| Waits { requests: c[..op::COUNT].iter().sum(), ..Waits::default() });
        let waits: Vec<_> = requests.collect();
        let worst = most(waits.iter().map(|w| w.requests));
        let lifts = victim.suspects.iter().enumerate();
        let lifts = lifts.map(|(at, s)| s.lift(&victim.syncs, Some(at) == worst)).collect();
        Self {
            victim,
            span,
            charges,
            lifts,
            waits,
            held_up: victim.suspects.iter().map(|s| victim.held_up_by(&s.actor, span)).collect(),
            kept: Vec::new(),
            paused: Paused::default(),
            cpu_ns: 0.0,
            memory_ns: 0.0,
            limit_ns: 0.0,
            filesystem_ns: 0.0,
            own_ns: 0.0,
            device_ns: 0.0,
            unexplained_ns: 0.0,
        }
    }

    pub fn divide(&mut self, victim: &Victim, sum: &Half, runqueue_ns: f64, helpers: &[Held]) {
        let mut parts = sum.parts;
        let wait_ns = sum.phases.wait_ns() as f64;
        for held in helpers.iter().filter(|held| held.is_cause && held.role == Role::Journal) {
            let Division { unexplained_ns, journal_ns, handles_ns, commits_ns, .. } = &mut parts;
            let parts = [unexplained_ns, journal_ns, handles_ns, commits_ns];
            let taken_ns = deduct(held.up() * wait_ns, parts);
            self.hold_up(held, taken_ns);
        }
        self.own_ns = parts.own_ns;
        self.device_ns = parts.device_ns;
        self.unexplained_ns = parts.unexplained_ns;
        let tick_ns = f64::from(sum.ticks) * 1e9;
        self.filesystem_ns = sum.busy_ns.into();
        self.cpu_ns += f64::from(sum.stolen_ns);

        // The journal's time belongs to those who filled it, and so does what
        // kernel threads write of its filesystem's own blocks.
        let blocks: f64 = self.charges.iter().map(|c| c[op::METADATA as usize]).sum();
        let is_helper = victim.suspects.iter().map(|suspect| suspect.actor.is_helper());
        // Space that it discards is nobody's blocks.
        let discards = self.charges.iter().map(|c| c[op::DISCARD as usize]);
        let requests = self.waits.iter().zip(discards).map(|(waits, ns)| (waits.requests - ns, ns));
        let by_each: Vec<_> =
            is_helper.zip(requests).map(|(is, (ns, discard_ns))| (is, ns, discard_ns)).collect();
        let written: f64 = by_each.iter().filter(|(is, ..)| *is).map(|(_, ns, _)| ns).sum();
        let is_slow = sum.circumstances.is_slow(SLOW_DEVICE);
        let held_ns = self.share_out_handles(&parts, is_slow, blocks > 0.0);
        let mut journal = parts.journal_ns + held_ns;
        // A commit on a device that became slow is as long as the device makes it.
        let filled_ns = if is_slow { 0.0 } else { journal };
        if blocks > 0.0 {
            for (waits, (is_helper, _, discard_ns)) in self.waits.iter_mut().zip(by_each) {
                waits.requests = if is_helper { discard_ns } else { waits.requests };
            }
            for (at, suspect) in victim.suspects.iter().enumerate() {
                let share = self.charges[at][op::METADATA as usize] / blocks;
                if suspect.actor == victim.actor() {
                    // Its own blocks are what it came for; what is written of
                    // them later is its own doing.
                    self.own_ns += written * share;
                } else {
                    self.waits[at].journal += (filled_ns + written) * share;
                    journal -= filled_ns * share;
                }
            }
        }
        self.device_ns += journal.max(0.0);
        self.share_out_commits(parts.commits_ns);

        // The wait for a CPU is due to its own quota, or to whoever ran meanwhile.
        if is_limited(sum.limited_cpu_ns, tick_ns) {
            self.limit_ns += runqueue_ns;
        } else {
            self.cpu_ns += self.share_out(op::CPU, 0.0, runqueue_ns, |waits| &mut waits.cpu);
        }
        // If the victim itself asks for memory, nobody else takes it away: the victim has
        // too little.
        let itself = self.charged_to_itself(op::MEMORY);
        let memory_ns = (parts.memory_ns - self.charge_drops()).max(0.0);
        self.memory_ns += self.share_out(op::MEMORY, itself, memory_ns, |waits| &mut waits.memory);

        // Waiting for its own limit leaves no trace but the limit.
        if is_limited(sum.limited_io_ns, tick_ns) {
            self.limit_ns += parts.throttle_ns + self.unexplained_ns;
            self.unexplained_ns = 0.0;
        } else {
            self.device_ns += parts.throttle_ns;
        }
    }

    /// Adds a wait outside its syncs: for the victim's own limit, or while it was stopped.
    pub fn hold_back(&mut self, held_ns: f64) {
        self.limit_ns += held_ns;
    }

    /// Adds the waits outside its syncs, while somebody kept its filesystem frozen, or its
    /// process stopped.
    pub fn keep(&mut self, kept: Vec<Kept>) {
        self.kept = kept;
    }

    /// Adds the waits before its syncs, while its writes were paused at the limit on dirty pages.
    pub fn pause(&mut self, paused: Paused) {
        self.own_ns += paused.by_itself_ns;
        self.device_ns += paused.by_device_ns;
        self.paused = paused;
    }

    /// The waits for servers and workers of the disk that were held up themselves.
    pub fn hold_up_the_disk(&mut self, helpers: &[Held], wait_ns: f64) {
        for held in helpers.iter().filter(|held| held.is_cause && held.role != Role::Journal) {
            let wanted_ns = held.up() * wait_ns;
            let mut taken_ns = deduct(wanted_ns, [&mut self.device_ns, &mut self.unexplained_ns]);
            // The requests of others waited for the helper as well.
            if held.role == Role::Server {
                let requests = self.waits.iter_mut().map(|waits| &mut waits.requests);
                let mut behind: Vec<_> = requests.chain([&mut self.own_ns]).collect();
                let all_ns: f64 = behind.iter().map(|ns| **ns).sum();
                let more_ns = (wanted_ns - taken_ns).clamp(0.0, all_ns.max(0.0));
                if all_ns > 0.0 {
                    behind.iter_mut().for_each(|ns| **ns *= 1.0 - more_ns / all_ns);
                    taken_ns += more_ns;
                }
            }
            self.hold_up(held, taken_ns);
        }
    }

    /// Accounts for the time that a helper was held up by others on its CPU, or by its limit.
    fn hold_up(&mut self, held: &Held, taken_ns: f64) {
        let limit_ns = taken_ns * held.limit / held.up();
        self.limit_ns += limit_ns;
        let cpu_ns = taken_ns - limit_ns;
        self.cpu_ns += self.share_out(op::CPU, 0.0, cpu_ns, |waits| &mut waits.cpu);
    }

    /// Adds the waits for what was dropped from the caches and read back; returns the part of
    /// them that was for the victim's own reads.
    fn charge_drops(&mut self) -> f64 {
        let own = self.victim.actor();
        let mut own_ns = 0.0;
        for (at, charges) in self.charges.iter().enumerate() {
            let dropped_ns = charges[op::DROP_CACHES as usize];
            own_ns += dropped_ns - charges[READ_BACK];
            if self.victim.suspects[at].actor == own {
                self.memory_ns += dropped_ns;
            } else {
                self.waits[at].memory += dropped_ns;
            }
        }
        own_ns.max(0.0)
    }

    /// Divides the waits for open handles between their holders, by how long each held up commits.
    /// The part of unknown holders is unexplained. Returns the wait that is to be divided like the
    /// rest of a commit, because no holder at all is known or because the device is slow.
    fn share_out_handles(&mut self, parts: &Division, is_slow: bool, has_blocks: bool) -> f64 {
        let all = self.victim.held_up_by_all(self.span);
        let stopped = |held: &HeldUp| held.stopped_ns;
        self.unexplained_ns += self.share_out_held(parts.stopped_ns, all.stopped_ns, stopped, true);
        if is_slow || all.all_ns() <= 0.0 && !has_blocks {
            return parts.handles_ns;
        }
        // Those whom a limit stopped have answered for it already.
        let other = |held: &HeldUp| held.other_ns;
        let left = match other(&all) {
            ns if ns > 0.0 => self.share_out_held(parts.handles_ns, ns, other, false),
            _ => self.share_out_held(parts.handles_ns, all.stopped_ns, stopped, true),
        };
        self.unexplained_ns += left;
        0.0
    }

    /// Divides a wait by what `part` says of each, of `all_ns` together; returns what is left.
    fn share_out_held(
        &mut self,
        wait_ns: f64,
        all_ns: f64,
        part: impl Fn(&HeldUp) -> f64,
        is_stopped: bool,
    ) -> f64 {
        if all_ns <= 0.0 {
            return wait_ns;
        }
        // Many threads may have waited for one handle, but not for one that was hardly open.
        let known_ns = wait_ns.min(WAITERS * all_ns);
        let mut left_ns = wait_ns;
        for (at, held) in self.held_up.iter().enumerate() {
            let ns = known_ns * part(held) / all_ns;
            let actor = self.victim.suspects[at].actor;
            // Nobody knows for whom such a thread had it.
            if actor.is_helper() {
                continue;
            }
            left_ns -= ns;
            match (actor == self.victim.actor(), is_stopped) {
                (true, true) => self.limit_ns += ns,
                (true, false) => self.own_ns += ns,
                (false, true) => self.waits[at].stopped += ns,
                (false, false) => self.waits[at].handles += ns,
            }
        }
        left_ns.max(0.0)
    }

    /// Divides the waits for commits between those whose blocks they wrote.
    fn share_out_commits(&mut self, commits_ns: f64) {
        let strangers = self.victim.suspects.iter().map(|s| self.victim.is_stranger(&s.actor));
        let blocks: Vec<_> = strangers
            .zip(&self.charges)
            .map(|(stranger, c)| if stranger { c[op::METADATA as usize] } else { 0.0 })
            .collect();
        let sum: f64 = blocks.iter().sum();
        if sum <= 0.0 {
            self.device_ns += commits_ns;
            return;
        }
        for (waits, blocks) in self.waits.iter_mut().zip(blocks) {
            waits.journal += commits_ns * blocks / sum;
        }
    }

    fn charged_to_itself(&self, charge: u32) -> f64 {
        let own = self.victim.suspects.iter().position(|s| s.actor == self.victim.actor());
        own.map_or(0.0, |at| self.charges[at][charge as usize])
    }

    /// Divides a wait by what the suspects other than the victim were charged,
    /// and by what of `itself` is to count; returns what no other is known for.
    fn share_out(
        &mut self,
        charge: u32,
        itself: f64,
        wait_ns: f64,
        place: impl Fn(&mut Waits) -> &mut f64,
    ) -> f64 {
        let own = self.victim.actor();
        let suspects = self.victim.suspects.iter().map(|s| s.actor != own);
        let amounts: Vec<_> = suspects
            .zip(&self.charges)
            .map(|(other, c)| if other { c[charge as usize] } else { 0.0 })
            .collect();
        let sum = itself + amounts.iter().sum::<f64>();
        if sum <= 0.0 {
            return wait_ns;
        }
        for (waits, amount) in self.waits.iter_mut().zip(amounts) {
            *place(waits) += wait_ns * amount / sum;
        }
        wait_ns * itself / sum
    }

    /// Takes the blame from suspects whom the evidence clears. It becomes unexplained, and is
    /// never given to others.
    pub fn clear_suspects(&mut self) {
        for (waits, lift) in self.waits.iter_mut().zip(&self.lifts) {
            if lift.clears() {
                // That a limit stopped it with an open handle was seen.
                self.unexplained_ns += waits.requests + waits.journal + waits.handles;
                (waits.requests, waits.journal, waits.handles) = (0.0, 0.0, 0.0);
                waits.is_cleared = true;
            }
        }
    }

    pub fn shares(&self, total: f64) -> Shares {
        let sum = |part: fn(&Waits) -> f64| self.waits.iter().map(part).sum::<f64>();
        let kept_ns: f64 = self.kept.iter().map(|kept| kept.ns).sum();
        Shares {
            owners: (sum(|w| w.requests + w.journal + w.held())
                + kept_ns
                + self.paused.by_others_ns())
                / total,
            cpu: (self.cpu_ns + sum(|w| w.cpu)) / total,
            memory: (self.memory_ns + sum(|w| w.memory)) / total,
            limit: self.limit_ns / total,
            filesystem: self.filesystem_ns / total,
            own: self.own_ns / total,
            device: self.device_ns / total,
            unexplained: self.unexplained_ns / total,
        }
    }

    /// The culprits, the worst first, and those who were there and are none.
    pub fn findings(&self, total: f64, sum: &Half, basis: Basis) -> (Vec<Finding>, Vec<Finding>) {
        let own = self.victim.actor();
        let mut culprits = Vec::new();
        let mut ruled_out = Vec::new();
        for (at, suspect) in self.victim.suspects.iter().enumerate() {
            let (waits, lift) = (&self.waits[at], self.lifts[at]);
            let share = waits.total() / total;
            let there = lift.with_n > 0 || self.charges[at].iter().any(|c| *c > 0.0) || share > 0.0;
            if suspect.actor == own || !there {
                continue;
            }
            let change = last_change(&self.victim.seconds, suspect.seconds);
            let reads_back = self.charges[at][READ_BACK] > waits.total();
            let charge = if reads_back { op::READ as usize } else { self.worst_charge(at) };
            let sure = confidence(share, &suspect.actor, &lift, change, waits, basis);
            // Reads that follow a drop are known by time alone.
            let is_drop = charge == op::DROP_CACHES as usize;
            let most = if is_drop { Confidence::Medium } else { Confidence::High };
            let mut finding = Finding {
                actor: suspect.actor,
                owner: suspect.owner,
                charge,
                via: via(waits, sum),
                wait_ns: waits.total(),
                share,
                lift,
                change,
                trigger: self.trigger_of(at, charge),
                frees: charge == op::DISCARD as usize && suspect.frees,
                stopped_by: self.stopped_by(at, charge),
                confidence: sure.min(most),
                cleared: None,
            };
            // No wait for a CPU is taken for usual, so all of it counts as excess: on a CPU that is
            // shared at all, somebody runs before each sync.
            let is_usual =
                charge == op::CPU as usize && waits.cpu < CULPRIT_SHARE * sum.duration_ns as f64;
            if share >= CULPRIT_SHARE && !is_usual {
                culprits.push(finding);
            } else {
                finding.cleared = Some(if reads_back {
                    Cleared::ReadsBack
                } else if waits.is_cleared || basis.has_lifts && lift.clears() {
                    Cleared::Lift
                } else if self.victim.was_well() && suspect.is_steady() {
                    Cleared::Steady
                } else {
                    Cleared::Share
                });
                ruled_out.push(finding);
            }
        }
        culprits.extend(self.kept.iter().filter_map(|kept| kept.finding(total)));
        culprits.extend(self.paused.by_others.iter().filter_map(|by| by.finding(total)));
        culprits.sort_by(|a, b| b.share.total_cmp(&a.share));
        ruled_out.sort_by_key(|finding| std::cmp::Reverse(finding.lift.with_n));
        (culprits, ruled_out)
    }

    /// The call that had a suspect's data written, where that is what it is charged with.
    fn trigger_of(&self, at: usize, charge: usize) -> Option<Call> {
        let is_written = [op::WRITE, op::METADATA].contains(&(charge as u32));
        let suspect = &self.victim.suspects[at];
        let call = || self.victim.triggers.of(&suspect.actor, self.span);
        is_written.then(call).flatten()
    }

    /// The limit that stops a suspect, where that is why it is charged with its open handles.
    fn stopped_by(&self, at: usize, charge: usize) -> Option<StoppedBy> {
        let waits = &self.waits[at];
        let is_stopped = charge == op::HANDLES as usize && waits.stopped >= waits.handles;
        let actor = &self.victim.suspects[at].actor;
        is_stopped.then(|| self.victim.stopped_by(actor)).flatten().cloned()
    }

    /// The charge with which a suspect did most harm.
    fn worst_charge(&self, at: usize) -> usize {
        let waits = &self.waits[at];
        let dropped_ns = self.charges[at][op::DROP_CACHES as usize];
        let beyond = [
            (waits.journal, op::METADATA as usize),
            (waits.held(), op::HANDLES as usize),
            (waits.cpu, op::CPU as usize),
            (waits.memory - dropped_ns, op::MEMORY as usize),
            (dropped_ns, op::DROP_CACHES as usize),
        ];
        let of_requests = most(self.charges[at][..op::COUNT].iter().copied()).unwrap_or(0);
        beyond
            .into_iter()
            .fold(
                (waits.requests, of_requests),
                |worst, one| if one.0 > worst.0 { one } else { worst },
            )
            .1
    }
}

fn charged(suspect: &Suspect, span: Span) -> [f64; CHARGES] {
    std::array::from_fn(|at| {
        let past = if span == Span::Period { suspect.past[at] } else { 0.0 };
        f64::from(suspect.now[at] + suspect.before[at] + past)
    })
}

/// The index of the largest value; `None` if none is above 0.
fn most(values: impl Iterator<Item = f64>) -> Option<usize> {
    let largest = values.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (largest.1 > 0.0).then_some(largest.0)
}

/// The place where an actor made the victim wait: in the disk's queue, at the device, in the journal,
/// for its open handles, for a CPU, or for memory.
fn via(waits: &Waits, sum: &Half) -> Via {
    let met = if sum.phases.ns[Phase::Queue] + sum.phases.ns[Phase::Throttle]
        > sum.phases.ns[Phase::Device]
    {
        Via::Queue
    } else {
        Via::Device
    };
    let ways = [
        (waits.requests, met),
        (waits.journal, Via::Journal),
        (waits.held(), Via::Handles),
        (waits.cpu, Via::Runqueue),
        (waits.memory, Via::Memory),
    ];
    let worst = ways.into_iter().rev().max_by(|(a, _), (b, _)| a.total_cmp(b));
    worst.map_or(met, |(_, via)| via)
}

/// The confidence is high if blame and evidence agree, the device is known to be well, and
/// the actor has a name.
fn confidence(
    share: f64,
    actor: &ActorId,
    lift: &Lift,
    change: Option<Change>,
    waits: &Waits,
    basis: Basis,
) -> Confidence {
    let is_sure = share >= SURE_SHARE && !actor.kthread;
    // An actor that ran while the victim waited for that CPU was seen to do so.
    if waits.cpu > waits.total() / 2.0 {
        return if is_sure { Confidence::High } else { Confidence::Medium };
    }
    // So was one that a limit stopped with an open handle.
    if waits.stopped > waits.total() / 2.0 {
        return if is_sure { Confidence::High } else { Confidence::Medium };
    }
    // Without a limit it is not known what the one with the handle waited for.
    let is_sure = is_sure && waits.handles <= waits.total() / 2.0;
    let changed = change.is_some_and(|change| {
        let (with, without) = match change.started {
            true => (change.after_ns, change.before_ns),
            false => (change.before_ns, change.after_ns),
        };
        with >= 1.5 * without
    });
    let accused = basis.has_lifts && lift.supports_blame();
    let changed = basis.has_lifts && changed;
    // Requests are blamed with high confidence only on a disk that is known to be well, beside
    // a past that is long enough to say what well is.
    let of_requests = waits.requests > waits.total() / 2.0;
    let is_known = basis.is_device_well && basis.has_long_past;
    let is_sure = is_sure && !basis.is_standing && (is_known || !of_requests);
    // If the victim was never well, its requests waiting behind others' are no evidence: on a slow
    // device they would, too. To be quick without them is, and so is a start or a stop.
    let has_past = basis.was_well || !of_requests;
    let accused = accused && (has_past || lift.is_quick_without());
    let overlaps = has_past && share >= 0.5 && !lift.clears();
    match (accused, changed) {
        (true, _) if is_sure => Confidence::High,
        (true, _) | (false, true) => Confidence::Medium,
        (false, false) if overlaps => Confidence::Medium,
        (false, false) => Confidence::Low,
    }
}
