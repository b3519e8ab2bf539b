//! A segment alone comes to the verdict of the session, since it begins with what the engine
//! had learnt before.

use super::{
    replays::{Direct, writer_at},
    run::Run,
    *,
};
use crate::tests::thinning::{Generator, Packing};

/// 60 seconds in segments of 20 each, as an agent judges: each segment is a period of its
/// own. fstrim comes in the third second and stays. Gives what the session showed at the
/// end of each.
fn three_periods(path: &Path) -> Vec<[serde_json::Value; 2]> {
    let mut run = Run::new("a");
    let mut shown = Vec::new();
    for part in 0..3u64 {
        let writer = Rc::new(RefCell::new(writer_at(path, part)));
        let began = if part == 0 { Began::Start } else { Began::Rotation };
        run.scene.begin_period(SECOND + run.second * SECOND);
        run.begin(Box::new(Direct(writer, part.cast_signed() * 20_000_000_000)), began);
        for _ in 0..20 {
            run.second();
        }
        run.end();
        let now_ns = SECOND + run.second * SECOND;
        let show = |span| json(run.scene.snapshot(span, now_ns, &mut one_file()));
        shown.push([Span::Period, Span::Window].map(show));
    }
    shown
}

/// The fields in which two values differ, with both.
pub(super) fn differing(one: &serde_json::Value, other: &serde_json::Value) -> Vec<String> {
    use serde_json::Value::{Array, Object};
    let below = |name: &str, [one, other]: [Option<&serde_json::Value>; 2]| {
        let none = serde_json::Value::Null;
        let lines = differing(one.unwrap_or(&none), other.unwrap_or(&none));
        lines.into_iter().map(|line| format!("{name}.{line}")).collect::<Vec<_>>()
    };
    match (one, other) {
        (Object(a), Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            names.into_iter().flat_map(|name| below(name, [a.get(name), b.get(name)])).collect()
        }
        (Array(a), Array(b)) => {
            let places = 0..a.len().max(b.len());
            places.flat_map(|at| below(&at.to_string(), [a.get(at), b.get(at)])).collect()
        }
        _ if one == other => Vec::new(),
        _ => vec![format!(" alone {one}, live {other}")],
    }
}

/// A segment's lines with some of them changed, or left out.
fn changed(path: &Path, number: u64, change: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut lines = Vec::new();
    let segment = fs::read(path.join(name_of(number))).unwrap();
    let (mut at, mut plain) = (0, Vec::new());
    while let Some(head) = Head::parse(&segment[at..]) {
        let end = at + head.length as usize;
        crate::segments::member::unpack(&segment[at..end], &mut plain).unwrap();
        let text = std::str::from_utf8(&plain).unwrap();
        lines.extend(text.lines().filter_map(&change).flat_map(|line| [line, "\n".to_owned()]));
        at = end;
    }
    lines.concat().into_bytes()
}

#[test]
fn every_segment_alone_comes_to_the_verdict_of_the_session() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let live = three_periods(path);
    for (one, live) in list(path).unwrap().iter().zip(&live) {
        let mut replay = Replay::open(&one.path).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        assert_eq!(replay.forgotten(), None);
        for (span, live) in [Span::Period, Span::Window].into_iter().zip(live) {
            let mut alone = json(replay.snapshot_of(span));
            // How long this replay watched, and not the tracer.
            assert_eq!(alone["watched_seconds"].take(), 20.0);
            alone["watched_seconds"] = live["watched_seconds"].clone();
            assert_eq!(differing(&alone, live), [""; 0], "{} {span:?}", one.number);
        }
    }
    // It is about something: fstrim is named in all of them.
    for [period, _] in &live {
        let culprit = &period["victims"][0]["verdict"]["culprits"][0];
        assert_eq!(culprit["actor"]["unit"], "fstrim.service", "{culprit}");
    }
}

/// The second segment, in which fstrim is there from the first second on: without what was
/// learnt before it, nothing can be said.
#[test]
fn without_checkpoints_a_segment_knows_nothing_of_before() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let live = three_periods(path);
    let lines =
        changed(path, 2, |line| (!line.starts_with("{\"checkpoint\"")).then(|| line.to_owned()));
    let (shown, read) = play(&lines);
    read.unwrap();
    assert_eq!(open(&lines).unwrap().forgotten(), None);
    let shown = json(shown);
    let [live, alone] = [&live[1][0], &shown].map(|shown| &shown["victims"][0]["verdict"]);
    assert_eq!(live["culprits"][0]["actor"]["unit"], "fstrim.service");
    // Syncs took a millisecond before fstrim came, and 40 ms in all of this segment. Two of its
    // seconds had no fstrim, with 20 syncs each.
    let usual = |of: &serde_json::Value| of["device"]["undisturbed_wait_seconds"].as_f64().unwrap();
    assert!(usual(live) < 0.002 && usual(alone) > 0.04, "{live} {alone}");
    let without = |of: &serde_json::Value| of["culprits"][0]["evidence"]["without_n"].clone();
    assert_eq!((without(live), without(alone)), (40.into(), 0.into()));
}

/// It is not used if another version wrote it, if it is damaged, or if there was no room for it.
/// A sentence says so, and all else is read.
#[test]
fn a_checkpoint_that_cannot_be_used_is_left_out_with_a_sentence() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    three_periods(path);
    let check = |change: &dyn Fn(&str) -> String, why: &str| {
        let lines = changed(path, 2, |line| {
            let is_one = line.starts_with("{\"checkpoint\"");
            Some(if is_one { change(line) } else { line.to_owned() })
        });
        let mut replay = open(&lines).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        let sentence = format!(
            "what was learnt of one victim before the recording begins is not used, because \
             {why}: it is learnt again"
        );
        assert_eq!(replay.forgotten(), Some(sentence));
        let shown = replay.snapshot_of(Span::Period);
        assert_eq!((shown.victims[0].syncs, shown.victims[0].syncs_total), (400, 400));
    };
    let foreign = |line: &str| line.replace("\"shape\":", "\"shape\":1");
    check(&foreign, "another version of the tracer wrote it");
    let damaged = |line: &str| line.replace("\"state\":\"", "\"state\":\"00");
    check(&damaged, "it is damaged");
    check(&|line| line.replace("\"state\":\"", "\"state\":\"xy"), "it is damaged");
    let left_out = |_: &str| "{\"checkpoints_left_out\":1}".to_owned();
    check(&left_out, "the recorder had no room for it");
}

/// The replay of a directory knows better than a checkpoint in its middle.
#[test]
fn a_checkpoint_in_the_middle_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    three_periods(path);
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    assert_eq!(replay.forgotten(), None);
    assert_eq!(replay.snapshot_of(Span::Period).victims[0].syncs_total, 1200);
}

/// A thousand syncs a second on a disk with eight owners: 10 KB a second, so a segment of 14 MiB
/// lasts for 24 minutes.
#[test]
fn a_checkpoint_takes_few_bytes_of_a_segment() {
    let mut generator = Generator::new(1000, Box::new(Packing::default()));
    generator.play(60);
    let packing = Packing::default();
    generator.rotate_with(|| Box::new(packing.clone()));
    let (packed, lines) = packing.0.borrow().clone();
    let text = String::from_utf8(lines).unwrap();
    let checkpoints = text.lines().filter(|line| line.starts_with("{\"checkpoint\""));
    assert_eq!(checkpoints.count(), 1, "{text}");
    println!("the header and a checkpoint: {packed} bytes packed, {} before", text.len());
    assert!(packed < 8192, "{packed}");
}
