//! Decides about requests in flight on a disk on which the kernel counts none: they wait in
//! the queue, or their completion was missed.
//!
//! A request that was issued, and that the driver no longer has, is over. One that waits in
//! a scheduler, for a flush or since it was requeued is not counted while it waits, and a
//! disk that hangs may let it wait forever. So time alone does not end it: others that came
//! later must have got through, by the kernel's own count of what completed.

use std::{collections::BTreeMap, time::Duration};

use tracer_ebpf::record::{op, waits};

/// If a request was issued this long ago, and the kernel counts none in flight, its
/// completion was missed.
pub(super) const RECONCILE_GRACE: Duration = Duration::from_secs(2);

/// A scheduler may hold a request back for long; the kernel does not count it as
/// in flight meanwhile.
const QUEUED_GRACE: Duration = Duration::from_secs(60);

/// A request that waits is taken for over once four others have completed since. A request
/// waits for two flushes on its hardware queue, the one under way and its own.
const OVERTAKEN: u64 = 4;

/// Whether a request may wait in its disk's queue while the driver has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// There is a scheduler.
    MayHold,
    /// A request that was not seen to be issued was issued all the same.
    HoldsNone,
}

/// The requests that have completed on a disk so far, by the kernel's count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Completed {
    pub all: u64,
    /// The flushes among them.
    pub flushes: u64,
}

/// A disk whose driver has no request, by the kernel's count.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    pub queue: Queue,
    /// `None` for a disk that is gone: nothing waits there.
    pub completed: Option<Completed>,
}

impl Idle {
    pub const GONE: Self = Self { queue: Queue::HoldsNone, completed: None };
}

/// A request in flight by the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub address: u64,
    pub submitted_ns: u64,
    /// 0 where the issue was not seen.
    pub issued_ns: u64,
    /// A code of [`op`].
    pub op: u32,
    /// Bits of [`waits`].
    pub may_wait: u32,
}

/// Requests that wait on one disk, and what had completed there when they were first seen to.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    since: BTreeMap<(u64, u64), Completed>,
}

impl Waiting {
    /// A look at all that wait now; those that are not met in it are forgotten.
    pub fn look(&mut self, now_ns: u64, idle: Idle) -> Look<'_> {
        let before = std::mem::take(&mut self.since);
        Look { now_ns, idle, before, waiting: self }
    }
}

/// A look at the requests of one disk.
pub(super) struct Look<'a> {
    now_ns: u64,
    idle: Idle,
    before: BTreeMap<(u64, u64), Completed>,
    waiting: &'a mut Waiting,
}

impl Look<'_> {
    /// Whether the completion of a request was missed.
    pub fn is_over(&mut self, request: &Left) -> bool {
        let Left { address, submitted_ns, issued_ns, op, may_wait } = *request;
        // One that waits for a flush may have been issued: the flush comes after the data.
        let for_flush = op == op::FLUSH || may_wait & waits::FLUSH != 0;
        let may_hold = self.idle.queue == Queue::MayHold || may_wait != 0;
        let (since, grace) = match issued_ns {
            // Many kernels never count one in flight.
            _ if op == op::PASS_THROUGH => (submitted_ns, QUEUED_GRACE),
            0 if may_hold => (submitted_ns, QUEUED_GRACE),
            0 => (submitted_ns, RECONCILE_GRACE),
            _ => (issued_ns, RECONCILE_GRACE),
        };
        let is_late = Duration::from_nanos(self.now_ns.saturating_sub(since)) >= grace;
        let may_wait = issued_ns == 0 && may_hold && op != op::PASS_THROUGH;
        let Some(completed) = self.idle.completed.filter(|_| for_flush || may_wait) else {
            return is_late;
        };
        let before = self.before.get(&(address, submitted_ns)).copied().unwrap_or(completed);
        let others = if for_flush {
            completed.flushes.saturating_sub(before.flushes)
        } else {
            completed.all.saturating_sub(before.all)
        };
        let is_over = is_late && others >= OVERTAKEN;
        if !is_over {
            self.waiting.since.insert((address, submitted_ns), before);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SUBMITTED: u64 = 100 * SECOND;

    /// A request that was submitted at second 100 and not seen to be issued.
    fn unissued(may_wait: u32) -> Left {
        Left { address: u64::MAX, submitted_ns: SUBMITTED, issued_ns: 0, op: op::WRITE, may_wait }
    }

    /// For how many seconds a request stays in flight, at most ten minutes, where
    /// `each_second` says how many requests and flushes end in each second.
    fn stays(request: &Left, queue: Queue, each_second: Completed) -> u64 {
        let mut waiting = Waiting::default();
        let is_over = |second: &u64| {
            let completed = Completed {
                all: 1000 + second * each_second.all,
                flushes: 100 + second * each_second.flushes,
            };
            let now_ns = SUBMITTED + second * SECOND;
            waiting.look(now_ns, Idle { queue, completed: Some(completed) }).is_over(request)
        };
        (1..=600).find(is_over).unwrap_or(u64::MAX)
    }

    const NOTHING: Completed = Completed { all: 0, flushes: 0 };
    const READS: Completed = Completed { all: 50, flushes: 0 };
    const FLUSHES: Completed = Completed { all: 50, flushes: 10 };

    #[test]
    fn what_was_issued_and_is_not_in_flight_is_over_soon() {
        let issued = Left { issued_ns: SUBMITTED, ..unissued(0) };
        for queue in [Queue::MayHold, Queue::HoldsNone] {
            assert_eq!(stays(&issued, queue, NOTHING), 2);
        }
        assert_eq!(stays(&unissued(0), Queue::HoldsNone, NOTHING), 2);
    }

    #[test]
    fn what_waits_for_a_flush_stays_until_flushes_got_through() {
        for queue in [Queue::MayHold, Queue::HoldsNone] {
            let waits = unissued(waits::FLUSH);
            assert_eq!(stays(&waits, queue, NOTHING), u64::MAX);
            assert_eq!(stays(&waits, queue, READS), u64::MAX, "reads say nothing of flushes");
            assert_eq!(stays(&waits, queue, FLUSHES), 60);
            // Its data were written, and the flush after them hangs.
            let issued = Left { issued_ns: SUBMITTED, ..waits };
            assert_eq!(stays(&issued, queue, READS), u64::MAX);
            assert_eq!(stays(&issued, queue, FLUSHES), 2);
            // The flush itself.
            let flush = Left { op: op::FLUSH, issued_ns: SUBMITTED, ..unissued(0) };
            assert_eq!(stays(&flush, queue, READS), u64::MAX);
            assert_eq!(stays(&flush, queue, FLUSHES), 2);
        }
    }

    #[test]
    fn what_a_scheduler_holds_or_was_requeued_stays_until_others_got_through() {
        let check = |request, queue| {
            assert_eq!(stays(&request, queue, NOTHING), u64::MAX);
            assert_eq!(stays(&request, queue, READS), 60);
        };
        check(unissued(0), Queue::MayHold);
        check(unissued(waits::REQUEUED), Queue::HoldsNone);
    }

    #[test]
    fn a_command_that_is_passed_through_stays_for_a_minute() {
        let command = Left { op: op::PASS_THROUGH, ..unissued(0) };
        for queue in [Queue::MayHold, Queue::HoldsNone] {
            for issued_ns in [0, SUBMITTED + SECOND] {
                assert_eq!(stays(&Left { issued_ns, ..command }, queue, READS), 60);
            }
        }
    }

    #[test]
    fn what_completed_before_it_was_seen_to_wait_does_not_count() {
        let mut waiting = Waiting::default();
        let request = unissued(waits::FLUSH);
        let mut look = |second: u64, flushes| {
            let completed = Some(Completed { all: flushes, flushes });
            let idle = Idle { queue: Queue::HoldsNone, completed };
            waiting.look(SUBMITTED + second * SECOND, idle).is_over(&request)
        };
        assert!(!look(100, 1_000_000));
        assert!(!look(101, 1_000_003));
        assert!(look(102, 1_000_004));
        // Another request at its address waits again.
        assert!(!look(103, 1_000_005));
    }

    #[test]
    fn a_disk_that_is_gone_has_nothing_that_waits() {
        let mut waiting = Waiting::default();
        for request in [unissued(0), Left { op: op::FLUSH, issued_ns: SUBMITTED, ..unissued(1) }] {
            assert!(
                waiting
                    .look(SUBMITTED + 2 * SECOND, Idle::GONE)
                    .is_over(&Left { may_wait: 0, ..request })
            );
            assert!(waiting.look(SUBMITTED + 60 * SECOND, Idle::GONE).is_over(&request));
        }
    }
}
