//! Draws the results of a panel's queries, so that people can see a dashboard without
//! Grafana: one SVG for each panel, in `target/panels`.
//!
//! Two things count as faults: a legend with a label that no series has, and a value that is
//! not a number. Grafana's colours, stacking and units are not imitated.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;

use crate::deploy::workspace;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// The room for numbers beside the lines, and for a title above them.
const MARGIN: f64 = 60.0;
const LEGEND: f64 = 14.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2"];

/// The lines of one panel, gathered query by query.
#[derive(Default)]
pub struct Drawing {
    lines: Vec<(String, Vec<[f64; 2]>)>,
    faults: Vec<String>,
}

/// The labels that a legend names: `culprit`, `op` of `{{culprit}} {{op}}`.
fn labels(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

fn name(legend: &str, metric: &Value) -> String {
    let fill = |name: String, label: &str| {
        let value = metric[label].as_str().unwrap_or_default();
        name.replace(&format!("{{{{{label}}}}}"), value)
    };
    labels(legend).fold(legend.to_owned(), fill)
}

/// Time and value as the API has them: `[1700000000, "0.5"]`. Prometheus has no value
/// where nothing was divided by nothing.
fn point(pair: &Value) -> Result<Option<[f64; 2]>, String> {
    let value = pair[1].as_str().and_then(|value| value.parse::<f64>().ok());
    match (pair[0].as_f64(), value) {
        (Some(time), Some(value)) => Ok(value.is_finite().then_some([time, value])),
        _ => Err(format!("{pair} is not a value")),
    }
}

impl Drawing {
    pub fn add(&mut self, legend: &str, series: &[Value]) {
        for label in labels(legend) {
            let has = |one: &Value| one["metric"][label].is_string();
            if !series.is_empty() && !series.iter().any(has) {
                self.faults.push(format!("no series has the label {label} of its legend"));
            }
        }
        for one in series {
            let pairs = match (&one["values"], &one["value"]) {
                (Value::Array(values), _) => values.clone(),
                (_, value) => vec![value.clone()],
            };
            let points: Result<Vec<_>, _> = pairs.iter().map(point).collect();
            match points {
                Ok(points) => {
                    let points = points.into_iter().flatten().collect();
                    self.lines.push((name(legend, &one["metric"]), points));
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// Writes the chart; returns what could not be drawn.
    pub fn save(self, dashboard: &str, title: &str) -> Vec<String> {
        let folder = workspace().join("target/panels").join(dashboard);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let file: PathBuf = folder.join(title.chars().map(plain).collect::<String>() + ".svg");
        fs::create_dir_all(&folder).unwrap();
        fs::write(file, self.svg(title)).unwrap();
        self.faults
    }

    fn svg(&self, title: &str) -> String {
        let all = || self.lines.iter().flat_map(|(_, points)| points);
        let range = |at: usize| {
            let least = all().map(|point| point[at]).fold(f64::INFINITY, f64::min);
            let most = all().map(|point| point[at]).fold(f64::NEG_INFINITY, f64::max);
            if least.is_finite() { (least, most) } else { (0.0, 1.0) }
        };
        let (begin, end) = range(0);
        let (least, most) = range(1);
        let least = least.min(0.0);
        let across = |time: f64| MARGIN + (time - begin) / (end - begin).max(1.0) * WIDTH;
        let down = |value: f64| {
            let share = if most > least { (value - least) / (most - least) } else { 0.0 };
            MARGIN + (1.0 - share) * HEIGHT
        };
        // Series of one name are one entry; a panel may have hundreds of series.
        let names: BTreeMap<_, _> =
            self.lines.iter().enumerate().map(|(at, (name, _))| (name, at)).collect();
        let height = HEIGHT + 2.0 * MARGIN + LEGEND * names.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<text x=\"{MARGIN}\" y=\"24\">{}</text>\n\
             <text x=\"4\" y=\"{MARGIN}\">{most:.4}</text>\n<text x=\"4\" y=\"{}\">{least:.4}</text>\n",
            WIDTH + 2.0 * MARGIN,
            escaped(title),
            MARGIN + HEIGHT,
        );
        for (at, (_, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let mut path = String::new();
            for [time, value] in points {
                let _ = write!(path, "{:.1},{:.1} ", across(*time), down(*value));
            }
            let _ = match points.as_slice() {
                [[time, value]] => writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    across(*time),
                    down(*value)
                ),
                _ => {
                    writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>")
                }
            };
        }
        for (row, (name, at)) in names.iter().enumerate() {
            let y = HEIGHT + 1.5 * MARGIN + LEGEND * row as f64;
            let colour = COLOURS[at % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
                escaped(name)
            );
        }
        svg + "</svg>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let mut drawing = Drawing::default();
        let metric = json!({"culprit": "fstrim <1>", "op": "discard"});
        drawing.add(
            "{{culprit}} {{op}}",
            &[json!({"metric": metric, "values": [[100, "0"], [110, "NaN"], [200, "4"]]})],
        );
        let svg = drawing.svg("Blame");
        assert!(svg.contains("points=\"60.0,300.0 780.0,60.0 \""), "{svg}");
        assert!(svg.contains(">fstrim &lt;1&gt; discard</text>"), "{svg}");
        assert_eq!(drawing.faults, [""; 0]);
    }

    #[test]
    fn what_cannot_be_drawn_is_a_fault() {
        let mut drawing = Drawing::default();
        drawing.add("{{disk}}", &[json!({"metric": {"dsk": "sda"}, "value": [1, "2"]})]);
        drawing.add("", &[json!({"metric": {}, "value": [1, "many"]})]);
        assert_eq!(
            drawing.faults,
            ["no series has the label disk of its legend", "[1,\"many\"] is not a value"]
        );
        // Without results the chart has no lines.
        assert!(Drawing::default().svg("").ends_with("</svg>\n"));
    }
}
