//! A victim's knowledge of one actor: what it was blamed for, and how long the
//! victim's syncs were with and without it.
//!
//! Overlap is not blame. So beside the blame there are two other opinions: how
//! long the victim's syncs were with this actor's work on their path and how
//! long without (the *lift*), and how they changed when it started or stopped.

use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    demand::Lived,
    histogram::{Evidence, rank_z},
    save::saved,
    victim::{MAX_BASELINE_NS, MOST_SYNCS, Victim},
};

const READ: usize = op::READ as usize;
const WRITE: usize = op::WRITE as usize;

/// Reads that read back what somebody else dropped from the caches. They are an effect, and no
/// operation of its own (`record::op`): no suspect is charged with a freeze, whose place they have,
/// nor with what comes after it.
pub const READ_BACK: usize = op::FREEZE as usize;

/// The number of things that a suspect can be charged with: the block operations, the causes
/// beyond them without open handles ([`super::holders`]) and those that stop a victim outside its
/// syncs, and [`READ_BACK`].
pub const CHARGES: usize = READ_BACK + 1;

/// Whether the one that is blamed most for this victim was on the sync's path
/// too: a periodic innocent beside a continuous culprit must be compared among
/// syncs that the culprit disturbed.
pub const STRATA: usize = 2;

/// Seconds that are looked back on for starts and stops.
pub const SECONDS: usize = 64;

/// Syncs on each side before a lift is believed.
pub const ENOUGH: u64 = 20;

/// One of this number of syncs, or more, is without an actor that comes and goes.
const CONTROL: u64 = 10;

/// The knowledge that a victim has of one actor.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub actor: ActorId,
    /// The owner that was blamed last, to find its process by.
    pub owner: OwnerId,
    /// Blame by charge: in ns of wait for block operations; blocks for
    /// METADATA, ns of running for CPU, of reclaim for MEMORY, of wait for DROP_CACHES.
    pub now: [f32; CHARGES],
    pub before: [f32; CHARGES],
    /// From the begin of the period to where the window begins.
    pub past: [f32; CHARGES],
    pub total: [f64; CHARGES],
    /// The blame for its requests since the last tick; the next tick settles it.
    pub fresh: [f32; op::COUNT],
    /// The part of its reads since then that reads back what somebody else dropped.
    pub reads_back: f32,
    /// Whether its last discards were of space that it had freed, by a kernel thread.
    pub frees: bool,
    /// Its demand while the victim was well, and the part of its demand now that is
    /// new.
    pub lived: Lived,
    pub grown: f32,
    /// Syncs with its work on their path, by stratum. Most actors have none, and take no
    /// memory for them.
    with: Option<Box<[Evidence; STRATA]>>,
    /// The seconds in which it was there, bit 0 the current one.
    pub seconds: u64,
    /// The victim's sync in which it was seen last.
    pub seen_in: u32,
    /// It counts as present until this time, also without a part in single syncs.
    pub around_until_ns: u64,
}

saved! {
    Suspect {
        actor, owner, total, lived, grown, with, seconds, seen_in, around_until_ns,
    }
    left { now, before, past, fresh, reads_back, frees }
}

impl Victim {
    /// The position of the suspect with the least recent blame, the first of several. A node
    /// with many owners has more of them than are remembered, and each of its seconds asks for
    /// this many times: most often for one that was never blamed, which needs no sums.
    pub(super) fn least_suspect(&self) -> usize {
        let least = || {
            let weights = self.suspects.iter().map(Suspect::weight).enumerate();
            weights.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at)
        };
        self.suspects.iter().position(Suspect::is_blameless).unwrap_or_else(least)
    }
}

impl Default for Suspect {
    fn default() -> Self {
        Self::new(ActorId::default(), OwnerId::NOBODY)
    }
}

impl Suspect {
    pub fn new(actor: ActorId, owner: OwnerId) -> Self {
        Self {
            actor,
            owner,
            now: [0.0; CHARGES],
            before: [0.0; CHARGES],
            past: [0.0; CHARGES],
            total: [0.0; CHARGES],
            fresh: [0.0; op::COUNT],
            reads_back: 0.0,
            frees: false,
            lived: Lived::default(),
            grown: 1.0,
            with: None,
            seconds: 0,
            seen_in: 0,
            around_until_ns: 0,
        }
    }

    pub fn charge(&mut self, charge: usize, amount: f64) {
        self.now[charge] += amount as f32;
        self.total[charge] += amount;
    }

    /// The blame for it since the last tick.
    pub fn fresh_ns(&self) -> f64 {
        self.fresh.iter().map(|ns| f64::from(*ns)).sum()
    }

    /// Whether it asks for no more than while the victim was well.
    pub fn is_steady(&self) -> bool {
        self.lived.work > 0.0 && self.grown < 0.2
    }

    /// Whether it was blamed for writes recently.
    pub fn has_written(&self) -> bool {
        self.now[WRITE] + self.before[WRITE] > 0.0
    }

    /// Charges the suspect with `times` as much as was noted since the last second.
    pub fn settle(&mut self, times: f64) {
        for (charge, ns) in std::mem::take(&mut self.fresh).into_iter().enumerate() {
            let ns = f64::from(ns) * times;
            let back_ns = if charge == READ { ns * f64::from(self.reads_back) } else { 0.0 };
            self.charge(charge, ns - back_ns);
            self.charge(READ_BACK, back_ns);
        }
    }

    /// Takes over the evidence of another, which turns out to be the same actor.
    pub fn take_over(&mut self, other: Self) {
        self.seconds |= other.seconds;
        self.around_until_ns = self.around_until_ns.max(other.around_until_ns);
        match (&mut self.with, other.with) {
            (Some(with), Some(more)) => {
                with.iter_mut().zip(more.iter()).for_each(|(with, more)| with.add(more));
            }
            (with, more) => *with = with.take().or(more),
        }
    }

    /// Adds a sync of this length that was with it.
    pub fn record_evidence(&mut self, stratum: usize, duration_ns: u64) {
        self.with.get_or_insert_default()[stratum].record(duration_ns);
    }

    /// Halves the weight of all evidence so far.
    pub fn fade(&mut self) {
        let Some(with) = &mut self.with else { return };
        with.iter_mut().for_each(Evidence::halve);
        if with.iter().all(Evidence::is_empty) {
            self.with = None;
        }
    }

    /// The strata begin again.
    pub fn merge_strata(&mut self) {
        if let Some(with) = &mut self.with {
            let [all, disturbed] = &mut **with;
            all.add(disturbed);
            disturbed.clear();
        }
    }

    /// The victim's syncs with it, compared with those without it.
    pub fn lift(&self, all: &[Evidence; STRATA], is_worst: bool) -> Lift {
        let none = <[Evidence; STRATA]>::default();
        let with = self.with.as_deref().unwrap_or(&none).each_ref();
        Lift::of(all, with, is_worst)
    }

    /// Its recent blame, by which actors are evicted.
    pub fn weight(&self) -> f32 {
        self.now.iter().chain(&self.before).chain(&self.fresh).sum()
    }

    /// Whether that is nothing.
    pub fn is_blameless(&self) -> bool {
        self.now.iter().chain(&self.before).chain(&self.fresh).all(|ns| *ns == 0.0)
    }

    pub fn rotate(&mut self) {
        for at in 0..CHARGES {
            self.past[at] += self.before[at];
            self.before[at] = std::mem::take(&mut self.now[at]);
        }
    }

    pub fn begin_period(&mut self) {
        (self.now, self.before, self.past) = Default::default();
    }
}

/// A victim's syncs with an actor and without it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lift {
    pub with_n: u64,
    pub without_n: u64,
    /// p50 and p99 in ns; 0 where there are none.
    pub with_ns: [f64; 2],
    pub without_ns: [f64; 2],
    /// The mean of a sync with it, and without it, in ns.
    pub mean_ns: [f64; 2],
    /// How sure it is that those with it are longer, in standard errors.
    pub z: f64,
}

impl Lift {
    /// Compares within the stratum that says most: among the syncs that the
    /// worst culprit disturbed, if there are enough on both sides; all, if not.
    fn of(all: &[Evidence; STRATA], with: [&Evidence; STRATA], is_worst: bool) -> Self {
        let disturbed = Self::between(with[1], &all[1].without(with[1]));
        if !is_worst && disturbed.is_enough() {
            return disturbed;
        }
        let mut whole = (all[0].clone(), with[0].clone());
        whole.0.add(&all[1]);
        whole.1.add(with[1]);
        Self::between(&whole.1, &whole.0.without(&whole.1))
    }

    fn between(with: &Evidence, without: &Evidence) -> Self {
        let quantiles = |curve: &Evidence| [0.5, 0.99].map(|q| curve.quantile(q).unwrap_or(0.0));
        Self {
            with_n: with.count(),
            without_n: without.count(),
            with_ns: quantiles(with),
            without_ns: quantiles(without),
            mean_ns: [with.mean(), without.mean()],
            z: rank_z(with, without),
        }
    }

    /// Whether both sides have syncs enough to be compared.
    pub fn is_enough(&self) -> bool {
        self.with_n >= ENOUGH && self.without_n >= ENOUGH
    }

    /// Whether enough syncs were without it, and half of these took no longer than any disk for
    /// a log should. The few that escape a neighbour which is always there are the lucky ones.
    pub fn is_quick_without(&self) -> bool {
        let is_enough = self.is_enough() && CONTROL * self.without_n >= self.with_n;
        is_enough && self.without_ns[0] <= MAX_BASELINE_NS as f64
    }

    /// How much longer a sync is with it, at p50 and p99; `None` without a
    /// control group.
    pub fn ratios(&self) -> Option<[f64; 2]> {
        let known = self.with_n > 0 && self.without_n > 0;
        known.then(|| [0, 1].map(|at| self.with_ns[at] / self.without_ns[at].max(1.0)))
    }

    /// Its syncs are longer, and not by chance.
    pub fn supports_blame(&self) -> bool {
        self.is_enough()
            && self.z >= 3.0
            && self.ratios().is_some_and(|lift| lift[0] >= 1.3 || lift[1] >= 1.5)
    }

    /// Its syncs are no longer than those without it. Neither ranks nor quantiles show that two
    /// syncs of three hundred took a second each and all others some milliseconds; the mean does.
    pub fn clears(&self) -> bool {
        let [with_ns, without_ns] = self.mean_ns;
        self.is_enough()
            && self.z < 2.0
            && with_ns < 1.25 * without_ns
            && self.ratios().is_some_and(|lift| lift[0] < 1.1 && lift[1] < 1.25)
    }
}

/// The victim's mean sync before and after an actor started or stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub started: bool,
    /// Seconds ago.
    pub ago: u32,
    pub before_ns: f64,
    pub after_ns: f64,
}

/// One second of a victim's syncs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    pub syncs: u32,
    pub sum_ns: f32,
}

saved!(Second { syncs, sum_ns } if |it| it.syncs <= MOST_SYNCS);

/// On each side of a change.
const STEADY: usize = 3;

/// The last start or stop with some seconds of one kind before and after it.
/// `seconds` and `there` count back from the current second, which is not over
/// and so is left out.
pub fn last_change(seconds: &[Second; SECONDS], there: u64) -> Option<Change> {
    let is_there = |ago: usize| there >> ago & 1 == 1;
    for edge in 1 + STEADY..SECONDS - STEADY {
        // Seconds [edge - STEADY, edge) are after it, [edge, edge + STEADY) before.
        let after = (edge - STEADY..edge).all(|ago| is_there(ago) == is_there(edge - 1));
        let before = (edge..edge + STEADY).all(|ago| is_there(ago) == is_there(edge));
        if !after || !before || is_there(edge) == is_there(edge - 1) {
            continue;
        }
        let mean = |range: std::ops::Range<usize>| {
            let (mut syncs, mut sum_ns) = (0u64, 0.0);
            for second in &seconds[range] {
                syncs += u64::from(second.syncs);
                sum_ns += f64::from(second.sum_ns);
            }
            (syncs >= 5).then(|| sum_ns / syncs as f64)
        };
        return Some(Change {
            started: is_there(edge - 1),
            ago: edge as u32,
            before_ns: mean(edge..edge + STEADY)?,
            after_ns: mean(edge - STEADY..edge)?,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::victim::VictimKey;

    const MS: u64 = 1_000_000;

    fn curve(ns: u64, count: usize) -> Evidence {
        let mut curve = Evidence::default();
        (0..count).for_each(|n| curve.record(ns + n as u64 * ns / 1000));
        curve
    }

    fn none() -> Evidence {
        Evidence::default()
    }

    #[test]
    fn longer_syncs_support_the_blame_and_others_clear_the_suspect() {
        let (quick, slow) = (curve(MS, 200), curve(20 * MS, 60));
        let mut all = quick.clone();
        all.add(&slow);
        let culprit = Lift::of(&[all.clone(), none()], [&slow, &none()], true);
        assert!(culprit.supports_blame() && !culprit.clears(), "{culprit:?}");
        assert!(culprit.ratios().unwrap()[0] > 15.0);

        let innocent = curve(MS, 60);
        let innocent = Lift::of(&[quick, none()], [&innocent, &none()], false);
        assert!(innocent.clears() && !innocent.supports_blame(), "{innocent:?}");
    }

    /// Seen with a tenant whose data another wrote back with `syncfs`: 4 s of 7 s of excess were two
    /// syncs.
    #[test]
    fn two_syncs_of_a_second_among_hundreds_clear_nobody() {
        let (mut with, without) = (curve(2 * MS, 280), curve(2 * MS, 976));
        (0..2).for_each(|_| with.record(1400 * MS));
        let mut all = without;
        all.add(&with);
        let culprit = Lift::of(&[all, none()], [&with, &none()], true);
        let [p50, p99] = culprit.ratios().unwrap();
        assert!(culprit.z < 2.0 && p50 < 1.1 && p99 < 1.25, "neither shows them: {culprit:?}");
        assert!(!culprit.clears(), "{culprit:?}");
        // (280 × 2 ms + 2 × 1400 ms) / 282 = 11.9 ms.
        assert!((11e6..13e6).contains(&culprit.mean_ns[0]), "{culprit:?}");
    }

    #[test]
    fn a_cron_job_beside_a_culprit_is_compared_among_the_syncs_that_it_disturbed() {
        // Quiet at first; then the culprit goes on, and the job bursts now and then.
        let all = [curve(MS, 300), curve(20 * MS, 300)];
        let (none, bursts) = (none(), curve(20 * MS, 40));
        let job = [&none, &bursts];
        assert!(Lift::of(&all, job, false).clears());
        // Compared with all it would not be cleared.
        assert!(!Lift::of(&all, job, true).clears());
    }

    /// They have 3, 1, 0 and 0 ns of blame; then the last two have 2 and 1.
    #[test]
    fn the_first_of_those_with_the_least_blame_makes_room() {
        let key = VictimKey { cgroup: 1, comm: [0; 16], file: 0, device: 0 };
        let mut victim = Victim::new(0, key);
        victim.suspects.resize(4, Suspect::default());
        (victim.suspects[0].now[READ], victim.suspects[1].fresh[WRITE]) = (3.0, 1.0);
        assert_eq!(victim.least_suspect(), 2);
        victim.suspects[2].before[CHARGES - 1] = 2.0;
        assert_eq!(victim.least_suspect(), 3);
        victim.suspects[3].now[0] = 1.0;
        assert_eq!(victim.least_suspect(), 1);
    }

    #[test]
    fn without_a_control_group_nobody_is_blamed_or_cleared() {
        let all = [curve(20 * MS, 300), none()];
        let lift = Lift::of(&all, all.each_ref(), true);
        assert!(!lift.supports_blame() && !lift.clears());
        assert_eq!(lift.ratios(), None);
    }

    #[test]
    fn a_start_is_found_with_the_victims_mean_on_both_sides() {
        let mut seconds = [Second::default(); SECONDS];
        for (ago, second) in seconds.iter_mut().enumerate().take(20) {
            let ms = if ago < 8 { 30 } else { 2 };
            *second = Second { syncs: 10, sum_ns: (10 * ms * MS) as f32 };
        }
        let change = last_change(&seconds, 0xff).unwrap();
        assert_eq!((change.started, change.ago), (true, 8));
        assert_eq!((change.before_ns, change.after_ns), (2e6, 30e6));
        assert!(!last_change(&seconds, !0xff).unwrap().started);
        assert_eq!(last_change(&seconds, 0), None);
        assert_eq!(last_change(&seconds, u64::MAX), None);
    }
}
