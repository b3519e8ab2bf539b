//! A timeline as lines, one for each event.

use std::io;

use super::{
    escape::{bounded, escape},
    names,
    units::{duration, percent, span},
    verdict::triggered,
};
use crate::{
    cli::moments::Zone,
    timeline::{Around, Event, Minute, Part, Subject, What},
};
use tracer_snapshot::Kind;

/// The longest line that one event has.
const COLUMNS: usize = 240;

/// A mark's text has this number of the columns, and this number of victims follows it.
const MARK_COLUMNS: usize = 100;
const MARK_VICTIMS: usize = 2;

/// The cause of most of the excess, in words.
pub fn cause(kind: Kind) -> &'static str {
    match kind {
        Kind::None => "nothing",
        Kind::Unknown => "too little is known to say",
        Kind::Owners => "others on its disk",
        Kind::Cpu => "it waits for a CPU",
        Kind::Memory => "it waits for memory",
        Kind::Limit => "a limit of its own",
        Kind::Filesystem => "the filesystem, on a CPU inside the sync",
        Kind::Own => "other work of its own process or cgroup",
        Kind::Device => "the device, or what is below it",
        Kind::Unseen => "its files are on no disk of this kernel",
        Kind::Unexplained => "nothing that the tracer sees",
        Kind::Undecided => "a neighbour or the device; it is not known which",
    }
}

/// The culprit or the cause of most of the excess of a victim that was slow. Names are escaped.
pub fn culprit(kind: Kind, limit: Option<&str>, culprits: &[Part]) -> String {
    match (culprits.first(), limit) {
        (Some(worst), _) => {
            let (who, op) = (names::actor(&worst.actor), worst.op.name());
            let whose = format!("{who} ({op}), with {} of the excess", percent(worst.share));
            // Nobody alone is to blame for what many did.
            match worst.share >= 0.5 {
                true => whose,
                false => format!("{}: most of all {whose}", cause(kind)),
            }
        }
        (None, Some(limit)) => format!("a limit of its own, {}", escape(limit)),
        (None, None) => cause(kind).to_owned(),
    }
}

/// Writes the line of an event.
pub fn write_event(out: &mut impl io::Write, event: &Event, zone: &Zone) -> io::Result<()> {
    let (word, text) = words(event, zone);
    writeln!(out, "{}  {word:<8} {text}", zone.local(event.at))
}

/// The first word of an event's line, and the rest, which is escaped and bounded.
pub fn words(event: &Event, zone: &Zone) -> (&'static str, String) {
    let (word, text) = line(event, zone);
    (word, bounded(&text, COLUMNS).into_owned())
}

fn line(event: &Event, zone: &Zone) -> (&'static str, String) {
    match &event.what {
        What::SlowBegan { victim, kind, confidence } => {
            let (who, cause) = (subject(victim), cause(*kind));
            ("slow", format!("{who}: {cause} [{} confidence]", confidence.name()))
        }
        What::SlowEnded {
            victim,
            seconds,
            worst_p99_seconds,
            excess_seconds,
            kind,
            culprits,
            limit,
            lasts,
            spans_gap,
            ..
        } => {
            let (word, after) = match lasts {
                true => ("lasts", "for"),
                false => ("over", "after"),
            };
            let mut text = format!(
                "{} {after} {}: p99 {} at worst, {} excess",
                subject(victim),
                span(*seconds),
                duration(*worst_p99_seconds),
                duration(*excess_seconds)
            );
            for (n, part) in culprits.iter().enumerate() {
                text += if n == 0 { "; " } else { ", " };
                text += &self::part(part);
            }
            if culprits.is_empty() {
                text += &format!("; {}", culprit(*kind, limit.as_deref(), culprits));
            }
            if *spans_gap {
                text += "; there is no data for a part of this time";
            }
            (word, text)
        }
        What::CulpritCame { victim, culprit } => {
            let (who, op) = (names::actor(&culprit.actor), culprit.op.name());
            let (victim, share) = (names::actor(&victim.actor), percent(culprit.share));
            let trigger =
                culprit.trigger.as_ref().map(|trigger| format!("; {}", triggered(trigger)));
            let trigger = trigger.unwrap_or_default();
            ("began", format!("{who} {op} makes {victim} wait: {share} of the excess{trigger}"))
        }
        What::CulpritWent { victim, culprit, seconds } => {
            let (who, op) = (names::actor(&culprit.actor), culprit.op.name());
            let (victim, after) = (names::actor(&victim.actor), span(*seconds));
            ("stopped", format!("{who} {op} no longer makes {victim} wait; it did for {after}"))
        }
        What::Hang { victim, call, seconds, ended } => {
            let (who, after) = (subject(victim), duration(*seconds));
            let end = if *ended { "ended after" } else { "had not ended after" };
            ("hang", format!("{call} of {who} {end} {after}"))
        }
        What::Mark { text, uid, seen, around } => {
            let word = if *seen { "seen" } else { "mark" };
            (word, marked(text, (!seen).then_some(*uid), around))
        }
        What::Restart { to, reason, .. } => {
            ("restart", format!("{reason}; nothing is known until {}", zone.local(*to)))
        }
        What::Gap { to, reason, .. } => ("no data", format!("until {}: {reason}", zone.local(*to))),
    }
}

pub fn subject(of: &Subject) -> String {
    let file = names::file(of.class, &of.path, &of.device);
    format!("{} {file}", names::actor(&of.actor))
}

/// The user who said something, in brackets; nothing if the tracer saw it.
pub fn said_by(uid: Option<u32>) -> String {
    uid.map_or_else(String::new, |uid| format!(" [uid {uid}]"))
}

/// A mark, who said it, and the syncs of a few victims before and after it.
fn marked(text: &str, uid: Option<u32>, around: &[Around]) -> String {
    let mut line = bounded(text, MARK_COLUMNS).into_owned() + &said_by(uid);
    for Around { victim, before, after } in around.iter().take(MARK_VICTIMS) {
        let who = names::actor(&victim.actor);
        let class = names::class_in_words(victim.class, "");
        let [before, after] = [before, after].map(|minute| self::minute(minute.as_ref()));
        line += &format!("; {who} {class}: the minute before {before}, after {after}");
    }
    line
}

/// The syncs of a minute.
pub fn minute(of: Option<&Minute>) -> String {
    let Some(Minute { syncs, p50_seconds, p99_seconds }) = of else {
        return "no sync".to_owned();
    };
    let (p50, p99) = (duration(*p50_seconds), duration(*p99_seconds));
    format!("{syncs} syncs, p50 {p50}, p99 {p99}")
}

fn part(of: &Part) -> String {
    format!("{} {} {}", names::actor(&of.actor), of.op.name(), percent(of.share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_snapshot::{Actor, Confidence, FileClass, Op};

    fn hostile() -> Actor {
        let comm = "a\u{1b}[2J\n\u{202e}b".to_owned();
        Actor { comm, cgroup: format!("/{}", "x\n".repeat(2000)), ..Actor::default() }
    }

    fn victim() -> Subject {
        let path = format!("/{}", "\u{1b}]0;x\u{7}".repeat(1000));
        let device = "\nsda".to_owned();
        Subject { actor: hostile(), class: FileClass::Wal, path, device }
    }

    #[test]
    fn whatever_a_recording_holds_an_event_is_one_bounded_line_of_plain_text() {
        let part = || Part { actor: hostile(), op: Op::Discard, share: f64::NAN, trigger: None };
        let events = [
            What::SlowBegan { victim: victim(), kind: Kind::Owners, confidence: Confidence::Low },
            What::SlowEnded {
                victim: victim(),
                kind: Kind::Owners,
                confidence: Confidence::High,
                began_at: f64::NAN,
                seconds: f64::INFINITY,
                worst_p99_seconds: -1.0,
                excess_seconds: f64::NAN,
                culprits: vec![part(), part(), part(), part()],
                limit: None,
                lasts: true,
                spans_gap: true,
            },
            What::SlowEnded {
                victim: victim(),
                kind: Kind::Limit,
                confidence: Confidence::High,
                began_at: 0.0,
                seconds: 1.0,
                worst_p99_seconds: 1.0,
                excess_seconds: 1.0,
                culprits: Vec::new(),
                limit: Some("\u{1b}[2J\n".repeat(1000)),
                lasts: false,
                spans_gap: false,
            },
            What::CulpritCame { victim: victim(), culprit: part() },
            What::CulpritWent { victim: victim(), culprit: part(), seconds: 1e300 },
            What::Hang { victim: victim(), call: "fsync".to_owned(), seconds: 1e300, ended: false },
            What::Mark {
                text: "\u{1b}[2J\n".repeat(100),
                uid: u32::MAX,
                seen: false,
                around: vec![Around { victim: victim(), before: None, after: None }; 5],
            },
            What::Restart { to: f64::NAN, why: "killed", reason: "a\nb".into() },
            What::Gap { to: 1e300, why: "damaged", reason: "\u{1b}[31m".repeat(500) },
        ];
        for what in events {
            let mut line = Vec::new();
            let zone = Zone::of_this_machine();
            write_event(&mut line, &Event { at: f64::INFINITY, what }, &zone).unwrap();
            let line = String::from_utf8(line).unwrap();
            let text = line.strip_suffix('\n').unwrap();
            assert!(text.chars().all(crate::output::escape::is_plain), "{text:?}");
            assert!(text.chars().count() <= COLUMNS + 40, "{}", text.len());
        }
    }
}
