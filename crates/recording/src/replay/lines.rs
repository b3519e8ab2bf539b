//! The lines of a recording that are about syncs and about seconds.

use tracer_engine::{blame::OwnerId, tick::Tick};
use tracer_scene::{snapshot::Slow, stages::SyncInput};
use tracer_snapshot::SlowSync;

use super::{HANGING, Replay, windows::Windows};
use crate::{
    checks::{LIST, MAX_LENGTH_NS, check_texts, check_time},
    line::Sync,
    sums::{MAX_SUMMED, Syncs},
};

impl Replay {
    pub(super) fn sync(
        &mut self,
        sync: &Sync,
        slow_ns: Option<u64>,
        slow: &mut Vec<SlowSync>,
    ) -> Result<(), String> {
        self.check_sync(sync)?;
        let record = sync.record();
        let Self { scene, windows, names, .. } = self;
        let Windows { first, underlying, .. } = &*windows;
        let file = names.file(sync.file);
        let input = SyncInput { record: &record, underlying, file, need_ns: sync.need_ns };
        let judged = scene.ingest(&input, |disk| windows.owners(record.disk, disk));
        self.now_ns = self.now_ns.max(sync.end_ns());
        if slow_ns.is_some_and(|slow_ns| record.duration_ns >= slow_ns) {
            let sync = Slow { sync: input, judged: &judged, owners: first, tgid: &|_| 0 };
            slow.push(scene.slow_sync(&sync, names));
        }
        Ok(())
    }

    /// Takes in a sync that has not ended at the next tick.
    pub(super) fn unfinished(&mut self, sync: &Sync) -> Result<(), String> {
        self.unfinished += 1;
        if self.unfinished > HANGING {
            return Err("too many syncs that have not ended".to_owned());
        }
        self.check_sync(sync)?;
        let record = sync.record();
        let Self { scene, windows, names, .. } = self;
        let file = names.file(sync.file);
        let input = SyncInput { record: &record, underlying: &[], file, need_ns: sync.need_ns };
        scene.add_unfinished(&input, |disk| windows.owners(record.disk, disk));
        Ok(())
    }

    /// Checks a sync's numbers, and lays out what was in flight beside it.
    fn check_sync(&mut self, sync: &Sync) -> Result<(), String> {
        check_time(sync.begin_ns)?;
        let longest_ns = sync.longest_ns();
        if longest_ns > MAX_LENGTH_NS {
            return Err(format!("a sync of {longest_ns} ns"));
        }
        self.windows.fill(sync, &self.owners)
    }

    /// Takes in syncs that were added up. None of them is described by itself.
    pub(super) fn syncs(&mut self, syncs: &Syncs) -> Result<(), String> {
        if !(1..=MAX_SUMMED).contains(&syncs.count) {
            return Err(format!("a sum of {} syncs", syncs.count));
        }
        for number in 0..syncs.count {
            self.sync(&syncs.part(number), None, &mut Vec::new())?;
        }
        Ok(())
    }

    pub(super) fn tick(&mut self, tick: &Tick) -> Result<(), String> {
        check_time(tick.at_ns)?;
        let Tick { journals, contenders, reclaimers, limits, helpers, disks, .. } = tick;
        let lists = [journals.len(), contenders.len(), reclaimers.len(), limits.len()];
        let drops = [tick.drops.len(), tick.late_drops.len(), tick.whole_syncs.len()];
        let keepers = [tick.freezes.len(), tick.pauses.len(), tick.stops.len()];
        let lists = lists.into_iter().chain([helpers.len(), disks.len()]);
        let lists = lists.chain(drops).chain(keepers);
        let loads = disks.iter().map(|disk| disk.loads.len());
        let waiting = tick.freezes.iter().map(|freeze| freeze.waiting.len());
        if lists.chain(loads).chain(waiting).any(|length| length > LIST) {
            return Err("a tick of too many actors".to_owned());
        }
        let limited = limits.iter().map(|limit| limit.ns);
        let lengths = limited.chain([tick.steal_ns]);
        let shares = contenders.iter().map(|r| r.ns).chain(reclaimers.iter().map(|r| r.ns));
        let shares = shares.chain(tick.pauses.iter().map(|pause| pause.ns));
        let disk_ns = disks.iter().map(|disk| disk.length_ns);
        let helped =
            helpers.iter().flat_map(|one| [one.cpu_ns, one.limit_ns, one.disk_ns, one.of_ns]);
        let stopped =
            tick.stops.iter().flat_map(|stop| [stop.ns, stop.at_syncs_ns, stop.stalled_ns]);
        let helped = helped.chain(stopped);
        if lengths.chain(shares).chain(disk_ns).chain(helped).any(|ns| ns > MAX_LENGTH_NS) {
            return Err("a tick of more time than there is".to_owned());
        }
        let of_stops = tick.stops.iter().map(|stop| stop.setting.as_str());
        let settings = limits.iter().map(|limit| limit.setting.as_str()).chain(of_stops);
        let settings: Vec<_> = settings.collect();
        check_texts(&settings)?;
        for one in helpers {
            check_texts(&[&one.comm, &one.cgroup, &one.setting, &one.own_disk])?;
        }
        if let Some(owner) = tick.owners().find(|o| !self.owners.contains_key(&o.0) && o.0 != 0) {
            return Err(format!("it speaks of owner {} and never said who that is", owner.0));
        }
        self.note_silence(tick.at_ns);
        let actor = |owner: OwnerId| self.owners.get(&owner.0).map(|known| known.actor);
        self.scene.tick(tick, |owner| actor(owner).unwrap_or_default());
        self.unfinished = 0;
        (self.scene.hanging, self.scene.hanging_left_out) = std::mem::take(&mut self.hanging);
        self.scene.stacks = std::mem::take(&mut self.stacks);
        self.now_ns = self.now_ns.max(tick.at_ns);
        let stale = std::mem::take(&mut self.stale_disks);
        self.scene.disks.retain(|disk| !stale.contains(&disk.index));
        Ok(())
    }
}
