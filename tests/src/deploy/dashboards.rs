//! Grafana's dashboards: what each panel must say, and that it can be drawn.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;

use super::{files_below, read, rules};
use crate::skip::skip;

/// The schema of Grafana 11: older ones are migrated on loading, with surprises.
const OLDEST_SCHEMA: u64 = 39;
const COLUMNS: u64 = 24;
/// The data source that the viewer has chosen.
const DATASOURCE: &str = "${datasource}";

pub fn read_dashboards() -> Vec<(PathBuf, Value)> {
    let files = files_below("deploy/grafana/dashboards", &[".json"]);
    files
        .into_iter()
        .map(|file| (file.clone(), serde_json::from_str(&read(&file)).unwrap()))
        .collect()
}

pub fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The panels that show something; rows only group them.
pub fn shown(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

fn queries(dashboard: &Value) -> Vec<&str> {
    let targets = shown(dashboard).flat_map(|panel| list(panel, "targets"));
    targets.chain(annotations(dashboard)).map(|asking| text(asking, "expr")).collect()
}

fn annotations(dashboard: &Value) -> &[Value] {
    list(&dashboard["annotations"], "list")
}

/// The queries of all panels.
pub fn all_queries() -> Vec<String> {
    let dashboards = read_dashboards();
    let queries = dashboards.iter().flat_map(|(_, dashboard)| queries(dashboard));
    queries.map(str::to_owned).collect()
}

pub fn variables(dashboard: &Value) -> &[Value] {
    list(&dashboard["templating"], "list")
}

#[test]
fn every_panel_says_what_it_means_in_which_unit() {
    for (file, dashboard) in read_dashboards() {
        for panel in shown(&dashboard) {
            let title = text(panel, "title");
            assert!(!title.is_empty(), "{file:?}: a panel without a title");
            assert!(text(panel, "description").len() > 40, "{file:?}: {title}: what does it mean?");
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            assert!(!unit.is_empty(), "{file:?}: {title}: no unit");
            assert!(!list(panel, "targets").is_empty(), "{file:?}: {title}: shows nothing");
        }
    }
}

#[test]
fn data_come_from_where_the_viewer_says() {
    for (file, dashboard) in read_dashboards() {
        let first = &variables(&dashboard)[0];
        assert_eq!((text(first, "name"), text(first, "type")), ("datasource", "datasource"));
        let targets = shown(&dashboard).flat_map(|panel| list(panel, "targets"));
        let others = annotations(&dashboard).iter().chain(&variables(&dashboard)[1..]);
        for asking in shown(&dashboard).chain(targets).chain(others) {
            assert_eq!(text(&asking["datasource"], "uid"), DATASOURCE, "{file:?}: {asking}");
        }
    }
}

#[test]
fn queries_ask_for_what_is_served() {
    let served = rules::served();
    for (file, dashboard) in read_dashboards() {
        let asked = variables(&dashboard)[1..].iter().map(|variable| text(variable, "definition"));
        for query in queries(&dashboard).into_iter().chain(asked) {
            assert_eq!(served.find_faults(query), [""; 0], "{file:?}: {query}");
        }
    }
}

#[test]
fn queries_name_no_node_and_only_variables_that_are_there() {
    for (file, dashboard) in read_dashboards() {
        let names = variables(&dashboard).iter().map(|variable| text(variable, "name"));
        // Grafana's own, and a group of a regular expression.
        let known: BTreeSet<_> = names.chain(["__rate_interval", "__range", "1"]).collect();
        for query in queries(&dashboard) {
            for after in query.split('$').skip(1) {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = &after[..end.unwrap_or(after.len())];
                assert!(known.contains(name), "{file:?}: ${name} in {query}");
            }
            for label in ["instance", "disk", "device", "victim"] {
                for matcher in [format!("{label}=\""), format!("{label}=~\"")] {
                    let values = query.split(&matcher).skip(1);
                    for value in values {
                        assert!(value.starts_with('$'), "{file:?}: a fixed {label} in {query}");
                    }
                }
            }
        }
    }
}

#[test]
fn panels_have_numbers_of_their_own_and_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in read_dashboards() {
        let uid = text(&dashboard, "uid").to_owned();
        assert!(uid.starts_with("tracer-") && uids.insert(uid), "{file:?}: uid");
        assert!(dashboard["schemaVersion"].as_u64() >= Some(OLDEST_SCHEMA), "{file:?}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file:?}: {title}: id");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|field| panel["gridPos"][field].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{file:?}: {title}: outside of the grid");
            for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (column, row))) {
                assert!(taken.insert(cell), "{file:?}: {title} lies on another panel");
            }
        }
    }
}

#[test]
fn promtool_can_parse_every_query() {
    let queries: Vec<_> = all_queries()
        .into_iter()
        .map(|query| query.replace("$__rate_interval", "5m").replace("$__range", "1h"))
        .collect();
    if rules::check_syntax(&queries).is_none() {
        skip!("`promtool` is not installed: `cargo xtask setup` installs it");
    }
}

#[test]
fn links_lead_to_paths_that_the_agent_has() {
    let paths: Value = serde_saphyr::from_str(&read("docs/openapi.yaml")).unwrap();
    let mut found = 0;
    for (file, dashboard) in read_dashboards() {
        let panels =
            shown(&dashboard).flat_map(|panel| list(&panel["fieldConfig"]["defaults"], "links"));
        for link in panels.chain(list(&dashboard, "links")) {
            let Some(rest) = text(link, "url").strip_prefix("http://${node}:9464") else {
                assert_eq!(text(link, "url"), "", "{file:?}: {link}");
                continue;
            };
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let parameters = list(&paths["paths"][path]["get"], "parameters");
            assert!(paths["paths"][path].is_object(), "{file:?}: {link}");
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let name = pair.split('=').next().unwrap();
                assert!(parameters.iter().any(|one| one["name"] == name), "{file:?}: {link}");
            }
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}

#[test]
fn a_slow_victim_is_an_annotation() {
    let dashboards = read_dashboards();
    let names = dashboards.iter().flat_map(|(_, dashboard)| annotations(dashboard));
    assert!(names.into_iter().any(|one| one["name"] == "Slow victims" && one["enable"] == true));
}
