//! Cells of the matrix of timelines on a real kernel: the engine's tests play
//! thousands of them on a model, here some are played by an etcd, a neighbour and a
//! simulated disk, and the tracer is asked.
//!
//! The truth of a cell is that of its timeline ([`tracer_timelines`]), which knows no
//! engine; that the victim became slow, or did not, etcd's own histogram must confirm.
//! A cell is right by the rule that holds for timelines: the right kind is named, or
//! `undecided` where the device changes as the neighbour asks for more.

/// The cells, by name.
mod cells;

use std::{
    cell::Cell as Shared,
    collections::BTreeMap,
    env,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::sleep,
    time::{Duration, Instant},
};

use tracer_lab::{disk::Filesystem, etcd::WAL_FSYNC, histogram::histogram, process::Process};
use tracer_timelines::{
    cell::{Cell, DEVICES, DISKS, KINDS, LOADS, NEIGHBOURS, Play},
    dice::Dice,
    timeline::{Does, Stream},
    truth::{Answer, Cause, Played, Said, Truth},
};

use super::scenarios::{
    machine::play_undisturbed,
    stage::{Stage, cgroup},
    verdict::{Actor, Verdict, watch_after},
};
use crate::simulated::{neighbour, parts::Part};

/// Set where single plays are counted: a wrong answer is final.
const ONE_PLAY: &str = "TRACER_ONE_PLAY";
/// For the neighbour to be there before anybody watches.
const SETTLES: Duration = Duration::from_secs(1);
/// Before the change, and after it: what is said is of both, and must be of the second.
const WELL: Duration = Duration::from_secs(4);
const CHANGED: Duration = Duration::from_secs(8);
/// For a sync to end that waits behind what was written on the slow disk.
const LAST_SYNC: Duration = Duration::from_secs(30);
/// The old neighbour goes so long after the new one came.
const HANDED_OVER: Duration = Duration::from_millis(100);
/// The kernel keeps at least this much to be written, so that etcd is not held back.
const LEAST_DIRTY: u64 = 4 << 20;
/// The name of the neighbour.
const NAME: &str = "neighbour";
/// An innocent has less of the excess, or is not named for sure.
const INNOCENT: f64 = 0.05;
/// The victim's own mean sync becomes longer by this factor if the timeline says that
/// it becomes slow, and by less otherwise.
const SLOWER: f64 = 1.5;

/// Plays a cell with the numbers of a seed, and asks for the right answer.
///
/// A play lasts twelve seconds, of which four are all that the tracer knows of the
/// victim, and what is asked of the method is 97 % of right answers, not all: with twelve
/// cells in each run, one such play in a hundred would spoil every eighth. So after a
/// wrong answer the cell is played twice more, and must be right both times. An innocent
/// who is named with high confidence is wrong at once.
fn play(cell: Cell, seed: u64) {
    let play = Play::of(cell, &mut Dice(seed));
    let truth = Truth::of(&play).parts().expect("the cell's truth is clear");
    if is_right(&play, truth) {
        return;
    }
    assert!(env::var_os(ONE_PLAY).is_none(), "{cell:?} was not right");
    println!("not right: the cell is played twice more, and must be right both times");
    let more = [is_right(&play, truth), is_right(&play, truth)];
    assert_eq!(more, [true; 2], "{cell:?} was not right in two plays of three");
}

/// Whether one play on a machine that is its own has the right answer.
fn is_right(play: &Play, truth: Option<(f64, f64)>) -> bool {
    let has_accused = Shared::new(false);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        play_undisturbed(|| {
            let played = play_once(play, truth);
            let line = serde_json::to_string(&played).expect("plain values");
            // In one piece and on a line of its own: `cargo xtask matrix` reads it.
            let _ = std::io::stdout().write_all(format!("\ncell: {line}\n").as_bytes());
            has_accused.set(played.has_accused);
            judge(&played);
        });
    }));
    if has_accused.get() {
        let why = "an innocent was named with high confidence";
        crate::skip::announce_final(why);
        panic!("{why}");
    }
    ended.is_ok()
}

fn play_once(play: &Play, truth: Option<(f64, f64)>) -> Played {
    let stage = Stage::build(Filesystem::Ext4);
    let tenant = cgroup(NAME);
    let file = stage.disk.mountpoint().join(NAME);
    neighbour::prepare(&file).expect("it has a file");
    let start = |stream: Stream| -> Process {
        if stream.does == Does::BufferedWrite {
            // About a second of it, and the kernel writes back.
            let bytes = stream.bytes * stream.per_second.unwrap_or_default();
            stage.disk.disk().limit_dirty((2 * bytes).max(LEAST_DIRTY)).expect("a limit");
        }
        let part = Part::Neighbour { file: file.clone(), stream };
        part.start(NAME, &tenant).expect("a neighbour")
    };
    let [before, after] = play.streams;
    stage.disk.become_another(&play.disks[0]).expect("a disk");
    let mut neighbour = before.map(start);
    sleep(SETTLES);
    let syncs = || {
        let metrics = stage.etcd.metrics().expect("etcd answers");
        let all = histogram(&metrics, WAL_FSYNC).expect("it counts");
        (all.sum, all.count as f64)
    };
    let mean_ms = |(begin, end): ((f64, f64), (f64, f64))| {
        1e3 * (end.0 - begin.0) / (end.1 - begin.1).max(1.0)
    };
    let (begin, mut change, mut end) = (syncs(), (0.0, 0.0), (0.0, 0.0));
    let seen = watch_after(&stage, WELL, CHANGED, |length| {
        change = syncs();
        stage.disk.become_another(&play.disks[1]).expect("a disk");
        if before != after {
            let next = after.map(start);
            sleep(HANDED_OVER);
            neighbour = next;
        }
        sleep(length);
        end = syncs();
    });
    // etcd and its puts end on a disk that is well.
    stage.disk.become_another(&play.disks[0]).expect("a disk");
    drop(neighbour);
    // etcd counts a sync when it ends, and the last one may have waited for all of that time.
    let well = Instant::now();
    let before = end;
    while end.1 <= before.1 && well.elapsed() < LAST_SYNC {
        sleep(Duration::from_millis(20));
        end = syncs();
    }
    seen.print("a cell");
    let actor = Actor { comm: NAME, cgroup: &tenant };
    let said = said(&seen.verdict, actor);
    let means_ms = [mean_ms((begin, change)), mean_ms((change, end))];
    let answer = said.answer(truth, means_ms[1], play.cell.is_undecidable());
    let has_accused = accuses(&seen.verdict, &seen.own_cgroup, truth, actor);
    Played { cell: play.cell, truth, means_ms, said, answer, has_accused }
}

fn said(verdict: &Verdict, neighbour: Actor<'_>) -> Said {
    Said {
        cause: match &*verdict.kind {
            "none" => Cause::Nobody,
            "device" => Cause::Device,
            "owners" => Cause::Owners,
            "self" => Cause::Own,
            "undecided" => Cause::Undecided,
            "unknown" | "unexplained" | "unseen" => Cause::Unknown,
            _ => Cause::Other,
        },
        device: verdict.shares.get("device").copied().unwrap_or_default(),
        neighbour: neighbour.share(verdict),
        is_high: verdict.confidence == "high",
    }
}

/// Whether somebody is named for sure who has no part in it.
fn accuses(
    verdict: &Verdict,
    own_cgroup: &str,
    truth: Option<(f64, f64)>,
    neighbour: Actor<'_>,
) -> bool {
    let has_part = truth.is_some_and(|(_, load)| load >= INNOCENT);
    verdict.culprits.iter().any(|culprit| {
        let is_culprit = culprit.cgroup == own_cgroup || has_part && neighbour.is(culprit);
        let is_sure = culprit.confidence.as_deref() == Some("high");
        !is_culprit && culprit.share > INNOCENT && is_sure
    })
}

#[track_caller]
fn judge(played: &Played) {
    let [before, after] = played.means_ms;
    let is_slow = after >= SLOWER * before;
    assert_eq!(is_slow, played.truth.is_some(), "etcd itself says otherwise: {played:?}");
    assert!(!played.has_accused, "an innocent was named: {played:?}");
    assert_eq!(played.answer, Answer::Right, "{played:?}");
}

/// Sixty at least, and each value of each dimension in five of them.
#[test]
fn the_cells_are_spread_over_all_dimensions() {
    let mut kinds = BTreeMap::<String, u32>::new();
    let mut cells = 0;
    for (cell, _) in cells::CELLS.iter().chain(cells::wrong::CELLS) {
        cells += 1;
        cell.kinds().into_iter().for_each(|kind| *kinds.entry(kind).or_default() += 1);
    }
    let values = DISKS.len() + DEVICES.len() + NEIGHBOURS.len() + KINDS.len() + LOADS.len();
    assert!(cells >= 60 && kinds.len() == values, "{cells}: {kinds:?}");
    assert!(kinds.values().all(|cells| *cells >= 5), "{kinds:?}");
}

/// One cause has nine tenths, or the device changes as the neighbour asks for more;
/// or nothing is slow.
#[test]
fn the_truth_of_each_cell_is_clear() {
    for &(cell, seed) in cells::CELLS.iter().chain(cells::wrong::CELLS) {
        let parts = Truth::of(&Play::of(cell, &mut Dice(seed))).parts();
        let parts = parts.unwrap_or_else(|_| panic!("{cell:?} is neither slow nor not"));
        let is_clear = parts.is_none_or(|(device, load)| device.max(load) >= 0.9);
        assert!(is_clear || cell.is_undecidable(), "{cell:?}: {parts:?}");
    }
}
