//! What the tracer says of a scenario, and whether it is right.
//!
//! [`watch`] is the one place that knows how it is asked: `tracer why --json`
//! where the program has that command, and otherwise a session in this process,
//! whose verdict is told and judged by less.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tracer::{
    lab::cgroup::Cgroup,
    session::Session,
    snapshot::{self, Blame, FileClass, Victim},
};

use super::{super::traced, stage::Stage};
use crate::subject::{Tracer, tracer_bin};

/// Without culprits, at the beginning of the watch.
const QUIET: Duration = Duration::from_secs(4);
/// With them.
const BUSY: Duration = Duration::from_secs(8);
/// For the tracer to begin.
const BEGINS: Duration = Duration::from_millis(1500);
/// Beyond its own time, for it to end.
const ENDS: Duration = Duration::from_secs(20);
/// An innocent has less of the wait.
const INNOCENT: f64 = 0.05;
/// Less may be left unexplained.
const UNEXPLAINED: f64 = 0.15;

/// What is read of `why --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    pub kind: String,
    pub culprits: Vec<Culprit>,
    #[serde(default)]
    pub ruled_out: Vec<Culprit>,
    pub phases: BTreeMap<String, f64>,
    pub syncs: u64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub baseline_p99_seconds: Option<f64>,
    pub unexplained_share: f64,
}

/// Somebody in a verdict, guilty or not.
#[derive(Clone, Debug, Deserialize)]
pub struct Culprit {
    pub comm: String,
    pub cgroup: String,
    #[serde(default)]
    pub op: Option<String>,
    #[serde(default)]
    pub via: Option<String>,
    pub share: f64,
}

/// A verdict, who gave it, and etcd's own account of the same time.
#[derive(Clone, Debug)]
pub struct Told {
    pub verdict: Verdict,
    pub by: By,
    /// The victim's own, in which nobody is a stranger.
    pub own_cgroup: String,
    /// Seconds in fsyncs of the WAL, a little longer than the tracer watched.
    pub etcd_seconds: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    Why,
    Session,
}

/// One who is known to have done it, or not to have.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    pub comm: &'a str,
    pub cgroup: &'a Cgroup,
}

impl Actor<'_> {
    fn is(&self, culprit: &Culprit) -> bool {
        culprit.comm == self.comm && culprit.cgroup == self.cgroup.path()
    }

    /// Its share of the wait.
    pub fn share(&self, verdict: &Verdict) -> f64 {
        verdict.culprits.iter().filter(|c| self.is(c)).map(|c| c.share).sum()
    }
}

/// Watches etcd for a quiet while and then for one with culprits: `busy` brings
/// them, lets them go on for as long as it is given, and takes them away.
pub fn watch(stage: &Stage, busy: impl FnOnce(Duration) + Send) -> Told {
    watch_for(stage, BUSY, busy)
}

pub fn watch_for(stage: &Stage, length: Duration, busy: impl FnOnce(Duration) + Send) -> Told {
    let before = stage.wal_fsyncs();
    let (verdict, by) = if knows_why() {
        (ask_why(stage, length, busy), By::Why)
    } else {
        (look(stage, length, busy), By::Session)
    };
    let etcd_seconds = stage.wal_fsyncs().sum - before.sum;
    Told { verdict, by, own_cgroup: stage.cgroup.path().to_owned(), etcd_seconds }
}

fn knows_why() -> bool {
    let mut why = Command::new(tracer_bin());
    why.args(["why", "--help"]).stdout(Stdio::null()).stderr(Stdio::null());
    why.status().is_ok_and(|status| status.success())
}

fn ask_why(stage: &Stage, length: Duration, busy: impl FnOnce(Duration) + Send) -> Verdict {
    let whole = QUIET + length;
    let victim = stage.etcd.pid().to_string();
    let mut why =
        Tracer::start(&["why", &victim, "--for", &format!("{}s", whole.as_secs()), "--json"]);
    thread::sleep(BEGINS + QUIET);
    busy(length);
    let verdict = why.find_line(ENDS, |line| line.starts_with('{'));
    let verdict = serde_json::from_str(&verdict)
        .unwrap_or_else(|error| panic!("not a verdict: {error}: {verdict}"));
    let status = why.wait(ENDS);
    assert_eq!(status.code(), Some(0), "{}", why.transcript());
    verdict
}

/// Watches in this process, with the culprits in a thread: a session stays on
/// its own.
fn look(stage: &Stage, length: Duration, busy: impl FnOnce(Duration) + Send) -> Verdict {
    let pid = stage.etcd.pid();
    traced(|session| {
        let until = Instant::now() + QUIET;
        poll(session, || Instant::now() >= until);
        let quiet = wal(session, pid);
        thread::scope(|scope| {
            let busy = scope.spawn(|| busy(length));
            poll(session, || busy.is_finished());
        });
        verdict_of(&quiet, &wal(session, pid))
    })
}

fn poll(session: &mut Session, is_over: impl Fn() -> bool) {
    while !is_over() {
        thread::sleep(Duration::from_millis(50));
        session.poll(None, &mut Vec::new());
    }
}

fn wal(session: &mut Session, pid: u32) -> Victim {
    let snapshot = session.snapshot();
    let mut victims = snapshot.victims.into_iter();
    let wal = victims.find(|v| v.who.tgid == pid && v.class == FileClass::Wal);
    wal.expect("etcd syncs its WAL")
}

/// What was blamed since the `quiet` picture; the rest is of the window.
fn verdict_of(quiet: &Victim, busy: &Victim) -> Verdict {
    let kind = match busy.verdict {
        snapshot::Verdict::Owners => "owners",
        snapshot::Verdict::Cpu => "cpu",
        snapshot::Verdict::Own => "self",
        snapshot::Verdict::Device => "device",
        _ => "none",
    };
    let excess = busy.total.excess_seconds - quiet.total.excess_seconds;
    let earlier = |part: &Blame| {
        let same = |c: &&Blame| {
            c.op == part.op && c.who.comm == part.who.comm && c.who.cgroup == part.who.cgroup
        };
        quiet.total.blame.iter().find(same).map_or(0.0, |c| c.seconds)
    };
    let mut culprits: Vec<_> = busy
        .total
        .blame
        .iter()
        .map(|part| Culprit {
            comm: part.who.comm.clone(),
            cgroup: part.who.cgroup.clone(),
            op: Some(part.op.name().to_owned()),
            via: None,
            share: (part.seconds - earlier(part)) / excess.max(1e-9),
        })
        .collect();
    culprits.sort_by(|a, b| b.share.total_cmp(&a.share));
    Verdict {
        kind: kind.to_owned(),
        culprits,
        ruled_out: Vec::new(),
        phases: busy.phases.named().map(|(name, seconds)| (name.to_owned(), seconds)).into(),
        syncs: busy.syncs,
        p50_seconds: busy.p50_seconds,
        p99_seconds: busy.p99_seconds,
        baseline_p99_seconds: Some(quiet.p99_seconds),
        unexplained_share: 0.0,
    }
}

/// What is true of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// One of them.
    pub kinds: &'a [&'a str],
    /// The worst first.
    pub guilty: &'a [Actor<'a>],
    pub innocent: &'a [Actor<'a>],
    /// Times the p99 without culprits that it must at least become.
    pub slower: f64,
}

/// Nobody slows anybody.
pub const QUIET_TRUTH: Truth<'static> =
    Truth { kinds: &["none"], guilty: &[], innocent: &[], slower: 0.0 };

impl Told {
    /// A line for people, whoever judged.
    pub fn print(&self, scenario: &str) {
        let v = &self.verdict;
        let ms = |seconds: f64| seconds * 1e3;
        let list = |of: &[Culprit]| {
            let told = of.iter().filter(|c| c.share >= 0.01).map(|c| {
                let (op, via) = (c.op.as_deref(), c.via.as_deref());
                let how = [op, via].into_iter().flatten().collect::<Vec<_>>().join(" by ");
                format!("{} ({}) {how} {:.0}%", c.comm, c.cgroup, c.share * 1e2)
            });
            told.collect::<Vec<_>>().join(", ")
        };
        let phases: Vec<_> =
            v.phases.iter().map(|(name, seconds)| format!("{name} {:.0}", ms(*seconds))).collect();
        println!(
            "{scenario}: {} syncs, p99 {:.1} ms, then p50 {:.1}, p99 {:.1} ms; {} [{:?}]: {}; \
             ruled out: {}; unexplained {:.0}%; etcd {:.2} s; phases in ms: {}",
            v.syncs,
            ms(v.baseline_p99_seconds.unwrap_or_default()),
            ms(v.p50_seconds),
            ms(v.p99_seconds),
            v.kind,
            self.by,
            list(&v.culprits),
            list(&v.ruled_out),
            v.unexplained_share * 1e2,
            self.etcd_seconds,
            phases.join(", "),
        );
    }

    /// Asserts that the victim suffered as it should, and that the tracer tells
    /// the truth. A session is asked for no more than the suffering.
    #[track_caller]
    pub fn judge(&self, scenario: &str, truth: &Truth<'_>) {
        self.print(scenario);
        let v = &self.verdict;
        let baseline = v.baseline_p99_seconds.expect("a baseline was seen");
        assert!(v.p99_seconds >= truth.slower * baseline, "it was not made slow: {v:?}");
        if self.by == By::Session {
            return;
        }
        assert!(truth.kinds.contains(&&*v.kind), "not one of {:?}: {v:?}", truth.kinds);
        let mut strangers = v.culprits.iter().filter(|c| c.cgroup != self.own_cgroup);
        match (truth.guilty, strangers.next()) {
            ([], first) => assert!(first.is_none(), "nobody did it: {v:?}"),
            ([guilty, ..], Some(first)) => assert!(guilty.is(first), "not {guilty:?}: {v:?}"),
            (guilty, None) => panic!("nobody was named, but {guilty:?} did it: {v:?}"),
        }
        for innocent in truth.innocent {
            assert!(innocent.share(v) < INNOCENT, "{innocent:?} is innocent: {v:?}");
        }
        if v.kind != "none" {
            assert!(v.unexplained_share < UNEXPLAINED, "too much is unexplained: {v:?}");
        }
        // etcd counts from before the tracer begins until after it ended.
        let told: f64 = v.phases.values().sum();
        let most = 1.02 * self.etcd_seconds + 0.05;
        assert!((0.6 * self.etcd_seconds..=most).contains(&told), "etcd told otherwise: {self:?}");
    }
}
