//! `tracer watch`: prints one line for each slow sync when it ends, and repeated
//! lines for one that does not end, and for a filesystem that stays frozen.

use std::{
    collections::HashMap,
    hash::Hash,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Stop, Wakeup,
    past::{Asked, Source, Until, finish},
    start_beside_references,
};
use crate::{
    cli::WatchArgs,
    filter::Filter,
    output::{escape::escape, freeze, hanging, json, watch},
    session::Options,
};
use tracer_recording::replay::Replay;
use tracer_snapshot::{Frozen, Hanging, SlowSync};

/// Lines of a recording are printed each time this much of it was played.
const PRINTED_EVERY: Duration = Duration::from_secs(1);

/// # Errors
///
/// When the tracer cannot start or its output cannot be written.
pub async fn run(args: &WatchArgs, options: &Options) -> Result<()> {
    if args.past.is_asked() {
        let (named, length) = (args.past.recording.as_deref(), args.scope.duration);
        let source = Source::find(named, None, &args.past.time, length).await?;
        let (mut past, asked) = args.past.time.open(&source, length)?;
        let shown = replay(args, &mut past, asked.as_ref());
        return finish(&past).and(shown);
    }
    let mut session = start_beside_references(options)?;
    let wakeup = Wakeup::new(&session)?;
    let mut stop = Stop::new(args.scope.duration)?;
    let mut slow = Vec::new();
    if let Some(why) = session.unproven() {
        say_first(args, &format!("unproven: {}", escape(&why)))?;
    }
    let mut shown = Shown::begin(args)?;
    let (mut hanging, mut frozen) = (Reminders::default(), Reminders::default());
    loop {
        let last = tokio::select! {
            () = wakeup.wait() => false,
            () = stop.wait() => true,
        };
        session.poll(Some(min_ns(args)), &mut slow);
        shown.print(args, &mut slow)?;
        hanging.print(args, &shown, session.hanging())?;
        frozen.print(args, &shown, &session.frozen())?;
        if last {
            return Ok(());
        }
    }
}

/// Says what holds for all lines; where a line is JSON, each has it as a field.
fn say_first(args: &WatchArgs, line: &str) -> Result<()> {
    let line = format!("{line}\n");
    if args.json {
        // Nobody may read it.
        let _ = io::stderr().write_all(line.as_bytes());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("failed to print")
}

/// Prints the same for a recording; `--for` is in the recording's time.
///
/// # Errors
///
/// When the output cannot be written.
pub fn replay(args: &WatchArgs, replay: &mut Replay, asked: Option<&Asked>) -> Result<()> {
    if let Some(asked) = asked {
        asked.say();
    }
    let end = Until::of(replay, asked, args.scope.duration);
    let mut slow = Vec::new();
    let mut shown = Shown::begin(args)?;
    let (mut hanging, mut frozen) = (Reminders::default(), Reminders::default());
    loop {
        let is_over = end.play(replay, Some(PRINTED_EVERY), Some(min_ns(args)), &mut slow);
        shown.print(args, &mut slow)?;
        hanging.print(args, &shown, replay.hanging())?;
        frozen.print(args, &shown, &replay.frozen())?;
        if is_over {
            return Ok(());
        }
    }
}

fn min_ns(args: &WatchArgs) -> u64 {
    u64::try_from(args.min.as_nanos()).unwrap_or(u64::MAX)
}

/// Chooses the syncs that are printed, and counts those that are not.
struct Shown {
    filter: Filter,
    only: Option<String>,
    left_out: u64,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(flatten)]
    what: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filtered<'a>>,
}

/// The filter, and how many syncs it has left out so far.
#[derive(Serialize)]
struct Filtered<'a> {
    only: &'a str,
    syncs_left_out: u64,
}

impl Shown {
    fn begin(args: &WatchArgs) -> Result<Self> {
        let filter = args.scope.to_filter();
        let only = filter.only();
        if let Some(only) = &only {
            say_first(args, &format!("only {}", escape(only)))?;
        }
        Ok(Self { filter, only, left_out: 0 })
    }

    fn write<T: Serialize>(&self, bytes: &mut Vec<u8>, what: &T) -> io::Result<()> {
        let filter = self.only.as_deref();
        let filter = filter.map(|only| Filtered { only, syncs_left_out: self.left_out });
        json::write_json(bytes, &Line { what, filter })
    }

    fn print(&mut self, args: &WatchArgs, slow: &mut Vec<SlowSync>) -> Result<()> {
        let mut bytes = Vec::new();
        for sync in slow.drain(..) {
            if !self.filter.takes_sync(&sync) {
                self.left_out += 1;
            } else if args.json {
                self.write(&mut bytes, &sync)?;
            } else {
                watch::write_slow_sync(&mut bytes, &sync)?;
            }
        }
        write(&bytes)
    }
}

/// A wait that does not end is printed when it is found, and each time that its age has doubled.
struct Reminders<K> {
    /// For each wait, the age in seconds from which on it is printed again.
    next: HashMap<K, f64>,
}

impl<K> Default for Reminders<K> {
    fn default() -> Self {
        Self { next: HashMap::new() }
    }
}

/// A wait that has not ended.
trait Wait: Serialize {
    /// It distinguishes the wait from others at the same time.
    type Key: Eq + Hash;

    fn key(&self) -> Self::Key;
    fn seconds(&self) -> f64;
    fn is_taken(&self, filter: &Filter) -> bool;
    fn write(&self, bytes: &mut Vec<u8>) -> io::Result<()>;
}

impl Wait for Hanging {
    type Key = u32;

    fn key(&self) -> u32 {
        self.tid
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn is_taken(&self, filter: &Filter) -> bool {
        filter.takes_hanging(self)
    }

    fn write(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        hanging::write_one(bytes, self)
    }
}

impl Wait for Frozen {
    type Key = (u32, String);

    fn key(&self) -> Self::Key {
        (self.actor.tgid, self.device.clone())
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn is_taken(&self, filter: &Filter) -> bool {
        filter.takes_frozen(self)
    }

    fn write(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        freeze::write_one(bytes, self)
    }
}

impl<K: Eq + Hash> Reminders<K> {
    fn print<W: Wait<Key = K>>(
        &mut self,
        args: &WatchArgs,
        shown: &Shown,
        waits: &[W],
    ) -> Result<()> {
        self.next.retain(|key, _| waits.iter().any(|one| one.key() == *key));
        let mut bytes = Vec::new();
        for one in waits.iter().filter(|one| one.is_taken(&shown.filter)) {
            let next = self.next.entry(one.key()).or_insert(args.min.as_secs_f64());
            // Another one of the same key.
            if one.seconds() < *next / 2.0 {
                *next = args.min.as_secs_f64();
            }
            if one.seconds() < *next {
                continue;
            }
            *next = 2.0 * one.seconds();
            if args.json {
                shown.write(&mut bytes, one)?;
            } else {
                one.write(&mut bytes)?;
            }
        }
        write(&bytes)
    }
}

fn write(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("failed to print")
}
