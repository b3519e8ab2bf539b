//! Words for a filesystem that somebody froze.

use super::{
    names,
    units::{duration, percent},
};
use tracer_snapshot::{Culprit, Kind, Op, Verdict};

/// The actor that froze the victim's filesystem, if that is what makes the victim slow.
pub fn freezer(verdict: &Verdict) -> Option<&Culprit> {
    let is_blamed = matches!(verdict.kind, Kind::Owners | Kind::Own);
    verdict.culprits.first().filter(|worst| is_blamed && worst.op == Op::Freeze)
}

/// Says who froze it, and for how long the victim could not write.
pub fn sentence(verdict: &Verdict, worst: &Culprit) -> String {
    let now = if verdict.is_frozen { ", and it cannot now" } else { "" };
    format!(
        "{} froze its filesystem, and it could not write for {}, {} of the time{now}",
        names::actor(&worst.actor),
        duration(worst.wait_seconds),
        percent(verdict.frozen_share),
    )
}

/// The advice to an `actor` who froze it.
pub fn remedy(actor: &str) -> String {
    format!(
        "let {actor} freeze the filesystem for less time (shorten what runs between freeze and thaw, \
         such as the hooks of a backup), or leave this filesystem out; nobody can write to it \
         meanwhile, and `fsfreeze --unfreeze` thaws one that was left frozen"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{fixture, remedy, verdict};

    #[test]
    fn the_verdict_names_who_froze_and_how_long_nobody_could_write() {
        let mut s = fixture::trimmed();
        let victim = &mut s.victims[0];
        let worst = &mut victim.verdict.culprits[0];
        (worst.op, worst.wait_seconds) = (Op::Freeze, 8.0);
        let who = names::actor(&worst.actor);
        (victim.verdict.frozen_share, victim.verdict.is_frozen) = (0.4, true);
        let said = |now| {
            format!(
                "{who} froze its filesystem, and it could not write for 8.00 s, 40% of the time{now}"
            )
        };
        assert_eq!(verdict::sentence(&s.victims[0]), said(", and it cannot now"));
        s.victims[0].verdict.is_frozen = false;
        // It may be of the victim's own cgroup.
        for kind in [Kind::Owners, Kind::Own] {
            s.victims[0].verdict.kind = kind;
            assert_eq!(verdict::sentence(&s.victims[0]), said(""));
            let all = remedy::remedies(&s.victims[0], &s);
            assert!(all[0].contains("freeze the filesystem for less time"), "{all:?}");
        }
    }
}
