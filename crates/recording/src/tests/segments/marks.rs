//! Marks in a flight recorder's recording.

use super::{
    replays::{Direct, writer_at},
    run::Run,
    *,
};
use crate::{line::Mark, replay::marks::Marked, segments::copy::Copy};

#[test]
fn a_mark_is_kept_with_its_time_and_its_user_and_copied() {
    let folder = TempDir::new().unwrap();
    let rest = Rc::new(RefCell::new(writer_at(folder.path(), 0)));
    let mut run = Run::new("a");
    run.begin(Box::new(Direct(rest, 0)), Began::Start);
    run.second();
    let text = "stopped <b>fstrim</b>".to_owned();
    let mark = Mark { at_ns: 2 * SECOND + SECOND / 2, text: text.clone(), uid: 1000, seen: true };
    run.recorder.as_mut().unwrap().mark(&mark);
    run.second();
    run.end();
    let mut copy = Vec::new();
    Copy::of(folder.path(), 0.0, 1e6).unwrap().write_to(&mut copy).unwrap();
    let copy = Replay::new("copy".into(), Cursor::new(copy)).unwrap();
    for mut replay in [Replay::open(folder.path()).unwrap(), copy] {
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        // The kernel's first second is the wall's 1,770,000,000th.
        let (at_ns, at, text) = (mark.at_ns, 1_770_000_001.5, text.clone());
        let expected = Marked { at_ns, at, text, uid: 1000, seen: true };
        assert_eq!((&replay.marks().kept[..], replay.marks().left_out), (&[expected][..], 0));
    }
}

#[test]
fn of_very_many_marks_there_is_the_number() {
    let folder = TempDir::new().unwrap();
    let rest = Rc::new(RefCell::new(writer_at(folder.path(), 0)));
    let mut run = Run::new("a");
    run.begin(Box::new(Direct(rest, 0)), Began::Start);
    for at_ns in SECOND..SECOND + 1030 {
        let mark = Mark { at_ns, text: "again".into(), uid: 0, seen: false };
        run.recorder.as_mut().unwrap().mark(&mark);
    }
    run.second();
    run.end();
    let mut replay = Replay::open(folder.path()).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    assert_eq!((replay.marks().kept.len(), replay.marks().left_out), (1024, 6));
}
