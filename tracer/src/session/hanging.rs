//! Syncs that have not ended: found once a second, and described with what their
//! disks do meanwhile.

use std::{collections::BTreeMap, time::Duration};

use tracer_ebpf::record::{NO_DISK, SyncRecord, UNDERLYING, kind};
use tracer_engine::blame::ActorId;
use tracer_kernel::maps::under_way::record_until;
use tracer_scene::{hanging::DiskNow, stages::SyncInput};
use tracer_snapshot::labels::FileId;

use super::{Session, located};

/// A sync that has been under way for this long is shown before it ends.
const HANGS_AFTER: Duration = Duration::from_secs(1);

impl Session {
    /// Looks for syncs that began a second ago or longer and have not ended, before the
    /// tick in which they are judged.
    pub(super) fn find_unfinished(&mut self, now: u64) -> Vec<(SyncRecord, FileId)> {
        let before_ns = now.saturating_sub(HANGS_AFTER.as_nanos() as u64);
        let (open, left_out) = self.under_way.read(before_ns);
        let (mut found, mut files) = (Vec::new(), BTreeMap::new());
        for sync in &open {
            let record =
                record_until(sync, now, |disk, at| self.accounts.tables().account(disk, at));
            if self.self_test.is_own(&record) {
                // The first line says how long its disk has not answered.
                continue;
            }
            let (tgid, fd) = (record.tgid, record.fd);
            // Looked for once: the look may have to wait for the sick disk.
            let one = (sync.tid, sync.begin_ns);
            let file = match (self.hanging_files.get(&one), record.kind) {
                (Some(known), _) => *known,
                (None, kind::SYNCFS | kind::SYNC) => {
                    self.files.filesystem(tgid, fd, (&record).into(), now)
                }
                (None, _) => self.files.resolve(tgid, fd, (&record).into(), now),
            };
            files.insert(one, file);
            let record = located(&record, self.files.label(file)).into_owned();
            let actor = ActorId::from(&record);
            self.accounts.find_owners(&record, &[]);
            let Self { scene, identities, accounts, files, recorder, .. } = self;
            accounts.take_met(|actor, tgid| scene.actors.resolve(identities, actor, tgid, now));
            scene.actors.resolve(identities, actor, tgid, now);
            let need_ns = accounts.need_ns(&record);
            let input = SyncInput { record: &record, underlying: &[], file, need_ns };
            scene.add_unfinished(&input, |disk| accounts.owners(disk));
            if let Some(recorder) = recorder {
                recorder.unfinished(input, |disk| accounts.owners(disk), &mut scene.actors, files);
            }
            found.push((record, file));
        }
        self.hanging_files = files;
        self.scene.hanging_left_out = left_out;
        found
    }

    /// Describes syncs that have not ended, with what their disks do now.
    pub(super) fn describe_hanging(&mut self, found: &[(SyncRecord, FileId)], now: u64) {
        let mut hanging = Vec::new();
        for (record, file) in found {
            let disks = self.disks_now(record.disk, record.device);
            let facts = self.stack_facts(record.device, record.disk, now);
            let input = SyncInput { record, underlying: &[], file: *file, need_ns: 0 };
            let owners = self.accounts.owners(record.disk);
            let tgid = &|account| self.accounts.last_tgid(record.disk, account);
            let described = self.scene.describe_hanging(
                &input,
                (&disks, facts),
                (owners, tgid),
                &mut self.files,
            );
            hanging.push(described);
        }
        self.scene.hanging = hanging;
    }

    /// The states of a sync's disk and of those that lie below it, for a filesystem on
    /// this device: the one of a stack that passes bios on is known by its number alone.
    fn disks_now(&mut self, index: u32, device: u32) -> Vec<DiskNow> {
        let mut stacked = self.stacked.iter();
        let stacked = stacked.find(|stacked| stacked.device == device).map(|at| at.underlying);
        let mut assigned = self.assigned.iter().filter(|disk| disk.identity.is_some());
        let place = match stacked.filter(|place| place.index == index) {
            Some(place) => Some(place),
            None => assigned.find(|disk| disk.disk.index == index).map(|disk| disk.disk),
        };
        let below = place.map_or([NO_DISK; UNDERLYING], |place| place.underlying);
        let mut disks = [index].into_iter().chain(below).filter(|index| *index != NO_DISK);
        let first = disks.next().and_then(|index| self.disk_now(index));
        let Some(first) = first else { return Vec::new() };
        [first].into_iter().chain(disks.filter_map(|index| self.disk_now(index))).collect()
    }

    /// A disk's state now, by the kernel's index.
    fn disk_now(&mut self, index: u32) -> Option<DiskNow> {
        let at = self.accounts.position(index).filter(|_| index != NO_DISK)?;
        let oldest_ns = self.accounts.oldest_submit_ns(at);
        let disk = &self.accounts.disks()[at];
        Some(DiskNow {
            name: disk.name.clone(),
            in_flight: disk.in_flight,
            oldest_ns,
            completed_ns: self.accounts.tables().last_end_ns(index),
        })
    }
}
