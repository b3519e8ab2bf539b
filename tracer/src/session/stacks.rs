//! Looks at the stacks that somebody waits for.

use std::collections::BTreeMap;

use tracer_scene::Stack;
use tracer_snapshot::StackFact;

use super::Session;

/// A victim that synced within so long is still looked at.
const RECENT_NS: u64 = 60_000_000_000;

/// Stacks that are looked at in one second; each costs some ten reads of sysfs.
const MAX_STACKS: usize = 32;

impl Session {
    /// Looks at the stacks of all who synced of late.
    pub(super) fn look_at_stacks(&mut self, now: u64) {
        let victims = self.scene.engine.victims().iter();
        let recent = victims.filter(|v| now.saturating_sub(v.last_ns) < RECENT_NS);
        let mut wanted: BTreeMap<_, _> =
            recent.map(|victim| ((victim.key.device, victim.disk), Vec::new())).collect();
        for ((device, disk), facts) in wanted.iter_mut().take(MAX_STACKS) {
            *facts = self.stack_facts(*device, *disk, now);
        }
        let said = wanted.into_iter().filter(|(_, facts)| !facts.is_empty());
        self.scene.stacks =
            said.map(|((device, disk), facts)| Stack { device, disk, facts }).collect();
    }

    /// The facts that the stack says of a filesystem on this device, whose syncs wait for
    /// this disk. A partition or what names no disk goes by the disk.
    pub(super) fn stack_facts(&mut self, device: u32, disk: u32, now: u64) -> Vec<StackFact> {
        let there = || self.assigned.iter().filter(|known| known.identity.is_some());
        let stacked = self.stacked.iter().find(|known| known.device == device);
        let name = stacked.map(|known| &known.name).or_else(|| {
            let its = there().find(|known| known.device == device);
            its.or_else(|| there().find(|known| known.disk.index == disk)).map(|known| &known.name)
        });
        let Some(name) = name else { return Vec::new() };
        self.stack_states.look(&self.queues, &self.layers, name, now)
    }
}
