//! Decides whether the issue of requests needs a hook.
//!
//! If a disk's queue keeps statistics, the kernel itself notes in each request when it
//! was given to the driver; without a scheduler that is soon after its submission. If
//! all disks are like that, the completion alone suffices, and a hook on each issue
//! would only cost. While a request sits in a scheduler, only the hook distinguishes it
//! from one whose completion was missed.
//!
//! Sysfs shows what a disk needs: it is read for every disk when that becomes known, and
//! once a second for disks that do something, because a scheduler may be chosen at any
//! time. Where sysfs is silent, a counter shows the need: requests without a note.

use tracer_ebpf::dropped::Dropped;

use super::Session;
use tracer_kernel::{
    capability::Capability,
    strategies::{Forced, Selection},
};
use tracer_node::disks;

impl Session {
    /// Detaches the hook if no disk needs it and the user did not ask for it.
    pub(super) fn detach_issue_hook_if_unneeded(&mut self, forced: &[Forced]) {
        let is_forced = forced.iter().any(|forced| forced.capability == Capability::Issue);
        let submit =
            self.selections().iter().find(|selection| selection.capability == Capability::Submit);
        // In other strategies the issue is a fallback.
        let strategies = ["tracepoint", "fentry"];
        let is_seen = submit
            .and_then(Selection::selected)
            .is_some_and(|strategy| strategies.contains(&strategy));
        if !is_forced && is_seen && !self.any_disk_needs_issue_hook() {
            self.programs.set_attached(Capability::Issue, false);
            self.issues_hooked = false;
        }
    }

    pub(super) fn attach_issue_hook_if_known_disks_need_it(&mut self) {
        if !self.issues_hooked && self.any_disk_needs_issue_hook() {
            self.attach_issue_hook();
        }
    }

    pub(super) fn attach_issue_hook_if_busy_disks_need_it(&mut self) {
        if self.issues_hooked {
            return;
        }
        let is_unseen = self.accounts.tables().dropped(Dropped::IssueUnseen) > 0;
        let disks = self.accounts.disks().iter();
        let there = disks.filter(|disk| disk.is_there() && !disk.carries());
        let mut busy = there.filter(|disk| !disk.rates.is_empty());
        if is_unseen || busy.any(|disk| disks::needs_issues(&self.queues, &disk.name)) {
            self.attach_issue_hook();
        }
    }

    /// The hook stays attached: a disk that needed it will probably need it again.
    fn attach_issue_hook(&mut self) {
        self.programs.set_attached(Capability::Issue, true);
        self.issues_hooked = true;
    }

    fn any_disk_needs_issue_hook(&self) -> bool {
        let disks = self.assigned.iter();
        let mut there = disks.filter(|disk| disk.identity.is_some() && !disk.carries());
        there.any(|disk| disks::needs_issues(&self.queues, &disk.name))
    }
}
