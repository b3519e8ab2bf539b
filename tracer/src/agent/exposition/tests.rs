use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    agent::{
        disk_series::{DiskLimits, DiskSeries, Pattern},
        families::{AgentState, down, families},
        series::{Limits, Observed, Series},
        shared::Shared,
    },
    filter::Filter,
    output::fixture,
    session::AroundDisks,
};
use tracer_kernel::program::Program;
use tracer_scene::metrics::Metrics;
use tracer_snapshot::{Actor, Disk, Latency, Op, Snapshot, Spread, Victim};

/// One line of a sample, taken apart.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: String,
}

/// A strict reader of what both formats share; anything odd is an error.
fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    for line in text.split_terminator('\n') {
        if line.starts_with("# ") {
            continue;
        }
        samples.push(parse_line(line).ok_or_else(|| format!("not a sample: {line:?}"))?);
    }
    Ok(samples)
}

fn parse_line(line: &str) -> Option<Sample> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !is_name(c))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            label.chars().all(is_name).then_some(())?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let closed = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((label.to_owned(), value));
            let after = &after[closed + 1..];
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    value.parse::<f64>().ok()?;
    Some(Sample { name: name.to_owned(), labels, value: value.to_owned() })
}

fn spread() -> Spread {
    Spread { count: 12, cumulative: (1..=11).collect(), seconds: 0.5 }
}

fn exported(s: &Snapshot, limits: Limits) -> Vec<MetricFamily> {
    exported_of(s, limits, &[])
}

fn exported_of(s: &Snapshot, limits: Limits, wanted: &[&str]) -> Vec<MetricFamily> {
    let mut series = Series::new(limits);
    series.update(10.0, s.victims.iter().map(Observed::of));
    let (include, exclude) = (Pattern::default(), Pattern::usually_excluded());
    let mut disks = DiskSeries::new(DiskLimits { disks: 64, include, exclude });
    disks.update(10.0, &s.disks, &AroundDisks::default());
    let metrics = Metrics::new().unwrap();
    metrics.set_unsupported(["io_uring"].into_iter());
    metrics.set_unproven(&["disk_late", "hook_silent"], Some("disk_late"));
    let agent = AgentState {
        own: metrics.families(),
        programs: vec![(Program::BlockRqIssue, 12, 3400)],
        kernel_memory_bytes: 8 << 20,
        metrics: wanted.iter().map(|glob| glob.parse().unwrap()).collect(),
        refused: Shared::new(1).refused().to_vec(),
        ..AgentState::default()
    };
    families(&series, &disks, s, &agent)
}

const LIMITS: Limits = Limits { victims: 50, culprits: 10 };

fn with_latencies(mut s: Snapshot) -> Snapshot {
    s.disks[0].latencies = vec![Latency {
        op: Op::Write,
        count: 12,
        queue_p50_seconds: 0.0,
        queue_p99_seconds: 0.0,
        device_p50_seconds: 0.0,
        device_p99_seconds: 0.0,
        bytes_total: 4096,
        queue: spread(),
        device: spread(),
    }];
    s.victims[0].sync_buckets = (1..=20).collect();
    s.kernel.strategies = vec![("sync".into(), "tracepoint".into())];
    s.hanging = vec![fixture::hanging()];
    s
}

#[test]
fn families_are_served_by_pattern_and_those_that_say_how_the_tracer_is_always() {
    let mut shown = with_latencies(fixture::trimmed());
    let victim = "etcd*".parse().unwrap();
    Filter::of_agent(&[], &[], &[victim]).narrow(&mut shown);
    let families = exported_of(&shown, LIMITS, &["tracer_blame*", "*_excess_seconds_total"]);
    let names: Vec<_> = families.iter().map(MetricFamily::name).collect();
    let expected = [
        "tracer_blame_seconds_total",
        "tracer_build_info",
        "tracer_dropped_total",
        "tracer_filter_info",
        "tracer_filtered_victims",
        "tracer_sync_excess_seconds_total",
        "tracer_unproven",
        "tracer_up",
    ];
    assert_eq!(names, expected);
    let text = Format::Text.write(&families, &Exemplars::default()).unwrap();
    let said = "tracer_filter_info{victims=\"victim etcd*\",\
                metrics=\"tracer_blame* or *_excess_seconds_total\"} 1";
    assert!(text.lines().any(|line| line == said), "{text}");
    assert!(text.contains("\ntracer_filtered_victims 1\n"), "{text}");
    // The culprit has another name, and is blamed all the same.
    assert!(text.contains("culprit_comm=\"fstrim\""), "{text}");
    let whole = exported(&fixture::trimmed(), LIMITS);
    assert!(whole.iter().all(|family| family.name() != "tracer_filter_info"));
}

/// Dashboards, rules and alerts are held to the page by `tests/src/deploy`.
#[test]
fn the_page_lists_the_metrics_that_are_served() {
    let mut shown = with_latencies(fixture::trimmed());
    Filter::of_agent(&[], &[], &["*".parse().unwrap()]).narrow(&mut shown);
    let mut families = exported(&shown, LIMITS);
    families.extend(down("kernel"));
    let served: BTreeSet<_> = families.iter().map(|family| family.name().to_owned()).collect();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `tracer_"));
    let listed = rows.map(|row| format!("tracer_{}", row.split('`').next().unwrap()));
    assert_eq!(listed.collect::<BTreeSet<_>>(), served);
}

#[test]
fn both_formats_say_the_same() {
    let families = exported(&with_latencies(fixture::trimmed()), LIMITS);
    let text = parse(&Format::Text.write(&families, &Exemplars::default()).unwrap()).unwrap();
    let open =
        parse(&Format::OpenMetrics.write(&families, &Exemplars::default()).unwrap()).unwrap();
    // They spell a bound of one second differently.
    let values = |samples: &[Sample]| -> BTreeMap<_, _> {
        let one = samples.iter().map(|s| {
            let labels: Vec<_> = s
                .labels
                .iter()
                .map(|(name, value)| match value.parse::<f64>() {
                    Ok(bound) if name == "le" => (name.clone(), bound.to_string()),
                    _ => (name.clone(), value.clone()),
                })
                .collect();
            ((s.name.clone(), labels), s.value.parse::<f64>().unwrap().to_string())
        });
        one.collect()
    };
    assert_eq!(values(&text), values(&open));
}

#[test]
fn the_contract_is_kept() {
    let families = exported(&with_latencies(fixture::trimmed()), LIMITS);
    let text = Format::Text.write(&families, &Exemplars::default()).unwrap();
    for line in [
        "tracer_sync_duration_seconds_bucket{victim=\"etcd (etcd.service)\",comm=\"etcd\",\
         file_class=\"wal\",device=\"vda1\",le=\"0.000125\"} 1\n",
        "file_class=\"wal\",device=\"vda1\",le=\"0.025\"} 55\n",
        "file_class=\"wal\",device=\"vda1\",le=\"+Inf\"} 210\n",
        "device=\"vda1\",culprit=\"fstrim (demo-trim.service)\",culprit_comm=\"fstrim\",\
         op=\"discard\"} 10.04",
        "device=\"vda1\",kind=\"owners\",culprit=\"fstrim (demo-trim.service)\",op=\"discard\",\
         confidence=\"high\"} 1\n",
        "device=\"vda1\",cause=\"self\"} 0.05\n",
        "tracer_sync_undisturbed_p99_seconds{victim=\"etcd (etcd.service)\",comm=\"etcd\",\
         file_class=\"wal\",device=\"vda1\"} 0.0021\n",
        "tracer_block_request_duration_seconds_bucket{disk=\"vda\",op=\"write\",stage=\"queue\",\
         le=\"0.001\"} 4\n",
        "tracer_block_requests_in_flight{disk=\"vda\"} 4\n",
        "tracer_block_bytes_total{disk=\"vda\",op=\"write\"} 4096\n",
        "tracer_dropped_total{kind=\"ring_full\"} 0\n",
        "tracer_capability_info{capability=\"sync\",strategy=\"tracepoint\"} 1\n",
        "tracer_program_run_seconds_total{program=\"block_rq_issue\"} 0.0000034\n",
        "tracer_config_reload_failures_total 0\n",
        "tracer_kernel_memory_bytes 8388608\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    // An attribute that is absent has no label.
    assert!(!text.contains("=\"\""), "{text}");
}

/// Nobody is blamed, so the sum of the culprits' shares is that of no numbers.
#[test]
fn a_share_of_nothing_is_zero_and_not_minus_zero() {
    let mut s = fixture::trimmed();
    s.victims[0].verdict.shares.owners = [0.0; 0].iter().sum::<f64>() / 3.0;
    assert!(s.victims[0].verdict.shares.owners.is_sign_negative());
    let families = exported(&s, LIMITS);
    for format in [Format::Text, Format::OpenMetrics] {
        let text = format.write(&families, &Exemplars::default()).unwrap();
        assert!(text.contains(",cause=\"owners\"} 0\n"), "{text}");
        assert!(!text.contains(" -0\n"), "{text}");
    }
}

#[test]
fn open_metrics_has_its_own_names_units_and_end() {
    let families = exported(&with_latencies(fixture::trimmed()), LIMITS);
    let open = Format::OpenMetrics.write(&families, &Exemplars::default()).unwrap();
    for line in [
        "# TYPE tracer_blame_seconds counter\n# UNIT tracer_blame_seconds seconds\n\
         # HELP tracer_blame_seconds ",
        "# TYPE tracer_sync_duration_seconds histogram\n",
        "# TYPE tracer_dropped counter\n",
        "# TYPE tracer_verdict_info gauge\n",
        "le=\"1.024\"} ",
        "tracer_dropped_total{kind=\"ring_full\"} 0\n",
    ] {
        assert!(open.contains(line), "{line}\nis not in\n{open}");
    }
    assert!(open.ends_with("\n# EOF\n"));
    assert_eq!(open.matches("# EOF").count(), 1);
}

#[test]
fn no_series_is_there_twice_and_each_family_once() {
    let families = exported(&with_latencies(fixture::crowd()), LIMITS);
    for format in [Format::Text, Format::OpenMetrics] {
        let text = format.write(&families, &Exemplars::default()).unwrap();
        let samples = parse(&text).unwrap();
        let keys: BTreeSet<_> = samples.iter().map(|s| (&s.name, &s.labels)).collect();
        assert_eq!(keys.len(), samples.len());
        let types: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE ")).collect();
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
    }
}

#[test]
fn a_scraper_gets_the_format_it_likes_best() {
    let check = |accept, format| assert_eq!(Format::wanted(accept), format, "{accept}");
    check("", Format::Text);
    check("*/*", Format::Text);
    check("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text);
    check("application/openmetrics-text", Format::OpenMetrics);
    check("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;q=0.9", Format::Text);
    // Prometheus sends this header.
    check(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        Format::OpenMetrics,
    );
    check("application/openmetrics-text;q=0", Format::Text);
    check(";;;q=,,", Format::Text);
}

/// Sixty victims with twelve culprits each, on 256 disks, with long names.
fn full() -> Snapshot {
    let mut s = with_latencies(fixture::trimmed());
    let victim = s.victims[0].clone();
    let name = |what: &str, n: usize| Actor {
        comm: format!("{what}-{n:03}-comm"),
        cgroup: format!("/kubepods/pod-of-{what}-{n:03}-with-a-long-name"),
        ..Actor::default()
    };
    s.victims = (0..60)
        .map(|n| {
            let mut victim = Victim { actor: name("victim", n), ..victim.clone() };
            let culprit = victim.verdict.culprits[0].clone();
            victim.verdict.culprits = (0..12)
                .map(|n| tracer_snapshot::Culprit { actor: name("culprit", n), ..culprit.clone() })
                .collect();
            victim
        })
        .collect();
    let disk = s.disks[0].clone();
    let latency = disk.latencies[0].clone();
    s.disks = (0..256)
        .map(|n| Disk {
            name: format!("nvme{n}n1"),
            latencies: [Op::Read, Op::Write, Op::Discard, Op::Flush]
                .map(|op| Latency { op, ..latency.clone() })
                .to_vec(),
            ..disk.clone()
        })
        .collect();
    s
}

#[test]
fn a_full_node_is_served_in_less_than_two_megabytes() {
    let began = std::time::Instant::now();
    let families = exported(&full(), LIMITS);
    let made = began.elapsed();
    for format in [Format::Text, Format::OpenMetrics] {
        let began = std::time::Instant::now();
        let text = format.write(&families, &Exemplars::default()).unwrap();
        let lines = text.lines().count();
        println!(
            "{format:?}: {} bytes, {lines} lines, {made:?} + {:?}",
            text.len(),
            began.elapsed()
        );
        assert!(text.len() < 2 << 20, "{format:?}: {} bytes", text.len());
        let samples = parse(&text).unwrap();
        let mut disks: BTreeSet<_> = samples.iter().flat_map(|sample| &sample.labels).collect();
        disks.retain(|(label, _)| label == "disk");
        assert_eq!(disks.len(), 65, "the others are in one more");
        // Each disk's twelve writes are in one of them.
        let is_write = |s: &&Sample| {
            let op = ("op".to_owned(), "write".to_owned());
            s.name == "tracer_block_requests_total" && s.labels.contains(&op)
        };
        let writes = samples.iter().filter(is_write).map(|s| s.value.parse::<f64>().unwrap());
        assert_eq!(writes.sum::<f64>(), 256.0 * 12.0);
        assert!(text.contains("tracer_disks{series=\"other\"} 192\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Newlines, quotes, control characters, what was no UTF-8, 10 kB.
    #[test]
    fn hostile_names_cannot_break_it(
        names in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                prop::collection::vec(any::<u8>(), 0..40)
                    .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                Just("\"} 1\ntracer_evil 1\n# EOF\n\\".to_owned()),
                Just("x\\\"\n".repeat(2500)),
            ],
            6,
        )
    ) {
        let mut s = with_latencies(fixture::trimmed());
        s.victims[0].actor.comm.clone_from(&names[0]);
        s.victims[0].device.clone_from(&names[1]);
        s.victims[1].actor.unit = Some(names[2].clone());
        s.victims[0].verdict.culprits[0].actor.comm.clone_from(&names[3]);
        s.disks[0].name.clone_from(&names[4]);
        s.kernel.release.clone_from(&names[5]);
        let families = exported(&s, LIMITS);
        let plain = exported(&with_latencies(fixture::trimmed()), LIMITS);
        let series = |families: &[MetricFamily]| -> usize {
            families.iter().map(|family| family.get_metric().len()).sum()
        };
        // An empty culprit has no share of the labels, so no more than before.
        prop_assert!(series(&families) <= series(&plain) + 1);
        for format in [Format::Text, Format::OpenMetrics] {
            let text = format.write(&families, &Exemplars::default()).unwrap();
            let samples = parse(&text).map_err(TestCaseError::fail)?;
            for sample in &samples {
                prop_assert!(sample.name.starts_with("tracer_") && sample.name != "tracer_evil");
                for (_, value) in &sample.labels {
                    prop_assert!(value.chars().count() <= 64, "{value:?}");
                    prop_assert!(!value.chars().any(char::is_control), "{value:?}");
                }
            }
        }
    }
}
