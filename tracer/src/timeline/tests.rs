use super::*;
use crate::output::fixture;
use tracer_recording::breaks::Why;

const BEGIN: f64 = 1_772_366_400.0;

/// The snapshot of the `n`th period: etcd's log is slow by an fstrim, or it is not.
fn period(n: u32, slow: Option<(Confidence, f64)>) -> (f64, Snapshot) {
    let from = BEGIN + 10.0 * f64::from(n);
    let mut s = fixture::trimmed();
    s.at = from + 10.0;
    s.hanging.clear();
    s.victims.retain(|victim| victim.id == 7);
    let verdict = &mut s.victims[0].verdict;
    match slow {
        Some((confidence, excess)) => {
            (verdict.confidence, verdict.excess_seconds) = (confidence, excess);
        }
        None => *verdict = tracer_snapshot::Verdict::default(),
    }
    (from, s)
}

/// The events of such periods, in short, with seconds since the begin.
fn story(periods: &[Option<(Confidence, f64)>], breaks: &[Break]) -> Vec<String> {
    let mut timeline = Timeline::default();
    timeline.take_breaks(breaks);
    for (n, slow) in periods.iter().enumerate() {
        let (from, s) = period(n as u32, *slow);
        timeline.add_period(from, &s);
    }
    shorten(timeline)
}

fn shorten(timeline: Timeline) -> Vec<String> {
    let (events, left_out) = timeline.end();
    assert_eq!(left_out, 0);
    let shorten = |event: &Event| {
        let at = event.at - BEGIN;
        match &event.what {
            What::SlowBegan { victim, kind, .. } => {
                format!("{at} {} slow: {}", victim.actor.comm, kind.name())
            }
            What::SlowEnded { seconds, lasts, spans_gap, culprits, .. } => {
                let names: Vec<_> = culprits.iter().map(|c| c.actor.comm.as_str()).collect();
                let lasts = if *lasts { " lasts" } else { "" };
                let gap = if *spans_gap { " gap" } else { "" };
                format!("{at} over after {seconds}{lasts}{gap} by {}", names.join("+"))
            }
            What::CulpritCame { culprit, .. } => format!("{at} {} came", culprit.actor.comm),
            What::CulpritWent { culprit, seconds, .. } => {
                format!("{at} {} went after {seconds}", culprit.actor.comm)
            }
            What::Hang { victim, seconds, ended, .. } => {
                format!("{at} {} hangs {seconds} {ended}", victim.actor.comm)
            }
            What::Mark { text, uid, .. } => format!("{at} {text} by {uid}"),
            What::Restart { to, why, .. } => format!("{at} restart {why} to {}", to - BEGIN),
            What::Gap { to, why, .. } => format!("{at} gap {why} to {}", to - BEGIN),
        }
    };
    events.iter().map(shorten).collect()
}

const HIGH: Option<(Confidence, f64)> = Some((Confidence::High, 3.0));
/// Hardly more than usual.
const LITTLE: Option<(Confidence, f64)> = Some((Confidence::Medium, 0.15));
const HARDLY: Option<(Confidence, f64)> = Some((Confidence::High, 0.02));
const LOW: Option<(Confidence, f64)> = Some((Confidence::Low, 3.0));
const WELL: Option<(Confidence, f64)> = None;

#[test]
fn a_victim_that_is_slow_has_a_begin_an_end_and_its_culprit_comes_and_goes() {
    let events = story(&[WELL, HIGH, HIGH, WELL, WELL, WELL, WELL], &[]);
    let expected = [
        "10 etcd slow: owners",
        "10 fstrim came",
        "30 fstrim went after 20",
        "30 over after 20 by fstrim",
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_short_pause_does_not_make_two_of_one() {
    let events = story(&[HIGH, WELL, WELL, HIGH, WELL, WELL, WELL, HIGH], &[]);
    let begins: Vec<_> = events.iter().filter(|line| line.contains(" slow")).collect();
    assert_eq!(begins, ["0 etcd slow: owners", "70 etcd slow: owners"], "{events:?}");
    assert!(events.contains(&"40 over after 40 by fstrim".to_owned()), "{events:?}");
    assert!(events.last().unwrap().contains("over after 10 lasts"), "{events:?}");
}

#[test]
fn one_period_with_little_to_blame_or_little_to_be_sure_of_is_no_event() {
    assert_eq!(story(&[WELL, LITTLE, WELL, WELL, WELL, LITTLE], &[]), [""; 0]);
    assert_eq!(story(&[WELL, LOW, LOW, WELL, WELL, WELL], &[]), [""; 0]);
    assert_eq!(story(&[HARDLY; 6], &[]), [""; 0]);
    assert_eq!(story(&[WELL, LITTLE, LITTLE, WELL], &[]).len(), 4);
    assert_eq!(story(&[WELL, LOW, LOW, LOW, WELL], &[]).len(), 4);
}

#[test]
fn what_lasts_over_a_gap_says_so() {
    let at = |from: f64, to: f64, why| {
        let at_ns = (to * 1e9) as u64;
        Break { at_ns, from: BEGIN + from, to: BEGIN + to, why }
    };
    let breaks = [
        at(14.0, 17.0, Why::Killed),
        at(33.0, 33.0, Why::Stopped),
        at(40.0, 41.0, Why::Slow),
        at(44.0, 48.0, Why::Full),
    ];
    let events = story(&[WELL, HIGH, HIGH], &breaks);
    let expected = [
        "10 etcd slow: owners",
        "10 fstrim came",
        "14 restart killed to 17",
        "30 over after 20 lasts gap by fstrim",
        // A restart is one however short it was; a second without data is no gap.
        "33 restart stopped to 33",
        "44 gap full to 48",
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_sync_that_hangs_is_one_event_however_often_it_is_seen() {
    let mut timeline = Timeline::default();
    for n in 0..3 {
        let (from, mut s) = period(n, WELL);
        let hanging = fixture::trimmed().hanging.first().cloned();
        let mut hanging = hanging.unwrap_or_else(fixture::hanging);
        // It began 2 seconds before the first period.
        hanging.at = s.at;
        hanging.seconds = s.at - BEGIN + 2.0;
        s.hanging = vec![hanging];
        timeline.add_period(from, &s);
    }
    let events = shorten(timeline);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("-2 ") && events[0].ends_with(" hangs 32 false"), "{events:?}");
}

#[test]
fn a_sync_that_hung_is_an_event_once_it_ended() {
    let mut timeline = Timeline::default();
    let long = SlowSync { at: BEGIN, duration_seconds: 47.0, ..fixture::slow_sync() };
    let short = SlowSync { duration_seconds: 9.9, ..long.clone() };
    timeline.take_long(&[long.clone(), short]);
    timeline.take_long(&[long]);
    let events = shorten(timeline);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].ends_with("hangs 47 true"), "{events:?}");
}

#[test]
fn of_more_events_than_are_kept_the_rest_is_counted() {
    let mut timeline = Timeline::default();
    let breaks: Vec<_> = (0..MAX_EVENTS + 7)
        .map(|n| Break { at_ns: n as u64, from: n as f64, to: n as f64 + 3.0, why: Why::Slow })
        .collect();
    timeline.take_breaks(&breaks);
    let (events, left_out) = timeline.end();
    assert_eq!((events.len(), left_out), (MAX_EVENTS, 7));
}

#[test]
fn a_mark_is_an_event_once() {
    let mut timeline = Timeline::default();
    let mark = |at: f64, text: &str| {
        let (at_ns, text) = ((at * 1e9) as u64, text.to_owned());
        Marked { at_ns, at: BEGIN + at, text, uid: 1000, seen: false }
    };
    let marks = [mark(5.0, "stopped fstrim"), mark(70.0, "started it again")];
    timeline.take_marks(&marks[..1]);
    timeline.take_marks(&marks);
    assert_eq!(shorten(timeline), ["5 stopped fstrim by 1000", "70 started it again by 1000"]);
}
