//! Thousands of timelines whose truth is known, and the verdicts on them.
//!
//! A neighbour of some kind and load beside a victim on a disk of some kind: a
//! minute in which all is well, then half a minute in which the device, the
//! neighbour or both have changed.

use std::{
    env, iter,
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use tracer_engine::{
    blame::OwnerId,
    kind::{Confidence, Kind},
    verdict::Judgement,
};
use tracer_timelines::{
    cell::{Cell, Device, KINDS, Neighbour, Play},
    dice::Dice,
    timeline::{Stream, phase},
    truth::{Answer, Calm, Cause, HALF, Said, Truth},
};

use super::{
    tables::{Count, Mixed, Tables, at_most},
    world::World,
};

/// Reads a verdict; the neighbour has account 2.
fn said(said: &Judgement) -> Said {
    let of_neighbour = said.culprits.iter().filter(|c| c.owner == OwnerId(2));
    Said {
        cause: match said.kind {
            Kind::None => Cause::Nobody,
            Kind::Device => Cause::Device,
            Kind::Owners => Cause::Owners,
            Kind::Own => Cause::Own,
            Kind::Undecided => Cause::Undecided,
            Kind::Unexplained | Kind::Unknown | Kind::Unseen => Cause::Unknown,
            _ => Cause::Other,
        },
        device: said.shares.device,
        neighbour: of_neighbour.map(|c| c.share).sum(),
        is_high: said.confidence == Confidence::High,
    }
}

/// The verdicts on one timeline: on its good minute, and on the change. They are `None`
/// if the truth lies between two answers; `text` shows a wrong one.
#[derive(Default)]
struct Played {
    calm: Option<Count>,
    changed: Option<(Count, Mixed)>,
    text: String,
}

fn judge_one(play: &Play) -> Played {
    let mut played = Played::default();
    if play.is_wearing() {
        // The neighbour makes the device slower all the time.
        return played;
    }
    let [before, after] = [(90, 0), (HALF, 1)]
        .map(|(seconds, at)| phase(seconds, play.disks[at], play.streams[at].as_slice()));
    let mut world = World::new(play.seed);
    let mut calm = Calm::new(play, HALF);
    let before = world.play_and_show(before, |timeline, happened| calm.see(timeline, happened));
    world.age();
    let after = world.play(after);
    let truth = calm.truth();
    if let Some(judged) = before.last().filter(|_| truth.is_calm(2)) {
        let answer = said(judged).answer(None, truth.calm[1][0], false);
        played.calm = Some(Count::of(judged, None, answer));
        if answer == Answer::Wrong {
            played.text = format!("the good minute: {:?}\n", judged.kind);
        }
    }
    if let Some(judged) = after.last() {
        played.compare(play, &truth, judged);
    }
    played
}

/// Before the change and after it, where a victim is judged soon; the truth is that of the
/// same seconds.
const WATCHED: u64 = 4;
const CHANGED: u64 = 8;

/// As [`judge_one`], for somebody who begins to watch a few seconds before the change.
fn judge_soon(play: &Play) -> Played {
    let mut played = Played::default();
    if play.is_wearing() {
        return played;
    }
    let truth = Truth::of_first(play, CHANGED);
    let mut world = World::new(play.seed);
    let before = |seconds: u64| phase(seconds, play.disks[0], play.streams[0].as_slice());
    world.pass(before(60 - WATCHED));
    let changed = phase(CHANGED, play.disks[1], play.streams[1].as_slice());
    if let Some(judged) = world.judge(&[before(WATCHED), changed]) {
        played.compare(play, &truth, &judged);
    }
    played
}

impl Played {
    /// Holds a verdict on the change against the truth.
    fn compare(&mut self, play: &Play, truth: &Truth, judged: &Judgement) {
        let Some(is_slow) = truth.is_slow() else { return };
        let device = truth.device();
        let parts = is_slow.then_some((device, 1.0 - device));
        let answer = said(judged).answer(parts, truth.means[3], play.cell.is_undecidable());
        let count = Count::of(judged, parts, answer);
        self.changed = Some((count, Mixed::of(&said(judged), parts)));
        if answer != Answer::Right || count.accused > 0 {
            let is_high = if judged.confidence == Confidence::High { "HIGH, " } else { "" };
            let accused = if count.accused > 0 { "ACCUSED, " } else { "" };
            let truth = (parts.map(|(device, _)| device), truth.means);
            self.text += &format!(
                "{accused}{is_high}{answer:?}: {:?}: device {truth:.2?}; {:?} {:.2?} {:.1}\n",
                play.cell,
                judged.kind,
                judged.shares,
                judged.circumstances.times(),
            );
        }
    }
}

/// Calls `play` with each number below `count`, on all CPUs. The results are in the numbers' order.
pub(super) fn play_each<T: Send>(count: u64, play: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // Each thread takes the next one, so that all of them work until the end.
    let next = AtomicU64::new(0);
    let play_next = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number < count).then(|| (number, play(number)))
    };
    let mut played: Vec<_> = thread::scope(|scope| {
        let start = |_| scope.spawn(|| iter::from_fn(play_next).collect::<Vec<_>>());
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    played.sort_by_key(|(number, _)| *number);
    played.into_iter().map(|(_, result)| result).collect()
}

/// The seed of one of the timelines that are drawn from a seed.
pub(super) fn drawn(seed: u64, number: u64) -> u64 {
    Dice(seed.wrapping_mul(1_000_003) + number).throw()
}

/// Plays `timelines` timelines from a seed, and prints the results.
fn play_all(seed: u64, timelines: u64, judge: fn(&Play) -> Played) -> Tables {
    let judged = play_each(timelines, |number| {
        let drawn = drawn(seed, number);
        let play = Play::draw(drawn);
        let mut played = judge(&play);
        if !played.text.is_empty() {
            played.text.insert_str(0, &format!("play {drawn}: "));
        }
        (play.cell, played)
    });
    let mut tables = Tables::default();
    for (cell, played) in judged {
        print!("{}", played.text);
        tables.calm.add(&played.calm.unwrap_or_default());
        if let Some((count, mixed)) = played.changed {
            tables.add(&cell, &count, &mixed);
        }
    }
    println!("{tables}");
    tables
}

pub(super) fn from_environment(name: &str, or: u64) -> u64 {
    env::var(name).map_or(or, |text| text.parse().unwrap())
}

/// This number of timelines is held to the rules without tolerance.
const MANY: u64 = 10_000;

/// So seldom may a check of few timelines fail that has nothing wrong in it.
const LUCK: f64 = 0.0005;

/// `TRACER_TIMELINES` of them; a commit is checked with a few.
#[test]
fn what_is_said_of_thousands_of_timelines_is_true() {
    let timelines = from_environment("TRACER_TIMELINES", 300);
    play_all(1, timelines, judge_one).check(if timelines >= MANY { 1.0 } else { LUCK });
}

/// From a seed that nobody chose, which is printed; `TRACER_SEED` plays it again.
#[test]
fn what_is_said_is_true_for_a_seed_that_nobody_has_seen() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("TRACER_SEED", now.subsec_nanos().into());
    println!("TRACER_SEED={seed}");
    play_all(seed, from_environment("TRACER_FRESH_TIMELINES", 100), judge_one).check(LUCK);
}

/// The play with a neighbour that comes at the change. One that would double its load
/// becomes a closed loop.
fn with_newcomer(play: &Play) -> Play {
    let is_full = play.cell.neighbour == Neighbour::Doubled;
    let rate = |stream: Stream| stream.per_second.filter(|_| !is_full);
    let comes = play.streams[1].map(|stream| Stream { per_second: rate(stream), ..stream });
    Play { streams: [None, comes], ..*play }
}

/// As [`judge_soon`], with a neighbour that comes at the change.
fn judge_newcomer(play: &Play) -> Played {
    judge_soon(&with_newcomer(play))
}

/// As [`judge_one`], with a neighbour that comes after a minute and a half without any.
fn judge_late_newcomer(play: &Play) -> Played {
    judge_one(&with_newcomer(play))
}

/// For a tracer that starts some seconds after the change, and judges the next half minute:
/// with the reference that an earlier one learnt of the disk, or without.
fn judge_restarted(play: &Play, has_reference: bool) -> Played {
    let mut played = Played::default();
    if play.is_wearing() {
        return played;
    }
    let truth = Truth::of(play);
    let before = |seconds: u64| phase(seconds, play.disks[0], play.streams[0].as_slice());
    let after = |seconds: u64| phase(seconds, play.disks[1], play.streams[1].as_slice());
    let mut world = World::new(play.seed);
    if has_reference {
        let mut earlier = World::new(play.seed);
        earlier.play(before(90));
        earlier.age();
        world.keep_references_of(&earlier);
    }
    world.pass(before(60));
    world.pass(after(CHANGED));
    if let Some(judged) = world.judge(&[after(30)]) {
        played.compare(play, &truth, &judged);
    }
    played
}

/// Plays a few timelines, and holds that no innocent is named for sure.
#[track_caller]
fn accuse_nobody(judge: fn(&Play) -> Played) -> Count {
    let timelines = from_environment("TRACER_SOON_TIMELINES", 150);
    let seed = from_environment("TRACER_SEED", 1);
    let Tables { all, .. } = play_all(seed, timelines, judge);
    assert_eq!(all.accused, 0, "{all}");
    all
}

/// Much is left open where little is known, and what is said for sure must be true.
#[track_caller]
fn check_sure(judge: fn(&Play) -> Played) -> Count {
    let all = accuse_nobody(judge);
    let is_sure = all.high == 0 || at_most(all.high_right, all.high, 0.99) >= LUCK;
    assert!(is_sure, "{all}");
    all
}

/// A few seconds are enough for a verdict, and seldom for a sure one.
#[test]
fn what_is_said_for_sure_after_a_few_seconds_is_true() {
    check_sure(judge_soon);
    check_sure(judge_newcomer);
}

/// The part of a newcomer in what changes at its first second is not known well: it may be named
/// for sure for all of it, where the device has a half. But it must not be innocent.
#[test]
fn no_newcomer_without_a_part_is_named_for_sure() {
    accuse_nobody(judge_late_newcomer);
}

/// The truth is who changed, and a tracer that starts later has not seen that. Without a reference
/// it says with medium confidence what it sees now, such as a neighbour's bursts without which syncs
/// are quick, and the disk may have become slower before. So three quarters are asked for there, and
/// nine tenths beside a reference.
#[test]
fn what_a_restarted_tracer_says_for_sure_is_true_and_mostly_so_with_medium_confidence() {
    let beside_reference: fn(&Play) -> Played = |play| judge_restarted(play, true);
    for (judge, least) in [(beside_reference, 0.9), (|play| judge_restarted(play, false), 0.75)] {
        let all = check_sure(judge);
        let is_mostly = all.medium == 0 || at_most(all.medium_right, all.medium, least) >= LUCK;
        assert!(is_mostly, "{all}");
    }
}

/// The play with a neighbour that used the disk while it was watched, and another that does
/// after it, on the same disk.
fn with_another(play: &Play) -> Play {
    let mut dice = Dice(play.seed);
    let cell = Cell { does: dice.one(&KINDS), device: Device::Unchanged, ..play.cell };
    let before = Play::of(cell, &mut dice).streams[0];
    Play { cell, streams: [before, play.streams[0]], disks: [play.disks[0]; 2], ..*play }
}

/// A disk shows little beside one neighbour of what it does beside another, and most of the
/// verdicts are true all the same.
#[test]
fn a_restarted_tracer_names_no_device_for_a_load_that_the_disk_has_not_seen() {
    let all = accuse_nobody(|play| judge_restarted(&with_another(play), true));
    let is_seldom_wrong = all.medium == 0 || at_most(all.medium_right, all.medium, 0.75) >= LUCK;
    assert!(is_seldom_wrong, "{all}");
}

/// The engine changes nothing in a timeline that it watches.
#[test]
fn the_truth_is_the_same_beside_a_verdict_as_alone() {
    for seed in 0..20 {
        let play = Play::draw(seed);
        let before = phase(90, play.disks[0], play.streams[0].as_slice());
        let mut calm = Calm::new(&play, HALF);
        World::new(play.seed)
            .play_and_show(before, |timeline, happened| calm.see(timeline, happened));
        assert_eq!(calm.truth(), Truth::of(&play), "{play:?}");
    }
}

/// Plays the timeline `TRACER_PLAY` again, by the number that is printed beside a verdict.
#[test]
fn what_is_said_of_one_timeline_is_shown() {
    let drawn = from_environment("TRACER_PLAY", 1);
    let play = Play::draw(drawn);
    let played = judge_one(&play);
    println!("{play:?}\n{:?}\n{}", Truth::of(&play), played.text);
    assert!(play.is_wearing() || Truth::of(&play).means[0] > 0.0, "{play:?}");
}
