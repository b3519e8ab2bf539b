//! Describes syncs that have not ended, and what holds them up.

use tracer_ebpf::{pid, record::ACCOUNTS};
use tracer_engine::blame::{Owner, Party, Window};
use tracer_snapshot::{Actor, Beside, Hanging, HangingDisk, Kind, Op, SCHEMA, labels::FileNames};

use crate::{
    Scene,
    picture::{KINDS, device_name, owner, seconds},
    stages::Taken,
};

/// Others that are named at most.
const OTHERS: usize = 4;

/// A disk completes nothing if it has not for this part of the sync's time.
const NOTHING: f64 = 0.9;

/// The disk of a hanging sync, as it is now.
#[derive(Clone, Debug)]
pub struct DiskNow {
    pub name: String,
    pub in_flight: u64,
    /// When its oldest request in flight was born, in ns.
    pub oldest_ns: Option<u64>,
    /// When it completed a request last, in ns; 0 for never.
    pub ended_ns: u64,
}

impl Scene {
    /// Describes a sync that has not ended; its record is as if it ended now. `owners`
    /// are those of its disk's accounts, with the process that used each last.
    pub fn describe_hanging(
        &self,
        sync: &Taken<'_>,
        disk: Option<&DiskNow>,
        (owners, tgid): (&[Owner; ACCOUNTS], &dyn Fn(usize) -> u32),
        files: &mut dyn FileNames,
    ) -> Hanging {
        let Taken { record, file, .. } = *sync;
        let now_ns = record.begin_ns + record.duration_ns;
        let party =
            Party { cgroup: record.cgroup, comm: record.comm, kthread: record.kthread != 0 };
        let window = Window::of(record, &[], |_| owners);
        let competitors = window.competitors().iter();
        let all: f64 = competitors.clone().map(|competitor| competitor.work).sum();
        let mut others: Vec<_> = competitors
            .filter_map(|competitor| {
                let Owner { id, op, .. } = competitor.owner;
                let account = owners.iter().position(|owner| owner.id == id).unwrap_or(0);
                Some(Beside {
                    actor: owner(&self.people, id, &competitor.owner.party(), tgid(account)),
                    op: Op::of_code(op)?,
                    share: competitor.work / all.max(1.0),
                })
            })
            .collect();
        others.sort_by(|a, b| b.share.total_cmp(&a.share));
        others.truncate(OTHERS);
        let label = files.label(file);
        let (class, path) = (label.class, label.path.clone());
        let disk = disk.map(|disk| HangingDisk {
            name: disk.name.clone(),
            in_flight: disk.in_flight,
            oldest_seconds: disk.oldest_ns.map(|born| seconds(now_ns.saturating_sub(born))),
            completed_seconds_ago: (disk.ended_ns != 0)
                .then(|| seconds(now_ns.saturating_sub(disk.ended_ns))),
        });
        let waited = seconds(record.duration_ns);
        Hanging {
            schema: SCHEMA,
            at: self.clock().unix_seconds(now_ns),
            actor: Actor { tgid: pid::here(record.tgid), ..self.people.actor(&party) },
            tid: pid::here(record.tid),
            call: KINDS.get(record.kind as usize).copied().unwrap_or("unknown"),
            class,
            path,
            device: device_name(files, record.device, file),
            seconds: waited,
            kind: kind(waited, disk.as_ref(), !others.is_empty()),
            disk,
            others,
        }
    }
}

/// The kind of cause that holds up a sync of this age, in seconds. A disk that completes nothing,
/// for nobody, is to blame itself. One that works may be kept busy by others; then
/// only the end of the sync tells how much of the wait is theirs.
fn kind(waited: f64, disk: Option<&HangingDisk>, others: bool) -> Kind {
    let Some(disk) = disk else { return Kind::Unseen };
    if disk.in_flight == 0 {
        return Kind::Unexplained;
    }
    match disk.completed_seconds_ago {
        Some(ago) if ago < NOTHING * waited => {
            if others {
                Kind::Owners
            } else {
                Kind::Unexplained
            }
        }
        _ => Kind::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(in_flight: u64, completed: Option<f64>) -> HangingDisk {
        HangingDisk {
            name: "sdb".into(),
            in_flight,
            oldest_seconds: Some(47.0),
            completed_seconds_ago: completed,
        }
    }

    #[test]
    fn a_disk_that_completes_nothing_is_to_blame_whoever_is_on_it() {
        for others in [false, true] {
            assert_eq!(kind(47.0, Some(&disk(3, Some(47.2))), others), Kind::Device);
            assert_eq!(kind(47.0, Some(&disk(3, None)), others), Kind::Device);
        }
    }

    #[test]
    fn a_disk_that_works_is_not_blamed_alone() {
        assert_eq!(kind(47.0, Some(&disk(3, Some(0.01))), true), Kind::Owners);
        assert_eq!(kind(47.0, Some(&disk(3, Some(0.01))), false), Kind::Unexplained);
    }

    #[test]
    fn without_a_request_or_a_disk_nothing_is_blamed() {
        assert_eq!(kind(47.0, Some(&disk(0, Some(60.0))), true), Kind::Unexplained);
        assert_eq!(kind(47.0, None, true), Kind::Unseen);
    }
}
