//! Tests of the page's template and its figures.

use anyhow::bail;

use crate::report::{
    Report,
    machine::Machine,
    page::{TEMPLATE, fill, write},
    rows::{self, BESIDE_READS, NOBODY, TRACER},
    table::Table,
};

fn report() -> Report {
    let machine = Machine::read("cargo xtask bench --page", 5, 2);
    let mut table = Table::default();
    table.note(&BESIDE_READS, NOBODY, "/s", 1000.0);
    table.note(&BESIDE_READS, TRACER, "/s", 990.0);
    table.note_missing(&BESIDE_READS, "a peer", "it says a|b\n<c>");
    table.hold_against(&BESIDE_READS, NOBODY);
    Report { machine, table, curves: Vec::new(), requirements: Vec::new() }
}

#[test]
fn the_template_asks_only_for_what_there_is() {
    let page = write(&report(), None, |name| Ok(format!("by hand: {name}"))).unwrap();
    for name in ["tried.md", "paired.md"] {
        assert!(page.contains(&format!("by hand: {name}")), "{page}");
    }
    assert!(!page.contains("{{"), "{page}");
}

#[test]
fn every_section_and_every_part_of_the_matrix_is_in_the_template() {
    for section in [
        &rows::READS,
        &rows::SYNCS,
        &rows::SNAPSHOT,
        &rows::REPLAY,
        &rows::ITSELF,
        &rows::REQUEST,
        &rows::SYNC,
        &rows::COMMIT,
        &rows::START,
        &rows::THOUSAND,
        &rows::CROWD,
    ] {
        let placeholder = format!("{{{{rows: {}}}}}", section.title);
        assert!(TEMPLATE.contains(&placeholder), "{placeholder}");
    }
    assert!(TEMPLATE.contains("{{beside}}"));
}

#[test]
fn what_a_peer_says_cannot_break_the_table() {
    let page = fill("{{beside}}", &report(), None, |_| bail!("none")).unwrap();
    assert!(page.contains("| a peer | not measured: it says a\\|b &lt;c> |"), "{page}");
    assert!(page.contains("990 /s (0.99)"), "{page}");
}

#[test]
fn the_run_on_null_blk_has_sections_of_its_own() {
    let template = format!("{{{{null_blk rows: {}}}}}", BESIDE_READS.title);
    let page = |null_blk| fill(&template, &report(), null_blk, |_| bail!("none")).unwrap();
    assert_eq!(page(None), "Not measured.");
    let mut other = report();
    other.table.note(&BESIDE_READS, "null_blk's alone", "/s", 7.0);
    assert!(page(Some(&other)).contains("null_blk's alone"), "{}", page(Some(&other)));
}

#[test]
fn an_unknown_placeholder_is_an_error() {
    assert!(fill("{{nonsense}}", &report(), None, |_| bail!("none")).is_err());
    assert!(fill("{{rows: ", &report(), None, |_| bail!("none")).is_err());
}
