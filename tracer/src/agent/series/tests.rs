use proptest::prelude::*;

use super::*;
use crate::output::fixture;
use tracer_snapshot::{Countable, Kind, Op, Phase};

fn named(name: &str) -> ActorLabels {
    ActorLabels { name: name.to_owned(), comm: name.to_owned(), ..ActorLabels::default() }
}

fn observed(victim: usize, excess: f64, blame: &[(usize, f64)]) -> Observed {
    let actor = named(&format!("victim-{victim}"));
    let blame = blame.iter().map(|(culprit, seconds)| {
        let labels = CulpritLabels { actor: named(&format!("culprit-{culprit}")), op: "write" };
        (labels, *seconds)
    });
    let mut sums = Sums { excess, ..Sums::default() };
    sums.phases[Phase::Device as usize] = 2.0 * excess;
    sums.buckets[4] = 1;
    Observed {
        labels: VictimLabels { actor, file_class: "wal", device: "vda1".into() },
        sums,
        blame: blame.collect(),
        present: Present {
            kind: "owners",
            confidence: "high",
            culprit: String::new(),
            op: "write",
            shares: Shares::default(),
            excess,
        },
        undisturbed_p99_seconds: Some(0.001),
    }
}

fn series(victims: usize, culprits: usize) -> Series {
    Series::new(Limits { victims, culprits })
}

/// Names of the victims that have series.
fn shown(series: &Series) -> Vec<String> {
    series.rows().map(|(labels, _)| labels.actor.name).collect()
}

#[test]
fn the_worst_newcomers_get_the_free_places_and_keep_them() {
    let mut series = series(2, 2);
    series.update(10.0, [observed(1, 1.0, &[]), observed(2, 3.0, &[]), observed(3, 2.0, &[])]);
    assert_eq!(shown(&series), ["victim-2", "victim-3", OTHER]);
    series.update(20.0, [observed(1, 100.0, &[]), observed(3, 0.1, &[])]);
    assert_eq!(shown(&series), ["victim-2", "victim-3", OTHER]);
    let crowd = series.rows().last().unwrap().1;
    assert_eq!(crowd.sums.excess, 101.0);
    assert!(crowd.present.is_none());
}

#[test]
fn who_is_idle_for_ten_minutes_makes_room() {
    let mut series = series(1, 1);
    series.update(10.0, [observed(1, 1.0, &[(1, 1.0)])]);
    series.update(600.0, [observed(2, 1.0, &[])]);
    assert_eq!(shown(&series), ["victim-1", OTHER]);
    assert!(series.rows().next().unwrap().1.present.is_none(), "it did not sync");
    series.update(611.0, [observed(2, 1.0, &[])]);
    assert_eq!(shown(&series), ["victim-2", OTHER]);
}

#[test]
fn a_culprit_without_a_place_is_among_the_others_by_what_it_does() {
    let mut series = series(1, 1);
    series.update(10.0, [observed(1, 9.0, &[(1, 1.0), (2, 5.0)])]);
    series.update(20.0, [observed(1, 9.0, &[(1, 2.0), (2, 5.0)])]);
    let blame: Vec<_> = series.rows().next().unwrap().1.blame().collect();
    let sums: Vec<_> = blame.iter().map(|(l, s)| (l.actor.name.as_str(), l.op, *s)).collect();
    assert_eq!(sums, [("culprit-2", "write", 10.0), (OTHER, "write", 3.0)]);
}

#[test]
fn two_victims_of_the_same_labels_are_one_series_with_the_worse_verdict() {
    let mut series = series(2, 2);
    let mut worse = observed(1, 5.0, &[(1, 1.0)]);
    worse.present.kind = "device";
    series.update(10.0, [observed(1, 1.0, &[(1, 1.0)]), worse]);
    let (_, row) = series.rows().next().unwrap();
    assert_eq!((row.sums.excess, row.present.as_ref().unwrap().kind), (6.0, "device"));
    assert_eq!(row.blame().map(|(_, seconds)| seconds).sum::<f64>(), 2.0);
    assert_eq!(series.rows().count(), 1);
}

#[test]
fn smaller_limits_take_the_series_of_those_who_matter_least() {
    let mut series = series(3, 2);
    series.update(10.0, (1..=3).map(|n| observed(n, n as f64, &[(1, 1.0), (2, 2.0)])));
    series.set_limits(Limits { victims: 1, culprits: 1 });
    assert_eq!(shown(&series), ["victim-3"]);
    assert_eq!(series.rows().next().unwrap().1.blame().count(), 1);
}

#[test]
fn ten_thousand_victims_and_culprits_keep_a_flat_count() {
    let mut series = series(50, 10);
    let count =
        |series: &Series| -> usize { series.rows().map(|(_, row)| 1 + row.blame().count()).sum() };
    let mut counts = Vec::new();
    for period in 0..100 {
        let some = (0..100).map(|n| observed(period * 100 + n, 1.0, &[(period * 100 + n, 0.5)]));
        let busy = (0..50).map(|n| observed(n, 1.0, &[(period * 100 + n, 0.5)]));
        series.update(10.0 * (period + 1) as f64, some.chain(busy));
        counts.push(count(&series));
    }
    let most: usize = 51 * (1 + 10 + Op::ALL.len());
    assert!(counts.iter().all(|count| *count <= most), "{counts:?}");
}

/// The sums are what `tracer why` reports for the same period.
#[test]
fn a_picture_becomes_the_sums_of_its_verdicts() {
    let snapshot = fixture::trimmed();
    let wal = Observed::of(&snapshot.victims[0]);
    let verdict = &snapshot.victims[0].verdict;
    assert_eq!((wal.labels.file_class, wal.labels.device.as_str()), ("wal", "vda1"));
    assert_eq!(wal.sums.seconds(), snapshot.victims[0].phases.total());
    let parts: f64 = wal.sums.causes.iter().sum();
    assert!((parts - verdict.excess_seconds).abs() < 1e-9);
    let cause = |cause| verdict.shares.named().iter().position(|(name, _)| *name == cause);
    let own = wal.sums.causes[cause("self").unwrap()];
    assert!((own - verdict.excess_seconds * verdict.shares.own).abs() < 1e-9);
    let blame: Vec<_> = wal.blame.iter().map(|(l, s)| (l.actor.comm.as_str(), l.op, *s)).collect();
    let said =
        verdict.culprits.iter().map(|c| (c.actor.comm.as_str(), c.op.name(), c.wait_seconds));
    assert_eq!(blame, said.collect::<Vec<_>>());
    assert_eq!(wal.present.kind, "owners");
}

/// It is seen by the verdict of each period in which it has not ended, and counted in the one in
/// which it ends.
#[test]
fn a_sync_that_has_not_ended_is_in_the_verdict_and_in_no_sum() {
    let mut waiting = fixture::trimmed().victims.swap_remove(0);
    let ended = Observed::of(&waiting);
    let (phases, verdict) = (waiting.phases, waiting.verdict.clone());
    waiting.countable = Some(Box::new(Countable { phases, verdict }));
    waiting.phases.0 = waiting.phases.0.map(|seconds| seconds + 7.0);
    waiting.verdict.kind = Kind::Device;
    waiting.verdict.excess_seconds += 7.0;
    waiting.verdict.culprits.clear();
    let seen = Observed::of(&waiting);
    assert_eq!((seen.present.kind, seen.present.excess), ("device", ended.present.excess + 7.0));
    assert_eq!(seen.present.culprit, "");
    assert_eq!(seen.sums.seconds(), ended.sums.seconds());
    assert_eq!(seen.sums.excess, ended.sums.excess);
    assert_eq!(seen.sums.causes, ended.sums.causes);
    let blame = |one: &Observed| one.blame.iter().map(|(_, s)| *s).collect::<Vec<_>>();
    assert!(!blame(&ended).is_empty());
    assert_eq!(blame(&seen), blame(&ended));
}

type Step = Vec<(usize, f64, Vec<(usize, f64)>)>;

fn step() -> impl Strategy<Value = Step> {
    let blame = prop::collection::vec((0usize..6, 0.0f64..5.0), 0..6);
    prop::collection::vec((0usize..8, 0.0f64..10.0, blame), 0..8)
}

/// Every sum by its series.
fn flat(series: &Series) -> HashMap<(VictimLabels, Option<CulpritLabels>), f64> {
    let rows = series.rows().flat_map(|(labels, row)| {
        let blame = row.blame().map(|(culprit, s)| ((labels.clone(), Some(culprit)), s));
        let own = [((labels.clone(), None), row.sums.excess)];
        blame.chain(own).collect::<Vec<_>>()
    });
    rows.collect()
}

proptest! {
    #[test]
    fn sums_never_fall_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..30), victims in 1usize..5, culprits in 1usize..4,
    ) {
        let mut series = series(victims, culprits);
        let (mut excess, mut blamed, mut before) = (0.0, 0.0, HashMap::new());
        for (at, step) in steps.iter().enumerate() {
            series.update(
                10.0 * (at + 1) as f64,
                step.iter().map(|(victim, excess, blame)| observed(*victim, *excess, blame)),
            );
            excess += step.iter().map(|(_, excess, _)| excess).sum::<f64>();
            blamed += step.iter().flat_map(|(_, _, b)| b.iter().map(|(_, s)| s)).sum::<f64>();
            let now = flat(&series);
            for (key, value) in &before {
                prop_assert!(now.get(key).is_some_and(|now| now >= value), "{key:?}");
            }
            let of_victims: f64 = now.iter().filter(|(k, _)| k.1.is_none()).map(|(_, v)| v).sum();
            let of_culprits: f64 = now.iter().filter(|(k, _)| k.1.is_some()).map(|(_, v)| v).sum();
            prop_assert!((of_victims - excess).abs() < 1e-6, "{of_victims} {excess}");
            prop_assert!((of_culprits - blamed).abs() < 1e-6, "{of_culprits} {blamed}");
            let rows: Vec<_> = series.rows().collect();
            prop_assert!(rows.len() <= victims + 1);
            for (_, row) in rows {
                prop_assert!(row.blame().count() <= culprits + Op::ALL.len());
            }
            before = now;
        }
    }

    /// A fall is a reset, and only who was idle for long enough has one.
    #[test]
    fn whoever_comes_and_goes_a_sum_falls_only_after_ten_idle_minutes(
        steps in prop::collection::vec((1.0f64..500.0, step()), 1..40),
    ) {
        let mut series = series(3, 2);
        let mut at = 0.0;
        let mut before = HashMap::new();
        let mut seen: HashMap<(String, String), f64> = HashMap::new();
        for (pause, step) in steps {
            at += pause;
            series.update(at, step.iter().map(|(v, e, b)| observed(*v, *e, b)));
            let now = flat(&series);
            for (key, value) in &before {
                let (victim, culprit) = names_of(key);
                // The crowd's culprits come and go with other people's blame.
                let is_crowds = victim == OTHER && !culprit.is_empty() && culprit != OTHER;
                if !is_crowds && now.get(key).is_some_and(|now| now < value) {
                    // A victim's others live as long as itself.
                    let alone = (victim.clone(), String::new());
                    let last_at = seen.get(&(victim, culprit)).or_else(|| seen.get(&alone));
                    let last_at = last_at.copied().unwrap_or(at);
                    prop_assert!(at - last_at >= IDLE_SECONDS, "{key:?}");
                }
            }
            for (victim, _, blame) in &step {
                let victim = format!("victim-{victim}");
                seen.insert((victim.clone(), String::new()), at);
                for (culprit, _) in blame {
                    seen.insert((victim.clone(), format!("culprit-{culprit}")), at);
                }
            }
            before = now;
        }
    }
}

fn names_of(key: &(VictimLabels, Option<CulpritLabels>)) -> (String, String) {
    let culprit = key.1.as_ref().map(|culprit| culprit.actor.name.clone());
    (key.0.actor.name.clone(), culprit.unwrap_or_default())
}

#[test]
fn a_pod_and_a_virtual_machine_have_labels_of_their_own() {
    let text = |text: &str| Some(text.to_owned());
    let workload = Workload {
        name: "shop/web-0".to_owned(),
        namespace: text("shop"),
        pod: text("web-0"),
        vm: text("v".repeat(10_000).as_str()),
        ..Workload::default()
    };
    let actor = Actor { comm: "dd".to_owned(), workload: Some(workload), ..Actor::default() };
    let labels = labels_of(&actor);
    assert_eq!((labels.namespace.as_str(), labels.pod.as_str()), ("shop", "web-0"));
    assert!(labels.vm.len() < 256, "{}", labels.vm.len());
    assert_eq!(labels_of(&Actor::default()).pod, "");
}
