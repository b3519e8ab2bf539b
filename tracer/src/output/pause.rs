//! Words for writes that the kernel pauses because too many pages are dirty.

use super::{
    names,
    units::{duration, percent},
};
use tracer_snapshot::{Culprit, Kind, Op, Verdict};

/// The actor that dirtied the pages, if that is what makes the victim slow.
pub fn dirtier(verdict: &Verdict) -> Option<&Culprit> {
    let is_blamed = matches!(verdict.kind, Kind::Owners | Kind::Own);
    verdict.culprits.first().filter(|worst| is_blamed && worst.op == Op::Dirty)
}

/// Whether the victim dirtied them itself, and that is what makes it slow.
pub fn is_by_itself(verdict: &Verdict) -> bool {
    let own_seconds = verdict.shares.own * verdict.excess_seconds;
    verdict.kind == Kind::Own
        && dirtier(verdict).is_none()
        && verdict.paused_by_itself_seconds > own_seconds / 2.0
}

/// Says who dirtied the pages, and for how long the victim's writes were paused.
pub fn sentence(verdict: &Verdict, worst: &Culprit) -> String {
    format!(
        "{} filled the limit on dirty pages, and its writes were paused for {} because of that; \
         they were for {} of the time",
        names::actor(&worst.actor),
        duration(worst.wait_seconds),
        percent(verdict.paused_share),
    )
}

/// Says that the victim did so itself.
pub fn own_sentence(verdict: &Verdict) -> String {
    format!(
        "it fills the limit on dirty pages itself, and its writes were paused for {} because of \
         that; they were for {} of the time",
        duration(verdict.paused_by_itself_seconds),
        percent(verdict.paused_share),
    )
}

/// The advice to an `actor` who dirtied them.
pub fn remedy(actor: &str) -> String {
    format!(
        "let {actor} leave less unwritten (fsync after each file, or O_DIRECT), or limit its writes \
         by io.max (wbps=) or its memory by memory.high, on cgroup v2 with both controllers; or give \
         its files a disk of their own: on this one its data wait for the disk, and the kernel pauses \
         everybody who writes there"
    )
}

/// The advice where the victim did so itself.
pub fn own_remedy() -> String {
    "let it write less at once, or sync more often; or raise the limit (vm.dirty_bytes, max_bytes or \
     max_ratio in /sys/class/bdi, the memory limit of its cgroup), if the disk keeps up with it on \
     average"
        .to_owned()
}

/// The experiment that would show that an `actor` is not the cause.
pub fn experiment(actor: &str) -> String {
    format!(
        "stop {actor} for a minute. If writes are paused as long as before (`paused_share` in \
         `--json`), it is not the cause"
    )
}

/// The experiment that would show that the victim is not the cause.
pub fn own_experiment() -> String {
    "let it write half as much for a minute. If its writes are paused as long as before \
     (`paused_share` in `--json`), the disk is slower"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{experiment, fixture, quote, remedy, verdict};

    #[test]
    fn the_verdict_names_who_dirtied_the_pages_and_how_long_writes_were_paused() {
        let mut s = fixture::trimmed();
        let victim = &mut s.victims[0];
        let worst = &mut victim.verdict.culprits[0];
        (worst.op, worst.wait_seconds) = (Op::Dirty, 4.1);
        let (who, quoted) = (names::actor(&worst.actor), quote::actor(&worst.actor));
        victim.verdict.paused_share = 0.44;
        let said = format!(
            "{who} filled the limit on dirty pages, and its writes were paused for 4.10 s because of \
             that; they were for 44% of the time"
        );
        // It may be of the victim's own cgroup.
        for kind in [Kind::Owners, Kind::Own] {
            s.victims[0].verdict.kind = kind;
            assert_eq!(verdict::sentence(&s.victims[0]), said);
            let all = remedy::remedies(&s.victims[0], &s);
            assert!(all[0].starts_with(&format!("let {quoted} leave less unwritten")), "{all:?}");
            let shown = experiment::experiment(&s.victims[0]).unwrap();
            assert!(shown.contains("If writes are paused as long as before"), "{shown}");
        }
    }

    #[test]
    fn a_victim_that_fills_the_limit_itself_is_said_to() {
        let mut s = fixture::trimmed();
        let verdict = &mut s.victims[0].verdict;
        (verdict.kind, verdict.shares.own, verdict.excess_seconds) = (Kind::Own, 0.9, 5.0);
        (verdict.paused_share, verdict.paused_by_itself_seconds) = (0.6, 4.0);
        verdict.culprits.clear();
        assert_eq!(
            verdict::sentence(&s.victims[0]),
            "it fills the limit on dirty pages itself, and its writes were paused for 4.00 s because \
             of that; they were for 60% of the time"
        );
        let all = remedy::remedies(&s.victims[0], &s);
        assert!(all[0].contains("raise the limit (vm.dirty_bytes"), "{all:?}");
        let shown = experiment::experiment(&s.victims[0]).unwrap();
        assert!(shown.starts_with("to settle it: let it write half as much"), "{shown}");
        // Most of what it does itself is something else.
        s.victims[0].verdict.paused_by_itself_seconds = 2.0;
        let said = verdict::sentence(&s.victims[0]);
        assert!(!said.contains("dirty pages"), "{said}");
    }
}
