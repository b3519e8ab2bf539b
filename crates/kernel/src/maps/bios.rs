//! The bios in flight on carrying disks, whose ends may go unseen as a request's may.
//!
//! User space takes out what a program's end could not, and what is left when the hooks
//! are taken away.

use anyhow::Result;
use aya::maps::{HashMap as KernelMap, MapData};
use tracer_ebpf::record::{Disk, InFlight, waits};

use super::{
    pods::Plain,
    tables::Tables,
    waiting::{Idle, Left, Waiting},
};
use crate::load::Programs;

pub(super) struct Bios {
    map: KernelMap<MapData, u64, Plain<InFlight>>,
}

impl Bios {
    /// # Errors
    ///
    /// When the map was taken before.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        Ok(Self { map: KernelMap::try_from(programs.take_map("BIOS")?)? })
    }

    /// When the oldest bio in flight on a disk was submitted, in ns.
    pub fn oldest_submit_ns(&self, disk: &Disk) -> Option<u64> {
        self.on(disk.index).map(|(_, bio)| bio.submitted_ns).min()
    }

    /// Takes out those that must have ended, on a disk that has nothing in flight by the
    /// kernel's word. Returns how many. A mapped disk that is suspended has none while
    /// its bios wait.
    pub fn reconcile(
        &mut self,
        disk: u32,
        now_ns: u64,
        idle: Idle,
        waiting: &mut Waiting,
        tables: &Tables,
    ) -> u64 {
        let mut look = waiting.look(now_ns, idle);
        self.take_out(disk, now_ns, tables, |address, bio| {
            let InFlight { submitted_ns, op, .. } = *bio;
            let may_wait = waits::REQUEUED;
            look.is_over(&Left { address, submitted_ns, issued_ns: 0, op: op.into(), may_wait })
        })
    }

    /// Takes out all of a disk that is gone, or whose hooks are.
    pub fn take_out_all(&mut self, disk: u32, now_ns: u64, tables: &Tables) -> u64 {
        self.take_out(disk, now_ns, tables, |_, _| true)
    }

    fn take_out(
        &mut self,
        disk: u32,
        now_ns: u64,
        tables: &Tables,
        mut is_over: impl FnMut(u64, &InFlight) -> bool,
    ) -> u64 {
        let over: Vec<_> = self.on(disk).filter(|(address, bio)| is_over(*address, bio)).collect();
        let mut taken = 0;
        for (address, bio) in over {
            // A bio that ends at this moment is no longer in the map.
            if self.map.remove(&address).is_ok() {
                tables.give_back_one(bio.account as usize, bio.submitted_ns, now_ns);
                taken += 1;
            }
        }
        taken
    }

    /// The bios whose end was not seen. An entry without a submission time has ended.
    fn on(&self, disk: u32) -> impl Iterator<Item = (u64, InFlight)> {
        let all = self.map.iter().filter_map(Result::ok);
        all.map(|(address, Plain(bio))| (address, bio))
            .filter(move |(_, bio)| bio.submitted_ns != 0 && u32::from(bio.disk) == disk)
    }
}
