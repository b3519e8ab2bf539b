//! Answers questions about a session that its snapshots do not answer. Nothing here changes
//! the session.

use std::collections::BTreeSet;

use prometheus::proto::MetricFamily;
use tracer_ebpf::record::{Account, OwnerKey};

use super::Session;
use tracer_engine::{
    Engine,
    blame::{ActorId, OwnerId},
    tick::Tick,
};
use tracer_kernel::{
    capability::Capability, clock::monotonic_ns, facts::Facts, late, load::kernel_memory_bytes,
    program::Program, strategies::Selection, unsupported::Unsupported,
};
use tracer_scene::comm_text;
use tracer_snapshot::{Actor, Frozen, Hanging, Snapshot};

/// The disks that are treated apart when series are chosen, by name.
#[derive(Clone, Debug, Default)]
pub struct AroundDisks {
    /// Disks for which victims wait, and the disks below them.
    pub needed: BTreeSet<String>,
    /// Disks that are gone.
    pub gone: BTreeSet<String>,
}

impl Session {
    /// The tick that the engine was given last.
    pub fn last_tick(&self) -> &Tick {
        &self.last_tick
    }

    /// Whether a capability that is attached on demand is attached now.
    pub fn is_attached(&self, capability: Capability) -> bool {
        match capability {
            Capability::Sync => self.calls.is_attached,
            Capability::Issue => self.issues_hooked,
            Capability::Writeback => self.frees_hooked,
            Capability::Dirtied => self.dirtied.is_attached,
            _ => self.demands.iter().any(|d| d.capability == capability && d.is_attached),
        }
    }

    /// Syncs that had not ended at the last tick, the oldest first.
    pub fn hanging(&self) -> &[Hanging] {
        &self.scene.hanging
    }

    /// Processes that waited at the last tick to write to a frozen filesystem, the longest wait first.
    pub fn frozen(&mut self) -> Vec<Frozen> {
        self.scene.frozen(monotonic_ns(), &mut self.files)
    }

    /// The names of an actor, as far as they were resolved.
    pub fn actor(&self, actor: &ActorId) -> Actor {
        self.scene.actors.actor(actor)
    }

    /// The name of an owner's process, as the kernel has it.
    pub fn owner_comm(&self, owner: OwnerId) -> String {
        comm_text(&self.accounts.key(owner).comm)
    }

    /// The unsupported things on this kernel, the most important first.
    pub fn unsupported(&self) -> Vec<Unsupported> {
        let mut unsupported = self.programs.unsupported(&self.facts);
        if !self.refused.is_empty() {
            let sentence = format!("there is no room to follow {}", self.refused.join(", "));
            unsupported.push(Unsupported { what: "disks", sentence });
        }
        let lacking = |module: &str| late::lacking(self.selections(), module);
        unsupported.extend(self.late_modules.unsupported(lacking));
        unsupported
    }

    /// The attach strategy that was selected for each capability.
    pub fn selections(&self) -> &[Selection] {
        self.programs.selections()
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn engine(&self) -> &Engine {
        &self.scene.engine
    }

    /// The key of an owner in the kernel's tables; the disk in it means nothing.
    pub fn owner(&self, owner: OwnerId) -> OwnerKey {
        self.accounts.key(owner)
    }

    /// All owners that have an account on the disk of this name.
    pub fn owners_of(&self, disk: &str) -> Vec<OwnerKey> {
        let found = self.accounts.disks().iter().find(|d| d.name == disk);
        let owners = found.into_iter().flat_map(|d| d.owners.iter());
        owners.filter(|o| o.id != OwnerId::NOBODY).map(|o| self.accounts.key(o.id)).collect()
    }

    /// The disks of a snapshot for which victims wait, with those below them, and the
    /// disks that are gone.
    pub fn around_disks(&self, snapshot: &Snapshot) -> AroundDisks {
        let known = self.accounts.disks();
        let name = |index: u32| Some(known[self.accounts.position(index)?].name.clone());
        let waited_for = snapshot.victims.iter().filter_map(|victim| {
            let disk = snapshot.disks.get(victim.disk?)?;
            known.iter().find(|known| known.name == disk.name)
        });
        let stacks = waited_for.flat_map(|d| [d.disk.index].into_iter().chain(d.disk.underlying));
        AroundDisks {
            needed: stacks.filter_map(name).collect(),
            gone: known.iter().filter(|d| !d.is_there()).map(|d| d.name.clone()).collect(),
        }
    }

    /// The tracer's own metrics, as the last snapshot left them.
    pub fn metric_families(&self) -> Vec<MetricFamily> {
        self.scene.metrics.families()
    }

    /// Bytes of kernel memory that the tables take.
    pub fn kernel_memory_bytes(&self) -> u64 {
        kernel_memory_bytes(&self.room)
    }

    /// Run count and run time in ns of each loaded program, while the kernel's BPF
    /// statistics are on.
    pub fn run_stats(&self) -> Vec<(Program, u64, u64)> {
        self.programs.run_stats()
    }

    /// Every account of a disk by its name, as the kernel has it now.
    pub fn accounts_of(&self, disk: &str) -> Vec<(String, Account)> {
        let Some(found) = self.accounts.disks().iter().find(|d| d.name == disk) else {
            return Vec::new();
        };
        let owners = found.owners.iter().enumerate();
        owners
            .map(|(at, owner)| {
                let comm = comm_text(&owner.comm);
                (comm, self.accounts.tables().account(found.disk.index, at))
            })
            .filter(|(_, account)| account.requests != 0 || account.word != 0)
            .collect()
    }
}
