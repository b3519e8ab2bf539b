//! Writes segments: files of one size, of which the newest overwrites the oldest.
//!
//! Nothing is synced, and a file that is overwritten needs no new blocks: a commit of
//! the filesystem's journal finds nothing of ours to write before it. Pages that were
//! written are dropped behind.

use std::{
    fs::File,
    io,
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    time::{Duration, SystemTime},
};

use rustix::fs::{Advice, fadvise};

use super::{
    Bounds,
    fold::fold,
    folder::{Folder, Found, Free},
    index::{Whole, span_ns, summed_ns},
    member::{Head, LEVEL, LEVEL_OF_HALVES, LEVEL_OF_SUMS, pack},
};

/// Older segments are not kept, even where there is room.
pub const OLDEST: Duration = Duration::from_secs(72 * 3600);
/// Nor are older sums.
pub const OLDEST_SUMS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pages are dropped in pieces of this size.
const DROPPED_BYTES: u64 = 1 << 20;

/// Room for a header, with which each segment begins.
const HEADER_BYTES: u64 = 64 << 10;

/// Why nothing more is written.
#[derive(Debug)]
pub enum Trouble {
    /// The filesystem has too little left: a sentence.
    Full(String),
    Failed(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(format!("its filesystem is full ({error})"))
            }
            _ => Self::Failed(error),
        }
    }
}

/// Asks how much room there is.
pub type Ask = Box<dyn FnMut(&Folder) -> io::Result<Free> + Send>;

/// The segments of one directory.
pub struct Writer {
    folder: Folder,
    bounds: Bounds,
    ask: Ask,
    open: Option<Open>,
    /// A run before this one may have left room in its last segment.
    may_continue: bool,
    packed: Vec<u8>,
    oldest: Duration,
    level: u32,
    /// Takes the sums of segments that are overwritten.
    sums: Option<Box<Self>>,
}

/// The segment that is written.
struct Open {
    file: File,
    segment: u64,
    members: u32,
    bytes: u64,
    /// Up to here no page is kept.
    dropped: u64,
}

impl Writer {
    pub fn new(folder: Folder, bounds: Bounds, ask: Ask) -> Self {
        Self {
            folder,
            bounds,
            ask,
            open: None,
            may_continue: true,
            packed: Vec::new(),
            oldest: OLDEST,
            level: LEVEL,
            sums: None,
        }
    }

    /// From here on segments leave their sums in another directory.
    pub fn with_sums(mut self, sums: Self) -> Self {
        self.sums = Some(Box::new(Self { oldest: OLDEST_SUMS, level: LEVEL_OF_SUMS, ..sums }));
        self
    }

    /// Looks whether there is room for more.
    ///
    /// # Errors
    ///
    /// When there is none, or the filesystem does not say.
    pub fn look_for_room(&mut self) -> Result<(), Trouble> {
        match (self.ask)(&self.folder)?.lack(0, 0) {
            None => Ok(()),
            Some(why) => Err(Trouble::Full(why)),
        }
    }

    /// Makes room for a header and what follows it: in the segment of before while
    /// there is some in it, else in a new one.
    ///
    /// # Errors
    ///
    /// When there is no room, or a file cannot be made.
    pub fn begin(&mut self, now: SystemTime) -> Result<(), Trouble> {
        self.look_for_room()?;
        let found = self.folder.list()?;
        if std::mem::take(&mut self.may_continue) {
            self.open = found.last().and_then(|last| self.reopen(last));
        }
        if self.open.is_some() && !self.is_nearly_full() {
            return Ok(());
        }
        self.open = None;
        let segment = found.last().map_or(1, |last| last.number + 1);
        let file = self.make(found, segment, now)?;
        self.open = Some(Open { file, segment, members: 0, bytes: 0, dropped: 0 });
        Ok(())
    }

    /// Goes on in what a run before this one wrote last: a tracer that is started again
    /// and again must not drop a segment each time.
    fn reopen(&self, last: &Found) -> Option<Open> {
        if last.bytes != self.bounds.segment_bytes {
            return None;
        }
        let whole =
            Whole::of(&self.folder.open(last).ok()?).filter(|it| it.segment == last.number)?;
        let file = self.folder.reuse(last, last.number).ok()?;
        let Whole { segment, members, bytes } = whole;
        Some(Open { file, segment, members, bytes, dropped: bytes })
    }

    /// A file for a new segment: another one while there is room, else the oldest.
    fn make(&mut self, found: Vec<Found>, segment: u64, now: SystemTime) -> Result<File, Trouble> {
        let bounds = self.bounds;
        let most = self.oldest;
        let is_old = |one: &Found| now.duration_since(one.modified).is_ok_and(|age| age > most);
        let mut files = found.len();
        let mut used: u64 = found.iter().map(|one| one.bytes).sum();
        // Segments of another size cannot be overwritten.
        let (mut usable, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|one| one.bytes == bounds.segment_bytes);
        for one in &others {
            if is_old(one) || files >= bounds.files() || used + bounds.segment_bytes > bounds.bytes
            {
                self.keep_sums(one, now);
                self.folder.remove(&one.path)?;
                (used, files) = (used - one.bytes, files - 1);
            }
        }
        // The oldest one is overwritten below; what is too old or too much beside it goes.
        while usable.get(1).is_some_and(is_old) || files > bounds.files() || used > bounds.bytes {
            let Some(oldest) = (!usable.is_empty()).then(|| usable.remove(0)) else { break };
            self.keep_sums(&oldest, now);
            self.folder.remove(&oldest.path)?;
            (used, files) = (used - oldest.bytes, files - 1);
        }
        let is_at_bound = files >= bounds.files() || used + bounds.segment_bytes > bounds.bytes;
        let lack = (self.ask)(&self.folder)?.lack(bounds.segment_bytes, 1);
        let oldest = usable.first().filter(|one| is_at_bound || lack.is_some() || is_old(one));
        match (oldest, lack) {
            (Some(oldest), _) => {
                self.keep_sums(oldest, now);
                Ok(self.folder.reuse(oldest, segment)?)
            }
            (None, Some(why)) => Err(Trouble::Full(why)),
            (None, None) => Ok(self.folder.create(segment, bounds.segment_bytes)?),
        }
    }

    /// Adds up a segment that is about to go. What cannot be kept is missing from the
    /// recording as it was before, and a replay shows that as a break.
    pub(crate) fn keep_sums(&mut self, one: &Found, now: SystemTime) {
        let Some(sums) = &mut self.sums else { return };
        let Ok(file) = self.folder.open(one) else { return };
        let Some([first, _]) = span_ns(&file, one.number) else { return };
        // A tracer that was killed may have added it up, and not overwritten it.
        if sums.folder.list().is_ok_and(|found| summed_ns(&found) == Some(first)) {
            return;
        }
        let keep = |lines: &[u8]| {
            // A segment that is full is followed by another.
            let kept = [(); 2].iter().any(|()| {
                sums.begin(now).is_ok() && sums.write(lines, first).is_ok_and(|kept| kept)
            });
            if kept { Ok(()) } else { Err(io::Error::other("there is no room for sums")) }
        };
        let _ = fold(file, keep);
    }

    /// Writes lines as a member of the segment. False where there is no room for them in
    /// it: then they are dropped, and a new one must begin.
    ///
    /// # Errors
    ///
    /// When they cannot be written, or when the filesystem has too little left.
    pub fn write(&mut self, lines: &[u8], unix_ns: i64) -> Result<bool, Trouble> {
        self.look_for_room()?;
        let Some(open) = &mut self.open else { return Ok(false) };
        match open.write(lines, unix_ns, self.level, self.bounds.segment_bytes, &mut self.packed) {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.open = None;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes lines of a second that is not over, where the next ones overwrite them. If there
    /// is no room for them, or they cannot be written, the next ones say so.
    pub fn write_half(&mut self, lines: &[u8], unix_ns: i64) {
        let Some(open) = &mut self.open else { return };
        let most = self.bounds.segment_bytes;
        // Errors are met again at the end of the second.
        let _ = open.put(lines, unix_ns, LEVEL_OF_HALVES, most, &mut self.packed);
    }

    /// Whether the segment should be followed by another soon.
    pub fn is_nearly_full(&self) -> bool {
        let most = self.bounds.segment_bytes / 8 * 7;
        self.open.as_ref().is_some_and(|open| open.bytes > most)
    }
}

impl Open {
    fn write(
        &mut self,
        lines: &[u8],
        unix_ns: i64,
        level: u32,
        most: u64,
        packed: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let Some(length) = self.put(lines, unix_ns, level, most, packed)? else {
            return Ok(false);
        };
        self.bytes += length;
        self.members = self.members.saturating_add(1);
        let behind = NonZeroU64::new(self.bytes - self.dropped);
        if behind.is_some_and(|behind| behind.get() >= DROPPED_BYTES) {
            // A filesystem that does not take the advice keeps its pages.
            let _ = fadvise(&self.file, self.dropped, behind, Advice::DontNeed);
            self.dropped = self.bytes;
        }
        Ok(true)
    }

    /// Writes a member behind the last one, and returns its length; `None` where there is no
    /// room for it.
    fn put(
        &mut self,
        lines: &[u8],
        unix_ns: i64,
        level: u32,
        most: u64,
        packed: &mut Vec<u8>,
    ) -> io::Result<Option<u64>> {
        let head = Head { segment: self.segment, number: self.members, length: 0, unix_ns };
        pack(head, lines, level, packed)?;
        let length = packed.len() as u64;
        if length + HEADER_BYTES > most {
            return Err(io::Error::other(format!(
                "a second takes {} KiB and a segment holds {}: give it a larger --record-size",
                length >> 10,
                most >> 10
            )));
        }
        if self.bytes + length > most {
            return Ok(None);
        }
        // If a write fails half-way, the next one overwrites what it left behind.
        self.file.write_all_at(packed, self.bytes)?;
        Ok(Some(length))
    }
}
