//! From state to [`Snapshot`]: numbers get their names here.

use tracer_ebpf::{
    histogram::{BUCKETS, BlockScale},
    pid,
    record::{ACCOUNTS, COMM, NO_DISK, kind, op},
};

use super::{
    DiskState, Histograms, Scene,
    actors::Actors,
    reasons::{why_confident, why_ruled_out},
    stages::SyncInput,
};
use tracer_engine::{
    Judged,
    blame::{ActorId, Owner, OwnerId},
    sums::{Half, wal_buckets},
    triggers::Call,
    usage::Rate,
    verdict::{Finding, Shares, judge},
    victim::{Span, Victim},
};
use tracer_snapshot::{
    Actor, BLOCK_BOUNDS_NS, Blame, Change, Countable, Culprit, DeviceState, Disk, Evidence, Kind,
    Latency, Op, OwnWork, OwnerRow, RuledOut, SCHEMA, SlowSync, Snapshot, Spread, StackFact, Stop,
    SyncOwner, Totals, Trigger, Verdict,
    labels::{FileId, FileNames},
};

// Each code of the contract's is an operation of the snapshot's.
const _: () = assert!(Op::ALL.len() == op::KNOWN);

/// Kinds of syncs by their codes.
pub const KINDS: [&str; kind::COUNT] = [
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

/// The actor that is shown for account 0, which owners without an account of their own share.
fn others() -> Actor {
    Actor { comm: "(others)".to_owned(), ..Actor::default() }
}

/// The actor of an owner, and the process by which it acted last.
pub(crate) fn owner(actors: &Actors, id: OwnerId, actor: &ActorId, tgid: u32) -> Actor {
    if id == OwnerId::NOBODY {
        return others();
    }
    let mut actor = actors.actor(actor);
    if pid::here(tgid) != 0 {
        actor.tgid = tgid;
    }
    actor
}

impl Scene {
    /// A snapshot of the last seconds, or of all that happened since the period
    /// began.
    pub fn snapshot(&self, span: Span, now_ns: u64, files: &mut dyn FileNames) -> Snapshot {
        let victims = self.engine.victims().iter();
        let mut victims: Vec<_> =
            victims.filter_map(|victim| self.victim(victim, span, now_ns, files)).collect();
        self.metrics.set_records(self.engine.records());
        let cost = |v: &tracer_snapshot::Victim| v.phases.total();
        victims.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then(a.id.cmp(&b.id)));
        Snapshot {
            schema: SCHEMA,
            at: self.clock.unix_seconds(now_ns),
            window_seconds: seconds(now_ns.saturating_sub(self.since_ns(span))),
            watched_seconds: seconds(now_ns.saturating_sub(self.started_ns)),
            kernel: self.kernel.clone(),
            filter: None,
            reference_at: self.disks.iter().filter_map(|d| d.reference_at).reduce(f64::max),
            victims,
            disks: self.disks.iter().map(|disk| self.disk(disk)).collect(),
            cost: self.metrics.cost(),
            hanging: self.hanging.clone(),
            hanging_left_out: self.hanging_left_out,
            frozen: self.frozen(now_ns, files),
            dropped: self.metrics.dropped(),
            metrics: self.metrics.dump(),
        }
    }

    fn since_ns(&self, span: Span) -> u64 {
        match span {
            Span::Window => self.window_ns,
            Span::Period => self.period_ns,
        }
    }

    /// `None` for a victim that has not synced within the span.
    fn victim(
        &self,
        victim: &Victim,
        span: Span,
        now_ns: u64,
        files: &mut dyn FileNames,
    ) -> Option<tracer_snapshot::Victim> {
        // Whatever is summed up over several windows is of syncs that ended.
        let (ended, ended_sum) = (victim, victim.sum(span));
        let waiting = self.engine.with_unfinished(ended).map(|copy| (copy, copy.sum(span)));
        let (victim, sum) =
            waiting.as_ref().map_or((ended, &ended_sum), |(copy, sum)| (*copy, sum));
        if sum.syncs == 0 && !victim.is_frozen() && !victim.is_halted() {
            return None;
        }
        let quantile = |q| seconds(sum.quantile_ns(q));
        let actor = Actor { tgid: pid::here(victim.tgid), ..self.actors.actor(&victim.actor()) };
        let label = files.label(FileId(victim.key.file));
        let (class, path) = (label.class, label.path.clone());
        let window = seconds(now_ns.saturating_sub(self.since_ns(span))).max(1e-3);
        Some(tracer_snapshot::Victim {
            id: victim.id,
            actor,
            class,
            path,
            device: device_name(files, victim.key.device, FileId(victim.key.file)),
            disk: self.disks.iter().position(|disk| disk.index == victim.disk),
            disks_below: victim.below().filter_map(|index| self.disk_name(index)).collect(),
            syncs_total: ended.syncs_total,
            syncs: sum.syncs,
            syncs_per_second: sum.syncs as f64 / window,
            p50_seconds: quantile(0.50),
            p99_seconds: quantile(0.99),
            max_seconds: seconds(sum.max_ns),
            undisturbed_p99_seconds: seen_quantile_ns(victim, 0.99).map(seconds),
            phases: sum.phases.to_seconds(),
            verdict: self.verdict(victim, sum, span, files),
            total: self.totals(ended),
            sync_buckets: ended_sum.buckets.to_vec(),
            countable: waiting.is_some().then(|| {
                let phases = ended_sum.phases.to_seconds();
                Box::new(Countable {
                    phases,
                    verdict: self.verdict(ended, &ended_sum, span, files),
                })
            }),
            wal_buckets: wal_buckets(&ended.buckets_total).to_vec(),
        })
    }

    fn disk_name(&self, index: u32) -> Option<String> {
        self.disks.iter().find(|disk| disk.index == index).map(|disk| disk.name.clone())
    }

    fn verdict(&self, victim: &Victim, sum: &Half, span: Span, files: &dyn FileNames) -> Verdict {
        let judgement = judge(victim, sum, span);
        let Shares { owners, cpu, memory, limit, filesystem, own, device, unexplained } =
            judgement.shares;
        let syncs = sum.syncs.max(1) as f64;
        let culprits = judgement.culprits.iter().filter_map(|finding| {
            Some(Culprit {
                actor: self.actor(finding),
                op: Op::of_code(finding.charge as u16)?,
                via: finding.via,
                share: finding.share,
                wait_seconds: finding.wait_ns / 1e9,
                evidence: evidence(finding),
                confidence: finding.confidence,
                trigger: finding.trigger.map(|call| self.trigger(&call)),
                frees: finding.frees,
                stopped_by: finding.stopped_by.clone(),
            })
        });
        let ruled_out = judgement.ruled_out.iter().take(RULED_OUT).filter_map(|finding| {
            Some(RuledOut {
                actor: self.actor(finding),
                op: Op::of_code(finding.charge as u16)?,
                share: finding.share,
                evidence: evidence(finding),
                reason: why_ruled_out(finding),
            })
        });
        let is_limited = judgement.limited > 0.0;
        let by_reference = judgement.is_beside_reference && judgement.kind == Kind::Device;
        let disk = self.disks.iter().find(|disk| disk.index == victim.disk);
        Verdict {
            kind: judgement.kind,
            slower_than: judgement.slower_than,
            confidence: judgement.confidence,
            confidence_reason: why_confident(&judgement, victim, sum),
            excess_seconds: judgement.excess_ns / 1e9,
            outside_seconds: judgement.outside_ns / 1e9,
            frozen_share: judgement.frozen,
            is_frozen: victim.is_frozen(),
            paused_share: judgement.paused,
            paused_by_itself_seconds: judgement.paused_by_itself_ns / 1e9,
            is_frozen_by_unknown: judgement.is_frozen_by_unknown,
            stop: judgement.stopped.map(|stopped| Stop {
                how: stopped.how,
                pid: pid::here(stopped.pid),
                setting: stopped.setting,
                limit_bytes: stopped.limit_bytes,
                used_bytes: stopped.used_bytes,
                seen_seconds: stopped.seen_ns / 1e9,
                seconds: stopped.ns / 1e9,
                share: (stopped.ns / (f64::from(sum.ticks) * 1e9).max(1.0)).min(1.0),
                is_halted: victim.is_halted(),
            }),
            shares: tracer_snapshot::Shares {
                owners,
                cpu,
                memory,
                limit,
                filesystem,
                own,
                device,
                unexplained,
            },
            culprits: culprits.collect(),
            ruled_out: ruled_out.collect(),
            own_work: self.own_work(victim, span, files),
            device: DeviceState {
                wait_seconds: (sum.phases.wait_ns() as f64 / syncs) / 1e9,
                undisturbed_wait_seconds: seen_quantile_ns(victim, 0.5).map(seconds),
                competing_in_flight: f64::from(sum.in_flight) / syncs,
                reference_times: by_reference.then(|| judgement.circumstances.times()),
                reference_at: disk.and_then(|disk| disk.reference_at).filter(|_| by_reference),
                uncounted_share: disk.map_or(0.0, |disk| disk.uncounted_share),
            },
            limit: victim.limit.as_ref().filter(|_| is_limited).map(|known| known.1.clone()),
            limit_share: judgement.limited,
            stack: self.stack_of(victim.key.device, victim.disk),
            helpers: judgement.helpers,
            steal_share: self.engine.steal_share(),
            memory_shrank_bytes: self.engine.memory_shrank_bytes(),
        }
    }

    fn trigger(&self, call: &Call) -> Trigger {
        Trigger {
            actor: self.actors.actor(&call.who),
            call: call.way.name(),
            at: self.clock.unix_seconds(call.begin_ns),
            seconds: seconds(call.end_ns.saturating_sub(call.begin_ns)),
        }
    }

    /// The facts that the disks of a stack say of themselves.
    fn stack_of(&self, device: u32, disk: u32) -> Vec<StackFact> {
        let mut stacks = self.stacks.iter();
        let its = stacks.find(|stack| (stack.device, stack.disk) == (device, disk));
        its.map_or_else(Vec::new, |stack| stack.facts.clone())
    }

    fn actor(&self, finding: &Finding) -> Actor {
        owner(&self.actors, finding.owner, &finding.actor, 0)
    }

    /// The other files that the victim's own process syncs, the most first.
    fn own_work(&self, victim: &Victim, span: Span, files: &dyn FileNames) -> Vec<OwnWork> {
        let others = self.engine.victims().iter().filter(|other| {
            other.key.cgroup == victim.key.cgroup
                && other.key.comm == victim.key.comm
                && other.id != victim.id
        });
        let mut work: Vec<_> = others
            .map(|other| {
                let sum = other.sum(span);
                let label = files.label(FileId(other.key.file));
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

    fn totals(&self, victim: &Victim) -> Totals {
        let total = &victim.total;
        let alone = total.excess_ns - total.others_ns - total.own_ns;
        Totals {
            excess_seconds: total.excess_ns / 1e9,
            device_alone_seconds: alone / 1e9,
            self_seconds: total.own_ns / 1e9,
            blame: self.blame(victim),
        }
    }

    /// The actors with a part in all excess so far, the worst first.
    fn blame(&self, victim: &Victim) -> Vec<Blame> {
        let excess_ns = victim.total.excess_ns;
        let mut blame = Vec::new();
        for suspect in &victim.suspects {
            for (code, ns) in suspect.total[..op::COUNT].iter().enumerate() {
                let Some(op) = Op::of_code(code as u16).filter(|_| *ns > 0.0) else { continue };
                blame.push(Blame {
                    actor: owner(&self.actors, suspect.owner, &suspect.actor, 0),
                    op,
                    seconds: ns / 1e9,
                    share: if excess_ns > 0.0 { ns / excess_ns } else { 0.0 },
                });
            }
        }
        blame.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        blame
    }

    fn disk(&self, disk: &DiskState) -> Disk {
        let mut rates: Vec<&Rate> = disk.rates.iter().collect();
        rates.sort_by(|a, b| b.in_flight.total_cmp(&a.in_flight));
        let owners = rates.into_iter().filter_map(|rate| {
            Some(OwnerRow {
                actor: owner(&self.actors, rate.owner, &rate.actor, rate.tgid),
                op: Op::of_code(rate.op)?,
                requests_per_second: rate.requests_per_second,
                bytes_per_second: rate.bytes_per_second,
                in_flight: rate.in_flight,
                requests_total: rate.requests_total,
                bytes_total: rate.bytes_total,
            })
        });
        let work = disk.work.iter().filter_map(|learnt| {
            Some(tracer_snapshot::AloneTime {
                op: Op::of_code(learnt.op)?,
                size_bytes_up_to: learnt.bytes_up_to,
                seconds: learnt.ns / 1e9,
                samples: learnt.samples,
            })
        });
        Disk {
            name: disk.name.clone(),
            known_as: disk.known_as.clone().filter(|name| !name.is_empty()),
            scheduler: disk.scheduler.clone(),
            in_flight: disk.in_flight,
            owners: owners.collect(),
            latencies: disk.latencies.iter().filter_map(latency).collect(),
            work: work.collect(),
            reference_at: disk.reference_at,
            uncounted_share: disk.uncounted_share,
        }
    }

    /// Describes one slow sync; `owners` are those of its disk's accounts, with the
    /// process that used each last.
    pub fn slow_sync(&self, slow: &Slow<'_>, files: &mut dyn FileNames) -> SlowSync {
        let Slow { sync: SyncInput { record, file, .. }, judged, owners, tgid } = slow;
        let actor = ActorId::from(*record);
        let actor = Actor { tgid: pid::here(record.tgid), ..self.actors.actor(&actor) };
        let label = files.label(*file);
        let (class, path) = (label.class, label.path.clone());
        let mut in_flight = Vec::new();
        if record.disk != NO_DISK {
            for (account, (owned, integral)) in owners.iter().zip(record.integrals()).enumerate() {
                if integral.cast_signed() <= 0 || record.duration_ns == 0 {
                    continue;
                }
                let Some(op) = Op::of_code(owned.op) else { continue };
                let in_flight_ns = tracer_ebpf::ledger::ticks_to_ns(*integral);
                let mut competitors = judged.window.competitors().iter();
                let competing = competitors.find(|c| c.owner.id == owned.id);
                in_flight.push(SyncOwner {
                    actor: owner(&self.actors, owned.id, &owned.actor(), tgid(account)),
                    op,
                    in_flight: in_flight_ns as f64 / record.duration_ns as f64,
                    share: competing.map_or(0.0, |c| c.work / judged.window.total_work.max(1.0)),
                    own: competing.is_none(),
                });
            }
        }
        in_flight
            .sort_by(|a, b| b.share.total_cmp(&a.share).then(b.in_flight.total_cmp(&a.in_flight)));
        SlowSync {
            schema: SCHEMA,
            at: self.clock.unix_seconds(record.begin_ns),
            actor,
            tid: pid::here(record.tid),
            kind: KINDS.get(record.kind as usize).copied().unwrap_or("unknown"),
            class,
            path,
            device: device_name(files, record.device, *file),
            duration_seconds: seconds(record.duration_ns),
            phases: judged.phases.to_seconds(),
            owners: in_flight,
            dropped_total: self.metrics.dropped().total(),
            unproven: self.kernel.unproven.clone(),
        }
    }
}

/// A quantile of the undisturbed syncs, where some were seen while the device was
/// well, and are not only made out from its reference.
fn seen_quantile_ns(victim: &Victim, q: f64) -> Option<u64> {
    victim.baseline_quantile_ns(q).filter(|_| !victim.is_beside_reference())
}

/// The inputs from which a slow sync is described.
pub struct Slow<'a> {
    pub sync: SyncInput<'a>,
    pub judged: &'a Judged,
    /// The owners of its disk's accounts.
    pub owners: &'a [Owner; ACCOUNTS],
    /// The process that used an account last, 0 where that is not known.
    pub tgid: &'a dyn Fn(usize) -> u32,
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

fn latency(of: &Histograms) -> Option<Latency> {
    Some(Latency {
        op: Op::of_code(of.op)?,
        count: of.device.iter().fold(0, |sum, n| sum.saturating_add(*n)),
        queue_p50_seconds: quantile(&of.queue, 0.50),
        queue_p99_seconds: quantile(&of.queue, 0.99),
        device_p50_seconds: quantile(&of.device, 0.50),
        device_p99_seconds: quantile(&of.device, 0.99),
        bytes_total: of.bytes,
        queue: spread(&of.queue),
        device: spread(&of.device),
    })
}

/// In seconds; 0 where nothing was counted.
fn quantile(counts: &[u64; BUCKETS], q: f64) -> f64 {
    BlockScale::quantile_ns(counts, q).map_or(0.0, |ns| ns / 1e9)
}

/// Cumulative counts by [`BLOCK_BOUNDS_NS`], all of which are edges of the
/// kernel's buckets, and about how long all took together.
fn spread(counts: &[u64; BUCKETS]) -> Spread {
    let mut cumulative = vec![0; BLOCK_BOUNDS_NS.len()];
    let (mut at, mut sum, mut ns, mut lower_ns) = (0, 0, 0.0, 0);
    for (bucket, count) in counts.iter().enumerate() {
        // Values beyond the last edge count as the last edge.
        let upper_ns = BlockScale::upper_edge_ns(bucket).unwrap_or(lower_ns);
        ns += *count as f64 * (lower_ns + upper_ns) as f64 / 2.0;
        sum += count;
        // An edge is rounded up to whole nanoseconds.
        while at < BLOCK_BOUNDS_NS.len() && upper_ns + upper_ns / 64 >= BLOCK_BOUNDS_NS[at] {
            cumulative[at] = sum;
            at += 1;
        }
        lower_ns = upper_ns;
    }
    Spread { count: sum, cumulative, seconds: ns / 1e9 }
}

/// A sync may be seen without its filesystem's device; then its file may show it.
pub(crate) fn device_name(files: &mut dyn FileNames, device: u32, file: FileId) -> String {
    match if device == 0 { files.label(file).device } else { device } {
        0 => "?".to_owned(),
        device => files.device_name(device).to_owned(),
    }
}

pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_ebpf::histogram::BlockScale;

    #[test]
    fn latencies_are_counted_on_either_side_of_each_bound() {
        for (at, bound_ns) in BLOCK_BOUNDS_NS.into_iter().enumerate() {
            let mut counts = [0; BUCKETS];
            counts[BlockScale::bucket(bound_ns - bound_ns / 64)] += 1;
            counts[BlockScale::bucket(bound_ns + bound_ns / 64)] += 2;
            let Spread { count, cumulative, seconds } = spread(&counts);
            assert_eq!((count, cumulative[at]), (3, 1), "{bound_ns} ns");
            assert!(at == 0 || cumulative[at - 1] == 0, "{bound_ns} ns");
            assert!(cumulative.get(at + 1).is_none_or(|more| *more == 3), "{bound_ns} ns");
            let off = seconds * 1e9 / (3.0 * bound_ns as f64) - 1.0;
            assert!(off.abs() < 0.05, "{off}");
        }
        let longest = spread(&std::array::from_fn(|at| u64::from(at == BUCKETS - 1)));
        assert_eq!((longest.count, longest.cumulative[10]), (1, 0));
    }
}
