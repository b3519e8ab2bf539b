//! What the tracer does not see on this kernel: one sentence each.
//!
//! Decided from how the ladders were climbed and from nothing else, so that
//! `doctor`, the metrics and the first lines of every picture say the same.

use serde::Serialize;

use super::{
    facts::Facts,
    ladder::{Climb, Forced, Outcome},
};

/// Something that is not seen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Blind {
    /// One word for it, for labels: from a fixed set.
    pub what: &'static str,
    /// A sentence, without its full stop.
    pub sentence: String,
}

fn blind(what: &'static str, sentence: impl Into<String>) -> Blind {
    Blind { what, sentence: sentence.into() }
}

/// All that is blind, what matters most first.
pub fn find(facts: &Facts, climbs: &[Climb], forced: &[Forced]) -> Vec<Blind> {
    let mut found = Vec::new();
    for climb in climbs {
        match climb.taken() {
            None => found.push(blind(climb.capability, climb.without)),
            Some(rung) => match climb.capability {
                "birth" => of_births(rung, &mut found),
                "sync" => of_syncs(rung, &climb.attached, &mut found),
                "journal" => of_journals(&climb.attached, &mut found),
                "reclaim" => of_reclaim(&climb.attached, &mut found),
                "metadata" if !climb.attached.contains(&"jbd2_handle_stats") => {
                    found.push(blind(climb.capability, climb.without));
                }
                _ => {}
            },
        }
    }
    if !facts.sees_run_delay() {
        found.push(blind("runqueue", "waiting for a CPU is not told from waiting for the disk"));
    }
    if !facts.sees_tasks() {
        found.push(blind("process", "threads go by their own names, not by their process's"));
    }
    found.extend(climbs.iter().find_map(unproven));
    found.extend(forced.iter().filter_map(|wish| disobeyed(wish, climbs)));
    found
}

fn of_births(rung: &str, found: &mut Vec<Blind>) {
    if rung == "insert" {
        let sentence = "requests that a kernel worker hands on are charged to it, not to who \
                        submitted them";
        found.push(blind("submitter", sentence));
        let sentence = "waiting for a flush without data is shown as `other`";
        found.push(blind("flush", sentence));
    }
}

fn of_syncs(rung: &str, attached: &[&str], found: &mut Vec<Blind>) {
    let has = |programs: &[&str]| programs.iter().all(|program| attached.contains(program));
    match rung {
        "fentry" => {
            if !has(&["vfs_range_entry", "vfs_range_exit"]) {
                let sentence = "writes to O_DSYNC files and io_uring's syncs are not seen";
                found.push(blind("osync", sentence));
            }
            if !has(&["write_file_entry"]) {
                found.push(late_disk("all filesystems"));
            }
        }
        "vfs" => {
            let sentence = "only fsync and fdatasync are seen, and writes to O_DSYNC files are \
                            taken for fdatasync";
            found.push(blind("calls", sentence));
        }
        _ => {
            if !has(&["sys_enter", "sys_exit"]) {
                let sentence = "only syncs of files on ext4 are seen, not of whole filesystems and \
                                not by sync_file_range";
                found.push(blind("calls", sentence));
            }
            let ext4 = has(&["ext4_sync_file_enter", "ext4_sync_file_exit"]).then_some("ext4");
            let xfs = has(&["xfs_file_fsync"]).then_some("xfs");
            let btrfs = has(&["btrfs_sync_file"]).then_some("btrfs");
            let named: Vec<_> = [ext4, xfs, btrfs].into_iter().flatten().collect();
            let (written, queued) = (but_on(&named), but_on(ext4.as_slice()));
            let sentence =
                format!("writes to O_DSYNC files, and the file of an msync, are not seen{written}");
            found.push(blind("osync", sentence));
            found.push(blind("io_uring", format!("io_uring's syncs are not seen{queued}")));
            found.push(late_disk(match (ext4, xfs) {
                (Some(_), Some(_)) => "filesystems other than ext4 and xfs",
                (Some(_), None) => "filesystems other than ext4",
                (None, Some(_)) => "filesystems other than xfs",
                (None, None) => "all filesystems",
            }));
        }
    }
}

fn of_journals(attached: &[&str], found: &mut Vec<Blind>) {
    let parts = ["jbd2_commit_locking", "jbd2_commit_flushing", "jbd2_commit_logging"];
    if !parts.iter().all(|part| attached.contains(part)) {
        found.push(blind("commit", "the parts of a journal's commit are not told apart"));
    }
}

fn of_reclaim(attached: &[&str], found: &mut Vec<Blind>) {
    if !["memcg_reclaim_begin", "memcg_reclaim_end"].iter().all(|hook| attached.contains(hook)) {
        let sentence = "reclaiming memory for a cgroup's own limit is not seen";
        found.push(blind("memcg", sentence));
    }
}

/// `, but on ext4 and xfs`; nothing for none.
fn but_on(filesystems: &[&str]) -> String {
    if filesystems.is_empty() {
        String::new()
    } else {
        format!(", but on {}", filesystems.join(" and "))
    }
}

/// Where no hook names a file's disk, its first request does.
fn late_disk(filesystems: &str) -> Blind {
    let sentence = format!(
        "on {filesystems} a sync's disk is known from its first block request on: who else was \
         in flight before is not"
    );
    blind("disk", sentence)
}

fn unproven(climb: &Climb) -> Option<Blind> {
    climb.rungs.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Unproven(why) => {
            Some(blind("proof", format!("whether the hooks fire is not proven: {why}")))
        }
        _ => None,
    })
}

/// A rung that was asked for and does not serve.
fn disobeyed(wish: &Forced, climbs: &[Climb]) -> Option<Blind> {
    let climb = climbs.iter().find(|climb| climb.capability == wish.capability)?;
    let (rung, outcome) = climb.rungs.iter().find(|(rung, _)| *rung == wish.rung)?;
    let instead = match climb.taken() {
        Some(taken) if taken == *rung => return None,
        Some(taken) => format!("`{taken}` serves instead"),
        None => "and no other serves".to_owned(),
    };
    let capability = climb.capability;
    Some(blind("hooks", format!("{capability} by `{rung}` is {outcome}; {instead}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ladder::CAPABILITIES;

    const ALL: [(&str, &str); 11] = [
        ("block", "tp"),
        ("issue", "tp"),
        ("birth", "tp"),
        ("sync", "fentry"),
        ("journal", "tp"),
        ("log", "tp"),
        ("throttle", "tp"),
        ("reclaim", "tp"),
        ("rivals", "tp"),
        ("writeback", "tp"),
        ("metadata", "tp"),
    ];

    /// A climb in which these rungs are taken, all their programs at work.
    fn climbs(taken: &[(&str, &str)]) -> Vec<Climb> {
        let of = |name| taken.iter().find(|(capability, _)| *capability == name).map(|t| t.1);
        CAPABILITIES
            .iter()
            .map(|c| {
                let outcome = |rung: &str| match of(c.name) {
                    Some(taken) if taken == rung => Outcome::Taken,
                    Some(_) => Outcome::NotNeeded,
                    None => Outcome::Absent("no such hook".to_owned()),
                };
                let rung = c.rungs.iter().find(|r| Some(r.name) == of(c.name));
                Climb {
                    capability: c.name,
                    purpose: c.purpose,
                    required: c.required,
                    without: c.without,
                    rungs: c.rungs.iter().map(|r| (r.name, outcome(r.name))).collect(),
                    notes: Vec::new(),
                    attached: rung
                        .map_or(Vec::new(), |r| r.steps.iter().map(|s| s.program).collect()),
                }
            })
            .collect()
    }

    fn facts(run_delay: u32) -> Facts {
        let mut config = tracer_ebpf::config::Config::ABSENT;
        (config.task_flags, config.task_run_delay) = (run_delay, run_delay);
        Facts::with_config(config)
    }

    fn check(climbs: &[Climb], facts: &Facts, forced: &[&str], expected: &[(&str, &str)]) {
        let forced: Vec<Forced> = forced.iter().map(|text| text.parse().unwrap()).collect();
        let found = find(facts, climbs, &forced);
        let found: Vec<_> = found.iter().map(|b| (b.what, b.sentence.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_kernel_with_everything_is_not_blind() {
        check(&climbs(&ALL), &facts(8), &["sync=fentry"], &[]);
    }

    #[test]
    fn what_no_rung_serves_is_told_in_the_capabilitys_own_words() {
        check(
            &climbs(&ALL[..4]),
            &facts(tracer_ebpf::config::ABSENT),
            &[],
            &[
                ("journal", "time in the journal is shown as `other`"),
                ("log", "waiting for the log of an xfs is shown as `other`"),
                ("throttle", "waiting for a request to be had is shown as `other`"),
                (
                    "reclaim",
                    "reclaiming memory is shown as `cpu` and `other`, and nobody is named for it",
                ),
                ("rivals", "who runs while a sync waits for a CPU is not named"),
                (
                    "writeback",
                    "data written back are charged to the kernel worker, not to who wrote them",
                ),
                ("metadata", "whose metadata and data a journal's commit writes is not known"),
                ("runqueue", "waiting for a CPU is not told from waiting for the disk"),
                ("process", "threads go by their own names, not by their process's"),
            ],
        );
    }

    #[test]
    fn tracepoints_are_blind_where_a_filesystem_has_none() {
        let mut taken = ALL;
        (taken[2], taken[3]) = (("birth", "insert"), ("sync", "tp"));
        let mut climbs = climbs(&taken);
        climbs[3].attached.retain(|program| !program.starts_with("btrfs"));
        check(
            &climbs,
            &facts(8),
            &[],
            &[
                (
                    "submitter",
                    "requests that a kernel worker hands on are charged to it, not to who \
                     submitted them",
                ),
                ("flush", "waiting for a flush without data is shown as `other`"),
                (
                    "osync",
                    "writes to O_DSYNC files, and the file of an msync, are not seen, but on \
                     ext4 and xfs",
                ),
                ("io_uring", "io_uring's syncs are not seen, but on ext4"),
                (
                    "disk",
                    "on filesystems other than ext4 and xfs a sync's disk is known from its \
                     first block request on: who else was in flight before is not",
                ),
            ],
        );
    }

    #[test]
    fn optional_hooks_that_are_missing_are_told() {
        let mut climbs = climbs(&ALL);
        climbs[4].attached.retain(|program| *program != "jbd2_commit_logging");
        climbs[7].attached.retain(|program| !program.starts_with("memcg"));
        check(
            &climbs,
            &facts(8),
            &[],
            &[
                ("commit", "the parts of a journal's commit are not told apart"),
                ("memcg", "reclaiming memory for a cgroup's own limit is not seen"),
            ],
        );
    }

    #[test]
    fn hooks_on_demand_that_were_refused_are_told() {
        let mut taken = ALL;
        taken[3] = ("sync", "tp");
        let mut climbs = climbs(&taken);
        climbs[3].attached.retain(|program| !program.starts_with("sys_"));
        climbs[10].attached.retain(|program| *program != "jbd2_handle_stats");
        let found = find(&facts(8), &climbs, &[]);
        let told = |what| found.iter().any(|blind| blind.what == what);
        assert!(told("calls") && told("metadata"), "{found:?}");
    }

    #[test]
    fn a_wish_that_is_not_obeyed_is_told_with_its_reason() {
        let mut climbs = climbs(&ALL);
        climbs[3].rungs[2].1 = Outcome::Silent("it saw nothing".to_owned());
        check(
            &climbs,
            &facts(8),
            &["sync=vfs"],
            &[("hooks", "sync by `vfs` is silent: it saw nothing; `fentry` serves instead")],
        );
    }
}
