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
    set_back::{self, SetBack},
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
    /// The place at which the time begins that is asked for, if the clock was set back there.
    set_back: Option<SetBack>,
}

impl Copy {
    /// Finds the segments that know of this time, in Unix seconds, and those from which a
    /// replay learns what was usual before it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn of(path: &Path, from: f64, to: f64) -> io::Result<Self> {
        let set_back = set_back::find(path, from, to)?;
        let mut segments = index::since(path, from)?;
        if set_back.is_none() {
            let count = segments.iter().take_while(|one| one.first < to).count();
            segments.truncate(count);
        }
        Ok(Self { segments, from, to, set_back })
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
        let mut end = self.end();
        let mut of = |segment: &Segment| {
            let Ok(file) = folder::open(&segment.found.path) else { return 0 };
            let heads = Heads::new(&file).map(|(_, head)| head);
            heads.take_while(|head| !end.is_before(head)).map(|head| u64::from(head.length)).sum()
        };
        self.segments.iter().map(&mut of).sum::<u64>()
    }

    fn end(&self) -> End {
        End { to: self.to, set_back: self.set_back, before: f64::NEG_INFINITY }
    }

    /// Writes it, one member at a time.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Segments that cannot be read are left out.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (mut last, mut packed, mut plain) = (None, Vec::new(), Vec::new());
        let mut end = self.end();
        for segment in &self.segments {
            let Ok(file) = folder::open(&segment.found.path) else { continue };
            for (at, head) in Heads::new(&file) {
                let is_whole = head.segment == segment.found.number
                    && read(&file, at, head, &mut packed)
                    && unpack(&packed, &mut plain).is_some();
                if end.is_before(&head) || !is_whole {
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

/// The end of what is copied.
struct End {
    to: f64,
    /// The time that is asked for begins here, unless that was passed already.
    set_back: Option<SetBack>,
    /// The time of the member before.
    before: f64,
}

impl End {
    fn is_before(&mut self, head: &Head) -> bool {
        let at = head.unix_ns as f64 / 1e9;
        if self.set_back.is_some_and(|place| place.is_between(self.before, at)) {
            self.set_back = None;
        }
        self.before = at;
        self.set_back.is_none() && at > self.to + LATE_SECONDS
    }
}

/// Reads a member whose head is still the one that was seen before.
fn read(file: &File, at: u64, head: Head, packed: &mut Vec<u8>) -> bool {
    packed.resize(head.length as usize, 0);
    file.read_exact_at(packed, at).is_ok() && Head::parse(packed) == Some(head)
}
