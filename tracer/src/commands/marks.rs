//! The victims' syncs in the minutes before and after each mark.
//!
//! A mark is found when its recording is played, so the minutes around it are played
//! again, each from as long before as a replay needs to know everybody.

use std::path::Path;

use anyhow::Result;
use tracer_engine::victim::Span;
use tracer_recording::replay::Replay;
use tracer_snapshot::Victim;

use super::past::Source;
use crate::timeline::{Around, Event, Minute, What};

const MINUTE_SECONDS: f64 = 60.0;

/// Marks of which the minutes are played, and victims of each.
const MEASURED: usize = 32;
const VICTIMS: usize = 16;

/// Adds the minutes to events that are marks. Standard input cannot be read again, so its
/// marks stay without.
///
/// # Errors
///
/// When the recording cannot be opened again.
pub fn measure(source: &Source, events: &mut [Event]) -> Result<()> {
    if source.path() == Path::new("-") {
        return Ok(());
    }
    let mut last: Option<Replay> = None;
    let marks = events.iter_mut().filter_map(|event| match &mut event.what {
        What::Mark { around, .. } => Some((event.at, around)),
        _ => None,
    });
    for (at, around) in marks.take(MEASURED) {
        let [from, to] = [at - MINUTE_SECONDS, at + MINUTE_SECONDS];
        let mut replay = match last.take().filter(|replay| replay.now() <= from) {
            Some(replay) => replay,
            None => source.open_from(from, to)?,
        };
        let mut victims_until = |until| {
            replay.begin_period();
            replay.play_both(u64::MAX, until, None, &mut Vec::new());
            replay.snapshot_of(Span::Period).victims
        };
        victims_until(from);
        let [before, after] = [at, to].map(victims_until);
        *around = join(&before, &after);
        last = Some(replay);
    }
    Ok(())
}

/// Victims of two minutes, those of the first one in its order before the others.
fn join(before: &[Victim], after: &[Victim]) -> Vec<Around> {
    let minute = |victim: &Victim| Minute {
        syncs: victim.syncs,
        p50_seconds: victim.p50_seconds,
        p99_seconds: victim.p99_seconds,
    };
    let of = |victims: &[Victim], id: u32| {
        victims.iter().find(|victim| victim.id == id && victim.syncs > 0).map(minute)
    };
    let mut all: Vec<&Victim> = before.iter().filter(|victim| victim.syncs > 0).collect();
    let is_known = |victim: &&Victim| of(before, victim.id).is_some();
    all.extend(after.iter().filter(|victim| victim.syncs > 0 && !is_known(victim)));
    all.truncate(VICTIMS);
    let around = |victim: &Victim| Around {
        victim: victim.into(),
        before: of(before, victim.id),
        after: of(after, victim.id),
    };
    all.into_iter().map(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;

    #[test]
    fn victims_are_joined_by_their_number_and_those_without_a_sync_left_out() {
        let victim = |id: u32, syncs: u64, p99: f64| {
            let mut victim = fixture::trimmed().victims.remove(0);
            (victim.id, victim.syncs, victim.p99_seconds) = (id, syncs, p99);
            victim.p50_seconds = p99 / 10.0;
            victim
        };
        let before = [victim(7, 600, 0.4), victim(8, 0, 0.0), victim(9, 5, 0.1)];
        let after = [victim(11, 3, 0.2), victim(7, 900, 0.002), victim(9, 0, 0.0)];
        let joined = join(&before, &after);
        let minute = |syncs, p99| Some(Minute { syncs, p50_seconds: p99 / 10.0, p99_seconds: p99 });
        let found: Vec<_> = joined.iter().map(|one| (one.before, one.after)).collect();
        let expected = [
            (minute(600, 0.4), minute(900, 0.002)),
            (minute(5, 0.1), None),
            (None, minute(3, 0.2)),
        ];
        assert_eq!(found, expected);
    }
}
