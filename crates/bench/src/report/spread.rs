//! Several rounds as one figure: the median, with the smallest and largest.

/// The minimum, median and maximum of at least one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Some(Self { median, min, max })
    }

    /// `510–540`, or the one value where all are alike.
    pub fn range(&self) -> String {
        let (min, max) = (number(self.min), number(self.max));
        if min == max { min } else { format!("{min}–{max}") }
    }
}

/// Whole numbers are printed whole, others with about three significant digits.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.01 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}
