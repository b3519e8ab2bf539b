//! The node's disks: which there are, what the kernel programs know of them, and
//! what each did.

use std::{mem, path::Path};

use tracer_ebpf::record::{DiskUnknown, op};
use tracer_kernel::{
    capability::Capability,
    clock::monotonic_ns,
    load::Programs,
    maps::{
        accounts::{Accounts, DiskAccounts},
        waiting::{Completed, Idle, Queue},
    },
};
use tracer_node::disks::{self, Assigned, Hidden, Layers, Queues, Room, Stacked};
use tracer_scene::{DiskState, Histograms};

use super::Session;

/// Describes all disks that are there to the kernel programs, and returns the names
/// of those for which there is no room; `None` where they cannot be listed.
pub(super) fn describe(
    (root, queues, hidden, sees_bios): (&Path, &Queues, &Hidden, bool),
    room: &Room,
    (assigned, stacked): (&mut Vec<Assigned>, &mut Vec<Stacked>),
    accounts: &mut Accounts,
) -> Option<Vec<String>> {
    let mut found = disks::scan(queues, hidden).ok()?;
    if !sees_bios {
        found.iter_mut().for_each(|disk| disk.carries = false);
    }
    let mut refused = disks::assign(assigned, &found, room);
    disks::connect(root, assigned);
    let before = mem::replace(stacked, disks::find_stacked(root, &found, assigned));
    // Numbers that became free first: another disk may have one of them.
    for disk in before.iter().filter(|disk| !stacked.contains(disk)) {
        accounts.forget_stacked(disk);
    }
    accounts.forget_numbers(assigned);
    for disk in assigned.iter() {
        // There is room for it in the kernel's map: `assign` saw to that.
        if accounts.describe(disk, monotonic_ns()).is_err() {
            refused.push(disk.name.clone());
        }
    }
    for disk in stacked.iter() {
        if accounts.describe_stacked(disk).is_err() {
            refused.push(disk.name.clone());
        }
    }
    Some(refused)
}

/// Whether bios can stand for requests: else all disks are as if they passed them on.
pub(super) fn sees_bios(programs: &Programs) -> bool {
    let mut selections = programs.selections().iter();
    let bio = selections.find(|selection| selection.capability == Capability::Bio);
    bio.is_some_and(|selection| selection.selected().is_some())
}

impl Session {
    /// Puts the hooks on bios on or off: each bio of the node runs one of them.
    pub(super) fn attach_bio_hooks_if_needed(&mut self) {
        let mut there = self.assigned.iter().filter(|disk| disk.identity.is_some());
        let wanted = there.any(Assigned::carries);
        if wanted != self.bios_hooked {
            self.programs.set_attached(Capability::Bio, wanted);
            self.bios_hooked = wanted;
        }
    }

    /// Describes the disks again where one has come or gone, is another now, or lies
    /// on others.
    pub(super) fn look_at_disks(&mut self) {
        let assigned = self.assigned.iter().map(|disk| (disk.name.as_str(), &disk.identity));
        let stacked = self.stacked.iter().map(|disk| (disk.name.as_str(), &disk.identity));
        let have_changed = disks::have_changed(&self.root, assigned.chain(stacked));
        if self.files.look_at_volumes(self.ticked_ns) {
            self.scene.disks.iter_mut().for_each(|disk| disk.known_as = None);
        }
        // Before they are described: what changes meanwhile is found in a second.
        let before = mem::replace(&mut self.layers, Layers::read(&self.root));
        if have_changed || before != self.layers {
            self.describe_disks();
        }
    }

    /// Reads what each account did, and reconciles it with what the kernel says is
    /// in flight.
    pub(super) fn read_ledger(&mut self, now: u64) {
        let (root, queues) = (&self.root, &self.queues);
        self.accounts.tick(now, |name| {
            // This is read first, so a request that completes meanwhile is not counted.
            let disks::Completed { all, flushes } = disks::completed(queues, name)?;
            disks::inflight(root, name).filter(|counts| *counts == (0, 0))?;
            let queue = match disks::scheduler(queues, name).as_str() {
                "none" => Queue::HoldsNone,
                _ => Queue::MayHold,
            };
            Some(Idle { queue, completed: Some(Completed { all, flushes }) })
        });
    }

    /// Takes in which disks the kernel programs met and do not know.
    pub(super) fn meet_disks(&mut self, unknown: &[DiskUnknown]) {
        if unknown.is_empty() {
            return;
        }
        for disk in unknown {
            self.hidden.note(&self.root, &disk.name(), disk.device as u32);
        }
        self.describe_disks();
    }

    /// The kernel programs met a disk that they do not know, or one is gone or
    /// another now.
    pub(super) fn describe_disks(&mut self) {
        let sees_bios = sees_bios(&self.programs);
        // A disk of the same name may be another one.
        self.scene.disks.iter_mut().for_each(|disk| disk.known_as = None);
        let Self { root, queues, hidden, room, assigned, stacked, accounts, .. } = self;
        let node = (root.as_path(), &*queues, &*hidden, sees_bios);
        if let Some(refused) = describe(node, room, (assigned, stacked), accounts) {
            self.refused = refused;
            self.attach_bio_hooks_if_needed();
            self.recall_new_disks();
            self.attach_issue_hook_if_known_disks_need_it();
        }
    }

    /// The name that people know a disk by, from the look before if there was one.
    fn known_as(&self, disk: &DiskAccounts) -> Option<String> {
        let is_it = |known: &&DiskState| {
            (known.index, known.name.as_str()) == (disk.disk.index, disk.name.as_str())
        };
        let before = self.scene.disks.iter().find(is_it).and_then(|known| known.known_as.clone());
        let name = || disks::known_as(&self.root, &disk.name, |device| self.files.volume(device));
        before.or_else(|| disk.is_there().then(name))
    }

    /// The disks as they are now.
    pub(super) fn read_disks(&self) -> Vec<DiskState> {
        let disks = self.accounts.disks().iter().enumerate();
        let disks = disks.filter(|(_, disk)| !disk.name.is_empty());
        let read = |(at, disk): (usize, &DiskAccounts)| DiskState {
            index: disk.disk.index,
            name: disk.name.clone(),
            known_as: self.known_as(disk),
            scheduler: match disk.is_there() {
                true => disks::scheduler(&self.queues, &disk.name),
                false => String::new(),
            },
            in_flight: disk.in_flight,
            rates: disk.rates.clone(),
            work: self.accounts.work(at),
            reference_at: self.references.at(disk.disk.index),
            uncounted_share: disk.uncounted.share(),
            latencies: (0..op::COUNT as u32)
                .map(|code| {
                    let [queue, device] = self.accounts.histograms(disk.disk.index, code);
                    let bytes = disk.bytes[code as usize];
                    Histograms { op: code as u16, bytes, queue, device }
                })
                .filter(|of| of.device.iter().any(|n| *n > 0))
                .collect(),
        };
        disks.map(read).collect()
    }
}
