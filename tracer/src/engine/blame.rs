//! Who a sync waited for.
//!
//! The accounts of a disk belong to the sync's own process, to the journal of
//! its filesystem, or to others. The requests that the sync itself waits for
//! (its own, its journal's) are the effect, not a cause. What is left of its
//! process's account is its own other work; the rest are competitors.
//!
//! What is blamed is the *excess*: the wait beyond the victim's baseline. Where
//! at least one competing request was in flight on average, all of it is
//! divided by their shares. Of the time that competitors leave, the victim's
//! own other work takes its part, and the rest is the device's own. In this
//! order, because requests of the victim pile up *behind* a culprit: equal
//! weights would call them its own fault.

use serde::{Deserialize, Serialize};
use tracer_ebpf::{
    ledger::ticks_to_ns,
    record::{ACCOUNTS, COMM, SyncRecord},
};

/// An owner and one class of its requests, interned by the caller.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct OwnerId(pub u32);

/// What the engine must know of an account's owner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    pub id: OwnerId,
    pub cgroup: u64,
    pub comm: [u8; COMM],
    pub kthread: bool,
    /// What one of its requests costs its disk: the time that a request of this
    /// class takes alone, in ns.
    pub weight_ns: u32,
}

impl Owner {
    fn is_caller(&self, record: &SyncRecord) -> bool {
        // Kernel threads are in no cgroup (0), so nobody else passes for one.
        self.cgroup == record.cgroup && self.comm == record.comm
    }

    /// The thread that commits a filesystem's journal for those who sync.
    fn is_journal(&self) -> bool {
        self.kthread && self.comm.starts_with(b"jbd2/")
    }
}

/// Requests in flight during one sync, as time-integrals in ns.
#[derive(Clone, Debug)]
pub struct Window {
    /// Per account, zero for the sync's own effects.
    pub competitors_ns: [u64; ACCOUNTS],
    /// All competitors together.
    pub total_ns: u64,
    /// The victim's own other requests.
    pub own_other_ns: u64,
    /// Accounts whose integral cannot be: more than any disk has in flight.
    pub torn: u32,
}

/// More requests in flight than any device takes; an integral above is torn.
const MOST_IN_FLIGHT: u64 = 1 << 20;

impl Window {
    /// Sorts a record's accounts by whose they are.
    pub fn of(record: &SyncRecord, owners: &[Owner; ACCOUNTS]) -> Self {
        let mut window =
            Self { competitors_ns: [0; ACCOUNTS], total_ns: 0, own_other_ns: 0, torn: 0 };
        let most = record.duration_ns.saturating_mul(MOST_IN_FLIGHT);
        let mut own_ns = 0u64;
        for (account, owner) in owners.iter().enumerate() {
            // A request that ended between two reads of one account makes the
            // earlier integral larger by less than its age: none, then.
            if (record.areas[account] as i64) <= 0 {
                continue;
            }
            let area_ns = ticks_to_ns(record.areas[account]);
            if area_ns > most {
                window.torn += 1;
            } else if owner.is_caller(record) {
                own_ns += area_ns;
            } else if !owner.is_journal() {
                window.competitors_ns[account] = area_ns;
                window.total_ns += area_ns;
            }
        }
        let effect_ns = record.own_queue_ns.saturating_add(record.own_device_ns);
        // Two readings in ticks of a clock in ns: less than a tick is nothing.
        window.own_other_ns = own_ns.saturating_sub(effect_ns.saturating_add(ticks_to_ns(4)));
        window
    }

    /// Whether nobody else had a request in flight for more than 1 % of the
    /// time, and the victim's other work none for more than 10 %: such a sync
    /// shows what the disk does by itself.
    pub fn is_uncontended(&self, duration_ns: u64) -> bool {
        self.total_ns.saturating_mul(100) <= duration_ns
            && self.own_other_ns.saturating_mul(10) <= duration_ns
    }
}

/// How a sync's excess is divided, in ns. `alone + own` and the parts of all
/// competitors add up to the excess, but for rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Division {
    pub excess_ns: f64,
    /// With no competitor in flight: the device's own.
    pub alone_ns: f64,
    /// Behind the victim's own other requests.
    pub own_ns: f64,
    /// Blame per ns of a competitor's integral.
    pub per_area: f64,
}

/// Divides a wait beyond its baseline.
pub fn divide(window: &Window, duration_ns: u64, wait_ns: u64, baseline_ns: u64) -> Division {
    let excess_ns = wait_ns.saturating_sub(baseline_ns) as f64;
    if excess_ns <= 0.0 || duration_ns == 0 {
        return Division::default();
    }
    let mean = |area_ns: u64| area_ns as f64 / duration_ns as f64;
    let others = mean(window.total_ns).min(1.0);
    let own = mean(window.own_other_ns).min(1.0 - others);
    let per_area = match window.total_ns {
        0 => 0.0,
        total => excess_ns * others / total as f64,
    };
    Division {
        excess_ns,
        alone_ns: excess_ns * (1.0 - others - own),
        own_ns: excess_ns * own,
        per_area,
    }
}
