//! A real Prometheus scrapes a real agent that watches an etcd under a real
//! `fstrim`, with the rules of `deploy`, and is asked what Grafana would ask.
//!
//! The files in `deploy` and the documentation's table depend on names, and on how values
//! change between the agent and a query. Only a test of the whole path shows both.

/// Every query of a dashboard.
mod drawing;
mod panels;
/// A running Prometheus.
mod server;
/// The documentation's table, compared with what is served.
mod table;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};
use serde_json::Value;
use tracer_lab::{
    disk::Filesystem,
    etcd::{Etcd, WAL_FSYNC},
    histogram::Histogram,
    puts::Puts,
};

use self::server::{INTERVAL, Prometheus};
use super::{
    agent::{config, lint},
    scenarios::{
        culprits::{make_due, trim},
        need_stage,
        stage::cgroup,
    },
    served::Agent,
};
use crate::{
    deploy::{find_program, rules, run},
    simulated::SimulatedDisk,
    skip::skip,
};

/// The agent's period; its values change once per period.
const PERIOD: Duration = Duration::from_secs(2);
/// After this time Prometheus has all earlier values: it covers a period, a scrape and an
/// answer.
const SETTLED: Duration = Duration::from_secs(5);
/// The time in which the victim gets a baseline.
const UNDISTURBED: Duration = Duration::from_secs(8);
/// The rules' five minutes are 15 s here, and ask for 5 ms of waiting in each.
const TRIMMING: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(25);

/// Our account of etcd's WAL.
const OURS: &str = "tracer_sync_duration_seconds";
const OF_WAL: &str = r#"{comm="etcd",file_class="wal"}"#;

#[test]
fn dashboards_alerts_and_the_table_hold_for_a_real_prometheus() {
    need_stage!();
    let (Some(program), Some(mut promtool)) =
        (find_program("prometheus"), find_program("promtool"))
    else {
        skip!("`prometheus` is not installed: `cargo xtask setup` installs it");
    };
    // While this is held, the kernel counts the run time of its programs.
    let _counted = enable_stats(Stats::RunTime).expect("this kernel can count runs");
    let disk = SimulatedDisk::create(Filesystem::Ext4).expect("a simulated disk");
    let etcd = Etcd::start(&disk.mountpoint().join("etcd"), &cgroup("etcd")).expect("etcd runs");
    let config = config(PERIOD);
    let agent = Agent::start(config.path());
    let (of_agent, of_etcd) = (agent.address.to_string(), etcd.client());
    let of_etcd = of_etcd.url().trim_start_matches("http://");
    let targets = [("tracer", of_agent.as_str()), ("etcd", of_etcd)];
    let prometheus = Prometheus::start(program, &targets, &cgroup("prometheus"));
    run(promtool.current_dir(prometheus.folder()).args(["check", "rules"]).args(rules::FILES));

    sleep(SETTLED);
    let before = [prometheus.histogram(OURS, OF_WAL), prometheus.histogram(WAL_FSYNC, "")];
    let puts = Puts::start(&etcd, 100, 4).expect("clients run");
    sleep(UNDISTURBED);
    let [culprit, slow] = trim_until_blamed(&disk, &prometheus);
    println!("{culprit:#}\n{slow:#}");

    let find_faults =
        || [panels::find_faults(&prometheus), table::find_faults(&prometheus, "tracer")].concat();
    let mut faults = find_faults();
    if !faults.is_empty() {
        // A scrape that took too long leaves a gap until the next one.
        println!("asked again, for {faults:#?}");
        sleep(PERIOD);
        faults = find_faults();
    }
    assert!(faults.is_empty(), "{faults:#?}");
    lint(&agent.metrics());

    let work = puts.stop();
    assert!(work.done > 200, "etcd took only {} puts", work.done);
    sleep(SETTLED + INTERVAL);
    let after = [prometheus.histogram(OURS, OF_WAL), prometheus.histogram(WAL_FSYNC, "")];
    let [ours, theirs] = [0, 1].map(|at| since(&after[at], &before[at]));
    compare(&ours, &theirs);
}

/// Trims until the discard alert fires and names `fstrim`, and the queries in the description
/// of an alert on slow syncs name the same culprit.
fn trim_until_blamed(disk: &SimulatedDisk, prometheus: &Prometheus) -> [Value; 2] {
    let trimmer = cgroup("trimmer");
    let start = Instant::now();
    loop {
        make_due(disk.mountpoint()).unwrap();
        trim(disk.mountpoint(), &trimmer).unwrap();
        let names_fstrim = |alert: &Value, annotation: &str| {
            alert["annotations"][annotation].as_str().unwrap().contains("fstrim")
        };
        let culprit = prometheus.alerts("TracerDiscardCulprit").into_iter().find(|alert| {
            alert["state"] == "firing"
                && alert["labels"]["file_class"] == "wal"
                && names_fstrim(alert, "summary")
                && names_fstrim(alert, "description")
        });
        let slow = prometheus.alerts("TracerWalOver10ms").into_iter().find(|alert| {
            let description = alert["annotations"]["description"].as_str().unwrap();
            names_fstrim(alert, "description") && description.contains("Verdict: owners, ")
        });
        match (culprit, slow) {
            (Some(culprit), Some(slow)) if start.elapsed() > TRIMMING => return [culprit, slow],
            (culprit, slow) => assert!(
                start.elapsed() < AT_MOST,
                "{culprit:?} {slow:?}: {:?}",
                prometheus.query("ALERTS or tracer_verdict_info")
            ),
        }
    }
}

/// A victim that had not synced before had no series, and so no buckets.
fn since(now: &Histogram, then: &Histogram) -> Histogram {
    if then.buckets.is_empty() { now.clone() } else { now.since(then).expect("the same bounds") }
}

/// Nothing syncs at the beginning or the end, so counts differ only by what a scrape misses.
fn compare(ours: &Histogram, theirs: &Histogram) {
    println!("etcd {theirs:?}\nours {ours:?}");
    assert!(theirs.count > 200, "{theirs:?}");
    assert!(ours.count.abs_diff(theirs.count) <= 2, "ours {} etcd {}", ours.count, theirs.count);
    let off_seconds = (ours.sum - theirs.sum).abs();
    assert!(off_seconds <= 0.05 * theirs.sum, "ours {} s etcd {} s", ours.sum, theirs.sum);
    // etcd measures around ours: it is now and then one bucket later, the more
    // so as Prometheus wants a CPU too.
    for (bound, of_etcd) in &theirs.buckets {
        let same = ours.buckets.iter().find(|(le, _)| le == bound);
        let (_, count) = same.unwrap_or_else(|| panic!("we have no bound {bound}"));
        let off = count.abs_diff(*of_etcd);
        assert!(off * 25 <= theirs.count, "at {bound}: ours {count} etcd {of_etcd}");
    }
}
