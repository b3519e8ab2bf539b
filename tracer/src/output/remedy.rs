//! The remedies that `tracer why` prints: for each kind of culprit the setting that
//! helps, the scheduler that honours it, and the experiment that would have changed the verdict.
//!
//! Reads only the snapshot. People paste such lines into shells: names in them are
//! quoted (`quote`), and the sentences have no apostrophe of their own.

use super::{
    experiment::experiment,
    freeze, handles, helper, pause, quote, stack, stop,
    verdict::{in_house, means, starved},
};
use tracer_snapshot::{Culprit, FileClass, HeldHelper, HelperRole, Kind, Op, Snapshot, Victim};

/// A culprit with a smaller share of the excess than this gets no remedy.
const WORTH_DOING: f64 = 0.2;

/// The remedies for a verdict, the first to try first, and last an experiment; none if nobody
/// is slow.
pub fn remedies(victim: &Victim, s: &Snapshot) -> Vec<String> {
    let mut all = what_helps(victim, s);
    all.extend(experiment(victim));
    all
}

fn what_helps(victim: &Victim, s: &Snapshot) -> Vec<String> {
    let verdict = &victim.verdict;
    let scheduler = victim.disk.and_then(|at| s.disks.get(at)).map(|d| d.scheduler.as_str());
    let mut all: Vec<_> = match verdict.kind {
        Kind::None | Kind::Unknown => Vec::new(),
        _ => verdict.stack.iter().filter_map(stack::remedy).take(2).collect(),
    };
    match verdict.kind {
        Kind::None | Kind::Undecided => {}
        Kind::Unknown => all.push("watch longer, or while it syncs more often".to_owned()),
        Kind::Owners if verdict.is_frozen_by_unknown => all.push(freeze::FIND_OUT.to_owned()),
        Kind::Owners => {
            let worst = verdict.culprits.iter().filter(|c| c.share >= WORTH_DOING);
            for culprit in worst.take(2) {
                all.extend(of_owner(victim, culprit, scheduler));
            }
            if all.is_empty() {
                all.push("no single owner stands out: see all of them in `tracer top`".to_owned());
            }
        }
        Kind::Cpu => {
            if verdict.steal_share >= 0.05 {
                all.push(format!(
                    "the hypervisor gives {:.0}% of the CPU time of this machine to others: ask for \
                     dedicated or pinned CPUs",
                    100.0 * verdict.steal_share
                ));
            }
            let worst = verdict.culprits.first().map(|worst| quote::actor(&worst.actor));
            match (starved(victim), worst) {
                (Some(one), worst) => all.push(give_a_cpu(one, worst.as_deref())),
                (None, Some(worst)) => all.push(format!(
                    "give the victim a larger cpu.weight (or CPUs of its own by cpuset), or cap {worst} \
                     by cpu.max"
                )),
                (None, None) => all.push("give the victim a larger cpu.weight, or CPUs of its own".into()),
            }
        }
        Kind::Memory => {
            if verdict.memory_shrank_bytes > 0 {
                all.push(format!(
                    "the memory of the machine shrank by {} MiB meanwhile: look at its balloon",
                    verdict.memory_shrank_bytes >> 20
                ));
            }
            let worst = verdict.culprits.first();
            if let Some(worst) = worst.filter(|worst| worst.op == Op::DropCaches) {
                let who = match worst.actor.comm.is_empty() {
                    true => {
                        "find who writes to /proc/sys/vm/drop_caches (cron jobs, scripts), and \
                             let that"
                            .to_owned()
                    }
                    false => format!("let {}", quote::actor(&worst.actor)),
                };
                all.push(format!(
                    "{who} leave the caches alone (`sysctl vm.drop_caches`): the kernel frees them \
                     by itself when memory is needed, and whatever was in them is read from the \
                     disks again"
                ));
                return all;
            }
            all.push(match worst.filter(|worst| worst.op == Op::Memory) {
                Some(worst) => format!(
                    "set memory.high or memory.max on {}, and memory.min on the cgroup of the victim",
                    cgroup(worst)
                ),
                None => "set memory.min on the cgroup of the victim, or give it more memory".to_owned(),
            });
        }
        Kind::Limit if let Some(stop) = stop::halted(verdict) => {
            all.push(stop::remedy(stop, victim.actor.tgid));
        }
        Kind::Limit if let Some(one) = helper::limited(verdict) => all.push(format!(
            "raise or remove {}: it holds back {}, which serves the disk",
            helper::quoted_setting(&one.setting),
            helper::quoted_name(one)
        )),
        Kind::Limit => {
            let limit = verdict.limit.as_deref().unwrap_or("the limit on its cgroup");
            all.push(format!(
                "raise or remove {}: nobody else is to blame",
                helper::quoted_setting(limit)
            ));
        }
        Kind::Filesystem => {
            all.push(
                "see how full and how fragmented the filesystem is (`df`, `df -i`, `e2freefrag`, \
                 `xfs_db -r -c freesp`): free some space, or move the file to a fresh filesystem; \
                 compression and encryption cost CPU time as well"
                    .to_owned(),
            );
        }
        Kind::Own if let Some(worst) = freeze::freezer(verdict) => {
            all.push(freeze::remedy(&quote::actor(&worst.actor)));
        }
        Kind::Own if let Some(worst) = pause::dirtier(verdict) => {
            all.push(pause::remedy(&quote::actor(&worst.actor)));
        }
        Kind::Own if pause::is_by_itself(verdict) => all.push(pause::own_remedy()),
        Kind::Own if let Some((worst, stop)) = stop::tracing(verdict) => {
            all.push(stop::detach(&quote::actor(&worst.actor), stop, victim.actor.tgid));
        }
        Kind::Own if let Some(worst) = handles::holder(verdict) => {
            all.push(handles::remedy(&quote::actor(&worst.actor), worst.stopped_by.as_ref()));
        }
        Kind::Own if let Some(worst) = in_house(victim) => {
            let actor = quote::actor(&worst.actor);
            all.push(format!(
                "let {actor} run when it is quiet, or move it to a cgroup of its own, which io.max can \
                 limit without the victim"
            ));
        }
        Kind::Own => {
            all.push(match victim.class {
                FileClass::Wal => "put the WAL on a disk of its own (etcd: --wal-dir); run \
                                   snapshots, defragmentation and compaction one member at a \
                                   time, when it is quiet; make the db smaller"
                    .to_owned(),
                _ => "let it write less at once, or spread its files over two disks".to_owned(),
            });
        }
        Kind::Device if let Some((server, disk)) = helper::disk_of_server(verdict) => {
            all.push(format!(
                "see in `tracer top` who uses {}, the disk of {}, and whether it is slow itself",
                quote::word(disk),
                helper::quoted_name(server)
            ));
        }
        Kind::Device => {
            all.push(
                "ask whoever provides the disk (cloud, SAN, hypervisor, Ceph) for its latency and \
                 IOPS limit at these times; for a virtual machine, run the tracer on its host; \
                 otherwise move the file to a faster, local disk"
                    .to_owned(),
            );
        }
        Kind::Unseen => all.push(
            "run the tracer where the file is really stored: on the server or the host".into(),
        ),
        Kind::Unexplained => all.push(
            "see `tracer watch --min 10ms` for single syncs and `tracer doctor` for what is \
             unsupported here"
                .to_owned(),
        ),
    }
    all
}

/// The advice to give a CPU to a process or a kernel thread that the victim waits for.
fn give_a_cpu(one: &HeldHelper, worst: Option<&str>) -> String {
    let name = helper::quoted_name(one);
    let cap = worst.map(|worst| format!(", or cap {worst} by cpu.max")).unwrap_or_default();
    match one.role {
        HelperRole::Server => {
            format!("give {name} a larger cpu.weight or CPUs of its own by cpuset{cap}")
        }
        HelperRole::Journal | HelperRole::Worker => format!(
            "leave {name} a CPU that nothing else keeps busy (`taskset -pc CPUS {}`; no real-time \
             tasks on it){cap}",
            one.tgid
        ),
    }
}

fn of_owner(victim: &Victim, culprit: &Culprit, scheduler: Option<&str>) -> Vec<String> {
    let actor = quote::actor(&culprit.actor);
    let mut all = Vec::new();
    match culprit.op {
        Op::Discard if culprit.frees => all.push(format!(
            "the freed space of {actor} is discarded at once, because its filesystem is mounted \
             with `discard`: mount it without, and run fstrim in quiet hours (fstrim.timer)"
        )),
        Op::Discard if culprit.actor.kernel_thread => {
            return vec![format!(
                "{actor} is a kernel thread, and discards what somebody freed, because a \
                 filesystem of the disk is mounted with `discard`: mount it without, and run \
                 fstrim in quiet hours (fstrim.timer)"
            )];
        }
        Op::Discard => all.push(format!(
            "stop {actor} now; then let it run when it is quiet (fstrim.timer: OnCalendar=, \
             RandomizedDelaySec=), or in pieces: `fstrim --offset N --length 1G` with pauses; \
             mount without `discard`"
        )),
        Op::Freeze => return vec![freeze::remedy(&actor)],
        Op::Dirty if !culprit.actor.kernel_thread => return vec![pause::remedy(&actor)],
        Op::Trace => {
            let stop = victim.verdict.stop.as_ref();
            return stop
                .map(|stop| stop::detach(&actor, stop, victim.actor.tgid))
                .into_iter()
                .collect();
        }
        Op::Handles => return vec![handles::remedy(&actor, culprit.stopped_by.as_ref())],
        Op::Metadata => all.push(format!(
            "{actor} shares the journal of the filesystem: put {} on a filesystem of its own",
            if victim.class == FileClass::Wal { "the WAL" } else { "the file of the victim" }
        )),
        // The block layer's controllers hold bios back, and such a command has none there.
        Op::PassThrough if !culprit.actor.kernel_thread => all.push(format!(
            "let {actor} ask the drive less often, or when it is quiet (smartd: `--interval=`; \
             exporters of SMART: their own interval); io.max and io.weight do not throttle \
             commands that are passed through to the driver"
        )),
        // The remedy for what the array does comes first.
        _ if culprit.actor.kernel_thread
            && culprit.actor.comm.ends_with("_resync")
            && stack::own_work(&victim.verdict.stack).is_some() =>
        {
            return Vec::new();
        }
        _ if culprit.actor.kernel_thread => {
            // A kernel thread cannot be limited or stopped by an operator.
            return vec![format!(
                "{actor} is a kernel thread, and it is not known for whom it works: see the owners \
                 in `tracer top`"
            )];
        }
        _ => {
            if let Some(trigger) = &culprit.trigger {
                let instead = match trigger.call {
                    "sync" | "syncfs" => {
                        "let it sync only its own files (fsync, `sync FILE`), or run when it is quiet"
                    }
                    "umount" => {
                        "let it unmount when it is quiet, or have it unmount nothing that lies on this \
                         filesystem (an overlay can be mounted with `volatile`, or its upper layer be \
                         on another disk)"
                    }
                    _ => "let it do so when it is quiet",
                };
                all.push(format!(
                    "{} has the data of everybody written with {}: {instead}; and let {actor} \
                     leave less unwritten (fsync after each file, or vm.dirty_background_bytes)",
                    quote::actor(&trigger.actor),
                    means(trigger)
                ));
            }
            all.push(limit_of(culprit, scheduler));
        }
    }
    all
}

/// The advice to limit a culprit, with the cgroup setting that this scheduler honours.
fn limit_of(culprit: &Culprit, scheduler: Option<&str>) -> String {
    let cgroup = cgroup(culprit);
    let weight = match scheduler {
        Some("bfq") => "io.bfq.weight is honoured by bfq here",
        Some("none" | "mq-deadline" | "kyber") => {
            "io.weight needs iocost (io.cost.qos), and ionice has no effect, except for its \
             classes with mq-deadline"
        }
        _ => "io.weight needs bfq or iocost",
    };
    format!(
        "limit {cgroup} by io.max (rbps=, wbps=, riops=, wiops=), which any scheduler honours, or \
         protect the victim by io.latency; {weight}"
    )
}

fn cgroup(culprit: &Culprit) -> String {
    match &culprit.actor.unit {
        Some(unit) if !unit.is_empty() => quote::word(unit).into_owned(),
        _ if culprit.actor.cgroup.is_empty() => quote::actor(&culprit.actor),
        _ => format!("cgroup {}", quote::word(&culprit.actor.cgroup)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{fixture, quote::tests};
    use super::*;
    use tracer_snapshot::{Actor, Confidence, Trigger, Workload};

    #[test]
    fn each_verdict_that_blames_ends_with_something_to_do() {
        let s = fixture::trimmed();
        for kind in KINDS {
            let mut victim = s.victims[0].clone();
            victim.verdict.kind = kind;
            assert!(!remedies(&victim, &s).is_empty(), "{kind:?}");
            victim.verdict.culprits.clear();
            assert!(!remedies(&victim, &s).is_empty(), "{kind:?} without culprits");
            let is_advised = !what_helps(&victim, &s).is_empty();
            assert_eq!(is_advised, kind != Kind::Undecided, "{kind:?} is advised");
        }
        let mut victim = s.victims[0].clone();
        victim.verdict.kind = Kind::None;
        assert!(remedies(&victim, &s).is_empty());
    }

    #[test]
    fn a_culprit_in_the_victims_own_cgroup_is_to_run_elsewhere() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        victim.verdict.kind = Kind::Own;
        assert!(remedies(&victim, &s)[0].starts_with("put the WAL on a disk of its own"));
        victim.verdict.culprits[0].actor.cgroup = victim.actor.cgroup.clone();
        let said = remedies(&victim, &s);
        assert!(said[0].starts_with("let fstrim (demo-trim.service) run when"), "{said:?}");
        assert!(said[1].contains("stop fstrim (demo-trim.service) for a minute"), "{said:?}");
    }

    #[test]
    fn what_helps_depends_on_what_the_culprit_does() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        assert!(remedies(&victim, &s)[0].starts_with("stop fstrim (demo-trim.service) now"));
        victim.verdict.culprits[0].op = Op::Metadata;
        assert!(remedies(&victim, &s)[0].contains("a filesystem of its own"));
        victim.verdict.culprits[0].op = Op::PassThrough;
        assert!(remedies(&victim, &s)[0].contains("ask the drive less often"));
        victim.verdict.culprits[0].op = Op::Write;
        assert!(remedies(&victim, &s)[0].starts_with("limit demo-trim.service by io.max"));
    }

    #[test]
    fn discards_of_what_somebody_freed_end_with_the_mount() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        victim.verdict.culprits.truncate(1);
        victim.verdict.culprits[0].frees = true;
        let all = remedies(&victim, &s);
        assert_eq!(
            all,
            [
                "the freed space of fstrim (demo-trim.service) is discarded at once, because its \
              filesystem is mounted with `discard`: mount it without, and run fstrim in quiet \
              hours (fstrim.timer)",
                "to settle it: stop fstrim (demo-trim.service) for a minute. If p99 stays high, \
              the cause is another"
            ]
        );
        let culprit = &mut victim.verdict.culprits[0];
        (culprit.frees, culprit.actor.kernel_thread) = (false, true);
        let all = remedies(&victim, &s);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].starts_with("[fstrim] is a kernel thread, and discards"), "{all:?}");
        assert!(all[0].contains("mount it without"), "{all:?}");
        assert!(all[1].starts_with("to settle it: mount the filesystem without"), "{all:?}");
    }

    #[test]
    fn who_syncs_the_world_is_advised_beside_the_one_who_left_the_data() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        victim.verdict.culprits.truncate(1);
        victim.verdict.culprits[0].op = Op::Write;
        victim.verdict.culprits[0].trigger = Some(fixture::syncer());
        let all = remedies(&victim, &s);
        assert!(all[0].starts_with("sync (backup.service) has the data of everybody written"));
        assert!(all[0].contains("let fstrim (demo-trim.service) leave less unwritten"), "{all:?}");
        assert!(all[1].starts_with("limit demo-trim.service by io.max"), "{all:?}");
        for (call, by, instead) in [
            ("umount", "umount", "let it unmount when it is quiet"),
            ("freeze", "a freeze of the filesystem", "let it do so when it is quiet"),
            ("filesystem_sync", "a sync of the whole filesystem", "let it do so when it is quiet"),
        ] {
            let trigger = Trigger { call, ..fixture::syncer() };
            victim.verdict.culprits[0].trigger = Some(trigger);
            let all = remedies(&victim, &s);
            let said = format!("has the data of everybody written with {by}: {instead}");
            assert!(all[0].contains(&said), "{all:?}");
        }
    }

    #[test]
    fn nobody_is_sent_to_limit_or_to_stop_a_kernel_thread() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        victim.verdict.culprits.truncate(1);
        let culprit = &mut victim.verdict.culprits[0];
        (culprit.op, culprit.confidence) = (Op::Write, Confidence::Low);
        culprit.actor.kernel_thread = true;
        let all = remedies(&victim, &s);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].starts_with("[fstrim] is a kernel thread, and it is not known"), "{all:?}");
        assert!(all[1].starts_with("to settle it: stop the busiest owners"), "{all:?}");
        victim.verdict.kind = Kind::Undecided;
        let all = remedies(&victim, &s);
        assert!(all[0].starts_with("to settle it: stop the busiest neighbour"), "{all:?}");
    }

    #[test]
    fn an_array_that_checks_itself_is_slowed_down_and_its_thread_is_left_alone() {
        let s = fixture::trimmed();
        let mut victim = s.victims[0].clone();
        victim.verdict.culprits.truncate(1);
        let culprit = &mut victim.verdict.culprits[0];
        culprit.op = Op::Read;
        culprit.actor =
            Actor { comm: "md0_resync".to_owned(), kernel_thread: true, ..culprit.actor.clone() };
        let action = tracer_snapshot::SyncAction::Check;
        victim.verdict.stack = vec![tracer_snapshot::StackFact {
            disk: "md0".to_owned(),
            name: String::new(),
            state: tracer_snapshot::StackState::Syncing { action, done: 0.43, bytes_per_second: 9 },
        }];
        for kind in [Kind::Owners, Kind::Device] {
            victim.verdict.kind = kind;
            let all = remedies(&victim, &s);
            assert!(all[0].contains("sync_speed_max"), "{all:?}");
            assert!(all.iter().all(|one| !one.contains("md0_resync")), "{all:?}");
            assert!(
                all.last().unwrap().starts_with("to settle it: lower `sync_speed_max`"),
                "{all:?}"
            );
        }
    }

    pub const KINDS: [Kind; 11] = [
        Kind::Unknown,
        Kind::Owners,
        Kind::Cpu,
        Kind::Memory,
        Kind::Limit,
        Kind::Filesystem,
        Kind::Own,
        Kind::Device,
        Kind::Unseen,
        Kind::Unexplained,
        Kind::Undecided,
    ];

    /// Each way in which a verdict can name somebody, with this name.
    fn named(name: &str, s: &Snapshot) -> Vec<Victim> {
        let mut all = Vec::new();
        let hostile = Actor {
            comm: name.into(),
            cgroup: format!("/{name}"),
            workload: Some(Workload { name: name.into(), ..Workload::default() }),
            ..Actor::default()
        };
        let unit = Actor { unit: Some(name.into()), ..hostile.clone() };
        let bare = Actor { cgroup: String::new(), workload: None, ..hostile.clone() };
        let helpers = [
            (HelperRole::Server, 0.9, 0.0),
            (HelperRole::Server, 0.0, 0.9),
            (HelperRole::Worker, 0.0, 0.0),
        ];
        for (kind, op) in KINDS.into_iter().flat_map(|kind| Op::ALL.map(|op| (kind, op))) {
            for (actor, (role, limit, disk)) in [&hostile, &unit, &bare].into_iter().zip(helpers) {
                let mut victim = s.victims[0].clone();
                let setting = format!("cpu.max 1500 100000 of /{name}");
                victim.verdict.kind = kind;
                victim.verdict.steal_share = 0.5;
                victim.verdict.memory_shrank_bytes = 1 << 30;
                victim.verdict.limit = Some(setting.clone());
                for culprit in &mut victim.verdict.culprits {
                    (culprit.op, culprit.confidence) = (op, Confidence::Low);
                    (culprit.share, culprit.actor) = (0.5, actor.clone());
                    let trigger = Trigger { actor: actor.clone(), ..fixture::syncer() };
                    culprit.trigger = Some(trigger);
                }
                let helper = HeldHelper {
                    role,
                    tgid: 7,
                    comm: name.into(),
                    cgroup: format!("/{name}"),
                    cpu: 0.5,
                    limit,
                    disk,
                    setting,
                    own_disk: name.into(),
                    is_cause: true,
                };
                let alone = victim.clone();
                victim.verdict.helpers = vec![helper];
                all.extend([alone, victim]);
            }
        }
        all
    }

    /// If a tenant calls its cgroup `$(reboot)`, nobody runs that by following the advice,
    /// whatever the verdict is.
    #[test]
    fn a_line_that_is_pasted_runs_nothing_that_a_tenant_chose() {
        let s = fixture::trimmed();
        let mut lines = 0;
        for name in tests::HOSTILE {
            for victim in named(name, &s) {
                for line in remedies(&victim, &s) {
                    assert!(tests::is_quoted(&line), "{line}");
                    lines += usize::from(line.contains("reboot"));
                }
            }
        }
        assert!(lines > 500, "only {lines} lines had such a name");
    }
}
