//! Words for a journal whose commits wait for somebody's open handles.

use super::{escape::escape, helper::quoted_setting, names};
use tracer_snapshot::{Culprit, Kind, LimitedResource, Op, StoppedBy, Verdict};

/// The actor that holds up the journal's commits, if that is what makes the victim slow.
pub fn holder(verdict: &Verdict) -> Option<&Culprit> {
    let is_blamed = matches!(verdict.kind, Kind::Owners | Kind::Own);
    verdict.culprits.first().filter(|worst| is_blamed && worst.op == Op::Handles)
}

/// Says who holds up the journal, and which limit stops it meanwhile.
pub fn sentence(worst: &Culprit) -> String {
    let who = names::actor(&worst.actor);
    match &worst.stopped_by {
        Some(by) => format!(
            "{who} holds up its filesystem's journal, with a handle open while its own {} stops it",
            limit(by, &escape(&by.setting))
        ),
        None => format!("{who} holds up its filesystem's journal with handles that stay open"),
    }
}

/// The advice about an `actor` that holds up the journal.
pub fn remedy(actor: &str, stopped_by: Option<&StoppedBy>) -> String {
    match stopped_by {
        Some(by) => format!(
            "raise the {} of {actor}, or put it and the victim on filesystems of their own: while it \
             is stopped with a handle open, nobody can sync there",
            limit(by, &quoted_setting(&by.setting))
        ),
        None => format!(
            "put {actor} and the victim on filesystems of their own: nobody can sync until it has \
             ended what it began there"
        ),
    }
}

/// The experiment that would show that an `actor` whom a limit stops is not the cause.
pub fn experiment(actor: &str) -> String {
    format!(
        "lift the limit of {actor} for a minute. If p99 stays high, its handles are not the cause"
    )
}

fn limit(by: &StoppedBy, setting: &str) -> String {
    match by.resource {
        LimitedResource::Cpu => format!("CPU limit ({setting})"),
        LimitedResource::Io => format!("IO limit ({setting})"),
        LimitedResource::Memory => "memory limit (memory.max, memory.high)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{experiment, fixture, remedy, verdict};

    #[test]
    fn the_verdict_names_who_holds_up_the_journal_and_its_limit() {
        let mut s = fixture::trimmed();
        let worst = &mut s.victims[0].verdict.culprits[0];
        worst.op = Op::Handles;
        let who = names::actor(&worst.actor);
        let said = |s: &tracer_snapshot::Snapshot| {
            let all = remedy::remedies(&s.victims[0], s);
            let experiment = experiment::experiment(&s.victims[0]).unwrap();
            (verdict::sentence(&s.victims[0]), all[0].clone(), experiment)
        };
        let (sentence, ..) = said(&s);
        let begin =
            format!("{who} holds up its filesystem's journal with handles that stay open: ");
        assert!(sentence.starts_with(&begin), "{sentence}");
        for (resource, setting, limit) in [
            (LimitedResource::Io, "io.max 7:0 riops=2", "IO limit (io.max 7:0 riops=2)"),
            (LimitedResource::Cpu, "cpu.max 1000 100000", "CPU limit (cpu.max 1000 100000)"),
            (LimitedResource::Memory, "", "memory limit (memory.max, memory.high)"),
        ] {
            let stopped_by = StoppedBy { resource, setting: setting.to_owned() };
            s.victims[0].verdict.culprits[0].stopped_by = Some(stopped_by);
            let (sentence, remedy, experiment) = said(&s);
            let begin = format!(
                "{who} holds up its filesystem's journal, with a handle open while its own {limit} \
                 stops it: "
            );
            assert!(sentence.starts_with(&begin), "{sentence}");
            assert!(remedy.starts_with(&format!("raise the {limit} of ")), "{remedy}");
            assert!(experiment.contains("lift the limit of "), "{experiment}");
        }
    }
}
