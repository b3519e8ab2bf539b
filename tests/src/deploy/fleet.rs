//! The number of series that a fleet's Prometheus keeps, computed from what
//! `docs/metrics.md` says about labels and their values.

use super::{read, rules};

/// The size of the fleet in the page.
const NODES: usize = 1_000;

/// A row of a table of the page.
fn row(name: &str) -> String {
    let page = read("docs/metrics.md");
    let begin = format!("| `{name}` |");
    let row = page.lines().find(|line| line.starts_with(&begin)).map(str::to_owned);
    row.unwrap_or_else(|| panic!("docs/metrics.md has no row of {name}"))
}

/// Words in backticks in a column of a row.
fn words(row: &str, column: usize) -> usize {
    let cell = row.split('|').nth(column).unwrap();
    cell.split('`').skip(1).step_by(2).count()
}

/// The largest number of values that a label has; panics if the page gives no bound.
fn values(label: &str) -> usize {
    match label {
        "instance" => NODES,
        // `+Inf` is one more than the bounds.
        "le" => {
            let row = row("tracer_sync_duration_seconds");
            let (_, bounds) = row.split_once("bounds: ").unwrap();
            let (bounds, _) = bounds.split_once(';').unwrap();
            let is_digit = |c: char| c.is_ascii_digit() || c == '.';
            let numbers = bounds.split(|c| !is_digit(c)).filter(|number| !number.is_empty());
            numbers.count() + 1
        }
        "phase" => words(&row("tracer_sync_phase_seconds_total"), 4),
        "cause" => words(&row("tracer_verdict_cause_ratio"), 4),
        other => panic!("the values of {other} have no bound"),
    }
}

/// The series that an aggregation makes: `sum by (a, b) (…)`, `topk by (a) (3, …)`.
fn series(expr: &str) -> usize {
    let (operation, rest) = expr.split_once(" by (").unwrap_or_else(|| panic!("{expr}"));
    let (labels, rest) = rest.split_once(") (").unwrap_or_else(|| panic!("{expr}"));
    let groups: usize = labels.split(", ").map(values).product();
    match operation {
        "sum" | "min" | "max" => groups,
        "topk" => groups * rest.split_once(',').unwrap().0.parse::<usize>().unwrap(),
        other => panic!("{other}: {expr}"),
    }
}

#[test]
fn an_aggregation_has_as_many_series_as_its_labels_have_values() {
    assert_eq!(series("sum by (instance) (rate(x[5m]))"), NODES);
    assert_eq!(series("topk by (instance) (3, sum by (instance, culprit) (x))"), 3 * NODES);
    // The kernel programs count by twenty bounds.
    assert_eq!(values("le"), tracer_engine::sums::SYNC_BOUNDS_NS.len() + 1);
    assert_eq!(values("phase"), tracer_snapshot::Phase::COUNT);
    assert_eq!(values("cause"), tracer_snapshot::Shares::COUNT);
}

#[test]
#[should_panic(expected = "culprit have no bound")]
fn a_label_that_tenants_choose_has_no_bound() {
    series("sum by (instance, culprit) (x)");
}

#[test]
fn a_thousand_nodes_have_as_many_series_as_the_page_says() {
    let rules = rules::recorded("fleet.yml");
    assert!(rules.len() >= 5);
    let all: usize = rules.iter().map(|(_, expr)| series(expr)).sum();
    let page = read("docs/metrics.md");
    let (_, said) = page.split_once("A thousand nodes have at most **").unwrap();
    let (said, _) = said.split_once("** series").unwrap();
    let said: usize = said.replace(',', "").parse().unwrap();
    assert_eq!(said, all);
    // The page's pattern matches all of them.
    for (name, _) in rules {
        assert!(name.starts_with("instance") && name.contains(":tracer_"), "{name}");
    }
    assert!(page.contains("regex: instance[a-z_]*:tracer_.*"));
}

/// The rules that `docs/metrics.md` keeps on the node: they have labels of tenants beside the
/// culprit.
const KEPT_BACK: &str = "instance_victim.*|instance_culprit:tracer_blame_seconds:rate5m";

#[test]
fn no_series_with_names_of_victims_or_namespaces_leaves_a_node() {
    assert!(read("docs/metrics.md").contains(&format!("regex: {KEPT_BACK}\n")));
    let is_kept_back = |name: &str| {
        KEPT_BACK.split('|').any(|pattern| match pattern.strip_suffix(".*") {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    };
    for (name, _) in rules::recorded("recording.yml") {
        assert!(is_kept_back(&name), "{name}");
    }
    for (name, _) in rules::recorded("fleet.yml") {
        assert!(!is_kept_back(&name), "{name}");
    }
}
