//! Labels whose values come from a list: the code's lists are compared with those in
//! `docs/metrics.md` and with the values in rules and dashboards.
//!
//! A misspelled value is the mistake that is hardest to notice: its query is valid, and
//! returns nothing.

use std::{collections::BTreeSet, fs};

use tracer::session::Unproven;
use tracer_ebpf::dropped::Dropped;
use tracer_kernel::capability::Capability;
use tracer_snapshot::{Confidence, FileClass, Kind, Op, Phase, Shares};

use super::{dashboards, find_files, read, rules};

/// Labels whose values `docs/metrics.md` enumerates, and the values.
fn enumerated() -> [(&'static str, Vec<&'static str>); 5] {
    [
        ("file_class", FileClass::ALL.map(FileClass::name).into()),
        ("phase", Phase::ALL.map(Phase::name).into()),
        ("op", Op::ALL.map(Op::name).into()),
        ("kind", Kind::ALL.map(Kind::name).into()),
        ("cause", Shares::default().named().map(|(name, _)| name).into()),
    ]
}

/// All values of a label of a metric; `None` if they do not come from a list.
fn values(metric: &str, label: &str) -> Option<BTreeSet<String>> {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    match (metric, label) {
        ("tracer_dropped_total", "kind") => Some(owned(&Dropped::ALL.map(Dropped::name))),
        ("tracer_unsupported", "what") => Some(unsupported()),
        ("tracer_unproven", "why") => Some(owned(&Unproven::WORDS)),
        (_, "confidence") => {
            let all = [Confidence::Low, Confidence::Medium, Confidence::High];
            Some(owned(&all.map(Confidence::name)))
        }
        (_, "stage") => Some(owned(&["queue", "device"])),
        _ => {
            let lists = enumerated();
            lists.iter().find(|(name, _)| *name == label).map(|(_, values)| owned(values))
        }
    }
}

/// The words for unsupported things. Each stands beside its sentence in the source,
/// unless it is a whole capability.
fn unsupported() -> BTreeSet<String> {
    let hooks = find_files("crates/kernel/src/hooks", &[".rs"]);
    let hooks = hooks.iter().map(|path| fs::read_to_string(path).unwrap());
    let source = hooks.fold(read("crates/kernel/src/unsupported.rs"), |all, text| all + &text);
    // The words of `unsupported(…)`, and of `gap(…)` in the hooks' folders.
    let source = source.replace("gap(\"", "unsupported(\"");
    let words = source.split("unsupported(\"").skip(1).filter_map(|after| after.split('"').next());
    words.chain(Capability::ALL.map(Capability::name)).map(str::to_owned).collect()
}

/// A label and values that a query asks for, by the name before the braces.
struct Asked<'q> {
    metric: &'q str,
    label: &'q str,
    values: &'q str,
}

/// The matchers in all braces of a query.
fn asked(query: &str) -> impl Iterator<Item = Asked<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let name = move |text: &'_ str| text.len() - text.trim_end_matches(is_part).len();
    query.match_indices('{').flat_map(move |(at, _)| {
        let before = &query[..at];
        let metric = &before[before.len() - name(before)..];
        // Every second piece is within quotes; a brace in another piece is the end.
        let pieces: Vec<_> = query[at + 1..].split('"').collect();
        let outside = pieces.chunks(2).take_while(|pair| !pair[0].contains('}'));
        let pairs = outside.filter_map(|pair| Some((pair[0], *pair.get(1)?)));
        let matchers: Vec<_> = pairs
            .map(|(label, values)| {
                let label = label.trim_end_matches(['=', '~', '!']);
                Asked { metric, label: &label[label.len() - name(label)..], values }
            })
            .collect();
        matchers
    })
}

fn find_faults(query: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for Asked { metric, label, values: wanted } in asked(query) {
        let Some(known) = values(metric, label) else { continue };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // A variable is filled in with what is there; so is a pattern.
        let words = wanted.split('|').filter(|word| word.chars().all(is_word) && !word.is_empty());
        let unknown = words.filter(|word| !known.contains(*word));
        faults.extend(unknown.map(|word| format!("{metric} has no {label}=\"{word}\"")));
    }
    faults
}

#[test]
fn the_page_lists_the_values_that_there_are() {
    let page = read("docs/metrics.md").replace(['\n'], " ");
    for (label, values) in enumerated() {
        let list = values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
        let is_whole =
            |(at, _)| !page[..at].ends_with("`, ") && !page[at + list.len()..].starts_with(", `");
        let found = page.match_indices(list.as_str()).any(is_whole);
        assert!(found, "docs/metrics.md does not say that `{label}` is {list}");
    }
}

/// The rows of the page's table with this head.
fn rows_below(head: &str) -> Vec<String> {
    let page = read("docs/metrics.md");
    let (_, table) = page.split_once(&format!("{head}\n|---|---|\n")).expect("the table is there");
    table.lines().take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

#[test]
fn the_page_explains_what_can_be_dropped() {
    let rows = rows_below("| `kind` of `tracer_dropped_total` | what was dropped |");
    let expected = Dropped::ALL.map(|kind| format!("| `{}` | {} |", kind.name(), kind.help()));
    assert_eq!(rows, expected);
}

#[test]
fn the_page_explains_the_phases() {
    let rows = rows_below("| `phase` | what the sync did |");
    let expected = Phase::ALL.map(|phase| format!("| `{}` | {} |", phase.name(), phase.help()));
    assert_eq!(rows, expected);
}

#[test]
fn rules_and_dashboards_ask_for_values_that_there_are() {
    for query in rules::queries().into_iter().chain(dashboards::all_queries()) {
        assert_eq!(find_faults(&query), [""; 0], "in {query}");
    }
}

#[test]
fn a_value_that_is_in_no_list_is_named() {
    assert_eq!(
        find_faults(r#"a{kind="x"} + tracer_dropped_total{job="b",kind=~"reconciled|reconcild"}"#),
        [r#"a has no kind="x""#, r#"tracer_dropped_total has no kind="reconcild""#]
    );
    assert_eq!(
        find_faults(r#"tracer_unsupported{what!="io_ring"}"#),
        [r#"tracer_unsupported has no what="io_ring""#]
    );
    assert_eq!(find_faults(r#"x{op=~"$op",phase=~"c.*",victim="y"}"#), [""; 0]);
}
