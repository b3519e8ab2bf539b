//! The things that the tracer does not see on this kernel: one sentence each.
//!
//! Decided from the strategies that were selected and from nothing else, so that
//! `doctor`, the metrics and the first lines of every snapshot say the same.

use serde::Serialize;
use tracer_ebpf::config::ABSENT;

use crate::{
    facts::Facts,
    hook::Served,
    pids::Translation,
    strategies::{Forced, Selection},
};

/// Something that is not seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unsupported {
    /// One word for it, for labels: from a fixed set.
    pub what: &'static str,
    /// A sentence, without its full stop.
    pub sentence: String,
}

fn unsupported(what: &'static str, sentence: impl Into<String>) -> Unsupported {
    Unsupported { what, sentence: sentence.into() }
}

/// All that is unsupported, what matters most first.
pub fn find(facts: &Facts, selections: &[Selection], forced: &[Forced]) -> Vec<Unsupported> {
    let mut found = Vec::new();
    for selection in selections {
        match selection.selected() {
            None => found.push(unsupported(selection.capability.name(), selection.without)),
            Some(strategy) => {
                let served = Served { strategy, attached: &selection.attached };
                let gaps = (selection.capability.hook().find_gaps)(&served);
                found.extend(gaps.into_iter().map(|(what, sentence)| unsupported(what, sentence)));
            }
        }
    }
    if !facts.sees_run_delay() {
        found.push(unsupported(
            "runqueue",
            "waiting for a CPU is not distinguished from waiting for the disk",
        ));
    }
    if !facts.sees_tasks() {
        found.push(unsupported("process", "threads go by their own names, not by their process's"));
    }
    if facts.config.inode_ino == ABSENT {
        found.push(unsupported(
            "file",
            "the files of syncs are not known, and their disk only from the first block request on",
        ));
    }
    let doubts = facts.doubts.iter();
    found.extend(doubts.map(|why| unsupported("types", format!("something is missing: {why}"))));
    if facts.merges_v1 {
        found.push(unsupported(
            "cgroup",
            "processes of one name that are in the root of cgroup v2 are one owner: this kernel \
             does not let programs read their cgroups of version 1",
        ));
    }
    found.extend(untranslated(facts.translation).map(|why| unsupported("process_id", why)));
    found.extend(forced.iter().filter_map(|wish| unmet_override(wish, selections)));
    found
}

/// Says whose ids are missing, where those that are shown are not the kernel's own.
fn untranslated(translation: Translation) -> Option<&'static str> {
    match translation {
        Translation::None => None,
        Translation::Whole => Some(
            "the tracer runs in a PID namespace of its own: processes outside it have no id here, \
             and their files no names",
        ),
        Translation::OwnOnly => Some(
            "the tracer runs in a PID namespace of its own, and this kernel gives it only the ids \
             of processes in that same namespace: others have no id here, and their files no names",
        ),
        Translation::Impossible => Some(
            "the tracer runs in a PID namespace of its own, and this kernel gives it no ids in it: \
             processes have no id here, and their files no names",
        ),
    }
}

/// A strategy that was asked for and does not serve.
fn unmet_override(wish: &Forced, selections: &[Selection]) -> Option<Unsupported> {
    let selection = selections.iter().find(|selection| selection.capability == wish.capability)?;
    let (strategy, outcome) =
        selection.strategies.iter().find(|(strategy, _)| *strategy == wish.strategy)?;
    let instead = match selection.selected() {
        Some(taken) if taken == *strategy => return None,
        Some(taken) => format!("`{taken}` is selected instead"),
        None => "no other strategy is selected".to_owned(),
    };
    let capability = selection.capability;
    Some(unsupported("strategy", format!("{capability} by `{strategy}` is {outcome}; {instead}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capability::Capability, program::Program, strategies::Outcome};

    const ALL: [(Capability, &str); 16] = [
        (Capability::Complete, "tracepoint"),
        (Capability::Issue, "tracepoint"),
        (Capability::Submit, "tracepoint"),
        (Capability::Sync, "fentry"),
        (Capability::Journal, "tracepoint"),
        (Capability::Log, "tracepoint"),
        (Capability::Throttle, "tracepoint"),
        (Capability::Reclaim, "tracepoint"),
        (Capability::Contender, "tracepoint"),
        (Capability::Writeback, "tracepoint"),
        (Capability::Dirtied, "tracepoint"),
        (Capability::Metadata, "tracepoint"),
        (Capability::Bio, "tracepoint"),
        (Capability::Tickets, "tracepoint"),
        (Capability::Freeze, "tracepoint"),
        (Capability::Writers, "tracepoint"),
    ];

    /// A selection of these strategies, with all their programs attached.
    fn selections(taken: &[(Capability, &str)]) -> Vec<Selection> {
        let of = |of| taken.iter().find(|(capability, _)| *capability == of).map(|t| t.1);
        Capability::ALL
            .into_iter()
            .map(|capability| {
                let outcome = |strategy: &str| match of(capability) {
                    Some(taken) if taken == strategy => Outcome::Selected,
                    Some(_) => Outcome::NotNeeded,
                    None => Outcome::Unsupported("no such hook".to_owned()),
                };
                let mut strategies = capability.strategies().iter();
                let strategy = strategies.find(|r| Some(r.name) == of(capability));
                let mut selection = Selection::new(capability, outcome);
                let steps = strategy.iter().flat_map(|strategy| strategy.steps);
                selection.attached = steps.map(|step| step.program).collect();
                selection
            })
            .collect()
    }

    fn facts(run_delay: u32) -> Facts {
        let mut config = tracer_ebpf::config::Config::ABSENT;
        (config.task_flags, config.task_run_delay) = (run_delay, run_delay);
        config.inode_ino = 64;
        Facts::with_config(config)
    }

    fn check(selections: &[Selection], facts: &Facts, forced: &[&str], expected: &[(&str, &str)]) {
        let forced: Vec<Forced> = forced.iter().map(|text| text.parse().unwrap()).collect();
        let found = find(facts, selections, &forced);
        let found: Vec<_> = found.iter().map(|b| (b.what, b.sentence.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_kernel_with_everything_lacks_nothing() {
        check(&selections(&ALL), &facts(8), &["sync=fentry"], &[]);
    }

    #[test]
    fn what_no_strategy_provides_is_said_in_the_capabilitys_own_words() {
        check(
            &selections(&ALL[..4]),
            &facts(ABSENT),
            &[],
            &[
                (Capability::Journal.name(), "time in the journal is shown as `other`"),
                (Capability::Log.name(), "waiting for xfs's log is shown as `other`"),
                (
                    Capability::Throttle.name(),
                    "waiting for a request to be allocated (tags, throttling) is shown as `other`",
                ),
                (
                    Capability::Reclaim.name(),
                    "direct reclaim is shown as `cpu` and `other`, and its culprits are not named",
                ),
                (
                    Capability::Contender.name(),
                    "who runs while a sync waits for a CPU is not named",
                ),
                (
                    Capability::Writeback.name(),
                    "written-back data are charged to the kernel worker, not to the process that wrote them",
                ),
                (
                    Capability::Dirtied.name(),
                    "who wrote to a file before the tracer came, and does so still, is not named",
                ),
                (
                    Capability::Metadata.name(),
                    "who filled the journal that a commit writes is not known",
                ),
                (
                    Capability::Bio.name(),
                    "on dm-crypt, dm-thin and arrays the kernel threads that submit requests are \
                     named, because their owners are not known",
                ),
                (Capability::Tickets.name(), "which owners fill the log of an xfs is not known"),
                (
                    Capability::Freeze.name(),
                    "who freezes a filesystem, and that its users cannot write meanwhile, is not \
                     seen",
                ),
                (
                    Capability::Writers.name(),
                    "that writes are paused at the limit on dirty pages, and who dirtied these, is \
                     not seen",
                ),
                ("runqueue", "waiting for a CPU is not distinguished from waiting for the disk"),
                ("process", "threads go by their own names, not by their process's"),
            ],
        );
    }

    #[test]
    fn tracepoints_see_less_where_a_filesystem_has_none() {
        let mut taken = ALL;
        (taken[2].1, taken[3].1) = ("insert", "tracepoint");
        let mut selections = selections(&taken);
        selections[3].attached.retain(|program| *program != Program::BtrfsSyncFile);
        check(
            &selections,
            &facts(8),
            &[],
            &[
                (
                    "submitter",
                    "requests that a kernel worker hands on are charged to it, not to who \
                     submitted them",
                ),
                ("flush", "waiting for a flush without data is shown as `other`"),
                (
                    "pass_through",
                    "commands that are passed through to a drive (SMART) are charged to a kernel \
                     worker where that issues them",
                ),
                (
                    "o_dsync",
                    "writes to O_DSYNC files, and the file of an msync, are seen only on ext4 \
                     and xfs",
                ),
                ("io_uring", "io_uring's syncs are seen only on ext4"),
                (
                    "disk",
                    "on filesystems other than ext4 and xfs a sync's disk is known only from its \
                     first block request on: requests of others that were in flight before that \
                     are not seen",
                ),
            ],
        );
    }

    #[test]
    fn optional_hooks_that_are_missing_are_named() {
        let mut selections = selections(&ALL);
        selections[4].attached.retain(|program| *program != Program::Jbd2CommitLogging);
        selections[7].attached.retain(|program| !program.name().starts_with("memcg"));
        selections[13].attached.retain(|program| *program != Program::XfsInodeInactivating);
        check(
            &selections,
            &facts(8),
            &[],
            &[
                ("commit", "the stages of a journal's commit are not distinguished"),
                ("memcg", "reclaiming memory for a cgroup's own limit is not seen"),
                (Capability::Tickets.name(), "for whom kernel workers change an xfs is not known"),
            ],
        );
    }

    #[test]
    fn hooks_on_demand_that_were_refused_are_named() {
        let mut taken = ALL;
        taken[3].1 = "tracepoint";
        let mut selections = selections(&taken);
        selections[3].attached.retain(|program| !program.name().starts_with("sys_"));
        selections[11].attached.retain(|program| *program != Program::Jbd2HandleStats);
        selections[13].attached.retain(|program| *program != Program::XfsLogTicketUngrant);
        let found = find(&facts(8), &selections, &[]);
        for what in ["calls", Capability::Metadata.name(), Capability::Tickets.name()] {
            assert!(found.iter().any(|unsupported| unsupported.what == what), "{what}: {found:?}");
        }
    }

    #[test]
    fn a_forced_strategy_that_does_not_serve_is_named_with_its_reason() {
        let mut selections = selections(&ALL);
        selections[3].strategies[2].1 = Outcome::Silent("it saw nothing".to_owned());
        check(
            &selections,
            &facts(8),
            &["sync=vfs"],
            &[(
                "strategy",
                "sync by `vfs` is silent: it saw nothing; `fentry` is selected instead",
            )],
        );
    }
}
