//! Tests of the recording rules and the alerts.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde::Deserialize;
use tracer_ebpf::dropped::Dropped;

use super::{find_program, queries::Served, read, read_yaml, run, workspace};
use crate::skip::skip;

pub const FOLDER: &str = "deploy/prometheus";
pub const FILES: [&str; 3] = ["recording.yml", "fleet.yml", "alerts.yml"];
const TESTS: &str = "alerts.test.yml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    #[serde(default, rename = "interval")]
    _interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Rule {
    Record {
        record: String,
        expr: String,
    },
    Alert {
        alert: String,
        expr: String,
        #[serde(default, rename = "for")]
        _pending: Option<String>,
        labels: Labels,
        annotations: Annotations,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
    /// The page of the agent that it is about, where one answers.
    #[serde(default)]
    agent_url: Option<String>,
}

fn read_rules() -> Vec<Group> {
    FILES.iter().flat_map(|name| read_groups(name)).collect()
}

fn read_groups(name: &str) -> Vec<Group> {
    let file = workspace().join(FOLDER).join(name);
    let file: RuleFile = serde_json::from_value(read_yaml(&file)).unwrap();
    file.groups
}

/// Names and queries of what one file records.
pub fn recorded(name: &str) -> Vec<(String, String)> {
    let rules = read_groups(name).into_iter().flat_map(|group| group.rules);
    rules
        .filter_map(|rule| match rule {
            Rule::Record { record, expr } => Some((record, expr)),
            Rule::Alert { .. } => None,
        })
        .collect()
}

/// The queries of all rules.
pub fn queries() -> Vec<String> {
    let rules = read_rules().into_iter().flat_map(|group| group.rules);
    rules
        .map(|rule| match rule {
            Rule::Record { expr, .. } | Rule::Alert { expr, .. } => expr,
        })
        .collect()
}

/// Everything that queries outside of the rules may ask for.
pub fn served() -> Served {
    let names = read_rules().into_iter().flat_map(|group| group.rules).filter_map(|rule| {
        let Rule::Record { record, .. } = rule else { return None };
        Some(record)
    });
    Served::read(names.collect())
}

/// `promtool`, to be run in `folder`; `None` if it is not installed.
fn promtool(folder: &Path) -> Option<Command> {
    let mut promtool = find_program("promtool")?;
    promtool.current_dir(folder);
    Some(promtool)
}

/// Lets promtool parse queries, if it is installed.
pub fn check_syntax(queries: &[String]) -> Option<()> {
    let folder = tempfile::tempdir().unwrap();
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(at, expr)| serde_json::json!({"record": format!("query:{at}"), "expr": expr}))
        .collect();
    // JSON is YAML.
    let file = serde_json::json!({"groups": [{"name": "queries", "rules": rules}]});
    fs::write(folder.path().join("queries.yml"), file.to_string()).unwrap();
    run(promtool(folder.path())?.args(["check", "rules", "queries.yml"]));
    Some(())
}

#[test]
fn rules_ask_for_what_is_served() {
    let served = served();
    for rule in read_rules().into_iter().flat_map(|group| group.rules) {
        let (name, texts) = match rule {
            Rule::Record { record, expr } => (record, vec![expr]),
            Rule::Alert { alert, expr, annotations, .. } => {
                // Descriptions contain queries, too.
                (alert, vec![expr, annotations.description.replace('"', " ")])
            }
        };
        for text in texts {
            assert_eq!(served.find_faults(&text), [""; 0], "in {name}");
        }
    }
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let page = read("docs/alerts.md");
    let headings: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut alerts = BTreeSet::new();
    for rule in read_rules().into_iter().flat_map(|group| group.rules) {
        let Rule::Alert { alert, labels, annotations, .. } = rule else { continue };
        assert!(["info", "warning", "critical"].contains(&labels.severity.as_str()), "{alert}");
        assert!(!annotations.summary.is_empty() && !annotations.description.is_empty(), "{alert}");
        let anchor = alert.to_lowercase();
        assert_eq!(annotations.runbook_url, format!("docs/alerts.md#{anchor}"));
        let is_of_one = annotations.summary.contains("$labels.instance") && alert != "TracerDown";
        let page = is_of_one.then_some("http://{{ $labels.instance }}:9464/");
        assert_eq!(annotations.agent_url.as_deref(), page, "{alert}");
        assert!(headings.contains(alert.as_str()), "docs/alerts.md has no `## {alert}`");
        assert!(alerts.insert(alert), "two alerts of one name");
    }
    let of_no_alert: Vec<_> = headings
        .iter()
        .filter(|name| name.starts_with("Tracer") && !alerts.contains(**name))
        .collect();
    assert_eq!(of_no_alert, [&""; 0], "docs/alerts.md describes alerts that do not exist");
}

#[test]
fn every_alert_is_tested_to_fire_and_to_stay_silent() {
    let tests = read_yaml(&workspace().join(FOLDER).join(TESTS));
    let groups: Vec<_> = read_rules().into_iter().map(|group| group.name).collect();
    assert_eq!(tests["group_eval_order"], serde_json::json!(groups));
    let cases = tests["tests"].as_array().unwrap().iter();
    let cases = cases.flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let cases: Vec<_> = cases
        .map(|case| (case["alertname"].as_str().unwrap(), case["exp_alerts"].as_array().unwrap()))
        .collect();
    for rule in read_rules().into_iter().flat_map(|group| group.rules) {
        let Rule::Alert { alert, .. } = rule else { continue };
        let of_it = || cases.iter().filter(|(name, _)| *name == alert);
        assert!(of_it().any(|(_, alerts)| !alerts.is_empty()), "{alert} is not tested to fire");
        assert!(of_it().any(|(_, alerts)| alerts.is_empty()), "{alert} is not tested for silence");
    }
}

/// Kinds that no alert watches: everything on the node is seen. They count a name that is missing, a
/// file that is not kept, or a further cause when one victim has more causes than are kept.
const QUIET: [Dropped; 7] = [
    Dropped::IdentityUnresolved,
    Dropped::FileUnresolved,
    Dropped::NameEvicted,
    Dropped::LeftOut,
    Dropped::ReferenceRefused,
    Dropped::ReadLate,
    Dropped::Unrecorded,
];

#[test]
fn whatever_hides_a_part_of_the_node_has_an_alert() {
    let alerts: Vec<_> = read_rules()
        .into_iter()
        .flat_map(|group| group.rules)
        .filter_map(|rule| match rule {
            Rule::Alert { expr, .. } => Some(expr),
            Rule::Record { .. } => None,
        })
        .filter(|expr| expr.contains("tracer_dropped_total"))
        .collect();
    for kind in Dropped::ALL {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = |expr: &String| expr.split(|c| !is_name(c)).any(|word| word == kind.name());
        let is_watched = alerts.iter().any(names);
        let is_quiet = QUIET.contains(&kind);
        assert_ne!(is_watched, is_quiet, "{} in deploy/prometheus/alerts.yml", kind.name());
    }
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let folder = workspace().join(FOLDER);
    let Some(mut check) = promtool(&folder) else {
        skip!("`promtool` is not installed: `cargo xtask setup` installs it");
    };
    run(check.args(["check", "rules"]).args(FILES));
    let mut test = promtool(&folder).expect("it was here");
    run(test.args(["test", "rules", TESTS]));
}
