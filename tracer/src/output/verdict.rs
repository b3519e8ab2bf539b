//! Whose fault it is, in a sentence and in a word.
//!
//! The engine has decided; this only says it, and says the same in the text
//! and on the screen. Sentences are escaped but not cut: they know no width.

use super::{
    names,
    units::{duration, percent, share},
};
use crate::snapshot::{Blame, Verdict, Victim};

/// One sentence, such as `fstrim (fstrim.service) discard makes it wait: 83%
/// of 12.1 s excess`.
pub fn sentence(victim: &Victim) -> String {
    let excess = duration(victim.excess_seconds);
    match victim.verdict {
        Verdict::None => "nobody: nothing slower than its own baseline".to_owned(),
        Verdict::Unknown => "nobody can be named yet: too few syncs to say".to_owned(),
        Verdict::Owners => match victim.blame.first() {
            Some(worst) => {
                let share = percent(worst.share);
                format!("{} makes it wait: {share} of {excess} excess", culprit(worst))
            }
            None => format!("others on its disk, none of them by name: {excess} excess"),
        },
        Verdict::Cpu => {
            let share = percent(share(victim.phases.runqueue, victim.phases.total()));
            format!("it waits for a CPU: runnable but not running for {share} of its sync time")
        }
        Verdict::Own => {
            let share = percent(share(victim.self_seconds, victim.excess_seconds));
            format!("its own other requests make it wait: {share} of {excess} excess")
        }
        Verdict::Device => {
            let share = percent(share(victim.device_alone_seconds, victim.excess_seconds));
            format!("nobody on this node: the device itself, alone for {share} of {excess} excess")
        }
        Verdict::Unseen => {
            format!("no disk of this node carries it (FUSE, a server): {excess} excess unexplained")
        }
    }
}

/// As much as fits a column of a table: `fstrim (fstrim.service) discard 83%`.
pub fn phrase(victim: &Victim) -> String {
    match (victim.verdict, victim.blame.first()) {
        (Verdict::Owners, Some(worst)) => {
            // The share comes first, as a long name may be cut.
            format!("{} {}", percent(worst.share), culprit(worst))
        }
        (Verdict::Device, _) => "device alone".to_owned(),
        (Verdict::Unseen, _) => "no disk here".to_owned(),
        _ => word(victim),
    }
}

/// As much as fits six columns: the worst culprit's share, or who else it is.
pub fn word(victim: &Victim) -> String {
    match (victim.verdict, victim.blame.first()) {
        (Verdict::Owners, Some(worst)) => percent(worst.share),
        (Verdict::Owners, None) => "others".to_owned(),
        (Verdict::Device, _) => "device".to_owned(),
        (Verdict::Unseen, _) => "unseen".to_owned(),
        (Verdict::Own, _) => "itself".to_owned(),
        (Verdict::Cpu, _) => "cpu".to_owned(),
        (Verdict::None, _) => "-".to_owned(),
        (Verdict::Unknown, _) => "?".to_owned(),
    }
}

/// Where the excess went: `12.1 s excess: others 83%, itself 10%, device alone
/// 7%`; nothing when there is no excess.
pub fn split(victim: &Victim) -> Option<String> {
    let excess = victim.excess_seconds;
    if excess.is_nan() || excess <= 0.0 {
        return None;
    }
    let others: f64 = victim.blame.iter().map(|blame| blame.seconds).sum();
    let [others, own, alone] = [others, victim.self_seconds, victim.device_alone_seconds]
        .map(|seconds| percent(share(seconds, excess)));
    let excess = duration(excess);
    Some(format!("{excess} excess: others {others}, itself {own}, device alone {alone}"))
}

/// A culprit and its operation: `fstrim (fstrim.service) discard`.
pub fn culprit(blame: &Blame) -> String {
    format!("{} {}", names::who(&blame.who), blame.op.name())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[track_caller]
    fn check(verdict: Verdict, said: &str, phrased: &str, in_a_word: &str) {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.verdict = verdict;
        assert_eq!(sentence(&victim), said);
        assert_eq!(phrase(&victim), phrased);
        assert_eq!(word(&victim), in_a_word);
        assert!(in_a_word.len() <= 6);
    }

    #[test]
    fn each_verdict_has_its_words() {
        check(
            Verdict::Owners,
            "fstrim (demo-trim.service) discard makes it wait: 83% of 12.1 s excess",
            "83% fstrim (demo-trim.service) discard",
            "83%",
        );
        check(
            Verdict::Unseen,
            "no disk of this node carries it (FUSE, a server): 12.1 s excess unexplained",
            "no disk here",
            "unseen",
        );
        check(
            Verdict::Device,
            "nobody on this node: the device itself, alone for 5% of 12.1 s excess",
            "device alone",
            "device",
        );
        check(
            Verdict::Own,
            "its own other requests make it wait: 5% of 12.1 s excess",
            "itself",
            "itself",
        );
        check(
            Verdict::Cpu,
            "it waits for a CPU: runnable but not running for 1% of its sync time",
            "cpu",
            "cpu",
        );
        check(Verdict::None, "nobody: nothing slower than its own baseline", "-", "-");
        check(Verdict::Unknown, "nobody can be named yet: too few syncs to say", "?", "?");
    }

    #[test]
    fn owners_without_a_name_are_not_made_up() {
        let mut victim = fixture::trimmed().victims.remove(0);
        victim.blame.clear();
        assert_eq!(sentence(&victim), "others on its disk, none of them by name: 12.1 s excess");
        assert_eq!(phrase(&victim), "others");
    }

    #[test]
    fn no_excess_is_not_split() {
        let mut victim = fixture::trimmed().victims.remove(0);
        assert_eq!(
            split(&victim).unwrap(),
            "12.1 s excess: others 90%, itself 5%, device alone 5%"
        );
        victim.excess_seconds = f64::NAN;
        assert_eq!(split(&victim), None);
    }
}
