//! The state that the loop shares with the thread that speaks HTTP.
//!
//! The loop replaces the snapshot as a whole; a handler takes its `Arc` and
//! renders from that. Each form is rendered once a period, and only when it
//! is requested. Locks are held for a clone or a push, never while rendering.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use prometheus::proto::MetricFamily;
use serde::Serialize;

use super::{
    exposition::{Exemplars, Format},
    families::{down, exemplars},
    marks::Marks,
    published::{Published, to_json},
};
use crate::filter::Filter;
use tracer_kernel::clock::monotonic_ns;
use tracer_snapshot::{Phase, SCHEMA, SlowSync};

/// Owners that are listed with a kept sync; the worst come first.
const MAX_LISTED: usize = 16;

/// Slow syncs that are looked through for exemplars.
const MAX_EXEMPLARS: usize = 4096;

/// A loop that has not come round for this long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Why this node cannot be traced.
#[derive(Debug)]
pub struct Down {
    why: String,
    families: Vec<MetricFamily>,
}

impl Down {
    /// `reason` is one word for it, of a fixed set, and `why` a sentence.
    pub fn new(reason: &'static str, why: String) -> Self {
        Self { why, families: down(reason) }
    }

    pub fn why(&self) -> &str {
        &self.why
    }

    /// # Errors
    ///
    /// When the metrics cannot be written: never.
    pub fn metrics(&self, format: Format) -> Result<Bytes> {
        Ok(format.write(&self.families, &Exemplars::default())?.into_bytes().into())
    }
}

/// The filter of a request for slow syncs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    pub min: Duration,
    pub limit: usize,
    /// Only the sync with this number.
    pub id: Option<u64>,
}

/// A slow sync that is kept.
#[derive(Debug, Serialize)]
struct KeptSync {
    /// Its number since the start, which exemplars have as `sync_id`.
    id: u64,
    #[serde(flatten)]
    sync: SlowSync,
}

/// The answer of `/api/v1/syncs`.
#[derive(Serialize)]
struct Syncs<'a> {
    schema: u32,
    /// Slow syncs since the start, kept or not.
    seen: u64,
    /// Says whose syncs are kept, where a filter is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<&'a str>,
    /// How the phases are shown, in their order.
    phases: [PhaseStyle; Phase::COUNT],
    /// The latest first.
    syncs: Vec<&'a KeptSync>,
}

#[derive(Serialize)]
struct PhaseStyle {
    name: &'static str,
    help: &'static str,
    /// As in CSS.
    colour: &'static str,
}

impl From<Phase> for PhaseStyle {
    fn from(phase: Phase) -> Self {
        Self { name: phase.name(), help: phase.help(), colour: phase.colour().hex }
    }
}

/// Why a request or a connection was refused.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// The request calls the agent by a name that is not its own.
    Host,
    /// The password is missing or wrong.
    Password,
    /// TLS was not agreed upon: a client without a certificate, or one that speaks none.
    Handshake,
}

impl Refusal {
    const COUNT: usize = 3;
    pub const ALL: [Self; Self::COUNT] = [Self::Host, Self::Password, Self::Handshake];

    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Password => "password",
            Self::Handshake => "handshake",
        }
    }
}

/// Everything that handlers see.
#[derive(Debug)]
pub struct Shared {
    /// Marks that are not recorded yet.
    pub marks: Marks,
    published: Mutex<Option<Arc<Published>>>,
    down: Mutex<Option<Arc<Down>>>,
    syncs: Mutex<VecDeque<Arc<KeptSync>>>,
    room: AtomicUsize,
    seen: AtomicU64,
    ready: AtomicBool,
    ticked_ns: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
    web_reloads: [AtomicU64; 2],
}

impl Shared {
    /// Makes it with room for `room` slow syncs.
    pub fn new(room: usize) -> Self {
        Self {
            marks: Marks::default(),
            published: Mutex::default(),
            down: Mutex::default(),
            syncs: Mutex::default(),
            room: AtomicUsize::new(room),
            seen: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            ticked_ns: AtomicU64::new(monotonic_ns()),
            refused: Default::default(),
            web_reloads: Default::default(),
        }
    }

    /// Counts a request or a connection that was refused.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    pub fn refused(&self) -> [(Refusal, u64); Refusal::COUNT] {
        Refusal::ALL.map(|why| (why, self.refused[why as usize].load(Relaxed)))
    }

    /// Counts a look at a changed web-config file.
    pub fn count_web_reload(&self, is_good: bool) {
        self.web_reloads[usize::from(!is_good)].fetch_add(1, Relaxed);
    }

    /// The numbers of looks that succeeded, and of those that failed.
    pub fn web_reloads(&self) -> [u64; 2] {
        self.web_reloads.each_ref().map(|count| count.load(Relaxed))
    }

    pub fn publish(&self, published: Published) {
        *held(&self.published) = Some(Arc::new(published));
    }

    /// The last period's; `None` before the first.
    pub fn published(&self) -> Option<Arc<Published>> {
        held(&self.published).clone()
    }

    /// Sets why this node cannot be traced; `None` if it can.
    pub fn set_down(&self, down: Option<Down>) {
        *held(&self.down) = down.map(Arc::new);
    }

    /// Why this node cannot be traced; `None` where it can, or is not known yet.
    pub fn down(&self) -> Option<Arc<Down>> {
        held(&self.down).clone()
    }

    /// Keeps slow syncs, of those that the filter takes; the oldest make room.
    pub fn push(&self, slow: &mut Vec<SlowSync>, filter: &Filter) {
        let before = self.seen.fetch_add(slow.len() as u64, Relaxed);
        let room = self.room.load(Relaxed);
        let mut syncs = held(&self.syncs);
        for (mut sync, id) in slow.drain(..).zip(before + 1..) {
            if filter.takes_sync(&sync) {
                sync.owners.truncate(MAX_LISTED);
                syncs.push_back(Arc::new(KeptSync { id, sync }));
            }
        }
        let more = syncs.len().saturating_sub(room);
        syncs.drain(..more);
    }

    pub fn set_room(&self, room: usize) {
        self.room.store(room, Relaxed);
    }

    /// # Errors
    ///
    /// When it cannot be serialised: never.
    pub fn syncs(&self, wanted: Wanted) -> Result<Bytes> {
        let min = wanted.min.as_secs_f64();
        let kept: Vec<_> = {
            let syncs = held(&self.syncs);
            let is_it = |kept: &KeptSync| match wanted.id {
                Some(id) => kept.id == id,
                None => kept.sync.duration_seconds >= min,
            };
            let slow = syncs.iter().rev().filter(|kept| is_it(kept));
            slow.take(wanted.limit).cloned().collect()
        };
        let syncs = kept.iter().map(AsRef::as_ref).collect();
        let seen = self.seen.load(Relaxed);
        let phases = Phase::ALL.map(PhaseStyle::from);
        let published = self.published();
        let filter = published.as_ref().and_then(|published| published.filter());
        let only = filter.map(|filter| filter.only.as_str());
        let syncs = Syncs { schema: SCHEMA, seen, only, phases, syncs };
        Ok(to_json(&syncs)?.into())
    }

    /// The latest of them, for who asks for metrics with exemplars.
    pub fn exemplars(&self) -> Exemplars {
        let latest: Vec<_> = held(&self.syncs).iter().rev().take(MAX_EXEMPLARS).cloned().collect();
        exemplars(latest.iter().map(|kept| (kept.id, &kept.sync)))
    }

    /// Notes that all necessary hooks have been seen to fire.
    pub fn set_ready(&self) {
        self.ready.store(true, Relaxed);
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// Notes that the loop has come round.
    pub fn tick(&self) {
        self.ticked_ns.store(monotonic_ns(), Relaxed);
    }

    /// For how long the loop has been away, where that is too long. Before the
    /// hooks have passed the self-test it is not a loop yet.
    pub fn stuck(&self) -> Option<Duration> {
        let away = monotonic_ns().saturating_sub(self.ticked_ns.load(Relaxed));
        let away = Duration::from_nanos(away);
        (self.is_ready() && away > STUCK).then_some(away)
    }
}

/// Takes the lock. A panic while it was held leaves the data whole, so poison is ignored.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{
            disk_series::{DiskLimits, DiskSeries},
            families::{AgentState, families},
            series::{Limits, Observed, Series},
        },
        output::fixture,
    };

    fn sync(milliseconds: u64) -> SlowSync {
        SlowSync { duration_seconds: milliseconds as f64 / 1e3, ..fixture::slow_sync() }
    }

    fn listed(shared: &Shared, min_ms: u64, limit: usize) -> (u64, Vec<f64>) {
        let wanted = Wanted { min: Duration::from_millis(min_ms), limit, id: None };
        let answer: serde_json::Value =
            serde_json::from_slice(&shared.syncs(wanted).unwrap()).unwrap();
        let syncs = answer["syncs"].as_array().unwrap().iter();
        let durations = syncs.map(|s| s["duration_seconds"].as_f64().unwrap()).collect();
        (answer["seen"].as_u64().unwrap(), durations)
    }

    #[test]
    fn the_latest_slow_syncs_are_kept_and_come_first() {
        let shared = Shared::new(3);
        shared.push(&mut vec![sync(10), sync(20), sync(30), sync(40)], &Filter::default());
        assert_eq!(listed(&shared, 0, 10), (4, vec![0.04, 0.03, 0.02]));
        assert_eq!(listed(&shared, 25, 10), (4, vec![0.04, 0.03]));
        assert_eq!(listed(&shared, 0, 1), (4, vec![0.04]));
        shared.set_room(1);
        shared.push(&mut Vec::new(), &Filter::default());
        assert_eq!(listed(&shared, 0, 10), (4, vec![0.04]));
    }

    /// An exemplar leads to its sync, and none stands in another's bucket.
    #[test]
    fn a_bucket_has_the_latest_of_its_slow_syncs_as_exemplar() {
        let shared = Shared::new(10);
        let s = fixture::trimmed();
        let mut slow = vec![sync(12), sync(14), sync(30), sync(9000)];
        for sync in &mut slow {
            sync.actor = s.victims[0].actor.clone();
            (sync.class, sync.device) = (s.victims[0].class, s.victims[0].device.clone());
        }
        let class = format!("file_class=\"{}\"", s.victims[0].class.name());
        shared.push(&mut slow, &Filter::default());
        let mut series = Series::new(Limits { victims: 5, culprits: 1 });
        series.update(1.0, s.victims.iter().map(Observed::of));
        let (include, exclude) = Default::default();
        let disks = DiskSeries::new(DiskLimits { disks: 1, include, exclude });
        let families = families(&series, &disks, &s, &AgentState::default());
        let published = Published::new("a".into(), s, families);
        let served = |format| {
            let bytes = published.metrics(format, || shared.exemplars()).unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert!(!served(Format::Text).contains("sync_id"));
        let text = served(Format::OpenMetrics);
        let of_bucket = |bound: &str| {
            let le = format!("le=\"{bound}\"}}");
            let mut lines = text.lines().filter(|line| line.contains(&class));
            let line = lines.find(|line| line.contains(&le)).unwrap();
            line.split_once(" # ").map(|(_, exemplar)| exemplar.to_owned())
        };
        let ended = |seconds: f64| format!("{:.3}", fixture::slow_sync().at + seconds);
        assert_eq!(of_bucket("0.01"), None);
        let latest = format!("{{sync_id=\"2\"}} 0.014 {}", ended(0.014));
        assert_eq!(of_bucket("0.016"), Some(latest));
        assert_eq!(of_bucket("0.025"), None);
        assert!(of_bucket("0.032").unwrap().starts_with("{sync_id=\"3\"} 0.03 "));
        assert!(of_bucket("+Inf").unwrap().starts_with("{sync_id=\"4\"} 9 "));
        let wanted = Wanted { min: Duration::MAX, limit: 10, id: Some(3) };
        let answer: serde_json::Value =
            serde_json::from_slice(&shared.syncs(wanted).unwrap()).unwrap();
        assert_eq!(answer["syncs"].as_array().unwrap().len(), 1);
        assert_eq!((&answer["syncs"][0]["id"], &answer["seen"]), (&3.into(), &4.into()));
        assert_eq!(answer["syncs"][0]["duration_seconds"], 0.03);
    }

    #[test]
    fn a_loop_is_stuck_only_once_it_is_one() {
        let shared = Shared::new(1);
        shared.ticked_ns.store(1, Relaxed);
        assert!(shared.stuck().is_none());
        shared.set_ready();
        assert!(shared.stuck().is_some());
        shared.tick();
        assert!(shared.stuck().is_none());
    }
}
