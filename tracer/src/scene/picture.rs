//! From state to [`Snapshot`]: numbers get their names here.

use tracer_ebpf::{
    bucket::{BUCKETS, upper_edge_ns},
    record::{COMM, NO_DISK, OwnerKey, SyncRecord, kind, op, stage},
};

use super::Session;
use crate::{
    accounts::{Accounts, DiskAccounts},
    clock::{Clock, monotonic_ns},
    disks,
    engine::{
        Engine, Judged,
        blame::{OwnerId, Party},
        verdict::{Cleared, Finding, Judgement, Shares, judge},
        victim::{Half, Span, Victim},
    },
    files::{FileId, Files},
    identity::Identities,
    snapshot::{
        self, Blame, Change, Confidence, Culprit, DeviceState, Disk, Evidence, Kernel, Kind,
        Latency, Op, OwnWork, OwnerRow, RuledOut, SCHEMA, SlowSync, Snapshot, SyncOwner, Totals,
        Verdict, Who,
    },
};

/// Kinds of syncs by their codes.
const KINDS: [&str; kind::COUNT] = [
    "fsync",
    "fdatasync",
    "msync",
    "sync_file_range",
    "syncfs",
    "sync",
    "o_dsync write",
    "io_uring",
    "kernel",
];

/// A task name as the kernel keeps it, up to its NUL.
pub fn comm_text(comm: &[u8; COMM]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(COMM);
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

fn operation(code: u16) -> Op {
    Op::ALL.get(usize::from(code)).copied().unwrap_or(Op::Read)
}

/// Who an owner is. The account "others" is a crowd, and says so.
fn owner(identities: &mut Identities, key: &OwnerKey, tgid: u32, now_ns: u64) -> Who {
    if *key == OwnerKey::default() {
        return Who { comm: "(others)".to_owned(), ..Who::default() };
    }
    let comm = comm_text(&key.comm);
    identities.who(&comm, tgid, key.cgroup, key.kthread != 0, now_ns)
}

impl Session {
    /// A picture of the last seconds.
    pub fn snapshot(&mut self) -> Snapshot {
        self.snapshot_of(Span::Window)
    }

    /// A picture of all that happened since the period began.
    pub fn snapshot_of(&mut self, span: Span) -> Snapshot {
        let now = monotonic_ns();
        self.tick_if_due(now);
        // Lent for the while: naming its victims changes what is remembered.
        let engine = std::mem::take(&mut self.engine);
        let victims = engine.victims().iter();
        let mut victims: Vec<_> =
            victims.filter_map(|victim| self.victim(&engine, victim, span, now)).collect();
        self.engine = engine;
        let cost = |v: &snapshot::Victim| v.phases.total();
        victims.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then(a.id.cmp(&b.id)));
        let disks = (0..self.accounts.disks().len()).map(|at| self.disk(at, now)).collect();
        Snapshot {
            schema: SCHEMA,
            at: self.clock.unix_seconds(now),
            window_seconds: seconds(now.saturating_sub(match span {
                Span::Window => self.window_ns,
                Span::Period => self.period_ns,
            })),
            watched_seconds: seconds(now.saturating_sub(self.started_ns)),
            kernel: self.kernel(),
            victims,
            disks,
            cost: self.metrics.cost(),
            losses: self.metrics.losses(),
            metrics: self.metrics.dump(),
        }
    }

    fn kernel(&self) -> Kernel {
        let climbs = self.climbs();
        let hooks = climbs
            .iter()
            .filter_map(|c| Some((c.capability.to_owned(), c.taken()?.to_owned())))
            .collect();
        let blind = self.blind().into_iter().map(|blind| blind.sentence).collect();
        Kernel { release: self.facts.release.clone(), hooks, blind }
    }

    /// `None` for a victim that has not synced within the span.
    fn victim(
        &mut self,
        engine: &Engine,
        victim: &Victim,
        span: Span,
        now: u64,
    ) -> Option<snapshot::Victim> {
        let sum = victim.sum(span);
        if sum.syncs == 0 {
            return None;
        }
        let quantile = |q| seconds(sum.latency.value_at_quantile(q));
        let comm = comm_text(&victim.key.comm);
        let who = self.identities.who(&comm, victim.tgid, victim.key.cgroup, victim.kthread, now);
        let label = self.files.label(FileId(victim.key.file));
        let (class, path) = (label.class, label.path.clone());
        let since_ns = if span == Span::Window { self.window_ns } else { self.period_ns };
        let window = seconds(now.saturating_sub(since_ns)).max(1e-3);
        Some(snapshot::Victim {
            id: victim.id,
            who,
            class,
            path,
            device: device_name(&mut self.files, victim.key.device, FileId(victim.key.file)),
            disk: self.accounts.position(victim.disk),
            syncs_total: victim.syncs_total,
            syncs: sum.syncs,
            syncs_per_second: sum.syncs as f64 / window,
            p50_seconds: quantile(0.50),
            p99_seconds: quantile(0.99),
            max_seconds: seconds(sum.latency.max()),
            baseline_p99_seconds: victim.baseline_quantile_ns(0.99).map(seconds),
            phases: sum.phases.to_seconds(),
            verdict: self.verdict(engine, victim, &sum, span, now),
            total: self.totals(victim, now),
            wal_buckets: victim.wal_buckets.to_vec(),
        })
    }

    fn verdict(
        &mut self,
        engine: &Engine,
        victim: &Victim,
        sum: &Half,
        span: Span,
        now: u64,
    ) -> Verdict {
        let judgement = judge(victim, sum, span);
        let Shares { owners, cpu, memory, throttle, own, device, unexplained } = judgement.shares;
        let syncs = sum.syncs.max(1) as f64;
        let culprits = judgement.culprits.iter().map(|finding| Culprit {
            who: self.party(finding, now),
            op: operation(finding.charge as u16),
            via: finding.via,
            share: finding.share,
            wait_seconds: finding.wait_ns / 1e9,
            evidence: evidence(finding),
            confidence: finding.confidence,
        });
        let culprits = culprits.collect();
        let ruled_out = judgement.ruled_out.iter().take(RULED_OUT).map(|finding| RuledOut {
            who: self.party(finding, now),
            op: operation(finding.charge as u16),
            share: finding.share,
            evidence: evidence(finding),
            reason: why_ruled_out(finding),
        });
        let ruled_out = ruled_out.collect();
        let is_limited = judgement.limited > 0.0;
        Verdict {
            kind: judgement.kind,
            confidence: judgement.confidence,
            confidence_reason: why_confident(&judgement, victim, sum),
            excess_seconds: judgement.excess_ns / 1e9,
            shares: snapshot::Shares { owners, cpu, memory, throttle, own, device, unexplained },
            culprits,
            ruled_out,
            own: self.own_work(engine, victim, span),
            device: DeviceState {
                wait_seconds: (sum.phases.wait_ns() as f64 / syncs) / 1e9,
                usual_wait_seconds: victim.baseline_quantile_ns(0.5).map(seconds),
                competing_in_flight: sum.in_flight / syncs,
            },
            limit: victim.limit.as_ref().filter(|_| is_limited).map(|(_, s)| s.clone()),
            limit_share: judgement.limited,
            steal_share: engine.steal_share(),
            memory_shrank_bytes: engine.memory_shrank_bytes(),
        }
    }

    fn party(&mut self, finding: &Finding, now: u64) -> Who {
        let Party { cgroup, comm, kthread } = finding.party;
        if finding.owner == OwnerId(0) {
            return Who { comm: "(others)".to_owned(), ..Who::default() };
        }
        let tgid = self.last_tgid(finding.owner);
        self.identities.who(&comm_text(&comm), tgid, cgroup, kthread, now)
    }

    /// What else the victim's own process syncs, the most first.
    fn own_work(&mut self, engine: &Engine, victim: &Victim, span: Span) -> Vec<OwnWork> {
        let others = engine.victims().iter().filter(|other| {
            other.key.cgroup == victim.key.cgroup
                && other.key.comm == victim.key.comm
                && other.id != victim.id
        });
        let mut work: Vec<_> = others
            .map(|other| {
                let sum = other.sum(span);
                let label = self.files.label(FileId(other.key.file));
                OwnWork {
                    class: label.class,
                    path: label.path.clone(),
                    syncs: sum.syncs,
                    sync_seconds: seconds(sum.duration_ns),
                }
            })
            .filter(|work| work.syncs > 0)
            .collect();
        work.sort_by(|a, b| b.sync_seconds.total_cmp(&a.sync_seconds));
        work
    }

    fn totals(&mut self, victim: &Victim, now: u64) -> Totals {
        let total = &victim.total;
        let alone = total.excess_ns - total.others_ns - total.own_ns;
        Totals {
            excess_seconds: total.excess_ns / 1e9,
            device_alone_seconds: alone / 1e9,
            self_seconds: total.own_ns / 1e9,
            blame: self.blame(victim, now),
        }
    }

    /// Who has a part in all excess so far, the worst first.
    fn blame(&mut self, victim: &Victim, now: u64) -> Vec<Blame> {
        let excess_ns = victim.total.excess_ns;
        let mut blame = Vec::new();
        for suspect in &victim.suspects {
            let tgid = self.last_tgid(suspect.owner);
            let Party { cgroup, comm, kthread } = suspect.party;
            for (code, ns) in suspect.total[..op::COUNT].iter().enumerate() {
                if *ns <= 0.0 {
                    continue;
                }
                let who = match suspect.owner {
                    OwnerId(0) => Who { comm: "(others)".to_owned(), ..Who::default() },
                    _ => self.identities.who(&comm_text(&comm), tgid, cgroup, kthread, now),
                };
                blame.push(Blame {
                    who,
                    op: operation(code as u16),
                    seconds: ns / 1e9,
                    share: if excess_ns > 0.0 { ns / excess_ns } else { 0.0 },
                });
            }
        }
        blame.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        blame
    }

    fn last_tgid(&self, owner: OwnerId) -> u32 {
        let rates = self.accounts.disks().iter().flat_map(|d| d.rates.iter());
        rates.filter(|r| r.owner == owner).map(|r| r.tgid).next().unwrap_or(0)
    }

    fn disk(&mut self, at: usize, now: u64) -> Disk {
        let disk = &self.accounts.disks()[at];
        let latencies = latencies(&self.accounts, disk);
        let (name, in_flight) = (disk.name.clone(), disk.in_flight);
        let mut rates = disk.rates.clone();
        rates.sort_by(|a, b| b.in_flight.total_cmp(&a.in_flight));
        let owners = rates
            .iter()
            .map(|rate| {
                let key = self.accounts.key(rate.owner);
                OwnerRow {
                    who: owner(&mut self.identities, &key, rate.tgid, now),
                    op: operation(key.op),
                    ios_per_second: rate.ios_per_second,
                    bytes_per_second: rate.bytes_per_second,
                    in_flight: rate.in_flight,
                    ios_total: rate.ios_total,
                    bytes_total: rate.bytes_total,
                }
            })
            .collect();
        let scheduler = disks::scheduler(&self.root, &name);
        let work = self.accounts.work(at).into_iter().map(|learnt| snapshot::Work {
            op: operation(learnt.op),
            size_bytes_up_to: learnt.bytes_up_to,
            seconds: learnt.ns / 1e9,
            samples: learnt.samples,
        });
        let work = work.collect();
        Disk { name, scheduler, in_flight, owners, latencies, work }
    }
}

/// Longer lists of innocents are cut.
const RULED_OUT: usize = 12;

fn evidence(finding: &Finding) -> Evidence {
    let lift = &finding.lift;
    let ratios = lift.ratios();
    let [with_p50_seconds, with_p99_seconds] = lift.with_ns.map(|ns| ns / 1e9);
    let [without_p50_seconds, without_p99_seconds] = lift.without_ns.map(|ns| ns / 1e9);
    Evidence {
        with_n: lift.with_n,
        without_n: lift.without_n,
        with_p50_seconds,
        with_p99_seconds,
        without_p50_seconds,
        without_p99_seconds,
        lift_p50: ratios.map(|lift| lift[0]),
        lift_p99: ratios.map(|lift| lift[1]),
        change: finding.change.map(|change| Change {
            started: change.started,
            seconds_ago: change.ago,
            before_seconds: change.before_ns / 1e9,
            after_seconds: change.after_ns / 1e9,
        }),
    }
}

fn why_ruled_out(finding: &Finding) -> String {
    let lift = &finding.lift;
    let share = 100.0 * finding.share;
    match (finding.cleared, lift.ratios()) {
        (Some(Cleared::Lift), Some([p50, p99])) => format!(
            "syncs with it are x{p50:.2} at p50 and x{p99:.2} at p99 ({} with, {} without)",
            lift.with_n, lift.without_n
        ),
        _ if lift.with_n > 0 => {
            format!("{share:.1}% of the wait, on the path of {} syncs", lift.with_n)
        }
        _ => format!("{share:.1}% of the wait"),
    }
}

/// What the confidence rests on, in a sentence.
fn why_confident(judgement: &Judgement, victim: &Victim, sum: &Half) -> String {
    let no_baseline = victim.baseline_ns().is_none();
    match judgement.kind {
        Kind::None => "its syncs are as long as undisturbed ones".to_owned(),
        Kind::Unknown => format!("{} syncs say nothing", sum.syncs),
        Kind::Owners | Kind::Memory | Kind::Cpu => match judgement.culprits.first() {
            None => "nobody was seen to do it".to_owned(),
            Some(worst) => match (worst.lift.accuses(), worst.confidence) {
                (true, Confidence::High) => {
                    "its share and the syncs with and without it agree".to_owned()
                }
                (true, _) => "syncs with it are longer, but its share is small".to_owned(),
                (false, Confidence::High) => "it was seen to run meanwhile".to_owned(),
                (false, _) if !worst.lift.is_enough() => format!(
                    "no control group: {} syncs with it, {} without",
                    worst.lift.with_n, worst.lift.without_n
                ),
                (false, _) => "syncs without it are not clearly shorter".to_owned(),
            },
        },
        Kind::Throttle => {
            format!("the limit was reached for {:.0}% of the time", 100.0 * judgement.limited)
        }
        Kind::Own if judgement.in_house => "it is of the victim's own cgroup".to_owned(),
        Kind::Own | Kind::Device if no_baseline => {
            "no undisturbed syncs to compare with yet".to_owned()
        }
        Kind::Own => "only its own process had other requests in flight".to_owned(),
        Kind::Device => "nobody else had requests in flight meanwhile".to_owned(),
        Kind::Unseen => "no disk of this kernel carries the file".to_owned(),
        Kind::Unexplained => "no phase and no owner accounts for most of the wait".to_owned(),
    }
}

fn latencies(accounts: &Accounts, disk: &DiskAccounts) -> Vec<Latency> {
    let index = disk.disk.index;
    let classes = (0..op::COUNT as u32).map(|code| {
        let queue = accounts.histogram(index, code, stage::QUEUE);
        let device = accounts.histogram(index, code, stage::DEVICE);
        Latency {
            op: operation(code as u16),
            count: device.iter().sum(),
            queue_p50_seconds: quantile(&queue, 0.50),
            queue_p99_seconds: quantile(&queue, 0.99),
            device_p50_seconds: quantile(&device, 0.50),
            device_p99_seconds: quantile(&device, 0.99),
        }
    });
    classes.filter(|l| l.count > 0).collect()
}

/// Upper edge of the bucket that a quantile lies in, in seconds; the last
/// bucket has none, and is told by its lower one.
fn quantile(counts: &[u64; BUCKETS], q: f64) -> f64 {
    let wanted = (counts.iter().sum::<u64>() as f64 * q).ceil() as u64;
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted.max(1) {
            let edge = upper_edge_ns(bucket).or_else(|| upper_edge_ns(BUCKETS - 2));
            return edge.map_or(0.0, seconds);
        }
    }
    0.0
}

/// What it takes to tell one slow sync.
pub struct Describe<'a> {
    pub accounts: &'a Accounts,
    pub files: &'a mut Files,
    pub identities: &'a mut Identities,
    pub clock: &'a Clock,
    pub losses: u64,
}

impl Describe<'_> {
    pub fn slow_sync(self, record: &SyncRecord, file: FileId, judged: &Judged) -> SlowSync {
        let Self { accounts, files, identities, clock, losses } = self;
        let now = record.begin_ns + record.duration_ns;
        let comm = comm_text(&record.comm);
        let who = identities.who(&comm, record.tgid, record.cgroup, record.kthread != 0, now);
        let label = files.label(file);
        let (class, path) = (label.class, label.path.clone());
        let mut owners = Vec::new();
        if record.disk != NO_DISK {
            for (account, owned) in accounts.owners(record.disk).iter().enumerate() {
                let area_ns = tracer_ebpf::ledger::ticks_to_ns(record.areas[account]);
                if (record.areas[account] as i64) <= 0 || record.duration_ns == 0 {
                    continue;
                }
                let mut competitors = judged.window.competitors().iter();
                let competing = competitors.find(|c| c.owner.id == owned.id);
                let key = accounts.key(owned.id);
                owners.push(SyncOwner {
                    who: owner(identities, &key, accounts.last_tgid(record.disk, account), now),
                    op: operation(key.op),
                    in_flight: area_ns as f64 / record.duration_ns as f64,
                    share: competing.map_or(0.0, |c| c.work / judged.window.total_work.max(1.0)),
                    own: competing.is_none(),
                });
            }
        }
        owners
            .sort_by(|a, b| b.share.total_cmp(&a.share).then(b.in_flight.total_cmp(&a.in_flight)));
        SlowSync {
            schema: SCHEMA,
            at: clock.unix_seconds(record.begin_ns),
            who,
            tid: record.tid,
            kind: KINDS.get(record.kind as usize).copied().unwrap_or("unknown"),
            class,
            path,
            device: device_name(files, record.device, file),
            duration_seconds: seconds(record.duration_ns),
            phases: judged.phases.to_seconds(),
            owners,
            losses,
        }
    }
}

/// Not every sync is seen on a filesystem; then its file may tell.
fn device_name(files: &mut Files, device: u32, file: FileId) -> String {
    match if device == 0 { files.label(file).device } else { device } {
        0 => "?".to_owned(),
        device => files.device_name(device).to_owned(),
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
