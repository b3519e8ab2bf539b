use unicode_width::UnicodeWidthStr as _;

use super::*;
use crate::output::{escape::is_plain, fixture};

fn text(s: &Snapshot) -> String {
    let mut out = Vec::new();
    write_snapshot(&mut out, s).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_trimmed_disk() {
    insta::assert_snapshot!(text(&fixture::trimmed()));
}

#[test]
fn nothing_seen_yet() {
    insta::assert_snapshot!(text(&fixture::empty()));
}

#[test]
fn a_kept_reference_is_in_the_first_lines_and_in_json() {
    let mut s = fixture::trimmed();
    assert!(!text(&s).contains("reference of"));
    let json = |s: &Snapshot| serde_json::to_value(s).unwrap();
    assert_eq!(json(&s).get("reference_at"), None);
    assert_eq!(json(&s)["disks"][0].get("reference_at"), None);
    s.reference_at = Some(1_795_896_762.25);
    s.disks[0].reference_at = s.reference_at;
    assert_eq!(text(&s).lines().nth(1), Some("reference of 2026-11-28 20:12 UTC"));
    assert_eq!(json(&s)["reference_at"], 1_795_896_762.25);
    assert_eq!(json(&s)["disks"][0]["reference_at"], 1_795_896_762.25);
}

/// In JSON it is a field, and none where there is nothing to say.
#[test]
fn hooks_that_are_unproven_are_said_before_all_else() {
    let mut s = fixture::trimmed();
    let json = |s: &Snapshot| serde_json::to_value(s).unwrap();
    assert_eq!(json(&s)["kernel"].get("unproven"), None);
    let why = "the disk of the self-test (sdb, /var/lib) has not answered for 3 s";
    s.kernel.unproven = Some(why.to_owned());
    let first = format!("unproven: {why}");
    assert_eq!(text(&s).lines().next(), Some(&*first));
    assert_eq!(json(&s)["kernel"]["unproven"], why);
    let mut out = Vec::new();
    crate::output::why::write_why(&mut out, &s.victims[0], &s).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().lines().next(), Some(&*first));
    let said = serde_json::to_value(crate::output::why::why(&s.victims[0], &s)).unwrap();
    assert_eq!(said["unproven"], why);
    let sync = tracer_snapshot::SlowSync { unproven: Some(why.into()), ..fixture::slow_sync() };
    assert!(crate::output::watch::line(&sync).contains(&first));
    assert_eq!(json_of(&sync)["unproven"], why);
    assert_eq!(json_of(&fixture::slow_sync()).get("unproven"), None);
}

fn json_of(sync: &tracer_snapshot::SlowSync) -> serde_json::Value {
    serde_json::to_value(sync).unwrap()
}

#[test]
fn hostile_names() {
    insta::assert_snapshot!(text(&fixture::hostile()));
}

#[test]
fn lines_are_plain_and_bounded() {
    for s in [fixture::trimmed(), fixture::empty(), fixture::hostile(), fixture::crowd()] {
        for line in text(&s).lines() {
            assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
            assert!(line.chars().all(is_plain), "{line:?}");
        }
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let text = text(&fixture::crowd());
    assert!(text.contains("and 20 more who wait"), "{text}");
    assert!(text.contains("and 30 more owners"), "{text}");
}

#[test]
fn every_kind_of_what_was_dropped_is_named_and_zeros_are_not() {
    let shown = |counters: &[_]| dropped(&DroppedCounts { counters: counters.to_vec() });
    assert_eq!(shown(&[("ring_full", 0), ("reconciled", 0)]), "dropped nothing");
    assert_eq!(
        shown(&[("ring_full", 3), ("torn", 0), ("reconciled", 9)]),
        "DROPPED 12: ring_full 3, reconciled 9"
    );
}

#[test]
fn a_long_list_of_what_was_dropped_is_wrapped_and_whole() {
    let mut s = fixture::empty();
    s.dropped.counters = vec![("a_counter_with_a_long_name", u64::MAX); 12];
    let text = text(&s);
    assert_eq!(text.matches("a_counter_with_a_long_name 18446744073709551615").count(), 12);
    assert!(text.lines().all(|line| line.width() <= COLUMNS));
}

/// The owner seen last may be another process than the blamed one.
#[test]
fn blame_finds_its_owner_whatever_its_process() {
    let s = fixture::trimmed();
    let mut row = s.disks[0].owners[0].clone();
    row.actor.tgid += 1;
    assert_eq!(blame_share(&s.victims[0], &row), Some(0.83));
    row.op = tracer_snapshot::Op::Read;
    assert_eq!(blame_share(&s.victims[0], &row), None);
}
