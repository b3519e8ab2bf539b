//! A victim while it is slow: what its periods add up to.

use tracer_snapshot::{Actor, Confidence, Kind, Op, Trigger, Victim};

use super::Subject;

/// Seconds of excess in one period that are worth an event by themselves: a tenth of the period.
const MUCH_SECONDS: f64 = 1.0;

/// Fewer seconds of excess than this, all together, are never worth an event.
const LITTLE_SECONDS: f64 = 0.25;

/// A culprit has at least this part of the excess.
const CULPRIT_SHARE: f64 = 0.1;

/// Culprits of one event, at most.
const CULPRITS: usize = 4;

/// Actors that are remembered as blamed while a victim is slow.
const BLAMED: usize = 64;

/// A victim while it is slow.
#[derive(Debug)]
pub(super) struct Slow {
    pub(super) victim: Subject,
    pub(super) began: f64,
    pub(super) last: f64,
    /// The number of periods in which it was slow.
    periods: u32,
    /// The number of periods since it was last slow.
    pub(super) since: u32,
    is_worth_saying: bool,
    pub(super) confidence: Confidence,
    pub(super) worst_p99: f64,
    pub(super) excess: f64,
    by_kind: Vec<(Kind, f64)>,
    /// The first one that was named.
    pub(super) limit: Option<String>,
    blamed: Vec<Blamed>,
}

#[derive(Debug)]
pub(super) struct Blamed {
    pub(super) actor: Actor,
    pub(super) op: Op,
    pub(super) excess: f64,
    pub(super) first: f64,
    pub(super) last: f64,
    /// The first one.
    pub(super) trigger: Option<Trigger>,
}

/// Whether the verdict of a period says that the victim is slow.
pub(super) fn is_slow(victim: &Victim) -> bool {
    let verdict = &victim.verdict;
    verdict.slower_than.is_some() && !matches!(verdict.kind, Kind::None | Kind::Unknown)
}

impl Slow {
    pub(super) fn new(victim: &Victim, from: f64) -> Self {
        Self {
            victim: victim.into(),
            began: from,
            last: from,
            periods: 0,
            since: 0,
            is_worth_saying: false,
            confidence: Confidence::Low,
            worst_p99: 0.0,
            excess: 0.0,
            by_kind: Vec::new(),
            limit: None,
            blamed: Vec::new(),
        }
    }

    pub(super) fn add_period(&mut self, victim: &Victim, from: f64, to: f64) {
        let verdict = &victim.verdict;
        let excess = verdict.excess_seconds;
        (self.last, self.since) = (to, 0);
        self.periods += 1;
        self.confidence = self.confidence.max(verdict.confidence);
        self.worst_p99 = self.worst_p99.max(victim.p99_seconds);
        self.excess += excess;
        let is_much = verdict.confidence >= Confidence::Medium && excess >= MUCH_SECONDS;
        self.is_worth_saying |= is_much;
        if verdict.kind == Kind::Limit && self.limit.is_none() {
            self.limit.clone_from(&verdict.limit);
        }
        match self.by_kind.iter_mut().find(|(kind, _)| *kind == verdict.kind) {
            Some((_, sum)) => *sum += excess,
            None => self.by_kind.push((verdict.kind, excess)),
        }
        for culprit in &verdict.culprits {
            let of = excess * culprit.share;
            let is_same = |known: &&mut Blamed| {
                let Actor { comm, cgroup, kernel_thread, .. } = &known.actor;
                (comm, cgroup, *kernel_thread, known.op)
                    == (
                        &culprit.actor.comm,
                        &culprit.actor.cgroup,
                        culprit.actor.kernel_thread,
                        culprit.op,
                    )
            };
            let has_room = self.blamed.len() < BLAMED;
            match self.blamed.iter_mut().find(is_same) {
                Some(known) => {
                    (known.excess, known.last) = (known.excess + of, to);
                    known.trigger = known.trigger.take().or_else(|| culprit.trigger.clone());
                }
                None if has_room => self.blamed.push(Blamed {
                    actor: culprit.actor.clone(),
                    op: culprit.op,
                    excess: of,
                    first: from,
                    last: to,
                    trigger: culprit.trigger.clone(),
                }),
                None => {}
            }
        }
    }

    /// Whether it is an event. A single period with little excess may be chance.
    pub(super) fn is_worth_saying(&self) -> bool {
        let enough = if self.confidence >= Confidence::Medium { 2 } else { 3 };
        self.excess >= LITTLE_SECONDS && (self.is_worth_saying || self.periods >= enough)
    }

    /// The cause of most of the excess.
    pub(super) fn kind(&self) -> Kind {
        let most = self.by_kind.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        most.map_or(Kind::Unknown, |(kind, _)| *kind)
    }

    /// Those with a part worth saying, the worst first.
    pub(super) fn culprits(&self) -> Vec<&Blamed> {
        let is_one = |one: &&Blamed| one.excess >= CULPRIT_SHARE * self.excess;
        let mut culprits: Vec<_> = self.blamed.iter().filter(is_one).collect();
        culprits.sort_by(|a, b| b.excess.total_cmp(&a.excess));
        culprits.truncate(CULPRITS);
        culprits
    }
}
