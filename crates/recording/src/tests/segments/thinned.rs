//! A segment in which fast syncs are sums comes alone to the verdict of the session: all that
//! it says in words and counts is the same, and its times and shares are as near as thinning
//! promises.

use serde_json::{Map, Value, from_str};

use super::{
    checkpoints::differing,
    replays::{Direct, writer_at},
    *,
};
use crate::tests::thinning::Generator;

/// A share of the excess differs by at most one point, and so does a part of it in seconds.
const SHARE: f64 = 0.01;
/// A time, or a ratio of times, differs by at most a twentieth: a sum's syncs took between one
/// and 1.26 times as long as each other, and are taken for equally long.
const TIME: f64 = 0.05;

/// Three minutes of 200 syncs a second in segments of one minute each, with an fstrim for ten
/// seconds of each minute. Gives what the session showed of each minute.
fn three_minutes(path: &Path) -> Vec<Value> {
    let sink = |part: u64| {
        let writer = Rc::new(RefCell::new(writer_at(path, part)));
        Box::new(Direct(writer, part.cast_signed() * 60_000_000_000))
    };
    let mut generator = Generator::new(200, sink(0));
    let mut live = Vec::new();
    for part in 0..3 {
        if part > 0 {
            generator.rotate_with(|| sink(part));
        }
        generator.scene.begin_period(generator.second * SECOND);
        generator.play(60);
        let at_ns = generator.second * SECOND;
        live.push(json(generator.scene.snapshot(Span::Period, at_ns, &mut one_file())));
    }
    generator.end();
    live
}

/// Owners by their names: those that are blamed for a thousandth each have no order. What an
/// owner is ruled out for may name its share, which is compared by itself.
fn by_name(victim: &mut Value) {
    for list in ["/verdict/ruled_out", "/total/blame"] {
        let list = victim.pointer_mut(list).unwrap();
        let named = list.as_array().unwrap().iter().map(|one| {
            let name = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            let actor = one["actor"]["comm"].as_str().unwrap();
            let mut one = one.clone();
            if let Some(reason) = one.get_mut("reason") {
                let text =
                    reason.as_str().unwrap().trim_start_matches(|c: char| !c.is_alphabetic());
                *reason = text.into();
            }
            (format!("{actor} {}", name("op")), one)
        });
        *list = Value::Object(named.collect::<Map<_, _>>());
    }
}

/// Whether two numbers of this field differ by no more than they may, beside this excess in
/// seconds.
fn is_near(field: &str, alone: f64, live: f64, excess: f64) -> bool {
    let parts: Vec<_> = field.split('.').collect();
    let [.., before, last] = parts.as_slice() else { return false };
    if *last == "share" || *before == "shares" {
        return (alone - live).abs() <= SHARE;
    }
    let is_time = last.ends_with("seconds") || *before == "phases";
    let is_ratio = last.starts_with("lift_") || *last == "competing_in_flight";
    let is_part = parts.contains(&"blame") || *last == "device_alone_seconds";
    let most = if is_part { SHARE * excess } else { TIME * live };
    (is_time || is_ratio) && (alone - live).abs() <= most
}

#[test]
fn every_thinned_segment_alone_comes_to_the_verdict_of_the_session() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let live = three_minutes(path);
    for (one, live) in list(path).unwrap().iter().zip(live) {
        let mut replay = Replay::open(&one.path).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        assert_eq!(replay.forgotten(), None);
        let alone = json(replay.snapshot_of(Span::Period));
        let mut pair = [alone, live];
        for shown in &mut pair {
            let victim = &mut shown["victims"][0];
            by_name(victim);
            // Syncs may be in the next bucket, and none is missing.
            for buckets in ["sync_buckets", "wal_buckets"] {
                let counts = victim[buckets].as_array().unwrap();
                let all: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
                victim[buckets] = all.into();
            }
            // How long this replay watched, and not the tracer.
            shown["watched_seconds"].take();
            // It is about something.
            let verdict = &shown["victims"][0]["verdict"];
            assert_eq!(verdict["culprits"][0]["actor"]["comm"], "fstrim", "{verdict}");
            assert!(verdict["excess_seconds"].as_f64().unwrap() > 5.0, "{verdict}");
        }
        let [alone, live] = &pair;
        for exact in ["/syncs", "/syncs_total", "/max_seconds", "/verdict/kind"] {
            let [alone, live] = [alone, live].map(|of| of["victims"][0].pointer(exact).unwrap());
            assert_eq!(alone, live, "{}: {exact}", one.number);
        }
        let excess = live["victims"][0]["total"]["excess_seconds"].as_f64().unwrap();
        let far = |line: &String| {
            let (field, values) = line.split_once(". alone ").unwrap();
            let (alone, live) = values.split_once(", live ").unwrap();
            let [alone, live] = [alone, live].map(from_str::<Value>).map(Result::unwrap);
            let numbers = alone.as_f64().zip(live.as_f64());
            !numbers.is_some_and(|(alone, live)| is_near(field, alone, live, excess))
        };
        let far: Vec<_> = differing(alone, live).into_iter().filter(far).collect();
        assert_eq!(far, [""; 0], "segment {}", one.number);
    }
}
