//! The plots of a report: one of the whole time for each of the worst victims, and one of each
//! episode that is a small part of the whole time.

use anyhow::Result;
use tracer_snapshot::{FileClass, Snapshot};

use super::sample::{is_of, sample};
use crate::{
    commands::past::{Gap, Source},
    output::{plot::Chart, report::Episode, timeline},
    timeline::{Event, Subject, What},
};

/// At most this number of victims has a plot of the whole time, and of each episode.
const VICTIMS: usize = 3;
const EPISODE_VICTIMS: usize = 2;

/// If no victim was slow, this number of victims has a plot.
const WELL: usize = 2;

/// An episode has a plot of its own if it is less than this part of the time.
const ZOOMED: f64 = 0.4;

/// An episode's plot begins earlier and ends later than the episode by this part of it, and
/// by at least these seconds.
const MARGIN: f64 = 0.25;
const MARGIN_SECONDS: f64 = 20.0;

/// The inputs of a report's plots.
pub struct Plots<'a> {
    pub source: &'a Source,
    pub events: &'a [Event],
    pub gaps: &'a [Gap],
}

impl Plots<'_> {
    /// Plots of the whole time, the worst victim first. If no victim was slow, those that sync
    /// most at the end are plotted, and logs before all others.
    ///
    /// # Errors
    ///
    /// When the recording cannot be opened again.
    pub fn of_all(&self, [from, to]: [f64; 2], last: &Snapshot) -> Result<Vec<Chart>> {
        let mut wanted = self.slow_within([from, to]);
        wanted.truncate(VICTIMS);
        if wanted.is_empty() {
            let mut all: Vec<_> = last.victims.iter().filter(|one| one.syncs > 0).collect();
            all.sort_by_key(|victim| (victim.class != FileClass::Wal, !victim.syncs));
            wanted = all.into_iter().take(WELL).map(Subject::from).collect();
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut replay = self.source.open_from(from, to)?;
        replay.play_both(u64::MAX, from, None, &mut Vec::new());
        let charts = sample(&mut replay, to, &wanted);
        Ok(self.finished(charts, &wanted))
    }

    /// Plots of those episodes that are a small part of the whole time.
    ///
    /// # Errors
    ///
    /// When the recording cannot be opened again.
    pub fn add_to(&self, all: [f64; 2], episodes: &mut [Episode]) -> Result<()> {
        let mut replay = None;
        for episode in episodes {
            let margin = (MARGIN * (episode.to - episode.from)).max(MARGIN_SECONDS);
            let from = (episode.from - margin).max(all[0]);
            let to = (episode.to + margin).min(all[1]);
            if to - from > ZOOMED * (all[1] - all[0]) {
                continue;
            }
            let replay = match &mut replay {
                Some(replay) => replay,
                none => none.insert(self.source.open_from(from, all[1])?),
            };
            replay.play_both(u64::MAX, from, None, &mut Vec::new());
            let mut wanted = self.slow_within([episode.from, episode.to]);
            wanted.truncate(EPISODE_VICTIMS);
            let charts = sample(replay, to, &wanted);
            episode.charts = self.finished(charts, &wanted);
        }
        Ok(())
    }

    /// The victims that were slow within a time, those with most excess first.
    fn slow_within(&self, [from, to]: [f64; 2]) -> Vec<Subject> {
        let mut slow: Vec<(&Subject, f64)> = Vec::new();
        for event in self.events {
            let What::SlowEnded { victim, began_at, excess_seconds, .. } = &event.what else {
                continue;
            };
            if *began_at > to || event.at < from {
                continue;
            }
            match slow.iter_mut().find(|(known, _)| is_same(known, victim)) {
                Some((_, sum)) => *sum += excess_seconds,
                None => slow.push((victim, *excess_seconds)),
            }
        }
        slow.sort_by(|a, b| b.1.total_cmp(&a.1));
        slow.into_iter().map(|(victim, _)| victim.clone()).collect()
    }

    /// Adds the slow times, the gaps and the marks of the timeline.
    fn finished(&self, mut charts: Vec<Chart>, wanted: &[Subject]) -> Vec<Chart> {
        for chart in &mut charts {
            let is_it = |of: &Subject| chart.victim == timeline::subject(of);
            let subject = wanted.iter().find(|of| is_it(of));
            let slow = self.events.iter().filter_map(|event| match &event.what {
                What::SlowEnded { victim, began_at, .. } => {
                    subject.is_some_and(|of| is_same(of, victim)).then_some([*began_at, event.at])
                }
                _ => None,
            });
            chart.slow = slow.collect();
            chart.gaps = self.gaps.iter().map(|gap| [gap.from, gap.to]).collect();
            let marks = self.events.iter().filter(|one| matches!(one.what, What::Mark { .. }));
            chart.marks = marks.map(|event| event.at).collect();
        }
        charts
    }
}

fn is_same(a: &Subject, b: &Subject) -> bool {
    is_of(a, &b.actor, b.class, &b.path, &b.device)
}
