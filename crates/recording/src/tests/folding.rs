//! A segment that is overwritten leaves sums of its seconds, held against the generator that
//! counted them.

use std::{cell::Cell, collections::BTreeMap, fs, path::Path, time::SystemTime};

use tempfile::TempDir;

use super::{
    thinning::{Generator, lines},
    *,
};
use crate::{
    recorder::Sink,
    segments::{
        Bounds, SUMS,
        folder::{Folder, Free, list},
        index,
        member::{Head, Members},
        writer::Writer,
    },
};

const MIB: u64 = 1 << 20;
const DETAIL: Bounds = Bounds { bytes: 2 * MIB, segment_bytes: MIB };
/// Each is filled in some 45 seconds.
const SMALL: Bounds = Bounds { bytes: MIB / 2, segment_bytes: MIB / 4 };
const OF_SUMS: Bounds = Bounds { bytes: 4 * MIB, segment_bytes: MIB };

fn writer(path: &Path, bounds: Bounds) -> Writer {
    let free = Free { bytes: 1 << 40, of_bytes: 1 << 40, inodes: 1000, of_inodes: 1000 };
    let of = |path: &Path, bounds| {
        Writer::new(Folder::lock(path).unwrap(), bounds, Box::new(move |_| Ok(free)))
    };
    let writer = of(path, bounds);
    writer.with_sums(of(&path.join(SUMS), OF_SUMS))
}

/// Writes at the generator's time.
#[derive(Clone)]
struct At {
    writer: Rc<RefCell<Writer>>,
    unix_ns: Rc<Cell<i64>>,
}

impl Sink for At {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        assert!(self.writer.borrow_mut().write(lines, self.unix_ns.get()).unwrap());
        Ok(lines.len() as u64)
    }
}

/// Plays some seconds into a directory, as a flight recorder's thread would.
fn record(path: &Path, bounds: Bounds, per_second: u64, seconds: u64) -> Generator {
    record_by(path, bounds, per_second, seconds, |second| second)
}

/// Plays them by a clock of the wall that may be set meanwhile.
fn record_by(
    path: &Path,
    bounds: Bounds,
    per_second: u64,
    seconds: u64,
    shown: impl Fn(i64) -> i64,
) -> Generator {
    let writer = Rc::new(RefCell::new(writer(path, bounds)));
    writer.borrow_mut().begin(SystemTime::now()).unwrap();
    let base = 1_770_000_000_000_000_000;
    let at = At { writer: Rc::clone(&writer), unix_ns: Rc::new(Cell::new(base)) };
    let mut generator = Generator::new(per_second, Box::new(at.clone()));
    for second in 0..seconds.cast_signed() {
        at.unix_ns.set(base + shown(second) * SECOND.cast_signed());
        if writer.borrow().is_nearly_full() {
            // The last line of the part before still goes to its own segment.
            generator.rotate_with(|| {
                writer.borrow_mut().begin(SystemTime::now()).unwrap();
                Box::new(at.clone())
            });
        }
        generator.play(1);
    }
    generator
}

/// A session's own picture after some seconds.
fn whole(per_second: u64, seconds: u64) -> Snapshot {
    let folder = TempDir::new().unwrap();
    let generator = record(folder.path(), DETAIL, per_second, seconds);
    generator.end()
}

/// Packed bytes of all members of a directory, and their lines.
fn read(path: &Path) -> (u64, Vec<u8>) {
    let (mut packed, mut plain) = (0, Vec::new());
    for one in list(path).unwrap() {
        let bytes = fs::read(&one.path).unwrap();
        let mut at = 0;
        while let Some(head) = bytes.get(at..).and_then(Head::parse) {
            if head.segment != one.number {
                break;
            }
            at += head.length as usize;
        }
        packed += at as u64;
        Members::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    }
    (packed, plain)
}

#[test]
fn what_is_overwritten_leaves_sums_of_each_of_its_seconds() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let generator = record(path, DETAIL, 200, 520);
    let (truth, by_second) = (generator.truth, generator.by_second.clone());
    generator.end();
    let (packed, plain) = read(&path.join(SUMS));
    let (single, sums) = lines(&plain);
    assert_eq!(single, [], "none of them took a second");
    let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for sum in &sums {
        let (count, duration_ns) = found.entry(sum.sum.begin_ns / SECOND).or_default();
        *count += u64::from(sum.count);
        *duration_ns += sum.sum.duration_ns;
    }
    let seconds = found.len() as u64;
    assert!(seconds > 150, "{seconds}");
    // From the first second on, without a gap, and none counted twice.
    let expected: BTreeMap<_, _> =
        by_second.iter().take(found.len()).map(|(k, v)| (*k, *v)).collect();
    assert_eq!(found, expected);
    let rate = packed as f64 / seconds as f64;
    let (_, bounds) = Bounds::divide(512 << 20);
    let days = 31.0 / 32.0 * bounds.unwrap().bytes as f64 / rate / 86_400.0;
    println!("{seconds} s of sums take {rate:.0} bytes each: 512 MiB hold {days:.1} days of them");
    assert!(days >= 7.0, "{days}");

    // The directory is one recording, in which nothing is missing.
    let segments = index::read(path).unwrap();
    assert!(segments[0].found.path.starts_with(path.join(SUMS)), "{segments:?}");
    assert!(segments.windows(2).all(|two| two[0].first < two[1].first), "{segments:?}");
    let mut replay = Replay::open(path).unwrap();
    let begin = replay.now();
    // While there are sums alone, it is still known who made the victim slow.
    replay.play_both(u64::MAX, begin + 150.0, None, &mut Vec::new());
    let early = replay.snapshot_of(Span::Period);
    let verdict = &early.victims[0].verdict;
    let culprit = &verdict.culprits[0];
    println!("of sums: {:.1} s of excess, {:.3}", verdict.excess_seconds, culprit.share);
    assert_eq!(culprit.actor.comm, "fstrim", "{verdict:?}");
    // Those of all syncs of that time, as the session itself has them.
    let whole = whole(200, 150);
    let of_whole = &whole.victims[0].verdict;
    println!("of all: {:.1} s, {:.3}", of_whole.excess_seconds, of_whole.culprits[0].share);
    let near = |a: f64, b: f64| (a - b).abs() <= 0.1 * b;
    assert!(near(verdict.excess_seconds, of_whole.excess_seconds), "{verdict:?}");
    assert!(near(culprit.share, of_whole.culprits[0].share), "{verdict:?}");
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay.check().unwrap();
    assert_eq!(replay.breaks(), []);
    assert_eq!(replay.snapshot_of(Span::Period).victims[0].syncs, truth.syncs);
}

/// Killed after a segment was added up and before it was overwritten.
#[test]
fn what_was_added_up_is_not_added_up_or_played_twice() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let generator = record(path, SMALL, 200, 130);
    let truth = generator.truth;
    drop(generator);
    let before = read(&path.join(SUMS)).0;
    let oldest = list(path).unwrap().remove(0);
    let copy = fs::read(&oldest.path).unwrap();
    // The writer does this before it overwrites.
    let mut again = writer(path, SMALL);
    again.keep_sums(&oldest, SystemTime::now());
    let once = read(&path.join(SUMS)).0;
    assert!(once > before);
    again.keep_sums(&oldest, SystemTime::now());
    assert_eq!(read(&path.join(SUMS)).0, once);
    assert_eq!(fs::read(&oldest.path).unwrap(), copy, "it is only read");
    let segments = index::read(path).unwrap();
    assert!(segments.iter().all(|one| one.found.path != oldest.path), "{segments:?}");
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    assert_eq!(replay.breaks(), []);
    assert_eq!(replay.snapshot_of(Span::Period).victims[0].syncs, truth.syncs);
}

/// Times of day say nothing about what was written first.
#[test]
fn what_was_recorded_after_the_clock_was_set_back_is_added_up_and_played() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    // Segments hold some 45 seconds, and the directory two of them.
    let set_back = |second| if second < 100 { second } else { second - 3600 };
    let generator = record_by(path, SMALL, 200, 300, set_back);
    let (truth, by_second) = (generator.truth, generator.by_second.clone());
    generator.end();
    let mut summed: BTreeMap<u64, u64> = BTreeMap::new();
    for sum in &lines(&read(&path.join(SUMS)).1).1 {
        *summed.entry(sum.sum.begin_ns / SECOND).or_default() += u64::from(sum.count);
    }
    assert!(summed.len() > 150, "{}", summed.len());
    let expected: BTreeMap<_, _> =
        by_second.iter().take(summed.len()).map(|(second, (count, _))| (*second, *count)).collect();
    assert_eq!(summed, expected, "each second once, before the clock was set back and after it");
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    assert_eq!(replay.breaks(), []);
    assert_eq!(replay.snapshot_of(Span::Period).victims[0].syncs, truth.syncs);
}

#[test]
fn a_small_directory_has_no_sums_and_a_large_one_an_eighth() {
    let (small, none) = Bounds::divide(16 << 20);
    assert_eq!((small.bytes, none), (16 << 20, None));
    let (detail, sums) = Bounds::divide(512 << 20);
    assert_eq!((detail.bytes, sums.map(|sums| sums.bytes)), (448 << 20, Some(64 << 20)));
    assert_eq!(
        (detail.segment_bytes, sums.map(|sums| sums.segment_bytes)),
        (14 << 20, Some(2 << 20))
    );
}
