//! The events of a recording: when a victim was slow, and through whom; syncs that
//! hung; when the tracer itself was not there.
//!
//! Fed with one snapshot for each [`PERIOD`], as an agent judges them, and with what a
//! replay says of hangs and breaks; comes out as events in the order of time. Pure:
//! it reads no recording and knows no output. Whatever a recording holds, it keeps a
//! bounded number of events, and says how many it left out.

mod slow;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tracer_recording::{
    breaks::{Break, Why},
    replay::marks::Marked,
};
use tracer_snapshot::{
    Actor, Confidence, FileClass, Hanging, Kind, Op, SlowSync, Snapshot, Trigger, Victim,
};

use slow::{Slow, is_slow};

/// The snapshots are of this length: an agent's own period.
pub const PERIOD: Duration = Duration::from_secs(10);

/// A sync that takes this long hangs.
pub const HANG: Duration = Duration::from_secs(10);

/// An event is over after this many periods without a slow one.
const OVER_PERIODS: u32 = 3;

/// A break of at most this many seconds is no gap.
pub const GAP_SECONDS: f64 = 2.0;

/// Two views of one sync differ by at most this many seconds.
const SAME_SECONDS: f64 = 2.0;

/// Events that are kept, at most.
const MAX_EVENTS: usize = 10_000;
const MAX_HANGS: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Unix seconds.
    pub at: f64,
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A victim became slow.
    SlowBegan {
        victim: Subject,
        kind: Kind,
        confidence: Confidence,
    },
    /// It is slow no longer; if `lasts`, it still was at the end of the recording.
    SlowEnded {
        victim: Subject,
        kind: Kind,
        confidence: Confidence,
        /// Unix seconds.
        began_at: f64,
        seconds: f64,
        worst_p99_seconds: f64,
        excess_seconds: f64,
        culprits: Vec<Part>,
        /// The limit that held it, where that was the cause of most of the excess.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
        lasts: bool,
        /// There is no data for a part of this time.
        spans_gap: bool,
    },
    CulpritCame {
        victim: Subject,
        culprit: Part,
    },
    CulpritWent {
        victim: Subject,
        culprit: Part,
        seconds: f64,
    },
    /// A sync that took very long, or has not ended.
    Hang {
        victim: Subject,
        call: String,
        seconds: f64,
        ended: bool,
    },
    /// Somebody said what they did or saw, or the tracer saw a change.
    Mark {
        text: String,
        /// The id of the user who said it.
        uid: u32,
        /// Whether the tracer noticed it by itself; then `uid` has no meaning.
        seen: bool,
        /// The victims' syncs before and after, the slowest before it first.
        around: Vec<Around>,
    },
    /// The tracer was started again.
    Restart {
        to: f64,
        why: &'static str,
        reason: String,
    },
    /// There is no data for some time.
    Gap {
        to: f64,
        why: &'static str,
        reason: String,
    },
}

impl What {
    /// The order of events at one moment: what ends comes before what begins.
    fn rank(&self) -> u8 {
        match self {
            Self::CulpritWent { .. } => 0,
            Self::SlowEnded { .. } => 1,
            Self::Restart { .. } | Self::Gap { .. } | Self::Mark { .. } => 2,
            Self::SlowBegan { .. } => 3,
            Self::CulpritCame { .. } => 4,
            Self::Hang { .. } => 5,
        }
    }

    /// The victim that it is about.
    pub fn victim(&self) -> Option<&Subject> {
        match self {
            Self::SlowBegan { victim, .. }
            | Self::SlowEnded { victim, .. }
            | Self::CulpritCame { victim, .. }
            | Self::CulpritWent { victim, .. }
            | Self::Hang { victim, .. } => Some(victim),
            Self::Mark { .. } | Self::Restart { .. } | Self::Gap { .. } => None,
        }
    }
}

/// A victim: an actor, and the file that it syncs.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    #[serde(flatten)]
    pub actor: Actor,
    #[serde(rename = "file_class")]
    pub class: FileClass,
    pub path: String,
    pub device: String,
}

impl Subject {
    pub fn of(actor: &Actor, class: FileClass, path: &str, device: &str) -> Self {
        Self { actor: actor.clone(), class, path: path.to_owned(), device: device.to_owned() }
    }
}

impl From<&Victim> for Subject {
    fn from(victim: &Victim) -> Self {
        Self::of(&victim.actor, victim.class, &victim.path, &victim.device)
    }
}

/// A culprit's part in what happened.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    #[serde(flatten)]
    pub actor: Actor,
    pub op: Op,
    /// A part of the excess.
    pub share: f64,
    /// The caller who had its data written just then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

/// A victim's syncs in the minute before a mark, and in the minute after it.
#[derive(Clone, Debug, Serialize)]
pub struct Around {
    pub victim: Subject,
    /// `None` where it had no sync, as in `after`.
    pub before: Option<Minute>,
    pub after: Option<Minute>,
}

/// The syncs of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Minute {
    pub syncs: u64,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
}

/// Collects what happened.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Victims that are slow, by their number.
    slow: BTreeMap<u32, Slow>,
    hangs: Vec<Hang>,
    events: Vec<Event>,
    left_out: u64,
    breaks: usize,
    marks: usize,
}

#[derive(Debug)]
struct Hang {
    victim: Subject,
    tid: u32,
    call: String,
    began: f64,
    seconds: f64,
    ended: bool,
}

impl Timeline {
    /// Takes in the snapshot of a period that began at this moment.
    pub fn add_period(&mut self, from: f64, s: &Snapshot) {
        for slow in self.slow.values_mut() {
            slow.since += 1;
        }
        for victim in s.victims.iter().filter(|victim| is_slow(victim)) {
            let slow = self.slow.entry(victim.id).or_insert_with(|| Slow::new(victim, from));
            slow.add_period(victim, from, s.at);
        }
        for hanging in s.hanging.iter().filter(|one| one.seconds >= HANG.as_secs_f64()) {
            self.take_hanging(hanging);
        }
        let over = self.slow.iter().filter(|(_, slow)| slow.since >= OVER_PERIODS);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.close(id, false);
        }
    }

    /// Adds syncs that took at least [`HANG`].
    pub fn take_long(&mut self, syncs: &[SlowSync]) {
        for sync in syncs.iter().filter(|sync| sync.duration_seconds >= HANG.as_secs_f64()) {
            self.hang(Hang {
                victim: Subject::of(&sync.actor, sync.class, &sync.path, &sync.device),
                tid: sync.tid,
                call: sync.kind.to_string(),
                began: sync.at,
                seconds: sync.duration_seconds,
                ended: true,
            });
        }
    }

    fn take_hanging(&mut self, one: &Hanging) {
        self.hang(Hang {
            victim: Subject::of(&one.actor, one.class, &one.path, &one.device),
            tid: one.tid,
            call: one.call.to_string(),
            began: one.at - one.seconds,
            seconds: one.seconds,
            ended: false,
        });
    }

    /// Adds a sync that hangs. It is seen each second while it lasts, and once when it ends.
    fn hang(&mut self, hang: Hang) {
        let is_same = |known: &&mut Hang| {
            known.tid == hang.tid && (known.began - hang.began).abs() <= SAME_SECONDS
        };
        let has_room = self.hangs.len() < MAX_HANGS;
        match self.hangs.iter_mut().rev().find(is_same) {
            Some(known) => {
                known.seconds = known.seconds.max(hang.seconds);
                known.ended |= hang.ended;
            }
            None if has_room => self.hangs.push(hang),
            None => self.left_out += 1,
        }
    }

    /// Adds the breaks that a replay has found so far, without those of earlier calls.
    pub fn take_breaks(&mut self, breaks: &[Break]) {
        for Break { from, to, why, .. } in breaks.iter().skip(self.breaks) {
            let (at, to, reason, name) = (*from, *to, why.sentence(), why.name());
            if why.is_restart() {
                self.push(at, What::Restart { to, why: name, reason });
            } else if to - at > GAP_SECONDS || matches!(why, Why::Damaged(_) | Why::Clock) {
                self.push(at, What::Gap { to, why: name, reason });
            }
        }
        self.breaks = self.breaks.max(breaks.len());
    }

    /// Adds the marks that a replay has found so far, without those of earlier calls.
    pub fn take_marks(&mut self, marks: &[Marked]) {
        for Marked { at, text, uid, seen, .. } in marks.iter().skip(self.marks) {
            let (text, uid, seen, around) = (text.clone(), *uid, *seen, Vec::new());
            self.push(*at, What::Mark { text, uid, seen, around });
        }
        self.marks = self.marks.max(marks.len());
    }

    /// All that happened, and how much more there was than is kept.
    pub fn end(mut self) -> (Vec<Event>, u64) {
        let open: Vec<_> = self.slow.keys().copied().collect();
        for id in open {
            self.close(id, true);
        }
        for Hang { victim, call, began, seconds, ended, .. } in std::mem::take(&mut self.hangs) {
            self.push(began, What::Hang { victim, call, seconds, ended });
        }
        let mut events = self.events;
        events.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.what.rank().cmp(&b.what.rank())));
        (events, self.left_out)
    }

    fn push(&mut self, at: f64, what: What) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(Event { at, what });
        } else {
            self.left_out += 1;
        }
    }

    fn close(&mut self, id: u32, lasts: bool) {
        let Some(slow) = self.slow.remove(&id).filter(Slow::is_worth_saying) else { return };
        let (kind, confidence, victim) = (slow.kind(), slow.confidence, slow.victim.clone());
        self.push(slow.began, What::SlowBegan { victim: victim.clone(), kind, confidence });
        let mut culprits = Vec::new();
        for one in slow.culprits() {
            let share = one.excess / slow.excess.max(f64::MIN_POSITIVE);
            let culprit = {
                let (actor, op, trigger) = (one.actor.clone(), one.op, one.trigger.clone());
                Part { actor, op, share, trigger }
            };
            let came = What::CulpritCame { victim: victim.clone(), culprit: culprit.clone() };
            self.push(one.first, came);
            let is_there = lasts && slow.since == 0 && one.last >= slow.last;
            if !is_there {
                let (victim, culprit) = (victim.clone(), culprit.clone());
                let seconds = one.last - one.first;
                self.push(one.last, What::CulpritWent { victim, culprit, seconds });
            }
            culprits.push(culprit);
        }
        let lasts = lasts && slow.since == 0;
        let (from, to) = (slow.began, slow.last);
        let spans_gap = self.events.iter().any(|event| match event.what {
            What::Restart { to: end, .. } | What::Gap { to: end, .. } => {
                event.at < to && end > from && end - event.at > GAP_SECONDS
            }
            _ => false,
        });
        let ended = What::SlowEnded {
            victim,
            kind,
            confidence,
            began_at: slow.began,
            seconds: slow.last - slow.began,
            worst_p99_seconds: slow.worst_p99,
            excess_seconds: slow.excess,
            culprits,
            limit: slow.limit.filter(|_| kind == Kind::Limit),
            lasts,
            spans_gap,
        };
        self.push(slow.last, ended);
    }
}

#[cfg(test)]
mod tests;
