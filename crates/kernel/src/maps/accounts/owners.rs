//! The owners of accounts, and their ids.

use std::collections::HashSet;

use tracer_ebpf::record::{ACCOUNTS, OwnerKey, SyncRecord, UnderlyingWindow, op};
use tracer_engine::blame::{ActorId, Owner, OwnerId};

use super::{Accounts, MAX_OWNERS, Plain};

impl Accounts {
    /// An owner as the kernel keyed it; the disk in the key means nothing.
    pub fn key(&self, owner: OwnerId) -> OwnerKey {
        self.keys.get(owner.0 as usize).copied().unwrap_or_default()
    }

    /// The actor of an owner, without its operation.
    pub fn actor(&self, owner: OwnerId) -> ActorId {
        let OwnerKey { cgroup, comm, kthread, .. } = self.key(owner);
        ActorId { cgroup, comm, kthread: kthread != 0 }
    }

    /// Looks up the owners of accounts that are in a record and not known yet.
    pub fn find_owners(&mut self, record: &SyncRecord, underlying: &[UnderlyingWindow]) {
        self.find_owners_of(record.disk, record.integrals());
        for window in underlying {
            self.find_owners_of(window.disk as u32, &window.integrals);
        }
    }

    fn find_owners_of(&mut self, disk: u32, integrals: &[u64]) {
        let Some(at) = self.position(disk) else { return };
        for (account, integral) in integrals.iter().enumerate().skip(1) {
            if *integral != 0 && self.disks[at].owners[account].id == OwnerId::NOBODY {
                self.find_owner(at, account);
            }
        }
    }

    /// The owners of a disk's accounts, by the kernel's index of the disk.
    pub fn owners(&self, disk: u32) -> &[Owner; ACCOUNTS] {
        static NOBODY: [Owner; ACCOUNTS] = [Owner::NOBODY; ACCOUNTS];
        self.position(disk).map_or(&NOBODY, |at| &self.disks[at].owners)
    }

    pub(super) fn find_owner(&mut self, at: usize, account: usize) {
        let place = self.disks[at].disk.index * ACCOUNTS as u32 + account as u32;
        let Ok(Plain(key)) = self.account_owners.get(&place, 0) else { return };
        if usize::from(key.op) >= op::KNOWN {
            self.operations_unknown += 1;
            return;
        }
        let id = self.intern(key);
        let tgid = self.last_tgid(self.disks[at].disk.index, account);
        let kthread = key.kthread != 0 || (self.is_kthread)(tgid);
        let weight_ns = self.weight_ns(at, account, key.op);
        let OwnerKey { cgroup, comm, op, via, .. } = key;
        self.disks[at].owners[account] = Owner { id, cgroup, comm, kthread, op, weight_ns, via };
        self.disks[at].seen[account].reset();
        self.met.push((self.disks[at].owners[account].actor(), tgid));
    }

    /// Takes the actors that got an account since the last call, with the process of each.
    pub fn take_met(&mut self, mut take: impl FnMut(ActorId, u32)) {
        for (actor, tgid) in self.met.drain(..) {
            take(actor, tgid);
        }
    }

    /// One id per owner and class of requests (or other blame), whatever the disk.
    pub fn intern(&mut self, key: OwnerKey) -> OwnerId {
        let key = OwnerKey { disk: 0, ..key };
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(OwnerKey::default());
            OwnerId(self.keys.len() as u32 - 1)
        });
        self.keys[id.0 as usize] = key;
        self.ids.insert(key, id);
        id
    }

    /// Whether there are more owners than are looked at.
    pub fn is_crowded(&self) -> bool {
        self.ids.len() >= MAX_OWNERS
    }

    /// Forgets all owners that have no account and are not among `blamed`.
    pub fn forget_owners(&mut self, blamed: impl Iterator<Item = OwnerId>) {
        let accounts = self.disks.iter().flat_map(|d| d.owners.iter().map(|o| o.id));
        let journals = self.journals.owners();
        let journals =
            journals.filter_map(|key| self.ids.get(&OwnerKey { disk: 0, ..key }).copied());
        let used: HashSet<_> = accounts.chain(journals).chain(blamed).collect();
        self.ids.retain(|_, id| {
            let keep = used.contains(id);
            if !keep {
                self.free.push(*id);
            }
            keep
        });
    }

    /// The process that used an account last.
    pub fn last_tgid(&self, disk: u32, account: usize) -> u32 {
        self.tables.account(disk, account).tgid
    }

    /// Times that an account's owner had an operation that this version does not
    /// know: the account stays nobody's.
    pub fn operations_unknown(&self) -> u64 {
        self.operations_unknown
    }
}
