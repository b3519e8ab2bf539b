//! Checks while the tracer runs whether the hooks of requests and of syncs still see what
//! they saw at the start.
//!
//! Requests are compared with the kernel's own counts. For syncs the self-test is made
//! again, in memory if that shows the hooks.

use std::collections::BTreeMap;

use tracer_ebpf::record::op;
use tracer_kernel::{capability::Capability, strategies::Selection};
use tracer_node::disks;

use super::{Session, self_test::Means};

/// If the kernel counts this many completed requests of a disk and we saw none, the hook is silent.
const MANY: u64 = 100;

/// The hooks on all calls are on demand in this strategy.
const ON_DEMAND: &str = "tracepoint";

/// Requests of a disk that completed, by the kernel's count and by ours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Completions {
    counted: u64,
    seen: u64,
}

impl Session {
    /// Looks, once a minute, whether hooks have fallen silent.
    pub(super) fn prove_again_if_due(&mut self, now_ns: u64) {
        if !self.self_test.is_due(now_ns) {
            return;
        }
        let now = self.count_completed();
        let before = std::mem::replace(&mut self.completed, now);
        let since = |name: &str| {
            let (now, before) = (self.completed.get(name)?, before.get(name)?);
            Some(Completions {
                counted: now.counted.saturating_sub(before.counted),
                seen: now.seen.saturating_sub(before.seen),
            })
        };
        let names = || self.completed.keys();
        let idle: Vec<_> = names()
            .filter(|name| since(name).is_some_and(|disk| disk.counted == 0))
            .cloned()
            .collect();
        let unseen = names().find_map(|name| find_unseen(name, since(name)?));
        self.self_test.judge_requests(unseen);
        let mut selections = self.programs.selections().iter();
        let sync = selections.find(|selection| selection.capability == Capability::Sync);
        let sees_calls = match sync.and_then(Selection::selected) {
            Some(ON_DEMAND) => self.calls.is_attached,
            strategy => strategy.is_some(),
        };
        self.self_test.make_again(now_ns, Means { sees_calls, idle: &idle });
    }

    /// The counts of all disks on which the kernel counts requests.
    fn count_completed(&self) -> BTreeMap<String, Completions> {
        let there = self.accounts.disks().iter().filter(|disk| disk.is_there());
        let counts = there.filter_map(|disk| {
            let counted = disks::completed(&self.queues, &disk.name)?.all;
            let seen = (0..op::COUNT as u32)
                .map(|code| self.accounts.histograms(disk.disk.index, code)[1].iter().sum::<u64>());
            Some((disk.name.clone(), Completions { counted, seen: seen.sum() }))
        });
        counts.collect()
    }
}

fn find_unseen(name: &str, completed: Completions) -> Option<String> {
    let Completions { counted, seen } = completed;
    (counted >= MANY && seen == 0).then(|| {
        format!("none of {counted} requests of {name} that completed in the last minute was seen")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_requests_of_which_none_was_seen_are_no_chance() {
        let check = |counted, seen, expected: Option<&str>| {
            let unseen = find_unseen("sda", Completions { counted, seen });
            assert_eq!(unseen.as_deref(), expected);
        };
        check(0, 0, None);
        check(99, 0, None);
        check(5000, 1, None);
        let why = "none of 500 requests of sda that completed in the last minute was seen";
        check(500, 0, Some(why));
    }
}
