//! The effects of a sync and of a tick on a scene.
//!
//! A session drives these stages with the kernel's records, a replay with those
//! of its file: a sync is taken in ([`Scene::ingest`]), and described if it is to
//! be shown ([`Scene::slow_sync`]); a tick is taken in and moves the
//! window on ([`Scene::tick`]); snapshots are made at any time
//! ([`Scene::snapshot`]).

use tracer_ebpf::record::{ACCOUNTS, SyncRecord, UnderlyingWindow};
use tracer_engine::{
    Judged,
    blame::{ActorId, Owner, OwnerId},
    tick::Tick,
};
use tracer_snapshot::labels::FileId;

use crate::Scene;

/// A sync as the engine takes it in.
#[derive(Clone, Copy, Debug)]
pub struct SyncInput<'a> {
    pub record: &'a SyncRecord,
    /// The requests in flight on the disks below its first one.
    pub underlying: &'a [UnderlyingWindow],
    pub file: FileId,
    /// The time that its own requests would take alone, one after another.
    pub need_ns: u64,
}

impl Scene {
    /// Judges a sync; `owners` gives those of a disk's accounts.
    pub fn ingest<'a>(
        &mut self,
        sync: &SyncInput<'_>,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) -> Judged {
        let SyncInput { record, underlying, file, need_ns } = *sync;
        self.engine.ingest(record, underlying, file.0, need_ns, owners)
    }

    /// Takes in a sync that has not ended at the tick that follows; its record is as if it
    /// ended there.
    pub fn add_unfinished<'a>(
        &mut self,
        sync: &SyncInput<'_>,
        owners: impl Fn(u32) -> &'a [Owner; ACCOUNTS],
    ) {
        let SyncInput { record, file, need_ns, .. } = *sync;
        self.engine.add_unfinished(record, file.0, need_ns, owners);
    }

    /// Settles the second that a tick ends, and forgets the older half of the
    /// window when it is time. Nothing else moves the window on, so a replay
    /// forgets what the session forgot.
    pub fn tick(&mut self, tick: &Tick, actor: impl Fn(OwnerId) -> ActorId) {
        self.engine.tick(tick, actor);
        self.rotate_if_due(tick.at_ns);
    }
}
