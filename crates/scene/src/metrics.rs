//! The tracer's own counters: what it dropped, and what it cost.
//!
//! One registry, by Prometheus' conventions. Its values are in every JSON
//! snapshot; an agent serves the same.

use std::collections::BTreeMap;

use anyhow::Result;
use prometheus::{
    Counter, Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    proto::{MetricFamily, MetricType},
};
use tracer_ebpf::dropped::Dropped;
use tracer_snapshot::{Cost, DroppedCounts};

/// CPU time and memory that the tracer has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    pub user_cpu_seconds: f64,
    pub system_cpu_seconds: f64,
    pub resident_memory_bytes: u64,
}

/// The registry and the counters in it.
pub struct Metrics {
    registry: Registry,
    dropped: IntCounterVec,
    unsupported: IntGaugeVec,
    unproven: IntGaugeVec,
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
                    "tracer_dropped_total",
                    "What was dropped, unmatched, evicted, torn or unresolved, by kind.",
                ),
                &["kind"],
            )?,
            unsupported: IntGaugeVec::new(
                Opts::new(
                    "tracer_unsupported",
                    "1 for each thing that the tracer does not see on this kernel; `tracer \
                     doctor` says it in a sentence.",
                ),
                &["what"],
            )?,
            unproven: IntGaugeVec::new(
                Opts::new(
                    "tracer_unproven",
                    "1 where it is not known whether the tracer's hooks fire, by why; 0 for the \
                     other reasons.",
                ),
                &["why"],
            )?,
            records: IntCounter::new(
                "tracer_sync_records_total",
                "Sync records that reached the tracer.",
            )?,
            user_cpu: Counter::new("tracer_user_cpu_seconds_total", "User CPU of the tracer.")?,
            system_cpu: Counter::new(
                "tracer_system_cpu_seconds_total",
                "System CPU of the tracer, without its kernel programs.",
            )?,
            rss: Gauge::new("tracer_resident_memory_bytes", "Resident memory of the tracer.")?,
            registry,
        };
        let Self { registry, dropped, unsupported, unproven, records, user_cpu, system_cpu, rss } =
            &metrics;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(unsupported.clone()))?;
        registry.register(Box::new(unproven.clone()))?;
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
    pub fn set_unsupported<'a>(&self, unsupported: impl Iterator<Item = &'a str>) {
        self.unsupported.reset();
        for what in unsupported {
            self.unsupported.with_label_values(&[what]).set(1);
        }
    }

    /// Says why it is not known whether the hooks fire, and of all other reasons that
    /// they are none.
    pub fn set_unproven(&self, reasons: &[&str], why: Option<&str>) {
        for reason in reasons {
            self.unproven.with_label_values(&[reason]).set(i64::from(why == Some(reason)));
        }
    }

    pub fn set_records(&self, total: u64) {
        raise(&self.records, total);
    }

    pub fn dropped(&self) -> DroppedCounts {
        let counters = Dropped::ALL.map(|kind| (kind.name(), self.counter(kind).get()));
        DroppedCounts { counters: counters.to_vec() }
    }

    /// Raises what the tracer has used to what the kernel has counted so far.
    pub fn set_used(&self, used: &Used) {
        let raise = |counter: &Counter, total: f64| {
            counter.inc_by((total - counter.get()).max(0.0));
        };
        raise(&self.user_cpu, used.user_cpu_seconds);
        raise(&self.system_cpu, used.system_cpu_seconds);
        self.rss.set(used.resident_memory_bytes as f64);
    }

    pub fn cost(&self) -> Cost {
        Cost {
            user_cpu_seconds: self.user_cpu.get(),
            system_cpu_seconds: self.system_cpu.get(),
            resident_memory_bytes: self.rss.get() as u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_raised_to_its_sources_count_and_never_falls() {
        let metrics = Metrics::new().unwrap();
        metrics.set_dropped(Dropped::RingFull, 3);
        metrics.set_dropped(Dropped::RingFull, 2);
        let dump = metrics.dump();
        assert_eq!(dump["tracer_dropped_total{kind=\"ring_full\"}"], 3.0);
        assert_eq!(dump["tracer_dropped_total{kind=\"reconciled\"}"], 0.0);
        assert_eq!(metrics.dropped().total(), 3);
    }

    #[test]
    fn one_reason_at_most_is_why_hooks_are_unproven() {
        let metrics = Metrics::new().unwrap();
        let check = |why, late, silent| {
            metrics.set_unproven(&["late", "silent"], why);
            let dump = metrics.dump();
            assert_eq!(dump["tracer_unproven{why=\"late\"}"], late);
            assert_eq!(dump["tracer_unproven{why=\"silent\"}"], silent);
        };
        check(Some("late"), 1.0, 0.0);
        check(Some("silent"), 0.0, 1.0);
        check(None, 0.0, 0.0);
    }
}
