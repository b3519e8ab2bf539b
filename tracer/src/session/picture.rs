//! From state to [`Snapshot`]: numbers get their names here.

use tracer_ebpf::{
    bucket::{BUCKETS, upper_edge_ns},
    record::{COMM, NO_DISK, OwnerKey, SyncRecord, kind, op, stage},
};

use super::Session;
use crate::{
    accounts::{Accounts, DiskAccounts},
    clock::{Clock, monotonic_ns},
    engine::{
        Judged,
        blame::OwnerId,
        victim::{Blamed, Victim},
    },
    files::{FileId, Files},
    identity::Identities,
    snapshot::{
        self, Blame, Disk, Kernel, Latency, Op, OwnerRow, SCHEMA, SlowSync, Snapshot, SyncOwner,
        Totals, Who,
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
    /// A picture of now.
    pub fn snapshot(&mut self) -> Snapshot {
        let now = monotonic_ns();
        self.tick_if_due(now);
        // Lent for the while: naming its victims changes what is remembered.
        let engine = std::mem::take(&mut self.engine);
        let mut victims: Vec<_> =
            engine.victims().iter().filter_map(|victim| self.victim(victim, now)).collect();
        self.engine = engine;
        let cost = |v: &snapshot::Victim| v.phases.total();
        victims.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then(a.id.cmp(&b.id)));
        let disks = (0..self.accounts.disks().len()).map(|at| self.disk(at, now)).collect();
        Snapshot {
            schema: SCHEMA,
            at: self.clock.unix_seconds(now),
            window_seconds: seconds(now.saturating_sub(self.window_ns)),
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

    /// `None` for a victim that has not synced within the window.
    fn victim(&mut self, victim: &Victim, now: u64) -> Option<snapshot::Victim> {
        let syncs = victim.now.syncs + victim.before.syncs;
        if syncs == 0 {
            return None;
        }
        let mut latency = victim.now.latency.clone();
        // Both have the same bounds.
        let _ = latency.add(&victim.before.latency);
        let quantile = |q| seconds(latency.value_at_quantile(q));
        let mut phases = victim.now.phases;
        phases.add(&victim.before.phases);
        let (excess, alone, own) = victim.excess_ns();
        let comm = comm_text(&victim.key.comm);
        let who = self.identities.who(&comm, victim.tgid, victim.key.cgroup, victim.kthread, now);
        let label = self.files.label(FileId(victim.key.file));
        let (class, path) = (label.class, label.path.clone());
        let window = seconds(now.saturating_sub(self.window_ns)).max(1e-3);
        Some(snapshot::Victim {
            id: victim.id,
            who,
            class,
            path,
            device: device_name(&mut self.files, victim.key.device, FileId(victim.key.file)),
            disk: self.accounts.position(victim.disk),
            syncs_total: victim.syncs_total,
            syncs,
            syncs_per_second: syncs as f64 / window,
            p50_seconds: quantile(0.50),
            p99_seconds: quantile(0.99),
            max_seconds: seconds(latency.max()),
            baseline_p99_seconds: victim.baseline_p99_ns().map(seconds),
            phases: phases.to_seconds(),
            excess_seconds: excess / 1e9,
            device_alone_seconds: alone / 1e9,
            self_seconds: own / 1e9,
            blame: self.blame(&victim.blamed, |b| b.now_ns + b.before_ns, excess, now),
            verdict: victim.verdict(),
            total: self.totals(victim, now),
            wal_buckets: victim.wal_buckets.to_vec(),
        })
    }

    fn totals(&mut self, victim: &Victim, now: u64) -> Totals {
        let [excess, alone, own] = victim.total_ns;
        Totals {
            excess_seconds: excess / 1e9,
            device_alone_seconds: alone / 1e9,
            self_seconds: own / 1e9,
            blame: self.blame(&victim.blamed, |b| b.total_ns, excess, now),
        }
    }

    /// Who has a part in an excess, the worst first.
    fn blame(
        &mut self,
        blamed: &[Blamed],
        part_ns: impl Fn(&Blamed) -> f64,
        excess_ns: f64,
        now: u64,
    ) -> Vec<Blame> {
        let mut blamed: Vec<_> =
            blamed.iter().map(|b| (b.owner, part_ns(b))).filter(|(_, ns)| *ns > 0.0).collect();
        blamed.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        blamed
            .into_iter()
            .map(|(id, ns)| {
                let key = self.accounts.key(id);
                let tgid = self.last_tgid(id);
                Blame {
                    who: owner(&mut self.identities, &key, tgid, now),
                    op: operation(key.op),
                    seconds: ns / 1e9,
                    share: if excess_ns > 0.0 { ns / excess_ns } else { 0.0 },
                }
            })
            .collect()
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
        Disk { name, in_flight, owners, latencies }
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
                let competing = judged.window.competitors_ns[account];
                let key = accounts.key(owned.id);
                owners.push(SyncOwner {
                    who: owner(identities, &key, accounts.last_tgid(record.disk, account), now),
                    op: operation(key.op),
                    in_flight: area_ns as f64 / record.duration_ns as f64,
                    share: competing as f64 / judged.window.total_ns.max(1) as f64,
                    own: competing == 0,
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
