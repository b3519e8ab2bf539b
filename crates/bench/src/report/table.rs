//! The results: one row per thing measured, one value per round.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::spread::{Spread, number};

/// Rows that belong together, and the base that they are compared with.
#[derive(Eq, PartialEq)]
pub struct Section {
    pub title: &'static str,
    /// Empty if they are compared with nothing.
    pub base: &'static str,
}

/// All rows, in the order in which they were first noted.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Table(Vec<Row>);

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "RowJson", into = "RowJson")]
pub struct Row {
    pub section: String,
    pub what: String,
    pub unit: String,
    values: Vec<f64>,
    base_name: String,
    base: Vec<f64>,
    /// Why there are no values.
    pub not_measured: Option<String>,
}

/// A row as it is stored: the values of all rounds, and what follows from them.
#[derive(Clone, Deserialize, Serialize)]
struct RowJson {
    section: String,
    what: String,
    unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_measured: Option<String>,
    #[serde(flatten)]
    figures: Figures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    /// The ratio of the row's median to its base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// The base that a row is compared with.
#[derive(Clone, Deserialize, Serialize)]
struct Base {
    name: String,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Clone, Default, Deserialize, Serialize)]
struct Figures {
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(default)]
    values: Vec<f64>,
}

impl Table {
    /// Notes one round's value.
    pub fn note(&mut self, section: &Section, what: &str, unit: &str, value: f64) {
        let row = self.row(section, what);
        unit.clone_into(&mut row.unit);
        row.values.push(value);
        row.not_measured = None;
    }

    /// Notes one round's value of the base.
    pub fn note_base(&mut self, section: &Section, what: &str, value: f64) {
        self.row(section, what).base.push(value);
    }

    /// Notes that something could not be measured in this round.
    pub fn note_missing(&mut self, section: &Section, what: &str, why: &str) {
        let row = self.row(section, what);
        if row.values.is_empty() {
            row.not_measured = Some(why.to_owned());
        }
    }

    fn row(&mut self, section: &Section, what: &str) -> &mut Row {
        let is_of = |row: &Row| row.section == section.title;
        let found = self.0.iter().position(|row| is_of(row) && row.what == what);
        let at = found.unwrap_or_else(|| {
            // The rows of a section stay together, in whatever order they are noted.
            let end = self.0.iter().rposition(is_of);
            let at = end.map_or(self.0.len(), |end| end + 1);
            let row = Row {
                section: section.title.to_owned(),
                what: what.to_owned(),
                unit: String::new(),
                values: Vec::new(),
                base_name: section.base.to_owned(),
                base: Vec::new(),
                not_measured: None,
            };
            self.0.insert(at, row);
            at
        });
        &mut self.0[at]
    }

    /// Makes the row called `what` the base of every other row of a section.
    pub fn hold_against(&mut self, section: &Section, what: &str) {
        let base = self.find(section, what).map(|row| row.values.clone()).unwrap_or_default();
        for row in self.0.iter_mut().filter(|row| row.section == section.title) {
            if row.what != what {
                row.base.clone_from(&base);
            }
        }
    }

    /// The rows that were measured, or should have been. There is none for a base whose
    /// program was not measured.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(|row| !row.values.is_empty() || row.not_measured.is_some())
    }

    pub fn rows_of(&self, section: &Section) -> impl Iterator<Item = &Row> {
        self.rows().filter(|row| row.section == section.title)
    }

    pub fn find(&self, section: &Section, what: &str) -> Option<&Row> {
        self.rows_of(section).find(|row| row.what == what)
    }

    pub fn spread(&self, section: &Section, what: &str) -> Option<Spread> {
        self.find(section, what)?.spread()
    }

    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let mut section = "";
        for row in self.rows() {
            let base = Spread::of(&row.base);
            if row.section != section {
                section = &row.section;
                let heads =
                    if base.is_some() { [row.base_name.as_str(), "ratio"] } else { ["", ""] };
                let line = columns(["", "median", "min-max", "unit", heads[0], heads[1]]);
                write!(out, "\n{section}\n{line}")?;
            }
            let what = format!("  {}", row.what);
            let Some(spread) = row.spread() else {
                let why = row.not_measured.as_deref().unwrap_or_default();
                writeln!(out, "{what:44}  not measured: {why}")?;
                continue;
            };
            let range = format!("{}-{}", number(spread.min), number(spread.max));
            let (base, ratio) = base.map_or_else(Default::default, |base| {
                (number(base.median), format!("{:.2}", spread.median / base.median))
            });
            let line = [&what, &number(spread.median), &range, &row.unit, &base, &ratio];
            write!(out, "{}", columns(line.map(String::as_str)))?;
        }
        Ok(())
    }
}

impl Row {
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.values)
    }

    /// The name and the values of the row's base, if it has one.
    pub fn base(&self) -> Option<(&str, Spread)> {
        Some((&self.base_name, Spread::of(&self.base)?))
    }

    pub fn ratio(&self) -> Option<f64> {
        Some(self.spread()?.median / self.base()?.1.median).filter(|ratio| ratio.is_finite())
    }
}

impl From<Vec<f64>> for Figures {
    fn from(values: Vec<f64>) -> Self {
        let spread = Spread::of(&values);
        Self {
            median: spread.map(|spread| spread.median),
            min: spread.map(|spread| spread.min),
            max: spread.map(|spread| spread.max),
            values,
        }
    }
}

impl From<Row> for RowJson {
    fn from(row: Row) -> Self {
        let ratio = row.ratio();
        let Row { section, what, unit, values, base_name, base, not_measured } = row;
        let base = (!base.is_empty()).then(|| Base { name: base_name, figures: base.into() });
        Self { section, what, unit, not_measured, figures: values.into(), base, ratio }
    }
}

impl From<RowJson> for Row {
    fn from(json: RowJson) -> Self {
        let RowJson { section, what, unit, not_measured, figures, base, ratio: _ } = json;
        let (base_name, base) =
            base.map(|base| (base.name, base.figures.values)).unwrap_or_default();
        Self { section, what, unit, values: figures.values, base_name, base, not_measured }
    }
}

/// One line of the table.
fn columns([what, median, spread, unit, base, ratio]: [&str; 6]) -> String {
    let line = format!("{what:44}{median:>10}{spread:>19} {unit:11}{base:>19}{ratio:>7}");
    format!("{}\n", line.trim_end())
}
