//! User space's side of the ledger: the disks, the owner of each account, what each owner
//! did in the last second, and the repair of accounts whose requests' ends were missed.
//!
//! It reads the kernel's tables once a second, and returns the owners of a disk's
//! accounts (for the engine) and their rates (for people). It knows the names of
//! disks only; `tracer_node::identity` finds those of owners.

use std::collections::HashMap;

use anyhow::Result;
use aya::maps::{HashMap as KernelMap, MapData};
use tracer_ebpf::{
    histogram::BUCKETS,
    ledger::{Moment, tick, ticks_to_ns},
    record::{ACCOUNTS, Account, Disk, OTHERS, OwnerKey, op, size, stage},
};
use tracer_engine::{
    blame::{ActorId, Owner, OwnerId},
    currency::Shortage,
    pace::Pace,
    tick::{Alone, DiskWork, JournalWork, Load, Tick},
    usage::Rate,
};
use tracer_node::disks::{Assigned, Identity, Stacked};

use super::{
    bios::Bios,
    described::DescribedDisks,
    journals::{Added, Journals},
    pods::Plain,
    tables::{TableMaps, Tables},
    uncounted::Uncounted,
    waiting::{Idle, Waiting},
    work::RequestTimes,
};
use crate::load::Programs;

mod costs;
mod owners;
/// Chooses who loses an account where all are taken.
mod room;

/// Owners that are remembered, at most: short-lived jobs make new ones all the time.
const MAX_OWNERS: usize = 8192;

/// The assumed size of a request before any has completed.
const USUAL_BYTES: u64 = 4096;

/// A disk that the kernel programs follow.
pub struct DiskAccounts {
    /// Empty where it is gone and another disk has its name.
    pub name: String,
    device: u32,
    identity: Option<Identity>,
    pub disk: Disk,
    /// The owner of each account; a free one has the id 0, "others".
    pub owners: Box<[Owner; ACCOUNTS]>,
    pub rates: Vec<Rate>,
    /// Requests in flight now, over all accounts.
    pub in_flight: u64,
    /// Bytes by operation since the start, without those of the account "others".
    pub bytes: [u64; op::COUNT],
    /// How many of its requests are in no account.
    pub uncounted: Uncounted,
    /// Requests that wait in its queue while its driver has none.
    waiting: Waiting,
    /// Its work in the last second.
    work: DiskWork,
    shortage: Shortage,
    pace: Pace,
    /// The counts in the kernel's tables when this disk got its place, if another disk had
    /// the place before.
    zero: Option<Box<[[[u64; BUCKETS]; stage::COUNT]; op::COUNT]>>,
    seen: Box<[Seen; ACCOUNTS]>,
}

impl DiskAccounts {
    /// The identity of the disk; `None` while it is not there.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether its bios stand for requests.
    pub fn carries(&self) -> bool {
        self.disk.depth == Disk::CARRIES
    }

    /// Whether it is there; else what has its name or number is another disk.
    pub fn is_there(&self) -> bool {
        self.identity.is_some()
    }
}

#[derive(Clone, Copy, Default)]
struct Seen {
    account: Account,
    /// The counts of requests and bytes when its present owner, or its present disk, got
    /// it.
    zero: (u64, u64),
    integral: u64,
    in_flight: u64,
    busy_ns: u64,
    /// Mean size of its requests when it last had some.
    request_bytes: Option<u64>,
    /// Taken from its owner, and free as soon as no program can be using it any more.
    leaving: bool,
    /// Work of the last seconds, older ones less.
    recent_ns: u64,
    /// For how many ticks it has had its present owner, or none.
    ticks: u32,
}

/// A process that held up the commits of a filesystem's journal in the last second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holder {
    /// The filesystem's device.
    pub device: u32,
    pub cgroup: u64,
    /// The process, as records name it.
    pub tgid: u32,
    pub held_ns: u64,
}

/// All accounts of all disks.
pub struct Accounts {
    tables: Tables,
    owner_accounts: KernelMap<MapData, Plain<OwnerKey>, u32>,
    account_owners: KernelMap<MapData, u32, Plain<OwnerKey>>,
    described: DescribedDisks,
    bios: Bios,
    /// Whether a process is a kernel thread, for kernels whose programs cannot see
    /// it.
    is_kthread: Box<dyn Fn(u32) -> bool>,
    disks: Vec<DiskAccounts>,
    work: RequestTimes,
    journals: Journals,
    /// Keys by owner id; id 0 is "others".
    keys: Vec<OwnerKey>,
    ids: HashMap<OwnerKey, OwnerId>,
    /// Ids whose owners were forgotten.
    free: Vec<OwnerId>,
    /// Actors that were seen for the first time, and the process of each.
    met: Vec<(ActorId, u32)>,
    ticked_ns: u64,
    reconciled: u64,
    operations_unknown: u64,
}

impl Accounts {
    /// Takes the programs' tables over.
    ///
    /// # Errors
    ///
    /// When a table was taken before or cannot be mapped.
    pub fn new(programs: &mut Programs, is_kthread: Box<dyn Fn(u32) -> bool>) -> Result<Self> {
        let maps = TableMaps {
            ledger: programs.take_map("LEDGER")?,
            in_flight: programs.take_map("IN_FLIGHT")?,
            histograms: programs.take_map("HISTOGRAMS")?,
            solo: programs.take_map("SOLO")?,
            dropped: programs.take_map("DROPPED")?,
        };
        let tables = Tables::new(maps, &programs.room)?;
        Ok(Self {
            tables,
            owner_accounts: KernelMap::try_from(programs.take_map("OWNERS")?)?,
            account_owners: KernelMap::try_from(programs.take_map("ACCOUNT_OWNERS")?)?,
            described: DescribedDisks::new(programs)?,
            bios: Bios::new(programs)?,
            is_kthread,
            disks: Vec::new(),
            work: RequestTimes::default(),
            journals: Journals::new(programs)?,
            keys: vec![OwnerKey::default()],
            ids: HashMap::new(),
            free: Vec::new(),
            met: Vec::new(),
            ticked_ns: 0,
            reconciled: 0,
            operations_unknown: 0,
        })
    }

    /// Adds a disk to those that the kernel programs follow, with the disks below it.
    ///
    /// # Errors
    ///
    /// When there is no place for it in the kernel programs' table.
    pub fn describe(&mut self, assigned: &Assigned, now_ns: u64) -> Result<()> {
        let Assigned { name, device, identity, disk, .. } = assigned;
        let (device, disk) = (*device, *disk);
        if let Some(at) = self.position(disk.index) {
            let known = &mut self.disks[at];
            let before = (known.device, known.disk);
            if before == (device, disk) && known.name == *name && known.identity == *identity {
                return Ok(());
            }
            if known.identity != *identity {
                self.reset(at, assigned, now_ns);
            }
            let known = &mut self.disks[at];
            known.name.clone_from(name);
            known.identity.clone_from(identity);
            (known.device, known.disk) = (device, disk);
            if identity.is_none() {
                return Ok(());
            }
            self.tables.reach(&disk)?;
            return self.described.describe(name, device, disk);
        }
        self.tables.reach(&disk)?;
        self.tables.use_account(disk.index, OTHERS as usize);
        self.described.describe(name, device, disk)?;
        self.disks.push(DiskAccounts {
            name: name.clone(),
            device,
            identity: identity.clone(),
            disk,
            zero: None,
            owners: Box::new([Owner::default(); ACCOUNTS]),
            rates: Vec::new(),
            in_flight: 0,
            bytes: [0; op::COUNT],
            uncounted: Uncounted::default(),
            waiting: Waiting::default(),
            work: DiskWork { disk: disk.index, ..DiskWork::default() },
            shortage: Shortage::default(),
            pace: Pace::default(),
            seen: Box::new([Seen::default(); ACCOUNTS]),
        });
        Ok(())
    }

    /// Removes the numbers of disks that are gone or have another number now. It must be
    /// called before the next disks of these numbers are described.
    pub fn forget_numbers(&mut self, assigned: &[Assigned]) {
        for known in self.disks.iter().filter(|known| known.is_there()) {
            let stays = |next: &Assigned| {
                let place = (next.disk.index, next.device);
                next.identity.is_some() && place == (known.disk.index, known.device)
            };
            if !assigned.iter().any(stays) {
                self.described.forget(known.device);
            }
        }
    }

    /// Forgets what was learnt in this place: it was of another disk, or the disk is gone.
    fn reset(&mut self, at: usize, next: &Assigned, now_ns: u64) {
        let disk = self.disks[at].disk;
        if disk.depth == Disk::CARRIES {
            self.reconciled += self.bios.take_out_all(disk.index, now_ns, &self.tables);
        }
        let has_moved = (disk.base, disk.queues, disk.depth)
            != (next.disk.base, next.disk.queues, next.disk.depth);
        self.reconciled += if has_moved || next.identity.is_none() {
            self.tables.give_back_all(&disk, now_ns)
        } else {
            self.tables.give_back_of_another(&disk, now_ns)
        };
        if next.identity.is_none() {
            // Its counts stay its own until another disk gets its place.
            return;
        }
        // First read what it did since the last tick.
        self.read_work(at);
        self.work.forget(disk.index);
        self.disks[at].forget_work();
        for seen in self.disks[at].seen.iter_mut() {
            seen.request_bytes = None;
        }
        if self.disks[at].name == next.name {
            // A disk of the same name continues the sums.
            return;
        }
        let zero = Box::new(std::array::from_fn(|op| {
            std::array::from_fn(|stage| self.tables.histogram(disk.index, op as u32, stage as u32))
        }));
        let known = &mut self.disks[at];
        known.zero = Some(zero);
        known.bytes = [0; op::COUNT];
        known.uncounted = Uncounted::since(self.tables.unplaced(disk.index));
        known.rates.clear();
        known.work.loads.clear();
        for (account, seen) in known.seen.iter_mut().enumerate() {
            let now = self.tables.account(disk.index, account);
            seen.zero = (now.requests, now.bytes);
            // Otherwise what it did since the last tick would count for the new disk.
            (seen.account.requests, seen.account.bytes) = seen.zero;
        }
    }

    /// Has the kernel programs treat a disk without requests of its own as the disk that it
    /// lies on.
    ///
    /// # Errors
    ///
    /// When there is no place for it in the kernel programs' table.
    pub fn describe_stacked(&mut self, disk: &Stacked) -> Result<()> {
        self.described.describe(&disk.name, disk.device, disk.underlying)
    }

    /// Removes the number of such a disk.
    pub fn forget_stacked(&mut self, disk: &Stacked) {
        self.described.forget(disk.device);
    }

    pub fn disks(&self) -> &[DiskAccounts] {
        &self.disks
    }

    /// Position in [`Accounts::disks`] of a disk by the kernel's index: mostly the index
    /// itself, because disks are described in the order of their indices. It is asked for
    /// with every record.
    pub fn position(&self, index: u32) -> Option<usize> {
        let is_it = |disk: &DiskAccounts| disk.disk.index == index;
        let at = index as usize;
        if self.disks.get(at).is_some_and(is_it) {
            return Some(at);
        }
        self.disks.iter().position(is_it)
    }

    /// When the oldest request in flight on a disk of [`Accounts::disks`] was submitted, in ns.
    pub fn oldest_submit_ns(&mut self, at: usize) -> Option<u64> {
        let disk = self.disks.get(at)?;
        if disk.carries() {
            return self.bios.oldest_submit_ns(&disk.disk);
        }
        self.tables.oldest_submit_ns(&disk.disk)
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Starts to count what is dropped.
    pub fn begin_watch(&mut self) {
        self.tables.begin_watch();
    }

    /// Requests given back by user space.
    pub fn reconciled(&self) -> u64 {
        self.reconciled
    }

    /// Adds what each owner put into the filesystems' journals since the last
    /// tick, and for how long it held up their commits. Returns those who did.
    pub fn journal_work(&mut self, tick: &mut Tick) -> Vec<Holder> {
        let mut holders = Vec::new();
        for (key, Added { blocks, held_ns, tgid }) in self.journals.read(tick.at_ns) {
            let owner = self.intern(key);
            let device = key.disk;
            tick.journals.push(JournalWork { device, owner, blocks, held_ns });
            if held_ns > 0 && key.kthread == 0 {
                holders.push(Holder { device, cgroup: key.cgroup, tgid, held_ns });
            }
        }
        holders
    }

    /// Sums of who fills the journals that the kernel evicted.
    pub fn journals_evicted(&self) -> u64 {
        self.journals.evicted()
    }

    /// Reads all accounts: rates since the last tick, and housekeeping. `idle` says of a
    /// disk whose driver has no request, as the kernel counts, whether one may wait in
    /// its queue, and what has completed there so far.
    pub fn tick(&mut self, now_ns: u64, idle: impl Fn(&str) -> Option<Idle>) {
        let seconds = now_ns.saturating_sub(self.ticked_ns) as f64 / 1e9;
        let first = self.ticked_ns == 0;
        self.ticked_ns = now_ns;
        for at in 0..self.disks.len() {
            let (alone, flushes) = self.read_work(at);
            let work = &mut self.disks[at].work;
            (work.alone, work.flushes, work.length_ns) = (alone, flushes, (seconds * 1e9) as u64);
            self.read_disk(at, now_ns, if first { f64::INFINITY } else { seconds });
            self.estimate_costs(at);
            let disk = &mut self.disks[at];
            disk.compare_work();
            let idle = match disk.is_there() {
                _ if disk.in_flight == 0 => None,
                true => idle(&disk.name),
                false => Some(Idle::GONE),
            };
            if let Some(idle) = idle {
                let carries = disk.carries();
                let waiting = &mut disk.waiting;
                self.reconciled += match carries {
                    true => {
                        self.bios.reconcile(disk.disk.index, now_ns, idle, waiting, &self.tables)
                    }
                    false => self.tables.reconcile(&disk.disk, now_ns, idle, waiting),
                };
            }
            self.make_room(at, now_ns);
        }
    }

    /// Returns the requests that were alone since the last tick, and the flushes that were.
    fn read_work(&mut self, at: usize) -> (Alone, Alone) {
        let disk = self.disks[at].disk.index;
        let (mut alone, mut flushes) = (Alone::default(), Alone::default());
        for op in 0..op::COUNT {
            let sum = if op == op::FLUSH as usize { &mut flushes } else { &mut alone };
            for class in 0..size::COUNT {
                sum.add(&self.work.read_growth(disk, op, class, self.tables.solo(disk, op, class)));
            }
        }
        (alone, flushes)
    }

    fn read_disk(&mut self, at: usize, now_ns: u64, seconds: f64) {
        let index = self.disks[at].disk.index;
        let moment = Moment::at(tick(now_ns));
        self.disks[at].rates.clear();
        self.disks[at].work.loads.clear();
        self.disks[at].in_flight = 0;
        let mut ended = 0;
        for account in 0..ACCOUNTS {
            let now = self.tables.account(index, account);
            let seen = self.disks[at].seen[account];
            let total = moment.integral(now.word, now.done);
            let integral = total.wrapping_sub(seen.integral);
            let busy = now.word != 0 || now.requests != seen.account.requests;
            let requests = now.requests.wrapping_sub(seen.account.requests);
            ended += requests;
            let bytes = now.bytes.wrapping_sub(seen.account.bytes);
            let request_bytes = bytes.checked_div(requests).or(seen.request_bytes);
            self.disks[at].seen[account].request_bytes = request_bytes;
            if busy {
                self.tables.use_account(index, account);
            }
            if busy
                && account as u32 != OTHERS
                && self.disks[at].owners[account].id == OwnerId::NOBODY
            {
                self.find_owner(at, account);
            }
            let id = self.disks[at].owners[account].id;
            if id != OwnerId::NOBODY {
                let op = self.key(id).op;
                self.disks[at].owners[account].weight_ns = self.weight_ns(at, account, op);
                if let Some(sum) = self.disks[at].bytes.get_mut(usize::from(op)) {
                    *sum += bytes;
                }
            }
            let op = self.disks[at].owners[account].op;
            let cost_ns = self.cost_ns(at, account, op);
            let guessed = !self.work.knows(index, op, request_bytes.unwrap_or_default());
            let disk = &mut self.disks[at];
            let seen = &mut disk.seen[account];
            let before = seen.account;
            let busy_ns = if busy { now_ns } else { seen.busy_ns };
            let in_flight = moment.in_flight(now.word);
            let submitted = (in_flight + requests).saturating_sub(seen.in_flight);
            *seen = Seen { account: now, integral: total, in_flight, busy_ns, ..*seen };
            seen.note_work(requests.saturating_mul(u64::from(cost_ns)));
            if !busy {
                continue;
            }
            disk.in_flight += in_flight;
            let in_flight_ns = ticks_to_ns((integral as i64).max(0) as u64);
            // Before the first tick there are no rates.
            if seconds.is_finite() {
                disk.work.loads.push(Load {
                    owner: id,
                    submitted,
                    completed: requests,
                    bytes,
                    writes: u32::from(disk.owners[account].op) == op::WRITE,
                    reads: u32::from(disk.owners[account].op) == op::READ,
                    in_flight_ns,
                    cost_ns,
                    guessed,
                });
            }
            disk.rates.push(Rate {
                owner: disk.owners[account].id,
                actor: disk.owners[account].actor(),
                op: disk.owners[account].op,
                tgid: now.tgid,
                requests_per_second: now.requests.wrapping_sub(before.requests) as f64 / seconds,
                bytes_per_second: now.bytes.wrapping_sub(before.bytes) as f64 / seconds,
                in_flight: in_flight_ns as f64 / (seconds * 1e9),
                requests_total: now.requests.wrapping_sub(seen.zero.0),
                bytes_total: now.bytes.wrapping_sub(seen.zero.1),
            });
        }
        self.disks[at].uncounted.tick(ended, self.tables.unplaced(index));
    }

    /// The histograms of the queue and device times of requests of one operation on a disk.
    pub fn histograms(&self, disk: u32, op: u32) -> [[u64; BUCKETS]; 2] {
        let known = self.position(disk).and_then(|at| self.disks[at].zero.as_ref());
        let zero = known.and_then(|zero| zero.get(op as usize));
        let read = |stage: u32| {
            let mut counts = self.tables.histogram(disk, op, stage);
            if let Some(zero) = zero.and_then(|zero| zero.get(stage as usize)) {
                counts
                    .iter_mut()
                    .zip(zero)
                    .for_each(|(count, zero)| *count = count.saturating_sub(*zero));
            }
            counts
        };
        let device = read(stage::DEVICE);
        let mut queue = read(stage::QUEUE);
        // Each request is in both histograms, except that the kernel programs do not count
        // the lowest bucket of the queue's.
        let others: u64 = queue.iter().sum();
        queue[0] = device.iter().sum::<u64>().saturating_sub(others);
        [queue, device]
    }
}
