//! The agent's answers about its recording: the same as the commands', in JSON, and its report.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

use super::{AskedAbout, Source};
use crate::{
    agent::past::question::Question,
    cli::{
        WhyArgs,
        moments::{Moment, Zone},
        recordings::{Format, PartArgs, PastArgs, TimeArgs},
    },
    commands::{
        report,
        timeline::{Timed, happened},
        why,
    },
    filter::Narrow,
    output::json,
};

/// The answer of `/api/v1/timeline`.
#[derive(Serialize)]
struct Timeline<'a> {
    asked: AskedAbout<'a>,
    /// The last moment that was played, in Unix seconds.
    ends_at: f64,
    events: Vec<Timed<'a>>,
    /// Further ones, for which there was no room.
    events_left_out: u64,
}

/// Answers from a directory of segments, with times in UTC.
///
/// # Errors
///
/// When it cannot be read, knows nothing of that time, or nothing of the victim.
pub fn answer(folder: &Path, question: &Question) -> Result<Vec<u8>> {
    let source = Source { zone: Zone::utc(), ..Source::at(folder.to_owned()) };
    let mut bytes = Vec::new();
    match question {
        Question::Timeline { from, to } => {
            let time = time(*from, Some(*to))?;
            let (mut replay, asked) = time.open(&source, None)?;
            let asked = asked.context("a time was asked about")?;
            let began = replay.now();
            let (events, events_left_out) = happened(&source, &mut replay, Some(&asked), None)?;
            let gaps = asked.all_gaps(&replay, began);
            let answer = Timeline {
                asked: asked.about(&gaps),
                ends_at: replay.now(),
                events: events.iter().map(|event| Timed::of(event, &source.zone)).collect(),
                events_left_out,
            };
            json::write_json(&mut bytes, &answer)?;
        }
        Question::Why { victim, from, to } => {
            let args = WhyArgs {
                victim: victim.clone(),
                duration: Some(Duration::try_from_secs_f64(to - from)?),
                every: None,
                json: true,
                narrow: Narrow::default(),
                past: PastArgs { time: time(*from, None)?, recording: None },
                agent: None,
            };
            let (mut replay, asked) = args.past.time.open(&source, args.duration)?;
            why::replay_to(&args, &mut replay, asked.as_ref(), |verdict| {
                bytes.extend_from_slice(verdict);
                Ok(())
            })?;
        }
        Question::Report { from, to } => {
            let part = PartArgs {
                duration: None,
                filter: None,
                time: time(*from, Some(*to))?,
                agent: None,
            };
            bytes = report::make(&source, &part, Format::Html)?.0;
        }
        Question::Recording { .. } => anyhow::bail!("a recording is copied, and not replayed"),
    }
    Ok(bytes)
}

/// From a moment on, or the time between two, as the command line would ask for it.
fn time(from: f64, to: Option<f64>) -> Result<TimeArgs> {
    let exact = |at: f64| {
        let at = Timestamp::from_microsecond((at * 1e6) as i64);
        at.map(Moment::Exact).context("there is no such moment")
    };
    let at = exact(from)?;
    Ok(match to {
        None => TimeArgs { at: Some(at), ..TimeArgs::default() },
        Some(to) => TimeArgs { since: Some(at), until: Some(exact(to)?), ..TimeArgs::default() },
    })
}
