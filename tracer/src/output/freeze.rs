//! Words for a filesystem that somebody froze.

use std::io;

use super::{
    escape::bounded,
    names,
    units::{duration, percent, utc},
};
use tracer_snapshot::{Culprit, Frozen, Kind, Op, Snapshot, Verdict};

/// At most this number of lines is shown before the victims.
const SHOWN: usize = 4;

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

/// As [`sentence`], where nobody was seen to freeze it.
pub fn by_unknown(verdict: &Verdict) -> String {
    let is = if verdict.is_frozen { "is" } else { "was" };
    format!(
        "its filesystem {is} frozen, by whom is not known, and it could not write for {}, {} of the \
         time",
        duration(verdict.outside_seconds),
        percent(verdict.frozen_share),
    )
}

/// Says who waits to write, and who froze the filesystem.
pub fn waiting(one: &Frozen) -> String {
    let (who, device) = (names::actor(&one.actor), bounded(&one.device, 32));
    let waited = duration(one.seconds);
    match &one.by {
        Some(by) => {
            let by = names::actor(by);
            format!("{who} cannot write to {device}: {by} froze that filesystem {waited} ago")
        }
        None => format!(
            "{who} cannot write to {device}: that filesystem has been frozen for {waited}, by whom \
             is not known"
        ),
    }
}

/// A line for each that waits, the longest wait first; of more than a few, how many more.
pub fn lines(s: &Snapshot) -> Vec<String> {
    let shown = s.frozen.iter().take(SHOWN);
    let mut lines: Vec<_> = shown.map(|one| format!("FROZEN: {}", waiting(one))).collect();
    let more = s.frozen.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("FROZEN: {more} more processes wait to write to a frozen filesystem"));
    }
    lines
}

/// One of them in a line of `tracer watch`.
pub fn write_one(out: &mut impl io::Write, one: &Frozen) -> io::Result<()> {
    writeln!(out, "{}  FROZEN: {}", utc(one.at), waiting(one))
}

/// Writes [`lines`].
pub fn write(out: &mut impl io::Write, s: &Snapshot) -> io::Result<()> {
    lines(s).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// The advice where nobody was seen to freeze it.
pub const FIND_OUT: &str = "find out who keeps the filesystem frozen (a backup, an agent of the \
                            hypervisor, a snapshot of its volume that was interrupted); `fsfreeze \
                            --unfreeze` thaws it";

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

    #[test]
    fn where_nobody_was_seen_to_freeze_it_nobody_is_named() {
        let mut s = fixture::trimmed();
        let now = &mut s.victims[0].verdict;
        now.culprits.clear();
        (now.frozen_share, now.outside_seconds) = (0.4, 8.0);
        (now.is_frozen, now.is_frozen_by_unknown) = (true, true);
        let said = "its filesystem is frozen, by whom is not known, and it could not write for \
                    8.00 s, 40% of the time";
        assert_eq!(verdict::sentence(&s.victims[0]), said);
        assert_eq!(verdict::phrase(&s.victims[0]), "frozen");
        assert_eq!(verdict::word(&s.victims[0]), "frozen");
        let all = remedy::remedies(&s.victims[0], &s);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0], FIND_OUT);
        assert!(all[1].contains("freeze nothing on this filesystem"), "{all:?}");
    }

    #[test]
    fn whoever_cannot_write_now_has_a_line() {
        let mut s = fixture::empty();
        assert!(lines(&s).is_empty());
        s.frozen = vec![fixture::frozen(), Frozen { by: None, ..fixture::frozen() }];
        let first = "FROZEN: etcd (etcd.service) cannot write to vda1: fsfreeze (backup.service) froze \
                     that filesystem 47.0 s ago";
        let second = "FROZEN: etcd (etcd.service) cannot write to vda1: that filesystem has been \
                      frozen for 47.0 s, by whom is not known";
        assert_eq!(lines(&s), [first, second]);
        s.frozen = vec![fixture::frozen(); 6];
        let last = lines(&s).pop().unwrap();
        assert_eq!(last, "FROZEN: 2 more processes wait to write to a frozen filesystem");
    }
}
