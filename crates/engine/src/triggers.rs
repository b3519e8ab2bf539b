//! Finds out who had a culprit's data written just then: an actor that called `sync` or `syncfs`,
//! or unmounted or froze a filesystem.
//!
//! Data that is left in the page cache is written some 30 s later, a little at a time. `sync` has
//! all of it written at once, whoever left it there. An umount does the same. So does the umount of
//! an overlay, for the filesystem of its upper layer. Whoever left the data keeps its share of
//! the excess, because the disk writes that data; the caller is shown beside it as the *trigger*,
//! and has no share of its own. A trigger is known by time: while the victim waited behind what
//! workers wrote back, the call was under way for most of the time.

use tracer_ebpf::record::{NO_DISK, SyncRecord, kind, op};

use super::{
    blame::{ActorId, Division, Owner, OwnerId},
    drops::Unnamed,
    tick::{Tick, WholeCall},
    victim::{Span, Victim},
};

/// The last calls of the node that are kept.
const CALLS: usize = 64;

/// The last calls that are kept for a victim.
const CALLS_OF_A_VICTIM: usize = 8;

/// Actors whose writes are kept for a victim.
const WRITERS: usize = 8;

/// A sync of the victim is behind others if this part of its excess is.
const BEHIND: f64 = 0.5;

/// A culprit has a trigger if this part of its blame for writes fell into the calls.
const MOST: f64 = 0.5;

/// The way in which a caller has a whole filesystem written, or all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    Sync,
    Syncfs,
    Whole(WholeCall),
}

impl Way {
    /// Its name in outputs. Those of the system calls are the kernel's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Syncfs => "syncfs",
            Self::Whole(WholeCall::Umount) => "umount",
            Self::Whole(WholeCall::Freeze) => "freeze",
            Self::Whole(WholeCall::Other) => "filesystem_sync",
        }
    }
}

/// A call that has others' data written, so far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    pub who: ActorId,
    pub way: Way,
    device: u32,
    disk: u32,
    pub begin_ns: u64,
    pub end_ns: u64,
}

impl Call {
    /// The call that a record is about; `None` for the sync of one file.
    fn of(record: &SyncRecord) -> Option<Self> {
        let way = match record.kind {
            kind::SYNC => Way::Sync,
            kind::SYNCFS => Way::Syncfs,
            _ => return None,
        };
        Some(Self {
            who: record.into(),
            way,
            device: record.device,
            disk: record.disk,
            begin_ns: record.begin_ns,
            end_ns: record.begin_ns.saturating_add(record.duration_ns),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.who, self.begin_ns) == (other.who, other.begin_ns)
    }
}

/// The last calls, in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Calls(Vec<Call>);

impl Calls {
    /// Takes in a sync that ended, or one that has not, as if it ended now.
    pub fn add(&mut self, record: &SyncRecord) {
        if let Some(call) = Call::of(record) {
            self.put(call);
        }
    }

    /// Takes in the calls of the last second that are no records; `actor` says who an owner is.
    pub fn tick(&mut self, tick: &Tick, actor: impl Fn(OwnerId) -> ActorId) {
        for sync in &tick.whole_syncs {
            self.put(Call {
                who: actor(sync.owner),
                way: Way::Whole(sync.call),
                device: sync.device,
                disk: sync.disk,
                begin_ns: sync.since_ns,
                end_ns: sync.until_ns,
            });
        }
    }

    /// All who made them.
    pub fn callers(&self) -> impl Iterator<Item = ActorId> {
        self.0.iter().map(|call| call.who)
    }

    fn put(&mut self, call: Call) {
        match self.0.iter_mut().find(|known| known.is_same(&call)) {
            Some(known) => *known = call,
            None => {
                if self.0.len() == CALLS {
                    self.0.remove(0);
                }
                self.0.push(call);
            }
        }
    }
}

/// The time from the begin of the first to the end of the last sync that was mainly behind
/// others; nothing if `until_ns` is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behind {
    from_ns: u64,
    until_ns: u64,
}

impl Behind {
    pub fn add(&mut self, division: &Division, begin_ns: u64, end_ns: u64) {
        if division.excess_ns <= 0.0 || division.others_ns < BEHIND * division.excess_ns {
            return;
        }
        let is_first = self.until_ns == 0;
        self.from_ns = if is_first { begin_ns } else { self.from_ns.min(begin_ns) };
        self.until_ns = self.until_ns.max(end_ns);
    }

    /// The time for which a call was under way meanwhile.
    fn covered_ns(&self, call: &Call) -> u64 {
        call.end_ns.min(self.until_ns).saturating_sub(call.begin_ns.max(self.from_ns))
    }

    /// The part of the time in which any of the calls was under way.
    fn covered(&self, calls: &[&Call]) -> f64 {
        let mut spans: Vec<_> = calls.iter().map(|call| (call.begin_ns, call.end_ns)).collect();
        spans.sort_unstable();
        let (mut reached_ns, mut covered_ns) = (self.from_ns, 0);
        for (begin_ns, end_ns) in spans {
            let (from_ns, to_ns) = (begin_ns.max(reached_ns), end_ns.min(self.until_ns));
            covered_ns += to_ns.saturating_sub(from_ns);
            reached_ns = reached_ns.max(to_ns);
        }
        covered_ns as f64 / self.until_ns.saturating_sub(self.from_ns).max(1) as f64
    }
}

/// A call that was under way while a victim waited for what was written back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    pub call: Call,
    /// For how long both lasted.
    covered_ns: u64,
    /// How often the window was moved on since.
    age: u8,
}

/// The blame for an actor's writes.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// All of it, in ns of wait.
    all_ns: f64,
    /// The part for what others wrote back for it.
    back_ns: f64,
    /// The part of that which fell into calls.
    prompted_ns: f64,
}

impl Written {
    fn add(&mut self, other: &Self) {
        self.all_ns += other.all_ns;
        self.back_ns += other.back_ns;
        self.prompted_ns += other.prompted_ns;
    }
}

/// The blame for the writes of some actors.
#[derive(Clone, Debug, Default)]
struct Writers(Vec<(ActorId, Written)>);

impl Writers {
    /// Those that come too late for the list have no trigger.
    fn add(&mut self, actor: &ActorId, written: &Written) {
        match self.0.iter().position(|(known, _)| known == actor) {
            Some(at) => self.0[at].1.add(written),
            None if self.0.len() < WRITERS => self.0.push((*actor, *written)),
            None => {}
        }
    }

    fn of(&self, actor: &ActorId) -> Written {
        self.0.iter().find(|(known, _)| known == actor).map_or_else(Written::default, |one| one.1)
    }
}

/// The knowledge that a victim has of such calls.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    /// Since the last tick, and in the second before it.
    pub(super) fresh: Behind,
    last: Behind,
    fresh_writers: Writers,
    last_writers: Writers,
    /// The newer and the older half of the window, and what left it.
    writers: [Writers; 3],
    calls: Vec<Trigger>,
    /// The charges for drops of the caches whose owner is not known yet.
    pub(super) unnamed: Vec<Unnamed>,
}

impl Triggers {
    /// Notes the blame for an owner's requests, if these are writes.
    pub(super) fn blame(&mut self, owner: &Owner, ns: f64) {
        if u32::from(owner.op) == op::WRITE && ns > 0.0 {
            let back_ns = if owner.is_written_back() { ns } else { 0.0 };
            let written = Written { all_ns: ns, back_ns, prompted_ns: 0.0 };
            self.fresh_writers.add(&owner.actor(), &written);
        }
    }

    /// Adds a call to those that are kept.
    fn add(&mut self, call: &Call, covered_ns: u64) {
        let known = self.calls.iter().position(|known| known.call.is_same(call));
        let before_ns = known.map_or(0, |at| self.calls.remove(at).covered_ns);
        if self.calls.len() == CALLS_OF_A_VICTIM {
            self.calls.remove(0);
        }
        self.calls.push(Trigger { call: *call, covered_ns: before_ns + covered_ns, age: 0 });
    }

    /// The call that had an actor's data written for longest; `None` where most of its writes
    /// were made without one.
    pub(super) fn of(&self, actor: &ActorId, span: Span) -> Option<Call> {
        let mut written = Written::default();
        let halves = if span == Span::Period { 3 } else { 2 };
        self.writers[..halves].iter().for_each(|writers| written.add(&writers.of(actor)));
        if written.prompted_ns <= 0.0 || written.prompted_ns < MOST * written.all_ns {
            return None;
        }
        let is_within = |one: &&Trigger| span == Span::Period || one.age < 2;
        let others = self.calls.iter().filter(|one| one.call.who != *actor);
        others.filter(is_within).max_by_key(|one| one.covered_ns).map(|one| one.call)
    }

    /// Moves the window on.
    pub(super) fn rotate(&mut self) {
        self.calls.iter_mut().for_each(|one| one.age = one.age.saturating_add(1));
        let [now, before, past] = &mut self.writers;
        before.0.drain(..).for_each(|(actor, written)| past.add(&actor, &written));
        std::mem::swap(now, before);
        self.unnamed.iter_mut().for_each(Unnamed::rotate);
    }

    /// Forgets all but what comes after the last tick.
    pub(super) fn begin_period(&mut self) {
        self.last = Behind::default();
        let writers = self.writers.iter_mut().chain([&mut self.last_writers]);
        writers.for_each(|writers| writers.0.clear());
        self.calls.clear();
        self.unnamed.iter_mut().for_each(Unnamed::begin_period);
    }
}

impl Victim {
    /// Finds the calls during which its syncs of the second before the last were behind others.
    /// A call is seen at its end, or when it is a second old, so the last second is too early.
    pub(super) fn find_triggers(&mut self, calls: &Calls) {
        let own = self.actor();
        let behind = self.triggers.last;
        let is_its = |call: &&Call| {
            let is_here = call.way == Way::Sync
                || call.device == self.key.device
                || call.disk != NO_DISK && self.is_on(call.disk);
            is_here && call.who != own && behind.covered_ns(call) > 0
        };
        let meanwhile: Vec<_> = calls.0.iter().filter(is_its).collect();
        let covered = if meanwhile.is_empty() { 0.0 } else { behind.covered(&meanwhile) };
        let triggers = &mut *self.triggers;
        for (actor, written) in triggers.last_writers.0.drain(..) {
            let prompted_ns = written.back_ns * covered;
            triggers.writers[0].add(&actor, &Written { prompted_ns, ..written });
        }
        for call in meanwhile {
            triggers.add(call, behind.covered_ns(call));
        }
        triggers.last = std::mem::take(&mut triggers.fresh);
        std::mem::swap(&mut triggers.last_writers, &mut triggers.fresh_writers);
    }
}
