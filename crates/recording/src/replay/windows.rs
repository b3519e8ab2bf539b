//! The requests that were in flight during a sync, by owners that were named before.

use std::collections::HashMap;

use tracer_ebpf::record::{ACCOUNTS, NO_DISK, UNDERLYING, UnderlyingWindow};
use tracer_engine::blame::{ActorId, Owner, OwnerId};

use crate::line::{Account, OwnerLine, Sync, integrals};

static NOBODY: [Owner; ACCOUNTS] = [Owner::NOBODY; ACCOUNTS];

/// An owner that was named.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownOwner {
    pub actor: ActorId,
    pub op: u16,
    /// A code of [`tracer_ebpf::record::via`].
    pub via: u8,
}

impl KnownOwner {
    pub fn of(line: &OwnerLine) -> Self {
        Self { actor: line.actor.into(), op: line.op as u16, via: line.via }
    }
}

/// The requests in flight during one sync, in the form that the engine takes.
pub struct Windows {
    pub first: [Owner; ACCOUNTS],
    pub underlying: Vec<UnderlyingWindow>,
    underlying_owners: Vec<[Owner; ACCOUNTS]>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { first: NOBODY, underlying: Vec::new(), underlying_owners: Vec::new() }
    }
}

impl Windows {
    pub fn fill(&mut self, sync: &Sync, known: &HashMap<u32, KnownOwner>) -> Result<(), String> {
        self.first = owners_of(&sync.in_flight, known)?;
        self.underlying.clear();
        self.underlying_owners.clear();
        if sync.underlying.len() > UNDERLYING {
            return Err("a sync on too many disks".to_owned());
        }
        for underlying in &sync.underlying {
            if Some(underlying.disk) == sync.disk || underlying.disk == NO_DISK {
                return Err("a sync that waits twice for one disk".to_owned());
            }
            self.underlying_owners.push(owners_of(&underlying.in_flight, known)?);
            let integrals = integrals(&underlying.in_flight);
            self.underlying.push(UnderlyingWindow { disk: underlying.disk.into(), integrals });
        }
        Ok(())
    }

    /// The owners of a disk's accounts, for a sync that waits for `first` before all others.
    pub fn owners(&self, first: u32, disk: u32) -> &[Owner; ACCOUNTS] {
        let mut underlying = self.underlying.iter();
        match underlying.position(|window| window.disk == u64::from(disk)) {
            _ if disk == first => &self.first,
            Some(at) => &self.underlying_owners[at],
            None => &NOBODY,
        }
    }
}

fn owners_of(
    accounts: &[Account],
    known: &HashMap<u32, KnownOwner>,
) -> Result<[Owner; ACCOUNTS], String> {
    if accounts.len() > ACCOUNTS {
        return Err(format!("{} accounts on one disk", accounts.len()));
    }
    let mut owners = NOBODY;
    for (owner, (id, _, weight_ns)) in owners.iter_mut().zip(accounts) {
        let KnownOwner { actor, op, via } = find_owner(known, *id)?;
        let ActorId { cgroup, comm, kthread } = actor;
        let (id, weight_ns) = (OwnerId(*id), *weight_ns);
        *owner = Owner { id, cgroup, comm, kthread, op, weight_ns, via };
    }
    Ok(owners)
}

/// Owner 0 is everybody who found no account.
pub fn find_owner(known: &HashMap<u32, KnownOwner>, id: u32) -> Result<KnownOwner, String> {
    match known.get(&id) {
        _ if id == 0 => Ok(KnownOwner::default()),
        Some(owner) => Ok(*owner),
        None => Err(format!("it speaks of owner {id} and never said who that is")),
    }
}
