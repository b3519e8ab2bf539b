//! Compares the table of `docs/metrics.md` with what an agent serves, as Prometheus parsed
//! it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::server::Prometheus;
use crate::deploy::queries::documented;

/// Rows that are not served on every machine, and why.
const CONDITIONAL: [&str; 3] = [
    // A kernel may have all hooks.
    "tracer_unsupported",
    // This machine can be traced.
    "tracer_cannot_run_info",
    // Nothing is filtered.
    "tracer_filter_info",
];

/// Labels of pods and VMs, which this test does not have.
const OF_OTHERS: [&str; 6] =
    ["namespace", "pod", "vm", "culprit_namespace", "culprit_pod", "culprit_vm"];

/// Labels that Prometheus adds, or that it makes of a histogram.
const GIVEN: [&str; 4] = ["__name__", "instance", "job", "le"];

/// The differences between the table and the metrics that are served.
pub fn find_faults(prometheus: &Prometheus, job: &str) -> Vec<String> {
    let rows = documented();
    let field = |family: &Value, name: &str| family[name].as_str().unwrap().to_owned();
    let families: BTreeMap<_, _> = prometheus
        .metadata(job)
        .iter()
        .map(|family| {
            let (mut name, kind) = (field(family, "metric"), field(family, "type"));
            // Prometheus asks for OpenMetrics, where a counter's family is called
            // without what its series end with.
            if kind == "counter" && !name.ends_with("_total") {
                name += "_total";
            }
            (name, (kind, field(family, "help")))
        })
        .collect();
    let series = prometheus.series(job);
    let mut faults = Vec::new();
    for (name, (kind, help)) in &families {
        let Some(row) = rows.get(name) else {
            faults.push(format!("{name} is served, but not documented"));
            continue;
        };
        if *kind != row.kind {
            faults.push(format!("{name} is a {kind}, not a {}", row.kind));
        }
        if help.is_empty() {
            faults.push(format!("{name} has no help text"));
        }
        let served = labels(&series, name, kind);
        for label in served.difference(&row.labels) {
            faults.push(format!("{name} is served with {label}, which is not documented"));
        }
        for label in row.labels.difference(&served) {
            if !OF_OTHERS.contains(&label.as_str()) {
                faults.push(format!("{name} is never served with {label}"));
            }
        }
    }
    for name in rows.keys() {
        if !families.contains_key(name) && !CONDITIONAL.contains(&name.as_str()) {
            faults.push(format!("{name} is documented, but not served"));
        }
    }
    let strangers = CONDITIONAL.iter().filter(|name| !rows.contains_key(**name));
    faults
        .extend(strangers.map(|name| format!("{name} is excused, but the table has no such row")));
    faults
}

/// All labels of all series of a family.
fn labels(series: &[Value], family: &str, kind: &str) -> BTreeSet<String> {
    let is_of_it = |series: &&Value| {
        let name = series["__name__"].as_str().unwrap();
        let part = name.strip_prefix(family);
        if kind == "histogram" {
            part.is_some_and(|part| ["_bucket", "_count", "_sum"].contains(&part))
        } else {
            part == Some("")
        }
    };
    let labels =
        series.iter().filter(is_of_it).flat_map(|series| series.as_object().unwrap().keys());
    labels.filter(|label| !GIVEN.contains(&label.as_str())).cloned().collect()
}
