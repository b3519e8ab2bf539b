//! Describes syncs that have not ended, and what holds them up.

use tracer_ebpf::{pid, record::ACCOUNTS};
use tracer_engine::blame::{ActorId, Owner, Window};
use tracer_snapshot::{
    Actor, Competitor, Hanging, HangingDisk, Kind, Op, SCHEMA, StackFact, labels::FileNames,
};

use crate::{
    Scene,
    snapshot::{KINDS, device_name, owner, seconds},
    stages::SyncInput,
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
    /// When its oldest request in flight was submitted, in ns.
    pub oldest_ns: Option<u64>,
    /// When it completed a request last, in ns; 0 for never.
    pub completed_ns: u64,
}

impl Scene {
    /// Describes a sync that has not ended; its record is as if it ended now. `disks` are
    /// the one that it waits for, and those that lie below that one, and `facts` what they
    /// say of themselves. `owners` are those of the first disk's accounts, with the
    /// process that used each last.
    pub fn describe_hanging(
        &self,
        sync: &SyncInput<'_>,
        (disks, facts): (&[DiskNow], Vec<StackFact>),
        (owners, tgid): (&[Owner; ACCOUNTS], &dyn Fn(usize) -> u32),
        files: &mut dyn FileNames,
    ) -> Hanging {
        let SyncInput { record, file, .. } = *sync;
        let now_ns = record.begin_ns + record.duration_ns;
        let actor = ActorId::from(record);
        let window = Window::of(record, &[], |_| owners);
        let competitors = window.competitors().iter();
        let all: f64 = competitors.clone().map(|competitor| competitor.work).sum();
        let mut others: Vec<_> = competitors
            .filter_map(|competitor| {
                let Owner { id, op, .. } = competitor.owner;
                let account = owners.iter().position(|owner| owner.id == id).unwrap_or(0);
                Some(Competitor {
                    actor: owner(&self.actors, id, &competitor.owner.actor(), tgid(account)),
                    op: Op::of_code(op)?,
                    share: competitor.work / all.max(1.0),
                })
            })
            .collect();
        others.sort_by(|a, b| b.share.total_cmp(&a.share));
        others.truncate(OTHERS);
        let label = files.label(file);
        let (class, path) = (label.class, label.path.clone());
        let NamedStack { disk, below, is_first } = stack(disks, record.carried != 0, now_ns);
        if !is_first {
            // The owners are known of the first disk alone.
            others.clear();
        }
        let waited = seconds(record.duration_ns);
        Hanging {
            schema: SCHEMA,
            at: self.clock().unix_seconds(now_ns),
            actor: Actor { tgid: pid::here(record.tgid), ..self.actors.actor(&actor) },
            tid: pid::here(record.tid),
            call: KINDS.get(record.kind as usize).copied().unwrap_or("unknown").into(),
            class,
            path,
            device: device_name(files, record.device, file),
            seconds: waited,
            kind: kind(waited, disk.as_ref(), !others.is_empty()),
            disk,
            disks_below: below,
            stack: facts,
            others,
        }
    }
}

/// The disks of a hanging sync, as they are named.
#[derive(Debug, Default)]
struct NamedStack {
    disk: Option<HangingDisk>,
    below: Vec<HangingDisk>,
    /// Whether the disk is the first one that the sync waits for.
    is_first: bool,
}

/// Names the disk that a sync waits for, and those below it that have requests in
/// flight. A disk that `carries` the others has bios of its own, and stands for itself. A
/// stack that only passes bios on is counted as its first member. Where another member has
/// requests and is silent for longer than the first, that one is the disk.
fn stack(disks: &[DiskNow], carries: bool, now_ns: u64) -> NamedStack {
    let age = |since_ns: u64| seconds(now_ns.saturating_sub(since_ns));
    let mut named = disks.iter().map(|disk| HangingDisk {
        name: disk.name.clone(),
        in_flight: disk.in_flight,
        oldest_seconds: disk.oldest_ns.map(age),
        completed_seconds_ago: (disk.completed_ns != 0).then(|| age(disk.completed_ns)),
    });
    let Some(first) = named.next() else { return NamedStack::default() };
    let mut below: Vec<_> = named.filter(|disk| disk.in_flight > 0).collect();
    below.sort_by(|a, b| silence(b).total_cmp(&silence(a)));
    let longest = below.first().map_or(0.0, silence);
    if carries || below.is_empty() || first.in_flight > 0 && silence(&first) >= longest {
        return NamedStack { disk: Some(first), below, is_first: true };
    }
    let silent = below.remove(0);
    if first.in_flight > 0 {
        below.push(first);
    }
    NamedStack { disk: Some(silent), below, is_first: false }
}

/// Seconds for which a disk with requests in flight has not completed any: no longer than
/// its oldest request is old.
fn silence(disk: &HangingDisk) -> f64 {
    let oldest = disk.oldest_seconds.unwrap_or_default();
    disk.completed_seconds_ago.unwrap_or(f64::INFINITY).min(oldest)
}

/// The kind of cause that holds up a sync of this age, in seconds. A disk that completes nothing,
/// for nobody, is to blame itself. A disk that completes requests may be kept busy by
/// others; how much of the wait is theirs is known only when the sync ends.
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

    const SECOND: u64 = 1_000_000_000;

    /// A disk at second 100 of which the oldest request was submitted and the last
    /// completed at these seconds.
    fn now(name: &str, in_flight: u64, oldest: u64, ended: u64) -> DiskNow {
        let oldest_ns = (in_flight > 0).then_some(oldest * SECOND);
        DiskNow { name: name.to_owned(), in_flight, oldest_ns, completed_ns: ended * SECOND }
    }

    #[track_caller]
    fn check(disks: &[DiskNow], carries: bool, disk: &str, below: &[&str]) -> NamedStack {
        let stack = stack(disks, carries, 100 * SECOND);
        assert_eq!(stack.disk.as_ref().map(|disk| &*disk.name), Some(disk));
        assert_eq!(stack.below.iter().map(|disk| &*disk.name).collect::<Vec<_>>(), below);
        stack
    }

    #[test]
    fn of_a_stack_that_passes_bios_on_the_member_is_named_that_is_silent() {
        // The volume lies on sdb and sdc, of which sdc answers nothing.
        let idle = [now("sdb", 0, 0, 99), now("sdc", 3, 53, 52)];
        let stack = check(&idle, false, "sdc", &[]);
        assert_eq!(stack.disk.unwrap().oldest_seconds, Some(47.0));
        assert!(!stack.is_first);
        check(&[now("sdb", 9, 99, 100), now("sdc", 3, 53, 52)], false, "sdc", &["sdb"]);
        // Both work: the first stands for the volume.
        assert!(
            check(&[now("sdb", 1, 53, 52), now("sdc", 9, 98, 99)], false, "sdb", &["sdc"]).is_first
        );
        check(&[now("sdb", 0, 0, 99), now("sdc", 0, 0, 99)], false, "sdb", &[]);
    }

    #[test]
    fn a_disk_that_carries_stands_for_itself_and_the_silent_member_comes_first() {
        let disks = [
            now("md0", 1, 53, 53),
            now("sdb", 0, 0, 99),
            now("sdc", 2, 90, 99),
            now("sdd", 1, 53, 50),
        ];
        assert!(check(&disks, true, "md0", &["sdd", "sdc"]).is_first);
        let none = stack(&[], false, 100 * SECOND);
        assert!(none.disk.is_none() && none.below.is_empty());
    }
}
