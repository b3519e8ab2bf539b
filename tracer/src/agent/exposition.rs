//! Metric families as text: Prometheus' own format and OpenMetrics 1.0.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.
//! The crate `prometheus` writes the first; it has no second. Label values may
//! hold anything.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Context as _, Result};
use prometheus::{
    TextEncoder,
    proto::{Metric, MetricFamily, MetricType},
};

/// A series' labels.
pub type Labels = Vec<(String, String)>;

/// The histogram whose buckets have exemplars.
const EXEMPLIFIED: &str = "tracer_sync_duration_seconds";

/// One sync that stands for those of its bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// Its number in `/api/v1/syncs`.
    pub id: u64,
    pub seconds: f64,
    /// When it ended, in Unix seconds.
    pub at: f64,
}

/// Slow syncs by the series that they are counted in, the latest first.
#[derive(Debug, Default)]
pub struct Exemplars(HashMap<Labels, Vec<Exemplar>>);

impl Exemplars {
    /// Adds the next older sync.
    pub fn push(&mut self, labels: Labels, exemplar: Exemplar) {
        self.0.entry(labels).or_default().push(exemplar);
    }

    fn of(&self, metric: &Metric) -> &[Exemplar] {
        if self.0.is_empty() {
            return &[];
        }
        let pairs = metric.get_label().iter();
        let labels: Labels =
            pairs.map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect();
        self.0.get(&labels).map_or(&[], Vec::as_slice)
    }
}

/// A format that a scraper may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for; the text format if it accepts
    /// both.
    pub fn wanted(accept: &str) -> Self {
        let (mut text, mut open_metrics) = (0.0, 0.0);
        for one in accept.split(',') {
            let mut parts = one.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
            let weight: f64 = weight.unwrap_or(1.0);
            match media.as_str() {
                "application/openmetrics-text" => open_metrics = weight.max(open_metrics),
                "text/plain" | "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        if open_metrics > text { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// # Errors
    ///
    /// When a family has no name or no series: never of `families`.
    pub fn write(self, families: &[MetricFamily], exemplars: &Exemplars) -> Result<String> {
        match self {
            Self::Text => TextEncoder::new()
                .encode_to_string(families)
                .context("failed to write the metrics as text"),
            Self::OpenMetrics => Ok(open_metrics(families, exemplars)),
        }
    }
}

fn open_metrics(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::new();
    for family in families {
        let kind = family.get_field_type();
        let is_counter = kind == MetricType::COUNTER;
        let name = match family.name().strip_suffix("_total") {
            Some(name) if is_counter => name,
            _ => family.name(),
        };
        let said = match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            // No family of the agent has these types.
            MetricType::SUMMARY | MetricType::UNTYPED => "unknown",
        };
        // Writing to a `String` does not fail.
        let _ = writeln!(out, "# TYPE {name} {said}");
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|u| is_in(name, u)) {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    sample(&mut out, name, "_total", metric, metric.get_counter().get_value());
                }
                MetricType::HISTOGRAM => {
                    let of_it = if name == EXEMPLIFIED { exemplars.of(metric) } else { &[] };
                    buckets(&mut out, name, metric, of_it);
                }
                _ => sample(&mut out, name, "", metric, metric.get_gauge().get_value()),
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn is_in(name: &str, unit: &str) -> bool {
    name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

fn buckets(out: &mut String, name: &str, metric: &Metric, exemplars: &[Exemplar]) {
    let histogram = metric.get_histogram();
    let finite = histogram.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count()));
    let mut below = f64::NEG_INFINITY;
    for (upper, count) in finite.chain([(f64::INFINITY, histogram.get_sample_count())]) {
        let bound = if upper.is_finite() { format!("{upper:?}") } else { "+Inf".to_owned() };
        labelled(out, name, "_bucket", metric, Some(&bound));
        let _ = write!(out, " {count}");
        let latest = exemplars.iter().find(|one| below < one.seconds && one.seconds <= upper);
        if let Some(Exemplar { id, seconds, at }) = latest {
            let _ = write!(out, " # {{sync_id=\"{id}\"}} {seconds} {at:.3}");
        }
        out.push('\n');
        below = upper;
    }
    sample(out, name, "_sum", metric, histogram.get_sample_sum());
    sample(out, name, "_count", metric, histogram.get_sample_count() as f64);
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, value: f64) {
    labelled(out, name, suffix, metric, None);
    let _ = match value {
        f64::INFINITY => writeln!(out, " +Inf"),
        f64::NEG_INFINITY => writeln!(out, " -Inf"),
        value => writeln!(out, " {value}"),
    };
}

fn labelled(out: &mut String, name: &str, suffix: &str, metric: &Metric, bound: Option<&str>) {
    out.push_str(name);
    out.push_str(suffix);
    let pairs = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
    let mut before = '{';
    for (name, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
        let _ = write!(out, "{before}{name}=\"{}\"", escaped(value));
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
