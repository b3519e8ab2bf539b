//! The fields of the JSON form.

use serde::Serialize;
use tracer_snapshot::{
    Actor, Confidence, DeviceState, DroppedCounts, Evidence, FileClass, Filtered, Hanging,
    HeldHelper, Kind, Op, OwnWork, Phases, SCHEMA, Shares, SlowerThan, Snapshot, StackFact, Stop,
    StoppedBy, Trigger, Via, Victim, Workload,
};

use super::{
    super::{
        names, remedy,
        verdict::{sentence, triggered},
    },
    hanging_of, kept_at,
};

/// The JSON form; `tracer why --json` prints one of these a line.
#[derive(Debug, Serialize)]
pub struct Why<'a> {
    schema: u32,
    /// Unix seconds.
    from: f64,
    to: f64,
    victim: Subject<'a>,
    kind: Kind,
    slower_than: Option<SlowerThan>,
    confidence: Confidence,
    confidence_reason: &'a str,
    /// The verdict in one sentence.
    verdict: String,
    culprits: Vec<Blamed<'a>>,
    ruled_out: Vec<Cleared<'a>>,
    /// Each cause's share of the excess; they add up to 1, or are all 0.
    shares: Shares,
    unexplained_share: f64,
    /// Seconds of sync time by phase.
    phases: Phases,
    syncs: u64,
    p50_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
    undisturbed_p99_seconds: Option<f64>,
    excess_seconds: f64,
    /// The part of them outside its syncs.
    outside_seconds: f64,
    /// The part of the time for which it waited to write to a filesystem that was frozen.
    frozen_share: f64,
    /// The part of the time for which its writes were paused because too many pages were dirty.
    paused_share: f64,
    /// The reason for which its process was stopped most.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a Stop>,
    device: DeviceState,
    /// The name by which people know its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_known_as: Option<&'a str>,
    /// When the reference that was kept of its disk was last seen to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_at: Option<f64>,
    own_work: &'a [OwnWork],
    limit: Option<&'a str>,
    limit_share: f64,
    /// Facts that the disks of its stack say of themselves, if they are not well.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stack: &'a [StackFact],
    /// Processes and threads that it waits for, and how long those waited themselves.
    #[serde(skip_serializing_if = "slice_is_empty")]
    helpers: &'a [HeldHelper],
    steal_share: f64,
    memory_shrank_bytes: u64,
    remedies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unproven: Option<&'a str>,
    /// Says what a filter left out; whoever is blamed is not filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a Filtered>,
    /// Its syncs that have not ended.
    hanging: Vec<&'a Hanging>,
    unsupported: &'a [String],
    dropped: &'a DroppedCounts,
}

/// The JSON form where no sync has ended, and some have not.
#[derive(Debug, Serialize)]
pub struct Hangs<'a> {
    schema: u32,
    /// Unix seconds.
    to: f64,
    hanging: Vec<&'a Hanging>,
}

/// Nobody can be judged yet: these have not ended.
pub fn hangs<'a>(hanging: Vec<&'a Hanging>, s: &Snapshot) -> Hangs<'a> {
    Hangs { schema: SCHEMA, to: s.at, hanging }
}

/// Somebody, with the fields of a [`Actor`] beside a name for people.
#[derive(Debug, Serialize)]
struct Named<'a> {
    comm: &'a str,
    tgid: u32,
    cgroup: &'a str,
    unit: Option<&'a str>,
    /// The name that outputs use, such as `fstrim (fstrim.service)`.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a Workload>,
}

#[derive(Debug, Serialize)]
struct Subject<'a> {
    #[serde(flatten)]
    actor: Named<'a>,
    file_class: FileClass,
    path: &'a str,
    device: &'a str,
}

#[derive(Debug, Serialize)]
struct Blamed<'a> {
    #[serde(flatten)]
    actor: Named<'a>,
    op: Op,
    via: Via,
    share: f64,
    wait_seconds: f64,
    confidence: Confidence,
    #[serde(flatten)]
    evidence: Evidence,
    /// The caller who had its data written just then.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<TriggeredBy<'a>>,
    /// Absent if false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    frees: bool,
    /// The limit that stops it while it has a handle of the journal open.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'a StoppedBy>,
}

#[derive(Debug, Serialize)]
struct TriggeredBy<'a> {
    #[serde(flatten)]
    actor: Named<'a>,
    call: &'static str,
    /// Unix seconds.
    at: f64,
    seconds: f64,
    /// All of it in one sentence.
    sentence: String,
}

#[derive(Debug, Serialize)]
struct Cleared<'a> {
    #[serde(flatten)]
    actor: Named<'a>,
    op: Op,
    share: f64,
    reason: &'a str,
    #[serde(flatten)]
    evidence: Evidence,
}

fn named_actor(actor: &Actor) -> Named<'_> {
    Named {
        comm: &actor.comm,
        tgid: actor.tgid,
        cgroup: &actor.cgroup,
        unit: actor.unit.as_deref(),
        name: names::actor(actor),
        workload: actor.workload.as_ref(),
    }
}

fn triggered_by(trigger: &Trigger) -> TriggeredBy<'_> {
    TriggeredBy {
        actor: named_actor(&trigger.actor),
        call: trigger.call,
        at: trigger.at,
        seconds: trigger.seconds,
        sentence: triggered(trigger),
    }
}

/// The JSON form of the verdict on a victim of a snapshot.
pub fn why<'a>(victim: &'a Victim, s: &'a Snapshot) -> Why<'a> {
    let verdict = &victim.verdict;
    let culprits = verdict.culprits.iter().map(|one| Blamed {
        actor: named_actor(&one.actor),
        op: one.op,
        via: one.via,
        share: one.share,
        wait_seconds: one.wait_seconds,
        confidence: one.confidence,
        evidence: one.evidence,
        trigger: one.trigger.as_ref().map(triggered_by),
        frees: one.frees,
        stopped_by: one.stopped_by.as_ref(),
    });
    let ruled_out = verdict.ruled_out.iter().map(|one| Cleared {
        actor: named_actor(&one.actor),
        op: one.op,
        share: one.share,
        reason: &one.reason,
        evidence: one.evidence,
    });
    Why {
        schema: SCHEMA,
        from: s.at - s.window_seconds,
        to: s.at,
        victim: Subject {
            actor: named_actor(&victim.actor),
            file_class: victim.class,
            path: &victim.path,
            device: &victim.device,
        },
        kind: verdict.kind,
        slower_than: verdict.slower_than,
        confidence: verdict.confidence,
        confidence_reason: &verdict.confidence_reason,
        verdict: sentence(victim),
        culprits: culprits.collect(),
        ruled_out: ruled_out.collect(),
        shares: verdict.shares,
        unexplained_share: verdict.shares.unexplained,
        phases: victim.phases,
        syncs: victim.syncs,
        p50_seconds: victim.p50_seconds,
        p99_seconds: victim.p99_seconds,
        max_seconds: victim.max_seconds,
        undisturbed_p99_seconds: victim.undisturbed_p99_seconds,
        excess_seconds: verdict.excess_seconds,
        outside_seconds: verdict.outside_seconds,
        frozen_share: verdict.frozen_share,
        paused_share: verdict.paused_share,
        stop: verdict.stop.as_ref(),
        device: verdict.device,
        disk_known_as: victim.disk.and_then(|disk| s.disks.get(disk)?.known_as.as_deref()),
        reference_at: kept_at(victim, s),
        own_work: &verdict.own_work,
        limit: verdict.limit.as_deref(),
        limit_share: verdict.limit_share,
        stack: &verdict.stack,
        helpers: &verdict.helpers,
        steal_share: verdict.steal_share,
        memory_shrank_bytes: verdict.memory_shrank_bytes,
        remedies: remedy::remedies(victim, s),
        unproven: s.kernel.unproven.as_deref(),
        filter: s.filter.as_ref(),
        hanging: hanging_of(victim, s),
        unsupported: &s.kernel.unsupported,
        dropped: &s.dropped,
    }
}

fn slice_is_empty(slice: &&[HeldHelper]) -> bool {
    slice.is_empty()
}
