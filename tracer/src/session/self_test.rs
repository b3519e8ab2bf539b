//! The self-test: before anybody relies on the loaded programs, they must see the tracer's
//! own syncs.
//!
//! Another process makes the syncs ([`prover`](super::prover)): the disk may be
//! full, or not answer, and it is then that somebody starts the tracer. So the
//! start waits for it a little, and goes on unproven; what comes later, the answer
//! or somebody's own sync with its requests, proves it all the same.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use tracer_ebpf::record::{DiskUnknown, SyncRecord};
use tracer_kernel::{
    capability::Capability,
    clock::monotonic_ns,
    facts::Facts,
    load::Programs,
    maps::ring::{Record, RingReader},
    program::Program,
    selftest::{self, Ground, Performed, TestResult},
};

use super::{
    prover::{Prover, Said, Where},
    unproven::Unproven,
};

/// How long the start waits for the disk. It waits less if loading took long, so that the whole
/// start takes no longer than people will wait.
const PATIENCE: Duration = Duration::from_secs(3);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const WHOLE_START: Duration = Duration::from_millis(3500);

/// The time between two looks at the ring during that wait; others' records fill it meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is made again while the tracer runs: something else on the node, such
/// as a live patch, may take a hook off.
/// A round that fails is made once more, and both fit into a minute.
const AGAIN_NS: u64 = 50_000_000_000;

/// How often it is made on a disk that others use, if only a disk shows the hooks.
const RARELY_NS: u64 = 3_600_000_000_000;

/// Two rounds give one strategy up, and there are fewer than eight strategies.
const ROUNDS: usize = 16;

/// Own records that wait to be judged; a round has four.
const MAX_RECORDS: usize = 64;

/// The capabilities that the self-test tests.
const TESTED: [Capability; 3] = [Capability::Submit, Capability::Complete, Capability::Sync];

/// The self-test of a session, from its start on.
pub struct SelfTest {
    prover: Option<Prover>,
    /// When the present round was asked for; `None` if there is none.
    asked_ns: Option<u64>,
    /// The id of the process that syncs, as it is in records; 0 before it is known.
    tid: u32,
    /// The folder in which the process was last, and the disk of that folder.
    at: (PathBuf, Option<String>),
    /// The records of its own syncs since then.
    records: Vec<SyncRecord>,
    unproven: Option<Unproven>,
    /// Whether another process's sync was seen with its requests since the last test.
    is_witnessed: bool,
    /// A round that has ended, and whose last records may still be in the ring.
    ended: Option<Round>,
    /// Whether the last round failed; the next one decides.
    is_doubted: bool,
    due_ns: u64,
    /// When it was last made on a disk.
    on_disk_ns: u64,
}

/// The means of the test while the tracer runs.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// Whether all calls have hooks, those for files in memory too.
    pub sees_calls: bool,
    /// Disks that did nothing in the last minute.
    pub idle: &'a [String],
}

/// How one round ended.
#[derive(Debug)]
enum Round {
    Made(Ground, Performed),
    Failed(Unproven),
}

impl SelfTest {
    /// Runs the self-test until every selected strategy has been seen to fire, or no
    /// other is left, or the disk keeps us waiting. `meet` takes in the disks that the
    /// kernel programs do not know.
    pub fn run(
        programs: &mut Programs,
        facts: &Facts,
        ring: &mut RingReader,
        proc: PathBuf,
        started: Instant,
        mut meet: impl FnMut(&DiskUnknown),
    ) -> Self {
        let mut test = Self::new(proc);
        let left = WHOLE_START.saturating_sub(started.elapsed());
        let until = Instant::now() + left.clamp(LEAST_PATIENCE, PATIENCE);
        // On a busy machine some ends of requests are not seen: what fails once may
        // be right, what fails twice in a row is not.
        let mut doubted = None;
        for _ in 0..ROUNDS {
            if programs.missing().is_some() {
                break;
            }
            let (ground, performed) = match test.round(until, ring, &mut meet) {
                Round::Made(ground, performed) => (ground, performed),
                Round::Failed(why) => {
                    test.unproven = Some(why);
                    break;
                }
            };
            let result = selftest::judge(&ground, performed, &test.records);
            let Some((capability, why)) = result.failure else {
                mark_silent_hooks(programs, &result);
                if !ground.on_disk {
                    test.unproven = Some(Unproven::NotOnDisk(ground.folder));
                }
                break;
            };
            if doubted.replace(capability) == Some(capability) {
                programs.give_up(facts, capability, &why);
                doubted = None;
            }
        }
        if let Some(unproven) = &test.unproven {
            let why = unproven.sentence(monotonic_ns());
            let is_untested = |capability: &Capability| {
                *capability != Capability::Sync || !matches!(unproven, Unproven::NotOnDisk(_))
            };
            for capability in TESTED.into_iter().filter(is_untested) {
                programs.mark_untested(capability, &why);
            }
        }
        test
    }

    /// `proc` is the `/proc` whose process ids are in records.
    fn new(proc: PathBuf) -> Self {
        let (prover, unproven) = match Prover::start(proc) {
            Ok(prover) => (Some(prover), None),
            Err(error) => (None, Some(Unproven::NotMade(format!("{error:#}")))),
        };
        Self {
            prover,
            asked_ns: None,
            tid: 0,
            at: (PathBuf::new(), None),
            records: Vec::new(),
            unproven,
            is_witnessed: false,
            ended: None,
            is_doubted: false,
            due_ns: monotonic_ns() + AGAIN_NS,
            on_disk_ns: monotonic_ns(),
        }
    }

    /// Why it is not known whether the hooks fire; `None` where it is.
    pub fn unproven(&self) -> Option<&Unproven> {
        self.unproven.as_ref()
    }

    /// Makes the test once, and drains its records.
    fn round(
        &mut self,
        until: Instant,
        ring: &mut RingReader,
        meet: &mut impl FnMut(&DiskUnknown),
    ) -> Round {
        if let Some(Unproven::NotMade(why)) = &self.unproven {
            return Round::Failed(Unproven::NotMade(why.clone()));
        }
        if let Err(error) = self.ask(Where::Disk) {
            return Round::Failed(self.lost(&error));
        }
        loop {
            let answer = self.answer(LOOK);
            // After the answer, so that its records are there.
            ring.drain(|record| match record {
                Record::Sync(record, _) => drop(self.keep_if_own(record)),
                // The disk is known in the next round.
                Record::DiskUnknown(disk) => meet(&disk),
                Record::Foreign => {}
            });
            match answer {
                Some(round) => return round,
                None if Instant::now() >= until => return Round::Failed(self.late()),
                None => {}
            }
        }
    }

    fn ask(&mut self, place: Where) -> io::Result<()> {
        self.records.clear();
        self.asked_ns = Some(monotonic_ns());
        match &mut self.prover {
            Some(prover) => prover.order(place),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// How the round that was asked for ended, once it has.
    fn answer(&mut self, within: Duration) -> Option<Round> {
        self.asked_ns?;
        loop {
            let round = match self.prover.as_mut()?.said(within) {
                Ok(None) => return None,
                Ok(Some(Said::Am { tid })) => {
                    self.tid = tid;
                    continue;
                }
                Ok(Some(Said::At { folder, disk })) => {
                    self.at = (folder, disk);
                    continue;
                }
                Ok(Some(Said::Performed { ground, performed })) => Round::Made(ground, performed),
                Ok(Some(Said::NoFolder { why })) => Round::Failed(Unproven::NoFolder(why)),
                Err(error) => Round::Failed(self.lost(&error)),
            };
            self.asked_ns = None;
            return Some(round);
        }
    }

    fn late(&self) -> Unproven {
        let (folder, disk) = self.at.clone();
        Unproven::Late { folder, disk, since_ns: self.asked_ns.unwrap_or_else(monotonic_ns) }
    }

    fn lost(&mut self, error: &io::Error) -> Unproven {
        self.prover = None;
        self.asked_ns = None;
        // Another process may have its number next.
        self.tid = 0;
        Unproven::NotMade(format!("its process is gone: {error}"))
    }

    /// Whether a sync is one of its own.
    pub fn is_own(&self, record: &SyncRecord) -> bool {
        self.tid != 0 && record.tid == self.tid
    }

    /// Keeps a record of its own syncs, and says whether it was one.
    pub fn keep_if_own(&mut self, record: &SyncRecord) -> bool {
        let is_own = self.is_own(record);
        if is_own && self.records.len() < MAX_RECORDS {
            self.records.push(*record);
        }
        self.is_witnessed |= !is_own && selftest::is_proof(record);
        is_own
    }

    /// Whether the test is to be made again, which is a minute after the last time.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.due_ns && self.asked_ns.is_none() && self.ended.is_none()
    }

    /// Makes the test again. If all calls have hooks, a file in memory is enough to show
    /// that they fire. Otherwise other processes' syncs show it, or, if there are none, a
    /// file on a disk: one that is idle, or once an hour one that is in use.
    pub fn make_again(&mut self, now_ns: u64, means: Means<'_>) {
        self.due_ns = now_ns.saturating_add(AGAIN_NS);
        let was_witnessed = std::mem::take(&mut self.is_witnessed);
        let is_idle = self.at.1.as_ref().is_some_and(|disk| means.idle.contains(disk));
        let is_rare = now_ns.saturating_sub(self.on_disk_ns) >= RARELY_NS;
        let place = if means.sees_calls {
            Where::Memory
        } else if !was_witnessed && (is_idle || is_rare) {
            self.on_disk_ns = now_ns;
            Where::Disk
        } else {
            return;
        };
        if let Err(error) = self.ask(place) {
            self.unproven = Some(self.lost(&error));
        }
    }

    /// Notes that requests were not seen, or that they are seen again.
    pub fn judge_requests(&mut self, unseen: Option<String>) {
        match (unseen, &self.unproven) {
            (Some(why), _) => {
                self.unproven = Some(Unproven::Silent(Capability::Complete, why));
            }
            (None, Some(Unproven::Silent(Capability::Complete, _))) => self.unproven = None,
            (None, _) => {}
        }
    }

    /// Takes in what was found out since the last time.
    pub fn tick(&mut self, programs: &mut Programs) {
        let was_unproven = self.unproven.is_some();
        // A round that has ended by now has its records in the ring, which is read before
        // the next tick.
        let ended = self.ended.take();
        self.ended = self.answer(Duration::ZERO);
        match ended {
            None => {}
            Some(Round::Failed(why)) => self.unproven = Some(why),
            Some(Round::Made(ground, performed)) => {
                let result = selftest::judge(&ground, performed, &self.records);
                self.conclude(ground, result);
            }
        }
        let is_of_syncs = matches!(self.unproven, Some(Unproven::Silent(Capability::Sync, _)));
        if self.is_witnessed && !is_of_syncs {
            self.unproven = None;
        }
        if was_unproven && self.unproven.is_none() {
            programs.mark_tested();
        }
    }

    /// Takes in the result of a round that was made while the tracer runs.
    fn conclude(&mut self, ground: Ground, result: TestResult) {
        let Some((capability, why)) = result.failure else {
            self.is_doubted = false;
            self.unproven = match self.unproven.take() {
                // Memory says nothing of requests, nor of a disk.
                Some(Unproven::Silent(Capability::Sync, _)) | None => None,
                Some(_) if ground.on_disk => None,
                other if ground == Ground::memory() => other,
                Some(_) => Some(Unproven::NotOnDisk(ground.folder)),
            };
            return;
        };
        if std::mem::replace(&mut self.is_doubted, true) {
            self.unproven = Some(Unproven::Silent(capability, why));
        } else {
            // On a busy machine some ends are not seen: what fails once may be right.
            let place = if ground.on_disk { Where::Disk } else { Where::Memory };
            if let Err(error) = self.ask(place) {
                self.unproven = Some(self.lost(&error));
            }
        }
    }
}

/// Optional hooks may be silent too.
fn mark_silent_hooks(programs: &mut Programs, result: &TestResult) {
    if !result.named {
        programs.mark_silent(Capability::Sync, Program::WriteFileEntry);
    }
    if !result.o_dsync {
        programs.mark_silent(Capability::Sync, Program::VfsRangeEntry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_is_named_with_how_long_it_has_not() {
        let folder = PathBuf::from("/var/lib");
        let late = |disk: Option<&str>| Unproven::Late {
            folder: folder.clone(),
            disk: disk.map(str::to_owned),
            since_ns: 5_000_000_000,
        };
        let check = |unproven: Unproven, now_ns, sentence: &str| {
            assert_eq!(unproven.sentence(now_ns), sentence);
        };
        check(
            late(Some("sdb")),
            8_400_000_000,
            "the disk of the self-test (sdb, /var/lib) has not answered for 3 s",
        );
        check(
            late(None),
            76_000_000_000,
            "the disk of the self-test (/var/lib) has not answered for 71 s",
        );
        // A clock that went back does not make it giant.
        check(late(None), 1, "the disk of the self-test (/var/lib) has not answered for 0 s");
    }

    fn test() -> SelfTest {
        SelfTest {
            prover: None,
            tid: 0,
            asked_ns: None,
            at: (PathBuf::new(), Some("sdb".to_owned())),
            records: Vec::new(),
            unproven: None,
            is_witnessed: false,
            ended: None,
            is_doubted: false,
            due_ns: 0,
            on_disk_ns: 0,
        }
    }

    fn result(failure: Option<Capability>) -> TestResult {
        let failure = failure.map(|capability| (capability, "none was seen".to_owned()));
        TestResult { failure, named: true, o_dsync: true }
    }

    #[test]
    fn a_round_in_memory_clears_what_it_can_speak_of() {
        let check = |unproven: Unproven, ground: Ground, is_cleared: bool| {
            let mut test = SelfTest { unproven: Some(unproven.clone()), ..test() };
            test.conclude(ground, result(None));
            assert_eq!(test.unproven, (!is_cleared).then_some(unproven));
        };
        let silent = |capability| Unproven::Silent(capability, String::new());
        let disk = Ground { folder: "/x".into(), disk: None, on_disk: true };
        check(silent(Capability::Sync), Ground::memory(), true);
        check(silent(Capability::Submit), Ground::memory(), false);
        check(silent(Capability::Submit), disk.clone(), true);
        check(Unproven::NoFolder(String::new()), Ground::memory(), false);
        check(Unproven::NoFolder(String::new()), disk, true);
    }

    /// Others' use of it is not disturbed more than once an hour.
    #[test]
    fn a_disk_is_used_where_nothing_else_shows_the_hooks() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let check = |sees_calls, is_witnessed, idle: &[&str], now_ns, asks, on_disk| {
            let mut test = SelfTest { is_witnessed, ..test() };
            let idle: Vec<_> = idle.iter().map(|&name| name.to_owned()).collect();
            test.make_again(now_ns, Means { sees_calls, idle: &idle });
            // There is no process to ask, so the test fails exactly if it would have asked.
            assert_eq!(test.unproven.is_some(), asks);
            assert_eq!(test.on_disk_ns == now_ns, on_disk);
            assert!(!test.is_due(now_ns));
        };
        check(true, false, &["sdb"], 60, true, false);
        check(false, true, &["sdb"], 60, false, false);
        check(false, false, &["sdb"], 60, true, true);
        check(false, false, &["sda"], 60, false, false);
        check(false, false, &[], HOUR_NS, true, true);
    }

    #[test]
    fn requests_that_are_not_seen_are_said_until_they_are() {
        let mut test = test();
        test.judge_requests(Some("none of 500 requests of sda was seen".to_owned()));
        assert_eq!(test.unproven.as_ref().map(Unproven::word), Some("hook_silent"));
        test.judge_requests(None);
        assert_eq!(test.unproven, None);
    }
}
