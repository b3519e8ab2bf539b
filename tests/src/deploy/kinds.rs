//! The dashboards against Grafana's own published types of them (its "kinds").
//!
//! No registry has Grafana itself. Its makers publish the types as
//! `grafana-foundation-sdk`, for Python among other languages. A dashboard is read into
//! them and written again; a field that they do not know is missing afterwards.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{files_below, find_program, read, workspace};
use crate::skip::skip;

const WHEEL: &str = ".tools/grafana-kinds.whl";

/// Reads a dashboard, and prints the paths that its types do not know.
const PASS_THROUGH: &str = r#"
import json, sys
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

def compare(path, before, after):
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name in after:
                compare(f"{path}.{name}", value, after[name])
            else:
                print(f"{path}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after)):
            compare(f"{path}[{index}]", *pair)
    elif before != after:
        print(path)

plugins.register_default_plugins()
before = json.load(sys.stdin)
after = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(before)))))
compare("", before, after)
"#;

/// Skips if the types are not there, or Python is not installed.
macro_rules! need_kinds {
    () => {
        if find_program("python3").is_none() || !workspace().join(WHEEL).is_file() {
            skip!("Grafana's types are not there: `cargo xtask setup test` downloads them");
        }
    };
}

/// The paths in a dashboard that Grafana's types do not know.
fn unknown(dashboard: &str) -> Vec<String> {
    let mut python = find_program("python3").unwrap_or_else(|| Command::new("python3"));
    // A wheel is an archive that Python imports from.
    python.env("PYTHONPATH", workspace().join(WHEEL)).env("PYTHONDONTWRITEBYTECODE", "1");
    python.args(["-c", PASS_THROUGH]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(dashboard.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "python3 ended with {}", output.status);
    let paths = String::from_utf8(output.stdout).unwrap();
    // Grafana writes these beside the queries of variables and of annotations, where its data
    // source for Prometheus reads them, and its types do not have them.
    let is_written = |path: &&str| {
        let (place, field) = path.rsplit_once('.').unwrap_or_default();
        match place.split('[').next() {
            Some(".templating.list") => field == "definition",
            Some(".annotations.list") => {
                ["step", "tagKeys", "textFormat", "titleFormat"].contains(&field)
            }
            _ => false,
        }
    };
    paths.lines().filter(|path| !is_written(path)).map(str::to_owned).collect()
}

#[test]
fn grafanas_own_types_know_every_field_of_every_dashboard() {
    need_kinds!();
    for file in files_below("deploy/grafana/dashboards", &[".json"]) {
        assert_eq!(unknown(&read(&file)), [""; 0], "{file:?}");
    }
}

#[test]
fn an_option_that_a_panel_does_not_have_is_found() {
    need_kinds!();
    let file = files_below("deploy/grafana/dashboards", &["node.json"]).remove(0);
    let mut dashboard: Value = serde_json::from_str(&read(&file)).unwrap();
    let panels = dashboard["panels"].as_array_mut().unwrap();
    let place = panels.iter().position(|panel| panel["type"] == "timeseries").unwrap();
    panels[place]["options"]["legend"]["displaymode"] = "list".into();
    let path = format!(".panels[{place}].options.legend.displaymode");
    assert_eq!(unknown(&dashboard.to_string()), [path]);
}
