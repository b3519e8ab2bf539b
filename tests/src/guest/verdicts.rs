//! The verdicts of a running tracer on a log, snapshot by snapshot.

use std::{process::Command, time::Duration};

use serde_json::Value;

use crate::subject::{Tracer, tracer_bin};

/// The longest time between two snapshots; an emulated machine may be late.
pub const SNAPSHOT: Duration = Duration::from_secs(120);

/// The verdict of one snapshot on who writes the log.
pub struct Said {
    pub kind: String,
    pub confidence: String,
    /// The worst culprit's process, and its share.
    pub worst: Option<(String, f64)>,
    /// The operation with which the worst culprit does most harm.
    pub op: String,
    /// All culprits except those blamed for the CPU: on a machine with one CPU any kernel
    /// thread may be.
    pub behind: Vec<String>,
    pub has_baseline: bool,
    pub disks_below: String,
    whole: String,
}

fn said(top: &mut Tracer) -> Option<Said> {
    let snapshot = top.json(SNAPSHOT);
    let victims = snapshot["victims"].as_array()?;
    let victim = victims.iter().find(|victim| victim["file_class"] == "wal")?;
    let verdict = &victim["verdict"];
    let culprits = verdict["culprits"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let name = |culprit: &Value| text(&culprit["actor"]["comm"]);
    Some(Said {
        kind: text(&verdict["kind"]),
        confidence: text(&verdict["confidence"]),
        op: culprits.first().map(|culprit| text(&culprit["op"])).unwrap_or_default(),
        worst: culprits.first().map(|c| (name(c), c["share"].as_f64().unwrap_or(0.0))),
        behind: culprits.iter().filter(|c| c["op"] != "cpu").map(name).collect(),
        has_baseline: verdict["device"]["undisturbed_wait_seconds"].as_f64().is_some(),
        disks_below: format!("{}", victim["disks_below"]),
        whole: format!("p50 {}, {verdict}", victim["p50_seconds"]),
    })
}

/// Starts a tracer that shows a snapshot each second, with the lowest priority: in an
/// emulated machine it takes up to half of the only CPU, and would itself be named for it.
pub fn start_top() -> Tracer {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(tracer_bin()).args(["top", "--json", "--interval", "1"]);
    Tracer::spawn(command)
}

/// Reads the next `snapshots` snapshots.
pub fn watch(top: &mut Tracer, snapshots: usize) -> Vec<Said> {
    (0..snapshots).filter_map(|_| said(top)).collect()
}

/// The checks of a test that failed, each in one line.
#[derive(Default)]
pub struct Wrong(Vec<String>);

impl Wrong {
    /// Notes a check as failed if too many snapshots are not as expected.
    pub fn check(
        &mut self,
        what: &str,
        snapshots: &[Said],
        at_most: usize,
        is_right: impl Fn(&Said) -> bool,
    ) {
        let wrong: Vec<_> = snapshots.iter().filter(|said| !is_right(said)).collect();
        let show = |said: &Said| {
            let worst =
                said.worst.as_ref().map_or_else(String::new, |(w, s)| format!(" {w} {s:.2}"));
            format!("{} [{}]{worst}", said.kind, said.confidence)
        };
        println!("{what}: {}", snapshots.iter().map(show).collect::<Vec<_>>().join(", "));
        if wrong.len() > at_most || snapshots.is_empty() {
            let last = wrong.last().map_or("", |said| &said.whole);
            self.0.push(format!(
                "{what}: {} of {} snapshots, such as {last}",
                wrong.len(),
                snapshots.len()
            ));
        }
    }

    /// Fails if one of the checks did.
    pub fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}
