//! Who makes a victim slow: the account of its waits, the opinions on each
//! party, and what is left unexplained.
//!
//! Pure: a victim's sums go in, a [`Judgement`] comes out. All that is divided
//! here is the excess, the wait beyond the victim's own baseline, with the
//! wait for a CPU; the shares of all parties and of all [`Shares`] are of that
//! one sum, and add up to 1.

use tracer_ebpf::record::{NO_DISK, op};

use super::{
    blame::{OwnerId, Party},
    helper::{Held, Role},
    phases::Phase,
    second::{Circumstances, is_short},
    suspect::{CHARGES, Change, ENOUGH, Lift, Suspect, last_change},
    victim::{Half, MOST_BASELINE_NS, Span, Victim},
};
use crate::kind::{Confidence, Kind, SlowerThan, Via};

/// Below this share of the sync time, an excess means nothing: the slowest
/// tenth of all undisturbed syncs lies above the baseline too.
const SLOW_SHARE: f64 = 0.25;

/// With so much of the sync time beyond what is usual, the mean sync takes twice as
/// long.
const MUCH_BEYOND: f64 = 0.5;

/// A slow hundredth is lost in such a sum, and is what users wait for: where
/// p99 is so many times that of undisturbed syncs, so much is enough.
const TAIL_TIMES: f64 = 3.0;
const TAIL_SHARE: f64 = 0.1;

/// Fewer syncs say nothing, and nothing of their p99.
const FEW_SYNCS: u64 = 5;
const TAIL_SYNCS: u64 = 100;

/// Who has less of the excess is no culprit.
const CULPRIT_SHARE: f64 = 0.05;

/// A limit that held for so much of the time is the reason for a wait that
/// nothing else explains.
const LIMITED: f64 = 0.3;

/// Of the excess, by kind of cause. They add up to 1, or are all 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Others' requests, and what they put into the journal.
    pub owners: f64,
    pub cpu: f64,
    pub memory: f64,
    pub limit: f64,
    /// The victim's own other requests.
    pub own: f64,
    pub device: f64,
    pub unexplained: f64,
}

/// One party's part.
#[derive(Clone, Debug)]
pub struct Finding {
    pub party: Party,
    pub owner: OwnerId,
    /// What it did most harm with: a code of [`op`].
    pub charge: usize,
    pub via: Via,
    pub wait_ns: f64,
    pub share: f64,
    pub lift: Lift,
    pub change: Option<Change>,
    pub confidence: Confidence,
    /// Why it is no culprit, for those ruled out.
    pub cleared: Option<Cleared>,
}

/// What clears a party.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cleared {
    /// The victim's syncs are as long without it.
    Lift,
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
    /// The worst culprit is of the victim's own cgroup: its own doing.
    pub in_house: bool,
    /// For how much of the time a limit of its own held the victim back.
    pub limited: f64,
    /// How the processes and threads that it waits for were, those most held up first.
    pub helpers: Vec<Held>,
    /// The state of the device meanwhile, as far as it is known.
    pub circumstances: Circumstances,
    /// `None` if its syncs are not slow.
    pub slower_than: Option<SlowerThan>,
    /// The victim was never seen to be well, so what is usual is not known.
    pub is_standing: bool,
    /// Nor was it now, but the device's reference says how its requests were.
    pub is_beside_reference: bool,
}

/// Whether syncs that took `all` together, `excess` of it beyond the baseline,
/// are longer than undisturbed ones: all in all, or their tail. Quantiles walk a
/// histogram: `has_slow_tail` is asked where it decides.
pub fn are_slow(excess: f64, all: f64, has_slow_tail: impl FnOnce() -> bool) -> bool {
    excess >= SLOW_SHARE * all || excess >= TAIL_SHARE * all && has_slow_tail()
}

/// Whether so many syncs have a p99 far beyond that of undisturbed ones, if that
/// is known; in any one unit.
pub fn is_slow_tail(syncs: u64, p99: f64, undisturbed_p99: Option<f64>) -> bool {
    syncs >= TAIL_SYNCS && undisturbed_p99.is_some_and(|baseline| p99 >= TAIL_TIMES * baseline)
}

/// Judges a victim over a span whose sums are `sum`.
pub fn judge(victim: &Victim, sum: &Half, span: Span) -> Judgement {
    let runqueue_ns = sum.phases.ns[Phase::Runqueue] as f64;
    let excess_ns = sum.parts.excess_ns + runqueue_ns;
    let is_unusual = is_unusual(victim, sum, f64::MAX);
    let is_slow = are_slow(excess_ns, sum.duration_ns as f64, || {
        let undisturbed_p99_ns = victim.baseline_quantile_ns(0.99).map(|ns| ns as f64);
        is_slow_tail(sum.syncs, sum.quantile_ns(0.99) as f64, undisturbed_p99_ns)
    }) && (is_unusual || is_unusual_for_a_log(victim, sum));
    // If somebody is always beside it, the slowest tenth of its good syncs is slow too.
    let is_slow = is_slow || excess_ns > 0.0 && is_much_beyond(victim, sum);
    let circumstances = sum.circumstances;
    let basis = Basis {
        has_lifts: !circumstances.is_slow(SLOW_PART),
        is_standing: !is_unusual || !victim.was_well() && !victim.is_beside_reference(),
        is_device_well: circumstances.is_well(WELL_PART),
    };
    let mut account = Account::new(victim, span);
    let helpers = victim.held(sum, span);
    account.divide(victim, sum, runqueue_ns, &helpers);
    if basis.has_lifts {
        account.acquit();
    }
    account.hold_up_the_disk(&helpers, sum.phases.wait_ns() as f64);

    let total = if excess_ns > 0.0 { excess_ns } else { 1.0 };
    let shares = account.shares(total);
    let tick_ns = f64::from(sum.ticks) * 1e9;
    let limited_ns = sum.limited_cpu_ns.max(sum.limited_io_ns) as f64;
    let (mut culprits, mut ruled_out) = account.findings(total, sum, basis);
    let kind = match () {
        () if sum.syncs < FEW_SYNCS || !victim.has_history() => Kind::Unknown,
        () if !is_slow => Kind::None,
        () => match kind_of(&shares, victim.disk == NO_DISK) {
            Kind::Device | Kind::Unseen if let Some(kind) = kind_of_server(&helpers) => kind,
            Kind::Owners | Kind::Own | Kind::Device | Kind::Unexplained
                if circumstances.is_unsure(UNSURE_PART) =>
            {
                Kind::Undecided
            }
            kind => kind,
        },
    };
    let in_house = kind == Kind::Owners
        && culprits.first().is_some_and(|worst| victim.is_of_its_house(&worst.party));
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
        // What is not slow has no culprits.
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
        Kind::Device | Kind::Own if victim.baseline_ns().is_some() && sum.syncs >= ENOUGH => {
            let share = shares.device.max(shares.own);
            let is_shown = match kind {
                Kind::Own => basis.is_device_well,
                _ => circumstances.is_slow(WELL_PART) && circumstances.slow_seconds >= SLOW_SECONDS,
            };
            if share >= 0.6 && is_shown && !basis.is_standing {
                Confidence::High
            } else {
                Confidence::Medium
            }
        }
        Kind::Limit if limited_ns > 0.0 || is_helper_limited(&helpers) => Confidence::High,
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
        limited: if tick_ns > 0.0 { (limited_ns / tick_ns).min(1.0) } else { 0.0 },
        circumstances,
        slower_than,
        is_standing: basis.is_standing,
        is_beside_reference: victim.is_beside_reference(),
    }
}

/// Whether its syncs are slower than any disk for a log should be.
fn is_unusual_for_a_log(victim: &Victim, sum: &Half) -> bool {
    is_unusual(victim, sum, MOST_BASELINE_NS as f64)
}

/// Whether its syncs take twice as long as they do while it is well.
fn is_much_beyond(victim: &Victim, sum: &Half) -> bool {
    beyond_ns(victim, sum, f64::MAX)
        .is_some_and(|beyond_ns| beyond_ns >= MUCH_BEYOND * sum.duration_ns as f64)
}

/// How much longer its syncs wait together than they do while it is well, or than
/// `at_most_ns` each.
fn beyond_ns(victim: &Victim, sum: &Half, at_most_ns: f64) -> Option<f64> {
    let usual_ns = victim.usual_wait_ns()?.min(at_most_ns);
    let wait_ns = (sum.phases.wait_ns() + sum.phases.ns[Phase::Runqueue]) as f64;
    Some(wait_ns - usual_ns * sum.syncs as f64)
}

/// Whether its syncs are slower than they are while it is well, or than `at_most`
/// if that is less: requests that were always beside its own make nothing slower.
fn is_unusual(victim: &Victim, sum: &Half, at_most_ns: f64) -> bool {
    let Some(beyond_ns) = beyond_ns(victim, sum, at_most_ns) else { return true };
    let short_ns = sum.phases.short_ns();
    if is_short(short_ns, sum.syncs) && short_ns as f64 >= SLOW_SHARE * sum.duration_ns as f64 {
        return true;
    }
    are_slow(beyond_ns, sum.duration_ns as f64, || {
        is_slow_tail(sum.syncs, sum.quantile_ns(0.99) as f64, victim.well_p99_ns())
    })
}

/// The conditions for evidence to count.
#[derive(Clone, Copy, Debug)]
struct Basis {
    /// Syncs with and without a party, before and after it came, can be compared:
    /// the device was the same.
    has_lifts: bool,
    is_standing: bool,
    /// Requests that were alone took what they did, or as much was completed.
    is_device_well: bool,
}

/// With the device slow in so much of the excess, comparisons compare that.
const SLOW_PART: f64 = 0.2;

/// With it slow in so much of the excess, it is what commits wait for.
const SLOW_DEVICE: f64 = 0.5;

/// In so much of the excess it must be known how the device was.
const WELL_PART: f64 = 0.5;

/// Seconds in which a slow device must be seen to be slow.
const SLOW_SECONDS: u32 = 3;

/// If this part of the excess is undecided, so is the verdict.
const UNSURE_PART: f64 = 0.5;

/// With less of the excess nobody did it for sure.
const SURE_SHARE: f64 = 0.5;

fn kind_of(shares: &Shares, no_disk: bool) -> Kind {
    let Shares { owners, cpu, memory, limit, own, device, unexplained } = *shares;
    let kinds = [
        (owners, Kind::Owners),
        (cpu, Kind::Cpu),
        (memory, Kind::Memory),
        (limit, Kind::Limit),
        (own, Kind::Own),
        (device, Kind::Device),
        (unexplained, if no_disk { Kind::Unseen } else { Kind::Unexplained }),
    ];
    // Of equals the first.
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

/// Takes so much out of these, the first first; returns how much there was.
fn take<const N: usize>(wanted_ns: f64, parts: [&mut f64; N]) -> f64 {
    let mut taken_ns = 0.0;
    for part in parts {
        let one = part.min(wanted_ns - taken_ns).max(0.0);
        *part -= one;
        taken_ns += one;
    }
    taken_ns
}

/// The excess, divided, in ns.
struct Account<'a> {
    victim: &'a Victim,
    /// What each suspect was charged over the span, in the victim's order.
    charges: Vec<[f64; CHARGES]>,
    lifts: Vec<Lift>,
    /// Wait by suspect: behind its requests, its blocks, its running, its
    /// allocations.
    waits: Vec<Waits>,
    cpu_ns: f64,
    memory_ns: f64,
    limit_ns: f64,
    own_ns: f64,
    device_ns: f64,
    unexplained_ns: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    requests: f64,
    journal: f64,
    cpu: f64,
    memory: f64,
    acquitted: bool,
}

impl Waits {
    fn total(&self) -> f64 {
        self.requests + self.journal + self.cpu + self.memory
    }
}

impl<'a> Account<'a> {
    fn new(victim: &'a Victim, span: Span) -> Self {
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
            charges,
            lifts,
            waits,
            cpu_ns: 0.0,
            memory_ns: 0.0,
            limit_ns: 0.0,
            own_ns: 0.0,
            device_ns: 0.0,
            unexplained_ns: 0.0,
        }
    }

    fn divide(&mut self, victim: &Victim, sum: &Half, runqueue_ns: f64, helpers: &[Held]) {
        let mut parts = sum.parts;
        let wait_ns = sum.phases.wait_ns() as f64;
        for held in helpers.iter().filter(|held| held.is_cause && held.role == Role::Journal) {
            let parts = [&mut parts.unexplained_ns, &mut parts.journal_ns, &mut parts.commits_ns];
            let taken_ns = take(held.up() * wait_ns, parts);
            self.hold_up(held, taken_ns);
        }
        self.own_ns = parts.own_ns;
        self.device_ns = parts.device_ns;
        self.unexplained_ns = parts.unexplained_ns;
        let tick_ns = f64::from(sum.ticks) * 1e9;
        let is_limited = |ns: u64| tick_ns > 0.0 && ns as f64 >= LIMITED * tick_ns;

        // The journal's time belongs to those who filled it, and so does what
        // kernel threads write of its filesystem's own blocks.
        let blocks: f64 = self.charges.iter().map(|c| c[op::METADATA as usize]).sum();
        let is_helper = victim.suspects.iter().map(|suspect| suspect.party.is_helper());
        let by_each: Vec<_> = is_helper.zip(&self.waits).map(|(is, w)| (is, w.requests)).collect();
        let written: f64 = by_each.iter().filter(|(is, _)| *is).map(|(_, ns)| ns).sum();
        let mut journal = parts.journal_ns;
        // A commit on a device that became slow is as long as the device makes it.
        let filled_ns = if sum.circumstances.is_slow(SLOW_DEVICE) { 0.0 } else { journal };
        if blocks > 0.0 {
            for (waits, (is_helper, _)) in self.waits.iter_mut().zip(by_each) {
                waits.requests = if is_helper { 0.0 } else { waits.requests };
            }
            for (at, suspect) in victim.suspects.iter().enumerate() {
                let share = self.charges[at][op::METADATA as usize] / blocks;
                if suspect.party == victim.party() {
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

        // A CPU it waited for: its own quota, or whoever ran meanwhile.
        if is_limited(sum.limited_cpu_ns) {
            self.limit_ns += runqueue_ns;
        } else {
            self.cpu_ns += self.share_out(op::CPU, 0.0, runqueue_ns, |waits| &mut waits.cpu);
        }
        // What it wants itself it takes from nobody: too little is left to it.
        let itself = self.charged_to_itself(op::MEMORY);
        self.memory_ns =
            self.share_out(op::MEMORY, itself, parts.memory_ns, |waits| &mut waits.memory);

        // Waiting for its own limit leaves no trace but the limit.
        if is_limited(sum.limited_io_ns) {
            self.limit_ns += parts.throttle_ns + self.unexplained_ns;
            self.unexplained_ns = 0.0;
        } else {
            self.device_ns += parts.throttle_ns;
        }
    }

    /// The waits for servers and workers of the disk that were held up themselves.
    fn hold_up_the_disk(&mut self, helpers: &[Held], wait_ns: f64) {
        for held in helpers.iter().filter(|held| held.is_cause && held.role != Role::Journal) {
            let wanted_ns = held.up() * wait_ns;
            let mut taken_ns = take(wanted_ns, [&mut self.device_ns, &mut self.unexplained_ns]);
            // Others' requests waited for it just so.
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

    /// A helper was held up for so long by whoever had its CPU, or by its limit.
    fn hold_up(&mut self, held: &Held, taken_ns: f64) {
        let limit_ns = taken_ns * held.limit / held.up();
        self.limit_ns += limit_ns;
        let cpu_ns = taken_ns - limit_ns;
        self.cpu_ns += self.share_out(op::CPU, 0.0, cpu_ns, |waits| &mut waits.cpu);
    }

    /// Each stranger has the waits for what commits wrote for it, by its blocks.
    fn share_out_commits(&mut self, commits_ns: f64) {
        let strangers = self.victim.suspects.iter().map(|s| self.victim.is_stranger(&s.party));
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
        let own = self.victim.suspects.iter().position(|s| s.party == self.victim.party());
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
        let own = self.victim.party();
        let suspects = self.victim.suspects.iter().map(|s| s.party != own);
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

    /// The blame for those whom the evidence clears is nobody's that is known, and
    /// never another's.
    fn acquit(&mut self) {
        for (waits, lift) in self.waits.iter_mut().zip(&self.lifts) {
            if lift.clears() {
                self.unexplained_ns += waits.requests + waits.journal;
                (waits.requests, waits.journal, waits.acquitted) = (0.0, 0.0, true);
            }
        }
    }

    fn shares(&self, total: f64) -> Shares {
        let sum = |part: fn(&Waits) -> f64| self.waits.iter().map(part).sum::<f64>();
        Shares {
            owners: sum(|w| w.requests + w.journal) / total,
            cpu: (self.cpu_ns + sum(|w| w.cpu)) / total,
            memory: (self.memory_ns + sum(|w| w.memory)) / total,
            limit: self.limit_ns / total,
            own: self.own_ns / total,
            device: self.device_ns / total,
            unexplained: self.unexplained_ns / total,
        }
    }

    /// The culprits, the worst first, and those who were there and are none.
    fn findings(&self, total: f64, sum: &Half, basis: Basis) -> (Vec<Finding>, Vec<Finding>) {
        let own = self.victim.party();
        let mut culprits = Vec::new();
        let mut ruled_out = Vec::new();
        for (at, suspect) in self.victim.suspects.iter().enumerate() {
            let (waits, lift) = (&self.waits[at], self.lifts[at]);
            let share = waits.total() / total;
            let there = lift.with_n > 0 || self.charges[at].iter().any(|c| *c > 0.0);
            if suspect.party == own || !there {
                continue;
            }
            let change = last_change(&self.victim.seconds, suspect.seconds);
            let mut finding = Finding {
                party: suspect.party,
                owner: suspect.owner,
                charge: self.worst_charge(at),
                via: via(waits, sum),
                wait_ns: waits.total(),
                share,
                lift,
                change,
                confidence: confidence(share, &suspect.party, &lift, change, waits, basis),
                cleared: None,
            };
            if share >= CULPRIT_SHARE {
                culprits.push(finding);
            } else {
                finding.cleared = Some(if waits.acquitted || basis.has_lifts && lift.clears() {
                    Cleared::Lift
                } else if self.victim.was_well() && suspect.is_steady() {
                    Cleared::Steady
                } else {
                    Cleared::Share
                });
                ruled_out.push(finding);
            }
        }
        culprits.sort_by(|a, b| b.share.total_cmp(&a.share));
        ruled_out.sort_by_key(|finding| std::cmp::Reverse(finding.lift.with_n));
        (culprits, ruled_out)
    }

    /// What a suspect did most harm with.
    fn worst_charge(&self, at: usize) -> usize {
        let waits = &self.waits[at];
        let beyond = [
            (waits.journal, op::METADATA as usize),
            (waits.cpu, op::CPU as usize),
            (waits.memory, op::MEMORY as usize),
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

/// Where the largest lies; `None` if none is above 0.
fn most(values: impl Iterator<Item = f64>) -> Option<usize> {
    let largest = values.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (largest.1 > 0.0).then_some(largest.0)
}

/// Where the victim met a party: in front of the driver or behind it, in the
/// journal, at a CPU, at the page allocator.
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
        (waits.cpu, Via::Runqueue),
        (waits.memory, Via::Memory),
    ];
    let worst = ways.into_iter().rev().max_by(|(a, _), (b, _)| a.total_cmp(b));
    worst.map_or(met, |(_, via)| via)
}

/// Two opinions that agree are sure, where the device is known to be well and
/// there is a name to the party.
fn confidence(
    share: f64,
    party: &Party,
    lift: &Lift,
    change: Option<Change>,
    waits: &Waits,
    basis: Basis,
) -> Confidence {
    let is_sure = share >= SURE_SHARE && !party.kthread;
    // Who ran while the victim waited for that CPU was seen to do so.
    if waits.cpu > waits.total() / 2.0 {
        return if is_sure { Confidence::High } else { Confidence::Medium };
    }
    let changed = change.is_some_and(|change| {
        let (with, without) = match change.started {
            true => (change.after_ns, change.before_ns),
            false => (change.before_ns, change.after_ns),
        };
        with >= 1.5 * without
    });
    let accused = basis.has_lifts && lift.accuses();
    let changed = basis.has_lifts && changed;
    // Requests accuse for sure only on a disk that is known to be well.
    let of_requests = waits.requests > waits.total() / 2.0;
    let is_sure = is_sure && !basis.is_standing && (basis.is_device_well || !of_requests);
    match (accused, changed) {
        (true, _) if is_sure => Confidence::High,
        (true, _) | (false, true) => Confidence::Medium,
        (false, false) if share >= 0.5 && !lift.clears() => Confidence::Medium,
        (false, false) => Confidence::Low,
    }
}
