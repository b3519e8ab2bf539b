//! Writes that the kernel pauses because too many pages are dirty (dirty throttling). Whoever
//! writes to that disk waits before any sync, so a victim's syncs may be few and quick meanwhile.
//!
//! The limit is full of what all writers have dirtied, and the kernel counts for each of them. So
//! the time for which a victim is paused is divided by the pages of each, those of the last seconds:
//! while the kernel writes them out the victim is still paused, and who dirtied them may have
//! stopped. A victim's own pages count as well. At the limit of its own cgroup it is alone.

use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    freeze::Kept,
    spans::Sums,
    suspect::Suspect,
    tick::Tick,
    victim::{Span, Victim},
};
use crate::kind::{Confidence, Via};

/// Actors that one victim remembers; further ones are left out, and counted.
const MOST: usize = 16;

/// After each second this part of the pages that an actor dirtied counts on: half after 6.6 s.
const STAYS: f64 = 0.9;

/// A victim is paused if that takes this part of the time.
const PART: f64 = 0.1;

/// Ticks are about a second apart. A late one may be about more.
const LONGEST_NS: u64 = 2_000_000_000;

/// Those who dirtied pages of a victim's disk near the limit, and for how long it was paused.
#[derive(Clone, Debug, Default)]
pub struct Pausers {
    /// The backing device of its filesystem, as its last record named it.
    pub(super) backing: u32,
    known: Vec<Pauser>,
    /// The pauses at the limit of its own cgroup.
    own_limit: Sums,
}

/// An actor, the pages of its that count, and the pauses of the victim that it is charged with.
#[derive(Clone, Copy, Debug)]
struct Pauser {
    actor: ActorId,
    owner: OwnerId,
    pages: f64,
    sums: Sums,
}

/// How long a victim's writes were paused, in ns, by who is responsible.
#[derive(Clone, Debug, Default)]
pub struct Paused {
    pub by_others: Vec<Kept>,
    pub by_itself_ns: f64,
    /// Those who dirtied pages dirty no more of them than while the victim was well.
    pub by_device_ns: f64,
}

impl Paused {
    /// The part that other actors are responsible for.
    pub fn by_others_ns(&self) -> f64 {
        self.by_others.iter().map(|by| by.ns).sum()
    }

    pub fn all_ns(&self) -> f64 {
        self.by_others_ns() + self.by_itself_ns + self.by_device_ns
    }
}

impl Pausers {
    /// Adds pages that an actor dirtied; returns whether there was room for it.
    fn dirty(&mut self, actor: ActorId, owner: OwnerId, pages: f64) -> bool {
        if let Some(known) = self.known.iter_mut().find(|known| known.actor == actor) {
            known.owner = owner;
            known.pages += pages;
            return true;
        }
        if self.known.len() >= MOST {
            let is_idle =
                |known: &Pauser| known.sums.of(Span::Period) <= 0.0 && known.pages < pages;
            let Some(at) = self.known.iter().position(is_idle) else { return false };
            self.known.swap_remove(at);
        }
        self.known.push(Pauser { actor, owner, pages, sums: Sums::default() });
        true
    }

    /// Charges everybody with a part of a pause, by the pages that they dirtied.
    fn charge(&mut self, ns: f64) {
        let all: f64 = self.known.iter().map(|known| known.pages).sum();
        if all > 0.0 {
            self.known.iter_mut().for_each(|known| known.sums.add(ns * known.pages / all));
        }
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums.rotate());
        self.own_limit.rotate();
    }

    /// A new period begins. What is dirty stays so.
    pub(super) fn begin_period(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums = Sums::default());
        self.own_limit = Sums::default();
    }
}

impl Victim {
    /// Takes in who wrote in the last second, and for how long it was paused itself; returns the
    /// number of writers for whom there was no room.
    pub(super) fn pause(&mut self, tick: &Tick, actor: &impl Fn(OwnerId) -> ActorId) -> u64 {
        let (device, tgid) = (self.key.device, self.tgid);
        let pausers = &mut self.helpers.pausers;
        for known in &mut pausers.known {
            known.pages *= STAYS;
        }
        pausers.known.retain(|known| known.pages >= 1.0 || known.sums.of(Span::Period) > 0.0);
        let (mut all_ns, mut limit_ns, mut left_out) = (0, 0, 0);
        for pause in tick.pauses.iter().filter(|pause| pause.device == device) {
            let is_kept = pausers.dirty(actor(pause.owner), pause.owner, pause.pages as f64);
            left_out += u64::from(!is_kept);
            if pause.tgid == tgid {
                all_ns += pause.ns;
                limit_ns += pause.limit_ns.min(pause.ns);
            }
        }
        // Several threads of it may be paused at a time.
        let part = if all_ns > LONGEST_NS { LONGEST_NS as f64 / all_ns as f64 } else { 1.0 };
        pausers.own_limit.add(limit_ns as f64 * part);
        pausers.charge((all_ns - limit_ns) as f64 * part);
        left_out
    }

    /// Remembers the backing device of its filesystem; 0 if that is not known.
    pub(super) fn meet_backing(&mut self, backing: u32) {
        self.helpers.pausers.backing = backing;
    }

    /// The lower half of the id of its filesystem's backing device; 0 where it is not known.
    pub fn backing(&self) -> u32 {
        self.helpers.pausers.backing
    }

    /// All who dirtied pages while it was paused.
    pub(super) fn pausers(&self) -> impl Iterator<Item = (ActorId, OwnerId)> {
        self.helpers.pausers.known.iter().map(|known| (known.actor, known.owner))
    }

    /// For how long it was paused within `tick_ns` of ticks; nothing if that is only a small part
    /// of the time. `most` is the highest confidence with which anybody is named.
    pub(super) fn paused(&self, span: Span, tick_ns: f64, most: Confidence) -> Paused {
        let pausers = &self.helpers.pausers;
        let by_itself_ns = pausers.own_limit.of(span);
        let mut paused = Paused { by_itself_ns, ..Paused::default() };
        for known in &pausers.known {
            let ns = known.sums.of(span);
            if known.actor == self.actor() {
                paused.by_itself_ns += ns;
            } else if self.asks_for_no_more(&known.actor) {
                paused.by_device_ns += ns;
            } else if ns > 0.0 {
                let Pauser { actor, owner, .. } = *known;
                let (charge, via) = (op::DIRTY, Via::Pause);
                paused.by_others.push(Kept { actor, owner, charge, via, ns, most });
            }
        }
        // Nor does its own demand matter on a disk that became slower.
        if most == Confidence::Low {
            paused.by_device_ns += std::mem::take(&mut paused.by_itself_ns);
        }
        if paused.all_ns() >= PART * tick_ns { paused } else { Paused::default() }
    }

    /// Whether an actor was there while it was well, and asks for no more since: then the disk
    /// became slower.
    fn asks_for_no_more(&self, actor: &ActorId) -> bool {
        let mut suspects = self.suspects.iter().filter(|suspect| suspect.actor == *actor);
        self.was_well() && suspects.any(Suspect::is_steady)
    }
}
