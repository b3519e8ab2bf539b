//! Every query of a dashboard, with variables filled in as Grafana does, and the list of
//! those that cannot have a result in this test.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{
    drawing::Drawing,
    server::{INTERVAL, Prometheus},
};
use crate::deploy::dashboards::{list, read_dashboards, shown, text, variables};

/// The reason why a query has no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Silence {
    /// The test does not cause it; if there is a result, the entry is out of date.
    NotHere,
    /// It depends on the machine.
    Perhaps,
}

/// The dashboard, the panel or variable, and the reason why it may be empty.
const SILENT: [(&str, &str, Silence); 7] = {
    use Silence::{NotHere, Perhaps};
    [
        // No VM runs here.
        ("tracer-fleet", "$vm", NotHere),
        ("tracer-fleet", "All VMs with a tracer inside", NotHere),
        ("tracer-fleet", "$vm on its host: sync p99", NotHere),
        ("tracer-fleet", "$vm on its host: whom it waits for", NotHere),
        ("tracer-fleet", "$vm on its host: who waits for it", NotHere),
        // A kernel may have all hooks.
        ("tracer-health", "Unsupported", Perhaps),
        // There may be no drops.
        ("tracer-health", "Dropped by kind", Perhaps),
    ]
};

/// A query of a panel, or the values of a variable.
struct Question {
    dashboard: String,
    title: String,
    expr: String,
    answers: usize,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.dashboard, self.title, self.expr)
    }
}

impl Question {
    fn silence(&self) -> Option<Silence> {
        let is_it = |(dashboard, title, _): &&(&str, &str, Silence)| {
            (*dashboard, *title) == (self.dashboard.as_str(), self.title.as_str())
        };
        SILENT.iter().find(is_it).map(|(.., silence)| *silence)
    }

    /// The fault of its answers, if they have one.
    fn fault(&self) -> Option<String> {
        match self.silence() {
            None if self.answers == 0 => Some(format!("no data: {self}")),
            Some(Silence::NotHere) if self.answers > 0 => {
                Some(format!("listed as silent, but has {} series: {self}", self.answers))
            }
            _ => None,
        }
    }
}

/// Runs all queries, and returns those that should have data but have none.
pub fn find_faults(prometheus: &Prometheus) -> Vec<String> {
    let mut questions = Vec::new();
    let mut faults = Vec::new();
    for (_, dashboard) in read_dashboards() {
        faults.extend(ask(prometheus, &dashboard, &mut questions));
    }
    println!("dashboards asked {} questions", questions.len());
    faults.extend(questions.iter().filter_map(Question::fault));
    for (dashboard, title, _) in SILENT {
        if !questions.iter().any(|q| q.dashboard == dashboard && q.title == title) {
            faults.push(format!("listed as silent, but not there: {dashboard}: {title}"));
        }
    }
    faults
}

/// Runs a dashboard's queries, and draws the results; returns what cannot be drawn.
fn ask(prometheus: &Prometheus, dashboard: &Value, questions: &mut Vec<Question>) -> Vec<String> {
    let mut faults = Vec::new();
    let uid = text(dashboard, "uid").to_owned();
    let mut filled = Filled::default();
    // The first is the data source.
    for variable in &variables(dashboard)[1..] {
        let (name, definition) = (text(variable, "name"), text(variable, "definition"));
        let expr = filled.fill(definition);
        let (selector, label) = expr
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
            .unwrap_or_else(|| panic!("{uid}: ${name}: {definition}"));
        let values = prometheus.label_values(selector, label);
        let value = if variable["includeAll"] == true {
            text(variable, "allValue")
        } else {
            values.first().and_then(Value::as_str).unwrap_or_default()
        };
        filled.0.insert(name.to_owned(), value.to_owned());
        let (dashboard, title) = (uid.clone(), format!("${name}"));
        questions.push(Question { dashboard, title, expr, answers: values.len() });
    }
    for panel in shown(dashboard) {
        let mut drawing = Drawing::default();
        for target in list(panel, "targets") {
            let expr = filled.fill(text(target, "expr"));
            let series = if target["instant"] == true {
                prometheus.query(&expr)
            } else {
                prometheus.query_range(&expr)
            };
            drawing.add(text(target, "legendFormat"), &series);
            let (dashboard, title) = (uid.clone(), text(panel, "title").to_owned());
            questions.push(Question { dashboard, title, expr, answers: series.len() });
        }
        let title = text(panel, "title");
        let wrong = drawing.save(&uid, title);
        faults.extend(wrong.into_iter().map(|fault| format!("{uid}: {title}: {fault}")));
    }
    faults
}

/// Variables and what was chosen for them.
struct Filled(BTreeMap<String, String>);

impl Default for Filled {
    /// Grafana's own variables, for a data source that gives its scrape interval.
    fn default() -> Self {
        let rate = format!("{}s", 4 * INTERVAL.as_secs());
        Self([("__rate_interval".to_owned(), rate), ("__range".to_owned(), "1m".to_owned())].into())
    }
}

impl Filled {
    /// A group of a regular expression (`$1`) stays.
    fn fill(&self, expr: &str) -> String {
        let mut parts = expr.split('$');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = part.split_at(end.unwrap_or(part.len()));
            match self.0.get(name) {
                Some(value) => filled += value,
                None => filled += &format!("${name}"),
            }
            filled += rest;
        }
        filled
    }
}
