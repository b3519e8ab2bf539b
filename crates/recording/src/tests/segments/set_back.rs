//! Recordings in the midst of which the wall's clock was set back.

use std::cell::Cell;

use super::{replays::writer_at, run::Run, *};
use crate::{
    line::Mark,
    segments::{
        copy::Copy,
        set_back::{self, SetBack},
    },
};

/// The wall's time at the session's begin.
const BASE: i64 = 1_770_000_000;

/// Dates each member with the time of day.
struct Dated(Rc<RefCell<Writer>>, Rc<Cell<i64>>);

impl Sink for Dated {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        assert!(self.0.borrow_mut().write(lines, self.1.get() * 1_000_000_000).unwrap());
        Ok(lines.len() as u64)
    }
}

/// A minute, and another one before whose begin the clock was set back.
fn set_back_by(seconds: i64, path: &Path) {
    let now = Rc::new(Cell::new(BASE));
    let sink = Dated(Rc::new(RefCell::new(writer_at(path, 0))), now.clone());
    let mut run = Run { syncs: 3, ..Run::new("a") };
    run.begin(Box::new(sink), Began::Start);
    let mut minute = |from: i64| {
        for second in 1..=60 {
            now.set(from + second);
            run.second();
        }
        run.scene.set_clock(Clock::at((BASE - seconds) * 1_000_000_000, 1_000_000_000));
    };
    minute(BASE);
    minute(BASE + 60 - seconds);
    run.end();
}

#[test]
fn a_time_after_the_clock_was_set_back_is_found_and_one_before_it() {
    let folder = TempDir::new().unwrap();
    set_back_by(3600, folder.path());
    let base = BASE as f64;
    let find = |from, to| set_back::find(folder.path(), base + from, base + to).unwrap();
    let place = SetBack { from: base + 60.0, to: base - 3539.0 };
    assert_eq!(find(-3530.0, -3500.0), Some(place));
    // An hour up to the end, of which two minutes are known, both of them after it.
    assert_eq!(find(-3600.0, -3480.0), Some(place));
    assert_eq!(find(10.0, 20.0), None);
    assert_eq!(find(-4000.0, 100.0), None, "all of it");
    assert_eq!(find(f64::NEG_INFINITY, f64::INFINITY), None);
    assert_eq!(find(5000.0, 6000.0), None, "none of it");

    let mut replay = Replay::open(folder.path()).unwrap();
    assert!(replay.play_past(place));
    let at = replay.now() - base;
    assert!((-3540.0..=-3538.0).contains(&at), "{at}");
    let other = SetBack { from: base + 30.0, ..place };
    assert!(!Replay::open(folder.path()).unwrap().play_past(other), "it was not set back there");
}

#[test]
fn of_two_times_of_one_name_the_later_one_is_found() {
    let folder = TempDir::new().unwrap();
    // From 0 s to 60 s, and from 20 s to 80 s.
    set_back_by(40, folder.path());
    let base = BASE as f64;
    let find = |from, to| set_back::find(folder.path(), base + from, base + to).unwrap();
    let place = SetBack { from: base + 60.0, to: base + 21.0 };
    assert_eq!(find(30.0, 50.0), Some(place));
    assert_eq!(find(65.0, 75.0), Some(place));
    assert_eq!(find(5.0, 15.0), None);
    assert_eq!(find(5.0, 50.0), Some(place));
    assert_eq!(find(5.0, 70.0), None, "what is asked for has the whole end of the first one");
}

#[test]
fn a_copy_reaches_to_the_end_of_a_time_after_the_clock_was_set_back() {
    let folder = TempDir::new().unwrap();
    set_back_by(3600, folder.path());
    let base = BASE as f64;
    let ends = |from: f64, to: f64| {
        let copy = Copy::of(folder.path(), base + from, base + to).unwrap();
        assert!(!copy.is_empty());
        let mut bytes = Vec::new();
        copy.write_to(&mut bytes).unwrap();
        let mut replay = Replay::new("copy".into(), Cursor::new(bytes)).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        replay.now() - base
    };
    // A member is dated at the end of its second, and two more seconds are copied.
    assert_eq!(ends(-3530.0, -3500.0), -3498.0);
    assert_eq!(ends(10.0, 20.0), 22.0);
}

/// Each mark is by the clock of its second; a mark's time of day occurs twice.
#[test]
fn marks_and_breaks_from_before_the_clock_was_set_back_are_not_those_of_after_it() {
    let folder = TempDir::new().unwrap();
    let now = Rc::new(Cell::new(BASE));
    let sink = Dated(Rc::new(RefCell::new(writer_at(folder.path(), 0))), now.clone());
    let mut run = Run { syncs: 3, ..Run::new("a") };
    run.begin(Box::new(sink), Began::Start);
    let seconds = |run: &mut Run, from: i64, count: i64, text: &str| {
        for second in 1..=count {
            now.set(from + second);
            let at_ns = SECOND + run.second * SECOND;
            let mark = Mark { at_ns, text: format!("{text} {second}"), uid: 0, seen: false };
            run.recorder.as_mut().unwrap().mark(&mark);
            run.second();
        }
    };
    seconds(&mut run, BASE, 30, "before");
    // No tick for ten seconds.
    run.second += 10;
    seconds(&mut run, BASE + 40, 20, "before");
    // Set back by 40 s: the time from 21 s on occurs again.
    run.scene.set_clock(Clock::at((BASE - 40) * 1_000_000_000, 1_000_000_000));
    seconds(&mut run, BASE + 20, 30, "after");
    run.end();
    let place = set_back::find(folder.path(), BASE as f64 + 25.0, BASE as f64 + 55.0).unwrap();
    let mut replay = Replay::open(folder.path()).unwrap();
    assert!(replay.play_past(place.unwrap()));
    replay.play(u64::MAX, None, &mut Vec::new());
    let marks = &replay.marks().kept;
    let shown: Vec<_> = marks.iter().map(|mark| (mark.text.as_str(), mark.at)).collect();
    // The clock is read at the end of the first second after it was set.
    let expected: Vec<_> =
        (2..=30).map(|second| (format!("after {second}"), f64::from(second) + 19.0)).collect();
    let expected: Vec<_> =
        expected.iter().map(|(text, at)| (text.as_str(), BASE as f64 + at)).collect();
    assert_eq!(shown, expected);
    let breaks: Vec<_> = replay.breaks().iter().map(|one| &one.why).collect();
    assert_eq!(breaks, [&Why::Clock]);
}

/// A segment may begin later than the time that is asked for and be followed by one that begins
/// an hour earlier.
#[test]
fn a_segment_that_knows_of_a_time_is_read_whatever_the_next_ones_are_of() {
    let folder = TempDir::new().unwrap();
    let base = BASE as f64;
    let hours = |hours: f64| base + 3600.0 * hours;
    // From 1 h to 2 h, and after the clock was set back by 1.5 h from 0.5 h to 1.5 h.
    for (number, [first, last]) in
        [[0.0, 1.0], [1.0, 2.0], [0.5, 1.0], [1.0, 1.5]].into_iter().enumerate()
    {
        let mut writer = writer_at(folder.path(), number as u64);
        for at in [first, last - 0.01] {
            assert!(writer.write(b"{}\n", (hours(at) * 1e9) as i64).unwrap());
        }
    }
    let numbers = |from: f64| {
        let segments = index::since(folder.path(), hours(from)).unwrap();
        segments.iter().map(|one| one.found.number).collect::<Vec<_>>()
    };
    // 1.75 h was in the second one alone, which is not the last to begin before it.
    assert_eq!(numbers(1.75), [2, 3, 4]);
    assert_eq!(numbers(0.0), [1, 2, 3, 4]);
    assert_eq!(numbers(3.0), [4]);
}
