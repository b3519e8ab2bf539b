//! From records to blame: pure state, fed by records, asked for pictures.
//!
//! Knows no aya, no clock, no files and no terminal: a recording feeds it as
//! well as a kernel does. From a record to a victim's histogram, phases, blame
//! and baseline nothing is allocated, but for a victim or an owner never seen
//! before.

pub mod blame;
pub mod phases;
pub mod tick;
pub mod victim;

use std::collections::HashMap;

use tracer_ebpf::record::{ACCOUNTS, LowerWindow, NO_DISK, SyncRecord};

use blame::{Division, Owner, Window, divide};
use phases::Phases;
use victim::{Victim, VictimKey, charge};

/// Victims that are kept; the one that has synced longest ago makes room.
const VICTIMS: usize = 512;

/// What was made of one sync.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Index of its victim in [`Engine::victims`].
    pub victim: usize,
    pub phases: Phases,
    pub window: Window,
    pub division: Division,
}

/// All victims.
#[derive(Debug, Default)]
pub struct Engine {
    victims: Vec<Victim>,
    by_key: HashMap<VictimKey, usize>,
    next_id: u32,
    records: u64,
    evicted: u64,
    torn: u64,
}

impl Engine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one sync in. `file` is the caller's name for the file or class of
    /// files, `owners` gives those of a disk's accounts; `_lower` is what was in
    /// flight on further disks.
    pub fn sync<'a>(
        &mut self,
        record: &SyncRecord,
        _lower: &[LowerWindow],
        file: u32,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) -> Judged {
        self.records += 1;
        let phases = Phases::of(record);
        let owners = owners(record.disk);
        let window = Window::of(record, owners);
        self.torn += u64::from(window.torn);

        let index = self.victim_index(record, file);
        let victim = &mut self.victims[index];
        victim.tgid = record.tgid;
        victim.kthread = record.kthread != 0;
        // A sync that made no request may not know its disk.
        if record.disk != NO_DISK {
            victim.disk = record.disk;
        }
        victim.last_ns = record.begin_ns + record.duration_ns;

        let wait_ns = phases.wait_ns();
        let baseline_ns = victim.baseline_ns().unwrap_or(0);
        let contended = !window.is_uncontended(record.duration_ns);
        // Without a baseline an undisturbed sync is no excess: it is the first
        // lesson.
        let division = if contended || victim.baseline_ns().is_some() {
            divide(&window, record.duration_ns, wait_ns, baseline_ns)
        } else {
            Division::default()
        };
        victim.record(record.duration_ns, &phases, &division);
        charge(victim, &window, &division, |account| owners[account].id);
        if !contended {
            victim.learn(wait_ns);
        }
        Judged { victim: index, phases, window, division }
    }

    /// Takes in what went on around the syncs in the last second.
    pub fn tick(&mut self, _tick: &tick::Tick) {}

    /// Forgets the older half of every victim's window.
    pub fn rotate(&mut self) {
        self.victims.iter_mut().for_each(Victim::rotate);
    }

    pub fn victims(&self) -> &[Victim] {
        &self.victims
    }

    /// Records taken in.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Victims that made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Accounts whose integral could not be.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn victim_index(&mut self, record: &SyncRecord, file: u32) -> usize {
        let key =
            VictimKey { cgroup: record.cgroup, comm: record.comm, file, device: record.device };
        if let Some(index) = self.by_key.get(&key) {
            return *index;
        }
        let fresh = Victim::new(self.next_id, key);
        self.next_id += 1;
        let oldest = (self.victims.len() >= VICTIMS)
            .then(|| self.victims.iter().enumerate().min_by_key(|(_, v)| v.last_ns))
            .flatten()
            .map(|(index, _)| index);
        let index = match oldest {
            Some(index) => {
                self.evicted += 1;
                self.by_key.remove(&self.victims[index].key);
                self.victims[index] = fresh;
                index
            }
            None => {
                self.victims.push(fresh);
                self.victims.len() - 1
            }
        };
        self.by_key.insert(key, index);
        index
    }
}

#[cfg(test)]
mod tests;
