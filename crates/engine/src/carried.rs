//! The disks below a carrying one (dm-crypt, dm-thin, an array), whose bios stand for
//! requests.
//!
//! Their work is seen at two heights: above with its owners, below as that of the kernel
//! threads that submit it, which are never to blame. Some of it may have its owner
//! below as well: reads go on in their submitter's thread, and a bio may name its cgroup.
//! So below only those count who are not known from above.
//!
//! An array that checks, repairs or rebuilds itself has no bio above for that, and a
//! thread of its own below.

use super::{
    blame::{ActorId, OwnerId},
    demand::Slot,
    tick::DiskWork,
    victim::{ROOT_CGROUP, Victim},
};

/// Whether an actor below a carrying disk does what is known from above, where the victim
/// and `above` have bios.
///
/// A bio that a kernel thread submits may name a cgroup alone: that of its owner above, or
/// the nearest one over that for which the io controller is on. The process name is the
/// thread's then.
pub fn is_carried(below: &ActorId, victim: &ActorId, above: impl Iterator<Item = ActorId>) -> bool {
    if below.kthread || below.has_carriers_name() {
        return !below.is_resync();
    }
    let has_bios = |known: ActorId| {
        known.cgroup == below.cgroup && below.cgroup > ROOT_CGROUP && known.comm != below.comm
    };
    below == victim || has_bios(*victim) || above.into_iter().any(has_bios)
}

impl ActorId {
    /// Threads that submit what was given to a mapped disk or an array.
    fn has_carriers_name(&self) -> bool {
        let name = self.name();
        name == b"kworker"
            || name.starts_with(b"dmcrypt_write/")
            || name.starts_with(b"md") && name.windows(5).any(|part| part == b"_raid")
    }

    fn name(&self) -> &[u8] {
        let end = self.comm.iter().position(|&byte| byte == 0).unwrap_or(self.comm.len());
        &self.comm[..end]
    }

    /// The thread of an array that checks, repairs or rebuilds it: `md127_resync`.
    pub fn is_resync(&self) -> bool {
        self.kthread && self.name().starts_with(b"md") && self.name().ends_with(b"_resync")
    }
}

impl Victim {
    /// The work of its disks in a second. Below a carrying disk, requests that were alone
    /// show how the device is: above, somebody may be beside a bio who is not seen there.
    /// All the rest comes from the bios.
    pub(super) fn slot(&self, disks: &[DiskWork], actor: impl Fn(OwnerId) -> ActorId) -> Slot {
        let mut slot = Slot::default();
        let its = disks.iter().filter(|disk| self.is_on(disk.disk));
        if !self.is_carried {
            its.for_each(|disk| slot.add(disk, &actor));
            return slot;
        }
        let upper = its.clone().find(|disk| disk.disk == self.disk);
        if let Some(upper) = upper {
            slot.add_loads(upper, &actor, |_| true);
        }
        let above: Vec<_> = slot.asked.iter().map(|asked| asked.actor).collect();
        let is_known = |who: &ActorId| {
            above.contains(who) || is_carried(who, &self.actor(), above.iter().copied())
        };
        let below = its.clone().filter(|disk| disk.disk != self.disk);
        for disk in below.clone() {
            slot.add_alone(disk);
            slot.add_loads(disk, &actor, |who| !is_known(who));
        }
        if below.count() == 0 {
            its.for_each(|disk| slot.add_alone(disk));
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::{
        ledger::tick,
        record::{ACCOUNTS, SyncRecord, UnderlyingWindow},
    };
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::blame::{Owner, Window};

    fn actor(cgroup: u64, name: &[u8]) -> ActorId {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name);
        ActorId { cgroup, comm, kthread: cgroup == 0 }
    }

    fn carries(below: ActorId, above: &[ActorId]) -> bool {
        is_carried(&below, &actor(7, b"etcd"), above.iter().copied())
    }

    #[test]
    fn kernel_threads_carry_but_for_those_that_rebuild_an_array() {
        let above = [actor(8, b"dd")];
        for name in ["dmcrypt_write/2", "kworker", "md127_raid5", "mdX_raid1", "jbd2/vda1-8"] {
            assert!(carries(actor(0, name.as_bytes()), &above), "{name}");
        }
        for name in ["md127_resync", "mdX_resync"] {
            assert!(!carries(actor(0, name.as_bytes()), &above), "{name}");
        }
    }

    #[test]
    fn who_is_known_from_above_is_not_met_again_below() {
        let above = [actor(8, b"dd"), actor(1, b"cp")];
        // The bio names its cgroup.
        assert!(carries(actor(8, b"dmcrypt_write/2"), &above));
        assert!(carries(actor(7, b"dmcrypt_write/2"), &above));
        assert!(carries(actor(7, b"etcd"), &above));
        // The bio names a cgroup over that.
        for name in [&b"dmcrypt_write/2"[..], b"kworker", b"md127_raid5"] {
            assert!(carries(actor(3, name), &above));
        }
        // It may do more there, and has the larger of both.
        assert!(!carries(actor(8, b"dd"), &above));
        // Others reach the disk by another way; in the root cgroup there is everybody.
        assert!(!carries(actor(9, b"dd"), &above));
        assert!(!carries(actor(1, b"fio"), &above));
    }

    const LENGTH_NS: u64 = 20_000_000;

    /// The competitors of a sync of etcd's on a carrying disk. Each actor comes with its mean
    /// number of requests in flight above and below.
    fn window(actors: &[(ActorId, f64, f64)]) -> Vec<(OwnerId, f64)> {
        let mut owners = [Owner::default(); ACCOUNTS];
        let mut record = SyncRecord::new_zeroed();
        let mut below = UnderlyingWindow { disk: 7, integrals: [0; ACCOUNTS] };
        let ticks = |mean: f64| tick((LENGTH_NS as f64 * mean) as u64);
        for (at, (actor, upper, under)) in (1..).zip(actors) {
            let ActorId { cgroup, comm, kthread } = *actor;
            let id = OwnerId(at as u32);
            owners[at] = Owner { id, cgroup, comm, kthread, op: 1, weight_ns: 1, via: 0 };
            record.integrals[at] = ticks(*upper);
            below.integrals[at] = ticks(*under);
        }
        let who = actor(7, b"etcd");
        (record.cgroup, record.comm, record.carried) = (who.cgroup, who.comm, 1);
        record.duration_ns = LENGTH_NS;
        let window = Window::of(&record, &[below], |_| &owners);
        let mean =
            |in_flight_ns: u64| (in_flight_ns as f64 / LENGTH_NS as f64 * 100.0).round() / 100.0;
        window.competitors().iter().map(|one| (one.owner.id, mean(one.in_flight_ns))).collect()
    }

    #[test]
    fn work_that_is_seen_at_both_heights_is_blamed_once_and_on_its_owner() {
        let found = window(&[
            (actor(8, b"dd"), 4.0, 1.0),
            (actor(0, b"dmcrypt_write/2"), 0.0, 6.0),
            (actor(3, b"dmcrypt_write/2"), 0.0, 3.0),
            (actor(7, b"etcd"), 0.0, 1.0),
            (actor(9, b"fio"), 0.0, 2.0),
            (actor(0, b"md127_resync"), 0.0, 1.5),
        ]);
        assert_eq!(found, [(OwnerId(1), 4.0), (OwnerId(5), 2.0), (OwnerId(6), 1.5)]);
    }

    #[test]
    fn who_does_more_below_than_above_has_all_of_it() {
        assert_eq!(window(&[(actor(8, b"dd"), 1.0, 3.0)]), [(OwnerId(1), 3.0)]);
    }
}
