//! `tracer timeline`: what happened in a recording, one line for each event.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    marks,
    past::{Asked, Source, Until, finish},
};
use crate::{
    cli::{moments::Zone, recordings::TimelineArgs},
    output::{
        json,
        timeline::{words, write_event},
    },
    timeline::{Event, HANG, PERIOD, Timeline},
};
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;

/// # Errors
///
/// When the recording cannot be read (after what could be read was shown), knows
/// nothing of that time, or the output cannot be written.
pub async fn run(args: &TimelineArgs) -> Result<()> {
    let (named, agent) = (args.path.as_deref(), args.part.agent.as_ref());
    let source = Source::find(named, agent, &args.part.time, args.part.duration).await?;
    let (mut replay, asked) = args.part.open(&source)?;
    let length = args.part.duration;
    let (mut events, left_out) = happened(&source, &mut replay, asked.as_ref(), length)?;
    args.part.retain(&mut events);
    let zone = source.zone;
    let mut bytes = Vec::new();
    for event in &events {
        match args.json {
            true => json::write_json(&mut bytes, &Timed::of(event, &zone))?,
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
    finish(&replay)
}

/// An event, with its line in words.
#[derive(Serialize)]
pub struct Timed<'a> {
    time: String,
    /// The rest of the line that `tracer timeline` prints: its first word, and all after it.
    word: &'static str,
    line: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> Timed<'a> {
    pub fn of(event: &'a Event, zone: &Zone) -> Self {
        let (word, line) = words(event, zone);
        Self { time: zone.rfc3339(event.at), word, line, event }
    }
}

/// The events of the time that was asked about, and how many more there were.
///
/// # Errors
///
/// When the recording cannot be opened again for the minutes around marks.
pub fn happened(
    source: &Source,
    replay: &mut Replay,
    asked: Option<&Asked>,
    length: Option<Duration>,
) -> Result<(Vec<Event>, u64)> {
    let until = Until::of(replay, asked, length);
    let (mut events, left_out) = collect(replay, until);
    let from = asked.map_or(f64::NEG_INFINITY, |asked| asked.from);
    events.retain(|event| event.at >= from - PERIOD.as_secs_f64());
    marks::measure(source, &mut events)?;
    Ok((events, left_out))
}

/// Plays a recording, and keeps what happened.
pub fn collect(replay: &mut Replay, end: Until) -> (Vec<Event>, u64) {
    let (mut timeline, mut slow) = (Timeline::default(), Vec::new());
    let hang_ns = HANG.as_nanos() as u64;
    loop {
        let from = replay.now();
        let is_over = end.play(replay, Some(PERIOD), Some(hang_ns), &mut slow);
        timeline.take_breaks(replay.breaks());
        timeline.take_marks(&replay.marks().kept);
        timeline.take_long(&slow);
        slow.clear();
        timeline.add_period(from, &replay.snapshot_of(Span::Period));
        if is_over {
            let (events, left_out) = timeline.end();
            return (events, left_out + replay.marks().left_out);
        }
        replay.begin_period();
    }
}
