//! The processes and threads that victims wait for, once a second.

use tracer_ebpf::record::NO_DISK;
use tracer_engine::{
    helper::{Helper, Role},
    tick::DiskWork,
    victim::Victim,
};
use tracer_node::helpers::{Place, Seen};

use super::{Session, around::recent};

impl Session {
    /// Reads what the helpers of the last seconds' victims waited for in the last second, in
    /// which their disks did `disks`.
    pub(super) fn read_helpers(&mut self, now: u64, disks: &[DiskWork]) -> Vec<Helper> {
        let places: Vec<_> =
            recent(&self.scene.engine, now).flat_map(|victim| self.places(victim)).collect();
        let seen = self.helpers.look(now, &places);
        self.helper_threads.set(seen.iter().flat_map(|seen| seen.tids.iter().copied()));
        seen.into_iter().filter_map(|seen| self.helper(seen, now, disks)).collect()
    }

    /// The places of a victim's syncs: its disk, and those below that they waited for.
    fn places(&self, victim: &Victim) -> Vec<Place> {
        let device = victim.key.device;
        let there = self.assigned.iter().filter(|disk| disk.identity.is_some());
        let on = there.filter(|disk| victim.is_on(disk.disk.index));
        let mut places: Vec<_> =
            on.map(|disk| Place { disk: Some((disk.disk.index, disk.device)), device }).collect();
        if victim.disk == NO_DISK && device != 0 {
            places.push(Place { disk: None, device });
        }
        places
    }

    fn helper(&mut self, seen: Seen, now: u64, disks: &[DiskWork]) -> Option<Helper> {
        let disk = seen.place.disk.map(|(index, _)| index);
        let work = disks.iter().find(|work| Some(work.disk) == disk);
        let of_ns = match (seen.role, disk, work) {
            (Role::Server, Some(_), Some(work)) => busy_ns(work, seen.spread),
            // No victim waits for this disk.
            (Role::Server, Some(_), None) => return None,
            _ => 0,
        };
        let process = self.identities.process(seen.tgid, now);
        let cgroup = process.map(|process| process.cgroup.clone()).unwrap_or_default();
        let (disk_ns, own_disk) = self.own_disk(&seen, work);
        Some(Helper {
            role: seen.role,
            disk,
            device: seen.place.device,
            tgid: seen.tgid,
            comm: seen.comm,
            cgroup,
            cpu_ns: seen.waited_ns,
            // The cgroup is held back once for all its threads.
            limit_ns: seen.waited_ns.min((seen.limited_ns as f64 * seen.spread) as u64),
            setting: seen.setting,
            disk_ns,
            own_disk,
            of_ns,
        })
    }

    /// For how long a server had requests in flight on another disk, and on which.
    fn own_disk(&self, seen: &Seen, work: Option<&DiskWork>) -> (u64, String) {
        let length_ns = work.map_or(0, |work| work.length_ns) as f64;
        let mut most = (0, String::new());
        for disk in self.accounts.disks() {
            if seen.place.disk.is_some_and(|(index, _)| index == disk.disk.index) {
                continue;
            }
            let its = disk.rates.iter().filter(|rate| rate.tgid == seen.tgid);
            let in_flight: f64 = its.map(|rate| rate.in_flight).sum();
            let ns = (in_flight.min(1.0) * length_ns) as u64;
            if ns > most.0 {
                most = (ns, disk.name.clone());
            }
        }
        most
    }
}

/// The part of the second for which syncs can have waited for a disk's server: with one
/// busy thread at most the whole second, however much is in flight.
fn busy_ns(work: &DiskWork, spread: f64) -> u64 {
    let in_flight_ns: u64 = work.loads.iter().map(|load| load.in_flight_ns).sum();
    in_flight_ns.min((work.length_ns as f64 * spread) as u64)
}
