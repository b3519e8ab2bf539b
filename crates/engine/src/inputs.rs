//! A victim takes in its syncs as they end, and once a second what went on around them.

use tracer_ebpf::record::{SyncRecord, op};

use super::{
    blame::{ActorId, Division, Known, OwnerId, Window, divide},
    drops::Drops,
    outside,
    phases::{Phase, Phases},
    second::Needs,
    tick::{LimitKind, Reclaimer, Tick},
    triggers::Calls,
    victim::Victim,
};

/// The longest time between two ticks, with room for a late one.
const TICK_NS: u64 = 1_500_000_000;

impl Victim {
    /// Takes one sync in, and divides its excess.
    pub(super) fn ingest(
        &mut self,
        record: &SyncRecord,
        phases: &Phases,
        window: &Window,
        need_ns: u64,
    ) -> Division {
        let end_ns = record.begin_ns + record.duration_ns;
        self.last_ns = end_ns;
        // A sync that waited for memory is no baseline sample either: others use that memory.
        let short_of_memory = phases.ns[Phase::Reclaim].saturating_mul(10) > record.duration_ns;
        let contended = short_of_memory || !window.is_uncontended(record.duration_ns);
        // Without a baseline an undisturbed sync is no excess: it is the first
        // baseline sample.
        let mut division = match self.baseline_ns() {
            Some(baseline_ns) => {
                let more_ns = self.needs_more_ns(need_ns);
                let filled_by_others = self.filled_by_others;
                let stopped = self.stopped_part();
                let known = Known { baseline_ns, more_ns, filled_by_others, stopped };
                divide(record, window, phases, &known)
            }
            None if contended => divide(record, window, phases, &Known::default()),
            None => Division::default(),
        };
        division.take_out(self.frozen_within_ns(record.begin_ns, end_ns) as f64);
        let needs = Needs::of(record, need_ns);
        let cpu_ns = phases.ns[Phase::Cpu];
        self.fresh.busy_ns += self.busy.beyond_ns(cpu_ns, record.own_bytes) as f32;
        self.busy.learn(cpu_ns);
        self.record(end_ns, record.duration_ns, phases, window, &division, needs);
        if !contended {
            self.learn(phases.wait_ns(), need_ns);
        }
        division
    }

    /// Takes in what went on around its syncs in the last second; `actor` says who an
    /// owner is. Returns the number of things for which there was no room.
    pub(super) fn tick(
        &mut self,
        tick: &Tick,
        actor: &impl Fn(OwnerId) -> ActorId,
        drops: &Drops,
        calls: &Calls,
    ) -> u64 {
        let until_ns = tick.at_ns + TICK_NS;
        let (device, tgid, cgroup) = (self.key.device, self.tgid, self.key.cgroup);
        self.advance(tick.at_ns);
        let slot = self.slot(&tick.disks, actor);
        let (waited_ns, syncs) = (self.fresh.wait_ns, self.fresh.syncs);
        self.settle_busy(tick.steal_ns);
        self.find_triggers(calls);
        self.name_drops(drops, actor);
        let before = self.note_drops(drops);
        self.settle(&slot, tick.at_ns);
        if let Some(before) = before {
            self.charge_drops(before, drops, actor, until_ns);
        }
        self.now.ticks += 1;
        let left_out = self.freeze(tick, actor) + self.pause(tick, actor);
        self.hold_up_commits(tick, actor);
        let (mut all, mut others) = (0.0, 0.0);
        for work in tick.journals.iter().filter(|work| work.device == device) {
            let (who, blocks) = (actor(work.owner), work.blocks as f64);
            self.blame_around(who, work.owner, op::METADATA, blocks, until_ns);
            all += blocks;
            others += if self.is_stranger(&who) { blocks } else { 0.0 };
        }
        self.filled_by_others = if all > 0.0 { others / all } else { 0.0 };
        for helper in &tick.helpers {
            self.help(helper, waited_ns, syncs);
        }
        for contender in &tick.contenders {
            let waited = contender.victim_tgid;
            if waited != tgid && !self.is_held_up_by(waited) {
                continue;
            }
            let who = actor(contender.owner);
            self.blame_around(who, contender.owner, op::CPU, contender.ns as f64, 0);
        }
        // It is not known which limit the others ran into. But members of a cgroup that is
        // at its limit run into that limit now and then.
        let is_at_limit =
            |one: &Reclaimer| one.limit_ns > 0 && actor(one.owner).cgroup == self.key.cgroup;
        let at_limit = tick.reclaimers.iter().any(is_at_limit);
        for one in &tick.reclaimers {
            let ns = if at_limit { one.ns } else { one.ns.saturating_sub(one.limit_ns) };
            if ns > 0 {
                let who = actor(one.owner);
                self.blame_around(who, one.owner, op::MEMORY, ns as f64, until_ns);
            }
        }
        for limit in tick.limits.iter().filter(|limit| limit.cgroup == cgroup) {
            match limit.kind {
                LimitKind::Cpu => {
                    self.now.limited_cpu_ns += limit.ns;
                    let outside_ns = outside::estimate_ns(syncs, limit.ns, limit.times);
                    self.now.held_outside_ns += outside_ns as f32;
                }
                LimitKind::Io => self.now.limited_io_ns += limit.ns,
            }
            let known = self.limit.as_ref().is_some_and(|known| known.1 == limit.setting);
            if !known {
                self.limit = Some(Box::new((limit.kind, limit.setting.clone())));
            }
        }
        left_out
    }
}
