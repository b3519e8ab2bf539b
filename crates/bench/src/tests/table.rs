//! Tests of tables and their rows.

use crate::report::table::{Section, Table};

const READS: Section = Section { title: "reads", base: "empty" };

fn table() -> Table {
    let mut table = Table::default();
    for value in [30.0, 10.0, 20.0] {
        table.note(&READS, "ours", "ns", value);
        table.note_base(&READS, "ours", value / 2.0);
    }
    table.note_missing(&READS, "theirs", "it is not installed");
    table
}

#[test]
fn what_could_not_be_measured_has_a_row_that_says_why() {
    let mut text = Vec::new();
    table().write_text(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("theirs") && text.contains("not measured: it is not installed"));
    assert!(text.contains("10-30"), "{text}");
}

#[test]
fn one_round_that_worked_outweighs_one_that_did_not() {
    let mut table = table();
    table.note(&READS, "theirs", "ns", 1.0);
    table.note_missing(&READS, "theirs", "it ended");
    assert!(table.find(&READS, "theirs").unwrap().not_measured.is_none());
}

#[test]
fn a_table_survives_being_written_and_read() {
    let json = serde_json::to_string(&table()).unwrap();
    let again: Table = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    assert_eq!(again.find(&READS, "ours").unwrap().ratio(), Some(2.0));
}

#[test]
fn a_section_can_be_held_against_one_of_its_rows() {
    let mut table = table();
    table.note(&READS, "other", "ns", 5.0);
    table.hold_against(&READS, "ours");
    assert_eq!(table.find(&READS, "other").unwrap().ratio(), Some(0.25));
}
