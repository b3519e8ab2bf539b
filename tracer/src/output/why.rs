//! The verdict on one victim with all its evidence: `tracer why`.
//!
//! As text for an operator who has ten seconds, and as JSON with the fields
//! that scripts want by name. Both say the same.

mod json;

use std::io;

use unicode_width::UnicodeWidthStr as _;

pub use self::json::{Hangs, Why, hangs, why};
use super::{
    escape::bounded,
    freeze, hanging, names, phases, remedy, stack,
    text::{dropped_list, unproven, unsupported},
    units::{duration, percent, reference, utc},
    verdict::{culprit, named, own_work, sentence, triggered},
};
use crate::filter;
use tracer_snapshot::{Change, Evidence, Frozen, Hanging, Kind, Op, Snapshot, Via, Victim};

/// No line is wider.
const COLUMNS: usize = 100;

/// Longer lists are cut.
const CULPRITS: usize = 4;
const RULED_OUT: usize = 4;

/// A part with a smaller share is not mentioned.
const WORTH_SAYING: f64 = 0.01;

/// Writes them as text; an empty line ends it.
pub fn write_hangs(out: &mut impl io::Write, hanging: &[&Hanging]) -> io::Result<()> {
    for one in hanging {
        line(out, "hangs", &hanging::sentence(one))?;
    }
    writeln!(out)
}

fn hanging_of<'a>(victim: &Victim, s: &'a Snapshot) -> Vec<&'a Hanging> {
    let is_its = |one: &&Hanging| {
        names::is_same(&one.actor, &victim.actor)
            && (one.class, &one.device) == (victim.class, &victim.device)
    };
    s.hanging.iter().filter(is_its).collect()
}

fn frozen_of<'a>(victim: &'a Victim, s: &'a Snapshot) -> impl Iterator<Item = &'a Frozen> {
    s.frozen
        .iter()
        .filter(|one| names::is_same(&one.actor, &victim.actor) && one.device == victim.device)
}

fn kept_at(victim: &Victim, s: &Snapshot) -> Option<f64> {
    s.disks.get(victim.disk?)?.reference_at
}

/// Writes the verdict as text; an empty line ends it.
pub fn write_why(out: &mut impl io::Write, victim: &Victim, s: &Snapshot) -> io::Result<()> {
    let verdict = &victim.verdict;
    if let Some(unproven) = unproven(s) {
        writeln!(out, "{}", bounded(&unproven, COLUMNS))?;
    }
    if let Some(left_out) = filter::line(s) {
        writeln!(out, "{}", bounded(&left_out, COLUMNS))?;
    }
    writeln!(out, "{}", names::victim(victim, COLUMNS))?;
    for one in hanging_of(victim, s) {
        line(out, "hangs", &hanging::sentence(one))?;
    }
    for one in frozen_of(victim, s) {
        line(out, "frozen", &freeze::waiting(one))?;
    }
    let disk = victim.disk.and_then(|disk| s.disks.get(disk));
    if let Some(disk) = disk.filter(|disk| disk.known_as.is_some()) {
        line(out, "disk", &names::disk(disk, 80))?;
    }
    let sure = match verdict.kind {
        Kind::None | Kind::Unknown => String::new(),
        _ => format!("  [{} confidence]", verdict.confidence.name()),
    };
    line(out, "verdict", &format!("{}{sure}", sentence(victim)))?;
    line(out, "", &format!("because {}", verdict.confidence_reason))?;
    if let Some(reference) = reference(kept_at(victim, s)) {
        line(out, "", &reference)?;
    }

    let from = utc(s.at - s.window_seconds);
    let baseline = match victim.undisturbed_p99_seconds {
        Some(p99) => format!("; p99 undisturbed {}", duration(p99)),
        None => "; no undisturbed syncs yet".to_owned(),
    };
    line(
        out,
        "syncs",
        &format!(
            "{} since {from}: p50 {}, p99 {}, max {}{baseline}",
            victim.syncs,
            duration(victim.p50_seconds),
            duration(victim.p99_seconds),
            duration(victim.max_seconds),
        ),
    )?;
    line(out, "time", &phases::major(&victim.phases))?;
    if verdict.excess_seconds > 0.0 {
        let named = named(&verdict.shares);
        let parts = named.iter().filter(|(_, share)| *share >= WORTH_SAYING);
        let parts: Vec<_> =
            parts.map(|(name, share)| format!("{name} {}", percent(*share))).collect();
        let excess = duration(verdict.excess_seconds);
        line(out, "excess", &format!("{excess}: {}", parts.join(", ")))?;
    }
    write_culprits(out, victim)?;
    write_circumstances(out, victim)?;
    for (at, one) in verdict.ruled_out.iter().take(RULED_OUT).enumerate() {
        let label = if at == 0 { "ruled out" } else { "" };
        let actor = format!("{} {}", names::actor(&one.actor), one.op.name());
        line(out, label, &format!("{actor}: {}", one.reason))?;
    }
    for (at, remedy) in remedy::remedies(victim, s).iter().enumerate() {
        let label = if at == 0 { "to do" } else { "" };
        line(out, label, remedy)?;
    }
    line(out, "dropped", &dropped_list(&s.dropped))?;
    if let Some(unsupported) = unsupported(s) {
        line(out, "", &unsupported)?;
    }
    writeln!(out)
}

fn write_culprits(out: &mut impl io::Write, victim: &Victim) -> io::Result<()> {
    for (at, one) in victim.verdict.culprits.iter().take(CULPRITS).enumerate() {
        let label = if at == 0 { "culprit" } else { "" };
        let head = format!(
            "{}: {} ({} of waiting {})",
            culprit(one),
            percent(one.share),
            duration(one.wait_seconds),
            if one.op == Op::DropCaches { "for what was dropped" } else { place(one.via) },
        );
        line(out, label, &head)?;
        if let Some(compared) = compared(&one.evidence) {
            line(out, "", &format!("  {compared}"))?;
        }
        if let Some(trigger) = &one.trigger {
            line(out, "", &format!("  {}", triggered(trigger)))?;
        }
        if let Some(change) = one.evidence.change {
            line(out, "", &format!("  {}", changed(change)))?;
        }
    }
    Ok(())
}

/// Writes the causes that are no actor: the device's history, limits, the hypervisor, memory.
fn write_circumstances(out: &mut impl io::Write, victim: &Victim) -> io::Result<()> {
    let verdict = &victim.verdict;
    if verdict.kind == Kind::Device {
        let usual =
            verdict.device.undisturbed_wait_seconds.map_or("not known".to_owned(), duration);
        let now = duration(verdict.device.wait_seconds);
        if let Some(times) = verdict.device.reference_times {
            line(
                out,
                "device",
                &format!("requests that are alone on it take {times:.1} times their usual time"),
            )?;
        }
        let depth = verdict.device.competing_in_flight;
        line(
            out,
            if verdict.device.reference_times.is_some() { "" } else { "device" },
            &format!("mean wait {now}, undisturbed {usual}; {depth:.2} other requests in flight"),
        )?;
    }
    if verdict.kind == Kind::Own
        && let Some(work) = own_work(verdict)
    {
        line(out, "own work", &work)?;
    }
    if let Some(limit) = &verdict.limit {
        let share = percent(verdict.limit_share);
        line(out, "limit", &format!("{limit}, reached for {share} of the time"))?;
    }
    for (at, fact) in verdict.stack.iter().enumerate() {
        line(out, if at == 0 { "stack" } else { "" }, &stack::sentence(fact))?;
    }
    if verdict.steal_share >= WORTH_SAYING {
        let share = percent(verdict.steal_share);
        line(out, "steal", &format!("the hypervisor gave {share} of all CPU time to others"))?;
    }
    if verdict.memory_shrank_bytes > 0 {
        let mib = verdict.memory_shrank_bytes >> 20;
        line(out, "memory", &format!("the machine's memory shrank by {mib} MiB"))?;
    }
    Ok(())
}

/// `with it p50 41 ms p99 50 ms (210 syncs), without 1.1 ms and 1.9 ms (640): x37, x26`.
fn compared(evidence: &Evidence) -> Option<String> {
    let (p50, p99) = (evidence.lift_p50?, evidence.lift_p99?);
    Some(format!(
        "with it p50 {}, p99 {} ({} syncs); without {}, {} ({}): {}, {}",
        duration(evidence.with_p50_seconds),
        duration(evidence.with_p99_seconds),
        evidence.with_n,
        duration(evidence.without_p50_seconds),
        duration(evidence.without_p99_seconds),
        evidence.without_n,
        times(p50),
        times(p99),
    ))
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("x{ratio:.1}") } else { format!("x{ratio:.0}") }
}

fn changed(change: Change) -> String {
    let what = if change.started { "started" } else { "stopped" };
    let (before, after) = (duration(change.before_seconds), duration(change.after_seconds));
    format!(
        "it {what} {} s before the end: mean sync {before} before, {after} after",
        change.seconds_ago
    )
}

fn place(via: Via) -> &'static str {
    match via {
        Via::Queue => "in the queue",
        Via::Device => "at the device",
        Via::Journal => "for the journal",
        Via::Runqueue => "for a CPU",
        Via::Memory => "for memory",
        Via::Freeze => "to write",
        Via::Pause => "in paused writes",
        Via::Trace => "in stops",
        Via::Handles => "for open handles of the journal",
    }
}

const LABEL: usize = 9;

/// Writes it on as many lines as it needs, because evidence and remedies must not be cut.
fn line(out: &mut impl io::Write, label: &str, text: &str) -> io::Result<()> {
    let room = COLUMNS - LABEL - 4;
    let indent = &text[..text.len() - text.trim_start().len()];
    let (mut row, mut label) = (String::new(), label);
    let mut write = |label: &str, row: &str| {
        writeln!(out, "  {label:LABEL$}  {}", bounded(&format!("{indent}{row}"), room))
    };
    for word in text.split_ascii_whitespace() {
        let used = indent.len() + row.width();
        if !row.is_empty() && used + 1 + word.width() > room {
            write(label, &row)?;
            (row, label) = (String::new(), "");
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    write(label, &row)
}

#[cfg(test)]
mod tests {
    use super::super::{escape, fixture, json};
    use super::*;
    use tracer_snapshot::Trigger;

    fn text(victim: usize, s: &Snapshot) -> String {
        let mut out = Vec::new();
        write_why(&mut out, &s.victims[victim], s).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_culprit_is_shown_with_its_evidence_and_what_to_do() {
        insta::assert_snapshot!(text(0, &fixture::trimmed()));
    }

    #[test]
    fn a_slow_device_is_shown_with_its_history() {
        insta::assert_snapshot!(text(2, &fixture::trimmed()));
    }

    #[test]
    fn who_had_a_culprits_data_written_is_a_line_beside_it() {
        let mut s = fixture::trimmed();
        let json = |s: &Snapshot| serde_json::to_value(why(&s.victims[0], s)).unwrap();
        assert_eq!(json(&s)["culprits"][0].get("trigger"), None);
        s.victims[0].verdict.culprits[0].trigger = Some(fixture::syncer());
        let says = text(0, &s).split_whitespace().collect::<Vec<_>>().join(" ");
        let line =
            "sync (backup.service) had it written at 20:12:42 UTC: it called sync for 2.10 s";
        assert!(says.contains(line), "{says}");
        assert!(says.contains("; sync (backup.service) had it written by sync"), "{says}");
        let trigger = &json(&s)["culprits"][0]["trigger"];
        assert_eq!((&trigger["comm"], &trigger["call"]), (&"sync".into(), &"sync".into()));
        assert_eq!(trigger["sentence"], line);
        assert_eq!(trigger["at"], 1_795_896_762.25);
        for (call, did, by) in [
            ("umount", "it called umount for", "umount"),
            ("freeze", "it froze the filesystem, which took", "a freeze of the filesystem"),
            (
                "filesystem_sync",
                "it synced the whole filesystem for",
                "a sync of the whole filesystem",
            ),
        ] {
            s.victims[0].verdict.culprits[0].trigger = Some(Trigger { call, ..fixture::syncer() });
            let says = text(0, &s).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(says.contains(&format!("at 20:12:42 UTC: {did} 2.10 s")), "{says}");
            assert!(says.contains(&format!("had it written by {by}")), "{says}");
        }
    }

    #[test]
    fn a_kept_reference_is_shown_with_its_day() {
        let mut s = fixture::trimmed();
        let json = |s: &Snapshot| serde_json::to_value(why(&s.victims[0], s)).unwrap();
        assert!(!text(0, &s).contains("reference"));
        assert_eq!(json(&s).get("reference_at"), None);
        s.disks[0].reference_at = Some(1_795_896_762.25);
        let says = text(0, &s);
        assert!(says.contains("\n             reference of 2026-11-28 20:12 UTC\n"), "{says}");
        assert_eq!(json(&s)["reference_at"], 1_795_896_762.25);
        assert!(!text(2, &s).contains("reference"), "it is on another disk");
    }

    #[test]
    fn a_stack_that_is_not_well_is_a_fact_of_the_verdict() {
        let mut s = fixture::trimmed();
        assert!(!text(2, &s).contains("pool"));
        s.victims[2].verdict.stack = vec![fixture::out_of_space()];
        let says = text(2, &s).split_whitespace().collect::<Vec<_>>().join(" ");
        let fact = "the pool vg-pool-tpool is out of data space: 100% of its data";
        assert!(
            says.contains(&format!("; {fact}")) && says.contains(&format!(" stack {fact}")),
            "{says}"
        );
        assert!(says.contains("give vg-pool-tpool more room (`lvextend`)"), "{says}");
        let json = serde_json::to_value(why(&s.victims[2], &s)).unwrap();
        assert_eq!(json["stack"][0]["state"], "pool", "{json}");
        assert_eq!(json["stack"][0]["data_share"], 1.0, "{json}");
        // Nobody is slow: it is no cause, and a fact all the same.
        s.victims[1].verdict.stack = vec![fixture::out_of_space()];
        let says = text(1, &s);
        assert!(!sentence(&s.victims[1]).contains("pool") && says.contains("  stack "), "{says}");
    }

    #[test]
    fn hostile_names_stay_in_their_lines() {
        let s = fixture::hostile();
        for victim in 0..s.victims.len() {
            let shown = text(victim, &s);
            for line in shown.lines() {
                assert!(line.chars().all(escape::is_plain), "{line:?}");
            }
        }
    }

    #[test]
    fn the_json_form_has_the_fields_that_scripts_want() {
        let s = fixture::trimmed();
        let mut out = Vec::new();
        json::write_json(&mut out, &why(&s.victims[0], &s)).unwrap();
        let why: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(why["schema"], 2);
        assert_eq!(why["kind"], "owners");
        assert_eq!(why["victim"]["file_class"], "wal");
        let culprit = &why["culprits"][0];
        assert_eq!((&culprit["comm"], &culprit["op"]), (&"fstrim".into(), &"discard".into()));
        assert_eq!((&culprit["via"], &culprit["with_n"]), (&"device".into(), &210.into()));
        let cleared = &why["ruled_out"][0];
        assert_eq!(cleared["comm"], "restic");
        assert!(cleared["reason"].as_str().unwrap().contains("x1.02"));
        let shares = why["shares"].as_object().unwrap().values();
        let sum: f64 = shares.map(|share| share.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert!(why["dropped"]["ring_full"].is_u64());
    }
}
