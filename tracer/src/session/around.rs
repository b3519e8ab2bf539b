//! Makes the tick, which the engine gets once a second beside the syncs, and finds the
//! names of the actors in it.

use std::collections::HashSet;

use tracer_ebpf::{
    cgroup,
    dropped::Dropped,
    pid,
    record::{NO_DISK, op},
};
use tracer_engine::{
    Engine,
    blame::{ActorId, Owner, OwnerId},
    tick::Tick,
    victim::Victim,
};
use tracer_kernel::capability::Capability;
use tracer_node::surroundings::{Around, Subject};
use tracer_scene::Scene;

use super::Session;

/// A victim that synced within this time counts as active.
const RECENT_NS: u64 = 5_000_000_000;

impl Session {
    /// Reads what else happened on the node since the last tick.
    pub(super) fn read_tick(&mut self, now: u64) -> Tick {
        self.attach_what_matters(now);
        let mut work = Tick { at_ns: now, ..Tick::default() };
        let holders = self.accounts.journal_work(&mut work);
        self.holders.note(holders, now);
        let subjects = self.subjects(now);
        let Around { limits, steal_ns, cpus, memory } = self.surroundings.look(now, &subjects);
        let (drops, late_drops) = self.read_drops();
        let mut tick = Tick {
            contenders: self.tallies.read_contenders(&mut self.accounts),
            reclaimers: self.tallies.read_reclaimers(&mut self.accounts),
            drops,
            late_drops,
            freezes: self.read_freezes(now),
            pauses: self.read_pauses(),
            whole_syncs: self.read_whole_syncs(now),
            stops: self.read_stops(now),
            limits,
            steal_ns,
            cpus,
            memory,
            ..work
        };
        self.accounts.disk_work(&mut tick);
        tick.helpers = self.read_helpers(now, &tick.disks);
        tick
    }

    /// Finds who had the kernel drop its caches since the last tick. The second list is for earlier
    /// drops: the kernel's log named their owners only after the tick in which they were counted.
    fn read_drops(&mut self) -> (Vec<OwnerId>, Vec<OwnerId>) {
        let Self { cache_drops, tallies, accounts, .. } = self;
        let (mut drops, mut late_drops) = (Vec::new(), Vec::new());
        for drop in cache_drops.look() {
            let list = if drop.is_late { &mut late_drops } else { &mut drops };
            list.push(tallies.dropper(&drop.comm, drop.tid, accounts));
        }
        (drops, late_drops)
    }

    /// Finds the names of the actors in the tick while they are still there.
    pub(super) fn resolve_actors(&mut self, tick: &Tick) {
        let Self { scene: Scene { engine, actors, .. }, accounts, identities, .. } = self;
        let now = tick.at_ns;
        actors.refill();
        actors.ask_again(identities, now);
        accounts.take_met(|actor, tgid| actors.resolve(identities, actor, tgid, now));
        let rates = accounts.disks().iter().flat_map(|disk| &disk.rates);
        for rate in rates.filter(|rate| rate.owner != OwnerId::NOBODY) {
            actors.resolve(identities, rate.actor, rate.tgid, now);
        }
        for victim in recent(engine, now) {
            actors.resolve(identities, victim.actor(), victim.tgid, now);
        }
        for owner in tick.owners() {
            actors.resolve(identities, accounts.actor(owner), 0, now);
        }
        if actors.is_crowded() {
            let victims = engine.victims().iter();
            let blamed = victims.flat_map(|victim| {
                let suspects = victim.suspects.iter().map(|suspect| suspect.actor);
                let keepers = victim.keepers().map(|(actor, _)| actor);
                suspects.chain(keepers).chain([victim.actor()])
            });
            let owners = accounts.disks().iter().flat_map(|disk| disk.owners.iter());
            let owners = owners.map(Owner::actor);
            let spoken_of: HashSet<ActorId> =
                blamed.chain(owners).chain(engine.callers()).collect();
            actors.forget_others(&spoken_of);
        }
    }

    /// Attaches or detaches the hooks that run often, as they are needed.
    fn attach_what_matters(&mut self, now: u64) {
        let programs = &mut self.programs;
        let mut attach = |capability, wanted, is_attached: &mut bool| {
            if wanted != *is_attached {
                programs.set_attached(capability, wanted);
                *is_attached = wanted;
            }
        };
        for demand in &mut self.demands {
            let wanted = demand.is_wanted(now, recent(&self.scene.engine, now));
            attach(demand.capability, wanted, &mut demand.is_attached);
        }
        let unknown = self.accounts.tables().dropped(Dropped::DirtierUnknown);
        let wanted = self.dirtied.is_wanted(now, unknown);
        attach(Capability::Dirtied, wanted, &mut self.dirtied.is_attached);
        self.attach_frees_if_needed();
    }

    /// Has the hooks on who frees space attached once a kernel thread has discarded some: a
    /// filesystem is mounted with `discard`. They stay, since what is discarded was freed before.
    fn attach_frees_if_needed(&mut self) {
        let mut rates = self.accounts.disks().iter().flat_map(|disk| &disk.rates);
        if !self.frees_hooked
            && rates.any(|rate| u32::from(rate.op) == op::DISCARD && rate.actor.kthread)
        {
            self.programs.set_attached(Capability::Writeback, true);
            self.frees_hooked = true;
        }
    }

    /// The victims whose limits are looked at, and those who hold up their journals.
    fn subjects(&mut self, now: u64) -> Vec<Subject> {
        let mut known = HashSet::new();
        let (mut subjects, mut holders) = (Vec::new(), Vec::<Subject>::new());
        for victim in recent(&self.scene.engine, now) {
            if victim.kthread || !known.insert((victim.key.cgroup, victim.tgid, victim.disk)) {
                continue;
            }
            let there = || self.assigned.iter().filter(|a| a.identity.is_some());
            let disk = there().find(|a| a.disk.index == victim.disk);
            // Below a carrying disk are those that a limit is usually on.
            let carried = disk.filter(|disk| disk.carries());
            let below = carried.into_iter().flat_map(|disk| disk.disk.underlying);
            let below = below.filter_map(|index| there().find(|a| a.disk.index == index));
            let mut devices: Vec<_> =
                disk.into_iter().chain(below).map(|disk| disk.device).collect();
            // A limit may be on what lies on that disk.
            devices.push(victim.key.device);
            devices.dedup();
            let devices = if victim.disk == NO_DISK { Vec::new() } else { devices };
            for holder in self.holders.on(victim.key.device) {
                let (cgroup, tgid) = (holder.cgroup, pid::here(holder.tgid));
                if !holders.iter().any(|known| known.cgroup == cgroup && known.tgid == tgid) {
                    let devices = devices.clone();
                    holders.push(Subject { cgroup, path: None, tgid, devices, is_holder: true });
                }
            }
            let (cgroup, tgid) = (victim.key.cgroup, pid::here(victim.tgid));
            subjects.push(Subject { cgroup, path: None, tgid, devices, is_holder: false });
        }
        // A cgroup has one set of limits, and a victim's are looked at already.
        let victims: HashSet<u64> = subjects.iter().map(|victim| victim.cgroup).collect();
        holders.retain(|holder| !victims.contains(&holder.cgroup));
        subjects.append(&mut holders);
        for subject in subjects.iter_mut().filter(|subject| !cgroup::is_v1(subject.cgroup)) {
            subject.path = self.identities.cgroup(subject.cgroup, now).map(str::to_owned);
        }
        subjects
    }
}

pub(super) fn recent(engine: &Engine, now: u64) -> impl Iterator<Item = &Victim> {
    let victims = engine.victims().iter().map(Box::as_ref);
    victims.filter(move |v| now.saturating_sub(v.last_ns) < RECENT_NS)
}
