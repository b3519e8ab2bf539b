//! A flight recorder beside a session, on a disk that is full, slow or not there.

use super::{run::Run, *};

/// Waits for what another thread does.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Plays a session's seconds into a flight recorder, as a session does.
fn fly(run: &mut Run, flight: &Flight) {
    if flight.is_stopped() {
        run.recorder = None;
    }
    if let Some(began) = flight.take_wish() {
        run.begin(flight.segment(), began);
    } else if run.recorder.is_none() {
        flight.pass_second();
    }
    run.second();
}

#[test]
fn a_full_disk_stops_the_recorder_which_says_so_counts_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let free = Arc::new(AtomicU64::new(50));
    let asked = Arc::clone(&free);
    let flight = Flight::start_with(path, BOUNDS, None, move || {
        let asked = Arc::clone(&asked);
        Box::new(move |_: &Folder| {
            let percent = asked.load(Relaxed);
            Ok(Free { bytes: percent << 30, of_bytes: 100 << 30, ..PLENTY })
        })
    })
    .unwrap();
    let mut run = Run::new("a");
    until("it begins", || {
        fly(&mut run, &flight);
        flight.written_bytes() > 0
    });
    assert!(flight.take_notes()[0].starts_with("records into"));
    assert_eq!(flight.dropped(), 0);
    free.store(9, Relaxed);
    until("it stops", || {
        fly(&mut run, &flight);
        flight.is_stopped()
    });
    let notes = flight.take_notes();
    assert!(notes[0].contains("has stopped") && notes[0].contains("9 % of its space"), "{notes:?}");
    let (written, dropped) = (flight.written_bytes(), flight.dropped());
    std::thread::sleep(Duration::from_millis(2500));
    for _ in 0..30 {
        fly(&mut run, &flight);
    }
    assert_eq!(flight.written_bytes(), written);
    assert!(flight.dropped() >= dropped + 30, "{dropped} {}", flight.dropped());
    assert_eq!(flight.take_notes(), [""; 0], "it is said once");
    free.store(11, Relaxed);
    until("it goes on", || {
        fly(&mut run, &flight);
        flight.written_bytes() > written
    });
    fly(&mut run, &flight);
    run.end();
    assert!(flight.take_notes().iter().any(|note| note.contains("goes on")));
    assert!(flight.end());
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    assert!(replay.breaks().iter().any(|one| one.why == Why::Full), "{:?}", replay.breaks());
}

/// A disk that does not answer for a while.
#[test]
fn a_disk_that_is_too_slow_costs_seconds_that_are_counted_and_never_the_caller() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let slow = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&slow);
    let flight = Flight::start_with(path, BOUNDS, None, move || {
        let asked = Arc::clone(&asked);
        Box::new(move |_: &Folder| {
            while asked.load(Relaxed) > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(PLENTY)
        })
    })
    .unwrap();
    let mut run = Run::new("a");
    until("it begins", || {
        fly(&mut run, &flight);
        flight.written_bytes() > 0
    });
    slow.store(1, Relaxed);
    // The disk answers only when this is over: a caller that waited for it would never
    // come back, so any bound does.
    let timed = |run: &mut Run| {
        let begin = Instant::now();
        fly(run, &flight);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    };
    let mut seconds = 0;
    while flight.dropped() == 0 {
        timed(&mut run);
        seconds += 1;
        assert!(seconds < 100_000, "the queue has no end");
    }
    assert!(seconds > 100, "some minutes fit: {seconds}");
    for _ in 0..100 {
        timed(&mut run);
    }
    assert!(flight.dropped() >= 100, "{}", flight.dropped());
    slow.store(0, Relaxed);
    let dropped = flight.dropped();
    until("it goes on", || {
        std::thread::sleep(Duration::from_millis(20));
        fly(&mut run, &flight);
        run.recorder.is_some() && flight.dropped() == dropped
    });
    fly(&mut run, &flight);
    run.end();
    assert!(flight.end());
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    assert!(replay.breaks().iter().any(|one| one.why == Why::Slow), "{:?}", replay.breaks());
}

#[test]
fn a_directory_that_cannot_be_used_is_said_and_taken_once_it_can() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("volume/recording");
    // This machine's own disk may be full.
    let flight =
        Flight::start_with(&path, BOUNDS, None, || Box::new(|_: &Folder| Ok(PLENTY))).unwrap();
    let mut run = Run::new("a");
    let mut notes = Vec::new();
    until("it says so", || {
        fly(&mut run, &flight);
        notes.extend(flight.take_notes());
        !notes.is_empty()
    });
    assert!(notes[0].contains("it cannot be used"), "{notes:?}");
    fs::create_dir(parent.path().join("volume")).unwrap();
    until("it begins", || {
        std::thread::sleep(Duration::from_millis(5));
        fly(&mut run, &flight);
        flight.written_bytes() > 0
    });
    drop(run);
    assert!(flight.end());
    assert_eq!(numbers(&path), [1]);
}

/// The last lines of a full segment are written after somebody was asked for the next one. Two
/// parts would begin, each with all names and what was learnt.
#[test]
fn a_full_segment_is_followed_by_one_part() {
    let folder = TempDir::new().unwrap();
    let ask = || -> crate::segments::writer::Ask { Box::new(|_| Ok(PLENTY)) };
    let flight = Flight::start_with(folder.path(), BOUNDS, None, ask).unwrap();
    let mut wish = None;
    let mut wait_for_wish = || {
        until("it asks", || {
            wish = flight.take_wish();
            wish.is_some()
        });
        wish
    };
    let put = |part: &mut Box<dyn Sink>, bytes| {
        let before = flight.written_bytes();
        assert!(part.put(&noise(bytes, before)).unwrap() > 0);
        until("it is written", || flight.written_bytes() > before);
    };
    assert_eq!(wait_for_wish(), Some(Began::Start));
    let mut first = flight.segment();
    // Nine tenths of a MiB, of which gzip leaves four fifths, and a bit.
    (0..6).for_each(|_| put(&mut first, 190_000));
    assert_eq!(wait_for_wish(), Some(Began::Rotation));
    // The second's tick, and the end.
    put(&mut first, 100);
    put(&mut first, 100);
    let mut second = flight.segment();
    put(&mut second, 1000);
    assert_eq!(flight.take_wish(), None, "nothing is full");
    assert_eq!(numbers(folder.path()), [1, 2]);
    assert_eq!(flight.dropped(), 0);
}
