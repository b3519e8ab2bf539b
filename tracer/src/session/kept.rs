//! The disks' references of an earlier run, and those of this one for the next.
//!
//! References come in as they were kept and go to the disks that they fit; those that
//! do not fit are named. Going out, a disk's reference has the day on which it was
//! last seen to hold. Knows no directory: who reads and writes that, the commands say.

use std::collections::BTreeMap;

use tracer_node::disks::{Identity, Key, boot_id};
use tracer_state::{Entry, Fit, find, merge};

use super::Session;

/// At most this many sentences wait to be printed, in case nothing prints them.
const MAX_NOTES: usize = 64;

/// The disks' keys, and the kept references.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Whether references are to be kept at all.
    is_wanted: bool,
    entries: Vec<Entry>,
    /// The disks that were looked at, by the kernel's index.
    known: BTreeMap<u32, KeptDisk>,
    notes: Vec<String>,
    /// Files that were refused, and those that could not be written.
    pub refused: u64,
}

#[derive(Debug)]
struct KeptDisk {
    identity: Identity,
    /// Its key when it was first seen; `None` if it is that of other disks too.
    key: Option<Key>,
    /// When its reference was last seen to hold.
    at: Option<u64>,
    /// Whether the log already says that nothing more is kept of this disk.
    is_given_up: bool,
}

impl References {
    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    /// When a disk's kept reference was last seen to hold, in Unix seconds.
    pub fn at(&self, index: u32) -> Option<f64> {
        self.known.get(&index)?.at.map(|at| at as f64)
    }
}

impl Session {
    /// From here on disks begin with what was learnt of them before.
    pub fn recall(&mut self, entries: Vec<Entry>) {
        self.references.is_wanted = true;
        self.references.entries = entries;
        self.recall_new_disks();
    }

    /// Counts a file of references that was refused or could not be written.
    pub fn count_refused_reference(&mut self) {
        self.references.refused += 1;
    }

    /// Sentences on references since this was called last.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.references.notes)
    }

    /// Looks for the kept references of disks that are new, or others now.
    pub(super) fn recall_new_disks(&mut self) {
        if !self.references.is_wanted {
            return;
        }
        let Self { accounts, references, queues, .. } = self;
        let present: BTreeMap<_, _> = accounts
            .disks()
            .iter()
            .filter_map(|disk| Some((disk.disk.index, (disk.name.clone(), disk.identity()?))))
            .collect();
        references.known.retain(|index, known| {
            present.get(index).is_some_and(|(_, identity)| known.identity == **identity)
        });
        let is_new = |index: &u32| !references.known.contains_key(index);
        let new = present.into_iter().filter(|(index, _)| is_new(index));
        let new: Vec<_> = new
            .map(|(index, (name, identity))| {
                (index, Key::read(queues, &name), name, identity.clone())
            })
            .collect();
        let others = references.known.values().map(|known| &known.key);
        let keys: Vec<_> = others.chain(new.iter().map(|(_, key, ..)| key)).cloned().collect();
        for (index, key, name, identity) in new {
            // Two paths lead to one disk, or its firmware gives all disks one number.
            let is_one = keys.iter().filter(|other| **other == key).count() == 1;
            let key = key.filter(|_| is_one);
            let at = key.as_ref().and_then(|key| self.recall_disk(index, &name, key));
            let known = KeptDisk { identity, key, at, is_given_up: false };
            self.references.known.insert(index, known);
        }
    }

    /// Gives a disk its kept reference, and returns when that was last seen to hold.
    fn recall_disk(&mut self, index: u32, name: &str, key: &Key) -> Option<u64> {
        match find(&self.references.entries, key) {
            Fit::Whole(entry) => {
                self.accounts.recall(index, &entry.levels, &entry.pace);
                Some(entry.at)
            }
            Fit::Changed(changes) => {
                let why = changes.join(", ");
                self.references.note(format!("the kept reference of {name} is not used: {why}"));
                None
            }
            Fit::None => None,
        }
    }

    /// All references to be kept at this Unix second: of the disks that are here, as they
    /// are now, and the kept ones of others.
    pub fn references(&mut self, now: u64) -> Vec<Entry> {
        self.recall_new_disks();
        let mut entries = Vec::new();
        for at in 0..self.accounts.disks().len() {
            let disk = &self.accounts.disks()[at];
            let (index, name) = (disk.disk.index, disk.name.clone());
            let is_there = disk.is_there();
            let held = self.accounts.take_held(index);
            let (levels, pace) = (self.accounts.levels(index), self.accounts.pace(at));
            let Some(known) = self.references.known.get_mut(&index) else { continue };
            let Some(key) = known.key.clone().filter(|_| is_there && !levels.is_empty()) else {
                continue;
            };
            // The reference was learnt under other settings.
            let changes = Key::read(&self.queues, &name).map(|now| now.changes(&key));
            if changes.as_ref().is_none_or(|changes| !changes.is_empty()) {
                if let Some(why) = changes.filter(|_| !known.is_given_up) {
                    known.is_given_up = true;
                    let why = why.join(", ");
                    self.references.note(format!("the reference of {name} is not kept: {why}"));
                }
                continue;
            }
            if held || known.at.is_none() {
                known.at = Some(now);
            }
            entries.push(Entry { key, at: known.at.unwrap_or(now), levels, pace });
        }
        let boot = boot_id(&self.root);
        let all = merge(entries, &self.references.entries, boot.as_deref());
        self.references.entries.clone_from(&all);
        all
    }
}
