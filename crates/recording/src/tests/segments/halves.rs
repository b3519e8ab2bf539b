//! A tracer that is killed in the middle of a second leaves half of it.

use super::{
    replays::{Direct, writer_at},
    run::Run,
    *,
};

const HALF: u64 = SECOND / 2;

/// The syncs that a replay of the directory counts, and the time that it reaches.
fn reached(path: &Path) -> (u64, u64) {
    let mut replay = Replay::open(path).unwrap();
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay.check().unwrap();
    assert_eq!(replay.breaks(), []);
    (replay.snapshot_of(Span::Period).victims[0].syncs, replay.now_ns())
}

/// Three seconds of twenty syncs, and half of the fourth.
fn three_seconds_and_a_half(path: &Path) -> Run {
    let mut run = Run::new("a");
    run.grain = Grain::Thinned;
    let writer = Rc::new(RefCell::new(writer_at(path, 0)));
    run.begin(Box::new(Direct(writer, 0)), Began::Start);
    (0..3).for_each(|_| run.second());
    run.syncs(0..10);
    run.recorder.as_mut().unwrap().half(4 * SECOND + HALF);
    run
}

#[test]
fn half_a_second_is_kept_until_the_whole_second_takes_its_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut run = three_seconds_and_a_half(path);
    assert_eq!(reached(path), (70, 4 * SECOND + HALF));
    run.syncs(10..20);
    run.tick();
    assert_eq!(reached(path), (80, 5 * SECOND));
    run.end();
    let mut lines = String::new();
    let file = fs::File::open(path.join(name_of(1))).unwrap();
    crate::segments::member::Members::new(file).read_to_string(&mut lines).unwrap();
    assert!(!lines.contains("reached_ns"), "nothing of the half is left: {lines}");
}

#[test]
fn after_a_kill_the_gap_begins_in_the_middle_of_the_second() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    drop(three_seconds_and_a_half(path));
    let mut run = Run::new("a");
    run.second = 9;
    let writer = Rc::new(RefCell::new(writer(path, Bounds { bytes: 64 * SEGMENT, ..BOUNDS })));
    writer.borrow_mut().begin(now()).unwrap();
    run.begin(Box::new(Direct(writer, 0)), Began::Start);
    run.second();
    run.end();
    assert_eq!(numbers(path), [1], "it goes on in the same segment");
    let mut replay = Replay::open(path).unwrap();
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay.check().unwrap();
    let [gap] = replay.breaks() else { panic!("{:?}", replay.breaks()) };
    // The kernel's time was 1 s when the clock showed 1,770,000,000 s.
    assert_eq!((&gap.why, gap.from, gap.to), (&Why::Killed, 1_770_000_003.5, 1_770_000_009.0));
    assert_eq!(replay.snapshot_of(Span::Period).victims[0].syncs, 90);
}

/// A disk that fails or is full in the middle of a second costs no more than the second does.
#[test]
fn a_half_for_which_there_is_no_room_is_left_out() {
    let folder = TempDir::new().unwrap();
    let mut writer = writer(folder.path(), BOUNDS);
    writer.write_half(&noise(1000, 1), 1);
    writer.begin(now()).unwrap();
    writer.write_half(&noise(2 << 20, 1), 1);
    while writer.write(&noise(200_000, 7), 1).unwrap() {
        writer.write_half(&noise(190_000, 8), 1);
    }
    assert_eq!(numbers(folder.path()), [1]);
    let file = fs::File::open(folder.path().join(name_of(1))).unwrap();
    let whole = index::Whole::of(&file).unwrap();
    assert!(whole.bytes <= SEGMENT, "{whole:?}");
}
