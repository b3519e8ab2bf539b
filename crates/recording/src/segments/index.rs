//! The time that a segment is about, found without unpacking it: by the heads of its
//! members.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    folder::{self, Found},
    member::{HEAD, Head, unpack},
};

/// Segments of a directory that are looked at; a recorder keeps far fewer.
pub const MOST_FILES: usize = 4096;

/// Members of a segment that are looked at: two days of them.
const MOST_MEMBERS: u32 = 1 << 18;

/// A segment, and the time from its first to its last whole second.
#[derive(Clone, Debug)]
pub struct Segment {
    pub found: Found,
    /// Unix seconds.
    pub first: f64,
    pub last: f64,
}

/// The segments of a directory in the order in which they were written. A file that
/// was never written to, or that still holds what an older number left in it, is none.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Segment>> {
    let mut found = folder::list(path)?;
    let more = found.len().saturating_sub(MOST_FILES);
    Ok(found.drain(..).skip(more).filter_map(segment).collect())
}

fn segment(found: Found) -> Option<Segment> {
    let file = folder::open(&found.path).ok()?;
    let heads = Heads::new(&file);
    let (mut first, mut last) = (None, None);
    for (_, head) in heads {
        first.get_or_insert(head);
        last = Some(head);
    }
    let (first, last) = (first.filter(|head| head.segment == found.number)?, last?);
    let seconds = |head: Head| head.unix_ns as f64 / 1e9;
    Some(Segment { found, first: seconds(first), last: seconds(last) })
}

/// The heads of a segment's members, with their places.
struct Heads<'a> {
    file: &'a File,
    at: u64,
    before: Option<Head>,
}

impl<'a> Heads<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, at: 0, before: None }
    }
}

impl Iterator for Heads<'_> {
    type Item = (u64, Head);

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = [0; HEAD];
        self.file.read_exact_at(&mut bytes, self.at).ok()?;
        let head = Head::parse(&bytes).filter(|head| head.follows(self.before.as_ref()))?;
        if head.number >= MOST_MEMBERS {
            return None;
        }
        let at = self.at;
        self.at = at.checked_add(head.length.into())?;
        self.before = Some(head);
        Some((at, head))
    }
}

/// The part of a segment that can be read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Whole {
    pub segment: u64,
    pub members: u32,
    pub bytes: u64,
}

impl Whole {
    /// Reads and checks all of it; `None` where not even the first member is whole.
    pub fn of(file: &File) -> Option<Self> {
        let (mut whole, mut packed, mut plain) = (None, Vec::new(), Vec::new());
        for (at, head) in Heads::new(file) {
            packed.resize(head.length as usize, 0);
            let is_whole = file.read_exact_at(&mut packed, at).is_ok();
            if !is_whole || unpack(&packed, &mut plain).is_none() {
                break;
            }
            let (members, bytes) = (head.number + 1, at + u64::from(head.length));
            whole = Some(Self { segment: head.segment, members, bytes });
        }
        whole
    }
}
