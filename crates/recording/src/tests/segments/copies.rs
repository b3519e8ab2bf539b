//! Copies of a directory, as an agent gives them away.

use super::{replays::three_segments, *};
use crate::segments::copy::Copy;

/// A time after all members of these tests.
const LATER: f64 = 1e6;

fn copied(path: &Path, from: f64, to: f64) -> Vec<u8> {
    let copy = Copy::of(path, from, to).unwrap();
    let mut bytes = Vec::new();
    copy.write_to(&mut bytes).unwrap();
    bytes
}

/// Plays a copy to its end, which must be whole.
fn played(bytes: Vec<u8>) -> Replay {
    let mut replay = Replay::new("copy".into(), Cursor::new(bytes)).unwrap();
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay.check().unwrap();
    replay
}

#[test]
fn a_copy_replays_as_the_directory() {
    let folder = TempDir::new().unwrap();
    let (live, _) = three_segments(folder.path());
    let copy = Copy::of(folder.path(), 0.0, LATER).unwrap();
    assert!(!copy.is_empty());
    let bytes = copied(folder.path(), 0.0, LATER);
    // The last member says that the copy is whole, and is not in the directory.
    assert!((1..200).contains(&(bytes.len() as u64 - copy.bytes())), "{}", bytes.len());
    let mut replay = played(bytes);
    assert_eq!(replay.breaks(), []);
    let shown = json(replay.snapshot_of(Span::Period));
    assert_eq!(shown, json(live.snapshot(Span::Period, 61 * SECOND, &mut one_file())));
}

#[test]
fn a_copy_ends_soon_after_the_time_that_was_asked_for() {
    let folder = TempDir::new().unwrap();
    three_segments(folder.path());
    // Members are dated a second apart from 1 s on, and the header is the first of them.
    let mut replay = played(copied(folder.path(), 0.0, 10.0));
    let victims = replay.snapshot_of(Span::Period).victims;
    let syncs = victims.iter().map(|victim| victim.syncs).sum::<u64>();
    assert_eq!(syncs, 11 * 20, "up to the member of 12 s");
}

#[test]
fn a_copy_leaves_out_what_is_damaged_and_goes_on_with_the_next_segment() {
    let folder = TempDir::new().unwrap();
    three_segments(folder.path());
    let path = folder.path().join(name_of(2));
    let mut bytes = fs::read(&path).unwrap();
    let first = Head::parse(&bytes).unwrap().length as usize;
    bytes[first + 60] ^= 0x55;
    fs::write(&path, bytes).unwrap();
    let mut replay = played(copied(folder.path(), 0.0, LATER));
    let victims = replay.snapshot_of(Span::Period).victims;
    let syncs = victims.iter().map(|victim| victim.syncs).sum::<u64>();
    assert_eq!(syncs, 2 * 400);
    let [gap] = replay.breaks() else { panic!("{:?}", replay.breaks()) };
    assert_eq!(gap.why, Why::Missing);
}

#[test]
fn a_copy_of_nothing_says_so() {
    let folder = TempDir::new().unwrap();
    assert!(Copy::of(folder.path(), 0.0, LATER).unwrap().is_empty());
    three_segments(folder.path());
    let copy = Copy::of(folder.path(), LATER, LATER + 1.0).unwrap();
    assert!(copy.is_empty() && copy.first() == Some(41.0), "{:?}", copy.first());
}
