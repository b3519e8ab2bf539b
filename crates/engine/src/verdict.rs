//! The verdict on a victim: the kind of cause, the culprits, and the confidence.
//!
//! Pure: a victim's sums go in, a [`Judgement`] comes out. What the account divides
//! is the excess, the wait beyond the victim's own baseline, with the
//! wait for a CPU; the shares of all actors and of all [`Shares`] are of that
//! one sum, and add up to 1.

use tracer_ebpf::record::NO_DISK;

use super::{
    account::{Basis, DividedExcess, is_limited},
    blame::{ActorId, OwnerId},
    freeze::Kept,
    helper::{Held, Role},
    holders::StoppedBy,
    phases::Phase,
    reference::SLOWER,
    second::{Circumstances, is_short},
    stop::{How, Stopped},
    sums::Half,
    suspect::{Change, ENOUGH, Lift, Second},
    triggers::Call,
    victim::{MAX_BASELINE_NS, Span, Victim},
};
use crate::kind::{Confidence, Kind, SlowerThan, Via};

/// Below this share of the sync time, an excess means nothing: the slowest
/// tenth of all undisturbed syncs lies above the baseline too.
const SLOW_SHARE: f64 = 0.25;

/// With this part of the sync time beyond what is usual, the mean sync takes twice as
/// long.
const MUCH_BEYOND: f64 = 0.5;

/// The slowest hundredth of the syncs hardly shows in such a sum, but it is what users wait
/// for: if p99 is [`TAIL_TIMES`] that of undisturbed syncs, this smaller part is enough.
const TAIL_TIMES: f64 = 3.0;
const TAIL_SHARE: f64 = 0.1;

/// With fewer syncs there is no verdict, unless together they waited for [`LONG_NS`] longer
/// than usual. The p99 of fewer than [`TAIL_SYNCS`] syncs is not used.
const FEW_SYNCS: u64 = 5;
const LONG_NS: f64 = 1e9;
const TAIL_SYNCS: u64 = 100;

/// The shares of the excess by kind of cause. They add up to 1, or are all 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Others' requests, what they put into the journal, and for how long they held it up.
    pub owners: f64,
    pub cpu: f64,
    pub memory: f64,
    pub limit: f64,
    /// The filesystem's own work on a CPU, inside the syncs.
    pub filesystem: f64,
    /// The victim's own other requests.
    pub own: f64,
    pub device: f64,
    pub unexplained: f64,
}

/// One actor's part.
#[derive(Clone, Debug)]
pub struct Finding {
    pub actor: ActorId,
    pub owner: OwnerId,
    /// The operation with which it did most harm: a code of [`op`](tracer_ebpf::record::op).
    pub charge: usize,
    pub via: Via,
    pub wait_ns: f64,
    pub share: f64,
    pub lift: Lift,
    pub change: Option<Change>,
    /// The call that had its data written meanwhile.
    pub trigger: Option<Call>,
    /// Whether a kernel thread discards what it freed: the filesystem is mounted with `discard`.
    pub frees: bool,
    /// The limit that stops it while it holds up the journal's commits.
    pub stopped_by: Option<StoppedBy>,
    pub confidence: Confidence,
    /// Why it is no culprit, for those ruled out.
    pub cleared: Option<Cleared>,
}

/// The reason why an actor is cleared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cleared {
    /// The victim's syncs are as long without it.
    Lift,
    /// It reads back what another has dropped from the caches.
    ReadsBack,
    /// It asks for no more than it did while the victim was well.
    Steady,
    /// Its part is too small.
    Share,
}

/// The verdict on one victim.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub kind: Kind,
    pub excess_ns: f64,
    pub shares: Shares,
    /// The worst first.
    pub culprits: Vec<Finding>,
    pub ruled_out: Vec<Finding>,
    pub confidence: Confidence,
    /// Whether the worst culprit is in the victim's own cgroup: then the verdict is `self`.
    pub in_house: bool,
    /// The part of the time for which a limit of its own held the victim back.
    pub limited: f64,
    /// The part of the excess outside its syncs: while its own limit stopped it, which is an
    /// estimate, while it waited to write to a filesystem that was frozen, while its writes were
    /// paused because too many pages were dirty, and while its process was stopped.
    pub outside_ns: f64,
    /// The part of the time for which it waited to write to a filesystem that was frozen.
    pub frozen: f64,
    /// The part of the time for which its writes were paused because too many pages were dirty.
    pub paused: f64,
    /// The time for which they were so because of what it dirtied itself.
    pub paused_by_itself_ns: f64,
    /// It waited for that for most of the excess, and mostly it is not known for whom.
    pub is_frozen_by_unknown: bool,
    /// The reason for which its process was stopped for most of the time, if it was for long.
    pub stopped: Option<Stopped>,
    /// The processes and threads that it waits for, those most held up first.
    pub helpers: Vec<Held>,
    /// The state of the device meanwhile, as far as it is known.
    pub circumstances: Circumstances,
    /// `None` if its syncs are not slow.
    pub slower_than: Option<SlowerThan>,
    /// The victim was never seen to be well, so what is usual is not known.
    pub is_standing: bool,
    /// The victim was never seen to be well, but the device's kept reference says how fast its
    /// requests were.
    pub is_beside_reference: bool,
}

impl Judgement {
    /// Whether its process was stopped by no process that is known, for most of what a limit is
    /// blamed for.
    pub fn is_halted(&self) -> bool {
        let most_ns = 0.5 * self.shares.limit * self.excess_ns;
        let stopped = self.stopped.as_ref().filter(|stopped| stopped.how != How::Traced);
        self.kind == Kind::Limit && stopped.is_some_and(|stopped| stopped.ns >= most_ns)
    }
}

/// Whether syncs that took `all` together, `excess` of it beyond the baseline, are longer
/// than undisturbed ones: all in all, or in their tail. `has_slow_tail` walks a histogram,
/// so it is called only where it decides.
pub fn are_slow(excess: f64, all: f64, has_slow_tail: impl FnOnce() -> bool) -> bool {
    excess >= SLOW_SHARE * all || excess >= TAIL_SHARE * all && has_slow_tail()
}

/// Whether `syncs` syncs have a p99 far beyond that of undisturbed ones, if that
/// is known; in any one unit.
pub fn is_slow_tail(syncs: u64, p99: f64, undisturbed_p99: Option<f64>) -> bool {
    syncs >= TAIL_SYNCS && undisturbed_p99.is_some_and(|baseline| p99 >= TAIL_TIMES * baseline)
}

/// Judges a victim over a span whose sums are `sum`.
pub fn judge(victim: &Victim, sum: &Half, span: Span) -> Judgement {
    let runqueue_ns = sum.phases.ns[Phase::Runqueue] as f64;
    let tick_ns = f64::from(sum.ticks) * 1e9;
    let held_ns = held_outside_ns(sum, tick_ns);
    let froze = victim.froze(span, tick_ns);
    let frozen_ns: f64 = froze.iter().map(|froze| froze.ns).sum();
    let circumstances = sum.circumstances;
    let paused = victim.paused(span, tick_ns, most_of_writers(victim, &circumstances));
    let (paused_ns, by_itself_ns) = (paused.all_ns(), paused.by_itself_ns);
    let stopped = victim.stopped(span, tick_ns);
    let (traced, halted): (Vec<_>, Vec<_>) =
        stopped.iter().partition(|stopped| stopped.how == How::Traced);
    let halted_ns: f64 = halted.iter().map(|stopped| stopped.ns).sum();
    let is_stop_seen = halted.iter().any(|stopped| stopped.is_seen());
    let unknown_ns: f64 = froze.iter().filter(|one| one.is_unknown()).map(|one| one.ns).sum();
    let kept: Vec<_> = froze.into_iter().chain(traced.into_iter().map(Kept::from)).collect();
    let kept_ns: f64 = kept.iter().map(|kept| kept.ns).sum();
    let by_others_ns = kept_ns + paused.by_others_ns();
    let outside_ns = held_ns + halted_ns + kept_ns + paused_ns;
    let excess_ns = sum.parts.excess_ns + runqueue_ns + sum.long_on_cpu_ns() + outside_ns;
    let is_slow_of_late = is_slow_of_late(victim, sum);
    let is_unusual = is_slow_of_late || is_unusual(victim, sum, outside_ns, f64::MAX);
    let is_slow = are_slow(excess_ns, sum.duration_ns as f64 + outside_ns, || {
        let undisturbed_p99_ns = victim.baseline_quantile_ns(0.99).map(|ns| ns as f64);
        is_slow_tail(sum.syncs, sum.quantile_ns(0.99) as f64, undisturbed_p99_ns)
    }) && (is_unusual || is_unusual_for_a_log(victim, sum, outside_ns));
    // If others are always on its disk, the slowest tenth of its good syncs is slow, too.
    let is_longer = is_slow_of_late || is_much_beyond(victim, sum, outside_ns);
    let is_slow = is_slow || excess_ns > 0.0 && is_longer;
    let basis = Basis {
        has_lifts: !circumstances.is_slow(SLOW_PART),
        is_standing: !is_unusual || !victim.was_well() && !victim.is_beside_reference(),
        was_well: is_unusual && victim.was_well(),
        is_device_well: circumstances.is_well(WELL_PART),
        has_long_past: victim.has_long_past(),
    };
    let mut account = DividedExcess::new(victim, span);
    let helpers = victim.held(sum, span);
    account.divide(victim, sum, runqueue_ns, &helpers);
    account.hold_back(held_ns + halted_ns);
    account.keep(kept);
    account.pause(paused);
    if basis.has_lifts {
        account.clear_suspects();
    }
    account.hold_up_the_disk(&helpers, sum.phases.wait_ns() as f64);

    let total = if excess_ns > 0.0 { excess_ns } else { 1.0 };
    let shares = account.shares(total);
    let limited_ns = sum.limited_cpu_ns.max(sum.limited_io_ns) as f64;
    let (mut culprits, mut ruled_out) = account.findings(total, sum, basis);
    // Then it is no question of its syncs, and of their disk.
    let outside = [by_others_ns, by_itself_ns, halted_ns];
    let most_ns = outside.into_iter().fold(0.0, f64::max);
    let stands_still = most_ns > 0.0 && 2.0 * outside.iter().sum::<f64>() >= excess_ns;
    let kind = match () {
        () if is_too_little(sum.syncs, excess_ns) || !victim.has_history() => Kind::Unknown,
        () if !is_slow => Kind::None,
        () if stands_still && by_others_ns >= most_ns => Kind::Owners,
        () if stands_still && by_itself_ns >= most_ns => Kind::Own,
        () if stands_still => Kind::Limit,
        () => match kind_of(&shares, victim.disk == NO_DISK) {
            Kind::Device | Kind::Unseen if let Some(kind) = kind_of_server(&helpers) => kind,
            Kind::Owners | Kind::Own | Kind::Device | Kind::Unexplained
                if circumstances.is_unsure(UNSURE_PART) =>
            {
                Kind::Undecided
            }
            Kind::Owners if may_be_the_device(&circumstances, &shares) => Kind::Undecided,
            kind => kind,
        },
    };
    // Then nobody can be named: whoever else was there did not freeze it.
    let is_frozen = frozen_ns > 0.0 && 2.0 * frozen_ns >= excess_ns;
    let is_frozen_by_unknown = is_frozen && 2.0 * unknown_ns >= frozen_ns;
    if kind == Kind::Owners && is_frozen_by_unknown {
        for mut finding in culprits.extract_if(.., |finding| finding.via != Via::Freeze) {
            finding.cleared = Some(Cleared::Share);
            ruled_out.insert(0, finding);
        }
    }
    let in_house = kind == Kind::Owners
        && culprits.first().is_some_and(|worst| victim.shares_cgroup(&worst.actor));
    let kind = if in_house { Kind::Own } else { kind };
    if kind == Kind::Undecided {
        let each = culprits.iter_mut().map(|finding| &mut finding.confidence);
        each.for_each(|confidence| *confidence = Confidence::Low);
    }
    let slower_than = match kind {
        Kind::None | Kind::Unknown => None,
        _ if is_unusual => Some(SlowerThan::Before),
        _ => Some(SlowerThan::Guidance),
    };
    if slower_than.is_none() {
        // A victim that is not slow has no culprits.
        culprits.retain(|finding| finding.lift.with_n > 0);
        for finding in &mut culprits {
            finding.cleared = Some(Cleared::Share);
        }
        ruled_out.splice(0..0, culprits.drain(..));
    }
    let confidence = match kind {
        _ if in_house || matches!(kind, Kind::Owners | Kind::Memory | Kind::Cpu) => {
            let is_seen = kind == Kind::Cpu && helpers.iter().any(|held| held.is_cause);
            let unnamed = if is_seen { Confidence::Medium } else { Confidence::Low };
            culprits.first().map_or(unnamed, |worst| worst.confidence)
        }
        // Its requests may pile up behind a device that is slow, too.
        Kind::Own if !basis.was_well => Confidence::Low,
        Kind::Device | Kind::Own if victim.baseline_ns().is_some() && sum.syncs >= ENOUGH => {
            let share = shares.device.max(shares.own);
            let is_shown = match kind {
                Kind::Own => basis.is_device_well && basis.has_long_past,
                _ => circumstances.is_slow(WELL_PART) && circumstances.slow_seconds >= SLOW_SECONDS,
            };
            if share >= 0.6 && is_shown && !basis.is_standing {
                Confidence::High
            } else {
                Confidence::Medium
            }
        }
        // Nobody else uses this time, and it was seen.
        Kind::Filesystem if shares.filesystem >= 0.5 && !basis.is_standing => Confidence::High,
        Kind::Limit if limited_ns > 0.0 || is_stop_seen || is_helper_limited(&helpers) => {
            Confidence::High
        }
        _ if sum.syncs >= ENOUGH => Confidence::Medium,
        _ => Confidence::Low,
    };
    Judgement {
        kind,
        excess_ns,
        shares,
        culprits,
        ruled_out,
        confidence,
        in_house,
        helpers,
        outside_ns,
        is_frozen_by_unknown: kind == Kind::Owners && is_frozen_by_unknown,
        frozen: if tick_ns > 0.0 { (frozen_ns / tick_ns).min(1.0) } else { 0.0 },
        paused: if tick_ns > 0.0 { (paused_ns / tick_ns).min(1.0) } else { 0.0 },
        paused_by_itself_ns: by_itself_ns,
        stopped: stopped.into_iter().max_by(|a, b| a.ns.total_cmp(&b.ns)),
        limited: if tick_ns > 0.0 { (limited_ns / tick_ns).min(1.0) } else { 0.0 },
        circumstances,
        slower_than,
        is_standing: basis.is_standing,
        is_beside_reference: victim.is_beside_reference(),
    }
}

/// The highest confidence in those who dirtied the pages. How many each of them dirtied is known;
/// on a disk that became slower, the kernel pauses those who write no more than before, too.
fn most_of_writers(victim: &Victim, circumstances: &Circumstances) -> Confidence {
    match () {
        () if circumstances.is_slow(SLOW_PART) => Confidence::Low,
        () if victim.was_well() && circumstances.is_well(WELL_PART) => Confidence::High,
        () => Confidence::Medium,
    }
}

/// The wait for its CPU limit outside its syncs, in ns, if that was reached for long. The wait
/// for a CPU inside the syncs is due to the same limit, and is counted already.
fn held_outside_ns(sum: &Half, tick_ns: f64) -> f64 {
    let is_limited = is_limited(sum.limited_cpu_ns, tick_ns);
    let more_ns = f64::from(sum.held_outside_ns) - sum.phases.ns[Phase::Runqueue] as f64;
    if is_limited { more_ns.max(0.0) } else { 0.0 }
}

/// Whether there are too few syncs for a verdict. One sync that hangs is enough.
fn is_too_little(syncs: u64, excess_ns: f64) -> bool {
    syncs < FEW_SYNCS && excess_ns < LONG_NS
}

/// Whether its syncs are slower than any disk for a log should be.
fn is_unusual_for_a_log(victim: &Victim, sum: &Half, outside_ns: f64) -> bool {
    is_unusual(victim, sum, outside_ns, MAX_BASELINE_NS as f64)
}

/// Whether its syncs take twice as long as they do while it is well.
fn is_much_beyond(victim: &Victim, sum: &Half, outside_ns: f64) -> bool {
    let all_ns = sum.duration_ns as f64 + outside_ns;
    beyond_ns(victim, sum, f64::MAX)
        .is_some_and(|beyond_ns| beyond_ns + outside_ns >= MUCH_BEYOND * all_ns)
}

/// Whether its syncs took longer than usual in half of the last seconds or more, and twice as
/// long in these: the seconds before a change are no excuse for those after it.
fn is_slow_of_late(victim: &Victim, sum: &Half) -> bool {
    let Some(usual_ns) = victim.lived_wait_ns() else { return false };
    // A sync does not only wait.
    let busy_ns = sum.duration_ns as f64 - wait_ns(sum);
    let usual_ns = usual_ns + busy_ns.max(0.0) / sum.syncs.max(1) as f64;
    let lasts = |second: &&Second| f64::from(second.syncs) * usual_ns;
    let last = victim.seconds.iter().take(sum.ticks as usize).filter(|second| second.syncs > 0);
    let is_longer = |second: &&Second| f64::from(second.sum_ns) > SLOWER * lasts(second);
    let slow: Vec<_> = last.clone().filter(is_longer).collect();
    let all_ns: f64 = slow.iter().map(|second| f64::from(second.sum_ns)).sum();
    let beyond_ns = all_ns - slow.iter().map(lasts).sum::<f64>();
    let is_half = slow.len() >= SLOW_SECONDS as usize && 2 * slow.len() >= last.count();
    is_half && beyond_ns >= MUCH_BEYOND * all_ns
}

fn wait_ns(sum: &Half) -> f64 {
    (sum.phases.wait_ns() + sum.phases.ns[Phase::Runqueue]) as f64
}

/// How much longer its syncs wait together than they do while it is well, or than
/// `at_most_ns` each.
fn beyond_ns(victim: &Victim, sum: &Half, at_most_ns: f64) -> Option<f64> {
    let usual_ns = victim.lived_wait_ns()?.min(at_most_ns);
    Some(wait_ns(sum) + sum.long_on_cpu_ns() - usual_ns * sum.syncs as f64)
}

/// Whether its syncs are slower than they are while it is well, or than `at_most_ns` if
/// that is less; outside them it waited for `outside_ns`. Requests that were always there
/// make nothing slower.
fn is_unusual(victim: &Victim, sum: &Half, outside_ns: f64, at_most_ns: f64) -> bool {
    let Some(beyond_ns) = beyond_ns(victim, sum, at_most_ns) else { return true };
    let short_ns = sum.phases.short_ns();
    if is_short(short_ns, sum.syncs) && short_ns as f64 >= SLOW_SHARE * sum.duration_ns as f64 {
        return true;
    }
    are_slow(beyond_ns + outside_ns, sum.duration_ns as f64 + outside_ns, || {
        is_slow_tail(sum.syncs, sum.quantile_ns(0.99) as f64, victim.well_p99_ns())
    })
}

/// If the device was slow in this part of the excess, comparing syncs with and without an
/// actor shows the device and not the actor.
const SLOW_PART: f64 = 0.2;

/// The state of the device must be known for this part of the excess.
const WELL_PART: f64 = 0.5;

/// Seconds in which a slow device must be seen to be slow, or a victim.
const SLOW_SECONDS: u32 = 3;

/// If this part of the excess is undecided, so is the verdict.
const UNSURE_PART: f64 = 0.5;

/// A smaller undecided part cannot change a verdict.
const SOME_UNSURE: f64 = 0.2;

/// Whether the device would have more of the excess than others if the undecided seconds,
/// in which the load has all, were the device's.
fn may_be_the_device(circumstances: &Circumstances, shares: &Shares) -> bool {
    let unsure = circumstances.unsure_ns / circumstances.excess_ns.max(1.0);
    unsure >= SOME_UNSURE && shares.device + unsure >= shares.owners - unsure
}

fn kind_of(shares: &Shares, no_disk: bool) -> Kind {
    let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } = *shares;
    let kinds = [
        (owners, Kind::Owners),
        (cpu, Kind::Cpu),
        (memory, Kind::Memory),
        (limit, Kind::Limit),
        (filesystem, Kind::Filesystem),
        (own, Kind::Own),
        (device, Kind::Device),
        (unexplained, if no_disk { Kind::Unseen } else { Kind::Unexplained }),
    ];
    // If several shares are equal, the first in this order decides.
    let worst = kinds.iter().rev().max_by(|(a, _), (b, _)| a.total_cmp(b));
    worst.map_or(Kind::None, |(_, kind)| *kind)
}

/// The kind that a server makes of the device, if it was held up for long enough.
fn kind_of_server(helpers: &[Held]) -> Option<Kind> {
    let server = helpers.iter().find(|held| held.is_cause && held.role == Role::Server)?;
    Some(if server.limit > server.cpu { Kind::Limit } else { Kind::Cpu })
}

fn is_helper_limited(helpers: &[Held]) -> bool {
    helpers.iter().any(|held| held.is_cause && held.limit > held.cpu)
}
