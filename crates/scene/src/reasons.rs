//! The sentences that say why a verdict is as sure as it is, and why a suspect is ruled out.

use tracer_ebpf::record::op;
use tracer_engine::{
    helper::Held,
    stop::How,
    sums::Half,
    suspect::Lift,
    verdict::{Cleared, Finding, Judgement},
    victim::Victim,
};
use tracer_snapshot::{Confidence, Kind, LimitedResource, Via};

/// The reason why a suspect is no culprit, in a sentence.
pub(crate) fn why_ruled_out(finding: &Finding) -> String {
    let lift = &finding.lift;
    let share = 100.0 * finding.share;
    match (finding.cleared, lift.ratios()) {
        (Some(Cleared::Lift), Some([p50, p99])) => format!(
            "syncs with it are x{p50:.2} at p50 and x{p99:.2} at p99 ({} with, {} without)",
            lift.with_n, lift.without_n
        ),
        (Some(Cleared::ReadsBack), _) => {
            "it reads back what was dropped from the caches (drop_caches)".to_owned()
        }
        (Some(Cleared::Steady), _) => {
            "it asks for no more than while these syncs were quick".to_owned()
        }
        _ if lift.with_n > 0 => {
            let syncs = if lift.with_n == 1 { "sync" } else { "syncs" };
            format!("{share:.1}% of the wait; {} {syncs} with it", lift.with_n)
        }
        _ => format!("{share:.1}% of the wait"),
    }
}

const NEVER_QUICK: &str =
    "these syncs were never seen to be quick, so the disk may be slow by itself";

/// The reason for the confidence, in a sentence.
pub(crate) fn why_confident(judgement: &Judgement, victim: &Victim, sum: &Half) -> String {
    let no_baseline = victim.baseline_ns().is_none();
    match judgement.kind {
        Kind::None => "its syncs are as long as undisturbed ones".to_owned(),
        Kind::Unknown if !victim.has_history() => {
            "there are no earlier syncs to compare with yet".to_owned()
        }
        Kind::Unknown => format!("{} syncs are too few to judge", sum.syncs),
        Kind::Owners | Kind::Memory | Kind::Cpu => match judgement.culprits.first() {
            None if judgement.kind == Kind::Memory => {
                "no other process was seen to reclaim that much memory".to_owned()
            }
            None if up_of(judgement, |held| held.cpu) > 0.0 => {
                "it could have run and did not; who did is not known".to_owned()
            }
            None => "nobody was seen to do it".to_owned(),
            Some(worst) => why_sure_of(worst, judgement),
        },
        Kind::Limit if judgement.is_halted() => why_sure_of_stop(judgement).to_owned(),
        Kind::Limit if judgement.limited < up_of(judgement, |held| held.limit) => {
            "its threads could have run, and their cgroup's quota did not let them".to_owned()
        }
        Kind::Limit => {
            format!("the limit was reached for {:.0}% of the time", 100.0 * judgement.limited)
        }
        Kind::Filesystem if judgement.is_standing => {
            "its syncs have used this much CPU time for as long as they were watched".to_owned()
        }
        Kind::Filesystem => "its threads were seen to run, and not to wait".to_owned(),
        Kind::Own if judgement.in_house => "it runs in the victim's own cgroup".to_owned(),
        Kind::Own if judgement.confidence == Confidence::Low => NEVER_QUICK.to_owned(),
        Kind::Own if no_baseline => "no undisturbed syncs to compare with yet".to_owned(),
        Kind::Own => "only its own process had other requests in flight".to_owned(),
        Kind::Device if judgement.is_beside_reference => format!(
            "requests that were alone on the disk took {:.1} times as long as in its reference",
            judgement.circumstances.times()
        ),
        Kind::Device if no_baseline => "no undisturbed syncs to compare with yet".to_owned(),
        Kind::Device if judgement.circumstances.is_slow(0.5) => format!(
            "the disk took {:.1} times as long as before for the same work, and nobody asked for more",
            judgement.circumstances.times()
        ),
        Kind::Device if f64::from(sum.in_flight) > 0.01 * sum.syncs as f64 => {
            "the others with requests in flight asked for no more than before".to_owned()
        }
        Kind::Device => "nobody else had requests in flight meanwhile".to_owned(),
        Kind::Unseen => "no disk of this kernel carries the file".to_owned(),
        Kind::Undecided => "a neighbour asks for more than before, and no request was alone on \
                            the disk that would show whether the device is slower too"
            .to_owned(),
        Kind::Unexplained => "no phase and no owner accounts for most of the wait".to_owned(),
    }
}

/// The part of the time for which a helper was held up, if that was the cause.
fn up_of(judgement: &Judgement, part: impl Fn(&Held) -> f64) -> f64 {
    let causes = judgement.helpers.iter().filter(|held| held.is_cause);
    causes.map(part).fold(0.0, f64::max)
}

/// The reason to believe in one who dirtied pages.
fn why_sure_of_writer(worst: &Finding, judgement: &Judgement) -> &'static str {
    match worst.confidence {
        Confidence::High => {
            "the kernel counted the pages that it dirtied, and the pauses of the victim's writes"
        }
        _ if worst.actor.kthread => "who is behind this kernel thread is not known",
        Confidence::Low => {
            "the device became slower, so who writes no more than before is paused, too"
        }
        Confidence::Medium if judgement.is_standing => "these syncs were never seen to be quick",
        Confidence::Medium if worst.share < 0.5 => {
            "the kernel counted the pages that it dirtied, but its share is small"
        }
        Confidence::Medium => {
            "the kernel counted the pages that it dirtied; whether the device itself became slower \
             is not known"
        }
    }
}

/// The reason to believe in a culprit, or what is missing.
fn why_sure_of_stop(judgement: &Judgement) -> &'static str {
    match &judgement.stopped {
        Some(stopped) if stopped.how == How::Memory && stopped.is_seen() => {
            "its threads were seen to sleep where the kernel lets those wait that reach this limit"
        }
        Some(stopped) if stopped.how == How::Memory => {
            "the kernel counts these waits for the whole cgroup, and how many of them keep a sync \
             waiting follows from the number of syncs alone"
        }
        _ => "its process was seen to be stopped, and nobody traces it",
    }
}

fn why_sure_of(worst: &Finding, judgement: &Judgement) -> String {
    if worst.via == Via::Freeze {
        return "the kernel froze the filesystem for it, and the victim's threads waited for the end \
                of that"
            .to_owned();
    }
    if worst.via == Via::Pause {
        return why_sure_of_writer(worst, judgement).to_owned();
    }
    if worst.via == Via::Trace {
        return "the kernel says that it traces the victim, whose threads were seen to be stopped"
            .to_owned();
    }
    if let Some(stopped_by) = &worst.stopped_by {
        let limit = match stopped_by.resource {
            LimitedResource::Cpu => "its limit on CPU time was seen to stop it",
            LimitedResource::Io => "it read as much as its limit allows",
            LimitedResource::Memory => "it was seen to reclaim memory at its limit",
        };
        return format!("commits were seen to wait for its handles, and {limit}");
    }
    let of_requests = matches!(worst.via, Via::Queue | Via::Device);
    let why = match (worst.lift.supports_blame(), worst.confidence) {
        (true, Confidence::High) => "its share and the syncs with and without it agree",
        (false, Confidence::High) => "it ran while the victim waited",
        _ if worst.charge == op::DROP_CACHES as usize => {
            "it dropped the caches, and that these reads follow from it is known by time alone"
        }
        _ if worst.charge == op::HANDLES as usize => {
            "commits were seen to wait for its handles, and not what it waits for itself"
        }
        _ if worst.actor.kthread => "who is behind this kernel thread is not known",
        (_, Confidence::Low) if judgement.is_standing && of_requests => NEVER_QUICK,
        _ if judgement.is_standing => "these syncs were never seen to be quick",
        _ if judgement.circumstances.is_slow(0.2) => {
            "the device became slower too, so syncs with and without it say little"
        }
        (true, _) if worst.share < 0.5 => "syncs with it are longer, but its share is small",
        (true, _) if of_requests => "whether the device itself became slower is not known",
        (false, _) if !worst.lift.is_enough() => {
            let Lift { with_n, without_n, .. } = worst.lift;
            return format!("too few syncs to compare: {with_n} with it, {without_n} without");
        }
        (true, _) => "syncs with it are longer",
        (false, _) => "syncs without it are not clearly shorter",
    };
    why.to_owned()
}
