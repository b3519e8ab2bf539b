//! Syncs that have begun and not ended.
//!
//! A record is sent at a sync's end, so one that hangs would be invisible. The
//! kernel programs' table of syncs under way is looked at once a second: one word
//! per place says whether there is any, so a node without hanging syncs costs a few
//! system calls a second.

use anyhow::Result;
use aya::maps::{Array, HashMap as KernelMap, MapData};
use tracer_ebpf::{
    ledger::{Moment, tick},
    open_sync::{COMMIT, OpenSync, PLACES, requests_and_bytes},
    record::{ACCOUNTS, Account, NO_DISK, SyncRecord},
};
use zerocopy::FromZeros as _;

use super::{pods::Plain, tables::Mapped};
use crate::load::Programs;

/// The oldest syncs that are given; on a disk that hangs there may be thousands.
const MAX_HANGING: usize = 16;

/// The kernel programs' table of syncs under way.
pub struct UnderWay {
    /// How many syncs are under way, by place.
    syncing: Mapped,
    placed: Array<MapData, Plain<OpenSync>>,
    /// The syncs of threads whose slot another thread has, by tid.
    others: KernelMap<MapData, u32, Plain<OpenSync>>,
}

impl UnderWay {
    /// # Errors
    ///
    /// When a table was taken before or cannot be mapped.
    pub fn new(programs: &mut Programs) -> Result<Self> {
        Ok(Self {
            syncing: Mapped::new(programs.take_map("SYNCING")?, PLACES as usize)?,
            placed: Array::try_from(programs.take_map("PLACED_SYNCS")?)?,
            others: KernelMap::try_from(programs.take_map("OTHER_SYNCS")?)?,
        })
    }

    /// Syncs that began before a moment, the oldest first, and how many more there are.
    pub fn read(&self, before_ns: u64) -> (Vec<OpenSync>, usize) {
        let (mut old, mut count) = (Vec::<OpenSync>::new(), 0);
        let mut is_crowded = false;
        let mut take = |sync: OpenSync, again: &dyn Fn() -> Option<OpenSync>| {
            if !is_old(&sync, before_ns) {
                return;
            }
            // Another sync may have begun while this one's words were copied.
            if again().is_some_and(|again| is_same(&sync, &again)) {
                count += 1;
                let at = old.partition_point(|other| other.begin_ns <= sync.begin_ns);
                old.insert(at, sync);
                old.truncate(MAX_HANGING);
            }
        };
        for at in 0..PLACES {
            let count = self.syncing.read(at as usize);
            if count == 0 {
                continue;
            }
            let read = || self.placed.get(&at, 0).ok().map(|sync| sync.0);
            let Some(sync) = read() else { continue };
            is_crowded |= count > 1 || sync.tid == 0;
            take(sync, &read);
        }
        if is_crowded {
            for (tid, Plain(sync)) in self.others.iter().filter_map(Result::ok) {
                take(sync, &|| self.others.get(&tid, 0).ok().map(|sync| sync.0));
            }
        }
        let left_out = count - old.len();
        (old, left_out)
    }
}

fn is_old(sync: &OpenSync, before_ns: u64) -> bool {
    sync.tid != 0 && sync.kind < COMMIT && (1..before_ns).contains(&sync.begin_ns)
}

fn is_same(one: &OpenSync, other: &OpenSync) -> bool {
    (one.tid, one.seq, one.begin_ns) == (other.tid, other.seq, other.begin_ns)
}

/// The record of a sync as if it ended now, without the phases of which only the
/// programs know: its time on a CPU, and its journal's. `account` gives an account of
/// a disk.
pub fn record_until(
    sync: &OpenSync,
    now_ns: u64,
    account: impl Fn(u32, usize) -> Account,
) -> SyncRecord {
    let mut record = SyncRecord::new_zeroed();
    record.begin_ns = sync.begin_ns;
    record.duration_ns = now_ns.saturating_sub(sync.begin_ns);
    record.own_queue_ns = sync.own_queue_ns;
    record.own_device_ns = sync.own_device_ns;
    record.own_span_ns = sync.own_last_ns.saturating_sub(sync.own_first_ns);
    (record.own_requests, record.own_bytes) = requests_and_bytes(sync.own_work);
    record.throttle_ns = sync.throttle_ns;
    record.reclaim_ns = sync.reclaim_ns.saturating_add(sync.own_read_ns);
    record.cgroup = sync.cgroup;
    record.comm = zerocopy::transmute!(sync.comm);
    record.kthread = u8::from(sync.kthread != 0);
    record.carried = u8::from(sync.carried != 0);
    record.inode = sync.inode;
    record.generation = sync.generation;
    record.backing = sync.backing;
    record.device = sync.device;
    record.disk = sync.disk;
    record.tgid = sync.shown_tgid;
    record.tid = sync.shown_tid;
    record.kind = sync.kind;
    record.fd = sync.fd;
    if sync.disk != NO_DISK {
        let moment = Moment::at(tick(now_ns));
        for at in 0..ACCOUNTS {
            let now = account(sync.disk, at);
            let mark = if (at as u64) < sync.marked { sync.marks[at] } else { 0 };
            record.integrals[at] = moment.integral(now.word, now.done).wrapping_sub(mark);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::{
        ledger::{submission, ticks_to_ns},
        record::kind,
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sync() -> OpenSync {
        let mut sync = OpenSync::new_zeroed();
        (sync.tid, sync.begin_ns, sync.kind) = (7, 5 * SECOND, kind::FDATASYNC);
        sync
    }

    #[test]
    fn only_syncs_that_began_long_ago_are_old() {
        assert!(is_old(&sync(), 6 * SECOND));
        assert!(!is_old(&sync(), 5 * SECOND));
        assert!(!is_old(&OpenSync { tid: 0, ..sync() }, 6 * SECOND));
        // The sync is just being opened.
        assert!(!is_old(&OpenSync { begin_ns: 0, ..sync() }, 6 * SECOND));
        assert!(!is_old(&OpenSync { kind: COMMIT, ..sync() }, 6 * SECOND));
        assert!(is_same(&sync(), &OpenSync { own_work: 9, ..sync() }));
        assert!(!is_same(&sync(), &OpenSync { seq: 9, ..sync() }));
    }

    #[test]
    fn a_record_until_now_has_what_was_in_flight_since_the_begin() {
        let open = OpenSync { disk: 3, marked: 1, ..sync() };
        // One request that was submitted three seconds after the begin, four seconds ago.
        let word = submission(tick(8 * SECOND));
        let account = |disk, at| {
            assert_eq!(disk, 3);
            Account { word: if at == 2 { word } else { 0 }, ..Account::default() }
        };
        let record = record_until(&open, 12 * SECOND, account);
        assert_eq!((record.duration_ns, record.disk), (7 * SECOND, 3));
        let integrals = record.integrals.map(|integral| ticks_to_ns(integral).div_ceil(SECOND));
        assert_eq!(integrals[..4], [0, 0, 4, 0]);
    }
}
