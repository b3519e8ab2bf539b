//! A user without rights replays a recording that was made while an `fstrim` ran, and damaged
//! copies of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use assert_cmd::assert::OutputAssertExt as _;
use serde_json::Value;

use crate::subject::{as_nobody, tracer_bin};

/// 13 seconds of a log under `fstrim`, on a machine that also compiled.
const FSTRIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fstrim.rec");

fn replay(bytes: &[u8], args: &[&str]) -> std::process::Output {
    as_nobody(&[&["replay", "-"], args].concat(), bytes)
}

fn fstrim() -> Vec<u8> {
    fs::read(Path::new(FSTRIM)).expect("the recording lies beside the tests")
}

fn json(line: &[u8]) -> Value {
    serde_json::from_slice(line).expect("is JSON")
}

#[test]
fn the_verdict_on_a_recording_names_fstrim() {
    let output = replay(&fstrim(), &["wal", "--json"]).assert().code(0).stderr("");
    let why = json(&output.get_output().stdout);
    assert_eq!(why["kind"], "owners", "{why}");
    let culprit = &why["culprits"][0];
    assert_eq!((&culprit["comm"], &culprit["op"]), (&"fstrim".into(), &"discard".into()), "{why}");
    // Each fstrim had ended within a second.
    let cgroup = culprit["cgroup"].as_str().expect("it is known");
    assert!(cgroup.ends_with("/fstrim"), "{why}");
    assert!(why["dropped"].to_string().contains("reconciled"), "{why}");
    let text = replay(&fstrim(), &[]).assert().code(0);
    let text = String::from_utf8_lossy(&text.get_output().stdout).into_owned();
    assert!(text.contains("fstrim") && text.contains("makes it wait"), "{text}");
}

#[test]
fn periods_and_screens_and_slow_syncs_are_of_the_recordings_time() {
    let periods = replay(&fstrim(), &["wal", "--every", "5s", "--json"]).assert().code(0);
    let periods: Vec<_> = periods.get_output().stdout.split_inclusive(|b| *b == b'\n').collect();
    assert_eq!(periods.len(), 3);
    let syncs = |line: &&[u8]| json(line)["syncs"].as_u64().expect("a number");
    let parts: u64 = periods.iter().map(syncs).sum();
    let whole = replay(&fstrim(), &["wal", "--json"]).stdout;
    assert_eq!(parts, syncs(&&*whole));

    let screens = replay(&fstrim(), &["top", "--json", "-n", "4"]).assert().code(0);
    let screens: Vec<_> = screens.get_output().stdout.split_inclusive(|b| *b == b'\n').collect();
    let at = |line: &[u8]| json(line)["at"].as_f64().expect("a time");
    assert_eq!(screens.len(), 4);
    assert!((at(screens[3]) - at(screens[0]) - 3.0).abs() < 0.3);

    let slow = replay(&fstrim(), &["watch", "--min", "50ms", "--json"]).assert().code(0);
    let slow = &slow.get_output().stdout;
    let durations = slow
        .split_inclusive(|b| *b == b'\n')
        .map(|line| json(line)["duration_seconds"].as_f64().expect("a number"));
    let durations: Vec<_> = durations.collect();
    assert!(!durations.is_empty() && durations.iter().all(|s| *s >= 0.05), "{durations:?}");
}

#[test]
fn what_is_left_of_a_recording_is_shown_and_then_4() {
    let whole = fstrim();
    let half = &whole[..whole.len() / 2];
    let output = replay(half, &["wal", "--json"]).assert().code(4).get_output().clone();
    assert!(json(&output.stdout)["syncs"].as_u64().is_some_and(|n| n > 100));
    let complaint = String::from_utf8(output.stderr).expect("is text");
    assert!(complaint.starts_with("tracer: error: `-` was read only in part"), "{complaint}");
    assert!(complaint.contains("line ") && complaint.contains("byte "), "{complaint}");
    for foreign in [&b""[..], b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08nothing", b"hello\n"] {
        let output = replay(foreign, &[]).assert().code(4).stdout("").get_output().clone();
        let complaint = String::from_utf8(output.stderr).expect("is text");
        assert!(complaint.contains("is not a recording of tracer's: "), "{complaint}");
    }
    as_nobody(&["replay", "/nonexistent.rec"], b"").assert().code(1);
}

/// The header of a recording that was made before version 2, and the line after it.
const VERSION_1: &str = r#"{"header":{"format":"tracer-recording","version":1,"tracer":"0.1.0","started_ns":28043141297514,"clock":{"unix_minus_monotonic_ns":1795250231739476487},"kernel":{"release":"6.18.44","hooks":[["block","tracepoint"]],"unsupported":[]}}}
{"device":{"device":266338304,"name":"vda"}}
"#;

#[test]
fn a_recording_of_version_1_is_refused_with_one_sentence() {
    let expected = "tracer: error: `-` is a recording in version 1 of the format, and this tracer \
                    reads version 2 only: replay it with the tracer that recorded it, or record \
                    again with this one\n";
    for view in [&[][..], &["why", "--json"], &["top", "--batch"], &["watch"]] {
        replay(VERSION_1.as_bytes(), view).assert().code(4).stdout("").stderr(expected);
    }
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let there = tempfile::NamedTempFile::new().expect("can make a file");
    fs::write(there.path(), "mine").expect("it is ours");
    let path = there.path().to_str().expect("is text");
    let output = as_nobody(&["record", "-o", path], b"").assert().code(1).get_output().clone();
    let complaint = String::from_utf8(output.stderr).expect("is text");
    assert!(complaint.contains("--force overwrites it"), "{complaint}");
    assert_eq!(fs::read_to_string(there.path()).expect("it is ours"), "mine");
}

#[test]
fn a_time_that_is_over_is_asked_by_its_date_and_the_zone_is_said() {
    let rec = fstrim();
    let at = ["wal", "--json", "--at", "2026-11-21T17:24:40+01:00", "--for", "5s"];
    let why = json(&replay(&rec, &at).assert().code(0).get_output().stdout);
    assert_eq!(why["asked"]["from"], 1_795_278_280.0, "{why}");
    assert_eq!(why["asked"]["to"], 1_795_278_285.0, "{why}");
    assert_eq!(why["asked"]["gaps"], serde_json::json!([]), "{why}");
    assert_eq!(why["culprits"][0]["comm"], "fstrim", "{why}");
    let syncs = why["syncs"].as_u64().expect("a number");
    let all = json(&replay(&rec, &["wal", "--json"]).stdout);
    assert!((50..all["syncs"].as_u64().expect("a number")).contains(&syncs), "{why}");
    // The times reach from before the recording until after it.
    let since =
        ["wal", "--json", "--since", "2026-11-21T16:00:00Z", "--until", "2026-11-21T17:00:00Z"];
    let why = json(&replay(&rec, &since).assert().code(0).get_output().stdout);
    let gaps = why["asked"]["gaps"].as_array().expect("a list");
    let whys: Vec<_> = gaps.iter().map(|gap| gap["why"].as_str().expect("a word")).collect();
    assert_eq!(whys, ["begins", "ends"], "{why}");
    assert_eq!(why["syncs"], all["syncs"]);
    let text = replay(&rec, &["wal", "--at", "2026-11-21T16:24:40Z", "--for", "5s"]).stdout;
    let text = String::from_utf8(text).expect("is text");
    let first = text.lines().next().expect("a line");
    assert!(first.contains(":24:40 to ") && first.contains(" +00:00 ("), "{first}");
}

#[test]
fn a_time_that_was_not_recorded_is_an_error_that_says_why() {
    for (at, says) in [
        ("2026-11-21T15:00:00Z", "the recording begins at 2026-11-21 "),
        ("2026-11-21T20:00:00Z", "the recording ends at 2026-11-21 "),
    ] {
        let output = replay(&fstrim(), &["wal", "--at", at]).assert().code(1).stdout("");
        let complaint = String::from_utf8(output.get_output().stderr.clone()).expect("is text");
        assert!(complaint.contains("nothing was recorded from "), "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    let output = as_nobody(&["why", "etcd", "--at", "03:12"], b"").assert().code(1);
    let complaint = String::from_utf8(output.get_output().stderr.clone()).expect("is text");
    assert!(complaint.contains("--recording PATH, or TRACER_RECORD"), "{complaint}");
}

#[test]
fn a_timeline_has_who_was_slow_and_through_whom() {
    let output = as_nobody(&["timeline", "-", "--json", "--filter", "wal"], &fstrim());
    let output = output.assert().code(0).stderr("").get_output().stdout.clone();
    let events: Vec<_> = output.split_inclusive(|b| *b == b'\n').map(json).collect();
    let of = |name: &str| {
        let mut found = events.iter().filter(|event| event["event"] == name);
        let one = found.next().unwrap_or_else(|| panic!("no {name}: {events:?}"));
        assert!(found.next().is_none(), "one {name}: {events:?}");
        one
    };
    assert_eq!(of("slow_began")["victim"]["file_class"], "wal");
    assert_eq!(of("culprit_came")["culprit"]["comm"], "fstrim");
    let ended = of("slow_ended");
    assert_eq!((&ended["lasts"], &ended["kind"]), (&true.into(), &"owners".into()), "{ended}");
    assert_eq!(ended["culprits"][0]["op"], "discard", "{ended}");
    // A recording that is cut off in the middle is shown as far as it goes, with exit code 4.
    let rec = fstrim();
    let cut = as_nobody(&["timeline", "-"], &rec[..rec.len() / 2]).assert().code(4);
    assert!(String::from_utf8_lossy(&cut.get_output().stdout).starts_with("times are "));
}

/// A page with outputs of an older engine would show numbers that nobody can reproduce.
#[test]
fn the_page_about_past_times_has_the_lines_that_are_printed() {
    let mut command = Command::new(tracer_bin());
    command.args(["timeline", FSTRIM, "--filter", "wal"]).env("TZ", "UTC");
    let printed = command.assert().code(0).get_output().stdout.clone();
    let printed = String::from_utf8(printed).expect("is text");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/afterwards.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let lines: Vec<_> = printed.lines().filter(|line| line.starts_with("2026-")).collect();
    assert_eq!(lines.len(), 3, "{printed}");
    for line in lines {
        assert!(page.contains(line), "docs/afterwards.md lacks `{line}`");
    }
}

#[test]
fn a_report_says_in_its_first_lines_who_did_it() {
    // The report runs as the user `nobody`, who must be able to read the copy.
    let place = tempfile::tempdir().expect("can make a directory");
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let copy = place.path().join("fstrim.rec");
    fs::write(&copy, fstrim()).expect("it is ours");
    let copy = copy.to_str().expect("is text");
    let output = as_nobody(&["report", copy, "--format", "md", "--filter", "wal"], b"");
    let text = String::from_utf8(output.assert().code(0).get_output().stdout.clone());
    let text = text.expect("is text");
    let summary = text.lines().nth(2).expect("the summary");
    assert!(summary.contains("one victim was slow once and no sync hung."), "{summary}");
    assert!(summary.contains("fstrim (") && summary.contains("(discard), with "), "{summary}");
    assert!(text.contains("  verdict ") && text.contains("  to do "), "{text}");
    assert!(!text.contains("svg"), "Markdown has no plots: {text}");
    let page = as_nobody(&["report", copy], b"").assert().code(0).get_output().stdout.clone();
    let page = String::from_utf8(page).expect("is text");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(!page.contains("<script") && !page.contains("src="), "it needs nothing else");
    assert!(page.contains("<svg role=\"img\"") && page.contains("\np99 ▲\n"), "{page}");
}
