mod fixture;
mod folding;
/// For any record, and for any bytes.
mod properties;
mod segments;
/// Many fast syncs, and what is kept of them.
mod thinning;

use std::{
    cell::RefCell,
    io::{self, Cursor, Read as _, Write},
    rc::Rc,
    sync::LazyLock,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use tracer_ebpf::{
    dropped::Dropped,
    histogram::BUCKETS,
    record::{ACCOUNTS, OwnerKey, SyncRecord, kind, op},
};
use zerocopy::FromZeros as _;

use self::fixture::*;
use super::{
    line::Line,
    recorder::Recorder,
    replay::{Played, Replay},
};
use crate::Incomplete;
use tracer_engine::{
    blame::{Owner, OwnerId},
    helper::{Helper, Role},
    reference::Grade,
    stop::{How, Stop},
    tick::{
        Alone, Contender, DiskWork, Freeze, JournalWork, Limit, LimitKind, Load, Memory, Paced,
        Pause, Reclaimer, Tick, WholeCall, WholeSync,
    },
    usage::{Learnt, Rate},
    victim::Span,
};
use tracer_scene::{DiskState, Histograms, Scene, Stack, stages::SyncInput};
use tracer_snapshot::{
    Actor, Competitor, FileClass, Hanging, HangingDisk, Kernel, Kind, Op, PoolMode, Snapshot,
    StackFact, StackState, SyncAction,
    clock::Clock,
    labels::FileNames,
    labels::{FileId, FileLabel},
};

/// Somebody sets the clock an hour ahead in the middle: a replay shows the time as the
/// session did, before and after.
#[test]
fn a_clock_that_was_set_is_the_replays_from_then_on() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let (unix_ns, began_ns) = (1_770_000_000_000_000_000, SECOND);
    let before = Clock::at(unix_ns, began_ns);
    let mut scene = Scene::new(Kernel::default(), before, began_ns).unwrap();
    let file = Shared::default();
    let mut recorder = Recorder::begin(Box::new(file.clone()), &scene).unwrap();
    for second in 1..=6u64 {
        if second == 4 {
            scene.set_clock(Clock::at(unix_ns + HOUR_NS, began_ns));
        }
        let tick = Tick { at_ns: began_ns + second * SECOND, ..Tick::default() };
        scene.tick(&tick, |_| tracer_engine::blame::ActorId::default());
        recorder.tick(&tick, &mut scene, |_| OwnerKey::default());
    }
    recorder.end(began_ns + 7 * SECOND, &mut scene).unwrap();
    let bytes = file.0.borrow().clone();
    assert_eq!(text(&bytes).matches("{\"clock\":").count(), 1);
    let mut replay = open(&bytes).unwrap();
    let mut at = |second: u64| {
        replay.play(began_ns + second * SECOND, None, &mut Vec::new());
        replay.snapshot_of(Span::Window).at
    };
    assert_eq!(at(2), 1_770_000_002.0);
    assert_eq!(at(5), 1_770_003_605.0);
}

#[test]
fn a_replay_shows_what_the_session_showed() {
    let (live, bytes) = record(400);
    for (span, end_ns) in [(Span::Period, SECOND + 20 * SECOND), (Span::Window, 21 * SECOND)] {
        let mut replay = open(&bytes).unwrap();
        replay.play(u64::MAX, None, &mut Vec::new());
        replay.check().unwrap();
        let replayed = json(replay.snapshot_of(span));
        assert_eq!(replayed, json(live.snapshot(span, end_ns, &mut one_file())));
        let verdict = &replayed["victims"][0]["verdict"];
        assert_eq!(verdict["stack"].as_array().map(Vec::len), Some(6), "{verdict}");
        assert_eq!(verdict["culprits"][0]["actor"]["unit"], "fstrim.service", "{verdict}");
    }
}

/// Each second has its own, also the one in which there are none any more.
#[test]
fn syncs_that_had_not_ended_and_what_became_of_the_hooks_are_shown_at_their_time() {
    let (_, bytes) = record(140);
    let mut replay = open(&bytes).unwrap();
    let mut at = |second: u64| {
        replay.play(SECOND + second * SECOND + 10 * MS, None, &mut Vec::new());
        let shown = replay.snapshot_of(Span::Window);
        assert_eq!(replay.hanging(), shown.hanging);
        (shown.hanging, shown.hanging_left_out, shown.kernel.unproven.is_some())
    };
    assert_eq!(at(1), (Vec::new(), 0, true));
    assert_eq!(at(2), (vec![hanging(), hanging()], 1, true));
    assert_eq!(at(3), (Vec::new(), 0, false));
    assert_eq!(at(4), (vec![hanging(), hanging()], 1, false));
    // It is said when it changes.
    assert_eq!(text(&bytes).matches("{\"kernel\":").count(), 1);
}

/// Recordings that were made before syncs under way were in them.
#[test]
fn a_recording_without_syncs_under_way_is_played_as_before() {
    let (_, bytes) = record(100);
    let whole = text(&bytes);
    let is_new = |line: &&str| {
        ["unfinished", "hanging", "hanging_left_out", "stack", "kernel"]
            .iter()
            .any(|new| line.starts_with(&format!("{{\"{new}\":")))
    };
    assert!(whole.lines().any(|line| is_new(&line)));
    let older: String =
        whole.lines().filter(|line| !is_new(line)).map(|l| format!("{l}\n")).collect();
    let (shown, checked) = play(older.as_bytes());
    checked.unwrap();
    assert!(shown.hanging.is_empty() && shown.kernel.unproven.is_some());
    assert_eq!(shown.victims[0].syncs, 100);
}

#[test]
fn a_replay_stops_where_it_is_asked_to_and_goes_on() {
    let (_, bytes) = record(100);
    let mut replay = open(&bytes).unwrap();
    let mut slow = Vec::new();
    assert_eq!(replay.play(2 * SECOND, Some(0), &mut slow), Played::Until);
    assert!((19..=21).contains(&slow.len()), "{}", slow.len());
    replay.begin_period();
    assert_eq!(replay.play(3 * SECOND, None, &mut slow), Played::Until);
    let victims = replay.snapshot_of(Span::Period).victims;
    assert!((19..=21).contains(&victims[0].syncs), "{}", victims[0].syncs);
    assert_eq!(replay.play(u64::MAX, Some(30 * MS), &mut slow), Played::Whole);
    let worst = slow.last().unwrap();
    assert_eq!((worst.kind, &*worst.path), ("fdatasync", "/var/lib/etcd/member/wal"));
    assert_eq!((&*worst.device, worst.dropped_total), ("loop0", 79));
    let fstrim = worst.owners.iter().find(|o| o.actor.comm == "fstrim").unwrap();
    assert_eq!(fstrim.actor.cgroup, "/system.slice/fstrim.service");
    assert!((fstrim.in_flight - 1.0).abs() < 0.01 && !fstrim.own, "{fstrim:?}");
}

#[test]
fn plain_lines_are_read_as_well_as_packed_ones() {
    let (_, bytes) = record(100);
    let (replayed, whole) = play(text(&bytes).as_bytes());
    whole.unwrap();
    assert_eq!(json(replayed), json(play(&bytes).0));
}

#[test]
fn cut_off_anywhere_it_shows_what_was_before() {
    let (_, bytes) = record(24);
    let whole = text(&bytes);
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let mut replay = match open(cut) {
            Ok(replay) => replay,
            Err(error) => {
                // Not even the header, which is a member of its own.
                assert!(length < 400, "{length}: {error:#}");
                assert!(error.downcast_ref::<Incomplete>().is_some(), "{error:#}");
                continue;
            }
        };
        replay.play(u64::MAX, None, &mut Vec::new());
        let error = replay.check().unwrap_err();
        assert!(error.downcast_ref::<Incomplete>().is_some(), "{error:#}");
        // All lines that can be unpacked were taken in.
        let mut readable = Vec::new();
        let _ = MultiGzDecoder::new(cut).read_to_end(&mut readable);
        assert!(whole.as_bytes().starts_with(&readable), "{length}");
        let end = readable.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let readable = String::from_utf8_lossy(&readable[..end]);
        let syncs = readable.lines().filter(|line| line.starts_with("{\"sync\"")).count();
        let replayed = replay.snapshot_of(Span::Period);
        let sum = replayed.victims.iter().map(|v| v.syncs).sum::<u64>();
        assert_eq!(sum, syncs as u64, "{length}");
    }
}

#[track_caller]
fn foreign(bytes: &[u8], says: &str) {
    let error = open(bytes).err().unwrap();
    assert!(error.downcast_ref::<Incomplete>().is_some(), "{error:#}");
    assert!(error.to_string().contains(says), "{error:#}");
}

#[test]
fn what_is_no_recording_is_called_so() {
    foreign(b"", "it is empty");
    foreign(b"\x89PNG\r\n\x1a\n", "neither gzip nor lines of JSON");
    foreign(b"\x1f\x8b not gzip at all", "not a recording of tracer's");
    foreign(&gzip(b"some text\nand more\n"), "not a line of a recording");
    foreign(&gzip(b""), "its first line is not a recording's header");
    foreign(b"{}\n", "its first line is not a recording's header");
    foreign(b"{\"schema\":1}", "it is cut off");
    let (_, bytes) = record(1);
    let later = text(&bytes).replacen("\"version\":2", "\"version\":3", 1);
    foreign(later.as_bytes(), "in version 3 of the format, and this tracer reads version 2 only");
    let other = text(&bytes).replacen("tracer-recording", "weather", 1);
    foreign(other.as_bytes(), "its first line");
}

/// Checks the error for a recording of sixty syncs with this line in its middle.
#[track_caller]
fn damaged(line: &str, says: &str) {
    let whole = text(sixty());
    let lines: Vec<_> = whole.lines().collect();
    let (before, after) = lines.split_at(lines.len() / 2);
    let lines: Vec<_> = before.iter().chain([&line]).chain(after).copied().collect();
    let (replayed, checked) = play((lines.join("\n") + "\n").as_bytes());
    let error = checked.unwrap_err().to_string();
    assert!(error.contains(says) && error.contains("line "), "{error}");
    assert!(!replayed.victims.is_empty());
}

#[test]
fn a_line_that_cannot_be_ends_the_replay_and_is_named() {
    let sync = |with: serde_json::Value| {
        let lines = text(sixty());
        let line = lines.lines().find(|line| line.starts_with("{\"sync\"")).unwrap();
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        for (key, value) in with.as_object().unwrap() {
            line["sync"][key] = value.clone();
        }
        line.to_string()
    };
    let json = |value: serde_json::Value| value.to_string();
    use serde_json::json as of;
    damaged("nonsense", "not a line of a recording");
    damaged(&"x".repeat(5 << 20), "a line is too long");
    damaged(&sync(of!({"duration_ns": 1u64 << 50})), "a sync of");
    damaged(&sync(of!({"begin_ns": u64::MAX})), "a moment of");
    damaged(&sync(of!({"in_flight": [[77, 1, 1]]})), "owner 77 and never said who");
    damaged(&sync(of!({"in_flight": vec![(0, 1, 1); 65]})), "65 accounts");
    damaged(&sync(of!({"comm": "longer than sixteen bytes"})), "not a line of a recording");
    let underlying: Vec<_> = (1..5).map(|disk| of!({"disk": disk, "in_flight": []})).collect();
    damaged(&sync(of!({"underlying": underlying})), "too many disks");
    damaged(&sync(of!({"underlying": [{"disk": 0, "in_flight": []}]})), "waits twice");
    damaged(&json(of!({"device": {"device": 1, "name": "x".repeat(5000)}})), "a name of 5000");
    damaged(&json(of!({"end": {"at_ns": 2 * SECOND, "syncs": 0}})), "something follows its end");
    let mut strange = tick(2 * SECOND);
    strange.contenders[0].owner = OwnerId(78);
    damaged(&json(of!({"tick": strange})), "owner 78");
    let disk = |latencies| {
        of!({"disk": {"index": 0, "name": "a", "scheduler": "", "in_flight": 0, "owners": [],
            "latencies": latencies}})
    };
    let hangs = |change: &dyn Fn(&mut Hanging)| {
        let mut one = hanging();
        change(&mut one);
        json(of!({"hanging": one}))
    };
    damaged(&hangs(&|one| one.path = "x".repeat(5000)), "a name of 5000");
    damaged(&hangs(&|one| one.call = "x".repeat(5000).into()), "a name of 5000");
    damaged(&hangs(&|one| one.disks_below[0].name = "x".repeat(5000)), "a name of 5000");
    damaged(&hangs(&|one| one.others[0].actor.cgroup = "x".repeat(5000)), "a name of 5000");
    damaged(&hangs(&|one| one.others = vec![one.others[0].clone(); 65]), "for too many");
    damaged(&hangs(&|one| one.seconds = -1.0), "has not ended for -1 s");
    damaged(&hangs(&|one| one.disks_below[0].oldest_seconds = Some(1e300)), "has not ended for 1");
    damaged(&vec![hangs(&|_| ()); 257].join("\n"), "too many syncs that have not ended");
    damaged(&hangs(&|one| one.stack[0].name = "x".repeat(5000)), "a name of 5000");
    damaged(&hangs(&|one| one.stack = vec![one.stack[0].clone(); 65]), "too much is said");
    let full = StackState::Snapshot { valid: true, used_share: 1.5 };
    damaged(&hangs(&|one| one.stack[0].state = full.clone()), "more than full");
    let kernel = Kernel { unsupported: vec!["x".repeat(5000)], ..Kernel::default() };
    damaged(&json(of!({"kernel": kernel})), "a name of 5000");
    damaged(&json(disk(of!([{"op": "read", "queue": [[9999, 1]], "device": []}]))), "a bucket");
    damaged(&json(disk(of!([{"op": "cpu", "queue": [], "device": []}]))), "of the kind `cpu`");
}

#[test]
fn what_a_later_tracer_adds_is_skipped() {
    let mut whole = text(sixty()).replace("\"begin_ns\"", "\"phase_of_the_moon\":[1],\"begin_ns\"");
    let header = whole.find('\n').unwrap() + 1;
    whole.insert_str(header, "{\"weather\":{\"rain\":true}}\n");
    let (replayed, checked) = play(whole.as_bytes());
    checked.unwrap();
    assert_eq!(replayed.victims[0].syncs, 60);
}

/// Disk full, say.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_recording_that_cannot_be_written_says_so() {
    let scene =
        Scene::new(Kernel::default(), Clock::at(1_770_000_000_000_000_000, 1_000_000_000), 0)
            .unwrap();
    let error = Recorder::begin(Box::new(Full), &scene).err().unwrap();
    assert!(format!("{error:#}").contains("failed to write the recording: "), "{error:#}");
}

#[test]
fn names_of_lines_are_those_of_the_format() {
    let text = text(sixty());
    let known =
        ["header", "owner", "identity", "file", "device", "disk", "sync", "dropped", "tick"];
    for name in known.into_iter().chain(["hanging", "hanging_left_out", "stack", "kernel", "end"]) {
        assert!(text.lines().any(|line| line.starts_with(&format!("{{\"{name}\":"))), "{name}");
    }
    assert!(text.lines().all(|line| serde_json::from_str::<Line>(line).is_ok()));
}

#[test]
fn a_line_is_of_one_kind_and_a_later_version_may_have_others() {
    let read = |text: &str| serde_json::from_str::<Line>(text);
    assert!(matches!(read(r#"{"hanging_left_out":3}"#), Ok(Line::HangingLeftOut(3))));
    assert!(matches!(read(r#"{"of_version_3":[{"a":1}]}"#), Ok(Line::Unknown)));
    let beside = r#"{"hanging_left_out":3,"of_version_3":{"a":1}}"#;
    assert!(matches!(read(beside), Ok(Line::HangingLeftOut(3))));
    let two = r#"{"hanging_left_out":3,"end":{"at_ns":1,"syncs":2}}"#;
    assert!(read(two).unwrap_err().to_string().starts_with("one line is of two kinds"));
    assert!(read("[]").is_err() && read("3").is_err());
}
