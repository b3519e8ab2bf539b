//! A session kept in a file, and played again.
//!
//! A recording holds what the engine is fed (syncs and ticks) and what snapshots
//! are named by (owners, identities, files, devices, disks), as one JSON object
//! a line, in gzip. `docs/recording.md` describes it for others. A replay feeds
//! the same engine, and so comes to the same verdicts.
//!
//! The writer trusts what it is given; the reader trusts nothing.

#![forbid(unsafe_code)]

pub mod breaks;
mod checkpoint;
mod checks;
mod comm;
pub mod line;
pub mod reader;
pub mod recorder;
pub mod replay;
pub mod segments;
pub mod sums;
mod thinning;

use std::fmt;

/// The format that the first line of every recording names.
pub const FORMAT: &str = "tracer-recording";

/// Raised when what is written means something else than before. New lines and
/// new fields are added without it: readers skip what they do not know.
pub const VERSION: u32 = 2;

/// A file is no recording, or is damaged or cut off: exit 4.
///
/// The part that could be read was shown before.
#[derive(Debug)]
pub struct Incomplete(pub String);

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Incomplete {}

#[cfg(test)]
mod tests;
