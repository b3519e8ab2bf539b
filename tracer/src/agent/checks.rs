//! Checks whether a node, or a DaemonSet's container on it, has what the agent needs.
//!
//! There is one line for each need, with its purpose and a remedy. The checks look at the
//! calling process and the node's files, and load nothing. `tracer doctor` reports for each
//! capability whether the kernel can be traced.

use std::{fs, net::SocketAddr, path::Path};

use caps::{CapSet, Capability};
use serde::Serialize;
use tracer_kernel::{memlock, program::MODULES};
use tracer_node::{namespaces, tree::Tree};

use super::address;

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Good,
    /// The agent runs, but shows less.
    Weak,
    /// The agent cannot run.
    Bad,
}

/// One check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    pub what: String,
    pub state: State,
    /// The purpose of the thing, or how it was found.
    pub says: String,
    /// The remedy, if it is not good.
    pub remedy: Option<String>,
}

/// A need that is met or is not.
struct Need<'a> {
    what: &'a str,
    /// The sentence that is printed if the need is met.
    says: &'a str,
    /// The sentence that is printed if it is not met.
    otherwise: &'a str,
    /// The state of the agent without it.
    without: State,
    remedy: &'a str,
}

impl Need<'_> {
    fn check(&self, is_there: bool) -> Check {
        let what = self.what.to_owned();
        if is_there {
            return Check { what, state: State::Good, says: self.says.to_owned(), remedy: None };
        }
        let says = self.otherwise.to_owned();
        Check { what, state: self.without, says, remedy: Some(self.remedy.to_owned()) }
    }
}

/// Makes all checks, in the order in which they are printed.
pub fn checks(root: &Path, btf: &Path, listen: SocketAddr) -> Vec<Check> {
    let has = |c| caps::has_cap(None, CapSet::Effective, c).unwrap_or(false);
    let modules = MODULES.into_iter().filter(|m| root.join("sys/kernel/btf").join(m).exists());
    let limit = memlock::limits_maps(btf)
        .then_some("to make tables beyond the limit on locked memory, before Linux 5.11");
    let mut checks = capabilities(has, &modules.collect::<Vec<_>>(), limit);
    let namespace = |kind: &str| {
        namespaces::find(&Tree::new(root), "self", kind).map(|namespace| namespace.inode)
    };
    let pid = Need {
        what: "pid namespace",
        says: "this process sees the host's processes",
        otherwise: "this process sees only the processes of its own PID namespace",
        without: State::Weak,
        remedy: "set hostPID: true in the pod's spec; on a node that is itself a container (kind, \
                 k3d), run the tracer on its host: otherwise processes outside have no id, and \
                 their files no names",
    };
    checks.push(pid.check(namespace("pid") == Some(namespaces::INITIAL_PID)));
    let cgroup = Need {
        what: "cgroup namespace",
        says: "this process sees the host's cgroup paths",
        otherwise: "this process sees only the cgroup paths of its own cgroup namespace",
        without: State::Weak,
        remedy: "use the host's cgroup namespace (privileged, or an option of the runtime), or \
                 mount the host's /sys/fs/cgroup: otherwise some cgroups have no name",
    };
    checks.push(cgroup.check(namespace("cgroup") == Some(namespaces::INITIAL_CGROUP)));
    let types = Need {
        what: "BTF",
        says: &format!("`{}` has the kernel's types", btf.display()),
        otherwise: &format!("`{}` cannot be read", btf.display()),
        without: State::Weak,
        remedy: "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or --btf FILE",
    };
    checks.push(types.check(btf.exists() && fs::File::open(btf).is_ok()));
    let disks = Need {
        what: "disks",
        says: "/sys/block lists the disks",
        otherwise: "/sys/block cannot be read, or lists no disks",
        without: State::Bad,
        remedy: "mount the host's /sys",
    };
    let listed = fs::read_dir(root.join("sys/block"));
    checks.push(disks.check(listed.is_ok_and(|mut disks| disks.next().is_some())));
    checks.push(cgroups(root));
    let logs = Need {
        what: "pods' logs",
        says: "/var/log/pods lists the pods",
        otherwise: "/var/log/pods cannot be read",
        without: State::Weak,
        remedy: "on a Kubernetes node: mount the host's /var/log/pods, read-only",
    };
    checks.push(logs.check(fs::read_dir(root.join("var/log/pods")).is_ok()));
    let bound = address::bind(listen);
    let says = match &bound {
        Ok(taken) => format!("{} is free", taken.local_addr().unwrap_or(listen)),
        Err(error) => format!("{listen}: {error}"),
    };
    let remedy = bound.is_err().then(|| "choose another: --listen or `TRACER_LISTEN`".to_owned());
    let state = if bound.is_ok() { State::Good } else { State::Bad };
    checks.push(Check { what: "address".into(), state, says, remedy });
    checks
}

/// Checks each capability; `limit` is the purpose of CAP_SYS_RESOURCE on a kernel
/// where it is needed.
fn capabilities(
    has: impl Fn(Capability) -> bool,
    modules: &[&str],
    limit: Option<&str>,
) -> Vec<Check> {
    let admin = has(Capability::CAP_SYS_ADMIN);
    let hooks = format!("to hook modules ({}); given up after the start", modules.join(", "));
    let mut wanted = vec![
        (Capability::CAP_BPF, State::Bad, "to load kernel programs and read their tables"),
        (
            Capability::CAP_PERFMON,
            State::Bad,
            "to attach them, and to follow the kernel's pointers",
        ),
        (Capability::CAP_SYS_ADMIN, State::Weak, hooks.as_str()),
        (Capability::CAP_SYS_PTRACE, State::Weak, "to see which files others have open"),
        (Capability::CAP_DAC_READ_SEARCH, State::Weak, "to read others' directories in /proc"),
    ];
    wanted.extend(limit.map(|says| (Capability::CAP_SYS_RESOURCE, State::Bad, says)));
    if modules.is_empty() {
        // Without modules every hook is in the kernel itself.
        wanted.retain(|(capability, ..)| *capability != Capability::CAP_SYS_ADMIN);
    }
    let one = |(capability, without, says): (Capability, State, &str)| {
        // Before 5.8, CAP_SYS_ADMIN included these two, and it still implies them:
        // <https://github.com/torvalds/linux/commit/a17b53c4a4b5>.
        let of_old = [Capability::CAP_BPF, Capability::CAP_PERFMON];
        let stands_in = admin && of_old.contains(&capability);
        let good = has(capability) || stands_in;
        let name = capability.to_string();
        let short = name.trim_start_matches("CAP_");
        Check {
            state: if good { State::Good } else { without },
            says: says.to_owned(),
            remedy: (!good)
                .then(|| format!("add {short} to securityContext.capabilities.add, or be root")),
            what: name,
        }
    };
    wanted.into_iter().map(one).collect()
}

fn cgroups(root: &Path) -> Check {
    let at = |path: &str| root.join("sys/fs/cgroup").join(path);
    let (state, says) = match () {
        () if at("cgroup.controllers").exists() => (State::Good, "version 2 at /sys/fs/cgroup"),
        () if at("unified/cgroup.controllers").exists() => {
            (State::Good, "hybrid, version 2 at /sys/fs/cgroup/unified")
        }
        () if at("memory").exists() => (State::Good, "version 1: names come from /proc"),
        () => (State::Weak, "nothing at /sys/fs/cgroup: some cgroups lack names, all lack limits"),
    };
    let remedy =
        (state != State::Good).then(|| "mount the host's /sys/fs/cgroup, read-only".to_owned());
    Check { what: "cgroups".into(), state, says: says.to_owned(), remedy }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sys_admin_stands_for_the_two_that_are_needed() {
        let states = |has: &[Capability]| -> Vec<_> {
            capabilities(|c| has.contains(&c), &["jbd2"], None)
                .iter()
                .map(|check| check.state)
                .collect()
        };
        use State::{Bad, Good, Weak};
        assert_eq!(states(&[]), [Bad, Bad, Weak, Weak, Weak]);
        assert_eq!(states(&[Capability::CAP_SYS_ADMIN])[..3], [Good, Good, Good]);
        assert_eq!(states(&[Capability::CAP_BPF])[..3], [Good, Bad, Weak]);
        let old = capabilities(|c| c == Capability::CAP_SYS_ADMIN, &[], Some("for tables"));
        assert_eq!(old.iter().filter(|check| check.state == Bad).count(), 1, "{old:?}");
        assert_eq!(capabilities(|_| false, &[], None).len(), 4, "no module, no CAP_SYS_ADMIN");
    }

    #[test]
    fn what_is_missing_has_a_remedy_and_what_is_there_has_none() {
        let empty = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let checks = checks(empty.path(), &empty.path().join("btf"), taken);
        for check in &checks {
            assert_eq!(check.remedy.is_some(), check.state != State::Good, "{check:?}");
        }
        let state = |what: &str| checks.iter().find(|c| c.what == what).map(|c| c.state);
        assert_eq!(state("address"), Some(State::Bad));
        assert_eq!(state("disks"), Some(State::Bad));
        assert_eq!(state("pods' logs"), Some(State::Weak));
    }
}
