//! The engine against a brute-force oracle.
//!
//! Random timelines of requests and syncs go through the kernel side's own
//! arithmetic (`tracer_ebpf::ledger`), as the kernel programs would do it, and
//! through a simulation that knows every request. Interval sums must agree to
//! the ticks that they are counted in; blame must add up to the wait; who has
//! nothing on the path gets exactly nothing.

use proptest::prelude::*;
use tracer_ebpf::{
    ledger::{Moment, TICK_SHIFT, submission, tick},
    record::{ACCOUNTS, Account, COMM, SyncRecord, op},
};
use zerocopy::FromZeros as _;

use super::{
    Engine,
    blame::{Owner, OwnerId},
    suspect::Suspect,
};

/// Accounts that the timelines use: 1 is the victim's own, 2 its journal's.
const USED: usize = 6;

const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
struct Request {
    account: usize,
    submitted_ns: u64,
    end_ns: u64,
}

#[derive(Clone, Debug)]
struct Sync {
    begin_ns: u64,
    end_ns: u64,
}

/// The start of the machine's clock: any uptime up to three years.
fn timelines() -> impl Strategy<Value = (Vec<Request>, Vec<Sync>)> {
    let uptime = 0u64..95_000_000_000_000_000;
    let request = (1..USED, 0u64..400 * MS, 1u64..80 * MS);
    let sync = (0u64..400 * MS, MS..60 * MS);
    (uptime, prop::collection::vec(request, 0..60), prop::collection::vec(sync, 1..12)).prop_map(
        |(uptime, requests, syncs)| {
            let requests = requests.into_iter().map(|(account, at, length)| Request {
                account,
                submitted_ns: uptime + at,
                end_ns: uptime + at + length,
            });
            let syncs = syncs
                .into_iter()
                .map(|(at, length)| Sync { begin_ns: uptime + at, end_ns: uptime + at + length });
            (requests.collect(), syncs.collect())
        },
    )
}

/// An event at one moment; at equal times they happen in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Submitted(usize),
    Ended(usize),
    Begin(usize),
    End(usize),
}

/// The kernel side: accounts changed as its programs change them, read as they
/// read them.
#[derive(Default)]
struct Kernel {
    accounts: [Account; USED],
}

impl Kernel {
    fn submit(&mut self, request: &Request) {
        let account = &mut self.accounts[request.account];
        account.word = account.word.wrapping_add(submission(tick(request.submitted_ns)));
    }

    /// The first of an end's two adds, and the second.
    fn settle_age(&mut self, request: &Request) {
        let age = tick(request.end_ns) - tick(request.submitted_ns);
        let account = &mut self.accounts[request.account];
        account.done = account.done.wrapping_add(age);
    }

    fn settle_submission(&mut self, request: &Request) {
        let account = &mut self.accounts[request.account];
        account.word = account.word.wrapping_sub(submission(tick(request.submitted_ns)));
    }

    fn read(&self, now_ns: u64) -> [u64; USED] {
        let now = Moment::at(tick(now_ns));
        self.accounts.map(|account| now.integral(account.word, account.done))
    }
}

/// The records of all syncs, in the order of `syncs`. With `torn`, each reading
/// that an end has just preceded happens between its two adds.
fn through_the_ledger(requests: &[Request], syncs: &[Sync], torn: bool) -> Vec<SyncRecord> {
    let mut events = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        events.push((request.submitted_ns, Event::Submitted(at)));
        events.push((request.end_ns, Event::Ended(at)));
    }
    for (at, sync) in syncs.iter().enumerate() {
        events.push((sync.begin_ns, Event::Begin(at)));
        events.push((sync.end_ns, Event::End(at)));
    }
    events.sort_unstable();

    let mut kernel = Kernel::default();
    let mut half_settled: Option<usize> = None;
    let mut marks = vec![[0; USED]; syncs.len()];
    let mut records = vec![SyncRecord::new_zeroed(); syncs.len()];
    for (now_ns, event) in events {
        match event {
            Event::Begin(at) => marks[at] = kernel.read(now_ns),
            Event::End(at) => {
                let record = &mut records[at];
                record.begin_ns = syncs[at].begin_ns;
                record.duration_ns = now_ns - syncs[at].begin_ns;
                record.cgroup = 10;
                record.comm = comm("etcd");
                for (account, end) in kernel.read(now_ns).into_iter().enumerate() {
                    record.integrals[account] = end.wrapping_sub(marks[at][account]);
                }
            }
            _ => {}
        }
        if let Some(request) = half_settled.take() {
            kernel.settle_submission(&requests[request]);
        }
        match event {
            Event::Submitted(at) => kernel.submit(&requests[at]),
            Event::Ended(at) => {
                kernel.settle_age(&requests[at]);
                if torn {
                    half_settled = Some(at);
                } else {
                    kernel.settle_submission(&requests[at]);
                }
            }
            _ => {}
        }
    }
    records
}

/// The syncs moved so that each begins and ends at the moment at which a
/// request ends, where there is one.
fn meeting_ends(requests: &[Request], syncs: &[Sync]) -> Vec<Sync> {
    let nearest = |at: u64| {
        let ends = requests.iter().map(|request| request.end_ns);
        ends.min_by_key(|end| end.abs_diff(at)).unwrap_or(at)
    };
    let moved = syncs.iter().map(|sync| {
        let begin_ns = nearest(sync.begin_ns);
        Sync { begin_ns, end_ns: nearest(sync.end_ns).max(begin_ns) }
    });
    moved.collect()
}

/// Time-integral of an account's requests in flight during a sync, in ns.
fn by_brute_force(requests: &[Request], sync: &Sync, account: usize) -> u64 {
    let of_account = requests.iter().filter(|request| request.account == account);
    of_account
        .map(|request| {
            let from = request.submitted_ns.max(sync.begin_ns);
            request.end_ns.min(sync.end_ns).saturating_sub(from)
        })
        .sum()
}

fn comm(name: &str) -> [u8; COMM] {
    let mut comm = [0; COMM];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

fn owners() -> [Owner; ACCOUNTS] {
    let mut owners = [Owner::default(); ACCOUNTS];
    let names = ["", "etcd", "jbd2/vda1-8", "fstrim", "fio", "restic"];
    for (at, name) in names.iter().enumerate() {
        let kthread = name.starts_with("jbd2");
        owners[at] = Owner {
            id: OwnerId(at as u32),
            cgroup: if kthread { 0 } else { 9 + at as u64 },
            comm: comm(name),
            kthread,
            op: op::WRITE as u16,
            weight_ns: 100_000 * at as u32,
            via: 0,
        };
    }
    owners
}

/// Each submission and completion, and the begin and the end of the sync, are rounded to a
/// tick.
fn tolerance_ticks(requests: &[Request]) -> u64 {
    2 * requests.len() as u64 + 2
}

proptest! {
    #[test]
    fn interval_sums_are_those_of_a_simulation((requests, syncs) in timelines()) {
        let records = through_the_ledger(&requests, &syncs, false);
        for (record, sync) in records.iter().zip(&syncs) {
            for account in 0..USED {
                let ours = record.integrals[account] as i64;
                let theirs = by_brute_force(&requests, sync, account) >> TICK_SHIFT;
                let off = (ours - theirs as i64).unsigned_abs();
                prop_assert!(off <= tolerance_ticks(&requests), "{ours} for {theirs}");
            }
        }
    }

    /// A reading between an end's two adds is off by at most the ages of the
    /// requests that were ending at its two ends, and only for their accounts.
    #[test]
    fn a_torn_reading_is_off_by_at_most_the_ages_of_those_that_ended(
        (requests, syncs) in timelines(),
    ) {
        let syncs = meeting_ends(&requests, &syncs);
        let records = through_the_ledger(&requests, &syncs, true);
        for (record, sync) in records.iter().zip(&syncs) {
            for account in 0..USED {
                let mine = requests.iter().filter(|r| r.account == account);
                let oldest = mine.map(|r| r.end_ns - r.submitted_ns).max().unwrap_or(0) >> TICK_SHIFT;
                let ours = record.integrals[account] as i64;
                let theirs = by_brute_force(&requests, sync, account) >> TICK_SHIFT;
                let off = (ours - theirs as i64).unsigned_abs();
                prop_assert!(off <= oldest + tolerance_ticks(&requests), "{ours} for {theirs}");
            }
        }
    }

    #[test]
    fn blame_and_baseline_are_the_wait_and_who_was_not_there_gets_nothing(
        (requests, syncs) in timelines(),
        torn in any::<bool>(),
    ) {
        let owners = owners();
        let syncs = if torn { meeting_ends(&requests, &syncs) } else { syncs };
        for record in through_the_ledger(&requests, &syncs, torn) {
            // A victim of its own for each, so that its blame is this sync's.
            let mut engine = Engine::new();
            let judged = engine.ingest(&record, &[], 0, 0, |_| &owners);
            let victim = &engine.victims()[0];
            let d = judged.division;
            let blamed: f64 = victim.suspects.iter().map(Suspect::fresh_ns).sum();
            let parts = blamed + d.own_ns + d.memory_ns + d.throttle_ns + d.stopped_ns + d.handles_ns + d.journal_ns + d.commits_ns
                + d.device_ns + d.unexplained_ns;
            prop_assert!((parts - d.excess_ns).abs() <= 1e-5 * (d.excess_ns + 1.0));
            let wait_ns = judged.phases.wait_ns() as f64;
            let baseline_ns = wait_ns - d.excess_ns;
            prop_assert!(baseline_ns >= 0.0 && d.excess_ns <= wait_ns);

            let sync = Sync {
                begin_ns: record.begin_ns,
                end_ns: record.begin_ns + record.duration_ns,
            };
            for suspect in &victim.suspects {
                let account = suspect.owner.0 as usize;
                let near = requests.iter().any(|r| {
                    r.account == account && r.submitted_ns <= sync.end_ns && r.end_ns + 256 >= sync.begin_ns
                });
                let charged = suspect.fresh_ns();
                prop_assert!(near || charged == 0.0, "account {account} was not there");
            }
        }
    }
}
