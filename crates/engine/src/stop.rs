//! A victim's process that is stopped: by the one who traces it (ptrace), by a signal, or by the
//! freezer of its cgroup. A stopped thread is in no sync: it is stopped before the system call, or
//! on its way out of it, so the syncs themselves stay quick.
//!
//! How long a process was stopped is sampled by the caller. Of a process that is traced, a thread
//! that is stopped elsewhere keeps no sync waiting, so it counts only while a thread is stopped at
//! a sync, or while none can run.

use serde::{Deserialize, Serialize};
use tracer_ebpf::record::op;

use super::{
    blame::{ActorId, OwnerId},
    freeze::{Kept, is_long},
    spans::Sums,
    victim::{Span, Victim},
};
use crate::kind::{Confidence, Via};

/// Causes that one victim remembers; what further ones stop is not counted.
const MOST: usize = 4;

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
    /// The file that freezes its cgroup, and that cgroup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// The time for which none of its threads could run.
    pub ns: u64,
    /// The time for which others could, while threads were stopped at a sync: added up over
    /// these threads.
    #[serde(default)]
    pub at_syncs_ns: u64,
    /// Whether none of its threads can run at the time of the tick.
    #[serde(default)]
    pub is_halted: bool,
}

/// Whatever stopped a victim.
#[derive(Clone, Debug, Default)]
pub struct Stoppers {
    known: Vec<Stopper>,
    is_halted: bool,
}

/// One cause, and for how long it stopped the victim.
#[derive(Clone, Debug)]
struct Stopper {
    how: How,
    actor: ActorId,
    owner: OwnerId,
    pid: u32,
    setting: String,
    sums: Sums,
}

/// How long something stopped a victim.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    pub how: How,
    /// The one who traces it, with its process.
    pub actor: ActorId,
    pub owner: OwnerId,
    pub pid: u32,
    /// The file that freezes its cgroup, and that cgroup.
    pub setting: String,
    pub ns: f64,
}

impl From<&Stopped> for Kept {
    fn from(stopped: &Stopped) -> Self {
        let Stopped { actor, owner, ns, .. } = *stopped;
        let (charge, via) = (op::TRACE, Via::Trace);
        Self { actor, owner, charge, via, ns, most: Confidence::High }
    }
}

impl Stoppers {
    fn add(&mut self, stop: &Stop, actor: ActorId, ns: f64) {
        let is_same = |known: &&mut Stopper| (known.how, known.actor) == (stop.how, actor);
        if let Some(known) = self.known.iter_mut().find(is_same) {
            (known.owner, known.pid) = (stop.owner, stop.pid);
            known.setting.clone_from(&stop.setting);
            known.sums.add(ns);
        } else if self.known.len() < MOST {
            let mut sums = Sums::default();
            sums.add(ns);
            self.known.push(Stopper {
                how: stop.how,
                actor,
                owner: stop.owner,
                pid: stop.pid,
                setting: stop.setting.clone(),
                sums,
            });
        }
    }

    /// All who traced it.
    pub fn tracers(&self) -> impl Iterator<Item = (ActorId, OwnerId)> {
        let traced = self.known.iter().filter(|known| known.how == How::Traced);
        traced.map(|known| (known.actor, known.owner))
    }

    /// Forgets the older half of the window.
    pub(super) fn rotate(&mut self) {
        self.known.iter_mut().for_each(|known| known.sums.rotate());
    }

    pub(super) fn begin_period(&mut self) {
        self.known.clear();
    }
}

impl Victim {
    /// Takes in the stops of the last second, each with the number of syncs that the process
    /// ended in it.
    pub(super) fn stop(&mut self, stops: &[(Stop, u64)], actor: &impl Fn(OwnerId) -> ActorId) {
        self.helpers.stoppers.is_halted = false;
        // Threads are stopped at the syncs of all files of the process.
        let syncs = f64::from(self.fresh.syncs);
        let part = |all: u64| if all > 0 { (syncs / all as f64).min(1.0) } else { 1.0 };
        for (stop, syncs) in stops.iter().filter(|(stop, _)| stop.tgid == self.tgid) {
            let ns = stop.ns as f64 + stop.at_syncs_ns as f64 * part(*syncs);
            self.helpers.stoppers.is_halted |= stop.is_halted;
            let who = match stop.how {
                How::Traced => actor(stop.owner),
                How::Signal | How::Freezer => ActorId::default(),
            };
            if ns > 0.0 {
                self.helpers.stoppers.add(stop, who, ns);
            }
        }
    }

    /// Whether none of its threads could run at the last tick.
    pub fn is_halted(&self) -> bool {
        self.helpers.stoppers.is_halted
    }

    /// Whatever stopped it within `tick_ns` of ticks, and for how long; nothing if that is only a
    /// small part of the time.
    pub(super) fn stopped(&self, span: Span, tick_ns: f64) -> Vec<Stopped> {
        let known = self.helpers.stoppers.known.iter().map(|known| {
            let ns = known.sums.of(span);
            let Stopper { how, actor, owner, pid, .. } = *known;
            Stopped { how, actor, owner, pid, setting: known.setting.clone(), ns }
        });
        let stopped: Vec<_> = known.filter(|stopped| stopped.ns > 0.0).collect();
        let all_ns: f64 = stopped.iter().map(|stopped| stopped.ns).sum();
        if is_long(all_ns, tick_ns) { stopped } else { Vec::new() }
    }
}
