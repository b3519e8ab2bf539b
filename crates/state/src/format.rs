//! The file: a line that says whose it is, in which version, and the length and
//! checksum of the JSON that follows.
//!
//! It is refused as a whole where anything does not fit: half a reference would be
//! believed as a whole one. Nothing in it can make the reader panic, or take more
//! memory than some times the file's own length, which is bounded.

use std::{collections::BTreeMap, error, fmt};

use serde::{Deserialize, Serialize};
use tracer_ebpf::record::{op, size};
use tracer_engine::{
    pace::{KeptPace, KeptRates, MIXES, OCTAVES, RATES},
    reference::Level,
    usage::Kept,
};
use tracer_node::disks::Key;

use crate::Entry;

/// No file is longer. While one is replaced there are two, of 1 MiB together.
pub const MAX_BYTES: usize = 512 << 10;

const NAME: &str = "tracer-reference";
const VERSION: u32 = 2;
/// Files of this version have no pace, and are read all the same.
const OLDEST_VERSION: u32 = 1;

/// Nothing takes longer than half an hour, and no day is later than in the year 9999.
const MAX_NS: u64 = 1_800_000_000_000;
const LAST_SECOND: u64 = 253_402_300_799;

const MAX_LEVELS: usize = op::COUNT * size::COUNT;

/// No disk completes more of anything in a second, and no number of seconds is larger.
const MAX_RATE: u64 = 1 << 50;
const MAX_PACES: usize = MIXES * OCTAVES;

/// Why a file is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    TooLong,
    Foreign,
    /// Its version is another.
    Version(u32),
    /// Cut, or not what was written.
    Damaged,
    /// It was written so, and makes no sense.
    Nonsense(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_BYTES} bytes"),
            Self::Foreign => write!(f, "it is no reference of the tracer's"),
            Self::Version(version) => {
                write!(f, "it is of version {version}, and this tracer reads {VERSION}")
            }
            Self::Damaged => write!(f, "its length or checksum does not fit"),
            Self::Nonsense(what) => write!(f, "{what}"),
        }
    }
}

impl error::Error for Refusal {}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    disk: Key,
    at: u64,
    /// Operation, class of size, usual time in ns, batches that say so.
    levels: Vec<(u16, u16, u64, u64)>,
    /// The quarter of the bytes that is written, the power of two of the number in flight,
    /// seconds, and the rates shown in them: work in ns, requests and bytes a second.
    #[serde(default)]
    pace: Vec<(u16, u16, u32, [u64; RATES])>,
    /// Bytes written in a second beside flushes as quick as ever, and the number of seconds.
    #[serde(default)]
    written: Option<(u64, u32)>,
}

/// As much of these as fits, those that were seen last first; and how many do not
/// fit.
pub fn encode(entries: &[Entry]) -> (Vec<u8>, usize) {
    let mut newest: Vec<_> = entries.iter().collect();
    newest.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    let room = MAX_BYTES - head(VERSION, &[]).len() - "0123456".len() - "[]".len();
    let mut body = b"[".to_vec();
    let (mut left_out, mut is_full) = (0, false);
    for entry in newest {
        let levels = entry.levels.iter().map(|kept| {
            let Kept { op, class, level: Level { ns: usual_ns, batches } } = *kept;
            (op, class, usual_ns, batches)
        });
        let pace = entry.pace.levels.iter().map(|kept| {
            let KeptRates { mix, octave, seconds, rates } = *kept;
            (mix, octave, seconds, rates)
        });
        let line = Line {
            disk: entry.key.clone(),
            at: entry.at,
            levels: levels.collect(),
            pace: pace.collect(),
            written: entry.pace.written,
        };
        // An entry that could not be read again would spoil the file.
        let line = check(line).and_then(|line| serde_json::to_vec(&line).map_err(|_| NO_JSON));
        let Ok(line) = line else {
            left_out += 1;
            continue;
        };
        is_full |= body.len() + line.len() >= room;
        if is_full {
            left_out += 1;
            continue;
        }
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend(line);
    }
    body.push(b']');
    let mut bytes = head(VERSION, &body).into_bytes();
    bytes.extend(body);
    (bytes, left_out)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
///
/// The bytes are anything else.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, Refusal> {
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::TooLong);
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Refusal::Foreign)?;
    let (line, body) = bytes.split_at(end + 1);
    let line = str::from_utf8(line).map_err(|_| Refusal::Foreign)?;
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some(NAME) {
        return Err(Refusal::Foreign);
    }
    let version = words.next().and_then(|word| word.parse().ok()).ok_or(Refusal::Foreign)?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(Refusal::Version(version));
    }
    // There is one way to say it.
    if line != head(version, body) {
        return Err(Refusal::Damaged);
    }
    let lines: Vec<Line> = serde_json::from_slice(body).map_err(|_| Refusal::Nonsense(NO_JSON))?;
    let lines = lines.into_iter().map(|line| check(line).map_err(Refusal::Nonsense));
    lines.map(|line| line.map(entry)).collect()
}

fn head(version: u32, body: &[u8]) -> String {
    format!("{NAME} {version} {} {:08x}\n", body.len(), crc32fast::hash(body))
}

const NO_JSON: &str = "it is no JSON of this version";

fn check(line: Line) -> Result<Line, &'static str> {
    let is_level = |&(of, class, usual_ns, batches): &(u16, u16, u64, u64)| {
        usize::from(of) < op::COUNT
            && usize::from(class) < size::COUNT
            && (1..=MAX_NS).contains(&usual_ns)
            && batches > 0
    };
    let is_rate = |rate: u64| rate <= MAX_RATE;
    let is_pace = |&(mix, octave, seconds, rates): &(u16, u16, u32, [u64; RATES])| {
        usize::from(mix) < MIXES
            && usize::from(octave) < OCTAVES
            && seconds > 0
            && rates.iter().all(|rate| is_rate(*rate))
    };
    match () {
        () if !line.disk.is_sound() => Err("a disk in it has no such name, or too long a one"),
        () if line.at > LAST_SECOND => Err("a reference in it is of no year that there will be"),
        () if line.levels.is_empty() || line.levels.len() > MAX_LEVELS => {
            Err("a disk in it has no classes of requests, or too many")
        }
        () if line.pace.len() > MAX_PACES || !line.pace.iter().all(is_pace) => {
            Err("a pace in it is no disk's")
        }
        () if line.written.is_some_and(|(bytes, seconds)| !is_rate(bytes) || seconds == 0) => {
            Err("more is written in it than any disk takes")
        }
        () if !line.levels.iter().all(is_level) => Err("a class in it takes no time, or forever"),
        () => Ok(line),
    }
}

fn entry(line: Line) -> Entry {
    let levels = line.levels.into_iter().map(|(op, class, usual_ns, batches)| {
        let level = Level { ns: usual_ns, batches };
        ((op, class), Kept { op, class, level })
    });
    // One of each.
    let levels: BTreeMap<_, _> = levels.collect();
    let paces = line.pace.into_iter().map(|(mix, octave, seconds, rates)| {
        ((mix, octave), KeptRates { mix, octave, seconds, rates })
    });
    let paces: BTreeMap<_, _> = paces.collect();
    Entry {
        key: line.disk,
        at: line.at,
        levels: levels.into_values().collect(),
        pace: KeptPace { levels: paces.into_values().collect(), written: line.written },
    }
}

#[cfg(test)]
mod tests;
