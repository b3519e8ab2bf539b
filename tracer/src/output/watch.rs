//! One line of text for each slow sync, as `tracer watch` prints it.
//!
//! Lines are for reading and for `grep`: a fixed order, UTC, nothing that
//! depends on the machine's language. They have no bound of their own, but
//! each name in them has, and so has the number of owners.

use std::io;

use super::{
    escape, names, phases,
    units::{duration, percent, utc},
};
use tracer_snapshot::SlowSync;

/// At most this number of owners is listed; those after it had next to no part in the wait.
const OWNERS: usize = 5;

/// Writes [`line()`] and ends it.
pub fn write_slow_sync(out: &mut impl io::Write, sync: &SlowSync) -> io::Result<()> {
    writeln!(out, "{}", line(sync))
}

/// When, how long, who, on what; where the time went; who else was there.
pub fn line(sync: &SlowSync) -> String {
    let mut line = format!(
        "{}  {:>7} {} {}, {}",
        utc(sync.at),
        duration(sync.duration_seconds),
        escape::bounded(sync.kind, 16),
        names::actor(&sync.actor),
        names::file(sync.class, &sync.path, &sync.device),
    );
    let phases = phases::major(&sync.phases);
    if !phases.is_empty() {
        line += &format!(" | {phases}");
    }
    line += &format!(" | {}", owners(sync));
    if let Some(unproven) = &sync.unproven {
        line += &format!(" | unproven: {}", escape::bounded(unproven, 200));
    }
    if sync.dropped_total > 0 {
        line += &format!(" | DROPPED {} so far", sync.dropped_total);
    }
    line
}

fn owners(sync: &SlowSync) -> String {
    let others: Vec<_> = sync.owners.iter().filter(|owner| !owner.own).collect();
    if others.is_empty() {
        return "nobody else on the disk".to_owned();
    }
    let mut shown: Vec<_> = others
        .iter()
        .take(OWNERS)
        .map(|owner| {
            format!("{} {} {}", names::actor(&owner.actor), owner.op.name(), percent(owner.share))
        })
        .collect();
    if others.len() > OWNERS {
        shown.push(format!("and {} more", others.len() - OWNERS));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use tracer_snapshot::Phases;

    #[test]
    fn a_slow_sync_in_one_line() {
        insta::assert_snapshot!(line(&fixture::slow_sync()), @"2026-03-01T12:00:00.250Z  48.1 ms fdatasync etcd (etcd.service), wal /var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal on vda1 | cpu 3% runq 1% queue 5% device 61% journal 20% other 10% | fstrim (demo-trim.service) discard 97% | DROPPED 3 so far");
    }

    #[test]
    fn a_sync_on_a_quiet_disk_blames_nobody() {
        let mut sync = fixture::slow_sync();
        sync.owners.retain(|owner| owner.own);
        sync.phases = Phases::default();
        sync.dropped_total = 0;
        insta::assert_snapshot!(line(&sync), @"2026-03-01T12:00:00.250Z  48.1 ms fdatasync etcd (etcd.service), wal /var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal on vda1 | nobody else on the disk");
    }

    #[test]
    fn hostile_names_stay_in_one_line() {
        let mut sync = fixture::slow_sync();
        let hostile = fixture::hostile();
        sync.actor = hostile.victims[0].actor.clone();
        sync.path = hostile.victims[0].path.clone();
        for owner in &mut sync.owners {
            owner.actor = hostile.disks[0].owners[0].actor.clone();
        }
        let mut out = Vec::new();
        write_slow_sync(&mut out, &sync).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.strip_suffix('\n').unwrap().chars().all(escape::is_plain), "{text:?}");
        assert!(text.len() < 1000, "{} bytes", text.len());
    }
}
