//! Prints one line per cell of the matrix, past libtest's capture.
//!
//! A cell is one filesystem, scheduler, device or strategy on this kernel. It is green,
//! unsupported (what is missing is exactly what the tracer says that it cannot see here),
//! failed, or skipped (this kernel or machine lacks it). `cargo xtask vm` collects the lines
//! `cell: {…}` of all kernels.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::{Value, json};
use tracer::session::Session;
use tracer_kernel::unsupported::Unsupported;

/// Something that was not seen, or was shown wrongly.
#[derive(Clone, Debug)]
pub struct Shortfall {
    what: String,
    /// The unsupported things that would explain it, if any.
    labels: &'static [&'static str],
    filesystem: String,
}

impl Shortfall {
    /// Syncs of a kind that were not seen on a filesystem, or were shown as another kind.
    pub fn unseen(what: String, kind: &str, filesystem: &str) -> Self {
        let labels: &[_] = match kind {
            "fsync" | "fdatasync" => &[],
            "o_dsync write" => &["o_dsync", "calls"],
            "io_uring" => &["io_uring", "o_dsync", "calls"],
            _ => &["calls"],
        };
        Self { what, labels, filesystem: filesystem.to_owned() }
    }

    /// Syncs whose file has no name.
    pub fn unnamed(what: String, filesystem: &str) -> Self {
        Self { what, labels: &["o_dsync"], filesystem: filesystem.to_owned() }
    }

    /// Requests that were counted differently from the kernel.
    pub fn uncounted(what: String, missing: Missing) -> Self {
        let labels: &[_] = match missing {
            Missing::Writes => &["flush"],
            Missing::Others => &[],
        };
        Self { what, labels, filesystem: String::new() }
    }

    /// A fault that no unsupported thing explains.
    pub fn wrong(what: String) -> Self {
        Self { what, labels: &[], filesystem: String::new() }
    }

    /// Finds the unsupported thing that explains it.
    pub fn said_by<'b>(&self, unsupported: &'b [Unsupported]) -> Option<&'b Unsupported> {
        unsupported.iter().find(|unsupported| self.is_accounted_for_by(unsupported))
    }

    fn is_accounted_for_by(&self, unsupported: &Unsupported) -> bool {
        let excepted =
            unsupported.sentence.split_once("seen only on").is_some_and(|(_, filesystems)| {
                filesystems.split([' ', ',']).any(|name| name == self.filesystem)
            });
        self.labels.contains(&unsupported.what) && !excepted
    }
}

/// The requests of the kernel that we do not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// Only some writes: the kernel counts empty flushes as writes.
    Writes,
    Others,
}

/// The counts of a cell.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    pub syncs: usize,
    pub short: Vec<Shortfall>,
    /// Further observations.
    pub notes: Vec<String>,
}

/// The cells of one test, which fails only after all were tried.
#[derive(Default)]
pub struct Cells {
    failed: Vec<String>,
}

impl Cells {
    /// Prints the result of a cell that was tried.
    pub fn report(&mut self, cell: &str, session: &Session, tally: Result<Tally>) {
        let unsupported = session.unsupported();
        let (outcome, why, counted) = match tally {
            Ok(tally) => {
                let (outcome, why) = judge(&tally, &unsupported);
                (outcome, why, counted(&tally))
            }
            Err(error) => ("failed", format!("{error:#}"), String::new()),
        };
        if outcome == "failed" {
            self.failed.push(format!("{cell}: {why}"));
        }
        announce(&json!({
            "cell": cell, "outcome": outcome, "why": why, "strategies": strategies(session), "counted": counted,
        }));
    }

    /// Prints that this kernel or machine lacks what a cell needs.
    pub fn skip(&mut self, cell: &str, why: &str) {
        announce(&json!({
            "cell": cell, "outcome": "skipped", "why": why, "strategies": {}, "counted": "",
        }));
    }

    /// Prints that a cell could not be set up.
    pub fn fail(&mut self, cell: &str, why: &str) {
        self.failed.push(format!("{cell}: {why}"));
        announce(&json!({
            "cell": cell, "outcome": "failed", "why": why, "strategies": {}, "counted": "",
        }));
    }

    /// Fails the test if any cell failed.
    #[track_caller]
    pub fn end(self) {
        assert!(self.failed.is_empty(), "failed cells:\n{}", self.failed.join("\n"));
    }
}

/// Tries a cell. Outside of our own guests it is tried once more if requests or syncs are
/// missing that nothing unsupported explains: on some machines no tool's programs run while
/// certain threads run, so what begins or ends then is missed. If the second try fails too,
/// it is a miscount.
pub fn try_twice(
    session: &mut Session,
    mut cell: impl FnMut(&mut Session) -> Result<Tally>,
) -> Result<Tally> {
    let first = cell(session)?;
    let (outcome, why) = judge(&first, &session.unsupported());
    if outcome != "failed" || crate::guest::is_guest() {
        return Ok(first);
    }
    println!("once more: {why}");
    cell(session)
}

fn judge(tally: &Tally, unsupported: &[Unsupported]) -> (&'static str, String) {
    let mut said: Vec<&str> = Vec::new();
    let mut unsaid = Vec::new();
    for short in &tally.short {
        match short.said_by(unsupported) {
            Some(unsupported) => said.push(&unsupported.sentence),
            None => unsaid.push(short.what.as_str()),
        }
    }
    said.dedup();
    match (unsaid.is_empty(), said.is_empty()) {
        (false, _) => ("failed", unsaid.join("; ")),
        (true, false) => ("unsupported", said.join("; ")),
        (true, true) => ("green", String::new()),
    }
}

fn counted(tally: &Tally) -> String {
    let mut parts = match (tally.requests, tally.syncs) {
        (0, syncs) => vec![format!("{syncs} syncs")],
        (requests, syncs) => vec![format!("{requests} requests and {syncs} syncs")],
    };
    match tally.short.len() {
        0 => parts.push("all equal".to_owned()),
        n => parts.push(format!("{n} not equal")),
    }
    parts.extend_from_slice(&tally.notes);
    parts.join(", ")
}

fn strategies(session: &Session) -> Value {
    let taken =
        session.selections().iter().map(|c| (c.capability.name().to_owned(), json!(c.selected())));
    Value::Object(taken.collect())
}

/// Prints at once and on a line of its own, because libtest may have begun a line.
fn announce(cell: &Value) {
    let _ = io::stdout().write_all(format!("\ncell: {cell}\n").as_bytes());
}

#[test]
fn a_shortfall_is_unsupported_only_where_a_sentence_says_just_that() {
    let sentence = "io_uring's syncs are seen only on ext4, btrfs and f2fs".to_owned();
    let unsupported = [Unsupported { what: "io_uring", sentence: sentence.clone() }];
    let outcome = |short| judge(&Tally { short: vec![short], ..Tally::default() }, &unsupported);
    let unseen = |kind, filesystem| Shortfall::unseen("0 of 7".to_owned(), kind, filesystem);
    assert_eq!(outcome(unseen("io_uring", "xfs")), ("unsupported", sentence));
    let failed = ("failed", "0 of 7".to_owned());
    assert_eq!(outcome(unseen("io_uring", "ext4")), failed);
    assert_eq!(outcome(unseen("fsync", "xfs")), failed);
    assert_eq!(outcome(Shortfall::wrong("0 of 7".to_owned())), failed);
    assert_eq!(judge(&Tally::default(), &unsupported), ("green", String::new()));
}
