//! `tracer report`: the story of a recording, for a post-mortem.
//!
//! The recording is played more than once: first to find what happened ([`crate::timeline`]);
//! then each *episode*, a time in which a victim was slow, is judged as a whole, as `tracer why`
//! would judge it, and plotted.

mod plots;
mod sample;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use self::plots::Plots;
use super::{
    marks,
    past::{Asked, Source, Until, finish},
    timeline::collect,
};
use crate::{
    cli::recordings::{Format, PartArgs, ReportArgs},
    output::{
        names,
        report::{Episode, Report, write_html, write_markdown},
        text::{dropped_list, unproven},
        why,
    },
    timeline::{Event, What},
};
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;
use tracer_snapshot::Snapshot;

/// At most this number of episodes is described. Later ones are only in the timeline.
const EPISODES: usize = 20;

/// At most this number of victims is judged in each episode.
const VICTIMS: usize = 4;

/// Episodes that are this close to each other become one.
const NEAR_SECONDS: f64 = 60.0;

/// # Errors
///
/// When the recording cannot be read, knows nothing of that time, or the report cannot
/// be written.
pub async fn run(args: &ReportArgs) -> Result<()> {
    if args.path.as_deref() == Some(Path::new("-")) {
        bail!(
            "a report reads its recording more than once: give a file or a directory instead of `-`"
        );
    }
    let (named, agent) = (args.path.as_deref(), args.part.agent.as_ref());
    let source = Source::find(named, agent, &args.part.time, args.part.duration).await?;
    let (bytes, replay) = make(&source, &args.part, args.format)?;
    write(args, &bytes)?;
    finish(&replay)
}

/// Makes the report, and returns it with the replay that was read for it.
///
/// # Errors
///
/// As [`run`].
pub fn make(source: &Source, part: &PartArgs, format: Format) -> Result<(Vec<u8>, Replay)> {
    let (mut replay, asked) = part.open(source)?;
    let began = replay.now();
    let until = Until::of(&replay, asked.as_ref(), part.duration);
    let (mut events, left_out) = collect(&mut replay, until);
    marks::measure(source, &mut events)?;
    let ended = replay.now();
    part.retain(&mut events);
    let last = replay.snapshot_of(Span::Period);
    let zone = source.zone.clone();
    let name = source.name().to_owned();
    let all = Asked { from: began, to: ended, zone: zone.clone(), name: name.clone() };
    let all = asked.unwrap_or(all);
    let mut episodes = judge(source, &spans(&events), part.text().as_deref())?;
    let gaps = all.all_gaps(&replay, began);
    let charts = match format {
        Format::Md => Vec::new(),
        Format::Html => {
            let plots = Plots { source, events: &events, gaps: &gaps };
            plots.add_to([began, ended], &mut episodes)?;
            plots.of_all([began, ended], &last)?
        }
    };
    let report = Report {
        zone,
        recording: name,
        from: all.from,
        to: ended,
        gaps,
        not_seen: not_seen(&last),
        kernel: last.kernel.release.clone(),
        charts,
        events,
        left_out,
        episodes,
    };
    let mut bytes = Vec::new();
    match format {
        Format::Html => write_html(&mut bytes, &report)?,
        Format::Md => write_markdown(&mut bytes, &report)?,
    }
    Ok((bytes, replay))
}

fn write(args: &ReportArgs, bytes: &[u8]) -> Result<()> {
    let Some(path) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        let mut out = io::stdout().lock();
        return out.write_all(bytes).and_then(|()| out.flush()).context("failed to print");
    };
    let name = path.display();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!args.force);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("`{name}` already exists; --force overwrites it")
        }
        _ => anyhow::Error::from(error).context(format!("failed to make `{name}`")),
    })?;
    file.write_all(bytes).with_context(|| format!("failed to write `{name}`"))
}

/// Sentences on what the tracer did not see.
fn not_seen(s: &Snapshot) -> Vec<String> {
    let mut all = s.kernel.unsupported.clone();
    all.extend(unproven(s));
    if s.dropped.total() > 0 {
        all.push(format!("dropped since the tracer started, {}", dropped_list(&s.dropped)));
    }
    all
}

/// The times in which a victim was slow; those that are close to each other become one.
fn spans(events: &[Event]) -> Vec<[f64; 2]> {
    let slow = events.iter().filter_map(|event| match event.what {
        What::SlowEnded { began_at, .. } => Some([began_at, event.at]),
        _ => None,
    });
    let mut slow: Vec<_> = slow.collect();
    slow.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut spans: Vec<[f64; 2]> = Vec::new();
    for [from, to] in slow {
        match spans.last_mut().filter(|last| from - last[1] <= NEAR_SECONDS) {
            Some(last) => last[1] = last[1].max(to),
            None => spans.push([from, to]),
        }
    }
    spans.truncate(EPISODES);
    spans
}

/// Judges each of these times as a whole.
fn judge(source: &Source, spans: &[[f64; 2]], filter: Option<&str>) -> Result<Vec<Episode>> {
    let (Some([first, _]), Some([_, last])) = (spans.first(), spans.last()) else {
        return Ok(Vec::new());
    };
    let mut replay = source.open_from(*first, *last)?;
    let mut episodes = Vec::new();
    for [from, to] in spans {
        replay.play_both(u64::MAX, *from, None, &mut Vec::new());
        replay.begin_period();
        replay.play_both(u64::MAX, *to, None, &mut Vec::new());
        let s = replay.snapshot_of(Span::Period);
        let is_meant = |victim: &&tracer_snapshot::Victim| {
            let is_slow = victim.verdict.slower_than.is_some();
            let of = |filter| {
                let (class, path) = (victim.class, &victim.path);
                names::matches(filter, &victim.actor, class, path, &victim.device)
            };
            is_slow && filter.is_none_or(of)
        };
        let mut victims: Vec<_> = s.victims.iter().filter(is_meant).collect();
        victims.sort_by(|a, b| b.verdict.excess_seconds.total_cmp(&a.verdict.excess_seconds));
        let mut verdicts = Vec::new();
        for victim in victims.into_iter().take(VICTIMS) {
            let mut text = Vec::new();
            why::write_why(&mut text, victim, &s)?;
            verdicts.push(String::from_utf8_lossy(&text).trim_end().to_owned());
        }
        episodes.push(Episode { from: *from, to: *to, charts: Vec::new(), verdicts });
    }
    Ok(episodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_near_to_each_other_are_one() {
        let ended = |began_at: f64, at: f64| {
            let mut event = crate::output::report::ended_for_tests(at);
            if let What::SlowEnded { began_at: began, .. } = &mut event.what {
                *began = began_at;
            }
            event
        };
        let events =
            [ended(10.0, 40.0), ended(20.0, 90.0), ended(151.0, 160.0), ended(149.0, 150.0)];
        assert_eq!(spans(&events), [[10.0, 160.0]]);
        let events = [ended(10.0, 40.0), ended(101.0, 110.0)];
        assert_eq!(spans(&events), [[10.0, 40.0], [101.0, 110.0]]);
    }
}
