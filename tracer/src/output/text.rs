//! One snapshot as plain text, at most [`COLUMNS`] wide: `tracer top --batch`.
//!
//! First what the numbers rest on (kernel, what is unsupported, what was dropped), then who
//! waits, then why, then who uses the disks. Long lists are cut, and the text
//! says by how much.

use std::io;

use super::{
    escape::{bounded, bounded_tail, padded},
    freeze, hanging, names, phases,
    units::{bytes_rate, duration, percent, rate, reference, span, utc},
    verdict,
};
use crate::filter;
use tracer_snapshot::{Disk, DroppedCounts, OwnerRow, Snapshot, Victim};

/// No line is wider.
pub const COLUMNS: usize = 118;

/// Longer lists are cut here.
const VICTIMS: usize = 20;
const EXPLAINED: usize = 5;
const CULPRITS: usize = 5;
const OWNERS: usize = 10;
const DISKS: usize = 16;

const WHO: usize = 30;
const CLASS: usize = 5;
const DEVICE: usize = 10;
const OWNER: usize = 44;

/// Writes one snapshot; an empty line ends it.
pub fn write_snapshot(out: &mut impl io::Write, s: &Snapshot) -> io::Result<()> {
    write_header(out, s)?;
    write_victims(out, s)?;
    for victim in s.victims.iter().filter(|v| v.verdict.excess_seconds > 0.0).take(EXPLAINED) {
        write_blame(out, victim)?;
    }
    let (used, idle): (Vec<_>, Vec<_>) = s
        .disks
        .iter()
        .enumerate()
        .partition(|(_, disk)| disk.in_flight > 0 || !disk.owners.is_empty());
    for &(index, disk) in used.iter().take(DISKS) {
        write_owners(out, s, index, disk)?;
    }
    write_more(out, used.len(), DISKS, "disks in use")?;
    if !idle.is_empty() {
        let idle: Vec<_> =
            idle.iter().take(DISKS).map(|(_, disk)| bounded(&disk.name, 32)).collect();
        writeln!(out, "\n{}", bounded(&format!("idle: {}", idle.join(", ")), COLUMNS))?;
    }
    writeln!(out)
}

/// `DROPPED 15: ring_full 3, completion_unmatched 12`; `dropped nothing` when all counters
/// are zero.
pub fn dropped(dropped: &DroppedCounts) -> String {
    let word = if dropped.total() > 0 { "DROPPED" } else { "dropped" };
    format!("{word} {}", dropped_list(dropped))
}

/// `15: ring_full 3, completion_unmatched 12`, with every counter that is not zero;
/// `nothing` when all are.
pub fn dropped_list(dropped: &DroppedCounts) -> String {
    let counted: Vec<_> = dropped
        .counters
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if counted.is_empty() {
        return "nothing".to_owned();
    }
    format!("{}: {}", dropped.total(), counted.join(", "))
}

/// Why it is not known whether the tracer sees anything at all; every output begins with it.
pub fn unproven(s: &Snapshot) -> Option<String> {
    s.kernel.unproven.as_ref().map(|why| format!("unproven: {why}"))
}

/// The first sentence on what is unsupported on this kernel, and how many there are.
/// The count comes first, as a long sentence may be cut.
pub fn unsupported(s: &Snapshot) -> Option<String> {
    let first = s.kernel.unsupported.first()?;
    match s.kernel.unsupported.len() {
        1 => Some(format!("unsupported: {first}")),
        all => Some(format!("unsupported, 1 of {all}: {first}")),
    }
}

/// The share of a victim's excess that these requests of this owner caused.
pub fn blame_share(victim: &Victim, row: &OwnerRow) -> Option<f64> {
    let culprits = victim.verdict.culprits.iter();
    culprits
        .filter(|culprit| culprit.op == row.op && names::is_same(&culprit.actor, &row.actor))
        .map(|culprit| culprit.share)
        .reduce(f64::max)
}

fn write_header(out: &mut impl io::Write, s: &Snapshot) -> io::Result<()> {
    if let Some(unproven) = unproven(s) {
        writeln!(out, "{}", bounded(&unproven, COLUMNS))?;
    }
    let head = format!(
        "{}  kernel {}  watched {}  window {}",
        utc(s.at),
        bounded(&s.kernel.release, 40),
        span(s.watched_seconds),
        duration(s.window_seconds),
    );
    writeln!(out, "{}", bounded(&head, COLUMNS))?;
    if let Some(reference) = reference(s.reference_at) {
        writeln!(out, "{reference}")?;
    }
    if let Some(left_out) = filter::line(s) {
        writeln!(out, "{}", bounded(&left_out, COLUMNS))?;
    }
    hanging::write(out, s)?;
    freeze::write(out, s)?;
    write_wrapped(out, &dropped(&s.dropped))?;
    match unsupported(s) {
        Some(unsupported) => writeln!(out, "{}", bounded(&unsupported, COLUMNS)),
        None => Ok(()),
    }
}

fn write_victims(out: &mut impl io::Write, s: &Snapshot) -> io::Result<()> {
    if s.victims.is_empty() {
        return writeln!(out, "\nno syncs seen yet");
    }
    writeln!(
        out,
        "\n{:WHO$} {:CLASS$} {:DEVICE$} {:>6} {:>7} {:>7} {:>7}  CULPRIT",
        "WHO WAITS", "FILE", "DEVICE", "SYNC/S", "P50", "P99", "MAX"
    )?;
    for victim in s.victims.iter().take(VICTIMS) {
        let row = format!(
            "{} {:CLASS$} {} {:>6} {:>7} {:>7} {:>7}  {}",
            padded(&names::actor(&victim.actor), WHO),
            names::class(victim.class),
            padded(&bounded_tail(&victim.device, DEVICE), DEVICE),
            rate(victim.syncs_per_second),
            duration(victim.p50_seconds),
            duration(victim.p99_seconds),
            duration(victim.max_seconds),
            verdict::phrase(victim),
        );
        writeln!(out, "{}", bounded(&row, COLUMNS))?;
        let phases = phases::all(&victim.phases);
        let room = COLUMNS.saturating_sub(phases.len() + 4);
        writeln!(out, "  {phases}  {}", bounded_tail(&victim.path, room))?;
    }
    write_more(out, s.victims.len(), VICTIMS, "who wait")
}

fn write_blame(out: &mut impl io::Write, victim: &Victim) -> io::Result<()> {
    writeln!(out, "\n{}", names::victim(victim, COLUMNS))?;
    writeln!(out, "  {}", bounded(&verdict::sentence(victim), COLUMNS - 2))?;
    let verdict = &victim.verdict;
    let mut line = |share: f64, actor: &str| {
        let seconds = duration(share * verdict.excess_seconds);
        writeln!(out, "  {:>5} {seconds:>7}  {}", percent(share), bounded(actor, 96))
    };
    for culprit in verdict.culprits.iter().take(CULPRITS) {
        line(culprit.share, &verdict::culprit(culprit))?;
    }
    if let Some(rest) = verdict.culprits.get(CULPRITS..).filter(|rest| !rest.is_empty()) {
        line(rest.iter().map(|culprit| culprit.share).sum(), &format!("{} more", rest.len()))?;
    }
    let shares = &verdict.shares;
    let rest = [
        (shares.limit, "a limit"),
        (shares.filesystem, "the filesystem, on a CPU inside the syncs"),
        (shares.own, "its own other requests"),
        (shares.device, "the device, or what is below it"),
        (shares.unexplained, "not explained"),
    ];
    for (share, what) in rest.into_iter().filter(|(share, _)| *share >= 0.005) {
        line(share, what)?;
    }
    Ok(())
}

fn write_owners(
    out: &mut impl io::Write,
    s: &Snapshot,
    index: usize,
    disk: &Disk,
) -> io::Result<()> {
    writeln!(out, "\n{}: {} in flight", names::disk(disk, 80), disk.in_flight)?;
    if disk.owners.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:OWNER$} {:12} {:>6} {:>9} {:>9}  BLAMED BY",
        "OWNER", "OP", "IOPS", "BYTES", "IN FLIGHT"
    )?;
    for row in disk.owners.iter().take(OWNERS) {
        let line = format!(
            "  {} {:12} {:>6} {:>9} {:>9}  {}",
            padded(&names::actor(&row.actor), OWNER),
            row.op.name(),
            rate(row.requests_per_second),
            bytes_rate(row.bytes_per_second),
            rate(row.in_flight),
            blamed_by(s, index, row),
        );
        writeln!(out, "{}", bounded(&line, COLUMNS).trim_end())?;
    }
    write_more(out, disk.owners.len(), OWNERS, "owners")
}

/// The victim on this disk that blames this owner most: `83% etcd wal`.
fn blamed_by(s: &Snapshot, disk: usize, row: &OwnerRow) -> String {
    let victims = s.victims.iter().filter(|victim| victim.disk == Some(disk));
    let most = victims
        .filter_map(|victim| Some((blame_share(victim, row)?, victim)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match most {
        Some((share, victim)) => {
            let comm = bounded(&victim.actor.comm, 16);
            format!("{} {comm} {}", percent(share), names::class(victim.class))
        }
        None => String::new(),
    }
}

fn write_more(out: &mut impl io::Write, all: usize, shown: usize, what: &str) -> io::Result<()> {
    match all.saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more {what}"),
    }
}

/// A list with `, ` in it, over as many lines as it needs: it is not cut.
fn write_wrapped(out: &mut impl io::Write, list: &str) -> io::Result<()> {
    let mut used = 0;
    for (index, part) in list.split(", ").enumerate() {
        if index > 0 {
            let end = if used + part.len() + 3 > COLUMNS { ",\n  " } else { ", " };
            write!(out, "{end}")?;
            used = if end.contains('\n') { 2 } else { used + end.len() };
        }
        write!(out, "{part}")?;
        used += part.len();
    }
    writeln!(out)
}

#[cfg(test)]
mod tests;
