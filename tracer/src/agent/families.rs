//! The agent's metrics: from sums and a snapshot to metric families.
//!
//! Names, labels and help texts are here and in `tracer_scene::metrics`; `exposition` knows
//! how they are written. An empty label is left out.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::{
    disk_series::{DiskRow, DiskSeries},
    exposition::{Exemplar, Exemplars},
    series::{COLUMNS, CulpritLabels, OTHER, Row, Series, VictimLabels, labels_of},
    shared::Refusal,
};
use crate::{
    filter::{Glob, is_among},
    output::{escape::bounded, units::unsigned_zero},
};
use tracer_engine::sums::SYNC_BOUNDS_NS;
use tracer_kernel::program::Program;
use tracer_snapshot::{BLOCK_BOUNDS_NS, Phase, Shares, SlowSync, Snapshot, Spread};

/// The values that an agent exports of itself, beside the victims' sums and the snapshot.
#[derive(Clone, Debug, Default)]
pub struct AgentState {
    /// The families of the tracer's own registry.
    pub own: Vec<MetricFamily>,
    /// Runs and nanoseconds of each kernel program.
    pub programs: Vec<(Program, u64, u64)>,
    pub kernel_memory_bytes: u64,
    pub config_reloads: u64,
    pub config_reload_failures: u64,
    /// The patterns of families that are served; none stands for all.
    pub metrics: Vec<Glob>,
    /// Requests and connections that were not served, by why.
    pub refused: Vec<(Refusal, u64)>,
}

/// Families that no pattern leaves out: they show whether the node is traced, and what is
/// not seen.
const ALWAYS: [&str; 6] = [
    "tracer_build_info",
    "tracer_dropped_total",
    "tracer_filter_info",
    "tracer_filtered_victims",
    "tracer_unproven",
    "tracer_up",
];

type Labels = Vec<(&'static str, String)>;

/// Everything that is served at `/metrics`.
pub fn families(
    series: &Series,
    disk_series: &DiskSeries,
    s: &Snapshot,
    agent: &AgentState,
) -> Vec<MetricFamily> {
    let rows: Vec<_> = series.rows().map(|(labels, row)| (victim(&labels), labels, row)).collect();
    let mut all = victims(&rows);
    all.push(under_way(&rows, s));
    all.push(frozen(&rows, s));
    all.extend(disks(disk_series));
    all.extend(itself(s, agent));
    all.extend(agent.own.iter().cloned());
    // A family without series is no family to the encoder.
    all.retain(|family| !family.get_metric().is_empty());
    if !agent.metrics.is_empty() {
        let is_wanted = |name: &str| ALWAYS.contains(&name) || is_among(&agent.metrics, name);
        all.retain(|family| is_wanted(family.name()));
    }
    all.sort_by(|a, b| a.name().cmp(b.name()));
    all
}

/// All that is served where a node cannot be traced.
pub fn down(reason: &str) -> Vec<MetricFamily> {
    let labels = |name, value: &str| vec![(name, value.to_owned())];
    vec![
        gauges(
            "tracer_build_info",
            BUILD_INFO,
            [(labels("version", env!("CARGO_PKG_VERSION")), 1.0)],
        ),
        gauges(
            "tracer_cannot_run_info",
            "1 if this node cannot be traced, with the step at which startup failed.",
            [(labels("reason", reason), 1.0)],
        ),
        up(0.0),
    ]
}

const BUILD_INFO: &str = "1, with the version and the kernel.";

fn up(value: f64) -> MetricFamily {
    let help = "1 while this node is traced, 0 if it cannot be.";
    gauges("tracer_up", help, [(Labels::new(), value)])
}

type Rows<'a> = [(Labels, VictimLabels, &'a Row)];

fn victims(rows: &Rows<'_>) -> Vec<MetricFamily> {
    let with = |labels: &Labels, more: Labels| [labels.clone(), more].concat();
    let phases = rows.iter().flat_map(|(labels, _, row)| {
        Phase::ALL.into_iter().zip(row.sums.phases).map(move |(phase, seconds)| {
            (with(labels, vec![("phase", phase.name().to_owned())]), seconds)
        })
    });
    let causes = rows.iter().flat_map(|(labels, _, row)| {
        let names = Shares::default().named().map(|(cause, _)| cause);
        names
            .into_iter()
            .zip(row.sums.causes)
            .map(move |(cause, seconds)| (with(labels, vec![("cause", cause.to_owned())]), seconds))
    });
    let blame = rows.iter().flat_map(|(labels, _, row)| {
        row.blame().map(move |(actor, seconds)| (with(labels, culprit(actor)), seconds))
    });
    let present = rows.iter().filter_map(|(labels, _, row)| Some((labels, row.present.as_ref()?)));
    let verdicts = present.clone().map(|(labels, present)| {
        let verdict = vec![
            ("kind", present.kind.to_owned()),
            ("culprit", present.culprit.clone()),
            ("op", present.op.to_owned()),
            ("confidence", present.confidence.to_owned()),
        ];
        (with(labels, verdict), 1.0)
    });
    let shares = present.flat_map(|(labels, present)| {
        let causes = present.shares.named();
        causes.map(|(cause, share)| (with(labels, vec![("cause", cause.to_owned())]), share))
    });
    let undisturbed = rows
        .iter()
        .filter_map(|(labels, _, row)| Some((labels.clone(), row.undisturbed_p99_seconds?)));
    let excess = rows.iter().map(|(labels, _, row)| (labels.clone(), row.sums.excess));
    vec![
        sync_durations(rows),
        counters(
            "tracer_sync_phase_seconds_total",
            "Seconds of syncs by phase; the phases add up to the syncs' duration.",
            phases,
        ),
        counters(
            "tracer_sync_excess_seconds_total",
            "Seconds by which syncs exceeded the victim's own baseline, and waited for a CPU.",
            excess,
        ),
        counters(
            "tracer_blame_seconds_total",
            "Seconds that a victim waited because of a culprit, by the culprit's operation.",
            blame,
        ),
        counters(
            "tracer_sync_excess_by_cause_seconds_total",
            "Seconds of excess by the cause that the verdicts named.",
            causes,
        ),
        gauges(
            "tracer_sync_undisturbed_p99_seconds",
            "99th percentile of the victim's undisturbed syncs.",
            undisturbed,
        ),
        gauges(
            "tracer_verdict_info",
            "1 for each victim of the last period, labelled with its verdict.",
            verdicts,
        ),
        gauges(
            "tracer_verdict_cause_ratio",
            "A cause's share of the excess in the last period, 0 to 1.",
            shares,
        ),
    ]
}

/// The oldest sync of each victim that has not ended: 0 for those that have series,
/// and the age of those that hang, of which the session keeps a few.
fn under_way(rows: &Rows<'_>, s: &Snapshot) -> MetricFamily {
    let mut oldest: BTreeMap<_, _> =
        rows.iter().map(|(_, labels, _)| (labels.clone(), 0.0)).collect();
    for one in &s.hanging {
        let labels = VictimLabels {
            actor: labels_of(&one.actor),
            file_class: one.class.name(),
            device: bounded(&one.device, COLUMNS).into_owned(),
        };
        let seconds = oldest.entry(labels).or_insert(0.0_f64);
        *seconds = one.seconds.max(*seconds);
    }
    gauges(
        "tracer_sync_under_way_seconds",
        "Age of a victim's oldest sync that has not ended, once it is 1 s old; otherwise 0.",
        oldest.iter().map(|(labels, seconds)| (victim(labels), *seconds)),
    )
}

/// For how long each victim's filesystem has been frozen while it waits to write there: 0 for those
/// that do not.
fn frozen(rows: &Rows<'_>, s: &Snapshot) -> MetricFamily {
    let waiting: Vec<_> = s
        .frozen
        .iter()
        .map(|one| (labels_of(&one.actor), bounded(&one.device, COLUMNS), one.seconds))
        .collect();
    let seconds = |labels: &VictimLabels| {
        let its = waiting.iter().filter(|(actor, device, _)| {
            (actor, &**device) == (&labels.actor, labels.device.as_str())
        });
        its.map(|one| one.2).fold(0.0, f64::max)
    };
    gauges(
        "tracer_frozen_seconds",
        "For how long the filesystem that a victim waits to write to has been frozen; otherwise 0.",
        rows.iter().map(|(names, labels, _)| (names.clone(), seconds(labels))),
    )
}

/// Slow syncs by the series that they are counted in, the latest first.
pub fn exemplars<'a>(syncs: impl Iterator<Item = (u64, &'a SlowSync)>) -> Exemplars {
    let mut exemplars = Exemplars::default();
    for (id, sync) in syncs {
        let labels = VictimLabels {
            actor: labels_of(&sync.actor),
            file_class: sync.class.name(),
            device: bounded(&sync.device, COLUMNS).into_owned(),
        };
        let labels = victim(&labels).into_iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.to_owned(), value)).collect();
        let seconds = sync.duration_seconds;
        exemplars.push(labels, Exemplar { id, seconds, at: sync.at + seconds });
    }
    exemplars
}

fn victim(labels: &VictimLabels) -> Labels {
    vec![
        ("victim", labels.actor.name.clone()),
        ("comm", labels.actor.comm.clone()),
        ("file_class", labels.file_class.to_owned()),
        ("device", labels.device.clone()),
        ("namespace", labels.actor.namespace.clone()),
        ("pod", labels.actor.pod.clone()),
        ("vm", labels.actor.vm.clone()),
    ]
}

fn culprit(labels: CulpritLabels) -> Labels {
    vec![
        ("culprit", labels.actor.name),
        ("culprit_comm", labels.actor.comm),
        ("op", labels.op.to_owned()),
        ("culprit_namespace", labels.actor.namespace),
        ("culprit_pod", labels.actor.pod),
        ("culprit_vm", labels.actor.vm),
    ]
}

fn sync_durations(rows: &Rows<'_>) -> MetricFamily {
    let metrics = rows.iter().map(|(labels, _, row)| {
        let mut sum = 0;
        let mut cumulative = row.sums.buckets.iter().map(|count| {
            sum += count;
            sum
        });
        let bounds: Vec<_> = SYNC_BOUNDS_NS.into_iter().zip(cumulative.by_ref()).collect();
        let all = cumulative.last().unwrap_or(0);
        histogram(labels.clone(), &bounds, all, row.sums.seconds())
    });
    family(
        "tracer_sync_duration_seconds",
        "Duration of syncs, from entering the system call to leaving it.",
        MetricType::HISTOGRAM,
        metrics.collect(),
    )
}

fn disks(series: &DiskSeries) -> Vec<MetricFamily> {
    let own = series.rows().map(|(name, row)| (bounded(name, COLUMNS).into_owned(), row));
    let crowd = series.crowd().map(|row| (OTHER.to_owned(), row));
    let rows: Vec<(String, &DiskRow)> = own.chain(crowd).collect();
    let classes = || {
        rows.iter().flat_map(|(name, row)| {
            let labels = |op: &str| vec![("disk", name.clone()), ("op", op.to_owned())];
            row.requests.iter().map(move |(op, requests)| (labels(op), requests))
        })
    };
    let durations = classes().flat_map(|(labels, requests)| {
        [("queue", &requests.queue), ("device", &requests.device)].map(|(stage, spread)| {
            let Spread { count, cumulative, seconds } = spread;
            let bounds: Vec<_> =
                BLOCK_BOUNDS_NS.into_iter().zip(cumulative.iter().copied()).collect();
            let labels = [labels.clone(), vec![("stage", stage.to_owned())]].concat();
            histogram(labels, &bounds, *count, *seconds)
        })
    });
    let by_series =
        |(series, disks): (&str, usize)| (vec![("series", series.to_owned())], disks as f64);
    vec![
        family(
            "tracer_block_request_duration_seconds",
            "Time that block requests waited for the driver (queue) and were served (device); \
             the sum is accurate to 3 %.",
            MetricType::HISTOGRAM,
            durations.collect(),
        ),
        gauges(
            "tracer_block_requests_in_flight",
            "Block requests in flight now.",
            rows.iter().map(|(name, row)| (vec![("disk", name.clone())], row.in_flight as f64)),
        ),
        counters(
            "tracer_block_requests_total",
            "Block requests completed.",
            classes().map(|(labels, requests)| (labels, requests.count as f64)),
        ),
        counters(
            "tracer_block_bytes_total",
            "Bytes of block requests completed.",
            classes().map(|(labels, requests)| (labels, requests.bytes as f64)),
        ),
        gauges(
            "tracer_disks",
            "Disks with their own series, those summed up in `other`, and those excluded by \
             a pattern (none).",
            series.disks().map(by_series),
        ),
    ]
}

fn itself(s: &Snapshot, agent: &AgentState) -> Vec<MetricFamily> {
    let none = Labels::new;
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", bounded(&s.kernel.release, COLUMNS).into_owned()),
    ];
    let strategies = s.kernel.strategies.iter().map(|(capability, strategy)| {
        (vec![("capability", capability.clone()), ("strategy", strategy.clone())], 1.0)
    });
    // All are zero while the kernel does not count them.
    let counted = agent.programs.iter().any(|(_, runs, _)| *runs > 0);
    let programs = agent.programs.iter().filter(move |_| counted);
    let program = |program: Program| vec![("program", program.name().to_owned())];
    vec![
        up(1.0),
        gauges("tracer_build_info", BUILD_INFO, [(build, 1.0)]),
        gauges(
            "tracer_capability_info",
            "1 for each capability, labelled with the selected attach strategy.",
            strategies,
        ),
        gauges(
            "tracer_filter_info",
            "1 where a filter leaves out victims or metrics, with what is shown.",
            filter_labels(s, &agent.metrics).map(|labels| (labels, 1.0)),
        ),
        gauges(
            "tracer_filtered_victims",
            "Victims of the last period that a filter left out.",
            [(none(), s.filter.as_ref().map_or(0.0, |filter| filter.victims_left_out as f64))],
        ),
        gauges(
            "tracer_victims",
            "Victims that synced in the last period.",
            [(none(), s.victims.len() as f64)],
        ),
        gauges(
            "tracer_owners",
            "Owners of block requests in the last second, on all disks.",
            [(none(), s.disks.iter().map(|d| d.owners.len()).sum::<usize>() as f64)],
        ),
        gauges(
            "tracer_kernel_memory_bytes",
            "Kernel memory used by the tracer's tables.",
            [(none(), agent.kernel_memory_bytes as f64)],
        ),
        counters(
            "tracer_program_run_seconds_total",
            "Run time of the kernel programs; 0 unless the kernel's BPF statistics are on.",
            programs.clone().map(|(of, _, ns)| (program(*of), *ns as f64 / 1e9)),
        ),
        counters(
            "tracer_program_runs_total",
            "Runs of the kernel programs; 0 unless the kernel's BPF statistics are on.",
            programs.map(|(of, runs, _)| (program(*of), *runs as f64)),
        ),
        counters(
            "tracer_config_reloads_total",
            "Successful reloads of the configuration file.",
            [(none(), agent.config_reloads as f64)],
        ),
        counters(
            "tracer_config_reload_failures_total",
            "Failed reloads of the configuration file; the old configuration stays in force.",
            [(none(), agent.config_reload_failures as f64)],
        ),
        counters(
            "tracer_http_refused_total",
            "Requests and connections that were refused, by reason.",
            agent
                .refused
                .iter()
                .map(|(why, count)| (vec![("reason", why.name().to_owned())], *count as f64)),
        ),
    ]
}

/// Says what is shown, as labels; `None` where that is everything.
fn filter_labels(s: &Snapshot, metrics: &[Glob]) -> Option<Labels> {
    let victims = s.filter.as_ref().map(|filter| filter.only.as_str()).unwrap_or_default();
    let metrics: Vec<_> = metrics.iter().map(ToString::to_string).collect();
    let metrics = metrics.join(" or ");
    let cut = |text: &str| bounded(text, 2 * COLUMNS).into_owned();
    let is_filtered = !victims.is_empty() || !metrics.is_empty();
    is_filtered.then(|| vec![("victims", cut(victims)), ("metrics", cut(&metrics))])
}

fn counters(
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, f64)>,
) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(unsigned_zero(value));
        let mut metric = metric(labels);
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, metrics.collect())
}

fn gauges(name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(unsigned_zero(value));
        let mut metric = metric(labels);
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

fn histogram(labels: Labels, bounds: &[(u64, u64)], all: u64, seconds: f64) -> Metric {
    let buckets = bounds.iter().map(|(bound_ns, cumulative)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound_ns as f64 / 1e9);
        bucket.set_cumulative_count(*cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(all);
    histogram.set_sample_sum(unsigned_zero(seconds));
    let mut metric = metric(labels);
    metric.set_histogram(histogram);
    metric
}

fn metric(labels: Labels) -> Metric {
    let pairs = labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    Metric::from_label(pairs.collect())
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
