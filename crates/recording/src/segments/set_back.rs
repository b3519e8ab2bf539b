//! Places at which the wall's clock was set back, so that a time occurs twice in a recording.
//!
//! A directory of segments, and a copy of one, date each second in its head, so such places
//! are found without unpacking anything. Other recordings have no heads: in these a time
//! is the first of its name.

use std::{fs::File, io, path::Path};

use super::index::{self, Heads};
use crate::breaks::Break;

/// A head is dated when its second is written, which may be late.
const LATE_SECONDS: f64 = 10.0;

/// A place at which the clock was set back, in Unix seconds before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SetBack {
    pub from: f64,
    pub to: f64,
}

impl SetBack {
    /// Whether a replay has come to this place.
    pub fn is(&self, one: &Break) -> bool {
        self.is_between(one.from, one.to)
    }

    /// Whether it is between two moments, by the clock before and after.
    pub fn is_between(&self, before: f64, after: f64) -> bool {
        let is_near = |a: f64, b: f64| (a - b).abs() <= LATE_SECONDS;
        after < before && is_near(before, self.from) && is_near(after, self.to)
    }
}

/// A part of a recording in which the clock was not set back.
struct Stretch {
    /// Its begin, if that is not the recording's.
    began: Option<SetBack>,
    first: f64,
    last: f64,
}

/// Finds the place after which this time, in Unix seconds, is to be read. Of two such times it
/// is the later one, unless both are wholly within the time that is asked for. `None` if it
/// is to be read from the begin.
///
/// # Errors
///
/// When the recording cannot be read.
pub fn find(path: &Path, from: f64, to: f64) -> io::Result<Option<SetBack>> {
    let stretches = stretches(path)?;
    let overlaps = |one: &Stretch| one.first < to && one.last > from;
    let Some(mut at) = stretches.iter().rposition(overlaps) else { return Ok(None) };
    while at > 0 && overlaps(&stretches[at - 1]) && stretches[at - 1].last < to {
        at -= 1;
    }
    Ok(stretches[at].began)
}

fn stretches(path: &Path) -> io::Result<Vec<Stretch>> {
    let mut all: Vec<Stretch> = Vec::new();
    if path.is_dir() {
        for segment in index::read(path)? {
            // It may be gone by now.
            if let Ok(file) = super::folder::open(&segment.found.path) {
                read(&file, &mut all);
            }
        }
    } else if path.is_file() {
        read(&File::open(path)?, &mut all);
    }
    Ok(all)
}

fn read(file: &File, all: &mut Vec<Stretch>) {
    for (_, head) in Heads::new(file) {
        let at = head.unix_ns as f64 / 1e9;
        match all.last_mut() {
            Some(stretch) if at >= stretch.last - LATE_SECONDS => {
                stretch.last = stretch.last.max(at);
            }
            before => {
                let began = before.map(|before| SetBack { from: before.last, to: at });
                all.push(Stretch { began, first: at, last: at });
            }
        }
    }
}
