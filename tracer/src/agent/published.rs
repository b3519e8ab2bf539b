//! A period as it is published: its snapshot and metrics, each form rendered once.

use std::sync::OnceLock;

use anyhow::Result;
use bytes::Bytes;
use prometheus::proto::MetricFamily;
use serde::Serialize;

use super::exposition::{Exemplars, Format};
use crate::output::{
    freeze, hanging, json,
    why::{Why, why},
};
use tracer_snapshot::{DroppedCounts, Filtered, Frozen, Hanging, SCHEMA, Snapshot};

/// At most this number of victims is in one answer; the slowest come first.
const MAX_VICTIMS: usize = 200;

/// One period, as the loop saw it.
#[derive(Debug)]
pub struct Published {
    node: String,
    snapshot: Snapshot,
    families: Vec<MetricFamily>,
    text: OnceLock<Bytes>,
    open_metrics: OnceLock<Bytes>,
    verdicts: OnceLock<Bytes>,
}

/// The answer of `/api/v1/verdicts`.
#[derive(Serialize)]
struct Verdicts<'a> {
    schema: u32,
    /// When the period ended, in Unix seconds.
    at: f64,
    period_seconds: f64,
    watched_seconds: f64,
    node: &'a str,
    version: &'static str,
    kernel: &'a tracer_snapshot::Kernel,
    dropped: &'a DroppedCounts,
    /// Says what a filter left out; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a Filtered>,
    /// The slowest first.
    victims: Vec<Why<'a>>,
    /// Further victims, for which there was no room.
    victims_left_out: usize,
    /// Syncs that have not ended, the oldest first.
    hanging: Vec<Described<'a>>,
    /// Further ones.
    hanging_left_out: usize,
    /// Processes that wait to write to a filesystem that is frozen, the longest wait first.
    frozen: Vec<Waiting<'a>>,
}

/// A sync that has not ended, with the sentence that says so.
#[derive(Serialize)]
struct Described<'a> {
    verdict: String,
    #[serde(flatten)]
    sync: &'a Hanging,
}

impl<'a> From<&'a Hanging> for Described<'a> {
    fn from(sync: &'a Hanging) -> Self {
        Self { verdict: hanging::sentence(sync), sync }
    }
}

/// A process that waits for a thaw, with the sentence that says so.
#[derive(Serialize)]
struct Waiting<'a> {
    verdict: String,
    #[serde(flatten)]
    wait: &'a Frozen,
}

impl<'a> From<&'a Frozen> for Waiting<'a> {
    fn from(wait: &'a Frozen) -> Self {
        Self { verdict: freeze::waiting(wait), wait }
    }
}

impl Published {
    pub fn new(node: String, snapshot: Snapshot, families: Vec<MetricFamily>) -> Self {
        let (text, open_metrics, verdicts) = Default::default();
        Self { node, snapshot, families, text, open_metrics, verdicts }
    }

    /// # Errors
    ///
    /// When the metrics cannot be written: never.
    pub fn metrics(&self, format: Format, exemplars: impl FnOnce() -> Exemplars) -> Result<Bytes> {
        let cell = match format {
            Format::Text => &self.text,
            Format::OpenMetrics => &self.open_metrics,
        };
        let exemplars = || match format {
            Format::Text => Exemplars::default(),
            Format::OpenMetrics => exemplars(),
        };
        rendered(cell, || Ok(format.write(&self.families, &exemplars())?.into_bytes()))
    }

    /// Says what a filter left out; `None` where there is none.
    pub fn filter(&self) -> Option<&Filtered> {
        self.snapshot.filter.as_ref()
    }

    /// # Errors
    ///
    /// When it cannot be serialised: never.
    pub fn verdicts(&self) -> Result<Bytes> {
        rendered(&self.verdicts, || {
            let s = &self.snapshot;
            let verdicts = Verdicts {
                schema: SCHEMA,
                at: s.at,
                period_seconds: s.window_seconds,
                watched_seconds: s.watched_seconds,
                node: &self.node,
                version: env!("CARGO_PKG_VERSION"),
                kernel: &s.kernel,
                dropped: &s.dropped,
                filter: s.filter.as_ref(),
                victims: s.victims.iter().take(MAX_VICTIMS).map(|v| why(v, s)).collect(),
                victims_left_out: s.victims.len().saturating_sub(MAX_VICTIMS),
                hanging: s.hanging.iter().map(Described::from).collect(),
                hanging_left_out: s.hanging_left_out,
                frozen: s.frozen.iter().map(Waiting::from).collect(),
            };
            to_json(&verdicts)
        })
    }
}

fn rendered(cell: &OnceLock<Bytes>, render: impl FnOnce() -> Result<Vec<u8>>) -> Result<Bytes> {
    if let Some(bytes) = cell.get() {
        return Ok(bytes.clone());
    }
    // One thread serves; were there more, the first would win.
    let bytes = Bytes::from(render()?);
    Ok(cell.get_or_init(|| bytes).clone())
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    json::write_json(&mut bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;

    #[test]
    fn verdicts_are_those_of_why_with_what_the_node_is() {
        let published = Published::new("node-1".into(), fixture::trimmed(), Vec::new());
        let bytes = published.verdicts().unwrap();
        assert_eq!(bytes.as_ptr(), published.verdicts().unwrap().as_ptr(), "rendered once");
        let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&answer["node"], &answer["schema"]), (&"node-1".into(), &2.into()));
        assert_eq!(answer["victims"][0]["culprits"][0]["comm"], "fstrim");
        assert_eq!(answer["victims"].as_array().unwrap().len(), 3);
        assert_eq!(answer["kernel"]["release"], "6.12.0-test");
    }

    #[test]
    fn syncs_that_have_not_ended_have_their_their_sentence() {
        let mut s = fixture::empty();
        (s.hanging, s.hanging_left_out) = (vec![fixture::hanging()], 3);
        let published = Published::new("node-1".into(), s, Vec::new());
        let shown: serde_json::Value =
            serde_json::from_slice(&published.verdicts().unwrap()).unwrap();
        let one = &shown["hanging"][0];
        let verdict = one["verdict"].as_str().unwrap();
        assert!(verdict.contains("etcd (etcd.service) has been in fdatasync of wal "), "{verdict}");
        assert!(verdict.contains("vda has 3 requests in flight"), "{verdict}");
        assert_eq!((&one["kind"], &one["disk"]["name"]), (&"device".into(), &"vda".into()));
        assert_eq!(shown["hanging_left_out"], 3);
    }

    #[test]
    fn a_frozen_filesystem_has_its_sentence() {
        let mut s = fixture::empty();
        s.frozen = vec![fixture::frozen()];
        let published = Published::new("node-1".into(), s, Vec::new());
        let shown: serde_json::Value =
            serde_json::from_slice(&published.verdicts().unwrap()).unwrap();
        let one = &shown["frozen"][0];
        let verdict = one["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("etcd (etcd.service) cannot write to vda1: "), "{verdict}");
        assert_eq!((&one["seconds"], &one["by"]["comm"]), (&47.0.into(), &"fsfreeze".into()));
    }
}
