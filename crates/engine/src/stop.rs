//! A victim's process that is stopped: by the one who traces it (ptrace), by a signal, by the
//! freezer of its cgroup, or by the limit on its cgroup's memory. A stopped thread is in no sync: it
//! is stopped before the system call, or on its way out of it, so the syncs themselves stay quick.
//!
//! How long a process was stopped is sampled by the caller. Of a process that is traced, a thread
//! that is stopped elsewhere keeps no sync waiting, so it counts only while a thread is stopped at
//! a sync, or while none can run. The same holds at a limit on memory, with one addition: a thread
//! that syncs may wait for one that the limit stops. The kernel counts the time in which all of the
//! cgroup that had something to do waited for memory. Threads that had nothing to do are not
//! excepted from it, so it counts only in seconds in which half of the usual syncs are missing or
//! more, for the part of them that is, and without the time in syncs.

use serde::{Deserialize, Serialize};
use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    freeze::{Kept, is_long},
    spans::Sums,
    victim::{Span, Victim},
};
use crate::kind::{Confidence, Via};

/// Causes that one victim remembers; further ones are left out, and counted.
const MOST: usize = 4;

/// Its usual number of syncs in a second is the mean of this many seconds before it was stopped.
const USUAL_SECONDS: u32 = 16;

/// If fewer of its usual syncs are missing in a second, that says nothing.
const MANY_MISSING: f64 = 0.5;

/// In seconds with less of it, a limit on memory changes the number of syncs little.
const FEW_NS: u64 = 50_000_000;

/// The way in which a process is stopped.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Another process traces it.
    Traced,
    /// A signal has stopped it (SIGSTOP, SIGTSTP).
    Signal,
    /// Its cgroup is frozen.
    Freezer,
    /// Its cgroup, or one above it, has as much memory as its limit allows.
    Memory,
}

/// A process was stopped in the last second, or is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stop {
    /// The process, as records name it.
    pub tgid: u32,
    pub how: How,
    /// The owner who traces it; nobody if it is not traced.
    #[serde(default)]
    pub owner: OwnerId,
    /// The process of that owner, as records name it.
    #[serde(default)]
    pub pid: u32,
    /// The file that freezes its cgroup or limits its memory, and that cgroup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// The limit on memory, and how much of it is used.
    #[serde(default, skip_serializing_if = "crate::tick::is_zero")]
    pub limit_bytes: u64,
    #[serde(default, skip_serializing_if = "crate::tick::is_zero")]
    pub used_bytes: u64,
    /// The time for which none of its threads could run.
    pub ns: u64,
    /// The time for which others could, while threads were stopped at a sync: added up over
    /// these threads.
    #[serde(default)]
    pub at_syncs_ns: u64,
    /// The time for which all of its cgroup that had something to do waited for memory, as the
    /// kernel counts it.
    #[serde(default, skip_serializing_if = "crate::tick::is_zero")]
    pub stalled_ns: u64,
    /// Whether none of its threads can run at the time of the tick; at a limit on memory, whether
    /// one that syncs cannot.
    #[serde(default)]
    pub is_halted: bool,
}

impl Stop {
    /// Whether the process may have ended fewer syncs in that second because of it.
    fn is_for_long(&self) -> bool {
        self.how != How::Memory || self.at_syncs_ns > 0 || self.stalled_ns >= FEW_NS
    }
}

/// Whatever stopped a victim.
#[derive(Clone, Debug, Default)]
pub struct Stoppers {
    known: Vec<Stopper>,
    is_halted: bool,
    /// The thread that synced last.
    tid: u32,
    /// The mean number of its syncs in a second before it was stopped for long, and the seconds
    /// since it was so last; `None` when these are many.
    usual_syncs: Option<f64>,
    well_seconds: u32,
}

/// One cause, and for how long it stopped the victim.
#[derive(Clone, Debug)]
struct Stopper {
    how: How,
    actor: ActorId,
    owner: OwnerId,
    pid: u32,
    setting: String,
    limit_bytes: u64,
    used_bytes: u64,
    sums: Sums,
    /// The part in which threads were seen to be stopped.
    seen: Sums,
}

/// How long something stopped a victim.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    pub how: How,
    /// The one who traces it, with its process.
    pub actor: ActorId,
    pub owner: OwnerId,
    pub pid: u32,
    /// The file that freezes its cgroup or limits its memory, and that cgroup.
    pub setting: String,
    /// The limit on memory, and how much of it was used.
    pub limit_bytes: u64,
    pub used_bytes: u64,
    pub ns: f64,
    /// The part in which threads were seen to be stopped. The rest follows from what the kernel
    /// counts, and from the syncs that are missing.
    pub seen_ns: f64,
}

impl Stopped {
    /// Whether threads were seen to be stopped for most of the time.
    pub fn is_seen(&self) -> bool {
        is_mostly_seen(self.seen_ns, self.ns)
    }
}

/// Whether threads were seen to be stopped for most of a time, in any unit.
pub fn is_mostly_seen(seen: f64, all: f64) -> bool {
    2.0 * seen >= all
}

impl From<&Stopped> for Kept {
    fn from(stopped: &Stopped) -> Self {
        let Stopped { actor, owner, ns, .. } = *stopped;
        let (charge, via) = (op::TRACE, Via::Trace);
        Self { actor, owner, charge, via, ns, most: Confidence::High }
    }
}

impl Stoppers {
    /// Adds a stop; returns whether there was room for its cause.
    fn add(&mut self, stop: &Stop, actor: ActorId, ns: f64, seen_ns: f64) -> bool {
        let is_same = |known: &Stopper| (known.how, known.actor) == (stop.how, actor);
        let at = match self.known.iter().position(is_same) {
            Some(at) => at,
            None if self.known.len() < MOST => {
                self.known.push(Stopper {
                    how: stop.how,
                    actor,
                    owner: stop.owner,
                    pid: stop.pid,
                    setting: String::new(),
                    limit_bytes: 0,
                    used_bytes: 0,
                    sums: Sums::default(),
                    seen: Sums::default(),
                });
                self.known.len() - 1
            }
            None => return false,
        };
        let known = &mut self.known[at];
        (known.owner, known.pid) = (stop.owner, stop.pid);
        (known.limit_bytes, known.used_bytes) = (stop.limit_bytes, stop.used_bytes);
        known.setting.clone_from(&stop.setting);
        known.sums.add(ns);
        known.seen.add(seen_ns);
        true
    }

    /// Takes in whether it was stopped for long in a second before which it usually ended `usual`
    /// syncs in one.
    fn note(&mut self, is_stopped: bool, usual: impl FnOnce() -> f64) {
        match self.usual_syncs {
            None if is_stopped => (self.usual_syncs, self.well_seconds) = (Some(usual()), 0),
            Some(_) if is_stopped => self.well_seconds = 0,
            Some(_) if self.well_seconds >= USUAL_SECONDS => self.usual_syncs = None,
            Some(_) => self.well_seconds += 1,
            None => {}
        }
    }

    /// The part of its usual syncs that are missing in a second with `syncs` of them; none if they
    /// are few: their number changes by itself, too.
    fn missing(&self, syncs: f64) -> f64 {
        let usual = self.usual_syncs.filter(|usual| *usual > 0.0);
        let missing = usual.map_or(0.0, |usual| 1.0 - syncs / usual);
        if missing >= MANY_MISSING { missing } else { 0.0 }
    }

    /// Remembers the thread that synced last.
    pub(super) fn meet(&mut self, tid: u32) {
        self.tid = tid;
    }

    /// All who traced it.
    pub fn tracers(&self) -> impl Iterator<Item = (ActorId, OwnerId)> {
        let traced = self.known.iter().filter(|known| known.how == How::Traced);
        traced.map(|known| (known.actor, known.owner))
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        for known in &mut self.known {
            known.sums.rotate();
            known.seen.rotate();
        }
    }

    pub(super) fn begin_period(&mut self) {
        self.known.clear();
    }
}

impl Victim {
    /// Takes in the stops of the last second, each with the number of syncs that the process
    /// ended in it; returns the number for which there was no room.
    pub(super) fn stop(
        &mut self,
        stops: &[(Stop, u64)],
        actor: &impl Fn(OwnerId) -> ActorId,
    ) -> u64 {
        let mut left_out = 0;
        self.helpers.stoppers.is_halted = false;
        // Threads are stopped at the syncs of all files of the process.
        let syncs = f64::from(self.fresh.syncs);
        let part = |all: u64| if all > 0 { (syncs / all as f64).min(1.0) } else { 1.0 };
        let mut its = stops.iter().filter(|(stop, _)| stop.tgid == self.tgid);
        let is_stopped = its.any(|(stop, _)| stop.is_for_long());
        let seconds = &self.seconds;
        self.helpers.stoppers.note(is_stopped, || {
            // The last of these may be a part of the second that ends now.
            let before = seconds.iter().skip(2).take(USUAL_SECONDS as usize);
            before.map(|second| f64::from(second.syncs)).sum::<f64>() / f64::from(USUAL_SECONDS)
        });
        for (stop, of_process) in stops.iter().filter(|(stop, _)| stop.tgid == self.tgid) {
            let seen_ns = stop.ns as f64 + stop.at_syncs_ns as f64 * part(*of_process);
            self.helpers.stoppers.is_halted |= stop.is_halted;
            let who = match stop.how {
                How::Traced => actor(stop.owner),
                How::Signal | How::Freezer | How::Memory => ActorId::default(),
            };
            // The time in syncs may be a part of it, and is counted there.
            let outside_ns = stop.stalled_ns.saturating_sub(self.fresh.wait_ns) as f64;
            let ns = seen_ns.max(outside_ns * self.helpers.stoppers.missing(syncs));
            if ns > 0.0 {
                let is_kept = self.helpers.stoppers.add(stop, who, ns, seen_ns);
                left_out += u64::from(!is_kept);
            }
        }
        left_out
    }

    /// Its thread that synced last, as records name it.
    pub fn last_thread(&self) -> u32 {
        self.helpers.stoppers.tid
    }

    /// Whether none of its threads could run at the last tick.
    pub fn is_halted(&self) -> bool {
        self.helpers.stoppers.is_halted
    }

    /// Whatever stopped it within `tick_ns` of ticks, and for how long; nothing if that is only a
    /// small part of the time.
    pub(super) fn stopped(&self, span: Span, tick_ns: f64) -> Vec<Stopped> {
        let known = self.helpers.stoppers.known.iter().map(|known| {
            let (ns, seen_ns) = (known.sums.of(span), known.seen.of(span));
            let Stopper { how, actor, owner, pid, limit_bytes, used_bytes, .. } = *known;
            let setting = known.setting.clone();
            Stopped { how, actor, owner, pid, setting, limit_bytes, used_bytes, ns, seen_ns }
        });
        let stopped: Vec<_> = known.filter(|stopped| stopped.ns > 0.0).collect();
        let all_ns: f64 = stopped.iter().map(|stopped| stopped.ns).sum();
        if is_long(all_ns, tick_ns) { stopped } else { Vec::new() }
    }
}
