//! The flight recorder: recordings of bounded size for an agent that runs for good.
//!
//! A [`recorder`](crate::recorder) hands each second's lines to a thread of its own
//! ([`flight`]), which packs them ([`member`]) and writes them to the files of one
//! directory ([`writer`], [`folder`]). Each file is a recording that begins with
//! everything that it speaks of, so that it can be replayed alone. Whatever the disk
//! does, the recorder's caller waits for nothing: what cannot be kept is counted.

pub mod copy;
pub mod flight;
mod fold;
pub mod folder;
pub mod index;
pub mod member;
pub mod set_back;
pub mod writer;

/// Segments of a directory, usually: one is dropped for each that begins.
const FILES: u64 = 32;

const LEAST_SEGMENT: u64 = 1 << 20;
const MAX_SEGMENT: u64 = 32 << 20;

/// The directory of sums, within that of segments.
pub const SUMS: &str = "sums";

/// The part of all bytes that is for sums.
const SUMS_PART: u64 = 8;

/// The size limits of a directory of segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// All segments together.
    pub bytes: u64,
    /// Each of them.
    pub segment_bytes: u64,
}

impl Bounds {
    /// The least size of a directory: four segments.
    pub const MIN: u64 = 4 * LEAST_SEGMENT;
    /// The most: half as many files as a reader looks at.
    pub const MAX: u64 = index::MAX_FILES as u64 / 2 * MAX_SEGMENT;

    /// The limits of the segments, and of the sums of those that went; a small directory
    /// has none.
    pub fn divide(bytes: u64) -> (Self, Option<Self>) {
        let sums = bytes / SUMS_PART;
        match sums >= Self::MIN {
            true => (Self::of(bytes - sums), Some(Self::of(sums))),
            false => (Self::of(bytes), None),
        }
    }

    fn of(bytes: u64) -> Self {
        let segment = (bytes / FILES).clamp(LEAST_SEGMENT, MAX_SEGMENT);
        // Whole blocks.
        Self { bytes, segment_bytes: segment - segment % 4096 }
    }

    /// The greatest number of files.
    pub fn files(&self) -> usize {
        (self.bytes / self.segment_bytes.max(1)).max(1) as usize
    }
}
