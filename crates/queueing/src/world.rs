//! The engine beside a timeline: it gets what the kernel would give of it, records,
//! accounts and requests that were alone.

use std::collections::BTreeMap;

use tracer_ebpf::{
    ledger::tick,
    record::{ACCOUNTS, COMM, SyncRecord, kind, op},
};
use tracer_engine::{
    Engine,
    blame::{Owner, OwnerId},
    currency::Shortage,
    pace::Pace,
    reference::Reference,
    tick::{Alone, DiskWork, Limit, LimitKind, Load, Paced, Tick},
    verdict::{Judgement, judge},
    victim::Span,
};
use tracer_timelines::timeline::{
    self, BLOCK, CPU_NS, Counted, Does, Happened, MS, Phase, SECOND, Sync, Timeline,
};
use zerocopy::FromZeros as _;

/// Accounts: 1 is the victim's; 2 and 3 the neighbours'.
const USED: usize = timeline::ACCOUNTS;

/// A name as the kernel keeps it.
pub fn comm(name: &str) -> [u8; COMM] {
    let mut comm = [0; COMM];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

pub struct World {
    timeline: Timeline,
    seen: [Counted; USED],
    read_ns: u64,
    references: BTreeMap<(u32, u64), Reference>,
    shortage: Shortage,
    pace: Pace,
    pub owners: [Owner; ACCOUNTS],
    pub engine: Engine,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut owners = [Owner::default(); ACCOUNTS];
        let names = ["etcd", "tenant", "second"];
        for (at, name) in (1..).zip(names) {
            owners[at] = Owner {
                id: OwnerId(at as u32),
                cgroup: 10 * at as u64,
                comm: comm(name),
                ..Owner::default()
            };
        }
        let timeline = Timeline::new(seed);
        Self {
            seen: Default::default(),
            read_ns: timeline.now_ns(),
            timeline,
            references: BTreeMap::new(),
            shortage: Shortage::default(),
            pace: Pace::default(),
            owners,
            engine: Engine::new(),
        }
    }

    /// Plays a phase, and judges each half of a minute of it.
    pub fn play(&mut self, phase: Phase) -> Vec<Judgement> {
        self.play_and_show(phase, |_, _| {})
    }

    /// As [`Self::play`], and shows the timeline after each of its steps.
    pub fn play_and_show(
        &mut self,
        phase: Phase,
        mut show: impl FnMut(&Timeline, Option<&Happened>),
    ) -> Vec<Judgement> {
        let end_ns = self.timeline.now_ns() + phase.seconds * SECOND;
        self.begin(&phase);
        self.engine.begin_period();
        let mut judged = Vec::new();
        // After the tick.
        let mut next_ns = self.timeline.now_ns() + 30 * SECOND + MS;
        while self.timeline.now_ns() < end_ns || next_ns <= end_ns + MS {
            if self.timeline.next_ns() >= next_ns {
                let victim = &self.engine.victims()[0];
                judged.push(judge(victim, &victim.sum(Span::Period), Span::Period));
                self.engine.begin_period();
                next_ns += 30 * SECOND;
            }
            let happened = self.step();
            show(&self.timeline, happened.as_ref());
        }
        judged
    }

    /// Lets a phase pass before anybody watches.
    pub fn pass(&mut self, phase: Phase) {
        let end_ns = self.timeline.now_ns() + phase.seconds * SECOND;
        self.timeline.begin(phase);
        while self.timeline.next_ns() < end_ns {
            self.timeline.step();
        }
        self.timeline.take_alone();
        (self.seen, self.read_ns) = (self.timeline.count(), self.timeline.now_ns());
    }

    /// Plays phases, and judges all of them at once, as who begins to watch with the first.
    pub fn judge(&mut self, phases: &[Phase]) -> Option<Judgement> {
        for phase in phases {
            // After the tick.
            let end_ns = self.timeline.now_ns() + phase.seconds * SECOND + MS;
            self.begin(phase);
            while self.timeline.next_ns() < end_ns {
                self.step();
            }
        }
        let victim = self.engine.victims().first()?;
        Some(judge(victim, &victim.sum(Span::Period), Span::Period))
    }

    fn begin(&mut self, phase: &Phase) {
        self.timeline.begin(*phase);
        for (at, stream) in phase.neighbours.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            self.owners[2 + at].op = stream.op() as u16;
        }
    }

    fn step(&mut self) -> Option<Happened> {
        let happened = self.timeline.step();
        match &happened {
            Some(Happened::Sync(sync)) => self.sync(sync),
            Some(Happened::Second) => self.tick(),
            None => {}
        }
        happened
    }

    fn sync(&mut self, sync: &Sync) {
        let mut record = SyncRecord::new_zeroed();
        record.begin_ns = sync.begin_ns;
        record.cgroup = 10;
        record.comm = comm("etcd");
        record.tgid = 7;
        record.kind = kind::FDATASYNC;
        record.own_device_ns = sync.device_ns;
        record.own_requests = sync.requests;
        record.own_bytes = sync.bytes;
        record.own_span_ns = sync.device_ns;
        record.cpu_ns = CPU_NS;
        record.duration_ns = sync.duration_ns;
        for (integral, ns) in record.integrals.iter_mut().zip(sync.integrals_ns) {
            *integral = tick(ns);
        }
        let weights = self.weights();
        (1..USED).for_each(|account| self.owners[account].weight_ns = weights[account]);
        let usual = |op, bytes| self.references.get(&(op, bytes)).and_then(Reference::usual_ns);
        let need_ns = [(op::WRITE, BLOCK), (op::FLUSH, 0)]
            .map(|(op, bytes)| usual(op, bytes).unwrap_or(0.0))
            .iter()
            .sum::<f64>() as u64;
        self.engine.ingest(&record, &[], 0, need_ns, |_| &self.owners);
    }

    /// Begins with what another learnt of the disk.
    pub fn keep_references_of(&mut self, other: &Self) {
        let levels = other.references.iter().filter_map(|(of, known)| Some((*of, known.level()?)));
        self.references = levels.map(|(of, level)| (of, Reference::kept(level))).collect();
        self.pace = Pace::kept(&other.pace.to_keep());
    }

    /// Stands for ten minutes of the same.
    pub fn age(&mut self) {
        for reference in self.references.values_mut() {
            let Some(usual_ns) = reference.usual_ns() else { continue };
            (0..60).for_each(|_| _ = reference.add(8 * usual_ns as u64, 8));
        }
    }

    fn bytes_of(&self, account: usize) -> u64 {
        let stream = account.checked_sub(2).and_then(|at| self.timeline.phase().neighbours[at]);
        stream.map_or(BLOCK, |stream| stream.bytes)
    }

    /// The cost of one of an account's requests, as the tracer has learnt it, and
    /// whether it is a guess.
    fn cost_ns(&self, account: usize) -> (u32, bool) {
        let operation = if account == 1 { op::WRITE } else { self.owners[account].op.into() };
        let usual = |op, bytes| self.references.get(&(op, bytes)).and_then(Reference::usual_ns);
        let typical = if operation == op::DISCARD { 15e6 } else { 100e3 };
        let flushes = account >= 2
            && self.timeline.phase().neighbours[account - 2]
                .is_some_and(|s| s.does == Does::SyncingWrite);
        let Some(one) = usual(operation, self.bytes_of(account)) else {
            return (typical as u32, true);
        };
        let flush = usual(op::FLUSH, 0).filter(|_| flushes);
        (flush.map_or(one, |flush| f64::midpoint(one, flush)) as u32, false)
    }

    fn weights(&self) -> [u32; USED] {
        std::array::from_fn(|account| {
            let operation = self.owners[account].op.into();
            let (cost_ns, _) = self.cost_ns(account);
            self.shortage.weigh(operation, self.bytes_of(account), cost_ns)
        })
    }

    fn tick(&mut self) {
        let (now_ns, counted) = (self.timeline.now_ns(), self.timeline.count());
        let (mut alone, mut flushes) = (Alone::default(), Alone::default());
        for ((operation, bytes), (requests, ns)) in self.timeline.take_alone() {
            let reference = self.references.entry((operation, bytes)).or_default();
            if let Some(usual) = reference.usual_ns().filter(|_| requests > 0) {
                let usual_ns = (usual * requests as f64) as u64;
                let sum = if operation == op::FLUSH { &mut flushes } else { &mut alone };
                sum.add(&Alone { requests, ns, reference_ns: usual_ns, known: reference.known() });
            }
            reference.add(ns, requests);
        }
        let loads = (1..USED).filter_map(|account| {
            let (now, then) = (counted[account], self.seen[account]);
            let operation = u32::from(self.owners[account].op);
            let operation = if account == 1 { op::WRITE } else { operation };
            let (cost_ns, guessed) = self.cost_ns(account);
            let load = Load {
                owner: self.owners[account].id,
                submitted: now.submitted - then.submitted,
                completed: now.completed - then.completed,
                bytes: now.bytes - then.bytes,
                writes: operation == op::WRITE,
                reads: operation == op::READ,
                in_flight_ns: now.in_flight_ns - then.in_flight_ns,
                cost_ns,
                guessed,
            };
            (load.in_flight_ns > 0).then_some(load)
        });
        let mut work = DiskWork {
            disk: 0,
            length_ns: now_ns - self.read_ns,
            alone,
            flushes,
            loads: loads.collect(),
            paced: Paced::default(),
        };
        self.shortage.observe(&work);
        work.paced = self.pace.observe(&work);
        (self.seen, self.read_ns) = (counted, now_ns);
        let held = Limit {
            cgroup: 10,
            kind: LimitKind::Io,
            ns: SECOND,
            times: 0,
            setting: "io.max 7:0 wiops=20".to_owned(),
            in_kernel: false,
        };
        let limits = if self.timeline.phase().held_ns > 0 { vec![held] } else { Vec::new() };
        let tick = Tick { at_ns: now_ns, cpus: 2, disks: vec![work], limits, ..Tick::default() };
        let owners = &self.owners;
        self.engine.tick(&tick, |owner| owners[owner.0 as usize].actor());
        if (now_ns / SECOND).is_multiple_of(5) {
            self.engine.rotate();
        }
    }
}
