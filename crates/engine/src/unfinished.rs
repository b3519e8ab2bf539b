//! Syncs that have not ended: their victims are judged as if they ended at the last tick.
//!
//! Without this a victim whose sync hangs would be judged by the syncs that ended, which
//! may all have been quick. The wait is added to a copy of the victim, which the next tick
//! replaces, so a sync is never counted twice.

use tracer_ebpf::record::{ACCOUNTS, SyncRecord};

use super::{
    blame::{Owner, Window},
    phases::{Phase, Phases},
    victim::Victim,
};

/// Copies of victims, with the syncs that have not ended.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// At the last tick.
    settled: Vec<Box<Victim>>,
    /// At the tick that follows.
    next: Vec<Box<Victim>>,
}

impl Unfinished {
    pub fn add<'a>(
        &mut self,
        victim: &Victim,
        record: &SyncRecord,
        need_ns: u64,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) {
        let known = self.next.iter().position(|copy| copy.id == victim.id);
        let at = known.unwrap_or_else(|| {
            self.next.push(Box::new(victim.clone()));
            self.next.len() - 1
        });
        let record = with_requests_in_flight(record, &Window::of(record, &[], &owners));
        let window = Window::of(&record, &[], &owners);
        self.next[at].ingest(&record, &Phases::of(&record), &window, need_ns);
    }

    /// Ends the second: `settle` does it for each copy.
    pub fn tick(&mut self, settle: impl FnMut(&mut Victim)) {
        self.settled = std::mem::take(&mut self.next);
        self.settled.iter_mut().map(|copy| &mut **copy).for_each(settle);
    }

    /// The copy of a victim, as of the last tick.
    pub fn find(&self, id: u32) -> Option<&Victim> {
        self.settled.iter().find(|copy| copy.id == id).map(|copy| &**copy)
    }
}

/// The record with the time of requests that have not ended either. The kernel programs
/// count a request when it ends, so the wait for one that hangs has no phase yet. The part in
/// which requests of the victim were in flight is the device's, and then that of the
/// journal's is the commit's.
fn with_requests_in_flight(record: &SyncRecord, window: &Window) -> SyncRecord {
    let mut record = *record;
    let mut left_ns = Phases::of(&record).ns[Phase::Other];
    let mut take = |ns: u64| {
        let taken = left_ns.min(ns);
        left_ns -= taken;
        taken
    };
    let (own_ns, journal_ns) = (take(window.own_other_ns), take(window.journal_ns));
    record.own_device_ns = record.own_device_ns.saturating_add(own_ns);
    record.own_span_ns = record.own_span_ns.saturating_add(own_ns);
    record.journal_ns = record.journal_ns.saturating_add(journal_ns);
    record.journal_device_ns = record.journal_device_ns.saturating_add(journal_ns);
    record
}
