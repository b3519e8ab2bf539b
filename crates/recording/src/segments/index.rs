//! The time that a segment is about, found without unpacking it: by the heads of its
//! members.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    SUMS,
    folder::{self, Found},
    member::{HEAD, Head, unpack},
};

/// Segments of a directory that are looked at; a recorder keeps far fewer.
pub const MAX_FILES: usize = 4096;

/// Members of a segment that are looked at: two days of them.
const MAX_MEMBERS: u32 = 1 << 18;

/// This much before a moment is played too: a victim's baseline, and its evidence on
/// others, are learnt within some minutes.
const BEFORE_SECONDS: f64 = 900.0;

/// A segment, and the time from its first to its latest whole second.
#[derive(Clone, Debug)]
pub struct Segment {
    pub found: Found,
    /// Unix seconds.
    pub first: f64,
    pub last: f64,
}

/// The segments of a directory in the order in which they were written, and before them
/// those of sums. A file that was never written to, or that still holds what an older
/// number left in it, is none.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Segment>> {
    let detail = newest(folder::list(path)?);
    // There are none at first, and none in a small directory.
    let sums = newest(folder::list(&path.join(SUMS)).unwrap_or_default());
    let summed_ns = summed_ns(&sums);
    let mut all: Vec<_> = sums.into_iter().filter_map(segment).collect();
    // A tracer that was killed may have left what was added up already.
    let is_new = |one: &(i64, Segment)| Some(one.0) != summed_ns;
    all.extend(detail.into_iter().filter_map(segment).filter(is_new));
    Ok(all.into_iter().map(|(_, segment)| segment).collect())
}

/// The segment that was added up last, as sums know it: by the time of its first member, which
/// all its sums have. That time identifies it; it says nothing about what came before, because
/// a clock may be set back. `None` where there are no sums.
pub fn summed_ns(sums: &[Found]) -> Option<i64> {
    sums.iter().rev().find_map(|found| {
        let file = folder::open(&found.path).ok()?;
        let last = Heads::new(&file).map(|(_, head)| head).last();
        last.filter(|head| head.segment == found.number).map(|head| head.unix_ns)
    })
}

/// The segments from which a replay comes to know this moment, in Unix seconds: those that
/// end long before it are left out.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn since(path: &Path, from: f64) -> io::Result<Vec<Segment>> {
    let mut segments = read(path)?;
    // If the clock was set back, a segment may know of this moment although the next one began
    // long before it.
    let is_early = |two: &&[Segment]| two[0].last < from && two[1].first <= from - BEFORE_SECONDS;
    let early = segments.windows(2).take_while(is_early).count();
    segments.drain(..early);
    Ok(segments)
}

fn newest(mut found: Vec<Found>) -> Vec<Found> {
    found.split_off(found.len().saturating_sub(MAX_FILES))
}

/// With the time of its first member, in Unix nanoseconds.
fn segment(found: Found) -> Option<(i64, Segment)> {
    let [first_ns, last_ns] = span_ns(&folder::open(&found.path).ok()?, found.number)?;
    let seconds = |ns: i64| ns as f64 / 1e9;
    Some((first_ns, Segment { found, first: seconds(first_ns), last: seconds(last_ns) }))
}

/// The time of the first member of a segment, and the latest time of one, which is not the last
/// member's if the clock was set back. Both are in Unix nanoseconds.
pub fn span_ns(file: &File, number: u64) -> Option<[i64; 2]> {
    let mut heads = Heads::new(file).map(|(_, head)| head);
    let first = heads.next().filter(|head| head.segment == number)?.unix_ns;
    Some([first, heads.map(|head| head.unix_ns).fold(first, i64::max)])
}

/// The heads of a segment's members, with their places.
pub struct Heads<'a> {
    file: &'a File,
    at: u64,
    before: Option<Head>,
}

impl<'a> Heads<'a> {
    pub fn new(file: &'a File) -> Self {
        Self { file, at: 0, before: None }
    }
}

impl Iterator for Heads<'_> {
    type Item = (u64, Head);

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = [0; HEAD];
        self.file.read_exact_at(&mut bytes, self.at).ok()?;
        let head = Head::parse(&bytes).filter(|head| head.follows(self.before.as_ref()))?;
        if head.number >= MAX_MEMBERS {
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
