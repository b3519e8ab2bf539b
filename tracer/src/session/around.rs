//! What the engine is told once a second beside the syncs.

use std::collections::HashSet;

use tracer_ebpf::record::NO_DISK;

use super::Session;
use tracer_engine::{Engine, tick::Tick, victim::Victim};
use tracer_node::surroundings::{Around, Subject};

/// Who synced within so long is a victim now.
const RECENT_NS: u64 = 5_000_000_000;

impl Session {
    /// What went on around the syncs since the last tick.
    pub(super) fn read_tick(&mut self, now: u64) -> Tick {
        self.attach_what_matters(now);
        let subjects = self.subjects(now);
        let Around { limits, steal_ns, cpus, memory } = self.surroundings.look(now, &subjects);
        Tick {
            at_ns: now,
            contenders: self.tallies.read_contenders(&mut self.accounts),
            reclaimers: self.tallies.read_reclaimers(&mut self.accounts),
            limits,
            steal_ns,
            cpus,
            memory,
            ..Tick::default()
        }
    }

    /// Puts the hooks that run often on or off, as they are wanted.
    fn attach_what_matters(&mut self, now: u64) {
        for demand in &mut self.demands {
            let wanted = demand.is_wanted(now, recent(&self.scene.engine, now));
            if wanted != demand.is_attached {
                self.programs.set_attached(demand.capability, wanted);
                demand.is_attached = wanted;
            }
        }
    }

    /// Whose limits are to be looked at.
    fn subjects(&mut self, now: u64) -> Vec<Subject> {
        let mut known = HashSet::new();
        let mut subjects = Vec::new();
        for victim in recent(&self.scene.engine, now) {
            if victim.kthread || !known.insert((victim.key.cgroup, victim.tgid, victim.disk)) {
                continue;
            }
            let there = self.assigned.iter().filter(|a| a.identity.is_some());
            let disks = there.filter(|a| a.disk.index == victim.disk);
            let mut devices: Vec<_> = disks.map(|disk| disk.device).collect();
            // A limit may be on what lies on that disk.
            devices.push(victim.key.device);
            devices.dedup();
            subjects.push(Subject {
                cgroup: victim.key.cgroup,
                path: self.identities.cgroup(victim.key.cgroup, now).map(str::to_owned),
                tgid: victim.tgid,
                devices: if victim.disk == NO_DISK { Vec::new() } else { devices },
            });
        }
        subjects
    }
}

pub(super) fn recent(engine: &Engine, now: u64) -> impl Iterator<Item = &Victim> {
    let victims = engine.victims().iter().map(Box::as_ref);
    victims.filter(move |v| now.saturating_sub(v.last_ns) < RECENT_NS)
}
