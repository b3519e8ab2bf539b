//! A filter leaves something out of a snapshot, and says so.

use serde::Serialize;

/// A snapshot that shows a part of the node says so. Whoever is blamed is in it all
/// the same: a filter chooses those who wait, and never those they wait for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Filtered {
    /// Says what is shown, such as `disk sd*, namespace shop`.
    pub only: String,
    pub victims_left_out: usize,
    /// Syncs that have not ended.
    pub hanging_left_out: usize,
    pub disks_left_out: usize,
}
