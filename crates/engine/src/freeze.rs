//! Filesystems that somebody has frozen. Whoever writes there waits before any sync, so a victim's
//! syncs are few and quick meanwhile.
//!
//! A victim that has nothing to write does not wait. So a freeze counts from one tick to the next
//! only if a thread of the victim's process was seen to wait for its end at the later tick, or at
//! the earlier one and the freeze ended in between. A freeze that no tick meets is not counted.
//!
//! It may not be known who froze it: then it is only said that it is frozen, and nobody is named.

use tracer_ebpf::record::op;

use super::{
    account::{CULPRIT_SHARE, SURE_SHARE},
    blame::{ActorId, OwnerId},
    spans::Sums,
    suspect::Lift,
    tick::Tick,
    verdict::Finding,
    victim::{Span, Victim},
};
use crate::kind::{Confidence, Via};

/// Actors that one victim remembers; what further ones freeze is left out.
const MOST: usize = 4;

/// A victim is kept from writing if it waits for this part of the time, or for this long.
const PART: f64 = 0.1;
const LONG_NS: f64 = 1e9;

const SECOND_NS: u64 = 1_000_000_000;

/// Those who froze a victim's filesystem.
#[derive(Clone, Debug, Default)]
pub struct Freezers {
    known: Vec<Freezer>,
    /// The time of the last tick in this period; 0 before the first.
    ticked_ns: u64,
    /// The freeze for whose end it waited at the last tick.
    waits: Option<Waits>,
}

/// A freeze that lasts at a tick.
#[derive(Clone, Copy, Debug)]
struct Waits {
    since_ns: u64,
    ns: u64,
    actor: ActorId,
    owner: OwnerId,
}

/// An actor, and for how long it kept the victim from writing.
#[derive(Clone, Copy, Debug)]
struct Freezer {
    actor: ActorId,
    owner: OwnerId,
    sums: Sums,
}

/// How long an actor kept a victim from writing, or from running.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub actor: ActorId,
    pub owner: OwnerId,
    /// A code of [`op`].
    pub charge: u32,
    pub via: Via,
    pub ns: f64,
    /// The highest confidence in that.
    pub most: Confidence,
}

impl Kept {
    fn by_freeze(actor: ActorId, owner: OwnerId, ns: f64) -> Self {
        let (charge, via) = (op::FREEZE, Via::Freeze);
        Self { actor, owner, charge, via, ns, most: Confidence::High }
    }

    /// Whether nobody was seen to freeze it.
    pub fn is_unknown(&self) -> bool {
        self.owner == OwnerId::NOBODY
    }

    /// The finding for an excess of `total` ns, if that is a part of it that counts. The kernel was
    /// seen to freeze the filesystem for this actor, or says that this actor traces the victim.
    pub fn finding(&self, total: f64) -> Option<Finding> {
        if self.is_unknown() {
            return None;
        }
        let share = self.ns / total;
        let is_sure = share >= SURE_SHARE && !self.actor.kthread;
        let confidence = if is_sure { Confidence::High } else { Confidence::Medium };
        (share >= CULPRIT_SHARE).then(|| Finding {
            actor: self.actor,
            owner: self.owner,
            charge: self.charge as usize,
            via: self.via,
            wait_ns: self.ns,
            share,
            lift: Lift::default(),
            change: None,
            trigger: None,
            frees: false,
            stopped_by: None,
            confidence: confidence.min(self.most),
            cleared: None,
        })
    }
}

impl Freezers {
    /// Whether there was room for it.
    fn add(&mut self, actor: ActorId, owner: OwnerId, ns: u64) -> bool {
        if let Some(known) = self.known.iter_mut().find(|known| known.actor == actor) {
            known.owner = owner;
            known.sums.add(ns as f64);
        } else if self.known.len() < MOST {
            let mut sums = Sums::default();
            sums.add(ns as f64);
            self.known.push(Freezer { actor, owner, sums });
        } else {
            return false;
        }
        true
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums.rotate());
    }

    /// A new period begins: what is frozen counts from its first tick on, with the second before.
    pub(super) fn begin_period(&mut self) {
        self.known.clear();
        self.ticked_ns = 0;
    }
}

impl Victim {
    /// Takes in the freezes of the last second; returns the number for which there was no room.
    pub(super) fn freeze(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) -> u64 {
        let mut left_out = 0;
        let freezers = &mut self.helpers.freezers;
        let waited = freezers.waits.take().map(|waited| waited.since_ns);
        let ticked_ns = match std::mem::replace(&mut freezers.ticked_ns, tick.at_ns) {
            0 => tick.at_ns.saturating_sub(SECOND_NS),
            ticked_ns => ticked_ns,
        };
        let device = self.key.device;
        for freeze in tick.freezes.iter().filter(|freeze| freeze.device == device) {
            let is_over = freeze.until_ns > 0;
            let waits = freeze.waiting.contains(&self.tgid);
            let (since_ns, owner) = (freeze.since_ns, freeze.owner);
            if waits {
                let ns = tick.at_ns.saturating_sub(since_ns);
                let waits = Waits { since_ns, ns, actor: actor(owner), owner };
                self.helpers.freezers.waits = Some(waits);
            }
            if waits || is_over && waited == Some(since_ns) {
                let until_ns = if is_over { freeze.until_ns } else { tick.at_ns };
                let ns = until_ns.saturating_sub(since_ns.max(ticked_ns));
                let is_kept = self.helpers.freezers.add(actor(owner), owner, ns);
                left_out += u64::from(!is_kept);
            }
        }
        left_out
    }

    /// The part of a sync for which its filesystem was frozen, if it was under way at the last tick:
    /// the ticks count that time.
    pub(super) fn frozen_within_ns(&self, begin_ns: u64, end_ns: u64) -> u64 {
        let Freezers { ticked_ns, waits, .. } = &self.helpers.freezers;
        let waits = waits.filter(|_| begin_ns <= *ticked_ns);
        waits.map_or(0, |waits| end_ns.saturating_sub(begin_ns.max(waits.since_ns)))
    }

    /// Whether it waited at the last tick to write to its filesystem, which is frozen.
    pub fn is_frozen(&self) -> bool {
        self.helpers.freezers.waits.is_some()
    }

    /// The freeze for whose end it waited at the last tick, and how long that has lasted.
    pub fn frozen(&self) -> Option<Kept> {
        let waits = self.helpers.freezers.waits?;
        Some(Kept::by_freeze(waits.actor, waits.owner, waits.ns as f64))
    }

    /// All who kept it from writing or from running.
    pub fn keepers(&self) -> impl Iterator<Item = (ActorId, OwnerId)> {
        let freezers = self.helpers.freezers.known.iter().map(|known| (known.actor, known.owner));
        freezers.chain(self.helpers.stoppers.tracers()).chain(self.pausers())
    }

    /// Those who kept it from writing within `tick_ns` of ticks, and for how long; nobody if that
    /// is only a small part of the time.
    pub(super) fn froze(&self, span: Span, tick_ns: f64) -> Vec<Kept> {
        let known = self.helpers.freezers.known.iter();
        let known =
            known.map(|known| Kept::by_freeze(known.actor, known.owner, known.sums.of(span)));
        let froze: Vec<_> = known.filter(|froze| froze.ns > 0.0).collect();
        let all_ns: f64 = froze.iter().map(|froze| froze.ns).sum();
        if is_long(all_ns, tick_ns) { froze } else { Vec::new() }
    }
}

/// Whether a victim was kept from writing, or from running, for long enough within `tick_ns`.
pub(super) fn is_long(kept_ns: f64, tick_ns: f64) -> bool {
    kept_ns >= LONG_NS.min(PART * tick_ns)
}
