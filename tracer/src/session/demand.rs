//! Decides when hooks that run often are worth their cost.
//!
//! Hooks on every switch of a CPU, on every bio and on every change of a journal
//! are attached only while their answer can change a verdict: while what they explain is
//! at least a tenth of some victim's sync time in the window, and not merely some
//! microseconds of each sync, for two seconds and not in the victim's first one. A hook is
//! attached once a minute at most, and one that explained nearly nothing rests. It knows no
//! clock: callers pass the time, once a second.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tracer_ebpf::record::op;
use tracer_engine::{
    helper::FLOOR,
    kind::Kind,
    phases::Phase,
    sums::Half,
    suspect::Suspect,
    verdict::judge,
    victim::{Span, Victim, VictimKey},
};
use tracer_kernel::{capability::Capability, strategies::Forced};

/// Below these a victim's share means nothing.
const WAKEUPS: u64 = 5;
const SYNC_TIME: Duration = Duration::from_millis(20);

/// The share of sync time, in percent, from which on a hook is worth its cost.
const SHARE_PERCENT: u64 = 10;

/// The seconds in succession for which a victim asks before a hook is attached for it: what
/// happens in a single one is over before the hook could explain it.
const SECONDS: u32 = 2;

/// The least time from one attachment of a hook to the next.
const APART: Duration = Duration::from_secs(60);

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
    /// When it was last seen to ask, and for how many seconds in succession.
    asked_ns: u64,
    seconds: u32,
    /// Since when it asks with the hook attached.
    tried_ns: u64,
    /// The hook explained nothing: how long it rests, and until when.
    rest_ns: u64,
    rests_until_ns: u64,
    /// The wait of each sync when the rest began; twice as long a wait ends it.
    each_ns: u64,
}

/// The answer to a victim that asks for a hook.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Answer {
    /// It has not asked for long.
    NotYet,
    Attach,
    /// The hook explained nothing to it.
    Rest,
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

    /// Whether it is wanted at `now_ns`, given those who sync; to be asked once a second. The
    /// caller attaches it as soon as it is.
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
            match asker.answer(now_ns, asked, found_ns, self.was_wanted) {
                Answer::NotYet => {}
                Answer::Attach => asks = true,
                Answer::Rest => rests = true,
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
        let is_early = !self.was_wanted
            && self.began_ns.back().is_some_and(|then| is_within(APART, *then, now_ns));
        let is_wanted = !is_early
            && self.mattered_ns.is_some_and(|then| is_within(self.linger(), then, now_ns));
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

    /// The time that it is to explain of a victim's waits in the window, if it is worth its cost.
    fn asked(&self, victim: &Victim) -> Option<Asked> {
        let halves = [&victim.now, &victim.before];
        let sum = |of: fn(&Half) -> u64| -> u64 { halves.into_iter().map(of).sum() };
        let (syncs, duration_ns) = (sum(|half| half.syncs), sum(|half| half.duration_ns));
        let own_ns = sum(self.explains);
        let is_for_own = syncs >= self.least_syncs
            && duration_ns >= SYNC_TIME.as_nanos() as u64
            && own_ns.saturating_mul(100) >= duration_ns.saturating_mul(SHARE_PERCENT)
            && own_ns >= syncs.saturating_mul(FLOOR.as_nanos() as u64);
        let is_first_second = halves.iter().all(|half| half.ticks == 0);
        let helpers_ns = match self.capability {
            Capability::Contender => victim.held_up_ns() as u64,
            _ => 0,
        };
        if is_first_second || !is_for_own && helpers_ns == 0 || !self.may_change_a_verdict(victim) {
            return None;
        }
        let all_ns = own_ns.saturating_add(helpers_ns);
        Some(Asked { all_ns, each_ns: all_ns / syncs.max(1) })
    }

    /// Whether its answer may become a part of the verdict on a victim. Who ran is nobody's
    /// question while the victim's syncs take no longer than usual, as on a disk in memory whose
    /// thread waits for a CPU for some microseconds of each sync. A newcomer has no verdict yet,
    /// and may be slow. The answers of other hooks are also a part of what is usual.
    fn may_change_a_verdict(&self, victim: &Victim) -> bool {
        if self.capability != Capability::Contender {
            return true;
        }
        let sum = victim.sum(Span::Window);
        match judge(victim, &sum, Span::Window).kind {
            Kind::None => false,
            Kind::Unknown => !victim.has_history() && sum.syncs >= WAKEUPS,
            _ => true,
        }
    }
}

impl Asker {
    /// The answer to a victim that asks now, and of whose window the hook explained `found_ns`.
    fn answer(
        &mut self,
        now_ns: u64,
        asked: Asked,
        found_ns: Option<u64>,
        is_attached: bool,
    ) -> Answer {
        let is_new = !is_within(Duration::from_secs(2), self.asked_ns, now_ns);
        self.asked_ns = now_ns;
        self.seconds = if is_new { 1 } else { self.seconds.saturating_add(1) };
        if is_new || !is_attached {
            self.tried_ns = now_ns;
        }
        if self.seconds < SECONDS {
            return Answer::NotYet;
        }
        if now_ns < self.rests_until_ns && asked.each_ns / 2 < self.each_ns {
            return Answer::Rest;
        }
        self.rests_until_ns = 0;
        let Some(found_ns) = found_ns else { return Answer::Attach };
        if is_within(TRIAL, self.tried_ns, now_ns) {
            return Answer::Attach;
        }
        if found_ns.saturating_mul(100) >= asked.all_ns.saturating_mul(FOUND_PERCENT) {
            self.rest_ns = 0;
            return Answer::Attach;
        }
        let (shortest, longest) = (SHORTEST_REST.as_nanos() as u64, LONGEST_REST.as_nanos() as u64);
        self.rest_ns = (2 * self.rest_ns).clamp(shortest, longest);
        self.rests_until_ns = now_ns.saturating_add(self.rest_ns);
        self.each_ns = asked.each_ns;
        Answer::Rest
    }
}

/// Whether less than `length` has passed since then.
pub(super) fn is_within(length: Duration, then_ns: u64, now_ns: u64) -> bool {
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
mod tests;
