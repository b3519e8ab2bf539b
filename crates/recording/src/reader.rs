//! Reads a recording line by line, whatever is in it.
//!
//! Gzip or plain lines (what `zcat` made of one), never more than one line, or one
//! second of a segment, of bounded length in memory. What cannot be read is a [`Damage`]
//! with its place; everything before it was handed over.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Cursor, Read},
};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    line::{Line, Stamp},
    segments::member::{HEAD, Head, Members},
};

/// A second of many thousand owners is a tenth of this.
const LINE_BYTES: u64 = 4 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The place where a recording cannot be read any further, and the reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// From 1.
    pub line: u64,
    /// Bytes of the file that were read before it was noticed.
    pub byte: u64,
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, byte, why } = self;
        write!(f, "{why} (line {line}, about byte {byte})")
    }
}

/// A file being read.
pub struct Reader {
    source: Source,
    line: Vec<u8>,
    number: u64,
}

enum Source {
    Gzip(Box<BufReader<MultiGzDecoder<Counted>>>),
    Plain(Counted),
    Segment(Box<Members<Counted>>),
}

impl Source {
    fn lines(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Gzip(source) => source,
            Self::Plain(source) => source,
            Self::Segment(source) => source.as_mut(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Gzip(source) => source.get_ref().get_ref().bytes,
            Self::Plain(source) => source.bytes,
            Self::Segment(source) => source.source().bytes,
        }
    }
}

impl Reader {
    /// Looks at the first bytes.
    ///
    /// # Errors
    ///
    /// When they are not those of a recording.
    pub fn new(file: impl Read + 'static) -> Result<Self, Damage> {
        let begin = |why: String| Damage { line: 1, byte: 0, why };
        let (mut first, mut file) = (Vec::new(), file);
        // A pipe may give them one by one.
        let read = (&mut file).take(HEAD as u64).read_to_end(&mut first);
        read.map_err(|error| begin(error.to_string()))?;
        let all = Cursor::new(first.clone()).chain(file);
        let file = Counted { file: BufReader::new(Box::new(all)), bytes: 0 };
        let source = match first.as_slice() {
            [] => return Err(begin("it is empty".to_owned())),
            head if Head::parse(head).is_some() => Source::Segment(Box::new(Members::new(file))),
            [byte, rest @ ..] if *byte == GZIP[0] && rest.first().is_none_or(|b| *b == GZIP[1]) => {
                Source::Gzip(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))))
            }
            [b'{', ..] => Source::Plain(file),
            _ => return Err(begin("it is neither gzip nor lines of JSON".to_owned())),
        };
        Ok(Self { source, line: Vec::new(), number: 0 })
    }

    /// Whether it is a segment, in which one recording may follow another.
    pub fn is_segment(&self) -> bool {
        matches!(self.source, Source::Segment(_))
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    ///
    /// When it is damaged, cut off, too long, or no line of a recording.
    pub fn next_line(&mut self) -> Result<Option<Line>, Damage> {
        if self.read_line()? { self.parse().map(Some) } else { Ok(None) }
    }

    /// Reads the first line. It is parsed whole only if `is_ours` accepts the format
    /// and the version that it names: in another version it has other fields.
    ///
    /// # Errors
    ///
    /// As [`Reader::next_line`], and what `is_ours` says.
    pub fn first_line<E: From<Damage>>(
        &mut self,
        is_ours: impl FnOnce(Option<Stamp>) -> Result<(), E>,
    ) -> Result<Line, E> {
        let stamp = if self.read_line()? { self.parse::<FirstLine>()?.header } else { None };
        is_ours(stamp)?;
        Ok(self.parse()?)
    }

    /// Reads a line; `false` after the last.
    fn read_line(&mut self) -> Result<bool, Damage> {
        self.line.clear();
        self.number += 1;
        let mut limited = self.source.lines().take(LINE_BYTES);
        if let Err(error) = limited.read_until(b'\n', &mut self.line) {
            return Err(self.damage(match error.kind() {
                io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
                _ => error.to_string(),
            }));
        }
        match self.line.last() {
            None => return Ok(false),
            Some(b'\n') => {}
            Some(_) if self.line.len() as u64 == LINE_BYTES => {
                return Err(self.damage("a line is too long".to_owned()));
            }
            Some(_) => return Err(self.damage("it is cut off".to_owned())),
        }
        Ok(true)
    }

    /// Parses the line that was read last.
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Damage> {
        serde_json::from_slice(&self.line)
            .map_err(|error| self.damage(format!("not a line of a recording: {error}")))
    }

    /// Something is wrong with the line that was read last.
    pub fn damage(&self, why: String) -> Damage {
        Damage { line: self.number, byte: self.source.bytes(), why }
    }
}

/// The first line of a recording of any version.
#[derive(Deserialize)]
struct FirstLine {
    header: Option<Stamp>,
}

/// Counts what was taken from a file.
struct Counted {
    file: BufReader<Box<dyn Read>>,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes += amount as u64;
        self.file.consume(amount);
    }
}
