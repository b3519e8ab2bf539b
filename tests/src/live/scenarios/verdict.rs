//! The output of `tracer why` for a scenario, and whether it is right.

use std::{collections::BTreeMap, env, path::Path, thread, time::Duration};

use serde::Deserialize;
use tracer_lab::cgroup::Cgroup;

use crate::subject::Tracer;

/// The time without culprits, at the beginning of the watch.
const QUIET: Duration = Duration::from_secs(4);
/// The time with culprits.
const BUSY: Duration = Duration::from_secs(8);
/// The tracer must have begun within this time, on a busy machine.
const BEGINS: Duration = Duration::from_secs(30);
/// The tracer may end this much later than it was asked to.
const ENDS: Duration = Duration::from_secs(20);
/// An innocent must have less than this share of the wait.
const INNOCENT: f64 = 0.05;
/// On an idle machine, the p99 of every simulated disk without culprits is less than this; a
/// larger one is not caused by the disk.
const QUIET_P99: f64 = 12e-3;
/// The unexplained share must be less than this.
const UNEXPLAINED: f64 = 0.15;

/// The fields of `why --json` that are read.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    pub kind: String,
    /// The verdict as a sentence.
    pub verdict: String,
    pub confidence: String,
    /// The parts of the excess, by kind of cause.
    pub shares: BTreeMap<String, f64>,
    pub culprits: Vec<Culprit>,
    pub ruled_out: Vec<Culprit>,
    pub phases: BTreeMap<String, f64>,
    pub syncs: u64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub max_seconds: f64,
    pub undisturbed_p99_seconds: Option<f64>,
    pub unexplained_share: f64,
    pub outside_seconds: f64,
    pub frozen_share: f64,
    pub paused_share: f64,
}

/// A suspect in a verdict, culprit or not.
#[derive(Clone, Debug, Deserialize)]
pub struct Culprit {
    pub comm: String,
    pub cgroup: String,
    pub op: Option<String>,
    /// `None` for those that are ruled out.
    pub via: Option<String>,
    /// `None` for those that are ruled out.
    pub confidence: Option<String>,
    pub share: f64,
    pub trigger: Option<Trigger>,
    /// Absent if false.
    #[serde(default)]
    pub frees: bool,
}

/// The caller who had a culprit's data written.
#[derive(Clone, Debug, Deserialize)]
pub struct Trigger {
    pub comm: String,
    pub cgroup: String,
    pub call: String,
    pub seconds: f64,
}

/// A process that is watched, and that counts its own syncs.
pub trait Victim {
    fn pid(&self) -> u32;
    fn cgroup(&self) -> &Cgroup;
    /// The seconds that it has spent in syncs of its file so far.
    fn sync_seconds(&self) -> f64;
}

/// A verdict, and the victim's own measurements over the same time.
#[derive(Clone, Debug)]
pub struct Answer {
    pub verdict: Verdict,
    /// The victim's own, in which nobody is a stranger.
    pub own_cgroup: String,
    /// The seconds in the victim's syncs, from the tracer's begin until after its end.
    pub own_seconds: f64,
}

/// An actor that is known to be a culprit, or to be innocent.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    pub comm: &'a str,
    pub cgroup: &'a Cgroup,
}

impl Actor<'_> {
    pub fn is(&self, culprit: &Culprit) -> bool {
        culprit.comm == self.comm && culprit.cgroup == self.cgroup.path()
    }

    /// Its share of the wait.
    pub fn share(&self, verdict: &Verdict) -> f64 {
        verdict.culprits.iter().filter(|c| self.is(c)).map(|c| c.share).sum()
    }
}

/// Watches a victim, first without culprits and then with them: `busy` starts them, lets them
/// run for the time that it is given, and stops them.
pub fn watch(victim: &impl Victim, busy: impl FnOnce(Duration)) -> Answer {
    watch_for(victim, BUSY, busy)
}

pub fn watch_for(victim: &impl Victim, length: Duration, busy: impl FnOnce(Duration)) -> Answer {
    watch_after(victim, QUIET, length, busy)
}

/// Like [`watch`], with a given time without culprits.
pub fn watch_after(
    victim: &impl Victim,
    quiet: Duration,
    length: Duration,
    busy: impl FnOnce(Duration),
) -> Answer {
    let whole = quiet + length;
    let pid = victim.pid().to_string();
    let mut recording = keep_recording(whole);
    let mut why =
        Tracer::start(&["why", &pid, "--for", &format!("{}s", whole.as_secs()), "--json"]);
    why.wait_for(BEGINS, "watching");
    let before = victim.sync_seconds();
    thread::sleep(quiet);
    busy(length);
    let verdict = why.find_line(ENDS, |line| line.starts_with('{'));
    let verdict = serde_json::from_str(&verdict)
        .unwrap_or_else(|error| panic!("not a verdict: {error}: {verdict}"));
    let status = why.wait(ENDS);
    assert_eq!(status.code(), Some(0), "{}", why.transcript());
    if let Some(recording) = &mut recording {
        assert_eq!(recording.wait(ENDS).code(), Some(0), "{}", recording.transcript());
    }
    let own_seconds = victim.sync_seconds() - before;
    Answer { verdict, own_cgroup: victim.cgroup().path().to_owned(), own_seconds }
}

/// Also records the scenario, for people: to a file in the directory that
/// `TRACER_KEEP_RECORDINGS` names, with the name of the test.
fn keep_recording(length: Duration) -> Option<Tracer> {
    let folder = env::var_os("TRACER_KEEP_RECORDINGS")?;
    let test = thread::current().name().unwrap_or("scenario").to_owned();
    let name = test.rsplit("::").next().unwrap_or(&test);
    let file = Path::new(&folder).join(format!("{name}.rec"));
    let length = format!("{}s", length.as_secs());
    Some(Tracer::start(&["record", "--force", "--for", &length, "-o", &file.to_string_lossy()]))
}

/// The truth about a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// The verdict must be one of these.
    pub kinds: &'a [&'a str],
    /// The culprits, the worst first.
    pub culprits: &'a [Actor<'a>],
    pub innocent: &'a [Actor<'a>],
    /// The p99 must become at least this many times that without culprits.
    pub slower: f64,
}

/// Nothing slows anything.
pub const QUIET_TRUTH: Truth<'static> =
    Truth { kinds: &["none"], culprits: &[], innocent: &[], slower: 0.0 };

impl Answer {
    /// The first actor that is named with high confidence and is innocent.
    fn accused(&self, truth: &Truth<'_>) -> Option<&Culprit> {
        self.verdict.culprits.iter().find(|culprit| {
            let is_own = culprit.cgroup == self.own_cgroup;
            let is_culprit = truth.culprits.iter().any(|actor| actor.is(culprit));
            let is_sure = culprit.confidence.as_deref() == Some("high");
            is_sure && culprit.share >= INNOCENT && !is_own && !is_culprit
        })
    }

    /// A line for people, whether the verdict is right or not.
    pub fn print(&self, scenario: &str) {
        let v = &self.verdict;
        let ms = |seconds: f64| seconds * 1e3;
        let list = |of: &[Culprit]| {
            let answer = of.iter().filter(|c| c.share >= 0.01).map(|c| {
                let (op, via) = (c.op.as_deref(), c.via.as_deref());
                let how = [op, via].into_iter().flatten().collect::<Vec<_>>().join(" by ");
                format!("{} ({}) {how} {:.0}%", c.comm, c.cgroup, c.share * 1e2)
            });
            answer.collect::<Vec<_>>().join(", ")
        };
        let phases: Vec<_> =
            v.phases.iter().map(|(name, seconds)| format!("{name} {:.0}", ms(*seconds))).collect();
        println!(
            "{scenario}: {} syncs, p99 {:.1} ms, then p50 {:.1}, p99 {:.1} ms; {}: {}; \
             ruled out: {}; unexplained {:.0}%; by itself {:.2} s; phases in ms: {}",
            v.syncs,
            ms(v.undisturbed_p99_seconds.unwrap_or_default()),
            ms(v.p50_seconds),
            ms(v.p99_seconds),
            v.kind,
            list(&v.culprits),
            list(&v.ruled_out),
            v.unexplained_share * 1e2,
            self.own_seconds,
            phases.join(", "),
        );
    }

    /// Asserts that the victim became as slow as it should, and that the verdict is true.
    #[track_caller]
    pub fn judge(&self, scenario: &str, truth: &Truth<'_>) {
        self.judge_verdict(scenario, truth);
        let said = self.said_seconds();
        let most = 1.02 * self.own_seconds + 0.05;
        assert!(
            (0.75 * self.own_seconds..=most).contains(&said),
            "the victim's own measurement is different: {self:?}"
        );
    }

    /// The time in the victim's syncs, as the tracer says.
    pub fn said_seconds(&self) -> f64 {
        self.verdict.phases.values().sum()
    }

    /// Asserts the same without the victim's own measurement, for waits that it feels and that
    /// are not in its syncs.
    #[track_caller]
    pub fn judge_verdict(&self, scenario: &str, truth: &Truth<'_>) {
        self.print(scenario);
        let v = &self.verdict;
        if let Some(accused) = self.accused(truth) {
            let why = format!("{} was named with high confidence", accused.comm);
            crate::skip::announce_final(&why);
            panic!("{why}, and is innocent: {v:?}");
        }
        let baseline = v.undisturbed_p99_seconds.expect("a baseline was seen");
        let quiet = baseline.min(QUIET_P99);
        assert!(v.p99_seconds >= truth.slower * quiet, "it was not made slow: {v:?}");
        assert!(truth.kinds.contains(&&*v.kind), "not one of {:?}: {v:?}", truth.kinds);
        let mut strangers = v.culprits.iter().filter(|c| c.cgroup != self.own_cgroup);
        match (truth.culprits, strangers.next()) {
            ([], first) => assert!(first.is_none(), "nobody is to blame: {v:?}"),
            ([culprit, ..], Some(first)) => assert!(culprit.is(first), "not {culprit:?}: {v:?}"),
            (culprit, None) => panic!("nobody was named, but {culprit:?} did it: {v:?}"),
        }
        for innocent in truth.innocent {
            assert!(innocent.share(v) < INNOCENT, "{innocent:?} is innocent: {v:?}");
        }
        if v.kind != "none" {
            assert!(v.unexplained_share < UNEXPLAINED, "too much is unexplained: {v:?}");
        }
    }
}
