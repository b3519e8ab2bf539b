//! A victim over time, as a picture: its syncs, its culprits, their phases and its disk, one
//! below the other on the same axis of time.
//!
//! A picture is SVG that loads nothing and runs nothing. Whatever a colour says in it, a label
//! or a width says too; its text follows the reader's light or dark page. Names are text.

mod axis;
mod draw;
mod panel;
mod steps;

pub use axis::step;
pub use draw::draw;

use tracer_snapshot::Phases;

/// The contents of a picture. All times are Unix seconds.
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
    /// Syncs that ended, or still lasted; without any, all that follows but the disk is zero.
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
    /// Seconds of the victim's wait that it is blamed for, in each second: for those that do
    /// something else than requests on this disk.
    Blamed,
}

impl Chart {
    /// The picture in words, for those who do not see it.
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
