//! The kernel's tables, mapped into our memory: reading them costs no system
//! call.
//!
//! With `ring`, the only place in user space with unsafe code on the hot path.
//! Words are read as relaxed atomics: the kernel adds to them on any CPU, and
//! each is right by itself; see `tracer_ebpf::ledger` on how two fit together.

use std::{
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use memmap2::{MmapOptions, MmapRaw};
use tracer_ebpf::{
    dropped::Dropped,
    histogram::BUCKETS,
    ledger::{submission, tick},
    record::{ACCOUNTS, Account, Disk, DiskLedger, InFlight, Solo, op, size, stage},
};
use tracer_node::disks::Room;

use super::waiting::{Idle, Left, RECONCILE_GRACE, Waiting};

/// An array map in our memory, as far as somebody reads it: what is mapped is
/// resident, read or not.
pub(super) struct Mapped {
    memory: MmapRaw,
    words: usize,
    map: MapData,
}

impl Mapped {
    pub(super) fn new(map: Map, words: usize) -> Result<Self> {
        let Map::Array(map) = map else { bail!("the map is no array") };
        Ok(Self { memory: memory_of(&map, words)?, words, map })
    }

    /// Maps at least this many words from now on.
    fn reach(&mut self, words: usize) -> Result<()> {
        if words > self.words {
            self.memory = memory_of(&self.map, words)?;
            self.words = words;
        }
        Ok(())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "word {index} of {}", self.words);
        // SAFETY: the index was checked against the mapping's length; the
        // mapping is page-aligned, lives as long as `self`, and is only ever
        // accessed atomically by us.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(index)) }
    }

    pub(super) fn read(&self, index: usize) -> u64 {
        self.word(index).load(Relaxed)
    }
}

fn memory_of(map: &MapData, words: usize) -> Result<MmapRaw> {
    MmapOptions::new()
        .len(words * 8)
        .map_raw(map.fd().as_fd().as_raw_fd())
        .context("failed to map a table of the kernel programs")
}

/// The tables that user space reads.
pub struct Tables {
    ledger: Mapped,
    in_flight: Mapped,
    histograms: Mapped,
    solo: Mapped,
    dropped: Mapped,
    /// The slots of `in_flight` that all disks share. They are the last ones, and not
    /// mapped until a disk uses them.
    shared: Range<u32>,
    /// Counts from before the watch began.
    zero: [u64; Dropped::COUNT],
}

/// The maps behind [`Tables`].
pub struct TableMaps {
    pub ledger: Map,
    pub in_flight: Map,
    pub histograms: Map,
    pub solo: Map,
    pub dropped: Map,
}

const LEDGER_WORDS: usize = size_of::<DiskLedger>() / 8;
const ACCOUNT_WORDS: usize = size_of::<Account>() / 8;
/// The words in which an account names its owner, and the last of them, which names the
/// process that used it.
const OWNER_WORDS: Range<usize> = 4..8;
const TGID_WORD: usize = 7;
const COMPLETED_WORD: usize = std::mem::offset_of!(DiskLedger, completed_ns) / 8;
const SHARES_WORD: usize = std::mem::offset_of!(DiskLedger, shares) / 8;
const UNPLACED_WORD: usize = std::mem::offset_of!(DiskLedger, unplaced) / 8;
const IN_FLIGHT_WORDS: usize = size_of::<InFlight>() / 8;
/// The size of one disk's histograms.
const HISTOGRAM_WORDS: usize = op::COUNT * stage::COUNT * BUCKETS;
const SOLO_WORDS: usize = op::COUNT * size::COUNT * size_of::<Solo>() / 8;

impl Tables {
    /// # Errors
    ///
    /// The kernel does not let the maps be mapped (before 5.5,
    /// <https://github.com/torvalds/linux/commit/fc9702273e2e>).
    pub fn new(maps: TableMaps, room: &Room) -> Result<Self> {
        Ok(Self {
            ledger: Mapped::new(maps.ledger, LEDGER_WORDS)?,
            in_flight: Mapped::new(maps.in_flight, IN_FLIGHT_WORDS)?,
            histograms: Mapped::new(maps.histograms, HISTOGRAM_WORDS)?,
            solo: Mapped::new(maps.solo, SOLO_WORDS)?,
            dropped: Mapped::new(maps.dropped, Dropped::COUNT)?,
            shared: room.own_slots..room.slots(),
            zero: [0; Dropped::COUNT],
        })
    }

    /// Maps the tables as far as this disk needs them. Reading a disk for which this was
    /// never called panics.
    ///
    /// # Errors
    ///
    /// When they have no room for it.
    pub fn reach(&mut self, disk: &Disk) -> Result<()> {
        let disks = disk.index as usize + 1;
        self.ledger.reach(disks * LEDGER_WORDS)?;
        self.in_flight.reach((disk.base + disk.slots()) as usize * IN_FLIGHT_WORDS)?;
        self.histograms.reach(disks * HISTOGRAM_WORDS)?;
        self.solo.reach(disks * SOLO_WORDS)
    }

    /// The counters of an account, without its owner.
    pub fn account(&self, disk: u32, account: usize) -> Account {
        let at = disk as usize * LEDGER_WORDS + account * ACCOUNT_WORDS;
        // The word first: what ends in between is then in `done` as well, for
        // this one reading, rather than in neither.
        let word = self.ledger.read(at);
        let [done, requests, bytes] = [1, 2, 3].map(|word| self.ledger.read(at + word));
        let tgid = self.ledger.read(at + TGID_WORD) as u32;
        Account { word, done, requests, bytes, tgid, ..Account::default() }
    }

    /// When the disk's driver was done with something last, in ns; 0 for never.
    pub fn last_end_ns(&self, disk: u32) -> u64 {
        self.ledger.read(disk as usize * LEDGER_WORDS + COMPLETED_WORD)
    }

    /// When the oldest of a disk's requests in flight was submitted, in ns.
    pub fn oldest_submit_ns(&mut self, disk: &Disk) -> Option<u64> {
        let slots = self.slots_of(disk);
        let submits = slots.filter_map(|slot| {
            let at = slot as usize * IN_FLIGHT_WORDS;
            let [request, submitted_ns] = [0, 1].map(|word| self.in_flight.read(at + word));
            let is_its = (self.in_flight.read(at + 5) >> 16) as u16 == disk.index as u16;
            (is_address(request) && submitted_ns != 0 && is_its).then_some(submitted_ns)
        });
        submits.min()
    }

    /// Requests on a disk that found no slot, since the start.
    pub fn unplaced(&self, disk: u32) -> u64 {
        self.ledger.read(disk as usize * LEDGER_WORDS + UNPLACED_WORD)
    }

    /// Syncs look at this account from here on.
    pub fn use_account(&self, disk: u32, account: usize) {
        let used = self.ledger.word(disk as usize * LEDGER_WORDS + ACCOUNTS * ACCOUNT_WORDS);
        used.fetch_max(account as u64 + 1, Relaxed);
    }

    /// From here on the kernel programs do not find this account by its owner.
    pub fn disown(&self, disk: u32, account: usize) {
        let at = disk as usize * LEDGER_WORDS + account * ACCOUNT_WORDS;
        for word in OWNER_WORDS {
            self.ledger.word(at + word).store(0, Relaxed);
        }
    }

    /// Counts what the kernel programs dropped since the watch began.
    pub fn dropped(&self, kind: Dropped) -> u64 {
        self.dropped.read(kind as usize) - self.zero[kind as usize]
    }

    /// The watch begins: what the programs missed while only some of them were
    /// attached is not dropped by it.
    pub fn begin_watch(&mut self) {
        self.zero = std::array::from_fn(|kind| self.dropped.read(kind));
    }

    /// The counts of one histogram.
    pub fn histogram(&self, disk: u32, op: u32, stage: u32) -> [u64; BUCKETS] {
        let index = (disk as usize * op::COUNT + op as usize) * stage::COUNT + stage as usize;
        std::array::from_fn(|bucket| self.histograms.read(index * BUCKETS + bucket))
    }

    /// Service times of requests of one class that were alone on their disk.
    pub fn solo(&self, disk: u32, op: usize, class: usize) -> Solo {
        let index = (disk as usize * op::COUNT + op) * size::COUNT + class;
        // The sum first: a request between two reads makes the mean a little
        // smaller for this one reading, and none is lost.
        let ns = self.solo.read(index * 2 + 1);
        Solo { requests: self.solo.read(index * 2), ns }
    }

    /// Gives back every request of a disk that the kernel says has none at the
    /// driver and that does not wait in the queue: it was never seen to end. Returns
    /// how many.
    pub(super) fn reconcile(
        &mut self,
        disk: &Disk,
        now_ns: u64,
        idle: Idle,
        waiting: &mut Waiting,
    ) -> u64 {
        let mut look = waiting.look(now_ns, idle);
        self.give_back(disk, now_ns, |request| look.is_over(request))
    }

    /// Gives back every request of a place that has belonged to another disk for less than
    /// `RECONCILE_GRACE`: those that were submitted before were the old disk's. Returns how
    /// many.
    pub fn give_back_of_another(&mut self, disk: &Disk, now_ns: u64) -> u64 {
        self.give_back(disk, now_ns, |request| {
            Duration::from_nanos(now_ns.saturating_sub(request.submitted_ns)) >= RECONCILE_GRACE
        })
    }

    /// Gives back every request in a place that no disk has any more. Returns how
    /// many.
    pub fn give_back_all(&mut self, disk: &Disk, now_ns: u64) -> u64 {
        self.give_back(disk, now_ns, |_| true)
    }

    /// Whether requests on this disk may be in the shared slots, which then are mapped.
    fn uses_shared(&mut self, disk: u32) -> bool {
        let shares = self.ledger.read(disk as usize * LEDGER_WORDS + SHARES_WORD) != 0;
        // If the mapping fails, the requests stay in their slots for now.
        shares && self.in_flight.reach(self.shared.end as usize * IN_FLIGHT_WORDS).is_ok()
    }

    /// The slots in which a disk's requests may be, among those of others.
    fn slots_of(&mut self, disk: &Disk) -> impl Iterator<Item = u32> + use<> {
        let shared = if self.uses_shared(disk.index) { self.shared.clone() } else { 0..0 };
        (disk.base..disk.base + disk.slots()).chain(shared)
    }

    /// Gives back those requests that are over.
    fn give_back(
        &mut self,
        disk: &Disk,
        now_ns: u64,
        mut is_over: impl FnMut(&Left) -> bool,
    ) -> u64 {
        let mut reconciled = 0;
        for slot in self.slots_of(disk) {
            let at = slot as usize * IN_FLIGHT_WORDS;
            let request = self.in_flight.read(at);
            if request == 0 {
                continue;
            }
            if !is_address(request) {
                // A claim was taken out of it that had been overwritten.
                let _ = self.in_flight.word(at).compare_exchange(request, 0, Relaxed, Relaxed);
                continue;
            }
            let [submitted_ns, issued_ns] = [1, 2].map(|word| self.in_flight.read(at + word));
            let place = (self.in_flight.read(at + 3) >> 32) as usize;
            let rest = self.in_flight.read(at + 5);
            let is_its = (rest >> 16) as u16 == disk.index as u16;
            let (op, may_wait) = (u32::from(rest as u16), (rest >> 32) as u32);
            let left = Left { address: request, submitted_ns, issued_ns, op, may_wait };
            if submitted_ns == 0 || !is_its || !is_over(&left) {
                continue;
            }
            // Taking the address away makes a late end a counted stranger; if
            // it is another request's by now, that one's end came first.
            let taken = self.in_flight.word(at).compare_exchange(request, 0, Relaxed, Relaxed);
            if taken.is_err() {
                continue;
            }
            reconciled += 1;
            self.give_back_one(place, submitted_ns, now_ns);
        }
        reconciled
    }

    /// Takes a request or bio that was submitted at `submitted_ns` out of its account.
    pub fn give_back_one(&self, place: usize, submitted_ns: u64, now_ns: u64) {
        let at = place / ACCOUNTS * LEDGER_WORDS + place % ACCOUNTS * ACCOUNT_WORDS;
        if at < self.ledger.words {
            let submitted = tick(submitted_ns);
            self.ledger.word(at + 1).fetch_add(tick(now_ns).saturating_sub(submitted), Relaxed);
            self.ledger.word(at).fetch_sub(submission(submitted), Relaxed);
        }
    }
}

/// Whether a slot's word may be the address of a request: the kernel's half of the
/// addresses is the upper one.
fn is_address(word: u64) -> bool {
    word >> 63 == 1
}

const _: () = assert!(std::mem::offset_of!(Account, cgroup) == OWNER_WORDS.start * 8);
const _: () = assert!(size_of::<Account>() == OWNER_WORDS.end * 8);
const _: () = assert!(std::mem::offset_of!(Account, tgid) == TGID_WORD * 8);

const _: () = assert!(std::mem::offset_of!(DiskLedger, used) == ACCOUNTS * size_of::<Account>());

// `reconcile` looks for an entry's words at these offsets.
const _: () = assert!(std::mem::offset_of!(InFlight, request) == 0);
const _: () = assert!(std::mem::offset_of!(InFlight, submitted_ns) == 8);
const _: () = assert!(std::mem::offset_of!(InFlight, issued_ns) == 16);
const _: () = assert!(std::mem::offset_of!(InFlight, account) == 28);
const _: () = assert!(std::mem::offset_of!(InFlight, op) == 40);
const _: () = assert!(std::mem::offset_of!(InFlight, disk) == 42);
const _: () = assert!(std::mem::offset_of!(InFlight, may_wait) == 44);
const _: () = assert!(std::mem::offset_of!(Solo, ns) == 8);
const _: () = assert!(cfg!(target_endian = "little"));
