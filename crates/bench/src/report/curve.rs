//! How a cost grows with one thing, and the word for that.

use serde::{Deserialize, Serialize};

use super::spread::{Spread, number};

/// Several series that were measured while one quantity was varied.
#[derive(Deserialize, Serialize)]
pub struct Curve {
    /// The name, which is also the name of the chart's file.
    pub name: String,
    pub title: String,
    /// The quantity that was varied.
    pub x: String,
    pub series: Vec<Series>,
}

#[derive(Deserialize, Serialize)]
pub struct Series {
    pub what: String,
    pub unit: String,
    points: Vec<Point>,
}

#[derive(Deserialize, Serialize)]
struct Point {
    x: f64,
    /// One value per round.
    values: Vec<f64>,
}

/// The growth of a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Growth {
    Flat,
    /// No faster than the logarithm.
    Logarithmic,
    Falling,
    /// Faster than the logarithm.
    Growing,
}

/// Points within this factor of one another count as equal: rounds on a machine that is
/// not idle differ by as much.
const FLAT: f64 = 1.3;

/// The last step may be this many times as steep as the whole curve. For a logarithm the
/// factor is 1, and rounds differ; a square root over some decades exceeds this.
const STEEPER: f64 = 1.7;

impl Curve {
    pub fn new(name: &str, title: &str, x: &str) -> Self {
        let (name, title, x) = (name.to_owned(), title.to_owned(), x.to_owned());
        Self { name, title, x, series: Vec::new() }
    }

    /// One round's value at one point.
    pub fn note(&mut self, what: &str, unit: &str, x: f64, value: f64) {
        let at = self.series.iter().position(|series| series.what == what).unwrap_or_else(|| {
            let (what, unit) = (what.to_owned(), unit.to_owned());
            self.series.push(Series { what, unit, points: Vec::new() });
            self.series.len() - 1
        });
        let points = &mut self.series[at].points;
        let after = points.partition_point(|point| point.x < x);
        match points.get_mut(after) {
            Some(point) if point.x == x => point.values.push(value),
            _ => points.insert(after, Point { x, values: vec![value] }),
        }
    }

    pub fn find(&self, what: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.what == what)
    }
}

impl Series {
    /// The points in the order of x.
    pub fn spreads(&self) -> Vec<(f64, Spread)> {
        let spread = |point: &Point| Some((point.x, Spread::of(&point.values)?));
        self.points.iter().filter_map(spread).collect()
    }

    /// The point nearest to `x`, by ratio.
    pub fn near(&self, x: f64) -> Option<(f64, Spread)> {
        let distance = |(at, _): &(f64, Spread)| (at / x).ln().abs();
        self.spreads().into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    pub fn growth(&self) -> Option<Growth> {
        let spreads = self.spreads();
        let ((x_first, first), (x_last, last)) = (*spreads.first()?, *spreads.last()?);
        let (first, last) = (first.median, last.median);
        // Zero has no logarithm.
        if first <= 0.0 || last <= 0.0 || x_first <= 0.0 || x_last <= x_first {
            return None;
        }
        let medians = spreads.iter().map(|(_, spread)| spread.median);
        let (least, most) = (medians.clone().fold(f64::MAX, f64::min), medians.fold(0.0, f64::max));
        let slope = |x: f64, y: f64| (last - y) / (x_last / x).ln();
        let (x_before, before) = *spreads.get(spreads.len().saturating_sub(2))?;
        let is_steeper = slope(x_before, before.median) > slope(x_first, first) * STEEPER;
        Some(match () {
            () if most <= least * FLAT => Growth::Flat,
            () if last < first => Growth::Falling,
            () if most <= last * FLAT && !is_steeper => Growth::Logarithmic,
            () => Growth::Growing,
        })
    }

    /// One sentence without its end: `flat: 530 to 560 ns`.
    pub fn describe(&self) -> String {
        let Self { what, unit, .. } = self;
        let spreads = self.spreads();
        let (Some((x_first, first)), Some((x_last, last))) = (spreads.first(), spreads.last())
        else {
            return format!("{what}: not measured");
        };
        let word = match self.growth() {
            // A load's throughput is not a cost.
            _ if unit == "/s" => "",
            None => "",
            Some(Growth::Flat) => "flat, ",
            Some(Growth::Logarithmic) => "no faster than the logarithm, ",
            Some(Growth::Falling) => "falls, ",
            Some(Growth::Growing) => "**grows**, ",
        };
        let (first, last) = (number(first.median), number(last.median));
        let (x_first, x_last) = (number(*x_first), number(*x_last));
        format!("{what}: {word}{first} {unit} at {x_first}, {last} {unit} at {x_last}")
    }
}
