//! Whether this user may trace on this machine, and what a refusal means.

use std::fmt;

use anyhow::{Error, Result};
use caps::{CapSet, Capability};
use tracer_kernel::{
    confinement::{self, Confinement},
    facts::Facts,
    refusal::{LoadStep, cause},
    types::Pointers,
};

/// This machine, or this user on it, cannot run what was asked for: exit 3.
///
/// Says what is missing and what to do about it. Also found when it is the
/// cause or the context of another error.
#[derive(Debug)]
pub struct CannotRun(pub String);

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotRun {}

/// The effective capabilities of this process, those that tracing takes.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    sys_admin: bool,
    bpf: bool,
    perfmon: bool,
}

impl Capabilities {
    /// Asks the kernel; none where it does not answer.
    pub fn read() -> Self {
        let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
        Self {
            sys_admin: has(Capability::CAP_SYS_ADMIN),
            bpf: has(Capability::CAP_BPF),
            perfmon: has(Capability::CAP_PERFMON),
        }
    }

    /// Whether the kernel lets this process name a module's types.
    pub fn name_modules(self) -> bool {
        self.sys_admin
    }

    /// The capabilities that are missing to load and attach the kernel programs.
    pub fn missing(self) -> Vec<&'static str> {
        if self.sys_admin {
            return Vec::new();
        }
        [(self.bpf, "CAP_BPF"), (self.perfmon, "CAP_PERFMON")]
            .into_iter()
            .filter_map(|(has, name)| (!has).then_some(name))
            .collect()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing().as_slice() {
            [] => write!(f, "sufficient"),
            missing => write!(f, "missing {}", missing.join(", ")),
        }
    }
}

/// In a user namespace the process seems to have all capabilities, but none of them holds in
/// the kernel as a whole.
const IN_USER_NAMESPACE: &str = "this process is in a user namespace of its own (an unprivileged container, as of LXC or \
     rootless Podman, or `hostUsers: false` in a pod's spec), in which nobody may load kernel \
     programs: run it on the host";

/// Whether this user may load kernel programs.
///
/// # Errors
///
/// [`CannotRun`], with what to do.
pub fn check_user() -> Result<()> {
    if confinement::in_user_namespace() {
        return Err(CannotRun(IN_USER_NAMESPACE.to_owned()).into());
    }
    let missing = Capabilities::read().missing();
    if missing.is_empty() {
        return Ok(());
    }
    let why = if nix::unistd::geteuid().is_root() {
        format!(
            "root lacks {} here: start the container with these capabilities",
            missing.join(" and ")
        )
    } else {
        "loading kernel programs needs root: try it with sudo".to_owned()
    };
    Err(CannotRun(why).into())
}

/// Whether this kernel lets programs follow its pointers.
///
/// # Errors
///
/// [`CannotRun`], with what to do.
pub fn check_kernel(facts: &Facts) -> Result<()> {
    if facts.pointers == Pointers::Typed || facts.lockdown != "confidentiality" {
        return Ok(());
    }
    let why = "this kernel has no BTF of its own, and locked down (confidentiality) it lets \
               programs read its memory by nothing else: use a kernel with \
               CONFIG_DEBUG_INFO_BTF=y, or boot this one with lockdown=integrity";
    Err(CannotRun(why.to_owned()).into())
}

/// Why the kernel refused the tracer's maps, and what to do.
pub fn explain_refusal(facts: &Facts, error: &Error) -> String {
    let errno = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    let step = LoadStep::Map { counts_locked: facts.counts_locked };
    let cause = errno.and_then(|errno| cause(errno, step, &Confinement::read()));
    let unknown = || {
        "nothing that the tracer can read of this machine says why: please report this with the \
         output of `tracer doctor`"
            .to_owned()
    };
    format!("{error:#}: {}", cause.unwrap_or_else(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_sys_admin_or_both_new_capabilities_are_enough() {
        let none = Capabilities { sys_admin: false, bpf: false, perfmon: false };
        assert_eq!(Capabilities { sys_admin: true, ..none }.missing(), [""; 0]);
        assert_eq!(Capabilities { bpf: true, perfmon: true, ..none }.missing(), [""; 0]);
        assert_eq!(Capabilities { bpf: true, ..none }.missing(), ["CAP_PERFMON"]);
        assert_eq!(none.missing(), ["CAP_BPF", "CAP_PERFMON"]);
    }
}
