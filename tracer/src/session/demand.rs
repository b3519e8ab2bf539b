//! Decides when hooks that run often are worth their cost.
//!
//! Hooks on every switch of a CPU, on every bio and on every change of a journal
//! are attached only while their answer can change a verdict: while what they explain is
//! at least a tenth of some victim's sync time, and not merely some microseconds of each
//! sync. A hook that was attached and explains nearly nothing of it rests. It knows no
//! clock: callers pass the time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tracer_ebpf::record::op;
use tracer_engine::{
    helper::FLOOR,
    phases::Phase,
    sums::Half,
    suspect::Suspect,
    victim::{Victim, VictimKey},
};
use tracer_kernel::{capability::Capability, strategies::Forced};

/// Below these a victim's share means nothing.
const WAKEUPS: u64 = 5;
const SYNC_TIME: Duration = Duration::from_millis(20);

/// The share of sync time, in percent, from which on a hook is worth its cost.
const SHARE_PERCENT: u64 = 10;

/// A hook stays attached for this long after it was last worth its cost.
const LINGER: Duration = Duration::from_secs(10);

/// A hook that is attached again within an hour lingers for a minute, and each further time
/// twice as long, so that it is attached seven times an hour at most.
const LINGER_AGAIN: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A hook has explained what it could of a victim's window once it was attached for all of it.
const TRIAL: Duration = Duration::from_secs(10);

/// The part, in percent, of what a victim asks about that a hook must explain. What it does not
/// explain has another reason: a thread that wakes on an idle CPU waits, too.
const FOUND_PERCENT: u64 = 10;

/// A hook that explained less rests for this time: nobody attaches it for that victim. Each time
/// in succession it is twice as long.
const SHORTEST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(1800);

/// Beyond this number of victims that asked in the last hour, only those that ask now are
/// remembered: jobs that come and go are new victims each time.
const MOST_ASKERS: usize = 1024;

/// One capability of the kernel programs, and whether it is wanted.
#[derive(Debug)]
pub struct Demand {
    pub capability: Capability,
    /// The time that it explains, in ns.
    explains: fn(&Half) -> u64,
    /// The part of that which it has explained in the window, in ns, if that is known.
    found: Option<fn(&Victim) -> u64>,
    /// With fewer syncs in the window the time that it explains is not looked at.
    least_syncs: u64,
    /// The last time at which that explained enough to be worth the cost of the hook, in ns.
    mattered_ns: Option<u64>,
    /// The times in the last hour from which on it was wanted, in ns.
    began_ns: VecDeque<u64>,
    was_wanted: bool,
    /// The victims that asked for it in the last hour.
    askers: HashMap<VictimKey, Asker>,
    /// Whether the user asked for it by name; if so, it is attached from the start.
    is_forced: bool,
    /// Whether it is attached now.
    pub is_attached: bool,
}

/// A victim whose waits are worth the cost of a hook. Times are in ns.
#[derive(Debug, Default)]
struct Asker {
    /// When it was last seen to ask, and since when it asks with the hook attached.
    asked_ns: u64,
    tried_ns: u64,
    /// The hook explained nothing: how long it rests, and until when.
    rest_ns: u64,
    rests_until_ns: u64,
    /// The wait of each sync when the rest began; twice as long a wait ends it.
    each_ns: u64,
}

/// The time that a hook is to explain, in the window, and of each sync.
#[derive(Clone, Copy)]
struct Asked {
    all_ns: u64,
    each_ns: u64,
}

impl Demand {
    /// Finds who runs while a sync waits for a CPU, or while its helper does.
    pub fn contenders() -> Self {
        let explains = |half: &Half| half.phases.ns[Phase::Runqueue];
        let found = |victim: &Victim| {
            let ran = |suspect: &Suspect| {
                suspect.now[op::CPU as usize] + suspect.before[op::CPU as usize]
            };
            victim.suspects.iter().map(ran).sum::<f32>() as u64
        };
        Self { found: Some(found), ..Self::new(Capability::Contender, WAKEUPS, explains) }
    }

    /// Finds what a sync waits for before it has a request. While it is not attached,
    /// that time is part of `other`. A single sync may wait for seconds.
    pub fn throttle() -> Self {
        let explains = |half: &Half| throttle_ns(half) + half.phases.ns[Phase::Other];
        let found = |victim: &Victim| throttle_ns(&victim.now) + throttle_ns(&victim.before);
        Self { found: Some(found), ..Self::new(Capability::Throttle, 1, explains) }
    }

    /// Finds who fills the journal whose commits a sync waits for.
    pub fn metadata() -> Self {
        Self::new(Capability::Metadata, 1, log_ns)
    }

    /// Finds who fills xfs's log, for which a sync waits there.
    pub fn tickets() -> Self {
        Self::new(Capability::Tickets, 1, log_ns)
    }

    fn new(capability: Capability, least_syncs: u64, explains: fn(&Half) -> u64) -> Self {
        Self {
            capability,
            explains,
            found: None,
            least_syncs,
            mattered_ns: None,
            began_ns: VecDeque::new(),
            was_wanted: false,
            askers: HashMap::new(),
            is_forced: false,
            is_attached: false,
        }
    }

    /// With what the user asked for.
    pub fn with(self, forced: &[Forced]) -> Self {
        let is_forced = forced.iter().any(|wish| wish.capability == self.capability);
        Self { is_forced, is_attached: is_forced, ..self }
    }

    /// Whether it is wanted at `now_ns`, given those who sync. The caller attaches it as soon
    /// as it is.
    pub fn is_wanted<'a>(
        &mut self,
        now_ns: u64,
        victims: impl IntoIterator<Item = &'a Victim>,
    ) -> bool {
        if self.is_forced {
            return true;
        }
        let (mut asks, mut rests) = (false, false);
        for victim in victims {
            let Some(asked) = self.asked(victim) else { continue };
            let found_ns = self.found.map(|found| found(victim));
            let asker = self.askers.entry(victim.key).or_default();
            match asker.is_worth_it(now_ns, asked, found_ns, self.was_wanted) {
                true => asks = true,
                false => rests = true,
            }
        }
        let kept = if self.askers.len() > MOST_ASKERS { TRIAL } else { HOUR };
        self.askers.retain(|_, asker| is_within(kept, asker.asked_ns, now_ns));
        if asks {
            self.mattered_ns = Some(now_ns);
        } else if rests {
            self.mattered_ns = None;
        }
        self.began_ns.retain(|then| is_within(HOUR, *then, now_ns));
        let is_wanted = self.mattered_ns.is_some_and(|then| is_within(self.linger(), then, now_ns));
        if is_wanted && !self.was_wanted {
            self.began_ns.push_back(now_ns);
        }
        self.was_wanted = is_wanted;
        is_wanted
    }

    fn linger(&self) -> Duration {
        match self.began_ns.len().checked_sub(2) {
            None => LINGER,
            Some(more) => HOUR.min(LINGER_AGAIN * (1 << more.min(6))),
        }
    }

    /// The time that it is to explain of a victim's waits, if it is worth its cost. Looks at
    /// both halves of the window: the younger one is empty when it begins.
    fn asked(&self, victim: &Victim) -> Option<Asked> {
        let halves = [&victim.now, &victim.before];
        let is_worth_it = |half: &&Half| {
            let ns = (self.explains)(half);
            half.syncs >= self.least_syncs
                && half.duration_ns >= SYNC_TIME.as_nanos() as u64
                && ns.saturating_mul(100) >= half.duration_ns * SHARE_PERCENT
                && ns >= half.syncs * FLOOR.as_nanos() as u64
        };
        let is_for_helpers = self.capability == Capability::Contender && victim.is_held_up();
        if !is_for_helpers && !halves.iter().any(is_worth_it) {
            return None;
        }
        let helpers_ns = if is_for_helpers { victim.held_up_ns() as u64 } else { 0 };
        let own_ns: u64 = halves.into_iter().map(self.explains).sum();
        let all_ns = own_ns.saturating_add(helpers_ns);
        let syncs: u64 = halves.into_iter().map(|half| half.syncs).sum();
        Some(Asked { all_ns, each_ns: all_ns / syncs.max(1) })
    }
}

impl Asker {
    /// Whether the hook is worth its cost for a victim that asks now, and of whose window the
    /// hook explained `found_ns`.
    fn is_worth_it(
        &mut self,
        now_ns: u64,
        asked: Asked,
        found_ns: Option<u64>,
        is_attached: bool,
    ) -> bool {
        let is_new = !is_within(Duration::from_secs(2), self.asked_ns, now_ns);
        self.asked_ns = now_ns;
        if is_new || !is_attached {
            self.tried_ns = now_ns;
        }
        if now_ns < self.rests_until_ns && asked.each_ns / 2 < self.each_ns {
            return false;
        }
        self.rests_until_ns = 0;
        let Some(found_ns) = found_ns else { return true };
        if is_within(TRIAL, self.tried_ns, now_ns) {
            return true;
        }
        if found_ns.saturating_mul(100) >= asked.all_ns.saturating_mul(FOUND_PERCENT) {
            self.rest_ns = 0;
            return true;
        }
        let (shortest, longest) = (SHORTEST_REST.as_nanos() as u64, LONGEST_REST.as_nanos() as u64);
        self.rest_ns = (2 * self.rest_ns).clamp(shortest, longest);
        self.rests_until_ns = now_ns.saturating_add(self.rest_ns);
        self.each_ns = asked.each_ns;
        false
    }
}

/// Whether less than `length` has passed since then.
fn is_within(length: Duration, then_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(then_ns) < length.as_nanos() as u64
}

fn throttle_ns(half: &Half) -> u64 {
    half.phases.ns[Phase::Throttle]
}

/// The time in which a sync waited for a filesystem's log.
fn log_ns(half: &Half) -> u64 {
    half.phases.ns[Phase::Journal] + half.phases.journal_io_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    fn victim(syncs: u64, duration_ns: u64, runqueue_ns: u64) -> Victim {
        let key = VictimKey { cgroup: 1, comm: [0; 16], file: 0, device: 0 };
        let mut victim = Victim::new(0, key);
        let half = &mut victim.now;
        (half.syncs, half.duration_ns) = (syncs, syncs * duration_ns);
        half.phases.ns[Phase::Runqueue] = syncs * runqueue_ns;
        victim
    }

    #[test]
    fn it_is_wanted_while_waits_for_a_cpu_matter_and_ten_seconds_more() {
        let (waits, runs) = ([victim(10, 4 * MS, MS)], [victim(10, 4 * MS, MS / 10)]);
        let mut demand = Demand::contenders();
        assert!(!demand.is_wanted(SECOND, &runs));
        assert!(demand.is_wanted(2 * SECOND, &waits));
        assert!(demand.is_wanted(11 * SECOND, &runs));
        assert!(!demand.is_wanted(12 * SECOND, &runs));
        assert!(demand.is_wanted(13 * SECOND, &waits));
    }

    #[test]
    fn what_is_not_explained_calls_for_who_holds_requests_back() {
        let mut waits = victim(1, 50 * MS, 0);
        assert!(!Demand::throttle().is_wanted(SECOND, [&waits]));
        waits.now.phases.ns[Phase::Other] = 40 * MS;
        assert!(Demand::throttle().is_wanted(SECOND, [&waits]));
        assert!(!Demand::contenders().is_wanted(SECOND, [&waits]));
    }

    #[test]
    fn commits_that_are_waited_for_call_for_who_fills_the_journal() {
        let mut waits = victim(1, 50 * MS, 0);
        waits.now.phases.ns[Phase::Journal] = 2 * MS;
        assert!(!Demand::metadata().is_wanted(SECOND, [&waits]));
        waits.now.phases.journal_io_ns = 3 * MS;
        assert!(Demand::metadata().is_wanted(SECOND, [&waits]));
        assert!(Demand::tickets().is_wanted(SECOND, [&waits]));
    }

    #[test]
    fn victims_that_come_and_go_are_forgotten() {
        let mut demand = Demand::contenders();
        for cgroup in 0..3000 {
            let mut job = victim(10, 4 * MS, MS);
            job.key.cgroup = cgroup;
            assert!(demand.is_wanted(cgroup * SECOND / 10, [&job]));
            assert!(demand.askers.len() <= MOST_ASKERS + 1);
        }
    }

    /// 19.9 µs of each sync of 100 µs are a fifth of it, and nobody's question; 20 are.
    #[test]
    fn some_microseconds_of_each_sync_call_for_nothing() {
        const US: u64 = 1000;
        for (runqueue_ns, is_wanted) in [(20 * US - 100, false), (20 * US, true)] {
            let waits = victim(1000, 100 * US, runqueue_ns);
            assert_eq!(Demand::contenders().is_wanted(SECOND, [&waits]), is_wanted);
        }
        let mut waits = victim(1000, 100 * US, 0);
        (waits.now.phases.ns[Phase::Other], waits.now.phases.ns[Phase::Journal]) =
            (19 * MS, 19 * MS);
        let demands = [Demand::throttle, Demand::metadata, Demand::tickets];
        assert!(!demands.iter().any(|demand| demand().is_wanted(SECOND, [&waits])));
        (waits.now.phases.ns[Phase::Other], waits.now.phases.ns[Phase::Journal]) =
            (20 * MS, 20 * MS);
        assert!(demands.iter().all(|demand| demand().is_wanted(SECOND, [&waits])));
    }

    /// The seconds, of those up to `until`, in which it is wanted while a victim waits all the
    /// time, for 1 ms of each 4.
    fn wanted(demand: &mut Demand, victim: &Victim, until: u64) -> Vec<u64> {
        (0..until).filter(|second| demand.is_wanted(second * SECOND, [victim])).collect()
    }

    /// The victim waits for 10 ms in its window, and somebody ran for 0.9 of them.
    #[test]
    fn a_hook_that_explains_less_than_a_tenth_rests_and_each_time_for_longer() {
        let mut waits = victim(10, 4 * MS, MS);
        let suspect = Suspect::default;
        waits.suspects.push(suspect());
        waits.suspects[0].now[op::CPU as usize] = 0.9 * MS as f32;
        let attached = wanted(&mut Demand::contenders(), &waits, 500);
        // Ten seconds; a minute without; ten more; two minutes without; ten more; four.
        let expected: Vec<u64> = (0..10).chain(70..80).chain(200..210).chain(450..460).collect();
        assert_eq!(attached, expected);
        // With 1 ms, half of it in the older half of the window, it explains a tenth, and stays.
        waits.suspects[0].now[op::CPU as usize] = 0.5 * MS as f32;
        waits.suspects.push(suspect());
        waits.suspects[1].before[op::CPU as usize] = 0.5 * MS as f32;
        assert_eq!(wanted(&mut Demand::contenders(), &waits, 100).len(), 100);
    }

    #[test]
    fn twice_the_wait_ends_a_rest_and_another_victim_does_not_rest() {
        let mut demand = Demand::contenders();
        wanted(&mut demand, &victim(10, 4 * MS, MS), 11);
        let waits = |runqueue_ns| victim(10, 4 * MS, runqueue_ns);
        assert!(!demand.is_wanted(12 * SECOND, [&waits(2 * MS - 1)]));
        assert!(demand.is_wanted(13 * SECOND, [&waits(2 * MS)]));

        let mut demand = Demand::contenders();
        wanted(&mut demand, &waits(MS), 11);
        let mut other = waits(MS);
        other.key.file = 1;
        let mut is_wanted = |second| demand.is_wanted(second * SECOND, [&waits(MS), &other]);
        assert!((12..22).all(&mut is_wanted));
        assert!(!is_wanted(22));
    }

    /// A bio that waits is `throttle` once the hook is there; what stays in `other` is none.
    #[test]
    fn a_hook_that_finds_no_bio_waiting_rests() {
        let mut waits = victim(1, 50 * MS, 0);
        waits.now.phases.ns[Phase::Other] = 40 * MS;
        assert_eq!(wanted(&mut Demand::throttle(), &waits, 70), (0..10).collect::<Vec<_>>());
        waits.now.phases.ns[Phase::Other] = 36 * MS;
        waits.now.phases.ns[Phase::Throttle] = 4 * MS;
        assert_eq!(wanted(&mut Demand::throttle(), &waits, 70).len(), 70);
    }

    /// A wait of a second every two minutes: ten seconds, then one minute, then two.
    #[test]
    fn a_hook_that_comes_again_and_again_stays_for_longer() {
        let (waits, runs) = (victim(10, 4 * MS, MS), victim(10, 4 * MS, 0));
        let mut demand = Demand::contenders();
        let is_wanted = |second: &u64| {
            let victim = if second.is_multiple_of(120) { &waits } else { &runs };
            demand.is_wanted(second * SECOND, [victim])
        };
        let attached: Vec<u64> = (0..3600).filter(is_wanted).collect();
        // The third time it lingers until the next wait.
        assert_eq!(attached, (0..10).chain(120..180).chain(240..3600).collect::<Vec<_>>());
    }

    #[test]
    fn few_or_short_syncs_mean_nothing() {
        for few in [victim(4, 10 * MS, 10 * MS), victim(19, MS, MS)] {
            assert!(!Demand::contenders().is_wanted(SECOND, &[few]));
        }
    }
}
