//! `tracer timeline`: what happened in a recording, one line for each event.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::past::{Until, recording};
use crate::{
    cli::{moments::Zone, recordings::TimelineArgs},
    output::{json, timeline::write_event},
    timeline::{Event, HANG, PERIOD, Timeline},
};
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;

/// # Errors
///
/// When the recording cannot be read (after what could be read was shown), knows
/// nothing of that time, or the output cannot be written.
pub fn run(args: &TimelineArgs) -> Result<()> {
    let path = args.path.clone().unwrap_or_else(|| recording(None));
    let (mut replay, asked) = args.part.open(&path)?;
    let from = asked.as_ref().map_or(f64::NEG_INFINITY, |asked| asked.from);
    let until = Until::of(&replay, asked.as_ref(), args.part.duration);
    let (mut events, left_out) = collect(&mut replay, until);
    args.part.retain(&mut events);
    let zone = Zone::of_this_machine();
    let mut bytes = Vec::new();
    for event in events.iter().filter(|event| event.at >= from - PERIOD.as_secs_f64()) {
        match args.json {
            true => json::write_json(&mut bytes, &Timed { time: zone.rfc3339(event.at), event })?,
            false => write_event(&mut bytes, event, &zone)?,
        }
    }
    if !args.json {
        let is_empty = bytes.is_empty();
        let end = zone.local(replay.now());
        let zone = zone.name(replay.now());
        let mut head = format!("times are {zone}; the recording ends at {end}\n");
        if is_empty {
            head += "nothing happened: no victim was slow, no sync hung, nothing is missing\n";
        }
        bytes.splice(0..0, head.into_bytes());
    }
    if left_out > 0 {
        let more = format!("{left_out} more events are left out: ask with --since and --until");
        // Nobody may read it.
        let _ = writeln!(io::stderr(), "{more}");
    }
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).context("failed to print")?;
    replay.check()
}

#[derive(Serialize)]
struct Timed<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Plays a recording, and keeps what happened.
pub fn collect(replay: &mut Replay, end: Until) -> (Vec<Event>, u64) {
    let (mut timeline, mut slow) = (Timeline::default(), Vec::new());
    let hang_ns = HANG.as_nanos() as u64;
    loop {
        let from = replay.now();
        let is_over = end.play(replay, Some(PERIOD), Some(hang_ns), &mut slow);
        timeline.take_breaks(replay.breaks());
        timeline.take_long(&slow);
        slow.clear();
        timeline.add_period(from, &replay.snapshot_of(Span::Period));
        if is_over {
            return timeline.end();
        }
        replay.begin_period();
    }
}
