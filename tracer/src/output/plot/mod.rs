//! The plot of one victim over time: its syncs, its culprits, the phases of its syncs and its
//! disk, one below the other on a common time axis.
//!
//! A plot is SVG that loads nothing and runs nothing. Nothing is shown by colour alone: a label or
//! the width of a line shows it, too. Texts are legible on a light and on a dark page, and names
//! are escaped.

mod axis;
mod draw;
mod panel;
mod steps;

pub use axis::step;
pub use draw::draw;

use tracer_snapshot::Phases;

/// The contents of a plot. All times are Unix seconds.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// The victim, as [`super::names`] writes it.
    pub victim: String,
    /// The disk that it waits for; empty where that is unknown.
    pub disk: String,
    pub from: f64,
    pub to: f64,
    /// In the order of time. They do not overlap; there is none where nothing was recorded.
    pub columns: Vec<Column>,
    pub lanes: Vec<Lane>,
    /// Times in which the victim was slow.
    pub slow: Vec<[f64; 2]>,
    /// Times without data.
    pub gaps: Vec<[f64; 2]>,
    pub marks: Vec<f64>,
}

/// Some seconds of a victim and of its disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Column {
    pub from: f64,
    pub to: f64,
    /// Syncs that ended, or had not ended yet. If there are none, the fields below are zero, except
    /// for those of the disk.
    pub syncs: u64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    /// The sum over all syncs.
    pub phases: Phases,
    /// The mean time that the disk's requests waited to be issued; `None` without a request.
    pub queue_seconds: Option<f64>,
    /// The mean time that they were at the device.
    pub device_seconds: Option<f64>,
}

/// An actor beside the victim, with one value for each column.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The actor and its operation.
    pub name: String,
    pub measure: Measure,
    pub values: Vec<f64>,
}

/// The unit of a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// Mean requests in flight.
    InFlight,
    /// Seconds of the victim's wait per second that the actor is blamed for. This is used for
    /// actors without requests on this disk, such as one that takes the CPU.
    Blamed,
}

impl Chart {
    /// A description of the plot in words, for screen readers.
    pub fn sentence(&self) -> String {
        format!(
            "{}: p50 and p99 of its syncs, who was active beside it, the phases of a sync, and \
             the times of requests on its disk, over the same time",
            self.victim
        )
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::chart as fixture;
