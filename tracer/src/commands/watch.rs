//! `tracer watch`: one line for each slow sync, as it ends.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{Stop, Wakeup, after, start_beside_references};
use crate::{
    cli::WatchArgs,
    output::{escape::escape, json, names, watch},
    session::Options,
};
use tracer_recording::replay::{Played, Replay};
use tracer_snapshot::SlowSync;

/// Lines of a recording are printed when so much of it was played.
const PRINTED_EVERY: Duration = Duration::from_secs(1);

/// # Errors
///
/// When the tracer cannot start or its output cannot be written.
pub async fn run(args: &WatchArgs, options: &Options) -> Result<()> {
    let mut session = start_beside_references(options)?;
    let wakeup = Wakeup::new(&session)?;
    let mut stop = Stop::new(args.scope.duration)?;
    let mut slow = Vec::new();
    if let Some(why) = session.unproven() {
        say_unproven(args, &why)?;
    }
    loop {
        let last = tokio::select! {
            () = wakeup.wait() => false,
            () = stop.wait() => true,
        };
        session.poll(Some(min_ns(args)), &mut slow);
        print(args, &mut slow)?;
        if last {
            return Ok(());
        }
    }
}

/// The first line; where a line is JSON, each has it as a field.
fn say_unproven(args: &WatchArgs, why: &str) -> Result<()> {
    let line = format!("unproven: {}\n", escape(why));
    if args.json {
        // Nobody may read it.
        let _ = io::stderr().write_all(line.as_bytes());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("cannot print")
}

/// The same over a recording: `--for` is of its time.
///
/// # Errors
///
/// When the output cannot be written.
pub fn replay(args: &WatchArgs, replay: &mut Replay) -> Result<()> {
    let end_ns = after(replay.now_ns(), args.scope.duration);
    let mut slow = Vec::new();
    loop {
        let until_ns = after(replay.now_ns(), Some(PRINTED_EVERY)).min(end_ns);
        let played = replay.play(until_ns, Some(min_ns(args)), &mut slow);
        print(args, &mut slow)?;
        if played == Played::Whole || until_ns == end_ns {
            return Ok(());
        }
    }
}

fn min_ns(args: &WatchArgs) -> u64 {
    u64::try_from(args.min.as_nanos()).unwrap_or(u64::MAX)
}

fn print(args: &WatchArgs, slow: &mut Vec<SlowSync>) -> Result<()> {
    let filter = args.scope.filter.as_deref().map(str::to_lowercase);
    let mut bytes = Vec::new();
    for sync in slow.drain(..).filter(|sync| is_wanted(filter.as_deref(), sync)) {
        if args.json {
            json::write_json(&mut bytes, &sync)?;
        } else {
            watch::write_slow_sync(&mut bytes, &sync)?;
        }
    }
    if !bytes.is_empty() {
        let mut out = io::stdout().lock();
        out.write_all(&bytes).and_then(|()| out.flush()).context("cannot print")?;
    }
    Ok(())
}

fn is_wanted(filter: Option<&str>, sync: &SlowSync) -> bool {
    filter.is_none_or(|filter| {
        names::matches(filter, &sync.actor, sync.class, &sync.path, &sync.device)
    })
}
