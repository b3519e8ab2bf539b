//! Processes of victims that are stopped, and those who trace them.
//!
//! Once a second the processes of the last seconds' victims are looked at. One that is stopped,
//! traced or at a limit on its memory is then looked at ten times a second, each look for the time
//! since the one before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tracer_ebpf::{
    pid,
    record::{OwnerKey, op, via},
};
use tracer_engine::{
    Engine,
    blame::OwnerId,
    stop::{How, Stop},
};
use tracer_kernel::maps::tallies::padded;
use tracer_node::stopped::{self, Stopped};

use super::{Session, around::recent};

/// Processes that are looked at.
const PROCESSES: usize = 16;

/// Two looks at a process that is stopped are at least this far apart.
const APART: Duration = Duration::from_millis(50);

/// A look stands for no longer than this.
const MOST_NS: u64 = 1_500_000_000;

/// The processes that are stopped, traced or at a limit, as records name them.
pub(super) struct Stops {
    node: stopped::Stops,
    watched: BTreeMap<u32, Watched>,
    sampled_ns: u64,
    ticked_ns: u64,
}

/// A process that is stopped, traced or at a limit, and for how long it was stopped since the last
/// tick.
struct Watched {
    /// As it was when it was last seen to be so.
    stopped: Stopped,
    is_over: bool,
    ns: u64,
    at_syncs_ns: u64,
    stalled_ns: u64,
}

impl Watched {
    /// Adds a look that stands for some time.
    fn add(&mut self, stopped: Option<Stopped>, ns: u64) {
        self.is_over = stopped.is_none();
        if let Some(stopped) = stopped {
            self.ns += if stopped.is_halted { ns } else { 0 };
            self.at_syncs_ns += ns * u64::from(stopped.at_syncs);
            self.stalled_ns += stopped.stalled_ns;
            self.stopped = stopped;
        }
    }

    /// Whether nothing of it runs, or, at a limit on memory, a thread that syncs does not.
    fn is_halted(&self) -> bool {
        let waits = self.stopped.how == How::Memory && self.stopped.at_syncs > 0;
        !self.is_over && (self.stopped.is_halted || waits)
    }
}

impl Stops {
    pub fn new(node: stopped::Stops) -> Self {
        Self { node, watched: BTreeMap::new(), sampled_ns: 0, ticked_ns: 0 }
    }

    fn sample(&mut self, engine: &Engine, now: u64) {
        let ns = now.saturating_sub(self.sampled_ns).min(MOST_NS);
        self.sampled_ns = now;
        for (tgid, watched) in &mut self.watched {
            watched.add(self.node.look(pid::here(*tgid), &syncing(engine, *tgid)), ns);
        }
    }

    /// Looks at a process for the first time; if it is stopped, it has been since its last sync
    /// or since the last look at all of them.
    fn meet(&mut self, engine: &Engine, tgid: u32, synced_ns: u64, now: u64) {
        let syncing = syncing(engine, tgid);
        let Some(stopped) = self.node.look(pid::here(tgid), &syncing) else { return };
        let ns = now.saturating_sub(synced_ns.max(self.ticked_ns)).min(MOST_NS);
        let mut watched = Watched {
            stopped: stopped.clone(),
            is_over: false,
            ns: 0,
            at_syncs_ns: 0,
            stalled_ns: 0,
        };
        // Whether a thread was stopped at a sync for long is not known from one look.
        watched.add(Some(Stopped { at_syncs: 0, ..stopped }), ns);
        self.watched.insert(tgid, watched);
    }
}

/// The threads of a process that were the last to sync one of its files, as this process numbers
/// them.
fn syncing(engine: &Engine, tgid: u32) -> Vec<u32> {
    let victims = engine.victims().iter().filter(|victim| victim.tgid == tgid);
    victims.map(|victim| pid::here(victim.last_thread())).collect()
}

impl Session {
    /// Looks at the processes that are stopped, traced or at a limit, if the last look is a while ago.
    pub(super) fn sample_stops(&mut self, now: u64) {
        let stops = &mut self.stops;
        let is_due = now.saturating_sub(stops.sampled_ns) >= APART.as_nanos() as u64;
        if is_due && !stops.watched.is_empty() {
            stops.sample(&self.scene.engine, now);
        }
    }

    /// The stops since the last tick.
    pub(super) fn read_stops(&mut self, now: u64) -> Vec<Stop> {
        self.stops.sample(&self.scene.engine, now);
        let mut victims: BTreeMap<u32, u64> = BTreeMap::new();
        for victim in recent(&self.scene.engine, now).filter(|victim| !victim.kthread) {
            let synced_ns = victims.entry(victim.tgid).or_default();
            *synced_ns = victim.last_ns.max(*synced_ns);
        }
        for (tgid, synced_ns) in victims {
            let room = self.stops.watched.len() < PROCESSES;
            if room && pid::here(tgid) != 0 && !self.stops.watched.contains_key(&tgid) {
                self.stops.meet(&self.scene.engine, tgid, synced_ns, now);
            }
        }
        self.stops.ticked_ns = now;
        let mut watched = std::mem::take(&mut self.stops.watched);
        let tracers: BTreeSet<u32> = watched.values().map(|one| one.stopped.tracer).collect();
        let owners: BTreeMap<u32, OwnerId> =
            tracers.into_iter().map(|tracer| (tracer, self.tracing(tracer, now))).collect();
        let stops = watched.iter().map(|(tgid, one)| Stop {
            tgid: *tgid,
            how: one.stopped.how,
            owner: owners.get(&one.stopped.tracer).copied().unwrap_or_default(),
            pid: one.stopped.tracer,
            setting: one.stopped.setting.clone(),
            limit_bytes: one.stopped.limit_bytes,
            used_bytes: one.stopped.used_bytes,
            ns: one.ns,
            at_syncs_ns: one.at_syncs_ns,
            stalled_ns: one.stalled_ns,
            is_halted: one.is_halted(),
        });
        let stops = stops.collect();
        watched.retain(|_, one| {
            (one.ns, one.at_syncs_ns, one.stalled_ns) = (0, 0, 0);
            !one.is_over
        });
        self.stops.watched = watched;
        stops
    }

    /// The owner of a trace: a process.
    fn tracing(&mut self, tgid: u32, now: u64) -> OwnerId {
        if tgid == 0 {
            return OwnerId::NOBODY;
        }
        let cgroup = self.identities.cgroup_of(tgid, now);
        let process = self.identities.process(tgid, now);
        let comm = process.map(|process| padded(process.comm.as_bytes())).unwrap_or_default();
        let (op, via) = (op::TRACE as u16, via::DIRECT);
        let owner = self.accounts.intern(OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via });
        let actor = self.accounts.actor(owner);
        self.scene.actors.resolve(&mut self.identities, actor, tgid, now);
        owner
    }
}
