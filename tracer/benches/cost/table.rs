//! The results: one row per thing measured, one value per round.

use std::{
    fs,
    io::{self, Write},
    thread,
    time::SystemTime,
};

use serde::Serialize;

/// Rows that belong together, and what they are held against.
#[derive(Eq, PartialEq)]
pub struct Section {
    pub title: &'static str,
    /// Empty where there is nothing to hold them against.
    pub base: &'static str,
}

/// All rows, in the order in which they came up.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    section: &'static Section,
    what: String,
    unit: &'static str,
    values: Vec<f64>,
    base: Vec<f64>,
}

/// Where and how it was measured.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    date: String,
    rounds: u32,
    seconds: u64,
}

/// A row as it is told.
#[derive(Serialize)]
struct Summary<'a> {
    section: &'a str,
    what: &'a str,
    unit: &'a str,
    median: f64,
    min: f64,
    max: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Base<'a>>,
}

/// What a row is held against.
#[derive(Serialize)]
struct Base<'a> {
    name: &'a str,
    median: f64,
    min: f64,
    max: f64,
    /// The row's median to this one's.
    ratio: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    rows: Vec<Summary<'a>>,
}

impl Table {
    /// One round's value.
    pub fn note(&mut self, section: &'static Section, what: &str, unit: &'static str, value: f64) {
        let row = self.row(section, what);
        row.unit = unit;
        row.values.push(value);
    }

    /// One round's value of what it is held against.
    pub fn note_base(&mut self, section: &'static Section, what: &str, value: f64) {
        self.row(section, what).base.push(value);
    }

    fn row(&mut self, section: &'static Section, what: &str) -> &mut Row {
        let found = self.0.iter().position(|row| row.section == section && row.what == what);
        let at = found.unwrap_or_else(|| {
            // Sections stay together, whoever comes first.
            let end = self.0.iter().rposition(|row| row.section == section);
            let at = end.map_or(self.0.len(), |end| end + 1);
            let (values, base) = (Vec::new(), Vec::new());
            self.0.insert(at, Row { section, what: what.to_owned(), unit: "", values, base });
            at
        });
        &mut self.0[at]
    }

    /// Rows that were measured; of a floor without its program there is none.
    fn summaries(&self) -> Vec<Summary<'_>> {
        self.0.iter().filter_map(Row::summary).collect()
    }

    pub fn write_json(&self, out: &mut impl Write, machine: &Machine) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &Report { machine, rows: self.summaries() })?;
        writeln!(out)
    }

    pub fn write_text(&self, out: &mut impl Write, machine: &Machine) -> io::Result<()> {
        let Machine { cpu, cores, kernel, date, rounds, seconds } = machine;
        writeln!(out, "{cpu}, {cores} cores, Linux {kernel}, {date}")?;
        writeln!(
            out,
            "Medians, with the smallest and largest, of {rounds} rounds of {seconds} s."
        )?;
        let mut section = "";
        for row in self.summaries() {
            if row.section != section {
                section = row.section;
                let heads = [row.base.as_ref().map_or("", |base| base.name), "ratio"];
                let heads = if row.base.is_some() { heads } else { ["", ""] };
                let line = columns(["", "median", "min-max", "unit", heads[0], heads[1]]);
                write!(out, "\n{section}\n{line}")?;
            }
            let what = format!("  {}", row.what);
            let spread = format!("{}-{}", number(row.min), number(row.max));
            let (base, ratio) = row.base.map_or_else(Default::default, |base| {
                (number(base.median), format!("{:.2}", base.ratio))
            });
            let median = number(row.median);
            write!(out, "{}", columns([&what, &median, &spread, row.unit, &base, &ratio]))?;
        }
        Ok(())
    }
}

impl Row {
    fn summary(&self) -> Option<Summary<'_>> {
        let (median, min, max) = spread(&self.values)?;
        let base = spread(&self.base).map(|(base, min, max)| Base {
            name: self.section.base,
            median: base,
            min,
            max,
            ratio: median / base,
        });
        let Self { section, what, unit, .. } = self;
        Some(Summary { section: section.title, what, unit, median, min, max, base })
    }
}

/// One line of the table.
fn columns([what, median, spread, unit, base, ratio]: [&str; 6]) -> String {
    let line = format!("{what:44}{median:>10}{spread:>19} {unit:11}{base:>19}{ratio:>7}");
    format!("{}\n", line.trim_end())
}

/// Median, smallest and largest.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    Some((median, min, max))
}

/// Whole numbers in whole, others with about three digits that mean something.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

impl Machine {
    pub fn read(rounds: u32, seconds: u64) -> Self {
        let line = |path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            clean(text.lines().next().unwrap_or("unknown"))
        };
        Self {
            cpu: read_cpu(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: line("/proc/sys/kernel/osrelease"),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            rounds,
            seconds,
        }
    }
}

/// `model name` is what x86 says; others have no such line.
fn read_cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    match line.and_then(|line| line.split_once(": ")) {
        Some((_, model)) => clean(model),
        None => format!("a CPU ({})", std::env::consts::ARCH),
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
