//! The last line of advice: an experiment that would have changed the verdict, and the outcome
//! that would have.
//!
//! Each verdict that says anything has one, however sure it is. It is read by people and pasted
//! into shells, so names in it are quoted as in [`super::remedy`].

use super::{freeze, handles, helper, pause, quote, stack, stop, verdict::in_house};
use tracer_snapshot::{Culprit, Kind, Op, Victim};

/// The experiment for a verdict; `None` where nobody is blamed.
pub fn experiment(victim: &Victim) -> Option<String> {
    let verdict = &victim.verdict;
    let worst = verdict.culprits.first();
    let said = match verdict.kind {
        Kind::None | Kind::Unknown => return None,
        Kind::Owners | Kind::Device if is_its_stacks(victim) => {
            "lower `sync_speed_max` of the array for a minute. If p99 stays high, what the array does \
             of itself is not the cause"
                .to_owned()
        }
        Kind::Owners | Kind::Own
            if verdict.is_frozen_by_unknown || freeze::freezer(verdict).is_some() =>
        {
            "freeze nothing on this filesystem for ten minutes. If its syncs still stop for that \
             long, the freezes are not the cause"
                .to_owned()
        }
        Kind::Owners | Kind::Own
            if let Some(worst) = pause::dirtier(verdict)
                && !worst.actor.kernel_thread =>
        {
            pause::experiment(&actor(worst))
        }
        Kind::Own if pause::is_by_itself(verdict) => pause::own_experiment(),
        Kind::Owners | Kind::Own if let Some((worst, _)) = stop::tracing(verdict) => format!(
            "let {} detach for a minute. If the waits around its syncs stay, the trace is not the \
             cause",
            actor(worst)
        ),
        Kind::Owners | Kind::Own
            if let Some(worst) = handles::holder(verdict)
                && worst.stopped_by.is_some() =>
        {
            handles::experiment(&actor(worst))
        }
        Kind::Owners => worst.map_or_else(of_busiest, of_owner),
        Kind::Cpu => {
            let task = worst.filter(|worst| !worst.actor.kernel_thread);
            let who = task.map_or("what keeps the CPUs busy".to_owned(), actor);
            format!(
                "stop {who} for ten seconds. If p99 stays high while `runq` above falls, the CPU is \
                 not the cause"
            )
        }
        Kind::Memory if worst.is_some_and(|worst| worst.op == Op::DropCaches) => {
            "leave the caches alone for ten minutes. If p99 stays high, they are not the cause"
                .to_owned()
        }
        Kind::Memory => "raise memory.high and memory.max of the victim for a minute, or free \
                         memory. If p99 stays high while `pgscan_direct` and \
                         `workingset_refault_file` in its memory.stat stand still, memory is not \
                         the cause"
            .to_owned(),
        Kind::Limit if let Some(stop) = stop::halted(verdict) => {
            stop::experiment(stop, victim.actor.tgid)
        }
        Kind::Limit => {
            let one = helper::limited(verdict).map(|one| one.setting.as_str());
            let setting = one.or(verdict.limit.as_deref()).unwrap_or("the limit on its cgroup");
            format!(
                "raise {} for a minute. If p99 stays high, it is not the limit",
                helper::quoted_setting(setting)
            )
        }
        Kind::Filesystem => format!(
            "`perf record -g -p {}` for ten seconds. If it shows little time in the functions of \
             the filesystem, that is not the cause",
            victim.actor.tgid
        ),
        Kind::Own => match in_house(victim) {
            Some(worst) => of_owner(worst),
            None => "let it sync while it does nothing else. If p99 stays high, the device is \
                     slower"
                .to_owned(),
        },
        Kind::Device if let Some((server, disk)) = helper::disk_of_server(verdict) => format!(
            "let nobody but {} use {} for ten seconds. If p99 falls, somebody else on that disk is \
             the cause",
            helper::quoted_name(server),
            quote::word(disk)
        ),
        Kind::Device => "`fio --name=t --filename=FILE --size=64m --rw=write --bs=4k --fdatasync=1 \
                         --runtime=30 --time_based` on the same disk while nobody else is on it. If \
                         its syncs are quick, the device is well, and somebody on this node is the \
                         cause"
            .to_owned(),
        Kind::Undecided => {
            let worst = verdict.culprits.iter().find(|one| !one.actor.kernel_thread);
            let who = worst.map_or("the busiest neighbour".to_owned(), actor);
            format!(
                "stop {who} for ten seconds. If p99 falls to what it was, {who} asks too much; if \
                 it stays high, the device is slower"
            )
        }
        Kind::Unseen => "`tracer why` there. If no sync is slow on that machine, the network \
                         between the two is the cause"
            .to_owned(),
        Kind::Unexplained => "stop the other workloads on its disk for ten seconds. If p99 falls, \
                              one of them is the cause"
            .to_owned(),
    };
    Some(format!("to settle it: {said}"))
}

/// Whether an array that checks or rebuilds itself is named, by itself or by its thread.
fn is_its_stacks(victim: &Victim) -> bool {
    let verdict = &victim.verdict;
    let is_its =
        |worst: &Culprit| worst.actor.kernel_thread && worst.actor.comm.ends_with("_resync");
    stack::own_work(&verdict.stack).is_some()
        && (verdict.kind == Kind::Device || verdict.culprits.first().is_some_and(is_its))
}

fn of_owner(culprit: &Culprit) -> String {
    if culprit.actor.kernel_thread && culprit.op == Op::Discard {
        return "mount the filesystem without `discard` for ten minutes. If p99 stays high, discards \
                are not the cause"
            .to_owned();
    }
    if culprit.actor.kernel_thread {
        // It cannot be stopped, and works for somebody who can.
        return of_busiest();
    }
    let who = actor(culprit);
    format!("stop {who} for a minute. If p99 stays high, the cause is another")
}

fn of_busiest() -> String {
    "stop the busiest owners in `tracer top` for ten seconds each. If p99 stays high, the device is \
     slower"
        .to_owned()
}

fn actor(culprit: &Culprit) -> String {
    quote::actor(&culprit.actor)
}

#[cfg(test)]
mod tests {
    use super::super::{
        fixture,
        remedy::{remedies, tests::KINDS},
    };
    use super::*;
    use tracer_snapshot::Confidence;

    /// Each has an outcome, and no kernel thread is to be stopped.
    #[test]
    fn every_verdict_says_last_what_would_have_changed_it() {
        let s = fixture::trimmed();
        for kind in KINDS.into_iter().chain([Kind::None]) {
            for confidence in [Confidence::Low, Confidence::Medium, Confidence::High] {
                for kernel_thread in [false, true] {
                    let mut victim = s.victims[0].clone();
                    let verdict = &mut victim.verdict;
                    (verdict.kind, verdict.confidence) = (kind, confidence);
                    verdict.culprits[0].confidence = confidence;
                    verdict.culprits[0].actor.kernel_thread = kernel_thread;
                    let all = remedies(&victim, &s);
                    let says = |one: &String| one.starts_with("to settle it: ");
                    let number = all.iter().filter(|one| says(one)).count();
                    if matches!(kind, Kind::None | Kind::Unknown) {
                        assert_eq!(number, 0, "{kind:?}: {all:?}");
                        continue;
                    }
                    let last = all.last().unwrap();
                    assert!(number == 1 && says(last), "{kind:?}: {all:?}");
                    assert!(last.contains(". If "), "{kind:?}: {last}");
                    assert!(!last.contains("stop [fstrim]"), "{kind:?}: {last}");
                }
            }
        }
    }
}
