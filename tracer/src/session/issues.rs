//! Whether the issue of requests has a hook.
//!
//! The kernel itself notes in a request when it is given to its driver, if the
//! disk's queue keeps statistics. Where all queues do, the end of a request tells
//! all, and a hook that runs for each would only cost. What no queue's settings
//! say is told by a counter: requests that ended without such a note.

use tracer_ebpf::record::loss;

use super::Session;
use crate::{
    disks,
    kernel::ladder::{Climb, Forced},
};

/// The capability.
pub const ISSUE: &str = "issue";

impl Session {
    /// Takes the hook away where nobody needs it or asked for it.
    pub(super) fn unhook_issues_if_noted(&mut self, forced: &[Forced]) {
        let is_forced = forced.iter().any(|forced| forced.capability == ISSUE);
        let birth = self.climbs().iter().find(|climb| climb.capability == "birth");
        // Other rungs have the issue for their understudy.
        let rungs = ["tp", "fentry"];
        let births_seen = birth.and_then(Climb::taken).is_some_and(|rung| rungs.contains(&rung));
        if !is_forced && births_seen && self.are_issues_noted() {
            self.programs.set_attached(ISSUE, false);
            self.issues_hooked = false;
        }
    }

    /// Hooks it where a disk that is now known keeps no notes.
    pub(super) fn hook_issues_if_not_noted(&mut self) {
        if !self.issues_hooked && !self.are_issues_noted() {
            self.hook_issues();
        }
    }

    /// Hooks it where a request has ended without a note.
    pub(super) fn hook_issues_if_unseen(&mut self) {
        if !self.issues_hooked && self.accounts.tables().loss(loss::ISSUE_UNSEEN) > 0 {
            self.hook_issues();
        }
    }

    /// It stays: a disk that keeps no notes now will hardly do so later.
    fn hook_issues(&mut self) {
        self.programs.set_attached(ISSUE, true);
        self.issues_hooked = true;
    }

    fn are_issues_noted(&self) -> bool {
        self.assigned.iter().all(|disk| disks::notes_issues(&self.root, &disk.name))
    }
}
