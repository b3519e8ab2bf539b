//! A copy of what a directory knows of some time, as one file that replays by itself.
//!
//! Members of several segments stand one after another in it, and the last one says that
//! the recording itself goes on. Each member is checked before it is copied, because a
//! recorder may overwrite the oldest segment meanwhile; a segment ends where it is no
//! longer whole, as in a replay of the directory.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde_json::json;

use super::{
    folder,
    index::{self, Heads, Segment},
    member::{Head, LEVEL, pack, unpack},
};
use crate::line::Copied;

/// A member is written at the end of its second.
const LATE_SECONDS: f64 = 2.0;

/// The segments that are to be copied, and the time that is asked for.
#[derive(Debug)]
pub struct Copy {
    segments: Vec<Segment>,
    from: f64,
    to: f64,
}

impl Copy {
    /// Finds the segments that know of this time, in Unix seconds, and those from which a
    /// replay learns what was usual before it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn of(path: &Path, from: f64, to: f64) -> io::Result<Self> {
        let segments = index::since(path, from)?;
        let segments = segments.into_iter().take_while(|one| one.first < to).collect();
        Ok(Self { segments, from, to })
    }

    /// Whether nothing is known of that time.
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|one| one.last < self.from)
    }

    /// The time that the segments begin at; `None` where there is none.
    pub fn first(&self) -> Option<f64> {
        self.segments.first().map(|one| one.first)
    }

    /// About this many bytes are written.
    pub fn bytes(&self) -> u64 {
        let of = |segment: &Segment| {
            let Ok(file) = folder::open(&segment.found.path) else { return 0 };
            let heads = Heads::new(&file).map(|(_, head)| head);
            heads.take_while(|head| !self.is_later(head)).map(|head| u64::from(head.length)).sum()
        };
        self.segments.iter().map(of).sum()
    }

    fn is_later(&self, head: &Head) -> bool {
        head.unix_ns as f64 / 1e9 > self.to + LATE_SECONDS
    }

    /// Writes it, one member at a time.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Segments that cannot be read are left out.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (mut last, mut packed, mut plain) = (None, Vec::new(), Vec::new());
        for segment in &self.segments {
            let Ok(file) = folder::open(&segment.found.path) else { continue };
            for (at, head) in Heads::new(&file) {
                let is_whole = head.segment == segment.found.number
                    && read(&file, at, head, &mut packed)
                    && unpack(&packed, &mut plain).is_some();
                if self.is_later(&head) || !is_whole {
                    break;
                }
                out.write_all(&packed)?;
                last = Some(head);
            }
        }
        let Some(last) = last else { return Ok(()) };
        let end = json!({ "copied": Copied { from: self.from, to: self.to } });
        let head = Head { number: last.number.saturating_add(1), ..last };
        pack(head, format!("{end}\n").as_bytes(), LEVEL, &mut packed)?;
        out.write_all(&packed)
    }
}

/// Reads a member whose head is still the one that was seen before.
fn read(file: &File, at: u64, head: Head, packed: &mut Vec<u8>) -> bool {
    packed.resize(head.length as usize, 0);
    file.read_exact_at(packed, at).is_ok() && Head::parse(packed) == Some(head)
}
