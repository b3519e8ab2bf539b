//! Finds the metrics and labels that a query uses, and checks that they are served.
//!
//! This is not a parser of PromQL, as promtool is. Outside of strings, whatever looks like
//! one of our names must be one, and so must the labels in its braces and in `by (…)`,
//! `on (…)` and so on.

use std::collections::{BTreeMap, BTreeSet};

use super::read;

/// Labels that Prometheus adds, or that it makes of a histogram.
const GIVEN: [&str; 3] = ["instance", "job", "le"];

/// The labels of a victim, `V` in the table.
const VICTIM: [&str; 7] = ["victim", "comm", "file_class", "device", "namespace", "pod", "vm"];

/// A row of the table of `docs/metrics.md`.
pub struct Metric {
    pub kind: String,
    pub labels: BTreeSet<String>,
}

/// The table of `docs/metrics.md`, by the metrics' names.
pub fn documented() -> BTreeMap<String, Metric> {
    parse_table(&read("docs/metrics.md"))
}

/// Everything that a query may use.
pub struct Served {
    metrics: BTreeMap<String, Metric>,
    /// The names that recording rules define.
    recorded: BTreeSet<String>,
}

impl Served {
    pub fn read(recorded: BTreeSet<String>) -> Self {
        Self { metrics: documented(), recorded }
    }

    /// The faults of a query, or of a text that has queries in it.
    pub fn find_faults(&self, query: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let words = split(query);
        for (at, word) in words.iter().enumerate() {
            let rest = &words[at + 1..];
            match word {
                Word::Name(name) if is_recorded(name) && !self.recorded.contains(*name) => {
                    faults.push(format!("no rule records {name}"));
                }
                Word::Name(name) if name.starts_with("tracer_") || is_recorded(name) => {
                    match self.find(name) {
                        Some(metric) => faults.extend(foreign_labels(name, metric, rest)),
                        None => faults.push(format!("docs/metrics.md has no {name}")),
                    }
                }
                Word::Name("by" | "without" | "on" | "group_left" | "group_right") => {
                    let unknown = bracketed(rest, '(', ')').filter(|label| !self.has_label(label));
                    faults.extend(unknown.map(|label| format!("nothing has a label {label}")));
                }
                _ => {}
            }
        }
        faults
    }

    /// The metric behind a name: the histogram for one of its parts, and for the name of a
    /// recording rule the metric in its middle.
    fn find(&self, name: &str) -> Option<&Metric> {
        if let Some(source) = name.split(':').nth(1) {
            let known = |name: &str| self.metrics.get(name);
            return known(source)
                .or_else(|| known(&format!("{source}_total")))
                .or_else(|| known(source.strip_suffix("_count")?));
        }
        let part = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
        match part.and_then(|whole| self.metrics.get(whole)) {
            Some(metric) => (metric.kind == "histogram").then_some(metric),
            None => self.metrics.get(name).filter(|metric| metric.kind != "histogram"),
        }
    }

    fn has_label(&self, label: &str) -> bool {
        let has = |metric: &Metric| metric.labels.contains(label);
        GIVEN.contains(&label) || self.metrics.values().any(has)
    }
}

/// `level:metric:operations`; a word before a colon in a text is none.
fn is_recorded(name: &str) -> bool {
    name.contains(":tracer_")
}

fn foreign_labels(name: &str, metric: &Metric, rest: &[Word<'_>]) -> Vec<String> {
    bracketed(rest, '{', '}')
        .filter(|label| !metric.labels.contains(*label) && !GIVEN.contains(label))
        .map(|label| format!("{name} has no label {label}"))
        .collect()
}

/// The names between the brackets that follow, if they do.
fn bracketed<'w>(
    words: &'w [Word<'w>],
    open: char,
    close: char,
) -> impl Iterator<Item = &'w str> + 'w {
    let inside = words.split_first().filter(|(first, _)| **first == Word::Sign(open));
    let inside = inside.map_or(&words[..0], |(_, inside)| inside);
    inside.iter().take_while(move |word| **word != Word::Sign(close)).filter_map(
        |word| match word {
            Word::Name(name) => Some(*name),
            Word::Sign(_) => None,
        },
    )
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word<'q> {
    Name(&'q str),
    Sign(char),
}

/// Names and signs of a query, without its strings, spaces and variables.
fn split(query: &str) -> Vec<Word<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut words = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            string_length(rest)
        } else if is_part(first) || first == '$' {
            let body = &rest[first.len_utf8()..];
            first.len_utf8() + body.find(|c| !is_part(c)).unwrap_or(body.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        if first.is_ascii_alphabetic() || first == '_' {
            words.push(Word::Name(word));
        } else if !first.is_whitespace() && first != '"' {
            words.push(Word::Sign(first));
        }
        rest = after;
    }
    words
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Rows `| name | type | labels | …`.
fn parse_table(page: &str) -> BTreeMap<String, Metric> {
    let rows = page.lines().filter(|line| line.starts_with("| `tracer_"));
    let metrics: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 7, "{row}");
            let mut labels = BTreeSet::new();
            for label in cells[3].split(',').map(str::trim).filter(|label| !label.is_empty()) {
                match label {
                    "V" => labels.extend(VICTIM.map(str::to_owned)),
                    _ => drop(labels.insert(label.trim_matches('`').to_owned())),
                }
            }
            let kind = cells[2].to_owned();
            assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{row}");
            (cells[1].trim_matches('`').to_owned(), Metric { kind, labels })
        })
        .collect();
    assert!(!metrics.is_empty(), "docs/metrics.md has no table");
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, faults: &[&str]) {
        let recorded = ["instance_victim:tracer_blame_seconds:rate5m".to_owned()];
        let served = Served::read(BTreeSet::from(recorded));
        assert_eq!(served.find_faults(query), faults, "{query}");
    }

    #[test]
    fn what_is_served_may_be_asked_for() {
        check(r#"sum by (victim, le) (rate(tracer_sync_duration_seconds_bucket{vm=""}[5m]))"#, &[]);
        check(r#"instance_victim:tracer_blame_seconds:rate5m{op=~"$op"} > 0.01"#, &[]);
        check(r#"up{job="tracer_x"} == 0 and tracer_unsupported{what!="a\"}tracer_y"}"#, &[]);
    }

    /// Finds words in a text that look like metrics but are not served.
    fn find_strange(served: &Served, text: &str) -> Vec<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.lines().flat_map(|line| {
            let words = line.split(move |c| !is_part(c)).filter(|w| w.starts_with("tracer_"));
            // A crate, and the beginning of several names.
            words.filter(|w| !w.ends_with('_') && !line.contains(&format!("{w}::")))
        });
        let is_strange = |word: &&str| {
            served.find(word).is_none() && served.find(&format!(":{word}:")).is_none()
        };
        words.filter(is_strange).map(str::to_owned).collect()
    }

    #[test]
    fn documents_name_metrics_that_are_served() {
        let served = Served::read(BTreeSet::new());
        let mut pages = crate::deploy::find_files("docs", &[".md"]);
        pages.retain(|page| !page.ends_with("renamed.md"));
        assert!(pages.len() > 10, "{pages:?}");
        pages.push("README.md".into());
        for page in pages {
            assert_eq!(find_strange(&served, &read(&page)), [""; 0], "in {page:?}");
        }
        let text =
            "`tracer_blame_seconds_total`, a:tracer_blame_seconds:b, tracer_verdict_…, tracer_x";
        assert_eq!(find_strange(&served, text), ["tracer_x"]);
    }

    #[test]
    fn what_is_not_served_is_named() {
        check("tracer_sync_duration", &["docs/metrics.md has no tracer_sync_duration"]);
        check(
            "tracer_sync_duration_seconds",
            &["docs/metrics.md has no tracer_sync_duration_seconds"],
        );
        check("tracer_unsupported_count", &["docs/metrics.md has no tracer_unsupported_count"]);
        check("a:tracer_unsupported:b", &["no rule records a:tracer_unsupported:b"]);
        check(r#"tracer_unsupported{kind="x"}"#, &["tracer_unsupported has no label kind"]);
        check("sum by (culprt) (up)", &["nothing has a label culprt"]);
    }
}
