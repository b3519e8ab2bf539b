use super::*;
use crate::timeline::{Minute, Part as Culprit, Subject};
use tracer_snapshot::{Actor, Confidence, FileClass, Kind, Op};

const HOSTILE: &str = "<script>alert(1)</script>\n# [x](http://x) `a` \u{1b}[2J";

fn actor(comm: &str) -> Actor {
    Actor { comm: comm.to_owned(), cgroup: HOSTILE.to_owned(), ..Actor::default() }
}

/// A victim that was slow for half a minute.
pub(crate) fn ended(at: f64) -> Event {
    let victim = Subject {
        actor: actor("etcd"),
        class: FileClass::Wal,
        path: HOSTILE.to_owned(),
        device: "sda".to_owned(),
    };
    let culprits =
        vec![Culprit { actor: actor("fstrim"), op: Op::Discard, share: 0.81, trigger: None }];
    let what = What::SlowEnded {
        victim,
        kind: Kind::Owners,
        confidence: Confidence::High,
        began_at: at - 30.0,
        seconds: 30.0,
        worst_p99_seconds: 0.048,
        excess_seconds: 12.1,
        culprits,
        limit: None,
        lasts: false,
        spans_gap: false,
    };
    Event { at, what }
}

fn report() -> Report {
    let gap = Gap { from: 10.0, to: 70.0, why: "killed", reason: HOSTILE.to_owned() };
    Report {
        zone: Zone::utc(),
        recording: HOSTILE.to_owned(),
        from: 1_772_366_400.0,
        to: 1_772_370_000.0,
        gaps: vec![gap],
        not_seen: vec![HOSTILE.to_owned()],
        kernel: HOSTILE.to_owned(),
        charts: vec![plot::fixture()],
        events: vec![ended(1_772_366_700.0)],
        left_out: 3,
        episodes: vec![Episode {
            from: 1_772_366_670.0,
            to: 1_772_366_700.0,
            charts: vec![plot::fixture()],
            verdicts: vec!["etcd\n  verdict  fstrim <b>".to_owned()],
        }],
    }
}

fn written(write: impl Fn(&mut Vec<u8>, &Report) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, &report()).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_summary_is_three_sentences_with_who_did_it() {
    let summary = report().summary();
    assert!(summary.contains("one victim was slow once and no sync hung."), "{summary}");
    assert!(summary.contains("The worst was etcd ("), "{summary}");
    assert!(summary.contains(", from 12:04:30 for 30s, with a p99 of 48.0 ms;"), "{summary}");
    assert!(summary.contains("(discard), with 81% of the excess [high confidence]."), "{summary}");
    let mut many = report();
    if let What::SlowEnded { culprits, .. } = &mut many.events[0].what {
        culprits[0].share = 0.12;
    }
    let cause = "the cause was others on its disk: most of all fstrim (";
    assert!(many.summary().contains(cause), "{}", many.summary());
    assert!(summary.ends_with("The recording lacks 1m of this time."), "{summary}");
}

/// The first screen says who did it each time, in the order of time.
#[test]
fn the_causes_of_all_slow_times_follow_the_summary() {
    assert!(!written(write_markdown).contains("was slow for 30s"), "one is in the summary");
    let mut report = report();
    let mut held = ended(1_772_366_600.0);
    if let What::SlowEnded { kind, culprits, limit, .. } = &mut held.what {
        (*kind, *limit) = (Kind::Limit, Some("io.max 8:0 wiops=20".to_owned()));
        culprits.clear();
    }
    report.events.insert(0, held);
    assert!(report.summary().contains("one victim was slow 2 times"), "{}", report.summary());
    let causes = report.causes();
    assert_eq!(causes.len(), 2, "{causes:?}");
    let held = "the cause was a limit of its own, io.max 8:0 wiops=20 [high confidence]";
    assert!(causes[0].starts_with("12:02:50: etcd (") && causes[0].ends_with(held), "{causes:?}");
    assert!(causes[1].contains("(discard), with 81% of the excess"), "{causes:?}");
    report.events = (0..12).map(|n| ended(f64::from(n))).collect();
    let causes = report.causes();
    assert_eq!(causes.len(), 11);
    assert_eq!(causes[10], "2 more times, with less excess, are in the timeline.");
}

#[test]
fn names_in_a_page_are_text() {
    let page = written(write_html);
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(page.chars().all(|c| c == '\n' || crate::output::escape::is_plain(c)), "{page}");
    assert!(!page.contains("http://x\""), "{page}");
    assert!(page.contains("3 more events are left out"));
}

#[test]
fn a_mark_has_the_numbers_before_and_after_it() {
    let What::SlowEnded { victim, .. } = ended(0.0).what else { panic!("not ended") };
    let minute = Minute { syncs: 432, p50_seconds: 0.01, p99_seconds: 0.329 };
    let around = vec![Around { victim, before: Some(minute), after: None }];
    let what = What::Mark { text: "stopped <b>".to_owned(), uid: 1000, seen: false, around };
    let mut report = report();
    report.events.push(Event { at: 1_772_366_700.0, what });
    let marks = report.marks();
    assert!(marks.starts_with("2026-03-01 12:05:00  stopped <b> [uid 1000]\n"), "{marks}");
    let before = "      the minute before  432 syncs, p50 10.0 ms, p99 329 ms\n";
    assert!(marks.contains(before), "{marks}");
    assert!(marks.ends_with("      the minute after   no sync"), "{marks}");
    let mut page = Vec::new();
    write_html(&mut page, &report).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("Before and after each mark") && !page.contains("<b>"), "{page}");
}

#[test]
fn names_in_markdown_are_text() {
    let page = written(write_markdown);
    for line in page.lines().filter(|line| !line.starts_with("    ")) {
        let line = line.replace("\\<", "").replace("\\]", "");
        assert!(!line.contains("<script") && !line.contains("](http"), "{line}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("# ")).count(), 1, "{page}");
}
