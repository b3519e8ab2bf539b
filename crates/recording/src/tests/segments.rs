//! A flight recorder's segments: bounded, whole wherever they are cut, and each a
//! recording by itself.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::{
    breaks::Why,
    line::Began,
    recorder::{Grain, Part, Sink},
    segments::{
        Bounds,
        flight::Flight,
        folder::{Folder, Free, list, name_of, number_of},
        index,
        member::Head,
        writer::{OLDEST, Trouble, Writer},
    },
};

const SEGMENT: u64 = 1 << 20;
const BOUNDS: Bounds = Bounds { bytes: 4 * SEGMENT, segment_bytes: SEGMENT };

const PLENTY: Free = Free { bytes: 1 << 40, of_bytes: 1 << 40, inodes: 1000, of_inodes: 1000 };

fn writer(path: &Path, bounds: Bounds) -> Writer {
    Writer::new(Folder::lock(path).unwrap(), bounds, Box::new(|_| Ok(PLENTY)))
}

/// Lines that gzip makes little smaller.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state >> 32) as u8 % 90
    };
    let mut lines: Vec<_> = (0..bytes).map(|_| next()).collect();
    lines.push(b'\n');
    lines
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn numbers(path: &Path) -> Vec<u64> {
    list(path).unwrap().iter().map(|one| one.number).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_oldest_segments_make_room_and_the_bounds_hold_all_the_time() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("recording");
    let mut writer = writer(&path, BOUNDS);
    for second in 0..120 {
        if second == 0 || writer.is_nearly_full() {
            writer.begin(now()).unwrap();
        }
        assert!(writer.write(&noise(200_000, second), 1).unwrap());
        let found = list(&path).unwrap();
        let bytes: u64 = found.iter().map(|one| one.bytes).sum();
        assert!(found.len() <= 4 && bytes <= BOUNDS.bytes, "{second}: {found:?}");
        assert!(found.iter().all(|one| mode(&one.path) == 0o600));
    }
    assert_eq!(mode(&path), 0o700);
    let kept = numbers(&path);
    // 120 times some 165 KB packed, of which each segment takes six.
    assert_eq!(kept.len(), 4);
    assert!(kept[0] > 10 && kept.windows(2).all(|two| two[1] == two[0] + 1), "{kept:?}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn a_smaller_size_is_kept_to_at_once_and_files_of_others_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["notes.txt", "tracer-1.rec", "tracer-00000000x1.rec", "tracer-000000000009.rec"] {
        fs::write(path.join(name), "mine").unwrap();
    }
    fs::create_dir(path.join(name_of(3))).unwrap();
    symlink("/etc/passwd", path.join(name_of(4))).unwrap();
    assert_eq!(numbers(path), [0; 0], "neither a directory, nor a link, nor another name");
    fs::remove_file(path.join(name_of(4))).unwrap();
    fs::remove_dir(path.join(name_of(3))).unwrap();
    let large = Bounds { bytes: 16 * SEGMENT, segment_bytes: 2 * SEGMENT };
    {
        let mut writer = writer(path, large);
        for number in 1..=8 {
            writer.begin(now()).unwrap();
            while !writer.is_nearly_full() {
                assert!(writer.write(&noise(300_000, number), 1).unwrap());
            }
        }
    }
    assert_eq!(numbers(path), [1, 2, 3, 4, 5, 6, 7, 8]);
    writer(path, BOUNDS).begin(now()).unwrap();
    let bytes: u64 = list(path).unwrap().iter().map(|one| one.bytes).sum();
    assert!(bytes <= BOUNDS.bytes, "{bytes}");
    assert_eq!(numbers(path).last(), Some(&9));
    assert_eq!(fs::read(path.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(path).unwrap().count(), 4 + numbers(path).len());
}

#[test]
fn names_of_segments_are_read_as_they_are_written() {
    for number in [0, 1, 42, 9_999_999_999, 10_000_000_000, u64::MAX] {
        assert_eq!(number_of(&name_of(number)), Some(number));
    }
    for other in ["", "tracer-.rec", "tracer-42.rec", "tracer-00000000042.rec", "x.rec"] {
        assert_eq!(number_of(other), None, "{other}");
    }
}

#[test]
fn what_is_older_than_three_days_goes_even_where_there_is_room() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut writer = writer(path, Bounds { bytes: 16 * SEGMENT, segment_bytes: SEGMENT });
    let mut fill = |at: SystemTime| {
        writer.begin(at).unwrap();
        while !writer.is_nearly_full() {
            assert!(writer.write(&noise(300_000, 1), 1).unwrap());
        }
    };
    (0..3).for_each(|_| fill(now()));
    assert_eq!(numbers(path), [1, 2, 3]);
    fill(now() + OLDEST + Duration::from_secs(60));
    // One of the three was overwritten.
    assert_eq!(numbers(path), [4]);
}

#[test]
fn a_second_that_does_not_fit_costs_no_older_segment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut writer = writer(path, BOUNDS);
    for _ in 0..10 {
        writer.begin(now()).unwrap();
        match writer.write(&noise(2 << 20, 1), 1) {
            Err(Trouble::Failed(error)) => {
                assert!(error.to_string().contains("a larger --record-size"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(numbers(path), [1]);
}

#[test]
fn a_tracer_that_starts_again_and_again_goes_on_in_the_same_segment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    for run in 0..50u64 {
        let mut writer = writer(path, BOUNDS);
        writer.begin(now()).unwrap();
        assert!(writer.write(&noise(1000, run), 7 + run as i64).unwrap());
    }
    assert_eq!(numbers(path), [1]);
    let mut lines = String::new();
    let file = fs::File::open(path.join(name_of(1))).unwrap();
    crate::segments::member::Members::new(file).read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 50);
}

#[test]
fn a_directory_that_is_another_tracers_or_everybodys_is_refused() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("recording");
    let first = Folder::lock(&path).unwrap();
    assert!(Folder::lock(&path).unwrap_err().to_string().contains("another tracer"));
    drop(first);
    fs::write(path.join("x"), "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(Folder::lock(&path).unwrap_err().to_string().contains("mode 0700"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let link = parent.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(Folder::lock(&link).is_err(), "a link");
    assert!(Folder::lock(&path.join("x")).is_err(), "a file");
    assert!(Folder::lock(&parent.path().join("a/b")).is_err(), "without its parent");
    assert!(Folder::lock(&path).is_ok());
}

#[test]
fn there_is_too_little_left_below_a_tenth_of_the_space_or_a_twentieth_of_the_inodes() {
    let free = |bytes, inodes| Free { bytes, of_bytes: 1000, inodes, of_inodes: 100 };
    assert_eq!(free(100, 5).lack(0, 0), None);
    assert!(free(99, 5).lack(0, 0).unwrap().contains("9 % of its space"));
    assert!(free(100, 4).lack(0, 0).unwrap().contains("4 % of its inodes"));
    assert!(free(150, 50).lack(51, 0).unwrap().contains("less than 10 %"));
    assert_eq!(free(150, 50).lack(50, 1), None);
    assert!(free(150, 5).lack(0, 1).is_some());
    // btrfs has no number of inodes.
    assert_eq!(Free { of_inodes: 0, ..free(100, 0) }.lack(0, 1), None);
    assert_eq!(Free { bytes: u64::MAX, of_bytes: u64::MAX, ..free(0, 9) }.lack(1, 0), None);
}

/// A directory without room for one segment more overwrites its own oldest one.
#[test]
fn without_room_for_another_file_the_oldest_is_overwritten() {
    let folder = TempDir::new().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let asked = Arc::clone(&free);
    let ask =
        move |_: &Folder| Ok(Free { bytes: asked.load(Relaxed), of_bytes: 1 << 30, ..PLENTY });
    let path = folder.path();
    let mut writer = Writer::new(Folder::lock(path).unwrap(), BOUNDS, Box::new(ask));
    let mut fill = || -> Result<(), Trouble> {
        writer.begin(now())?;
        while !writer.is_nearly_full() {
            assert!(writer.write(&noise(300_000, 1), 1)?);
        }
        Ok(())
    };
    fill().unwrap();
    fill().unwrap();
    // Just above a tenth of it.
    free.store((1 << 30) / 10 + 4096, Relaxed);
    fill().unwrap();
    assert_eq!(numbers(path), [2, 3]);
    free.store((1 << 30) / 10 - 4096, Relaxed);
    assert!(matches!(fill(), Err(Trouble::Full(_))));
    assert_eq!(numbers(path), [2, 3], "what is there stays");
}

/// A session's seconds, as a flight recorder gets them.
struct Run {
    scene: Scene,
    second: u64,
    boot: &'static str,
    /// In a second.
    syncs: u64,
    grain: Grain,
    recorder: Option<Recorder>,
}

const HOUR: u64 = 3600 * SECOND;

impl Run {
    fn new(boot: &'static str) -> Self {
        let clock = Clock::at(1_770_000_000_000_000_000, 1_000_000_000);
        let mut scene = Scene::new(Kernel::default(), clock, SECOND).unwrap();
        for (at, unit) in [(1, "etcd.service"), (2, "fstrim.service")] {
            let id = owners()[at].actor();
            let comm = tracer_scene::comm_text(&id.comm);
            let cgroup = format!("/system.slice/{unit}");
            let actor =
                Actor { comm, tgid: 800, cgroup, unit: Some(unit.into()), ..Actor::default() };
            scene.actors.learn(id, actor, 0);
        }
        Self { scene, second: 0, boot, syncs: 20, grain: Grain::Whole, recorder: None }
    }

    fn begin(&mut self, sink: Box<dyn Sink>, began: Began) {
        let now_ns = SECOND + self.second * SECOND;
        if let Some(before) = self.recorder.take().filter(|_| began == Began::Rotation) {
            before.end(now_ns, &mut self.scene).unwrap();
        }
        self.scene.actors.mark_all_changed();
        let part = Part { began: Some(began), boot: Some(self.boot.to_owned()), grain: self.grain };
        self.recorder = Some(Recorder::begin_part(sink, &self.scene, now_ns, part).unwrap());
    }

    /// Some syncs and a tick.
    fn second(&mut self) {
        let (owners, mut files) = (owners(), one_file());
        for n in self.second * 20..self.second * 20 + self.syncs {
            let record = sync(n);
            let input = SyncInput { record: &record, underlying: &[], file: FileId(4), need_ns: 0 };
            self.scene.ingest(&input, |_| &owners);
            if let Some(recorder) = &mut self.recorder {
                recorder.sync(input, |_| &owners, &mut self.scene.actors, &mut files);
            }
        }
        self.second += 1;
        let tick = tick(SECOND + self.second * SECOND);
        self.scene.tick(&tick, |id| owners[id.0 as usize].actor());
        self.scene.disks = vec![disk(self.second)];
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(&tick, &mut self.scene, |id| {
                let Owner { cgroup, comm, op, .. } = owners[id.0 as usize];
                OwnerKey { cgroup, comm, disk: 0, op, kthread: 0, via: 0 }
            });
        }
    }

    fn end(&mut self) {
        let at_ns = SECOND + self.second * SECOND;
        self.recorder.take().unwrap().end(at_ns, &mut self.scene).unwrap();
    }
}

/// Writes straight to a directory, a member for each.
struct Direct(Rc<RefCell<Writer>>, i64);

impl Sink for Direct {
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        self.1 += 1_000_000_000;
        assert!(self.0.borrow_mut().write(lines, self.1).unwrap());
        Ok(lines.len() as u64)
    }
}

/// 60 seconds in segments of 20 each: the session at the end, and at the end of each.
fn three_segments(path: &Path) -> (Scene, Vec<serde_json::Value>) {
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
fn writer_at(path: &Path, before: u64) -> Writer {
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
    for (one, disks) in list(folder.path()).unwrap().iter().zip(&disks) {
        let mut replay = Replay::open(&one.path).unwrap();
        assert_eq!(replay.play(u64::MAX, None, &mut Vec::new()), Played::Whole);
        replay.check().unwrap();
        let shown = replay.snapshot_of(Span::Period);
        let victim = &shown.victims[0];
        assert_eq!((victim.syncs, victim.syncs_total), (400, 400));
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
    // The fifth second.
    let at = (0..5).fold(0, |at, _| at + Head::parse(&bytes[at..]).unwrap().length as usize);
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
