//! The time that a disk takes for the requests of an account.

use tracer_ebpf::record::{NO_DISK, SyncRecord, op};
use tracer_engine::{
    blame::OwnerId,
    currency::Shortage,
    pace::{KeptPace, Pace},
    tick::{Load, Tick},
    usage::{Kept, Learnt},
};

use super::{Accounts, DiskAccounts, USUAL_BYTES};
use crate::maps::estimate::Estimate;

impl DiskAccounts {
    /// Compares its work in the last second with what it did before.
    pub(super) fn compare_work(&mut self) {
        self.shortage.observe(&self.work);
        self.work.paced = self.pace.observe(&self.work);
    }

    /// Another disk has this place.
    pub(super) fn forget_work(&mut self) {
        (self.shortage, self.pace) = (Shortage::default(), Pace::default());
    }
}

impl Accounts {
    /// The cost of one request of an account beside others, in what the disk is short of.
    pub(super) fn weight_ns(&self, at: usize, account: usize, op: u16) -> u32 {
        let (bytes, cost_ns) = (self.request_bytes(at, account), self.cost_ns(at, account, op));
        self.disks[at].shortage.weigh(op.into(), bytes, cost_ns)
    }

    /// The cost of one request of an account for its disk while that is well.
    pub(super) fn cost_ns(&self, at: usize, account: usize, op: u16) -> u32 {
        let index = self.disks[at].disk.index;
        self.work.request_ns(index, op, self.request_bytes(at, account))
    }

    /// Learns from the last second what requests cost that were never alone on their disk.
    pub(super) fn estimate_costs(&mut self, at: usize) {
        let Some(DiskAccounts { disk, work, .. }) = self.disks.get(at) else { return };
        let is_open = |load: &Load| load.guessed && load.owner != OwnerId::NOBODY;
        let loads = work.loads.iter().enumerate().filter(|(_, load)| is_open(load));
        for (number, load) in loads {
            let key = self.keys.get(load.owner.0 as usize);
            let bytes = load.bytes.checked_div(load.completed);
            if let (Some(key), Some(bytes), Some(estimate)) =
                (key, bytes, Estimate::of(work, number))
            {
                self.work.estimate(disk.index, key.op, bytes, estimate);
            }
        }
    }

    /// Mean size of an account's requests.
    fn request_bytes(&self, at: usize, account: usize) -> u64 {
        let disk = &self.disks[at];
        let bytes = disk.seen[account].request_bytes.or_else(|| {
            let now = self.tables.account(disk.disk.index, account);
            now.bytes.checked_div(now.requests)
        });
        bytes.unwrap_or(USUAL_BYTES)
    }

    /// The time that a sync's own requests would take alone on their disk, one after
    /// another.
    pub fn need_ns(&self, record: &SyncRecord) -> u64 {
        match record.own_bytes.checked_div(u64::from(record.own_requests)) {
            Some(bytes) if record.disk != NO_DISK => {
                let each = self.work.request_ns(record.disk, op::WRITE as u16, bytes);
                u64::from(each) * u64::from(record.own_requests)
            }
            _ => 0,
        }
    }

    /// The costs that were learnt of the requests of a disk of [`Accounts::disks`].
    pub fn work(&self, at: usize) -> Vec<Learnt> {
        self.disks.get(at).map_or(Vec::new(), |disk| self.work.learnt(disk.disk.index))
    }

    /// Adds what the disks were asked for in the last second.
    pub fn disk_work(&self, tick: &mut Tick) {
        let busy = self.disks.iter().map(|disk| &disk.work).filter(|work| !work.loads.is_empty());
        tick.disks.extend(busy.cloned());
    }

    /// Gives a disk, by the kernel's index, the reference that an earlier run learnt.
    pub fn recall(&mut self, disk: u32, kept: &[Kept], pace: &KeptPace) {
        self.work.recall(disk, kept);
        if let Some(at) = self.position(disk) {
            self.disks[at].pace = Pace::kept(pace);
        }
    }

    /// The pace of a disk of [`Accounts::disks`], to be kept.
    pub fn pace(&self, at: usize) -> KeptPace {
        self.disks.get(at).map_or(KeptPace::default(), |disk| disk.pace.to_keep())
    }

    /// The reference of a disk, to be kept.
    pub fn levels(&self, disk: u32) -> Vec<Kept> {
        self.work.levels(disk)
    }

    /// Whether its requests took their usual time since this was asked last.
    pub fn take_held(&mut self, disk: u32) -> bool {
        self.work.take_held(disk)
    }
}
