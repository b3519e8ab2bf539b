//! One second of a segment: a gzip member that says in its own header which segment it
//! belongs to, and how long it is.
//!
//! Segments are overwritten in place, so what follows the last second of a new one is
//! what an older one left there. A member therefore carries, in the extra field that
//! RFC 1952 gives to programs, the number of its segment and its own number in it; the
//! first that does not continue the ones before ends the segment. `zcat` skips the
//! field.

use std::io::{self, Read, Write as _};

use flate2::{Compression, Crc, GzBuilder, bufread::GzDecoder};

/// No member is longer, packed or not: a second of many thousand owners is a tenth.
pub const PACKED_BYTES: usize = 16 << 20;
pub const PLAIN_BYTES: usize = 32 << 20;

/// Identifies the extra field.
const ID: [u8; 2] = *b"tR";

/// Segment, number, length, time.
const FIELD: usize = 8 + 4 + 4 + 8;
/// The fixed part of a gzip header, the length of all extra fields, this one's head.
const BEFORE: usize = 10 + 2 + 4;
/// A gzip header with the extra field in it, and with nothing else.
pub const HEAD: usize = BEFORE + FIELD;

/// A sixth smaller than level 3, for 1.6 ms of CPU time a second instead of 0.7 where a
/// thousand syncs a second are thinned (zlib, one core of the build machine).
pub const LEVEL: u32 = 6;
/// Not packed, as half a second is overwritten after half a second: to pack it at level 1 took
/// 0.3 to 0.4 ms of CPU time for 57 KB of lines.
pub const LEVEL_OF_HALVES: u32 = 0;
/// As small as can be: sums are packed once in most of an hour, and kept for days.
pub const LEVEL_OF_SUMS: u32 = 9;

/// The head of a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The segment's number in its directory.
    pub segment: u64,
    /// From 0, within the segment.
    pub number: u32,
    /// The bytes of the whole member.
    pub length: u32,
    /// The time at which it was written, in Unix nanoseconds.
    pub unix_ns: i64,
}

impl Head {
    fn to_field(self) -> [u8; FIELD] {
        let Self { segment, number, length, unix_ns } = self;
        let mut field = [0; FIELD];
        field[..8].copy_from_slice(&segment.to_le_bytes());
        field[8..12].copy_from_slice(&number.to_le_bytes());
        field[12..16].copy_from_slice(&length.to_le_bytes());
        field[16..].copy_from_slice(&unix_ns.to_le_bytes());
        field
    }

    /// Reads the head of a member; `None` for any other bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let extra = [(FIELD + 4) as u8, 0];
        let own = [ID[0], ID[1], FIELD as u8, 0];
        // Deflate, and an extra field alone.
        let is_ours =
            head[..4] == [0x1f, 0x8b, 8, 4] && head[10..12] == extra && head[12..BEFORE] == own;
        let word =
            |at: usize| head[BEFORE + at..BEFORE + at + 4].try_into().map(u32::from_le_bytes);
        let long =
            |at: usize| head[BEFORE + at..BEFORE + at + 8].try_into().map(u64::from_le_bytes);
        let head = Self {
            segment: long(0).ok()?,
            number: word(8).ok()?,
            length: word(12).ok()?,
            unix_ns: long(16).ok()?.cast_signed(),
        };
        let is_length = (HEAD..=PACKED_BYTES).contains(&(head.length as usize));
        (is_ours && is_length).then_some(head)
    }

    /// Whether it is the one that follows `before`, or the first of a segment. In a copy one
    /// segment follows another. What an older one left in a file never looks so: its first
    /// member was where the first one of the new segment is now.
    pub fn follows(&self, before: Option<&Self>) -> bool {
        match before.filter(|before| before.segment == self.segment) {
            None => self.number == 0,
            Some(before) => Some(self.number) == before.number.checked_add(1),
        }
    }
}

/// Packs lines as a member; its length is put into its head.
///
/// # Errors
///
/// When it would be longer than a member may be.
pub fn pack(head: Head, lines: &[u8], level: u32, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    let too_long = || io::Error::other("one second is longer than a segment can hold");
    if lines.len() > PLAIN_BYTES {
        return Err(too_long());
    }
    let mut extra = [ID[0], ID[1], FIELD as u8, 0].to_vec();
    extra.extend(head.to_field());
    let mut gzip = GzBuilder::new().extra(extra).write(&mut *into, Compression::new(level));
    if level == 0 {
        // The library would take as long for this as for level 1.
        let head = gzip.finish()?;
        head.truncate(HEAD);
        store(lines, head);
    } else {
        gzip.write_all(lines)?;
        gzip.finish()?;
    }
    let length = u32::try_from(into.len()).ok().filter(|length| *length as usize <= PACKED_BYTES);
    let length = length.ok_or_else(too_long)?;
    into[BEFORE..HEAD].copy_from_slice(&Head { length, ..head }.to_field());
    Ok(())
}

/// Appends lines as stored blocks (RFC 1951, 3.2.4), with the end of a gzip member.
fn store(lines: &[u8], into: &mut Vec<u8>) {
    let mut blocks = lines.chunks(usize::from(u16::MAX)).peekable();
    if blocks.peek().is_none() {
        into.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        into.push(u8::from(blocks.peek().is_none()));
        into.extend(length.to_le_bytes());
        into.extend((!length).to_le_bytes());
        into.extend(block);
    }
    let mut checksum = Crc::new();
    checksum.update(lines);
    into.extend(checksum.sum().to_le_bytes());
    into.extend(checksum.amount().to_le_bytes());
}

/// Unpacks a whole member; `None` where its length or checksum does not fit.
pub fn unpack(member: &[u8], into: &mut Vec<u8>) -> Option<()> {
    into.clear();
    let mut gzip = GzDecoder::new(member);
    (&mut gzip).take(PLAIN_BYTES as u64 + 1).read_to_end(into).ok()?;
    (into.len() <= PLAIN_BYTES && gzip.into_inner().is_empty()).then_some(())
}

/// The lines of a segment, up to its last whole member.
pub struct Members<R> {
    source: R,
    last: Option<Head>,
    packed: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl<R: Read> Members<R> {
    pub fn new(source: R) -> Self {
        let (packed, plain) = (Vec::new(), Vec::new());
        Self { source, last: None, packed, plain, at: 0, is_over: false }
    }

    pub fn source(&self) -> &R {
        &self.source
    }

    /// Unpacks the next member; false after the last.
    fn next_member(&mut self) -> io::Result<bool> {
        let mut head = [0; HEAD];
        if !read_whole(&mut self.source, &mut head)? {
            return Ok(false);
        }
        let Some(next) = Head::parse(&head).filter(|next| next.follows(self.last.as_ref())) else {
            return Ok(false);
        };
        self.packed.clear();
        self.packed.extend(head);
        let rest = u64::from(next.length) - HEAD as u64;
        let read = (&mut self.source).take(rest).read_to_end(&mut self.packed)?;
        if read as u64 != rest || unpack(&self.packed, &mut self.plain).is_none() {
            return Ok(false);
        }
        (self.at, self.last) = (0, Some(next));
        Ok(true)
    }
}

/// Fills the bytes; false if there are fewer left.
fn read_whole(source: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = io::BufRead::fill_buf(self)?.read(buf)?;
        io::BufRead::consume(self, count);
        Ok(count)
    }
}

impl<R: Read> io::BufRead for Members<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // A member without a line is none that a recorder writes, and no end.
        while self.at >= self.plain.len() && !self.is_over {
            self.plain.clear();
            self.is_over = !self.next_member()?;
            if self.is_over {
                (self.at, self.packed) = (0, Vec::new());
                self.plain.clear();
            }
        }
        Ok(&self.plain[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.plain.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(segment: u64, number: u32) -> Head {
        Head { segment, number, length: 0, unix_ns: 1_770_000_000_000_000_000 + i64::from(number) }
    }

    fn member(segment: u64, number: u32, lines: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        pack(head(segment, number), lines.as_bytes(), LEVEL, &mut packed).unwrap();
        packed
    }

    fn read(bytes: &[u8]) -> String {
        let mut lines = String::new();
        Members::new(bytes).read_to_string(&mut lines).unwrap();
        lines
    }

    /// RFC 1952 by hand: the fixed header, XLEN, the subfield's id and length, the field.
    #[test]
    fn a_member_is_gzip_with_its_place_in_the_extra_field() {
        let member = member(7, 3, "{}\n");
        assert_eq!(&member[..4], [0x1f, 0x8b, 8, 4]);
        assert_eq!(&member[10..16], [28, 0, b't', b'R', 24, 0]);
        assert_eq!(&member[16..24], 7u64.to_le_bytes());
        assert_eq!(&member[24..28], 3u32.to_le_bytes());
        assert_eq!(&member[28..32], (member.len() as u32).to_le_bytes());
        let mut lines = String::new();
        flate2::read::MultiGzDecoder::new(&member[..]).read_to_string(&mut lines).unwrap();
        assert_eq!(lines, "{}\n");
    }

    /// A block holds 65,535 bytes at most.
    #[test]
    fn lines_that_are_not_packed_are_stored_in_blocks() {
        for (bytes, blocks) in [(0, 1), (1, 1), (65_535, 1), (65_536, 2), (131_071, 3)] {
            let lines: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let mut packed = Vec::new();
            pack(head(7, 0), &lines, 0, &mut packed).unwrap();
            // Three bits and two lengths for each, aligned; checksum and length at the end.
            assert_eq!(packed.len(), HEAD + bytes + 5 * blocks + 8);
            let mut plain = Vec::new();
            unpack(&packed, &mut plain).unwrap();
            assert!(plain == lines, "{bytes}");
            assert_eq!(Head::parse(&packed).unwrap().length as usize, packed.len());
        }
    }

    #[test]
    fn what_an_older_segment_left_behind_is_not_read() {
        let old = [member(1, 0, "old 0\n"), member(1, 1, "old 1\n"), member(1, 2, "old 2\n")];
        let new = [member(2, 0, "new 0\n"), member(2, 1, "new 1\n")].concat();
        let mut file = old.concat();
        file[..new.len()].copy_from_slice(&new);
        assert_eq!(read(&file), "new 0\nnew 1\n");
        // An old member may begin just where the new ones end.
        assert_eq!(read(&[&new[..], &old[2]].concat()), "new 0\nnew 1\n");
        assert_eq!(read(&[&new[..], &[0; 4096]].concat()), "new 0\nnew 1\n", "never written");
        assert_eq!(read(&[&new[..], &member(2, 3, "gap\n")].concat()), "new 0\nnew 1\n");
    }

    #[test]
    fn cut_or_changed_anywhere_the_members_before_are_whole() {
        let [one, two] = [member(4, 0, "one\n"), member(4, 1, "two\n")];
        let both = [&one[..], &two].concat();
        for length in 0..both.len() {
            let expected = if length >= one.len() { "one\n" } else { "" };
            assert_eq!(read(&both[..length]), expected, "{length}");
        }
        for at in 0..both.len() {
            let mut changed = both.clone();
            changed[at] ^= 0x55;
            // The time of day and gzip's own notes (MTIME, XFL, OS) are not checked; what is
            // checked ends the segment there.
            let lines = read(&changed);
            let first = if at < one.len() { "" } else { "one\n" };
            assert!([first, "one\n", "one\ntwo\n"].contains(&&*lines), "{at}: {lines:?}");
        }
    }

    #[test]
    fn a_member_that_unpacks_to_more_than_there_may_be_is_refused() {
        assert!(pack(head(1, 0), &vec![b'x'; PLAIN_BYTES + 1], LEVEL, &mut Vec::new()).is_err());
        let mut bomb = Vec::new();
        let extra = member(1, 0, "")[12..HEAD].to_vec();
        let mut gzip = GzBuilder::new().extra(extra).write(&mut bomb, Compression::fast());
        gzip.write_all(&vec![b'x'; PLAIN_BYTES + 1]).unwrap();
        gzip.finish().unwrap();
        let length = bomb.len() as u32;
        bomb[BEFORE..HEAD].copy_from_slice(&Head { length, ..head(1, 0) }.to_field());
        assert_eq!(read(&bomb), "");
    }
}
