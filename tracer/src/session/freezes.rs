//! Filesystems that somebody has frozen, and the victims' processes that wait for the thaw.

use std::collections::BTreeSet;

use tracer_ebpf::pid;
use tracer_engine::tick::Freeze;
use tracer_node::{frozen, tree::Tree};

use super::Session;

/// Processes that are looked at for one filesystem.
const PROCESSES: usize = 16;

impl Session {
    /// Reads the freezes that last or ended since the last tick. Processes are looked at only while
    /// a filesystem on which somebody syncs is frozen.
    pub(super) fn read_freezes(&mut self) -> Vec<Freeze> {
        let mut freezes = self.freezes.read(&mut self.accounts);
        let tree = Tree::new(&self.root);
        for freeze in freezes.iter_mut().filter(|freeze| freeze.until_ns == 0) {
            let victims = self.scene.engine.victims().iter();
            let there = victims.filter(|v| v.key.device == freeze.device && !v.kthread);
            let tgids: BTreeSet<u32> = there.map(|victim| victim.tgid).collect();
            let waiting = tgids.into_iter().take(PROCESSES);
            let waits = |tgid: &u32| frozen::waits_for_thaw(&tree, pid::here(*tgid));
            freeze.waiting = waiting.filter(waits).collect();
        }
        freezes
    }
}
