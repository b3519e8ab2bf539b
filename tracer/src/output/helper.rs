//! The processes and threads of this node that a victim waits for, in words.

use super::{
    escape::{bounded, escape},
    names, quote,
    units::percent,
};
use tracer_snapshot::{Culprit, HeldHelper, HelperRole, Op, Verdict};

/// A helper that was held up for a smaller part of the time had its CPU.
const HAD_ITS_CPU: f64 = 0.05;

/// A server is said to wait for its own disk if it does for at least this part of the time.
const WAITS_FOR_DISK: f64 = 1.0 / 3.0;

const COLUMNS: usize = 40;

/// `sim-disk (pid 812)`, `[jbd2/sda1-8]`.
pub fn name(helper: &HeldHelper) -> String {
    let comm = bounded(&helper.comm, COLUMNS);
    match helper.role {
        HelperRole::Server => format!("{comm} (pid {})", helper.tgid),
        HelperRole::Journal | HelperRole::Worker => format!("[{comm}]"),
    }
}

fn whole(helper: &HeldHelper) -> String {
    let what = match helper.role {
        HelperRole::Server => "the server of its disk",
        HelperRole::Journal => "the thread of its filesystem's journal",
        HelperRole::Worker => "a kernel thread of its disk",
    };
    format!("{}, {what},", name(helper))
}

/// The one that a verdict of `limit` is about, if it is not the victim's own.
pub fn limited(verdict: &Verdict) -> Option<&HeldHelper> {
    let one = verdict.helpers.iter().find(|one| one.is_cause && one.limit > one.cpu)?;
    (one.limit > verdict.limit_share).then_some(one)
}

/// The one that waits for a CPU for more of the time than the victim itself does.
pub fn starved(verdict: &Verdict, runqueue: f64) -> Option<&HeldHelper> {
    let starved = |one: &&HeldHelper| one.is_cause && one.cpu >= one.limit && one.cpu > runqueue;
    verdict.helpers.iter().find(starved)
}

/// The sentence about a helper that a quota holds back.
pub fn limit(helper: &HeldHelper) -> String {
    format!(
        "{} is held back by its limit for {} of the time, {}",
        whole(helper),
        percent(helper.limit),
        setting(helper)
    )
}

/// [`name`], quoted for a line that is pasted into a shell.
pub fn quoted_name(helper: &HeldHelper) -> String {
    let comm = quote::words(&helper.comm);
    match helper.role {
        HelperRole::Server => format!("{comm} (pid {})", helper.tgid),
        HelperRole::Journal | HelperRole::Worker => format!("[{comm}]"),
    }
}

/// A limit and its cgroup, quoted for a line that is pasted into a shell.
pub fn quoted_setting(setting: &str) -> String {
    match setting.split_once(" of /") {
        _ if setting.is_empty() => "a limit".into(),
        Some((limit, cgroup)) => {
            format!("{} of {}", quote::words(limit), quote::word(&format!("/{cgroup}")))
        }
        None => quote::words(setting).into_owned(),
    }
}

/// The setting of its limit, with the cgroup.
pub fn setting(helper: &HeldHelper) -> String {
    if helper.setting.is_empty() { "a limit".into() } else { escape(&helper.setting).into_owned() }
}

/// The sentence about a helper that waits for a CPU.
pub fn wait(helper: &HeldHelper, worst: Option<&Culprit>) -> String {
    let behind = worst
        .filter(|worst| worst.op == Op::Cpu)
        .map(|worst| format!(", behind {}", names::actor(&worst.actor)))
        .unwrap_or_default();
    format!("{} waits for a CPU for {} of the time{behind}", whole(helper), percent(helper.cpu))
}

/// Names the disk's server, and says that this is not the reason, or on which disk it waits;
/// `None` for a disk that nobody on this node serves.
pub fn served(verdict: &Verdict) -> Option<String> {
    let server = verdict.helpers.iter().find(|one| one.role == HelperRole::Server)?;
    let up = server.cpu + server.limit;
    let how = match up {
        _ if server.disk >= WAITS_FOR_DISK => {
            let disk = bounded(&server.own_disk, COLUMNS);
            format!("waited for its own disk {disk} for {} of the time", percent(server.disk))
        }
        up if up < HAD_ITS_CPU => "had its CPU".to_owned(),
        up => format!("waited for a CPU for {} of the time", percent(up)),
    };
    Some(format!("served by {}, which {how}", name(server)))
}

/// The disk that the server of the victim's disk waits for.
pub fn disk_of_server(verdict: &Verdict) -> Option<(&HeldHelper, &str)> {
    let server = verdict.helpers.iter().find(|one| one.role == HelperRole::Server)?;
    (server.disk >= WAITS_FOR_DISK).then_some((server, &server.own_disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(cpu: f64, limit: f64, disk: f64) -> HeldHelper {
        HeldHelper {
            role: HelperRole::Server,
            tgid: 812,
            comm: "sim-disk".into(),
            cgroup: "/".into(),
            cpu,
            limit,
            disk,
            setting: "cpu.max 1500 100000 of /pod".into(),
            own_disk: "sdb".into(),
            is_cause: cpu + limit >= 1.0 / 3.0,
        }
    }

    fn verdict(helper: HeldHelper) -> Verdict {
        Verdict { helpers: vec![helper], ..Verdict::default() }
    }

    #[test]
    fn a_server_is_named_with_what_it_waited_for() {
        let said = |one| served(&verdict(one)).unwrap();
        assert_eq!(said(server(0.01, 0.0, 0.0)), "served by sim-disk (pid 812), which had its CPU");
        assert_eq!(
            said(server(0.2, 0.0, 0.0)),
            "served by sim-disk (pid 812), which waited for a CPU for 20% of the time"
        );
        assert_eq!(
            said(server(0.01, 0.0, 0.8)),
            "served by sim-disk (pid 812), which waited for its own disk sdb for 80% of the time"
        );
        assert_eq!(served(&Verdict::default()), None);
    }

    #[test]
    fn a_limit_is_named_with_the_cgroup_that_has_it() {
        let its = verdict(server(0.0, 0.9, 0.0));
        assert_eq!(
            limit(limited(&its).unwrap()),
            "sim-disk (pid 812), the server of its disk, is held back by its limit for 90% of the \
             time, cpu.max 1500 100000 of /pod"
        );
        assert!(starved(&its, 0.1).is_none());
        assert!(limited(&verdict(server(0.9, 0.0, 0.0))).is_none());
        // The victim's own limit held it back for longer.
        assert!(limited(&Verdict { limit_share: 0.95, ..its }).is_none());
    }

    #[test]
    fn a_kernel_thread_that_waits_for_a_cpu_stands_in_brackets() {
        let journal = HeldHelper {
            role: HelperRole::Journal,
            comm: "jbd2/sda1-8".into(),
            ..server(0.5, 0.0, 0.0)
        };
        assert_eq!(
            wait(starved(&verdict(journal), 0.1).unwrap(), None),
            "[jbd2/sda1-8], the thread of its filesystem's journal, waits for a CPU for 50% of the time"
        );
    }
}
