//! Whether this user may trace, and what a refusal means.

use std::{fmt, fs};

use anyhow::{Error, Result};

use crate::{
    exit::CannotRun,
    kernel::facts::{Facts, Pointers},
};

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The effective capabilities of this process.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads them from /proc/self/status; none where that is unreadable.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
    }

    fn has(self, capability: u32) -> bool {
        self.0 >> capability & 1 == 1
    }

    /// What is missing to load and attach the kernel programs.
    pub fn missing(self) -> Vec<&'static str> {
        if self.has(CAP_SYS_ADMIN) {
            return Vec::new();
        }
        [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
            .into_iter()
            .filter(|(capability, _)| !self.has(*capability))
            .map(|(_, name)| name)
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

/// Whether this user may load kernel programs.
///
/// # Errors
///
/// [`CannotRun`], with what to do.
pub fn check_user() -> Result<()> {
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
    let hint = match errno {
        Some(libc::EPERM) if facts.lockdown == "confidentiality" => {
            "the kernel is locked down (confidentiality) and refuses BPF"
        }
        Some(libc::EPERM) => {
            "raise the limit on locked memory (`ulimit -l unlimited`, or CAP_SYS_RESOURCE), and \
             see whether something on this node forbids BPF"
        }
        Some(libc::ENOMEM) => "the kernel has no memory for the tables",
        _ => "please report this with the output of `tracer doctor`",
    };
    format!("{error:#}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_sys_admin_or_both_new_capabilities_are_enough() {
        assert_eq!(Capabilities(1 << CAP_SYS_ADMIN).missing(), [""; 0]);
        assert_eq!(Capabilities(1 << CAP_BPF | 1 << CAP_PERFMON).missing(), [""; 0]);
        assert_eq!(Capabilities(1 << CAP_BPF).missing(), ["CAP_PERFMON"]);
        assert_eq!(Capabilities(0).missing(), ["CAP_BPF", "CAP_PERFMON"]);
    }
}
