//! The tracer's own counters: what it dropped, and what it cost.
//!
//! One registry, by Prometheus' conventions. Its values are in every JSON
//! picture; an agent serves the same.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use nix::{
    sys::resource::{UsageWho, getrusage},
    unistd::{SysconfVar, sysconf},
};
use prometheus::{
    Counter, Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    proto::{MetricFamily, MetricType},
};
use tracer_snapshot::{Cost, Losses};

use crate::kernel::blind::Blind;
use tracer_ebpf::dropped::Dropped;

/// The registry and the counters in it.
pub struct Metrics {
    registry: Registry,
    dropped: IntCounterVec,
    blind: IntGaugeVec,
    records: IntCounter,
    user_cpu: Counter,
    system_cpu: Counter,
    rss: Gauge,
}

impl Metrics {
    /// # Errors
    ///
    /// When a name is not one that Prometheus takes: never, as they are
    /// constants.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            dropped: IntCounterVec::new(
                Opts::new(
                    "tracer_losses_total",
                    "What was dropped, unmatched, evicted, torn or unresolved, by kind.",
                ),
                &["kind"],
            )?,
            blind: IntGaugeVec::new(
                Opts::new(
                    "tracer_blind",
                    "1 for each thing that the tracer does not see on this kernel; `tracer \
                     doctor` says it in a sentence.",
                ),
                &["what"],
            )?,
            records: IntCounter::new("tracer_sync_records_total", "Syncs that were narrated.")?,
            user_cpu: Counter::new("tracer_user_cpu_seconds_total", "User CPU of the tracer.")?,
            system_cpu: Counter::new(
                "tracer_system_cpu_seconds_total",
                "System CPU of the tracer, without its kernel programs.",
            )?,
            rss: Gauge::new("tracer_resident_memory_bytes", "Resident memory of the tracer.")?,
            registry,
        };
        let Self { registry, dropped, blind, records, user_cpu, system_cpu, rss } = &metrics;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(blind.clone()))?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(user_cpu.clone()))?;
        registry.register(Box::new(system_cpu.clone()))?;
        registry.register(Box::new(rss.clone()))?;
        // All kinds are there from the start, zeros too.
        for kind in Dropped::ALL {
            dropped.with_label_values(&[kind.name()]);
        }
        Ok(metrics)
    }

    /// Raises a kind's counter to what its sources have counted so far.
    pub fn set_dropped(&self, kind: Dropped, total: u64) {
        raise(&self.counter(kind), total);
    }

    fn counter(&self, kind: Dropped) -> IntCounter {
        self.dropped.with_label_values(&[kind.name()])
    }

    /// Says what is not seen, and of nothing else that it is not.
    pub fn set_blind(&self, blind: &[Blind]) {
        self.blind.reset();
        for Blind { what, .. } in blind {
            self.blind.with_label_values(&[what]).set(1);
        }
    }

    pub fn set_records(&self, total: u64) {
        raise(&self.records, total);
    }

    pub fn losses(&self) -> Losses {
        let counters = Dropped::ALL.map(|kind| (kind.name(), self.counter(kind).get()));
        Losses { counters: counters.to_vec() }
    }

    /// Asks the kernel what this process has used.
    pub fn cost(&self) -> Cost {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
            let raise = |counter: &Counter, total: f64| {
                counter.inc_by((total - counter.get()).max(0.0));
            };
            raise(&self.user_cpu, seconds(usage.user_time()));
            raise(&self.system_cpu, seconds(usage.system_time()));
        }
        let rss_bytes = read_rss_bytes().unwrap_or(0);
        self.rss.set(rss_bytes as f64);
        Cost {
            user_cpu_seconds: self.user_cpu.get(),
            system_cpu_seconds: self.system_cpu.get(),
            rss_bytes,
            records: self.records.get(),
        }
    }

    /// All of the registry.
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Every value by its name, labels included.
    pub fn dump(&self) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for family in self.registry.gather() {
            for metric in family.get_metric() {
                let labels: Vec<_> = metric
                    .get_label()
                    .iter()
                    .map(|l| format!("{}=\"{}\"", l.name(), l.value()))
                    .collect();
                let name = match labels.as_slice() {
                    [] => family.name().to_owned(),
                    _ => format!("{}{{{}}}", family.name(), labels.join(",")),
                };
                let value = match family.get_field_type() {
                    MetricType::COUNTER => metric.get_counter().get_value(),
                    _ => metric.get_gauge().get_value(),
                };
                values.insert(name, value);
            }
        }
        values
    }
}

fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// The second number of /proc/self/statm, in pages.
fn read_rss_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_raised_to_its_sources_count_and_never_falls() {
        let metrics = Metrics::new().unwrap();
        metrics.set_dropped(Dropped::RingFull, 3);
        metrics.set_dropped(Dropped::RingFull, 2);
        let dump = metrics.dump();
        assert_eq!(dump["tracer_losses_total{kind=\"ring_full\"}"], 3.0);
        assert_eq!(dump["tracer_losses_total{kind=\"healed\"}"], 0.0);
        assert_eq!(metrics.losses().total(), 3);
    }
}
