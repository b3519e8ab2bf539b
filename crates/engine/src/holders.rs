//! Those who hold up the commits of a victim's journal.
//!
//! A commit begins by waiting for the handles of its transaction that are still open, and all who
//! sync wait for the commit. The holder of such a handle may have done very little: it sleeps. If a
//! limit of its own cgroup makes it sleep, that limit is the reason for the wait, and requests that are
//! in flight meanwhile are not. If no limit stops the holder, it may itself wait for the device or
//! behind other requests. These are blamed first, and the holder is blamed for the rest of the wait.
//!
//! Only limits that stop a task inside the kernel count. A limit on writes does not: the kernel delays
//! the writes, and the task goes on. A read that a limit stops is not a request yet, so while reads of
//! the holder are in flight, it does not wait for its limit. On a slow device, or behind others, it may
//! do as many reads as its limit allows and never be stopped.

use serde::Serialize;

use super::{
    blame::{ActorId, OwnerId},
    spans::Sums,
    tick::{Limit, LimitKind, Tick},
    victim::{Span, Victim},
};

/// Actors that one victim remembers: those that held it up most. The time of others counts, and
/// is nobody's.
const MOST: usize = 8;

/// A limit is the reason if it stopped the holder for this part of a second.
const STOPPED_NS: u64 = 300_000_000;

/// A limit that was seen to stop an actor counts for this long: a few requests in a second reach it in some
/// seconds only, and a handle may be open for longer than one.
const REMEMBERED_NS: u64 = 5_000_000_000;

/// The limit that stops an actor.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StoppedBy {
    pub resource: LimitedResource,
    /// The file and its line; empty for memory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub setting: String,
}

/// The resource that is limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedResource {
    Cpu,
    Io,
    /// The actor reclaims its cgroup's own memory, because that has reached its limit.
    Memory,
}

/// Those who held up the commits of a victim's journal.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    known: Vec<Holder>,
    /// All actors together, with those that made room for others.
    all: HeldUpSums,
    /// The part of the last waits for handles that was due to those whom a limit stopped, and when
    /// that was seen.
    stopped: f64,
    seen_ns: u64,
}

/// An actor, and for how long it held up commits.
#[derive(Clone, Debug)]
struct Holder {
    actor: ActorId,
    sums: HeldUpSums,
    stopped_by: Option<Box<StoppedBy>>,
    /// The limit that stops it counts until then.
    stopped_until_ns: u64,
}

/// For how long commits waited for handles, while a limit stopped their owner, and else.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeldUp {
    pub stopped_ns: f64,
    pub other_ns: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct HeldUpSums {
    stopped: Sums,
    other: Sums,
}

impl HeldUpSums {
    fn add(&mut self, held: HeldUp) {
        self.stopped.add(held.stopped_ns);
        self.other.add(held.other_ns);
    }

    fn of(&self, span: Span) -> HeldUp {
        HeldUp { stopped_ns: self.stopped.of(span), other_ns: self.other.of(span) }
    }

    fn rotate(&mut self) {
        self.stopped.rotate();
        self.other.rotate();
    }
}

impl HeldUp {
    pub(super) fn all_ns(&self) -> f64 {
        self.stopped_ns + self.other_ns
    }
}

impl Holders {
    /// The actor, if it is one of those that held the victim up most, with the `ns` of this second.
    fn find(&mut self, actor: ActorId, ns: f64) -> Option<&mut Holder> {
        let at = match self.known.iter().position(|known| known.actor == actor) {
            Some(at) => at,
            None => {
                if self.known.len() >= MOST {
                    let ns_of = |known: &Holder| known.sums.of(Span::Period).all_ns();
                    let each = self.known.iter().map(ns_of).enumerate();
                    let (least, least_ns) = each.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
                    if least_ns >= ns {
                        return None;
                    }
                    self.known.swap_remove(least);
                }
                let sums = HeldUpSums::default();
                let (stopped_by, stopped_until_ns) = (None, 0);
                self.known.push(Holder { actor, sums, stopped_by, stopped_until_ns });
                self.known.len() - 1
            }
        };
        Some(&mut self.known[at])
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums.rotate());
        self.all.rotate();
    }

    /// Forgets how long each held up commits, and not what stops it.
    pub(super) fn begin_period(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums = HeldUpSums::default());
        self.all = HeldUpSums::default();
    }
}

impl Holder {
    /// Whether the limit that stops it is one on reads.
    fn stops_reads(&self) -> bool {
        let limit = self.stopped_by.as_deref();
        limit.is_some_and(|limit| limit.resource == LimitedResource::Io)
    }

    /// Notes a limit that stopped it in the last second.
    fn note_limit(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) {
        if let Some(stopped_by) = limit_of(&self.actor, tick, actor) {
            self.stopped_until_ns = tick.at_ns.saturating_add(REMEMBERED_NS);
            self.stopped_by = Some(Box::new(stopped_by));
        }
    }
}

/// The time for which an actor's reads were in flight in the last second, added up over them. A read
/// may be seen on several disks that lie on each other.
fn reads_ns(who: &ActorId, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) -> u64 {
    let on_each = tick.disks.iter().map(|disk| {
        let its = disk.loads.iter().filter(|load| load.reads && actor(load.owner) == *who);
        its.map(|load| load.in_flight_ns).sum()
    });
    on_each.max().unwrap_or(0)
}

/// The limit that stopped an actor for long in the last second.
fn limit_of(who: &ActorId, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) -> Option<StoppedBy> {
    let is_its = |limit: &&Limit| limit.cgroup == who.cgroup && limit.in_kernel;
    let limit = tick.limits.iter().filter(is_its).max_by_key(|limit| limit.ns);
    let limit = limit.filter(|limit| limit.ns >= STOPPED_NS).map(|limit| StoppedBy {
        resource: match limit.kind {
            LimitKind::Cpu => LimitedResource::Cpu,
            LimitKind::Io => LimitedResource::Io,
        },
        setting: limit.setting.clone(),
    });
    limit.or_else(|| {
        let reclaims = tick.reclaimers.iter().filter(|one| actor(one.owner) == *who);
        let ns: u64 = reclaims.map(|one| one.limit_ns).sum();
        let (resource, setting) = (LimitedResource::Memory, String::new());
        (ns >= STOPPED_NS).then_some(StoppedBy { resource, setting })
    })
}

impl Victim {
    /// Takes in who held up the commits of its journal in the last second.
    pub(super) fn hold_up_commits(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) {
        let device = self.key.device;
        let holders = &mut self.helpers.holders;
        for known in &mut holders.known {
            known.note_limit(tick, actor);
        }
        let mut sum = HeldUp::default();
        for work in tick.journals.iter().filter(|work| work.device == device && work.held_ns > 0) {
            let (who, ns) = (actor(work.owner), work.held_ns as f64);
            let mut held = HeldUp { stopped_ns: 0.0, other_ns: ns };
            if let Some(known) = holders.find(who, ns) {
                known.note_limit(tick, actor);
                if tick.at_ns <= known.stopped_until_ns {
                    let other_ns = match known.stops_reads() {
                        true => ns.min(reads_ns(&who, tick, actor) as f64),
                        false => 0.0,
                    };
                    held = HeldUp { stopped_ns: ns - other_ns, other_ns };
                }
                known.sums.add(held);
            }
            sum.stopped_ns += held.stopped_ns;
            sum.other_ns += held.other_ns;
        }
        holders.all.add(sum);
        if sum.all_ns() > 0.0 {
            (holders.stopped, holders.seen_ns) = (sum.stopped_ns / sum.all_ns(), tick.at_ns);
        } else if tick.at_ns > holders.seen_ns.saturating_add(REMEMBERED_NS) {
            holders.stopped = 0.0;
        }
    }

    /// The part of the waits for open handles that is due to holders whom a limit stops, as of the
    /// last seconds.
    pub(super) fn stopped_part(&self) -> f64 {
        self.helpers.holders.stopped
    }

    /// For how long an actor held up commits.
    pub(super) fn held_up_by(&self, actor: &ActorId, span: Span) -> HeldUp {
        let known = self.holder(actor);
        known.map_or_else(HeldUp::default, |known| known.sums.of(span))
    }

    /// For how long all actors together held up commits.
    pub(super) fn held_up_by_all(&self, span: Span) -> HeldUp {
        self.helpers.holders.all.of(span)
    }

    /// The limit that stopped an actor last while it held up commits.
    pub(super) fn stopped_by(&self, actor: &ActorId) -> Option<&StoppedBy> {
        self.holder(actor)?.stopped_by.as_deref()
    }

    fn holder(&self, actor: &ActorId) -> Option<&Holder> {
        self.helpers.holders.known.iter().find(|known| known.actor == *actor)
    }
}
