//! Describes who waits to write to a filesystem that is frozen.

use tracer_ebpf::pid;
use tracer_engine::victim::Victim;
use tracer_snapshot::{
    Actor, FileClass, Frozen, SCHEMA,
    labels::{FileId, FileNames},
};

use crate::{
    Scene,
    snapshot::{device_name, owner},
};

impl Scene {
    /// Those that waited at the last tick, each process once for a filesystem; the longest wait
    /// first.
    pub fn frozen(&self, now_ns: u64, files: &mut dyn FileNames) -> Vec<Frozen> {
        let victims = self.engine.victims().iter().map(AsRef::as_ref);
        let mut waiting: Vec<&Victim> = victims.filter(|victim| victim.is_frozen()).collect();
        let of = |victim: &Victim| (victim.key.device, victim.tgid);
        let is_log = |victim: &Victim| files.label(FileId(victim.key.file)).class == FileClass::Wal;
        waiting.sort_by_key(|victim| (of(victim), !is_log(victim), victim.id));
        waiting.dedup_by_key(|victim| of(victim));
        let mut found: Vec<_> = waiting
            .into_iter()
            .filter_map(|victim| {
                let froze = victim.frozen()?;
                let file = FileId(victim.key.file);
                let label = files.label(file);
                let (class, path) = (label.class, label.path.clone());
                let actor = self.actors.actor(&victim.actor());
                let by = || owner(&self.actors, froze.owner, &froze.actor, 0);
                Some(Frozen {
                    schema: SCHEMA,
                    at: self.clock().unix_seconds(now_ns),
                    actor: Actor { tgid: pid::here(victim.tgid), ..actor },
                    class,
                    path,
                    device: device_name(files, victim.key.device, file),
                    seconds: froze.ns / 1e9,
                    by: (!froze.is_unknown()).then(by),
                })
            })
            .collect();
        found.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        found
    }
}
