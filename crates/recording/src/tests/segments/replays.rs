//! A directory of segments, and each of them, replays as what the session showed.

use super::{run::Run, *};

const HOUR: u64 = 3600 * SECOND;

/// Writes straight to a directory, a member for each.
pub(super) struct Direct(pub(super) Rc<RefCell<Writer>>, pub(super) i64);

impl Sink for Direct {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        self.1 += 1_000_000_000;
        assert!(self.0.borrow_mut().write(lines, self.1).unwrap());
        Ok(lines.len() as u64)
    }

    fn takes_halves(&self) -> bool {
        true
    }

    fn put_half(&mut self, lines: &[u8]) {
        self.0.borrow_mut().write_half(lines, self.1 + 500_000_000);
    }
}

/// 60 seconds in segments of 20 each: the session at the end, and at the end of each.
pub(super) fn three_segments(path: &Path) -> (Scene, Vec<serde_json::Value>) {
    let mut run = Run::new("a");
    let mut disks = Vec::new();
    for part in 0..3i64 {
        // Segments that hold twenty seconds.
        let rest = Rc::new(RefCell::new(writer_at(path, part as u64)));
        let began = if part == 0 { Began::Start } else { Began::Rotation };
        run.begin(Box::new(Direct(rest, part * 20_000_000_000)), began);
        for _ in 0..20 {
            run.second();
        }
        run.end();
        let shown = run.scene.snapshot(Span::Window, run.second * SECOND, &mut one_file());
        disks.push(json(shown)["disks"].clone());
    }
    (run.scene, disks)
}

/// A writer whose next segment is a new one: the one before cannot be gone on with.
pub(super) fn writer_at(path: &Path, before: u64) -> Writer {
    let bounds = Bounds { bytes: 64 * SEGMENT, segment_bytes: SEGMENT + before * 4096 };
    let mut writer = writer(path, bounds);
    writer.begin(now()).unwrap();
    writer
}

#[test]
fn a_directory_replays_as_what_the_session_showed() {
    let folder = TempDir::new().unwrap();
    let (live, _) = three_segments(folder.path());
    assert_eq!(numbers(folder.path()), [1, 2, 3]);
    let mut replay = Replay::open(folder.path()).unwrap();
    assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
    replay.check().unwrap();
    assert_eq!(replay.breaks(), []);
    for span in [Span::Period, Span::Window] {
        let shown = json(replay.snapshot_of(span));
        assert_eq!(shown, json(live.snapshot(span, 61 * SECOND, &mut one_file())));
        let culprit = &shown["victims"][0]["verdict"]["culprits"][0];
        assert_eq!(culprit["actor"]["unit"], "fstrim.service", "{culprit}");
    }
}

#[test]
fn every_segment_is_a_recording_with_all_names_and_sums() {
    let folder = TempDir::new().unwrap();
    let (_, disks) = three_segments(folder.path());
    for ((one, disks), number) in list(folder.path()).unwrap().iter().zip(&disks).zip(1..) {
        let mut replay = Replay::open(&one.path).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        let shown = replay.snapshot_of(Span::Period);
        let victim = &shown.victims[0];
        // 20 a second, for 20 seconds in each segment.
        assert_eq!((victim.syncs, victim.syncs_total), (400, number * 400));
        assert_eq!(victim.actor.unit.as_deref(), Some("etcd.service"));
        assert_eq!(victim.path, "/var/lib/etcd/member/wal");
        assert_eq!(&json(shown)["disks"], disks, "sums since the tracer started");
    }
}

#[test]
fn segments_that_ended_long_before_are_not_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    for part in 0..3u64 {
        let rest = Rc::new(RefCell::new(writer_at(path, part)));
        let mut run = Run::new("a");
        run.second = part * 3600;
        run.begin(Box::new(Direct(rest, (part * HOUR).cast_signed())), Began::Rotation);
        run.second();
        run.end();
    }
    let segments = index::read(path).unwrap();
    let times: Vec<_> = segments.iter().map(|one| (one.first, one.last)).collect();
    assert_eq!(times, [(1.0, 3.0), (3601.0, 3603.0), (7201.0, 7203.0)]);
    let first = |from| Replay::open_from(path, from).unwrap().now();
    let base = 1_770_000_000.0;
    assert_eq!(first(f64::NEG_INFINITY) - base, 0.0);
    assert_eq!(first(7201.0) - base, 3600.0, "what is usual is learnt before");
    assert_eq!(first(9000.0) - base, 7200.0);
}

#[test]
fn cut_at_any_byte_a_segment_replays_up_to_its_last_whole_second() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let rest = Rc::new(RefCell::new(writer_at(path, 0)));
    let mut run = Run { syncs: 3, ..Run::new("a") };
    run.begin(Box::new(Direct(rest, 0)), Began::Start);
    (0..3).for_each(|_| run.second());
    drop(run);
    let bytes = fs::read(path.join(name_of(1))).unwrap();
    let mut ends = vec![0];
    while let Some(head) = Head::parse(&bytes[*ends.last().unwrap()..]) {
        ends.push(ends.last().unwrap() + head.length as usize);
    }
    assert_eq!(ends.len(), 5, "the begin of the first, a header, and three seconds");
    let other = TempDir::new().unwrap();
    let cut = other.path().join(name_of(1));
    for length in 0..=*ends.last().unwrap() {
        // As it lies on the disk: preallocated, the rest never written.
        let mut file = bytes[..length].to_vec();
        file.resize(length + 300, 0);
        fs::write(&cut, &file).unwrap();
        // The last bytes of a member may be zeros too.
        let is_whole = |end: &usize| file.get(..*end) == Some(&bytes[..*end]);
        let whole = ends.iter().rposition(is_whole).unwrap();
        let opened = Replay::open(other.path());
        if whole == 0 {
            assert!(opened.is_err(), "{length}");
            continue;
        }
        let mut replay = opened.unwrap();
        replay.play(u64::MAX, None, &mut Vec::new());
        replay.check().unwrap();
        let syncs: u64 = replay.snapshot_of(Span::Period).victims.iter().map(|v| v.syncs).sum();
        assert_eq!(syncs, 3 * (whole as u64 - 1), "{length}");
        // Alone it is a recording that was cut off.
        if length % 50 != 0 {
            continue;
        }
        let mut alone = Replay::open(&cut).unwrap();
        alone.play(u64::MAX, None, &mut Vec::new());
        assert!(alone.check().unwrap_err().to_string().contains("it has no end"), "{length}");
    }
}

#[test]
fn a_tracer_that_was_killed_stopped_or_rebooted_leaves_a_break_with_its_reason() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let sink = || {
        let mut writer = writer(path, BOUNDS);
        writer.begin(now()).unwrap();
        Box::new(Direct(Rc::new(RefCell::new(writer)), 0))
    };
    let mut run = Run::new("a");
    run.begin(sink(), Began::Start);
    (0..5).for_each(|_| run.second());
    // Killed; the next one is there 40 seconds later.
    run.recorder = None;
    run.second = 45;
    run.begin(sink(), Began::Start);
    (0..5).for_each(|_| run.second());
    // Stopped in good order, for ten seconds.
    run.end();
    let mut run = Run::new("a");
    run.second = 60;
    run.begin(sink(), Began::Start);
    (0..5).for_each(|_| run.second());
    run.end();
    // The machine was started again, 500 seconds after the first tracer by the wall's clock.
    let mut run = Run::new("b");
    run.scene.set_clock(Clock::at(1_770_000_500_000_000_000, 1_000_000_000));
    run.begin(sink(), Began::Start);
    (0..5).for_each(|_| run.second());
    // And its disk was too slow for three seconds.
    run.recorder = None;
    run.second = 8;
    run.begin(sink(), Began::Slow);
    (0..2).for_each(|_| run.second());
    run.end();
    assert_eq!(numbers(path), [1], "all in one file");
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    let base = 1_770_000_000.0;
    let breaks = replay.breaks().iter();
    let breaks: Vec<_> = breaks.map(|one| (one.from - base, one.to - base, &one.why)).collect();
    let expected = [
        (5.0, 45.0, &Why::Killed),
        (50.0, 60.0, &Why::Stopped),
        (65.0, 500.0, &Why::Rebooted),
        (505.0, 508.0, &Why::Slow),
    ];
    assert_eq!(breaks, expected);
    assert_eq!(replay.now() - base, 510.0);
    // The file alone shows them, too.
    let mut alone = Replay::open(&path.join(name_of(1))).unwrap();
    alone.play(u64::MAX, None, &mut Vec::new());
    alone.check().unwrap();
    assert_eq!(alone.breaks().len(), 4);
}

#[test]
fn a_damaged_segment_is_a_break_and_the_next_one_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    three_segments(path);
    let second = path.join(name_of(2));
    let mut bytes = fs::read(&second).unwrap();
    // The fifth second, after the names and what was learnt.
    let at = (0..6).fold(0, |at, _| at + Head::parse(&bytes[at..]).unwrap().length as usize);
    bytes[at + 60] ^= 0xff;
    fs::write(&second, bytes).unwrap();
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    replay.check().unwrap();
    let whys: Vec<_> = replay.breaks().iter().map(|one| &one.why).collect();
    assert_eq!(whys, [&Why::Missing]);
    let syncs: u64 = replay.snapshot_of(Span::Period).victims.iter().map(|v| v.syncs).sum();
    assert_eq!(syncs, 400 + 4 * 20 + 400);
    // One that is none at all, and one of another version.
    fs::write(&second, b"\x1f\x8b nonsense").unwrap();
    let mut replay = Replay::open(path).unwrap();
    replay.play(u64::MAX, None, &mut Vec::new());
    assert_eq!(replay.breaks().len(), 1, "{:?}", replay.breaks());
    let nothing = TempDir::new().unwrap();
    let error = Replay::open(nothing.path()).err().unwrap();
    assert!(error.to_string().contains("there is no recording in"), "{error}");
}
