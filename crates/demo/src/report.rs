//! The demo's findings: the tracer's answer about each act, and whether it was right.

use std::io::{self, Write};

use serde::Serialize;

use tracer::output::{names, text, units};
use tracer_engine::verdict::{are_slow, is_slow_tail};
use tracer_lab::histogram::Histogram;
use tracer_snapshot::{Actor, DroppedCounts, Op, SCHEMA};

use crate::act::Act;

/// One culprit's part in an act.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    pub actor: Actor,
    pub op: Op,
    pub seconds: f64,
    pub share: f64,
}

/// The tracer's account of the WAL during one act.
#[derive(Clone, Debug, Serialize)]
pub struct ActReport {
    pub act: Act,
    pub seconds: f64,
    pub syncs: u64,
    /// The sum of the durations of all syncs.
    pub sync_seconds: f64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub max_seconds: f64,
    /// The p99 of undisturbed syncs, as far as it was known at the end.
    pub undisturbed_p99_seconds: Option<f64>,
    /// Beyond the baseline, and its parts.
    pub excess_seconds: f64,
    pub device_alone_share: f64,
    pub self_share: f64,
    pub blame: Vec<Part>,
}

impl ActReport {
    /// Whether the WAL was slower than its own baseline at all.
    fn is_slow(&self) -> bool {
        are_slow(self.excess_seconds, self.sync_seconds, || {
            is_slow_tail(self.syncs, self.p99_seconds, self.undisturbed_p99_seconds)
        })
    }

    /// The culprit that the tracer names.
    fn culprit(&self) -> Option<&Part> {
        let first = self.blame.first()?;
        (self.is_slow() && first.share >= self.device_alone_share.max(self.self_share))
            .then_some(first)
    }

    fn expected(&self) -> Option<&'static [&'static str]> {
        match self.act {
            Act::Quiet | Act::Rest => None,
            Act::Trim => Some(&["fstrim"]),
            Act::Tenant => Some(&["fio", "dd"]),
        }
    }
}

/// Counts of WAL syncs per bucket, by etcd and by us.
#[derive(Clone, Debug, Serialize)]
pub struct Wal {
    /// Upper bounds in seconds; the last bucket has none.
    pub bounds_seconds: Vec<f64>,
    pub etcd: Vec<u64>,
    pub tracer: Vec<u64>,
}

impl Wal {
    pub fn new(theirs: &Histogram, tracer: Vec<u64>) -> Self {
        let mut below = 0;
        let mut etcd = Vec::new();
        let mut bounds_seconds = Vec::new();
        for (bound, cumulative) in &theirs.buckets {
            etcd.push(cumulative.saturating_sub(below));
            below = *cumulative;
            if bound.is_finite() {
                bounds_seconds.push(*bound);
            }
        }
        Self { bounds_seconds, etcd, tracer }
    }
}

/// All findings; this is also the JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    schema: u32,
    acts: Vec<ActReport>,
    wal: Option<Wal>,
    dropped: DroppedCounts,
    right: bool,
}

impl Findings {
    pub fn new(acts: Vec<ActReport>, wal: Option<Wal>, dropped: DroppedCounts) -> Self {
        let mut findings = Self { schema: SCHEMA, acts, wal, dropped, right: false };
        findings.right = findings.mistakes().is_empty();
        findings
    }

    /// Lists the acts in which the tracer named an actor other than the real culprit.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for act in &self.acts {
            let named = act.culprit().map(|part| part.actor.comm.as_str());
            let right = match (act.expected(), named) {
                (None, None) => true,
                (Some(culprit), Some(named)) => culprit.contains(&named),
                _ => false,
            };
            if !right {
                let named = named.unwrap_or("nobody");
                mistakes.push(format!("in \"{}\" it named {named}", act.act.title()));
            }
        }
        mistakes
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out)?;
        writeln!(
            out,
            "{:<30} {:>6} {:>9} {:>9} {:>9}  WHO MADE THE WAL WAIT",
            "ACT", "SYNCS", "P50", "P99", "MAX"
        )?;
        for act in &self.acts {
            let actor = match act.culprit() {
                Some(part) => {
                    let share = units::percent(part.share);
                    format!("{} {}: {share} of its wait", names::actor(&part.actor), part.op.name())
                }
                None if act.is_slow() => "nobody on this node: the device itself".to_owned(),
                None => "nobody".to_owned(),
            };
            writeln!(
                out,
                "{:<30} {:>6} {:>9} {:>9} {:>9}  {actor}",
                act.act.title(),
                act.syncs,
                units::duration(act.p50_seconds),
                units::duration(act.p99_seconds),
                units::duration(act.max_seconds),
            )?;
        }
        writeln!(out)?;
        self.write_verdict(out)?;
        if let Some(wal) = &self.wal {
            write_wal(out, wal)?;
        }
        writeln!(out, "{}", text::dropped(&self.dropped))
    }

    fn write_verdict(&self, out: &mut impl Write) -> io::Result<()> {
        let quiet = self.acts.iter().find(|a| a.act == Act::Quiet);
        for act in self.acts.iter().filter(|a| a.expected().is_some()) {
            let (Some(part), Some(quiet)) = (act.culprit(), quiet) else { continue };
            writeln!(
                out,
                "verdict: {} makes the WAL slow: p99 {} with it, {} without; {} of {} beyond \
                 the baseline is its {}, {} the device's own, {} the victim's other work.",
                names::actor(&part.actor),
                units::duration(act.p99_seconds),
                units::duration(quiet.p99_seconds),
                units::percent(part.share),
                units::duration(act.excess_seconds),
                part.op.name(),
                units::percent(act.device_alone_share),
                units::percent(act.self_share),
            )?;
        }
        writeln!(out)
    }
}

fn write_wal(out: &mut impl Write, wal: &Wal) -> io::Result<()> {
    writeln!(out, "WAL syncs by latency, counted by etcd itself and by the tracer:")?;
    writeln!(out, "{:>12} {:>8} {:>8}", "UP TO", "ETCD", "TRACER")?;
    let rows = wal.etcd.len().max(wal.tracer.len());
    for row in 0..rows {
        let count = |counts: &[u64]| counts.get(row).copied().unwrap_or(0);
        let (etcd, tracer) = (count(&wal.etcd), count(&wal.tracer));
        if etcd == 0 && tracer == 0 {
            continue;
        }
        let bound = wal.bounds_seconds.get(row).map_or("more".to_owned(), |b| units::duration(*b));
        writeln!(out, "{bound:>12} {etcd:>8} {tracer:>8}")?;
    }
    writeln!(
        out,
        "{:>12} {:>8} {:>8}\n",
        "all",
        wal.etcd.iter().sum::<u64>(),
        wal.tracer.iter().sum::<u64>()
    )
}
