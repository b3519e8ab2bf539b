//! Words for a victim whose process was stopped.

use super::{
    escape::escape,
    helper::quoted_setting,
    names,
    units::{bytes, duration, percent},
};
use tracer_snapshot::{Culprit, Kind, Op, Stop, StopHow, Verdict};

/// The actor that traces the victim, if that is what makes the victim slow.
pub fn tracing(verdict: &Verdict) -> Option<(&Culprit, &Stop)> {
    let is_blamed = matches!(verdict.kind, Kind::Owners | Kind::Own);
    let worst = verdict.culprits.first().filter(|worst| is_blamed && worst.op == Op::Trace)?;
    Some((worst, verdict.stop.as_ref()?))
}

/// The reason for which nothing of the victim ran, if nobody traces it and that is most of what a
/// limit is blamed for.
pub fn halted(verdict: &Verdict) -> Option<&Stop> {
    let most = 0.5 * verdict.shares.limit * verdict.excess_seconds;
    let stop = verdict.stop.as_ref().filter(|stop| stop.how != StopHow::Traced)?;
    (verdict.kind == Kind::Limit && stop.seconds >= most).then_some(stop)
}

/// Says who traces it, and for how long that stopped it.
pub fn traced(worst: &Culprit, stop: &Stop) -> String {
    let Stop { pid, share, .. } = stop;
    format!(
        "{}, pid {pid}, traces it (ptrace), and stopped it around its syncs for {}, {} of the time",
        names::actor(&worst.actor),
        duration(worst.wait_seconds),
        percent(*share),
    )
}

/// Says what stopped it, and for how long.
pub fn sentence(stop: &Stop) -> String {
    if stop.how == StopHow::Memory {
        return at_limit(stop);
    }
    let what = match stop.how {
        StopHow::Freezer => format!("its cgroup was frozen ({})", escape(&stop.setting)),
        _ => "a signal stopped it (SIGSTOP)".to_owned(),
    };
    let now = if stop.is_halted { ", and it does not now" } else { "" };
    let (seconds, share) = (duration(stop.seconds), percent(stop.share));
    format!("{what}, and it did not run for {seconds}, {share} of the time{now}")
}

/// Says which limit on memory it is at, and for how long that kept it waiting.
fn at_limit(stop: &Stop) -> String {
    let now = if stop.is_halted { ", and one does now" } else { "" };
    let (seconds, share) = (duration(stop.seconds), percent(stop.share));
    let waits = if stop.is_seen() {
        format!(
            "its threads waited for that outside their syncs for {seconds}, {share} of the time{now}"
        )
    } else {
        format!(
            "it had fewer syncs than usual while all of its cgroup waited for memory, for about \
             {seconds}, {share} of the time"
        )
    };
    format!(
        "the limit on its cgroup's memory is reached ({}: {}, with {} in use), and {waits}",
        escape(&stop.setting),
        bytes(stop.limit_bytes as f64),
        bytes(stop.used_bytes as f64),
    )
}

/// The few words for what stopped it.
pub fn phrase(stop: &Stop) -> &'static str {
    if stop.how == StopHow::Memory { "its memory limit" } else { "it is stopped" }
}

/// The advice to an `actor` who traces the process `tgid`.
pub fn detach(actor: &str, stop: &Stop, tgid: u32) -> String {
    format!(
        "let {actor} (pid {}) detach from pid {tgid}, or look at it without stopping it (`perf trace \
         -p {tgid}`, or a tool that uses eBPF); strace stops a process twice at each system call, \
         with `--seccomp-bpf` only at those that it shows",
        stop.pid
    )
}

/// The advice for what stopped the process `tgid`.
pub fn remedy(stop: &Stop, tgid: u32) -> String {
    match stop.how {
        StopHow::Freezer => format!(
            "find who freezes its cgroup (`docker pause`, `systemctl freeze`, a checkpoint), and let \
             that be shorter or leave it out; it runs again once {} is reset",
            quoted_setting(&stop.setting)
        ),
        StopHow::Memory => format!(
            "raise {}, or let what runs below that cgroup keep less in memory (a smaller cache or \
             database): the kernel holds up each thread that allocates more",
            quoted_setting(&stop.setting)
        ),
        StopHow::Signal | StopHow::Traced => format!(
            "find who stops it (a supervisor, a script, the job control of a shell, a checkpoint): \
             nothing of it runs until `kill -CONT {tgid}`"
        ),
    }
}

/// The experiment that would show another cause.
pub fn experiment(stop: &Stop, tgid: u32) -> String {
    match stop.how {
        StopHow::Freezer => "keep its cgroup thawed for ten minutes. If its syncs still pause for \
                             that long, the freezer is not the cause"
            .to_owned(),
        StopHow::Memory => format!(
            "raise {} for ten minutes. If its syncs still pause for that long, the limit is not the \
             cause",
            quoted_setting(&stop.setting)
        ),
        StopHow::Signal | StopHow::Traced => format!(
            "watch `grep State /proc/{tgid}/status` for ten minutes. If it never shows T while the \
             syncs pause, no signal is the cause"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{fixture, remedy, verdict};

    fn stop(how: StopHow, pid: u32) -> Stop {
        let (setting, limit_bytes) = match how {
            StopHow::Freezer => ("cgroup.freeze of /pod", 0),
            StopHow::Memory => ("memory.high of /pod", 64 << 20),
            _ => ("", 0),
        };
        Stop {
            how,
            pid,
            setting: setting.into(),
            limit_bytes,
            used_bytes: limit_bytes / 64 * 65,
            seconds: 4.0,
            share: 0.4,
            seen_seconds: 4.0,
            is_halted: false,
        }
    }

    #[test]
    fn who_traces_a_victim_is_named_with_its_process() {
        let mut s = fixture::trimmed();
        let victim = &mut s.victims[0];
        let worst = &mut victim.verdict.culprits[0];
        (worst.op, worst.wait_seconds) = (Op::Trace, 4.0);
        let who = names::actor(&worst.actor);
        victim.verdict.stop = Some(stop(StopHow::Traced, 4711));
        // It may be of the victim's own cgroup.
        for kind in [Kind::Owners, Kind::Own] {
            s.victims[0].verdict.kind = kind;
            assert_eq!(
                verdict::sentence(&s.victims[0]),
                format!(
                    "{who}, pid 4711, traces it (ptrace), and stopped it around its syncs for 4.00 \
                     s, 40% of the time"
                )
            );
            let all = remedy::remedies(&s.victims[0], &s);
            assert!(all[0].contains("(pid 4711) detach from pid"), "{all:?}");
            assert!(all.last().unwrap().contains("detach for a minute. If"), "{all:?}");
        }
    }

    #[test]
    fn a_victim_that_did_not_run_is_said_to_be_stopped() {
        let mut s = fixture::trimmed();
        let mut check = |how, is_halted, said: &str, advice: &str| {
            let verdict = &mut s.victims[0].verdict;
            (verdict.kind, verdict.shares.limit, verdict.excess_seconds) = (Kind::Limit, 0.9, 5.0);
            verdict.stop = Some(Stop { is_halted, ..stop(how, 0) });
            assert_eq!(verdict::sentence(&s.victims[0]), said);
            assert_eq!(verdict::phrase(&s.victims[0]), "it is stopped");
            let all = remedy::remedies(&s.victims[0], &s);
            assert!(all[0].contains(advice) && all.len() == 2, "{all:?}");
        };
        let signal =
            "a signal stopped it (SIGSTOP), and it did not run for 4.00 s, 40% of the time";
        check(StopHow::Signal, false, signal, "kill -CONT");
        check(StopHow::Signal, true, &format!("{signal}, and it does not now"), "kill -CONT");
        check(
            StopHow::Freezer,
            false,
            "its cgroup was frozen (cgroup.freeze of /pod), and it did not run for 4.00 s, 40% of \
             the time",
            "once cgroup.freeze of /pod is reset",
        );
        // It is named with its number, and what was not seen is not said.
        let limit = "the limit on its cgroup's memory is reached (memory.high of /pod: 67.1 MB, \
                     with 68.2 MB in use), and";
        let verdict = &mut s.victims[0].verdict;
        verdict.stop = Some(stop(StopHow::Memory, 0));
        assert_eq!(
            verdict::sentence(&s.victims[0]),
            format!(
                "{limit} its threads waited for that outside their syncs for 4.00 s, 40% of the time"
            )
        );
        assert_eq!(verdict::phrase(&s.victims[0]), "its memory limit");
        let all = remedy::remedies(&s.victims[0], &s);
        assert!(all[0].starts_with("raise memory.high of /pod, or let what runs"), "{all:?}");
        assert!(all.last().unwrap().contains("raise memory.high of /pod for ten"), "{all:?}");
        let waits = Stop { is_halted: true, ..stop(StopHow::Memory, 0) };
        s.victims[0].verdict.stop = Some(waits);
        assert!(verdict::sentence(&s.victims[0]).ends_with("of the time, and one does now"));
        let counted = Stop { seen_seconds: 1.0, ..stop(StopHow::Memory, 0) };
        s.victims[0].verdict.stop = Some(counted);
        assert_eq!(
            verdict::sentence(&s.victims[0]),
            format!(
                "{limit} it had fewer syncs than usual while all of its cgroup waited for memory, \
                 for about 4.00 s, 40% of the time"
            )
        );
        // The stop is a small part of what a limit is blamed for.
        let verdict = &mut s.victims[0].verdict;
        verdict.excess_seconds = 12.0;
        assert!(halted(verdict).is_none());
    }
}
