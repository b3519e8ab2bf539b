//! Whether the issue of requests has a hook.
//!
//! The kernel itself notes in a request when it is given to its driver, if the
//! disk's queue keeps statistics, and without a scheduler that is soon after its
//! birth. Where all disks are like that the end of a request tells all, and a hook
//! that runs for each would only cost. Of a request in a scheduler only the hook
//! tells that it still waits, and is not one whose end was missed.
//!
//! What a disk needs is asked of sysfs: of all when they become known, and of those
//! that do something once a second, as a scheduler may be chosen at any time. What
//! sysfs does not say is told by a counter: requests that ended without a note.

use tracer_ebpf::dropped::Dropped;

use super::Session;
use tracer_kernel::{
    capability::Capability,
    strategies::{Forced, Selection},
};
use tracer_node::disks;

impl Session {
    /// Takes the hook away where nobody asked for it either.
    pub(super) fn unhook_issues_if_nobody_needs_it(&mut self, forced: &[Forced]) {
        let is_forced = forced.iter().any(|forced| forced.capability == Capability::Issue);
        let submit =
            self.selections().iter().find(|selection| selection.capability == Capability::Submit);
        // In other strategies the issue is a fallback.
        let strategies = ["tracepoint", "fentry"];
        let is_seen = submit
            .and_then(Selection::selected)
            .is_some_and(|strategy| strategies.contains(&strategy));
        if !is_forced && is_seen && !self.do_known_disks_need_issues() {
            self.programs.set_attached(Capability::Issue, false);
            self.issues_hooked = false;
        }
    }

    pub(super) fn hook_issues_if_known_disks_need_it(&mut self) {
        if !self.issues_hooked && self.do_known_disks_need_issues() {
            self.hook_issues();
        }
    }

    pub(super) fn hook_issues_if_busy_disks_need_it(&mut self) {
        if self.issues_hooked {
            return;
        }
        let is_unseen = self.accounts.tables().dropped(Dropped::IssueUnseen) > 0;
        let disks = self.accounts.disks().iter();
        let there = disks.filter(|disk| disk.is_there() && !disk.carries());
        let mut busy = there.filter(|disk| !disk.rates.is_empty());
        if is_unseen || busy.any(|disk| disks::needs_issues(&self.root, &disk.name)) {
            self.hook_issues();
        }
    }

    /// It stays: a disk that needed it will hardly do without later.
    fn hook_issues(&mut self) {
        self.programs.set_attached(Capability::Issue, true);
        self.issues_hooked = true;
    }

    fn do_known_disks_need_issues(&self) -> bool {
        let disks = self.assigned.iter();
        let mut there = disks.filter(|disk| disk.identity.is_some() && !disk.carries());
        there.any(|disk| disks::needs_issues(&self.root, &disk.name))
    }
}
